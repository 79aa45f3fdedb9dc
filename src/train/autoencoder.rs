//! Stage `autoencoder`: crops of storyworld scenes through latents and back.
//!
//! Squared errors of pixels and of their differences to their neighbours, weighted inside the
//! subjects' boxes, a little L1 and a small KL term, as Stable Diffusion's first stage without its
//! adversarial part: flat art has no texture to invent. L1 alone never learns what is thin: a
//! raindrop or a star that may be in several places is best left out by it.

use super::course::{self, Course, Phase, Stage, StepLosses};
use super::optimizer::{AdamSettings, AdamW};
use super::shards::Shards;
use super::{Result, TrainError, log};
use crate::cause::Cause;
use crate::diffusion::{ModelFolder, Vae, VaeConfig};
use crate::nn::{NoiseSource, Params, mean_square};
use crate::storyworld::{Rect, Renderer, Scene, SceneOptions};
use candle_core::{DType, Device, Tensor, backprop::GradStore};
use image::RgbImage;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::Deserialize;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Settings of the stage (TOML).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AutoencoderSettings {
    /// The model's `config.json`, relative to this file.
    pub model: PathBuf,
    /// A model folder to begin from: what has the same name and shape there is taken over.
    pub init: Option<PathBuf>,
    /// Only the decoder learns: the latents stay those of `init`, and so does a diffusion model
    /// trained on them.
    #[serde(default)]
    pub decoder_only: bool,
    /// Weight of the squared distance between the latents, scaled to unit variance, and those of
    /// `init`: both halves learn, and a diffusion model trained on the old latents stays usable.
    #[serde(default)]
    pub keep_latents: f64,
    /// Seed of the initial weights and of everything drawn at random.
    pub seed: u64,
    /// Steps in all.
    pub steps: u64,
    /// Crops a step.
    pub batch: usize,
    /// Learning rate after the warm-up.
    pub learning_rate: f64,
    /// Steps over which the learning rate rises to its value.
    pub warmup: u64,
    /// Share of the steps after which the learning rate falls.
    pub decay_from: f64,
    /// Pixels of a scene and of the crop the encoder sees.
    pub size: usize,
    /// Pixels a side of the crop.
    pub crop: usize,
    /// Weight of the Kullback-Leibler divergence from unit Gaussians.
    pub kl: f64,
    /// Weight of pixels inside a subject's box; 1 elsewhere.
    pub subject_weight: f32,
    /// Steps between checkpoints.
    pub checkpoint_every: u64,
    /// Steps between grids of samples.
    pub grid_every: u64,
}

/// Shares of the loss: squared and absolute errors of pixels, squared errors of edges.
const L2: f64 = 8.0;
const L1: f64 = 0.3;
const EDGE: f64 = 2.5;
/// Scenes whose latents set the scaling factor.
const SCALE_SCENES: usize = 64;

/// A batch: crops for the encoder, what the decoder should draw, and each pixel's weight.
struct CropBatch {
    input: Tensor,
    target: Tensor,
    weight: Tensor,
}

/// Draws crops of scenes at the encoder's and the decoder's resolution.
pub(super) struct CropRenderer {
    small: Renderer,
    large: Renderer,
    pub(super) size: usize,
    /// Decoder pixels per encoder pixel.
    zoom: usize,
}

/// Bytes to -1..1.
pub(super) fn to_signed(rgb: &[u8]) -> Vec<f32> {
    rgb.iter().map(|v| f32::from(*v) / 127.5 - 1.0).collect()
}

/// `[B,H,W,3]` in -1..1 to pictures.
pub(super) fn to_pictures(t: &Tensor) -> Result<Vec<RgbImage>> {
    let (b, h, w, _) = t.dims4()?;
    let bytes = ((t.clamp(-1f64, 1f64)? + 1.0)? * 127.5)?
        .round()?
        .to_dtype(DType::U8)?;
    (0..b)
        .map(|i| {
            let v = bytes.get(i)?.flatten_all()?.to_vec1::<u8>()?;
            RgbImage::from_raw(w as u32, h as u32, v).ok_or_else(|| {
                candle_core::Error::Msg("a picture has no three channels".into()).into()
            })
        })
        .collect()
}

impl CropRenderer {
    pub(super) fn new(size: usize, zoom: usize) -> Self {
        Self {
            small: Renderer::new(size as u32),
            large: Renderer::new((size * zoom) as u32),
            size,
            zoom,
        }
    }

    pub(super) fn draw(&self, scene: &Scene) -> Vec<u8> {
        let mut rgb = vec![0; self.size * self.size * 3];
        self.small.draw(scene, &mut rgb);
        rgb
    }

    pub(super) fn draw_large(&self, scene: &Scene) -> Vec<u8> {
        let n = self.size * self.zoom;
        let mut rgb = vec![0; n * n * 3];
        self.large.draw(scene, &mut rgb);
        rgb
    }

    fn batch(&self, s: &AutoencoderSettings, step: u64, device: &Device) -> Result<CropBatch> {
        let (crop, out) = (s.crop, s.crop * self.zoom);
        let parts: Vec<_> = (0..s.batch)
            .into_par_iter()
            .map(|i| {
                let mut rng = ChaCha8Rng::seed_from_u64(s.seed);
                rng.set_stream(1 + step * s.batch as u64 + i as u64);
                let scene = Scene::random(&mut rng, &SceneOptions::default());
                let boxes = scene.boxes((self.size * self.zoom) as u32);
                let (x, y) = crop_corner(&mut rng, &boxes, self.size, crop, self.zoom);
                let (small, large) = (self.draw(&scene), self.draw_large(&scene));
                let input = cut(&small, self.size, x, y, crop);
                let target = cut(
                    &large,
                    self.size * self.zoom,
                    x * self.zoom,
                    y * self.zoom,
                    out,
                );
                let mut weight = vec![1f32; out * out * 3];
                for b in &boxes {
                    paint_box(
                        &mut weight,
                        out,
                        b,
                        x * self.zoom,
                        y * self.zoom,
                        s.subject_weight,
                    );
                }
                (to_signed(&input), to_signed(&target), weight)
            })
            .collect();
        let (mut input, mut target, mut weight) = (Vec::new(), Vec::new(), Vec::new());
        for (a, b, c) in parts {
            input.extend(a);
            target.extend(b);
            weight.extend(c);
        }
        let mean = weight.iter().sum::<f32>() / weight.len() as f32;
        weight.iter_mut().for_each(|w| *w /= mean);
        Ok(CropBatch {
            input: Tensor::from_vec(input, (s.batch, crop, crop, 3), device)?,
            target: Tensor::from_vec(target, (s.batch, out, out, 3), device)?,
            weight: Tensor::from_vec(weight, (s.batch, out, out, 3), device)?,
        })
    }
}

/// A crop's corner: mostly around a subject, sometimes anywhere; a multiple of 8 so that crops
/// meet the latents' grid as whole pictures do.
fn crop_corner(
    rng: &mut impl Rng,
    boxes: &[Rect],
    size: usize,
    crop: usize,
    zoom: usize,
) -> (usize, usize) {
    let most = size - crop;
    let snap = |v: i64| (v.clamp(0, most as i64) as usize / 8) * 8;
    if boxes.is_empty() || rng.random_bool(0.25) {
        return (
            snap(rng.random_range(0..=most as i64)),
            snap(rng.random_range(0..=most as i64)),
        );
    }
    let b = &boxes[rng.random_range(0..boxes.len())];
    let middle =
        |at: u32, len: u32| (i64::from(at) + i64::from(len) / 2) / zoom as i64 - crop as i64 / 2;
    let mut shake = || rng.random_range(-12..=12i64);
    (
        snap(middle(b.x, b.width) + shake()),
        snap(middle(b.y, b.height) + shake()),
    )
}

fn cut(rgb: &[u8], size: usize, x: usize, y: usize, crop: usize) -> Vec<u8> {
    (y..y + crop)
        .flat_map(|row| {
            rgb[(row * size + x) * 3..(row * size + x + crop) * 3]
                .iter()
                .copied()
        })
        .collect()
}

fn paint_box(weight: &mut [f32], out: usize, b: &Rect, x: usize, y: usize, value: f32) {
    let span = |at: u32, len: u32, from: usize| {
        let a = (at as usize).saturating_sub(from).min(out);
        let e = ((at + len) as usize).saturating_sub(from).min(out);
        a..e
    };
    for row in span(b.y, b.height, y) {
        for col in span(b.x, b.width, x) {
            weight[(row * out + col) * 3..][..3].fill(value);
        }
    }
}

/// Reads a diffusers `config.json`.
pub(super) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let bad = |why: Cause| TrainError::Config(path.to_owned(), why);
    let text = crate::files::read_text(path).map_err(|e| bad(e.into()))?;
    serde_json::from_str(&text).map_err(|e| bad(e.into()))
}

/// Squared differences of neighbours along axis 1 and 2.
fn edges(d: &Tensor) -> Result<Tensor> {
    let (_, h, w, _) = d.dims4()?;
    let dy = mean_square(&(d.narrow(1, 1, h - 1)? - d.narrow(1, 0, h - 1)?)?)?;
    let dx = mean_square(&(d.narrow(2, 1, w - 1)? - d.narrow(2, 0, w - 1)?)?)?;
    Ok((dx + dy)?)
}

/// Gradients and losses of one part of a batch, both times the part's share of it.
struct Pass {
    grads: GradStore,
    losses: [f64; 5],
}

fn pass(
    vae: &Vae,
    before: Option<&Vae>,
    b: &CropBatch,
    noise: &Tensor,
    part: std::ops::Range<usize>,
    s: &AutoencoderSettings,
) -> Result<Pass> {
    let share = part.len() as f64 / b.input.dim(0)? as f64;
    let cut = |t: &Tensor| t.narrow(0, part.start, part.len());
    let (b, noise) = (
        CropBatch {
            input: cut(&b.input)?,
            target: cut(&b.target)?,
            weight: cut(&b.weight)?,
        },
        cut(noise)?,
    );
    let mut moments = vae.encode(&b.input)?;
    if s.decoder_only {
        moments.mean = moments.mean.detach();
        moments.logvar = moments.logvar.detach();
    }
    let out = vae.decode(&moments.sample(&noise)?)?;
    let diff = (out - &b.target)?;
    let l1 = (diff.abs()? * &b.weight)?.mean_all()?;
    let l2 = (diff.sqr()? * &b.weight)?.mean_all()?;
    let edge = edges(&diff)?;
    let kl = ((moments.mean.sqr()? + moments.logvar.exp()?)? - &moments.logvar)?;
    let kl = ((kl - 1.0)? * 0.5)?.mean_all()?;
    let pixels = ((&l2 * L2)? + (&l1 * L1)?)?;
    let moved = match before {
        Some(before) => {
            let old = before.encode(&b.input)?.mean.detach();
            let by = ((&moments.mean - old)? * vae.config().scaling_factor)?;
            by.sqr()?.mean_all()?
        }
        None => kl.zeros_like()?,
    };
    let rest = ((&kl * s.kl)? + (&moved * s.keep_latents)?)?;
    let total = (((pixels + (&edge * EDGE)?)? + rest)? * share)?;
    let number = |t: &Tensor| t.to_scalar::<f32>().map(|v| f64::from(v) * share);
    Ok(Pass {
        losses: [
            number(&l2)?,
            number(&l1)?,
            number(&edge)?,
            number(&kl)?,
            number(&moved)?,
        ],
        grads: total.backward()?,
    })
}

/// Peak signal-to-noise ratio of two pictures in -1..1, in decibels.
pub fn psnr(a: &Tensor, b: &Tensor) -> Result<f64> {
    let mse = f64::from(
        (a.clamp(-1f64, 1f64)? - b)?
            .sqr()?
            .mean_all()?
            .to_scalar::<f32>()?,
    );
    Ok(10.0 * (4.0 / mse.max(1e-12)).log10())
}

/// Fixed scenes that no training step draws (another stream), as encoder input and target.
fn held_scenes(p: &CropRenderer, seed: u64, n: usize, device: &Device) -> Result<(Tensor, Tensor)> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let scenes: Vec<Scene> = (0..n)
        .map(|_| {
            Scene::random(
                &mut rng,
                &SceneOptions {
                    split: crate::storyworld::Split::HeldOut,
                    ..Default::default()
                },
            )
        })
        .collect();
    let (s, l) = (p.size, p.size * p.zoom);
    let small: Vec<f32> = scenes.iter().flat_map(|x| to_signed(&p.draw(x))).collect();
    let large: Vec<f32> = scenes
        .iter()
        .flat_map(|x| to_signed(&p.draw_large(x)))
        .collect();
    Ok((
        Tensor::from_vec(small, (n, s, s, 3), device)?,
        Tensor::from_vec(large, (n, l, l, 3), device)?,
    ))
}

/// Writes the moving average as a diffusers folder, with the scaling factor its latents need.
fn export(
    run: &Path,
    vae: &Vae,
    opt: &AdamW,
    params: &Params,
    held: &Tensor,
    same_scale: bool,
) -> Result<()> {
    if same_scale {
        let weights = averages(params, opt)?;
        return Ok(ModelFolder::new(run).write_vae(vae.config(), &weights, DType::F16)?);
    }
    let latents = opt.with_averages(|| vae.encode(held).map(|m| m.mean))??;
    let std = f64::from(
        latents
            .broadcast_sub(&latents.mean_all()?)?
            .sqr()?
            .mean_all()?
            .to_scalar::<f32>()?,
    )
    .sqrt();
    let mut config = vae.config().clone();
    config.scaling_factor = 1.0 / std.max(1e-6);
    ModelFolder::new(run).write_vae(&config, &averages(params, opt)?, DType::F16)?;
    Ok(())
}

/// The moving averages of `params` (the values of those that don't learn), in the file layout.
pub(super) fn averages(params: &Params, opt: &AdamW) -> Result<HashMap<String, Tensor>> {
    let learnt: HashMap<&str, Tensor> = opt
        .vars()
        .iter()
        .map(|(name, _)| name.as_str())
        .zip(opt.averages()?)
        .collect();
    let all: Vec<Tensor> = params
        .vars()
        .iter()
        .map(|(name, var)| {
            learnt
                .get(name.as_str())
                .map_or_else(|| var.as_tensor().clone(), Tensor::clone)
        })
        .collect();
    Ok(params.to_file_layout(Some(&all))?)
}

/// Runs the stage to its last step.
pub fn train(config: &Path, run: &Path, resume: bool) -> Result<()> {
    let s: AutoencoderSettings = super::read_config(config)?;
    let model = config.parent().unwrap_or(Path::new(".")).join(&s.model);
    let mut vae_config: VaeConfig = read_json(&model)?;
    let zoom = vae_config.decoder_scale() / vae_config.encoder_scale();
    let same_latents = s.decoder_only || s.keep_latents > 0.0;
    if s.crop == 0
        || s.crop > s.size
        || !s.crop.is_multiple_of(vae_config.encoder_scale())
        || s.batch == 0
        || same_latents && s.init.is_none()
    {
        let why = format!(
            "crop must be a multiple of {} within size, batch at least 1, and decoder_only and keep_latents need init",
            vae_config.encoder_scale()
        );
        return Err(TrainError::Config(config.to_owned(), why.into()));
    }
    let device = super::device();
    let params = Params::init(s.seed, &device);
    let init = s.init.as_ref().map(|init| {
        let base = config.parent().unwrap_or(Path::new("."));
        ModelFolder::new(base.join(init))
    });
    let before = match &init {
        Some(folder) if same_latents => Some(folder.read_vae(&device)?),
        _ => None,
    };
    if let Some(before) = &before {
        vae_config.scaling_factor = before.config().scaling_factor;
    }
    let old = before.filter(|_| s.keep_latents > 0.0);
    let vae = Vae::new(vae_config, params.clone())?;
    if let Some(folder) = &init {
        super::adopt(&params, &folder.vae_weights())?;
    }
    let mut vars = params.vars();
    if s.decoder_only {
        vars.retain(|(name, _)| !name.starts_with("encoder.") && !name.starts_with("quant_conv."));
    }
    let mut opt = AdamW::new(vars, AdamSettings::default())?;
    let painter = CropRenderer::new(s.size, zoom);
    let side = s.crop / vae.config().encoder_scale();
    let mut stage = AutoencoderTraining {
        held: held_scenes(&painter, s.seed, SCALE_SCENES, &device)?,
        shards: Shards::new(s.batch, &device)?,
        shape: [s.batch, side, side, vae.config().latent_channels],
        settings: &s,
        before: old,
        same_latents,
        device,
        run,
        painter,
        params,
        vae,
    };
    let phase = Phase::cosine(s.learning_rate, s.warmup, s.steps, s.decay_from);
    let course = Course {
        sample_every: s.grid_every,
        ..Course::new(
            run,
            resume,
            phase,
            s.checkpoint_every,
            &["l2", "l1", "edge", "kl", "moved"],
        )
    };
    course::run(&course, &mut opt, &mut stage)
}

/// What a run holds.
struct AutoencoderTraining<'a> {
    settings: &'a AutoencoderSettings,
    run: &'a Path,
    params: Params,
    vae: Vae,
    /// What the latents should stay near to.
    before: Option<Vae>,
    same_latents: bool,
    painter: CropRenderer,
    /// Scenes that no step draws, as encoder input and target.
    held: (Tensor, Tensor),
    /// Of the latents of a batch.
    shape: [usize; 4],
    shards: Shards,
    device: Device,
}

impl Stage for AutoencoderTraining<'_> {
    fn step(&mut self, step: u64) -> Result<StepLosses> {
        let s = self.settings;
        let batch = self.painter.batch(s, step, &self.device)?;
        let noise = NoiseSource::new(s.seed ^ 0x5eed, step).tensor(&self.shape, &self.device)?;
        let (vae, before) = (&self.vae, self.before.as_ref());
        let passes = self
            .shards
            .run(|part| pass(vae, before, &batch, &noise, part, s))?;
        let losses = (0..5).map(|i| passes.iter().map(|p| p.losses[i]).sum::<f64>());
        Ok(StepLosses {
            losses: losses.collect(),
            grads: passes.into_iter().map(|p| p.grads).collect(),
            samples: s.batch,
        })
    }

    fn export(&mut self, opt: &AdamW) -> Result<()> {
        let same = self.same_latents;
        export(self.run, &self.vae, opt, &self.params, &self.held.0, same)
    }

    fn sample(&mut self, opt: &AdamW, _: bool) -> Result<()> {
        let n = 8;
        let (small, large) = (self.held.0.narrow(0, 0, n)?, self.held.1.narrow(0, 0, n)?);
        let drawn = opt.with_averages(|| self.vae.decode(&self.vae.encode(&small)?.mean))??;
        let step = opt.steps();
        eprintln!(
            "step {step}: held-out scenes at {} px, {:.2} dB",
            large.dim(1)?,
            psnr(&drawn, &large)?
        );
        let mut grid = to_pictures(&large)?;
        grid.extend(to_pictures(&drawn)?);
        log::write_grid(&self.run.join(format!("grid-{step:06}.png")), &grid, n)
    }
}
