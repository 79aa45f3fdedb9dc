//! What lies where while a panel is made, at which precision, and how much memory that takes at
//! most.
//!
//! A panel goes through four stages: pictures are read, text is written and its voken states
//! mapped, the picture is denoised, its latents are decoded. Where everything fits it stays loaded;
//! where it does not, a stage's parts leave the device when their work is done and are read again
//! when they are needed. A task that does not fit a GPU even alone runs on the CPU. Quantised
//! language models always do: their products run there.

use std::collections::BTreeMap;
use std::fmt;

use super::check::{EVA, LLAMA, PROJECTION, QFORMER, UNET, VAE, WeightsReport};
use super::memory::format_bytes;
use crate::weights::DeviceKind;

/// Latents a side that the VAE decodes at once.
const TILE: usize = 64;
/// The conditional and the unconditional half.
const GUIDED: u64 = 2;

/// How a part's numbers are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Held and computed with in 32-bit floating point.
    F32,
    /// Held so, and computed with in f32.
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
    /// Name of the part.
    pub part: &'static str,
    /// Where its weights lie.
    pub device: DeviceKind,
    /// How its weights are held.
    pub precision: Precision,
    /// Size of its weights there, in bytes.
    pub bytes: u64,
}

/// Something that is done for a panel, and what must be in memory for it.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedStep {
    /// Name of the step, as progress messages have it.
    pub name: &'static str,
    /// Where it computes.
    pub device: DeviceKind,
    /// Parts that are loaded while it runs.
    pub parts: Vec<Placement>,
    /// Bytes of caches and intermediate results.
    pub work: u64,
}

impl PlannedStep {
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
pub struct MemoryPlan {
    /// The device that was asked for.
    pub device: DeviceKind,
    /// Bytes that may be used on the device; `None`: as many as it takes.
    pub limit: Option<u64>,
    /// Steps in the order in which they run.
    pub stages: Vec<PlannedStep>,
    /// Whether everything stays loaded from panel to panel.
    pub stays: bool,
}

/// Why a model cannot be run; one sentence.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum MemoryPlanError {
    /// A step needs more memory than there is, even on the CPU.
    #[error(
        "{stage} takes {} on the CPU, more than the {} there are; {remedy}",
        format_bytes(*needs), format_bytes(*limit)
    )]
    TooLarge {
        /// Name of the step.
        stage: &'static str,
        /// Bytes that it needs.
        needs: u64,
        /// Bytes that may be used.
        limit: u64,
        /// What the author can do about it.
        remedy: &'static str,
    },
}

/// A task of the model for a panel; the networks of one task are loaded and dropped together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PanelTask {
    /// Reading pictures.
    See,
    /// Reading and writing text, and mapping voken states to conditions.
    Write,
    /// Denoising and decoding.
    Draw,
}

impl PanelTask {
    const ALL: [PanelTask; 3] = [PanelTask::See, PanelTask::Write, PanelTask::Draw];

    /// The stages in which it is done.
    fn stages(self) -> &'static [&'static str] {
        match self {
            PanelTask::See => &[SEEING],
            PanelTask::Write => &[WRITING],
            PanelTask::Draw => &[DENOISING, DECODING],
        }
    }
}

impl MemoryPlan {
    /// The most bytes in use on `device` at once, and the stage at which that is.
    pub fn peak(&self, device: DeviceKind) -> (u64, &'static str) {
        let here = || self.stages.iter().filter(|stage| stage.device == device);
        // A part may serve more than one stage.
        let parts: BTreeMap<&str, u64> = here()
            .flat_map(|stage| &stage.parts)
            .map(|part| (part.part, part.bytes))
            .collect();
        let staying: u64 = parts.values().sum();
        let uses = here().map(|stage| match self.stays {
            true => (staying + stage.work, stage.name),
            false => (stage.total(), stage.name),
        });
        uses.max_by_key(|(bytes, _)| *bytes)
            .unwrap_or((0, "nothing"))
    }

    /// Where what does `task` lies, and how its floating-point weights are held.
    pub fn target(&self, duty: PanelTask) -> (DeviceKind, Precision) {
        let stage = self.stages.iter().find(|s| duty.stages().contains(&s.name));
        let part = stage.and_then(|stage| stage.parts.last());
        part.map_or((DeviceKind::Cpu, Precision::F32), |part| {
            (part.device, part.precision)
        })
    }
}

/// Plans a panel on `device` with at most `limit` bytes there. What does not fit on a GPU goes to
/// the CPU; what does not fit there in f32 is held in f16.
///
/// # Errors
/// When `device` is the CPU and a stage does not fit.
pub fn plan(
    report: &WeightsReport,
    device: DeviceKind,
    limit: Option<u64>,
) -> Result<MemoryPlan, MemoryPlanError> {
    let fits = |stage: &PlannedStep| limit.is_none_or(|limit| stage.total() <= limit);
    let (usual, other) = match device {
        DeviceKind::Cpu => (Precision::F32, (DeviceKind::Cpu, Precision::F16)),
        DeviceKind::Cuda | DeviceKind::Metal => (Precision::F16, (DeviceKind::Cpu, Precision::F32)),
    };
    let mut stages = Vec::new();
    for task in PanelTask::ALL {
        let first = of_task(report, task, device, usual);
        stages.extend(match first.iter().all(fits) {
            true => first,
            false => of_task(report, task, other.0, other.1),
        });
    }
    let mut plan = MemoryPlan {
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
        Some(stage) => Err(MemoryPlanError::TooLarge {
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

const SEEING: &str = "reading pictures";
const WRITING: &str = "writing text";
const DENOISING: &str = "denoising";
const DECODING: &str = "decoding";
/// The language model's tables and adapters, and the mapper, none of which is quantised.
const BESIDE: &str = "tables, LoRA, mapper";

/// The stages of a task with its weights held as `precision` on `device`. Everything is computed
/// in f32: weights of half the width are widened one by one.
fn of_task(
    report: &WeightsReport,
    task: PanelTask,
    device: DeviceKind,
    precision: Precision,
) -> Vec<PlannedStep> {
    let facts = &report.facts;
    let stage = |name, parts: &[&'static str], numbers: u64| {
        let place = |&part: &&'static str| placement(part, device, precision, report.size(part).0);
        let largest = parts.iter().map(|part| report.largest(part)).max();
        let widened = match precision {
            Precision::F16 => largest.unwrap_or(0),
            Precision::F32 | Precision::Quantised => 0,
        };
        PlannedStep {
            name,
            device,
            parts: parts.iter().map(place).collect(),
            work: (numbers + widened) * WIDE,
        }
    };
    match task {
        PanelTask::See => vec![stage(SEEING, &[EVA, QFORMER, PROJECTION], facts.seeing)],
        PanelTask::Write => vec![writing(report, device, precision)],
        PanelTask::Draw => vec![
            stage(DENOISING, &[UNET, VAE], {
                let tokens = (facts.latents * facts.latents) as u64;
                denoising(&facts.unet_channels, facts.unet_heads, tokens, device)
            }),
            stage(DECODING, &[UNET, VAE], {
                let side = (facts.latents.min(TILE) * facts.vae_scale) as u64;
                decoding(facts.vae_channels, side * side)
            }),
        ],
    }
}

/// Bytes of a number in f32.
const WIDE: u64 = 4;

fn placement(
    part: &'static str,
    device: DeviceKind,
    precision: Precision,
    numbers: u64,
) -> Placement {
    let width = match precision {
        Precision::F16 => WIDE / 2,
        Precision::F32 | Precision::Quantised => WIDE,
    };
    Placement {
        part,
        device,
        precision,
        bytes: numbers * width,
    }
}

fn writing(report: &WeightsReport, device: DeviceKind, precision: Precision) -> PlannedStep {
    let facts = &report.facts;
    let (numbers, stored) = report.size(LLAMA);
    // Products with quantised matrices are made on the CPU.
    let (device, precision) = match facts.gguf {
        true => (DeviceKind::Cpu, Precision::F32),
        false => (device, precision),
    };
    let language_model = match facts.gguf {
        true => Placement {
            part: LLAMA,
            device,
            precision: Precision::Quantised,
            bytes: stored,
        },
        // Its own tables are not loaded: those that were trained take their place.
        false => {
            let numbers = numbers.saturating_sub(facts.base_tables);
            placement(LLAMA, device, precision, numbers)
        }
    };
    let cache = 2 * facts.layers * facts.kv_width * facts.context;
    let widened = match precision {
        // The output layer is the largest of its matrices.
        Precision::F16 => report.largest(LLAMA).max(facts.tables / 2),
        Precision::F32 | Precision::Quantised => 0,
    };
    let beside = facts.tables + facts.lora + facts.mapper;
    PlannedStep {
        name: WRITING,
        device,
        parts: vec![language_model, placement(BESIDE, device, precision, beside)],
        work: (cache as u64 + facts.mapping + widened) * WIDE,
    }
}

/// Numbers at once in a UNet whose levels have `channels` and whose finest one sees so many
/// `tokens`: the maps kept for its way up, the widest feed-forward layer, and on a GPU, where
/// attention is composed, the scores of its finest level three times. Both halves that guidance
/// needs at once.
pub fn denoising(channels: &[usize], heads: usize, tokens: u64, device: DeviceKind) -> u64 {
    let levels = channels.iter().enumerate();
    let kept: u64 = levels
        .map(|(i, &c)| 3 * c as u64 * (tokens >> (2 * i.min(31))))
        .sum();
    let finest = channels.first().copied().unwrap_or(0) as u64;
    let feed_forward = 12 * finest * tokens;
    let scores = match device {
        DeviceKind::Cpu => 0,
        DeviceKind::Cuda | DeviceKind::Metal => 3 * heads as u64 * tokens * tokens,
    };
    GUIDED * (kept + feed_forward + scores)
}

/// Numbers at once in the finest level of an autoencoder that decodes so many `pixels`: input,
/// output and what is between, the first of twice the `channels`.
pub fn decoding(channels: usize, pixels: u64) -> u64 {
    4 * channels as u64 * pixels
}

impl fmt::Display for MemoryPlan {
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
