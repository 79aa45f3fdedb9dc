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

pub use added::{AddedModel, forget, register};
pub use checkpoint::{
    Checkpoint, CheckpointError, StoredType, TensorInfo, TensorSlice, TensorView,
};
pub use device::{
    ComputeDevices, DeviceChoice, DeviceError, DeviceKind, device_name, kind_of,
    select as select_device, select_candle_device,
};
pub use ggml::GgmlType;
pub use gguf::{GgufHeader, GgufTensor, GgufValue};
pub use gguf_tensors::GgufTensors;
pub use identity::{Identity, WeightsKind};
pub use installed::{Installed, Model, ModelSource, catalogue, find, installed, models_dir};
pub(crate) use manifest::sha256;
pub use manifest::{DrawableWords, FileEntry, MANIFEST, Manifest, TrainingInfo};

pub use trouble::{HEAD, NotWeights, trouble};

use crate::cause::Cause;
use std::path::PathBuf;

/// The environment variable that names the folder of installed models.
pub const MODELS_ENV: &str = "VOKENBOARD_MODELS";

/// The model that is used when none is named.
pub const DEFAULT_MODEL: &str = "sprout-open";

/// The model of the storyworld's own characters and things, which has the judges that know them.
pub const STORYWORLD_MODEL: &str = "sprout";

/// What can be wrong with a model folder. Each message is one sentence naming the file and the
/// remedy.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// There is no models folder in any of the usual places.
    #[error(
        "no models folder was found (looked in {looked}); set {MODELS_ENV} to the folder that holds the models"
    )]
    NoModels {
        /// Places that were looked in, for people.
        looked: String,
    },
    /// The models folder that was named does not exist.
    #[error(
        "the models folder {path} does not exist; set {MODELS_ENV} or --models to the folder that holds the models"
    )]
    NoSuchModels {
        /// The folder.
        path: PathBuf,
    },
    /// No installed model has this id.
    #[error(
        "no model \"{id}\" is installed (installed: {installed}); name one of these or a model folder"
    )]
    NoSuchModel {
        /// The id.
        id: String,
        /// Ids of the installed models, for people.
        installed: String,
    },
    /// The folder has no manifest.
    #[error(
        "{path} is not a model folder, because it has no {MANIFEST}; name an installed model or a folder with a manifest"
    )]
    NoManifest {
        /// The folder.
        path: PathBuf,
    },
    /// A manifest is not valid JSON or lacks a field.
    #[error("{path} cannot be read as a manifest ({reason}); restore it from the repository")]
    BadManifest {
        /// The manifest.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        reason: Cause,
    },
    /// A file that the manifest lists is not there.
    #[error("model {id} lacks its file {path}; put it back, or add the model again")]
    Missing {
        /// Id of the model.
        id: String,
        /// The file.
        path: PathBuf,
    },
    /// A file is not as large as its manifest says.
    #[error(
        "{path} holds {found} bytes where its manifest says {expected}; put the right file back, or add the model again"
    )]
    Size {
        /// The file.
        path: PathBuf,
        /// Bytes that it should hold.
        expected: u64,
        /// Bytes that it holds.
        found: u64,
    },
    /// A file does not have the checksum that its manifest gives.
    #[error(
        "{path} does not have the SHA-256 that its manifest gives; put the right file back, or add the model again"
    )]
    Checksum {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be read.
    #[error("{path} cannot be read ({reason}); check the file and its permissions")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why the system refused.
        #[source]
        reason: Cause,
    },
    /// A file cannot be written.
    #[error("{path} cannot be written ({reason}); check the folder and the free space on its disk")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why the system refused.
        #[source]
        reason: Cause,
    },
    /// An added model lies where nothing is at the moment, as on a disk that is not connected.
    #[error(
        "model {id} lies in {place}, which is not there at the moment; connect its disk, or forget the model with `vokenboard models remove {id}`"
    )]
    Away {
        /// Id of the model.
        id: String,
        /// Where it lies, for people.
        place: String,
    },
    /// The list of added models is not valid JSON.
    #[error(
        "{path} cannot be read as the list of added models ({reason}); mend or remove that file"
    )]
    BadList {
        /// The list.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        reason: Cause,
    },
    /// No recipe takes the model.
    #[error(
        "model {id} is a {pipeline}, which cannot tell stories by itself; name a model whose pipeline is \"caption\""
    )]
    NotAStoryteller {
        /// Id of the model.
        id: String,
        /// Recipe in its manifest.
        pipeline: String,
    },
}
