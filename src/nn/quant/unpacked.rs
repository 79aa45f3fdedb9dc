//! Products of 8-bit activations with a single column, of the formats whose blocks are unpacked to
//! bytes ([`super::unpack`]): the scales of weights and activations are multiplied once for 256
//! weights, and what comes next is fetched ahead.

#![allow(
    clippy::needless_range_loop,
    reason = "registers are kept by index; iterating would hide which is which"
)]

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
    let mut both = [[Group::EMPTY; R]; 2];
    unpack_ahead::<F, R>(rows, 0, parts, &mut both[0]);
    let mut sums = [[_mm256_setzero_ps(); 1]; R];
    let twice = [
        _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3),
        _mm256_setr_epi32(4, 4, 5, 5, 6, 6, 7, 7),
    ];
    for first in (0..parts).step_by(PARTS) {
        let count = PARTS.min(parts - first);
        let [even, odd] = &mut both;
        let (groups, next) = match (first / PARTS).is_multiple_of(2) {
            true => (even, odd),
            false => (odd, even),
        };
        unpack_ahead::<F, R>(rows, first + PARTS, parts, next);
        // What lies behind the column counts for nothing.
        let (mut each, mut sixteens) = ([0.0f32; PARTS], [0i32; 2 * PARTS]);
        each[..count].copy_from_slice(&column.each[first..first + count]);
        if F::MINIMA {
            let own = &column.sums[2 * first..2 * (first + count)];
            sixteens[..2 * count].copy_from_slice(own);
        }
        // SAFETY: groups have room for eight parts and sixteen scales; the parts lie within the
        // column.
        unsafe {
            let each = _mm256_loadu_ps(each.as_ptr());
            for half in 0..2 {
                let each = _mm256_permutevar8x32_ps(each, twice[half]);
                let sixteens = _mm256_loadu_si256(sixteens.as_ptr().add(8 * half).cast());
                let shares = _mm256_mul_ps(_mm256_cvtepi32_ps(sixteens), each);
                for r in 0..R {
                    let scales = groups[r].scales.as_mut_ptr().add(8 * half);
                    _mm256_storeu_ps(scales, _mm256_mul_ps(_mm256_loadu_ps(scales), each));
                    if F::MINIMA {
                        let minima = _mm256_loadu_ps(groups[r].minima.as_ptr().add(8 * half));
                        sums[r][0] = _mm256_fnmadd_ps(minima, shares, sums[r][0]);
                    }
                }
            }
            for part in 0..count {
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

/// Unpacks the parts of each row from `first` on, where there are such: a group ahead of the one that
/// is multiplied, since a wide load would wait for narrow writes just before it. What lies behind
/// these rows is fetched meanwhile.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn unpack_ahead<F: Unpack, const R: usize>(
    rows: &[&[u8]; R],
    first: usize,
    parts: usize,
    to: &mut [Group; R],
) {
    let count = PARTS.min(parts.saturating_sub(first));
    let at = first / F::PARTS * F::BYTES;
    for (row, to) in rows.iter().zip(to) {
        for line in (0..count / F::PARTS * F::BYTES).step_by(64) {
            // SAFETY: what is fetched may lie anywhere.
            unsafe { fetch_ahead(row.as_ptr().wrapping_add(at + line), R * row.len()) };
        }
        if count > 0 {
            group::<F>(row, first, count, to);
        }
    }
}
