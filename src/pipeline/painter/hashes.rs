//! Hashes of the files that a picture was made with.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::pipeline::PipelineError;
use crate::weights::sha256;

fn unreadable(path: &Path, error: &std::io::Error) -> PipelineError {
    PipelineError::Request(format!(
        "{} can't be read ({error}); check the file and its disk",
        path.display()
    ))
}

/// Hashes of files, so that each is read once as long as it stays the same.
#[derive(Default)]
pub(crate) struct Hashes(HashMap<PathBuf, (u64, Option<SystemTime>, String)>);

impl Hashes {
    /// Fills in the hash of a file, or compares it with the one that a record has.
    ///
    /// # Errors
    /// A file that is gone, or another one than the record's; the message says `what` it is.
    pub(crate) fn fill(
        &mut self,
        what: &str,
        file: &str,
        hash: &mut String,
    ) -> Result<(), PipelineError> {
        let path = Path::new(file);
        if !path.exists() {
            return Err(PipelineError::Request(format!(
                "the {what} {file} is not there; put the file back where it was, or choose another"
            )));
        }
        let found = self.of(path)?;
        if !hash.is_empty() && *hash != found {
            return Err(PipelineError::Request(format!(
                "the {what} {file} is not the file that this picture was made with; put that one back, or choose this one anew"
            )));
        }
        *hash = found;
        Ok(())
    }

    fn of(&mut self, path: &Path) -> Result<String, PipelineError> {
        // A folder is known by the files in it.
        let files = match path.is_dir() {
            true => {
                let entries = fs::read_dir(path).map_err(|e| unreadable(path, &e))?;
                let files = entries.flatten().map(|entry| entry.path());
                let mut files: Vec<PathBuf> = files.filter(|path| path.is_file()).collect();
                files.sort();
                files
            }
            false => vec![path.to_path_buf()],
        };
        let hashes = files.iter().map(|file| self.of_file(file));
        let hashes = hashes.collect::<Result<Vec<_>, _>>()?;
        Ok(hashes.join("+"))
    }

    fn of_file(&mut self, path: &Path) -> Result<String, PipelineError> {
        let about = fs::metadata(path).map_err(|e| unreadable(path, &e))?;
        let (size, changed) = (about.len(), about.modified().ok());
        if let Some((was, when, hash)) = self.0.get(path)
            && (*was, *when) == (size, changed)
        {
            return Ok(hash.clone());
        }
        let hash = sha256(path)?;
        self.0
            .insert(path.to_path_buf(), (size, changed, hash.clone()));
        Ok(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_changed_or_is_gone_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ink.safetensors");
        fs::write(&file, "one").unwrap();
        let name = file.display().to_string();
        let mut hashes = Hashes::default();
        let mut hash = String::new();
        hashes.fill("LoRA", &name, &mut hash).unwrap();
        assert_eq!(hash.len(), 64);
        hashes.fill("LoRA", &name, &mut hash).unwrap();
        fs::write(&file, "other").unwrap();
        let why = hashes
            .fill("LoRA", &name, &mut hash)
            .unwrap_err()
            .to_string();
        assert!(why.contains("ink.safetensors is not the file"), "{why}");
        fs::remove_file(&file).unwrap();
        let why = hashes
            .fill("LoRA", &name, &mut hash)
            .unwrap_err()
            .to_string();
        assert!(why.contains("ink.safetensors is not there"), "{why}");
    }
}
