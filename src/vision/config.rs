//! Sizes of the vision tower. The defaults are those of BLIP-2 with EVA-CLIP ViT-g/14, which the
//! reference implementation fixes in its code; files of other sizes bring their own.

use crate::nn::Result;
use serde::{Deserialize, Serialize};

/// EVA-CLIP's vision transformer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EvaConfig {
    /// Pixels a side of a patch.
    pub patch_size: usize,
    /// Width of the hidden states.
    pub embed_dim: usize,
    /// Blocks that are run. The public file holds one more, whose output nothing reads.
    pub depth: usize,
    /// Attention heads.
    pub num_heads: usize,
    /// Width inside the feed-forward part.
    pub mlp_hidden: usize,
    /// Epsilon of layer norm.
    pub layer_norm_eps: f64,
}

impl Default for EvaConfig {
    fn default() -> Self {
        Self {
            patch_size: 14,
            embed_dim: 1408,
            depth: 39,
            num_heads: 16,
            mlp_hidden: 6144,
            layer_norm_eps: 1e-6,
        }
    }
}

/// BLIP-2's Q-Former: a BERT whose learned queries look at the vision transformer's tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct QFormerConfig {
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Transformer layers.
    pub num_hidden_layers: usize,
    /// Attention heads.
    pub num_attention_heads: usize,
    /// Width inside the feed-forward part.
    pub intermediate_size: usize,
    /// Epsilon of layer norm.
    pub layer_norm_eps: f64,
    /// Every such layer, from the first on, looks at the picture.
    pub cross_attention_freq: usize,
    /// Queries, each of which becomes one embedding.
    pub num_query_tokens: usize,
    /// Width of the tokens that are looked at.
    pub encoder_width: usize,
}

impl Default for QFormerConfig {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            layer_norm_eps: 1e-12,
            cross_attention_freq: 2,
            num_query_tokens: 32,
            encoder_width: 1408,
        }
    }
}

/// The whole tower.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct VisionConfig {
    /// Pixels a side of the pictures that are read.
    pub image_size: usize,
    /// The vision transformer.
    pub eva_vit: EvaConfig,
    /// Epsilon of the layer norm between vision transformer and Q-Former.
    pub ln_vision_eps: f64,
    /// The Q-Former.
    pub qformer: QFormerConfig,
}

impl Default for VisionConfig {
    fn default() -> Self {
        Self {
            image_size: 224,
            eva_vit: EvaConfig::default(),
            ln_vision_eps: 1e-5,
            qformer: QFormerConfig::default(),
        }
    }
}

impl VisionConfig {
    /// # Errors
    /// One sentence naming the first size that can't be.
    pub fn check(&self) -> Result<()> {
        let (vit, q) = (&self.eva_vit, &self.qformer);
        let splits = |width: usize, heads: usize| heads > 0 && width.is_multiple_of(heads);
        let fits = [
            (
                vit.patch_size > 0 && self.image_size >= vit.patch_size,
                "image_size",
            ),
            (splits(vit.embed_dim, vit.num_heads), "eva_vit.num_heads"),
            (
                splits(q.hidden_size, q.num_attention_heads),
                "qformer.num_attention_heads",
            ),
            (q.cross_attention_freq > 0, "qformer.cross_attention_freq"),
            (q.num_query_tokens > 0, "qformer.num_query_tokens"),
            (q.encoder_width == vit.embed_dim, "qformer.encoder_width"),
        ];
        match fits.iter().find(|(ok, _)| !ok) {
            Some((_, name)) => candle_core::bail!(
                "the vision tower's {name} does not fit its other sizes; correct its configuration"
            ),
            None => Ok(()),
        }
    }
}
