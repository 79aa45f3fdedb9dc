//! Convolution 3x3 with stride 1 by Winograd's minimal filtering F(4x4,3x3): a tile of 4x4 outputs
//! takes 36 products a pair of channels in place of 144 (Lavin & Gray, arXiv 1509.09308).
//!
//! Each tile of 6x6 inputs becomes 36 numbers a channel, each kernel too; the sums over channels
//! are then 36 matrix products, and 36 sums become 4x4 outputs. The gradients run the same three
//! transforms backwards. Rounding errors are about ten times those of the direct sum, 1e-6 to 1e-5
//! of the largest output.
//!
//! Tiles are worked on in blocks whose transforms fit a shared cache, so that scratch memory is
//! bounded whatever the picture's size. Blocks do not depend on the number of threads, and neither
//! do results.

mod transform;

use super::gemm::{MR, NR, SLACK, rows_tile, steps_tile, tile_rows, with_scratch};
use super::geometry::{Geometry, OutPtr};
use super::lanes::run;
use super::pack::{pack_strip, pack_strip_transposed};
use rayon::prelude::*;
use transform::{GradientTiles, InputTiles, Kernels, KernelsGradient, OutputTiles};

/// Numbers that stand for a tile.
const POINTS: usize = 36;
/// Side of a tile of outputs.
const SIDE: usize = 4;
/// Floats that the transformed input of a block of more than [`TILES`] tiles may take: 2 MiB.
const BLOCK_FLOATS: usize = 512 << 10;
/// Tiles multiplied with a strip of kernels before their sums are transformed back.
const TILES: usize = 4 * MR;
/// Channels summed over at a time.
const CHANNELS: usize = 256;
/// Floats between the ends of the matrices of two points, so that they share no cache set.
const GAP: usize = 16;

/// A picture cut into tiles: `[batch,h,w,channels]`, seen from `top` rows above and `left` columns
/// beside it, each place twice both ways if `twice`.
#[derive(Clone, Copy)]
struct Picture<'a> {
    data: &'a [f32],
    h: usize,
    w: usize,
    channels: usize,
    top: usize,
    left: usize,
    twice: bool,
}

impl Picture<'_> {
    /// The place at row `y`, column `x` of the padded picture of sample `b`, if it is no padding.
    fn at(&self, b: usize, y: usize, x: usize) -> Option<*const f32> {
        let (y, x) = (y.checked_sub(self.top)?, x.checked_sub(self.left)?);
        let (y, x) = match self.twice {
            true => (y / 2, x / 2),
            false => (y, x),
        };
        (y < self.h && x < self.w)
            .then(|| self.data[((b * self.h + y) * self.w + x) * self.channels..].as_ptr())
    }
}

/// How the outputs are cut into tiles.
#[derive(Clone, Copy)]
struct Grid {
    batch: usize,
    /// Outputs a column and a row.
    h: usize,
    w: usize,
}

impl Grid {
    fn rows(&self) -> usize {
        self.h.div_ceil(SIDE)
    }

    fn columns(&self) -> usize {
        self.w.div_ceil(SIDE)
    }

    fn tiles(&self) -> usize {
        self.batch * self.rows() * self.columns()
    }

    /// Sample, first row and first column of a tile.
    fn tile(&self, t: usize) -> (usize, usize, usize) {
        let (row, column) = (t / self.columns(), t % self.columns());
        (row / self.rows(), row % self.rows() * SIDE, column * SIDE)
    }
}

/// Whether the products saved outweigh the transforms.
pub(super) fn suits(g: &Geometry) -> bool {
    let (h, w) = g.out();
    let grid = Grid {
        batch: g.batch,
        h,
        w,
    };
    (g.kh, g.kw, g.stride) == (3, 3, 1)
        && g.cin >= 8
        && g.cout >= 8
        && grid.tiles() >= 6
        && 5 * grid.tiles() * POINTS <= 3 * g.batch * h * w * 9
}

/// Where the kernels of a product come from.
#[derive(Clone, Copy)]
enum Source {
    /// `[3,3,channels,outputs]`.
    AsIs,
    /// `[3,3,outputs,channels]`, rows and columns of the kernel in reverse.
    Flipped,
}

/// `w` is `[3,3,cin,cout]`, `out` `[batch,ho,wo,cout]`.
pub(super) fn forward(g: &Geometry, x: &[f32], w: &[f32], bias: Option<&[f32]>, out: &mut [f32]) {
    let (h, wd) = g.out();
    let picture = picture(g, x);
    let grid = Grid {
        batch: g.batch,
        h,
        w: wd,
    };
    product(picture, grid, w, Source::AsIs, bias, false, out);
}

fn picture<'a>(g: &Geometry, x: &'a [f32]) -> Picture<'a> {
    assert_eq!(x.len(), g.batch * g.h * g.w * g.cin);
    Picture {
        data: x,
        h: g.h,
        w: g.w,
        channels: g.cin,
        top: g.pad[0],
        left: g.pad[1],
        twice: g.upsample,
    }
}

/// Gradient of the input: the output's gradient convolved with the flipped kernel.
pub(super) fn grad_input(g: &Geometry, dy: &[f32], w: &[f32], dx: &mut [f32]) {
    let (ho, wo) = g.out();
    assert_eq!(dy.len(), g.batch * ho * wo * g.cout);
    let picture = Picture {
        data: dy,
        h: ho,
        w: wo,
        channels: g.cout,
        top: 2 - g.pad[0],
        left: 2 - g.pad[1],
        twice: false,
    };
    let scale = if g.upsample { 2 } else { 1 };
    let grid = Grid {
        batch: g.batch,
        h: scale * g.h,
        w: scale * g.w,
    };
    product(picture, grid, w, Source::Flipped, None, g.upsample, dx);
}

/// Tiles of a block, for `channels` input channels.
fn block_tiles(channels: usize) -> usize {
    (BLOCK_FLOATS / (POINTS * channels) / TILES).max(1) * TILES
}

/// The transformed inputs of a block of tiles: `[POINTS][tiles, channels]`, channels filled up to
/// whole lanes.
struct Inputs<'a> {
    values: &'a [f32],
    /// Floats from one point's matrix to the next's.
    point: usize,
    /// Floats from one tile to the next.
    tile: usize,
}

/// Calls `f` with the transformed inputs of the tiles `first..first + count`.
fn with_inputs(picture: Picture, grid: Grid, first: usize, count: usize, f: impl FnOnce(&Inputs)) {
    const TASK: usize = 8;
    let tile = picture.channels.next_multiple_of(16);
    let point = count * tile + GAP;
    with_scratch(|values| {
        values.resize(POINTS * point + SLACK, 0.0);
        let out = OutPtr(values.as_mut_ptr());
        (0..count.div_ceil(TASK)).into_par_iter().for_each(|task| {
            for t in task * TASK..((task + 1) * TASK).min(count) {
                let (b, y, x) = grid.tile(first + t);
                let places: [Option<*const f32>; POINTS] =
                    std::array::from_fn(|i| picture.at(b, y + i / 6, x + i % 6));
                // SAFETY: places lie `channels` floats within the picture; tasks own disjoint
                // tiles of `values`, which holds POINTS matrices of whole tiles.
                unsafe {
                    run(InputTiles {
                        places: &places,
                        channels: picture.channels,
                        out: out.at(t * tile),
                        point,
                    });
                };
            }
        });
        f(&Inputs {
            values,
            point,
            tile,
        });
    });
}

/// Convolves `picture` with kernels for every output of `grid`; with `fold` each 2x2 outputs are
/// summed into one.
fn product(
    picture: Picture,
    grid: Grid,
    w: &[f32],
    source: Source,
    bias: Option<&[f32]>,
    fold: bool,
    out: &mut [f32],
) {
    let k = picture.channels;
    let n = w.len() / (9 * k);
    let scale = if fold { 2 } else { 1 };
    assert!(
        w.len() == 9 * k * n
            && out.len() == grid.batch * (grid.h / scale) * (grid.w / scale) * n
            && bias.is_none_or(|b| b.len() == n)
    );
    let out = OutPtr(out.as_mut_ptr());
    let strips = n.div_ceil(NR);
    let chunks = k.div_ceil(CHANNELS);
    let chunk = k.div_ceil(chunks);
    let block = block_tiles(k);
    let parts = (2 * rayon::current_num_threads()).div_ceil(strips);
    for first in (0..grid.tiles()).step_by(block) {
        let count = block.min(grid.tiles() - first);
        // Sums over several chunks of channels stay in memory for all tiles.
        let group = if chunks == 1 { TILES.min(count) } else { count };
        let groups = count.div_ceil(group);
        let parts = parts.min(groups);
        with_inputs(picture, grid, first, count, |inputs| {
            (0..strips * parts).into_par_iter().for_each(|task| {
                let (strip, part) = (task % strips, task / strips);
                let (n0, width) = (strip * NR, NR.min(n - strip * NR));
                with_two_scratches(|kernels, sums| {
                    sums.resize(POINTS * (group * NR + GAP), 0.0);
                    for c in 0..chunks {
                        let channels = c * chunk..((c + 1) * chunk).min(k);
                        let kernel_point =
                            transform_kernels(w, k, n, source, &channels, n0, kernels);
                        for g in part * groups / parts..(part + 1) * groups / parts {
                            let tiles = g * group..((g + 1) * group).min(count);
                            multiply(
                                inputs,
                                &channels,
                                &tiles,
                                kernels,
                                kernel_point,
                                c > 0,
                                sums,
                                group,
                                width,
                            );
                            if c + 1 < chunks {
                                continue;
                            }
                            for t in tiles.clone() {
                                // SAFETY: tiles and strips of different tasks do not overlap in
                                // `out`, whose size was checked above.
                                unsafe {
                                    run(OutputTiles {
                                        sums: &sums[(t - tiles.start) * NR..],
                                        point: group * NR + GAP,
                                        bias: bias.map(|b| &b[n0..n0 + width]),
                                        tile: grid.tile(first + t),
                                        size: (grid.h, grid.w, n),
                                        fold,
                                        out: out.at(n0),
                                        width,
                                    });
                                };
                            }
                        }
                    }
                });
            });
        });
    }
}

fn with_two_scratches(f: impl FnOnce(&mut Vec<f32>, &mut Vec<f32>)) {
    with_scratch(|a| with_scratch(|b| f(a, b)));
}

/// The transformed kernels of a strip of outputs for some channels, `[POINTS][channels, NR]`; the
/// floats from one point to the next.
fn transform_kernels(
    w: &[f32],
    k: usize,
    n: usize,
    source: Source,
    channels: &std::ops::Range<usize>,
    n0: usize,
    out: &mut Vec<f32>,
) -> usize {
    let count = channels.len();
    let point = count * NR + GAP;
    out.resize(POINTS * point, 0.0);
    with_two_scratches(|taps, strip| {
        taps.clear();
        for tap in 0..9 {
            // A tap at a time, since nine rows far apart at once defeat the memory's prefetching.
            match source {
                Source::AsIs => {
                    let from = &w[(tap * k + channels.start) * n..];
                    pack_strip(from, n, count, n0, n, strip);
                }
                Source::Flipped => {
                    let from = &w[(8 - tap) * n * k + channels.start..(9 - tap) * n * k];
                    pack_strip_transposed(from, k, count, n0, n, strip);
                }
            }
            taps.extend_from_slice(strip);
        }
        // SAFETY: `taps` holds 9 strips, `out` POINTS matrices of `count` rows of NR floats.
        unsafe {
            run(Kernels {
                taps,
                count,
                out: out.as_mut_ptr(),
                point,
            });
        };
    });
    point
}

/// For each point `sums [tiles, NR] (+)= inputs [tiles, channels] * kernels [channels, NR]`.
fn multiply(
    inputs: &Inputs,
    channels: &std::ops::Range<usize>,
    tiles: &std::ops::Range<usize>,
    kernels: &[f32],
    kernel_point: usize,
    add: bool,
    sums: &mut [f32],
    group: usize,
    width: usize,
) {
    let zero = [0f32; NR];
    let height = tile_rows(tiles.len());
    let rows = channels.len() * NR;
    for point in 0..POINTS {
        let strip = &kernels[point * kernel_point..][..rows];
        let from = &inputs.values[point * inputs.point..(point + 1) * inputs.point];
        let to = &mut sums[point * (group * NR + GAP)..][..tiles.len() * NR];
        for t in (0..tiles.len()).step_by(height) {
            let count = height.min(tiles.len() - t);
            let a: [*const f32; MR] = std::array::from_fn(|m| {
                from.as_ptr()
                    .wrapping_add((tiles.start + t + m) * inputs.tile + channels.start)
            });
            let c: [*mut f32; MR] =
                std::array::from_fn(|m| to.as_mut_ptr().wrapping_add((t + m) * NR));
            // SAFETY: rows of `from` hold whole tiles of channels, `to` whole rows of NR floats.
            unsafe {
                rows_tile(
                    &a[..count],
                    &[0],
                    channels.len(),
                    strip,
                    &c[..count],
                    width,
                    &zero,
                    add,
                );
            };
        }
    }
}

/// Gradient of the kernel, `[3,3,cin,cout]`, overwritten.
pub(super) fn grad_weight(g: &Geometry, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    let (ho, wo) = g.out();
    let (k, n) = (g.cin, g.cout);
    assert!(dy.len() == g.batch * ho * wo * n && dw.len() == 9 * k * n);
    let gradient = Picture {
        data: dy,
        h: ho,
        w: wo,
        channels: n,
        top: 0,
        left: 0,
        twice: false,
    };
    let grid = Grid {
        batch: g.batch,
        h: ho,
        w: wo,
    };
    let strips = n.div_ceil(NR);
    let parts = k
        .div_ceil(CHANNELS)
        .max((2 * rayon::current_num_threads()).div_ceil(strips))
        .min(k.div_ceil(MR));
    let block = block_tiles(k);
    let out = OutPtr(dw.as_mut_ptr());
    for first in (0..grid.tiles()).step_by(block) {
        let count = block.min(grid.tiles() - first);
        with_inputs(picture(g, x), grid, first, count, |inputs| {
            (0..strips * parts).into_par_iter().for_each(|task| {
                let (strip, part) = (task % strips, task / strips);
                let channels = part * k / parts..(part + 1) * k / parts;
                let (n0, width) = (strip * NR, NR.min(n - strip * NR));
                with_two_scratches(|gradients, sums| {
                    let sum_point = channels.len() * NR + GAP;
                    sums.clear();
                    sums.resize(POINTS * sum_point, 0.0);
                    for t in (0..count).step_by(TILES) {
                        let tiles = t..(t + TILES).min(count);
                        let point = transform_gradients(
                            gradient,
                            grid,
                            first + tiles.start..first + tiles.end,
                            n0,
                            width,
                            gradients,
                        );
                        multiply_transposed(
                            inputs, &tiles, &channels, gradients, point, sums, sum_point, width,
                        );
                    }
                    // SAFETY: parts and strips of different tasks do not overlap in `dw`.
                    unsafe {
                        run(KernelsGradient {
                            sums,
                            point: sum_point,
                            count: channels.len(),
                            width,
                            out: out.at(channels.start * n + n0),
                            row: n,
                            tap: k * n,
                            add: first > 0,
                        });
                    };
                });
            });
        });
    }
}

/// The transformed gradients of the outputs of some tiles, `[POINTS][tiles, NR]`, for a strip of
/// channels; the floats from one point to the next.
fn transform_gradients(
    gradient: Picture,
    grid: Grid,
    tiles: std::ops::Range<usize>,
    n0: usize,
    width: usize,
    out: &mut Vec<f32>,
) -> usize {
    let point = tiles.len() * NR + GAP;
    out.resize(POINTS * point, 0.0);
    for (i, t) in tiles.enumerate() {
        let (b, y, x) = grid.tile(t);
        let places: [Option<*const f32>; SIDE * SIDE] = std::array::from_fn(|i| {
            let place = gradient.at(b, y + i / SIDE, x + i % SIDE)?;
            Some(place.wrapping_add(n0))
        });
        // SAFETY: places lie `width` floats within the picture, `out` holds POINTS matrices.
        unsafe {
            run(GradientTiles {
                places: &places,
                width,
                out: out.as_mut_ptr().add(i * NR),
                point,
            });
        };
    }
    point
}

/// For each point `sums [channels, NR] += inputs^T [channels, tiles] * gradients [tiles, NR]`.
fn multiply_transposed(
    inputs: &Inputs,
    tiles: &std::ops::Range<usize>,
    channels: &std::ops::Range<usize>,
    gradients: &[f32],
    gradient_point: usize,
    sums: &mut [f32],
    sum_point: usize,
    width: usize,
) {
    let mut offsets = [0; TILES];
    for (offset, t) in offsets.iter_mut().zip(tiles.clone()) {
        *offset = t * inputs.tile + channels.start;
    }
    let offsets = &offsets[..tiles.len()];
    let height = tile_rows(channels.len());
    for point in 0..POINTS {
        let x = inputs.values[point * inputs.point..].as_ptr();
        let dy = &gradients[point * gradient_point..][..tiles.len() * NR];
        let to = sums[point * sum_point..].as_mut_ptr();
        for c in (0..channels.len()).step_by(height) {
            // SAFETY: `inputs` has SLACK floats behind its last tile, `sums` holds a row of NR
            // floats for each channel.
            unsafe {
                steps_tile(
                    x.add(c),
                    offsets,
                    dy,
                    NR,
                    to.add(c * NR),
                    NR,
                    height.min(channels.len() - c),
                    width,
                );
            };
        }
    }
}
