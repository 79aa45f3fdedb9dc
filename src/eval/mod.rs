//! What the judges say: a report of how well pictures show what their captions say, and a
//! comparison of ways to tell stories.

mod bootstrap;
mod cast;
mod compositions;
mod drawings;
mod faithfulness;
mod frechet;
mod identity;
mod illustrated;
mod stem;
pub mod stories;
mod text;
pub mod vote;

use crate::cause::{Cause, first_line};
use std::path::{Path, PathBuf};

use crate::files::write_in_folder;

use crate::judges::CHOICE;
pub use crate::judges::{
    Accuracy, Contrastive, ContrastiveConfig, Expected, FaithfulnessCounts, FaithfulnessReport,
    FaithfulnessRow, Observation, Recogniser, RecogniserConfig, SIZE, SceneVerdict, Sighting,
    Verdict, mean_square_error, psnr,
};
pub use cast::{CastOptions, CastRow, Share, judge_cast};
pub use compositions::{CompositionReport, judge_compositions};
pub use drawings::{DrawingOptions, DrawingReport, DrawingSource, judge_drawings};
pub use faithfulness::{FaithfulnessOptions, GUIDANCES, judge};
pub use identity::{IdentityEncoder, IdentityReport, MemberSimilarity, Similarity, identity};
pub use text::{TextScore, bleu, distinct_2, perplexity};

/// Each message is one sentence naming the thing and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// A judge failed.
    #[error(transparent)]
    Judge(#[from] crate::judges::JudgeError),
    /// A report or picture cannot be written.
    #[error("{path} can't be written ({why}); check the folder and the free space on its disk")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why the system refused.
        #[source]
        why: Cause,
    },
    /// The file of rows cannot be read, or a row contradicts itself.
    #[error("{path} can't be used as rows of the comparison: {why}")]
    Rows {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        why: Cause,
    },
    /// Fewer drawings than the judge chooses from.
    #[error(
        "there are {0} drawings and the judge chooses among {CHOICE}; give it a folder with more"
    )]
    FewDrawings(usize),
    /// No stories were asked for.
    #[error("there are no stories to judge; ask for at least 1 with --stories")]
    NoStories,
    /// The folder has scores that were made with other settings: the folder, and what it holds.
    #[error("{0} holds scores of {1}; choose another folder with --scores, or remove it")]
    Ledger(PathBuf, &'static str),
    /// The files of a vote cannot be read or do not belong together.
    #[error("{path} can't be used for a vote: {why}")]
    Vote {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        why: Cause,
    },
    /// Fewer samples were asked for than one for each number of subjects.
    #[error("{0} samples are too few to judge; ask for at least 3 with --samples")]
    TooFew(usize),
    /// The picture model failed.
    #[error(transparent)]
    Model(#[from] crate::diffusion::DiffusionError),
    /// What a model sees with cannot be read.
    #[error(transparent)]
    Tower(#[from] crate::voken::FolderError),
    /// A sheet of pictures cannot be made.
    #[error(transparent)]
    Sheet(#[from] crate::storyworld::sheet::SheetError),
    /// A model could not continue a story.
    #[error(transparent)]
    Pipeline(#[from] crate::pipeline::PipelineError),
    /// A model cannot be found or read.
    #[error(transparent)]
    Weights(#[from] crate::weights::WeightsError),
    /// A story cannot be saved as a project.
    #[error(transparent)]
    Project(#[from] crate::story::ProjectError),
    /// An edit of a story failed.
    #[error(transparent)]
    Edit(#[from] crate::story::EditError),
    /// A tensor operation failed.
    #[error("{}", first_line(.0))]
    Tensor(#[source] Cause),
}

impl From<candle_core::Error> for EvalError {
    fn from(e: candle_core::Error) -> Self {
        Self::Tensor(e.into())
    }
}

/// Writes a file beside `path` and renames it into place, with the folders above it.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), EvalError> {
    write_in_folder(path, bytes).map_err(|e| EvalError::Write {
        path: path.to_owned(),
        why: e.into(),
    })
}
