//! The kernels with AVX2, FMA and F16C.

use std::arch::x86_64::*;

use super::{BLOCK, Column};

pub(super) const Q4_0: u8 = 0;
pub(super) const Q4_1: u8 = 1;
pub(super) const Q8_0: u8 = 2;

/// The dot product of a row of weights, stored as `KIND`, with each column.
///
/// # Safety
/// The processor has AVX2, FMA and F16C; `row` and `columns` hold the same number of blocks.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn dot<const KIND: u8, const N: usize>(
    row: &[u8],
    columns: &[Column<'_>; N],
) -> [f32; N] {
    let bytes = match KIND {
        Q4_0 => 18,
        Q4_1 => 20,
        _ => 34,
    };
    let blocks = row.len() / bytes;
    let mut sums = [_mm256_setzero_ps(); N];
    let mut minima = [_mm_setzero_ps(); N];
    let ones = _mm256_set1_epi16(1);
    for index in 0..blocks {
        // SAFETY: every pointer stays within block `index` of `row` or of a column.
        unsafe {
            let block = row.as_ptr().add(index * bytes);
            let (scales, weights) = match KIND {
                Q4_1 => {
                    let raw = _mm_cvtsi32_si128(block.cast::<i32>().read_unaligned());
                    (_mm_cvtph_ps(raw), nibbles(block.add(4)))
                }
                _ => {
                    let raw = i32::from(block.cast::<u16>().read_unaligned());
                    let scale = _mm_cvtph_ps(_mm_cvtsi32_si128(raw));
                    if KIND == Q4_0 {
                        let factors = _mm_setr_ps(1.0, -8.0, 0.0, 0.0);
                        let scales = _mm_mul_ps(_mm_moveldup_ps(scale), factors);
                        (scales, nibbles(block.add(2)))
                    } else {
                        (scale, _mm256_loadu_si256(block.add(2).cast()))
                    }
                }
            };
            for n in 0..N {
                let x = columns[n].values.as_ptr().add(index * BLOCK);
                let x = _mm256_loadu_si256(x.cast());
                let pairs = if KIND == Q8_0 {
                    _mm256_maddubs_epi16(_mm256_abs_epi8(weights), _mm256_sign_epi8(x, weights))
                } else {
                    _mm256_maddubs_epi16(weights, x)
                };
                let exact = _mm256_cvtepi32_ps(_mm256_madd_epi16(pairs, ones));
                let theirs = columns[n].scales.as_ptr().add(2 * index);
                let theirs = _mm_castsi128_ps(_mm_loadl_epi64(theirs.cast()));
                let products = _mm_mul_ps(scales, theirs);
                minima[n] = _mm_add_ps(minima[n], products);
                sums[n] = _mm256_fmadd_ps(exact, _mm256_broadcastss_ps(products), sums[n]);
            }
        }
    }
    std::array::from_fn(|n| {
        let mut lanes = [0.0f32; 8];
        let mut minimum = [0.0f32; 4];
        // SAFETY: the arrays have room for the registers.
        unsafe {
            _mm256_storeu_ps(lanes.as_mut_ptr(), sums[n]);
            _mm_storeu_ps(minimum.as_mut_ptr(), minima[n]);
        }
        lanes.iter().sum::<f32>() + minimum[1]
    })
}

/// 32 bytes from 16 bytes of nibbles: all the low ones, then all the high ones.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn nibbles(at: *const u8) -> __m256i {
    // SAFETY: the caller has 16 bytes there.
    let packed = unsafe { _mm_loadu_si128(at.cast()) };
    let both = _mm256_set_m128i(_mm_srli_epi16(packed, 4), packed);
    _mm256_and_si256(both, _mm256_set1_epi8(15))
}
