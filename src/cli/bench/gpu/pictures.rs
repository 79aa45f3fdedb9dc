//! Pictures that a GPU draws beside those of the processor.

use std::ops::ControlFlow;
use std::path::Path;

use candle_core::Device;
use image::RgbImage;
use serde_json::{Value, json};

use super::GpuBench;
use crate::diffusion::{DenoisingOptions, TextToImageModel};
use crate::nn::gpu::{Arithmetic, Gpu, GpuOptions};
use crate::storyworld::sheet;
use crate::weights::{self, ComputeDevices, Model};

/// Steps of a picture.
const STEPS: usize = 5;
/// A picture none of whose values is larger is black.
const BLACK: u8 = 8;

/// Compares so many pictures of a model with the processor's, with each arithmetic that it has;
/// prints a line each, and writes them to a `sheet_file` where one is wanted.
pub(super) fn compare(
    model: &Model,
    gpu: &Gpu,
    count: usize,
    sheet_file: Option<&Path>,
) -> anyhow::Result<Vec<Value>> {
    let wanted = drawn(model, &ComputeDevices::of(&Device::Cpu), count)?;
    let mut all = Vec::new();
    let mut columns = Vec::new();
    let (f16, matrices) = (gpu.info().f16, gpu.info().matrix_side.is_some());
    for (arithmetic, can) in [
        (Arithmetic::F32, true),
        (Arithmetic::F16, f16),
        (Arithmetic::Matrices, matrices),
    ] {
        let name = arithmetic.name();
        if !can {
            println!("{} does not compute in {name}", gpu.info().name);
            continue;
        }
        let options = GpuOptions {
            arithmetic: Some(arithmetic),
            ..GpuOptions::default()
        };
        let place = ComputeDevices {
            gpu: Some(Gpu::open(Some(gpu.info().index), options)?),
            ..ComputeDevices::of(&Device::Cpu)
        };
        let got = drawn(model, &place, count)?;
        let alike: Vec<f64> = got.iter().zip(&wanted).map(|(a, b)| psnr(a, b)).collect();
        let least = alike.iter().copied().fold(f64::INFINITY, f64::min);
        let mean = alike.iter().sum::<f64>() / alike.len().max(1) as f64;
        let dark = |picture: &&RgbImage| picture.as_raw().iter().all(|value| *value < BLACK);
        let black = got.iter().filter(dark).count();
        println!(
            "{count} pictures of {} in {name} beside the processor's: {least:.1} dB at least, {mean:.1} dB in the mean, {black} black",
            model.manifest.id
        );
        all.push(json!({
            "precision": name, "pictures": count, "least_psnr": least, "mean_psnr": mean,
            "black": black, "psnr": alike,
        }));
        columns.push((name, got));
    }
    if let Some(file) = sheet_file {
        columns.insert(0, ("processor", wanted));
        let mut cells = Vec::new();
        for at in 0..count {
            for (name, column) in &columns {
                cells.push((column[at].clone(), (*name).to_owned()));
            }
        }
        sheet::write_pictures(&cells, columns.len() as u32, file)?;
    }
    Ok(all)
}

/// Pictures of what the model knows, a seed each.
fn drawn(model: &Model, place: &ComputeDevices, count: usize) -> anyhow::Result<Vec<RgbImage>> {
    let diffusion = TextToImageModel::load_at(&model.dir, place)?;
    let draws = &model.manifest.draws;
    let how = DenoisingOptions {
        steps: STEPS,
        ..DenoisingOptions::default()
    };
    (0..count)
        .map(|seed| {
            let some = |words: &[String], by: usize| -> String {
                let at = (seed * by).checked_rem(words.len());
                at.map_or_else(String::new, |at| words[at].clone())
            };
            let prompt = format!("{} {}", some(&draws.characters, 1), some(&draws.places, 3));
            let picture = diffusion.sample(&prompt, "", seed as u64, how, &mut |_| {
                ControlFlow::Continue(())
            })?;
            let picture = picture.ok_or_else(|| anyhow::anyhow!("a picture was cancelled"))?;
            Ok(image::DynamicImage::ImageRgba8(picture).to_rgb8())
        })
        .collect()
}

/// Peak signal-to-noise ratio in dB; 40 is more than the eye tells apart.
fn psnr(a: &RgbImage, b: &RgbImage) -> f64 {
    let squares = a.as_raw().iter().zip(b.as_raw());
    let sum: f64 = squares
        .map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2))
        .sum();
    10.0 * (255.0f64.powi(2) / (sum / a.as_raw().len() as f64).max(1e-9)).log10()
}

/// The model that the bench was given.
pub(super) fn model_of(args: &GpuBench) -> anyhow::Result<Model> {
    let models = weights::models_dir(args.model.models.as_deref())?;
    let name = args.model.model.as_deref();
    Ok(weights::find(
        &models,
        name.unwrap_or(weights::STORYWORLD_MODEL),
    )?)
}
