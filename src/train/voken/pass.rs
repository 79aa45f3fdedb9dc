//! What a step learns from its stories: forward, losses, backward.

use super::data::{
    EncodedPanel, EncodedPicture, FrozenNetworks, StoryCache, TrainingPanel, told_of_library,
    training_tale,
};
use super::loss::{Denoiser, LossNoise, caption_loss, composition_loss, denoising_loss, word_loss};
use super::loss::{drop_rows, replace_rows};
use super::mentions::mentions;
use super::pack::{ContextParts, ObjectivePlan, Pack, PanelIds, ReadContext};
use super::remembered::{BoundedCache, CacheKey};
use super::settings::{ContextShares, Trainable, TuneSettings};
use super::stage::VokenStage;
use crate::diffusion::{LatentDistribution, NoiseSchedule, TextFeatures};
use crate::train::Result;
use crate::voken::{CompositionHead, CompositionScores, VokenModel, embed_names};
use candle_core::{DType, Device, Tensor, backprop::GradStore};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::ops::Range;
use std::sync::Arc;

/// Stories of which the stage head reads the words alone, for each that is learnt: they cost next
/// to nothing, and the language model sees few.
const READ_BESIDES: usize = 16;

/// What a step learns from one story.
pub(super) struct StepStory {
    index: usize,
    story: Arc<Vec<EncodedPanel>>,
    context: ContextParts,
    rng: ChaCha8Rng,
}

impl StepStory {
    /// A story with all of its context, that no training step sees.
    pub(super) fn apart(index: usize, story: Vec<EncodedPanel>) -> Self {
        Self {
            index,
            story: Arc::new(story),
            context: ContextParts {
                texts: true,
                pictures: true,
            },
            rng: ChaCha8Rng::seed_from_u64(index as u64),
        }
    }

    fn key(&self) -> CacheKey {
        (self.index, self.context)
    }
}

/// Outputs of the language model that no step changes, computed once for each story.
pub(super) enum LanguageModelCache {
    None,
    Contexts(BoundedCache<ReadContext>),
    /// The states that its pictures are made from, `[pictures,vokens,width]`; none where it asks
    /// for none.
    States(BoundedCache<Option<Tensor>>),
}

impl LanguageModelCache {
    pub(super) fn of(stage: VokenStage, learns: Trainable) -> Self {
        match (stage, learns) {
            (_, Trainable::Mapper) => LanguageModelCache::States(BoundedCache::default()),
            (VokenStage::Align, Trainable::All) => {
                LanguageModelCache::Contexts(BoundedCache::default())
            }
            (VokenStage::Story, Trainable::All) | (_, Trainable::Words) => LanguageModelCache::None,
        }
    }
}

/// What learns and what it learns with.
pub(super) struct VokenNetworks {
    pub model: VokenModel,
    pub frozen: FrozenNetworks,
    pub schedule: NoiseSchedule,
    /// The text encoder's features of nothing, `[1,T+1,D]`.
    pub empty: Tensor,
    pub line_end: u32,
    pub memory: LanguageModelCache,
    pub settings: TuneSettings,
}

/// Gradients and losses of a part of a batch, both times the part's share of it: text, image,
/// caption, stage.
pub(super) struct GradientsAndLosses {
    pub grads: GradStore,
    pub losses: [f64; 4],
}

/// See [`VokenNetworks::look`].
pub(super) struct StoryReading {
    pub stage: Option<CompositionScores>,
    pub conditions: Tensor,
    pub words: f64,
}

impl VokenNetworks {
    pub(super) fn pass(&self, picks: &[StepStory], share: f64) -> Result<GradientsAndLosses> {
        let s = &self.settings;
        let mut pack = Pack::default();
        for pick in picks {
            self.add(pick, &mut pack);
        }
        pack.finish();
        let panels: Vec<Option<&EncodedPicture>> = picks
            .iter()
            .flat_map(|pick| pick.story.iter().map(|panel| panel.met.as_ref()))
            .collect();
        let mut losses = [0.0; 4];
        let mut total = Tensor::zeros((), DType::F32, &self.frozen.device)?;
        let mut add = |at: usize, loss: Tensor, weight: f64| -> Result<()> {
            losses[at] = share * f64::from(loss.to_scalar::<f32>()?);
            total = (&total + (loss * (weight * share))?)?;
            Ok(())
        };
        let states = match &self.memory {
            LanguageModelCache::States(known) => self.known_states(known, picks)?,
            _ => {
                let hidden = self.read(&pack, &panels, picks)?;
                if s.loss.text > 0.0 && !pack.labels.is_empty() {
                    let (places, wanted): (Vec<u32>, Vec<u32>) =
                        pack.labels.iter().copied().unzip();
                    let places = Tensor::from_vec(places, wanted.len(), hidden.device())?;
                    let states = hidden.index_select(&places, 0)?;
                    let loss = word_loss(&self.model.llama, &states, wanted)?;
                    add(0, loss, s.loss.text)?;
                }
                self.voken_states(&pack, &hidden)?
            }
        };
        if let Some(states) = &states
            && let Some(head) = &self.model.composition_head
            && let Some(loss) = self.stage(head, &pack, states, picks)?
        {
            add(3, loss, s.loss.stage)?;
        }
        if let Some(states) = states
            && (s.loss.image > 0.0 || s.loss.caption > 0.0)
        {
            let learnt = self.pictures(&pack, &states, &panels, picks)?;
            for (at, (loss, weight)) in learnt.into_iter().enumerate() {
                if let Some(loss) = loss {
                    add(1 + at, loss, weight)?;
                }
            }
        }
        Ok(GradientsAndLosses {
            grads: total.backward()?,
            losses,
        })
    }

    /// As [`VokenNetworks::pass`] of the stage head's part that reads words, for the stories at
    /// `part` of step `step`; others are told than those that [`pick`] gives.
    pub(super) fn words_pass(&self, step: u64, part: Range<usize>) -> Result<GradientsAndLosses> {
        let s = &self.settings;
        let share = part.len() as f64 / s.batch as f64;
        let Some(head) = &self.model.composition_head else {
            return Err(candle_core::Error::Msg("there is no stage head".into()).into());
        };
        let rngs = part.map(|at| rng_of(s, step, at));
        let loss = by_words(head, &s.context, rngs, &self.frozen.device)?;
        let lost = share * f64::from(loss.to_scalar::<f32>()?);
        Ok(GradientsAndLosses {
            grads: (loss * share)?.backward()?,
            losses: [0.0, 0.0, 0.0, lost],
        })
    }

    /// States of all places of the pack, `[places,width]`.
    fn read(
        &self,
        pack: &Pack,
        panels: &[Option<&EncodedPicture>],
        picks: &[StepStory],
    ) -> Result<Tensor> {
        let context = match &self.memory {
            LanguageModelCache::Contexts(known) => self.known_contexts(known, picks)?,
            _ => pack.read_context(&self.model.llama, self.seen(panels)?.as_ref())?,
        };
        Ok(pack.read(&self.model.llama, context)?.squeeze(0)?)
    }

    /// Of `hidden [places,width]`, the states that the pack's pictures are made from,
    /// `[pictures,vokens,width]`.
    fn voken_states(&self, pack: &Pack, hidden: &Tensor) -> Result<Option<Tensor>> {
        let asked = &pack.pictures;
        if asked.is_empty() {
            return Ok(None);
        }
        let vokens = self.model.vocabulary.vokens as usize;
        let places: Vec<u32> = asked.iter().flat_map(|a| a.states.clone()).collect();
        let places = Tensor::from_vec(places, asked.len() * vokens, hidden.device())?;
        let shape = (asked.len(), vokens, hidden.dim(1)?);
        Ok(Some(hidden.index_select(&places, 0)?.reshape(shape)?))
    }

    fn add(&self, pick: &StepStory, pack: &mut Pack) {
        let panels: Vec<PanelIds> = pick
            .story
            .iter()
            .map(|panel| PanelIds {
                text: &panel.text,
                pictured: panel.met.is_some(),
                description: &panel.description,
            })
            .collect();
        let plan = ObjectivePlan {
            tasks: &self.settings.tasks,
            context: pick.context,
            speaks: self.settings.speaks,
            queries: self.frozen.tower.config().qformer.num_query_tokens,
            line_end: self.line_end,
            vocabulary: self.model.vocabulary,
        };
        pack.story(&panels, &plan);
    }

    /// A story by itself, with its pictures.
    fn alone<'a>(&self, pick: &'a StepStory) -> (Pack, Vec<Option<&'a EncodedPicture>>) {
        let mut pack = Pack::default();
        self.add(pick, &mut pack);
        (pack, pick.story.iter().map(|p| p.met.as_ref()).collect())
    }

    /// The contexts of a frozen language model.
    fn known_contexts(
        &self,
        known: &BoundedCache<ReadContext>,
        picks: &[StepStory],
    ) -> Result<ReadContext> {
        let each = known.each(picks, StepStory::key, |pick| {
            let (pack, panels) = self.alone(pick);
            Ok(pack.read_context(&self.model.llama, self.seen(&panels)?.as_ref())?)
        })?;
        Ok(ReadContext::joined(&each)?)
    }

    /// The states of a frozen language model, `[pictures,vokens,width]`.
    fn known_states(
        &self,
        known: &BoundedCache<Option<Tensor>>,
        picks: &[StepStory],
    ) -> Result<Option<Tensor>> {
        let each = known.each(picks, StepStory::key, |pick| {
            let (mut pack, panels) = self.alone(pick);
            pack.finish();
            let hidden = self.read(&pack, &panels, std::slice::from_ref(pick))?;
            let states = self.voken_states(&pack, &hidden)?;
            Ok(states.map(|states| states.detach()))
        })?;
        let some: Vec<&Tensor> = each.iter().filter_map(|s| s.as_ref().as_ref()).collect();
        match some.is_empty() {
            true => Ok(None),
            false => Ok(Some(Tensor::cat(&some, 0)?)),
        }
    }

    /// Losses of the pictures that the pack asks for, made from `states`, with their weights: image, caption.
    fn pictures(
        &self,
        pack: &Pack,
        states: &Tensor,
        panels: &[Option<&EncodedPicture>],
        picks: &[StepStory],
    ) -> Result<[(Option<Tensor>, f64); 2]> {
        let weights = &self.settings.loss;
        let asked = &pack.pictures;
        // Only panels with pictures are asked for.
        let wanted: Vec<&EncodedPicture> = asked.iter().filter_map(|a| panels[a.panel]).collect();
        let cat = |of: &dyn Fn(&EncodedPicture) -> Tensor| {
            let all: Vec<Tensor> = wanted.iter().map(|met| of(met)).collect();
            Tensor::cat(&all, 0)
        };
        let draws = self.draws(picks)?;
        let condition = self
            .model
            .mapper
            .forward(&drop_rows(states, &draws.drop)?)?;
        let pooled = self.model.mapper.config().pooled;
        let image = match weights.image > 0.0 {
            false => None,
            true => {
                let targets = self.targets(&wanted, &draws.denoised)?;
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

    /// What is read of one story: who the stage head sees in each of its pictures and what the
    /// mapper makes of their vokens (`[pictures,T+1,D]`), and the mean cross entropy of its words.
    pub(super) fn look(&self, pick: &StepStory) -> Result<StoryReading> {
        let (mut pack, panels) = self.alone(pick);
        pack.finish();
        let context = pack.read_context(&self.model.llama, self.seen(&panels)?.as_ref())?;
        let hidden = pack.read(&self.model.llama, context)?.squeeze(0)?;
        let (places, wanted): (Vec<u32>, Vec<u32>) = pack.labels.iter().copied().unzip();
        let places = Tensor::from_vec(places, wanted.len(), hidden.device())?;
        let words = word_loss(&self.model.llama, &hidden.index_select(&places, 0)?, wanted)?;
        let Some(states) = self.voken_states(&pack, &hidden)? else {
            return Err(candle_core::Error::Msg("a story without pictures".into()).into());
        };
        let stage = match &self.model.composition_head {
            Some(head) => self.scores(head, &pack, &states, std::slice::from_ref(pick))?,
            None => None,
        };
        Ok(StoryReading {
            stage: stage.map(|(scores, _)| scores),
            conditions: self.model.mapper.forward(&states)?,
            words: f64::from(words.to_scalar::<f32>()?),
        })
    }

    /// What the stage head misses of who is in the pack's pictures, and of more stories by their
    /// words; `None` where nobody is named.
    fn stage(
        &self,
        head: &CompositionHead,
        pack: &Pack,
        states: &Tensor,
        picks: &[StepStory],
    ) -> Result<Option<Tensor>> {
        Ok(match self.scores(head, pack, states, picks)? {
            Some((scores, places)) => {
                let rngs = picks.iter().map(|pick| pick.rng.clone());
                let by_words = by_words(head, &self.settings.context, rngs, &self.frozen.device)?;
                Some((composition_loss(&scores, &places)? + by_words)?)
            }
            None => None,
        })
    }

    /// Scores of all who could be in the pack's pictures, and where they are in truth.
    fn scores(
        &self,
        head: &CompositionHead,
        pack: &Pack,
        states: &Tensor,
        picks: &[StepStory],
    ) -> Result<Option<(CompositionScores, Vec<Option<f32>>)>> {
        let panels = picks.iter().flat_map(|pick| {
            let panels = 0..pick.story.len();
            panels.map(move |at| (pick, at))
        });
        let panels: Vec<(&StepStory, usize)> = panels.collect();
        let (mut names, mut pictures, mut places) = (Vec::new(), Vec::new(), Vec::new());
        let mut features = Vec::new();
        for (picture, asked) in (0..).zip(&pack.pictures) {
            let (pick, at) = panels[asked.panel];
            let told: Vec<&TrainingPanel> = pick.story[..=at].iter().map(|p| &p.panel).collect();
            features.extend(mentions(&told, pick.context, &mut pick.rng.clone()));
            for (name, place) in &pick.story[at].stage {
                names.push(name.as_slice());
                pictures.push(picture);
                places.push(*place);
            }
        }
        if names.is_empty() {
            return Ok(None);
        }
        let names = embed_names(&names, |ids| self.model.llama.embed_ids(ids))?.detach();
        let scores = head.forward(states, &names, &pictures, &features)?;
        Ok(Some((scores, places)))
    }

    /// The autoencoder's distributions of those pictures that are `denoised`; zeros, which nothing
    /// reads, in the place of the others.
    fn targets(
        &self,
        pictures: &[&EncodedPicture],
        denoised: &[bool],
    ) -> Result<LatentDistribution> {
        let [h, w, c] = self.frozen.latents();
        let nothing = Tensor::zeros((1, h, w, c), DType::F32, &self.frozen.device)?;
        let mut all = [Vec::new(), Vec::new()];
        for (met, denoised) in pictures.iter().zip(denoised) {
            let both = match denoised {
                true => {
                    let moments = self.frozen.moments(met)?;
                    [moments.mean.clone(), moments.logvar.clone()]
                }
                false => [nothing.clone(), nothing.clone()],
            };
            all.iter_mut()
                .zip(both)
                .for_each(|(all, one)| all.push(one));
        }
        let [mean, logvar] = all.map(|all| Tensor::cat(&all, 0));
        Ok(LatentDistribution {
            mean: mean?,
            logvar: logvar?,
        })
    }

    /// One story's draws follow from its own generator, however a batch is shared out.
    fn draws(&self, picks: &[StepStory]) -> Result<LossNoise> {
        let mut all: Vec<LossNoise> = Vec::with_capacity(picks.len());
        for pick in picks {
            let pictures = self.asks(&pick.story);
            if pictures > 0 {
                all.push(LossNoise::new(
                    pictures,
                    self.frozen.latents(),
                    &self.settings.loss,
                    self.schedule.timesteps(),
                    &mut pick.rng.clone(),
                    &self.frozen.device,
                )?);
            }
        }
        let cat =
            |of: fn(&LossNoise) -> &Tensor| Tensor::cat(&all.iter().map(of).collect::<Vec<_>>(), 0);
        let draws = LossNoise {
            drop: all.iter().flat_map(|d| d.drop.clone()).collect(),
            posterior: cat(|d| &d.posterior)?,
            noise: cat(|d| &d.noise)?,
            timesteps: all.iter().flat_map(|d| d.timesteps.clone()).collect(),
            denoised: all.iter().flat_map(|d| d.denoised.clone()).collect(),
        };
        Ok(draws)
    }

    /// Pictures of a story that are asked for.
    fn asks(&self, story: &[EncodedPanel]) -> usize {
        let asked = |panel: &&EncodedPanel| panel.met.is_some() && !panel.text.is_empty();
        story.iter().filter(asked).count()
    }

    /// `[panels,queries,width]`; zeros, which nothing reads, where there is no picture.
    fn seen(&self, panels: &[Option<&EncodedPicture>]) -> Result<Option<Tensor>> {
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

/// What the stage head misses of who is in the pictures of [`READ_BESIDES`] stories of each of
/// `rngs`, of which it reads the words and whom the pictures show, alone, in shares of `context`.
fn by_words(
    head: &CompositionHead,
    context: &ContextShares,
    rngs: impl Iterator<Item = ChaCha8Rng>,
    device: &Device,
) -> Result<Tensor> {
    let (mut features, mut places) = (Vec::new(), Vec::new());
    for mut rng in rngs {
        for _ in 0..READ_BESIDES {
            let tale = training_tale(&mut rng);
            let panels = told_of_library(&tale, &mut rng);
            let told: Vec<&TrainingPanel> = panels.iter().collect();
            let context = context.draw(&mut rng);
            for at in 0..panels.len() {
                features.extend(mentions(&told[..=at], context, &mut rng));
                places.extend(panels[at].stage.iter().map(|who| who.place));
            }
        }
    }
    let scores = head.by_words(&features, device)?;
    Ok(composition_loss(&scores, &places)?)
}

/// The generator of the story at `at` of step `step`.
fn rng_of(s: &TuneSettings, step: u64, at: usize) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(s.seed ^ 0x701d);
    rng.set_stream(step * s.batch as u64 + at as u64);
    rng
}

/// The stories of a step.
pub(super) fn pick(
    library: &mut StoryCache,
    nets: &VokenNetworks,
    step: u64,
) -> Result<Vec<StepStory>> {
    let s = &nets.settings;
    (0..s.batch)
        .map(|at| {
            let mut rng = rng_of(s, step, at);
            let index = rng.random_range(0..library.source.len());
            Ok(StepStory {
                index,
                story: library.story(index, &nets.frozen)?,
                context: s.context.draw(&mut rng),
                rng,
            })
        })
        .collect()
}
