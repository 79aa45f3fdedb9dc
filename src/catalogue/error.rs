use std::path::PathBuf;

use crate::cause::Cause;
use crate::weights::{CheckpointError, WeightsError};

/// Why something cannot be identified, added or planned; each message is one sentence.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// A file or folder cannot be opened or listed.
    #[error("{} cannot be read ({reason}); check that it is a file or folder you may read", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why the system refused.
        #[source]
        reason: Cause,
    },
    /// A file is cut short, or its header contradicts its contents.
    #[error("{} is damaged ({reason}); get the file again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        reason: Cause,
    },
    /// A file is no weights at all, or of a format that is not read.
    #[error("{} {reason}; {remedy}", path.display())]
    Trouble {
        /// The file.
        path: PathBuf,
        /// What it is; goes on after the file's name.
        reason: String,
        /// What the author can do about it.
        remedy: String,
    },
    /// A request that can't be met, in one sentence.
    #[error("{0}")]
    Request(String),
    /// A picture model cannot be opened.
    #[error(transparent)]
    Diffusion(#[from] crate::diffusion::DiffusionError),
    /// A vision projector cannot be opened.
    #[error(transparent)]
    Projector(#[from] crate::vision::ProjectorError),
    /// A file is known, but nothing that can be used here.
    #[error(
        "{} is {called}, which cannot be used here; {instead}", path.display()
    )]
    Refused {
        /// The file.
        path: PathBuf,
        /// Its name in the field.
        called: String,
        /// What to use in its place.
        instead: String,
    },
    /// No added model has this id.
    #[error("no model \"{id}\" was added (added: {added}); see `vokenboard models`")]
    NotAdded {
        /// The id.
        id: String,
        /// Ids of the added models, for people.
        added: String,
    },
    /// The model was not added but lies in the models folder itself.
    #[error("model {id} lies in the models folder itself; remove its folder {} by hand", dir.display())]
    NotElsewhere {
        /// Id of the model.
        id: String,
        /// Its folder.
        dir: PathBuf,
    },
    /// A GGUF file is no language model that can be used.
    #[error(transparent)]
    Language(#[from] crate::llm::LlmError),
    /// A folder of published weights cannot be used.
    #[error(transparent)]
    Published(#[from] crate::published::PublishedError),
    /// A checkpoint cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// An engine elsewhere cannot be used.
    #[error(transparent)]
    Remote(#[from] crate::remote::RemoteError),
    /// The models folder or its list cannot be read or written.
    #[error(transparent)]
    Weights(#[from] WeightsError),
}

impl CatalogueError {
    pub(super) fn read(path: impl Into<PathBuf>, reason: impl Into<Cause>) -> Self {
        let (path, reason) = (path.into(), reason.into());
        CatalogueError::Read { path, reason }
    }

    pub(super) fn damaged(path: impl Into<PathBuf>, reason: impl Into<Cause>) -> Self {
        let (path, reason) = (path.into(), reason.into());
        CatalogueError::Damaged { path, reason }
    }
}
