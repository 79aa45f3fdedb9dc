//! The installed models: folders with a manifest in the models folder, and what was added from
//! elsewhere.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{MANIFEST, MODELS_ENV, Manifest, WeightsError, added};

/// Where a model is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelSource {
    /// A folder.
    Folder(PathBuf),
    /// A single file, the only one that it needs or the first of its parts.
    File(PathBuf),
    /// A server that runs it.
    Address(String),
}

impl ModelSource {
    /// The file or folder; `None` for an address.
    pub fn path(&self) -> Option<&Path> {
        match self {
            ModelSource::Folder(path) | ModelSource::File(path) => Some(path),
            ModelSource::Address(_) => None,
        }
    }

    /// Whether the file or folder can be found at the moment; an address is not asked.
    pub fn is_there(&self) -> bool {
        match self {
            ModelSource::Folder(dir) => dir.is_dir(),
            ModelSource::File(file) => file.is_file(),
            ModelSource::Address(_) => true,
        }
    }
}

impl fmt::Display for ModelSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ModelSource::Folder(path) | ModelSource::File(path) => write!(f, "{}", path.display()),
            ModelSource::Address(address) => f.write_str(address),
        }
    }
}

/// How a [`ModelSource`] is written down. A path that is not UTF-8 is a list of bytes.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Written {
    Folder(WrittenPath),
    File(WrittenPath),
    Address(String),
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum WrittenPath {
    Text(String),
    Bytes(Vec<u8>),
}

impl From<&Path> for WrittenPath {
    fn from(path: &Path) -> Self {
        match path.to_str() {
            Some(text) => WrittenPath::Text(text.to_owned()),
            None => WrittenPath::Bytes(path.as_os_str().as_encoded_bytes().to_vec()),
        }
    }
}

impl From<WrittenPath> for PathBuf {
    fn from(written: WrittenPath) -> Self {
        match written {
            WrittenPath::Text(text) => PathBuf::from(text),
            #[cfg(unix)]
            WrittenPath::Bytes(bytes) => {
                use std::os::unix::ffi::OsStringExt;
                PathBuf::from(std::ffi::OsString::from_vec(bytes))
            }
            #[cfg(not(unix))]
            WrittenPath::Bytes(bytes) => PathBuf::from(String::from_utf8_lossy(&bytes).as_ref()),
        }
    }
}

impl Serialize for ModelSource {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            ModelSource::Folder(path) => Written::Folder(path.as_path().into()),
            ModelSource::File(path) => Written::File(path.as_path().into()),
            ModelSource::Address(address) => Written::Address(address.clone()),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ModelSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match Written::deserialize(deserializer)? {
            Written::Folder(path) => ModelSource::Folder(path.into()),
            Written::File(path) => ModelSource::File(path.into()),
            Written::Address(address) => ModelSource::Address(address),
        })
    }
}

/// A model with its manifest.
#[derive(Clone, Debug)]
pub struct Model {
    /// The folder that the manifest's files lie in; of a single file, the one that it is in.
    pub dir: PathBuf,
    /// Where it lies.
    pub source: ModelSource,
    /// What it holds and what it can do.
    pub manifest: Manifest,
}

impl Model {
    /// The model that lies at `source`.
    pub fn new(source: ModelSource, manifest: Manifest) -> Model {
        let dir = match &source {
            ModelSource::Folder(dir) => dir.clone(),
            ModelSource::File(file) => file.parent().unwrap_or(Path::new("")).to_path_buf(),
            ModelSource::Address(_) => PathBuf::new(),
        };
        Model {
            dir,
            source,
            manifest,
        }
    }

    /// Reads the manifest of the model folder `dir`.
    ///
    /// # Errors
    /// When the manifest is missing or cannot be read.
    pub fn open(dir: &Path) -> Result<Model, WeightsError> {
        let manifest = Manifest::read(dir)?;
        Ok(Model::new(ModelSource::Folder(dir.to_path_buf()), manifest))
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

/// The installed models, and what could not be read of them.
#[derive(Debug, Default)]
pub struct Installed {
    /// Sorted by id; those that were added stay in the list when they are away.
    pub models: Vec<Model>,
    /// Why other ones were passed over, one sentence each.
    pub faults: Vec<WeightsError>,
}

/// Every model folder in `models` and all that was added from elsewhere. Folders without a
/// manifest are passed over, and one that cannot be read does not stand in the way of the others.
///
/// # Errors
/// When `models` cannot be listed.
pub fn installed(models: &Path) -> Result<Installed, WeightsError> {
    let unreadable = |error: std::io::Error| WeightsError::Read {
        path: models.to_path_buf(),
        reason: error.into(),
    };
    let mut found = Installed::default();
    let mut take = |model: Result<Model, WeightsError>| match model {
        Ok(model) => found.models.push(model),
        Err(error) => found.faults.push(error),
    };
    for entry in fs::read_dir(models).map_err(unreadable)? {
        let dir = entry.map_err(unreadable)?.path();
        if dir.join(MANIFEST).is_file() {
            take(Model::open(&dir));
        }
    }
    match added::added(models) {
        Ok(entries) => {
            for entry in entries {
                take(entry.and_then(|entry| entry.model()));
            }
        }
        Err(error) => take(Err(error)),
    }
    found
        .models
        .sort_by(|a, b| a.manifest.id.cmp(&b.manifest.id));
    Ok(found)
}

/// The models of [`installed`] that can be read.
///
/// # Errors
/// When `models` cannot be listed.
pub fn catalogue(models: &Path) -> Result<Vec<Model>, WeightsError> {
    Ok(installed(models)?.models)
}

/// The model that `name` means: an installed model's id, or a path to a model folder.
///
/// # Errors
/// When neither fits, or the model is away; the message lists the installed ids.
pub fn find(models: &Path, name: &str) -> Result<Model, WeightsError> {
    let Installed {
        models: installed,
        faults,
    } = installed(models)?;
    if let Some(model) = installed.iter().find(|model| model.manifest.id == name) {
        return match model.source.is_there() {
            true => Ok(model.clone()),
            false => Err(WeightsError::Away {
                id: name.to_string(),
                place: model.source.to_string(),
            }),
        };
    }
    let dir = Path::new(name);
    if dir.is_dir() {
        return Model::open(dir);
    }
    // A folder of that name whose manifest is broken is what was meant.
    let broken = models.join(name).join(MANIFEST);
    let fault = faults
        .into_iter()
        .find(|fault| matches!(fault, WeightsError::BadManifest { path, .. } if *path == broken));
    if let Some(fault) = fault {
        return Err(fault);
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
    use super::super::{AddedModel, forget, register};
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
    fn one_broken_manifest_or_entry_does_not_hide_the_others() {
        let temp = tempfile::tempdir().unwrap();
        model(&temp.path().join("one"), "one", b"11");
        model(&temp.path().join("two"), "two", b"2222");
        fs::write(temp.path().join("two/manifest.json"), "{").unwrap();
        let list = r#"{"version": 2, "models": [{"source": {"nowhere": 1}}, 7]}"#;
        fs::write(temp.path().join("added.json"), list).unwrap();
        let found = installed(temp.path()).unwrap();
        assert_eq!(found.models.len(), 1);
        assert_eq!(found.faults.len(), 3, "{:?}", found.faults);
        assert!(find(temp.path(), "one").is_ok());
        let message = find(temp.path(), "two").unwrap_err().to_string();
        assert!(message.contains("two/manifest.json"), "{message}");
        fs::write(temp.path().join("added.json"), "not json").unwrap();
        assert_eq!(installed(temp.path()).unwrap().models.len(), 1);
    }

    #[test]
    fn what_was_added_is_kept_away_or_not_and_the_old_list_is_read() {
        let temp = tempfile::tempdir().unwrap();
        let models = temp.path().join("models");
        let elsewhere = temp.path().join("disk/one");
        fs::create_dir(&models).unwrap();
        model(&elsewhere, "one", b"11");
        let list = serde_json::to_vec(&vec![&elsewhere]).unwrap();
        fs::write(models.join("added.json"), list).unwrap();
        assert_eq!(find(&models, "one").unwrap().dir, elsewhere);

        let file = temp.path().join("disk/b.gguf");
        fs::write(&file, b"3333").unwrap();
        let kept = Manifest {
            id: "b".to_string(),
            ..Manifest::default()
        };
        let source = ModelSource::File(file.clone());
        register(
            &models,
            &AddedModel::new(source.clone(), Some(kept.clone())),
        )
        .unwrap();
        register(&models, &AddedModel::new(source.clone(), Some(kept))).unwrap();
        let ids = |models: &Path| -> Vec<String> {
            let all = catalogue(models).unwrap().into_iter();
            all.map(|model| model.manifest.id).collect()
        };
        assert_eq!(ids(&models), ["b", "one"]);
        assert_eq!(find(&models, "b").unwrap().source, source);
        fs::rename(temp.path().join("disk"), temp.path().join("unplugged")).unwrap();
        assert!(ids(&models).contains(&"b".to_string()));
        let message = find(&models, "b").unwrap_err().to_string();
        assert!(
            message.contains("b.gguf") && message.contains("disk"),
            "{message}"
        );
        forget(&models, &source).unwrap();
        assert!(!ids(&models).contains(&"b".to_string()));
    }

    #[cfg(unix)]
    #[test]
    fn a_path_that_is_no_utf_8_comes_back() {
        use std::os::unix::ffi::OsStrExt;
        let path = Path::new(std::ffi::OsStr::from_bytes(b"/a/\xff.gguf")).to_path_buf();
        let source = ModelSource::File(path);
        let text = serde_json::to_string(&source).unwrap();
        assert_eq!(serde_json::from_str::<ModelSource>(&text).unwrap(), source);
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
