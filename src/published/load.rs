//! The networks of a model, read from its parts.

use std::path::Path;
use std::sync::Arc;

use candle_core::Device;

use super::{Parts, PublishedError};
use crate::llm::LlamaTokenizer;
use crate::llm::float::{FloatConfig, GgufLlama};
use crate::nn::Params;
use crate::vision::{TowerParams, VisionTower};
use crate::voken::{Body, FeatureMapper, FloatReader, Reader, Sizes, Vocabulary, VokenModel};
use crate::weights::{Checkpoint, View};

/// The parts of a model, ready to be read.
pub struct Published<'a> {
    parts: &'a Parts,
    sizes: Sizes,
    device: Device,
    pub tokenizer: LlamaTokenizer,
}

/// A language model that speaks vokens.
pub struct Language {
    pub reader: Box<dyn Reader>,
    pub mapper: FeatureMapper,
    pub vocabulary: Vocabulary,
    /// The id that a generated sequence begins with, and the one that ends it.
    pub ends: (u32, Option<u32>),
}

impl<'a> Published<'a> {
    /// Reads the small parts: sizes and tokenizer.
    ///
    /// # Errors
    /// When one is missing or damaged; so for all of it.
    pub fn open(parts: &'a Parts, device: &Device) -> Result<Self, PublishedError> {
        Ok(Self {
            parts,
            sizes: parts.read_sizes()?,
            device: device.clone(),
            tokenizer: parts.read_tokenizer()?,
        })
    }

    fn params(&self, path: &Path) -> Result<Params, PublishedError> {
        let view = View::of(&Arc::new(Checkpoint::open(path)?));
        Ok(Params::from_source(Arc::new(view), false, &self.device))
    }

    /// The language model with what training changed, adapters folded in, and the mapper.
    pub fn read_language(&self) -> Result<Language, PublishedError> {
        let parts = self.parts;
        let first = self.params(&parts.stage1)?;
        let second = parts.stage2.as_deref().map(|path| self.params(path));
        let second = second.transpose()?;
        let bos = self.tokenizer.bos();
        let (sizes, second) = (&self.sizes, second.as_ref());
        let ends = |config: &FloatConfig| (config.bos().unwrap_or(bos), config.eos());
        let (model, ends) = if parts.is_gguf() {
            let file = GgufLlama::open(&parts.llama)?;
            let model = VokenModel::read(Body::Gguf(&file), sizes, bos, &first, second);
            (model, ends(file.config()))
        } else {
            let config = FloatConfig::read(&parts.llama)?;
            let base = self.params(&parts.llama)?;
            let body = Body::Float(&config, &base);
            let model = VokenModel::read(body, sizes, bos, &first, second);
            (model, ends(&config))
        };
        let mut model = model?;
        model
            .llama
            .merge_lora()
            .map_err(|error| misfit(&parts.llama, &error))?;
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
                ),
            });
        }
        Ok(Language {
            reader: Box::new(FloatReader::new(model.llama)),
            mapper: model.mapper,
            vocabulary: model.vocabulary,
            ends,
        })
    }

    /// What it sees with.
    pub fn read_tower(&self) -> Result<VisionTower, PublishedError> {
        let parts = self.parts;
        let params = TowerParams {
            vit: self.params(&parts.eva_vit)?,
            qformer: self.params(&parts.qformer)?,
            projection: self.params(&parts.llama_proj)?,
        };
        let shape = params.projection.shape("llama_proj.weight");
        let width = shape.and_then(|shape| shape.first().copied()).unwrap_or(0);
        VisionTower::new(self.sizes.vision.clone(), width, &params)
            .map_err(|error| misfit(&parts.qformer, &error))
    }
}

/// A network that could not be built: the message names the tensor or the setting.
fn misfit(path: &Path, error: &candle_core::Error) -> PublishedError {
    let text = error.to_string();
    PublishedError::Unusable {
        path: path.to_path_buf(),
        reason: text.lines().next().unwrap_or_default().to_owned(),
    }
}
