//! The halves of a UNet, which a ControlNet has the first of.

use super::transformer::{AttentionContext, Transformer, TransformerShape};
use super::{DownBlockKind, UnetConfig, UpBlockKind};
use crate::diffusion::resnet::{ResnetBlock, ResnetShape, downsampler, upsampler};
use crate::nn::{Array, Conv2d, Padding, Params, Result};
use std::cell::Cell;

/// Residual blocks, each followed by a transformer where the block has them, then a resampling.
#[derive(Clone, Debug)]
pub(super) struct UnetBlock {
    pub layers: Vec<(ResnetBlock, Option<Transformer>)>,
    pub resample: Option<Conv2d>,
}

/// The block between the way down and the way up.
#[derive(Clone, Debug)]
pub(super) struct MidBlock {
    first: ResnetBlock,
    transformer: Transformer,
    second: ResnetBlock,
}

impl MidBlock {
    pub(super) fn forward<A: Array>(
        &self,
        x: &A,
        time: &A,
        seen: AttentionContext<A>,
    ) -> Result<A> {
        let x = self.first.forward(x, Some(time))?;
        let x = self.transformer.forward(&x, seen)?;
        self.second.forward(&x, Some(time))
    }
}

/// Builds the blocks of one network. Attention to the text is numbered in the order of building,
/// as files of IP-Adapters number it: the way down, the way up, the middle.
pub(super) struct Builder<'a> {
    config: &'a UnetConfig,
    resnet: ResnetShape,
    attentions: Cell<usize>,
}

impl<'a> Builder<'a> {
    pub(super) fn new(config: &'a UnetConfig) -> Self {
        Self {
            config,
            resnet: ResnetShape {
                groups: config.norm_num_groups,
                eps: config.norm_eps,
                time: Some(4 * config.block_out_channels[0]),
            },
            attentions: Cell::new(0),
        }
    }

    fn transformer(&self, p: &Params, level: usize) -> Result<Transformer> {
        let c = self.config;
        let depth = c.depth(level)?;
        let first = self.attentions.get();
        self.attentions.set(first + depth);
        let shape = TransformerShape {
            channels: c.block_out_channels[level],
            heads: c.heads(level)?,
            depth,
            first,
            text: c.cross_attention_dim,
            groups: c.norm_num_groups,
            linear: c.use_linear_projection,
            level,
            references: c.reference_attention,
        };
        Transformer::new(p, shape)
    }

    fn layers(
        &self,
        p: &Params,
        level: usize,
        inputs: &[usize],
        attends: bool,
    ) -> Result<Vec<(ResnetBlock, Option<Transformer>)>> {
        let cout = self.config.block_out_channels[level];
        inputs
            .iter()
            .enumerate()
            .map(|(j, &cin)| {
                let r = ResnetBlock::new(&p.pp("resnets").pp(j), cin, cout, self.resnet)?;
                let t = match attends {
                    true => Some(self.transformer(&p.pp("attentions").pp(j), level)?),
                    false => None,
                };
                Ok((r, t))
            })
            .collect()
    }

    pub(super) fn down(&self, p: &Params) -> Result<Vec<UnetBlock>> {
        let config = self.config;
        let c = &config.block_out_channels;
        let block = |(i, kind): (usize, &DownBlockKind)| {
            let p = p.pp("down_blocks").pp(i);
            let mut inputs = vec![c[i]; config.layers_per_block];
            inputs[0] = c[i.saturating_sub(1)];
            let attends = *kind == DownBlockKind::CrossAttnDownBlock2D;
            let pad = Padding::Zeros(config.downsample_padding);
            Ok(UnetBlock {
                layers: self.layers(&p, i, &inputs, attends)?,
                resample: match i + 1 < c.len() {
                    true => Some(downsampler(&p, c[i], pad)?),
                    false => None,
                },
            })
        };
        config
            .down_block_types
            .iter()
            .enumerate()
            .map(block)
            .collect()
    }

    pub(super) fn up(&self, p: &Params) -> Result<Vec<UnetBlock>> {
        let config = self.config;
        let c = &config.block_out_channels;
        let n = c.len();
        let block = |(i, kind): (usize, &UpBlockKind)| {
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
            Ok(UnetBlock {
                layers: self.layers(&p, level, &inputs, attends)?,
                resample: match level > 0 {
                    true => Some(upsampler(&p, c[level])?),
                    false => None,
                },
            })
        };
        config
            .up_block_types
            .iter()
            .enumerate()
            .map(block)
            .collect()
    }

    pub(super) fn mid(&self, p: &Params) -> Result<MidBlock> {
        let m = p.pp("mid_block");
        let level = self.config.block_out_channels.len() - 1;
        let c = self.config.block_out_channels[level];
        Ok(MidBlock {
            first: ResnetBlock::new(&m.pp("resnets.0"), c, c, self.resnet)?,
            transformer: self.transformer(&m.pp("attentions.0"), level)?,
            second: ResnetBlock::new(&m.pp("resnets.1"), c, c, self.resnet)?,
        })
    }
}

/// The way down from `x`, which `conv_in` made: the coarsest picture and all that is kept for the
/// way up, `x` first.
pub(super) fn go_down<A: Array>(
    blocks: &[UnetBlock],
    mut x: A,
    time: &A,
    seen: AttentionContext<A>,
) -> Result<(A, Vec<A>)> {
    let mut kept = vec![x.clone()];
    for block in blocks {
        for (resnet, transformer) in &block.layers {
            x = resnet.forward(&x, Some(time))?;
            if let Some(t) = transformer {
                x = t.forward(&x, seen)?;
            }
            kept.push(x.clone());
        }
        if let Some(conv) = &block.resample {
            x = conv.forward(&x)?;
            kept.push(x.clone());
        }
    }
    Ok((x, kept))
}
