//! Products of 8-bit activations with a single column, of the formats whose blocks are unpacked to
//! bytes ([`super::unpack`]): the scales of weights and activations are multiplied once for 256
//! weights, and what comes next is fetched ahead.

// Registers are kept by index; iterating would hide which is which.
#![allow(clippy::needless_range_loop)]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

#[cfg(target_arch = "x86_64")]
use super::avx2::{added, fetch_ahead};
use super::eight::RoundedColumn;
use super::unpack::{Group, PARTS, Unpack, group};
use super::{BLOCK, QuantType, unpack::with_format};

/// The dot product of each row of weights with a column, in plain Rust.
#[cfg(any(test, target_arch = "aarch64"))]
pub(super) fn dot<const R: usize>(
    kind: QuantType,
    rows: &[&[u8]; R],
    column: &RoundedColumn,
) -> [f32; R] {
    with_format!(kind, F => rows.map(|row| dot_plain::<F>(row, column)))
}

#[cfg(any(test, target_arch = "aarch64"))]
fn dot_plain<F: Unpack>(row: &[u8], column: &RoundedColumn) -> f32 {
    let parts = row.len() / F::BYTES * F::PARTS;
    let mut to = Group::EMPTY;
    let mut sum = 0.0;
    for first in (0..parts).step_by(PARTS) {
        let count = PARTS.min(parts - first);
        group::<F>(row, first, count, &mut to);
        for half in 0..2 * count {
            let at = 2 * first + half;
            let numbers = &to.numbers[half * BLOCK / 2..][..BLOCK / 2];
            let x = &column.numbers[at * BLOCK / 2..][..BLOCK / 2];
            let products = numbers.iter().zip(x);
            let product: i32 = products.map(|(n, x)| i32::from(*n) * i32::from(*x)).sum();
            let share = to.scales[half] * product as f32;
            let minimum = to.minima[half] * column.sums[at] as f32;
            sum += column.each[at / 2] * (share - minimum);
        }
    }
    sum
}

/// As [`dot`], with AVX2.
///
/// # Safety
/// The processor has AVX2, FMA and F16C; rows and column hold the same number of weights.
#[cfg(target_arch = "x86_64")]
pub(super) unsafe fn dot_avx2<const R: usize>(
    kind: QuantType,
    rows: &[&[u8]; R],
    column: &RoundedColumn,
) -> [f32; R] {
    // SAFETY: the caller's promise.
    with_format!(kind, F => unsafe { avx2::<F, R>(rows, column) })
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn avx2<F: Unpack, const R: usize>(rows: &[&[u8]; R], column: &RoundedColumn) -> [f32; R] {
    let length = rows[0].len();
    let parts = length / F::BYTES * F::PARTS;
    let mut groups = [Group::EMPTY; R];
    let mut sums = [[_mm256_setzero_ps(); 1]; R];
    for first in (0..parts).step_by(PARTS) {
        let count = PARTS.min(parts - first);
        for r in 0..R {
            let bytes = count / F::PARTS * F::BYTES;
            for line in (0..bytes).step_by(64) {
                let at = first / F::PARTS * F::BYTES + line;
                // SAFETY: what is fetched may lie anywhere.
                unsafe { fetch_ahead(rows[r].as_ptr().wrapping_add(at), R * length) };
            }
            group::<F>(rows[r], first, count, &mut groups[r]);
            for half in 0..2 * count {
                let each = column.each[first + half / 2];
                if F::MINIMA {
                    let share = each * column.sums[2 * first + half] as f32;
                    groups[r].minima[half] *= share;
                }
                groups[r].scales[half] *= each;
            }
            if F::MINIMA {
                for i in 0..(2 * count).div_ceil(8) {
                    // What is behind the row is zero, or from the row's last whole group.
                    for behind in 2 * count..8 * (i + 1) {
                        groups[r].minima[behind] = 0.0;
                    }
                    // SAFETY: there are sixteen minima.
                    let minima = unsafe { _mm256_loadu_ps(groups[r].minima.as_ptr().add(8 * i)) };
                    sums[r][0] = _mm256_sub_ps(sums[r][0], minima);
                }
            }
        }
        for part in 0..count {
            // SAFETY: the part lies within each group and within the column.
            unsafe {
                let x = column.numbers.as_ptr().add((first + part) * BLOCK);
                let x = _mm256_loadu_si256(x.cast());
                for r in 0..R {
                    let bytes = groups[r].numbers.as_ptr().add(part * BLOCK);
                    let bytes = _mm256_load_si256(bytes.cast());
                    // The sign moves from the weight to the activation; a pair is at most
                    // 2 * 127 * 127.
                    let sizes = _mm256_sign_epi8(bytes, bytes);
                    let pairs = _mm256_maddubs_epi16(sizes, _mm256_sign_epi8(x, bytes));
                    let fours = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
                    let scale = if F::HALVES {
                        let [low, high] =
                            [0, 1].map(|i| _mm256_set1_ps(groups[r].scales[2 * part + i]));
                        _mm256_blend_ps::<0xf0>(low, high)
                    } else {
                        _mm256_set1_ps(groups[r].scales[2 * part])
                    };
                    let product = _mm256_cvtepi32_ps(fours);
                    sums[r][0] = _mm256_fmadd_ps(product, scale, sums[r][0]);
                }
            }
        }
    }
    added(&sums).map(|[sum]| sum)
}

/// As [`dot`], with AVX-512.
///
/// # Safety
/// The processor has AVX-512F, BW, DQ, VL and VNNI; rows and column hold the same number of
/// weights.
#[cfg(target_arch = "x86_64")]
pub(super) unsafe fn dot_avx512<const R: usize>(
    kind: QuantType,
    rows: &[&[u8]; R],
    column: &RoundedColumn,
) -> [f32; R] {
    // SAFETY: the caller's promise.
    with_format!(kind, F => unsafe { avx512::<F, R>(rows, column) })
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn avx512<F: Unpack, const R: usize>(rows: &[&[u8]; R], column: &RoundedColumn) -> [f32; R] {
    let length = rows[0].len();
    let parts = length / F::BYTES * F::PARTS;
    let mut groups = [Group::EMPTY; R];
    let mut scales = [_mm512_setzero_ps(); R];
    let mut sums = [_mm512_setzero_ps(); R];
    let zero = _mm512_setzero_si512();
    let sign = _mm512_set1_epi8(-128);
    let twice = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    let fours = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    for first in (0..parts).step_by(PARTS) {
        let count = PARTS.min(parts - first);
        // SAFETY: masks keep out what lies behind the column, which is filled up to whole pairs
        // of parts; groups have room for eight parts.
        unsafe {
            let there = ((1u32 << count) - 1) as __mmask16;
            let each = _mm512_maskz_loadu_ps(there, column.each.as_ptr().add(first));
            let each = _mm512_permutexvar_ps(twice, each);
            let there = ((1u32 << (2 * count)) - 1) as __mmask16;
            for r in 0..R {
                let block = rows[r].as_ptr().wrapping_add(first / F::PARTS * F::BYTES);
                for line in (0..count / F::PARTS * F::BYTES).step_by(64) {
                    let next = block.wrapping_add(R * length + line);
                    _mm_prefetch::<_MM_HINT_T0>(next.cast());
                }
                group::<F>(rows[r], first, count, &mut groups[r]);
                let own = _mm512_maskz_loadu_ps(there, groups[r].scales.as_ptr());
                scales[r] = _mm512_mul_ps(own, each);
            }
            if F::MINIMA {
                let sixteens = column.sums.as_ptr().add(2 * first);
                let shares = _mm512_maskz_loadu_epi32(there, sixteens);
                let shares = _mm512_mul_ps(_mm512_cvtepi32_ps(shares), each);
                for r in 0..R {
                    let minima = _mm512_maskz_loadu_ps(there, groups[r].minima.as_ptr());
                    sums[r] = _mm512_fnmadd_ps(minima, shares, sums[r]);
                }
            }
            for pair in 0..count.div_ceil(2) {
                let x = column.numbers.as_ptr().add((first + 2 * pair) * BLOCK);
                let x = _mm512_loadu_si512(x.cast());
                // Weights are multiplied as unsigned bytes, that is with 128 added.
                let start = _mm512_sub_epi32(zero, _mm512_dpbusd_epi32(zero, sign, x));
                let which = _mm512_add_epi32(fours, _mm512_set1_epi32(4 * pair as i32));
                for r in 0..R {
                    let bytes = groups[r].numbers.as_ptr().add(2 * pair * BLOCK);
                    let bytes = _mm512_xor_si512(_mm512_load_si512(bytes.cast()), sign);
                    let sum = _mm512_cvtepi32_ps(_mm512_dpbusd_epi32(start, bytes, x));
                    let scale = _mm512_permutexvar_ps(which, scales[r]);
                    sums[r] = _mm512_fmadd_ps(sum, scale, sums[r]);
                }
            }
        }
    }
    std::array::from_fn(|r| _mm512_reduce_add_ps(sums[r]))
}
