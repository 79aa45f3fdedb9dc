//! Which files in a folder are the parts of the model, told by their contents.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::{ModelPart, PartPaths, PublishedError};
use crate::cause::Cause;
use crate::weights::{Checkpoint, CheckpointError, GgufHeader};

/// How deep parts are looked for; deeper than any download lays them.
const DEPTH: usize = 8;
/// Ends of the names of files that may hold weights.
const ENDS: [&str; 6] = ["safetensors", "pth", "pt", "bin", "ckpt", "gguf"];

/// What a folder holds.
#[derive(Debug, Default)]
pub struct FoundParts {
    /// Every candidate for a part.
    pub parts: BTreeMap<ModelPart, Vec<PathBuf>>,
    /// Folders with a `tokenizer.model`.
    pub tokenizers: Vec<PathBuf>,
    /// Files with sizes that are not the published ones.
    pub sizes: Vec<PathBuf>,
    /// Files of weights that are no part.
    pub extra: Vec<PathBuf>,
    /// What cannot be read, and why.
    pub unreadable: Vec<CheckpointError>,
}

/// Looks through `dir` and its folders. Links are followed, each folder is looked at once.
///
/// # Errors
/// When `dir` itself cannot be read.
pub fn find(dir: &Path) -> Result<FoundParts, PublishedError> {
    let unreadable = |error: std::io::Error| PublishedError::Read {
        path: dir.to_path_buf(),
        reason: error.into(),
    };
    fs::read_dir(dir).map_err(unreadable)?;
    let mut found = FoundParts::default();
    found.walk(dir, 0, &mut HashSet::new());
    Ok(found)
}

impl FoundParts {
    fn add(&mut self, part: ModelPart, path: &Path) {
        self.parts.entry(part).or_default().push(path.to_path_buf());
    }

    fn unreadable(&mut self, path: &Path, reason: impl Into<Cause>) {
        self.unreadable.push(CheckpointError::Read {
            path: path.to_path_buf(),
            reason: reason.into(),
        });
    }

    fn walk(&mut self, dir: &Path, depth: usize, seen: &mut HashSet<PathBuf>) {
        let real = match fs::canonicalize(dir) {
            Ok(real) => real,
            Err(error) => return self.unreadable(dir, error),
        };
        if depth > DEPTH || !seen.insert(real) {
            return;
        }
        if dir.join("tokenizer.model").is_file() {
            self.tokenizers.push(dir.to_path_buf());
        }
        if dir.join("model_index.json").is_file() && dir.join("unet").is_dir() {
            return self.add(ModelPart::StableDiffusion, dir);
        }
        if is_llama(dir) {
            return self.add(ModelPart::Llama, dir);
        }
        let mut entries: Vec<PathBuf> = match fs::read_dir(dir) {
            Ok(entries) => entries
                .filter_map(|entry| Some(entry.ok()?.path()))
                .collect(),
            Err(error) => return self.unreadable(dir, error),
        };
        entries.sort();
        for path in entries {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with('.') {
                continue;
            }
            let weights = ENDS
                .iter()
                .any(|end| path.extension().is_some_and(|e| e == *end));
            match fs::metadata(&path) {
                Ok(about) if about.is_dir() => self.walk(&path, depth + 1, seen),
                Ok(_) if weights => self.classify(&path),
                Ok(_) if name.ends_with(".json") && is_sizes(&path) => self.sizes.push(path),
                Ok(_) => {}
                Err(error) if weights => self.unreadable(&path, error),
                Err(_) => {}
            }
        }
    }

    fn classify(&mut self, path: &Path) {
        if path.extension().is_some_and(|end| end == "gguf") {
            return match read_gguf(path) {
                Ok(header) if header.string("general.architecture") == Some("llama") => {
                    self.add(ModelPart::Llama, path);
                }
                Ok(_) => self.extra.push(path.to_path_buf()),
                Err(error) => self.unreadable.push(error),
            };
        }
        match Checkpoint::open(path) {
            Ok(checkpoint) => match part_of(&checkpoint) {
                Some(part) => self.add(part, path),
                None => self.extra.push(path.to_path_buf()),
            },
            Err(error) => self.unreadable.push(error),
        }
    }

    /// The parts, where each was found once; those in `given` stand before what was found.
    ///
    /// # Errors
    /// When a part that is needed is missing, or there is more than one of a kind. Where a file
    /// cannot be read an optional part must be there, too: the file may be that part.
    pub fn choose(
        self,
        dir: &Path,
        given: &BTreeMap<ModelPart, PathBuf>,
    ) -> Result<PartPaths, PublishedError> {
        let mut chosen = BTreeMap::new();
        let mut missing = Vec::new();
        for part in ModelPart::ALL {
            let found = self.parts.get(&part).map_or(&[][..], Vec::as_slice);
            match (given.get(&part), found) {
                (Some(path), _) => {
                    chosen.insert(part, path.clone());
                }
                (None, [path]) => {
                    chosen.insert(part, path.clone());
                }
                (None, []) if part.is_optional() && self.unreadable.is_empty() => {}
                (None, []) => missing.push(part),
                (None, files) => {
                    return Err(PublishedError::Ambiguous {
                        dir: dir.to_path_buf(),
                        part,
                        files: files.to_vec(),
                    });
                }
            }
        }
        if !missing.is_empty() {
            // A file that cannot be read may be what is missing.
            return Err(match self.unreadable.into_iter().next() {
                Some(error) => PublishedError::Checkpoint(error),
                None => PublishedError::Missing {
                    dir: dir.to_path_buf(),
                    parts: missing,
                },
            });
        }
        let mut take = |part| chosen.remove(&part).unwrap_or_default();
        let mut parts = PartPaths {
            llama: take(ModelPart::Llama),
            tokenizer: None,
            eva_vit: take(ModelPart::EvaVit),
            qformer: take(ModelPart::Qformer),
            llama_proj: take(ModelPart::LlamaProj),
            stable_diffusion: take(ModelPart::StableDiffusion),
            stage1: take(ModelPart::Stage1),
            stage2: None,
            sizes: self.sizes.first().cloned(),
            memory: None,
        };
        parts.stage2 = chosen.remove(&ModelPart::Stage2);
        if !parts.llama.join("tokenizer.model").is_file() {
            parts.tokenizer = self.tokenizers.first().cloned();
        }
        Ok(parts)
    }
}

/// Whether a folder holds a LLaMA in Hugging Face's layout.
fn is_llama(dir: &Path) -> bool {
    let config = crate::files::read_whole(dir.join("config.json")).unwrap_or_default();
    let config: serde_json::Value = serde_json::from_slice(&config).unwrap_or_default();
    config["model_type"] == "llama" || config["architectures"][0] == "LlamaForCausalLM"
}

/// Whether a JSON file has the sizes that the reference has in its code.
fn is_sizes(path: &Path) -> bool {
    let small = fs::metadata(path).is_ok_and(|about| about.len() < 1 << 20);
    let text = if small {
        crate::files::read_whole(path).unwrap_or_default()
    } else {
        Vec::new()
    };
    let sizes: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    ["eva_vit", "qformer", "mapper"]
        .iter()
        .all(|key| sizes[key].is_object())
}

fn part_of(checkpoint: &Checkpoint) -> Option<ModelPart> {
    let any = |fits: &dyn Fn(&str) -> bool| checkpoint.names().any(fits);
    if any(&|name| name.contains(".lora_A.")) && any(&|name| name.starts_with("llm_to_t2i")) {
        Some(ModelPart::Stage2)
    } else if checkpoint.contains("t2i_decoder_prompt") {
        Some(ModelPart::Stage1)
    } else if checkpoint.contains("patch_embed.proj.weight") && checkpoint.contains("cls_token") {
        Some(ModelPart::EvaVit)
    } else if checkpoint.contains("query_tokens") {
        Some(ModelPart::Qformer)
    } else if checkpoint.contains("llama_proj.weight") {
        Some(ModelPart::LlamaProj)
    } else {
        None
    }
}

/// Reads the header of a GGUF file.
pub(super) fn read_gguf(path: &Path) -> Result<GgufHeader, CheckpointError> {
    let unreadable = |error: std::io::Error| CheckpointError::Read {
        path: path.to_path_buf(),
        reason: error.into(),
    };
    let file = crate::nn::quant::MappedFile::open(path).map_err(unreadable)?;
    GgufHeader::read(file.bytes()).map_err(|reason| CheckpointError::Damaged {
        path: path.to_path_buf(),
        reason: reason.into(),
    })
}
