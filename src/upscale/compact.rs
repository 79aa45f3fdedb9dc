//! SRVGGNetCompact of Real-ESRGAN: convolutions one after the other at the small size.

use super::{FileShapes, UpscaleNetwork};
use crate::nn::{Conv2d, ConvOptions, Init, Params, Result};
use candle_core::Tensor;

/// What the shapes of a file tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CompactConfig {
    pub scale: u32,
    channels: usize,
    /// Convolutions between the first and the last.
    between: usize,
}

/// The network that a file with these tensors is; none where it is another.
pub(super) fn detect(shapes: &FileShapes) -> Option<CompactConfig> {
    let &[channels, 3, 3, 3] = &shapes.get("body.0.weight")?[..] else {
        return None;
    };
    // Convolutions and slopes take turns.
    let count = (0..).take_while(|i| shapes.contains_key(&format!("body.{i}.weight")));
    let count = count.count();
    let last = shapes.get(&format!("body.{}.weight", count.checked_sub(1)?))?;
    let &[out, width, 3, 3] = &last[..] else {
        return None;
    };
    let scale = (out / 3).isqrt();
    let slopes = shapes.get("body.1.weight")? == &[channels];
    let fits = slopes && width == channels && 3 * scale * scale == out && scale > 0;
    (fits && count % 2 == 1).then_some(CompactConfig {
        scale: scale as u32,
        channels,
        between: count / 2 - 1,
    })
}

pub(super) struct Compact {
    scale: usize,
    /// Each with the slopes for what is below zero.
    layers: Vec<(Conv2d, Tensor)>,
    last: Conv2d,
}

impl Compact {
    pub(super) fn new(config: &CompactConfig, p: &Params) -> Result<Compact> {
        let (c, scale) = (config.channels, config.scale as usize);
        let same = ConvOptions::same(3);
        let body = p.pp("body");
        let layers = (0..=config.between).map(|i| {
            let read = if i == 0 { 3 } else { c };
            let conv = body.pp(2 * i).conv2d(read, c, 3, same)?;
            let slopes = body.pp(2 * i + 1).tensor(&[c], "weight", Init::Zeros)?;
            Ok((conv, slopes))
        });
        let layers = layers.collect::<Result<Vec<_>>>()?;
        let out = 3 * scale * scale;
        Ok(Compact {
            scale,
            last: body.pp(2 * layers.len()).conv2d(c, out, 3, same)?,
            layers,
        })
    }
}

impl UpscaleNetwork for Compact {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut y = x.clone();
        for (conv, slopes) in &self.layers {
            y = conv.forward(&y)?;
            // PReLU: what is below zero is multiplied.
            let zero = y.zeros_like()?;
            y = (y.maximum(&zero)? + y.minimum(&zero)?.broadcast_mul(slopes)?)?;
        }
        unfolded(&self.last.forward(&y)?, self.scale)? + nearest(x, self.scale)?
    }
}

/// Channels as squares of pixels, PyTorch's `pixel_shuffle`: `[B,H,W,C by by]` -> `[B,H by,W by,C]`.
fn unfolded(x: &Tensor, by: usize) -> Result<Tensor> {
    let (b, h, w, c) = x.dims4()?;
    let c = c / (by * by);
    x.reshape(vec![b, h, w, c, by, by])?
        .permute(vec![0, 1, 4, 2, 5, 3])?
        .contiguous()?
        .reshape((b, h * by, w * by, c))
}

/// Each pixel as a square of `by` x `by`.
fn nearest(x: &Tensor, by: usize) -> Result<Tensor> {
    let (b, h, w, c) = x.dims4()?;
    x.reshape(vec![b, h, 1, w, 1, c])?
        .broadcast_as(vec![b, h, by, w, by, c])?
        .contiguous()?
        .reshape((b, h * by, w * by, c))
}
