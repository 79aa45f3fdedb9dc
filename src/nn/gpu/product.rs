//! Matrix products and convolutions.

use super::device::Run;
use super::epilogue::Epilogue;
use super::pool::Buffer;
use super::product_source::{Form, source};
use super::tensor::GpuTensor;
use super::tile::{self, DEPTH, Tile};
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

/// What is read on the left, and where.
pub(super) struct Conv {
    height: usize,
    width: usize,
    channels: usize,
    out: (usize, usize),
    kernel: (usize, usize),
    options: ConvOptions,
}

/// `x [..,in]`, `w [in,out]`, `b [out]` -> `[..,out]`, or half of it.
pub(super) fn linear(
    x: &GpuTensor,
    w: &GpuTensor,
    b: Option<&GpuTensor>,
    epilogue: Epilogue,
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
    product(x, &Right::Tensor(w), (b, epilogue), dims, (None, None))
}

/// `x [..,in]`, `w [in,out]` -> `[..,out]` with these tiles.
pub(super) fn linear_by(x: &GpuTensor, w: &GpuTensor, tile: Tile) -> Result<GpuTensor> {
    let mut dims = x.dims().to_vec();
    if let (Some(last), &[_, n]) = (dims.last_mut(), w.dims()) {
        *last = n;
    }
    let way = (None, Some(tile));
    product(x, &Right::Tensor(w), (None, Epilogue::Nothing), dims, way)
}

/// `x [B,H,W,in]`, `w [kh,kw,in,out]`, `b [out]` -> `[B,H',W',out]`.
pub(super) fn conv2d(
    x: &GpuTensor,
    w: &GpuTensor,
    (b, epilogue): (Option<&GpuTensor>, Epilogue),
    options: ConvOptions,
) -> Result<GpuTensor> {
    let (&[batch, height, width, channels], &[kh, kw, inp, n]) = (x.dims(), w.dims()) else {
        candle_core::bail!("a convolution of {:?} can't read {:?}", w.dims(), x.dims());
    };
    if channels != inp || channels == 0 {
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
        kernel: (kh, kw),
        options,
    };
    // A kernel of one pixel reads each place as it lies.
    let plain = (kh, kw, options) == (1, 1, ConvOptions::same(1));
    product(
        x,
        &Right::Tensor(w),
        (b, epilogue),
        vec![batch, high, wide, n],
        ((!plain).then_some(conv), None),
    )
}

/// `x` read as `[m,k]` times the right side, `dims` being the shape of the product, with the tiles
/// that are given or else the best ones.
pub(super) fn product(
    x: &GpuTensor,
    w: &Right,
    (b, epilogue): (Option<&GpuTensor>, Epilogue),
    mut dims: Vec<usize>,
    (conv, tile): (Option<Conv>, Option<Tile>),
) -> Result<GpuTensor> {
    let n = dims.last().copied().unwrap_or(0);
    let gpu = x.gpu();
    let (more, each) = epilogue.reads(&dims)?;
    let geglu = matches!(epilogue, Epilogue::Geglu);
    if let Some(last) = dims.last_mut().filter(|_| geglu) {
        *last /= 2;
    }
    let y = GpuTensor::new(gpu, dims)?;
    if y.count() == 0 {
        return Ok(y);
    }
    let halved = if geglu { 2 } else { 1 };
    let m = y.count() * halved / n;
    let k = match (w, &conv) {
        (Right::Tensor(w), _) => w.count() / n,
        (Right::Packed { .. }, _) => x.count() / m,
    };
    // What is read four at a time must come in fours.
    let read = conv.as_ref().map_or(k, |conv| conv.channels);
    let quads = n.is_multiple_of(4 * halved) && read.is_multiple_of(4);
    if geglu && (!quads || k > LONGEST_GEGLU) {
        candle_core::bail!("GEGLU in the same pass as a product of {k}x{n}");
    }
    let half = w.is_half();
    let mut sizes = match &conv {
        Some(c) => vec![
            c.height,
            c.width,
            c.channels,
            c.out.0,
            c.out.1,
            c.kernel.1,
            c.options.stride,
            match c.options.padding {
                Padding::Zeros(pad) => pad,
                Padding::BottomRight(_) => 0,
            },
            usize::from(c.options.upsample),
        ],
        None => vec![0; 9],
    };
    // Channels that are gone through for one place under a kernel before the next.
    let (kernel_height, slab) = match &conv {
        Some(c) if c.channels.is_multiple_of(DEPTH) => (c.kernel.0, DEPTH),
        Some(c) => (c.kernel.0, c.channels),
        None => (0, 0),
    };
    sizes.extend([usize::from(b.is_some()), each, kernel_height]);
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
            epilogue.name(),
            tile.name(),
        );
        let tiles = (rows.div_ceil(tile.rows), n.div_ceil(tile.columns));
        let share = |bytes: u64| bytes * rows as u64 / m as u64;
        let sides = (share(x.bytes()), w.bytes());
        let (order, moved) = traffic::product(tiles, sides, tile.invocations(), gpu.info().kind);
        let (along, across) = match order.by_rows {
            true => (tiles.1, tiles.0),
            false => tiles,
        };
        let all = [m, n, k, order.band].into_iter();
        let all = all.chain(sizes.iter().copied());
        let all = all.chain([usize::from(order.by_rows), slab, 0, k.div_ceil(DEPTH)]);
        let all: Vec<u32> = all.map(|size| size as u32).collect();
        gpu.run(&Run {
            kernel: &name,
            source: &|| {
                let form = Form {
                    conv: conv.is_some(),
                    quads,
                    epilogue,
                };
                source(tile, &form, w)
            },
            sizes: &padded(all),
            // Where both halves become one there is no room for the sums of both.
            steps: match geglu {
                true => 1,
                false => k.div_ceil(tile.step()) as u32,
            },
            reads: &reads,
            writes: y.buffer(),
            groups: [order.band, along, across.div_ceil(order.band)].map(|groups| groups as u32),
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

/// Numbers that are added up at most in the same pass as GEGLU, which can't pause: no workgroup takes
/// longer than a submission should on a slow GPU.
pub(super) const LONGEST_GEGLU: usize = 1280;

/// Workgroups along one axis, as every device allows them.
pub(super) const MOST_GROUPS: usize = 65_535;

/// A uniform block is as long as its type in WGSL, whose size is a multiple of 16 bytes.
pub(super) fn padded(mut sizes: Vec<u32>) -> Vec<u32> {
    sizes.resize(sizes.len().next_multiple_of(4), 0);
    sizes
}
