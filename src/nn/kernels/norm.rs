//! Group norm (with SiLU), layer norm and RMS norm, forward and backward.

use super::geometry::OutPtr;
use super::lanes::{LANES, Lanes, Work, run};
use super::simd::dispatch;
use rayon::prelude::*;

/// Sizes of a group norm over `[batch, places, channels]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Groups {
    pub places: usize,
    pub channels: usize,
    pub groups: usize,
    pub eps: f32,
    pub silu: bool,
}

/// Channels whose sums stay in registers while the rows pass by.
const WIDE: usize = 64;

dispatch! {
    /// Per-channel sums of `f(x)` over rows of `c`, where `f` takes away `mean` and squares.
    fn sum_rows(x: &[f32], c: usize, mean: Option<&[f32]>, sums: &mut [f32]) {
        let mut c0 = 0;
        while c0 + WIDE <= c {
            let mut acc = [0f32; WIDE];
            if let Some(mean) = mean {
                let mut m = [0f32; WIDE];
                m.copy_from_slice(&mean[c0..c0 + WIDE]);
                for row in x.chunks_exact(c) {
                    let row = &row[c0..c0 + WIDE];
                    for i in 0..WIDE {
                        let d = row[i] - m[i];
                        acc[i] = d.mul_add(d, acc[i]);
                    }
                }
            } else {
                for row in x.chunks_exact(c) {
                    let row = &row[c0..c0 + WIDE];
                    for i in 0..WIDE {
                        acc[i] += row[i];
                    }
                }
            }
            sums[c0..c0 + WIDE].copy_from_slice(&acc);
            c0 += WIDE;
        }
        let sums = &mut sums[c0..c];
        sums.fill(0.0);
        for row in x.chunks_exact(c) {
            let row = &row[c0..];
            match mean {
                Some(mean) => {
                    for ((s, v), m) in sums.iter_mut().zip(row).zip(&mean[c0..]) {
                        let d = v - m;
                        *s = d.mul_add(d, *s);
                    }
                }
                None => sums.iter_mut().zip(row).for_each(|(s, v)| *s += v),
            }
        }
    }
}

/// `y = act(x * scale + shift)`, channel by channel.
struct ScaleRows<'a> {
    x: &'a [f32],
    scale: &'a [f32],
    shift: &'a [f32],
    silu: bool,
    y: &'a mut [f32],
}

impl Work for ScaleRows<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let c = self.scale.len();
        let (scale, shift) = (self.scale.as_ptr(), self.shift.as_ptr());
        for (x, y) in self.x.chunks_exact(c).zip(self.y.chunks_exact_mut(c)) {
            for i in (0..c).step_by(LANES) {
                let n = LANES.min(c - i);
                // SAFETY: rows, scale and shift hold `c` floats.
                unsafe {
                    let x = L::load(x.as_ptr().add(i), n);
                    let u = x.fma(L::load(scale.add(i), n), L::load(shift.add(i), n));
                    let y = y.as_mut_ptr().add(i);
                    if self.silu {
                        u.mul(u.sigmoid()).store(y, n);
                    } else {
                        u.store(y, n);
                    }
                }
            }
        }
    }
}

/// Per-channel affine form of one sample's norm: `u = x * scale + shift`, `xhat = x * rstd + off`.
struct Affine<'a> {
    scale: &'a [f32],
    shift: &'a [f32],
    rstd: &'a [f32],
    off: &'a [f32],
}

/// The gradient of `u` through the activation, `du = dy * s * (1 + u (1 - s))` for SiLU, and its
/// sums by channel, alone and times `xhat`.
struct GradSums<'a> {
    x: &'a [f32],
    dy: &'a [f32],
    a: &'a Affine<'a>,
    silu: bool,
    du: &'a mut [f32],
    /// Added to.
    s1: &'a mut [f32],
    /// Added to.
    s2: &'a mut [f32],
}

impl Work for GradSums<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let c = self.s1.len();
        // A few rows at a time, all three of which stay in the first cache while channels pass by.
        let part = (CACHED / 4 / c).max(1) * c;
        let (x, dy) = (self.x.chunks(part), self.dy.chunks(part));
        for ((x, dy), du) in x.zip(dy).zip(self.du.chunks_mut(part)) {
            let rows = x.len() / c;
            for i in (0..c).step_by(LANES) {
                let n = LANES.min(c - i);
                // SAFETY: there are `rows` rows of `c` floats, and `c` of everything else.
                unsafe {
                    let scale = L::load(self.a.scale.as_ptr().add(i), n);
                    let shift = L::load(self.a.shift.as_ptr().add(i), n);
                    let rstd = L::load(self.a.rstd.as_ptr().add(i), n);
                    let off = L::load(self.a.off.as_ptr().add(i), n);
                    let mut s1 = L::load(self.s1.as_ptr().add(i), n);
                    let mut s2 = L::load(self.s2.as_ptr().add(i), n);
                    let one = L::splat(1.0);
                    for row in 0..rows {
                        let at = row * c + i;
                        let x = L::load(x.as_ptr().add(at), n);
                        let mut d = L::load(dy.as_ptr().add(at), n);
                        if self.silu {
                            let u = x.fma(scale, shift);
                            let s = u.sigmoid();
                            d = d.mul(s).mul(u.fma(one.sub(s), one));
                        }
                        d.store(du.as_mut_ptr().add(at), n);
                        s1 = s1.add(d);
                        s2 = d.fma(x.fma(rstd, off), s2);
                    }
                    s1.store(self.s1.as_mut_ptr().add(i), n);
                    s2.store(self.s2.as_mut_ptr().add(i), n);
                }
            }
        }
    }
}

/// `dx = du * scale + x * slope + shift`, where `dx` holds `du`.
struct GradRows<'a> {
    x: &'a [f32],
    scale: &'a [f32],
    slope: &'a [f32],
    shift: &'a [f32],
    dx: &'a mut [f32],
}

impl Work for GradRows<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let c = self.scale.len();
        for (x, dx) in self.x.chunks_exact(c).zip(self.dx.chunks_exact_mut(c)) {
            for i in (0..c).step_by(LANES) {
                let n = LANES.min(c - i);
                // SAFETY: everything holds `c` floats.
                unsafe {
                    let x = L::load(x.as_ptr().add(i), n);
                    let scale = L::load(self.scale.as_ptr().add(i), n);
                    let slope = L::load(self.slope.as_ptr().add(i), n);
                    let rest = x.fma(slope, L::load(self.shift.as_ptr().add(i), n));
                    let d = dx.as_mut_ptr().add(i);
                    L::load(d, n).fma(scale, rest).store(d, n);
                }
            }
        }
    }
}

/// Places a task takes at a time, so that even one large picture is shared by all threads.
const CHUNK: usize = 1024;

/// Floats whose sums are taken while they are in the first cache.
const CACHED: usize = 8 * 1024;

/// Mean and sum of squares around it of `count` numbers.
#[derive(Clone, Copy, Default)]
struct Spread {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Spread {
    /// Of both sets together (Chan, Golub & LeVeque).
    fn and(self, other: Spread) -> Spread {
        let count = self.count + other.count;
        if count == 0.0 {
            return self;
        }
        let apart = other.mean - self.mean;
        let share = other.count / count;
        Spread {
            count,
            mean: apart.mul_add(share, self.mean),
            squares: self.squares + other.squares + apart * apart * self.count * share,
        }
    }
}

/// Mean and spread of each group's numbers in some rows of `c`, which are read from memory once.
fn spreads(x: &[f32], c: usize, groups: usize) -> Vec<Spread> {
    let per = c / groups;
    let mut total = vec![Spread::default(); groups];
    let (mut mean, mut sums) = (vec![0f32; c], vec![0f32; c]);
    for x in x.chunks((CACHED / c).max(1) * c) {
        let rows = (x.len() / c) as f64;
        sum_rows(x, c, None, &mut sums);
        mean.iter_mut()
            .zip(&sums)
            .for_each(|(m, s)| *m = (f64::from(*s) / rows) as f32);
        sum_rows(x, c, Some(&mean), &mut sums);
        for (g, total) in total.iter_mut().enumerate() {
            let channels = g * per..(g + 1) * per;
            *total = mean[channels.clone()]
                .iter()
                .zip(&sums[channels])
                .map(|(mean, squares)| Spread {
                    count: rows,
                    mean: f64::from(*mean),
                    squares: f64::from(*squares),
                })
                .fold(*total, Spread::and);
        }
    }
    total
}

/// Spreads the mean over each group's channels.
fn group_mean(sums: &[f64], per: usize, count: f64) -> Vec<f32> {
    sums.chunks(per)
        .flat_map(|g| std::iter::repeat_n((g.iter().sum::<f64>() / count) as f32, per))
        .collect()
}

/// Per-channel mean and 1/std of one sample.
fn moments(g: &Groups, x: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let c = g.channels;
    let per = c / g.groups;
    let parts: Vec<Vec<Spread>> = x
        .par_chunks(CHUNK * c)
        .map(|x| spreads(x, c, g.groups))
        .collect();
    let total = |i: usize| {
        parts
            .iter()
            .fold(Spread::default(), |total, part| total.and(part[i]))
    };
    (0..g.groups)
        .map(total)
        .flat_map(|s| {
            let variance = s.squares / s.count;
            let rstd = 1.0 / (variance + f64::from(g.eps)).sqrt();
            std::iter::repeat_n((s.mean as f32, rstd as f32), per)
        })
        .unzip()
}

fn affine(mean: &[f32], rstd: &[f32], gamma: &[f32], beta: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let scale: Vec<f32> = rstd.iter().zip(gamma).map(|(r, g)| r * g).collect();
    let shift = mean
        .iter()
        .zip(&scale)
        .zip(beta)
        .map(|((m, s), b)| b - m * s)
        .collect();
    (scale, shift)
}

pub(crate) fn group_forward(g: &Groups, x: &[f32], gamma: &[f32], beta: &[f32], out: &mut [f32]) {
    let (c, n) = (g.channels, g.places * g.channels);
    assert!(x.len() == out.len() && gamma.len() == c && beta.len() == c);
    x.par_chunks(n)
        .zip(out.par_chunks_mut(n))
        .for_each(|(x, out)| {
            let (mean, rstd) = moments(g, x);
            let (scale, shift) = affine(&mean, &rstd, gamma, beta);
            x.par_chunks(CHUNK * c)
                .zip(out.par_chunks_mut(CHUNK * c))
                .for_each(|(x, y)| {
                    let (scale, shift) = (&scale, &shift);
                    let silu = g.silu;
                    // SAFETY: rows are taken by their bounds, scale and shift hold a row.
                    unsafe {
                        run(ScaleRows {
                            x,
                            scale,
                            shift,
                            silu,
                            y,
                        });
                    }
                });
        });
}

/// Overwrites `dx`, `dgamma` and `dbeta`.
pub(crate) fn group_backward(
    g: &Groups,
    x: &[f32],
    gamma: &[f32],
    beta: &[f32],
    dy: &[f32],
    dx: &mut [f32],
    dgamma: &mut [f32],
    dbeta: &mut [f32],
) {
    let (c, n) = (g.channels, g.places * g.channels);
    assert!(x.len() == dy.len() && x.len() == dx.len() && gamma.len() == c && beta.len() == c);
    let per = c / g.groups;
    let count = (g.places * per) as f64;
    let sums: Vec<(Vec<f64>, Vec<f64>)> = x
        .par_chunks(n)
        .zip(dy.par_chunks(n))
        .zip(dx.par_chunks_mut(n))
        .map(|((x, dy), dx)| {
            let (mean, rstd) = moments(g, x);
            let (scale, shift) = affine(&mean, &rstd, gamma, beta);
            let off: Vec<f32> = mean.iter().zip(&rstd).map(|(m, r)| -m * r).collect();
            let a = Affine {
                scale: &scale,
                shift: &shift,
                rstd: &rstd,
                off: &off,
            };
            let parts: Vec<(Vec<f32>, Vec<f32>)> = x
                .par_chunks(CHUNK * c)
                .zip(dy.par_chunks(CHUNK * c))
                .zip(dx.par_chunks_mut(CHUNK * c))
                .map(|((x, dy), du)| {
                    let (mut s1, mut s2) = (vec![0f32; c], vec![0f32; c]);
                    let sums = GradSums {
                        x,
                        dy,
                        a: &a,
                        silu: g.silu,
                        du,
                        s1: &mut s1,
                        s2: &mut s2,
                    };
                    // SAFETY: all three chunks are as long, everything else holds a row.
                    unsafe { run(sums) };
                    (s1, s2)
                })
                .collect();
            let (mut s1, mut s2) = (vec![0f64; c], vec![0f64; c]);
            for (p1, p2) in parts {
                s1.iter_mut().zip(p1).for_each(|(t, v)| *t += f64::from(v));
                s2.iter_mut().zip(p2).for_each(|(t, v)| *t += f64::from(v));
            }
            let weighted = |s: &[f64]| -> Vec<f32> {
                let w: Vec<f64> = s
                    .iter()
                    .zip(gamma)
                    .map(|(s, g)| s * f64::from(*g))
                    .collect();
                let m = group_mean(&w, per, count);
                m.iter().zip(&rstd).map(|(m, r)| m * r).collect()
            };
            // dx = du * scale - xhat * k2 - k1, with the two group means already times rstd.
            let (k1, k2) = (weighted(&s1), weighted(&s2));
            let slope: Vec<f32> = k2.iter().zip(&rstd).map(|(k, r)| -k * r).collect();
            let shift: Vec<f32> = (0..c).map(|i| -off[i].mul_add(k2[i], k1[i])).collect();
            x.par_chunks(CHUNK * c)
                .zip(dx.par_chunks_mut(CHUNK * c))
                .for_each(|(x, dx)| {
                    let (scale, slope, shift) = (&scale, &slope, &shift);
                    // SAFETY: both chunks are as long, everything else holds a row.
                    unsafe {
                        run(GradRows {
                            x,
                            scale,
                            slope,
                            shift,
                            dx,
                        });
                    }
                });
            (s1, s2)
        })
        .collect();
    for i in 0..c {
        dbeta[i] = sums.iter().map(|(s, _)| s[i]).sum::<f64>() as f32;
        dgamma[i] = sums.iter().map(|(_, s)| s[i]).sum::<f64>() as f32;
    }
}

/// Which statistic a row is normalised by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowNorm {
    /// Mean and variance, with a shift.
    Layer,
    /// Root mean square, no shift.
    Rms,
}

#[inline(always)]
fn row_moments(x: &[f32], kind: RowNorm, eps: f32) -> (f32, f32) {
    let n = x.len() as f32;
    let mean = match kind {
        RowNorm::Layer => lanes_sum(x, |v| v) / n,
        RowNorm::Rms => 0.0,
    };
    let var = lanes_sum(x, |v| (v - mean) * (v - mean)) / n;
    (mean, 1.0 / (var + eps).sqrt())
}

/// A sum in 16 lanes, which the compiler vectorises (a plain float sum must keep its order).
#[inline(always)]
pub(super) fn lanes_sum(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut acc = [0f32; 16];
    let chunks = x.chunks_exact(16);
    let rest: f32 = chunks.remainder().iter().map(|v| f(*v)).sum();
    for chunk in chunks {
        for i in 0..16 {
            acc[i] += f(chunk[i]);
        }
    }
    acc.iter().sum::<f32>() + rest
}

/// A dot product in 16 lanes.
#[inline(always)]
pub(super) fn lanes_dot(x: &[f32], y: &[f32]) -> f32 {
    let mut acc = [0f32; 16];
    let (xs, ys) = (x.chunks_exact(16), y.chunks_exact(16));
    let rest = xs.remainder().iter().zip(ys.remainder());
    let rest: f32 = rest.map(|(a, b)| a * b).sum();
    for (x, y) in xs.zip(ys) {
        for i in 0..16 {
            acc[i] = x[i].mul_add(y[i], acc[i]);
        }
    }
    acc.iter().sum::<f32>() + rest
}

dispatch! {
    fn rows_forward(kind: RowNorm, eps: f32, x: &[f32], gamma: &[f32], beta: &[f32], out: &mut [f32]) {
        let c = gamma.len();
        for (x, y) in x.chunks_exact(c).zip(out.chunks_exact_mut(c)) {
            let (mean, rstd) = row_moments(x, kind, eps);
            match kind {
                RowNorm::Layer => {
                    for i in 0..c {
                        y[i] = ((x[i] - mean) * rstd).mul_add(gamma[i], beta[i]);
                    }
                }
                RowNorm::Rms => {
                    for i in 0..c {
                        y[i] = x[i] * rstd * gamma[i];
                    }
                }
            }
        }
    }
}

dispatch! {
    fn rows_backward(kind: RowNorm, eps: f32, x: &[f32], gamma: &[f32], dy: &[f32], dx: &mut [f32], dgamma: &mut [f32], dbeta: &mut [f32]) {
        let c = gamma.len();
        let (dgamma, dbeta) = (&mut dgamma[..c], &mut dbeta[..c]);
        let mut xhat = vec![0f32; c];
        let mut du = vec![0f32; c];
        let mut prod = vec![0f32; c];
        for ((x, dy), dx) in x.chunks_exact(c).zip(dy.chunks_exact(c)).zip(dx.chunks_exact_mut(c)) {
            let (mean, rstd) = row_moments(x, kind, eps);
            for i in 0..c {
                xhat[i] = (x[i] - mean) * rstd;
                du[i] = dy[i] * gamma[i];
                prod[i] = du[i] * xhat[i];
                dgamma[i] = dy[i].mul_add(xhat[i], dgamma[i]);
                dbeta[i] += dy[i];
            }
            let m2 = lanes_sum(&prod, |v| v) / c as f32;
            let m1 = match kind {
                RowNorm::Layer => lanes_sum(&du, |v| v) / c as f32,
                RowNorm::Rms => 0.0,
            };
            for i in 0..c {
                dx[i] = rstd * (du[i] - m1 - xhat[i] * m2);
            }
        }
    }
}

/// Rows a task takes at a time.
const ROWS: usize = 64;

pub(crate) fn row_forward(
    kind: RowNorm,
    eps: f32,
    x: &[f32],
    gamma: &[f32],
    beta: &[f32],
    out: &mut [f32],
) {
    let n = ROWS * gamma.len();
    x.par_chunks(n)
        .zip(out.par_chunks_mut(n))
        .for_each(|(x, y)| rows_forward(kind, eps, x, gamma, beta, y));
}

/// Overwrites `dx`, `dgamma` and `dbeta`.
pub(crate) fn row_backward(
    kind: RowNorm,
    eps: f32,
    x: &[f32],
    gamma: &[f32],
    dy: &[f32],
    dx: &mut [f32],
    dgamma: &mut [f32],
    dbeta: &mut [f32],
) {
    let c = gamma.len();
    let tasks = rayon::current_num_threads() * 4;
    let rows = (x.len() / c).div_ceil(tasks).max(1);
    let n_tasks = (x.len() / c).div_ceil(rows);
    let mut parts = vec![0f32; 2 * c * n_tasks];
    let out = OutPtr(dx.as_mut_ptr());
    parts
        .par_chunks_mut(2 * c)
        .enumerate()
        .for_each(|(t, part)| {
            let at = t * rows * c;
            let end = (at + rows * c).min(x.len());
            let (dg, db) = part.split_at_mut(c);
            // SAFETY: tasks own disjoint ranges of `dx`, which is as long as `x`.
            let dx = unsafe { std::slice::from_raw_parts_mut(out.at(at), end - at) };
            rows_backward(kind, eps, &x[at..end], gamma, &dy[at..end], dx, dg, db);
        });
    dgamma.fill(0.0);
    dbeta.fill(0.0);
    for part in parts.chunks_exact(2 * c) {
        for i in 0..c {
            dgamma[i] += part[i];
            dbeta[i] += part[c + i];
        }
    }
}
