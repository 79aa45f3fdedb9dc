//! A folder of the public weights that make up MiniGPT-5: which files are the parts of the model,
//! whether they are whole, and what will lie where while a panel is made.
//!
//! `vokenboard.toml` in the folder names the parts; `vokenboard models add` writes it.

mod add;
mod check;
mod find;
mod listener;
mod load;
mod memory;
mod plan;

#[cfg(test)]
mod tests;

use crate::cause::{Cause, first_line};
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use add::{PIPELINE, add, write_down};
pub use check::{PartReport, WeightsReport, check};
pub use find::{FoundParts, find};
pub use listener::{LoadListener, read_with_listener};
pub use load::{LoadTarget, Published, VokenLanguageWeights};
pub use memory::{format_bytes, free_memory, parse_bytes};
pub use plan::{
    MemoryPlan, MemoryPlanError, PanelTask, Placement, PlannedStep, Precision, decoding, denoising,
    plan,
};

use crate::voken::ReferenceSizes;

/// Name of the file that names the parts.
pub const PARTS_FILE: &str = "vokenboard.toml";

/// What can be wrong with a folder of public weights; each message is one sentence.
#[derive(Debug, thiserror::Error)]
pub enum PublishedError {
    /// A file or folder cannot be read.
    #[error("{} cannot be read ({reason}); check that it is a file or folder you may read", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why the system refused.
        #[source]
        reason: Cause,
    },
    /// A file cannot be written.
    #[error("{} cannot be written ({reason}); check the folder and the free space on its disk", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why the system refused.
        #[source]
        reason: Cause,
    },
    /// The file that names the parts is not valid JSON or lacks one.
    #[error("{} does not name the parts of a model ({reason}); write it anew with `vokenboard models add`", path.display())]
    PartPaths {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        reason: Cause,
    },
    /// A folder has more than one candidate for a part.
    #[error("{} has {} of {part}: {}; say which one with --{}", dir.display(), files.len(), list(files), part.key().replace('_', "-"))]
    Ambiguous {
        /// The folder.
        dir: PathBuf,
        /// The part that is meant.
        part: ModelPart,
        /// The candidates.
        files: Vec<PathBuf>,
    },
    /// A folder lacks one or more parts.
    #[error("{} lacks {}; put it there or name it with --{}", dir.display(), names(parts), flags(parts))]
    Missing {
        /// The folder.
        dir: PathBuf,
        /// The parts that are not there.
        parts: Vec<ModelPart>,
    },
    /// A file is damaged or of another kind than its part needs.
    #[error("{}: {}; get the file again", path.display(), first_line(reason))]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, for people.
        #[source]
        reason: Cause,
    },
    /// Another folder already holds a model with this id.
    #[error("a model \"{id}\" is installed from another folder ({}); rename the folder {}", other.display(), dir.display())]
    Taken {
        /// Id that both would have.
        id: String,
        /// The folder that is installed already.
        other: PathBuf,
        /// The folder that was to be added.
        dir: PathBuf,
    },
    /// The memory plan cannot be met.
    #[error(transparent)]
    Plan(#[from] MemoryPlanError),
    /// A weights file cannot be read.
    #[error(transparent)]
    Weights(#[from] crate::weights::WeightsError),
    /// A PyTorch checkpoint cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] crate::weights::CheckpointError),
    /// The language model cannot be loaded.
    #[error(transparent)]
    Language(#[from] crate::llm::LlmError),
    /// The diffusion model cannot be loaded.
    #[error(transparent)]
    Diffusion(#[from] crate::diffusion::DiffusionError),
}

fn list(files: &[PathBuf]) -> String {
    let files: Vec<String> = files.iter().map(|f| f.display().to_string()).collect();
    files.join(" and ")
}

fn names(parts: &[ModelPart]) -> String {
    let names: Vec<String> = parts.iter().map(ModelPart::to_string).collect();
    names.join(", ")
}

fn flags(parts: &[ModelPart]) -> String {
    let flags: Vec<String> = parts.iter().map(|p| p.key().replace('_', "-")).collect();
    flags.join(", --")
}

/// Whether `dir` holds or names the public weights.
pub fn is_published(dir: &Path) -> bool {
    let held = || find(dir).is_ok_and(|found| found.parts.contains_key(&ModelPart::Stage1));
    dir.join(PARTS_FILE).is_file() || held()
}

/// A part of the model that comes as a file or folder of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ModelPart {
    /// The language model, a Llama.
    Llama,
    /// EVA-CLIP's ViT-g/14, the image encoder.
    EvaVit,
    /// BLIP-2's Q-Former with its query tokens.
    Qformer,
    /// Linear projection of the Q-Former's output into the language model.
    LlamaProj,
    /// Stable Diffusion, a folder in the layout of diffusers.
    StableDiffusion,
    /// Checkpoint of the first training stage (unimodal alignment).
    Stage1,
    /// Checkpoint of the second training stage (multimodal learning).
    Stage2,
}

impl ModelPart {
    /// All parts, in the order in which reports list them.
    pub const ALL: [ModelPart; 7] = [
        ModelPart::Llama,
        ModelPart::EvaVit,
        ModelPart::Qformer,
        ModelPart::LlamaProj,
        ModelPart::StableDiffusion,
        ModelPart::Stage1,
        ModelPart::Stage2,
    ];

    /// Its name in `vokenboard.toml`.
    pub fn key(self) -> &'static str {
        match self {
            ModelPart::Llama => "llama",
            ModelPart::EvaVit => "eva_vit",
            ModelPart::Qformer => "qformer",
            ModelPart::LlamaProj => "llama_proj",
            ModelPart::StableDiffusion => "stable_diffusion",
            ModelPart::Stage1 => "stage1",
            ModelPart::Stage2 => "stage2",
        }
    }

    /// Whether the model works without it: stage 1 alone makes pictures, too.
    pub fn is_optional(self) -> bool {
        self == ModelPart::Stage2
    }
}

impl fmt::Display for ModelPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ModelPart::Llama => "the language model",
            ModelPart::EvaVit => "the vision transformer",
            ModelPart::Qformer => "the Q-Former",
            ModelPart::LlamaProj => "the projection to the language model",
            ModelPart::StableDiffusion => "the Stable Diffusion folder",
            ModelPart::Stage1 => "the stage-1 checkpoint",
            ModelPart::Stage2 => "the stage-2 checkpoint",
        })
    }
}

/// The parts of a model, as `vokenboard.toml` names them: paths that are relative count from the
/// folder of that file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartPaths {
    /// A folder in Hugging Face's layout, or a GGUF file.
    pub llama: PathBuf,
    /// The folder of `tokenizer.model`, where that is not beside the language model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<PathBuf>,
    /// `eva_vit_g.pth`
    pub eva_vit: PathBuf,
    /// `blip2_pretrained_flant5xxl.pth`
    pub qformer: PathBuf,
    /// MiniGPT-4's `prerained_minigpt4_7b.pth`
    pub llama_proj: PathBuf,
    /// A folder in diffusers' layout.
    pub stable_diffusion: PathBuf,
    /// `stage1_cc3m.ckpt`
    pub stage1: PathBuf,
    /// `stage2_vist.ckpt`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage2: Option<PathBuf>,
    /// A JSON file of sizes, for models that are not of the published ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sizes: Option<PathBuf>,
    /// How much of the device's memory may be used, such as `8GB`; what is free where it is not
    /// said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
}

impl PartPaths {
    /// Reads `vokenboard.toml` in `dir`; the paths are then ready to be opened.
    ///
    /// # Errors
    /// When there is none, or it lacks a part or names an unknown one.
    pub fn read(dir: &Path) -> Result<PartPaths, PublishedError> {
        let path = dir.join(PARTS_FILE);
        let text = crate::files::read_text(&path).map_err(|error| PublishedError::Read {
            path: path.clone(),
            reason: error.into(),
        })?;
        let unusable = |reason: Cause| PublishedError::PartPaths {
            path: path.clone(),
            reason,
        };
        let mut parts: PartPaths =
            toml::from_str(&text).map_err(|error| unusable(error.message().to_string().into()))?;
        if let Some(Err(reason)) = parts.memory.as_deref().map(parse_bytes) {
            return Err(unusable(format!("memory: {reason}").into()));
        }
        parts.each(|path| *path = dir.join(&*path));
        Ok(parts)
    }

    /// The parts that `dir` names in its `vokenboard.toml` or, without one, holds.
    ///
    /// # Errors
    /// When a part is missing or there is more than one of a kind.
    pub fn of_folder(dir: &Path) -> Result<PartPaths, PublishedError> {
        match dir.join(PARTS_FILE).is_file() {
            true => PartPaths::read(dir),
            false => find(dir)?.choose(dir, &std::collections::BTreeMap::new()),
        }
    }

    /// The same with paths that hold from anywhere.
    ///
    /// # Errors
    /// When the current folder cannot be told.
    pub fn absolute(&self) -> std::io::Result<PartPaths> {
        let mut parts = self.clone();
        let mut all = Ok(());
        parts.each(|path| match std::path::absolute(&*path) {
            Ok(whole) => *path = whole,
            Err(error) => all = Err(error),
        });
        all.map(|()| parts)
    }

    /// The same with paths inside `dir` made relative to it.
    pub fn relative_to(&self, dir: &Path) -> PartPaths {
        let mut parts = self.clone();
        parts.each(|path| {
            if let Ok(inside) = path.strip_prefix(dir) {
                *path = inside.to_path_buf();
            }
        });
        parts
    }

    fn each(&mut self, mut change: impl FnMut(&mut PathBuf)) {
        let optional = [&mut self.tokenizer, &mut self.stage2, &mut self.sizes];
        [
            &mut self.llama,
            &mut self.eva_vit,
            &mut self.qformer,
            &mut self.llama_proj,
            &mut self.stable_diffusion,
            &mut self.stage1,
        ]
        .into_iter()
        .chain(optional.into_iter().flatten())
        .for_each(&mut change);
    }

    /// Where a part is; `None` where an optional one is left out.
    pub fn path(&self, part: ModelPart) -> Option<&Path> {
        Some(match part {
            ModelPart::Llama => &self.llama,
            ModelPart::EvaVit => &self.eva_vit,
            ModelPart::Qformer => &self.qformer,
            ModelPart::LlamaProj => &self.llama_proj,
            ModelPart::StableDiffusion => &self.stable_diffusion,
            ModelPart::Stage1 => &self.stage1,
            ModelPart::Stage2 => self.stage2.as_deref()?,
        })
    }

    /// Bytes of the device's memory that may be used, where the file says how many.
    pub fn memory(&self) -> Option<u64> {
        self.memory
            .as_deref()
            .and_then(|text| parse_bytes(text).ok())
    }

    /// Whether the language model is a GGUF file.
    pub fn is_gguf(&self) -> bool {
        self.llama.extension().is_some_and(|end| end == "gguf")
    }

    /// Where `tokenizer.model` is; `None` where the GGUF file's own lists are to be used.
    pub fn tokenizer_dir(&self) -> Option<&Path> {
        match (&self.tokenizer, self.is_gguf()) {
            (Some(dir), _) => Some(dir),
            (None, true) => None,
            (None, false) => Some(&self.llama),
        }
    }

    /// The sizes that no weights file says; those of the published model where no file is named.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read_sizes(&self) -> Result<ReferenceSizes, PublishedError> {
        let Some(path) = &self.sizes else {
            return Ok(ReferenceSizes::default());
        };
        let text = crate::files::read_whole(path).map_err(|error| PublishedError::Read {
            path: path.clone(),
            reason: error.into(),
        })?;
        serde_json::from_slice(&text).map_err(|error| PublishedError::Unusable {
            path: path.clone(),
            reason: error.into(),
        })
    }

    /// LLaMA's tokenizer with the vokens.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read_tokenizer(&self) -> Result<crate::llm::LlamaTokenizer, PublishedError> {
        let tokenizer = match self.tokenizer_dir() {
            Some(dir) => crate::llm::LlamaTokenizer::load(dir)?,
            None => crate::llm::LlamaTokenizer::from_gguf(&self.llama)?,
        };
        Ok(tokenizer.with_vokens(self.read_sizes()?.voken_count))
    }
}
