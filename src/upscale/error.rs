//! What can go wrong with an upscaler.

use std::path::{Path, PathBuf};

use crate::cause::{Cause, first_line};

/// Each message is one sentence naming the file and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum UpscaleError {
    /// The file cannot be read.
    #[error(transparent)]
    Checkpoint(crate::weights::CheckpointError),
    /// The file is no upscaler of a known architecture.
    #[error(
        "{0} is no upscaler that is known here; use one of Real-ESRGAN's (RRDBNet or SRVGGNet)"
    )]
    Other(PathBuf),
    /// The file's tensors do not fit its architecture.
    #[error("{path} can't be used as an upscaler ({}); get the file again", first_line(.why))]
    Misfit {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        why: Cause,
    },
    /// The upscaler gave NaN or infinite values.
    #[error("the upscaler {0} gave values that are no numbers; get the file again or use another")]
    NotNumbers(PathBuf),
    /// A tensor operation failed.
    #[error("the picture can't be enlarged ({0}); choose a smaller scale or close other programs")]
    Tensor(#[from] candle_core::Error),
}

impl UpscaleError {
    pub(super) fn misfit(path: &Path, error: candle_core::Error) -> Self {
        Self::Misfit {
            path: path.to_owned(),
            why: error.into(),
        }
    }
}
