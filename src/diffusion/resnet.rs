//! The residual block and the resampling that UNet and autoencoder share.

use crate::nn::{
    self, Conv2d, ConvOptions, GroupNorm, Init, Linear, Padding, Params, Result, add_channels,
};
use candle_core::Tensor;

/// diffusers' `ResnetBlock2D`: norm, SiLU, convolution, twice, with the time embedding added
/// between and a shortcut around.
#[derive(Clone, Debug)]
pub struct ResnetBlock {
    norm1: GroupNorm,
    conv1: Conv2d,
    time: Option<Linear>,
    norm2: GroupNorm,
    conv2: Conv2d,
    shortcut: Option<Conv2d>,
}

/// What all residual blocks of one network have in common.
#[derive(Clone, Copy, Debug)]
pub struct ResnetShape {
    pub groups: usize,
    pub eps: f64,
    /// Width of the time embedding; none in an autoencoder.
    pub time: Option<usize>,
}

impl ResnetBlock {
    /// A new block begins as its shortcut (the second convolution at zero), so that deep stacks
    /// start stable.
    pub fn new(p: &Params, cin: usize, cout: usize, s: ResnetShape) -> Result<Self> {
        let same = ConvOptions::same(3);
        let time = match s.time {
            Some(width) => Some(p.pp("time_emb_proj").linear(width, cout, true)?),
            None => None,
        };
        let shortcut = match cin == cout {
            true => None,
            false => Some(
                p.pp("conv_shortcut")
                    .conv2d(cin, cout, 1, ConvOptions::same(1))?,
            ),
        };
        Ok(Self {
            norm1: p.pp("norm1").group_norm(s.groups, cin, s.eps)?,
            conv1: p.pp("conv1").conv2d(cin, cout, 3, same)?,
            time,
            norm2: p.pp("norm2").group_norm(s.groups, cout, s.eps)?,
            conv2: p
                .pp("conv2")
                .conv2d_init(cout, cout, 3, same, Init::Zeros)?,
            shortcut,
        })
    }

    /// `x [B,H,W,cin]`, `time [B,width]` after its SiLU -> `[B,H,W,cout]`.
    pub fn forward(&self, x: &Tensor, time: Option<&Tensor>) -> Result<Tensor> {
        let mut h = self.conv1.forward(&self.norm1.forward_silu(x)?)?;
        if let (Some(layer), Some(t)) = (&self.time, time) {
            h = add_channels(&h, &layer.forward(t)?)?;
        }
        let h = self.conv2.forward(&self.norm2.forward_silu(&h)?)?;
        match &self.shortcut {
            Some(s) => s.forward(x)? + h,
            None => x + h,
        }
    }
}

/// Halves height and width: diffusers' `downsamplers.0.conv`.
pub fn downsampler(p: &Params, channels: usize, padding: Padding) -> Result<Conv2d> {
    let o = ConvOptions {
        stride: 2,
        padding,
        upsample: false,
    };
    p.pp("downsamplers.0.conv").conv2d(channels, channels, 3, o)
}

/// Doubles height and width, then convolves: diffusers' `upsamplers.0.conv`.
pub fn upsampler(p: &Params, channels: usize) -> Result<Conv2d> {
    let o = ConvOptions {
        upsample: true,
        ..ConvOptions::same(3)
    };
    p.pp("upsamplers.0.conv").conv2d(channels, channels, 3, o)
}

/// Joins two pictures' channels.
pub fn join_channels(a: &Tensor, b: &Tensor) -> nn::Result<Tensor> {
    Tensor::cat(&[a, b], 3)
}
