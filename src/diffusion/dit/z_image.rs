//! Z-Image's transformer from candle-transformers' blocks.
//!
//! candle's own forward pass hides the tokens that fill text and picture up to a multiple of 32 and
//! leaves the learnt ones out; the published model sees them. So the blocks are candle's, and the
//! way through them is diffusers'.

use super::names;
use super::source::{Held, Weights};
use crate::diffusion::DiffusionError;
use crate::nn::Result as TensorResult;
use crate::weights::Checkpoint;
use candle_core::{DType, Device, Module, Tensor};
use candle_nn::{Linear, VarBuilder};
use candle_transformers::models::with_tracing::RmsNorm;
use candle_transformers::models::z_image::transformer::{
    ADALN_EMBED_DIM, Config, FinalLayer, RopeEmbedder, SEQ_MULTI_OF, TimestepEmbedder,
    ZImageTransformerBlock, create_coordinate_grid, patchify, unpatchify,
};
use serde_json::{Map, Value};
use std::sync::Arc;

/// Side of the squares of latents that are one token.
const PATCH: usize = 2;

/// What `transformer/config.json` says.
#[derive(Clone, Debug)]
pub(super) struct ZImageConfig(Config);

impl ZImageConfig {
    /// Z-Image and Z-Image Turbo, whose transformers have one shape.
    pub(super) fn published() -> Self {
        Self(Config::z_image_turbo())
    }

    /// # Errors
    /// A setting that is not read, by its name.
    pub(super) fn read(mut said: Map<String, Value>) -> Result<Self, String> {
        const KNOWN: [&str; 15] = [
            "all_patch_size",
            "all_f_patch_size",
            "in_channels",
            "dim",
            "n_layers",
            "n_refiner_layers",
            "n_heads",
            "n_kv_heads",
            "norm_eps",
            "qk_norm",
            "cap_feat_dim",
            "rope_theta",
            "t_scale",
            "axes_dims",
            "axes_lens",
        ];
        said.retain(|key, value| !key.starts_with('_') && !value.is_null());
        if let Some((key, value)) = said.iter().find(|(key, _)| !KNOWN.contains(&key.as_str())) {
            return Err(format!(
                "the transformer's {key} is {value}, which isn't supported"
            ));
        }
        let mut config: Config = serde_json::from_value(said.into()).map_err(|e| e.to_string())?;
        // diffusers reads no such number.
        config.n_kv_heads = config.n_heads;
        let axes: usize = config.axes_dims.iter().sum();
        let heads = config.n_heads.max(1);
        if config.all_patch_size != [PATCH] || config.all_f_patch_size != [1] {
            return Err(format!(
                "the transformer's all_patch_size is {:?}, which isn't supported",
                config.all_patch_size
            ));
        }
        if !config.dim.is_multiple_of(heads)
            || axes != config.dim / heads
            || config.axes_dims.len() != 3
            || config.axes_lens.len() != 3
            || !config.dim.is_multiple_of(3)
        {
            return Err(format!(
                "the transformer's width {} does not go with its {heads} heads and axes_dims {:?}",
                config.dim, config.axes_dims
            ));
        }
        Ok(Self(config))
    }

    /// Most latents of a side.
    pub(super) fn longest_side(&self) -> usize {
        PATCH * self.0.axes_lens[1].min(self.0.axes_lens[2])
    }

    /// Most tokens of a prompt, so that it can be told from the picture by its place.
    pub(super) fn text_tokens(&self) -> usize {
        let places = self.0.axes_lens[0].saturating_sub(2);
        (places / SEQ_MULTI_OF * SEQ_MULTI_OF).min(512)
    }

    /// Width of the text states.
    pub(super) fn text_width(&self) -> usize {
        self.0.cap_feat_dim
    }

    /// Numbers of a token inside of a block at once.
    pub(super) fn work_per_token(&self) -> u64 {
        (5 * self.0.dim + 2 * self.0.hidden_dim()) as u64
    }

    /// Attention heads.
    pub(super) fn heads(&self) -> usize {
        self.0.n_heads
    }

    /// Finds the weights in `file`.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub(super) fn weights(&self, file: &Arc<Checkpoint>) -> Result<Weights, DiffusionError> {
        let width = self.0.dim;
        Weights::find(
            file,
            "the transformer",
            Held::Computed,
            |vb| ZImageNetwork::new(&self.0, &vb),
            |name| names::z_image(name, width),
        )
    }

    /// Loads the network.
    ///
    /// # Errors
    /// A file that vanished or is damaged, or NaN among the weights.
    pub(super) fn load(
        &self,
        weights: &Weights,
        device: &Device,
    ) -> Result<ZImageNetwork, DiffusionError> {
        weights.load(device, |vb| ZImageNetwork::new(&self.0, &vb))
    }
}

/// The transformer in memory.
pub(super) struct ZImageNetwork {
    config: Config,
    computes: DType,
    time: TimestepEmbedder,
    text_norm: RmsNorm,
    text: Linear,
    picture: Linear,
    noise_refiner: Vec<ZImageTransformerBlock>,
    context_refiner: Vec<ZImageTransformerBlock>,
    layers: Vec<ZImageTransformerBlock>,
    last: FinalLayer,
    /// What fills the picture up, and what fills the text up: `[1,C]`.
    pads: (Tensor, Tensor),
    rope: RopeEmbedder,
}

impl ZImageNetwork {
    fn new(config: &Config, vb: &VarBuilder) -> TensorResult<Self> {
        let (dim, text) = (config.dim, config.cap_feat_dim);
        let patch = PATCH * PATCH * config.in_channels;
        let blocks = |name: &str, count: usize, modulated: bool| {
            let of = |i| ZImageTransformerBlock::new(config, modulated, vb.pp(name).pp(i));
            (0..count).map(of).collect::<TensorResult<Vec<_>>>()
        };
        Ok(Self {
            computes: vb.dtype(),
            time: TimestepEmbedder::new(dim.min(ADALN_EMBED_DIM), 1024, vb.pp("t_embedder"))?,
            text_norm: RmsNorm::new(text, config.norm_eps, vb.pp("cap_embedder.0"))?,
            text: candle_nn::linear(text, dim, vb.pp("cap_embedder.1"))?,
            picture: candle_nn::linear(patch, dim, vb.pp("all_x_embedder.2-1"))?,
            noise_refiner: blocks("noise_refiner", config.n_refiner_layers, true)?,
            context_refiner: blocks("context_refiner", config.n_refiner_layers, false)?,
            layers: blocks("layers", config.n_layers, true)?,
            last: FinalLayer::new(dim, patch, vb.pp("all_final_layer.2-1"))?,
            pads: (
                vb.get((1, dim), "x_pad_token")?,
                vb.get((1, dim), "cap_pad_token")?,
            ),
            rope: RopeEmbedder::new(
                config.rope_theta,
                config.axes_dims.clone(),
                config.axes_lens.clone(),
                vb.device(),
                vb.dtype(),
            )?,
            config: config.clone(),
        })
    }

    /// The velocity `[1,h,w,16]` at `latents [1,h,w,16]` and noise level `sigma`, for text states
    /// `[1,T,C]`.
    ///
    /// # Errors
    /// Sides that are odd, and what candle says.
    pub(super) fn predict(
        &self,
        latents: &Tensor,
        sigma: f64,
        states: &Tensor,
    ) -> TensorResult<Tensor> {
        let device = latents.device();
        let (_, h, w, channels) = latents.dims4()?;
        let time = Tensor::new(&[((1.0 - sigma) * self.config.t_scale) as f32], device)?;
        let time = self.time.forward(&time)?;

        let text = self.text_norm.forward(&states.to_dtype(self.computes)?)?;
        let text = filled(&text.apply(&self.text)?, &self.pads.1)?;
        let words = text.dim(1)?;
        let text_places = create_coordinate_grid((words, 1, 1), (1, 0, 0), device)?;

        let pixels = latents.to_dtype(self.computes)?.permute((0, 3, 1, 2))?;
        let (patches, size) = patchify(&pixels.contiguous()?.unsqueeze(2)?, PATCH, 1)?;
        let tokens = patches.dim(1)?;
        let picture = filled(&patches.apply(&self.picture)?, &self.pads.0)?;
        let start = (words + 1, 0, 0);
        let places = create_coordinate_grid((1, h / PATCH, w / PATCH), start, device)?;
        let more = picture.dim(1)? - tokens;
        let places = Tensor::cat(
            &[&places, &Tensor::zeros((more, 3), DType::U32, device)?],
            0,
        )?;

        let text = self.through(&self.context_refiner, text, &text_places, None)?;
        let picture = self.through(&self.noise_refiner, picture, &places, Some(&time))?;
        let both = Tensor::cat(&[&picture, &text], 1)?;
        let places = Tensor::cat(&[&places, &text_places], 0)?;
        let both = self.through(&self.layers, both, &places, Some(&time))?;
        let picture = both.narrow(1, 0, tokens)?.contiguous()?;
        let velocity = self.last.forward(&picture, &time)?;
        let velocity = unpatchify(&velocity, size, PATCH, 1, channels)?.squeeze(2)?;
        let velocity = velocity.permute((0, 2, 3, 1))?.contiguous()?;
        // It points from noise to the picture, a scheduler's the other way.
        velocity.to_dtype(DType::F32)?.neg()
    }

    fn through(
        &self,
        blocks: &[ZImageTransformerBlock],
        mut x: Tensor,
        places: &Tensor,
        time: Option<&Tensor>,
    ) -> TensorResult<Tensor> {
        let (cos, sin) = self.rope.forward(places)?;
        for block in blocks {
            x = block.forward(&x, None, &cos, &sin, time)?;
        }
        Ok(x)
    }
}

/// Tokens `[1,T,C]` filled up to a multiple of 32 with `pad [1,C]`.
fn filled(x: &Tensor, pad: &Tensor) -> TensorResult<Tensor> {
    let (_, tokens, width) = x.dims3()?;
    match tokens.next_multiple_of(SEQ_MULTI_OF) - tokens {
        0 => Ok(x.clone()),
        more => {
            let pad = pad.unsqueeze(0)?.broadcast_as((1, more, width))?;
            Tensor::cat(&[x, &pad.contiguous()?], 1)
        }
    }
}
