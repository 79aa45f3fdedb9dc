//! The log file: what happened, and what language models were asked and answered, for whoever wants
//! to know why a text came out as it did. It lies in the data folder and grows to a few megabytes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tracing_subscriber::EnvFilter;

use crate::files::{data_folder, open_file};

/// Bytes from which on a new file is begun; the one before is kept beside it.
const MOST: u64 = 8 << 20;
const NAME: &str = "vokenboard.log";

/// Where the log lies; `None` on a system without a data folder.
pub fn path() -> Option<PathBuf> {
    Some(data_folder()?.join(NAME))
}

/// The end of the log: its last lines, so many bytes at most.
///
/// # Errors
/// When there is none, or it can't be read.
pub fn end(most: u64) -> io::Result<String> {
    let path = path().ok_or(io::ErrorKind::NotFound)?;
    end_of(&path, most)
}

fn end_of(path: &Path, most: u64) -> io::Result<String> {
    let mut file = open_file(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(most)))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    // The first line may be half of one.
    Ok(match text.split_once('\n') {
        Some((_, whole)) if length > most => whole.to_owned(),
        _ => text,
    })
}

/// Begins to log into [`path`], filtered by `RUST_LOG`, as in `vokenboard=debug`. Where the file can't
/// be written there is no log, which is no reason not to work.
pub fn start() {
    let Some(file) = path().and_then(|path| open(&path)) else {
        return;
    };
    let usual = || EnvFilter::new("vokenboard=info");
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| usual());
    let log = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_env_filter(filter)
        .with_writer(Mutex::new(file));
    // Whoever has begun to log before goes on with it.
    let _ = log.try_init();
}

fn open(path: &Path) -> Option<File> {
    fs::create_dir_all(path.parent()?).ok()?;
    if fs::metadata(path).is_ok_and(|known| known.len() > MOST) {
        // Of two programs that begin at once one finds it gone.
        let _ = fs::rename(path, path.with_extension("log.old"));
    }
    OpenOptions::new().create(true).append(true).open(path).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_log_is_whole_lines() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join(NAME);
        fs::write(&path, "one\ntwo\nthree\n").unwrap();
        assert_eq!(end_of(&path, 100).unwrap(), "one\ntwo\nthree\n");
        assert_eq!(end_of(&path, 8).unwrap(), "three\n");
        assert!(end_of(temp.path(), 8).is_err());
    }

    #[test]
    fn a_log_that_has_grown_is_begun_anew() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("below").join(NAME);
        drop(open(&path).unwrap());
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(MOST + 1)
            .unwrap();
        drop(open(&path).unwrap());
        assert_eq!(fs::metadata(&path).unwrap().len(), 0);
        assert!(path.with_extension("log.old").exists());
        // A folder in its place is no reason to fail.
        assert!(open(temp.path()).is_none());
    }
}
