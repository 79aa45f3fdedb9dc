use std::path::PathBuf;

/// Why a checkpoint cannot be read; each message is one sentence naming the file and the remedy.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error("{} cannot be read ({reason}); check that it is a file you may read", path.display())]
    Read { path: PathBuf, reason: String },
    #[error("{} is damaged ({reason}); get the file again", path.display())]
    Damaged { path: PathBuf, reason: String },
    #[error(
        "{} is neither safetensors nor a zip file written by torch.save; name a .safetensors, .pth, .bin or .ckpt file",
        path.display()
    )]
    Format { path: PathBuf },
    #[error(
        "{} holds {what}, which no file of tensors needs, so it was not read; get the weights from a source you trust",
        path.display()
    )]
    Forbidden { path: PathBuf, what: String },
    #[error("{} {reason}; {remedy}", path.display())]
    Unsupported {
        path: PathBuf,
        reason: String,
        remedy: &'static str,
    },
    #[error("{} has no weights file; name the folder that holds model.safetensors, pytorch_model.bin or their shards", path.display())]
    Empty { path: PathBuf },
    #[error("{} has no tensor {name}; check that it is the right file", path.display())]
    Missing { path: PathBuf, name: String },
    #[error("{} holds NaN or infinity in {name}; get the file again", path.display())]
    NotFinite { path: PathBuf, name: String },
    #[error("{name} of {} cannot be loaded ({reason}); check the free memory", path.display())]
    Load {
        path: PathBuf,
        name: String,
        reason: String,
    },
}

impl CheckpointError {
    pub(super) fn read(path: impl Into<PathBuf>, reason: impl ToString) -> Self {
        let (path, reason) = (path.into(), reason.to_string());
        CheckpointError::Read { path, reason }
    }

    pub(super) fn damaged(path: impl Into<PathBuf>, reason: impl ToString) -> Self {
        let (path, reason) = (path.into(), reason.to_string());
        CheckpointError::Damaged { path, reason }
    }
}
