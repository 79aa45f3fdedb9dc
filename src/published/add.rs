//! Writing down which parts a folder has, so that it is a model like any other.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::{ModelPart, PARTS_FILE, PartPaths, PublishedError};
use crate::files::write_beside;
use crate::weights::{self, AddedModel, Checkpoint, Manifest, Model, ModelSource};

/// The `pipeline` that the manifest of such a model names.
pub const PIPELINE: &str = "voken";

/// Files up to this size beside a part's weights are part of it: configurations, vocabularies.
const SMALL: u64 = 16 << 20;

/// Writes `vokenboard.toml` and a manifest into `dir`, and enters the folder in the catalogue of
/// `models`. Every file is read once for its checksum.
///
/// # Errors
/// When a file cannot be read or written, or another folder's model has the same id.
pub fn add(dir: &Path, parts: &PartPaths, models: &Path) -> Result<Model, PublishedError> {
    let real = real(dir)?;
    let id = id(&real);
    let same = |model: &Model| fs::canonicalize(&model.dir).is_ok_and(|other| other == real);
    let taken = weights::catalogue(models)?;
    if let Some(other) = taken.iter().find(|m| m.manifest.id == id && !same(m)) {
        return Err(PublishedError::Taken {
            id,
            other: other.dir.clone(),
            dir: real,
        });
    }
    let mut named = parts.clone();
    // The only thing in an older file that was not found.
    named.memory = PartPaths::read(dir).ok().and_then(|before| before.memory);
    write_down(dir, &named, "public weights, as they came")?;
    let model = Model::open(&real)?;
    if real.parent() != fs::canonicalize(models).ok().as_deref() {
        let entry = AddedModel::new(ModelSource::Folder(real), Some(model.manifest.clone()));
        weights::register(models, &entry)?;
    }
    Ok(model)
}

/// Writes `vokenboard.toml` and a manifest into `dir`, so that it can be named as a model.
///
/// # Errors
/// When a file cannot be read or written.
pub fn write_down(dir: &Path, parts: &PartPaths, summary: &str) -> Result<(), PublishedError> {
    let path = dir.join(PARTS_FILE);
    let text = toml::to_string(&parts.relative_to(dir));
    let text = text.map_err(|error| PublishedError::Write {
        path: path.clone(),
        reason: error.into(),
    })?;
    let id = id(&real(dir)?);
    let manifest = Manifest {
        name: format!("MiniGPT-5 ({id})"),
        id,
        pipeline: PIPELINE.to_string(),
        licence: "NOASSERTION".to_string(),
        summary: summary.to_string(),
        ..Manifest::default()
    };
    let manifest = manifest.describe(dir, &files(dir, parts)?)?;
    write_beside(&path, |file| file.write_all(text.as_bytes())).map_err(|error| {
        PublishedError::Write {
            path: path.clone(),
            reason: error.into(),
        }
    })?;
    Ok(manifest.write(dir)?)
}

fn real(dir: &Path) -> Result<PathBuf, PublishedError> {
    fs::canonicalize(dir).map_err(|error| PublishedError::Read {
        path: dir.to_path_buf(),
        reason: error.into(),
    })
}

/// A short name from that of the folder.
fn id(dir: &Path) -> String {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let words: Vec<String> = name
        .to_lowercase()
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect();
    match words.is_empty() {
        true => "minigpt5".to_string(),
        false => words.join("-"),
    }
}

/// The files of the parts inside `dir`, from there, with `/` between folders: weights that are
/// read, and what small files lie beside them.
fn files(dir: &Path, parts: &PartPaths) -> Result<Vec<String>, PublishedError> {
    let mut files = BTreeSet::new();
    for part in ModelPart::ALL.iter().filter_map(|part| parts.path(*part)) {
        if !part.is_dir() {
            files.insert(part.to_path_buf());
            continue;
        }
        let mut folders = vec![part.to_path_buf()];
        if part.join("model_index.json").is_file() {
            let inside = ["text_encoder", "tokenizer", "unet", "vae", "scheduler"];
            folders.extend(inside.map(|name| part.join(name)));
        }
        for folder in folders {
            if let Ok(weights) = Checkpoint::open(&folder) {
                files.extend(weights.files().into_iter().map(Path::to_path_buf));
            }
            files.extend(small_files(&folder)?);
        }
    }
    files.extend(parts.sizes.clone());
    if let Some(tokenizer) = &parts.tokenizer {
        files.extend(small_files(tokenizer)?);
    }
    let inside = files.iter().filter_map(|path| path.strip_prefix(dir).ok());
    let own =
        |path: &&Path| *path != Path::new(PARTS_FILE) && *path != Path::new(weights::MANIFEST);
    let names = inside.filter(own).map(|path| {
        let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
        parts.join("/")
    });
    Ok(names.collect())
}

fn small_files(dir: &Path) -> Result<Vec<PathBuf>, PublishedError> {
    let entries = fs::read_dir(dir).map_err(|error| PublishedError::Read {
        path: dir.to_path_buf(),
        reason: error.into(),
    })?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let known = ["json", "txt", "model"];
    let wanted = paths.filter(|path| {
        let small = fs::metadata(path).is_ok_and(|about| about.is_file() && about.len() <= SMALL);
        small
            && path
                .extension()
                .is_some_and(|end| known.iter().any(|known| end == *known))
    });
    Ok(wanted.collect())
}
