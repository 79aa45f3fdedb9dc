//! A folder of weights in Hugging Face's layout: one file, or shards with an index.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use super::CheckpointError;

/// The names that transformers and diffusers give, safetensors first.
const STEMS: [&str; 3] = ["model", "pytorch_model", "diffusion_pytorch_model"];

/// The files that hold a folder's weights, and for shards which of them holds which tensor.
pub(super) struct Folder {
    pub(super) files: Vec<PathBuf>,
    /// Empty without an index; the path is that of the index.
    pub(super) index: Option<(PathBuf, BTreeMap<String, PathBuf>)>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Finds the weights in `dir`: safetensors before torch files, a file of the
/// usual name before shards, and those before any other file.
///
/// # Errors
/// When there are none, or the index cannot be read or names a file outside the folder.
pub(super) fn find(dir: &Path) -> Result<Folder, CheckpointError> {
    let listing = fs::read_dir(dir).map_err(|error| CheckpointError::read(dir, error))?;
    let names: BTreeSet<String> = listing
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    for end in [".safetensors", ".bin"] {
        let one = |name: String| Folder {
            files: vec![dir.join(name)],
            index: None,
        };
        let usual = STEMS.map(|stem| format!("{stem}{end}"));
        if let Some(name) = usual.into_iter().find(|name| names.contains(name)) {
            return Ok(one(name));
        }
        let index =
            |name: &&String| name.contains(&format!("{end}.index.")) && name.ends_with(".json");
        if let Some(name) = names.iter().find(index) {
            return sharded(dir, &dir.join(name));
        }
        // Such as `model.fp16.safetensors`; weights for training on, without the moving average
        // of the others, are used only where there are no others.
        let mut others: Vec<&String> = names.iter().filter(|name| name.ends_with(end)).collect();
        others.sort_by_key(|name| name.contains("non_ema"));
        if let Some(name) = others.first() {
            return Ok(one((*name).clone()));
        }
    }
    Err(CheckpointError::Empty {
        path: dir.to_path_buf(),
    })
}

fn sharded(dir: &Path, path: &Path) -> Result<Folder, CheckpointError> {
    let bytes = fs::read(path).map_err(|error| CheckpointError::read(path, error))?;
    let index: Index =
        serde_json::from_slice(&bytes).map_err(|error| CheckpointError::damaged(path, error))?;
    let mut map = BTreeMap::new();
    for (tensor, file) in index.weight_map {
        let mut parts = Path::new(&file).components();
        let beside = matches!(parts.next(), Some(Component::Normal(_))) && parts.next().is_none();
        if !beside {
            let reason = format!("it names \"{file}\", which is not a file beside it");
            return Err(CheckpointError::damaged(path, reason));
        }
        map.insert(tensor, dir.join(file));
    }
    let files: BTreeSet<PathBuf> = map.values().cloned().collect();
    Ok(Folder {
        files: files.into_iter().collect(),
        index: Some((path.to_path_buf(), map)),
    })
}
