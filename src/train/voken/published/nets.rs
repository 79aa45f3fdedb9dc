//! The networks of a published model: those of which a stage trains a part, and those it learns
//! with, whose answers are kept.

use super::material::{PictureIndex, TokenisedSample};
use crate::diffusion::{
    CaptionTokenizer, LatentDiffusion, LatentDistribution, ModelFolder, NoiseSchedule, TextEncoder,
};
use crate::llm::float::FloatConfig;
use crate::nn::Params;
use crate::pipeline::VokenPipeline;
use crate::published::{
    LoadListener, LoadTarget, PartPaths, Published, PublishedError, VokenLanguageWeights,
};
use crate::storyworld::library::CompositionRenderer;
use crate::train::Result;
use crate::train::voken::data::TrainingStory;
use crate::train::voken::left_out::LeftOut;
use crate::train::voken::{
    Denoiser, LossNoise, LossWeights, VokenStage, begin_second_stage, losses, mask_new_rows,
};
use crate::vision::{Crop, Preprocess, VisionTower};
use crate::voken::VokenModel;
use crate::weights::{Checkpoint, TensorView};
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor};
use image::RgbImage;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

/// So many answers of each frozen network are kept: those about an author's own pictures, but not
/// those about a whole data set.
const KEPT: usize = 1024;

pub(super) struct PublishedNetworks {
    pub model: VokenModel,
    /// What the stage trains, under the reference's names.
    pub params: Params,
    pub published: Published,
    /// The id that a generated sequence begins with.
    bos: u32,
    /// The id that ends one.
    eos: Option<u32>,
    pub tower: VisionTower,
    painter: LatentDiffusion,
    schedule: NoiseSchedule,
    captions: Captions,
    strips: Vec<TrainingStory>,
    left_out: LeftOut,
    /// Pictures that can't be read any more.
    bad: HashSet<PictureIndex>,
    renderer: CompositionRenderer,
    /// What the frozen networks made of a picture and, for `true`, of its mirror image.
    seen: HashMap<(PictureIndex, bool), Tensor>,
    targets: HashMap<(PictureIndex, bool), LatentDistribution>,
    device: Device,
}

/// The states of captions as the text encoder has them, their padding hidden.
struct Captions {
    encoder: TextEncoder,
    tokenizer: CaptionTokenizer,
    empty: Tensor,
    known: HashMap<String, Tensor>,
}

/// Gradients and losses of a part of a batch, both times the part's share of it: text, image,
/// caption.
pub(super) struct PublishedPass {
    pub grads: GradStore,
    pub losses: [f64; 3],
}

impl Captions {
    fn read(dir: &Path, device: &Device) -> Result<Self> {
        let folder = ModelFolder::new(dir);
        let mut captions = Self {
            encoder: folder.read_text_encoder(device)?,
            tokenizer: folder.read_tokenizer()?,
            empty: Tensor::zeros((), DType::F32, device)?,
            known: HashMap::new(),
        };
        captions.empty = captions.states("")?;
        Ok(captions)
    }

    /// `[1,T,D]`
    fn states(&mut self, caption: &str) -> Result<Tensor> {
        if let Some(known) = self.known.get(caption) {
            return Ok(known.clone());
        }
        let (ids, n) = self.tokenizer.encode_with_length(caption);
        let ids = Tensor::new(vec![ids], self.empty.device())?;
        let states = self.encoder.forward_unpadded(&ids, &[n])?.states;
        if self.known.len() < KEPT {
            self.known.insert(caption.to_string(), states.clone());
        }
        Ok(states)
    }
}

fn view(path: &Path) -> Result<TensorView> {
    let checkpoint = Checkpoint::open(path).map_err(PublishedError::from)?;
    Ok(TensorView::of(&Arc::new(checkpoint)))
}

impl PublishedNetworks {
    /// Reads the parts for `stage`. The first goes on from the folder's stage 1; the second from
    /// its stage 2 or, where it has none, begins on its stage 1 as the reference does.
    ///
    /// # Errors
    /// A part that is missing or damaged, or a language model that cannot be trained.
    pub(super) fn read(
        parts: PartPaths,
        stage: VokenStage,
        strips: Vec<TrainingStory>,
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        if parts.is_gguf() {
            return Err(PublishedError::Unusable {
                path: parts.llama,
                reason: "a quantised language model cannot be trained, only one in Hugging Face's \
                         layout"
                    .into(),
            }
            .into());
        }
        // What does not learn is held in half the width where memory is dear.
        let held = match device.is_cpu() {
            true => DType::F32,
            false => DType::F16,
        };
        let target = LoadTarget {
            device: device.clone(),
            held,
            gpu: None,
        };
        let listener: LoadListener = Arc::new(|_| {});
        let published = Published::open(parts)?;
        let parts = published.parts();
        let params = |view, learns| Params::from_source(Arc::new(view), learns, device);
        let first = params(view(&parts.stage1)?, stage == VokenStage::Align);
        let second = match (stage, &parts.stage2) {
            (VokenStage::Align, _) => None,
            (VokenStage::Story, Some(path)) => Some(params(view(path)?, true)),
            (VokenStage::Story, None) => {
                let config = FloatConfig::read(&parts.llama)?;
                let lora = &published.sizes.lora;
                let first = view(&parts.stage1)?;
                let state = begin_second_stage(&first, &config, lora, seed, device)?;
                Some(Params::from_tensors(state, true, device))
            }
        };
        let language = published.read_trained(&target, &listener, &first, second.as_ref())?;
        let painter = published.read_diffusion(&target, &listener)?;
        let (size, _) = painter.picture_size();
        Ok(Self {
            tower: published.read_tower(&target, &listener)?,
            schedule: NoiseSchedule::new(&painter.scheduler)?,
            captions: Captions::read(&parts.stable_diffusion, device)?,
            renderer: CompositionRenderer::new(size),
            model: VokenModel {
                composition_head: None,
                llama: language.llama,
                mapper: language.mapper,
                vocabulary: language.vocabulary,
            },
            bos: language.bos,
            eos: language.eos,
            params: second.unwrap_or(first),
            painter,
            published,
            left_out: LeftOut::of(&strips),
            bad: HashSet::new(),
            strips,
            seen: HashMap::new(),
            targets: HashMap::new(),
            device: device.clone(),
        })
    }

    /// The model as it is now, to tell stories with.
    pub(super) fn pipeline(&self) -> Result<VokenPipeline> {
        let mut llama = self.model.llama.clone();
        llama.drop_adapter_inputs(0.0, 0)?;
        let language = VokenLanguageWeights {
            llama,
            mapper: self.model.mapper.clone(),
            vocabulary: self.model.vocabulary,
            bos: self.bos,
            eos: self.eos,
        };
        let tokenizer = self.published.tokenizer.clone();
        let (tower, painter) = (self.tower.clone(), self.painter.clone());
        Ok(VokenPipeline::of(language, tokenizer, tower, painter))
    }

    /// Whether all pictures of a sample could be read so far.
    pub(super) fn has(&self, item: &TokenisedSample) -> bool {
        let mut places = item.inputs.iter().chain(&item.output);
        places.all(|place| !self.bad.contains(place))
    }

    /// `None` where the picture can't be read any more, which [`PublishedNetworks::has`] knows from then on.
    fn picture(&mut self, place: PictureIndex, mirrored: bool) -> Result<Option<RgbImage>> {
        let (strip, panel) = place;
        let Some(picture) = &self.strips[strip].panels[panel].picture else {
            return Ok(Some(RgbImage::default()));
        };
        match picture.draw(&self.renderer) {
            Ok(drawn) if mirrored => Ok(Some(image::imageops::flip_horizontal(&drawn))),
            Ok(drawn) => Ok(Some(drawn)),
            Err(trouble) => {
                self.left_out.add(picture, trouble)?;
                self.bad.insert(place);
                Ok(None)
            }
        }
    }

    /// A picture as the language model reads it, `[1,queries,width]`.
    fn see(&mut self, place: PictureIndex, mirrored: bool) -> Result<Option<Tensor>> {
        if let Some(known) = self.seen.get(&(place, mirrored)) {
            return Ok(Some(known.clone()));
        }
        let Some(picture) = self.picture(place, mirrored)? else {
            return Ok(None);
        };
        let see = Preprocess::seen(self.tower.config().image_size, Crop::Centre);
        let pixels = see.tensor(&picture, &self.device)?;
        let seen = self.tower.forward(&pixels)?;
        if self.seen.len() < KEPT {
            self.seen.insert((place, mirrored), seen.clone());
        }
        Ok(Some(seen))
    }

    /// A picture as the autoencoder has it.
    fn target(
        &mut self,
        place: PictureIndex,
        mirrored: bool,
    ) -> Result<Option<LatentDistribution>> {
        if let Some(known) = self.targets.get(&(place, mirrored)) {
            return Ok(Some(known.clone()));
        }
        let Some(picture) = self.picture(place, mirrored)? else {
            return Ok(None);
        };
        let draw = Preprocess::drawn(self.painter.picture_size().0 as usize);
        let pixels = draw.tensor(&picture, &self.device)?;
        let target = self.painter.vae.encode(&pixels)?;
        if self.targets.len() < KEPT {
            self.targets.insert((place, mirrored), target.clone());
        }
        Ok(Some(target))
    }

    /// Losses and gradients of `items`, which go through the networks together; both times
    /// `share`. The gradients of the tables are masked. `None` where a picture of theirs can't be
    /// read any more.
    ///
    /// # Errors
    /// Too many pictures that can't be read.
    pub(super) fn pass(
        &mut self,
        items: &[&TokenisedSample],
        weights: &LossWeights,
        share: f64,
        rng: &mut ChaCha8Rng,
    ) -> Result<Option<PublishedPass>> {
        let (mut pictures, mut targets, mut captions) = (Vec::new(), Vec::new(), Vec::new());
        let (latents, channels) = (
            self.painter.unet.config().sample_size,
            self.painter.vae.config().latent_channels,
        );
        let shape = [latents, latents, channels];
        let nothing = Tensor::zeros((1, latents, latents, channels), DType::F32, &self.device)?;
        for item in items {
            // Pictures that come in and go out are mirrored by chance, each by itself.
            let mut seen = Vec::new();
            for place in &item.inputs {
                let Some(picture) = self.see(*place, rng.random())? else {
                    return Ok(None);
                };
                seen.push(picture);
            }
            pictures.push(match seen.is_empty() {
                true => None,
                false => Some(Tensor::cat(&seen, 0)?),
            });
            targets.push(match item.output {
                Some(place) => match self.target(place, rng.random())? {
                    Some(target) => target,
                    None => return Ok(None),
                },
                None => LatentDistribution {
                    mean: nothing.clone(),
                    logvar: nothing.clone(),
                },
            });
            if let Some(caption) = &item.caption {
                captions.push(self.captions.states(caption)?);
            }
        }
        let texts: Vec<_> = items
            .iter()
            .zip(&pictures)
            .map(|(item, pictures)| (&item.text, pictures.as_ref()))
            .collect();
        let batch = self.model.batch(&texts)?;
        let spans = batch.spans(&self.model.vocabulary).len();
        let times = self.schedule.timesteps();
        let draws = LossNoise::new(spans, shape, weights, times, rng, &self.device)?;
        let cat = |of: fn(&LatentDistribution) -> &Tensor| {
            Tensor::cat(&targets.iter().map(of).collect::<Vec<_>>(), 0)
        };
        let targets = LatentDistribution {
            mean: cat(|t| &t.mean)?,
            logvar: cat(|t| &t.logvar)?,
        };
        // Captions count where all samples have one.
        let captions = match captions.len() == items.len() {
            true => Some(Tensor::cat(&captions, 0)?),
            false => None,
        };
        let denoiser = Denoiser {
            unet: &self.painter.unet,
            schedule: &self.schedule,
            scaling_factor: self.painter.vae.config().scaling_factor,
            empty_caption: &self.captions.empty,
        };
        let captions = captions.as_ref();
        let got = losses(
            &self.model,
            &denoiser,
            &batch,
            &targets,
            captions,
            &draws,
            weights,
        )?;
        let number = |loss: Option<&Tensor>| -> Result<f64> {
            let loss = loss.map(Tensor::to_scalar::<f32>).transpose()?;
            Ok(share * f64::from(loss.unwrap_or(0.0)))
        };
        let numbers = [
            number(Some(&got.text))?,
            number(got.image.as_ref())?,
            number(got.caption.as_ref())?,
        ];
        let mut grads = (got.total * share)?.backward()?;
        let added = self.model.vocabulary.added();
        mask_new_rows(&mut grads, &self.params.vars(), added)?;
        Ok(Some(PublishedPass {
            grads,
            losses: numbers,
        }))
    }
}
