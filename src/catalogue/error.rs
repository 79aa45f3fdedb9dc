use std::path::PathBuf;

use crate::cause::Cause;
use crate::weights::{CheckpointError, WeightsError};

/// Why something cannot be identified, added or planned; each message is one sentence.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    #[error("{} cannot be read ({reason}); check that it is a file or folder you may read", path.display())]
    Read {
        path: PathBuf,
        #[source]
        reason: Cause,
    },
    #[error("{} is damaged ({reason}); get the file again", path.display())]
    Damaged {
        path: PathBuf,
        #[source]
        reason: Cause,
    },
    #[error("{} {reason}; {remedy}", path.display())]
    Trouble {
        path: PathBuf,
        reason: String,
        remedy: String,
    },
    /// What a part of the program says about a file, in one sentence.
    #[error("{0}")]
    Said(String),
    #[error(
        "{} is {called}, which cannot be used here; {instead}", path.display()
    )]
    Refused {
        path: PathBuf,
        called: String,
        instead: String,
    },
    #[error("no model \"{id}\" was added (added: {added}); see `vokenboard models`")]
    NotAdded { id: String, added: String },
    #[error("model {id} lies in the models folder itself; remove its folder {} by hand", dir.display())]
    NotElsewhere { id: String, dir: PathBuf },
    #[error(transparent)]
    Language(#[from] crate::llm::LlmError),
    #[error(transparent)]
    Published(#[from] crate::published::PublishedError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Remote(#[from] crate::remote::RemoteError),
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
