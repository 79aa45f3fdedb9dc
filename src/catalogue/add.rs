//! Adding a model where it lies, and forgetting it: nothing is copied, the file stays where it is.

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::Device;

use super::{CatalogueError, dit, folders, identify, ollama, projector};
use crate::diffusion::Dit;
use crate::llm::check_gguf;
use crate::published::format_bytes;
use crate::weights::{
    self, AddedModel, FileEntry, Identity, MANIFEST, Manifest, Model, ModelSource, WeightsError,
    WeightsKind,
};

/// The recipes' names of what is added, by what it is.
const PAINTER: &str = "stable-diffusion";
pub(super) const TRANSFORMER: &str = "diffusion-transformer";
const WRITER: &str = "language-model";

/// A model that was added.
#[derive(Debug)]
pub struct Added {
    /// The model, as it stands in the list of added models.
    pub model: Model,
    /// Whether it was in the list before.
    pub again: bool,
}

/// Adds the file or folder `path`, or what Ollama calls so, to the models in `models`.
/// `prediction` says what the UNet predicts where the file can't tell; `name` is what the id is
/// made of where that is not the file's name.
///
/// # Errors
/// When it cannot be read, is damaged, or is nothing that can be used; the message says what it is
/// and what to do.
pub fn add(
    path: &Path,
    name: Option<&str>,
    prediction: Option<&str>,
    models: &Path,
) -> Result<Added, CatalogueError> {
    if path.join(MANIFEST).is_file() {
        return add_own(path, models);
    }
    let known = weights::installed(models)?.models;
    let asked = AddOptions {
        name,
        prediction,
        ..AddOptions::default()
    };
    register(look(path, &asked, &known)?, models, &known)
}

/// Adds the transformer `path` of FLUX.1 or Z-Image with its text encoders and its VAE in `parts`,
/// files or ids of added ones; those that are not named are looked for beside it.
///
/// # Errors
/// As [`add`]; when it is no such transformer, or a part does not belong to it.
pub fn add_with_parts(
    path: &Path,
    parts: &[PathBuf],
    models: &Path,
) -> Result<Added, CatalogueError> {
    let known = weights::installed(models)?.models;
    let files = parts.iter().map(|part| match part.to_str() {
        Some(reference) if !part.exists() => file_of(models, reference),
        _ => Ok(part.clone()),
    });
    let asked = AddOptions {
        parts: &files.collect::<Result<Vec<_>, _>>()?,
        ..AddOptions::default()
    };
    register(look(path, &asked, &known)?, models, &known)
}

/// Adds the language model `path` with the vision projector `projector`, a file or the id of one that
/// was added; without one named, [`add`] takes the one that lies beside the model.
///
/// # Errors
/// As [`add`]; when it is no language model, or the projector does not belong to it.
pub fn add_with_projector(
    path: &Path,
    projector: &Path,
    models: &Path,
) -> Result<Added, CatalogueError> {
    let known = weights::installed(models)?.models;
    let added = known.iter().find(|model| {
        let id = projector.to_str();
        id == Some(&model.manifest.id) && model.manifest.pipeline == WeightsKind::Projector.name()
    });
    let projector = match added.and_then(|model| model.source.path()) {
        Some(path) if !projector.exists() => path,
        _ => projector,
    };
    let asked = AddOptions {
        projector: Some(projector),
        ..AddOptions::default()
    };
    register(look(path, &asked, &known)?, models, &known)
}

/// What is said about a file that is looked at.
#[derive(Clone, Copy, Debug, Default)]
struct AddOptions<'a> {
    name: Option<&'a str>,
    prediction: Option<&'a str>,
    projector: Option<&'a Path>,
    parts: &'a [PathBuf],
}

fn register(model: Model, models: &Path, known: &[Model]) -> Result<Added, CatalogueError> {
    let again = known.iter().any(|other| other.source == model.source);
    let entry = AddedModel::new(model.source.clone(), Some(model.manifest.clone()));
    weights::register(models, &entry)?;
    Ok(Added { model, again })
}

/// The file or folder that `reference` names: itself, or that of the model added under this id.
///
/// # Errors
/// Where it is neither.
pub fn file_of(models: &Path, reference: &str) -> Result<PathBuf, CatalogueError> {
    if !Path::new(reference).exists()
        && let Ok(model) = weights::find(models, reference)
        && let Some(path) = model.source.path()
    {
        return Ok(path.to_owned());
    }
    std::path::absolute(reference).map_err(|error| {
        CatalogueError::Request(format!(
            "{reference} is no file ({error}); give its path or its id"
        ))
    })
}

/// The model that `name` means: an installed one's id, a model folder, or a file or folder that
/// was not added, which is looked at as when it is.
///
/// # Errors
/// When none fits, or it is nothing that can be used.
pub fn find(models: &Path, name: &str) -> Result<Model, CatalogueError> {
    match weights::find(models, name) {
        Err(WeightsError::NoSuchModel { .. } | WeightsError::NoManifest { .. })
            if Path::new(name).exists() =>
        {
            look(Path::new(name), &AddOptions::default(), &[])
        }
        found => Ok(found?),
    }
}

/// What is at `path` as a model; `known` have their ids already.
fn look(path: &Path, asked: &AddOptions, known: &[Model]) -> Result<Model, CatalogueError> {
    let mut name = asked.name.map(str::to_owned);
    let mut path = path.to_path_buf();
    let mut ollamas = None;
    if !path.exists()
        && let Some(stored) = path.to_str().and_then(ollama::find)
    {
        name = Some(stored.name);
        path = stored.blob;
        ollamas = stored.projector;
    }
    let identity = identify(&path)?;
    let path = only_file(&path)?;
    let (identity, parts) = completed(identity, &path, asked.parts)?;
    let mut identity = judged(identity, &path)?;
    predicts(&mut identity, asked.prediction, &path)?;
    if dit::family(&identity).is_some() {
        let files: Vec<PathBuf> = parts.iter().map(|part| PathBuf::from(&part.path)).collect();
        let opened = Dit::open(&path, &files, &Device::Cpu)?;
        identity.picture_size = Some(opened.picture_size().0);
    } else if identity.is == WeightsKind::Model {
        identity.picture_size = Some(folders::trained_size(&path)?);
    }
    let source = match path.is_dir() {
        true => ModelSource::Folder(path.clone()),
        false => ModelSource::File(path.clone()),
    };
    let before = known.iter().find(|model| model.source == source);
    let name = name.unwrap_or_else(|| readable(&path));
    let id = match before {
        Some(model) => model.manifest.id.clone(),
        None => unique(&name, known),
    };
    let is = identity.is;
    let mut manifest = manifest(id, name, identity, &path)?;
    manifest.parts = parts;
    match (is, asked.projector.or(ollamas.as_deref())) {
        (WeightsKind::LanguageModel, named) if path.is_file() => {
            manifest.projector = projector::of_model(&path, named)?;
        }
        (_, Some(_)) => {
            return Err(CatalogueError::Request(format!(
                "{} is no language model in a GGUF file, so it takes no vision projector; leave --mmproj away",
                path.display()
            )));
        }
        (_, None) => {}
    }
    if manifest.projector.is_some() {
        manifest.summary.push_str(", sees pictures");
    }
    Ok(Model::new(source, manifest))
}

/// A transformer of FLUX.1 or Z-Image with the files of its other parts, where it has to be
/// completed.
fn completed(
    mut identity: Identity,
    path: &Path,
    named: &[PathBuf],
) -> Result<(Identity, Vec<FileEntry>), CatalogueError> {
    match dit::family(&identity) {
        Some(family) if path.is_file() => {
            let parts = dit::parts(path, family, named)?;
            dit::used(&mut identity);
            Ok((identity, parts))
        }
        _ if named.is_empty() => Ok((identity, Vec::new())),
        _ => Err(CatalogueError::Request(format!(
            "{} is {}, which is used without other files; leave --with away",
            path.display(),
            identity.called
        ))),
    }
}

/// Adds a folder with a manifest of ours.
fn add_own(dir: &Path, models: &Path) -> Result<Added, CatalogueError> {
    let dir = fs::canonicalize(dir).map_err(|error| CatalogueError::read(dir, error))?;
    let model = Model::open(&dir)?;
    let known = weights::installed(models)?.models;
    let id = &model.manifest.id;
    let other = known.iter().find(|other| other.manifest.id == *id);
    match other {
        Some(other) if fs::canonicalize(&other.dir).is_ok_and(|known| known == dir) => {}
        Some(other) => {
            return Err(CatalogueError::Request(format!(
                "a model \"{id}\" is there from another folder ({}); change the id in {}",
                other.dir.display(),
                dir.join(MANIFEST).display()
            )));
        }
        None => {
            let entry = AddedModel::new(ModelSource::Folder(dir), Some(model.manifest.clone()));
            weights::register(models, &entry)?;
        }
    }
    let again = other.is_some();
    Ok(Added { model, again })
}

/// The path that holds from anywhere; where a folder holds a single file and nothing else, that
/// file.
fn only_file(path: &Path) -> Result<PathBuf, CatalogueError> {
    let real = fs::canonicalize(path).map_err(|error| CatalogueError::read(path, error))?;
    let described = ["model_index.json", "config.json"]
        .iter()
        .any(|name| real.join(name).is_file());
    if !real.is_dir() || described {
        return match real.is_file() {
            // The name by which a link calls a file says more than what it leads to.
            true => std::path::absolute(path).map_err(|error| CatalogueError::read(path, error)),
            false => Ok(real),
        };
    }
    match projector::models_in(&real).as_slice() {
        [only] => Ok(only.clone()),
        _ => Ok(real),
    }
}

/// Refuses what cannot be used.
fn judged(identity: Identity, path: &Path) -> Result<Identity, CatalogueError> {
    let usable =
        identity.supported && !matches!(identity.is, WeightsKind::Refused | WeightsKind::Component);
    if usable {
        return Ok(identity);
    }
    if super::enlarges(&identity) {
        return Err(CatalogueError::Request(format!(
            "{} is {}, which need not be added: {}",
            path.display(),
            identity.called,
            identity.instead.unwrap_or_default()
        )));
    }
    let spelled = identity
        .notes
        .iter()
        .find(|note| note.contains("not supported"));
    let called = match spelled {
        Some(note) => format!("{}; {note}", identity.called),
        None => identity.called,
    };
    Err(CatalogueError::Refused {
        path: path.to_path_buf(),
        called,
        instead: identity
            .instead
            .unwrap_or_else(|| super::USE_STABLE_DIFFUSION.to_string()),
    })
}

/// Decides what the UNet predicts: what was given, what the file says, or what is usual.
fn predicts(
    identity: &mut Identity,
    given: Option<&str>,
    path: &Path,
) -> Result<(), CatalogueError> {
    if identity.is != WeightsKind::Model || dit::family(identity).is_some() {
        return match given {
            None => Ok(()),
            Some(_) => Err(CatalogueError::Request(format!(
                "{} is {}, which predicts no noise; leave --prediction away",
                path.display(),
                identity.called
            ))),
        };
    }
    if let Some(given) = given {
        if identity
            .prediction
            .as_deref()
            .is_some_and(|spelled| spelled != given)
        {
            identity.notes.push(format!(
                "--prediction {given} was taken, against what the file says"
            ));
        }
        identity.prediction = Some(given.to_string());
        return Ok(());
    }
    if identity.prediction.is_none() {
        let (taken, why) = super::checkpoint::guess(path);
        identity.prediction = Some(taken.to_string());
        identity.notes.push(format!(
            "the file does not say what it predicts: {taken} was taken, since {why}; --prediction decides"
        ));
    }
    Ok(())
}

fn manifest(
    id: String,
    name: String,
    identity: Identity,
    path: &Path,
) -> Result<Manifest, CatalogueError> {
    let (dir, mut names) = match path.is_dir() {
        true => (path.to_path_buf(), folders::parts_of(path)),
        false => {
            let dir = path.parent().unwrap_or(Path::new("")).to_path_buf();
            let own = match identity.is {
                WeightsKind::LanguageModel => check_gguf(path)?.files,
                _ => vec![path.to_path_buf()],
            };
            let inside = own.iter().filter_map(|file| file.strip_prefix(&dir).ok());
            let names = inside.map(Path::to_path_buf).collect();
            (dir, names)
        }
    };
    names.retain(|name| dir.join(name).is_file());
    let files = names.iter().map(|name| FileEntry::sampled(&dir, name));
    Ok(Manifest {
        id,
        name,
        pipeline: match identity.is {
            WeightsKind::Model if dit::family(&identity).is_some() => TRANSFORMER,
            WeightsKind::Model => PAINTER,
            WeightsKind::LanguageModel => WRITER,
            other => other.name(),
        }
        .to_string(),
        licence: "NOASSERTION".to_string(),
        summary: summary(&identity),
        files: files.collect::<Result<_, _>>()?,
        identity: Some(identity),
        ..Manifest::default()
    })
}

/// What an author calls it: the file's name without its ending, or the folder's; in a Hugging Face
/// cache the repository's.
fn readable(path: &Path) -> String {
    let cached = path
        .iter()
        .rev()
        .find_map(|part| part.to_str()?.strip_prefix("models--"));
    if let (Some(repository), true) = (cached, path.is_dir()) {
        return repository.replace("--", "/");
    }
    let name = match path.is_dir() {
        true => path.file_name(),
        false => path.file_stem(),
    };
    let name = name.unwrap_or_default().to_string_lossy().into_owned();
    // Of a set, the name that its parts have in common.
    match name.rsplit_once("-00001-of-") {
        Some((stem, _)) => stem.to_string(),
        None => name,
    }
}

/// A short id from a name that no model has yet.
pub(super) fn unique(name: &str, known: &[Model]) -> String {
    let words: Vec<String> = name
        .to_lowercase()
        .split(|c: char| !c.is_alphanumeric() && c != '.')
        .map(|word| word.trim_matches('.').to_string())
        .filter(|word| !word.is_empty())
        .collect();
    let base = match words.is_empty() {
        true => "model".to_string(),
        false => words.join("-"),
    };
    let taken = |id: &str| known.iter().any(|model| model.manifest.id == id);
    if !taken(&base) {
        return base;
    }
    let mut ids = (2..).map(|n| format!("{base}-{n}"));
    ids.find(|id| !taken(id)).unwrap_or(base)
}

/// Forgets the added model `id`; its files stay where they are.
///
/// # Errors
/// When no model of that id was added, or the list cannot be written.
pub fn remove(id: &str, models: &Path) -> Result<Model, CatalogueError> {
    let known = weights::installed(models)?.models;
    let inside = |model: &Model| {
        let real = |path: &Path| fs::canonicalize(path).ok();
        model
            .source
            .path()
            .and_then(Path::parent)
            .is_some_and(|dir| real(dir) == real(models))
            && model.source.path().is_some_and(Path::is_dir)
    };
    match known.iter().find(|model| model.manifest.id == id) {
        Some(model) if inside(model) => Err(CatalogueError::NotElsewhere {
            id: id.to_string(),
            dir: model.dir.clone(),
        }),
        Some(model) => {
            weights::forget(models, &model.source)?;
            Ok(model.clone())
        }
        None => {
            let ids = known.iter().filter(|model| !inside(model));
            let ids: Vec<&str> = ids.map(|model| model.manifest.id.as_str()).collect();
            Err(CatalogueError::NotAdded {
                id: id.to_string(),
                added: match ids.is_empty() {
                    true => "none".to_string(),
                    false => ids.join(", "),
                },
            })
        }
    }
}

/// What something is in half a line: its name, what it predicts, how it is stored, its pictures.
fn summary(identity: &Identity) -> String {
    let mut parts = vec![identity.called.clone()];
    parts.extend(
        identity
            .arch
            .clone()
            .filter(|arch| !identity.called.eq_ignore_ascii_case(arch)),
    );
    parts.extend(
        identity
            .prediction
            .clone()
            .map(|prediction| prediction.replace('_', " ")),
    );
    parts.extend(identity.precision.clone());
    parts.extend(identity.picture_size.map(|side| format!("{side}x{side}")));
    parts.extend(
        identity
            .context_length
            .map(|tokens| format!("{tokens} tokens")),
    );
    parts.join(", ")
}

/// An identity in one line, for people.
pub fn line(identity: &Identity) -> String {
    let mut text = summary(identity);
    if identity.tensor_bytes > 0 {
        text.push_str(&format!(", {}", format_bytes(identity.tensor_bytes)));
    }
    text
}
