//! How quick each kernel is at shapes of Stable Diffusion.

use super::device::Gpu;
use super::tensor::GpuTensor;
use super::work::Counts;
use crate::nn::{Array, ConvOptions, Mask, Params, Result, noise};
use candle_core::Device;
use std::time::Instant;

/// What so many runs of something took and did.
#[derive(Clone, Debug)]
pub struct Measured {
    /// What ran.
    pub name: String,
    /// Seconds of the median run.
    pub seconds: f64,
    /// What was done in a run.
    pub counts: Counts,
}

/// Measures `runs` runs of something that ends on the GPU, after one that is not counted.
///
/// # Errors
/// Whatever it fails with.
pub fn measure(
    gpu: &Gpu,
    name: &str,
    runs: usize,
    run: &dyn Fn() -> Result<()>,
) -> Result<Measured> {
    let mut seconds = Vec::with_capacity(runs);
    run()?;
    gpu.finish()?;
    gpu.restart_longest();
    let before = gpu.counts();
    for _ in 0..runs.max(1) {
        let start = Instant::now();
        run()?;
        gpu.finish()?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    Ok(Measured {
        name: name.to_owned(),
        seconds: seconds[seconds.len() / 2],
        counts: gpu.counts().since(&before, runs.max(1) as u64),
    })
}

/// Each kernel at shapes of Stable Diffusion 1.5's UNet for a picture of 512 pixels, `share` of
/// them a side.
///
/// # Errors
/// A GPU that is lost or short of memory.
pub fn kernels(gpu: &Gpu, share: usize, runs: usize) -> Result<Vec<Measured>> {
    let params = Params::random(1, &Device::Cpu).on(Some(gpu));
    let p = |name: &str| params.pp(name);
    let side = 64 / share.max(1);
    let draw = |shape: &[usize]| GpuTensor::upload(gpu, &noise(0, 0, shape, &Device::Cpu)?);
    let mut all = Vec::new();
    let mut time = |name: String, run: &dyn Fn() -> Result<()>| -> Result<()> {
        all.push(measure(gpu, &name, runs, run)?);
        Ok(())
    };
    let places = side * side;
    for (level, channels) in [(0, 320), (2, 1280)] {
        let side = side >> level;
        let x = draw(&[2, side, side, channels])?;
        let conv = p("conv").conv2d(channels, channels, 3, ConvOptions::same(3))?;
        let what = format!("convolution 3x3, {side}x{side}x{channels}, batch 2");
        time(what, &|| conv.forward(&x).map(drop))?;
        let norm = p("norm").group_norm(32, channels, 1e-5)?;
        let what = format!("group norm with SiLU, {side}x{side}x{channels}, batch 2");
        time(what, &|| norm.forward_silu(&x).map(drop))?;
    }
    let tokens = draw(&[2, places, 320])?;
    let widen = p("widen").linear(320, 2560, true)?;
    time(format!("product, {places}x320x2560, batch 2"), &|| {
        widen.forward(&tokens).map(drop)
    })?;
    let wide = widen.forward(&tokens)?;
    time(format!("GEGLU, {places}x2560, batch 2"), &|| {
        wide.geglu().map(drop)
    })?;
    let norm = p("layer").layer_norm(320, 1e-5)?;
    time(format!("layer norm, {places}x320, batch 2"), &|| {
        norm.forward(&tokens).map(drop)
    })?;
    time(
        format!("attention, {places} to {places}, 8 heads of 40, batch 2"),
        &|| {
            tokens
                .attention(&tokens, &tokens, (8, 8), &Mask::None)
                .map(drop)
        },
    )?;
    let text = draw(&[2, 77, 320])?;
    time(
        format!("attention, {places} to 77, 8 heads of 40, batch 2"),
        &|| {
            tokens
                .attention(&text, &text, (8, 8), &Mask::None)
                .map(drop)
        },
    )?;
    Ok(all)
}
