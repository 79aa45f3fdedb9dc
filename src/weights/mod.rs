//! Model folders: where they are, what their manifests say, whether their files are whole, and
//! the device they run on.
//!
//! A model folder holds `manifest.json` ([`Manifest`]) beside its weights. The catalogue of
//! installed models is every such folder in [`models_dir`].

mod checkpoint;
mod device;
mod gguf;
mod manifest;

pub use checkpoint::{Checkpoint, CheckpointError, StoredType, TensorInfo, View};
pub use device::{
    DeviceChoice, DeviceError, DeviceKind, device_name, kind_of, select as select_device,
};
pub use gguf::{GgufHeader, GgufTensor, GgufValue};
pub(crate) use manifest::sha256;
pub use manifest::{Draws, FileEntry, MANIFEST, Manifest, Training};

use std::fs;
use std::path::{Path, PathBuf};

use crate::files::write_beside;

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
    BadManifest { path: PathBuf, reason: String },
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
    Read { path: PathBuf, reason: String },
    #[error("{path} cannot be written ({reason}); check the folder and the free space on its disk")]
    Write { path: PathBuf, reason: String },
    #[error(
        "model {id} is a {pipeline}, which cannot tell stories by itself; name a model whose pipeline is \"caption\""
    )]
    NotAStoryteller { id: String, pipeline: String },
}

/// A model folder with its manifest.
#[derive(Clone, Debug)]
pub struct Model {
    pub dir: PathBuf,
    pub manifest: Manifest,
}

impl Model {
    /// Reads the manifest of the model folder `dir`.
    ///
    /// # Errors
    /// When the manifest is missing or cannot be read.
    pub fn open(dir: &Path) -> Result<Model, WeightsError> {
        let manifest = Manifest::read(dir)?;
        Ok(Model {
            dir: dir.to_path_buf(),
            manifest,
        })
    }

    /// Total size of the model's files in bytes, as its manifest gives them.
    pub fn size(&self) -> u64 {
        self.manifest.files.iter().map(|file| file.size).sum()
    }

    /// Checks that every file is there with the size its manifest gives, which costs no reading.
    ///
    /// # Errors
    /// The first file that is missing or has another size.
    pub fn verify_sizes(&self) -> Result<(), WeightsError> {
        self.manifest.verify_sizes(&self.dir)
    }

    /// Checks the SHA-256 of every file, which reads all of them.
    ///
    /// # Errors
    /// The first file that is missing or differs.
    pub fn verify_checksums(&self) -> Result<(), WeightsError> {
        self.manifest.verify_checksums(&self.dir)
    }
}

/// The folder of installed models: `given` (from a flag) if there is one, else the one that
/// `VOKENBOARD_MODELS` names, else `models` beside the executable, else `models` in the source
/// tree that the program was built from.
///
/// # Errors
/// When the named folder does not exist, or none was found.
pub fn models_dir(given: Option<&Path>) -> Result<PathBuf, WeightsError> {
    let named = given
        .map(Path::to_path_buf)
        .or_else(|| std::env::var_os(MODELS_ENV).map(PathBuf::from));
    if let Some(path) = named {
        return if path.is_dir() {
            Ok(path)
        } else {
            Err(WeightsError::NoSuchModels { path })
        };
    }
    let beside = std::env::current_exe()
        .ok()
        .and_then(|exe| exe.parent().map(|folder| folder.join("models")));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let candidates: Vec<PathBuf> = beside.into_iter().chain([source]).collect();
    candidates
        .iter()
        .find(|path| path.is_dir())
        .cloned()
        .ok_or_else(|| WeightsError::NoModels {
            looked: candidates
                .iter()
                .map(|path| path.display().to_string())
                .collect::<Vec<_>>()
                .join(" and "),
        })
}

/// Every model folder in `models` and those that were added from elsewhere, sorted by id. Folders
/// without a manifest are passed over, as are added ones that are not there at the moment.
///
/// # Errors
/// When `models` cannot be listed or a manifest cannot be read.
pub fn catalogue(models: &Path) -> Result<Vec<Model>, WeightsError> {
    let unreadable = |error: std::io::Error| WeightsError::Read {
        path: models.to_path_buf(),
        reason: error.to_string(),
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(models).map_err(unreadable)? {
        let dir = entry.map_err(unreadable)?.path();
        if dir.join(MANIFEST).is_file() {
            found.push(Model::open(&dir)?);
        }
    }
    for dir in added(models)? {
        if dir.join(MANIFEST).is_file() {
            found.push(Model::open(&dir)?);
        }
    }
    found.sort_by(|a, b| a.manifest.id.cmp(&b.manifest.id));
    Ok(found)
}

/// The list of model folders that lie elsewhere, in the folder of installed models.
const ADDED: &str = "added.json";

/// The folders that were added to the catalogue of `models`.
fn added(models: &Path) -> Result<Vec<PathBuf>, WeightsError> {
    let path = models.join(ADDED);
    let unreadable = |reason: String| WeightsError::Read {
        path: path.clone(),
        reason,
    };
    match fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text).map_err(|error| unreadable(error.to_string())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(unreadable(error.to_string())),
    }
}

/// Enters the model folder `dir` in the catalogue of `models`, unless it lies there already.
///
/// # Errors
/// When a folder cannot be read or the list cannot be written.
pub fn register(models: &Path, dir: &Path) -> Result<(), WeightsError> {
    let real = |path: &Path| {
        fs::canonicalize(path).map_err(|error| WeightsError::Read {
            path: path.to_path_buf(),
            reason: error.to_string(),
        })
    };
    let dir = real(dir)?;
    let mut list = added(models)?;
    if dir.parent() == Some(&real(models)?) || list.contains(&dir) {
        return Ok(());
    }
    list.push(dir);
    let path = models.join(ADDED);
    let failed = |reason: String| WeightsError::Write {
        path: path.clone(),
        reason,
    };
    let json = serde_json::to_vec_pretty(&list).map_err(|error| failed(error.to_string()))?;
    write_beside(&path, |file| file.write_all(&json)).map_err(|error| failed(error.to_string()))
}

/// The model that `name` means: an installed model's id, or a path to a model folder.
///
/// # Errors
/// When neither fits; the message lists the installed ids.
pub fn find(models: &Path, name: &str) -> Result<Model, WeightsError> {
    let installed = catalogue(models)?;
    if let Some(model) = installed.iter().find(|model| model.manifest.id == name) {
        return Ok(model.clone());
    }
    let dir = Path::new(name);
    if dir.is_dir() {
        return Model::open(dir);
    }
    let ids: Vec<&str> = installed
        .iter()
        .map(|model| model.manifest.id.as_str())
        .collect();
    Err(WeightsError::NoSuchModel {
        id: name.to_string(),
        installed: if ids.is_empty() {
            "none".to_string()
        } else {
            ids.join(", ")
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(dir: &Path, id: &str, bytes: &[u8]) {
        fs::create_dir_all(dir).unwrap();
        fs::write(dir.join("a.bin"), bytes).unwrap();
        let manifest = Manifest::describe(
            Manifest {
                id: id.to_string(),
                name: id.to_string(),
                pipeline: "caption".to_string(),
                licence: "MIT".to_string(),
                ..Manifest::default()
            },
            dir,
            &["a.bin"],
        )
        .unwrap();
        manifest.write(dir).unwrap();
    }

    #[test]
    fn a_model_is_found_by_id_and_by_folder_and_a_wrong_name_lists_the_right_ones() {
        let temp = tempfile::tempdir().unwrap();
        model(&temp.path().join("one"), "one", b"11");
        model(&temp.path().join("two"), "two", b"2222");
        fs::create_dir(temp.path().join("notes")).unwrap();

        let ids: Vec<String> = catalogue(temp.path())
            .unwrap()
            .into_iter()
            .map(|model| model.manifest.id)
            .collect();
        assert_eq!(ids, ["one", "two"]);
        let by_id = find(temp.path(), "two").unwrap();
        assert_eq!(by_id.size(), 4);
        let folder = temp.path().join("one");
        let by_folder = find(temp.path(), folder.to_str().unwrap()).unwrap();
        assert_eq!(by_folder.manifest.id, "one");
        let message = find(temp.path(), "three").unwrap_err().to_string();
        assert!(message.contains("one, two"), "{message}");
    }

    #[test]
    fn a_changed_file_is_told_by_size_and_by_checksum() {
        let temp = tempfile::tempdir().unwrap();
        model(temp.path(), "one", b"abcd");
        let whole = Model::open(temp.path()).unwrap();
        whole.verify_sizes().unwrap();
        whole.verify_checksums().unwrap();

        fs::write(temp.path().join("a.bin"), b"abcx").unwrap();
        whole.verify_sizes().unwrap();
        assert!(matches!(
            whole.verify_checksums(),
            Err(WeightsError::Checksum { .. })
        ));
        fs::write(temp.path().join("a.bin"), b"abc").unwrap();
        let message = whole.verify_sizes().unwrap_err().to_string();
        assert!(
            message.contains("a.bin") && message.contains("3 bytes"),
            "{message}"
        );
        fs::remove_file(temp.path().join("a.bin")).unwrap();
        assert!(matches!(
            whole.verify_sizes(),
            Err(WeightsError::Missing { .. })
        ));
    }

    #[test]
    fn the_hash_of_the_weights_changes_with_any_file() {
        let temp = tempfile::tempdir().unwrap();
        model(&temp.path().join("a"), "same", b"abcd");
        model(&temp.path().join("b"), "same", b"abcx");
        let a = Model::open(&temp.path().join("a")).unwrap();
        let b = Model::open(&temp.path().join("b")).unwrap();
        assert_ne!(a.manifest.weights_hash(), b.manifest.weights_hash());
        assert_eq!(a.manifest.weights_hash(), a.clone().manifest.weights_hash());
    }
}
