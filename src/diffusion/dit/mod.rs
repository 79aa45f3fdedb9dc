//! FLUX.1 and Z-Image: the text encoders are candle-transformers' (T5, Qwen3) and ours (CLIP), the
//! scheduler is diffusers', the autoencoder ours.
//!
//! The transformers are ours as well, since candle-transformers' hold the attention scores of all
//! tokens to all others at once, multiply with half precision slowly on the CPU, compute the angles
//! of FLUX.1's positions in bf16, and leave out the tokens with which Z-Image fills text and picture
//! up. Weights are held as the file has them: f32, f16, bf16 (fp8 becomes that), or quantised in a
//! GGUF file, in which they stay.

mod find;
mod flow;
mod flux;
mod layers;
mod names;
mod open;
mod pipeline;
mod source;
mod texts;
mod z_image;

pub use find::{DitPart, part_of};
pub use flow::FlowConfig;
pub use pipeline::{DitPipeline, DitRequest};
pub use texts::DitPromptEmbeds;

use super::stable::LoadablePart;
use super::{DiffusionError, Vae, VaeConfig};
use crate::nn::Result as TensorResult;
use candle_core::{DType, Device, Tensor};
use flux::{FluxConfig, FluxNetwork};
use layers::PATCH;
use source::Weights;
use std::fmt;
use std::path::{Path, PathBuf};
use texts::Texts;
use z_image::{ZImageConfig, ZImageNetwork};

/// The transformers that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DitFamily {
    /// FLUX.1 schnell and dev.
    Flux,
    /// Z-Image and Z-Image Turbo.
    ZImage,
}

impl fmt::Display for DitFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DitFamily::Flux => "flux",
            DitFamily::ZImage => "z-image",
        })
    }
}

/// Where the transformer lies, by its kind.
#[derive(Clone)]
enum Transformer {
    Flux(FluxConfig, Weights),
    ZImage(ZImageConfig, Weights),
}

/// A model that is open: nothing of its weights is in memory yet.
pub struct Dit {
    path: PathBuf,
    transformer: Transformer,
    texts: Texts,
    vae: LoadablePart<VaeConfig>,
    flow: FlowConfig,
    device: Device,
}

/// The transformer in memory.
pub struct DitNetwork(Loaded);

enum Loaded {
    Flux(Box<FluxNetwork>),
    ZImage(Box<ZImageNetwork>),
}

impl Dit {
    /// Opens a folder in diffusers' layout, or a file with the transformer: a whole checkpoint, or
    /// with `parts` that hold its text encoders and autoencoder. A folder `config` beside such a file
    /// with `transformer.json`, `vae.json`, `scheduler.json`, configurations of the text encoders and
    /// tokenizers takes the place of the published configuration.
    ///
    /// # Errors
    /// One sentence: a file that is missing, damaged, of another kind, or doesn't fit the others.
    pub fn open(path: &Path, parts: &[PathBuf], device: &Device) -> Result<Self, DiffusionError> {
        match path.is_dir() {
            true => open::folder(path, device),
            false => open::file(path, parts, device),
        }
    }

    /// The file or folder that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Which transformer it has.
    pub fn family(&self) -> DitFamily {
        match self.transformer {
            Transformer::Flux(..) => DitFamily::Flux,
            Transformer::ZImage(..) => DitFamily::ZImage,
        }
    }

    /// The name for people.
    pub fn label(&self) -> &'static str {
        match &self.transformer {
            Transformer::Flux(config, _) if config.guidance_embeds => "FLUX.1 dev",
            Transformer::Flux(..) => "FLUX.1 schnell",
            Transformer::ZImage(..) => "Z-Image",
        }
    }

    /// Whether guidance is an input of the transformer, which then predicts once a step.
    pub fn reads_guidance(&self) -> bool {
        matches!(&self.transformer, Transformer::Flux(config, _) if config.guidance_embeds)
    }

    /// Whether a negative prompt is read where guidance is above 1.
    pub fn takes_negative(&self) -> bool {
        matches!(self.transformer, Transformer::ZImage(..))
    }

    /// Device that the networks compute on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Configuration of the autoencoder.
    pub fn vae_config(&self) -> &VaeConfig {
        &self.vae.config
    }

    /// The scheduler's configuration.
    pub fn flow(&self) -> &FlowConfig {
        &self.flow
    }

    /// Pixels of a side come in multiples of this.
    pub fn step(&self) -> usize {
        PATCH * self.vae.config.decoder_scale()
    }

    /// Most pixels of a side that the transformer has places for.
    pub fn longest_side(&self) -> Option<usize> {
        match &self.transformer {
            Transformer::Flux(..) => None,
            Transformer::ZImage(config, _) => {
                Some(config.longest_side() * self.vae.config.decoder_scale())
            }
        }
    }

    /// Width and height of the pictures that it was trained with.
    pub fn picture_size(&self) -> (u32, u32) {
        let side = match self.vae.config.decoder_scale() {
            8 => 1024,
            // A small one for tests.
            scale => 16 * scale as u32,
        };
        (side, side)
    }

    /// Tokens of a picture of so many pixels.
    pub fn tokens(&self, (width, height): (usize, usize)) -> usize {
        width / self.step() * (height / self.step())
    }

    /// Bytes that the weights of the largest text encoder, the transformer and the autoencoder take.
    pub fn weight_bytes(&self) -> (u64, u64, u64) {
        let transformer = self.transformer_weights().bytes();
        (self.texts.bytes(), transformer, self.vae.bytes(None))
    }

    /// Whether the autoencoder's weights are held in f32.
    pub fn vae_is_f32(&self) -> bool {
        self.vae.source.stored() == DType::F32
    }

    fn transformer_weights(&self) -> &Weights {
        match &self.transformer {
            Transformer::Flux(_, weights) | Transformer::ZImage(_, weights) => weights,
        }
    }

    /// Numbers that a step of denoising holds at its most beside the weights: those of every token
    /// in a block, and the largest matrix while it is widened.
    pub fn step_numbers(&self, size: (usize, usize)) -> u64 {
        let (text, wide) = match &self.transformer {
            Transformer::Flux(config, _) => (config.text_tokens(), config.work_per_token()),
            Transformer::ZImage(config, _) => (config.text_tokens(), config.work_per_token()),
        };
        let tokens = (self.tokens(size) + text) as u64;
        tokens * wide + self.transformer_weights().widest()
    }

    /// The ids that each text encoder gets for a prompt.
    ///
    /// # Errors
    /// A tokenizer that is missing or damaged.
    pub fn ids(&self, text: &str) -> Result<Vec<Vec<u32>>, DiffusionError> {
        self.texts.ids(text)
    }

    /// Loads the text encoders, reads all `prompts` and lets the encoders go.
    ///
    /// # Errors
    /// A file that is missing or damaged, or memory that can't be had.
    pub fn encode_prompts(&self, prompts: &[&str]) -> Result<Vec<DitPromptEmbeds>, DiffusionError> {
        self.texts.encode_prompts(prompts, &self.device)
    }

    /// Loads the transformer.
    ///
    /// # Errors
    /// A file that vanished or is damaged, or NaN among its weights; so for the autoencoder.
    pub fn network(&self) -> Result<DitNetwork, DiffusionError> {
        Ok(DitNetwork(match &self.transformer {
            Transformer::Flux(config, weights) => {
                Loaded::Flux(Box::new(config.load(weights, &self.device)?))
            }
            Transformer::ZImage(config, weights) => {
                Loaded::ZImage(Box::new(config.load(weights, &self.device)?))
            }
        }))
    }

    /// Loads the autoencoder.
    ///
    /// # Errors
    /// As for [`Dit::network`].
    pub fn vae(&self) -> Result<Vae, DiffusionError> {
        let config = self.vae.config.clone();
        self.vae.load(None, &self.device, |p| Vae::new(config, p))
    }
}

/// Whether a picture was cancelled; asked often.
type Cancelled<'a> = dyn FnMut() -> bool + 'a;

impl DitNetwork {
    /// The velocity `[1,h,w,C]` from pictures to noise at `latents [1,h,w,C]` and noise level
    /// `sigma`. Where there is a negative prompt, it is led away from that by `guidance`, 1 being
    /// none; where guidance is an input of the transformer, it is given that.
    ///
    /// # Errors
    /// Latents with odd sides, and what candle says.
    pub fn predict(
        &self,
        latents: &Tensor,
        sigma: f64,
        embeds: (&DitPromptEmbeds, Option<&DitPromptEmbeds>),
        guidance: f64,
    ) -> TensorResult<Tensor> {
        let found = self.predict_unless(latents, sigma, embeds, guidance, &mut || false)?;
        found.ok_or_else(|| candle_core::Error::Msg("a prediction was cancelled".into()))
    }

    /// The same unless it is `cancelled`, which is asked before every block.
    ///
    /// # Errors
    /// As there.
    pub fn predict_unless(
        &self,
        latents: &Tensor,
        sigma: f64,
        (embeds, away): (&DitPromptEmbeds, Option<&DitPromptEmbeds>),
        guidance: f64,
        cancelled: &mut Cancelled,
    ) -> TensorResult<Option<Tensor>> {
        let (_, h, w, _) = latents.dims4()?;
        if h % PATCH != 0 || w % PATCH != 0 {
            candle_core::bail!("latents of {w}x{h} can't be cut into squares of {PATCH}");
        }
        // Half precision where the hardware has units for it: bf16, since FLUX.1 leaves f16's range.
        let latents = &match latents.device() {
            Device::Cpu => latents.clone(),
            Device::Cuda(_) | Device::Metal(_) => latents.to_dtype(DType::BF16)?,
        };
        let mut one = |embeds: &DitPromptEmbeds| match &self.0 {
            Loaded::Flux(net) => {
                let pooled = embeds.pooled.as_ref().unwrap_or(&embeds.states);
                net.predict(
                    latents,
                    sigma,
                    (&embeds.states, pooled),
                    guidance,
                    cancelled,
                )
            }
            Loaded::ZImage(net) => net.predict(latents, sigma, &embeds.states, cancelled),
        };
        let towards = one(embeds)?;
        let (Some(towards), Some(away)) = (&towards, away) else {
            return Ok(towards);
        };
        let Some(away) = one(away)? else {
            return Ok(None);
        };
        Ok(Some((&away + ((towards - &away)? * guidance)?)?))
    }
}
