//! The kernels with AVX-512.

use std::arch::x86_64::*;

use super::BLOCK;

pub(super) const Q4_0: u8 = 0;
pub(super) const Q4_1: u8 = 1;
pub(super) const Q8_0: u8 = 2;

/// The dot product of a row of weights, stored as `KIND`, with each column.
///
/// A block has only 16 different 4-bit weights, so they are computed once and then looked up.
///
/// # Safety
/// The processor has AVX-512F and F16C; `row` and `columns` hold the same number of blocks.
#[target_feature(enable = "avx512f,avx2,fma,f16c")]
pub(super) unsafe fn dot<const KIND: u8, const N: usize>(
    row: &[u8],
    columns: &[&[f32]; N],
) -> [f32; N] {
    let bytes = match KIND {
        Q4_0 => 18,
        Q4_1 => 20,
        _ => 34,
    };
    let numbers = _mm512_setr_ps(
        0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0,
    );
    let mut low_sums = [_mm512_setzero_ps(); N];
    let mut high_sums = [_mm512_setzero_ps(); N];
    for index in 0..row.len() / bytes {
        // SAFETY: every pointer stays within block `index` of `row` or of a column.
        unsafe {
            let block = row.as_ptr().add(index * bytes);
            let (low, high) = match KIND {
                Q4_1 => {
                    let raw = _mm_cvtsi32_si128(block.cast::<i32>().read_unaligned());
                    let scales = _mm_cvtph_ps(raw);
                    let scale = _mm512_broadcastss_ps(scales);
                    let minimum = _mm512_broadcastss_ps(_mm_movehdup_ps(scales));
                    look_up(block.add(4), _mm512_fmadd_ps(numbers, scale, minimum))
                }
                Q4_0 => {
                    let eights = _mm512_sub_ps(numbers, _mm512_set1_ps(8.0));
                    look_up(block.add(2), _mm512_mul_ps(eights, half(block)))
                }
                _ => {
                    let scale = half(block);
                    let low = _mm_loadu_si128(block.add(2).cast());
                    let high = _mm_loadu_si128(block.add(18).cast());
                    (
                        _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(low)), scale),
                        _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(high)), scale),
                    )
                }
            };
            for n in 0..N {
                let x = columns[n].as_ptr().add(index * BLOCK);
                low_sums[n] = _mm512_fmadd_ps(low, _mm512_loadu_ps(x), low_sums[n]);
                high_sums[n] = _mm512_fmadd_ps(high, _mm512_loadu_ps(x.add(16)), high_sums[n]);
            }
        }
    }
    std::array::from_fn(|n| _mm512_reduce_add_ps(_mm512_add_ps(low_sums[n], high_sums[n])))
}

/// The f16 at `at` in every lane.
#[inline]
#[target_feature(enable = "avx512f,f16c")]
unsafe fn half(at: *const u8) -> __m512 {
    // SAFETY: the caller has two bytes there.
    let raw = i32::from(unsafe { at.cast::<u16>().read_unaligned() });
    _mm512_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(raw)))
}

/// The weights that 16 bytes of nibbles stand for: those of the low ones, and of the high ones.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn look_up(at: *const u8, weights: __m512) -> (__m512, __m512) {
    // SAFETY: the caller has 16 bytes there.
    let packed = _mm512_cvtepu8_epi32(unsafe { _mm_loadu_si128(at.cast()) });
    // A permutation looks at the lowest 4 bits of a lane only, so that nothing has to be masked.
    (
        _mm512_permutexvar_ps(packed, weights),
        _mm512_permutexvar_ps(_mm512_srli_epi32::<4>(packed), weights),
    )
}
