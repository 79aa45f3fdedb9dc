//! What can go wrong, and the small file helpers whose errors say it.

use crate::cause::{Cause, first_line};
use crate::files::write_in_folder;
use serde::{Serialize, de::DeserializeOwned};
use std::path::{Path, PathBuf};

/// Each message is one sentence naming the file or the thing and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum DiffusionError {
    /// A file of the model cannot be opened or read.
    #[error("{path} can't be read ({why}); get the model folder again")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why the system refused.
        #[source]
        why: Cause,
    },
    /// A configuration is not valid JSON, or has a value that is not supported.
    #[error("{path} is not usable ({}); get the model folder again", first_line(.why))]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        why: Cause,
    },
    /// A tensor is missing or has another shape than the configuration asks for.
    #[error("{path} does not fit its config.json ({}); get the model folder again", first_line(.why))]
    Misfit {
        /// The file.
        path: PathBuf,
        /// Which tensor does not fit, and how.
        #[source]
        why: Cause,
    },
    /// A file cannot be written.
    #[error("{path} can't be written ({why}); check the folder and the free space on its disk")]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// Why the system refused.
        #[source]
        why: Cause,
    },
    /// A file is readable, but not what it was named for, such as a LoRA of another model family.
    #[error("{path} {why}; {remedy}")]
    Unfit {
        /// The file.
        path: PathBuf,
        /// What it is; goes on after the file's name.
        why: String,
        /// What the author can do about it.
        remedy: String,
    },
    /// A checkpoint cannot be read.
    #[error(transparent)]
    Checkpoint(crate::weights::CheckpointError),
    /// Settings contradict one another or the model; the sentence says how.
    #[error("{}", first_line(.0))]
    Settings(#[source] Cause),
    /// NaN or infinite values came up while a picture was made.
    #[error("the picture came to nothing: {stage} gave values that are no numbers; {remedy}")]
    NotNumbers {
        /// Where they came up, such as the denoising.
        stage: String,
        /// What the author can do about it.
        remedy: String,
    },
    /// A tensor operation failed.
    #[error("{}", first_line(.0))]
    Tensor(#[source] Cause),
}

impl From<candle_core::Error> for DiffusionError {
    fn from(e: candle_core::Error) -> Self {
        Self::Tensor(e.into())
    }
}

/// The error's own line, without the backtrace that candle appends when one is asked for.
pub(super) fn sentence(e: &candle_core::Error) -> String {
    e.to_string().lines().next().unwrap_or_default().to_owned()
}

impl DiffusionError {
    /// What is wrong with the tensors of `path`, in errors that may name the file or its folder
    /// themselves.
    pub(super) fn of_tensors(path: &Path, error: candle_core::Error) -> Self {
        let folder = path.parent().unwrap_or(path).to_string_lossy();
        let named = !folder.is_empty() && error.to_string().starts_with(&*folder);
        match named {
            true => Self::Tensor(error.into()),
            false => Self::misfit(path, error),
        }
    }

    pub(super) fn unreadable(path: &Path, why: impl Into<Cause>) -> Self {
        Self::Unreadable {
            path: path.to_owned(),
            why: why.into(),
        }
    }

    pub(super) fn config(path: &Path, why: impl Into<Cause>) -> Self {
        Self::Config {
            path: path.to_owned(),
            why: why.into(),
        }
    }

    pub(super) fn misfit(path: &Path, why: impl Into<Cause>) -> Self {
        Self::Misfit {
            path: path.to_owned(),
            why: why.into(),
        }
    }

    pub(super) fn unfit(path: &Path, why: impl Into<String>, remedy: &str) -> Self {
        Self::Unfit {
            path: path.to_owned(),
            why: why.into(),
            remedy: remedy.to_owned(),
        }
    }

    pub(super) fn unwritable(path: &Path, why: impl Into<Cause>) -> Self {
        Self::Unwritable {
            path: path.to_owned(),
            why: why.into(),
        }
    }
}

pub(super) fn read_text(path: &Path) -> Result<String, DiffusionError> {
    crate::files::read_text(path).map_err(|e| DiffusionError::unreadable(path, e))
}

pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, DiffusionError> {
    serde_json::from_str(&read_text(path)?).map_err(|e| DiffusionError::config(path, e))
}

pub(super) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), DiffusionError> {
    let text =
        serde_json::to_string_pretty(value).map_err(|e| DiffusionError::unwritable(path, e))?;
    replace_file(path, format!("{text}\n").as_bytes())
}

/// Writes a file in place of the one at `path`, with the folders above it.
pub(super) fn replace_file(path: &Path, bytes: &[u8]) -> Result<(), DiffusionError> {
    write_in_folder(path, bytes).map_err(|e| DiffusionError::unwritable(path, e))
}
