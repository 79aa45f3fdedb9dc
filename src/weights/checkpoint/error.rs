use std::path::PathBuf;

use crate::cause::Cause;

/// Why a checkpoint cannot be read; each message is one sentence naming the file and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file or folder cannot be opened or read.
    #[error("{} cannot be read ({reason}); check that it is a file you may read", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why the system refused.
        #[source]
        reason: Cause,
    },
    /// The file is cut short, or its header contradicts its contents.
    #[error("{} is damaged ({reason}); get the file again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        reason: Cause,
    },
    /// The file is of neither format that is read.
    #[error(
        "{} is neither safetensors nor a zip file written by torch.save; name a .safetensors, .pth, .bin or .ckpt file",
        path.display()
    )]
    Format {
        /// The file.
        path: PathBuf,
    },
    /// The pickle would call code or build objects other than tensors.
    #[error(
        "{} holds {what}, which no file of tensors needs, so it was not read; get the weights from a source you trust",
        path.display()
    )]
    Forbidden {
        /// The file.
        path: PathBuf,
        /// What it holds, for people.
        what: String,
    },
    /// The file uses a feature of its format that is not read.
    #[error("{} {reason}; {remedy}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What it is; goes on after the file's name.
        reason: String,
        /// What the author can do about it.
        remedy: &'static str,
    },
    /// The folder has no weights file.
    #[error("{} has no weights file; name the folder that holds model.safetensors, pytorch_model.bin or their shards", path.display())]
    Empty {
        /// The folder.
        path: PathBuf,
    },
    /// A tensor is not in the file.
    #[error("{} has no tensor {name}; check that it is the right file", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// Name of the tensor.
        name: String,
    },
    /// A tensor has NaN or infinite values.
    #[error("{} holds NaN or infinity in {name}; get the file again", path.display())]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// Name of the tensor.
        name: String,
    },
    /// A tensor cannot be put on the device.
    #[error("{name} of {} cannot be loaded ({reason}); check the free memory", path.display())]
    Load {
        /// The file.
        path: PathBuf,
        /// Name of the tensor.
        name: String,
        /// Why it failed.
        #[source]
        reason: Cause,
    },
}

impl CheckpointError {
    pub(super) fn read(path: impl Into<PathBuf>, reason: impl Into<Cause>) -> Self {
        let (path, reason) = (path.into(), reason.into());
        CheckpointError::Read { path, reason }
    }

    pub(super) fn damaged(path: impl Into<PathBuf>, reason: impl Into<Cause>) -> Self {
        let (path, reason) = (path.into(), reason.into());
        CheckpointError::Damaged { path, reason }
    }
}
