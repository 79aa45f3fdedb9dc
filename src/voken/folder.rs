//! A model of our own as files: `config.json`, what it sees with (`vision.safetensors`) and what
//! speaks (`model.safetensors`: vokens' rows, mapper, adapters). The language model lies elsewhere.

use super::{CompositionHeadConfig, ReferenceSizes, VokenModel};
use crate::cause::Cause;
use crate::files::write_in_folder;
use crate::llm::LlmError;
use crate::llm::float::GgufLlama;
use crate::nn::Params;
use crate::vision::{TowerParams, VisionTower};
use crate::weights::ComputeDevices;
use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// What conditions the picture: the vokens that follow `[IMG0]`, or a description.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PictureConditioning {
    /// The other vokens, whose states condition the picture.
    #[default]
    Vokens,
    /// A description of the picture in words, which a text encoder reads (as in Divter, arXiv
    /// 2110.08515).
    Description,
}

/// A voken folder's `config.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FolderConfig {
    /// Sizes of the networks.
    #[serde(flatten)]
    pub sizes: ReferenceSizes,
    /// Whether the language model has adapters.
    #[serde(default)]
    pub adapted: bool,
    /// How a story is laid out in its prompts.
    #[serde(default)]
    pub speaks: PictureConditioning,
    /// What says who is in a picture, of a model that draws from references.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(rename = "stage_head")]
    pub composition_head: Option<CompositionHeadConfig>,
}

/// What can be wrong with the folder; each message is one sentence.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// A file cannot be read or is not what it must be.
    #[error("{} can't be read ({why}); train the stage that writes it, or restore it", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        why: Cause,
    },
    /// A file cannot be written.
    #[error("{} can't be written ({why}); check the folder and the free space on its disk", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// Why the system refused.
        #[source]
        why: Cause,
    },
    /// The language model cannot be loaded.
    #[error(transparent)]
    Language(#[from] LlmError),
}

/// A voken folder: configuration, vision tower, and weights of vokens, mapper and adapters.
#[derive(Clone, Debug)]
pub struct VokenFolder(PathBuf);

impl VokenFolder {
    /// The model in this folder; nothing is read yet.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self(dir.into())
    }

    /// Whether it holds a model that can tell stories.
    pub fn is_whole(&self) -> bool {
        [self.config_file(), self.vision_file(), self.model_file()]
            .iter()
            .all(|file| file.is_file())
    }

    fn config_file(&self) -> PathBuf {
        self.0.join("config.json")
    }

    /// Weights of the image encoder.
    pub fn vision_file(&self) -> PathBuf {
        self.0.join("vision.safetensors")
    }

    /// Weights of the vokens, mapper and adapters.
    pub fn model_file(&self) -> PathBuf {
        self.0.join("model.safetensors")
    }

    /// # Errors
    /// A file that is missing or damaged; so for all `read_`.
    pub fn read_config(&self) -> Result<FolderConfig, FolderError> {
        let path = self.config_file();
        let bad = |why: Cause| FolderError::Unreadable {
            path: path.clone(),
            why,
        };
        let bytes = crate::files::read_whole(&path).map_err(|e| bad(e.into()))?;
        serde_json::from_slice(&bytes).map_err(|e| bad(e.into()))
    }

    /// The vision tower, for a language model of `width`.
    pub fn read_tower(&self, width: usize, device: &Device) -> Result<VisionTower, FolderError> {
        self.read_tower_at(width, &ComputeDevices::of(device))
    }

    /// As [`VokenFolder::read_tower`], onto the devices of `place`.
    pub fn read_tower_at(
        &self,
        width: usize,
        place: &ComputeDevices,
    ) -> Result<VisionTower, FolderError> {
        let config = self.read_config()?.sizes.vision;
        let path = self.vision_file();
        let p = self.params(&path, &place.device)?.on(place.gpu.as_ref());
        VisionTower::new(config, width, &TowerParams::all(&p)).map_err(|e| unreadable(&path, &e))
    }

    /// The vision tower for the language model that it was trained for.
    pub fn read_tower_alone(&self, device: &Device) -> Result<VisionTower, FolderError> {
        let path = self.vision_file();
        let projection = self.params(&path, device)?.shape("llama_proj.weight");
        match projection.as_deref() {
            Some(&[width, _]) => self.read_tower(width, device),
            _ => {
                let why = "llama_proj.weight is missing".to_owned();
                Err(unreadable(&path, &candle_core::Error::Msg(why)))
            }
        }
    }

    /// The language model with its vokens and the mapper, on the quantised layers of `file`.
    pub fn read_model(&self, file: &GgufLlama, device: &Device) -> Result<VokenModel, FolderError> {
        let config = self.read_config()?;
        let path = self.model_file();
        let p = self.params(&path, device)?;
        let llama = file.with_own_tables(device)?;
        VokenModel::own(llama, &config, &p).map_err(|e| unreadable(&path, &e))
    }

    fn params(&self, path: &Path, device: &Device) -> Result<Params, FolderError> {
        Params::from_safetensors(&[path.to_owned()], device).map_err(|e| FolderError::Unreadable {
            path: path.to_owned(),
            why: e.into(),
        })
    }

    /// # Errors
    /// When the folder can't be written; so for all `write_`.
    pub fn write_config(&self, config: &FolderConfig) -> Result<(), FolderError> {
        let path = self.config_file();
        let json = serde_json::to_string_pretty(config).map_err(|e| unwritable(&path, e))?;
        self.write(&path, format!("{json}\n").as_bytes())
    }

    /// `tensors` in the file layout ([`Params::to_file_layout`]), kept in f16.
    pub fn write_vision(&self, tensors: &HashMap<String, Tensor>) -> Result<(), FolderError> {
        self.write_tensors(&self.vision_file(), tensors)
    }

    /// As [`VokenFolder::write_vision`].
    pub fn write_model(&self, tensors: &HashMap<String, Tensor>) -> Result<(), FolderError> {
        self.write_tensors(&self.model_file(), tensors)
    }

    /// Takes over what another folder sees with.
    pub fn copy_vision(&self, from: &VokenFolder) -> Result<(), FolderError> {
        let path = from.vision_file();
        let bytes = crate::files::read_whole(&path).map_err(|e| FolderError::Unreadable {
            path,
            why: e.into(),
        })?;
        self.write(&self.vision_file(), &bytes)
    }

    fn write_tensors(
        &self,
        path: &Path,
        tensors: &HashMap<String, Tensor>,
    ) -> Result<(), FolderError> {
        let half = tensors
            .iter()
            .map(|(name, t)| Ok((name.clone(), t.to_dtype(DType::F16)?)))
            .collect::<candle_core::Result<HashMap<_, _>>>()
            .map_err(|e| unwritable(path, e))?;
        let bytes = safetensors::serialize(&half, None).map_err(|e| unwritable(path, e))?;
        self.write(path, &bytes)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), FolderError> {
        write_in_folder(path, bytes).map_err(|e| unwritable(path, e))
    }
}

fn unreadable(path: &Path, error: &candle_core::Error) -> FolderError {
    FolderError::Unreadable {
        path: path.to_owned(),
        why: error.to_string().lines().next().unwrap_or_default().into(),
    }
}

fn unwritable(path: &Path, error: impl Into<Cause>) -> FolderError {
    FolderError::Unwritable {
        path: path.to_owned(),
        why: error.into(),
    }
}
