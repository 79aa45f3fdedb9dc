//! The networks of a model, read from its parts.

use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device};

use super::listener::{LoadListener, TracedView};
use super::plan::{MemoryPlan, PanelTask, Precision};
use super::{PartPaths, PublishedError};
use crate::diffusion::{LatentDiffusion, ModelFolder, UnetConfig, VaeConfig};
use crate::llm::LlamaTokenizer;
use crate::llm::float::{FloatConfig, FloatLlama, GgufLlama};
use crate::nn::Params;
use crate::nn::gpu::Gpu;
use crate::vision::{TowerParams, VisionTower};
use crate::voken::{BaseModel, FeatureMapper, ReferenceSizes, VokenIds, VokenModel};
use crate::weights::{Checkpoint, DeviceKind, TensorView};

/// A folder of the public weights of MiniGPT-5 that is open: sizes and tokenizer are read, the networks on demand.
pub struct Published {
    parts: PartPaths,
    /// Hyperparameters of all networks.
    pub sizes: ReferenceSizes,
    /// Tokenizer of the language model, with the vokens added.
    pub tokenizer: Arc<LlamaTokenizer>,
}

/// Where a network is read to, and the type in which it holds its weights.
#[derive(Clone, Debug)]
pub struct LoadTarget {
    /// Device that the weights go to.
    pub device: Device,
    /// Data type that the weights are held in there.
    pub held: DType,
    /// Where its layers compute instead, if that is a GPU through wgpu.
    pub gpu: Option<Gpu>,
}

impl LoadTarget {
    /// Where `plan` puts what does `task`; `device` is the one that was planned for.
    pub fn of(plan: &MemoryPlan, task: PanelTask, device: &Device) -> LoadTarget {
        let (kind, precision) = plan.target(task);
        LoadTarget {
            device: match kind {
                DeviceKind::Cpu => Device::Cpu,
                DeviceKind::Cuda | DeviceKind::Metal => device.clone(),
            },
            held: match precision {
                Precision::F16 => DType::F16,
                Precision::F32 | Precision::Quantised => DType::F32,
            },
            gpu: None,
        }
    }

    fn params(&self, view: TensorView, listener: &LoadListener) -> Params {
        let traced = TracedView::new(view, listener.clone());
        Params::held_as(Arc::new(traced), self.held, &self.device).on(self.gpu.as_ref())
    }

    fn open(&self, path: &Path, listener: &LoadListener) -> Result<Params, PublishedError> {
        let view = TensorView::of(&Arc::new(Checkpoint::open(path)?));
        Ok(self.params(view, listener))
    }
}

/// A language model that writes vokens.
pub struct VokenLanguageWeights {
    /// The language model, computed in floating point.
    pub llama: FloatLlama,
    /// Voken feature mapper: hidden states of the vokens to text states of the diffusion model.
    pub mapper: FeatureMapper,
    /// The vokens and what else was added to the tokenizer.
    pub vocabulary: VokenIds,
    /// The id that a generated sequence begins with.
    pub bos: u32,
    /// The id that ends one.
    pub eos: Option<u32>,
}

impl Published {
    /// Reads the small parts: sizes and tokenizer.
    ///
    /// # Errors
    /// When one is missing or damaged; so for all of it.
    pub fn open(parts: PartPaths) -> Result<Self, PublishedError> {
        Ok(Self {
            sizes: parts.read_sizes()?,
            tokenizer: Arc::new(parts.read_tokenizer()?),
            parts,
        })
    }

    /// Which file or folder each part is.
    pub fn parts(&self) -> &PartPaths {
        &self.parts
    }

    /// Width and height of the pictures that the model draws.
    pub fn picture_size(&self) -> Result<(u32, u32), PublishedError> {
        let folder = ModelFolder::new(&self.parts.stable_diffusion);
        let unet: UnetConfig = folder.read_unet_config()?;
        let vae: VaeConfig = folder.read_vae_config()?;
        let side = unet.sample_size.saturating_mul(vae.decoder_scale());
        let side = u32::try_from(side).unwrap_or(u32::MAX);
        Ok((side, side))
    }

    /// The language model with what training changed, adapters folded in, and the mapper.
    pub fn read_language(
        &self,
        target: &LoadTarget,
        listener: &LoadListener,
    ) -> Result<VokenLanguageWeights, PublishedError> {
        let first = target.open(&self.parts.stage1, listener)?;
        let second = self.parts.stage2.as_deref();
        let second = second.map(|path| target.open(path, listener)).transpose()?;
        let mut language = self.read_trained(target, listener, &first, second.as_ref())?;
        language
            .llama
            .merge_lora()
            .map_err(|error| misfit(&self.parts.llama, error))?;
        Ok(language)
    }

    /// The language model with what the two stages of training have changed or are to change, and
    /// the mapper ([`VokenModel::read`]).
    pub fn read_trained(
        &self,
        target: &LoadTarget,
        listener: &LoadListener,
        first: &Params,
        second: Option<&Params>,
    ) -> Result<VokenLanguageWeights, PublishedError> {
        let parts = &self.parts;
        let usual = self.tokenizer.bos();
        let sizes = &self.sizes;
        let ends = |config: &FloatConfig| (config.bos().unwrap_or(usual), config.eos());
        let (model, (bos, eos)) = if parts.is_gguf() {
            let report = listener.clone();
            let file = GgufLlama::open(&parts.llama)?
                .with_listener(move |layer, of| report(&format!("layer {layer} of {of}")));
            let model = VokenModel::read(BaseModel::Gguf(&file), sizes, usual, first, second);
            (model, ends(file.config()))
        } else {
            let config = FloatConfig::read(&parts.llama)?;
            let base = target.open(&parts.llama, listener)?;
            let body = BaseModel::Float(&config, &base);
            let model = VokenModel::read(body, sizes, usual, first, second);
            (model, ends(&config))
        };
        let model = model?;
        let own = (
            self.tokenizer.vokens().first().copied(),
            self.tokenizer.image_here(),
        );
        if own != (Some(model.vocabulary.first), model.vocabulary.picture) {
            return Err(PublishedError::Unusable {
                path: parts.stage1.clone(),
                reason: format!(
                    "its tables begin the vokens at token {} where the tokenizer has {} tokens",
                    model.vocabulary.first,
                    self.tokenizer.vocabulary()
                )
                .into(),
            });
        }
        Ok(VokenLanguageWeights {
            llama: model.llama,
            mapper: model.mapper,
            vocabulary: model.vocabulary,
            bos,
            eos,
        })
    }

    /// The vision tower.
    pub fn read_tower(
        &self,
        target: &LoadTarget,
        listener: &LoadListener,
    ) -> Result<VisionTower, PublishedError> {
        let parts = &self.parts;
        let params = TowerParams {
            vit: target.open(&parts.eva_vit, listener)?,
            qformer: target.open(&parts.qformer, listener)?,
            projection: target.open(&parts.llama_proj, listener)?,
        };
        let shape = params.projection.shape("llama_proj.weight");
        let width = shape.and_then(|shape| shape.first().copied()).unwrap_or(0);
        VisionTower::new(self.sizes.vision.clone(), width, &params)
            .map_err(|error| misfit(&parts.qformer, error))
    }

    /// UNet, autoencoder and scheduler.
    pub fn read_diffusion(
        &self,
        target: &LoadTarget,
        listener: &LoadListener,
    ) -> Result<LatentDiffusion, PublishedError> {
        let open = |view| target.params(view, listener);
        let dir = &self.parts.stable_diffusion;
        Ok(LatentDiffusion::open(dir, &target.device, &open)?)
    }
}

/// A network that could not be built: the message names the tensor or the setting.
fn misfit(path: &Path, error: candle_core::Error) -> PublishedError {
    PublishedError::Unusable {
        path: path.to_path_buf(),
        reason: error.into(),
    }
}
