//! `manifest.json`: what a model folder holds, where it comes from and what it can do.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Identity, WeightsError};
use crate::cause::Cause;
use crate::files::write_beside;

/// Name of the manifest in a model folder.
pub const MANIFEST: &str = "manifest.json";

/// A model folder's `manifest.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Short name, used with `--model`.
    pub id: String,
    /// Name for people.
    pub name: String,
    /// `caption` or `voken` (tell stories), `stable-diffusion` or `diffusion-transformer` (draw) or `language-model` (writes).
    pub pipeline: String,
    /// SPDX expression.
    pub licence: String,
    /// What it is, in a sentence for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub summary: String,
    /// Id of the language model that writes for a `caption` model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language_model: Option<String>,
    /// Its files, with sizes and checksums.
    pub files: Vec<FileEntry>,
    /// The file with which a language model sees pictures (mmproj), by its whole path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projector: Option<FileEntry>,
    /// Files that a transformer is used with, its text encoders and its VAE, by their whole paths.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<FileEntry>,
    /// How it was trained, where that was here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training: Option<TrainingInfo>,
    /// What it can draw, for models of a small world.
    #[serde(default, skip_serializing_if = "DrawableWords::is_empty")]
    pub draws: DrawableWords,
    /// Settings that look best on this model; what is left out has the program's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_settings: Option<serde_json::Value>,
    /// What the weights are, where they were added as they lay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
    /// What an engine elsewhere is asked for; whoever speaks with it reads this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<serde_json::Value>,
}

/// A file of a model, by its path in the model folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FileEntry {
    /// With `/` between folders.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Lower-case hex; `sampled-` and hex where the file was not read whole.
    pub sha256: String,
}

/// How a model's weights were made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrainingInfo {
    /// The commands that made the weights, in order.
    #[serde(default)]
    pub commands: Vec<String>,
    /// Seeds of the data that was drawn for training.
    #[serde(default)]
    pub data_seeds: Vec<u64>,
    /// Optimiser steps by stage.
    #[serde(default)]
    pub steps: std::collections::BTreeMap<String, u64>,
    /// What the sample grids show, in words: what is right and what is not.
    #[serde(default)]
    pub notes: String,
}

/// What a model can draw, as an author would write it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DrawableWords {
    /// Characters.
    pub characters: Vec<String>,
    /// Things.
    pub things: Vec<String>,
    /// Places.
    pub places: Vec<String>,
    /// Times of day.
    pub times: Vec<String>,
    /// Weathers.
    pub weathers: Vec<String>,
    /// Whatever else has a drawing in the library.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub library: bool,
}

/// Begins the hash of a file that was not read whole.
const SAMPLED: &str = "sampled-";

impl FileEntry {
    /// The file `name` in `dir` with a hash of its size, its beginning, its end and samples in
    /// between: a file of many gigabytes that stays where its author keeps it is not read whole to
    /// be told from others.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn sampled(dir: &Path, name: &Path) -> Result<FileEntry, WeightsError> {
        let path = dir.join(name);
        let (size, sha256) = sampled(&path)?;
        let parts: Vec<_> = name.iter().map(|part| part.to_string_lossy()).collect();
        Ok(FileEntry {
            path: parts.join("/"),
            size,
            sha256,
        })
    }
}

/// Size and sampled hash of a file.
fn sampled(path: &Path) -> Result<(u64, String), WeightsError> {
    const HEAD: u64 = 1 << 20;
    const PIECE: u64 = 1 << 16;
    const PIECES: u64 = 64;
    let unreadable = |error: std::io::Error| WeightsError::Read {
        path: path.to_path_buf(),
        reason: error.into(),
    };
    let mut file = crate::files::open_file(path).map_err(unreadable)?;
    let size = file.metadata().map_err(unreadable)?.len();
    let mut hasher = Sha256::new();
    hasher.update(size.to_le_bytes());
    let mut piece = Vec::new();
    let mut take = |from: u64, length: u64| {
        piece.clear();
        file.seek(SeekFrom::Start(from))?;
        file.by_ref().take(length).read_to_end(&mut piece)?;
        hasher.update(&piece);
        std::io::Result::Ok(())
    };
    take(0, HEAD).map_err(unreadable)?;
    for index in 1..=PIECES {
        let from = (size / PIECES * index).saturating_sub(PIECE);
        take(from, PIECE).map_err(unreadable)?;
    }
    Ok((size, format!("{SAMPLED}{}", hex(&hasher.finalize()))))
}

impl DrawableWords {
    /// Whether nothing is listed, so that it draws whatever it is asked for.
    pub fn is_empty(&self) -> bool {
        *self == DrawableWords::default()
    }
}

impl Manifest {
    /// Reads the manifest in the model folder `dir`.
    ///
    /// # Errors
    /// When there is none, it is not valid, or it names a file outside `dir`.
    pub fn read(dir: &Path) -> Result<Manifest, WeightsError> {
        let path = dir.join(MANIFEST);
        let bytes = crate::files::read_whole(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => WeightsError::NoManifest {
                path: dir.to_path_buf(),
            },
            _ => WeightsError::Read {
                path: path.clone(),
                reason: error.into(),
            },
        })?;
        let bad = |reason: Cause| WeightsError::BadManifest {
            path: path.clone(),
            reason,
        };
        let manifest: Manifest =
            serde_json::from_slice(&bytes).map_err(|error| bad(error.into()))?;
        for file in &manifest.files {
            let inside = Path::new(&file.path)
                .components()
                .all(|part| matches!(part, std::path::Component::Normal(_)));
            if !inside || file.path.is_empty() {
                return Err(bad(format!(
                    "it names \"{}\", which is not inside the folder",
                    file.path
                )
                .into()));
            }
        }
        Ok(manifest)
    }

    /// Writes the manifest into `dir`, beside and renamed into place.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn write(&self, dir: &Path) -> Result<(), WeightsError> {
        let path = dir.join(MANIFEST);
        let failed = |reason: Cause| WeightsError::Write {
            path: path.clone(),
            reason,
        };
        let mut json = serde_json::to_vec_pretty(self).map_err(|error| failed(error.into()))?;
        json.push(b'\n');
        write_beside(&path, |file| file.write_all(&json)).map_err(|error| failed(error.into()))
    }

    /// This manifest with `files` replaced by the sizes and checksums of the files named `paths`
    /// in `dir`.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn describe(
        mut self,
        dir: &Path,
        paths: &[impl AsRef<str>],
    ) -> Result<Manifest, WeightsError> {
        self.files.clear();
        for path in paths {
            let full = dir.join(path.as_ref());
            let size = fs::metadata(&full)
                .map_err(|error| WeightsError::Read {
                    path: full.clone(),
                    reason: error.into(),
                })?
                .len();
            self.files.push(FileEntry {
                path: path.as_ref().to_string(),
                size,
                sha256: sha256(&full)?,
            });
        }
        Ok(self)
    }

    /// Where the files of its other parts lie.
    pub fn part_paths(&self) -> Vec<PathBuf> {
        self.parts
            .iter()
            .map(|part| PathBuf::from(&part.path))
            .collect()
    }

    /// One hash for all of a model's files, short enough to read: the first 16 hex digits of the
    /// SHA-256 over every path and checksum.
    pub fn weights_hash(&self) -> String {
        let mut hasher = Sha256::new();
        for file in &self.files {
            hasher.update(file.path.as_bytes());
            hasher.update([0]);
            hasher.update(file.sha256.as_bytes());
            hasher.update([0]);
        }
        // Wherever it lies.
        for beside in self.projector.iter().chain(&self.parts) {
            hasher.update(beside.sha256.as_bytes());
        }
        let mut hex = hex(&hasher.finalize());
        hex.truncate(16);
        hex
    }

    pub(super) fn verify_sizes(&self, dir: &Path) -> Result<(), WeightsError> {
        for file in self.files.iter().chain(&self.projector).chain(&self.parts) {
            let path = dir.join(&file.path);
            let found = match fs::metadata(&path) {
                Ok(metadata) => metadata.len(),
                Err(_) => {
                    return Err(WeightsError::Missing {
                        id: self.id.clone(),
                        path,
                    });
                }
            };
            if found != file.size {
                return Err(WeightsError::Size {
                    path,
                    expected: file.size,
                    found,
                });
            }
        }
        Ok(())
    }

    pub(super) fn verify_checksums(&self, dir: &Path) -> Result<(), WeightsError> {
        self.verify_sizes(dir)?;
        for file in self.files.iter().chain(&self.projector).chain(&self.parts) {
            let path = dir.join(&file.path);
            let found = match file.sha256.starts_with(SAMPLED) {
                true => sampled(&path)?.1,
                false => sha256(&path)?,
            };
            if found != file.sha256 {
                return Err(WeightsError::Checksum { path });
            }
        }
        Ok(())
    }
}

/// SHA-256 of a file as lower-case hex, read in pieces.
pub(crate) fn sha256(path: &Path) -> Result<String, WeightsError> {
    let unreadable = |error: std::io::Error| WeightsError::Read {
        path: path.to_path_buf(),
        reason: error.into(),
    };
    let mut file = crate::files::open_file(path).map_err(unreadable)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0u8; 1 << 20];
    loop {
        let read = file.read(&mut buffer).map_err(unreadable)?;
        if read == 0 {
            return Ok(hex(&hasher.finalize()));
        }
        hasher.update(&buffer[..read]);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_that_leaves_its_folder_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        for path in ["../secret", "/etc/passwd", ""] {
            let manifest = Manifest {
                id: "m".to_string(),
                files: vec![FileEntry {
                    path: path.to_string(),
                    size: 1,
                    sha256: String::new(),
                }],
                ..Manifest::default()
            };
            manifest.write(temp.path()).unwrap();
            let message = Manifest::read(temp.path()).unwrap_err().to_string();
            assert!(message.contains("not inside the folder"), "{message}");
        }
    }

    #[test]
    fn a_manifest_reads_back_as_written() {
        let temp = tempfile::tempdir().unwrap();
        let manifest = Manifest {
            id: "m".to_string(),
            name: "Model".to_string(),
            pipeline: "caption".to_string(),
            licence: "MIT".to_string(),
            training: Some(TrainingInfo {
                commands: vec!["vokenboard train".to_string()],
                data_seeds: vec![1],
                steps: [("unet".to_string(), 2)].into(),
                notes: "one mouse is a blob".to_string(),
            }),
            ..Manifest::default()
        };
        manifest.write(temp.path()).unwrap();
        assert_eq!(Manifest::read(temp.path()).unwrap(), manifest);
    }
}
