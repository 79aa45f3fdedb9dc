//! Stages `align` and `story`: the two stages of MiniGPT-5 (arXiv 2310.02239, section 3.4) for a
//! model of our own, on one code path. The first teaches single pictures with their captions to
//! new parts alone; the second stories, with adapters in the language model.

use super::data::{DataKind, FrozenNetworks, StoryCache, StorySource};
use super::pass::{LanguageModelCache, VokenNetworks, pick};
use super::settings::{Trainable, TuneSettings};
use super::stage::{MAPPER, OF_WORDS, VokenStage};
use super::{stage_report, telling};
use crate::diffusion::{NoiseSchedule, TextToImageModel};
use crate::llm::float::GgufLlama;
use crate::nn::{Params, noise};
use crate::storyworld::library::CompositionRenderer;
use crate::train::autoencoder::averages;
use crate::train::course::{self, Course, Phase, StepLosses};
use crate::train::optimizer::{AdamSettings, AdamW};
use crate::train::shards::Shards;
use crate::train::{Result, TrainError, read_config};
use crate::voken::{FolderConfig, VokenFolder, VokenModel};
use candle_core::Tensor;
use std::path::Path;

/// Runs a stage to its last step. `data` are the author's own files in place of the storyworld.
///
/// # Errors
/// Settings, data or folders that can't be used, or a loss that is no longer a number.
pub fn train(
    stage: VokenStage,
    config: &Path,
    run: &Path,
    resume: bool,
    data: Option<&Path>,
) -> Result<()> {
    let s: TuneSettings = read_config(config)?;
    let base = config.parent().unwrap_or(Path::new("."));
    let bad = |why: &str| TrainError::Config(config.to_owned(), why.into());
    if s.batch == 0 || s.checkpoint_every == 0 || s.sample_every == 0 || s.context.sum() <= 0.0 {
        return Err(bad(
            "batch, checkpoint_every, sample_every and the shares of context must be above 0",
        ));
    }
    let share = |share: f64| (0.0..=1.0).contains(&share);
    if !share(s.loss.drop) || !share(s.loss.denoised) {
        return Err(bad("drop and denoised must be shares, from 0 to 1"));
    }
    if s.tasks.is_empty() {
        return Err(bad(
            "tasks must name at least one of picture, both, text, continue",
        ));
    }
    let source = StorySource::open(data, s.seed, s.data, s.stories)?;
    if source.is_empty() {
        return Err(bad("stories must be above 0"));
    }
    let device = crate::train::device();
    let file = GgufLlama::find(&base.join(&s.language_model))?;
    let mut llama = file.dequantised(file.tables(&device)?, &device)?;
    llama.freeze()?;
    let vision = VokenFolder::new(base.join(&s.vision));
    let width = llama.config().hidden_size;
    let diffusion = TextToImageModel::load(&base.join(&s.model), &device)?;
    let frozen = FrozenNetworks {
        renderer: CompositionRenderer::new(diffusion.picture_size().0),
        diffusion,
        tower: vision.read_tower(width, &device)?,
        tokenizer: file.tokenizer()?,
        device: device.clone(),
    };
    let folder = folder_config(&s, stage, base, &vision)?;
    let length = frozen.diffusion.tokenizer.length() + usize::from(folder.sizes.mapper.pooled);
    let unet = frozen.diffusion.unet.config();
    if folder.sizes.mapper.prompt_tokens != length
        || folder.sizes.mapper.d_model != unet.cross_attention_dim
    {
        return Err(bad(&format!(
            "the mapper must give {length} tokens (prompt_tokens) of width {} (d_model)",
            unet.cross_attention_dim
        )));
    }
    let params = Params::init(s.seed, &device);
    let model = VokenModel::own(llama, &folder, &params)?;
    match &s.init {
        Some(init) => {
            let init = VokenFolder::new(base.join(init));
            crate::train::adopt(&params, &init.model_file())?;
        }
        None => begin(
            &model,
            &params,
            s.seed,
            &described(&source, &frozen.diffusion)?,
        )?,
    }
    let mut learnt = params.vars();
    match s.learns {
        Trainable::All => {}
        Trainable::Mapper if s.init.is_none() => {
            return Err(bad("the mapper can only learn alone from init on"));
        }
        Trainable::Mapper => learnt.retain(|(name, _)| is_of_mapper(name)),
        Trainable::Words if s.data != DataKind::Library || folder.composition_head.is_none() => {
            return Err(bad(
                "words can only be learnt alone of data = \"library\" and with a stage_head",
            ));
        }
        Trainable::Words => learnt.retain(|(name, _)| name.starts_with(OF_WORDS)),
    }
    let mut opt = AdamW::new(
        learnt,
        AdamSettings {
            // A run has few steps, so its average must not reach far back.
            ema: 0.99,
            ..AdamSettings::default()
        },
    )?;
    let line_end = telling::line_end(&frozen.tokenizer)?;
    let nets = VokenNetworks {
        schedule: NoiseSchedule::new(&frozen.diffusion.scheduler)?,
        empty: frozen.diffusion.encode_text(&[""])?.joined()?,
        model,
        frozen,
        line_end,
        memory: LanguageModelCache::of(stage, s.learns),
        settings: s.clone(),
    };
    let mut learning = VokenTraining {
        out: VokenFolder::new(run.join("voken")),
        library: StoryCache::new(source),
        shards: Shards::new(s.batch, &device)?,
        stage,
        run,
        nets,
        params,
        vision,
        folder,
    };
    let phase = Phase::cosine(s.learning_rate, s.warmup, s.steps, s.decay_from);
    let course = Course {
        sample_every: s.sample_every,
        ..Course::new(run, resume, phase, s.checkpoint_every, VokenStage::LOSSES)
    };
    course::run(&course, &mut opt, &mut learning)
}

/// What a run holds.
struct VokenTraining<'a> {
    stage: VokenStage,
    run: &'a Path,
    nets: VokenNetworks,
    params: Params,
    library: StoryCache,
    shards: Shards,
    vision: VokenFolder,
    folder: FolderConfig,
    out: VokenFolder,
}

impl course::Stage for VokenTraining<'_> {
    const ALL_LEARN: bool = false;

    fn step(&mut self, step: u64) -> Result<StepLosses> {
        let (nets, batch) = (&self.nets, self.nets.settings.batch);
        let passes = match nets.settings.learns {
            Trainable::Words => self.shards.run(|part| nets.words_pass(step, part))?,
            Trainable::All | Trainable::Mapper => {
                let picks = pick(&mut self.library, nets, step)?;
                self.shards.run(|part| {
                    let share = part.len() as f64 / batch as f64;
                    nets.pass(&picks[part], share)
                })?
            }
        };
        let losses =
            (0..VokenStage::LOSSES.len()).map(|i| passes.iter().map(|p| p.losses[i]).sum::<f64>());
        Ok(StepLosses {
            losses: losses.collect(),
            grads: passes.into_iter().map(|p| p.grads).collect(),
            samples: batch,
        })
    }

    fn rate_factor(&self, name: &str) -> f64 {
        self.stage.rate_factor(name)
    }

    fn export(&mut self, opt: &AdamW) -> Result<()> {
        self.out.copy_vision(&self.vision)?;
        self.out.write_model(&averages(&self.params, opt)?)?;
        Ok(self.out.write_config(&self.folder)?)
    }

    fn sample(&mut self, opt: &AdamW, _: bool) -> Result<()> {
        let (nets, s) = (&self.nets, &self.nets.settings);
        if s.data == DataKind::Library {
            return opt.with_averages(|| stage_report::write(nets, self.run, opt.steps()))?;
        }
        let story =
            opt.with_averages(|| telling::samples(&nets.model, &nets.frozen, s.speaks, s.seed))??;
        telling::write(&story, self.run, opt.steps())
    }
}

/// Whether a parameter belongs to the mapper.
fn is_of_mapper(name: &str) -> bool {
    MAPPER.iter().any(|part| name.starts_with(part))
}

/// What the stage writes as `config.json`.
fn folder_config(
    s: &TuneSettings,
    stage: VokenStage,
    base: &Path,
    vision: &VokenFolder,
) -> Result<FolderConfig> {
    let mut config = match &s.init {
        Some(init) => VokenFolder::new(base.join(init)).read_config()?,
        None => {
            let mut config = vision.read_config()?;
            config.sizes.mapper = s.mapper.clone();
            // The folder may be a whole model's; only what it sees with is taken from there.
            config.adapted = false;
            config
        }
    };
    config.sizes.vision = vision.read_config()?.sizes.vision;
    if stage == VokenStage::Story && !config.adapted {
        config.adapted = true;
        config.sizes.lora = s.lora.clone();
    }
    config.speaks = s.speaks;
    config.composition_head = s.composition_head.or(config.composition_head);
    Ok(config)
}

/// What a new model begins from.
///
/// New tokens begin near the mean of the old ones, as in the reference; a little apart, so that
/// they can become different. The perceptron's biases begin as PyTorch's: from zeros, the zero
/// states of dropped conditions would stay exactly zero through every norm of the mapper's encoder,
/// each of which would then make their gradient hundreds of times larger. The mapper's last norm
/// begins with mean and spread of `wanted [N,T,D]`, what the text encoder makes of descriptions: a
/// small text encoder's features are far from unit variance, which the norm alone would take most
/// of a stage to find, with conditions meanwhile that no text ever gave the diffusion model.
fn begin(model: &VokenModel, params: &Params, seed: u64, wanted: &Tensor) -> Result<()> {
    let mean = model.llama.tables().embedding.table().mean_keepdim(0)?;
    let inputs = [mean.dim(1)?, model.mapper.config().d_model];
    let wanted = wanted.flatten_to(1)?;
    let middle = wanted.mean_keepdim(0)?;
    let spread = wanted.broadcast_sub(&middle)?.sqr()?.mean(0)?.sqrt()?;
    for (name, var) in params.vars() {
        let start = match name.as_str() {
            "embed_tokens.weight" => var.as_tensor().broadcast_add(&mean)?,
            "lm_head.weight" => var.as_tensor().broadcast_add(&mean.t()?)?,
            "fc.0.bias" | "fc.2.bias" => {
                let layer = usize::from(name == "fc.2.bias");
                let reach = (1.0 / (3 * inputs[layer]) as f64).sqrt();
                (noise(seed, layer as u64, var.dims(), var.device())? * reach)?
            }
            "llm_to_t2i_mapping.decoder.norm.weight" => spread.clone(),
            "llm_to_t2i_mapping.decoder.norm.bias" => middle.squeeze(0)?,
            _ => continue,
        };
        var.set(&start)?;
    }
    Ok(())
}

/// The text encoder's features of the first descriptions, `[N,T,D]`.
fn described(source: &StorySource, diffusion: &TextToImageModel) -> Result<Tensor> {
    const DESCRIPTIONS: usize = 256;
    let all: Vec<Tensor> = (0..source.len())
        .flat_map(|index| source.story(index))
        .filter(|panel| panel.picture.is_some())
        .take(DESCRIPTIONS)
        .map(|panel| Ok(diffusion.encode_text(&[&panel.description])?.joined()?))
        .collect::<Result<_>>()?;
    match all.is_empty() {
        // Nothing is drawn then, and the mapper does not learn.
        true => Ok(diffusion.encode_text(&[""])?.joined()?),
        false => Ok(Tensor::cat(&all, 0)?),
    }
}
