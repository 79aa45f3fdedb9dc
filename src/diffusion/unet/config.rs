//! What `unet/config.json` can say.

use crate::diffusion::settings::{UnknownSettings, read_others, refuse};
use crate::nn::Result;
use serde::{Deserialize, Serialize};

/// A setting given once for all blocks or block by block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PerBlock {
    /// The same for all blocks.
    All(usize),
    /// One for each block.
    Each(Vec<usize>),
}

impl PerBlock {
    /// The value for block `i`; none if the list is too short.
    pub fn get(&self, i: usize) -> Option<usize> {
        match self {
            Self::All(v) => Some(*v),
            Self::Each(v) => v.get(i).copied(),
        }
    }
}

/// Kinds of blocks on the way down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DownBlockKind {
    /// Residual blocks alone.
    DownBlock2D,
    /// Residual blocks with cross-attention to the text.
    CrossAttnDownBlock2D,
}

/// Kinds of blocks on the way up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UpBlockKind {
    /// Residual blocks alone.
    UpBlock2D,
    /// Residual blocks with cross-attention to the text.
    CrossAttnUpBlock2D,
}

/// diffusers' `UNet2DConditionModel` configuration: the settings we read, under its names.
/// Settings that would change the network in a way we don't build are refused by
/// [`UnetConfig::check`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UnetConfig {
    /// Side of the latents that it was trained on.
    pub sample_size: usize,
    /// Channels of the input: 4 for latents, 9 with a mask and a masked picture.
    pub in_channels: usize,
    /// Channels of the prediction.
    pub out_channels: usize,
    /// Channels of each block, from the finest level down.
    pub block_out_channels: Vec<usize>,
    /// Residual blocks a level on the way down; one more on the way up.
    pub layers_per_block: usize,
    /// Kind of each block on the way down.
    pub down_block_types: Vec<DownBlockKind>,
    /// Kind of each block on the way up.
    pub up_block_types: Vec<UpBlockKind>,
    /// Despite its name the number of heads per block (a misnomer kept for old files).
    pub attention_head_dim: PerBlock,
    /// The number of heads under its right name, where a file has it.
    pub num_attention_heads: Option<PerBlock>,
    /// Transformer layers of each attention, by block.
    pub transformer_layers_per_block: PerBlock,
    /// Width of the text states.
    pub cross_attention_dim: usize,
    /// Whether attention's projections are linear layers, not 1x1 convolutions.
    pub use_linear_projection: bool,
    /// Groups of group norm.
    pub norm_num_groups: usize,
    /// Epsilon of group norm.
    pub norm_eps: f64,
    /// Whether cosines come before sines in the timestep's embedding.
    pub flip_sin_to_cos: bool,
    /// Shift of the frequencies in the timestep's embedding.
    pub freq_shift: f64,
    /// Zeros around the input of the strided convolutions.
    pub downsample_padding: usize,
    /// `simple_projection`: the pooled text goes through `class_embedding` and is added to the
    /// time embedding.
    pub class_embed_type: Option<String>,
    /// Width of the pooled text, or of that and the sizes' sinusoids together.
    pub projection_class_embeddings_input_dim: Option<usize>,
    /// Activation; only `silu` is supported.
    pub act_fn: String,
    /// Kind of the middle block; only `UNetMidBlock2DCrossAttn` is supported.
    pub mid_block_type: Option<String>,
    /// `text_time`: the pooled text and the picture's sizes go through `add_embedding` and are
    /// added to the time embedding, as SDXL has it.
    pub addition_embed_type: Option<String>,
    /// Width of each of those sizes' sinusoids.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub addition_time_embed_dim: Option<usize>,
    /// Width of an embedding of the guidance scale that is added to the timestep's sinusoids, as
    /// distilled models (LCM) have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_cond_proj_dim: Option<usize>,
    /// Width of text states that are projected first; not supported.
    pub encoder_hid_dim: Option<usize>,
    /// How timesteps are embedded; only `positional` is supported.
    pub time_embedding_type: String,
    /// How the timestep enters residual blocks; only `default` (it is added) is supported.
    pub resnet_time_scale_shift: String,
    /// Whether there are two cross-attentions; not supported.
    pub dual_cross_attention: bool,
    /// Whether self-attention is left out; not supported.
    pub only_cross_attention: bool,
    /// Ours: tokens know their place, and self-attention takes references in.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub reference_attention: bool,
    /// What the file says beyond this.
    #[serde(flatten, deserialize_with = "read_others")]
    pub others: UnknownSettings,
}

/// Settings of diffusers' that we build in one way only.
const NEUTRAL: [(&str, &str); 6] = [
    ("mid_block_scale_factor", "1"),
    ("resnet_out_scale_factor", "1"),
    ("conv_in_kernel", "3"),
    ("conv_out_kernel", "3"),
    ("attention_type", "\"default\""),
    ("controlnet_conditioning_channel_order", "\"rgb\""),
];

/// Settings that change no result here: dropout, precision, sizes of attention that is not used,
/// and what training left behind.
const INERT: [&str; 10] = [
    "dropout",
    "upcast_attention",
    "addition_embed_type_num_heads",
    "decay",
    "inv_gamma",
    "min_decay",
    "optimization_step",
    "power",
    "update_after_step",
    "use_ema_warmup",
];

impl Default for UnetConfig {
    /// diffusers' defaults, which a file may leave out.
    fn default() -> Self {
        use DownBlockKind::{CrossAttnDownBlock2D, DownBlock2D};
        use UpBlockKind::{CrossAttnUpBlock2D, UpBlock2D};
        Self {
            sample_size: 64,
            in_channels: 4,
            out_channels: 4,
            block_out_channels: vec![320, 640, 1280, 1280],
            layers_per_block: 2,
            down_block_types: [vec![CrossAttnDownBlock2D; 3], vec![DownBlock2D]].concat(),
            up_block_types: [vec![UpBlock2D], vec![CrossAttnUpBlock2D; 3]].concat(),
            attention_head_dim: PerBlock::All(8),
            num_attention_heads: None,
            transformer_layers_per_block: PerBlock::All(1),
            cross_attention_dim: 1280,
            use_linear_projection: false,
            norm_num_groups: 32,
            norm_eps: 1e-5,
            flip_sin_to_cos: true,
            freq_shift: 0.0,
            downsample_padding: 1,
            class_embed_type: None,
            projection_class_embeddings_input_dim: None,
            act_fn: "silu".into(),
            mid_block_type: Some("UNetMidBlock2DCrossAttn".into()),
            addition_embed_type: None,
            addition_time_embed_dim: None,
            time_cond_proj_dim: None,
            encoder_hid_dim: None,
            time_embedding_type: "positional".into(),
            resnet_time_scale_shift: "default".into(),
            dual_cross_attention: false,
            only_cross_attention: false,
            reference_attention: false,
            others: UnknownSettings::new(),
        }
    }
}

impl UnetConfig {
    /// # Errors
    /// One sentence naming the first setting that doesn't fit or isn't supported.
    pub fn check(&self) -> Result<()> {
        let n = self.block_out_channels.len();
        let supported = [
            (self.act_fn == "silu", "act_fn"),
            (
                self.mid_block_type.as_deref() == Some("UNetMidBlock2DCrossAttn"),
                "mid_block_type",
            ),
            (
                matches!(
                    self.addition_embed_type.as_deref(),
                    None | Some("text_time")
                ),
                "addition_embed_type",
            ),
            (self.encoder_hid_dim.is_none(), "encoder_hid_dim"),
            (
                self.time_embedding_type == "positional",
                "time_embedding_type",
            ),
            (
                self.resnet_time_scale_shift == "default",
                "resnet_time_scale_shift",
            ),
            (!self.dual_cross_attention, "dual_cross_attention"),
            (!self.only_cross_attention, "only_cross_attention"),
            (
                matches!(
                    self.class_embed_type.as_deref(),
                    None | Some("simple_projection")
                ),
                "class_embed_type",
            ),
        ];
        if let Some((_, name)) = supported.iter().find(|(ok, _)| !ok) {
            candle_core::bail!("the UNet's {name} has a value that isn't supported");
        }
        refuse("the UNet", &self.others, &NEUTRAL, &INERT)?;
        let fits = [
            (n > 0, "block_out_channels"),
            (self.layers_per_block > 0, "layers_per_block"),
            (self.down_block_types.len() == n, "down_block_types"),
            (self.up_block_types.len() == n, "up_block_types"),
            ((0..n).all(|i| self.heads(i).is_ok()), "attention_head_dim"),
            (
                (0..n).all(|i| self.depth(i).is_ok()),
                "transformer_layers_per_block",
            ),
            (
                (self.class_embed_type.is_none() && self.addition_embed_type.is_none())
                    || self.projection_class_embeddings_input_dim.is_some(),
                "projection_class_embeddings_input_dim",
            ),
            (
                self.addition_embed_type.is_none() || self.addition_time_embed_dim.is_some(),
                "addition_time_embed_dim",
            ),
        ];
        if let Some((_, name)) = fits.iter().find(|(ok, _)| !ok) {
            candle_core::bail!("the UNet's {name} doesn't fit its {n} blocks");
        }
        Ok(())
    }

    /// Attention heads of block `i`, counted from the finest.
    pub fn heads(&self, i: usize) -> Result<usize> {
        let heads = self
            .num_attention_heads
            .as_ref()
            .unwrap_or(&self.attention_head_dim);
        heads
            .get(i)
            .ok_or_else(|| candle_core::Error::Msg(format!("block {i} has no attention_head_dim")))
    }

    /// Transformer layers of block `i`, counted from the finest.
    pub fn depth(&self, i: usize) -> Result<usize> {
        self.transformer_layers_per_block.get(i).ok_or_else(|| {
            candle_core::Error::Msg(format!("block {i} has no transformer_layers_per_block"))
        })
    }
}
