//! A model folder in diffusers' layout: reading and writing its parts.

use super::error::{DiffusionError, read_json, replace_file, write_json};
use super::{
    CaptionTokenizer, Preview, SchedulerConfig, TextConfig, TextEncoder, Unet, UnetConfig, Vae,
    VaeConfig,
};
use crate::nn::{Params, Result as TensorResult};
use crate::weights::{Checkpoint, CheckpointError, TensorView};
use candle_core::{DType, Device, Tensor};
use serde::{Serialize, de::DeserializeOwned};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Makes parameters from a view of a file's tensors: it chooses device and type, and may report
/// layers as they load.
pub type Open<'a> = dyn Fn(TensorView) -> Params + 'a;

/// The parts of a model folder, each of which can be read or written alone.
#[derive(Clone, Debug)]
pub struct ModelFolder(PathBuf);

const UNET: (&str, &str) = ("unet", "diffusion_pytorch_model.safetensors");
const VAE: (&str, &str) = ("vae", "diffusion_pytorch_model.safetensors");
const TEXT: (&str, &str) = ("text_encoder", "model.safetensors");

impl ModelFolder {
    /// The model in this folder; nothing is read yet.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self(dir.into())
    }

    /// # Errors
    /// A file that is missing, damaged, or doesn't fit its configuration; so for all `read_`.
    pub fn read_unet(&self, device: &Device) -> Result<Unet, DiffusionError> {
        self.read(UNET, &plainly(device), Unet::new)
    }

    /// Reads the autoencoder, in f32.
    pub fn read_vae(&self, device: &Device) -> Result<Vae, DiffusionError> {
        self.read(VAE, &plainly(device), Vae::new)
    }

    /// # Errors
    /// A file that is missing or damaged; so for the other one.
    pub fn read_unet_config(&self) -> Result<UnetConfig, DiffusionError> {
        read_json(&self.0.join(UNET.0).join("config.json"))
    }

    /// Reads the autoencoder's `config.json`.
    pub fn read_vae_config(&self) -> Result<VaeConfig, DiffusionError> {
        read_json(&self.0.join(VAE.0).join("config.json"))
    }

    /// As [`ModelFolder::read_unet`], with parameters that `open` makes.
    pub fn open_unet(&self, open: &Open) -> Result<Unet, DiffusionError> {
        self.read(UNET, open, Unet::new)
    }

    /// As [`ModelFolder::read_vae`], with parameters that `open` makes.
    pub fn open_vae(&self, open: &Open) -> Result<Vae, DiffusionError> {
        self.read(VAE, open, Vae::new)
    }

    /// Reads the text encoder, in f32.
    pub fn read_text_encoder(&self, device: &Device) -> Result<TextEncoder, DiffusionError> {
        self.open_text_encoder(&plainly(device))
    }

    /// As [`ModelFolder::read_text_encoder`], with parameters that `open` makes.
    pub fn open_text_encoder(&self, open: &Open) -> Result<TextEncoder, DiffusionError> {
        self.read(TEXT, open, TextEncoder::new)
    }

    /// Reads the tokenizer.
    pub fn read_tokenizer(&self) -> Result<CaptionTokenizer, DiffusionError> {
        CaptionTokenizer::load(&self.0.join("tokenizer"))
    }

    /// Reads `scheduler_config.json`.
    pub fn read_scheduler(&self) -> Result<SchedulerConfig, DiffusionError> {
        read_json(&self.scheduler_path())
    }

    /// The fitted preview, or a plain one where the folder has none.
    pub fn read_preview(&self, channels: usize) -> Result<Preview, DiffusionError> {
        let path = self.preview_path();
        if !path.exists() {
            return Ok(Preview::plain(channels));
        }
        let preview: Preview = read_json(&path)?;
        match preview.fits(channels) {
            true => Ok(preview),
            false => Err(DiffusionError::config(
                &path,
                format!("it is not for latents of {channels} channels"),
            )),
        }
    }

    /// The file of the UNet's weights.
    pub fn unet_weights(&self) -> PathBuf {
        self.0.join(UNET.0).join(UNET.1)
    }

    /// The file of the autoencoder's weights.
    pub fn vae_weights(&self) -> PathBuf {
        self.0.join(VAE.0).join(VAE.1)
    }

    /// The file of the text encoder's weights.
    pub fn text_encoder_weights(&self) -> PathBuf {
        self.0.join(TEXT.0).join(TEXT.1)
    }

    /// Writes the UNet; `tensors` are in the file layout ([`Params::to_file_layout`]) and stored
    /// as `dtype` (f16 halves the file; models compute in f32 all the same).
    ///
    /// # Errors
    /// When the folder can't be written; so for all `write_`.
    pub fn write_unet(
        &self,
        config: &UnetConfig,
        tensors: &HashMap<String, Tensor>,
        dtype: DType,
    ) -> Result<(), DiffusionError> {
        self.write(UNET, "UNet2DConditionModel", config, tensors, dtype)
    }

    /// Writes the autoencoder with its configuration, weights stored as `dtype`.
    pub fn write_vae(
        &self,
        config: &VaeConfig,
        tensors: &HashMap<String, Tensor>,
        dtype: DType,
    ) -> Result<(), DiffusionError> {
        self.write(VAE, "AutoencoderKL", config, tensors, dtype)
    }

    /// Writes the text encoder with its configuration, weights stored as `dtype`.
    pub fn write_text_encoder(
        &self,
        config: &TextConfig,
        tensors: &HashMap<String, Tensor>,
        dtype: DType,
    ) -> Result<(), DiffusionError> {
        self.write(TEXT, "CLIPTextModel", config, tensors, dtype)
    }

    /// Writes the tokenizer.
    pub fn write_tokenizer(&self, tokenizer: &CaptionTokenizer) -> Result<(), DiffusionError> {
        tokenizer.save(&self.0.join("tokenizer"))
    }

    /// Writes `scheduler_config.json`.
    pub fn write_scheduler(&self, config: &SchedulerConfig) -> Result<(), DiffusionError> {
        write_json(&self.scheduler_path(), config)
    }

    /// Writes the factors of the latent preview.
    pub fn write_preview(&self, preview: &Preview) -> Result<(), DiffusionError> {
        write_json(&self.preview_path(), preview)
    }

    /// Writes `model_index.json`, by which diffusers knows the folder; write it last.
    pub fn write_index(&self, scheduler: &SchedulerConfig) -> Result<(), DiffusionError> {
        let index = serde_json::json!({
            "_class_name": "StableDiffusionPipeline",
            "requires_safety_checker": false,
            "safety_checker": [null, null],
            "scheduler": ["diffusers", scheduler.class_name()],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "tokenizer": ["vokenboard", "CaptionTokenizer"],
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderKL"],
        });
        write_json(&self.0.join("model_index.json"), &index)
    }

    fn scheduler_path(&self) -> PathBuf {
        self.0.join("scheduler/scheduler_config.json")
    }

    fn preview_path(&self) -> PathBuf {
        self.0.join("preview.json")
    }

    fn read<C: DeserializeOwned, M>(
        &self,
        (part, file): (&str, &str),
        open: &Open,
        build: impl Fn(C, Params) -> TensorResult<M>,
    ) -> Result<M, DiffusionError> {
        let dir = self.0.join(part);
        let config = read_json(&dir.join("config.json"))?;
        let path = dir.join(file);
        // Folders that were not written here may hold the weights in another form.
        let own = std::fs::symlink_metadata(&path).is_ok();
        let checkpoint = Checkpoint::open(if own { &path } else { &dir });
        let checkpoint = checkpoint.map_err(|error| match error {
            CheckpointError::Empty { .. } => DiffusionError::unreadable(&path, "it is not there"),
            other => DiffusionError::Checkpoint(other),
        })?;
        let view = TensorView::of(&Arc::new(checkpoint));
        build(config, open(view)).map_err(|error| DiffusionError::of_tensors(&path, error))
    }

    fn write<C: Serialize>(
        &self,
        (part, file): (&str, &str),
        class: &str,
        config: &C,
        tensors: &HashMap<String, Tensor>,
        dtype: DType,
    ) -> Result<(), DiffusionError> {
        let dir = self.0.join(part);
        let path = dir.join(file);
        let tensors = tensors
            .iter()
            .map(|(name, t)| Ok((name.clone(), t.to_dtype(dtype)?)))
            .collect::<TensorResult<HashMap<_, _>>>()?;
        let bytes = safetensors::serialize(&tensors, None)
            .map_err(|e| DiffusionError::unwritable(&path, e))?;
        replace_file(&path, &bytes)?;
        write_config(&dir.join("config.json"), class, config)
    }
}

/// Parameters in f32 on `device`.
fn plainly(device: &Device) -> impl Fn(TensorView) -> Params {
    move |view| Params::from_source(Arc::new(view), false, device)
}

/// A configuration with the class name that diffusers and transformers expect in it.
fn write_config<C: Serialize>(path: &Path, class: &str, config: &C) -> Result<(), DiffusionError> {
    let mut value =
        serde_json::to_value(config).map_err(|e| DiffusionError::unwritable(path, e))?;
    if let Some(map) = value.as_object_mut() {
        map.insert("_class_name".into(), class.into());
    }
    write_json(path, &value)
}
