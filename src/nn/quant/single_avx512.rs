//! Products of 8-bit activations with a single column, as when a text is written: the scales of
//! weights and activations are multiplied once for a register of them, not once for each 64
//! weights, and what comes next is fetched ahead.

use std::arch::x86_64::*;

use super::BLOCK;
use super::eight::RoundedColumn;
use super::eight_avx512::{Beside, Scaled};

/// The dot product of each row of weights with a column, for blocks of 256.
///
/// # Safety
/// The processor has AVX-512F, BW, DQ, VL and VNNI; rows and column hold the same number of
/// weights.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn dot<F: Scaled, const R: usize>(
    rows: &[&[u8]; R],
    column: &RoundedColumn,
) -> [f32; R] {
    let length = rows[0].len();
    let mut sums = [_mm512_setzero_ps(); R];
    let zero = _mm512_setzero_si512();
    for index in 0..length / F::BYTES {
        let part = index * F::PARTS;
        // SAFETY: every pointer stays within block `index` of a row or of the column; what is
        // fetched ahead may lie anywhere.
        unsafe {
            let at = |r: usize| rows[r].as_ptr().wrapping_add(index * F::BYTES);
            let spread = F::spread(Beside {
                each: column.each.as_ptr().add(part),
                shares: column.shares.as_ptr().add(part),
                sums: column.sums.as_ptr().add(2 * part),
            });
            let mut heads = [F::head(at(0)); R];
            for r in 0..R {
                // The rows that come next lie behind these.
                let next = at(r).wrapping_add(R * length);
                for line in (0..F::BYTES).step_by(64) {
                    _mm_prefetch::<_MM_HINT_T0>(next.wrapping_add(line).cast());
                }
                heads[r] = F::head(at(r));
                (heads[r], sums[r]) = F::scaled(heads[r], spread, sums[r]);
            }
            for (i, &(first, second)) in F::PAIRS.iter().enumerate() {
                let numbers = column.numbers.as_ptr();
                let x = if second == first + 1 {
                    _mm512_loadu_si512(numbers.add((part + first) * BLOCK).cast())
                } else {
                    let x = _mm256_loadu_si256(numbers.add((part + first) * BLOCK).cast());
                    let y = _mm256_loadu_si256(numbers.add((part + second) * BLOCK).cast());
                    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(x), y)
                };
                let start = match F::OFFSET {
                    0 => zero,
                    offset => {
                        let offset = _mm512_dpbusd_epi32(zero, _mm512_set1_epi8(offset), x);
                        _mm512_sub_epi32(zero, offset)
                    }
                };
                for r in 0..R {
                    let (bytes, scale) = F::pair(at(r), heads[r], i);
                    let sum = _mm512_cvtepi32_ps(_mm512_dpbusd_epi32(start, bytes, x));
                    sums[r] = _mm512_fmadd_ps(sum, scale, sums[r]);
                }
            }
        }
    }
    std::array::from_fn(|r| _mm512_reduce_add_ps(sums[r]))
}

/// Bytes of a block of `Q8_0`: an f16 scale and 32 weights.
const BYTES: usize = 34;
/// Blocks whose scales are computed together, one a lane.
const CHUNK: usize = 16;

/// Which two of a chunk's scales a pair of blocks has, eight lanes each.
static LANES: [[i32; 16]; CHUNK / 2] = {
    let mut lanes = [[0; 16]; CHUNK / 2];
    let mut i = 0;
    while i < 16 * lanes.len() {
        lanes[i / 16][i % 16] = (i / 8) as i32;
        i += 1;
    }
    lanes
};

/// The scales of `count` blocks from `first` on, as they lie in the file.
///
/// # Safety
/// Every row has these blocks.
#[inline(always)]
unsafe fn scales<const R: usize>(
    rows: &[*const u8; R],
    first: usize,
    count: usize,
    to: &mut [[u16; CHUNK]; R],
) {
    for r in 0..R {
        for i in 0..count {
            // SAFETY: the caller's promise.
            to[r][i] = unsafe {
                rows[r]
                    .add((first + i) * BYTES)
                    .cast::<u16>()
                    .read_unaligned()
            };
        }
    }
}

/// The dot product of each row of `Q8_0` with the column `high + low`: the weights are multiplied
/// with both while they are in registers, and the products put together as whole numbers.
///
/// # Safety
/// The processor has AVX-512F, BW, DQ, VL and VNNI; rows and column hold the same number of
/// weights; the scales of `low` are 256th parts of those of `high`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn dot_q8_0<const R: usize>(
    rows: &[&[u8]; R],
    high: &RoundedColumn,
    low: &RoundedColumn,
) -> [f32; R] {
    let length = rows[0].len();
    let blocks = length / BYTES;
    let rows: [*const u8; R] = std::array::from_fn(|r| rows[r].as_ptr());
    let mut sums = [_mm512_setzero_ps(); R];
    // Scales are copied together a chunk ahead, so that reading them as one does not wait for
    // sixteen writes.
    let mut raw = [[[0u16; CHUNK]; R]; 2];
    // SAFETY: the rows have these blocks.
    unsafe { scales(&rows, 0, CHUNK.min(blocks), &mut raw[0]) };
    for first in (0..blocks).step_by(CHUNK) {
        let (count, next) = (CHUNK.min(blocks - first), first + CHUNK);
        let (even, odd) = raw.split_at_mut(1);
        let (now, then) = match (first / CHUNK).is_multiple_of(2) {
            true => (&even[0], &mut odd[0]),
            false => (&odd[0], &mut even[0]),
        };
        // SAFETY: pointers stay within a row's blocks from `first` on, or, in columns, within
        // those that fill up an even number; masks keep out what is behind them.
        unsafe {
            if next + CHUNK <= blocks {
                scales(&rows, next, CHUNK, then);
            } else if next < blocks {
                scales(&rows, next, blocks - next, then);
            }
            let there = ((1u32 << count) - 1) as __mmask16;
            let x_scales = _mm512_maskz_loadu_ps(there, low.each.as_ptr().add(first));
            // Weights are multiplied with `low` as unsigned bytes, that is with 128 added.
            let shares = _mm512_maskz_loadu_ps(there, low.shares.as_ptr().add(first));
            let shares = _mm512_mul_ps(shares, _mm512_set1_ps(-128.0));
            let mut own = [_mm512_setzero_ps(); R];
            for r in 0..R {
                let half = _mm256_loadu_si256(now[r].as_ptr().cast());
                let scale = _mm512_maskz_cvtph_ps(there, half);
                sums[r] = _mm512_fmadd_ps(scale, shares, sums[r]);
                own[r] = _mm512_mul_ps(scale, x_scales);
            }
            for pair in 0..count / 2 {
                let at = first + 2 * pair;
                let mut weights = [_mm512_setzero_si512(); R];
                for r in 0..R {
                    let block = rows[r].add(at * BYTES);
                    // The rows that come next lie behind these.
                    _mm_prefetch::<_MM_HINT_T0>(block.wrapping_add(R * length).cast());
                    let one = _mm256_loadu_si256(block.add(2).cast());
                    let two = _mm256_loadu_si256(block.add(2 + BYTES).cast());
                    weights[r] = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(one), two);
                }
                add(&weights, high, low, at, &own, pair, &mut sums);
            }
            if count % 2 == 1 {
                let at = first + count - 1;
                let mut weights = [_mm512_setzero_si512(); R];
                for r in 0..R {
                    let one = _mm256_loadu_si256(rows[r].add(at * BYTES + 2).cast());
                    weights[r] = _mm512_zextsi256_si512(one);
                }
                add(&weights, high, low, at, &own, count / 2, &mut sums);
            }
        }
    }
    std::array::from_fn(|r| _mm512_reduce_add_ps(sums[r]))
}

/// Adds the products of two blocks of each row, the first of them block `at` of the column.
///
/// # Safety
/// As [`dot_q8_0`]; the column, filled up, has these blocks.
#[inline(always)]
unsafe fn add<const R: usize>(
    weights: &[__m512i; R],
    high: &RoundedColumn,
    low: &RoundedColumn,
    at: usize,
    own: &[__m512; R],
    pair: usize,
    sums: &mut [__m512; R],
) {
    // SAFETY: the caller's promise.
    unsafe {
        let sign = _mm512_set1_epi8(-128);
        let zero = _mm512_setzero_si512();
        let lanes = _mm512_loadu_si512(LANES[pair].as_ptr().cast());
        let upper = _mm512_loadu_si512(high.numbers.as_ptr().add(at * BLOCK).cast());
        let lower = _mm512_loadu_si512(low.numbers.as_ptr().add(at * BLOCK).cast());
        let start = _mm512_sub_epi32(zero, _mm512_dpbusd_epi32(zero, sign, upper));
        for r in 0..R {
            let bytes = _mm512_xor_si512(weights[r], sign);
            // At most 4 * 128 * 127 * 256 and as much again: no more than 25 bits.
            let sum = _mm512_slli_epi32::<8>(_mm512_dpbusd_epi32(start, bytes, upper));
            let sum = _mm512_cvtepi32_ps(_mm512_dpbusd_epi32(sum, bytes, lower));
            sums[r] = _mm512_fmadd_ps(sum, _mm512_permutexvar_ps(lanes, own[r]), sums[r]);
        }
    }
}
