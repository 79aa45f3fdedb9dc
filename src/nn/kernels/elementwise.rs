//! Activations and other element-wise functions, forward and backward.

use super::simd::{dispatch, erf, exp, exp_falling, sigmoid};
use rayon::prelude::*;

/// Element-wise functions of one variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unary {
    Silu,
    Gelu,
    QuickGelu,
}

#[inline(always)]
fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

#[inline(always)]
fn gelu_grad(x: f32) -> f32 {
    let density = 0.398_942_3 * exp(-0.5 * x * x);
    0.5f32.mul_add(1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2), x * density)
}

#[inline(always)]
fn swish_grad(x: f32, k: f32) -> f32 {
    let s = sigmoid(k * x);
    s * (k * x).mul_add(1.0 - s, 1.0)
}

dispatch! {
    fn unary_chunk(kind: Unary, x: &[f32], y: &mut [f32]) {
        match kind {
            Unary::Silu => y.iter_mut().zip(x).for_each(|(y, x)| *y = x * sigmoid(*x)),
            Unary::Gelu => y.iter_mut().zip(x).for_each(|(y, x)| *y = gelu(*x)),
            Unary::QuickGelu => y.iter_mut().zip(x).for_each(|(y, x)| *y = x * sigmoid(1.702 * x)),
        }
    }
}

dispatch! {
    fn unary_grad_chunk(kind: Unary, x: &[f32], dy: &[f32], dx: &mut [f32]) {
        let it = dx.iter_mut().zip(x.iter().zip(dy));
        match kind {
            Unary::Silu => it.for_each(|(d, (x, g))| *d = g * swish_grad(*x, 1.0)),
            Unary::Gelu => it.for_each(|(d, (x, g))| *d = g * gelu_grad(*x)),
            Unary::QuickGelu => it.for_each(|(d, (x, g))| *d = g * swish_grad(*x, 1.702)),
        }
    }
}

/// Elements a task takes at a time.
const CHUNK: usize = 16 * 1024;

pub fn unary(kind: Unary, x: &[f32], y: &mut [f32]) {
    x.par_chunks(CHUNK)
        .zip(y.par_chunks_mut(CHUNK))
        .for_each(|(x, y)| unary_chunk(kind, x, y));
}

pub fn unary_grad(kind: Unary, x: &[f32], dy: &[f32], dx: &mut [f32]) {
    x.par_chunks(CHUNK)
        .zip(dy.par_chunks(CHUNK))
        .zip(dx.par_chunks_mut(CHUNK))
        .for_each(|((x, g), d)| unary_grad_chunk(kind, x, g, d));
}

dispatch! {
    fn geglu_row(x: &[f32], y: &mut [f32]) {
        let (a, b) = x.split_at(y.len());
        for (y, (a, b)) in y.iter_mut().zip(a.iter().zip(b)) {
            *y = a * gelu(*b);
        }
    }
}

dispatch! {
    fn geglu_grad_row(x: &[f32], dy: &[f32], dx: &mut [f32]) {
        let c = dy.len();
        let (a, b) = (&x[..c], &x[c..2 * c]);
        let (da, db) = dx.split_at_mut(c);
        for i in 0..c {
            da[i] = dy[i] * gelu(b[i]);
            db[i] = dy[i] * a[i] * gelu_grad(b[i]);
        }
    }
}

/// `x [rows, 2c] -> y [rows, c]`.
pub fn geglu(c: usize, x: &[f32], y: &mut [f32]) {
    x.par_chunks(2 * c)
        .zip(y.par_chunks_mut(c))
        .with_min_len((CHUNK / c).max(1))
        .for_each(|(x, y)| geglu_row(x, y));
}

pub fn geglu_grad(c: usize, x: &[f32], dy: &[f32], dx: &mut [f32]) {
    x.par_chunks(2 * c)
        .zip(dy.par_chunks(c))
        .zip(dx.par_chunks_mut(2 * c))
        .with_min_len((CHUNK / c).max(1))
        .for_each(|((x, g), d)| geglu_grad_row(x, g, d));
}

/// Adds `t [batch, c]` to every place of its sample in `x [batch, places, c]`.
pub fn add_channels(places: usize, c: usize, x: &[f32], t: &[f32], y: &mut [f32]) {
    let n = places * c;
    x.par_chunks(n)
        .zip(y.par_chunks_mut(n))
        .zip(t.par_chunks(c))
        .for_each(|((x, y), t)| {
            for (x, y) in x.chunks_exact(c).zip(y.chunks_exact_mut(c)) {
                for i in 0..c {
                    y[i] = x[i] + t[i];
                }
            }
        });
}

/// Sums `dy [batch, places, c]` over its places into `dt [batch, c]`.
pub fn sum_places(places: usize, c: usize, dy: &[f32], dt: &mut [f32]) {
    dy.par_chunks(places * c)
        .zip(dt.par_chunks_mut(c))
        .for_each(|(dy, t)| {
            t.fill(0.0);
            for row in dy.chunks_exact(c) {
                t.iter_mut().zip(row).for_each(|(t, v)| *t += v);
            }
        });
}

/// The highest of a row, or NaN if it holds one.
#[inline(always)]
pub(super) fn highest(row: &[f32]) -> f32 {
    let pick = |a: f32, b: f32| if b > a || b.is_nan() { b } else { a };
    let mut lanes = [f32::NEG_INFINITY; 16];
    let chunks = row.chunks_exact(16);
    let rest = chunks.remainder().iter().copied();
    let rest = rest.fold(f32::NEG_INFINITY, pick);
    for chunk in chunks {
        for i in 0..16 {
            lanes[i] = pick(lanes[i], chunk[i]);
        }
    }
    lanes.iter().copied().fold(rest, pick)
}

dispatch! {
    /// A row of only minus infinity becomes NaN, as it should.
    fn softmax_rows(x: &[f32], c: usize, y: &mut [f32]) {
        for (x, y) in x.chunks_exact(c).zip(y.chunks_exact_mut(c)) {
            let max = highest(x);
            for (y, x) in y.iter_mut().zip(x) {
                *y = exp_falling(*x - max);
            }
            let inv = 1.0 / super::norm::lanes_sum(y, |v| v);
            y.iter_mut().for_each(|v| *v *= inv);
        }
    }
}

/// Softmax of each row of `c`.
pub fn softmax(c: usize, x: &[f32], y: &mut [f32]) {
    let n = c * (CHUNK / c).max(1);
    x.par_chunks(n)
        .zip(y.par_chunks_mut(n))
        .for_each(|(x, y)| softmax_rows(x, c, y));
}

dispatch! {
    fn softmax_grad_rows(c: usize, y: &[f32], dy: &[f32], dx: &mut [f32]) {
        for ((y, g), d) in y.chunks_exact(c).zip(dy.chunks_exact(c)).zip(dx.chunks_exact_mut(c)) {
            let dot = super::norm::lanes_dot(y, g);
            for ((d, y), g) in d.iter_mut().zip(y).zip(g) {
                *d = y * (g - dot);
            }
        }
    }
}

/// dx = y * (dy - sum(y dy)).
pub fn softmax_grad(c: usize, y: &[f32], dy: &[f32], dx: &mut [f32]) {
    let n = c * (CHUNK / c).max(1);
    y.par_chunks(n)
        .zip(dy.par_chunks(n))
        .zip(dx.par_chunks_mut(n))
        .for_each(|((y, g), d)| softmax_grad_rows(c, y, g, d));
}

/// Turns each pair of neighbours of `x [batch, positions, heads, dim]` by the angle whose cosine
/// and sine are in `turns [positions, dim/2, 2]`, the other way round with `back`.
pub fn rotate(turns: &[f32], width: usize, dim: usize, back: bool, x: &[f32], y: &mut [f32]) {
    let positions = turns.len() / dim;
    let sign = if back { -1.0 } else { 1.0 };
    x.par_chunks(width)
        .zip(y.par_chunks_mut(width))
        .with_min_len((CHUNK / width).max(1))
        .enumerate()
        .for_each(|(row, (x, y))| {
            let turns = &turns[row % positions * dim..][..dim];
            for (x, y) in x.chunks_exact(dim).zip(y.chunks_exact_mut(dim)) {
                for i in (0..dim).step_by(2) {
                    let (cos, sin) = (turns[i], sign * turns[i + 1]);
                    y[i] = x[i] * cos - x[i + 1] * sin;
                    y[i + 1] = x[i] * sin + x[i + 1] * cos;
                }
            }
        });
}
