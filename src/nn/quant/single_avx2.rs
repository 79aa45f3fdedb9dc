//! Products of 8-bit activations with a single column, with AVX2: the scales of weights and
//! activations, and what minima and offsets take away, are computed once for a block of 256, eight
//! parts in a register, and what comes next is fetched ahead.

use std::arch::x86_64::*;

use super::BLOCK;
use super::avx2::{added, fetch_ahead, half};
use super::eight::RoundedColumn;

/// Parts of 32 weights in a block.
const PARTS: usize = 8;

/// What there is of a column beside a block of weights.
#[derive(Clone, Copy)]
pub(super) struct Beside {
    /// The parts' scales.
    each: __m256,
    /// The sums of the parts' activations.
    shares: __m256,
    /// The sums of each sixteen rounded activations.
    sums: [__m256; 2],
}

/// A way to store weights in blocks of 256.
///
/// # Safety
/// The methods use AVX2, FMA and F16C without saying so, since traits can't: they are called from
/// [`dot`] only, and inlined there.
pub(super) unsafe trait Single {
    const BYTES: usize;
    /// The scales of a block's parts, times the activations'.
    type Scales: Copy + Default;
    /// A block's scales, and `sum` without what is to be taken away from the block's products.
    ///
    /// # Safety
    /// As the trait says; `block` points to a block.
    unsafe fn head(block: *const u8, beside: &Beside, sum: __m256) -> (Self::Scales, __m256);
    /// The bytes of a part, and the scale of each four of them.
    ///
    /// # Safety
    /// As the trait says; `block` points to a block.
    unsafe fn part<const PART: usize>(block: *const u8, scales: &Self::Scales)
    -> (__m256i, __m256);
}

pub(super) struct Q4K;
pub(super) struct Q6K;

/// The dot product of each row of weights with a column.
///
/// # Safety
/// The processor has AVX2, FMA and F16C; rows and column hold the same number of weights.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn dot<F: Single, const R: usize>(
    rows: &[&[u8]; R],
    column: &RoundedColumn,
) -> [f32; R] {
    let length = rows[0].len();
    let mut sums = [[_mm256_setzero_ps(); 1]; R];
    let mut scales = [F::Scales::default(); R];
    for index in 0..length / F::BYTES {
        let first = index * PARTS;
        // SAFETY: every pointer stays within block `index` of a row or of the column; what is
        // fetched ahead may lie anywhere.
        unsafe {
            let at = |r: usize| rows[r].as_ptr().add(index * F::BYTES);
            let whole = column.sums.as_ptr().add(2 * first);
            let whole = |half: usize| _mm256_loadu_si256(whole.add(PARTS * half).cast());
            let beside = Beside {
                each: _mm256_loadu_ps(column.each.as_ptr().add(first)),
                shares: _mm256_loadu_ps(column.shares.as_ptr().add(first)),
                sums: [0, 1].map(|half| _mm256_cvtepi32_ps(whole(half))),
            };
            for r in 0..R {
                for line in (0..F::BYTES).step_by(64) {
                    fetch_ahead(at(r).wrapping_add(line), R * length);
                }
                (scales[r], sums[r][0]) = F::head(at(r), &beside, sums[r][0]);
            }
            // From memory a scale is spread over a register while it is read; the compiler would
            // keep all in registers, and spread them by shuffling.
            let scales = std::hint::black_box(&scales);
            // Parts differ in their shifts, so each has code of its own.
            macro_rules! parts {
                ($($part:literal)*) => {$(
                    let x = column.numbers.as_ptr().add((first + $part) * BLOCK);
                    let x = _mm256_loadu_si256(x.cast());
                    for r in 0..R {
                        let (bytes, scale) = F::part::<$part>(at(r), &scales[r]);
                        // A pair is at most 2 * 63 * 127.
                        let pairs = _mm256_maddubs_epi16(bytes, x);
                        let fours = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
                        let sum = _mm256_cvtepi32_ps(fours);
                        sums[r][0] = _mm256_fmadd_ps(sum, scale, sums[r][0]);
                    }
                )*};
            }
            parts!(0 1 2 3 4 5 6 7);
        }
    }
    added(&sums).map(|[sum]| sum)
}

/// Bytes of a block of `Q8_0`: an f16 scale and 32 weights.
const BYTES: usize = 34;

/// The dot product of each row of `Q8_0` with the column `high + low`: weights are read once, and
/// the products put together as whole numbers.
///
/// # Safety
/// The processor has AVX2, FMA and F16C; rows and column hold the same number of weights; the
/// scales of `low` are 256th parts of those of `high`.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn dot_q8_0<const R: usize>(
    rows: &[&[u8]; R],
    high: &RoundedColumn,
    low: &RoundedColumn,
) -> [f32; R] {
    let length = rows[0].len();
    let mut sums = [[_mm256_setzero_ps(); 1]; R];
    for index in 0..length / BYTES {
        // SAFETY: every pointer stays within block `index` of a row or of the column.
        unsafe {
            let x = |column: &RoundedColumn| {
                _mm256_loadu_si256(column.numbers.as_ptr().add(index * BLOCK).cast())
            };
            let (upper, lower) = (x(high), x(low));
            let scale = *low.each.as_ptr().add(index);
            for r in 0..R {
                let block = rows[r].as_ptr().add(index * BYTES);
                fetch_ahead(block, R * length);
                let bytes = _mm256_loadu_si256(block.add(2).cast());
                // The sign moves from the weight to the activation; a pair is at most 2 * 128 * 127.
                let sizes = _mm256_sign_epi8(bytes, bytes);
                let products = |x: __m256i| {
                    let pairs = _mm256_maddubs_epi16(sizes, _mm256_sign_epi8(x, bytes));
                    _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))
                };
                // At most 4 * 128 * 127 * 256 and as much again: no more than 25 bits.
                let upper = _mm256_slli_epi32::<8>(products(upper));
                let sum = _mm256_cvtepi32_ps(_mm256_add_epi32(upper, products(lower)));
                let scale = _mm256_set1_ps(half(block) * scale);
                sums[r][0] = _mm256_fmadd_ps(sum, scale, sums[r][0]);
            }
        }
    }
    added(&sums).map(|[sum]| sum)
}

// SAFETY: the methods stay within the block that the caller promises.
unsafe impl Single for Q4K {
    const BYTES: usize = 144;
    type Scales = [f32; 8];

    #[inline(always)]
    unsafe fn head(block: *const u8, beside: &Beside, sum: __m256) -> ([f32; 8], __m256) {
        // SAFETY: see above.
        unsafe {
            // The block's scale and minimum, then twelve bytes: six bits of each of the first four
            // scales, of the first four minima, and four bits of each of the others, whose upper
            // two stand above the first ones.
            let all = _mm_loadu_si128(block.cast());
            let both = _mm_cvtph_ps(all);
            let scale = _mm256_broadcastss_ps(both);
            let minimum = _mm256_broadcastss_ps(_mm_movehdup_ps(both));
            let order = _mm_setr_epi8(4, 5, 6, 7, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15);
            let low = _mm_shuffle_epi8(all, order);
            let low = _mm_blend_epi16::<0xc0>(low, _mm_srli_epi16::<4>(low));
            let six = 0x3f3f_3f3f;
            let low = _mm_and_si128(low, _mm_setr_epi32(six, 0x0f0f_0f0f, six, 0x0f0f_0f0f));
            let order = _mm_setr_epi8(-1, -1, -1, -1, 4, 5, 6, 7, -1, -1, -1, -1, 8, 9, 10, 11);
            let high = _mm_srli_epi16::<2>(_mm_shuffle_epi8(all, order));
            let bytes = _mm_or_si128(low, _mm_and_si128(high, _mm_set1_epi8(0x30)));
            let floats = |bytes| _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes));
            let minima = _mm256_mul_ps(floats(_mm_unpackhi_epi64(bytes, bytes)), minimum);
            let sum = _mm256_fnmadd_ps(minima, beside.shares, sum);
            let mut to = [0.0; 8];
            let scales = _mm256_mul_ps(_mm256_mul_ps(floats(bytes), scale), beside.each);
            _mm256_storeu_ps(to.as_mut_ptr(), scales);
            (to, sum)
        }
    }

    #[inline(always)]
    unsafe fn part<const PART: usize>(block: *const u8, scales: &[f32; 8]) -> (__m256i, __m256) {
        // SAFETY: see above.
        unsafe {
            let packed = _mm256_loadu_si256(block.add(16 + PART / 2 * BLOCK).cast());
            let packed = match PART % 2 {
                0 => packed,
                _ => _mm256_srli_epi16::<4>(packed),
            };
            let bytes = _mm256_and_si256(packed, _mm256_set1_epi8(15));
            (bytes, _mm256_set1_ps(scales[PART]))
        }
    }
}

// SAFETY: the methods stay within the block that the caller promises.
unsafe impl Single for Q6K {
    const BYTES: usize = 210;
    /// Two a part.
    type Scales = [f32; 16];

    #[inline(always)]
    unsafe fn head(block: *const u8, beside: &Beside, mut sum: __m256) -> ([f32; 16], __m256) {
        // SAFETY: see above.
        unsafe {
            let own = _mm256_set1_ps(half(block.add(208)));
            let twice = [
                _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3),
                _mm256_setr_epi32(4, 4, 5, 5, 6, 6, 7, 7),
            ];
            let mut to = [0.0; 16];
            for i in 0..2 {
                let bytes = _mm_loadl_epi64(block.add(192 + 8 * i).cast());
                let bytes = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
                let each = _mm256_permutevar8x32_ps(beside.each, twice[i]);
                let scales = _mm256_mul_ps(_mm256_mul_ps(bytes, own), each);
                // Weights are stored with 32 added.
                let extra = _mm256_mul_ps(beside.sums[i], _mm256_set1_ps(32.0));
                sum = _mm256_fnmadd_ps(extra, scales, sum);
                _mm256_storeu_ps(to.as_mut_ptr().add(8 * i), scales);
            }
            (to, sum)
        }
    }

    #[inline(always)]
    unsafe fn part<const PART: usize>(block: *const u8, scales: &[f32; 16]) -> (__m256i, __m256) {
        // SAFETY: see above.
        unsafe {
            let (at, quarter) = (PART / 4, PART % 4);
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
            let [first, second] = [0, 1].map(|i| _mm256_set1_ps(scales[2 * PART + i]));
            (bytes, _mm256_blend_ps::<0xf0>(first, second))
        }
    }
}
