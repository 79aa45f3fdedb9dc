//! Products with activations of 8 bits, by AVX-512's instruction that multiplies four pairs of
//! bytes and adds them up (VNNI).

use std::arch::x86_64::*;

use super::avx2::half;
use super::eight::{RoundedColumn, SCALES};
use super::{BLOCK, scales_q4k};

/// A way to store weights.
///
/// # Safety
/// The methods use AVX-512F, BW, VL, VNNI, AVX2 and F16C without saying so, since traits can't:
/// they are called from [`dot`] and from `eight_tile` only, and inlined there.
pub(super) unsafe trait Format {
    const BYTES: usize;
    /// Blocks of weights in a row are counted in this many parts of 32.
    const PARTS: usize;
    /// Which two parts are worked on together, in turn.
    const PAIRS: &'static [(usize, usize)];
    /// What is to be taken away from each weight's byte.
    const OFFSET: i8;
    /// Whether each 16 weights have a scale of their own.
    const HALVES: bool = false;
    /// Whether there are [`Format::minima`].
    const MINIMA: bool = false;
    type Head: Copy;
    /// # Safety
    /// As the trait says; `block` points to a block of `PARTS` parts.
    unsafe fn head(block: *const u8) -> Self::Head;
    /// The bytes of a pair of parts, and the scale of each four of them.
    ///
    /// # Safety
    /// As the trait says; `block` points to a block, whose head is `head`.
    unsafe fn pair(block: *const u8, head: Self::Head, pair: usize) -> (__m512i, __m512);
    /// What is to be taken away from each weight of the eight parts, after scaling.
    ///
    /// # Safety
    /// As the trait says.
    unsafe fn minima(_: Self::Head) -> Option<__m512> {
        None
    }
    /// As [`Format::pair`], where the row ends after the first of the two parts.
    ///
    /// # Safety
    /// As [`Format::pair`].
    unsafe fn last(_: *const u8) -> (__m512i, __m512) {
        unreachable!("blocks of 256 weights are whole pairs")
    }
}

/// What there is of a column beside a block of 256 weights.
#[derive(Clone, Copy)]
pub(super) struct Beside {
    /// The scales of the eight parts.
    pub each: *const f32,
    /// The sums of the parts' activations.
    pub shares: *const f32,
    /// The sums of each sixteen rounded activations.
    pub sums: *const i32,
}

/// A [`Format`] of blocks of 256 whose scales can be multiplied with those of a column at once.
///
/// # Safety
/// As [`Format`].
pub(super) unsafe trait Scaled: Format {
    /// What a head is multiplied by.
    type Spread: Copy;
    /// What a head is to be multiplied by, from what lies beside its block.
    ///
    /// # Safety
    /// As the trait says; the pointers are to eight and sixteen numbers.
    unsafe fn spread(beside: Beside) -> Self::Spread;
    /// The head whose scales are multiplied, and `sum` after minima were taken away.
    ///
    /// # Safety
    /// As the trait says.
    unsafe fn scaled(head: Self::Head, spread: Self::Spread, sum: __m512) -> (Self::Head, __m512);
}

pub(super) struct Q8_0;
pub(super) struct Q4K;
pub(super) struct Q6K;

/// The dot product of each row of weights with each column.
///
/// # Safety
/// The processor has AVX-512F, BW, VL and VNNI; rows and columns hold the same number of weights.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn dot<F: Format, const R: usize, const N: usize>(
    rows: &[&[u8]; R],
    columns: &[RoundedColumn; N],
) -> [[f32; N]; R] {
    let mut sums = [[_mm512_setzero_ps(); N]; R];
    let length = rows[0].len();
    for block in 0..length / F::BYTES {
        // SAFETY: every pointer stays within block `block` of a row or of a column.
        unsafe {
            let at = |r: usize| rows[r].as_ptr().wrapping_add(block * F::BYTES);
            let mut heads = [F::head(at(0)); R];
            for r in 1..R {
                heads[r] = F::head(at(r));
            }
            for (i, &(first, second)) in F::PAIRS.iter().enumerate() {
                let mut weights = [(_mm512_setzero_si512(), _mm512_setzero_ps()); R];
                for r in 0..R {
                    weights[r] = F::pair(at(r), heads[r], i);
                }
                let parts = (block * F::PARTS + first, block * F::PARTS + second);
                add::<F, R, N>(&weights, columns, parts, &mut sums);
            }
            for r in 0..R {
                if let Some(minima) = F::minima(heads[r]) {
                    for n in 0..N {
                        let shares = columns[n].shares.as_ptr().add(block * F::PARTS);
                        let shares = _mm512_maskz_loadu_ps(0xff, shares);
                        sums[r][n] = _mm512_fnmadd_ps(minima, shares, sums[r][n]);
                    }
                }
            }
        }
    }
    if !length.is_multiple_of(F::BYTES) {
        let block = length / F::BYTES;
        let mut weights = [(_mm512_setzero_si512(), _mm512_setzero_ps()); R];
        // SAFETY: half a block is left of each row, and a whole one of each column.
        unsafe {
            for r in 0..R {
                weights[r] = F::last(rows[r].as_ptr().add(block * F::BYTES));
            }
            let parts = (block * F::PARTS, block * F::PARTS + 1);
            add::<F, R, N>(&weights, columns, parts, &mut sums);
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

/// Adds the products of two parts of each row with those of each column.
///
/// # Safety
/// As [`dot`]; the columns have these parts.
#[inline(always)]
unsafe fn add<F: Format, const R: usize, const N: usize>(
    weights: &[(__m512i, __m512); R],
    columns: &[RoundedColumn; N],
    (first, second): (usize, usize),
    sums: &mut [[__m512; N]; R],
) {
    // SAFETY: the caller's promise.
    unsafe {
        for n in 0..N {
            let numbers = columns[n].numbers.as_ptr();
            let scales = columns[n].scales.as_ptr();
            let (x, scale) = if second == first + 1 {
                (
                    _mm512_loadu_si512(numbers.add(first * BLOCK).cast()),
                    _mm512_loadu_ps(scales.add(first * SCALES)),
                )
            } else {
                let x = _mm256_loadu_si256(numbers.add(first * BLOCK).cast());
                let y = _mm256_loadu_si256(numbers.add(second * BLOCK).cast());
                let s = _mm256_loadu_ps(scales.add(first * SCALES));
                let t = _mm256_loadu_ps(scales.add(second * SCALES));
                (
                    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(x), y),
                    _mm512_insertf32x8::<1>(_mm512_castps256_ps512(s), t),
                )
            };
            let zero = _mm512_setzero_si512();
            let start = if F::OFFSET == 0 {
                zero
            } else {
                let offset = _mm512_set1_epi8(F::OFFSET);
                _mm512_sub_epi32(zero, _mm512_dpbusd_epi32(zero, offset, x))
            };
            for r in 0..R {
                let (bytes, own) = weights[r];
                let sum = _mm512_cvtepi32_ps(_mm512_dpbusd_epi32(start, bytes, x));
                sums[r][n] = _mm512_fmadd_ps(sum, _mm512_mul_ps(own, scale), sums[r][n]);
            }
        }
    }
}

/// The f16 at `at`, in eight lanes.
#[inline(always)]
unsafe fn halves(at: *const u8) -> __m128i {
    // SAFETY: the caller has two bytes there.
    unsafe { _mm_set1_epi16(at.cast::<i16>().read_unaligned()) }
}

// SAFETY (all three): the methods stay within the block that the caller promises.
// SAFETY: the methods stay within the block that the caller promises.
unsafe impl Format for Q8_0 {
    /// Two of ggml's blocks.
    const BYTES: usize = 68;
    const PARTS: usize = 2;
    const PAIRS: &'static [(usize, usize)] = &[(0, 1)];
    /// Signed bytes become unsigned ones by their highest bit.
    const OFFSET: i8 = -128;
    type Head = ();

    #[inline(always)]
    unsafe fn head(_: *const u8) {}

    #[inline(always)]
    unsafe fn pair(block: *const u8, (): (), _: usize) -> (__m512i, __m512) {
        // SAFETY: see above.
        unsafe {
            let first = _mm256_loadu_si256(block.add(2).cast());
            let second = _mm256_loadu_si256(block.add(36).cast());
            let bytes = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(first), second);
            let scales = _mm256_set_m128i(halves(block.add(34)), halves(block));
            (
                _mm512_xor_si512(bytes, _mm512_set1_epi8(-128)),
                _mm512_cvtph_ps(scales),
            )
        }
    }

    #[inline(always)]
    unsafe fn last(block: *const u8) -> (__m512i, __m512) {
        // SAFETY: see above.
        unsafe {
            let bytes = _mm512_zextsi256_si512(_mm256_loadu_si256(block.add(2).cast()));
            let scales = _mm256_zextsi128_si256(halves(block));
            (
                _mm512_xor_si512(bytes, _mm512_set1_epi8(-128)),
                _mm512_cvtph_ps(scales),
            )
        }
    }
}

// SAFETY: the methods stay within the block that the caller promises.
unsafe impl Format for Q4K {
    const BYTES: usize = 144;
    const PARTS: usize = 8;
    /// 64 bytes hold two parts in their low halves and the two between them in the high ones.
    const PAIRS: &'static [(usize, usize)] = &[(0, 2), (1, 3), (4, 6), (5, 7)];
    const OFFSET: i8 = 0;
    const MINIMA: bool = true;
    /// Scales and minima of the parts.
    type Head = (__m512, __m512);

    #[inline(always)]
    unsafe fn head(block: *const u8) -> Self::Head {
        // SAFETY: see above.
        unsafe {
            let (scales, minima) = scales_q4k(&*block.add(4).cast());
            let (scales, minima) = (u64::from_le_bytes(scales), u64::from_le_bytes(minima));
            let bytes = _mm_set_epi64x(minima.cast_signed(), scales.cast_signed());
            let numbers = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes));
            let both = _mm_cvtph_ps(_mm_cvtsi32_si128(block.cast::<i32>().read_unaligned()));
            let which = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
            let both = _mm512_permutexvar_ps(which, _mm512_castps128_ps512(both));
            let all = _mm512_mul_ps(numbers, both);
            // Minima alone in the lower half, where the sums of the eight parts will be.
            let minima = _mm512_zextps256_ps512(_mm512_extractf32x8_ps::<1>(all));
            (all, minima)
        }
    }

    #[inline(always)]
    unsafe fn pair(block: *const u8, (scales, _): Self::Head, pair: usize) -> (__m512i, __m512) {
        // SAFETY: see above.
        unsafe {
            let packed = _mm512_loadu_si512(block.add(16 + pair / 2 * 64).cast());
            let packed = match pair % 2 {
                0 => packed,
                _ => _mm512_srli_epi16::<4>(packed),
            };
            let (first, second) = Self::PAIRS[pair];
            let lower = _mm256_set1_epi32(first as i32);
            let upper = _mm256_set1_epi32(second as i32);
            let which = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(lower), upper);
            (
                _mm512_and_si512(packed, _mm512_set1_epi8(15)),
                _mm512_permutexvar_ps(which, scales),
            )
        }
    }

    #[inline(always)]
    unsafe fn minima((_, minima): Self::Head) -> Option<__m512> {
        Some(minima)
    }
}

// SAFETY: nothing but what lies beside the block is read.
unsafe impl Scaled for Q4K {
    type Spread = __m512;

    #[inline(always)]
    unsafe fn spread(beside: Beside) -> __m512 {
        // SAFETY: see above.
        unsafe {
            let shares = _mm256_sub_ps(_mm256_setzero_ps(), _mm256_loadu_ps(beside.shares));
            let each = _mm512_castps256_ps512(_mm256_loadu_ps(beside.each));
            _mm512_insertf32x8::<1>(each, shares)
        }
    }

    #[inline(always)]
    unsafe fn scaled(
        (all, minima): Self::Head,
        spread: __m512,
        sum: __m512,
    ) -> (Self::Head, __m512) {
        // SAFETY: see above.
        unsafe {
            let all = _mm512_mul_ps(all, spread);
            // Minima lie in the upper half.
            ((all, minima), _mm512_mask_add_ps(sum, 0xff00, sum, all))
        }
    }
}

/// How far the high bits of `Q6_K`'s first and second pair of parts are shifted, to the left and to
/// the right.
static SHIFTS: [[i16; 32]; 2] = {
    let mut shifts = [[4; 32], [0; 32]];
    let mut i = 16;
    while i < 32 {
        shifts[0][i] = 2;
        shifts[1][i] = 2;
        i += 1;
    }
    shifts
};

// SAFETY: the methods stay within the block that the caller promises.
unsafe impl Format for Q6K {
    const BYTES: usize = 210;
    const PARTS: usize = 8;
    const PAIRS: &'static [(usize, usize)] = &[(0, 1), (2, 3), (4, 5), (6, 7)];
    const OFFSET: i8 = 32;
    const HALVES: bool = true;
    /// Scales of each 16 weights.
    type Head = __m512;

    #[inline(always)]
    unsafe fn head(block: *const u8) -> __m512 {
        // SAFETY: see above.
        unsafe {
            let bytes = _mm_loadu_si128(block.add(192).cast());
            let numbers = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
            _mm512_mul_ps(numbers, _mm512_set1_ps(half(block.add(208))))
        }
    }

    #[inline(always)]
    unsafe fn pair(block: *const u8, scales: __m512, pair: usize) -> (__m512i, __m512) {
        // SAFETY: see above.
        unsafe {
            let low = _mm512_loadu_si512(block.add(64 * (pair / 2)).cast());
            let high = _mm256_loadu_si256(block.add(128 + 32 * (pair / 2)).cast());
            let high = _mm512_broadcast_i64x4(high);
            // Two bits of each byte for each of the four parts go to bits 4 and 5.
            let shift = _mm512_loadu_si512(SHIFTS[pair % 2].as_ptr().cast());
            let (low, high) = match pair % 2 {
                0 => (low, _mm512_sllv_epi16(high, shift)),
                _ => (_mm512_srli_epi16::<4>(low), _mm512_srlv_epi16(high, shift)),
            };
            let bytes = _mm512_or_si512(
                _mm512_and_si512(low, _mm512_set1_epi8(15)),
                _mm512_and_si512(high, _mm512_set1_epi8(48)),
            );
            let lanes = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
            let which = _mm512_add_epi32(lanes, _mm512_set1_epi32(4 * pair as i32));
            (bytes, _mm512_permutexvar_ps(which, scales))
        }
    }
}

// SAFETY: nothing but what lies beside the block is read.
unsafe impl Scaled for Q6K {
    type Spread = __m512;

    #[inline(always)]
    unsafe fn spread(beside: Beside) -> __m512 {
        // SAFETY: see above.
        unsafe {
            let each = _mm512_castps256_ps512(_mm256_loadu_ps(beside.each));
            let which = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
            _mm512_permutexvar_ps(which, each)
        }
    }

    #[inline(always)]
    unsafe fn scaled(head: __m512, spread: __m512, sum: __m512) -> (__m512, __m512) {
        // SAFETY: see above.
        unsafe { (_mm512_mul_ps(head, spread), sum) }
    }
}
