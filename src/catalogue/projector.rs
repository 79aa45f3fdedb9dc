//! Vision projectors (mmproj), with which a language model reads pictures, and finding the one that
//! belongs to a model.

use std::fs;
use std::path::{Path, PathBuf};

use super::{CatalogueError, files, refused};
use crate::llm::{GgufFacts, check_gguf};
use crate::vision::{ProjectorError, ProjectorFacts, has_projector};
use crate::weights::{FileEntry, GgufHeader, Identity, WeightsKind};

/// What a projector is called where it cannot be used.
const CALLED: &str = "the eyes of a vision model (mmproj), which see a picture and cannot write";

/// Whether the header of a GGUF file is that of a projector.
pub(super) fn is_one(header: &GgufHeader) -> bool {
    header.string("general.type") == Some("mmproj")
        || header.string("general.architecture") == Some("clip")
}

/// What the projector `path` with this header is.
///
/// # Errors
/// When it cannot be read.
pub(super) fn identify(path: &Path, header: &GgufHeader) -> Result<Identity, CatalogueError> {
    let mut identity = match ProjectorFacts::read(path) {
        Ok(facts) => Identity {
            is: WeightsKind::Projector,
            family: "gemma3".to_string(),
            called: "a vision projector (mmproj) of Gemma 3".to_string(),
            supported: true,
            why: "general.architecture is clip, clip.projector_type is gemma3".to_string(),
            parameters: facts.parameters,
            picture_size: u32::try_from(facts.config.image_size).ok(),
            notes: vec![format!(
                "it belongs to a Gemma 3 of width {}: add that with --mmproj",
                facts.config.projection
            )],
            ..Identity::default()
        },
        Err(ProjectorError::Unusable { reason, .. }) => refused(
            "clip",
            CALLED,
            reason.to_string(),
            "choose the model file that it belongs to; with an mmproj of Gemma 3 that is whole it can see",
        ),
        Err(error) => return Err(error.into()),
    };
    let tensors = header.tensors.values();
    identity.tensors = tensors.len();
    identity.tensor_bytes = tensors.map(|tensor| tensor.bytes as u64).sum();
    Ok(identity)
}

/// The projector that a language model is added with: the one that is named, else the one that lies
/// beside it, the smallest of several.
///
/// # Errors
/// When the one that is named is none, or does not fit the model.
pub(super) fn of_model(
    model: &Path,
    named: Option<&Path>,
) -> Result<Option<FileEntry>, CatalogueError> {
    let facts = check_gguf(model)?;
    let path = match named {
        Some(path) => {
            fits(path, &facts, model)?;
            Some(path.to_path_buf())
        }
        None => within(model, &facts).or_else(|| beside(model, &facts)),
    };
    path.map(|path| entry(&path)).transpose()
}

/// Where a projector lies and which it is.
pub(super) fn entry(path: &Path) -> Result<FileEntry, CatalogueError> {
    let whole = std::path::absolute(path).map_err(|error| CatalogueError::read(path, error))?;
    let Some(text) = whole.to_str() else {
        return Err(CatalogueError::Request(format!(
            "{} has a name that cannot be written down; rename the file or its folder",
            whole.display()
        )));
    };
    let (dir, name) = (whole.parent(), whole.file_name());
    let of = FileEntry::sampled(
        dir.unwrap_or(Path::new("")),
        Path::new(name.unwrap_or_default()),
    );
    Ok(FileEntry {
        path: text.to_string(),
        ..of?
    })
}

fn fits(path: &Path, facts: &GgufFacts, model: &Path) -> Result<(), CatalogueError> {
    let projector = ProjectorFacts::read(path)?;
    let width = projector.config.projection;
    let unfit = match facts.picture_width {
        Some(wanted) if wanted == width => return Ok(()),
        Some(wanted) => format!("its pictures are {width} numbers wide and the model's {wanted}"),
        None => "that model reads no pictures here".to_string(),
    };
    Err(CatalogueError::Request(format!(
        "the vision projector {} does not belong to {}: {unfit}; name the mmproj file that came with the model",
        path.display(),
        model.display()
    )))
}

/// The model's own file, where it holds a projector that fits it, as Ollama's do.
fn within(model: &Path, facts: &GgufFacts) -> Option<PathBuf> {
    facts.picture_width?;
    let Ok(super::header::FileHeader::Gguf(header)) = super::header::read(model) else {
        return None;
    };
    let fits = has_projector(&header) && fits(model, facts, model).is_ok();
    fits.then(|| model.to_path_buf())
}

/// The projector in the folder of `model` that fits it.
fn beside(model: &Path, facts: &GgufFacts) -> Option<PathBuf> {
    facts.picture_width?;
    let dir = model.parent()?;
    let weights = files::weights_in(dir).into_iter();
    let fitting = weights.filter(|path| path != model && fits(path, facts, model).is_ok());
    fitting.min_by_key(|path| fs::metadata(path).map_or(u64::MAX, |about| about.len()))
}

/// The files of `dir` that may be weights, without the projectors that lie beside a language model.
pub(super) fn models_in(dir: &Path) -> Vec<PathBuf> {
    let mut weights = files::weights_in(dir);
    if weights.len() > 1 {
        weights.retain(|path| {
            let header = super::header::read(path);
            !matches!(header, Ok(super::header::FileHeader::Gguf(header)) if is_one(&header))
        });
    }
    weights
}
