//! Stage `diffusion`: the text encoder and the UNet learn to draw scenes from their captions, in
//! the latents of a frozen autoencoder.
//!
//! v-prediction (arXiv 2202.00512) with min-SNR weights (arXiv 2303.09556), caption dropout for
//! classifier-free guidance (arXiv 2207.12598), more weight inside the subjects' boxes.

use super::autoencoder::{CropRenderer, averages, read_json, to_pictures, to_signed};
use super::course::{self, Course, Phase, Stage, StepLosses};
use super::optimizer::{AdamSettings, AdamW};
use super::shards::Shards;
use super::{Result, TrainError, log, write_whole};
use crate::diffusion::{
    CaptionTokenizer, ModelFolder, NoiseSchedule, Preview, Scheduler, SchedulerConfig,
    SchedulerKind, TextConfig, TextEncoder, Unet, UnetConfig, Vae,
};
use crate::nn::{NoiseSource, Params};
use crate::storyworld::{Scene, SceneOptions, Split, caption, roughen, vocabulary};
use candle_core::{DType, Device, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::Deserialize;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Settings of the stage (TOML). Paths are relative to the file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiffusionSettings {
    /// Folder with `unet/config.json`, `text_encoder/config.json`, `scheduler/scheduler_config.json`.
    pub model: PathBuf,
    /// Model folder whose `vae` is the trained autoencoder.
    pub autoencoder: PathBuf,
    /// A model folder to begin from: what has the same name and shape there is taken over.
    pub init: Option<PathBuf>,
    /// The text encoder stays as `init` has it, and with it all that was trained to write what it
    /// would.
    #[serde(default)]
    pub unet_only: bool,
    /// Seed of the initial weights and of everything drawn at random.
    pub seed: u64,
    /// Steps in all.
    pub steps: u64,
    /// Scenes a step.
    pub batch: usize,
    /// Learning rate after the warm-up.
    pub learning_rate: f64,
    /// Steps over which the learning rate rises to its value.
    pub warmup: u64,
    /// Share of the steps after which the learning rate falls.
    pub decay_from: f64,
    /// Pixels of the scenes the encoder sees.
    pub size: usize,
    /// Scenes drawn in all; each is met again with other captions, noise and timesteps.
    pub scenes: u64,
    /// Share of the scenes that show one, two and three subjects.
    pub subjects: [f64; 3],
    /// Share of the captions that are empty, for classifier-free guidance.
    pub caption_dropout: f64,
    /// Share of the captions that are told in rougher words.
    pub rough_captions: f64,
    /// Bound of min-SNR weighting (arXiv 2303.09556).
    pub min_snr_gamma: f64,
    /// Weight of latents inside a subject's box; 1 elsewhere.
    pub subject_weight: f32,
    /// Most tokens of a caption.
    pub tokens: usize,
    /// Steps between checkpoints.
    pub checkpoint_every: u64,
    /// Steps between grids of samples.
    pub grid_every: u64,
}

/// A scene met before: what its picture is in latents.
struct CachedScene {
    scene: Scene,
    latents: Vec<f32>,
}

/// Draws scenes by number and keeps their latents.
struct SceneLatents {
    painter: CropRenderer,
    vae: Vae,
    seen: HashMap<u64, CachedScene>,
    seed: u64,
    subjects: [f64; 3],
    /// Side and channels of the latents.
    side: usize,
    channels: usize,
    device: Device,
}

impl SceneLatents {
    fn scene(&self, index: u64) -> Scene {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(index);
        let total: f64 = self.subjects.iter().sum();
        let mut at = rng.random_range(0.0..total);
        let n = self
            .subjects
            .iter()
            .position(|share| {
                at -= share;
                at < 0.0
            })
            .map_or(1, |i| i + 1);
        Scene::random(
            &mut rng,
            &SceneOptions {
                subjects: n..=n,
                things: true,
                split: Split::Training,
            },
        )
    }

    /// Encodes those of `indices` that are new, in one batch.
    fn encode_new(&mut self, indices: &[u64]) -> Result<()> {
        let mut new: Vec<u64> = indices
            .iter()
            .copied()
            .filter(|i| !self.seen.contains_key(i))
            .collect();
        new.sort_unstable();
        new.dedup();
        if new.is_empty() {
            return Ok(());
        }
        let drawn: Vec<(Scene, Vec<f32>)> = new
            .par_iter()
            .map(|i| {
                let scene = self.scene(*i);
                let picture = to_signed(&self.painter.draw(&scene));
                (scene, picture)
            })
            .collect();
        let n = self.painter.size;
        let pixels: Vec<f32> = drawn.iter().flat_map(|(_, p)| p.iter().copied()).collect();
        let pixels = Tensor::from_vec(pixels, (new.len(), n, n, 3), &self.device)?;
        let latents = (self.vae.encode(&pixels)?.mean * self.vae.config().scaling_factor)?;
        for (i, (index, (scene, _))) in new.into_iter().zip(drawn).enumerate() {
            let latents = latents.get(i)?.flatten_all()?.to_vec1()?;
            self.seen.insert(index, CachedScene { scene, latents });
        }
        Ok(())
    }

    fn latents(&self, indices: &[u64]) -> Result<Tensor> {
        let v: Vec<f32> = indices
            .iter()
            .flat_map(|i| self.seen[i].latents.iter().copied())
            .collect();
        Ok(Tensor::from_vec(
            v,
            (indices.len(), self.side, self.side, self.channels),
            &self.device,
        )?)
    }

    /// `[B,side,side,channels]`: each sample's min-SNR weight, times more inside the boxes, the
    /// boxes' extra weight evened out over the batch.
    fn weights(&self, indices: &[u64], snr: &[f32], inside: f32) -> Result<Tensor> {
        let (n, scale) = (self.side, (self.painter.size / self.side) as u32);
        let mut all = Vec::with_capacity(indices.len() * n * n * self.channels);
        let mut sum = 0f32;
        for index in indices {
            let mut map = vec![1f32; n * n];
            for b in self.seen[index].scene.boxes(self.painter.size as u32) {
                let to = |v: u32| (v.div_ceil(scale) as usize).min(n);
                for y in (b.y / scale) as usize..to(b.y + b.height) {
                    for x in (b.x / scale) as usize..to(b.x + b.width) {
                        map[y * n + x] = inside;
                    }
                }
            }
            sum += map.iter().sum::<f32>();
            all.extend(
                map.into_iter()
                    .flat_map(|w| std::iter::repeat_n(w, self.channels)),
            );
        }
        let mean = sum / (indices.len() * n * n) as f32;
        let per = n * n * self.channels;
        for (chunk, s) in all.chunks_mut(per).zip(snr) {
            chunk.iter_mut().for_each(|w| *w *= s / mean);
        }
        Ok(Tensor::from_vec(
            all,
            (indices.len(), n, n, self.channels),
            &self.device,
        )?)
    }
}

/// The networks that learn.
pub(super) struct DiffusionNetworks {
    pub unet: Unet,
    pub text: TextEncoder,
    pub tokenizer: CaptionTokenizer,
    pub pooled: bool,
    pub device: Device,
}

impl DiffusionNetworks {
    /// UNet and text encoder as the configurations in the folder `model` say, for texts of this
    /// tokenizer: with the weights in `params`, which are those of the model folder `init` where
    /// names and shapes are the same.
    ///
    /// # Errors
    /// A file that is missing, damaged, or no configuration of ours.
    pub(super) fn begin(
        model: &Path,
        init: Option<&Path>,
        tokenizer: CaptionTokenizer,
        params: &Params,
    ) -> Result<Self> {
        let unet: UnetConfig = read_json(&model.join("unet/config.json"))?;
        let mut text: TextConfig = read_json(&model.join("text_encoder/config.json"))?;
        text.vocab_size = tokenizer.vocab_size();
        (text.bos_token_id, text.eos_token_id, text.pad_token_id) = tokenizer.special_ids();
        text.max_position_embeddings = tokenizer.length();
        let nets = Self {
            pooled: unet.class_embed_type.is_some(),
            unet: Unet::new(unet, params.pp("unet"))?,
            text: TextEncoder::new(text, params.pp("text_encoder"))?,
            tokenizer,
            device: params.device().clone(),
        };
        if let Some(init) = init {
            let folder = ModelFolder::new(init);
            super::adopt(&params.pp("unet"), &folder.unet_weights())?;
            super::adopt(&params.pp("text_encoder"), &folder.text_encoder_weights())?;
        }
        Ok(nets)
    }

    pub(super) fn ids(&self, captions: &[String]) -> Result<Tensor> {
        let ids: Vec<u32> = captions
            .iter()
            .flat_map(|c| self.tokenizer.encode(c))
            .collect();
        Ok(Tensor::from_vec(
            ids,
            (captions.len(), self.tokenizer.length()),
            &self.device,
        )?)
    }

    fn predict(&self, noisy: &Tensor, timesteps: &[usize], captions: &[String]) -> Result<Tensor> {
        let text = self.text.forward(&self.ids(captions)?)?;
        let t: Vec<f32> = timesteps.iter().map(|t| *t as f32).collect();
        let t = Tensor::from_vec(t, timesteps.len(), &self.device)?;
        Ok(self
            .unet
            .forward(noisy, &t, &text.states, self.pooled.then_some(&text.pooled))?)
    }
}

/// Captions of the sample grid: fixed held-out scenes.
fn grid_captions(seed: u64) -> Vec<String> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x9e37);
    (0..32)
        .map(|i| {
            let n = 1 + i / 16;
            let options = SceneOptions {
                subjects: n..=n,
                things: true,
                split: Split::HeldOut,
            };
            let scene = Scene::random(&mut rng, &options);
            caption(&scene, &mut rng)
        })
        .collect()
}

/// Draws the captions with guidance 2.5 in 20 DDIM steps.
fn sample(
    nets: &DiffusionNetworks,
    vae: &Vae,
    config: &SchedulerConfig,
    captions: &[String],
    shape: &[usize],
    seed: u64,
) -> Result<Tensor> {
    let guidance = 2.5;
    let mut scheduler = Scheduler::new(SchedulerKind::Ddim, config, 20)
        .map_err(|e| candle_core::Error::Msg(e.to_string()))?;
    let mut x =
        (NoiseSource::new(seed, 3).tensor(shape, &nets.device)? * scheduler.init_noise_sigma())?;
    let mut both = vec![String::new(); captions.len()];
    both.extend_from_slice(captions);
    for (i, t) in scheduler.timesteps().into_iter().enumerate() {
        let input = scheduler.scale_input(&x, i)?;
        let out = nets
            .predict(
                &Tensor::cat(&[&input, &input], 0)?,
                &vec![t as usize; both.len()],
                &both,
            )?
            .detach();
        let (free, conditional) = (
            out.narrow(0, 0, captions.len())?,
            out.narrow(0, captions.len(), captions.len())?,
        );
        let guided = (&free + ((conditional - &free)? * guidance)?)?;
        x = scheduler.step(&guided, i, &x, None)?;
    }
    Ok(vae.decode(&(x / vae.config().scaling_factor)?)?)
}

/// Runs the stage to its last step.
pub fn train(config: &Path, run: &Path, resume: bool) -> Result<()> {
    let s: DiffusionSettings = super::read_config(config)?;
    let base = config.parent().unwrap_or(Path::new("."));
    let model = base.join(&s.model);
    let scheduler_config: SchedulerConfig =
        read_json(&model.join("scheduler/scheduler_config.json"))?;
    let scheduler_config = scheduler_config.with_own_defaults();
    let device = super::device();
    let autoencoder = base.join(&s.autoencoder);
    let vae = ModelFolder::new(&autoencoder).read_vae(&device)?;
    if s.batch == 0
        || s.scenes == 0
        || !s.size.is_multiple_of(vae.config().encoder_scale())
        || s.subjects.iter().sum::<f64>() <= 0.0
    {
        return Err(TrainError::Config(
            config.to_owned(),
            "batch, scenes and subjects must be above 0 and size fit the autoencoder".into(),
        ));
    }
    if s.unet_only && s.init.is_none() {
        return Err(TrainError::Config(
            config.to_owned(),
            "unet_only needs init, whose text encoder stays".into(),
        ));
    }
    let init = s.init.as_ref().map(|init| base.join(init));
    let of_captions = CaptionTokenizer::from_words(&vocabulary(), s.tokens);
    let params = Params::init(s.seed, &device);
    let nets = DiffusionNetworks::begin(&model, init.as_deref(), of_captions, &params)?;
    let mut learnt = params.vars();
    learnt.retain(|(name, _)| !s.unet_only || name.starts_with("unet."));
    let mut opt = AdamW::new(learnt, AdamSettings::default())?;
    let schedule = NoiseSchedule::new(&scheduler_config)?;
    let side = s.size / vae.config().encoder_scale();
    let zoom = vae.config().decoder_scale() / vae.config().encoder_scale();
    let channels = vae.config().latent_channels;
    let mut stage = DiffusionTraining {
        scenes: SceneLatents {
            painter: CropRenderer::new(s.size, zoom),
            vae,
            seen: HashMap::new(),
            seed: s.seed,
            subjects: s.subjects,
            side,
            channels,
            device: device.clone(),
        },
        shards: Shards::new(s.batch, &device)?,
        captions: grid_captions(s.seed),
        settings: &s,
        scheduler: scheduler_config,
        autoencoder,
        run,
        params,
        nets,
        schedule,
    };
    let phase = Phase::cosine(s.learning_rate, s.warmup, s.steps, s.decay_from);
    let course = Course {
        sample_every: s.grid_every,
        ..Course::new(run, resume, phase, s.checkpoint_every, &["loss"])
    };
    course::run(&course, &mut opt, &mut stage)
}

/// What a run holds.
struct DiffusionTraining<'a> {
    settings: &'a DiffusionSettings,
    run: &'a Path,
    autoencoder: PathBuf,
    params: Params,
    nets: DiffusionNetworks,
    schedule: NoiseSchedule,
    scheduler: SchedulerConfig,
    scenes: SceneLatents,
    shards: Shards,
    /// Of the sample grid.
    captions: Vec<String>,
}

impl Stage for DiffusionTraining<'_> {
    fn begin(&mut self) -> Result<()> {
        copy_autoencoder(&self.autoencoder.join("vae"), self.run)?;
        let folder = ModelFolder::new(self.run);
        folder.write_tokenizer(&self.nets.tokenizer)?;
        folder.write_scheduler(&self.scheduler)?;
        folder.write_preview(&fit_preview(&mut self.scenes)?)?;
        Ok(folder.write_index(&self.scheduler)?)
    }

    fn step(&mut self, step: u64) -> Result<StepLosses> {
        let Self {
            settings: s,
            nets,
            schedule,
            scenes,
            ..
        } = self;
        let mut rng = ChaCha8Rng::seed_from_u64(s.seed ^ 0xd1ff);
        rng.set_stream(step);
        let indices: Vec<u64> = (0..s.batch)
            .map(|_| rng.random_range(0..s.scenes))
            .collect();
        scenes.encode_new(&indices)?;
        let captions: Vec<String> = indices
            .iter()
            .map(|i| match rng.random_bool(s.caption_dropout) {
                true => String::new(),
                false => {
                    let captions = caption(&scenes.seen[i].scene, &mut rng);
                    match rng.random_bool(s.rough_captions) {
                        true => roughen(&captions, &mut rng),
                        false => captions,
                    }
                }
            })
            .collect();
        let timesteps: Vec<usize> = (0..s.batch)
            .map(|_| rng.random_range(0..schedule.timesteps()))
            .collect();
        let x0 = scenes.latents(&indices)?;
        let noise = NoiseSource::new(s.seed ^ 0x5eed, step).tensor(x0.dims(), &nets.device)?;
        let noisy = schedule.add_noise(&x0, &noise, &timesteps)?;
        let target = schedule.target(&x0, &noise, &timesteps)?;
        let weights = scenes.weights(
            &indices,
            &schedule.min_snr_weights(&timesteps, s.min_snr_gamma),
            s.subject_weight,
        )?;
        let passes = self.shards.run(|part| {
            let cut = |t: &Tensor| t.narrow(0, part.start, part.len());
            let share = part.len() as f64 / s.batch as f64;
            let (times, captions) = (&timesteps[part.clone()], &captions[part.clone()]);
            let out = nets.predict(&cut(&noisy)?, times, captions)?;
            let loss = ((out - cut(&target)?)?.sqr()? * cut(&weights)?)?.mean_all()?;
            let loss = (loss * share)?;
            Ok((f64::from(loss.to_scalar::<f32>()?), loss.backward()?))
        })?;
        let (values, grads): (Vec<f64>, Vec<_>) = passes.into_iter().unzip();
        Ok(StepLosses {
            grads,
            losses: vec![values.iter().sum()],
            samples: s.batch,
        })
    }

    fn export(&mut self, opt: &AdamW) -> Result<()> {
        export(self.run, &self.nets, &self.params, opt)
    }

    fn sample(&mut self, opt: &AdamW, _: bool) -> Result<()> {
        let (scenes, captions) = (&self.scenes, &self.captions);
        let shape = [captions.len(), scenes.side, scenes.side, scenes.channels];
        let seed = self.settings.seed;
        let drawn = opt.with_averages(|| {
            sample(
                &self.nets,
                &scenes.vae,
                &self.scheduler,
                captions,
                &shape,
                seed,
            )
        })??;
        let step = opt.steps();
        log::write_grid(
            &self.run.join(format!("grid-{step:06}.png")),
            &to_pictures(&drawn)?,
            8,
        )?;
        write_whole(
            &self.run.join("grid-captions.txt"),
            captions.join("\n").as_bytes(),
        )
    }
}

/// Copies the frozen autoencoder beside what is learned, so that the run is a whole model folder.
pub(super) fn copy_autoencoder(from: &Path, run: &Path) -> Result<()> {
    for name in ["config.json", "diffusion_pytorch_model.safetensors"] {
        let path = from.join(name);
        let bytes = crate::files::read_whole(&path)
            .map_err(|e| TrainError::Autoencoder(from.to_owned(), e.into()))?;
        write_whole(&run.join("vae").join(name), &bytes)?;
    }
    Ok(())
}

/// Scenes the live preview's map is fitted on.
const PREVIEW_SCENES: u64 = 256;

/// Fits the map from latents to small pictures that shows a picture while it denoises.
fn fit_preview(scenes: &mut SceneLatents) -> Result<Preview> {
    let indices: Vec<u64> = (0..PREVIEW_SCENES).collect();
    for batch in indices.chunks(32) {
        scenes.encode_new(batch)?;
    }
    let n = scenes.painter.size;
    let pictures: Vec<f32> = indices
        .iter()
        .flat_map(|i| to_signed(&scenes.painter.draw(&scenes.seen[i].scene)))
        .collect();
    let pictures = Tensor::from_vec(pictures, (indices.len(), n, n, 3), &scenes.device)?;
    Ok(Preview::fit(&scenes.latents(&indices)?, &pictures)?)
}

/// Writes what is learned so far, moving averages in f16, into the model folder `run`.
pub(super) fn export(
    run: &Path,
    nets: &DiffusionNetworks,
    params: &Params,
    opt: &AdamW,
) -> Result<()> {
    let folder = ModelFolder::new(run);
    let part = |name: &str| averages(&params.pp(name), opt);
    folder.write_unet(nets.unet.config(), &part("unet")?, DType::F16)?;
    folder.write_text_encoder(nets.text.config(), &part("text_encoder")?, DType::F16)?;
    Ok(())
}
