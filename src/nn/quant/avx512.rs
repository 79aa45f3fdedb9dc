//! The kernels with AVX-512 and its dot-product instructions (VNNI), two blocks at a time.

use std::arch::x86_64::*;

use super::{BLOCK, Column};

pub(super) const Q4_0: u8 = 0;
pub(super) const Q4_1: u8 = 1;
pub(super) const Q8_0: u8 = 2;

/// The lanes of eight blocks' (scale, minimum) pairs that hold the scales of the `n`th two blocks.
static SCALE_LANES: [[i32; 16]; 4] = [
    [0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 2, 2, 2, 2, 2, 2],
    [4, 4, 4, 4, 4, 4, 4, 4, 6, 6, 6, 6, 6, 6, 6, 6],
    [8, 8, 8, 8, 8, 8, 8, 8, 10, 10, 10, 10, 10, 10, 10, 10],
    [
        12, 12, 12, 12, 12, 12, 12, 12, 14, 14, 14, 14, 14, 14, 14, 14,
    ],
];

/// The dot product of a row of weights, stored as `KIND`, with each column.
///
/// # Safety
/// The processor has AVX-512 F, BW, VL and VNNI, and F16C; `row` and `columns` hold the same, even
/// number of blocks; the columns' scales are padded to a multiple of 16.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
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
    let mut sums = [_mm512_setzero_ps(); N];
    let zero = _mm512_setzero_si512();
    for first in (0..blocks).step_by(8) {
        let count = (blocks - first).min(8);
        // SAFETY: every pointer stays within blocks first..first + count of `row` or of a column,
        // or within the 16 padded scales of those blocks.
        unsafe {
            let start = row.as_ptr().add(first * bytes);
            let scales = scales::<KIND>(start, bytes, count);
            let mut products = [_mm512_setzero_ps(); N];
            for n in 0..N {
                let theirs = _mm512_loadu_ps(columns[n].scales.as_ptr().add(2 * first));
                products[n] = _mm512_mul_ps(scales, theirs);
                if KIND != Q8_0 {
                    sums[n] = _mm512_mask_add_ps(sums[n], 0xAAAA, sums[n], products[n]);
                }
            }
            for (pair, lanes) in SCALE_LANES.iter().enumerate().take(count / 2) {
                let block = start.add(2 * pair * bytes);
                let lanes = _mm512_loadu_si512(lanes.as_ptr().cast());
                let weights = match KIND {
                    Q4_0 => nibbles(block.add(2), block.add(2 + 18)),
                    Q4_1 => nibbles(block.add(4), block.add(4 + 20)),
                    _ => {
                        let low = _mm256_loadu_si256(block.add(2).cast());
                        let high = _mm256_loadu_si256(block.add(2 + 34).cast());
                        _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high)
                    }
                };
                for n in 0..N {
                    let x = columns[n].values.as_ptr().add((first + 2 * pair) * BLOCK);
                    let x = _mm512_loadu_si512(x.cast());
                    let exact = if KIND == Q8_0 {
                        let negative = _mm512_movepi8_mask(weights);
                        let signed = _mm512_mask_sub_epi8(x, negative, zero, x);
                        _mm512_dpbusd_epi32(zero, _mm512_abs_epi8(weights), signed)
                    } else {
                        _mm512_dpbusd_epi32(zero, weights, x)
                    };
                    let scale = _mm512_permutexvar_ps(lanes, products[n]);
                    sums[n] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(exact), scale, sums[n]);
                }
            }
        }
    }
    std::array::from_fn(|n| _mm512_reduce_add_ps(sums[n]))
}

/// Scale and minimum of `count` blocks, in turn, in the first lanes; zero in the others.
#[inline]
#[target_feature(enable = "avx512f,avx512vl,f16c")]
unsafe fn scales<const KIND: u8>(start: *const u8, bytes: usize, count: usize) -> __m512 {
    let mut raw = [0u32; 8];
    for (block, raw) in raw.iter_mut().enumerate().take(count) {
        // SAFETY: the caller has `count` blocks of `bytes` bytes at `start`.
        unsafe {
            let at = start.add(block * bytes);
            *raw = if KIND == Q4_1 {
                at.cast::<u32>().read_unaligned()
            } else {
                u32::from(at.cast::<u16>().read_unaligned())
            };
        }
    }
    // SAFETY: `raw` is 32 bytes.
    let scales = _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(raw.as_ptr().cast()) });
    if KIND == Q4_0 {
        let eights = _mm512_mul_ps(_mm512_moveldup_ps(scales), _mm512_set1_ps(-8.0));
        _mm512_mask_blend_ps(0xAAAA, scales, eights)
    } else {
        scales
    }
}

/// 64 bytes from two blocks' nibbles: of each block all the low ones, then all the high ones.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn nibbles(first: *const u8, second: *const u8) -> __m512i {
    // SAFETY: the caller has 16 bytes at both.
    let (first, second) = unsafe {
        (
            _mm_loadu_si128(first.cast()),
            _mm_loadu_si128(second.cast()),
        )
    };
    let both = _mm512_castsi256_si512(_mm256_set_m128i(second, first));
    let twice = _mm512_shuffle_i64x2::<0b01_01_00_00>(both, both);
    let shifted = _mm512_srlv_epi64(twice, _mm512_setr_epi64(0, 0, 4, 4, 0, 0, 4, 4));
    _mm512_and_si512(shifted, _mm512_set1_epi8(15))
}
