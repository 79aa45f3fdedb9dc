//! How a text or a picture came to be, so that it can be made again.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::PanelId;

/// What a generated text or picture was made by, of and with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Model id.
    pub model: String,
    /// Hash of the weights.
    pub weights: String,
    /// Name of the recipe.
    pub pipeline: String,
    pub device: String,
    pub settings: Settings,
    /// What conditioned it.
    pub prompt: String,
    /// The panels before it that were read.
    pub context: Vec<PanelId>,
    /// How long it took. Not in the record that a PNG carries, see [`super::encode_png`].
    #[serde(default)]
    pub seconds: f32,
    /// When, RFC 3339 in UTC. Not in the record that a PNG carries.
    #[serde(default)]
    pub created: String,
    /// A picture that was wanted and that the model had not asked for by itself.
    #[serde(default, skip_serializing_if = "is_false")]
    pub forced: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// How text is sampled and pictures are denoised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    pub seed: u64,
    /// Guidance scale, 1 (none) to 15.
    pub guidance: f32,
    /// Denoising steps.
    pub steps: u32,
    pub scheduler: SchedulerKind,
    /// 0 takes the likeliest token.
    pub temperature: f32,
    /// Share of the likeliest tokens that are drawn from, above 0 to 1.
    pub top_p: f32,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            seed: 0,
            guidance: 2.5,
            steps: 25,
            scheduler: SchedulerKind::Ddim,
            temperature: 0.8,
            top_p: 0.9,
        }
    }
}

/// How a denoising step is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SchedulerKind {
    #[default]
    #[serde(rename = "ddim")]
    Ddim,
    #[serde(rename = "euler")]
    Euler,
    #[serde(rename = "pndm")]
    Pndm,
    #[serde(rename = "dpm++")]
    DpmSolverPp,
}

impl SchedulerKind {
    pub const ALL: [SchedulerKind; 4] = [
        SchedulerKind::Ddim,
        SchedulerKind::Euler,
        SchedulerKind::Pndm,
        SchedulerKind::DpmSolverPp,
    ];
}

impl fmt::Display for SchedulerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SchedulerKind::Ddim => "ddim",
            SchedulerKind::Euler => "euler",
            SchedulerKind::Pndm => "pndm",
            SchedulerKind::DpmSolverPp => "dpm++",
        })
    }
}

impl FromStr for SchedulerKind {
    type Err = String;

    fn from_str(name: &str) -> Result<SchedulerKind, String> {
        SchedulerKind::ALL
            .into_iter()
            .find(|kind| kind.to_string() == name.to_ascii_lowercase())
            .ok_or_else(|| {
                format!("\"{name}\" is not a scheduler; choose ddim, euler, pndm or dpm++")
            })
    }
}
