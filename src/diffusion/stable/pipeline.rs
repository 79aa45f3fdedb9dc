//! Whole pictures: from prompts, pictures and masks to pixels, with what stays loaded between.

use super::{
    ControlNetConditioning, PromptEmbeds, PromptPair, ReferenceConditioning, StableDiffusion,
};
use crate::diffusion::pixels::{cut_out, mask_tensor, paste_around, picture_tensor};
use crate::diffusion::trajectory::is_finite;
use crate::diffusion::{
    ControlNet, DiffusionError, Preview, SchedulerKind, StepDone, StepResult, Trajectory, Unet,
    UnetCall, Vae, to_picture,
};
use crate::nn::{Result as TensorResult, noise};
use candle_core::Tensor;
use image::{GrayImage, RgbImage, RgbaImage};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Pictures of more pixels are decoded after the UNet has left, since each takes the memory of the
/// other: at 512x512 the decoder's work is two thirds of a UNet's weights in f16.
pub const BESIDE_UNET: usize = 384 * 384;

/// A conditioning picture for the ControlNet in a file or folder.
pub struct ControlImage<'a> {
    /// The ControlNet's file or folder.
    pub file: &'a Path,
    /// The picture that is followed.
    pub picture: &'a RgbImage,
    /// Conditioning scale; 1 is as it was trained.
    pub scale: f64,
    /// From and to which share of the steps it works.
    pub share: (f64, f64),
}

/// Pictures whose looks are kept through the IP-Adapter in a file.
pub struct IpAdapterImage<'a> {
    /// The IP-Adapter's file.
    pub adapter: &'a Path,
    /// The image encoder that the adapter was made with.
    pub encoder: &'a Path,
    /// The pictures whose looks are kept: the UNet attends to the tokens of all of them.
    pub pictures: Vec<&'a RgbImage>,
    /// How much of them is added to the text's attention; 1 is full.
    pub scale: f64,
    /// From and to which share of the steps it works.
    pub share: (f64, f64),
}

/// A picture for reference attention, which needs no other model.
pub struct ReferenceImage<'a> {
    /// The picture whose looks are kept.
    pub picture: &'a RgbImage,
    /// The prompt that it was drawn from, or what it shows.
    pub prompt: &'a str,
    /// The share of its tokens that is seen, 0 to 1.
    pub strength: f64,
    /// From and to which share of the steps it works.
    pub share: (f64, f64),
}

/// A generation request: prompt, size, seed, guidance, steps and what else conditions the picture.
pub struct PictureRequest<'a> {
    /// Prompt, with weights in A1111's brackets.
    pub prompt: &'a str,
    /// Negative prompt; `None` for none.
    pub negative: Option<&'a str>,
    /// Width and height in pixels.
    pub size: (usize, usize),
    /// Seed of the initial noise and of the steps that add noise.
    pub seed: u64,
    /// Another seed, and how far towards its noise, 0 to 1.
    pub variation: Option<(u64, f64)>,
    /// Guidance scale; 1 is none.
    pub guidance: f64,
    /// Denoising steps.
    pub steps: usize,
    /// Scheduler (sampler).
    pub scheduler: SchedulerKind,
    /// In diffusers' counting: 0 skips none.
    pub clip_skip: usize,
    /// The picture to begin from, and how little is to be left of it, 0 to 1.
    pub init: Option<(&'a RgbImage, f64)>,
    /// What is white is drawn anew, what is black stays as it is in `init`.
    pub mask: Option<&'a GrayImage>,
    /// ControlNets, together.
    pub control_images: Vec<ControlImage<'a>>,
    /// An IP-Adapter.
    pub ip_adapter_image: Option<IpAdapterImage<'a>>,
    /// Pictures for reference attention, together.
    pub reference_images: Vec<ReferenceImage<'a>>,
}

impl PictureRequest<'_> {
    /// What the text encoders read: the picture's own prompts, then those of its references.
    fn prompt_pairs(&self) -> Vec<PromptPair> {
        let own = PromptPair {
            prompt: self.prompt.to_owned(),
            negative: self.negative.map(str::to_owned),
            guidance: self.guidance,
            clip_skip: self.clip_skip,
        };
        let others = self.reference_images.iter().map(|refer| PromptPair {
            prompt: refer.prompt.to_owned(),
            negative: None,
            guidance: 1.0,
            clip_skip: self.clip_skip,
        });
        std::iter::once(own).chain(others).collect()
    }
}

/// Progress of a generation, as the callback gets it.
pub enum PipelineProgress {
    /// A part that is being loaded.
    Loading(&'static str),
    /// Nothing new: asked so that a cancel is obeyed within a long step.
    Still,
    /// A denoising step is done.
    Step(StepDone),
}

/// A text-to-image pipeline over Stable Diffusion. Text encoders are freed once the prompts are
/// encoded; UNet, autoencoder and ControlNet stay loaded for the next picture.
pub struct StableDiffusionPipeline {
    model: StableDiffusion,
    preview: Preview,
    unet: Option<Unet>,
    vae: Option<Vae>,
    /// The ControlNet that was used last.
    control: Option<(PathBuf, ControlNet)>,
    /// What was read last, and what came of it: pictures of one prompt need it read once.
    embeds: Option<(Vec<PromptPair>, Vec<PromptEmbeds>)>,
}

type ProgressCallback<'a> = dyn FnMut(PipelineProgress) -> ControlFlow<()> + 'a;

impl StableDiffusionPipeline {
    /// Draws with `model`, whose networks are loaded when they are first needed.
    pub fn new(model: StableDiffusion) -> Self {
        let channels = model.vae_config().latent_channels;
        Self {
            preview: Preview::of(model.family(), channels),
            model,
            unet: None,
            vae: None,
            control: None,
            embeds: None,
        }
    }

    /// The model that it draws with.
    pub fn model(&self) -> &StableDiffusion {
        &self.model
    }

    /// Bytes of the weights that stayed from the picture before.
    pub fn loaded(&self) -> u64 {
        let (_, unet, vae) = self.model.weight_bytes();
        let of = |loaded: bool, bytes| if loaded { bytes } else { 0 };
        of(self.unet.is_some(), unet) + of(self.vae.is_some(), vae)
    }

    /// Draws a picture; `sink` breaks to cancel, which is obeyed before the next part, step or
    /// decoding. `None` is cancelled. The same order gives the same picture on one machine.
    ///
    /// # Errors
    /// Settings out of range, a file that is gone or unfit, or values that are no numbers.
    pub fn draw(
        &mut self,
        order: &PictureRequest,
        sink: &mut ProgressCallback,
    ) -> Result<Option<RgbaImage>, DiffusionError> {
        let latents = self.latent_size(order.size)?;
        let mut loading = |part| sink(PipelineProgress::Loading(part)).is_break();
        let Some(embeds) = self.prompt_embeds(order, &mut loading)? else {
            return Ok(None);
        };
        let guidance = order.guidance;
        let mut guide = self
            .model
            .step_conditioning(&embeds[0], guidance, order.size)?;
        guide.seed = order.seed;
        let reads = self.sees_mask() || order.init.is_some() || !order.reference_images.is_empty();
        if reads && self.vae.is_none() && loading("autoencoder") {
            return Ok(None);
        }
        if self.sees_mask() {
            guide.shown = Some(self.mask_channels(order, latents)?);
        }
        let trajectory = self.trajectory(order, latents)?;
        for follow in &order.control_images {
            guide
                .controlnets
                .push(self.controlnet_conditioning(follow, order.size)?);
        }
        for (refer, embeds) in order.reference_images.iter().zip(&embeds[1..]) {
            guide
                .references
                .push(self.reference_conditioning(refer, embeds, order)?);
        }
        if let Some(look) = &order.ip_adapter_image {
            let adapter = self.model.ip_adapter(look.adapter, look.encoder)?;
            let tokens = adapter.tokens_of(&look.pictures)?;
            let guided = guide.guidance.is_some();
            guide.conditioning.image = Some(adapter.prompt(&tokens, guided, look.scale)?);
            guide.image_share = look.share;
        }
        if self.unet.is_none() && loading("UNet") {
            return Ok(None);
        }
        let Some(latents) = self.denoise(trajectory, order, latents, &guide, sink)? else {
            return Ok(None);
        };
        let (width, height) = order.size;
        if width * height > BESIDE_UNET {
            self.unet = None;
        }
        let picture = self.decode(&latents)?;
        // Other programs want the memory that nothing needs before the next picture.
        if let Some(gpu) = self.model.gpu() {
            gpu.trim();
        }
        Ok(Some(match (order.init, order.mask) {
            (Some((init, _)), Some(mask)) => paste_around(&picture, init, mask),
            _ => picture,
        }))
    }

    /// What the text encoders make of an order's prompts; none is cancelled.
    fn prompt_embeds(
        &mut self,
        order: &PictureRequest,
        loading: &mut dyn FnMut(&'static str) -> bool,
    ) -> Result<Option<Vec<PromptEmbeds>>, DiffusionError> {
        let prompts = order.prompt_pairs();
        let kept = self.embeds.take().filter(|(before, _)| *before == prompts);
        let embeds = match kept {
            Some((_, embeds)) => embeds,
            None if loading("text encoder") => return Ok(None),
            None => self.model.encode_prompts(&prompts)?,
        };
        self.embeds = Some((prompts, embeds.clone()));
        Ok(Some(embeds))
    }

    /// A reference picture in its own shape, with about as many pixels as the picture has.
    fn reference_conditioning(
        &mut self,
        refer: &ReferenceImage,
        embeds: &PromptEmbeds,
        order: &PictureRequest,
    ) -> Result<ReferenceConditioning, DiffusionError> {
        let device = self.model.device().clone();
        let size = self.as_large(refer.picture.dimensions(), order.size);
        let latents = self.encode(&picture_tensor(refer.picture, size, &device)?)?;
        let shown = match self.sees_mask() {
            true => {
                let empty = latents.narrow(3, 0, 1)?.zeros_like()?;
                Some(Tensor::cat(&[&empty, &latents], 3)?)
            }
            false => None,
        };
        Ok(ReferenceConditioning {
            noise: noise(0, 0, latents.dims(), &device)?,
            latents,
            conditioning: self
                .model
                .step_conditioning(embeds, order.guidance, size)?
                .conditioning,
            shown,
            strength: refer.strength,
            share: refer.share,
        })
    }

    /// The size in the shape of `own` with about as many pixels as `like`.
    fn as_large(&self, own: (u32, u32), like: (usize, usize)) -> (usize, usize) {
        let ratio = f64::from(own.0.max(1)) / f64::from(own.1.max(1));
        let pixels = (like.0 * like.1) as f64;
        let step = self.model.vae_config().decoder_scale();
        let side = |pixels: f64| ((pixels / step as f64).round() as usize).max(2) * step;
        // A picture as narrow as a line is read wider than it is.
        let ratio = ratio.clamp(0.25, 4.0);
        (side((pixels * ratio).sqrt()), side((pixels / ratio).sqrt()))
    }

    /// Width and height of the latents of a picture.
    fn latent_size(
        &self,
        (width, height): (usize, usize),
    ) -> Result<(usize, usize), DiffusionError> {
        let scale = self.model.vae_config().decoder_scale();
        if width == 0 || height == 0 || width % scale != 0 || height % scale != 0 {
            return Err(DiffusionError::Settings(format!(
                "a picture of {width}x{height} pixels can't be drawn; choose sides in steps of {scale}"
            ).into()));
        }
        Ok((width / scale, height / scale))
    }

    /// Whether the UNet was made for inpainting and sees mask and cut-out beside the latents.
    fn sees_mask(&self) -> bool {
        self.model.unet_config().in_channels > self.model.vae_config().latent_channels
    }

    /// Scaled latents of pixels `[1,H,W,3]`: the mean of what the autoencoder makes of them.
    fn encode(&mut self, pixels: &Tensor) -> Result<Tensor, DiffusionError> {
        let vae = self.vae()?;
        let latents = vae.to_unet(&vae.encode(pixels)?.mean)?;
        check(&latents, "the autoencoder, reading the picture")?;
        Ok(latents)
    }

    fn vae(&mut self) -> Result<&Vae, DiffusionError> {
        if self.vae.is_none() {
            self.vae = Some(self.model.vae()?);
        }
        self.vae.as_ref().ok_or_else(cancelled)
    }

    /// What a UNet for inpainting is shown: mask and latents of the cut-out. Without a mask all is
    /// drawn anew.
    fn mask_channels(
        &mut self,
        order: &PictureRequest,
        latents: (usize, usize),
    ) -> Result<Tensor, DiffusionError> {
        let device = self.model.device().clone();
        let (width, height) = order.size;
        let all = GrayImage::from_pixel(1, 1, image::Luma([255]));
        let mask = order.mask.unwrap_or(&all);
        let grey = RgbImage::from_pixel(width as u32, height as u32, image::Rgb([128; 3]));
        let picture = order.init.map_or(&grey, |(picture, _)| picture);
        let pixels = picture_tensor(picture, order.size, &device)?;
        let cut = cut_out(&pixels, &mask_tensor(mask, order.size, &device)?)?;
        let parts = [mask_tensor(mask, latents, &device)?, self.encode(&cut)?];
        Ok(Tensor::cat(&parts, 3)?)
    }

    fn trajectory(
        &mut self,
        order: &PictureRequest,
        latents: (usize, usize),
    ) -> Result<Trajectory, DiffusionError> {
        let config = self.model.schedule()?;
        let (kind, steps) = (order.scheduler, order.steps);
        let begun = order
            .init
            .filter(|(_, strength)| *strength < 1.0 || order.mask.is_some());
        let Some((picture, strength)) = begun else {
            return Trajectory::of_noise(kind, &config, steps);
        };
        let device = self.model.device().clone();
        let pixels = picture_tensor(picture, order.size, &device)?;
        let init = self.encode(&pixels)?;
        let way = Trajectory::of_picture(kind, &config, steps, init, strength)?;
        Ok(match order.mask {
            Some(_) if self.sees_mask() => way.masked(None),
            Some(mask) => way.masked(Some(mask_tensor(mask, latents, &device)?)),
            None => way,
        })
    }

    fn controlnet_conditioning(
        &mut self,
        follow: &ControlImage,
        (width, height): (usize, usize),
    ) -> Result<ControlNetConditioning, DiffusionError> {
        let net = match &self.control {
            Some((file, net)) if file == follow.file => net.clone(),
            _ => self.model.controlnet(follow.file)?,
        };
        self.control = Some((follow.file.to_owned(), net.clone()));
        let pixels = picture_tensor(follow.picture, (width, height), self.model.device())?;
        Ok(ControlNetConditioning {
            net,
            picture: pixels.affine(0.5, 0.5)?,
            scale: follow.scale,
            share: follow.share,
        })
    }

    /// Unit noise for latents of `shape`.
    fn noise(&self, order: &PictureRequest, shape: &[usize]) -> TensorResult<Tensor> {
        let of = |seed| noise(seed, 0, shape, self.model.device());
        let own = of(order.seed)?;
        match order.variation {
            Some((seed, by)) if by != 0.0 => slerp(&own, &of(seed)?, by),
            _ => Ok(own),
        }
    }

    fn denoise(
        &mut self,
        trajectory: Trajectory,
        order: &PictureRequest,
        (width, height): (usize, usize),
        guide: &super::StepConditioning,
        sink: &mut ProgressCallback,
    ) -> Result<Option<Tensor>, DiffusionError> {
        if self.unet.is_none() {
            self.unet = Some(self.model.unet()?);
        }
        let unet = self.unet.as_ref().ok_or_else(cancelled)?;
        let shape = [1, height, width, self.model.vae_config().latent_channels];
        let start = self.noise(order, &shape)?;
        let device = self.model.device();
        let fresh = |step: usize| noise(order.seed, 1 + step as u64, &shape, device);
        let mut predict = |call: &UnetCall| guide.predict(unet, call);
        let mut each = |taken: StepResult| {
            Ok(sink(PipelineProgress::Step(StepDone {
                step: taken.index as u32 + 1,
                steps: taken.count as u32,
                preview: self.preview.draw(&taken.clean)?,
            })))
        };
        trajectory.run(&start, &fresh, &mut predict, &mut each)
    }

    fn decode(&mut self, latents: &Tensor) -> Result<RgbaImage, DiffusionError> {
        let vae = self.vae()?;
        let decoded = vae.decode(&vae.from_unet(latents)?)?;
        check(&decoded, "the autoencoder, drawing the picture")?;
        Ok(to_picture(&decoded)?)
    }
}

fn cancelled() -> DiffusionError {
    DiffusionError::Tensor("a part of the model left while it was needed; try again".into())
}

/// Whether all values are numbers; `stage` is named where they are not.
pub(in crate::diffusion) fn check(x: &Tensor, stage: &str) -> Result<(), DiffusionError> {
    match is_finite(x)? {
        true => Ok(()),
        false => Err(DiffusionError::NotNumbers {
            stage: stage.to_owned(),
            remedy: "choose another VAE for this model".into(),
        }),
    }
}

/// Between two noises along the sphere, so that it stays noise of unit size.
pub(in crate::diffusion) fn slerp(a: &Tensor, b: &Tensor, by: f64) -> TensorResult<Tensor> {
    let dot = |x: &Tensor, y: &Tensor| -> TensorResult<f64> {
        Ok(f64::from((x * y)?.sum_all()?.to_scalar::<f32>()?))
    };
    let cosine = dot(a, b)? / (dot(a, a)? * dot(b, b)?).sqrt();
    let angle = cosine.clamp(-1.0, 1.0).acos();
    if angle.sin().abs() < 1e-4 {
        // They point the same way.
        return (a * (1.0 - by))? + (b * by)?;
    }
    let share = |by: f64| (by * angle).sin() / angle.sin();
    (a * share(1.0 - by))? + (b * share(by))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn noise_between_two_seeds_keeps_its_size() {
        let of = |seed| noise(seed, 0, &[1, 16, 16, 4], &Device::Cpu).unwrap();
        let (a, b) = (of(1), of(2));
        let size = |t: &Tensor| {
            let square = t.sqr().unwrap().mean_all().unwrap();
            square.to_scalar::<f32>().unwrap()
        };
        let half = slerp(&a, &b, 0.5).unwrap();
        assert!((size(&half) - 1.0).abs() < 0.15, "{}", size(&half));
        let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let far = |x: &Tensor, y: &Tensor| {
            let both = values(x).into_iter().zip(values(y));
            both.map(|(x, y)| (x - y).abs()).fold(0f32, f32::max)
        };
        assert!(far(&slerp(&a, &b, 0.0).unwrap(), &a) < 1e-6);
        assert!(far(&slerp(&a, &b, 1.0).unwrap(), &b) < 1e-6);
        assert!(far(&slerp(&a, &a, 0.3).unwrap(), &a) < 1e-6);
    }
}
