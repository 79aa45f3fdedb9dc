//! Stage `references`: the UNet learns to draw whatever its references show.
//!
//! Scenes show one to four drawings of the library. The UNet sees each as a picture and where it
//! is to stand, the text encoder reads place, time and weather. Everything else is as in stage
//! `diffusion`: v-prediction (arXiv 2202.00512) with min-SNR weights (arXiv 2303.09556), more
//! weight inside the subjects' boxes, words and references left out for classifier-free guidance
//! (arXiv 2207.12598).

mod samples;
mod scenes;
#[cfg(test)]
mod tests;

use super::autoencoder::read_json;
use super::course::{self, Course, Phase, Stage, StepLosses};
use super::diffusion::{DiffusionNetworks, copy_autoencoder, export};
use super::optimizer::{AdamSettings, AdamW};
use super::shards::Shards;
use super::{Result, TrainError};
use crate::diffusion::{
    CaptionTokenizer, Conditioning, ModelFolder, NoiseSchedule, Preview, ReferenceLatents,
    SchedulerConfig, UnetConfig,
};
use crate::nn::{NoiseSource, Params};
use crate::storyworld::library::{MAX_FIGURES, vocabulary};
use candle_core::Tensor;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use samples::Samples;
use scenes::Scenes;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// Settings of the stage (TOML). Paths are relative to the file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReferenceSettings {
    /// Folder with `unet/config.json`, `text_encoder/config.json`, `scheduler/scheduler_config.json`.
    pub model: PathBuf,
    /// Model folder whose `vae` is the trained autoencoder.
    pub autoencoder: PathBuf,
    /// A model folder to begin from: what has the same name and shape there is taken over.
    pub init: Option<PathBuf>,
    /// All that is random follows from it.
    pub seed: u64,
    /// Steps of the whole run.
    pub steps: u64,
    /// Samples of a step.
    pub batch: usize,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// Steps in which the learning rate rises.
    pub warmup: u64,
    /// Share of the steps after which the learning rate falls.
    pub decay_from: f64,
    /// Pixels of the scenes the encoder sees: 16 for each latent.
    pub size: usize,
    /// Scenes drawn in all, of each number of figures as many as its share; each is met again with
    /// other captions, noise and timesteps.
    pub scenes: u64,
    /// Share of the steps whose scenes show one, two, three and four figures.
    pub figures: [f64; MAX_FIGURES],
    /// Share of the figures whose hue is turned, in scene and reference alike.
    pub recoloured: f64,
    /// Share of the samples without words, without references, and without both.
    pub dropout: [f64; 3],
    /// Where the weights of min-SNR end.
    pub min_snr_gamma: f64,
    /// The least weight of a sample. min-SNR counts next to nothing where there is hardly any
    /// picture left, which is where place and weather are decided.
    #[serde(default)]
    pub least_weight: f32,
    /// Weight of latents inside a figure's box; 1 elsewhere.
    pub subject_weight: f32,
    /// Most tokens of a caption.
    pub tokens: usize,
    /// Steps between checkpoints.
    pub checkpoint_every: u64,
    /// Steps between sample grids.
    pub grid_every: u64,
}

impl DiffusionNetworks {
    /// The velocity of `noisy`, told in words and by references.
    fn predict_from_references(
        &self,
        noisy: &Tensor,
        timesteps: &[usize],
        captions: &[String],
        references: &ReferenceLatents,
    ) -> Result<Tensor> {
        let empty = self.conditioning(&[String::new()])?;
        let read = self
            .unet
            .read_references(references, captions.len(), &empty)?;
        let conditioning = Conditioning {
            references: Some(read),
            ..self.conditioning(captions)?
        };
        let t: Vec<f32> = timesteps.iter().map(|t| *t as f32).collect();
        let t = Tensor::from_vec(t, timesteps.len(), &self.device)?;
        Ok(self.unet.predict(noisy, &t, &conditioning)?)
    }

    /// Captions as the UNet is told them.
    fn conditioning(&self, captions: &[String]) -> Result<Conditioning> {
        let text = self.text.forward(&self.ids(captions)?)?;
        Ok(Conditioning {
            pooled: self.pooled.then_some(text.pooled),
            ..Conditioning::of_text(text.states)
        })
    }
}

/// What one step is made of, all drawn from its number.
struct Batch {
    scenes: Vec<scenes::Key>,
    captions: Vec<String>,
    timesteps: Vec<usize>,
    left_out: Vec<bool>,
}

impl Batch {
    fn draw(
        s: &ReferenceSettings,
        scenes: &mut Scenes,
        step: u64,
        timesteps: usize,
    ) -> Result<Self> {
        let mut rng = ChaCha8Rng::seed_from_u64(s.seed ^ 0xd1ff);
        rng.set_stream(step);
        let count = scenes.count(rng.random_range(0.0..1.0));
        let keys: Vec<_> = (0..s.batch)
            .map(|_| scenes.key(count, rng.random_range(0.0..1.0)))
            .collect();
        scenes.encode_new(&keys)?;
        let [words, references, both] = s.dropout;
        let mut batch = Self {
            timesteps: (0..s.batch)
                .map(|_| rng.random_range(0..timesteps))
                .collect(),
            captions: Vec::new(),
            left_out: Vec::new(),
            scenes: keys,
        };
        for key in &batch.scenes {
            let caption = scenes.seen(key).composition.setting.caption(&mut rng);
            let at = rng.random_range(0.0..1.0);
            let silent =
                at < words || (words + references..words + references + both).contains(&at);
            batch.captions.push(match silent {
                true => String::new(),
                false => caption,
            });
            let blind = (words..words + references + both).contains(&at);
            batch.left_out.push(blind);
        }
        Ok(batch)
    }
}

fn check(s: &ReferenceSettings, config: &Path, unet: &UnetConfig, scale: usize) -> Result<()> {
    let bad = |why: &str| Err(TrainError::Config(config.to_owned(), why.into()));
    let whole = |v: &[f64]| v.iter().all(|v| *v >= 0.0) && v.iter().sum::<f64>().is_finite();
    if s.batch == 0 || s.scenes == 0 || s.size == 0 || !s.size.is_multiple_of(128) {
        return bad("batch and scenes must be above 0, and size a multiple of 128");
    }
    if scale != 16 * s.size / 256 {
        return bad("the autoencoder must have 16x16 latents for a picture of that size");
    }
    if !whole(&s.figures) || s.figures.iter().sum::<f64>() <= 0.0 {
        return bad("figures must hold shares of 0 or more, not all of them 0");
    }
    if !whole(&s.dropout)
        || s.dropout.iter().sum::<f64>() > 1.0
        || !(0.0..=1.0).contains(&s.recoloured)
    {
        return bad("dropout and recoloured must be shares from 0 to 1");
    }
    if !unet.reference_attention {
        return bad("the UNet's config.json must say \"reference_attention\": true");
    }
    Ok(())
}

/// Runs the stage to its last step.
pub fn train(config: &Path, run: &Path, resume: bool) -> Result<()> {
    let s: ReferenceSettings = super::read_config(config)?;
    let base = config.parent().unwrap_or(Path::new("."));
    let model = base.join(&s.model);
    let unet_config: UnetConfig = read_json(&model.join("unet/config.json"))?;
    let scheduler: SchedulerConfig = read_json(&model.join("scheduler/scheduler_config.json"))?;
    let scheduler = scheduler.with_own_defaults();
    let device = super::device();
    let autoencoder = base.join(&s.autoencoder);
    let vae = ModelFolder::new(&autoencoder).read_vae(&device)?;
    check(&s, config, &unet_config, vae.config().encoder_scale())?;
    let init = s.init.as_ref().map(|init| base.join(init));
    let of_captions = CaptionTokenizer::from_words(&vocabulary(), s.tokens);
    let params = Params::init(s.seed, &device);
    let nets = DiffusionNetworks::begin(&model, init.as_deref(), of_captions, &params)?;
    let mut opt = AdamW::new(params.vars(), AdamSettings::default())?;
    let schedule = NoiseSchedule::new(&scheduler)?;
    let channels = vae.config().latent_channels;
    let preview = ModelFolder::new(&autoencoder).read_preview(channels)?;
    let mut stage = ReferenceTraining {
        scenes: Scenes::new(&s, vae, &device),
        shards: Shards::new(s.batch, &device)?,
        settings: &s,
        autoencoder,
        run,
        params,
        nets,
        schedule,
        scheduler,
        preview,
    };
    let phase = Phase::cosine(s.learning_rate, s.warmup, s.steps, s.decay_from);
    let course = Course {
        sample_every: s.grid_every,
        ..Course::new(run, resume, phase, s.checkpoint_every, &["loss"])
    };
    course::run(&course, &mut opt, &mut stage)
}

/// What a run holds.
struct ReferenceTraining<'a> {
    settings: &'a ReferenceSettings,
    run: &'a Path,
    autoencoder: PathBuf,
    params: Params,
    nets: DiffusionNetworks,
    schedule: NoiseSchedule,
    scheduler: SchedulerConfig,
    preview: Preview,
    scenes: Scenes,
    shards: Shards,
}

impl Stage for ReferenceTraining<'_> {
    fn begin(&mut self) -> Result<()> {
        copy_autoencoder(&self.autoencoder.join("vae"), self.run)?;
        let folder = ModelFolder::new(self.run);
        folder.write_tokenizer(&self.nets.tokenizer)?;
        folder.write_scheduler(&self.scheduler)?;
        folder.write_preview(&self.preview)?;
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
        let batch = Batch::draw(s, scenes, step, schedule.timesteps())?;
        let x0 = scenes.latents(&batch.scenes)?;
        let noise = NoiseSource::new(s.seed ^ 0x5eed, step).tensor(x0.dims(), &nets.device)?;
        let noisy = schedule.add_noise(&x0, &noise, &batch.timesteps)?;
        let target = schedule.target(&x0, &noise, &batch.timesteps)?;
        let mut snr = schedule.min_snr_weights(&batch.timesteps, s.min_snr_gamma);
        for weight in &mut snr {
            *weight = weight.max(s.least_weight);
        }
        let weights = scenes.weights(&batch.scenes, &snr, s.subject_weight)?;
        let passes = self.shards.run(|part| {
            let cut = |t: &Tensor| t.narrow(0, part.start, part.len());
            let share = part.len() as f64 / s.batch as f64;
            let references =
                scenes.references(&batch.scenes[part.clone()], &batch.left_out[part.clone()])?;
            let out = nets.predict_from_references(
                &cut(&noisy)?,
                &batch.timesteps[part.clone()],
                &batch.captions[part.clone()],
                &references,
            )?;
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

    fn sample(&mut self, opt: &AdamW, last: bool) -> Result<()> {
        let (scenes, seed) = (&mut self.scenes, self.settings.seed);
        let samples =
            opt.with_averages(|| Samples::draw(&self.nets, scenes, &self.scheduler, seed, last))??;
        let step = opt.steps();
        let path = self.run.join(format!("grid-{step:06}.png"));
        samples.write(&self.scenes, &path)?;
        samples.report(&self.scenes, step)
    }
}
