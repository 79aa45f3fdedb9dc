use std::path::PathBuf;

use crate::weights::{CheckpointError, WeightsError};

/// Why something cannot be identified, added or planned; each message is one sentence.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    #[error("{} cannot be read ({reason}); check that it is a file or folder you may read", path.display())]
    Read { path: PathBuf, reason: String },
    #[error("{} is damaged ({reason}); get the file again", path.display())]
    Damaged { path: PathBuf, reason: String },
    #[error("{} {reason}; {remedy}", path.display())]
    Trouble {
        path: PathBuf,
        reason: String,
        remedy: String,
    },
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Weights(#[from] WeightsError),
}

impl CatalogueError {
    pub(super) fn read(path: impl Into<PathBuf>, reason: impl ToString) -> Self {
        let (path, reason) = (path.into(), reason.to_string());
        CatalogueError::Read { path, reason }
    }

    pub(super) fn damaged(path: impl Into<PathBuf>, reason: impl ToString) -> Self {
        let (path, reason) = (path.into(), reason.to_string());
        CatalogueError::Damaged { path, reason }
    }
}
