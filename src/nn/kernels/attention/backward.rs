//! The gradients of attention. The probabilities are computed again: of all keys at once where
//! these are few, of some keys after the other where what the forward pass has seen is known.

use super::super::elementwise::exponentials;
use super::super::gemm::{NR, SLACK};
use super::super::geometry::OutPtr;
use super::super::lanes::{Lanes, Work, run};
use super::super::simd::dispatch;
use super::{
    BLOCK, KEYS, Rows, Shape, Shares, SoftmaxStats, multiply_row, pack, products, rows_by_strips,
    transposed_product,
};
use rayon::prelude::*;

/// Keys worked on together where they are too many for the second cache: their products with a
/// block of queries, and what of keys and values is read and written meanwhile, stay there.
const SOME_KEYS: usize = 8 * NR;

/// What the forward pass made.
#[derive(Clone, Copy)]
pub(crate) struct Forward<'a> {
    /// Output of the forward pass, laid out as the queries.
    pub out: &'a [f32],
    /// `[batch, heads, tq]`.
    pub seen: &'a [SoftmaxStats],
}

/// Probabilities of queries `q0..q0+count` of one head into `p [count, tk]` (plus slack).
fn shares(
    s: &Shape,
    q: &[f32],
    q0: usize,
    count: usize,
    k_strips: &[f32],
    keys: Option<&[f32]>,
    p: &mut Vec<f32>,
    rows: &mut Rows,
) {
    p.resize(count * s.tk + SLACK, 0.0);
    rows.start(count);
    let scale = products(s, q, q0, count, k_strips, 0, s.tk, keys, p);
    // SAFETY: rows are taken by their bounds.
    unsafe {
        run(Shares {
            rows: &mut p[..count * s.tk],
            c: s.tk,
            scale,
            so_far: rows,
        });
    };
    for (row, sum) in p.chunks_exact_mut(s.tk).zip(&rows.sum) {
        multiply_row(row, 1.0 / sum);
    }
}

dispatch! {
    /// d = p * (d - sum(p d)) * scale, row by row.
    fn through_softmax(p: &[f32], d: &mut [f32], c: usize, scale: f32) {
        for (p, d) in p.chunks_exact(c).zip(d.chunks_exact_mut(c)) {
            let dot = super::super::norm::lanes_dot(p, d);
            for (d, p) in d.iter_mut().zip(p) {
                *d = p * (*d - dot) * scale;
            }
        }
    }
}

dispatch! {
    /// d = p * (d - dots) * scale, row by row.
    fn through_known_softmax(p: &[f32], d: &mut [f32], c: usize, dots: &[f32], scale: f32) {
        for ((p, d), dot) in p.chunks_exact(c).zip(d.chunks_exact_mut(c)).zip(dots) {
            for (d, p) in d.iter_mut().zip(p) {
                *d = p * (*d - dot) * scale;
            }
        }
    }
}

dispatch! {
    /// The dot product of each row of `a` with that of `b`: `dim` floats, `ld` apart.
    fn dots(a: &[f32], b: &[f32], ld: usize, dim: usize, out: &mut [f32]) {
        for (i, out) in out.iter_mut().enumerate() {
            let row = i * ld..i * ld + dim;
            *out = super::super::norm::lanes_dot(&a[row.clone()], &b[row]);
        }
    }
}

/// Rows of products become probabilities, for queries that have seen `seen`.
struct Again<'a> {
    rows: &'a mut [f32],
    c: usize,
    scale: f32,
    seen: &'a [SoftmaxStats],
}

impl Work for Again<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        for (row, seen) in self.rows.chunks_exact_mut(self.c).zip(self.seen) {
            // A row that has seen no key has nothing to be shifted by.
            let shift = match seen.max == f32::NEG_INFINITY {
                true => 0.0,
                false => seen.max,
            };
            let at = row.as_mut_ptr();
            // SAFETY: a row holds `c` floats.
            unsafe { exponentials::<L>(at, at, self.c, self.scale, shift) };
        }
    }
}

/// Gradients of `q`, `k` and `v`, overwritten.
pub(crate) fn backward(
    s: &Shape,
    q: &[f32],
    k: &[f32],
    v: &[f32],
    keys: Option<&[f32]>,
    known: Option<Forward>,
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
        let (mut p, mut dp, mut rows) = (Vec::new(), Vec::new(), Rows::default());
        for h in kv * group..(kv + 1) * group {
            let q_at = b * s.tq * s.qw() + h * s.dim;
            if let Some(known) = known.filter(|_| s.tk > KEYS) {
                let head = Head {
                    q: &q[q_at..],
                    dy: &dy[q_at..],
                    out: &known.out[q_at..],
                    seen: &known.seen[(b * s.heads + h) * s.tq..][..s.tq],
                    keys,
                    strips: [&ks, &kr, &vs],
                    gradients: [dq.at(q_at), dk.at(kv_at), dv.at(kv_at)],
                };
                head.some_keys_after_the_other(s, &mut p, &mut dp);
                continue;
            }
            for q0 in (0..s.tq).step_by(BLOCK) {
                let count = BLOCK.min(s.tq - q0);
                shares(s, &q[q_at..], q0, count, &ks, keys, &mut p, &mut rows);
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
                rows_by_strips(
                    g,
                    s.qw(),
                    count,
                    s.dim,
                    &vs,
                    s.tk,
                    dp.as_mut_ptr(),
                    s.tk,
                    false,
                );
                through_softmax(&p[..count * s.tk], &mut dp[..count * s.tk], s.tk, s.scale());
                let out = dq.at(q_at + q0 * s.qw());
                rows_by_strips(&dp, s.tk, count, s.tk, &kr, s.dim, out, s.qw(), false);
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

/// A head of queries with its keys and values, all from its first row on.
struct Head<'a> {
    q: &'a [f32],
    dy: &'a [f32],
    out: &'a [f32],
    seen: &'a [SoftmaxStats],
    keys: Option<&'a [f32]>,
    /// Keys as they are multiplied with queries, keys as they are added up, values as they are
    /// multiplied with gradients.
    strips: [&'a [f32]; 3],
    /// Of queries (written), and of keys and values (added to).
    gradients: [*mut f32; 3],
}

impl Head<'_> {
    fn some_keys_after_the_other(&self, s: &Shape, p: &mut Vec<f32>, dp: &mut Vec<f32>) {
        let [ks, kr, vs] = self.strips;
        let [dq, dk, dv] = self.gradients;
        let (qw, kw, dim) = (s.qw(), s.kw(), s.dim);
        p.resize(BLOCK * SOME_KEYS + SLACK, 0.0);
        dp.resize(BLOCK * SOME_KEYS + SLACK, 0.0);
        let mut shared = vec![0.0; s.tq];
        dots(self.dy, self.out, qw, dim, &mut shared);
        for k0 in (0..s.tk).step_by(SOME_KEYS) {
            let n = SOME_KEYS.min(s.tk - k0);
            let values = &vs[k0 / NR * dim * NR..];
            let (dk, dv) = (dk.wrapping_add(k0 * kw), dv.wrapping_add(k0 * kw));
            for q0 in (0..s.tq).step_by(BLOCK) {
                let count = BLOCK.min(s.tq - q0);
                // What no query of the block sees adds nothing; the first keys begin its gradient.
                if s.causal && k0 > 0 && s.seen(q0 + count - 1) <= k0 {
                    continue;
                }
                let seen = &self.seen[q0..q0 + count];
                let scale = products(s, self.q, q0, count, ks, k0, n, self.keys, p);
                // SAFETY: rows are taken by their bounds.
                unsafe {
                    run(Again {
                        rows: &mut p[..count * n],
                        c: n,
                        scale,
                        seen,
                    });
                };
                for (row, seen) in p.chunks_exact_mut(n).zip(seen) {
                    multiply_row(row, 1.0 / seen.sum);
                }
                let (dy, q) = (&self.dy[q0 * qw..], &self.q[q0 * qw..]);
                transposed_product(p, n, count, n, dy, qw, dim, dv, kw);
                rows_by_strips(dy, qw, count, dim, values, n, dp.as_mut_ptr(), n, false);
                let dots = &shared[q0..q0 + count];
                through_known_softmax(&p[..count * n], &mut dp[..count * n], n, dots, s.scale());
                for (strip, d0) in (0..dim).step_by(NR).enumerate() {
                    let keys = &kr[(strip * s.tk + k0) * NR..][..n * NR];
                    let to = dq.wrapping_add(q0 * qw + d0);
                    rows_by_strips(dp, n, count, n, keys, NR.min(dim - d0), to, qw, k0 > 0);
                }
                transposed_product(dp, n, count, n, q, qw, dim, dk, kw);
            }
        }
    }
}
