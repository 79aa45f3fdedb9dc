//! The list of models that lie elsewhere, in the folder of installed models: nothing of them is
//! copied, only where they are and what they are is kept.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Manifest, Model, ModelSource, WeightsError};
use crate::cause::Cause;
use crate::files::write_beside;

/// Name of the list.
const ADDED: &str = "added.json";
const VERSION: u32 = 2;

/// A model that lies elsewhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AddedModel {
    /// Where the model lies.
    pub source: ModelSource,
    /// What it was when it was added; a folder with a manifest of its own is read anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Manifest>,
    /// What another version of the program wrote.
    #[serde(flatten)]
    other: serde_json::Map<String, serde_json::Value>,
}

impl AddedModel {
    /// An entry without fields of other versions.
    pub fn new(source: ModelSource, manifest: Option<Manifest>) -> AddedModel {
        AddedModel {
            source,
            manifest,
            other: serde_json::Map::new(),
        }
    }

    /// The model as it is now: a folder's own manifest is read where it has one.
    ///
    /// # Errors
    /// When the manifest cannot be read, or neither the folder nor the list has one.
    pub fn model(&self) -> Result<Model, WeightsError> {
        let manifest = match (&self.source, &self.manifest) {
            (ModelSource::Folder(dir), kept) if dir.join(super::MANIFEST).exists() => {
                // What a model is in a folder that is not ours is kept in the list alone.
                match (Manifest::read(dir), kept) {
                    (Ok(manifest), _) => manifest,
                    (Err(_), Some(kept)) if kept.identity.is_some() => kept.clone(),
                    (Err(error), _) => return Err(error),
                }
            }
            (_, Some(kept)) => kept.clone(),
            // The first version of the list kept no more than where a model is.
            (ModelSource::Folder(dir), None) if !dir.exists() => {
                let name = dir.file_name().unwrap_or_default().to_string_lossy();
                Manifest {
                    id: name.to_string(),
                    name: name.into_owned(),
                    ..Manifest::default()
                }
            }
            (ModelSource::Folder(dir), None) => Manifest::read(dir)?,
            (source, None) => {
                return Err(WeightsError::NoManifest {
                    path: PathBuf::from(source.to_string()),
                });
            }
        };
        Ok(Model::new(self.source.clone(), manifest))
    }
}

/// The list as it is written.
#[derive(Serialize, Deserialize)]
struct List {
    version: u32,
    models: Vec<serde_json::Value>,
}

/// What was added to the models in `models`. An entry that cannot be read is told by its error and
/// passed over.
///
/// # Errors
/// When the list is there and cannot be read.
pub(super) fn added(models: &Path) -> Result<Vec<Result<AddedModel, WeightsError>>, WeightsError> {
    let path = models.join(ADDED);
    let bad = |reason: Cause| WeightsError::BadList {
        path: path.clone(),
        reason,
    };
    let entry =
        |value: serde_json::Value| serde_json::from_value(value).map_err(|error| bad(error.into()));
    Ok(values(&path)?.into_iter().map(entry).collect())
}

/// The entries as JSON; those of the first version of the list, which had folders only, as today's.
fn values(path: &Path) -> Result<Vec<serde_json::Value>, WeightsError> {
    let bad = |reason: Cause| WeightsError::BadList {
        path: path.to_path_buf(),
        reason,
    };
    let text = match crate::files::read_whole(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(bad(error.into())),
    };
    let value: serde_json::Value =
        serde_json::from_slice(&text).map_err(|error| bad(error.into()))?;
    if value.is_array() {
        let folders: Vec<PathBuf> =
            serde_json::from_value(value).map_err(|error| bad(error.into()))?;
        let entries = folders
            .into_iter()
            .map(|dir| serde_json::to_value(AddedModel::new(ModelSource::Folder(dir), None)));
        return entries
            .collect::<Result<_, _>>()
            .map_err(|error| bad(error.into()));
    }
    let list: List = serde_json::from_value(value).map_err(|error| bad(error.into()))?;
    if list.version > VERSION {
        return Err(bad(format!(
            "it is of version {}, which a newer Vokenboard wrote",
            list.version
        )
        .into()));
    }
    Ok(list.models)
}

/// Enters a model in the list of `models`, in place of an earlier entry of the same source.
///
/// # Errors
/// When the list cannot be read or written.
pub fn register(models: &Path, entry: &AddedModel) -> Result<(), WeightsError> {
    change(models, |list| {
        let value = serde_json::to_value(entry).map_err(|error| error.to_string())?;
        let same = |known: &serde_json::Value| known.get("source") == value.get("source");
        match list.iter_mut().find(|known| same(known)) {
            Some(known) => *known = value,
            None => list.push(value),
        }
        Ok(())
    })
}

/// Takes a model out of the list of `models`; its files stay where they are.
///
/// # Errors
/// When it is not in the list, or the list cannot be read or written.
pub fn forget(models: &Path, source: &ModelSource) -> Result<(), WeightsError> {
    change(models, |list| {
        let value = serde_json::to_value(source).map_err(|error| error.to_string())?;
        list.retain(|known| known.get("source") != Some(&value));
        Ok(())
    })
}

fn change(
    models: &Path,
    change: impl FnOnce(&mut Vec<serde_json::Value>) -> Result<(), String>,
) -> Result<(), WeightsError> {
    let path = models.join(ADDED);
    let failed = |reason: Cause| WeightsError::Write {
        path: path.clone(),
        reason,
    };
    let mut list = values(&path)?;
    change(&mut list).map_err(|why| failed(why.into()))?;
    let list = List {
        version: VERSION,
        models: list,
    };
    let mut json = serde_json::to_vec_pretty(&list).map_err(|error| failed(error.into()))?;
    json.push(b'\n');
    write_beside(&path, |file| file.write_all(&json)).map_err(|error| failed(error.into()))
}
