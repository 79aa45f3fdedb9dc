//! The judges: networks that say what a picture shows and which text it fits, and how what they
//! say is counted. Whoever trains them and whoever asks them stands above.

mod compositions;
pub mod contrastive;
mod drawings;
pub(crate) mod metrics;
pub(crate) mod recogniser;
mod report;
mod scenes;

use std::path::{Path, PathBuf};

use crate::cause::{Cause, first_line};
use crate::files::write_in_folder;

pub use compositions::{CompositionRecogniser, DrawingChoice};
pub use contrastive::{Contrastive, ContrastiveConfig};
pub use drawings::{CHOICE, DrawingJudge, Verdict};
pub use metrics::{
    Accuracy, Expected, FaithfulnessCounts, Observation, Sighting, mean_square_error, psnr,
};
pub use recogniser::{Recogniser, RecogniserConfig, SIZE};
pub use report::{FaithfulnessReport, FaithfulnessRow};
pub use scenes::SceneVerdict;

/// What can go wrong with a judge; each message is one sentence.
#[derive(Debug, thiserror::Error)]
pub enum JudgeError {
    /// The recogniser's file cannot be read or does not fit its network.
    #[error(
        "{path} is not a usable recogniser ({}); train the recogniser stage again",
        first_line(why)
    )]
    Recogniser {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        why: Cause,
    },
    /// The contrastive model's file cannot be read or does not fit its network.
    #[error(
        "{path} is not a usable contrastive model ({}); make one with: vokenboard train contrastive",
        first_line(why)
    )]
    Contrastive {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        why: Cause,
    },
    /// A judge or a report cannot be written.
    #[error("{path} can't be written ({why}); check the folder and the free space on its disk")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why the system refused.
        #[source]
        why: Cause,
    },
    /// A text encoder or tokenizer failed.
    #[error(transparent)]
    Model(#[from] crate::diffusion::DiffusionError),
    /// A tensor operation failed.
    #[error("{}", first_line(.0))]
    Tensor(#[source] Cause),
}

impl From<candle_core::Error> for JudgeError {
    fn from(e: candle_core::Error) -> Self {
        Self::Tensor(e.into())
    }
}

/// Writes a file beside `path` and renames it into place, with the folders above it.
fn write_file(path: &Path, bytes: &[u8]) -> Result<(), JudgeError> {
    write_in_folder(path, bytes).map_err(|e| JudgeError::Write {
        path: path.to_owned(),
        why: e.into(),
    })
}
