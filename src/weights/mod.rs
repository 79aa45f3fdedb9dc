//! Model folders: where they are, what their manifests say, whether their files are whole, and
//! the device they run on.
//!
//! A model folder holds `manifest.json` ([`Manifest`]) beside its weights. The catalogue of
//! installed models is every such folder in [`models_dir`].

mod added;
mod checkpoint;
mod device;
mod ggml;
mod gguf;
mod gguf_tensors;
mod identity;
mod installed;
mod manifest;
mod trouble;

pub use added::{Entry, forget, register};
pub use checkpoint::{Checkpoint, CheckpointError, StoredType, Taken, TensorInfo, View};
pub use device::{
    DeviceChoice, DeviceError, DeviceKind, device_name, kind_of, select as select_device,
};
pub use ggml::GgmlType;
pub use gguf::{GgufHeader, GgufTensor, GgufValue};
pub use gguf_tensors::GgufTensors;
pub use identity::{Identity, Kind};
pub use installed::{Installed, Model, Source, catalogue, find, installed, models_dir};
pub(crate) use manifest::sha256;
pub use manifest::{Draws, FileEntry, MANIFEST, Manifest, Training};

pub use trouble::{HEAD, Trouble, trouble};

use crate::cause::Cause;
use std::path::PathBuf;

/// The environment variable that names the folder of installed models.
pub const MODELS_ENV: &str = "VOKENBOARD_MODELS";

/// The model that is used when none is named.
pub const DEFAULT_MODEL: &str = "sprout";

/// What can be wrong with a model folder. Each message is one sentence naming the file and the
/// remedy.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    #[error(
        "no models folder was found (looked in {looked}); set {MODELS_ENV} to the folder that holds the models"
    )]
    NoModels { looked: String },
    #[error(
        "the models folder {path} does not exist; set {MODELS_ENV} or --models to the folder that holds the models"
    )]
    NoSuchModels { path: PathBuf },
    #[error(
        "no model \"{id}\" is installed (installed: {installed}); name one of these or a model folder"
    )]
    NoSuchModel { id: String, installed: String },
    #[error(
        "{path} is not a model folder, because it has no {MANIFEST}; name an installed model or a folder with a manifest"
    )]
    NoManifest { path: PathBuf },
    #[error("{path} cannot be read as a manifest ({reason}); restore it from the repository")]
    BadManifest {
        path: PathBuf,
        #[source]
        reason: Cause,
    },
    #[error("model {id} lacks its file {path}; restore it from the repository")]
    Missing { id: String, path: PathBuf },
    #[error(
        "{path} holds {found} bytes where its manifest says {expected}; restore it from the repository"
    )]
    Size {
        path: PathBuf,
        expected: u64,
        found: u64,
    },
    #[error(
        "{path} does not have the SHA-256 that its manifest gives; restore it from the repository"
    )]
    Checksum { path: PathBuf },
    #[error("{path} cannot be read ({reason}); check the file and its permissions")]
    Read {
        path: PathBuf,
        #[source]
        reason: Cause,
    },
    #[error("{path} cannot be written ({reason}); check the folder and the free space on its disk")]
    Write {
        path: PathBuf,
        #[source]
        reason: Cause,
    },
    #[error(
        "model {id} lies in {place}, which is not there at the moment; connect its disk, or forget the model with `vokenboard models remove {id}`"
    )]
    Away { id: String, place: String },
    #[error(
        "{path} cannot be read as the list of added models ({reason}); mend or remove that file"
    )]
    BadList {
        path: PathBuf,
        #[source]
        reason: Cause,
    },
    #[error(
        "model {id} is a {pipeline}, which cannot tell stories by itself; name a model whose pipeline is \"caption\""
    )]
    NotAStoryteller { id: String, pipeline: String },
}
