//! Products of 8-bit activations with a single column, with NEON: sixteen whole numbers at a time,
//! by one instruction where the processor has the one for dot products.

// Registers are kept by index; iterating would hide which is which.
#![allow(clippy::needless_range_loop)]

use std::arch::aarch64::*;

use super::eight::RoundedColumn;
use super::neon::{self, half, six_bits, zero};
use super::{BLOCK, Column, InstructionSet, QuantType, scales_q4k};

/// Parts of 32 weights in a block of 256.
const PARTS: usize = 8;

/// A way to multiply bytes.
trait Bytes {
    /// `sum`, and onto each lane the products of four pairs.
    ///
    /// # Safety
    /// The processor has what the way needs; no product is greater than 2^14.
    unsafe fn add(sum: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t;
}

/// By way of sixteen bits, which every processor can.
struct Wide;
/// By the instruction for dot products.
struct Dot;

impl Bytes for Wide {
    #[inline(always)]
    unsafe fn add(sum: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
        // SAFETY: the caller's promise; two products fit sixteen bits, unless both are 2^14, which
        // takes -128 twice in `a` and in `b`, and rounded activations end at -127.
        unsafe {
            let pairs = vmull_s8(vget_low_s8(a), vget_low_s8(b));
            vpadalq_s16(sum, vmlal_high_s8(pairs, a, b))
        }
    }
}

impl Bytes for Dot {
    #[inline(always)]
    unsafe fn add(mut sum: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
        // SAFETY: the processor has the instruction (the caller's promise), which reads and writes
        // these registers alone. It has no stable intrinsic yet.
        unsafe {
            std::arch::asm!(
                ".arch_extension dotprod",
                "sdot {0:v}.4s, {1:v}.16b, {2:v}.16b",
                inout(vreg) sum, in(vreg) a, in(vreg) b,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        sum
    }
}

/// What there is of a column beside a block of 256 weights.
#[derive(Clone, Copy)]
struct Beside {
    /// The parts' scales.
    each: [float32x4_t; 2],
    /// The sums of the parts' activations.
    shares: [float32x4_t; 2],
    /// The sums of each sixteen rounded activations.
    sums: [float32x4_t; 4],
}

/// A way to store weights in blocks of 256.
trait Single {
    const BYTES: usize;
    /// `sum`, with a block's products added.
    ///
    /// # Safety
    /// `block` points to a block, `x` to 256 rounded activations; the processor has what `B` needs.
    unsafe fn add<B: Bytes>(
        block: *const u8,
        x: *const i8,
        beside: &Beside,
        sum: float32x4_t,
    ) -> float32x4_t;
}

struct Q4K;
struct Q6K;

/// The dot product of each row of weights of a kind with a column.
///
/// # Safety
/// The processor has the instruction set; rows and column hold the same number of weights.
pub(super) unsafe fn dot<const R: usize>(
    set: InstructionSet,
    kind: QuantType,
    rows: &[&[u8]; R],
    column: &Column,
) -> [f32; R] {
    let Column { x, rounded, rest } = column;
    let dots = set == InstructionSet::NeonDot;
    // SAFETY: the caller's promise.
    unsafe {
        match kind {
            QuantType::Q4_1 => neon::dot::<neon::Q4_1, R>(rows, x),
            QuantType::Q8_0 if dots => dot_q8_0::<Dot, R>(rows, rounded, rest),
            QuantType::Q8_0 => dot_q8_0::<Wide, R>(rows, rounded, rest),
            QuantType::Q4K if dots => dot_blocks::<Q4K, Dot, R>(rows, rounded),
            QuantType::Q4K => dot_blocks::<Q4K, Wide, R>(rows, rounded),
            QuantType::Q6K if dots => dot_blocks::<Q6K, Dot, R>(rows, rounded),
            QuantType::Q6K => dot_blocks::<Q6K, Wide, R>(rows, rounded),
            _ => super::unpacked::dot(kind, rows, rounded),
        }
    }
}

/// The dot product of each row of weights in blocks of 256 with a column.
///
/// # Safety
/// Rows and column hold the same number of weights; the processor has what `B` needs.
unsafe fn dot_blocks<F: Single, B: Bytes, const R: usize>(
    rows: &[&[u8]; R],
    column: &RoundedColumn,
) -> [f32; R] {
    let mut sums = [zero(); R];
    for index in 0..rows[0].len() / F::BYTES {
        let first = index * PARTS;
        // SAFETY: every pointer stays within block `index` of a row or of the column.
        unsafe {
            let four = |of: &[f32], i: usize| vld1q_f32(of.as_ptr().add(first + 4 * i));
            let whole = |i: usize| {
                let at = column.sums.as_ptr().add(2 * first + 4 * i);
                vcvtq_f32_s32(vld1q_s32(at))
            };
            let beside = Beside {
                each: [0, 1].map(|i| four(column.each, i)),
                shares: [0, 1].map(|i| four(column.shares, i)),
                sums: [0, 1, 2, 3].map(whole),
            };
            let x = column.numbers.as_ptr().add(first * BLOCK);
            for r in 0..R {
                let block = rows[r].as_ptr().add(index * F::BYTES);
                sums[r] = F::add::<B>(block, x, &beside, sums[r]);
            }
        }
    }
    // SAFETY: every processor that this is compiled for has NEON.
    sums.map(|sum| unsafe { vaddvq_f32(sum) })
}

/// Bytes of a block of `Q8_0`: an f16 scale and 32 weights.
const BYTES: usize = 34;

/// The dot product of each row of `Q8_0` with the column `high + low`: weights are read once, and
/// the products put together as whole numbers.
///
/// # Safety
/// Rows and column hold the same number of weights; the scales of `low` are 256th parts of those
/// of `high`; the processor has what `B` needs.
unsafe fn dot_q8_0<B: Bytes, const R: usize>(
    rows: &[&[u8]; R],
    high: &RoundedColumn,
    low: &RoundedColumn,
) -> [f32; R] {
    let mut sums = [zero(); R];
    for index in 0..rows[0].len() / BYTES {
        // SAFETY: every pointer stays within block `index` of a row or of the column.
        unsafe {
            let x = |column: &RoundedColumn| {
                let at = column.numbers.as_ptr().add(index * BLOCK);
                [vld1q_s8(at), vld1q_s8(at.add(16))]
            };
            let (upper, lower) = (x(high), x(low));
            let scale = *low.each.as_ptr().add(index);
            for r in 0..R {
                let block = rows[r].as_ptr().add(index * BYTES);
                let weights = vld1q_s8(block.add(2).cast());
                let weights = [weights, vld1q_s8(block.add(18).cast())];
                let products = |x: [int8x16_t; 2]| {
                    let sum = B::add(vdupq_n_s32(0), weights[0], x[0]);
                    B::add(sum, weights[1], x[1])
                };
                // At most 8 * 128 * 127 * 256 and as much again: no more than 26 bits.
                let sum = vaddq_s32(vshlq_n_s32::<8>(products(upper)), products(lower));
                sums[r] = vfmaq_n_f32(sums[r], vcvtq_f32_s32(sum), half(block) * scale);
            }
        }
    }
    // SAFETY: every processor that this is compiled for has NEON.
    sums.map(|sum| unsafe { vaddvq_f32(sum) })
}

/// Eight bytes as floats.
#[inline(always)]
fn floats(bytes: [u8; 8]) -> [float32x4_t; 2] {
    // SAFETY: there are eight bytes.
    unsafe {
        let wide = vmovl_u8(vld1_u8(bytes.as_ptr()));
        let four = [vmovl_u16(vget_low_u16(wide)), vmovl_high_u16(wide)];
        four.map(|four| vcvtq_f32_u32(four))
    }
}

impl Single for Q4K {
    const BYTES: usize = 144;

    #[inline(always)]
    unsafe fn add<B: Bytes>(
        block: *const u8,
        x: *const i8,
        beside: &Beside,
        mut sum: float32x4_t,
    ) -> float32x4_t {
        // SAFETY: the caller's promise.
        unsafe {
            let (scale, minimum) = (half(block), half(block.add(2)));
            let (scales, minima) = scales_q4k(&*block.add(4).cast());
            let (scales, minima) = (floats(scales), floats(minima));
            let mut to = [0.0; PARTS];
            for i in 0..2 {
                let taken = vmulq_n_f32(minima[i], minimum);
                sum = vfmsq_f32(sum, taken, beside.shares[i]);
                let scales = vmulq_f32(vmulq_n_f32(scales[i], scale), beside.each[i]);
                vst1q_f32(to.as_mut_ptr().add(4 * i), scales);
            }
            for pair in 0..PARTS / 2 {
                let at = block.add(16 + BLOCK * pair);
                let packed = [vld1q_u8(at), vld1q_u8(at.add(16))];
                let low = packed.map(|bytes| vandq_u8(bytes, vdupq_n_u8(15)));
                let high = packed.map(|bytes| vshrq_n_u8::<4>(bytes));
                for (i, bytes) in [low, high].into_iter().enumerate() {
                    let x = x.add((2 * pair + i) * BLOCK);
                    let bytes = bytes.map(|bytes| vreinterpretq_s8_u8(bytes));
                    let products = B::add(vdupq_n_s32(0), bytes[0], vld1q_s8(x));
                    let products = B::add(products, bytes[1], vld1q_s8(x.add(16)));
                    sum = vfmaq_n_f32(sum, vcvtq_f32_s32(products), to[2 * pair + i]);
                }
            }
            sum
        }
    }
}

impl Single for Q6K {
    const BYTES: usize = 210;

    #[inline(always)]
    unsafe fn add<B: Bytes>(
        block: *const u8,
        x: *const i8,
        beside: &Beside,
        mut sum: float32x4_t,
    ) -> float32x4_t {
        // SAFETY: the caller's promise.
        unsafe {
            let own = half(block.add(208));
            let mut to = [0.0; 2 * PARTS];
            for i in 0..2 {
                let bytes = vmovl_s8(vld1_s8(block.add(192 + 8 * i).cast()));
                let bytes = [vmovl_s16(vget_low_s16(bytes)), vmovl_high_s16(bytes)];
                // Each part's scale stands beside two of the block's.
                let each = [
                    vzip1q_f32(beside.each[i], beside.each[i]),
                    vzip2q_f32(beside.each[i], beside.each[i]),
                ];
                for j in 0..2 {
                    let scales = vmulq_n_f32(vcvtq_f32_s32(bytes[j]), own);
                    let scales = vmulq_f32(scales, each[j]);
                    // Weights are stored with 32 added.
                    let extra = vmulq_n_f32(beside.sums[2 * i + j], 32.0);
                    sum = vfmsq_f32(sum, extra, scales);
                    vst1q_f32(to.as_mut_ptr().add(8 * i + 4 * j), scales);
                }
            }
            for part in 0..PARTS {
                for i in 0..2 {
                    let bytes = vreinterpretq_s8_u8(six_bits(block, part, i));
                    let x = vld1q_s8(x.add(part * BLOCK + 16 * i));
                    let products = vcvtq_f32_s32(B::add(vdupq_n_s32(0), bytes, x));
                    sum = vfmaq_n_f32(sum, products, to[2 * part + i]);
                }
            }
            sum
        }
    }
}
