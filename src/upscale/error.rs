//! What can go wrong with an upscaler.

use std::path::{Path, PathBuf};

/// Each message is one sentence naming the file and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum UpscaleError {
    #[error(transparent)]
    Checkpoint(crate::weights::CheckpointError),
    #[error(
        "{0} is no upscaler that is known here; use one of Real-ESRGAN's (RRDBNet or SRVGGNet)"
    )]
    Other(PathBuf),
    #[error("{path} can't be used as an upscaler ({why}); get the file again")]
    Misfit { path: PathBuf, why: String },
    #[error("the upscaler {0} gave values that are no numbers; get the file again or use another")]
    NotNumbers(PathBuf),
    #[error("the picture can't be enlarged ({0}); choose a smaller scale or close other programs")]
    Tensor(#[from] candle_core::Error),
}

impl UpscaleError {
    pub(super) fn misfit(path: &Path, error: &candle_core::Error) -> Self {
        let why = error.to_string();
        Self::Misfit {
            path: path.to_owned(),
            // Without the backtrace that candle appends when one is asked for.
            why: why.lines().next().unwrap_or_default().to_owned(),
        }
    }
}
