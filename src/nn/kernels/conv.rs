//! Convolution and matrix product, forward and backward, channels last.
//!
//! A convolution is a matrix product whose left rows are read in place: output place `p` starts
//! at `base[p]` in the padded input, and a tap of the kernel is a constant offset from there.

use super::gemm::{MR, NR, SLACK, rows_tile, steps_tile, tile_rows, with_scratch};
pub(crate) use super::geometry::Geometry;
use super::geometry::{OutPtr, places};
use super::pack::{pack_strip, pack_strip_transposed};
use super::{linear, winograd};
use rayon::prelude::*;

/// Terms summed over at a time, so that a strip of the right operand stays in the first cache.
const TERMS: usize = 320;

/// A part of a sum over taps and channels: the taps' offsets, and how many channels from there.
struct Terms {
    segs: Vec<usize>,
    len: usize,
}

/// Cuts a sum over `segs` of `len` terms each into parts of about [`TERMS`], in order.
fn terms(segs: &[usize], len: usize) -> Vec<Terms> {
    if len <= TERMS {
        return segs
            .chunks((TERMS / len.max(1)).max(1))
            .map(|segs| Terms {
                segs: segs.to_vec(),
                len,
            })
            .collect();
    }
    let parts = len.div_ceil(TERMS);
    let part = len.div_ceil(parts);
    segs.iter()
        .flat_map(|seg| {
            (0..len).step_by(part).map(move |from| Terms {
                segs: vec![seg + from],
                len: part.min(len - from),
            })
        })
        .collect()
}

/// The right operand of a product, a row for each term of the sum.
#[derive(Clone, Copy)]
enum Weights<'a> {
    /// `[terms, n]`.
    AsIs(&'a [f32]),
    /// `[taps, n, channels]`, taps in reverse.
    Flipped { w: &'a [f32], channels: usize },
}

impl Weights<'_> {
    fn terms(&self, n: usize) -> usize {
        match self {
            Weights::AsIs(w) | Weights::Flipped { w, .. } => w.len() / n.max(1),
        }
    }

    /// Packs the columns from `n0` on of some terms from `from` on.
    fn pack(&self, from: usize, part: &Terms, n0: usize, n: usize, out: &mut Vec<f32>) {
        match self {
            Weights::AsIs(w) => {
                pack_strip(&w[from * n..], n, part.segs.len() * part.len, n0, n, out);
            }
            Weights::Flipped { w, channels } => with_scratch(|strip| {
                out.clear();
                let taps = w.len() / (n * channels);
                for i in 0..part.segs.len() {
                    let (tap, at) = (
                        (from + i * part.len) / channels,
                        (from + i * part.len) % channels,
                    );
                    let tap = &w[(taps - 1 - tap) * n * channels..(taps - tap) * n * channels];
                    pack_strip_transposed(&tap[at..], *channels, part.len, n0, n, strip);
                    out.extend_from_slice(strip);
                }
            }),
        }
    }
}

/// Most tiles of rows that pass by a packed strip.
const ROW_TILES: usize = 32;

/// `out[p] = bias + sum over taps and i of a[base[p] + seg + i] * weights`, `n` columns.
fn product(
    a: &[f32],
    base: &[usize],
    segs: &[usize],
    seg_len: usize,
    weights: Weights,
    n: usize,
    bias: Option<&[f32]>,
    out: &mut [f32],
) {
    let strips = n.div_ceil(NR);
    assert!(weights.terms(n) == segs.len() * seg_len && out.len() == base.len() * n);
    let reach = segs.iter().max().copied().unwrap_or(0) + seg_len;
    assert!(base.iter().all(|b| b + reach <= a.len()));
    let parts = terms(segs, seg_len);
    let height = tile_rows(base.len());
    let tiles = base.len().div_ceil(height);
    // Enough tasks to keep all threads busy to the end: blocks of rows first, then of columns.
    let tasks = 4 * rayon::current_num_threads();
    let blocks = tiles
        .div_ceil(ROW_TILES)
        .max(tasks.div_ceil(strips.max(1)).min(tiles / 4))
        .max(1);
    let split = tasks.div_ceil(blocks).min(strips);
    let out = OutPtr(out.as_mut_ptr());
    (0..blocks * split).into_par_iter().for_each(|task| {
        let (block, own) = (task % blocks, task / blocks);
        let mut from = 0;
        for (part_i, part) in parts.iter().enumerate() {
            for strip in own * strips / split..(own + 1) * strips / split {
                let n0 = strip * NR;
                let width = NR.min(n - n0);
                let mut edge = [0f32; NR];
                if let Some(b) = bias.filter(|_| part_i == 0) {
                    edge[..width].copy_from_slice(&b[n0..n0 + width]);
                }
                with_scratch(|packed| {
                    weights.pack(from, part, n0, n, packed);
                    for tile in block * tiles / blocks..(block + 1) * tiles / blocks {
                        let first = tile * height;
                        let count = height.min(base.len() - first);
                        let mut rows = [std::ptr::null::<f32>(); MR];
                        let mut outs = [std::ptr::null_mut::<f32>(); MR];
                        for m in 0..count {
                            rows[m] = a.as_ptr().wrapping_add(base[first + m]);
                            outs[m] = out.at((first + m) * n + n0);
                        }
                        // SAFETY: `reach` was checked above; blocks and strips of different tasks
                        // do not overlap in `out`.
                        unsafe {
                            rows_tile(
                                &rows[..count],
                                &part.segs,
                                part.len,
                                packed,
                                &outs[..count],
                                width,
                                &edge,
                                part_i > 0,
                            );
                        };
                    }
                });
            }
            from += part.segs.len() * part.len;
        }
    });
}

/// Copies `src [b,h,w,c]` into a zeroed `[b,hp,wp,c]` from row `top`, column `left`, `step`
/// places apart, each place repeated twice both ways if `twice`.
fn spread(
    src: &[f32],
    (b, h, w, c): (usize, usize, usize, usize),
    (hp, wp): (usize, usize),
    (top, left): (usize, usize),
    step: usize,
    twice: bool,
    out: &mut Vec<f32>,
) {
    // With no gaps between places only the border needs its zeros written.
    let dense = step == 1;
    if !dense {
        out.clear();
    }
    out.resize(b * hp * wp * c + SLACK, 0.0);
    let last = out.len() - SLACK;
    let scale = if twice { 2 } else { 1 };
    out[..last]
        .par_chunks_mut(hp * wp * c)
        .enumerate()
        .for_each(|(i, image)| {
            let src = &src[i * h * w * c..(i + 1) * h * w * c];
            if dense {
                image[..top * wp * c].fill(0.0);
                image[(top + scale * h) * wp * c..].fill(0.0);
                for row in image[top * wp * c..(top + scale * h) * wp * c].chunks_exact_mut(wp * c)
                {
                    row[..left * c].fill(0.0);
                    row[(left + scale * w) * c..].fill(0.0);
                }
            }
            for y in 0..h {
                let row = &src[y * w * c..(y + 1) * w * c];
                if twice {
                    for dy in 0..2 {
                        let at = ((top + 2 * y + dy) * wp + left) * c;
                        let line = &mut image[at..at + 2 * w * c];
                        for (pair, px) in line.chunks_exact_mut(2 * c).zip(row.chunks_exact(c)) {
                            pair[..c].copy_from_slice(px);
                            pair[c..].copy_from_slice(px);
                        }
                    }
                } else if step == 1 {
                    let at = ((top + y) * wp + left) * c;
                    image[at..at + w * c].copy_from_slice(row);
                } else {
                    for (x, px) in row.chunks_exact(c).enumerate() {
                        let at = ((top + y * step) * wp + left + x * step) * c;
                        image[at..at + c].copy_from_slice(px);
                    }
                }
            }
        });
}

/// `w` is `[kh,kw,cin,cout]`, `out` `[batch,ho,wo,cout]`.
pub(crate) fn forward(g: &Geometry, x: &[f32], w: &[f32], bias: Option<&[f32]>, out: &mut [f32]) {
    if winograd::suits(g) {
        return winograd::forward(g, x, w, bias, out);
    }
    if linear::suits(g) {
        return linear::forward(g, x, w, bias, out);
    }
    let segs = g.taps(g.padded().1, g.cin);
    let base = g.bases();
    let weights = Weights::AsIs(w);
    if g.in_place() {
        return product(x, &base, &segs, g.cin, weights, g.cout, bias, out);
    }
    with_scratch(|xp| {
        spread(
            x,
            (g.batch, g.h, g.w, g.cin),
            g.padded(),
            (g.pad[0], g.pad[1]),
            1,
            g.upsample,
            xp,
        );
        product(xp, &base, &segs, g.cin, weights, g.cout, bias, out);
    });
}

/// Gradient of the input: the output's gradient, spread by the stride, convolved with the
/// flipped and transposed kernel.
pub(crate) fn grad_input(g: &Geometry, dy: &[f32], w: &[f32], dx: &mut [f32]) {
    if winograd::suits(g) {
        return winograd::grad_input(g, dy, w, dx);
    }
    if linear::suits_grad_input(g) {
        return linear::grad_input(g, dy, w, dx);
    }
    let (ho, wo) = g.out();
    let s = g.scale();
    let (h, wd) = (s * g.h, s * g.w);
    let weights = Weights::Flipped {
        w,
        channels: g.cout,
    };
    if g.kh * g.kw == 1 && g.stride == 1 && g.in_place() {
        let base: Vec<usize> = (0..g.batch * h * wd).map(|p| p * g.cout).collect();
        return product(dy, &base, &[0], g.cout, weights, g.cin, None, dx);
    }
    // Rows below the last one a stride reaches got no gradient: the padded size covers them.
    let inner = (h + g.kh - 1, wd + g.kw - 1);
    let segs = g.taps(inner.1, g.cout);
    let base = places(g.batch, inner, (h, wd), 1, g.cout);
    let corner = (g.kh - 1 - g.pad[0], g.kw - 1 - g.pad[1]);
    with_scratch(|dp| {
        spread_within(dy, (g.batch, ho, wo, g.cout), inner, corner, g.stride, dp);
        if g.upsample {
            with_scratch(|full| {
                full.clear();
                full.resize(g.batch * h * wd * g.cin, 0.0);
                product(dp, &base, &segs, g.cout, weights, g.cin, None, full);
                fold_twice(full, (g.batch, g.h, g.w, g.cin), dx);
            });
        } else {
            product(dp, &base, &segs, g.cout, weights, g.cin, None, dx);
        }
    });
}

/// As [`spread`], leaving out the places that fall outside the padded size.
fn spread_within(
    dy: &[f32],
    (b, ho, wo, c): (usize, usize, usize, usize),
    inner: (usize, usize),
    corner: (usize, usize),
    stride: usize,
    out: &mut Vec<f32>,
) {
    let fits = |n: usize, from: usize, size: usize| n.min((size - from).div_ceil(stride));
    let (h, w) = (fits(ho, corner.0, inner.0), fits(wo, corner.1, inner.1));
    if (h, w) == (ho, wo) {
        return spread(dy, (b, ho, wo, c), inner, corner, stride, false, out);
    }
    with_scratch(|cut| {
        cut.clear();
        for i in 0..b {
            for y in 0..h {
                let at = (i * ho + y) * wo * c;
                cut.extend_from_slice(&dy[at..at + w * c]);
            }
        }
        spread(cut, (b, h, w, c), inner, corner, stride, false, out);
    });
}

/// Sums each 2x2 block of `full` into one place of `dx [b,h,w,c]`.
fn fold_twice(full: &[f32], (_, h, w, c): (usize, usize, usize, usize), dx: &mut [f32]) {
    dx.par_chunks_mut(w * c).enumerate().for_each(|(row, out)| {
        let (b, y) = (row / h, row % h);
        let at = (b * 2 * h + 2 * y) * 2 * w * c;
        let (up, down) = full[at..at + 4 * w * c].split_at(2 * w * c);
        for (x, px) in out.chunks_exact_mut(c).enumerate() {
            for (i, v) in px.iter_mut().enumerate() {
                let j = 2 * x * c + i;
                *v = up[j] + up[j + c] + down[j] + down[j + c];
            }
        }
    });
}

/// Places whose products are summed before the tile's sums go back to memory.
const STEPS: usize = 256;
/// Tiles of the left operand that are packed at a time: 512 KiB.
const MOST_TILES: usize = 32;

/// Gradient of the kernel, `[kh,kw,cin,cout]`, overwritten.
pub(crate) fn grad_weight(g: &Geometry, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    if winograd::suits(g) {
        return winograd::grad_weight(g, x, dy, dw);
    }
    if linear::suits(g) {
        return linear::grad_weight(g, x, dy, dw);
    }
    let base = g.bases();
    let segs = g.taps(g.padded().1, g.cin);
    if g.in_place() {
        // The kernel reads whole tiles; the last places, whose tiles would end past `x`, are
        // copied to where that is allowed.
        let reach = segs.last().copied().unwrap_or(0) + g.cin + SLACK;
        let direct = base.iter().take_while(|b| **b + reach <= x.len()).count();
        dw.fill(0.0);
        steps_product(x, &base[..direct], &segs, g, &dy[..direct * g.cout], dw);
        if let Some(first) = base.get(direct).copied() {
            with_scratch(|tail| {
                tail.clear();
                tail.extend_from_slice(&x[first..]);
                tail.resize(tail.len() + SLACK, 0.0);
                let rest: Vec<usize> = base[direct..].iter().map(|b| b - first).collect();
                steps_product(tail, &rest, &segs, g, &dy[direct * g.cout..], dw);
            });
        }
        return;
    }
    with_scratch(|xp| {
        spread(
            x,
            (g.batch, g.h, g.w, g.cin),
            g.padded(),
            (g.pad[0], g.pad[1]),
            1,
            g.upsample,
            xp,
        );
        dw.fill(0.0);
        steps_product(xp, &base, &segs, g, dy, dw);
    });
}

/// Floats from one place to the next in a packed tile of the left operand.
const PLACE: usize = MR.next_multiple_of(16);

/// `dw[tap][i][j] += sum over places p of x[base[p] + seg + i] * dy[p][j]`.
fn steps_product(
    x: &[f32],
    base: &[usize],
    segs: &[usize],
    g: &Geometry,
    dy: &[f32],
    dw: &mut [f32],
) {
    let (cin, n) = (g.cin, g.cout);
    let reach = segs.iter().max().copied().unwrap_or(0) + cin + SLACK;
    assert!(
        base.iter().all(|b| b + reach <= x.len())
            && dy.len() == base.len() * n
            && dw.len() == segs.len() * cin * n
    );
    let rows = tile_rows(cin);
    let tiles = cin.div_ceil(rows);
    let threads = rayon::current_num_threads();
    // Tiles of a task are packed once for all its strips.
    let parts = tiles
        .div_ceil(MOST_TILES)
        .max((4 * threads).div_ceil(segs.len()).min(tiles));
    let packed_places: [usize; STEPS] = std::array::from_fn(|t| t * PLACE);
    let out = OutPtr(dw.as_mut_ptr());
    (0..segs.len() * parts).into_par_iter().for_each(|task| {
        let (part, tap) = (task % parts, task / parts);
        let own = part * tiles / parts..(part + 1) * tiles / parts;
        with_scratch(|left| {
            with_scratch(|right| {
                for (chunk, places) in base.chunks(STEPS).enumerate() {
                    left.resize(own.len() * STEPS * PLACE, 0.0);
                    for (tile, panel) in own.clone().zip(left.chunks_exact_mut(STEPS * PLACE)) {
                        let from = segs[tap] + tile * rows;
                        for (place, to) in places.iter().zip(panel.chunks_exact_mut(PLACE)) {
                            to.copy_from_slice(&x[place + from..place + from + PLACE]);
                        }
                    }
                    let rows_of_dy = &dy[chunk * STEPS * n..];
                    for n0 in (0..n).step_by(NR) {
                        pack_strip(rows_of_dy, n, places.len(), n0, n, right);
                        for (tile, panel) in own.clone().zip(left.chunks_exact(STEPS * PLACE)) {
                            let c0 = tile * rows;
                            // SAFETY: the panel holds PLACE floats a place; tasks own disjoint
                            // tiles of `dw`.
                            unsafe {
                                steps_tile(
                                    panel.as_ptr(),
                                    &packed_places[..places.len()],
                                    right,
                                    NR,
                                    out.at((tap * cin + c0) * n + n0),
                                    n,
                                    rows.min(cin - c0),
                                    NR.min(n - n0),
                                );
                            };
                        }
                    }
                }
            });
        });
    });
}

/// Sums `dy [places, n]` over its places.
pub(crate) fn grad_bias(dy: &[f32], n: usize, db: &mut [f32]) {
    let sums = dy
        .par_chunks(n * 1024)
        .map(|chunk| {
            let mut s = vec![0f32; n];
            for row in chunk.chunks_exact(n) {
                s.iter_mut().zip(row).for_each(|(a, v)| *a += v);
            }
            s
        })
        .collect::<Vec<_>>();
    db.fill(0.0);
    for s in sums {
        db.iter_mut().zip(s).for_each(|(a, v)| *a += v);
    }
}

/// The geometry of `x [rows, inp] * w [inp, out]`.
pub(crate) fn matrix(rows: usize, inp: usize, out: usize) -> Geometry {
    Geometry {
        batch: 1,
        h: rows,
        w: 1,
        cin: inp,
        cout: out,
        kh: 1,
        kw: 1,
        stride: 1,
        pad: [0; 4],
        upsample: false,
    }
}
