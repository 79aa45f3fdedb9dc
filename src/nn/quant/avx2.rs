//! The kernels with AVX2, FMA and F16C.

#![allow(
    clippy::needless_range_loop,
    reason = "registers are kept by index; iterating would hide which is which"
)]

use std::arch::x86_64::*;

use super::{BLOCK, scales_q4k};

/// A way to store weights.
///
/// # Safety
/// The methods use AVX2, FMA and F16C without saying so, since traits can't: they are called from
/// [`dot`] only, and inlined there.
pub(super) unsafe trait Format {
    const BYTES: usize;
    /// Parts of 32 weights in a block.
    const PARTS: usize;
    /// What a block's parts have in common.
    type Head: Copy;
    /// # Safety
    /// As the trait says; `block` points to a block.
    unsafe fn head(block: *const u8) -> Self::Head;
    /// The weights of a part, 8 at a time.
    ///
    /// # Safety
    /// As the trait says; `block` points to a block, whose head is `head`.
    unsafe fn part(block: *const u8, head: Self::Head, part: usize) -> [__m256; 4];
}

pub(super) struct F32;
pub(super) struct F16;
pub(super) struct Bf16;
pub(super) struct Q4_1;
pub(super) struct Q8_0;
pub(super) struct Q4K;
pub(super) struct Q6K;

/// The dot product of each row of weights with a column. The rows, which lie one behind the other,
/// go side by side, so that their sums do not wait for each other.
///
/// # Safety
/// The processor has AVX2, FMA and F16C; rows and column hold the same number of weights.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn dot<F: Format, const R: usize>(rows: &[&[u8]; R], column: &[f32]) -> [f32; R] {
    let mut sums = [[_mm256_setzero_ps(); 1]; R];
    for index in 0..rows[0].len() / F::BYTES {
        for r in 0..R {
            // SAFETY: every pointer stays within block `index` of a row or of the column.
            unsafe {
                let block = rows[r].as_ptr().add(index * F::BYTES);
                fetch_ahead(block, R * rows[r].len());
                let head = F::head(block);
                for part in 0..F::PARTS {
                    let weights = F::part(block, head, part);
                    let x = column.as_ptr().add((index * F::PARTS + part) * BLOCK);
                    for i in 0..4 {
                        let x = _mm256_loadu_ps(x.add(8 * i));
                        sums[r][0] = _mm256_fmadd_ps(weights[i], x, sums[r][0]);
                    }
                }
            }
        }
    }
    added(&sums).map(|[sum]| sum)
}

/// Writes a row's weights to `out`, as they are when [`dot`] multiplies them.
///
/// # Safety
/// The processor has AVX2, FMA and F16C; `out` has room for the row's weights.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn write_out<F: Format>(row: &[u8], out: &mut [f32]) {
    for index in 0..row.len() / F::BYTES {
        // SAFETY: every pointer stays within block `index` of the row or of `out`.
        unsafe {
            let block = row.as_ptr().add(index * F::BYTES);
            let head = F::head(block);
            for part in 0..F::PARTS {
                let at = out.as_mut_ptr().add((index * F::PARTS + part) * BLOCK);
                for (i, weights) in F::part(block, head, part).into_iter().enumerate() {
                    _mm256_storeu_ps(at.add(8 * i), weights);
                }
            }
        }
    }
}

/// [`dot`] of rows that are written out: the same sums in the same order.
///
/// # Safety
/// The processor has AVX2 and FMA; rows and columns are equally long, in whole blocks.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn dot_written<const R: usize, const N: usize>(
    rows: &[&[f32]; R],
    columns: &[&[f32]; N],
) -> [[f32; N]; R] {
    let mut sums = [[_mm256_setzero_ps(); N]; R];
    for at in (0..rows[0].len()).step_by(8) {
        // SAFETY: eight floats from `at` on lie within each row and column.
        unsafe {
            let mut weights = [_mm256_setzero_ps(); R];
            for r in 0..R {
                weights[r] = _mm256_loadu_ps(rows[r].as_ptr().add(at));
            }
            for n in 0..N {
                let x = _mm256_loadu_ps(columns[n].as_ptr().add(at));
                for r in 0..R {
                    sums[r][n] = _mm256_fmadd_ps(weights[r], x, sums[r][n]);
                }
            }
        }
    }
    added(&sums)
}

/// The lanes of each register added up, one after the other.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn added<const R: usize, const N: usize>(sums: &[[__m256; N]; R]) -> [[f32; N]; R] {
    let mut out = [[0.0; N]; R];
    for r in 0..R {
        for n in 0..N {
            let mut lanes = [0.0f32; 8];
            // SAFETY: the array has room for the register.
            unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), sums[r][n]) };
            for lane in lanes {
                out[r][n] += lane;
            }
        }
    }
    out
}

/// Fetches what lies `ahead` of a block: the rows that come next, whose beginnings the processor
/// does not foresee.
#[inline(always)]
pub(super) unsafe fn fetch_ahead(block: *const u8, ahead: usize) {
    // SAFETY: what is fetched may lie anywhere.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(block.wrapping_add(ahead).cast()) }
}

/// The f16 at `at`.
#[inline(always)]
pub(super) unsafe fn half(at: *const u8) -> f32 {
    // SAFETY: the caller has two bytes there, and the processor F16C.
    unsafe {
        let raw = i32::from(at.cast::<u16>().read_unaligned());
        _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(raw)))
    }
}

/// 8 bytes as whole numbers.
#[inline(always)]
unsafe fn bytes(at: *const u8) -> __m256i {
    // SAFETY: the caller has 8 bytes there.
    unsafe { _mm256_cvtepu8_epi32(_mm_loadl_epi64(at.cast())) }
}

/// 32 weights from 16 bytes of nibbles: all the low ones, then all the high ones.
#[inline(always)]
unsafe fn nibbles(at: *const u8, scale: __m256, minimum: __m256) -> [__m256; 4] {
    // SAFETY: the caller has 16 bytes there.
    unsafe {
        let mask = _mm256_set1_epi32(15);
        let (low, high) = (bytes(at), bytes(at.add(8)));
        [
            weights(_mm256_and_si256(low, mask), scale, minimum),
            weights(_mm256_and_si256(high, mask), scale, minimum),
            weights(_mm256_srli_epi32::<4>(low), scale, minimum),
            weights(_mm256_srli_epi32::<4>(high), scale, minimum),
        ]
    }
}

/// `scale * numbers + minimum`.
#[inline(always)]
unsafe fn weights(numbers: __m256i, scale: __m256, minimum: __m256) -> __m256 {
    // SAFETY: see `Format`.
    unsafe { _mm256_fmadd_ps(_mm256_cvtepi32_ps(numbers), scale, minimum) }
}

// SAFETY: the methods stay within the block that the caller promises.
unsafe impl Format for Q4_1 {
    const BYTES: usize = 20;
    const PARTS: usize = 1;
    type Head = ();

    #[inline(always)]
    unsafe fn head(_: *const u8) {}

    #[inline(always)]
    unsafe fn part(block: *const u8, (): (), _: usize) -> [__m256; 4] {
        // SAFETY: see above.
        unsafe {
            // Scale and minimum in one go.
            let raw = _mm_cvtsi32_si128(block.cast::<i32>().read_unaligned());
            let scales = _mm_cvtph_ps(raw);
            let scale = _mm256_broadcastss_ps(scales);
            let minimum = _mm256_broadcastss_ps(_mm_movehdup_ps(scales));
            nibbles(block.add(4), scale, minimum)
        }
    }
}

// SAFETY: the methods stay within the block that the caller promises.
unsafe impl Format for Q8_0 {
    const BYTES: usize = 34;
    const PARTS: usize = 1;
    type Head = ();

    #[inline(always)]
    unsafe fn head(_: *const u8) {}

    #[inline(always)]
    unsafe fn part(block: *const u8, (): (), _: usize) -> [__m256; 4] {
        // SAFETY: see above.
        unsafe {
            let scale = _mm256_set1_ps(half(block));
            std::array::from_fn(|i| {
                let eight = _mm_loadl_epi64(block.add(2 + 8 * i).cast());
                _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(eight)), scale)
            })
        }
    }
}

// SAFETY: the methods stay within the block that the caller promises.
unsafe impl Format for Q4K {
    const BYTES: usize = 144;
    const PARTS: usize = 8;
    /// Scales and minima of the parts.
    type Head = ([f32; 8], [f32; 8]);

    #[inline(always)]
    unsafe fn head(block: *const u8) -> Self::Head {
        // SAFETY: see above.
        unsafe {
            let (scales, minima) = scales_q4k(&*block.add(4).cast());
            let times = |bytes: [u8; 8], by: f32| bytes.map(|byte| by * f32::from(byte));
            (
                times(scales, half(block)),
                times(minima, -half(block.add(2))),
            )
        }
    }

    #[inline(always)]
    unsafe fn part(block: *const u8, head: Self::Head, part: usize) -> [__m256; 4] {
        // SAFETY: see above.
        unsafe {
            let scale = _mm256_set1_ps(head.0[part]);
            let minimum = _mm256_set1_ps(head.1[part]);
            std::array::from_fn(|i| {
                let packed = bytes(block.add(16 + part / 2 * BLOCK + 8 * i));
                let numbers = match part % 2 {
                    0 => _mm256_and_si256(packed, _mm256_set1_epi32(15)),
                    _ => _mm256_srli_epi32::<4>(packed),
                };
                weights(numbers, scale, minimum)
            })
        }
    }
}

// SAFETY: the methods stay within the block that the caller promises.
unsafe impl Format for Q6K {
    const BYTES: usize = 210;
    const PARTS: usize = 8;
    /// The block's scale.
    type Head = f32;

    #[inline(always)]
    unsafe fn head(block: *const u8) -> f32 {
        // SAFETY: see above.
        unsafe { half(block.add(208)) }
    }

    #[inline(always)]
    unsafe fn part(block: *const u8, head: f32, part: usize) -> [__m256; 4] {
        // SAFETY: see above.
        unsafe {
            let (at, quarter) = (part / 4, part % 4);
            let own = |i: usize| head * f32::from(*block.add(192 + 2 * part + i).cast::<i8>());
            let scales = [own(0), own(1)];
            std::array::from_fn(|i| {
                let low = bytes(block.add(64 * at + 32 * (quarter % 2) + 8 * i));
                let low = match quarter / 2 {
                    0 => _mm256_and_si256(low, _mm256_set1_epi32(15)),
                    _ => _mm256_srli_epi32::<4>(low),
                };
                let high = bytes(block.add(128 + 32 * at + 8 * i));
                let high = _mm256_srlv_epi32(high, _mm256_set1_epi32(2 * quarter as i32));
                let high = _mm256_and_si256(high, _mm256_set1_epi32(3));
                let numbers = _mm256_or_si256(low, _mm256_slli_epi32::<4>(high));
                let scale = _mm256_set1_ps(scales[i / 2]);
                let minimum = _mm256_set1_ps(-32.0 * scales[i / 2]);
                weights(numbers, scale, minimum)
            })
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
    unsafe fn part(block: *const u8, (): (), _: usize) -> [__m256; 4] {
        // SAFETY: see above.
        unsafe { std::array::from_fn(|i| _mm256_loadu_ps(block.add(32 * i).cast())) }
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
    unsafe fn part(block: *const u8, (): (), _: usize) -> [__m256; 4] {
        // SAFETY: see above.
        unsafe {
            std::array::from_fn(|i| _mm256_cvtph_ps(_mm_loadu_si128(block.add(16 * i).cast())))
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
    unsafe fn part(block: *const u8, (): (), _: usize) -> [__m256; 4] {
        // SAFETY: see above.
        unsafe {
            std::array::from_fn(|i| {
                let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(block.add(16 * i).cast()));
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
            })
        }
    }
}
