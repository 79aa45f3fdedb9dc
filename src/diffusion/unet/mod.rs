//! diffusers' `UNet2DConditionModel`.

mod bank;
mod blocks;
mod config;
mod control;
mod embedding;
mod kind;
mod reference;
mod transformer;

pub use bank::{ReferenceBank, TokenSelection};
pub use config::{DownBlockKind, PerBlock, UnetConfig, UpBlockKind};
pub use control::{ControlNet, ControlNetConfig, Residuals};
pub use embedding::{guidance_embedding, time_ids};
pub use kind::UnetKind;
pub use reference::{ReferenceLatents, References};
pub use transformer::{ImageLayers, ImagePrompt};

use super::resnet::{join_channels, upsample_like};
use crate::nn::gpu::{Gpu, GpuTensor};
use crate::nn::{Array, Conv2d, ConvOptions, GroupNorm, Init, Params, Result};
use blocks::{Builder, MidBlock, UnetBlock, go_down};
use candle_core::{Device, Tensor};
use embedding::TimeEmbedding;
use reference::{ReferenceMode, TokenPositions};
use std::cell::RefCell;
use std::sync::Arc;
use transformer::{AttentionContext, ReferenceAttention};

/// Predicts noise (or velocity) from noisy latents, their timestep and the text.
#[derive(Clone, Debug)]
pub struct Unet {
    config: UnetConfig,
    conv_in: Conv2d,
    embedding: TimeEmbedding,
    down: Vec<UnetBlock>,
    mid: MidBlock,
    up: Vec<UnetBlock>,
    norm_out: GroupNorm,
    conv_out: Conv2d,
    gpu: Option<Gpu>,
}

/// Conditioning of the UNet beside latents and timestep, each for the whole batch.
#[derive(Clone, Debug)]
pub struct Conditioning {
    /// `[B,T,C]`.
    pub text: Tensor,
    /// `[B,P]`: one vector for the whole text.
    pub pooled: Option<Tensor>,
    /// `[B,6]`: the picture's sizes ([`time_ids`]), as SDXL wants them.
    pub time_ids: Option<Tensor>,
    /// `[B,W]` or `[1,W]`: the guidance scale ([`guidance_embedding`]), as distilled models want it.
    pub timestep_cond: Option<Tensor>,
    /// A picture to go by.
    pub image: Option<ImagePrompt>,
    /// What a ControlNet adds.
    pub control: Option<Residuals>,
    /// What self-attention on the way up sees of reference pictures ([`Unet::bank_reference`]).
    pub beside: Option<Arc<ReferenceBank>>,
    /// Pictures of the subjects.
    pub references: Option<References>,
}

impl Conditioning {
    /// The text alone.
    pub fn of_text(text: Tensor) -> Self {
        Self {
            text,
            pooled: None,
            time_ids: None,
            timestep_cond: None,
            image: None,
            control: None,
            beside: None,
            references: None,
        }
    }
}

impl Unet {
    /// # Errors
    /// A configuration that isn't supported, or a tensor that is missing or has another shape.
    pub fn new(config: UnetConfig, p: Params) -> Result<Self> {
        config.check()?;
        let first = config.block_out_channels[0];
        let builder = Builder::new(&config);
        let (down, up, mid) = (builder.down(&p)?, builder.up(&p)?, builder.mid(&p)?);
        let same = ConvOptions::same(3);
        Ok(Self {
            conv_in: p.pp("conv_in").conv2d(config.in_channels, first, 3, same)?,
            embedding: TimeEmbedding::new(&config, &p)?,
            down,
            mid,
            up,
            norm_out: p.pp("conv_norm_out").group_norm(
                config.norm_num_groups,
                first,
                config.norm_eps,
            )?,
            conv_out: p.pp("conv_out").conv2d_init(
                first,
                config.out_channels,
                3,
                same,
                Init::Zeros,
            )?,
            gpu: p.gpu().cloned(),
            config,
        })
    }

    /// Where it computes, if that is a GPU through wgpu.
    pub fn gpu(&self) -> Option<&Gpu> {
        self.gpu.as_ref()
    }

    /// Configuration that it was built with.
    pub fn config(&self) -> &UnetConfig {
        &self.config
    }

    /// `latents [B,h,w,in]`, `timesteps [B]`, `text [B,T,C]`, `pooled [B,P]` where the
    /// configuration has a class embedding -> `[B,h,w,out]`.
    ///
    /// # Errors
    /// Shapes that don't fit, or a missing pooled text.
    pub fn forward(
        &self,
        latents: &Tensor,
        timesteps: &Tensor,
        text: &Tensor,
        pooled: Option<&Tensor>,
    ) -> Result<Tensor> {
        let conditioning = Conditioning {
            pooled: pooled.cloned(),
            ..Conditioning::of_text(text.clone())
        };
        self.predict(latents, timesteps, &conditioning)
    }

    /// `latents [B,h,w,in]`, `timesteps [B]`, which may lie between two -> `[B,h,w,out]`.
    ///
    /// # Errors
    /// Shapes that don't fit, or something missing that this UNet needs.
    pub fn predict(
        &self,
        latents: &Tensor,
        timesteps: &Tensor,
        conditioning: &Conditioning,
    ) -> Result<Tensor> {
        let beside = conditioning
            .beside
            .as_deref()
            .map_or(ReferenceAttention::Nothing, ReferenceAttention::See);
        let (_, h, w, _) = latents.dims4()?;
        let places = match self.config.reference_attention {
            true => {
                let levels = self.config.block_out_channels.len();
                reference::positions((h, w), levels, &[[0.0; 2]], latents.device())?
            }
            false if conditioning.references.is_some() => {
                candle_core::bail!("this UNet can't draw from references");
            }
            false => Vec::new(),
        };
        let placed = (!places.is_empty()).then_some(TokenPositions {
            positions: &places,
            reading: conditioning.references.as_ref().map(ReferenceMode::See),
        });
        match &self.gpu {
            None => self.answer(latents, timesteps, conditioning, beside, placed),
            Some(gpu) => {
                let latents = GpuTensor::upload(gpu, latents)?;
                let answer = self.answer(&latents, timesteps, conditioning, beside, placed)?;
                answer.download()
            }
        }
    }

    fn answer<A: Array>(
        &self,
        latents: &A,
        timesteps: &Tensor,
        conditioning: &Conditioning,
        beside: ReferenceAttention,
        placed: Option<TokenPositions>,
    ) -> Result<A> {
        let x = self.features(latents, timesteps, conditioning, beside, placed)?;
        self.conv_out.forward(&self.norm_out.forward_silu(&x)?)
    }

    /// A pass that is made for what it keeps.
    fn read(
        &self,
        latents: &Tensor,
        timesteps: &Tensor,
        conditioning: &Conditioning,
        beside: ReferenceAttention,
        placed: Option<TokenPositions>,
    ) -> Result<()> {
        match &self.gpu {
            None => self
                .features(latents, timesteps, conditioning, beside, placed)
                .map(drop),
            Some(gpu) => {
                let latents = GpuTensor::upload(gpu, latents)?;
                self.features(&latents, timesteps, conditioning, beside, placed)
                    .map(drop)
            }
        }
    }

    /// Adds to `bank` the keys and values of a reference picture for self-attention on the way up:
    /// `latents [1,h,w,in]`, noised to the timestep of the picture that is drawn.
    ///
    /// # Errors
    /// As [`Unet::predict`].
    pub fn bank_reference(
        &self,
        latents: &Tensor,
        timesteps: &Tensor,
        conditioning: &Conditioning,
        pick: TokenSelection,
        bank: ReferenceBank,
    ) -> Result<ReferenceBank> {
        let bank = RefCell::new(bank);
        let beside = ReferenceAttention::Keep(&bank, pick);
        self.read(latents, timesteps, conditioning, beside, None)?;
        Ok(bank.into_inner())
    }

    /// What the last convolution reads.
    fn features<A: Array>(
        &self,
        latents: &A,
        timesteps: &Tensor,
        conditioning: &Conditioning,
        beside: ReferenceAttention,
        placed: Option<TokenPositions>,
    ) -> Result<A> {
        let reference = placed.is_some_and(|p| matches!(p.reading, Some(ReferenceMode::Keep(_))));
        let time = self
            .embedding
            .forward(latents, timesteps, conditioning, reference)?;
        let seen = AttentionContext {
            text: &latents.beside(&conditioning.text)?,
            image: conditioning.image.as_ref(),
            beside: ReferenceAttention::Nothing,
            placed,
        };
        let x = self.conv_in.forward(latents)?;
        let (x, mut kept) = go_down(&self.down, x, &time, seen)?;
        let mut x = self.mid.forward(&x, &time, seen)?;
        if let Some(control) = &conditioning.control {
            x = control.add(&x, &mut kept)?;
        }
        let seen = AttentionContext { beside, ..seen };
        for block in &self.up {
            for (resnet, transformer) in &block.layers {
                // One picture was kept for each layer of the way up: layers_per_block + 1 a block.
                let Some(skip) = kept.pop() else {
                    candle_core::bail!("the UNet's way up is longer than its way down");
                };
                x = resnet.forward(&join_channels(&x, &skip)?, Some(&time))?;
                if let Some(t) = transformer {
                    x = t.forward(&x, seen)?;
                }
            }
            if let Some(conv) = &block.resample {
                x = upsample_like(conv, &x, kept.last())?;
            }
        }
        Ok(x)
    }
}

/// One timestep for a batch: `[batch]` filled with `t`.
pub fn same_timestep(t: f64, batch: usize, device: &Device) -> Result<Tensor> {
    Tensor::full(t as f32, batch, device)
}
