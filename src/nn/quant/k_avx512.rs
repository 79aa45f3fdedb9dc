//! `Q2_K`, `Q3_K` and `Q5_K` for [`super::single_avx512`], which multiplies a single column, and `Q5_K` for
//! [`super::eight_tile`], which multiplies many.

use std::arch::x86_64::*;

use super::avx2::half;
use super::eight_avx512::{Beside, Format, Q4K, Q6K, Scaled};
use super::unpack::q3_k_scales;

pub(super) struct Q2K;
pub(super) struct Q3K;
pub(super) struct Q5K;

/// Which bit of the fifth bits is each part's, for each pair of parts.
static FIFTHS: [[u8; 64]; 4] = bits(Q4K::PAIRS);
/// Which bit of the third bits is each part's.
static THIRDS: [[u8; 64]; 4] = bits(QUARTERS);
/// 64 bytes hold four pairs of parts, two bits of each byte a pair.
const QUARTERS: &[(usize, usize)] = &[(0, 4), (1, 5), (2, 6), (3, 7)];

const fn bits(pairs: &[(usize, usize)]) -> [[u8; 64]; 4] {
    let mut bits = [[0; 64]; 4];
    let mut i = 0;
    while i < 4 * 64 {
        let (pair, at) = (i / 64, i % 64);
        let (first, second) = pairs[pair];
        bits[pair][at] = 1 << if at < 32 { first } else { second };
        i += 1;
    }
    bits
}

// SAFETY: the methods stay within the block that the caller promises.
unsafe impl Format for Q5K {
    const BYTES: usize = 176;
    const PARTS: usize = 8;
    const PAIRS: &'static [(usize, usize)] = Q4K::PAIRS;
    const OFFSET: i8 = 0;
    const MINIMA: bool = true;
    /// Scales and minima of the parts, which lie as in `Q4_K`.
    type Head = <Q4K as Format>::Head;

    #[inline(always)]
    unsafe fn head(block: *const u8) -> Self::Head {
        // SAFETY: see above.
        unsafe { Q4K::head(block) }
    }

    #[inline(always)]
    unsafe fn pair(block: *const u8, head: Self::Head, pair: usize) -> (__m512i, __m512) {
        // SAFETY: see above. What follows the fifth bits lies as in `Q4_K` behind the head.
        unsafe {
            let (four, scales) = Q4K::pair(block.add(32), head, pair);
            let fifths = _mm256_loadu_si256(block.add(16).cast());
            let bits = _mm512_loadu_si512(FIFTHS[pair].as_ptr().cast());
            let set = _mm512_test_epi8_mask(_mm512_broadcast_i64x4(fifths), bits);
            let bytes = _mm512_mask_add_epi8(four, set, four, _mm512_set1_epi8(16));
            (bytes, scales)
        }
    }

    #[inline(always)]
    unsafe fn minima(head: Self::Head) -> Option<__m512> {
        // SAFETY: see above.
        unsafe { Q4K::minima(head) }
    }
}

// SAFETY: nothing but what lies beside the block is read.
unsafe impl Scaled for Q5K {
    type Spread = <Q4K as Scaled>::Spread;

    #[inline(always)]
    unsafe fn spread(beside: Beside) -> Self::Spread {
        // SAFETY: see above.
        unsafe { Q4K::spread(beside) }
    }

    #[inline(always)]
    unsafe fn scaled(head: Self::Head, spread: Self::Spread, sum: __m512) -> (Self::Head, __m512) {
        // SAFETY: see above.
        unsafe { Q4K::scaled(head, spread, sum) }
    }
}

// SAFETY: the methods stay within the block that the caller promises.
unsafe impl Format for Q2K {
    const BYTES: usize = 84;
    const PARTS: usize = 8;
    const PAIRS: &'static [(usize, usize)] = QUARTERS;
    const OFFSET: i8 = 0;
    const HALVES: bool = true;
    const MINIMA: bool = true;
    /// Scales and minima of each 16 weights.
    type Head = (__m512, __m512);

    #[inline(always)]
    unsafe fn head(block: *const u8) -> Self::Head {
        // SAFETY: see above.
        unsafe {
            let both = _mm512_cvtepu8_epi32(_mm_loadu_si128(block.cast()));
            let scales = _mm512_and_si512(both, _mm512_set1_epi32(15));
            let minima = _mm512_srli_epi32::<4>(both);
            let (own, minimum) = (half(block.add(80)), half(block.add(82)));
            (
                _mm512_mul_ps(_mm512_cvtepi32_ps(scales), _mm512_set1_ps(own)),
                _mm512_mul_ps(_mm512_cvtepi32_ps(minima), _mm512_set1_ps(minimum)),
            )
        }
    }

    #[inline(always)]
    unsafe fn pair(block: *const u8, (scales, _): Self::Head, pair: usize) -> (__m512i, __m512) {
        // SAFETY: see above.
        unsafe {
            let bytes = quarter(block.add(16), pair);
            (bytes, _mm512_permutexvar_ps(halves_of(pair), scales))
        }
    }
}

// SAFETY: nothing but what lies beside the block is read.
unsafe impl Scaled for Q2K {
    /// The parts' scales, twice each, and the sums of each 16 activations with them.
    type Spread = (__m512, __m512);

    #[inline(always)]
    unsafe fn spread(beside: Beside) -> Self::Spread {
        // SAFETY: see above.
        unsafe {
            let each = _mm512_castps256_ps512(_mm256_loadu_ps(beside.each));
            let which = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
            let each = _mm512_permutexvar_ps(which, each);
            let sums = _mm512_cvtepi32_ps(_mm512_loadu_si512(beside.sums.cast()));
            (each, _mm512_mul_ps(sums, each))
        }
    }

    #[inline(always)]
    unsafe fn scaled(
        (scales, minima): Self::Head,
        (each, shares): Self::Spread,
        sum: __m512,
    ) -> (Self::Head, __m512) {
        // SAFETY: see above.
        unsafe {
            let sum = _mm512_fnmadd_ps(minima, shares, sum);
            ((_mm512_mul_ps(scales, each), minima), sum)
        }
    }
}

/// Two bits of each of 64 bytes, those of a pair of [`QUARTERS`].
#[inline(always)]
unsafe fn quarter(at: *const u8, pair: usize) -> __m512i {
    // SAFETY: the caller has 64 bytes there, and what `Format` needs.
    unsafe {
        let shift = _mm_cvtsi32_si128(2 * pair as i32);
        let packed = _mm512_srl_epi16(_mm512_loadu_si512(at.cast()), shift);
        _mm512_and_si512(packed, _mm512_set1_epi8(3))
    }
}

/// Which of sixteen scales a pair of [`QUARTERS`] has, four lanes each.
#[inline(always)]
unsafe fn halves_of(pair: usize) -> __m512i {
    // SAFETY: the caller has what `Format` needs.
    unsafe {
        let lanes = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 8, 8, 8, 8, 9, 9, 9, 9);
        _mm512_add_epi32(lanes, _mm512_set1_epi32(2 * pair as i32))
    }
}

// SAFETY: the methods stay within the block that the caller promises.
unsafe impl Format for Q3K {
    const BYTES: usize = 110;
    const PARTS: usize = 8;
    const PAIRS: &'static [(usize, usize)] = QUARTERS;
    /// Without the third bit a weight is less by four.
    const OFFSET: i8 = 4;
    const HALVES: bool = true;
    /// Scales of each 16 weights.
    type Head = __m512;

    #[inline(always)]
    unsafe fn head(block: *const u8) -> __m512 {
        // SAFETY: see above.
        unsafe {
            let [low, high] = q3_k_scales(&*block.add(96).cast());
            let bytes = _mm_set_epi64x(high.cast_signed(), low.cast_signed());
            let whole = _mm512_sub_epi32(_mm512_cvtepu8_epi32(bytes), _mm512_set1_epi32(32));
            let own = _mm512_set1_ps(half(block.add(108)));
            _mm512_mul_ps(_mm512_cvtepi32_ps(whole), own)
        }
    }

    #[inline(always)]
    unsafe fn pair(block: *const u8, scales: __m512, pair: usize) -> (__m512i, __m512) {
        // SAFETY: see above.
        unsafe {
            let two = quarter(block.add(32), pair);
            let thirds = _mm256_loadu_si256(block.cast());
            let bits = _mm512_loadu_si512(THIRDS[pair].as_ptr().cast());
            let set = _mm512_test_epi8_mask(_mm512_broadcast_i64x4(thirds), bits);
            let bytes = _mm512_mask_add_epi8(two, set, two, _mm512_set1_epi8(4));
            (bytes, _mm512_permutexvar_ps(halves_of(pair), scales))
        }
    }
}

// SAFETY: nothing but what lies beside the block is read.
unsafe impl Scaled for Q3K {
    type Spread = __m512;

    #[inline(always)]
    unsafe fn spread(beside: Beside) -> __m512 {
        // SAFETY: see above.
        unsafe { Q6K::spread(beside) }
    }

    #[inline(always)]
    unsafe fn scaled(head: __m512, spread: __m512, sum: __m512) -> (__m512, __m512) {
        // SAFETY: see above.
        unsafe { Q6K::scaled(head, spread, sum) }
    }
}
