//! diffusers' `UNet2DConditionModel`.

mod config;
mod transformer;

pub use config::{DownBlockKind, PerBlock, UnetConfig, UpBlockKind};

use super::resnet::{
    ResnetBlock, ResnetShape, downsampler, join_channels, upsample_like, upsampler,
};
use crate::nn::{Conv2d, ConvOptions, GroupNorm, Init, Linear, Padding, Params, Result, silu};
use candle_core::{DType, Device, Tensor};
use transformer::{Transformer, TransformerShape};

/// Predicts noise (or velocity) from noisy latents, their timestep and the text.
#[derive(Clone, Debug)]
pub struct Unet {
    config: UnetConfig,
    conv_in: Conv2d,
    time: [Linear; 2],
    class: Option<Linear>,
    down: Vec<Block>,
    mid: (ResnetBlock, Transformer, ResnetBlock),
    up: Vec<Block>,
    norm_out: GroupNorm,
    conv_out: Conv2d,
}

/// Residual blocks, each followed by a transformer where the block has them, then a resampling.
#[derive(Clone, Debug)]
struct Block {
    layers: Vec<(ResnetBlock, Option<Transformer>)>,
    resample: Option<Conv2d>,
}

impl Unet {
    /// # Errors
    /// A configuration that isn't supported, or a tensor that is missing or has another shape.
    pub fn new(config: UnetConfig, p: Params) -> Result<Self> {
        config.check()?;
        let c = config.block_out_channels.clone();
        let n = c.len();
        let time = 4 * c[0];
        let resnet = ResnetShape {
            groups: config.norm_num_groups,
            eps: config.norm_eps,
            time: Some(time),
        };
        let transformer = |p: &Params, level: usize| {
            let shape = TransformerShape {
                channels: c[level],
                heads: config.heads(level)?,
                depth: config.depth(level)?,
                text: config.cross_attention_dim,
                groups: config.norm_num_groups,
                linear: config.use_linear_projection,
            };
            Transformer::new(p, shape)
        };
        let block = |p: &Params, level: usize, inputs: &[usize], attends: bool| {
            inputs
                .iter()
                .enumerate()
                .map(|(j, &cin)| {
                    let r = ResnetBlock::new(&p.pp("resnets").pp(j), cin, c[level], resnet)?;
                    let t = match attends {
                        true => Some(transformer(&p.pp("attentions").pp(j), level)?),
                        false => None,
                    };
                    Ok((r, t))
                })
                .collect::<Result<Vec<_>>>()
        };

        let mut down = Vec::with_capacity(n);
        for (i, kind) in config.down_block_types.iter().enumerate() {
            let p = p.pp("down_blocks").pp(i);
            let mut inputs = vec![c[i]; config.layers_per_block];
            inputs[0] = c[i.saturating_sub(1)];
            let attends = *kind == DownBlockKind::CrossAttnDownBlock2D;
            let pad = Padding::Zeros(config.downsample_padding);
            down.push(Block {
                layers: block(&p, i, &inputs, attends)?,
                resample: match i + 1 < n {
                    true => Some(downsampler(&p, c[i], pad)?),
                    false => None,
                },
            });
        }
        let mut up = Vec::with_capacity(n);
        for (i, kind) in config.up_block_types.iter().enumerate() {
            let p = p.pp("up_blocks").pp(i);
            let level = n - 1 - i;
            let before = c[(level + 1).min(n - 1)];
            // Layer by layer, what comes up joined with what the way down kept.
            let inputs: Vec<usize> = (0..=config.layers_per_block)
                .map(|j| {
                    let kept = match j == config.layers_per_block {
                        true => c[level.saturating_sub(1)],
                        false => c[level],
                    };
                    kept + if j == 0 { before } else { c[level] }
                })
                .collect();
            let attends = *kind == UpBlockKind::CrossAttnUpBlock2D;
            up.push(Block {
                layers: block(&p, level, &inputs, attends)?,
                resample: match level > 0 {
                    true => Some(upsampler(&p, c[level])?),
                    false => None,
                },
            });
        }
        let m = p.pp("mid_block");
        let mid = (
            ResnetBlock::new(&m.pp("resnets.0"), c[n - 1], c[n - 1], resnet)?,
            transformer(&m.pp("attentions.0"), n - 1)?,
            ResnetBlock::new(&m.pp("resnets.1"), c[n - 1], c[n - 1], resnet)?,
        );
        let same = ConvOptions::same(3);
        let t = p.pp("time_embedding");
        Ok(Self {
            conv_in: p.pp("conv_in").conv2d(config.in_channels, c[0], 3, same)?,
            time: [
                t.pp("linear_1").linear(c[0], time, true)?,
                t.pp("linear_2").linear(time, time, true)?,
            ],
            class: match config.projection_class_embeddings_input_dim {
                Some(width) if config.class_embed_type.is_some() => {
                    Some(p.pp("class_embedding").linear(width, time, true)?)
                }
                _ => None,
            },
            down,
            mid,
            up,
            norm_out: p
                .pp("conv_norm_out")
                .group_norm(resnet.groups, c[0], resnet.eps)?,
            conv_out: p.pp("conv_out").conv2d_init(
                c[0],
                config.out_channels,
                3,
                same,
                Init::Zeros,
            )?,
            config,
        })
    }

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
        let time = self.time_embedding(timesteps, pooled)?;
        let mut x = self.conv_in.forward(latents)?;
        let mut kept = vec![x.clone()];
        for block in &self.down {
            for (resnet, transformer) in &block.layers {
                x = resnet.forward(&x, Some(&time))?;
                if let Some(t) = transformer {
                    x = t.forward(&x, text)?;
                }
                kept.push(x.clone());
            }
            if let Some(conv) = &block.resample {
                x = conv.forward(&x)?;
                kept.push(x.clone());
            }
        }
        x = self.mid.0.forward(&x, Some(&time))?;
        x = self.mid.1.forward(&x, text)?;
        x = self.mid.2.forward(&x, Some(&time))?;
        for block in &self.up {
            for (resnet, transformer) in &block.layers {
                // One picture was kept for each layer of the way up: layers_per_block + 1 a block.
                let Some(skip) = kept.pop() else {
                    candle_core::bail!("the UNet's way up is longer than its way down");
                };
                x = resnet.forward(&join_channels(&x, &skip)?, Some(&time))?;
                if let Some(t) = transformer {
                    x = t.forward(&x, text)?;
                }
            }
            if let Some(conv) = &block.resample {
                x = upsample_like(conv, &x, kept.last())?;
            }
        }
        self.conv_out.forward(&self.norm_out.forward_silu(&x)?)
    }

    /// `[B]` -> `[B, 4 * block_out_channels[0]]`, with the SiLU that every residual block would
    /// apply to it again.
    fn time_embedding(&self, timesteps: &Tensor, pooled: Option<&Tensor>) -> Result<Tensor> {
        let waves = self.waves(timesteps)?;
        let t = self.time[1].forward(&silu(&self.time[0].forward(&waves)?)?)?;
        let t = match (&self.class, pooled) {
            (Some(layer), Some(p)) => (t + layer.forward(p)?)?,
            (Some(_), None) => candle_core::bail!("this UNet needs the pooled text"),
            (None, _) => t,
        };
        silu(&t)
    }

    /// Sinusoids of the timesteps: `[B]` -> `[B, block_out_channels[0]]`.
    fn waves(&self, timesteps: &Tensor) -> Result<Tensor> {
        let half = self.config.block_out_channels[0] / 2;
        let scale = -(10_000f64.ln()) / (half as f64 - self.config.freq_shift);
        let frequencies: Vec<f32> = (0..half).map(|i| (i as f64 * scale).exp() as f32).collect();
        let t = timesteps.to_dtype(DType::F32)?.unsqueeze(1)?;
        let frequencies = Tensor::from_vec(frequencies, (1, half), timesteps.device())?;
        let angles = t.broadcast_mul(&frequencies)?;
        let (sin, cos) = (angles.sin()?, angles.cos()?);
        match self.config.flip_sin_to_cos {
            true => Tensor::cat(&[cos, sin], 1),
            false => Tensor::cat(&[sin, cos], 1),
        }
    }
}

/// One timestep for a batch: `[batch]` filled with `t`.
pub fn same_timestep(t: f64, batch: usize, device: &Device) -> Result<Tensor> {
    Tensor::full(t as f32, batch, device)
}
