//! RRDBNet of ESRGAN (arXiv 1809.00219) and Real-ESRGAN (arXiv 2107.10833).

use super::{FileShapes, UpscaleNetwork, leaky_relu};
use crate::nn::{Conv2d, ConvOptions, Params, Result};
use candle_core::Tensor;
use std::collections::BTreeMap;

/// How much of a block's residual is added.
const SHARE: f64 = 0.2;
const SLOPE: f64 = 0.2;
/// Each of the two convolutions after the blocks reads the picture at twice the size.
const UPS: u32 = 4;

/// What the shapes of a file tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RrdbConfig {
    /// New sides over old: 4, or 2 and 1 where pixels are first folded into channels.
    pub scale: u32,
    /// Pixels a side that are folded into channels.
    fold: usize,
    channels: usize,
    growth: usize,
    blocks: usize,
}

/// The network that a file with these tensors is; none where it is another.
pub(super) fn detect(shapes: &FileShapes) -> Option<RrdbConfig> {
    let first = shapes.get("conv_first.weight")?;
    let &[channels, read, 3, 3] = &first[..] else {
        return None;
    };
    let fold = match read {
        3 => 1,
        12 => 2,
        48 => 4,
        _ => return None,
    };
    let grown = shapes.get("body.0.rdb1.conv1.weight")?;
    let known = ["conv_up1", "conv_up2", "conv_hr", "conv_last"];
    let known = known.map(|name| shapes.contains_key(&format!("{name}.weight")));
    if known.contains(&false) {
        return None;
    }
    let blocks = (0..).take_while(|i| shapes.contains_key(&format!("body.{i}.rdb1.conv1.weight")));
    Some(RrdbConfig {
        scale: UPS / fold as u32,
        fold,
        channels,
        growth: *grown.first()?,
        blocks: blocks.count(),
    })
}

/// The names of ESRGAN's of 2018 (`model.1.sub.0.RDB1.conv1.0.weight`) to those of Real-ESRGAN's;
/// none where a file has no such names.
pub(super) fn renamed(shapes: &FileShapes) -> Option<BTreeMap<String, String>> {
    if !shapes.contains_key("model.1.sub.0.RDB1.conv1.0.weight") {
        return None;
    }
    let number = |name: &str, prefix: &str| -> Option<usize> {
        name.strip_prefix(prefix)?.split('.').next()?.parse().ok()
    };
    let last_block = shapes
        .keys()
        .filter_map(|name| number(name, "model.1.sub."))
        .max()?;
    // After the blocks: what reads the enlarged picture, in order.
    let mut after: Vec<usize> = shapes
        .keys()
        .filter_map(|name| number(name, "model."))
        .filter(|&at| at > 1)
        .collect();
    after.sort_unstable();
    after.dedup();
    let names = ["conv_up1", "conv_up2", "conv_hr", "conv_last"];
    if after.len() != names.len() {
        return None;
    }
    let renamed = |name: &str| -> Option<String> {
        let (_, kind) = name.rsplit_once('.')?;
        if let Some(rest) = name.strip_prefix("model.1.sub.") {
            let block = number(name, "model.1.sub.")?;
            if block == last_block {
                return Some(format!("conv_body.{kind}"));
            }
            let parts: Vec<&str> = rest.split('.').collect();
            let &[_, dense, conv, _, _] = &parts[..] else {
                return None;
            };
            let dense = dense.to_lowercase();
            return Some(format!("body.{block}.{dense}.{conv}.{kind}"));
        }
        let at = number(name, "model.")?;
        match after.iter().position(|&other| other == at) {
            Some(place) => Some(format!("{}.{kind}", names[place])),
            None if at == 0 => Some(format!("conv_first.{kind}")),
            None => None,
        }
    };
    let all = shapes.keys();
    Some(
        all.filter_map(|name| Some((name.clone(), renamed(name)?)))
            .collect(),
    )
}

/// Convolutions that each read all that came before.
struct Dense([Conv2d; 5]);

impl Dense {
    fn new(p: &Params, channels: usize, growth: usize) -> Result<Dense> {
        let conv = |i: usize| {
            let out = if i == 4 { channels } else { growth };
            let p = p.pp(format!("conv{}", i + 1));
            p.conv2d(channels + i * growth, out, 3, ConvOptions::same(3))
        };
        Ok(Dense([conv(0)?, conv(1)?, conv(2)?, conv(3)?, conv(4)?]))
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut all = x.clone();
        for conv in &self.0[..4] {
            let more = leaky_relu(&conv.forward(&all)?, SLOPE)?;
            all = Tensor::cat(&[&all, &more], 3)?;
        }
        (self.0[4].forward(&all)? * SHARE)? + x
    }
}

pub(super) struct RrdbNet {
    fold: usize,
    first: Conv2d,
    body: Vec<[Dense; 3]>,
    after: Conv2d,
    ups: [Conv2d; 2],
    fine: Conv2d,
    last: Conv2d,
}

impl RrdbNet {
    pub(super) fn new(config: &RrdbConfig, p: &Params) -> Result<RrdbNet> {
        let &RrdbConfig {
            fold,
            channels: c,
            growth,
            ..
        } = config;
        let same = ConvOptions::same(3);
        let twice = ConvOptions {
            upsample: true,
            ..same
        };
        let dense = |i: usize, j: usize| {
            let p = p.pp("body").pp(i).pp(format!("rdb{j}"));
            Dense::new(&p, c, growth)
        };
        let conv = |name: &str, out: usize, options| p.pp(name).conv2d(c, out, 3, options);
        Ok(RrdbNet {
            fold,
            first: p
                .pp("conv_first")
                .conv2d(3 * fold * fold, c, 3, ConvOptions::same(3))?,
            body: (0..config.blocks)
                .map(|i| Ok([dense(i, 1)?, dense(i, 2)?, dense(i, 3)?]))
                .collect::<Result<_>>()?,
            after: conv("conv_body", c, same)?,
            ups: [conv("conv_up1", c, twice)?, conv("conv_up2", c, twice)?],
            fine: conv("conv_hr", c, same)?,
            last: conv("conv_last", 3, same)?,
        })
    }
}

impl UpscaleNetwork for RrdbNet {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let first = self.first.forward(&folded(x, self.fold)?)?;
        let mut x = first.clone();
        for block in &self.body {
            let mut y = x.clone();
            for dense in block {
                y = dense.forward(&y)?;
            }
            x = ((y * SHARE)? + &x)?;
        }
        x = (self.after.forward(&x)? + first)?;
        for up in &self.ups {
            x = leaky_relu(&up.forward(&x)?, SLOPE)?;
        }
        self.last
            .forward(&leaky_relu(&self.fine.forward(&x)?, SLOPE)?)
    }

    fn step(&self) -> u32 {
        self.fold as u32
    }
}

/// Squares of `by` x `by` pixels as channels, PyTorch's `pixel_unshuffle`: `[B,H,W,C]` ->
/// `[B,H/by,W/by,C by by]`.
fn folded(x: &Tensor, by: usize) -> Result<Tensor> {
    if by == 1 {
        return Ok(x.clone());
    }
    let (b, h, w, c) = x.dims4()?;
    x.reshape(vec![b, h / by, by, w / by, by, c])?
        .permute(vec![0, 1, 3, 5, 2, 4])?
        .contiguous()?
        .reshape((b, h / by, w / by, c * by * by))
}
