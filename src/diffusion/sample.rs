//! A loaded model, and pictures from it: guidance, steps, previews, decoding.

use super::error::DiffusionError;
use super::folder::{ModelFolder, Open};
use super::pixels::{mask_tensor, paste_around, picture_tensor};
use super::preview::to_byte;
use super::stable::slerp;
use super::tiles::decode_tiled;
use super::trajectory::{StepResult, Trajectory, UnetCall};
use super::{
    CaptionTokenizer, Conditioning, Preview, SchedulerConfig, SchedulerKind, TextEncoder,
    TextFeatures, Unet, Vae, same_timestep,
};
use crate::nn::{Params, noise};
use crate::weights::{ComputeDevices, StoredType, TensorInfo, TensorView};
use candle_core::{DType, Device, Tensor};
use image::{GrayImage, RgbImage, RgbaImage};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

/// Pictures are decoded whole up to this many pixels a side.
const WHOLE: usize = 512;

/// A latent diffusion model without its text encoder: UNet, autoencoder and noise schedule.
#[derive(Clone)]
pub struct LatentDiffusion {
    /// Noise prediction network.
    pub unet: Unet,
    /// Autoencoder between pictures and latents.
    pub vae: Vae,
    /// Noise schedule and defaults of the schedulers.
    pub scheduler: SchedulerConfig,
    /// Linear map from latents to the colours of small previews.
    pub preview: Preview,
    device: Device,
}

/// A text-to-picture model: a painter with the text encoder that it was trained with.
pub struct TextToImageModel {
    /// Text encoder that conditions the UNet.
    pub text_encoder: TextEncoder,
    /// Tokenizer of the text encoder.
    pub tokenizer: CaptionTokenizer,
    /// UNet, autoencoder and schedule.
    pub painter: LatentDiffusion,
}

impl std::ops::Deref for TextToImageModel {
    type Target = LatentDiffusion;

    fn deref(&self) -> &LatentDiffusion {
        &self.painter
    }
}

/// Progress of denoising after a step, with a small preview of the picture.
pub struct StepDone {
    /// The step, from 1.
    pub step: u32,
    /// How many there are.
    pub steps: u32,
    /// Small picture of the clean latents as they are predicted so far.
    pub preview: RgbaImage,
}

/// Scheduler, number of steps and guidance scale of denoising.
#[derive(Clone, Copy, Debug)]
pub struct DenoisingOptions {
    /// Scheduler (sampler).
    pub scheduler: SchedulerKind,
    /// DenoisingOptions steps.
    pub steps: usize,
    /// 1 is none, and costs half.
    pub guidance: f64,
}

/// What a picture begins from beside the noise of its seed; nothing by default.
#[derive(Clone, Copy, Debug, Default)]
pub struct InitOptions<'a> {
    /// Another seed, and how far towards its noise, 0 to 1.
    pub variation: Option<(u64, f64)>,
    /// A picture, and how little is to be left of it, 0 to 1.
    pub picture: Option<(&'a RgbImage, f64)>,
    /// What is white is drawn anew, what is black stays as it is in `picture`.
    pub mask: Option<&'a GrayImage>,
}

impl InitOptions<'_> {
    /// The picture with what the mask leaves as it was, byte for byte.
    fn put_back(&self, drawn: RgbaImage) -> RgbaImage {
        match (self.picture, self.mask) {
            (Some((was, _)), Some(mask)) => paste_around(&drawn, was, mask),
            _ => drawn,
        }
    }
}

impl Default for DenoisingOptions {
    fn default() -> Self {
        Self {
            scheduler: SchedulerKind::Ddim,
            steps: 25,
            guidance: 2.5,
        }
    }
}

impl TextToImageModel {
    /// Reads a model folder in diffusers' layout.
    ///
    /// # Errors
    /// A file that is missing, damaged or doesn't fit the others.
    pub fn load(dir: &Path, device: &Device) -> Result<Self, DiffusionError> {
        Self::load_at(dir, &ComputeDevices::of(device))
    }

    /// As [`TextToImageModel::load`], onto the devices of `place`.
    ///
    /// # Errors
    /// As [`TextToImageModel::load`], or a GPU that fails.
    pub fn load_at(dir: &Path, place: &ComputeDevices) -> Result<Self, DiffusionError> {
        Self::load_with(dir, place, false)
    }

    /// The same with the UNet's matrices multiplied in bf16, where the processor does that.
    ///
    /// # Errors
    /// As there.
    pub fn load_with(
        dir: &Path,
        place: &ComputeDevices,
        bf16: bool,
    ) -> Result<Self, DiffusionError> {
        let folder = ModelFolder::new(dir);
        let plainly = |view: TensorView| {
            // A GPU multiplies by f16 as the file has it.
            let half = place.gpu.is_some() && is_half(&view);
            let source = Arc::new(view);
            let params = match half {
                true => Params::held_as(source, DType::F16, &place.device),
                false => Params::from_source(source, false, &place.device),
            };
            params.on(place.gpu.as_ref()).in_bf16(bf16)
        };
        let model = Self {
            text_encoder: folder.open_text_encoder(&plainly)?,
            tokenizer: folder.read_tokenizer()?,
            painter: LatentDiffusion::open(dir, &place.device, &plainly)?,
        };
        model.check(dir)?;
        Ok(model)
    }

    /// Whether text encoder and tokenizer belong to the painter.
    fn check(&self, dir: &Path) -> Result<(), DiffusionError> {
        let (unet, text) = (self.unet.config(), self.text_encoder.config());
        let pooled = unet.projection_class_embeddings_input_dim;
        let why = if unet.cross_attention_dim != text.hidden_size {
            format!(
                "the UNet's cross_attention_dim is not the text encoder's {}",
                text.hidden_size
            )
        } else if unet.class_embed_type.is_some() && pooled != Some(text.hidden_size) {
            format!(
                "the UNet's projection_class_embeddings_input_dim is not the text encoder's {}",
                text.hidden_size
            )
        } else if self.tokenizer.vocab_size() > text.vocab_size {
            format!(
                "the tokenizer has more words than the text encoder's {}",
                text.vocab_size
            )
        } else if self.tokenizer.length() > text.max_position_embeddings {
            format!(
                "the tokenizer's captions are longer than the text encoder's {}",
                text.max_position_embeddings
            )
        } else {
            return Ok(());
        };
        Err(DiffusionError::config(dir, why))
    }

    /// Encodes captions for [`LatentDiffusion::denoise`]; `""` is the unconditional one of classifier-free
    /// guidance.
    pub fn encode_text(&self, captions: &[&str]) -> Result<TextFeatures, DiffusionError> {
        let ids: Vec<u32> = captions
            .iter()
            .flat_map(|c| self.tokenizer.encode(c))
            .collect();
        let ids = Tensor::from_vec(
            ids,
            (captions.len(), self.tokenizer.length()),
            self.device(),
        )?;
        Ok(self.text_encoder.forward(&ids)?)
    }

    /// Draws `text`, led away from `negative`. `sink` hears of every step and breaks to cancel, which is obeyed before the
    /// next step and before decoding; `None` is a cancelled picture. The same settings give the
    /// same picture.
    ///
    /// # Errors
    /// Settings out of range.
    pub fn sample(
        &self,
        text: &str,
        negative: &str,
        seed: u64,
        how: DenoisingOptions,
        sink: &mut dyn FnMut(StepDone) -> ControlFlow<()>,
    ) -> Result<Option<RgbaImage>, DiffusionError> {
        self.sample_from([text, negative], seed, InitOptions::default(), how, sink)
    }

    /// As [`TextToImageModel::sample`] for a text and a negative one, from a picture, in a mask or
    /// near another seed.
    ///
    /// # Errors
    /// As there.
    pub fn sample_from(
        &self,
        [text, negative]: [&str; 2],
        seed: u64,
        init: InitOptions,
        how: DenoisingOptions,
        sink: &mut dyn FnMut(StepDone) -> ControlFlow<()>,
    ) -> Result<Option<RgbaImage>, DiffusionError> {
        let positive = self.encode_text(&[text])?;
        let negative = self.encode_text(&[negative])?;
        let pictures = self.draw_from(&positive, &negative, &[seed], init, how, sink)?;
        Ok(pictures.and_then(|mut p| p.pop()))
    }

    /// Draws several texts at once, each from its own seed.
    pub fn sample_batch(
        &self,
        texts: &[&str],
        seeds: &[u64],
        how: DenoisingOptions,
        sink: &mut dyn FnMut(StepDone) -> ControlFlow<()>,
    ) -> Result<Option<Vec<RgbaImage>>, DiffusionError> {
        if texts.is_empty() || texts.len() != seeds.len() {
            return Err(DiffusionError::Settings(
                format!(
                    "{} texts need as many seeds, not {}",
                    texts.len(),
                    seeds.len()
                )
                .into(),
            ));
        }
        let positive = self.encode_text(texts)?;
        let negative = self.encode_text(&[""])?;
        self.draw(&positive, &negative, seeds, how, sink)
    }
}

impl LatentDiffusion {
    /// Reads UNet, autoencoder, scheduler and preview of a model folder in diffusers' layout.
    ///
    /// # Errors
    /// A file that is missing, damaged or doesn't fit the others.
    pub fn load(dir: &Path, device: &Device) -> Result<Self, DiffusionError> {
        let plainly = |view| Params::from_source(Arc::new(view), false, device);
        Self::open(dir, device, &plainly)
    }

    /// The same with parameters that `open` makes on `device`.
    ///
    /// # Errors
    /// As [`LatentDiffusion::load`].
    pub fn open(dir: &Path, device: &Device, open: &Open) -> Result<Self, DiffusionError> {
        let folder = ModelFolder::new(dir);
        let vae = folder.open_vae(open)?;
        let unet = folder.open_unet(open)?;
        let (latents, config) = (vae.config().latent_channels, unet.config());
        if config.in_channels != latents || config.out_channels != latents {
            let why = format!("the UNet's channels are not the autoencoder's {latents}");
            return Err(DiffusionError::config(dir, why));
        }
        Ok(Self {
            scheduler: folder.read_scheduler()?.with_own_defaults(),
            preview: folder.read_preview(latents)?,
            unet,
            vae,
            device: device.clone(),
        })
    }

    /// Device that the networks compute on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Width and height of its pictures.
    pub fn picture_size(&self) -> (u32, u32) {
        let side = (self.unet.config().sample_size * self.vae.config().decoder_scale()) as u32;
        (side, side)
    }

    /// Draws pictures from the conditions `positive` (a batch of as many as there are seeds), led
    /// away from `negative` (a batch of 1 or as many). `sink` hears of every step and breaks to
    /// cancel, which is obeyed before the next step and before decoding; then it is `None`.
    ///
    /// # Errors
    /// Settings out of range.
    pub fn draw(
        &self,
        positive: &TextFeatures,
        negative: &TextFeatures,
        seeds: &[u64],
        how: DenoisingOptions,
        sink: &mut dyn FnMut(StepDone) -> ControlFlow<()>,
    ) -> Result<Option<Vec<RgbaImage>>, DiffusionError> {
        self.draw_from(positive, negative, seeds, InitOptions::default(), how, sink)
    }

    fn draw_from(
        &self,
        positive: &TextFeatures,
        negative: &TextFeatures,
        seeds: &[u64],
        init: InitOptions,
        how: DenoisingOptions,
        sink: &mut dyn FnMut(StepDone) -> ControlFlow<()>,
    ) -> Result<Option<Vec<RgbaImage>>, DiffusionError> {
        let side = self.unet.config().sample_size;
        let channels = self.unet.config().in_channels;
        let start = seeds
            .iter()
            .map(|&seed| self.noise(seed, &[1, side, side, channels], init))
            .collect::<Result<Vec<_>, _>>()?;
        let start = Tensor::cat(&start, 0)?;
        let fresh = |step: usize| {
            let shape = [1, side, side, channels];
            let each = seeds
                .iter()
                .map(|&seed| noise(seed, 1 + step as u64, &shape, &self.device))
                .collect::<Result<Vec<_>, _>>()?;
            Tensor::cat(&each, 0)
        };
        let conditions = [positive, negative];
        let latents = self.denoise_from(&start, conditions, init, how, &fresh, sink)?;
        let Some(latents) = latents else {
            return Ok(None);
        };
        let pictures = (0..seeds.len())
            .map(|i| {
                let picture = to_picture(&self.decode(&latents.narrow(0, i, 1)?)?)?;
                Ok(init.put_back(picture))
            })
            .collect::<Result<_, DiffusionError>>()?;
        Ok(Some(pictures))
    }

    /// Latents from unit noise `start [B,h,w,C]`, led towards `positive` (a batch of B) and away
    /// from `negative` (a batch of 1 or B); `None` is cancelled. `fresh` gives the unit noise of a
    /// step, counted from 0, where the scheduler draws any.
    pub fn denoise(
        &self,
        start: &Tensor,
        [positive, negative]: [&TextFeatures; 2],
        how: DenoisingOptions,
        fresh: &dyn Fn(usize) -> Result<Tensor, candle_core::Error>,
        sink: &mut dyn FnMut(StepDone) -> ControlFlow<()>,
    ) -> Result<Option<Tensor>, DiffusionError> {
        let conditions = [positive, negative];
        self.denoise_from(start, conditions, InitOptions::default(), how, fresh, sink)
    }

    fn denoise_from(
        &self,
        start: &Tensor,
        [positive, negative]: [&TextFeatures; 2],
        init: InitOptions,
        how: DenoisingOptions,
        fresh: &dyn Fn(usize) -> Result<Tensor, candle_core::Error>,
        sink: &mut dyn FnMut(StepDone) -> ControlFlow<()>,
    ) -> Result<Option<Tensor>, DiffusionError> {
        let batch = start.dim(0)?;
        let guided = how.guidance != 1.0;
        let join = |negative: &Tensor, positive: &Tensor| -> Result<Tensor, candle_core::Error> {
            if !guided {
                return Ok(positive.clone());
            }
            let mut shape = positive.dims().to_vec();
            shape[0] = batch;
            let negative = negative.broadcast_as(shape)?.contiguous()?;
            Tensor::cat(&[&negative, positive], 0)
        };
        let text = join(&negative.states, &positive.states)?;
        let pooled = join(&negative.pooled, &positive.pooled)?;
        let predict = |seen: &Tensor, t: f64| {
            if !guided {
                let t = same_timestep(t, batch, &self.device)?;
                return self.unet.forward(seen, &t, &text, Some(&pooled));
            }
            let both = Tensor::cat(&[seen, seen], 0)?;
            let t = same_timestep(t, 2 * batch, &self.device)?;
            let both = self.unet.forward(&both, &t, &text, Some(&pooled))?;
            let away = both.narrow(0, 0, batch)?;
            let towards = both.narrow(0, batch, batch)?;
            &away + ((towards - &away)? * how.guidance)?
        };
        self.run(start, init, how, &predict, fresh, sink)
    }

    /// Draws a picture led towards one conditioning and away from another, of which each may have
    /// references; otherwise as [`LatentDiffusion::draw`].
    ///
    /// # Errors
    /// Settings out of range.
    pub fn draw_conditioned(
        &self,
        [towards, away]: [&Conditioning; 2],
        seed: u64,
        init: InitOptions,
        how: DenoisingOptions,
        sink: &mut dyn FnMut(StepDone) -> ControlFlow<()>,
    ) -> Result<Option<RgbaImage>, DiffusionError> {
        let config = self.unet.config();
        let shape = [
            1,
            config.sample_size,
            config.sample_size,
            config.in_channels,
        ];
        let start = self.noise(seed, &shape, init)?;
        let fresh = |step: usize| noise(seed, 1 + step as u64, &shape, &self.device);
        let predict = |seen: &Tensor, t: f64| {
            let t = same_timestep(t, 1, &self.device)?;
            let conditional = self.unet.predict(seen, &t, towards)?;
            if how.guidance == 1.0 {
                return Ok(conditional);
            }
            let free = self.unet.predict(seen, &t, away)?;
            &free + ((conditional - &free)? * how.guidance)?
        };
        let Some(latents) = self.run(&start, init, how, &predict, &fresh, sink)? else {
            return Ok(None);
        };
        let picture = to_picture(&self.decode(&latents)?)?;
        Ok(Some(init.put_back(picture)))
    }

    /// The unit noise of a seed, or near it.
    fn noise(
        &self,
        seed: u64,
        shape: &[usize],
        init: InitOptions,
    ) -> Result<Tensor, candle_core::Error> {
        let of = |seed| noise(seed, 0, shape, &self.device);
        match init.variation {
            Some((other, by)) if by != 0.0 => slerp(&of(seed)?, &of(other)?, by),
            _ => of(seed),
        }
    }

    fn trajectory(
        &self,
        init: InitOptions,
        how: DenoisingOptions,
    ) -> Result<Trajectory, DiffusionError> {
        let (kind, config, steps) = (how.scheduler, &self.scheduler, how.steps);
        let begun = init
            .picture
            .filter(|(_, strength)| *strength < 1.0 || init.mask.is_some());
        let Some((picture, strength)) = begun else {
            return Trajectory::of_noise(kind, config, steps);
        };
        let (width, height) = self.picture_size();
        let size = (width as usize, height as usize);
        let pixels = picture_tensor(picture, size, &self.device)?;
        let latents = (self.vae.encode(&pixels)?.mean * self.vae.config().scaling_factor)?;
        let way = Trajectory::of_picture(kind, config, steps, latents, strength)?;
        let side = self.unet.config().sample_size;
        Ok(match init.mask {
            Some(mask) => way.masked(Some(mask_tensor(mask, (side, side), &self.device)?)),
            None => way,
        })
    }

    /// The steps of denoising; `predict` is what the network says of scaled latents at a timestep,
    /// with guidance.
    fn run(
        &self,
        start: &Tensor,
        init: InitOptions,
        how: DenoisingOptions,
        predict: &dyn Fn(&Tensor, f64) -> Result<Tensor, candle_core::Error>,
        fresh: &dyn Fn(usize) -> Result<Tensor, candle_core::Error>,
        sink: &mut dyn FnMut(StepDone) -> ControlFlow<()>,
    ) -> Result<Option<Tensor>, DiffusionError> {
        if !how.guidance.is_finite() {
            return Err(DiffusionError::Settings(
                "the guidance scale is not a number; choose one from 1 to 15".into(),
            ));
        }
        let mut answer = |call: &UnetCall| Ok(predict(call.seen, call.timestep)?);
        let mut each = |taken: StepResult| {
            Ok(sink(StepDone {
                step: taken.index as u32 + 1,
                steps: taken.count as u32,
                preview: self.preview.draw(&taken.clean)?,
            }))
        };
        self.trajectory(init, how)?
            .run(start, fresh, &mut answer, &mut each)
    }

    /// Scaled latents `[1,h,w,C]` -> `[1,H,W,3]`, about -1..1; in tiles where it is large.
    pub fn decode(&self, latents: &Tensor) -> Result<Tensor, DiffusionError> {
        let config = self.vae.config();
        let z = (latents / config.scaling_factor)?.contiguous()?;
        let scale = config.decoder_scale();
        let picture = decode_tiled(&z, (WHOLE / scale).max(4), scale, |z| self.vae.decode(z))?;
        // Other programs want the memory that nothing needs before the next picture.
        if let Some(gpu) = self.unet.gpu() {
            gpu.trim();
        }
        Ok(picture)
    }
}

/// Whether all matrices and kernels are stored in f16.
fn is_half(view: &TensorView) -> bool {
    let wide = |info: &TensorInfo| info.shape.len() > 1 && info.dtype != StoredType::F16;
    let mut all = view.names().filter_map(|name| view.info(name));
    !all.any(|info| wide(&info))
}

/// `[1,H,W,3]`, about -1..1 -> a picture.
pub fn to_picture(x: &Tensor) -> Result<RgbaImage, candle_core::Error> {
    let (_, h, w, _) = x.dims4()?;
    let values = x
        .to_device(&Device::Cpu)?
        .to_dtype(DType::F32)?
        .flatten_all()?
        .to_vec1::<f32>()?;
    let bytes = values
        .chunks_exact(3)
        .flat_map(|rgb| [to_byte(rgb[0]), to_byte(rgb[1]), to_byte(rgb[2]), 255])
        .collect();
    RgbaImage::from_raw(w as u32, h as u32, bytes)
        .ok_or_else(|| candle_core::Error::Msg("the decoded picture has not three colours".into()))
}
