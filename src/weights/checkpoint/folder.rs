//! A folder of weights in Hugging Face's layout: one file, or shards with an index.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use super::CheckpointError;

/// The names that transformers and diffusers give, safetensors first.
const STEMS: [&str; 3] = ["model", "pytorch_model", "diffusion_pytorch_model"];

/// Endings of files of weights, the better ones first.
const ENDS: [&str; 2] = [".safetensors", ".bin"];

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

/// Finds the weights in `dir`: a file of the usual name, shards with their index or shards alone,
/// each as safetensors before torch files; then any other file. Endings are read in any case, and
/// what macOS leaves on other disks (`._model.safetensors`), what training leaves and adapters
/// that lie beside weights are passed over.
///
/// # Errors
/// When there are none, or the index cannot be read, names a file outside the folder, or names
/// shards that are not there.
pub(super) fn find(dir: &Path) -> Result<Folder, CheckpointError> {
    let listing = fs::read_dir(dir).map_err(|error| CheckpointError::read(dir, error))?;
    let names: BTreeSet<String> = listing
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.'))
        .collect();
    let mut incomplete = None;
    for end in ENDS {
        let usual = STEMS.map(|stem| format!("{stem}{end}"));
        let same = |name: &&String| usual.iter().any(|usual| name.eq_ignore_ascii_case(usual));
        if let Some(name) = names.iter().find(same) {
            return Ok(files(dir, [name]));
        }
        let mut index = names.iter().filter(|name| {
            let name = name.to_lowercase();
            name.contains(&format!("{end}.index.")) && name.ends_with(".json")
        });
        if let Some(name) = index.next() {
            let path = dir.join(name);
            let folder = sharded(dir, &path)?;
            match folder.files.iter().find(|file| !file.exists()) {
                None => return Ok(folder),
                // The index may be left over from before the files were joined or converted.
                Some(file) => incomplete = incomplete.or(Some((path, file.clone()))),
            }
        }
        if let Some(set) = whole_set(&names, end) {
            return Ok(files(dir, set));
        }
    }
    if let Some((index, missing)) = incomplete {
        let reason = format!("it is not there, and {} names it", index.display());
        return Err(CheckpointError::read(missing, reason));
    }
    for end in ENDS {
        // Such as `model.fp16.safetensors`; weights for training on, without the moving average
        // of the others, are used only where there are no others.
        let mut others: Vec<&String> = names
            .iter()
            .filter(|name| name.to_lowercase().ends_with(end))
            .collect();
        others.sort_by_key(|name| (is_beside(name), name.contains("non_ema")));
        if let Some(name) = others.first().filter(|name| !is_training(name)) {
            return Ok(files(dir, [*name]));
        }
    }
    Err(CheckpointError::Empty {
        path: dir.to_path_buf(),
    })
}

fn files<'a>(dir: &Path, names: impl IntoIterator<Item = &'a String>) -> Folder {
    Folder {
        files: names.into_iter().map(|name| dir.join(name)).collect(),
        index: None,
    }
}

/// Whether a file changes weights and is none (PEFT's adapters, LoRAs), or belongs to training.
fn is_beside(name: &str) -> bool {
    let name = name.to_lowercase();
    name.starts_with("adapter_model") || name.contains("lora") || is_training(&name)
}

fn is_training(name: &str) -> bool {
    const LEFT: [&str; 5] = [
        "optimizer",
        "scheduler",
        "training_args",
        "rng_state",
        "random_states",
    ];
    let name = name.to_lowercase();
    LEFT.iter().any(|left| name.starts_with(left))
}

/// The shards of a set that is whole and has no index, by the numbers in their names.
fn whole_set<'a>(names: &'a BTreeSet<String>, end: &str) -> Option<Vec<&'a String>> {
    let part = |name: &str| -> Option<(String, usize, usize)> {
        let name = name.to_lowercase();
        let (stem, count) = name.strip_suffix(end)?.rsplit_once("-of-")?;
        let (stem, part) = stem.rsplit_once('-')?;
        Some((stem.to_string(), part.parse().ok()?, count.parse().ok()?))
    };
    let parts: Vec<_> = names
        .iter()
        .filter_map(|name| Some((part(name)?, name)))
        .collect();
    let ((stem, _, count), _) = parts.first()?;
    let set: Vec<&String> = parts
        .iter()
        .filter(|((other, _, of), _)| other == stem && of == count)
        .map(|(_, name)| *name)
        .collect();
    (set.len() == *count).then_some(set)
}

fn sharded(dir: &Path, path: &Path) -> Result<Folder, CheckpointError> {
    let bytes =
        crate::files::read_whole(path).map_err(|error| CheckpointError::read(path, error))?;
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
