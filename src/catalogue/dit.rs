//! FLUX.1 and Z-Image: whole checkpoints, and transformers whose text encoders and VAE are files of
//! their own, as ComfyUI keeps them.

use std::fs;
use std::path::{Path, PathBuf};

use super::header::{self, FileHeader};
use super::{CatalogueError, HeaderTensor, HeaderTensors, files};
use crate::diffusion::{DitFamily, DitPart, part_of};
use crate::weights::{FileEntry, GgufHeader, Identity, WeightsKind};

/// What to do with a transformer that lies alone.
pub(super) const WITH: &str = "add it together with its text encoders and its VAE: those that lie in the same folder or in one beside it, as ComfyUI keeps them, are found, others are named with --with";
/// Files of a folder that are looked at for parts, at most.
const MOST: usize = 500;

/// The family of what [`super::transformers`] tells, where it is one that can be run.
pub(super) fn family(identity: &Identity) -> Option<DitFamily> {
    match (identity.family.as_str(), identity.called.as_str()) {
        ("flux", "FLUX.1 dev" | "FLUX.1 schnell") => Some(DitFamily::Flux),
        ("z-image", "Z-Image") => Some(DitFamily::ZImage),
        _ => None,
    }
}

/// The identity of a transformer as it stands in a file with these tensors: one that can be used
/// where its text encoders and its VAE are there too, else what to add it with.
pub(super) fn judged(t: &HeaderTensors, mut identity: Identity) -> Identity {
    let Some(family) = family(&identity) else {
        return identity;
    };
    let has = |name: &str| t.has(name);
    identity.instead = Some(WITH.to_string());
    if family.parts().iter().all(|part| part.is_in(&has)) {
        used(&mut identity);
    }
    identity
}

/// Makes it a model that can be used.
pub(super) fn used(identity: &mut Identity) {
    identity.is = WeightsKind::Model;
    identity.supported = true;
    identity.instead = None;
    identity.picture_size = Some(1024);
}

/// The tensors in the header of a GGUF file.
pub(super) fn of_gguf(header: &GgufHeader) -> HeaderTensors {
    let tensors = header.tensors.iter().map(|(name, tensor)| {
        let info = HeaderTensor {
            dtype: tensor
                .kind
                .map_or_else(String::new, |kind| kind.name().to_string()),
            shape: tensor.shape.clone(),
            bytes: tensor.bytes as u64,
        };
        (name.clone(), info)
    });
    HeaderTensors {
        map: tensors.collect(),
        ..HeaderTensors::default()
    }
}

/// The parts that the transformer `path` is used with: those that are `named`, and for the others
/// those that lie beside it and fit. The smallest of several is taken.
///
/// # Errors
/// A named file that is no such part; a part that is nowhere.
pub(super) fn parts(
    path: &Path,
    family: DitFamily,
    named: &[PathBuf],
) -> Result<Vec<FileEntry>, CatalogueError> {
    let own = tensors(path)?;
    let has = |name: &str| own.has(name);
    let mut found: Vec<(DitPart, PathBuf)> = Vec::new();
    for file in named {
        let theirs = tensors(file)?;
        let Some(part) = part_of(family, &|name| theirs.has(name)) else {
            return Err(CatalogueError::Request(format!(
                "{} is no part of a {family} model; name its text encoders and its VAE",
                file.display()
            )));
        };
        found.push((part, file.clone()));
    }
    let tiny = path
        .with_file_name("config")
        .join("transformer.json")
        .is_file();
    let mut beside = None;
    for part in family.parts() {
        let there = found.iter().any(|(known, _)| known == part) || part.is_in(&has);
        if there {
            continue;
        }
        let beside = beside.get_or_insert_with(|| beside_of(path));
        let fitting = beside.iter().filter(|(file, theirs)| {
            let is = part_of(family, &|name| theirs.has(name)) == Some(*part);
            is && *file != path && (tiny || fits(*part, theirs))
        });
        let smallest = fitting
            .min_by_key(|(file, _)| fs::metadata(file).map_or(u64::MAX, |about| about.len()));
        match smallest {
            Some((file, _)) => found.push((*part, file.clone())),
            None => {
                return Err(CatalogueError::Request(format!(
                    "{} is the transformer of the picture model {family} without {}; name that file with --with, or put it into the same folder",
                    path.display(),
                    part.label()
                )));
            }
        }
    }
    found
        .iter()
        .map(|(_, file)| super::projector::entry(file))
        .collect()
}

fn tensors(path: &Path) -> Result<HeaderTensors, CatalogueError> {
    Ok(match header::read(path)? {
        FileHeader::Tensors(tensors) => tensors.unwrapped(),
        FileHeader::Gguf(header) => of_gguf(&header),
    })
}

/// Whether a part has the width that the published models need.
fn fits(part: DitPart, t: &HeaderTensors) -> bool {
    let width = |names: &[&str], axis| names.iter().find_map(|name| t.dim(name, axis));
    match part {
        DitPart::Clip => {
            let names = [
                "text_model.embeddings.token_embedding.weight",
                "embeddings.token_embedding.weight",
            ];
            width(&names, 1) == Some(768)
        }
        DitPart::T5 => width(&["encoder.block.0.layer.0.SelfAttention.q.weight"], 1) == Some(4096),
        DitPart::Qwen3 => {
            let names = ["model.embed_tokens.weight", "embed_tokens.weight"];
            width(&names, 1) == Some(2560)
        }
        DitPart::Vae => width(&["decoder.conv_in.weight"], 1) == Some(16),
    }
}

/// Files of weights in the folder of `path`, and in those beside and above it, with their tensors.
fn beside_of(path: &Path) -> Vec<(PathBuf, HeaderTensors)> {
    let own = path.parent().map(Path::to_path_buf).unwrap_or_default();
    let mut dirs = vec![own.clone()];
    // A file may lie in a folder of its kind, or in one inside of that.
    for above in own.ancestors().skip(1).take(2) {
        let inside = fs::read_dir(above).into_iter().flatten().flatten();
        let mut inside: Vec<PathBuf> = inside.map(|entry| entry.path()).collect();
        inside.retain(|dir| dir.is_dir() && !dirs.contains(dir) && is_for_parts(dir));
        inside.sort();
        dirs.extend(inside);
    }
    let files = dirs.iter().flat_map(|dir| files::weights_in(dir));
    let safetensors = |file: &PathBuf| {
        let end = file.extension().unwrap_or_default();
        end.eq_ignore_ascii_case("safetensors") || end.eq_ignore_ascii_case("sft")
    };
    files
        .filter(safetensors)
        .take(MOST)
        .filter_map(|file| Some((file.clone(), tensors(&file).ok()?)))
        .collect()
}

/// Whether programs keep text encoders or VAEs in a folder of this name.
fn is_for_parts(dir: &Path) -> bool {
    const NAMES: [&str; 6] = ["text_encoder", "text_encoders", "clip", "vae", "t5", "te"];
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let name = name.to_lowercase();
    NAMES.contains(&name.as_str())
}
