//! Whole pictures: from prompts, pictures and masks to pixels, with what stays loaded between.

use super::{Dit, DitNetwork, DitPromptEmbeds};
use crate::diffusion::pixels::{mask_tensor, paste_around, picture_tensor};
use crate::diffusion::stable::{PipelineProgress, check, slerp};
use crate::diffusion::trajectory::is_finite;
use crate::diffusion::{BESIDE_UNET, DiffusionError, Preview, StepDone, Vae, to_picture};
use crate::nn::{Result as TensorResult, noise};
use candle_core::Tensor;
use image::{GrayImage, RgbImage, RgbaImage};
use std::ops::ControlFlow;

/// A picture request for a transformer.
pub struct DitRequest<'a> {
    /// Prompt; brackets weigh nothing here.
    pub prompt: &'a str,
    /// Negative prompt, read by those that take one.
    pub negative: &'a str,
    /// Width and height in pixels.
    pub size: (usize, usize),
    /// Seed of the initial noise.
    pub seed: u64,
    /// Another seed, and how far towards its noise, 0 to 1.
    pub variation: Option<(u64, f64)>,
    /// Guidance scale; 1 is none. diffusers' Z-Image counts one less.
    pub guidance: f64,
    /// Denoising steps.
    pub steps: usize,
    /// The picture to begin from, and how little is to be left of it, 0 to 1.
    pub init: Option<(&'a RgbImage, f64)>,
    /// What is white is drawn anew, what is black stays as it is in `init`.
    pub mask: Option<&'a GrayImage>,
}

type Sink<'a> = dyn FnMut(PipelineProgress) -> ControlFlow<()> + 'a;

/// A text-to-image pipeline over a transformer. Text encoders are freed once the prompts are
/// encoded; transformer and autoencoder stay loaded for the next picture.
pub struct DitPipeline {
    model: Dit,
    preview: Preview,
    network: Option<DitNetwork>,
    vae: Option<Vae>,
    /// What was read last, and what came of it.
    embeds: Option<(Vec<String>, Vec<DitPromptEmbeds>)>,
}

/// Latents to begin from, and where they stay.
struct Init {
    latents: Tensor,
    /// `[1,h,w,1]`: 1 is drawn anew, 0 stays.
    mask: Option<Tensor>,
}

impl DitPipeline {
    /// Draws with `model`, whose networks are loaded when they are first needed.
    pub fn new(model: Dit) -> Self {
        Self {
            model,
            preview: Preview::of_sixteen(),
            network: None,
            vae: None,
            embeds: None,
        }
    }

    /// The model that it draws with.
    pub fn model(&self) -> &Dit {
        &self.model
    }

    /// Bytes of the weights that stayed from the picture before.
    pub fn loaded(&self) -> u64 {
        let (_, network, vae) = self.model.weight_bytes();
        let of = |loaded: bool, bytes| if loaded { bytes } else { 0 };
        of(self.network.is_some(), network) + of(self.vae.is_some(), vae)
    }

    /// Draws a picture; `sink` breaks to cancel, which is obeyed before the next part, block of the
    /// transformer, step or decoding. `None` is cancelled. The same request gives the same picture on one machine.
    ///
    /// # Errors
    /// Settings out of range, a file that is gone, or values that are no numbers.
    pub fn draw(
        &mut self,
        request: &DitRequest,
        sink: &mut Sink,
    ) -> Result<Option<RgbaImage>, DiffusionError> {
        let (width, height) = request.size;
        let step = self.model.step();
        if width == 0 || height == 0 || width % step != 0 || height % step != 0 {
            return Err(DiffusionError::Settings(format!(
                "a picture of {width}x{height} pixels can't be drawn; choose sides in steps of {step}"
            ).into()));
        }
        if let Some((_, strength)) = request.init
            && !(0.0..=1.0).contains(&strength)
        {
            return Err(DiffusionError::Settings(
                format!("the strength {strength} is not from 0 to 1; choose one such as 0.6")
                    .into(),
            ));
        }
        let tokens = self.model.tokens(request.size);
        let sigmas = self.model.flow().sigmas(request.steps, tokens)?;
        let mut loading = |part| sink(PipelineProgress::Loading(part)).is_break();
        let Some(embedded) = self.prompt_embeds(request, &mut loading)? else {
            return Ok(None);
        };
        if request.init.is_some() && self.vae.is_none() && loading("autoencoder") {
            return Ok(None);
        }
        let init = self.init(request)?;
        if self.network.is_none() && loading("transformer") {
            return Ok(None);
        }
        let Some(latents) = self.walk(request, &sigmas, init, &embedded, sink)? else {
            return Ok(None);
        };
        if width * height > BESIDE_UNET {
            self.network = None;
        }
        let vae = self.vae()?;
        let decoded = vae.decode(&vae.from_unet(&latents)?)?;
        check(&decoded, "the autoencoder, drawing the picture")?;
        let picture = to_picture(&decoded)?;
        Ok(Some(match (request.init, request.mask) {
            (Some((init, _)), Some(mask)) => paste_around(&picture, init, mask),
            _ => picture,
        }))
    }

    /// What the text encoders make of the prompt, and of the negative prompt where one is read.
    fn prompt_embeds(
        &mut self,
        request: &DitRequest,
        loading: &mut dyn FnMut(&'static str) -> bool,
    ) -> Result<Option<Vec<DitPromptEmbeds>>, DiffusionError> {
        let mut prompts = vec![request.prompt.to_owned()];
        if self.model.takes_negative() && request.guidance > 1.0 {
            prompts.push(request.negative.to_owned());
        }
        let kept = self.embeds.take().filter(|(before, _)| *before == prompts);
        let embedded = match kept {
            Some((_, embedded)) => embedded,
            None if loading("text encoder") => return Ok(None),
            None => {
                let texts: Vec<&str> = prompts.iter().map(String::as_str).collect();
                self.model.encode_prompts(&texts)?
            }
        };
        for embedded in &embedded {
            let pooled = embedded.pooled.as_ref().map_or(Ok(true), is_finite)?;
            if !pooled || !is_finite(&embedded.states)? {
                return Err(DiffusionError::NotNumbers {
                    stage: "the text encoder".into(),
                    remedy: "get the model again, or change the prompt".into(),
                });
            }
        }
        self.embeds = Some((prompts, embedded.clone()));
        Ok(Some(embedded))
    }

    fn vae(&mut self) -> Result<&Vae, DiffusionError> {
        let vae = match self.vae.take() {
            Some(vae) => vae,
            None => self.model.vae()?,
        };
        Ok(self.vae.insert(vae))
    }

    fn init(&mut self, request: &DitRequest) -> Result<Option<Init>, DiffusionError> {
        let Some((picture, _)) = request.init else {
            return Ok(None);
        };
        let device = self.model.device().clone();
        let pixels = picture_tensor(picture, request.size, &device)?;
        let vae = self.vae()?;
        let latents = vae.to_unet(&vae.encode(&pixels)?.mean)?;
        check(&latents, "the autoencoder, reading the picture")?;
        let (_, h, w, _) = latents.dims4()?;
        let mask = request.mask.map(|mask| mask_tensor(mask, (w, h), &device));
        Ok(Some(Init {
            latents,
            mask: mask.transpose()?,
        }))
    }

    /// Unit noise for latents of `shape`.
    fn noise(&self, request: &DitRequest, shape: &[usize]) -> TensorResult<Tensor> {
        let of = |seed| noise(seed, 0, shape, self.model.device());
        let own = of(request.seed)?;
        match request.variation {
            Some((seed, by)) if by != 0.0 => slerp(&own, &of(seed)?, by),
            _ => Ok(own),
        }
    }

    fn walk(
        &mut self,
        request: &DitRequest,
        sigmas: &[f64],
        init: Option<Init>,
        embedded: &[DitPromptEmbeds],
        sink: &mut Sink,
    ) -> Result<Option<Tensor>, DiffusionError> {
        let config = self.model.vae_config();
        let scale = config.decoder_scale();
        let (width, height) = request.size;
        let shape = [1, height / scale, width / scale, config.latent_channels];
        let fresh = self.noise(request, &shape)?;
        let mixed = |clean: &Tensor, sigma: f64| (&fresh * sigma)? + (clean * (1.0 - sigma))?;
        let steps = sigmas.len() - 1;
        let start = match request.init {
            Some((_, strength)) => steps - ((steps as f64 * strength) as usize).min(steps),
            None => 0,
        };
        let mut x = match &init {
            Some(init) if start == steps => return Ok(Some(init.latents.clone())),
            Some(init) => mixed(&init.latents, sigmas[start])?,
            None => fresh.clone(),
        };
        let network = match self.network.take() {
            Some(network) => network,
            None => self.model.network()?,
        };
        let network = self.network.insert(network);
        let count = (steps - start) as u32;
        for (i, pair) in sigmas.windows(2).enumerate().skip(start) {
            let embedded = (&embedded[0], embedded.get(1));
            let mut cancelled = || sink(PipelineProgress::Still).is_break();
            let guidance = request.guidance;
            let velocity =
                network.predict_unless(&x, pair[0], embedded, guidance, &mut cancelled)?;
            let Some(velocity) = velocity else {
                return Ok(None);
            };
            let clean = (&x - (&velocity * pair[0])?)?;
            x = (&x + (velocity * (pair[1] - pair[0]))?)?;
            if let Some(Init {
                latents,
                mask: Some(mask),
            }) = &init
            {
                let around = mixed(latents, pair[1])?;
                let stays = mask.affine(-1.0, 1.0)?;
                x = (around.broadcast_mul(&stays)? + x.broadcast_mul(mask)?)?;
            }
            let step = (i - start) as u32 + 1;
            if !is_finite(&x)? {
                return Err(DiffusionError::NotNumbers {
                    stage: format!("the transformer in step {step} of {count}"),
                    remedy: "lower the guidance, or get the model again".into(),
                });
            }
            let done = StepDone {
                step,
                steps: count,
                preview: self.preview.draw(&clean)?,
            };
            if sink(PipelineProgress::Step(done)).is_break() {
                return Ok(None);
            }
        }
        Ok(Some(x))
    }
}
