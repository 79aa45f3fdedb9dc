//! Products of matrices in bf16 with sums in f32 (AVX512-BF16's `vdpbf16ps`), for weights that do
//! not change and so are rounded and packed once.
//!
//! On a processor with two such units a core does twice the work of f32's multiply-and-add, and
//! nothing is packed at a call but the rounding of the left operand, whose neighbours in memory
//! are the pairs that the instruction multiplies.

#[cfg(target_arch = "x86_64")]
use super::simd::{Isa, isa};
use rayon::prelude::*;

/// Columns of a packed strip.
const NR: usize = 48;
/// Rows of a tile: with three registers a row, 24 sums, three weights and one broadcast.
const MR: usize = 8;

/// Whether this processor multiplies bf16.
pub(crate) fn available() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        isa() == Isa::Avx512 && is_x86_feature_detected!("avx512bf16")
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// A matrix `[k, n]` in bf16: strips of [`NR`] columns, in each of which two numbers of a column
/// stand side by side. What a strip or a pair lacks is zeros.
#[derive(Debug)]
pub(crate) struct Packed {
    k: usize,
    n: usize,
    #[cfg_attr(
        not(target_arch = "x86_64"),
        allow(dead_code, reason = "only AVX-512 multiplies in bf16")
    )]
    strips: Vec<u16>,
}

/// bf16 of an f32, to nearest and ties to even; NaN stays NaN.
fn round(x: f32) -> u16 {
    half::bf16::from_f32(x).to_bits()
}

impl Packed {
    /// Packs the `[k, n]` matrix whose number in row `i` and column `j` is `at(i, j)`.
    pub(crate) fn new(k: usize, n: usize, at: impl Fn(usize, usize) -> f32 + Sync) -> Self {
        let pairs = k.div_ceil(2);
        let mut strips = vec![0u16; n.div_ceil(NR) * pairs * NR * 2];
        strips
            .par_chunks_mut((pairs * NR * 2).max(1))
            .enumerate()
            .for_each(|(s, strip)| {
                for (p, row) in strip.chunks_exact_mut(NR * 2).enumerate() {
                    for (j, pair) in row.chunks_exact_mut(2).enumerate() {
                        let column = s * NR + j;
                        for (of, number) in pair.iter_mut().enumerate() {
                            if column < n && 2 * p + of < k {
                                *number = round(at(2 * p + of, column));
                            }
                        }
                    }
                }
            });
        Self { k, n, strips }
    }

    /// Rows and columns.
    pub(crate) fn widths(&self) -> (usize, usize) {
        (self.k, self.n)
    }

    /// `x [m, k] * self`, `m * n` numbers into `out`.
    ///
    /// # Panics
    /// Where slices are not as long as that, or bf16 is not [`available`].
    pub(crate) fn multiply(&self, x: &[f32], out: &mut [f32]) {
        let (k, n) = (self.k, self.n);
        assert!(available() && k > 0 && n > 0 && x.len().is_multiple_of(k));
        assert!(out.len() == x.len() / k * n);
        let m = x.len() / k;
        // Each thread takes whole tiles of rows and reads all strips.
        let rows = m
            .div_ceil(rayon::current_num_threads())
            .next_multiple_of(MR);
        let parts = out.par_chunks_mut((rows * n).max(1));
        let parts = parts.zip(x.par_chunks((rows * k).max(1)));
        parts.for_each(|(out, x)| self.part(x, out));
    }

    #[cfg(target_arch = "x86_64")]
    fn part(&self, x: &[f32], out: &mut [f32]) {
        let (k, n, pairs) = (self.k, self.n, self.k.div_ceil(2));
        let wide = 2 * pairs;
        LEFT.with_borrow_mut(|left| {
            left.resize(x.len() / k * wide, 0);
            for (row, to) in x.chunks_exact(k).zip(left.chunks_exact_mut(wide)) {
                // SAFETY: `multiply` asked for what the processor must have.
                unsafe { narrow(row, &mut to[..k]) };
                to[k..].fill(0);
            }
            for (s, strip) in self.strips.chunks_exact(pairs * NR * 2).enumerate() {
                let columns = (n - s * NR).min(NR);
                let tiles = left.chunks(MR * wide).zip(out.chunks_mut(MR * n));
                for (left, out) in tiles {
                    // SAFETY: as above; the tile's rows are `wide` and `n` apart in slices that
                    // hold all of them, and `columns` of each from `s * NR` on are in it.
                    unsafe {
                        let out = out.as_mut_ptr().add(s * NR);
                        tile(left, wide, strip, out, n, columns);
                    }
                }
            }
        });
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn part(&self, _: &[f32], _: &mut [f32]) {}
}

#[cfg(target_arch = "x86_64")]
thread_local! {
    /// The left operand in bf16, kept between calls.
    static LEFT: std::cell::RefCell<Vec<u16>> = const { std::cell::RefCell::new(Vec::new()) };
}

/// Rounds a row.
///
/// # Safety
/// The processor must have AVX-512 with BF16.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
unsafe fn narrow(from: &[f32], to: &mut [u16]) {
    use std::arch::x86_64::*;
    assert_eq!(from.len(), to.len());
    let (whole, rest) = from.as_chunks::<16>();
    let (whole_to, rest_to) = to.as_chunks_mut::<16>();
    for (from, to) in whole.iter().zip(whole_to) {
        // SAFETY: both hold 16 numbers.
        unsafe {
            let rounded = _mm512_cvtneps_pbh(_mm512_loadu_ps(from.as_ptr()));
            let bits = std::mem::transmute::<__m256bh, __m256i>(rounded);
            _mm256_storeu_si256(to.as_mut_ptr().cast(), bits);
        }
    }
    for (from, to) in rest.iter().zip(rest_to) {
        *to = round(*from);
    }
}

/// One tile of at most [`MR`] rows, as many as `left` holds.
///
/// # Safety
/// The processor must have AVX-512 with BF16; `out` must be writable for `columns` numbers in each
/// of the rows, which are `stride` apart.
#[cfg(target_arch = "x86_64")]
unsafe fn tile(
    left: &[u16],
    wide: usize,
    strip: &[u16],
    out: *mut f32,
    stride: usize,
    columns: usize,
) {
    assert!(strip.len() == wide * NR && columns <= NR);
    macro_rules! by_rows {
        ($($rows:literal),*) => {
            match left.len() / wide {
                // SAFETY: the caller's promise, and `left` holds as many rows.
                $($rows => unsafe { rows::<$rows>(left, wide, strip, out, stride, columns) },)*
                _ => unreachable!("tiles have 1 to MR rows"),
            }
        };
    }
    by_rows!(1, 2, 3, 4, 5, 6, 7, 8);
}

/// # Safety
/// As [`tile`], and `left` must hold `R` rows.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
unsafe fn rows<const R: usize>(
    left: &[u16],
    wide: usize,
    strip: &[u16],
    out: *mut f32,
    stride: usize,
    columns: usize,
) {
    use std::arch::x86_64::*;
    // SAFETY: a pair of weights is 3 registers of the strip, which holds `wide / 2` of them, and a
    // pair of each row of `left` lies within it; what is written is the caller's.
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); 3]; R];
        for pair in 0..wide / 2 {
            let weights = strip.as_ptr().add(pair * NR * 2);
            let weights = [0, 32, 64].map(|at| {
                let bits = _mm512_loadu_si512(weights.add(at).cast());
                std::mem::transmute::<__m512i, __m512bh>(bits)
            });
            for (i, sums) in sums.iter_mut().enumerate() {
                let both = left.as_ptr().add(i * wide + 2 * pair).cast::<i32>();
                let both = _mm512_set1_epi32(both.read_unaligned());
                let both = std::mem::transmute::<__m512i, __m512bh>(both);
                for (sum, weights) in sums.iter_mut().zip(weights) {
                    *sum = _mm512_dpbf16_ps(*sum, both, weights);
                }
            }
        }
        for (i, sums) in sums.iter().enumerate() {
            for (j, sum) in sums.iter().enumerate() {
                let there = columns.saturating_sub(16 * j).min(16);
                let mask = ((1u32 << there) - 1) as __mmask16;
                let to = out.wrapping_add(i * stride + 16 * j);
                _mm512_mask_storeu_ps(to, mask, *sum);
            }
        }
    }
}
