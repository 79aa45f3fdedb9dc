//! The residual block and the resampling that UNet and autoencoder share.

use crate::nn::{
    Array, Conv2d, ConvOptions, GroupNorm, Init, Linear, Padding, Params, Result, dims_of,
};

/// diffusers' `ResnetBlock2D`: norm, SiLU, convolution, twice, with the time embedding added
/// between and a shortcut around.
#[derive(Clone, Debug)]
pub(super) struct ResnetBlock {
    norm1: GroupNorm,
    conv1: Conv2d,
    time: Option<Linear>,
    norm2: GroupNorm,
    conv2: Conv2d,
    shortcut: Option<Conv2d>,
}

/// What all residual blocks of one network have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct ResnetShape {
    pub groups: usize,
    pub eps: f64,
    /// Width of the time embedding; none in an autoencoder.
    pub time: Option<usize>,
}

impl ResnetBlock {
    /// A new block begins as its shortcut (the second convolution at zero), so that deep stacks
    /// start stable.
    pub(super) fn new(p: &Params, cin: usize, cout: usize, s: ResnetShape) -> Result<Self> {
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
    pub(super) fn forward<A: Array>(&self, x: &A, time: Option<&A>) -> Result<A> {
        let n = self.norm1.forward_silu(x)?;
        let h = match (&self.time, time) {
            (Some(layer), Some(t)) => self.conv1.forward_add_channels(&n, &layer.forward(t)?)?,
            _ => self.conv1.forward(&n)?,
        };
        let n = self.norm2.forward_silu(&h)?;
        match &self.shortcut {
            Some(s) => self.conv2.forward_plus(&n, &s.forward(x)?),
            None => self.conv2.forward_plus(&n, x),
        }
    }
}

/// Halves height and width: diffusers' `downsamplers.0.conv`.
pub(super) fn downsampler(p: &Params, channels: usize, padding: Padding) -> Result<Conv2d> {
    let o = ConvOptions {
        stride: 2,
        padding,
        upsample: false,
    };
    p.pp("downsamplers.0.conv").conv2d(channels, channels, 3, o)
}

/// Doubles height and width, then convolves: diffusers' `upsamplers.0.conv`.
pub(super) fn upsampler(p: &Params, channels: usize) -> Result<Conv2d> {
    let o = ConvOptions {
        upsample: true,
        ..ConvOptions::same(3)
    };
    p.pp("upsamplers.0.conv").conv2d(channels, channels, 3, o)
}

/// The same where the finer picture `like` was not twice as high and wide: one row or column less,
/// since a side that is odd is halved upwards.
pub(super) fn upsample_like<A: Array>(conv: &Conv2d, x: &A, like: Option<&A>) -> Result<A> {
    let [_, h, w, _] = dims_of(x)?;
    let [_, high, wide, _] = dims_of(like.unwrap_or(x))?;
    if like.is_none() || (high, wide) == (2 * h, 2 * w) {
        return conv.forward(x);
    }
    let x = x.upsample_nearest()?.cut(1, 0, high)?.cut(2, 0, wide)?;
    conv.with(ConvOptions::same(3)).forward(&x)
}

/// Joins two pictures' channels.
pub(super) fn join_channels<A: Array>(a: &A, b: &A) -> Result<A> {
    A::join(&[a, b], 3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn;
    use candle_core::{Device, Tensor};

    /// PyTorch's `interpolate(size, mode = "nearest")` takes row `i * h / size`.
    #[test]
    fn an_odd_picture_is_drawn_larger_as_pytorch_does() {
        let cpu = Device::Cpu;
        let (h, w, high, wide) = (3, 4, 5, 8);
        let x = nn::noise(1, 0, &[1, h, w, 2], &cpu).unwrap();
        let like = Tensor::zeros((1, high, wide, 1), candle_core::DType::F32, &cpu).unwrap();
        let p = Params::init(3, &cpu);
        let conv = upsampler(&p, 2).unwrap();
        let got = upsample_like(&conv, &x, Some(&like)).unwrap();
        let rows = |n: usize, size: usize| {
            let rows: Vec<u32> = (0..size).map(|i| (i * n / size) as u32).collect();
            Tensor::new(rows, &cpu).unwrap()
        };
        let larger = x.index_select(&rows(h, high), 1).unwrap();
        let larger = larger.index_select(&rows(w, wide), 2).unwrap();
        let want = conv.with(ConvOptions::same(3)).forward(&larger).unwrap();
        let off = (got - want).unwrap().abs().unwrap().max_all().unwrap();
        assert!(off.to_scalar::<f32>().unwrap() < 1e-6);
    }
}
