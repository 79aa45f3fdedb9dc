//! The kernels with AVX-512.

#![allow(
    clippy::needless_range_loop,
    reason = "registers are kept by index; iterating would hide which is which"
)]

use std::arch::x86_64::*;

use super::BLOCK;
use super::avx2::fetch_ahead;

/// A way to store weights.
///
/// # Safety
/// The methods use AVX-512F, AVX2 and F16C without saying so, since traits can't: they are called
/// from [`dot`] only, and inlined there.
pub(super) unsafe trait Format {
    const BYTES: usize;
    /// Parts of 32 weights in a block.
    const PARTS: usize;
    /// What a block's parts have in common.
    type Head: Copy;
    /// # Safety
    /// As the trait says; `block` points to a block.
    unsafe fn head(block: *const u8) -> Self::Head;
    /// The weights of a part, 16 and 16.
    ///
    /// # Safety
    /// As the trait says; `block` points to a block, whose head is `head`.
    unsafe fn part(block: *const u8, head: Self::Head, part: usize) -> (__m512, __m512);
}

pub(super) struct F32;
pub(super) struct F16;
pub(super) struct Bf16;
pub(super) struct Q4_1;

/// The dot product of each row of weights with each column.
///
/// # Safety
/// The processor has AVX-512F and F16C; rows and columns hold the same number of weights.
#[target_feature(enable = "avx512f,avx2,fma,f16c")]
pub(super) unsafe fn dot<F: Format, const R: usize, const N: usize>(
    rows: &[&[u8]; R],
    columns: &[&[f32]; N],
) -> [[f32; N]; R] {
    let mut sums = [[_mm512_setzero_ps(); N]; R];
    for index in 0..rows[0].len() / F::BYTES {
        // SAFETY: every pointer stays within block `index` of a row or of a column.
        unsafe {
            let mut blocks = [std::ptr::null(); R];
            for r in 0..R {
                blocks[r] = rows[r].as_ptr().add(index * F::BYTES);
                // Columns of a tile find the rows in the cache.
                if N == 1 {
                    for line in (0..F::BYTES).step_by(64) {
                        fetch_ahead(blocks[r].wrapping_add(line), R * rows[r].len());
                    }
                }
            }
            let mut heads = [F::head(blocks[0]); R];
            for r in 1..R {
                heads[r] = F::head(blocks[r]);
            }
            for part in 0..F::PARTS {
                let mut weights = [(_mm512_setzero_ps(), _mm512_setzero_ps()); R];
                for r in 0..R {
                    weights[r] = F::part(blocks[r], heads[r], part);
                }
                for n in 0..N {
                    let x = columns[n].as_ptr().add((index * F::PARTS + part) * BLOCK);
                    let (low, high) = (_mm512_loadu_ps(x), _mm512_loadu_ps(x.add(16)));
                    for r in 0..R {
                        sums[r][n] = _mm512_fmadd_ps(weights[r].0, low, sums[r][n]);
                        sums[r][n] = _mm512_fmadd_ps(weights[r].1, high, sums[r][n]);
                    }
                }
            }
        }
    }
    let mut out = [[0.0; N]; R];
    for r in 0..R {
        for n in 0..N {
            out[r][n] = _mm512_reduce_add_ps(sums[r][n]);
        }
    }
    out
}

/// The products of rows that are written out with each column.
///
/// # Safety
/// The processor has AVX-512F; rows and columns are equally long, a multiple of 16.
#[target_feature(enable = "avx512f,avx2,fma,f16c")]
pub(super) unsafe fn dot_written<const R: usize, const N: usize>(
    rows: &[&[f32]; R],
    columns: &[&[f32]; N],
) -> [[f32; N]; R] {
    let mut sums = [[_mm512_setzero_ps(); N]; R];
    for at in (0..rows[0].len()).step_by(16) {
        // SAFETY: sixteen floats from `at` on lie within each row and column.
        unsafe {
            let mut weights = [_mm512_setzero_ps(); R];
            for r in 0..R {
                weights[r] = _mm512_loadu_ps(rows[r].as_ptr().add(at));
            }
            for n in 0..N {
                let x = _mm512_loadu_ps(columns[n].as_ptr().add(at));
                for r in 0..R {
                    sums[r][n] = _mm512_fmadd_ps(weights[r], x, sums[r][n]);
                }
            }
        }
    }
    sums.map(|sums| sums.map(|sum| _mm512_reduce_add_ps(sum)))
}

#[inline(always)]
unsafe fn numbers() -> __m512 {
    // SAFETY: see `Format`.
    unsafe {
        _mm512_setr_ps(
            0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0,
        )
    }
}

/// The weights that 16 bytes of nibbles stand for: those of the low ones, and of the high ones. A
/// block has only 16 different ones, so they are computed once and then looked up.
#[inline(always)]
unsafe fn look_up(at: *const u8, weights: __m512) -> (__m512, __m512) {
    // SAFETY: the caller has 16 bytes there.
    unsafe {
        let packed = _mm512_cvtepu8_epi32(_mm_loadu_si128(at.cast()));
        // A permutation looks at the lowest 4 bits of a lane only, so that nothing is masked.
        (
            _mm512_permutexvar_ps(packed, weights),
            _mm512_permutexvar_ps(_mm512_srli_epi32::<4>(packed), weights),
        )
    }
}

// SAFETY: the methods stay within the block that the caller promises.
unsafe impl Format for Q4_1 {
    const BYTES: usize = 20;
    const PARTS: usize = 1;
    type Head = ();

    #[inline(always)]
    unsafe fn head(_: *const u8) {}

    #[inline(always)]
    unsafe fn part(block: *const u8, (): (), _: usize) -> (__m512, __m512) {
        // SAFETY: see above.
        unsafe {
            let raw = _mm_cvtsi32_si128(block.cast::<i32>().read_unaligned());
            let scales = _mm_cvtph_ps(raw);
            let scale = _mm512_broadcastss_ps(scales);
            let minimum = _mm512_broadcastss_ps(_mm_movehdup_ps(scales));
            look_up(block.add(4), _mm512_fmadd_ps(numbers(), scale, minimum))
        }
    }
}

// SAFETY: the methods stay within the 32 weights that the caller promises.
unsafe impl Format for F32 {
    const BYTES: usize = 128;
    const PARTS: usize = 1;
    type Head = ();

    #[inline(always)]
    unsafe fn head(_: *const u8) {}

    #[inline(always)]
    unsafe fn part(block: *const u8, (): (), _: usize) -> (__m512, __m512) {
        // SAFETY: see above.
        unsafe {
            (
                _mm512_loadu_ps(block.cast()),
                _mm512_loadu_ps(block.add(64).cast()),
            )
        }
    }
}

// SAFETY: the methods stay within the 32 weights that the caller promises.
unsafe impl Format for F16 {
    const BYTES: usize = 64;
    const PARTS: usize = 1;
    type Head = ();

    #[inline(always)]
    unsafe fn head(_: *const u8) {}

    #[inline(always)]
    unsafe fn part(block: *const u8, (): (), _: usize) -> (__m512, __m512) {
        // SAFETY: see above.
        unsafe {
            (
                _mm512_cvtph_ps(_mm256_loadu_si256(block.cast())),
                _mm512_cvtph_ps(_mm256_loadu_si256(block.add(32).cast())),
            )
        }
    }
}

// SAFETY: the methods stay within the 32 weights that the caller promises.
unsafe impl Format for Bf16 {
    const BYTES: usize = 64;
    const PARTS: usize = 1;
    type Head = ();

    #[inline(always)]
    unsafe fn head(_: *const u8) {}

    #[inline(always)]
    unsafe fn part(block: *const u8, (): (), _: usize) -> (__m512, __m512) {
        // SAFETY: see above.
        unsafe {
            let low = _mm512_cvtepu16_epi32(_mm256_loadu_si256(block.cast()));
            let high = _mm512_cvtepu16_epi32(_mm256_loadu_si256(block.add(32).cast()));
            (
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(low)),
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(high)),
            )
        }
    }
}
