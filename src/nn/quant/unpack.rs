//! Blocks of weights unpacked to signed bytes with a scale and, in some formats, a minimum for
//! every sixteen: what the formats have in common that have no kernel of their own. A weight is
//! `scale * number - minimum`, computed as ggml does (`ggml-quants.c`), so that it is the same to
//! the last bit.
//!
//! The functions are plain Rust that is inlined into kernels, where the compiler makes vector code
//! of it for the instruction set at hand.

use super::{BLOCK, QuantType, bytes, half_at, scales_q4k};

/// Parts of 32 weights that are unpacked at a time.
pub(super) const PARTS: usize = 8;

/// Up to 256 unpacked weights.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Group {
    pub numbers: [i8; PARTS * BLOCK],
    /// One for every 16 weights, as are `minima`.
    pub scales: [f32; 2 * PARTS],
    pub minima: [f32; 2 * PARTS],
}

impl Group {
    pub(super) const EMPTY: Group = Group {
        numbers: [0; PARTS * BLOCK],
        scales: [0.0; 2 * PARTS],
        minima: [0.0; 2 * PARTS],
    };

    #[inline(always)]
    fn numbers(&mut self, part: usize) -> &mut [i8; BLOCK] {
        &mut self.numbers.as_chunks_mut::<BLOCK>().0[part]
    }

    #[inline(always)]
    fn scale(&mut self, part: usize, scale: f32) {
        self.scales[2 * part] = scale;
        self.scales[2 * part + 1] = scale;
    }

    #[inline(always)]
    fn minimum(&mut self, part: usize, minimum: f32) {
        self.minima[2 * part] = minimum;
        self.minima[2 * part + 1] = minimum;
    }
}

/// A way to store weights.
pub(super) trait Unpack {
    const BYTES: usize;
    /// Parts of 32 weights in a block.
    const PARTS: usize;
    /// Whether each 16 weights have a scale of their own.
    #[cfg_attr(
        not(target_arch = "x86_64"),
        allow(dead_code, reason = "only AVX-512 asks")
    )]
    const HALVES: bool = false;
    /// Whether there are minima.
    #[cfg_attr(
        not(target_arch = "x86_64"),
        allow(dead_code, reason = "only AVX-512 asks")
    )]
    const MINIMA: bool = false;
    /// Unpacks a block to the parts of `to` from `part` on.
    fn unpack(block: &[u8], to: &mut Group, part: usize);

    /// Unpacks the blocks of a whole group.
    #[inline(always)]
    fn unpack_all(blocks: &[u8], to: &mut Group) {
        for (i, block) in blocks.chunks_exact(Self::BYTES).enumerate() {
            Self::unpack(block, to, i * Self::PARTS);
        }
    }
}

/// Unpacks `count` parts of a row from part `first` on, which begins a block.
#[inline(always)]
pub(super) fn group<F: Unpack>(row: &[u8], first: usize, count: usize, to: &mut Group) {
    let blocks = &row[first / F::PARTS * F::BYTES..][..count / F::PARTS * F::BYTES];
    if count == PARTS {
        return F::unpack_all(blocks, to);
    }
    for (i, block) in blocks.chunks_exact(F::BYTES).enumerate() {
        F::unpack(block, to, i * F::PARTS);
    }
}

/// Calls a generic function with the format of a [`QuantType`].
macro_rules! with_format {
    ($kind:expr, $format:ident => $body:expr) => {
        match $kind {
            $crate::nn::quant::QuantType::Q4_0 => {
                type $format = $crate::nn::quant::unpack::Q4_0;
                $body
            }
            $crate::nn::quant::QuantType::Q5_0 => {
                type $format = $crate::nn::quant::unpack::Q5_0;
                $body
            }
            $crate::nn::quant::QuantType::Q5_1 => {
                type $format = $crate::nn::quant::unpack::Q5_1;
                $body
            }
            $crate::nn::quant::QuantType::Q2K => {
                type $format = $crate::nn::quant::unpack::Q2K;
                $body
            }
            $crate::nn::quant::QuantType::Q3K => {
                type $format = $crate::nn::quant::unpack::Q3K;
                $body
            }
            $crate::nn::quant::QuantType::Q5K => {
                type $format = $crate::nn::quant::unpack::Q5K;
                $body
            }
            $crate::nn::quant::QuantType::Iq4Nl => {
                type $format = $crate::nn::quant::unpack::Iq4Nl;
                $body
            }
            $crate::nn::quant::QuantType::Iq4Xs => {
                type $format = $crate::nn::quant::unpack::Iq4Xs;
                $body
            }
            _ => {
                type $format = $crate::nn::quant::unpack::Mxfp4;
                $body
            }
        }
    };
}
pub(super) use with_format;

/// Writes the weights of a row of an unpacked format to `out`.
#[inline(always)]
pub(super) fn dequantise_row(kind: QuantType, row: &[u8], out: &mut [f32]) {
    with_format!(kind, F => dequantise::<F>(row, out));
}

#[inline(always)]
fn dequantise<F: Unpack>(row: &[u8], out: &mut [f32]) {
    let mut to = Group::EMPTY;
    let parts = out.len() / BLOCK;
    for (index, out) in out.chunks_mut(PARTS * BLOCK).enumerate() {
        let first = index * PARTS;
        group::<F>(row, first, PARTS.min(parts - first), &mut to);
        let halves = out.chunks_exact_mut(BLOCK / 2);
        for (half, out) in halves.enumerate() {
            let numbers = &to.numbers[half * BLOCK / 2..][..BLOCK / 2];
            let (scale, minimum) = (to.scales[half], to.minima[half]);
            for (out, number) in out.iter_mut().zip(numbers) {
                *out = scale * f32::from(*number) - minimum;
            }
        }
    }
}

/// What the nibbles of `Q4_0` stand for.
const EIGHTS: [i8; 16] = [-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7];

pub(super) struct Q4_0;
impl Unpack for Q4_0 {
    const BYTES: usize = 18;
    const PARTS: usize = 1;

    #[inline(always)]
    fn unpack(block: &[u8], to: &mut Group, part: usize) {
        to.scale(part, half_at(block, 0));
        bytes::look_up(&EIGHTS, &block[2..18], to.numbers(part));
    }

    #[inline(always)]
    fn unpack_all(blocks: &[u8], to: &mut Group) {
        bytes::halves::<{ Self::BYTES }>(blocks, 0, &mut to.scales);
        for (part, block) in blocks.chunks_exact(Self::BYTES).enumerate() {
            bytes::look_up(&EIGHTS, &block[2..18], to.numbers(part));
        }
    }
}

pub(super) struct Q5_0;
impl Unpack for Q5_0 {
    const BYTES: usize = 22;
    const PARTS: usize = 1;

    #[inline(always)]
    fn unpack(block: &[u8], to: &mut Group, part: usize) {
        to.scale(part, half_at(block, 0));
        bytes::fives(&block[2..6], &block[6..22], 16, to.numbers(part));
    }

    #[inline(always)]
    fn unpack_all(blocks: &[u8], to: &mut Group) {
        bytes::halves::<{ Self::BYTES }>(blocks, 0, &mut to.scales);
        for (part, block) in blocks.chunks_exact(Self::BYTES).enumerate() {
            bytes::fives(&block[2..6], &block[6..22], 16, to.numbers(part));
        }
    }
}

pub(super) struct Q5_1;
impl Unpack for Q5_1 {
    const BYTES: usize = 24;
    const PARTS: usize = 1;
    const MINIMA: bool = true;

    #[inline(always)]
    fn unpack(block: &[u8], to: &mut Group, part: usize) {
        to.scale(part, half_at(block, 0));
        to.minimum(part, -half_at(block, 2));
        bytes::fives(&block[4..8], &block[8..24], 0, to.numbers(part));
    }

    #[inline(always)]
    fn unpack_all(blocks: &[u8], to: &mut Group) {
        bytes::halves::<{ Self::BYTES }>(blocks, 0, &mut to.scales);
        bytes::halves::<{ Self::BYTES }>(blocks, 2, &mut to.minima);
        to.minima = to.minima.map(|minimum| -minimum);
        for (part, block) in blocks.chunks_exact(Self::BYTES).enumerate() {
            bytes::fives(&block[4..8], &block[8..24], 0, to.numbers(part));
        }
    }
}

/// Each of eight bytes twice.
#[inline(always)]
fn twice(bytes: u64) -> [u64; 2] {
    // Moved apart, two bytes at a time, then put beside themselves.
    [bytes & 0xffff_ffff, bytes >> 32].map(|half| {
        let half = (half | half << 16) & 0x0000_ffff_0000_ffff;
        let half = (half | half << 8) & 0x00ff_00ff_00ff_00ff;
        half | half << 8
    })
}

/// 128 numbers of 2 bits from 32 bytes: the lowest two bits of each, the next ones, and so on.
#[inline(always)]
fn pairs_of_bits(from: &[u8; BLOCK], to: &mut Group, first: usize) {
    let packed = bytes::load(from);
    for shift in 0..4 {
        bytes::store(bytes::bits(packed, 2 * shift, 3), to.numbers(first + shift));
    }
}

pub(super) struct Q2K;
impl Unpack for Q2K {
    const BYTES: usize = 84;
    const PARTS: usize = 8;
    const HALVES: bool = true;
    const MINIMA: bool = true;

    #[inline(always)]
    fn unpack(block: &[u8], to: &mut Group, _: usize) {
        let (scale, minimum) = (half_at(block, 80), half_at(block, 82));
        const FOUR: u64 = 0x0f0f_0f0f_0f0f_0f0f;
        let packed = [0, 8].map(|at| u64::from_le_bytes(block[at..].as_chunks::<8>().0[0]));
        bytes::scaled(packed.map(|all| all & FOUR), 0, scale, &mut to.scales);
        bytes::scaled(
            packed.map(|all| all >> 4 & FOUR),
            0,
            minimum,
            &mut to.minima,
        );
        let quarters = block[16..].as_chunks::<BLOCK>().0;
        pairs_of_bits(&quarters[0], to, 0);
        pairs_of_bits(&quarters[1], to, 4);
    }
}

/// The scales of a `Q3_K` block's sixteen halves of parts before the block's own, with 32 added, a byte
/// each, from the block's 12 bytes of them.
#[inline(always)]
pub(super) fn q3_k_scales(packed: &[u8; 12]) -> [u64; 2] {
    // Four bits of each of the sixteen scales, then the two above them.
    let four = u64::from_le_bytes(packed.as_chunks::<8>().0[0]);
    let two = u64::from(u32::from_le_bytes(packed[8..].as_chunks::<4>().0[0]));
    const FOUR: u64 = 0x0f0f_0f0f_0f0f_0f0f;
    const TWO: u64 = 0x0303_0303_0303_0303;
    let above = |by: u32| ((two >> by | two << 32 >> (by + 2) & (u64::MAX << 32)) & TWO) << 4;
    [four & FOUR | above(0), four >> 4 & FOUR | above(4)]
}

pub(super) struct Q3K;
impl Unpack for Q3K {
    const BYTES: usize = 110;
    const PARTS: usize = 8;
    const HALVES: bool = true;

    #[inline(always)]
    fn unpack(block: &[u8], to: &mut Group, _: usize) {
        let scale = half_at(block, 108);
        let scales = q3_k_scales(&block[96..].as_chunks::<12>().0[0]);
        bytes::scaled(scales, 32, scale, &mut to.scales);
        let thirds = block.as_chunks::<BLOCK>().0;
        let high = bytes::load(&thirds[0]);
        for part in 0..PARTS {
            let low = bytes::bits(bytes::load(&thirds[1 + part / 4]), part % 4 * 2, 3);
            // Without the third bit a weight is less by four.
            let third = bytes::raised(bytes::bits(high, part, 1), 2);
            bytes::store(bytes::less(bytes::or(low, third), 4), to.numbers(part));
        }
    }
}

pub(super) struct Q5K;
impl Unpack for Q5K {
    const BYTES: usize = 176;
    const PARTS: usize = 8;
    const MINIMA: bool = true;

    #[inline(always)]
    fn unpack(block: &[u8], to: &mut Group, _: usize) {
        let (scale, minimum) = (half_at(block, 0), half_at(block, 2));
        let (scales, minima) = scales_q4k(&block[4..].as_chunks::<12>().0[0]);
        let (scales, minima) = (u64::from_le_bytes(scales), u64::from_le_bytes(minima));
        bytes::scaled(twice(scales), 0, scale, &mut to.scales);
        bytes::scaled(twice(minima), 0, minimum, &mut to.minima);
        let fives = block[16..].as_chunks::<BLOCK>().0;
        let high = bytes::load(&fives[0]);
        for part in 0..PARTS {
            let four = bytes::bits(bytes::load(&fives[1 + part / 2]), part % 2 * 4, 15);
            let fifth = bytes::raised(bytes::bits(high, part, 1), 4);
            bytes::store(bytes::or(four, fifth), to.numbers(part));
        }
    }
}

/// The weights that the formats `IQ4` choose from.
pub(super) const IQ4: [i8; 16] = [
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
];
/// Twice the 4-bit floats (one bit of sign, two of exponent, one of mantissa).
pub(super) const FP4: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

pub(super) struct Iq4Nl;
impl Unpack for Iq4Nl {
    const BYTES: usize = 18;
    const PARTS: usize = 1;

    #[inline(always)]
    fn unpack(block: &[u8], to: &mut Group, part: usize) {
        to.scale(part, half_at(block, 0));
        bytes::look_up(&IQ4, &block[2..18], to.numbers(part));
    }

    #[inline(always)]
    fn unpack_all(blocks: &[u8], to: &mut Group) {
        bytes::halves::<{ Self::BYTES }>(blocks, 0, &mut to.scales);
        for (part, block) in blocks.chunks_exact(Self::BYTES).enumerate() {
            bytes::look_up(&IQ4, &block[2..18], to.numbers(part));
        }
    }
}

/// The scales of an `IQ4_XS` block's eight parts before the block's own, with 32 added, a byte each, from
/// the block's first eight bytes.
#[inline(always)]
pub(super) fn iq4_xs_scales(head: &[u8; 8]) -> u64 {
    // Of each scale four bits, then the two above them, moved apart to a byte each.
    let mut low = u64::from(u32::from_le_bytes(head[4..].as_chunks::<4>().0[0]));
    low = (low | low << 16) & 0x0000_ffff_0000_ffff;
    low = (low | low << 8) & 0x00ff_00ff_00ff_00ff;
    low = (low | low << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    let mut high = u64::from(u16::from_le_bytes([head[2], head[3]]));
    high = (high | high << 24) & 0x0000_00ff_0000_00ff;
    high = (high | high << 12) & 0x000f_000f_000f_000f;
    high = (high | high << 6) & 0x0303_0303_0303_0303;
    low | high << 4
}

pub(super) struct Iq4Xs;
impl Unpack for Iq4Xs {
    const BYTES: usize = 136;
    const PARTS: usize = 8;

    #[inline(always)]
    fn unpack(block: &[u8], to: &mut Group, _: usize) {
        let scales = twice(iq4_xs_scales(&block.as_chunks::<8>().0[0]));
        bytes::scaled(scales, 32, half_at(block, 0), &mut to.scales);
        for part in 0..PARTS {
            bytes::look_up(&IQ4, &block[8 + 16 * part..][..16], to.numbers(part));
        }
    }
}

pub(super) struct Mxfp4;
impl Unpack for Mxfp4 {
    const BYTES: usize = 17;
    const PARTS: usize = 1;

    #[inline(always)]
    fn unpack(block: &[u8], to: &mut Group, part: usize) {
        to.scale(part, bytes::half_power(block[0]));
        bytes::look_up(&FP4, &block[1..17], to.numbers(part));
    }

    #[inline(always)]
    fn unpack_all(blocks: &[u8], to: &mut Group) {
        let exponents = (0..PARTS).rev().fold(0, |all, part| {
            all << 8 | u64::from(blocks[Self::BYTES * part])
        });
        bytes::half_powers(twice(exponents), &mut to.scales);
        for (part, block) in blocks.chunks_exact(Self::BYTES).enumerate() {
            bytes::look_up(&FP4, &block[1..17], to.numbers(part));
        }
    }
}
