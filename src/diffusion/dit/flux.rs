//! FLUX.1's transformer by candle-transformers, from safetensors or a GGUF file.

use super::names;
use super::source::{Held, Weights};
use crate::diffusion::DiffusionError;
use crate::diffusion::error::sentence;
use crate::diffusion::settings::{UnknownSettings, read_others, refuse};
use crate::nn::Result as TensorResult;
use crate::weights::Checkpoint;
use candle_core::{DType, Device, Tensor};
use candle_transformers::models::flux::{WithForward, model, quantized_model, sampling};
use candle_transformers::quantized_var_builder;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// diffusers' `FluxTransformer2DModel` configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub(super) struct FluxConfig {
    patch_size: usize,
    in_channels: usize,
    out_channels: Option<usize>,
    num_layers: usize,
    num_single_layers: usize,
    attention_head_dim: usize,
    num_attention_heads: usize,
    joint_attention_dim: usize,
    pooled_projection_dim: usize,
    pub guidance_embeds: bool,
    axes_dims_rope: Vec<usize>,
    #[serde(flatten, deserialize_with = "read_others")]
    others: UnknownSettings,
}

impl Default for FluxConfig {
    /// The published models, which differ in `guidance_embeds` only.
    fn default() -> Self {
        Self {
            patch_size: 1,
            in_channels: 64,
            out_channels: None,
            num_layers: 19,
            num_single_layers: 38,
            attention_head_dim: 128,
            num_attention_heads: 24,
            joint_attention_dim: 4096,
            pooled_projection_dim: 768,
            guidance_embeds: false,
            axes_dims_rope: vec![16, 56, 56],
            others: UnknownSettings::new(),
        }
    }
}

impl FluxConfig {
    /// The published configuration, for a file that does or does not take guidance as an input.
    pub(super) fn published(guidance_embeds: bool) -> Self {
        Self {
            guidance_embeds,
            ..Self::default()
        }
    }

    /// Checks what candle's network can't be told.
    ///
    /// # Errors
    /// One sentence naming the setting.
    pub(super) fn check(&self) -> TensorResult<()> {
        refuse("the transformer", &self.others, &[], &[])?;
        let Self {
            attention_head_dim: head,
            axes_dims_rope: axes,
            ..
        } = self;
        if self.patch_size != 1
            || self.in_channels != 64
            || self.out_channels.is_some_and(|c| c != 64)
        {
            candle_core::bail!(
                "the transformer reads {} channels in patches of {}, which plain FLUX.1 does not; its kinds for other tasks are not supported",
                self.in_channels,
                self.patch_size
            );
        }
        if axes.len() != 3 || axes.iter().sum::<usize>() != *head || axes.iter().any(|a| a % 2 == 1)
        {
            candle_core::bail!(
                "the transformer's axes_dims_rope {axes:?} don't make up its heads of {head}"
            );
        }
        Ok(())
    }

    /// Width of the tokens.
    pub(super) fn hidden(&self) -> usize {
        self.attention_head_dim * self.num_attention_heads
    }

    /// Numbers of a token inside of a block at once: query, key, value and the wide layer.
    pub(super) fn work_per_token(&self) -> u64 {
        (12 * self.hidden()) as u64
    }

    /// Attention heads.
    pub(super) fn heads(&self) -> usize {
        self.num_attention_heads
    }

    /// Most tokens of T5 for a prompt, as the published pipelines have it.
    pub(super) fn text_tokens(&self) -> usize {
        match self.guidance_embeds {
            true => 512,
            false => 256,
        }
    }

    fn candles(&self) -> model::Config {
        model::Config {
            in_channels: self.in_channels,
            vec_in_dim: self.pooled_projection_dim,
            context_in_dim: self.joint_attention_dim,
            hidden_size: self.hidden(),
            mlp_ratio: 4.0,
            num_heads: self.num_attention_heads,
            depth: self.num_layers,
            depth_single_blocks: self.num_single_layers,
            axes_dim: self.axes_dims_rope.clone(),
            theta: 10_000,
            qkv_bias: true,
            guidance_embed: self.guidance_embeds,
        }
    }
}

/// Where the transformer's weights lie.
#[derive(Clone)]
pub(super) enum FluxWeights {
    /// safetensors.
    Plain(Weights),
    /// A GGUF file with Black Forest Labs' names, and the bytes of its tensors.
    Packed(PathBuf, u64),
}

impl FluxWeights {
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub(super) fn find(
        file: &Arc<Checkpoint>,
        config: &FluxConfig,
    ) -> Result<Self, DiffusionError> {
        let candles = config.candles();
        let hidden = config.hidden();
        let found = Weights::find(
            file,
            "the transformer",
            Held::Computed,
            |vb| model::Flux::new(&candles, vb),
            |name| names::flux(name, hidden),
        )?;
        Ok(FluxWeights::Plain(found))
    }

    /// Bytes that they take in memory.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            FluxWeights::Plain(weights) => weights.bytes(),
            FluxWeights::Packed(_, bytes) => *bytes,
        }
    }

    /// Loads the network.
    ///
    /// # Errors
    /// A file that vanished or is damaged, or NaN among the weights.
    pub(super) fn load(
        &self,
        config: &FluxConfig,
        device: &Device,
    ) -> Result<FluxNetwork, DiffusionError> {
        let candles = config.candles();
        let (net, computes): (Box<dyn WithForward>, DType) = match self {
            FluxWeights::Plain(weights) => {
                let net = weights.load(device, |vb| model::Flux::new(&candles, vb))?;
                (Box::new(net), weights.computes())
            }
            FluxWeights::Packed(path, _) => (Box::new(packed(path, &candles, device)?), DType::F32),
        };
        Ok(FluxNetwork { net, computes })
    }
}

fn packed(
    path: &Path,
    config: &model::Config,
    device: &Device,
) -> Result<quantized_model::Flux, DiffusionError> {
    let told = |error: candle_core::Error| {
        let why = format!("can't be read ({})", sentence(&error));
        DiffusionError::unfit(path, why, "get the file again")
    };
    let weights = quantized_var_builder::VarBuilder::from_gguf(path, device).map_err(told)?;
    quantized_model::Flux::new(config, weights).map_err(told)
}

/// The transformer in memory.
pub(super) struct FluxNetwork {
    net: Box<dyn WithForward>,
    computes: DType,
}

impl FluxNetwork {
    /// The velocity `[1,h,w,16]` at `latents [1,h,w,16]` and noise level `sigma`, for text states
    /// `[1,T,C]` and the pooled state `[1,P]`; `guidance` is read where the model was distilled so.
    ///
    /// # Errors
    /// Sides that are odd, and what candle says.
    pub(super) fn predict(
        &self,
        latents: &Tensor,
        sigma: f64,
        (states, pooled): (&Tensor, &Tensor),
        guidance: f64,
    ) -> TensorResult<Tensor> {
        let (_, h, w, _) = latents.dims4()?;
        let to = |x: &Tensor| x.to_dtype(self.computes);
        let channels_first = to(latents)?.permute((0, 3, 1, 2))?.contiguous()?;
        let state = sampling::State::new(&to(states)?, &to(pooled)?, &channels_first)?;
        let one = |value: f64| Tensor::new(&[value as f32], latents.device());
        let velocity = self.net.forward(
            &state.img,
            &state.img_ids,
            &state.txt,
            &state.txt_ids,
            &one(sigma)?,
            &state.vec,
            Some(&one(guidance)?),
        )?;
        // It counts in pixels of the published autoencoder.
        let latents = sampling::unpack(&velocity, 8 * h, 8 * w)?;
        latents
            .permute((0, 2, 3, 1))?
            .contiguous()?
            .to_dtype(DType::F32)
    }
}
