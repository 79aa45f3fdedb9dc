//! Attention, a block of queries at a time: the score matrix is never in memory as a whole, and
//! the backward computes the scores again.

use super::conv::OutPtr;
use super::elementwise::softmax_rows;
use super::gemm::{MR, NR, SLACK, rows_tile, steps_tile, tile_rows, with_scratch};
use super::pack::{pack_strip, pack_strip_transposed};
use rayon::prelude::*;

/// Queries worked on together.
const BLOCK: usize = 4 * MR;

/// Sizes of `q [batch,tq,heads*dim]`, `k`/`v [batch,tk,kv_heads*dim]`.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub batch: usize,
    pub tq: usize,
    pub tk: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub dim: usize,
    pub causal: bool,
}

impl Shape {
    fn qw(&self) -> usize {
        self.heads * self.dim
    }

    fn kw(&self) -> usize {
        self.kv_heads * self.dim
    }

    fn scale(&self) -> f32 {
        1.0 / (self.dim as f32).sqrt()
    }
}

/// A matrix `[rows, cols]` with its row stride, packed into strips of its columns or its rows.
fn pack(src: &[f32], ld: usize, rows: usize, cols: usize, transposed: bool, out: &mut Vec<f32>) {
    out.clear();
    let (k, n) = if transposed {
        (cols, rows)
    } else {
        (rows, cols)
    };
    with_scratch(|v| {
        for n0 in (0..n).step_by(NR) {
            if transposed {
                pack_strip_transposed(src, ld, k, n0, n, v);
            } else {
                pack_strip(src, ld, k, n0, n, v);
            }
            out.extend_from_slice(v);
        }
    });
}

/// `c [m, n] = a [m, k] * strips`, with row strides.
fn rows_by_strips(
    a: &[f32],
    lda: usize,
    m: usize,
    k: usize,
    strips: &[f32],
    n: usize,
    c: *mut f32,
    ldc: usize,
) {
    assert!(m == 0 || (m - 1) * lda + k <= a.len());
    let zero = [0f32; NR];
    for (s, n0) in (0..n).step_by(NR).enumerate() {
        let strip = &strips[s * k * NR..(s + 1) * k * NR];
        for m0 in (0..m).step_by(MR) {
            let count = MR.min(m - m0);
            let rows: [*const f32; MR] =
                std::array::from_fn(|i| a.as_ptr().wrapping_add((m0 + i) * lda));
            let outs: [*mut f32; MR] = std::array::from_fn(|i| c.wrapping_add((m0 + i) * ldc + n0));
            // SAFETY: rows lie within `a` (checked), the caller owns `c` for m rows of n floats.
            unsafe {
                rows_tile(
                    &rows[..count],
                    &[0],
                    k,
                    strip,
                    &outs[..count],
                    NR.min(n - n0),
                    &zero,
                    false,
                )
            };
        }
    }
}

/// `c [m, n] += a^T * b` where `a [t, m]` (with [`SLACK`] behind it) and `b [t, n]`.
fn transposed_product(
    a: &[f32],
    lda: usize,
    t: usize,
    m: usize,
    b: &[f32],
    ldb: usize,
    n: usize,
    c: *mut f32,
    ldc: usize,
) {
    assert!(t == 0 || (t - 1) * lda + m + SLACK <= a.len());
    let steps: Vec<usize> = (0..t).map(|i| i * lda).collect();
    let rows = tile_rows(m);
    with_scratch(|strip| {
        for n0 in (0..n).step_by(NR) {
            pack_strip(b, ldb, t, n0, n, strip);
            for m0 in (0..m).step_by(rows) {
                let at = c.wrapping_add(m0 * ldc + n0);
                // SAFETY: `a` was checked above, the caller owns `c` for m rows of n floats.
                unsafe {
                    steps_tile(
                        a.as_ptr().add(m0),
                        &steps,
                        strip,
                        NR,
                        at,
                        ldc,
                        rows.min(m - m0),
                        NR.min(n - n0),
                    )
                };
            }
        }
    });
}

/// Probabilities of queries `q0..q0+count` of one head into `p [count, tk]` (plus slack).
fn scores(
    s: &Shape,
    q: &[f32],
    q0: usize,
    count: usize,
    k_strips: &[f32],
    keys: Option<&[f32]>,
    p: &mut Vec<f32>,
) {
    p.resize(count * s.tk + SLACK, 0.0);
    rows_by_strips(
        &q[q0 * s.qw()..],
        s.qw(),
        count,
        s.dim,
        k_strips,
        s.tk,
        p.as_mut_ptr(),
        s.tk,
    );
    let scale = s.scale();
    for (i, row) in p[..count * s.tk].chunks_exact_mut(s.tk).enumerate() {
        row.iter_mut().for_each(|v| *v *= scale);
        if s.causal {
            let seen = (q0 + i + 1 + s.tk).saturating_sub(s.tq).min(s.tk);
            row[seen..].fill(f32::NEG_INFINITY);
        }
        if let Some(keys) = keys {
            // The lowest finite number, as the reference has it: a row with no key stays finite.
            row.iter_mut()
                .zip(keys)
                .for_each(|(v, k)| *v += if *k > 0.0 { 0.0 } else { f32::MIN });
        }
    }
    softmax_rows(&mut p[..count * s.tk], s.tk);
}

/// `keys` is `[batch, tk]`, above 0 where a key may be seen.
pub fn forward(s: &Shape, q: &[f32], k: &[f32], v: &[f32], keys: Option<&[f32]>, out: &mut [f32]) {
    if s.tk == 0 {
        return out.fill(0.0);
    }
    let blocks = s.tq.div_ceil(BLOCK);
    // A head's keys are packed once a task; few heads are shared out by blocks of queries.
    let share = (2 * rayon::current_num_threads())
        .div_ceil(s.batch * s.heads)
        .clamp(1, blocks.max(1));
    let out = OutPtr(out.as_mut_ptr());
    (0..s.batch * s.heads * share)
        .into_par_iter()
        .for_each(|task| {
            let (part, h, b) = (task % share, task / share % s.heads, task / share / s.heads);
            let kv = h / (s.heads / s.kv_heads);
            let kv_at = b * s.tk * s.kw() + kv * s.dim;
            let q_at = b * s.tq * s.qw() + h * s.dim;
            let keys = keys.map(|m| &m[b * s.tk..(b + 1) * s.tk]);
            with_scratch(|ks| {
                with_scratch(|vs| {
                    with_scratch(|p| {
                        pack(&k[kv_at..], s.kw(), s.tk, s.dim, true, ks);
                        pack(&v[kv_at..], s.kw(), s.tk, s.dim, false, vs);
                        for block in part * blocks / share..(part + 1) * blocks / share {
                            let q0 = block * BLOCK;
                            let count = BLOCK.min(s.tq - q0);
                            scores(s, &q[q_at..], q0, count, ks, keys, p);
                            let c = out.at(q_at + q0 * s.qw());
                            rows_by_strips(p, s.tk, count, s.tk, vs, s.dim, c, s.qw());
                        }
                    })
                })
            });
        });
}

/// Gradients of `q`, `k` and `v`, overwritten.
pub fn backward(
    s: &Shape,
    q: &[f32],
    k: &[f32],
    v: &[f32],
    keys: Option<&[f32]>,
    dy: &[f32],
    dq: &mut [f32],
    dk: &mut [f32],
    dv: &mut [f32],
) {
    dk.fill(0.0);
    dv.fill(0.0);
    if s.tk == 0 {
        return dq.fill(0.0);
    }
    let (dq, dk, dv) = (
        OutPtr(dq.as_mut_ptr()),
        OutPtr(dk.as_mut_ptr()),
        OutPtr(dv.as_mut_ptr()),
    );
    let group = s.heads / s.kv_heads;
    (0..s.batch * s.kv_heads).into_par_iter().for_each(|task| {
        let (kv, b) = (task % s.kv_heads, task / s.kv_heads);
        let kv_at = b * s.tk * s.kw() + kv * s.dim;
        let keys = keys.map(|m| &m[b * s.tk..(b + 1) * s.tk]);
        let (mut ks, mut kr, mut vs) = (Vec::new(), Vec::new(), Vec::new());
        pack(&k[kv_at..], s.kw(), s.tk, s.dim, true, &mut ks);
        pack(&k[kv_at..], s.kw(), s.tk, s.dim, false, &mut kr);
        pack(&v[kv_at..], s.kw(), s.tk, s.dim, true, &mut vs);
        let (mut p, mut dp) = (Vec::new(), Vec::new());
        for h in kv * group..(kv + 1) * group {
            let q_at = b * s.tq * s.qw() + h * s.dim;
            for q0 in (0..s.tq).step_by(BLOCK) {
                let count = BLOCK.min(s.tq - q0);
                scores(s, &q[q_at..], q0, count, &ks, keys, &mut p);
                let g = &dy[q_at + q0 * s.qw()..];
                transposed_product(
                    &p,
                    s.tk,
                    count,
                    s.tk,
                    g,
                    s.qw(),
                    s.dim,
                    dv.at(kv_at),
                    s.kw(),
                );
                dp.resize(count * s.tk + SLACK, 0.0);
                rows_by_strips(g, s.qw(), count, s.dim, &vs, s.tk, dp.as_mut_ptr(), s.tk);
                for (p, d) in p
                    .chunks_exact(s.tk)
                    .zip(dp.chunks_exact_mut(s.tk))
                    .take(count)
                {
                    let dot: f32 = p.iter().zip(d.iter()).map(|(a, b)| a * b).sum();
                    for (d, p) in d.iter_mut().zip(p) {
                        *d = p * (*d - dot) * s.scale();
                    }
                }
                let out = dq.at(q_at + q0 * s.qw());
                rows_by_strips(&dp, s.tk, count, s.tk, &kr, s.dim, out, s.qw());
                transposed_product(
                    &dp,
                    s.tk,
                    count,
                    s.tk,
                    &q[q_at + q0 * s.qw()..],
                    s.qw(),
                    s.dim,
                    dk.at(kv_at),
                    s.kw(),
                );
            }
        }
    });
}
