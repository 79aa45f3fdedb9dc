//! Stages `align` and `story`: the two stages of MiniGPT-5 (arXiv 2310.02239, section 3.4) for a
//! model of our own, on one code path. The first teaches single pictures with their captions to
//! new parts alone; the second stories, with adapters in the language model.

use super::data::{Frozen, Kind, Library, MetPanel, MetPicture, Source};
use super::loss::{Denoiser, Draws, LossWeights, caption_loss, denoising_loss, word_loss};
use super::loss::{drop_rows, replace_rows};
use super::pack::{Context, Pack, PanelIds, Plan, ReadContext, Task};
use super::remembered::{Key, Remembered};
use super::stage::Stage;
use super::telling;
use crate::diffusion::{Diffusion, Moments, NoiseSchedule, TextFeatures};
use crate::llm::float::{GgufLlama, LoraConfig};
use crate::nn::{Params, noise};
use crate::storyworld::Renderer;
use crate::train::autoencoder::averages;
use crate::train::optimizer::{AdamSettings, AdamW, learning_rate};
use crate::train::shards::Shards;
use crate::train::{Result, TrainError, checkpoint, log, read_config};
use crate::voken::{FolderConfig, MapperConfig, Speaks, VokenFolder, VokenModel};
use candle_core::{Tensor, backprop::GradStore};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Shares of the stories that are learnt with what in context.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Contexts {
    /// Texts and pictures.
    pub full: f64,
    pub texts: f64,
    pub pictures: f64,
    /// Each panel alone.
    pub none: f64,
}

impl Default for Contexts {
    fn default() -> Self {
        Self {
            full: 1.0,
            texts: 0.0,
            pictures: 0.0,
            none: 0.0,
        }
    }
}

impl Contexts {
    fn sum(&self) -> f64 {
        self.full + self.texts + self.pictures + self.none
    }

    fn draw(&self, rng: &mut ChaCha8Rng) -> Context {
        let mut at = rng.random_range(0.0..self.sum());
        let kinds = [
            (self.full, true, true),
            (self.texts, true, false),
            (self.pictures, false, true),
        ];
        for (share, texts, pictures) in kinds {
            at -= share;
            if at < 0.0 {
                return Context { texts, pictures };
            }
        }
        Context {
            texts: false,
            pictures: false,
        }
    }
}

/// Settings of both stages (TOML). Paths are relative to the file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TuneSettings {
    /// Folder of the diffusion model, which is not changed.
    pub model: PathBuf,
    /// Folder of the language model's GGUF.
    pub language_model: PathBuf,
    /// Voken folder that it sees with (written by stage `see`).
    pub vision: PathBuf,
    /// Voken folder that it begins from (written by stage `align`).
    pub init: Option<PathBuf>,
    pub seed: u64,
    pub steps: u64,
    /// Stories (or pairs) of a step.
    pub batch: usize,
    pub learning_rate: f64,
    pub warmup: u64,
    /// Share of the steps after which the learning rate falls.
    pub decay_from: f64,
    /// Stories (or pairs) that are drawn from the storyworld in all.
    pub stories: usize,
    #[serde(default)]
    pub data: Kind,
    /// What is learnt of each panel; all are, so they come in equal shares.
    pub tasks: Vec<Task>,
    #[serde(default)]
    pub context: Contexts,
    #[serde(default)]
    pub loss: LossWeights,
    #[serde(default)]
    pub speaks: Speaks,
    /// Sizes of the mapper where nothing is begun from.
    #[serde(default)]
    pub mapper: MapperConfig,
    #[serde(default)]
    pub lora: LoraConfig,
    pub checkpoint_every: u64,
    pub sample_every: u64,
}

/// Stories that were met are kept: this is what a step learns from one.
struct Pick {
    index: usize,
    story: Arc<Vec<MetPanel>>,
    context: Context,
    rng: ChaCha8Rng,
}

/// What learns and what it learns with.
struct Nets {
    model: VokenModel,
    frozen: Frozen,
    schedule: NoiseSchedule,
    /// The text encoder's features of nothing, `[1,T+1,D]`.
    empty: Tensor,
    line_end: u32,
    /// Contexts that were read, where no step changes what the language model makes of them.
    remembered: Option<Remembered>,
    settings: TuneSettings,
}

/// Gradients and losses of a part of a batch, both times the part's share of it: text, image,
/// caption.
struct Pass {
    grads: GradStore,
    losses: [f64; 3],
}

impl Nets {
    fn pass(&self, picks: &[Pick], share: f64) -> Result<Pass> {
        let s = &self.settings;
        let mut pack = Pack::default();
        for pick in picks {
            self.add(pick, &mut pack);
        }
        pack.finish();
        let panels: Vec<Option<&MetPicture>> = picks
            .iter()
            .flat_map(|pick| pick.story.iter().map(|panel| panel.met.as_ref()))
            .collect();
        let context = match &self.remembered {
            Some(remembered) => self.recall(remembered, picks)?,
            None => pack.read_context(&self.model.llama, self.seen(&panels)?.as_ref())?,
        };
        let hidden = pack.read(&self.model.llama, context)?.squeeze(0)?;
        let mut losses = [0.0; 3];
        let mut total = hidden.zeros_like()?.detach().sum_all()?;
        let mut add = |at: usize, loss: Tensor, weight: f64| -> Result<()> {
            losses[at] = share * f64::from(loss.to_scalar::<f32>()?);
            total = (&total + (loss * (weight * share))?)?;
            Ok(())
        };
        if s.loss.text > 0.0 && !pack.labels.is_empty() {
            let (places, wanted): (Vec<u32>, Vec<u32>) = pack.labels.iter().copied().unzip();
            let places = Tensor::from_vec(places, wanted.len(), hidden.device())?;
            let states = hidden.index_select(&places, 0)?;
            add(
                0,
                word_loss(&self.model.llama, &states, wanted)?,
                s.loss.text,
            )?;
        }
        if !pack.pictures.is_empty() && (s.loss.image > 0.0 || s.loss.caption > 0.0) {
            let learnt = self.pictures(&pack, &hidden, &panels, picks)?;
            for (at, (loss, weight)) in learnt.into_iter().enumerate() {
                if let Some(loss) = loss {
                    add(1 + at, loss, weight)?;
                }
            }
        }
        Ok(Pass {
            grads: total.backward()?,
            losses,
        })
    }

    fn add(&self, pick: &Pick, pack: &mut Pack) {
        let panels: Vec<PanelIds> = pick
            .story
            .iter()
            .map(|panel| PanelIds {
                text: &panel.text,
                pictured: panel.met.is_some(),
                description: &panel.description,
            })
            .collect();
        let plan = Plan {
            tasks: &self.settings.tasks,
            context: pick.context,
            speaks: self.settings.speaks,
            queries: self.frozen.tower.config().qformer.num_query_tokens,
            line_end: self.line_end,
            vocabulary: self.model.vocabulary,
        };
        pack.story(&panels, &plan);
    }

    /// The contexts of a frozen language model.
    fn recall(&self, remembered: &Remembered, picks: &[Pick]) -> Result<ReadContext> {
        let stories: Vec<(Key, &Pick)> = picks
            .iter()
            .map(|pick| ((pick.index, pick.context), pick))
            .collect();
        remembered.contexts(&stories, |pick| {
            let mut pack = Pack::default();
            self.add(pick, &mut pack);
            let panels: Vec<Option<&MetPicture>> =
                pick.story.iter().map(|panel| panel.met.as_ref()).collect();
            Ok(pack.read_context(&self.model.llama, self.seen(&panels)?.as_ref())?)
        })
    }

    /// Losses of the pictures that the pack asks for, with their weights: image, caption.
    fn pictures(
        &self,
        pack: &Pack,
        hidden: &Tensor,
        panels: &[Option<&MetPicture>],
        picks: &[Pick],
    ) -> Result<[(Option<Tensor>, f64); 2]> {
        let weights = &self.settings.loss;
        let device = hidden.device();
        let asked = &pack.pictures;
        let vokens = self.model.vocabulary.vokens as usize;
        let places: Vec<u32> = asked.iter().flat_map(|a| a.states.clone()).collect();
        let places = Tensor::from_vec(places, asked.len() * vokens, device)?;
        let states =
            hidden
                .index_select(&places, 0)?
                .reshape((asked.len(), vokens, hidden.dim(1)?))?;
        // Only panels with pictures are asked for.
        let wanted: Vec<&MetPicture> = asked.iter().filter_map(|a| panels[a.panel]).collect();
        let cat = |of: &dyn Fn(&MetPicture) -> Tensor| {
            let all: Vec<Tensor> = wanted.iter().map(|met| of(met)).collect();
            Tensor::cat(&all, 0)
        };
        let targets = Moments {
            mean: cat(&|met| met.moments.mean.clone())?,
            logvar: cat(&|met| met.moments.logvar.clone())?,
        };
        let draws = self.draws(asked.len(), &targets, picks)?;
        let condition = self
            .model
            .mapper
            .forward(&drop_rows(&states, &draws.drop)?)?;
        let pooled = self.model.mapper.config().pooled;
        let image = match weights.image > 0.0 {
            false => None,
            true => {
                let features = match pooled {
                    true => TextFeatures::of_states_and_pooled(&condition)?,
                    false => TextFeatures::of_states(condition.clone())?,
                };
                let denoiser = Denoiser {
                    unet: &self.frozen.diffusion.unet,
                    schedule: &self.schedule,
                    scaling_factor: self.frozen.diffusion.vae.config().scaling_factor,
                    empty_caption: &self.empty,
                };
                Some(denoising_loss(
                    &denoiser, &features, &targets, &draws, weights,
                )?)
            }
        };
        let caption = match weights.caption > 0.0 {
            false => None,
            true => {
                let features = cat(&|met| met.features.clone())?;
                let features = replace_rows(&features, &draws.drop, &self.empty)?;
                let tokens = condition.dim(1)?;
                Some(caption_loss(&condition, &features.narrow(1, 0, tokens)?)?)
            }
        };
        Ok([(image, weights.image), (caption, weights.caption)])
    }

    /// One story's draws follow from its own generator, however a batch is shared out.
    fn draws(&self, count: usize, targets: &Moments, picks: &[Pick]) -> Result<Draws> {
        let (_, h, w, c) = targets.mean.dims4()?;
        let mut all: Vec<Draws> = Vec::with_capacity(picks.len());
        for pick in picks {
            let pictures = self.asks(&pick.story);
            if pictures > 0 {
                all.push(Draws::new(
                    pictures,
                    [h, w, c],
                    &self.settings.loss,
                    self.schedule.timesteps(),
                    &mut pick.rng.clone(),
                    &self.frozen.device,
                )?);
            }
        }
        let cat =
            |of: fn(&Draws) -> &Tensor| Tensor::cat(&all.iter().map(of).collect::<Vec<_>>(), 0);
        let draws = Draws {
            drop: all.iter().flat_map(|d| d.drop.clone()).collect(),
            posterior: cat(|d| &d.posterior)?,
            noise: cat(|d| &d.noise)?,
            timesteps: all.iter().flat_map(|d| d.timesteps.clone()).collect(),
            denoised: all.iter().flat_map(|d| d.denoised.clone()).collect(),
        };
        debug_assert_eq!(draws.drop.len(), count);
        Ok(draws)
    }

    /// Pictures of a story that are asked for.
    fn asks(&self, story: &[MetPanel]) -> usize {
        let asked = |panel: &&MetPanel| panel.met.is_some() && !panel.text.is_empty();
        story.iter().filter(asked).count()
    }

    /// `[panels,queries,width]`; zeros, which nothing reads, where there is no picture.
    fn seen(&self, panels: &[Option<&MetPicture>]) -> Result<Option<Tensor>> {
        let Some(some) = panels.iter().flatten().next() else {
            return Ok(None);
        };
        let nothing = some.seen.zeros_like()?;
        let rows: Vec<&Tensor> = panels
            .iter()
            .map(|met| met.map_or(&nothing, |met| &met.seen))
            .collect();
        Ok(Some(Tensor::cat(&rows, 0)?))
    }
}

/// Runs a stage to its last step. `data` are the author's own files in place of the storyworld.
///
/// # Errors
/// Settings, data or folders that can't be used, or a loss that is no longer a number.
pub fn train(
    stage: Stage,
    config: &Path,
    run: &Path,
    resume: bool,
    data: Option<&Path>,
) -> Result<()> {
    let s: TuneSettings = read_config(config)?;
    let base = config.parent().unwrap_or(Path::new("."));
    let bad = |why: &str| TrainError::Config(config.to_owned(), why.to_owned());
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
    let source = Source::open(data, s.seed, s.data, s.stories)?;
    if source.is_empty() {
        return Err(bad("stories must be above 0"));
    }
    let device = crate::train::device()?;
    let file = GgufLlama::find(&base.join(&s.language_model))?;
    let mut llama = file.dequantised(file.tables(&device)?, &device)?;
    llama.freeze()?;
    let vision = VokenFolder::new(base.join(&s.vision));
    let width = llama.config().hidden_size;
    let diffusion = Diffusion::load(&base.join(&s.model), &device)?;
    let frozen = Frozen {
        renderer: Renderer::new(diffusion.picture_size().0),
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
    let model = VokenModel::own(llama, &folder.sizes, folder.adapted, &params)?;
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
    let mut opt = AdamW::new(
        params.vars(),
        AdamSettings {
            // A run has few steps, so its average must not reach far back.
            ema: 0.99,
            ..AdamSettings::default()
        },
    )?;
    checkpoint::open(run, resume, &mut opt)?;
    let line_end = telling::line_end(&frozen.tokenizer)?;
    let nets = Nets {
        schedule: NoiseSchedule::new(&frozen.diffusion.scheduler)?,
        empty: frozen.diffusion.encode_text(&[""])?.joined()?,
        model,
        frozen,
        line_end,
        remembered: (stage == Stage::Align).then(Remembered::default),
        settings: s.clone(),
    };
    let out = VokenFolder::new(run.join("voken"));
    let mut library = Library::new(source);
    let mut losses = log::LossLog::open(run, &["text", "image", "caption", "grad"])?;
    let bar = log::progress(opt.steps(), s.steps);
    let shards = Shards::new(s.batch, &device)?;
    while opt.steps() < s.steps {
        let step = opt.steps();
        let picks = pick(&mut library, &nets, step)?;
        let passes = shards.run(|part| {
            let share = part.len() as f64 / s.batch as f64;
            nets.pass(&picks[part], share)
        })?;
        let [text, image, caption] =
            [0, 1, 2].map(|i| passes.iter().map(|p| p.losses[i]).sum::<f64>());
        if !(text + image + caption).is_finite() {
            return Err(TrainError::Diverged(step));
        }
        let grads: Vec<GradStore> = passes.into_iter().map(|p| p.grads).collect();
        let rate = learning_rate(s.learning_rate, step, s.warmup, s.steps, s.decay_from);
        let norm = opt.step_each(&grads, |name| rate * stage.rate_factor(name))?;
        losses.add(&[text, image, caption, norm]);
        bar.inc(1);
        let step = opt.steps();
        let last = step == s.steps;
        if step % 25 == 0 || last {
            bar.suspend(|| losses.flush(step, s.steps, s.batch))?;
        }
        if step % s.checkpoint_every == 0 || last {
            checkpoint::save(run, &opt)?;
            out.copy_vision(&vision)?;
            out.write_model(&averages(&params, &opt)?)?;
            out.write_config(&folder)?;
            log::write_curves(run)?;
        }
        if step % s.sample_every == 0 || last {
            let told = opt.with_averages(|| {
                telling::samples(&nets.model, &nets.frozen, s.speaks, s.seed)
            })??;
            telling::write(&told, run, step)?;
        }
    }
    bar.finish();
    Ok(())
}

/// What the stage writes as `config.json`.
fn folder_config(
    s: &TuneSettings,
    stage: Stage,
    base: &Path,
    vision: &VokenFolder,
) -> Result<FolderConfig> {
    let mut config = match &s.init {
        Some(init) => VokenFolder::new(base.join(init)).read_config()?,
        None => {
            let mut config = vision.read_config()?;
            config.sizes.mapper = s.mapper.clone();
            config
        }
    };
    config.sizes.vision = vision.read_config()?.sizes.vision;
    if stage == Stage::Story && !config.adapted {
        config.adapted = true;
        config.sizes.lora = s.lora.clone();
    }
    config.speaks = s.speaks;
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
fn described(source: &Source, diffusion: &Diffusion) -> Result<Tensor> {
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

/// The stories of a step.
fn pick(library: &mut Library, nets: &Nets, step: u64) -> Result<Vec<Pick>> {
    let s = &nets.settings;
    (0..s.batch as u64)
        .map(|i| {
            let mut rng = ChaCha8Rng::seed_from_u64(s.seed ^ 0x701d);
            rng.set_stream(step * s.batch as u64 + i);
            let index = rng.random_range(0..library.source.len());
            Ok(Pick {
                index,
                story: library.story(index, &nets.frozen)?,
                context: s.context.draw(&mut rng),
                rng,
            })
        })
        .collect()
}
