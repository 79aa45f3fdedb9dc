//! The whole tower: ViT, norm, Q-Former, projection.

use super::{Eva, QFormer, VisionConfig};
use crate::nn::gpu::{Gpu, GpuTensor};
use crate::nn::{Array, LayerNorm, Linear, Params, Result};
use candle_core::Tensor;

/// Where the tower's tensors come from: the public weights are in three files.
pub struct TowerParams {
    /// `eva_vit_g.pth`.
    pub vit: Params,
    /// `blip2_pretrained_flant5xxl.pth`: `query_tokens`, `ln_vision`, `Qformer`.
    pub qformer: Params,
    /// MiniGPT-4's file: `llama_proj`.
    pub projection: Params,
}

impl TowerParams {
    /// All from one file.
    pub fn all(p: &Params) -> Self {
        Self {
            vit: p.pp("visual_encoder"),
            qformer: p.clone(),
            projection: p.clone(),
        }
    }
}

/// Pictures `[B,S,S,3]` to embeddings `[B,queries,width]` of a language model.
#[derive(Clone, Debug)]
pub struct VisionTower {
    /// The vision transformer.
    pub vit: Eva,
    /// Layer norm of the vision transformer's output.
    pub norm: LayerNorm,
    /// The Q-Former.
    pub qformer: QFormer,
    /// Projection into the width of the language model.
    pub projection: Linear,
    config: VisionConfig,
    gpu: Option<Gpu>,
}

impl VisionTower {
    /// `width` is that of the language model.
    ///
    /// # Errors
    /// Sizes that don't fit each other, or a tensor that is missing or has another shape.
    pub fn new(config: VisionConfig, width: usize, p: &TowerParams) -> Result<Self> {
        config.check()?;
        Ok(Self {
            vit: Eva::new(&config.eva_vit, config.image_size, &p.vit)?,
            norm: p
                .qformer
                .pp("ln_vision")
                .layer_norm(config.eva_vit.embed_dim, config.ln_vision_eps)?,
            qformer: QFormer::new(&config.qformer, &p.qformer)?,
            projection: p.projection.pp("llama_proj").linear(
                config.qformer.hidden_size,
                width,
                true,
            )?,
            config,
            gpu: p.vit.gpu().cloned(),
        })
    }

    /// Sizes that it was built with.
    pub fn config(&self) -> &VisionConfig {
        &self.config
    }

    /// `pictures [B,S,S,3]`, normalised by [`super::Preprocess`].
    pub fn forward(&self, pictures: &Tensor) -> Result<Tensor> {
        match &self.gpu {
            None => self.embed(pictures),
            Some(gpu) => {
                let seen = self.embed(&GpuTensor::upload(gpu, pictures)?)?.download();
                gpu.trim();
                seen
            }
        }
    }

    fn embed<A: Array>(&self, pictures: &A) -> Result<A> {
        let tokens = self.norm.forward(&self.vit.forward(pictures)?)?;
        self.projection.forward(&self.qformer.forward(&tokens)?)
    }
}
