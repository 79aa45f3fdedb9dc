//! The kernels with AVX2, FMA and F16C.

use std::arch::x86_64::*;

use super::BLOCK;

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
    columns: &[&[f32]; N],
) -> [f32; N] {
    let bytes = match KIND {
        Q4_0 => 18,
        Q4_1 => 20,
        _ => 34,
    };
    let mut sums = [_mm256_setzero_ps(); N];
    for index in 0..row.len() / bytes {
        // SAFETY: every pointer stays within block `index` of `row` or of a column.
        unsafe {
            let block = row.as_ptr().add(index * bytes);
            let weights = match KIND {
                Q4_1 => {
                    let raw = _mm_cvtsi32_si128(block.cast::<i32>().read_unaligned());
                    let scales = _mm_cvtph_ps(raw);
                    let scale = _mm256_broadcastss_ps(scales);
                    let minimum = _mm256_broadcastss_ps(_mm_movehdup_ps(scales));
                    nibbles(block.add(4), scale, minimum)
                }
                Q4_0 => {
                    let scale = half(block);
                    nibbles(
                        block.add(2),
                        scale,
                        _mm256_mul_ps(scale, _mm256_set1_ps(-8.0)),
                    )
                }
                _ => {
                    let scale = half(block);
                    [0, 8, 16, 24].map(|at| {
                        let values = _mm_loadl_epi64(block.add(2 + at).cast());
                        _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(values)), scale)
                    })
                }
            };
            for n in 0..N {
                let x = columns[n].as_ptr().add(index * BLOCK);
                for (i, weights) in weights.into_iter().enumerate() {
                    sums[n] = _mm256_fmadd_ps(weights, _mm256_loadu_ps(x.add(8 * i)), sums[n]);
                }
            }
        }
    }
    sums.map(|sums| {
        let mut lanes = [0.0f32; 8];
        // SAFETY: the array has room for the register.
        unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), sums) };
        lanes.iter().sum()
    })
}

/// The f16 at `at` in every lane.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn half(at: *const u8) -> __m256 {
    // SAFETY: the caller has two bytes there.
    let raw = i32::from(unsafe { at.cast::<u16>().read_unaligned() });
    _mm256_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(raw)))
}

/// 32 weights from 16 bytes of nibbles: all the low ones, then all the high ones.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn nibbles(at: *const u8, scale: __m256, minimum: __m256) -> [__m256; 4] {
    // SAFETY: the caller has 16 bytes there.
    let (low, high) = unsafe {
        (
            _mm256_cvtepu8_epi32(_mm_loadl_epi64(at.cast())),
            _mm256_cvtepu8_epi32(_mm_loadl_epi64(at.add(8).cast())),
        )
    };
    let mask = _mm256_set1_epi32(15);
    [
        _mm256_and_si256(low, mask),
        _mm256_and_si256(high, mask),
        _mm256_srli_epi32(low, 4),
        _mm256_srli_epi32(high, 4),
    ]
    .map(|values| _mm256_fmadd_ps(_mm256_cvtepi32_ps(values), scale, minimum))
}
