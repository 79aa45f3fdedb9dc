//! Products with activations of 8 bits, with AVX2: pairs of bytes are multiplied and added to 16
//! bits, pairs of those to 32.

use std::arch::x86_64::*;

use super::avx2::{added, fetch_ahead, half};
use super::eight::{RoundedColumn, SCALES};
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
    type Head: Copy;
    /// # Safety
    /// As the trait says; `block` points to a block.
    unsafe fn head(block: *const u8) -> Self::Head;
    /// The bytes of a part, and the scale of each four of them.
    ///
    /// # Safety
    /// As the trait says; `block` points to a block, whose head is `head`.
    unsafe fn part(block: *const u8, head: Self::Head, part: usize) -> (__m256i, __m256);
    /// The products of a part's weights with `x`, each four of them summed up.
    ///
    /// # Safety
    /// As the trait says.
    unsafe fn products(bytes: __m256i, x: __m256i) -> __m256i;
    /// What is to be taken away from each weight of a part, after scaling.
    ///
    /// # Safety
    /// As the trait says.
    unsafe fn minimum(_: Self::Head, _: usize) -> f32 {
        0.0
    }
}

pub(super) struct Q8_0;
pub(super) struct Q4K;
pub(super) struct Q6K;

/// The dot product of each row of weights with each column.
///
/// # Safety
/// The processor has AVX2, FMA and F16C; rows and columns hold the same number of weights.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn dot<F: Format, const R: usize, const N: usize>(
    rows: &[&[u8]; R],
    columns: &[RoundedColumn; N],
) -> [[f32; N]; R] {
    // SAFETY (both): the caller's promise.
    if N == 1 {
        // Side by side, so that the rows' sums do not wait for each other.
        return unsafe { side_by_side::<F, R, N>(rows, columns) };
    }
    // A row at a time: there are registers for its weights and the sums of eight columns.
    rows.map(|row| unsafe { side_by_side::<F, 1, N>(&[row], columns) }[0])
}

/// # Safety
/// As [`dot`] says.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn side_by_side<F: Format, const R: usize, const N: usize>(
    rows: &[&[u8]; R],
    columns: &[RoundedColumn; N],
) -> [[f32; N]; R] {
    let mut sums = [[_mm256_setzero_ps(); N]; R];
    let mut minima = [[0.0; N]; R];
    for index in 0..rows[0].len() / F::BYTES {
        for r in 0..R {
            // SAFETY: every pointer stays within block `index` of a row or of a column.
            unsafe {
                let block = rows[r].as_ptr().add(index * F::BYTES);
                for line in (0..F::BYTES).step_by(64) {
                    fetch_ahead(block.wrapping_add(line), R * rows[r].len());
                }
                let head = F::head(block);
                for part in 0..F::PARTS {
                    let (bytes, own) = F::part(block, head, part);
                    let minimum = F::minimum(head, part);
                    let at = index * F::PARTS + part;
                    for n in 0..N {
                        let x = columns[n].numbers.as_ptr().add(at * BLOCK);
                        let sum = F::products(bytes, _mm256_loadu_si256(x.cast()));
                        let scale = _mm256_loadu_ps(columns[n].scales.as_ptr().add(at * SCALES));
                        let scale = _mm256_mul_ps(own, scale);
                        sums[r][n] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), scale, sums[r][n]);
                        minima[r][n] += minimum * columns[n].shares.as_ptr().add(at).read();
                    }
                }
            }
        }
    }
    let mut out = added(&sums);
    for r in 0..R {
        for n in 0..N {
            out[r][n] -= minima[r][n];
        }
    }
    out
}

/// The dot product of each row of `Q8_0` weights with each column, of which `low` holds what
/// rounding took away from `high`, in 256ths: both in one go, so that weights are read once.
///
/// # Safety
/// The processor has AVX2, FMA and F16C; rows and columns hold the same number of weights.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn dot_q8_0<const R: usize, const N: usize>(
    rows: &[&[u8]; R],
    high: &[RoundedColumn; N],
    low: &[RoundedColumn; N],
) -> [[f32; N]; R] {
    let mut sums = [[_mm256_setzero_ps(); N]; R];
    for index in 0..rows[0].len() / Q8_0::BYTES {
        for r in 0..R {
            // SAFETY: every pointer stays within block `index` of a row or of a column.
            unsafe {
                let block = rows[r].as_ptr().add(index * Q8_0::BYTES);
                fetch_ahead(block, R * rows[r].len());
                let (bytes, own) = Q8_0::part(block, (), 0);
                for n in 0..N {
                    let products = |column: &RoundedColumn| {
                        let x = column.numbers.as_ptr().add(index * BLOCK);
                        Q8_0::products(bytes, _mm256_loadu_si256(x.cast()))
                    };
                    // At most 4 * 128 * 127 * 256 and as much again: no more than 25 bits.
                    let upper = _mm256_slli_epi32::<8>(products(&high[n]));
                    let sum = _mm256_add_epi32(upper, products(&low[n]));
                    let scale = _mm256_loadu_ps(low[n].scales.as_ptr().add(index * SCALES));
                    let scale = _mm256_mul_ps(own, scale);
                    sums[r][n] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), scale, sums[r][n]);
                }
            }
        }
    }
    added(&sums)
}

/// Unsigned bytes times signed ones, each four of them summed up; pairs must fit into 16 bits.
#[inline(always)]
unsafe fn multiply(unsigned: __m256i, signed: __m256i) -> __m256i {
    // SAFETY: see `Format`.
    unsafe { _mm256_madd_epi16(_mm256_maddubs_epi16(unsigned, signed), _mm256_set1_epi16(1)) }
}

// SAFETY (all three): the methods stay within the block that the caller promises.
unsafe impl Format for Q8_0 {
    const BYTES: usize = 34;
    const PARTS: usize = 1;
    type Head = ();

    #[inline(always)]
    unsafe fn head(_: *const u8) {}

    #[inline(always)]
    unsafe fn part(block: *const u8, (): (), _: usize) -> (__m256i, __m256) {
        // SAFETY: see above.
        unsafe {
            (
                _mm256_loadu_si256(block.add(2).cast()),
                _mm256_set1_ps(half(block)),
            )
        }
    }

    #[inline(always)]
    unsafe fn products(bytes: __m256i, x: __m256i) -> __m256i {
        // SAFETY: see above. The sign moves from the weight to the activation; a pair is at most
        // 2 * 128 * 127.
        unsafe { multiply(_mm256_sign_epi8(bytes, bytes), _mm256_sign_epi8(x, bytes)) }
    }
}

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
            let times = |bytes: [u8; 8], k: f32| bytes.map(|byte| k * f32::from(byte));
            (
                times(scales, half(block)),
                times(minima, half(block.add(2))),
            )
        }
    }

    #[inline(always)]
    unsafe fn part(block: *const u8, (scales, _): Self::Head, part: usize) -> (__m256i, __m256) {
        // SAFETY: see above.
        unsafe {
            let packed = _mm256_loadu_si256(block.add(16 + part / 2 * BLOCK).cast());
            let packed = match part % 2 {
                0 => packed,
                _ => _mm256_srli_epi16::<4>(packed),
            };
            (
                _mm256_and_si256(packed, _mm256_set1_epi8(15)),
                _mm256_set1_ps(scales[part]),
            )
        }
    }

    #[inline(always)]
    unsafe fn products(bytes: __m256i, x: __m256i) -> __m256i {
        // SAFETY: see above. A pair is at most 2 * 15 * 127.
        unsafe { multiply(bytes, x) }
    }

    #[inline(always)]
    unsafe fn minimum((_, minima): Self::Head, part: usize) -> f32 {
        minima[part]
    }
}

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
    unsafe fn part(block: *const u8, scale: f32, part: usize) -> (__m256i, __m256) {
        // SAFETY: see above.
        unsafe {
            let (at, quarter) = (part / 4, part % 4);
            let low = _mm256_loadu_si256(block.add(64 * at + 32 * (quarter % 2)).cast());
            let high = _mm256_loadu_si256(block.add(128 + 32 * at).cast());
            // Two bits of each byte go to bits 4 and 5.
            let (low, high) = match quarter {
                0 => (low, _mm256_slli_epi16::<4>(high)),
                1 => (low, _mm256_slli_epi16::<2>(high)),
                2 => (_mm256_srli_epi16::<4>(low), high),
                _ => (_mm256_srli_epi16::<4>(low), _mm256_srli_epi16::<2>(high)),
            };
            let bytes = _mm256_or_si256(
                _mm256_and_si256(low, _mm256_set1_epi8(15)),
                _mm256_and_si256(high, _mm256_set1_epi8(48)),
            );
            let own = |i: usize| scale * f32::from(*block.add(192 + 2 * part + i).cast::<i8>());
            let scales = _mm256_set_m128(_mm_set1_ps(own(1)), _mm_set1_ps(own(0)));
            (bytes, scales)
        }
    }

    #[inline(always)]
    unsafe fn products(bytes: __m256i, x: __m256i) -> __m256i {
        // SAFETY: see above. A pair is at most 2 * 63 * 127.
        unsafe {
            let offset = multiply(_mm256_set1_epi8(32), x);
            _mm256_sub_epi32(multiply(bytes, x), offset)
        }
    }
}
