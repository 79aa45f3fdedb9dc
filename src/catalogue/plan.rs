//! How much memory an added model takes at most, foretold from the sizes in its header.

use std::path::Path;

use candle_core::Device;

use super::CatalogueError;
use crate::diffusion::{
    BESIDE_UNET, DiffusionError, Dit, StableDiffusion, StableDiffusionOptions, counted,
};
use crate::llm::{CacheType, memory_of_gguf};
use crate::published::{
    MemoryPlan, Placement, PlannedStep, Precision, decoding, denoising, format_bytes,
};
use crate::vision::ProjectorFacts;
use crate::weights::{DeviceKind, FileEntry, Model, WeightsKind};

/// What the program itself takes: code, tokenizers, buffers of threads.
const PROGRAM: u64 = 120_000_000;

/// Plans `model` on `device` with at most `limit` bytes there, for pictures of `size` (those that
/// it was trained for, where none is given).
///
/// # Errors
/// When the model cannot be read, is of a kind that needs no plan, or takes more than `limit`.
pub fn plan(
    model: &Model,
    device: DeviceKind,
    limit: Option<u64>,
    size: Option<(u32, u32)>,
) -> Result<MemoryPlan, CatalogueError> {
    let path = model.source.path().unwrap_or(Path::new(""));
    let identity = model.manifest.identity.as_ref();
    let stages = match identity.map(|identity| identity.is) {
        Some(WeightsKind::Model) if model.manifest.pipeline == super::add::TRANSFORMER => {
            transformer(model, device, size)?
        }
        Some(WeightsKind::Model) => {
            let whole = identity.and_then(|identity| identity.precision.as_deref()) == Some("f32");
            let held = if whole {
                Precision::F32
            } else {
                Precision::F16
            };
            pictures(path, device, size, held)?
        }
        Some(WeightsKind::LanguageModel) => words(path, model.manifest.projector.as_ref())?,
        // Ours are small.
        None => {
            return Err(CatalogueError::Request(format!(
                "no memory is planned for model {}, which was not added with `vokenboard models add`; name one that was",
                model.manifest.id
            )));
        }
        _ => {
            return Err(CatalogueError::Request(format!(
                "model {} is a {}, for which no memory is planned; name one that draws or writes",
                model.manifest.id, model.manifest.pipeline
            )));
        }
    };
    let plan = MemoryPlan {
        device,
        limit,
        stages,
        stays: false,
    };
    let (peak, stage) = plan.peak(device);
    match limit {
        Some(limit) if peak > limit => Err(CatalogueError::Request(format!(
            "{} takes {} while {stage}, more than the {} there are; choose smaller pictures, a model with smaller weights, or a machine with more memory",
            model.manifest.id,
            crate::published::format_bytes(peak),
            crate::published::format_bytes(limit)
        ))),
        _ => Ok(plan),
    }
}

/// What a step and the decoding of a picture of a model do on a GPU through wgpu and hold there, in
/// lines for people; none for a model that does not draw by steps there.
///
/// # Errors
/// When the model cannot be read, or can't draw pictures of that size.
pub fn plan_on_gpu(
    model: &Model,
    size: Option<(u32, u32)>,
) -> Result<Option<String>, CatalogueError> {
    let identity = model.manifest.identity.as_ref();
    let draws = identity.is_some_and(|identity| identity.is == WeightsKind::Model)
        && model.manifest.pipeline != super::add::TRANSFORMER;
    if !draws {
        return Ok(None);
    }
    let path = model.source.path().unwrap_or(Path::new(""));
    let opened = StableDiffusion::open(path, StableDiffusionOptions::on(&Device::Cpu))?;
    let half = identity.and_then(|identity| identity.precision.as_deref()) != Some("f32");
    let configs = (opened.unet_config(), opened.vae_config());
    let size = size.unwrap_or(opened.picture_size());
    let parts = counted(configs, size, half).map_err(DiffusionError::from)?;
    let bytes = format_bytes;
    let lines = parts.iter().map(|part| {
        let (all, counts) = (part.counts.most_held, part.counts);
        format!(
            "{}: {} at most ({} of weights, {} to work in); {} runs of kernels, {:.0} GFLOP, {} moved, {:.2} times the least; {} there and {} back",
            part.name,
            bytes(all),
            bytes(part.weights),
            bytes(all.saturating_sub(part.weights)),
            counts.dispatches,
            counts.flops as f64 / 1e9,
            bytes(counts.moved),
            counts.moved as f64 / counts.bytes.max(1) as f64,
            bytes(counts.uploaded),
            bytes(counts.downloaded),
        )
    });
    let lines: Vec<String> = lines.collect();
    Ok(Some(format!("on a GPU\n  {}", lines.join("\n  "))))
}

fn pictures(
    path: &Path,
    device: DeviceKind,
    size: Option<(u32, u32)>,
    held: Precision,
) -> Result<Vec<PlannedStep>, CatalogueError> {
    let opened = StableDiffusion::open(path, StableDiffusionOptions::on(&Device::Cpu))?;
    let (width, height) = size.unwrap_or(opened.picture_size());
    let pixels = u64::from(width) * u64::from(height);
    let (texts, unet, vae) = opened.weight_bytes();
    let (config, decoder) = (opened.unet_config(), opened.vae_config());
    let scale = decoder.decoder_scale() as u64;
    let heads = config.heads(0).unwrap_or(1);
    let channels = &config.block_out_channels;
    let work = denoising(channels, heads, pixels / (scale * scale), device);
    let fine = decoder.block_out_channels.first().copied().unwrap_or(0);
    let place = |part, bytes| Placement {
        part,
        device,
        precision: held,
        bytes,
    };
    let stage = |name, parts, numbers: u64| PlannedStep {
        name,
        device,
        parts,
        work: numbers * 4 + PROGRAM,
    };
    let beside = pixels <= BESIDE_UNET as u64;
    Ok(vec![
        stage("reading the prompt", vec![place("text encoders", texts)], 0),
        // From the second picture on the VAE is there as well.
        stage(
            "denoising",
            vec![place("UNet", unet), place("VAE", vae)],
            work,
        ),
        stage(
            "decoding",
            match beside {
                true => vec![place("UNet", unet), place("VAE", vae)],
                false => vec![place("VAE", vae)],
            },
            decoding(fine, pixels) + 3 * pixels,
        ),
    ])
}

/// A picture of FLUX.1 or Z-Image.
fn transformer(
    model: &Model,
    device: DeviceKind,
    size: Option<(u32, u32)>,
) -> Result<Vec<PlannedStep>, CatalogueError> {
    let path = model.source.path().unwrap_or(Path::new(""));
    let opened = Dit::open(path, &model.manifest.part_paths(), &Device::Cpu)?;
    let (width, height) = size.unwrap_or(opened.picture_size());
    let pixels = u64::from(width) * u64::from(height);
    let (texts, network, vae) = opened.weight_bytes();
    let identity = model.manifest.identity.as_ref();
    let precision = match identity.and_then(|identity| identity.precision.as_deref()) {
        Some("f32") => Precision::F32,
        Some("f16" | "bf16") => Precision::F16,
        _ => Precision::Quantised,
    };
    let whole = |whole| {
        if whole {
            Precision::F32
        } else {
            Precision::F16
        }
    };
    let place = |part, bytes| Placement {
        part,
        device,
        precision: match part {
            "VAE" => whole(opened.vae_is_f32()),
            "text encoder" => whole(precision == Precision::F32),
            _ => precision,
        },
        bytes,
    };
    let stage = |name, parts, numbers: u64| PlannedStep {
        name,
        device,
        parts,
        work: numbers * 4 + PROGRAM,
    };
    let fine = opened.vae_config().block_out_channels.first().copied();
    let beside = pixels <= BESIDE_UNET as u64;
    let mut last = vec![place("VAE", vae)];
    if beside {
        last.push(place("transformer", network));
    }
    let work = opened.step_numbers((width as usize, height as usize));
    Ok(vec![
        stage("reading the prompt", vec![place("text encoder", texts)], 0),
        // From the second picture on the VAE is there as well.
        stage(
            "denoising",
            vec![place("transformer", network), place("VAE", vae)],
            work,
        ),
        stage(
            "decoding",
            last,
            decoding(fine.unwrap_or(0), pixels) + 3 * pixels,
        ),
    ])
}

/// A story of as many tokens as the model is opened for, and, where it sees, a picture.
fn words(path: &Path, projector: Option<&FileEntry>) -> Result<Vec<PlannedStep>, CatalogueError> {
    let (options, memory) = memory_of_gguf(path)?;
    let kept = match options.cache {
        CacheType::Q8 => Precision::Quantised,
        CacheType::F16 | CacheType::F32 => Precision::F16,
    };
    let place = |part, precision, bytes| Placement {
        part,
        device: DeviceKind::Cpu,
        precision,
        bytes,
    };
    let mut stages = vec![PlannedStep {
        name: "writing text",
        device: DeviceKind::Cpu,
        parts: vec![
            place("language model", Precision::Quantised, memory.weights),
            place("keys and values", kept, memory.cache),
        ],
        work: memory.buffers + PROGRAM,
    }];
    if let Some(projector) = projector {
        let facts = ProjectorFacts::read(Path::new(&projector.path))?;
        // From the first picture on its weights stay.
        let eyes = place("vision projector", Precision::F16, facts.weight_bytes());
        stages[0].parts.push(eyes);
        stages.push(PlannedStep {
            name: "looking at a picture",
            work: facts.work_bytes() + memory.buffers + PROGRAM,
            ..stages[0].clone()
        });
    }
    Ok(stages)
}
