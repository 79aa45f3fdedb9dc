//! Matrix products and convolutions.

use super::device::Run;
use super::pool::Buffer;
use super::product_source::source;
use super::tensor::GpuTensor;
use super::tile::{self, Tile};
use super::traffic;
use crate::nn::{ConvOptions, Padding, Result};

/// What is multiplied with.
pub(super) enum Right<'a> {
    /// `[k,n]`, or the kernel of a convolution.
    Tensor(&'a GpuTensor),
    /// A quantised matrix of `n` rows: its numbers of so many bits, their scales, and the bytes of
    /// both.
    Packed {
        numbers: &'a Buffer,
        scales: &'a Buffer,
        bits: u32,
        bytes: u64,
    },
}

impl Right<'_> {
    fn is_half(&self) -> bool {
        matches!(self, Right::Tensor(w) if w.is_half())
    }

    fn bytes(&self) -> u64 {
        match self {
            Right::Tensor(w) => w.bytes(),
            Right::Packed { bytes, .. } => *bytes,
        }
    }

    fn kind(&self) -> String {
        match self {
            Right::Tensor(w) if w.is_half() => " by f16".to_owned(),
            Right::Tensor(_) => String::new(),
            Right::Packed { bits, .. } => format!(" by {bits} bits"),
        }
    }
}

/// What is added to a product before it is written.
#[derive(Clone, Copy)]
pub(super) enum Onto<'a> {
    /// A tensor of its shape.
    All(&'a GpuTensor),
    /// `[B,n]`: the same at every place of a sample.
    Channels(&'a GpuTensor),
}

/// What is read on the left, and where.
pub(super) struct Conv {
    height: usize,
    width: usize,
    channels: usize,
    out: (usize, usize),
    kernel_width: usize,
    options: ConvOptions,
}

/// `x [..,in]`, `w [in,out]`, `b [out]` -> `[..,out]`.
pub(super) fn linear(
    x: &GpuTensor,
    w: &GpuTensor,
    b: Option<&GpuTensor>,
    onto: Option<Onto>,
) -> Result<GpuTensor> {
    let (&[k, n], Some(&width)) = (w.dims(), x.dims().last()) else {
        candle_core::bail!("a linear layer of {:?} can't read {:?}", w.dims(), x.dims());
    };
    if width != k {
        candle_core::bail!("a linear layer of {:?} can't read {:?}", w.dims(), x.dims());
    }
    let mut dims = x.dims().to_vec();
    if let Some(last) = dims.last_mut() {
        *last = n;
    }
    product(x, &Right::Tensor(w), (b, onto), dims, (None, None))
}

/// `x [..,in]`, `w [in,out]` -> `[..,out]` with these tiles.
pub(super) fn linear_by(x: &GpuTensor, w: &GpuTensor, tile: Tile) -> Result<GpuTensor> {
    let mut dims = x.dims().to_vec();
    if let (Some(last), &[_, n]) = (dims.last_mut(), w.dims()) {
        *last = n;
    }
    product(x, &Right::Tensor(w), (None, None), dims, (None, Some(tile)))
}

/// `x [B,H,W,in]`, `w [kh,kw,in,out]`, `b [out]` -> `[B,H',W',out]`.
pub(super) fn conv2d(
    x: &GpuTensor,
    w: &GpuTensor,
    (b, onto): (Option<&GpuTensor>, Option<Onto>),
    options: ConvOptions,
) -> Result<GpuTensor> {
    let (&[batch, height, width, channels], &[kh, kw, inp, n]) = (x.dims(), w.dims()) else {
        candle_core::bail!("a convolution of {:?} can't read {:?}", w.dims(), x.dims());
    };
    if channels != inp {
        candle_core::bail!("a convolution of {:?} can't read {:?}", w.dims(), x.dims());
    }
    let around = match options.padding {
        Padding::Zeros(pad) => 2 * pad,
        Padding::BottomRight(pad) => pad,
    };
    let side = |side: usize, kernel: usize| {
        let seen = (side << usize::from(options.upsample)) + around;
        seen.checked_sub(kernel)
            .map(|rest| rest / options.stride + 1)
    };
    let (Some(high), Some(wide)) = (side(height, kh), side(width, kw)) else {
        candle_core::bail!("a picture of {width}x{height} is smaller than the kernel {kw}x{kh}");
    };
    let conv = Conv {
        height,
        width,
        channels,
        out: (high, wide),
        kernel_width: kw,
        options,
    };
    // A kernel of one pixel reads each place as it lies.
    let plain = (kh, kw, options) == (1, 1, ConvOptions::same(1));
    product(
        x,
        &Right::Tensor(w),
        (b, onto),
        vec![batch, high, wide, n],
        ((!plain).then_some(conv), None),
    )
}

/// `x` read as `[m,k]` times the right side, `dims` being the shape of the result, with the tiles
/// that are given or else the best ones.
pub(super) fn product(
    x: &GpuTensor,
    w: &Right,
    (b, onto): (Option<&GpuTensor>, Option<Onto>),
    dims: Vec<usize>,
    (conv, tile): (Option<Conv>, Option<Tile>),
) -> Result<GpuTensor> {
    let n = dims.last().copied().unwrap_or(0);
    let gpu = x.gpu();
    // Rows of the output that share a row of what is added.
    let (more, each) = match onto {
        Some(Onto::All(more)) if more.dims() == dims => (Some(more), 1),
        Some(Onto::Channels(t)) if t.dims() == [dims[0], n] => (
            Some(t),
            dims.iter().product::<usize>() / (dims[0] * n).max(1),
        ),
        Some(Onto::All(more) | Onto::Channels(more)) => {
            candle_core::bail!("{:?} added to {dims:?}", more.dims());
        }
        None => (None, 1),
    };
    let y = GpuTensor::new(gpu, dims)?;
    if y.count() == 0 {
        return Ok(y);
    }
    let m = y.count() / n;
    let k = match (w, &conv) {
        (Right::Tensor(w), _) => w.count() / n,
        (Right::Packed { .. }, _) => x.count() / m,
    };
    // What is read four at a time must come in fours.
    let read = conv.as_ref().map_or(k, |conv| conv.channels);
    let quads = n.is_multiple_of(4) && read.is_multiple_of(4);
    let half = w.is_half();
    let mut sizes = match &conv {
        Some(c) => vec![
            c.height,
            c.width,
            c.channels,
            c.out.0,
            c.out.1,
            c.kernel_width,
            c.options.stride,
            match c.options.padding {
                Padding::Zeros(pad) => pad,
                Padding::BottomRight(_) => 0,
            },
            usize::from(c.options.upsample),
        ],
        None => vec![0; 9],
    };
    sizes.extend([usize::from(b.is_some()), each]);
    let none = b.map_or_else(
        || match w {
            Right::Tensor(w) => w.buffer(),
            Right::Packed { scales, .. } => scales,
        },
        GpuTensor::buffer,
    );
    let mut reads = vec![x.buffer()];
    match w {
        Right::Tensor(w) => reads.push(w.buffer()),
        Right::Packed {
            numbers, scales, ..
        } => reads.extend([*numbers, *scales]),
    }
    reads.push(none);
    reads.extend(more.map(GpuTensor::buffer));
    let added = more.map_or(0, GpuTensor::bytes);
    let run = |tile: Tile, rows: usize| -> Result<()> {
        let name = format!(
            "product{}{}{}{} {}",
            if conv.is_some() { " of a picture" } else { "" },
            if quads { " in fours" } else { "" },
            w.kind(),
            if more.is_some() { " onto others" } else { "" },
            tile.name(),
        );
        let tiles = (rows.div_ceil(tile.rows), n.div_ceil(tile.columns));
        let share = |bytes: u64| bytes * rows as u64 / m as u64;
        let sides = (share(x.bytes()), w.bytes());
        let (band, moved) = traffic::product(tiles, sides, tile.invocations());
        let all: Vec<u32> = [m, n, k, band]
            .iter()
            .chain(&sizes)
            .map(|&size| size as u32)
            .collect();
        gpu.run(&Run {
            kernel: &name,
            source: &|| source(tile, (conv.is_some(), quads, more.is_some()), w),
            sizes: &padded(all),
            reads: &reads,
            writes: y.buffer(),
            groups: [band, tiles.0, tiles.1.div_ceil(band)].map(|groups| groups as u32),
            flops: 2 * (rows * n * k) as u64,
            bytes: sides.0 + sides.1 + share(y.bytes() + added),
            moved: moved + share(y.bytes() + added),
        })?;
        Ok(())
    };
    let tile = match tile {
        Some(tile) => tile,
        None => tile::choose(gpu, (m, n, k), half, &run)?,
    };
    run(tile, m)?;
    Ok(y)
}

/// Workgroups along one axis, as every device allows them.
pub(super) const MOST_GROUPS: usize = 65_535;

/// A uniform block is as long as its type in WGSL, whose size is a multiple of 16 bytes.
pub(super) fn padded(mut sizes: Vec<u32>) -> Vec<u32> {
    sizes.resize(sizes.len().next_multiple_of(4), 0);
    sizes
}
