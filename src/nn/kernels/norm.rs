//! Group norm (with SiLU), layer norm and RMS norm, forward and backward.

use super::conv::OutPtr;
use super::simd::{dispatch, sigmoid};
use rayon::prelude::*;

/// Sizes of a group norm over `[batch, places, channels]`.
#[derive(Clone, Copy, Debug)]
pub struct Groups {
    pub places: usize,
    pub channels: usize,
    pub groups: usize,
    pub eps: f32,
    pub silu: bool,
}

dispatch! {
    fn add_rows(x: &[f32], c: usize, sums: &mut [f32]) {
        for row in x.chunks_exact(c) {
            for (s, v) in sums.iter_mut().zip(row) {
                *s += v;
            }
        }
    }
}

dispatch! {
    fn add_squares(x: &[f32], c: usize, mean: &[f32], sums: &mut [f32]) {
        for row in x.chunks_exact(c) {
            for ((s, v), m) in sums.iter_mut().zip(row).zip(mean) {
                let d = v - m;
                *s = d.mul_add(d, *s);
            }
        }
    }
}

dispatch! {
    fn scale_rows(x: &[f32], c: usize, scale: &[f32], shift: &[f32], silu: bool, out: &mut [f32]) {
        for (row, y) in x.chunks_exact(c).zip(out.chunks_exact_mut(c)) {
            if silu {
                for i in 0..c {
                    let u = row[i].mul_add(scale[i], shift[i]);
                    y[i] = u * sigmoid(u);
                }
            } else {
                for i in 0..c {
                    y[i] = row[i].mul_add(scale[i], shift[i]);
                }
            }
        }
    }
}

/// Through the SiLU: du = dy * s * (1 + u (1 - s)).
#[inline(always)]
fn through(u: f32, dy: f32, silu: bool) -> f32 {
    if !silu {
        return dy;
    }
    let s = sigmoid(u);
    dy * s * (1.0 - s).mul_add(u, 1.0)
}

/// Per-channel affine form of one sample's norm: `u = x * scale + shift`, `xhat = x * rstd + off`.
struct Affine<'a> {
    scale: &'a [f32],
    shift: &'a [f32],
    rstd: &'a [f32],
    off: &'a [f32],
}

dispatch! {
    fn grad_sums(x: &[f32], dy: &[f32], a: &Affine, silu: bool, s1: &mut [f32], s2: &mut [f32]) {
        let c = s1.len();
        let (scale, shift, rstd, off) = (&a.scale[..c], &a.shift[..c], &a.rstd[..c], &a.off[..c]);
        let s2 = &mut s2[..c];
        for (row, g) in x.chunks_exact(c).zip(dy.chunks_exact(c)) {
            for i in 0..c {
                let du = through(row[i].mul_add(scale[i], shift[i]), g[i], silu);
                s1[i] += du;
                s2[i] = du.mul_add(row[i].mul_add(rstd[i], off[i]), s2[i]);
            }
        }
    }
}

dispatch! {
    /// dx = du * scale - xhat * k2 - k1, with the two group means already times rstd.
    fn grad_rows(x: &[f32], dy: &[f32], a: &Affine, silu: bool, k1: &[f32], k2: &[f32], dx: &mut [f32]) {
        let c = k1.len();
        let (scale, shift, rstd, off, k2) = (&a.scale[..c], &a.shift[..c], &a.rstd[..c], &a.off[..c], &k2[..c]);
        for ((row, g), d) in x.chunks_exact(c).zip(dy.chunks_exact(c)).zip(dx.chunks_exact_mut(c)) {
            for i in 0..c {
                let du = through(row[i].mul_add(scale[i], shift[i]), g[i], silu);
                let xhat = row[i].mul_add(rstd[i], off[i]);
                d[i] = du.mul_add(scale[i], -xhat.mul_add(k2[i], k1[i]));
            }
        }
    }
}

/// Places a task takes at a time, so that even one large picture is shared by all threads.
const CHUNK: usize = 1024;

/// Sums over all places of a sample, channel by channel, in f64 between chunks.
fn channel_sums(x: &[f32], c: usize, sum: impl Fn(&[f32], &mut [f32]) + Sync) -> Vec<f64> {
    let parts: Vec<Vec<f32>> = x
        .par_chunks(CHUNK * c)
        .map(|chunk| {
            let mut s = vec![0f32; c];
            sum(chunk, &mut s);
            s
        })
        .collect();
    let mut total = vec![0f64; c];
    for p in parts {
        total
            .iter_mut()
            .zip(p)
            .for_each(|(t, v)| *t += f64::from(v));
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
    let count = (g.places * per) as f64;
    let mean = group_mean(&channel_sums(x, c, |x, s| add_rows(x, c, s)), per, count);
    let var = group_mean(
        &channel_sums(x, c, |x, s| add_squares(x, c, &mean, s)),
        per,
        count,
    );
    let rstd = var.iter().map(|v| 1.0 / (v + g.eps).sqrt()).collect();
    (mean, rstd)
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

pub fn group_forward(g: &Groups, x: &[f32], gamma: &[f32], beta: &[f32], out: &mut [f32]) {
    let (c, n) = (g.channels, g.places * g.channels);
    x.par_chunks(n)
        .zip(out.par_chunks_mut(n))
        .for_each(|(x, out)| {
            let (mean, rstd) = moments(g, x);
            let (scale, shift) = affine(&mean, &rstd, gamma, beta);
            x.par_chunks(CHUNK * c)
                .zip(out.par_chunks_mut(CHUNK * c))
                .for_each(|(x, y)| scale_rows(x, c, &scale, &shift, g.silu, y));
        });
}

/// Overwrites `dx`, `dgamma` and `dbeta`.
pub fn group_backward(
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
                .map(|(x, dy)| {
                    let (mut s1, mut s2) = (vec![0f32; c], vec![0f32; c]);
                    grad_sums(x, dy, &a, g.silu, &mut s1, &mut s2);
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
            let (k1, k2) = (weighted(&s1), weighted(&s2));
            x.par_chunks(CHUNK * c)
                .zip(dy.par_chunks(CHUNK * c))
                .zip(dx.par_chunks_mut(CHUNK * c))
                .for_each(|((x, dy), dx)| grad_rows(x, dy, &a, g.silu, &k1, &k2, dx));
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
pub enum RowNorm {
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

pub fn row_forward(
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
pub fn row_backward(
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
