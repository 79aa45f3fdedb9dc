//! The kernels with NEON, which every 64-bit ARM processor has.

// Registers are kept by index; iterating would hide which is which.
#![allow(clippy::needless_range_loop)]

use std::arch::aarch64::*;

use super::{BLOCK, scales_q4k};

/// A way to store weights.
///
/// # Safety
/// Implementations read no further than the block that they are given.
pub(super) unsafe trait Format {
    const BYTES: usize;
    /// Parts of 32 weights in a block.
    const PARTS: usize;
    /// What a block's parts have in common.
    type Head: Copy;
    /// # Safety
    /// `block` points to a block.
    unsafe fn head(block: *const u8) -> Self::Head;
    /// The weights of a part, 4 at a time.
    ///
    /// # Safety
    /// `block` points to a block, whose head is `head`.
    unsafe fn part(block: *const u8, head: Self::Head, part: usize) -> [float32x4_t; 8];
}

pub(super) struct Q4_1;
pub(super) struct Q8_0;
pub(super) struct Q4K;
pub(super) struct Q6K;

/// The dot product of each row of weights with a column. The rows go side by side, so that their
/// sums do not wait for each other.
///
/// # Safety
/// Rows and column hold the same number of weights.
pub(super) unsafe fn dot<F: Format, const R: usize>(rows: &[&[u8]; R], column: &[f32]) -> [f32; R] {
    let mut sums = [[[zero(); 2]; 1]; R];
    for index in 0..rows[0].len() / F::BYTES {
        for r in 0..R {
            // SAFETY: every pointer stays within block `index` of a row or of the column.
            unsafe {
                let block = rows[r].as_ptr().add(index * F::BYTES);
                let head = F::head(block);
                for part in 0..F::PARTS {
                    let weights = F::part(block, head, part);
                    let x = column.as_ptr().add((index * F::PARTS + part) * BLOCK);
                    for i in 0..8 {
                        let sum = &mut sums[r][0][i % 2];
                        *sum = vfmaq_f32(*sum, weights[i], vld1q_f32(x.add(4 * i)));
                    }
                }
            }
        }
    }
    added(&sums).map(|[sum]| sum)
}

/// Writes a row's weights to `out`, as they are when [`dot`] multiplies them.
///
/// # Safety
/// `out` has room for the row's weights.
pub(super) unsafe fn write_out<F: Format>(row: &[u8], out: &mut [f32]) {
    for index in 0..row.len() / F::BYTES {
        // SAFETY: every pointer stays within block `index` of the row or of `out`.
        unsafe {
            let block = row.as_ptr().add(index * F::BYTES);
            let head = F::head(block);
            for part in 0..F::PARTS {
                let at = out.as_mut_ptr().add((index * F::PARTS + part) * BLOCK);
                for (i, weights) in F::part(block, head, part).into_iter().enumerate() {
                    vst1q_f32(at.add(4 * i), weights);
                }
            }
        }
    }
}

/// [`dot`] of rows that are written out: the same sums in the same order.
///
/// # Safety
/// Rows and columns are equally long, in whole blocks.
pub(super) unsafe fn dot_written<const R: usize, const N: usize>(
    rows: &[&[f32]; R],
    columns: &[&[f32]; N],
) -> [[f32; N]; R] {
    let mut sums = [[[zero(); 2]; N]; R];
    for at in (0..rows[0].len()).step_by(8) {
        for half in 0..2 {
            // SAFETY: eight floats from `at` on lie within each row and column.
            unsafe {
                let mut weights = [zero(); R];
                for r in 0..R {
                    weights[r] = vld1q_f32(rows[r].as_ptr().add(at + 4 * half));
                }
                for n in 0..N {
                    let x = vld1q_f32(columns[n].as_ptr().add(at + 4 * half));
                    for r in 0..R {
                        sums[r][n][half] = vfmaq_f32(sums[r][n][half], weights[r], x);
                    }
                }
            }
        }
    }
    added(&sums)
}

#[inline(always)]
pub(super) fn zero() -> float32x4_t {
    // SAFETY: every processor that this is compiled for has NEON.
    unsafe { vdupq_n_f32(0.0) }
}

/// The lanes of each pair of registers added up.
#[inline(always)]
fn added<const R: usize, const N: usize>(sums: &[[[float32x4_t; 2]; N]; R]) -> [[f32; N]; R] {
    // SAFETY: every processor that this is compiled for has NEON.
    sums.map(|sums| sums.map(|[a, b]| unsafe { vaddvq_f32(vaddq_f32(a, b)) }))
}

/// The f16 at `at`.
///
/// # Safety
/// There are two bytes at `at`.
#[inline(always)]
pub(super) unsafe fn half(at: *const u8) -> f32 {
    let wide: f32;
    // SAFETY: the caller's promise; the instruction reads and writes these registers alone. Its
    // intrinsic is younger than the oldest compiler that this is for.
    unsafe {
        std::arch::asm!(
            "fcvt {0:s}, {1:h}",
            lateout(vreg) wide, in(vreg) at.cast::<i16>().read_unaligned(),
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    wide
}

/// 16 whole numbers, each in the upper byte of its lane.
#[inline(always)]
fn raised(bytes: uint8x16_t) -> [int32x4_t; 4] {
    // A lookup past the end gives zero.
    static ORDER: [[u8; 16]; 4] = {
        let mut order = [[255; 16]; 4];
        let mut i = 0;
        while i < 16 {
            order[i / 4][i % 4 * 4 + 3] = i as u8;
            i += 1;
        }
        order
    };
    // SAFETY: every row of the table holds 16 bytes.
    std::array::from_fn(|i| unsafe {
        vreinterpretq_s32_u8(vqtbl1q_u8(bytes, vld1q_u8(ORDER[i].as_ptr())))
    })
}

/// 16 signed numbers as floats.
#[inline(always)]
fn signed(bytes: uint8x16_t) -> [float32x4_t; 4] {
    // SAFETY: every processor that this is compiled for has NEON.
    raised(bytes).map(|number| unsafe { vcvtq_n_f32_s32::<24>(number) })
}

/// `scale * number + minimum` of 16 numbers without a sign.
#[inline(always)]
fn weights(bytes: uint8x16_t, scale: f32, minimum: f32) -> [float32x4_t; 4] {
    // SAFETY: every processor that this is compiled for has NEON.
    raised(bytes).map(|number| unsafe {
        let number = vcvtq_n_f32_u32::<24>(vreinterpretq_u32_s32(number));
        vfmaq_n_f32(vdupq_n_f32(minimum), number, scale)
    })
}

#[inline(always)]
fn joined([a, b, c, d]: [float32x4_t; 4], [e, f, g, h]: [float32x4_t; 4]) -> [float32x4_t; 8] {
    [a, b, c, d, e, f, g, h]
}

/// 32 weights from 16 bytes of nibbles: all the low ones, then all the high ones.
///
/// # Safety
/// There are 16 bytes at `at`.
#[inline(always)]
unsafe fn nibbles(at: *const u8, scale: f32, minimum: f32) -> [float32x4_t; 8] {
    // SAFETY: the caller's promise.
    let (low, high) = unsafe {
        let bytes = vld1q_u8(at);
        (vandq_u8(bytes, vdupq_n_u8(15)), vshrq_n_u8::<4>(bytes))
    };
    joined(weights(low, scale, minimum), weights(high, scale, minimum))
}

// SAFETY (all): the methods stay within the block that the caller promises.
unsafe impl Format for Q4_1 {
    const BYTES: usize = 20;
    const PARTS: usize = 1;
    type Head = ();

    #[inline(always)]
    unsafe fn head(_: *const u8) {}

    #[inline(always)]
    unsafe fn part(block: *const u8, (): (), _: usize) -> [float32x4_t; 8] {
        // SAFETY: see above.
        unsafe {
            let (scale, minimum) = (half(block), half(block.add(2)));
            nibbles(block.add(4), scale, minimum)
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
    unsafe fn part(block: *const u8, (): (), _: usize) -> [float32x4_t; 8] {
        // SAFETY: see above.
        unsafe {
            let scale = half(block);
            let sixteen = |at| signed(vld1q_u8(at)).map(|number| vmulq_n_f32(number, scale));
            joined(sixteen(block.add(2)), sixteen(block.add(18)))
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
            let (scale, minimum) = (half(block), half(block.add(2)));
            let times = |bytes: [u8; 8], by: f32| bytes.map(|byte| by * f32::from(byte));
            (times(scales, scale), times(minima, -minimum))
        }
    }

    #[inline(always)]
    unsafe fn part(block: *const u8, head: Self::Head, part: usize) -> [float32x4_t; 8] {
        // SAFETY: see above.
        unsafe {
            let sixteen = |at| {
                let bytes = vld1q_u8(at);
                let bytes = match part % 2 {
                    0 => vandq_u8(bytes, vdupq_n_u8(15)),
                    _ => vshrq_n_u8::<4>(bytes),
                };
                weights(bytes, head.0[part], head.1[part])
            };
            let at = block.add(16 + part / 2 * BLOCK);
            joined(sixteen(at), sixteen(at.add(16)))
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
    unsafe fn part(block: *const u8, head: f32, part: usize) -> [float32x4_t; 8] {
        // SAFETY: see above.
        unsafe {
            let sixteen = |i: usize| {
                let scale = head * f32::from(*block.add(192 + 2 * part + i).cast::<i8>());
                weights(six_bits(block, part, i), scale, -32.0 * scale)
            };
            joined(sixteen(0), sixteen(1))
        }
    }
}

/// Half `i` of the weights of a part of a [`Q6K`] block, with 32 added.
///
/// # Safety
/// `block` points to a block.
#[inline(always)]
pub(super) unsafe fn six_bits(block: *const u8, part: usize, i: usize) -> uint8x16_t {
    let (at, quarter) = (part / 4, part % 4);
    // SAFETY: the caller's promise.
    unsafe {
        let low = vld1q_u8(block.add(64 * at + 32 * (quarter % 2) + 16 * i));
        let low = match quarter / 2 {
            0 => vandq_u8(low, vdupq_n_u8(15)),
            _ => vshrq_n_u8::<4>(low),
        };
        let high = vld1q_u8(block.add(128 + 32 * at + 16 * i));
        // Two bits of each byte go to bits 4 and 5.
        let high = vshlq_u8(high, vdupq_n_s8(4 - 2 * quarter as i8));
        vorrq_u8(low, vandq_u8(high, vdupq_n_u8(48)))
    }
}
