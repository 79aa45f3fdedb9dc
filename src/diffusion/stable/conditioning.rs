//! What the UNet is told in every step of a picture, and the guided prediction that comes of it.

use super::StableDiffusion;
use super::prompts::PromptEmbeds;
use crate::diffusion::trajectory::is_finite;
use crate::diffusion::{
    Conditioning, ControlNet, DiffusionError, ReferenceBank, Residuals, SchedulerConfig,
    StableDiffusionFamily, TokenSelection, Unet, UnetCall, guidance_embedding, same_timestep,
    time_ids,
};
use candle_core::{DType, Device, Tensor};
use std::sync::Arc;

/// The type of the UNet's activations on a device: f16 where the hardware has units for it.
fn activations(device: &Device) -> DType {
    match device {
        Device::Cpu => DType::F32,
        Device::Cuda(_) | Device::Metal(_) => DType::F16,
    }
}

/// A ControlNet with its conditioning picture.
pub struct ControlNetConditioning {
    /// The network.
    pub net: ControlNet,
    /// `[1,H,W,3]` in 0..1.
    pub picture: Tensor,
    /// Conditioning scale; 1 is as it was trained.
    pub scale: f64,
    /// From and to which share of the steps it works.
    pub share: (f64, f64),
}

/// A picture for reference attention: noised like the picture that is drawn, it goes through the
/// UNet with its own prompt in every step, and its keys and values are seen beside the picture's.
pub struct ReferenceConditioning {
    /// Scaled clean latents `[1,h,w,C]`, of any height and width.
    pub latents: Tensor,
    /// The same unit noise in every step.
    pub noise: Tensor,
    /// Of its own prompt, without a negative half.
    pub conditioning: Conditioning,
    /// For a UNet that sees the mask: an empty one and the latents, `[1,h,w,1 + channels]`.
    pub shown: Option<Tensor>,
    /// The share of its tokens that is seen, 0 to 1.
    pub strength: f64,
    /// From and to which share of the steps it works.
    pub share: (f64, f64),
}

/// What conditions the UNet in every step: embeddings, ControlNets, reference pictures and the
/// guidance scale.
pub struct StepConditioning {
    /// With guidance both halves, the negative first.
    pub conditioning: Conditioning,
    /// The guidance scale where both halves are asked.
    pub guidance: Option<f64>,
    /// From and to which share of the steps the picture in `conditioning` works.
    pub image_share: (f64, f64),
    /// ControlNets, whose residuals are added up.
    pub controlnets: Vec<ControlNetConditioning>,
    /// Pictures for reference attention.
    pub references: Vec<ReferenceConditioning>,
    /// From which the shares of reference tokens are drawn.
    pub seed: u64,
    /// For a UNet that sees the mask: mask and latents of the cut-out, `[1,h,w,1 + channels]`.
    pub shown: Option<Tensor>,
    /// The type of the UNet's activations. Where f16 has no room for one of them, the prediction is
    /// made once more in f32.
    pub activations: DType,
}

impl StableDiffusion {
    /// The model's schedule, as its configuration has it.
    ///
    /// # Errors
    /// A configuration that is none.
    pub fn schedule(&self) -> Result<SchedulerConfig, DiffusionError> {
        let map = self.scheduler_config().clone();
        SchedulerConfig::try_from(map).map_err(|why| DiffusionError::config(self.path(), why))
    }

    /// Conditioning of the UNet for a picture of `width` x `height` pixels: unconditional and
    /// conditional half, with SDXL's time ids.
    ///
    /// # Errors
    /// Shapes that don't fit.
    pub fn step_conditioning(
        &self,
        embeds: &PromptEmbeds,
        guidance: f64,
        (width, height): (usize, usize),
    ) -> Result<StepConditioning, DiffusionError> {
        let (positive, negative) = (&embeds.positive, embeds.negative.as_ref());
        let join = |of: fn(&crate::diffusion::TextFeatures) -> &Tensor| match negative {
            Some(negative) => Tensor::cat(&[of(negative), of(positive)], 0),
            None => Ok(of(positive).clone()),
        };
        let text = join(|features| &features.states)?;
        let batch = text.dim(0)?;
        let xl = self.family() == StableDiffusionFamily::Sdxl;
        let pooled = join(|features| &features.pooled)?;
        let conditioning = Conditioning {
            pooled: xl.then_some(pooled),
            time_ids: match xl {
                true => Some(time_ids(width, height, batch, self.device())?),
                false => None,
            },
            timestep_cond: match self.unet_config().time_cond_proj_dim {
                Some(dim) => Some(guidance_embedding(guidance, dim, self.device())?),
                None => None,
            },
            ..Conditioning::of_text(text)
        };
        Ok(StepConditioning {
            conditioning,
            guidance: negative.map(|_| guidance),
            image_share: (0.0, 1.0),
            controlnets: Vec::new(),
            references: Vec::new(),
            seed: 0,
            shown: None,
            activations: activations(self.device()),
        })
    }
}

impl StepConditioning {
    /// The guided prediction for a call.
    ///
    /// # Errors
    /// Shapes that don't fit, or memory that can't be had.
    pub fn predict(&self, unet: &Unet, call: &UnetCall) -> Result<Tensor, DiffusionError> {
        let halves = 1 + usize::from(self.guidance.is_some());
        let seen = call.seen.repeat((halves, 1, 1, 1))?;
        let times = same_timestep(call.timestep, halves * call.seen.dim(0)?, seen.device())?;
        let mut conditioning = self.conditioning.clone();
        if !works(self.image_share, call) {
            conditioning.image = None;
        }
        conditioning.control = self.control(&seen, &times, call)?;
        conditioning.beside = self.reference_bank(unet, call)?;
        let seen = match &self.shown {
            Some(shown) => {
                let shown = shown.repeat((seen.dim(0)?, 1, 1, 1))?;
                Tensor::cat(&[&seen, &shown], 3)?
            }
            None => seen,
        };
        let answer = self.answer(unet, &seen, &times, &conditioning)?;
        let Some(guidance) = self.guidance else {
            return Ok(answer);
        };
        let batch = call.seen.dim(0)?;
        let away = answer.narrow(0, 0, batch)?;
        let towards = answer.narrow(0, batch, batch)?;
        Ok((&away + ((towards - &away)? * guidance)?)?)
    }

    fn answer(
        &self,
        unet: &Unet,
        seen: &Tensor,
        times: &Tensor,
        conditioning: &Conditioning,
    ) -> Result<Tensor, DiffusionError> {
        let within = seen.to_dtype(self.activations)?;
        let answer = unet
            .predict(&within, times, conditioning)?
            .to_dtype(DType::F32)?;
        match self.activations == DType::F32 || is_finite(&answer)? {
            true => Ok(answer),
            false => Ok(unet.predict(seen, times, conditioning)?),
        }
    }

    /// What all reference pictures that work in this call have to see.
    fn reference_bank(
        &self,
        unet: &Unet,
        call: &UnetCall,
    ) -> Result<Option<Arc<ReferenceBank>>, DiffusionError> {
        let mut bank = None;
        for (picture, referred) in self.references.iter().enumerate() {
            if referred.strength <= 0.0 || !works(referred.share, call) {
                continue;
            }
            let seen = call.noised(&referred.latents, &referred.noise)?;
            let seen = match &referred.shown {
                Some(shown) => Tensor::cat(&[&seen, shown], 3)?,
                None => seen,
            };
            let times = same_timestep(call.timestep, 1, seen.device())?;
            let pick = TokenSelection {
                seed: self.seed,
                call: call.index,
                picture,
                share: referred.strength,
            };
            let before = bank.take().unwrap_or_default();
            bank =
                Some(unet.bank_reference(&seen, &times, &referred.conditioning, pick, before)?);
        }
        Ok(bank.map(Arc::new))
    }

    /// What all ControlNets that work in this call add.
    fn control(
        &self,
        seen: &Tensor,
        times: &Tensor,
        call: &UnetCall,
    ) -> Result<Option<Residuals>, DiffusionError> {
        let mut sum: Option<Residuals> = None;
        for followed in self.controlnets.iter().filter(|f| works(f.share, call)) {
            let ControlNetConditioning {
                net,
                picture,
                scale,
                ..
            } = followed;
            let more = net.forward(seen, times, &self.conditioning, picture, *scale)?;
            sum = Some(match sum {
                Some(before) => before.plus(&more)?,
                None => more,
            });
        }
        Ok(sum)
    }
}

/// Whether a call lies in a share of the steps.
fn works((from, to): (f64, f64), call: &UnetCall) -> bool {
    let at = call.index as f64 / call.count as f64;
    at >= from && at < to
}
