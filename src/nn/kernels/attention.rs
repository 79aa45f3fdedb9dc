//! Attention, a block of queries and of keys at a time (arXiv 2205.14135): the score matrix is
//! never in memory as a whole, and the backward computes the scores again.

mod backward;

pub(crate) use backward::{Forward, backward};

use super::elementwise::{exponentials, highest};
use super::gemm::{MR, NR, SLACK, rows_tile, steps_tile, tile_rows, with_scratch};
use super::geometry::OutPtr;
use super::lanes::{Lanes, Work, run};
use super::pack::{pack_strip, pack_strip_transposed};
use super::simd::dispatch;
use rayon::prelude::*;

/// Queries worked on together.
const BLOCK: usize = 4 * MR;
/// Keys worked on together in the forward pass: their products with a block of queries stay in the
/// second cache.
const KEYS: usize = 16 * NR;

/// Sizes of `q [batch,tq,heads*dim]`, `k`/`v [batch,tk,kv_heads*dim]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
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

    /// How many keys the query `i` sees under a causal mask.
    fn seen(&self, i: usize) -> usize {
        (i + 1 + self.tk).saturating_sub(self.tq).min(self.tk)
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

/// `c [m, n] = a [m, k] * strips`, with row strides; with `add` on top of what `c` holds.
fn rows_by_strips(
    a: &[f32],
    lda: usize,
    m: usize,
    k: usize,
    strips: &[f32],
    n: usize,
    c: *mut f32,
    ldc: usize,
    add: bool,
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
                    add,
                );
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
                    );
                };
            }
        }
    });
}

/// Each row of `c` products becomes e^(scale * product - max) of the row so far; `max` and `sum`
/// are carried on, and `kept` is what earlier shares are to be multiplied by.
struct Shares<'a> {
    rows: &'a mut [f32],
    c: usize,
    scale: f32,
    so_far: &'a mut Rows,
}

impl Work for Shares<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let Rows { max, sum, kept } = self.so_far;
        for (i, row) in self.rows.chunks_exact_mut(self.c).enumerate() {
            // SAFETY: a row holds `c` floats.
            unsafe {
                let before = max[i];
                max[i] = (highest::<L>(row.as_ptr(), self.c) * self.scale).max(before);
                // A row that has seen no key yet has nothing to be shifted by.
                let shift = if max[i] == f32::NEG_INFINITY {
                    0.0
                } else {
                    max[i]
                };
                kept[i] = (before - shift).exp();
                let at = row.as_mut_ptr();
                let share = exponentials::<L>(at, at, self.c, self.scale, shift);
                sum[i] = sum[i].mul_add(kept[i], share);
            }
        }
    }
}

dispatch! {
    fn multiply_row(row: &mut [f32], by: f32) {
        row.iter_mut().for_each(|v| *v *= by);
    }
}

/// Products of the queries `q0..q0 + count` of one head with the keys `k0..k0 + n` (packed), into
/// `p [count, n]`, with minus infinity where a key is hidden; the factor they are still to be
/// multiplied by.
fn products(
    s: &Shape,
    q: &[f32],
    q0: usize,
    count: usize,
    k_strips: &[f32],
    k0: usize,
    n: usize,
    keys: Option<&[f32]>,
    p: &mut [f32],
) -> f32 {
    let strips = &k_strips[k0 / NR * s.dim * NR..];
    let c = p.as_mut_ptr();
    rows_by_strips(
        &q[q0 * s.qw()..],
        s.qw(),
        count,
        s.dim,
        strips,
        n,
        c,
        n,
        false,
    );
    for (i, row) in p[..count * n].chunks_exact_mut(n).enumerate() {
        if s.causal {
            row[s.seen(q0 + i).saturating_sub(k0).min(n)..].fill(f32::NEG_INFINITY);
        }
        if let Some(keys) = keys {
            // The lowest finite number, as the reference has it: a row with no key stays finite.
            for (v, key) in row.iter_mut().zip(&keys[k0..]) {
                *v = *v * s.scale() + if *key > 0.0 { 0.0 } else { f32::MIN };
            }
        }
    }
    if keys.is_some() { 1.0 } else { s.scale() }
}

/// Room for a block of queries.
#[derive(Default)]
struct Rows {
    max: Vec<f32>,
    sum: Vec<f32>,
    kept: Vec<f32>,
}

impl Rows {
    fn start(&mut self, count: usize) {
        self.max.clear();
        self.max.resize(count, f32::NEG_INFINITY);
        self.sum.clear();
        self.sum.resize(count, 0.0);
        self.kept.resize(count, 0.0);
    }
}

/// What a query's scores came to: the greatest of them, and the sum of e^(score - greatest).
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct SoftmaxStats {
    max: f32,
    sum: f32,
}

/// `keys` is `[batch, tk]`, above 0 where a key may be seen. What was seen comes back as
/// `[batch, heads, tq]`.
pub(crate) fn forward(
    s: &Shape,
    q: &[f32],
    k: &[f32],
    v: &[f32],
    keys: Option<&[f32]>,
    out: &mut [f32],
) -> Vec<SoftmaxStats> {
    let mut seen = vec![SoftmaxStats::default(); s.batch * s.heads * s.tq];
    if s.tk == 0 {
        out.fill(0.0);
        return seen;
    }
    let blocks = s.tq.div_ceil(BLOCK);
    // A head's keys are packed once a task; few heads are shared out by blocks of queries.
    let share = (2 * rayon::current_num_threads())
        .div_ceil(s.batch * s.heads)
        .clamp(1, blocks.max(1));
    let out = OutPtr(out.as_mut_ptr());
    let saw = OutPtr(seen.as_mut_ptr().cast());
    (0..s.batch * s.heads * share)
        .into_par_iter()
        .for_each(|task| {
            let (part, h, b) = (task % share, task / share % s.heads, task / share / s.heads);
            let kv = h / (s.heads / s.kv_heads);
            let kv_at = b * s.tk * s.kw() + kv * s.dim;
            let q_at = b * s.tq * s.qw() + h * s.dim;
            let keys = keys.map(|m| &m[b * s.tk..(b + 1) * s.tk]);
            let mut rows = Rows::default();
            with_scratch(|ks| {
                with_scratch(|vs| {
                    with_scratch(|p| {
                        pack(&k[kv_at..], s.kw(), s.tk, s.dim, true, ks);
                        pack(&v[kv_at..], s.kw(), s.tk, s.dim, false, vs);
                        p.resize(BLOCK * KEYS.min(s.tk) + SLACK, 0.0);
                        for block in part * blocks / share..(part + 1) * blocks / share {
                            let q0 = block * BLOCK;
                            let count = BLOCK.min(s.tq - q0);
                            let at = q_at + q0 * s.qw();
                            block_forward(
                                s,
                                &q[q_at..],
                                q0,
                                count,
                                ks,
                                vs,
                                keys,
                                p,
                                &mut rows,
                                out.at(at),
                            );
                            for (i, (max, sum)) in rows.max.iter().zip(&rows.sum).enumerate() {
                                let at = (b * s.heads + h) * s.tq + q0 + i;
                                let seen = SoftmaxStats {
                                    max: *max,
                                    sum: *sum,
                                };
                                // SAFETY: this task owns what its queries see, two floats each.
                                unsafe { saw.at(2 * at).cast::<SoftmaxStats>().write(seen) };
                            }
                        }
                    });
                });
            });
        });
    seen
}

/// Attention of the queries `q0..q0 + count` of one head to `out`, some keys after the other.
fn block_forward(
    s: &Shape,
    q: &[f32],
    q0: usize,
    count: usize,
    k_strips: &[f32],
    v_strips: &[f32],
    keys: Option<&[f32]>,
    p: &mut [f32],
    rows: &mut Rows,
    out: *mut f32,
) {
    rows.start(count);
    // SAFETY: this task owns the rows of its queries in its head, `dim` floats each.
    let row = |i: usize| unsafe { std::slice::from_raw_parts_mut(out.add(i * s.qw()), s.dim) };
    let seen = if s.causal {
        s.seen(q0 + count - 1).max(1)
    } else {
        s.tk
    };
    for k0 in (0..seen).step_by(KEYS) {
        let n = KEYS.min(seen - k0);
        let scale = products(s, q, q0, count, k_strips, k0, n, keys, p);
        let so_far = &mut *rows;
        // SAFETY: rows are taken by their bounds.
        unsafe {
            run(Shares {
                rows: &mut p[..count * n],
                c: n,
                scale,
                so_far,
            });
        };
        if k0 > 0 {
            for (i, kept) in rows
                .kept
                .iter()
                .enumerate()
                .filter(|(_, kept)| **kept != 1.0)
            {
                multiply_row(row(i), *kept);
            }
        }
        // The strips of the values are as long as all keys: these keys' rows lie one after another.
        for (strip, n0) in (0..s.dim).step_by(NR).enumerate() {
            let values = &v_strips[(strip * s.tk + k0) * NR..][..n * NR];
            let c = out.wrapping_add(n0);
            rows_by_strips(
                p,
                n,
                count,
                n,
                values,
                NR.min(s.dim - n0),
                c,
                s.qw(),
                k0 > 0,
            );
        }
    }
    for (i, sum) in rows.sum.iter().enumerate() {
        multiply_row(row(i), 1.0 / sum);
    }
}
