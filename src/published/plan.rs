//! What lies where while a panel is made, at which precision, and how much memory that takes at
//! most.
//!
//! A panel goes through five stages: pictures are read, text is written, voken states are mapped,
//! the picture is denoised, its latents are decoded. Where everything fits it stays loaded; where
//! it does not, a stage's parts leave the device when their work is done. A stage that does not
//! fit even alone runs on the CPU. Quantised language models always do: their products run there.

use std::fmt;

use super::check::{EVA, Facts, LLAMA, PROJECTION, QFORMER, Report, UNET, VAE};
use super::memory::format_bytes;
use crate::weights::DeviceKind;

/// Latents a side that the VAE decodes at once.
const TILE: usize = 64;
/// The conditional and the unconditional half.
const GUIDED: u64 = 2;

/// How a part's numbers are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    F32,
    F16,
    /// As the GGUF file has them, mapped.
    Quantised,
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Precision::F32 => "f32",
            Precision::F16 => "f16",
            Precision::Quantised => "quantised",
        })
    }
}

/// A part of the model in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Placement {
    pub part: &'static str,
    pub device: DeviceKind,
    pub precision: Precision,
    pub bytes: u64,
}

/// Something that is done for a panel, and what must be in memory for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    pub name: &'static str,
    pub device: DeviceKind,
    pub parts: Vec<Placement>,
    /// Bytes of caches and intermediate results.
    pub work: u64,
}

impl Stage {
    /// Bytes of the weights.
    pub fn weights(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes).sum()
    }

    /// Bytes of weights and work.
    pub fn total(&self) -> u64 {
        self.weights() + self.work
    }
}

/// What lies where while a panel is made.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub device: DeviceKind,
    /// Bytes that may be used on the device; `None`: as many as it takes.
    pub limit: Option<u64>,
    pub stages: Vec<Stage>,
    /// Whether everything stays loaded from panel to panel.
    pub stays: bool,
}

/// Why a model cannot be run; one sentence.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PlanError {
    #[error(
        "{stage} takes {} on the CPU, more than the {} there are; {remedy}",
        format_bytes(*needs), format_bytes(*limit)
    )]
    TooLarge {
        stage: &'static str,
        needs: u64,
        limit: u64,
        remedy: &'static str,
    },
}

impl Plan {
    /// The most bytes in use on `device` at once, and the stage at which that is.
    pub fn peak(&self, device: DeviceKind) -> (u64, &'static str) {
        let here = || self.stages.iter().filter(|stage| stage.device == device);
        let staying: u64 = here().map(Stage::weights).sum();
        let uses = here().map(|stage| match self.stays {
            true => (staying + stage.work, stage.name),
            false => (stage.total(), stage.name),
        });
        uses.max_by_key(|(bytes, _)| *bytes)
            .unwrap_or((0, "nothing"))
    }
}

/// Plans a panel on `device` with at most `limit` bytes there.
///
/// # Errors
/// When `device` is the CPU and a stage does not fit.
pub fn plan(report: &Report, device: DeviceKind, limit: Option<u64>) -> Result<Plan, PlanError> {
    let mut stages = stages(report, device);
    let fits = |stage: &Stage| limit.is_none_or(|limit| stage.total() <= limit);
    for (index, on_cpu) in self::stages(report, DeviceKind::Cpu)
        .into_iter()
        .enumerate()
    {
        let stage = &stages[index];
        if stage.device != DeviceKind::Cpu && !fits(stage) {
            stages[index] = on_cpu;
        }
    }
    let mut plan = Plan {
        device,
        limit,
        stages,
        stays: true,
    };
    let Some(limit) = limit else {
        return Ok(plan);
    };
    plan.stays = plan.peak(device).0 <= limit;
    let large = plan
        .stages
        .iter()
        .find(|stage| stage.device == device && !fits(stage));
    match large {
        None => Ok(plan),
        Some(stage) => Err(PlanError::TooLarge {
            stage: stage.name,
            needs: stage.total(),
            limit,
            remedy: match stage.name == WRITING && !report.facts.gguf {
                true => "use the language model as a quantised GGUF file",
                false => "use a machine with more memory",
            },
        }),
    }
}

const WRITING: &str = "writing text";

fn stages(report: &Report, device: DeviceKind) -> Vec<Stage> {
    let facts = &report.facts;
    let (precision, width) = match device {
        DeviceKind::Cpu => (Precision::F32, 4),
        DeviceKind::Cuda | DeviceKind::Metal => (Precision::F16, 2),
    };
    let stage = |name, parts: &[(&'static str, u64)], work| Stage {
        name,
        device,
        parts: parts
            .iter()
            .map(|&(part, numbers)| Placement {
                part,
                device,
                precision,
                bytes: numbers * width,
            })
            .collect(),
        work,
    };
    let whole = |part: &'static str| (part, report.size(part).0);
    let seeing = [whole(EVA), whole(QFORMER), whole(PROJECTION)];
    vec![
        stage("reading pictures", &seeing, facts.seeing * width),
        writing(report, device, precision, width),
        stage(
            "mapping vokens",
            &[("feature mapper", facts.mapper)],
            facts.mapping * width,
        ),
        stage(
            "denoising",
            &[whole(UNET)],
            denoising(facts, device) * width,
        ),
        stage("decoding", &[whole(VAE)], decoding(facts) * width),
    ]
}

fn writing(report: &Report, device: DeviceKind, precision: Precision, width: u64) -> Stage {
    let facts = &report.facts;
    let (numbers, stored) = report.size(LLAMA);
    let (device, precision, width) = match facts.gguf {
        true => (DeviceKind::Cpu, Precision::F32, 4),
        false => (device, precision, width),
    };
    let language_model = match facts.gguf {
        true => (Precision::Quantised, stored),
        // Its own tables are not loaded: those that were trained take their place.
        false => (precision, numbers.saturating_sub(facts.base_tables) * width),
    };
    let part = |part, (precision, bytes)| Placement {
        part,
        device,
        precision,
        bytes,
    };
    let beside = (facts.tables + facts.lora) * width;
    let cache = 2 * facts.layers * facts.kv_width * facts.context;
    Stage {
        name: WRITING,
        device,
        parts: vec![
            part(LLAMA, language_model),
            part("embedding rows and LoRA", (precision, beside)),
        ],
        work: cache as u64 * width,
    }
}

/// Numbers at once in the UNet: the maps kept for its way up, the widest feed-forward layer, and
/// on a GPU, where attention is composed, the scores of its finest level three times.
fn denoising(facts: &Facts, device: DeviceKind) -> u64 {
    let tokens = (facts.latents * facts.latents) as u64;
    let levels = facts.unet_channels.iter().enumerate();
    let kept: u64 = levels
        .map(|(i, &c)| 3 * c as u64 * (tokens >> (2 * i.min(31))))
        .sum();
    let finest = facts.unet_channels.first().copied().unwrap_or(0) as u64;
    let feed_forward = 12 * finest * tokens;
    let scores = match device {
        DeviceKind::Cpu => 0,
        DeviceKind::Cuda | DeviceKind::Metal => 3 * facts.unet_heads as u64 * tokens * tokens,
    };
    GUIDED * (kept + feed_forward + scores)
}

/// Numbers at once in the VAE's finest level: input, output and what is between, the first of
/// twice the channels.
fn decoding(facts: &Facts) -> u64 {
    let side = (facts.latents.min(TILE) * facts.vae_scale) as u64;
    4 * facts.vae_channels as u64 * side * side
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for stage in &self.stages {
            let (total, work) = (format_bytes(stage.total()), format_bytes(stage.work));
            writeln!(
                f,
                "{}: {total} on {}, {work} of it for work",
                stage.name, stage.device
            )?;
            for part in &stage.parts {
                let (bytes, precision) = (format_bytes(part.bytes), part.precision.to_string());
                writeln!(f, "  {:<24} {precision:<10} {bytes:>10}", part.part)?;
            }
        }
        match self.stays {
            true => writeln!(f, "everything stays loaded")?,
            false => writeln!(f, "parts leave {} when their work is done", self.device)?,
        }
        let of = self.limit.map_or(String::new(), |limit| {
            format!(" of {}", format_bytes(limit))
        });
        let (peak, stage) = self.peak(self.device);
        write!(
            f,
            "peak on {}: {}{of}, {stage}",
            self.device,
            format_bytes(peak)
        )?;
        let (peak, stage) = self.peak(DeviceKind::Cpu);
        if self.device != DeviceKind::Cpu && peak > 0 {
            write!(f, "\npeak on cpu: {}, {stage}", format_bytes(peak))?;
        }
        Ok(())
    }
}
