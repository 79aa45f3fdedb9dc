//! The transforms of F(4x4,3x3) with the points 0, 1, -1, 2, -2 and infinity: matrices B, G and A
//! of Lavin & Gray, and their transposes.

use super::super::gemm::NR;
use super::super::lanes::{LANES, Lanes, Work};
use super::{POINTS, SIDE};

/// `m x m^T` for a transform given as a function of one column. A macro, since closures would be
/// compiled without the lanes' instruction set.
macro_rules! both_ways {
    ($transform:ident, [$in:literal -> $out:literal], |$i:ident, $j:ident| $load:expr, |$o:ident, $p:ident, $value:ident| $store:expr $(,)?) => {
        let mut half = [[L::zero(); $in]; $out];
        for $j in 0..$in {
            let mut column = [L::zero(); $in];
            for $i in 0..$in {
                column[$i] = $load;
            }
            let column = $transform(column);
            for o in 0..$out {
                half[o][$j] = column[o];
            }
        }
        for $o in 0..$out {
            let row = $transform(half[$o]);
            for $p in 0..$out {
                let $value: L = row[$p];
                $store;
            }
        }
    };
}

/// B^T d.
#[inline(always)]
unsafe fn input<L: Lanes>(d: [L; 6]) -> [L; 6] {
    // SAFETY: called from `Work::run`.
    unsafe {
        let [d0, d1, d2, d3, d4, d5] = d;
        let even = d2.times(-4.0, d4);
        let odd = d1.times(-4.0, d3);
        let even2 = d4.sub(d2);
        let odd2 = d3.sub(d1);
        [
            d0.times(4.0, d2.times(-5.0, d4)),
            even.add(odd),
            even.sub(odd),
            odd2.times(2.0, even2),
            odd2.times(-2.0, even2),
            d1.times(4.0, d3.times(-5.0, d5)),
        ]
    }
}

/// G g.
#[inline(always)]
unsafe fn kernel<L: Lanes>(g: [L; 3]) -> [L; 6] {
    // SAFETY: called from `Work::run`.
    unsafe {
        let zero = L::zero();
        let [g0, g1, g2] = g;
        let last = g2.times(1.0 / 6.0, zero);
        let outer = g0.times(-1.0 / 6.0, zero.sub(last));
        let outer2 = g0.times(1.0 / 24.0, last);
        [
            g0.times(0.25, zero),
            g1.times(-1.0 / 6.0, outer),
            g1.times(1.0 / 6.0, outer),
            g1.times(1.0 / 12.0, outer2),
            g1.times(-1.0 / 12.0, outer2),
            g2,
        ]
    }
}

/// A^T m.
#[inline(always)]
unsafe fn output<L: Lanes>(m: [L; 6]) -> [L; 4] {
    // SAFETY: called from `Work::run`.
    unsafe {
        let [m0, m1, m2, m3, m4, m5] = m;
        let (sum, difference) = (m1.add(m2), m1.sub(m2));
        let (sum2, difference2) = (m3.add(m4), m3.sub(m4));
        [
            m0.add(sum).add(sum2),
            difference2.times(2.0, difference),
            sum2.times(4.0, sum),
            difference2.times(8.0, difference).add(m5),
        ]
    }
}

/// A y.
#[inline(always)]
unsafe fn gradient<L: Lanes>(y: [L; 4]) -> [L; 6] {
    // SAFETY: called from `Work::run`.
    unsafe {
        let [y0, y1, y2, y3] = y;
        let (even, odd) = (y0.add(y2), y1.add(y3));
        let even2 = y2.times(4.0, y0);
        let odd2 = y3.times(4.0, y1);
        [
            y0,
            even.add(odd),
            even.sub(odd),
            odd2.times(2.0, even2),
            odd2.times(-2.0, even2),
            y3,
        ]
    }
}

/// G^T u.
#[inline(always)]
unsafe fn kernel_gradient<L: Lanes>(u: [L; 6]) -> [L; 3] {
    // SAFETY: called from `Work::run`.
    unsafe {
        let zero = L::zero();
        let [u0, u1, u2, u3, u4, u5] = u;
        let outer = u1.add(u2);
        let outer2 = u3.add(u4);
        [
            u0.times(
                0.25,
                outer.times(-1.0 / 6.0, outer2.times(1.0 / 24.0, zero)),
            ),
            u2.sub(u1)
                .times(1.0 / 6.0, u3.sub(u4).times(1.0 / 12.0, zero)),
            outer2.sub(outer).times(1.0 / 6.0, u5),
        ]
    }
}

/// One tile of 6x6 places, all channels; `None` is padding.
pub(super) struct InputTiles<'a> {
    pub places: &'a [Option<*const f32>; POINTS],
    pub channels: usize,
    /// Filled up to whole lanes.
    pub out: *mut f32,
    pub point: usize,
}

impl Work for InputTiles<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        for c in (0..self.channels).step_by(LANES) {
            let n = self.channels - c;
            // SAFETY: the caller's promise.
            unsafe {
                both_ways!(
                input, [6 -> 6],
                                   |i, j| match self.places[i * 6 + j] {
                                       Some(place) => L::load(place.add(c), n),
                                       None => L::zero(),
                                   },

                                   |i, j, v| v.store(self.out.add((i * 6 + j) * self.point + c), LANES),
                               );
            }
        }
    }
}

/// Rows of kernels `[9][count, NR]` to `[POINTS][count, NR]`.
pub(super) struct Kernels<'a> {
    pub taps: &'a [f32],
    pub count: usize,
    pub out: *mut f32,
    pub point: usize,
}

impl Work for Kernels<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        for at in (0..self.count * NR).step_by(LANES) {
            // SAFETY: the caller's promise.
            unsafe {
                both_ways!(
                    kernel,
                    [3 -> 6],
                    |y, x| {
                        let tap = (y * 3 + x) * self.count * NR;
                        L::load(self.taps.as_ptr().add(tap + at), LANES)
                    },
                    |y, x, u| u.store(self.out.add((y * 6 + x) * self.point + at), LANES),
                );
            }
        }
    }
}

/// One tile's sums to its outputs.
pub(super) struct OutputTiles<'a> {
    pub sums: &'a [f32],
    pub point: usize,
    pub bias: Option<&'a [f32]>,
    /// Sample, first row, first column.
    pub tile: (usize, usize, usize),
    /// Rows, columns and channels of a sample's outputs before folding.
    pub size: (usize, usize, usize),
    /// Each 2x2 outputs are summed into one.
    pub fold: bool,
    pub out: *mut f32,
    pub width: usize,
}

impl Work for OutputTiles<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let ((b, y, x), (h, w, n)) = (self.tile, self.size);
        for v in (0..self.width).step_by(LANES) {
            let lanes = self.width - v;
            // SAFETY: the caller's promise; places outside the picture are left out.
            unsafe {
                let bias = match self.bias {
                    Some(bias) => L::load(bias.as_ptr().add(v), lanes),
                    None => L::zero(),
                };
                let mut tile = [[L::zero(); SIDE]; SIDE];
                both_ways!(
                output, [6 -> 4],
                                   |i, j| L::load(self.sums.as_ptr().add((i * 6 + j) * self.point + v), LANES),

                                   |i, j, y| tile[i][j] = y,
                               );
                if self.fold {
                    for i in 0..(h - y).min(SIDE) / 2 {
                        for j in 0..(w - x).min(SIDE) / 2 {
                            let top = tile[2 * i][2 * j].add(tile[2 * i][2 * j + 1]);
                            let bottom = tile[2 * i + 1][2 * j].add(tile[2 * i + 1][2 * j + 1]);
                            let at = ((b * h / 2 + y / 2 + i) * (w / 2) + x / 2 + j) * n + v;
                            top.add(bottom).store(self.out.add(at), lanes);
                        }
                    }
                } else {
                    for i in 0..(h - y).min(SIDE) {
                        for j in 0..(w - x).min(SIDE) {
                            let at = ((b * h + y + i) * w + x + j) * n + v;
                            tile[i][j].add(bias).store(self.out.add(at), lanes);
                        }
                    }
                }
            }
        }
    }
}

/// One tile of 4x4 gradients, a strip of channels; `None` is outside the picture.
pub(super) struct GradientTiles<'a> {
    pub places: &'a [Option<*const f32>; SIDE * SIDE],
    pub width: usize,
    pub out: *mut f32,
    pub point: usize,
}

impl Work for GradientTiles<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        for v in (0..self.width).step_by(LANES) {
            let n = self.width - v;
            // SAFETY: the caller's promise.
            unsafe {
                both_ways!(
                gradient, [4 -> 6],
                                   |i, j| match self.places[i * SIDE + j] {
                                       Some(place) => L::load(place.add(v), n),
                                       None => L::zero(),
                                   },

                                   |i, j, d| d.store(self.out.add((i * 6 + j) * self.point + v), LANES),
                               );
            }
        }
    }
}

/// Sums `[POINTS][count, NR]` to rows of kernels `[9][count, width]`, written or added.
pub(super) struct KernelsGradient<'a> {
    pub sums: &'a [f32],
    pub point: usize,
    pub count: usize,
    pub width: usize,
    pub out: *mut f32,
    pub row: usize,
    pub tap: usize,
    pub add: bool,
}

impl Work for KernelsGradient<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        for i in 0..self.count {
            for v in (0..self.width).step_by(LANES) {
                let n = self.width - v;
                // SAFETY: the caller's promise.
                unsafe {
                    both_ways!(
                    kernel_gradient, [6 -> 3],
                                           |y, x| {
                                               let at = (y * 6 + x) * self.point + i * NR + v;
                                               L::load(self.sums.as_ptr().add(at), LANES)
                                           },

                                           |y, x, w| {
                                               let at = self.out.add((y * 3 + x) * self.tap + i * self.row + v);
                                               let sum = if self.add { w.add(L::load(at, n)) } else { w };
                                               sum.store(at, n);
                                           },
                                       );
                }
            }
        }
    }
}
