//! Stable Diffusion 1.x, 2.x and XL as authors have it: a folder in diffusers' layout or a single
//! file, with LoRAs, embeddings and another autoencoder.
//!
//! Opening reads headers and configurations and checks that everything fits; the networks are
//! loaded one at a time, when they are asked for.

mod builtin;
mod conditioning;
mod encoders;
mod guides;
mod inversion;
mod ldm;
mod lora;
mod open;
mod part;
mod patched;
mod pipeline;
mod prompts;
mod together;

pub(super) use builtin::{texts as builtin_texts, unet as builtin_unet, vae as builtin_vae};
pub use conditioning::{ControlNetConditioning, ReferenceConditioning, StepConditioning};
pub use encoders::TextEncoders;
pub(super) use open::{asked_text, asked_vae, checkpoint, read_config, vae_part};
pub(super) use part::LoadablePart;
pub use pipeline::{
    BESIDE_UNET, ControlImage, IpAdapterImage, PictureRequest, PipelineProgress, ReferenceImage,
    StableDiffusionPipeline,
};
pub(super) use pipeline::{check, slerp};
pub use prompts::{PromptEmbeds, PromptPair};

use super::error::DiffusionError;
use super::{
    Prediction, StableDiffusionFamily, TextConfig, TextEncoder, Unet, UnetConfig, Vae, VaeConfig,
};
use crate::nn::gpu::Gpu;
use crate::weights::ComputeDevices;
use candle_core::{DType, Device};
use serde_json::{Map, Value};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// How to open a model.
#[derive(Clone, Debug)]
pub struct StableDiffusionOptions {
    /// Device that the networks compute on.
    pub device: Device,
    /// Where the networks compute instead, if that is a GPU through wgpu.
    pub gpu: Option<Gpu>,
    /// The type in which weights are held; none: as the file stores them. Everything is computed
    /// in f32.
    pub held: Option<DType>,
    /// Whether the UNet multiplies its matrices in bf16, where the processor does that.
    pub bf16: bool,
    /// Files with their weights.
    pub loras: Vec<(PathBuf, f64)>,
    /// Files with the words by which they are called.
    pub embeddings: Vec<(PathBuf, String)>,
    /// Another autoencoder: a file, or a folder of diffusers'.
    pub vae: Option<PathBuf>,
    /// What the UNet predicts, where the file can't tell.
    pub prediction: Option<Prediction>,
}

impl StableDiffusionOptions {
    /// The model as it is, on the devices of `place`.
    pub fn at(place: &ComputeDevices) -> Self {
        Self {
            gpu: place.gpu.clone(),
            ..Self::on(&place.device)
        }
    }

    /// The model as it is.
    pub fn on(device: &Device) -> Self {
        Self {
            device: device.clone(),
            gpu: None,
            held: None,
            bf16: false,
            loras: Vec::new(),
            embeddings: Vec::new(),
            vae: None,
            prediction: None,
        }
    }
}

/// A model that is open: nothing of its weights is in memory yet.
pub struct StableDiffusion {
    path: PathBuf,
    family: StableDiffusionFamily,
    options: StableDiffusionOptions,
    unet: LoadablePart<UnetConfig>,
    vae: LoadablePart<VaeConfig>,
    texts: Vec<LoadablePart<TextConfig>>,
    scheduler: Map<String, Value>,
    /// The folder of each text encoder's tokenizer; none: CLIP's published one.
    tokenizers: Vec<Option<PathBuf>>,
    added: Vec<Vec<(String, Range<u32>)>>,
    zeros_for_empty: bool,
}

impl StableDiffusion {
    /// Opens a folder in diffusers' layout, or a checkpoint in one file (safetensors or a pickle).
    /// A folder `config` beside such a file with `unet.json`, `vae.json`, `text_encoder.json`,
    /// `text_encoder_2.json` for SDXL, `scheduler.json` and tokenizers takes the place of the
    /// published model's configuration.
    ///
    /// # Errors
    /// One sentence: a file that is missing, damaged, of another kind, or doesn't fit the others.
    pub fn open(path: &Path, options: StableDiffusionOptions) -> Result<Self, DiffusionError> {
        let mut model = match path.is_dir() {
            true => open::folder(path, options)?,
            false => open::file(path, options)?,
        };
        model.check()?;
        model.add_embeddings()?;
        model.add_loras()?;
        Ok(model)
    }

    /// The file or folder that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is 1.x, 2.x or XL.
    pub fn family(&self) -> StableDiffusionFamily {
        self.family
    }

    /// Device that the networks compute on.
    pub fn device(&self) -> &Device {
        &self.options.device
    }

    /// Where the networks compute instead, if that is a GPU through wgpu.
    pub fn gpu(&self) -> Option<&Gpu> {
        self.options.gpu.as_ref()
    }

    /// Configuration of the UNet.
    pub fn unet_config(&self) -> &UnetConfig {
        &self.unet.config
    }

    /// Configuration of the autoencoder.
    pub fn vae_config(&self) -> &VaeConfig {
        &self.vae.config
    }

    /// What `scheduler_config.json` says, and nothing else: what it leaves out has the default of
    /// the scheduler that runs.
    pub fn scheduler_config(&self) -> &Map<String, Value> {
        &self.scheduler
    }

    /// For each text encoder the words that are embeddings, and the ids that stand for each.
    pub fn added_tokens(&self) -> &[Vec<(String, Range<u32>)>] {
        &self.added
    }

    /// Whether zeros stand in place of a negative prompt that is not given.
    pub fn zeros_for_empty(&self) -> bool {
        self.zeros_for_empty
    }

    /// Width and height of the pictures that it was trained with.
    pub fn picture_size(&self) -> (u32, u32) {
        let side = (self.unet.config.sample_size * self.vae.config.decoder_scale()) as u32;
        (side, side)
    }

    /// Bytes that the weights of the text encoders, the UNet and the autoencoder take when loaded.
    pub fn weight_bytes(&self) -> (u64, u64, u64) {
        let held = self.options.held;
        let texts = self.texts.iter().map(|text| text.bytes(held)).sum();
        (texts, self.unet.bytes(held), self.vae.bytes(held))
    }

    /// Loads the text encoders.
    ///
    /// # Errors
    /// A file that vanished or is damaged, or NaN among its weights; so for the others.
    pub fn text_encoders(&self) -> Result<TextEncoders, DiffusionError> {
        let encoders = self
            .texts
            .iter()
            .enumerate()
            .map(|(i, part)| {
                let config = part.config.clone();
                part.load_with(&self.options, |p| match i {
                    0 => TextEncoder::new(config, p),
                    _ => TextEncoder::with_projection(config, p),
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(TextEncoders {
            family: self.family,
            encoders,
            device: self.device().clone(),
        })
    }

    /// Loads the UNet.
    ///
    /// # Errors
    /// As for [`StableDiffusion::text_encoders`].
    pub fn unet(&self) -> Result<Unet, DiffusionError> {
        let config = self.unet.config.clone();
        self.unet.load_with(&self.options, |p| Unet::new(config, p))
    }

    /// Loads the autoencoder.
    ///
    /// # Errors
    /// As for [`StableDiffusion::text_encoders`].
    pub fn vae(&self) -> Result<Vae, DiffusionError> {
        let config = self.vae.config.clone();
        self.vae.load_with(&self.options, |p| Vae::new(config, p))
    }
}
