//! Matrix products and convolutions.

use super::device::Run;
use super::tensor::GpuTensor;
use crate::nn::{ConvOptions, Padding, Result};

/// How a variant of the kernel cuts the output.
struct Tile {
    rows: usize,
    columns: usize,
    each: usize,
}

/// For outputs of many tiles, and for those of few.
const LARGE: Tile = Tile {
    rows: 128,
    columns: 64,
    each: 8,
};
const SMALL: Tile = Tile {
    rows: 32,
    columns: 32,
    each: 4,
};
/// With fewer large tiles than this a large GPU has nothing to do in most of its parts.
const ENOUGH_TILES: usize = 96;

/// What is read on the left, and where.
struct Conv {
    height: usize,
    width: usize,
    channels: usize,
    out: (usize, usize),
    kernel_width: usize,
    options: ConvOptions,
}

/// `x [..,in]`, `w [in,out]`, `b [out]` -> `[..,out]`.
pub(super) fn linear(x: &GpuTensor, w: &GpuTensor, b: Option<&GpuTensor>) -> Result<GpuTensor> {
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
    product(x, w, b, dims, None)
}

/// `x [B,H,W,in]`, `w [kh,kw,in,out]`, `b [out]` -> `[B,H',W',out]`.
pub(super) fn conv2d(
    x: &GpuTensor,
    w: &GpuTensor,
    b: Option<&GpuTensor>,
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
        w,
        b,
        vec![batch, high, wide, n],
        (!plain).then_some(conv),
    )
}

fn product(
    x: &GpuTensor,
    w: &GpuTensor,
    b: Option<&GpuTensor>,
    dims: Vec<usize>,
    conv: Option<Conv>,
) -> Result<GpuTensor> {
    let n = dims.last().copied().unwrap_or(0);
    let gpu = x.gpu();
    let y = GpuTensor::new(gpu, dims)?;
    if y.count() == 0 {
        return Ok(y);
    }
    let (m, k) = (y.count() / n, w.count() / n);
    // What is read four at a time must come in fours.
    let read = conv.as_ref().map_or(k, |conv| conv.channels);
    let quads = n.is_multiple_of(4) && read.is_multiple_of(4);
    let large = m.div_ceil(LARGE.rows) * n.div_ceil(LARGE.columns);
    let tile = if large < ENOUGH_TILES { SMALL } else { LARGE };
    let half = w.is_half();
    let name = format!(
        "product{}{}{}{}",
        if conv.is_some() { " of a picture" } else { "" },
        if quads { " in fours" } else { "" },
        if half { " by f16" } else { "" },
        tile.rows,
    );
    let source = || source(&tile, conv.is_some(), quads, half);

    let flops = |rows: usize| 2 * (rows * n * k) as u64;
    let columns = n.div_ceil(tile.columns);
    let portion = gpu.portion() / flops(tile.rows).max(1);
    // No run takes longer than a portion, nor has more workgroups than any device allows.
    let tiles = m.div_ceil(tile.rows);
    let at_once = (portion as usize).clamp(1, tiles).min(MOST_GROUPS);
    let none = b.unwrap_or(w);
    for first in (0..tiles).step_by(at_once) {
        let now = at_once.min(tiles - first);
        let rows = (m - first * tile.rows).min(now * tile.rows);
        let mut sizes = vec![m, n, k, first * tile.rows];
        sizes.extend(match &conv {
            Some(c) => [
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
            None => [0; 9],
        });
        sizes.push(usize::from(b.is_some()));
        let sizes: Vec<u32> = sizes.into_iter().map(|size| size as u32).collect();
        let share = |bytes: u64| bytes * rows as u64 / m as u64;
        gpu.run(&Run {
            kernel: &name,
            source: &source,
            sizes: &padded(sizes),
            reads: &[x.buffer(), w.buffer(), none.buffer()],
            writes: y.buffer(),
            groups: [columns as u32, now as u32, 1],
            flops: flops(rows),
            bytes: share(x.bytes()) + share(y.bytes()) + w.bytes(),
            // Each tile reads its rows and columns through.
            asked: share(y.bytes()) + (4 * rows * k * columns) as u64 + w.bytes() * now as u64,
        })?;
    }
    Ok(y)
}

/// Workgroups along one axis, as every device allows them.
pub(super) const MOST_GROUPS: usize = 65_535;

/// A uniform block is as long as its type in WGSL, whose size is a multiple of 16 bytes.
pub(super) fn padded(mut sizes: Vec<u32>) -> Vec<u32> {
    sizes.resize(sizes.len().next_multiple_of(4), 0);
    sizes
}

fn source(tile: &Tile, conv: bool, quads: bool, half: bool) -> String {
    let load_a = match quads {
        true => {
            "fn load_a(row: Row, k: u32) -> vec4<f32> {
                if !row.there || k >= s.k { return vec4<f32>(0.0); }
                let at = a_at(row, k);
                if at == NOWHERE { return vec4<f32>(0.0); }
                return a[at / 4u];
            }"
        }
        false => {
            "fn load_a(row: Row, k: u32) -> vec4<f32> {
                var v = vec4<f32>(0.0);
                for (var j = 0u; j < 4u; j++) {
                    if row.there && k + j < s.k {
                        let at = a_at(row, k + j);
                        if at != NOWHERE { v[j] = a[at]; }
                    }
                }
                return v;
            }"
        }
    };
    let one = match half {
        true => "unpack2x16float(b[at / 2u])[at % 2u]",
        false => "b[at]",
    };
    let four = match half {
        true => "vec4<f32>(unpack2x16float(b[at].x), unpack2x16float(b[at].y))",
        false => "b[at]",
    };
    let load_b = match quads {
        true => format!(
            "fn load_b(k: u32, n: u32) -> vec4<f32> {{
                if k >= s.k || n >= s.n {{ return vec4<f32>(0.0); }}
                let at = (k * s.n + n) / 4u;
                return {four};
            }}
            fn store(m: u32, n: u32, v: vec4<f32>) {{ y[(m * s.n + n) / 4u] = v; }}"
        ),
        false => format!(
            "fn load_b(k: u32, n: u32) -> vec4<f32> {{
                var v = vec4<f32>(0.0);
                for (var j = 0u; j < 4u; j++) {{
                    if k < s.k && n + j < s.n {{
                        let at = k * s.n + n + j;
                        v[j] = {one};
                    }}
                }}
                return v;
            }}
            fn store(m: u32, n: u32, v: vec4<f32>) {{
                for (var j = 0u; j < 4u; j++) {{
                    if n + j < s.n {{ y[m * s.n + n + j] = v[j]; }}
                }}
            }}"
        ),
    };
    let item = |quads: bool| if quads { "vec4<f32>" } else { "f32" };
    let b_item = match (quads, half) {
        (quads, false) => item(quads),
        (true, true) => "vec2<u32>",
        (false, true) => "u32",
    };
    include_str!("kernels/product.wgsl")
        .replace("A_LOADER", load_a)
        .replace("B_LOADER", &load_b)
        .replace("A_ITEM", item(quads))
        .replace("B_ITEM", b_item)
        .replace("Y_ITEM", item(quads))
        .replace("IS_CONV", if conv { "true" } else { "false" })
        .replace("BM_VALUE", &tile.rows.to_string())
        .replace("BN_VALUE", &tile.columns.to_string())
        .replace("TM_VALUE", &tile.each.to_string())
}
