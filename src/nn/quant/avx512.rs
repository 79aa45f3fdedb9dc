//! The kernels with AVX-512.

// Registers are kept by index; iterating would hide which is which.
#![allow(clippy::needless_range_loop)]

use std::arch::x86_64::*;

use super::{BLOCK, scales_q4k};

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

pub(super) struct Q4_0;
pub(super) struct Q4_1;
pub(super) struct Q8_0;
pub(super) struct Q4K;
pub(super) struct Q6K;

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

/// The f16 at `at`.
#[inline(always)]
unsafe fn half(at: *const u8) -> f32 {
    // SAFETY: the caller has two bytes there, and the processor F16C.
    unsafe {
        let raw = i32::from(at.cast::<u16>().read_unaligned());
        _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(raw)))
    }
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

// SAFETY (all five): the methods stay within the block that the caller promises.
unsafe impl Format for Q4_0 {
    const BYTES: usize = 18;
    const PARTS: usize = 1;
    type Head = ();

    #[inline(always)]
    unsafe fn head(_: *const u8) {}

    #[inline(always)]
    unsafe fn part(block: *const u8, (): (), _: usize) -> (__m512, __m512) {
        // SAFETY: see above.
        unsafe {
            let eights = _mm512_sub_ps(numbers(), _mm512_set1_ps(8.0));
            let scale = _mm512_set1_ps(half(block));
            look_up(block.add(2), _mm512_mul_ps(eights, scale))
        }
    }
}

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

unsafe impl Format for Q8_0 {
    const BYTES: usize = 34;
    const PARTS: usize = 1;
    type Head = ();

    #[inline(always)]
    unsafe fn head(_: *const u8) {}

    #[inline(always)]
    unsafe fn part(block: *const u8, (): (), _: usize) -> (__m512, __m512) {
        // SAFETY: see above.
        unsafe {
            let scale = _mm512_set1_ps(half(block));
            let low = _mm512_cvtepi8_epi32(_mm_loadu_si128(block.add(2).cast()));
            let high = _mm512_cvtepi8_epi32(_mm_loadu_si128(block.add(18).cast()));
            (
                _mm512_mul_ps(_mm512_cvtepi32_ps(low), scale),
                _mm512_mul_ps(_mm512_cvtepi32_ps(high), scale),
            )
        }
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
    unsafe fn part(
        block: *const u8,
        (scales, minima): Self::Head,
        part: usize,
    ) -> (__m512, __m512) {
        // SAFETY: see above.
        unsafe {
            let scale = _mm512_set1_ps(scales[part]);
            let minimum = _mm512_set1_ps(minima[part]);
            let weights = _mm512_fmsub_ps(numbers(), scale, minimum);
            let at = block.add(16 + part / 2 * BLOCK);
            let shift = _mm_cvtsi32_si128((part % 2 * 4) as i32);
            let first = _mm512_cvtepu8_epi32(_mm_loadu_si128(at.cast()));
            let second = _mm512_cvtepu8_epi32(_mm_loadu_si128(at.add(16).cast()));
            (
                _mm512_permutexvar_ps(_mm512_srl_epi32(first, shift), weights),
                _mm512_permutexvar_ps(_mm512_srl_epi32(second, shift), weights),
            )
        }
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
    unsafe fn part(block: *const u8, scale: f32, part: usize) -> (__m512, __m512) {
        // SAFETY: see above.
        unsafe {
            let (at, quarter) = (part / 4, part % 4);
            let low = block.add(64 * at + 32 * (quarter % 2));
            let high = block.add(128 + 32 * at);
            let low_shift = _mm_cvtsi32_si128((quarter / 2 * 4) as i32);
            let high_shift = _mm_cvtsi32_si128((2 * quarter) as i32);
            let mut weights = [_mm512_setzero_ps(); 2];
            for i in 0..2 {
                let low = _mm512_cvtepu8_epi32(_mm_loadu_si128(low.add(16 * i).cast()));
                let high = _mm512_cvtepu8_epi32(_mm_loadu_si128(high.add(16 * i).cast()));
                let low = _mm512_and_si512(_mm512_srl_epi32(low, low_shift), _mm512_set1_epi32(15));
                let high =
                    _mm512_and_si512(_mm512_srl_epi32(high, high_shift), _mm512_set1_epi32(3));
                let whole = _mm512_or_si512(low, _mm512_slli_epi32::<4>(high));
                let signed = _mm512_sub_epi32(whole, _mm512_set1_epi32(32));
                let own = f32::from(*block.add(192 + 2 * part + i).cast::<i8>());
                weights[i] = _mm512_mul_ps(_mm512_cvtepi32_ps(signed), _mm512_set1_ps(scale * own));
            }
            (weights[0], weights[1])
        }
    }
}
