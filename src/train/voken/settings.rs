//! Settings of the stages `align` and `story`.

use super::data::DataKind;
use super::loss::LossWeights;
use super::pack::{ContextParts, Objective};
use crate::llm::float::LoraConfig;
use crate::voken::{CompositionHeadConfig, MapperConfig, PictureConditioning};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;
use std::path::PathBuf;

/// Shares of the stories that are learnt with what in context.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ContextShares {
    /// Texts and pictures.
    pub full: f64,
    pub texts: f64,
    pub pictures: f64,
    /// Each panel alone.
    pub none: f64,
}

impl Default for ContextShares {
    fn default() -> Self {
        Self {
            full: 1.0,
            texts: 0.0,
            pictures: 0.0,
            none: 0.0,
        }
    }
}

impl ContextShares {
    pub(super) fn sum(&self) -> f64 {
        self.full + self.texts + self.pictures + self.none
    }

    pub(super) fn draw(&self, rng: &mut ChaCha8Rng) -> ContextParts {
        let mut at = rng.random_range(0.0..self.sum());
        let kinds = [
            (self.full, true, true),
            (self.texts, true, false),
            (self.pictures, false, true),
        ];
        for (share, texts, pictures) in kinds {
            at -= share;
            if at < 0.0 {
                return ContextParts { texts, pictures };
            }
        }
        ContextParts {
            texts: false,
            pictures: false,
        }
    }
}

/// Which parameters a stage changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Trainable {
    /// All that belongs to it.
    #[default]
    All,
    /// The mapper alone, on states that the language model then gives once for every story: in
    /// the time of a step with all, it sees some twenty times as many pictures.
    Mapper,
    /// What reads a story's words for the stage head, alone: stories about the library's drawings
    /// are told anew for every step, hundreds in a second, and no other network runs.
    Words,
}

/// Settings of both stages (TOML). Paths are relative to the file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TuneSettings {
    /// Folder of the diffusion model, which is not changed.
    pub model: PathBuf,
    /// Folder of the language model's GGUF.
    pub language_model: PathBuf,
    /// Voken folder that it sees with (written by stage `see`).
    pub vision: PathBuf,
    /// Voken folder that it begins from (written by stage `align`).
    pub init: Option<PathBuf>,
    #[serde(default)]
    pub learns: Trainable,
    pub seed: u64,
    pub steps: u64,
    /// Stories (or pairs) of a step.
    pub batch: usize,
    pub learning_rate: f64,
    pub warmup: u64,
    /// Share of the steps after which the learning rate falls.
    pub decay_from: f64,
    /// Stories (or pairs) that are drawn from the storyworld in all.
    pub stories: usize,
    #[serde(default)]
    pub data: DataKind,
    /// What is learnt of each panel; all are, so they come in equal shares.
    pub tasks: Vec<Objective>,
    #[serde(default)]
    pub context: ContextShares,
    #[serde(default)]
    pub loss: LossWeights,
    #[serde(default)]
    pub speaks: PictureConditioning,
    /// Sizes of the mapper where nothing is begun from.
    #[serde(default)]
    pub mapper: MapperConfig,
    #[serde(default)]
    pub lora: LoraConfig,
    /// What says who is in a picture, where the diffusion model draws from references.
    #[serde(rename = "stage_head")]
    pub composition_head: Option<CompositionHeadConfig>,
    pub checkpoint_every: u64,
    pub sample_every: u64,
}
