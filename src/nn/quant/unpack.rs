//! Blocks of weights unpacked to signed bytes with a scale and, in some formats, a minimum for
//! every sixteen: what the formats have in common that have no kernel of their own. A weight is
//! `scale * number - minimum`, computed as ggml does (`ggml-quants.c`), so that it is the same to
//! the last bit.
//!
//! The functions are plain Rust that is inlined into kernels, where the compiler makes vector code
//! of it for the instruction set at hand.

use super::{BLOCK, QuantType, half_at, scales_q4k};

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
    pub const EMPTY: Group = Group {
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
    const HALVES: bool = false;
    /// Whether there are minima.
    const MINIMA: bool = false;
    /// Unpacks a block to the parts of `to` from `part` on.
    fn unpack(block: &[u8], to: &mut Group, part: usize);
}

/// Unpacks `count` parts of a row from part `first` on, which begins a block.
#[inline(always)]
pub(super) fn group<F: Unpack>(row: &[u8], first: usize, count: usize, to: &mut Group) {
    let blocks = &row[first / F::PARTS * F::BYTES..][..count / F::PARTS * F::BYTES];
    for (i, block) in blocks.chunks_exact(F::BYTES).enumerate() {
        F::unpack(block, to, i * F::PARTS);
    }
}

/// Calls a generic function with the format of a [`QuantType`].
macro_rules! with_format {
    ($kind:expr, $format:ident => $body:expr) => {
        match $kind {
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

/// For every byte, eight bytes that are 16 where the byte has a bit.
#[cfg(not(all(target_arch = "x86_64", target_feature = "avx2")))]
static SIXTEENS: [[u8; 8]; 256] = {
    let mut all = [[0; 8]; 256];
    let mut i = 0;
    while i < 256 * 8 {
        if ((i / 8) >> (i % 8)) & 1 == 1 {
            all[i / 8][i % 8] = 16;
        }
        i += 1;
    }
    all
};

/// 32 numbers of 5 bits: the low nibbles of 16 bytes, then the high ones, each with its fifth bit;
/// less `offset`.
#[inline(always)]
fn fives(high: &[u8], low: &[u8], offset: i8, to: &mut [i8; BLOCK]) {
    #[cfg(all(target_arch = "x86_64", target_feature = "avx2"))]
    {
        use std::arch::x86_64::*;
        // SAFETY: the build's own target has the instructions; `low` has 16 bytes, `to` room for 32.
        unsafe {
            let packed = _mm_loadu_si128(low.as_ptr().cast());
            let both = _mm256_set_m128i(_mm_srli_epi16::<4>(packed), packed);
            let four = _mm256_and_si256(both, _mm256_set1_epi8(15));
            // Each byte of the bits eight times over, of which each looks at a bit of its own.
            let bits = i32::from_le_bytes([high[0], high[1], high[2], high[3]]);
            let spread = _mm256_setr_epi64x(
                0,
                0x0101_0101_0101_0101,
                0x0202_0202_0202_0202,
                0x0303_0303_0303_0303,
            );
            let bits = _mm256_shuffle_epi8(_mm256_set1_epi32(bits), spread);
            let own = _mm256_set1_epi64x(0x8040_2010_0804_0201u64.cast_signed());
            let set = _mm256_cmpeq_epi8(_mm256_and_si256(bits, own), own);
            let fifth = _mm256_and_si256(set, _mm256_set1_epi8(16));
            let number = _mm256_or_si256(four, fifth);
            let number = _mm256_sub_epi8(number, _mm256_set1_epi8(offset));
            _mm256_storeu_si256(to.as_mut_ptr().cast(), number);
        }
    }
    #[cfg(not(all(target_arch = "x86_64", target_feature = "avx2")))]
    {
        let mut fifth = [0u8; BLOCK];
        for (fifth, byte) in fifth.as_chunks_mut::<8>().0.iter_mut().zip(&high[..4]) {
            *fifth = SIXTEENS[usize::from(*byte)];
        }
        let low: &[u8; 16] = &low.as_chunks::<16>().0[0];
        for i in 0..16 {
            to[i] = ((low[i] & 15 | fifth[i]).cast_signed()).wrapping_sub(offset);
            to[i + 16] = ((low[i] >> 4 | fifth[i + 16]).cast_signed()).wrapping_sub(offset);
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
        fives(&block[2..6], &block[6..22], 16, to.numbers(part));
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
        fives(&block[4..8], &block[8..24], 0, to.numbers(part));
    }
}

/// 128 numbers of 2 bits from 32 bytes: the lowest two bits of each, the next ones, and so on.
#[inline(always)]
fn pairs_of_bits(bytes: &[u8], to: &mut Group, first: usize) {
    let bytes: &[u8; BLOCK] = &bytes.as_chunks::<BLOCK>().0[0];
    for shift in 0..4 {
        let numbers = to.numbers(first + shift);
        for i in 0..BLOCK {
            numbers[i] = (bytes[i] >> (2 * shift) & 3).cast_signed();
        }
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
        for i in 0..16 {
            to.scales[i] = scale * f32::from(block[i] & 15);
            to.minima[i] = minimum * f32::from(block[i] >> 4);
        }
        pairs_of_bits(&block[16..48], to, 0);
        pairs_of_bits(&block[48..80], to, 4);
    }
}

pub(super) struct Q3K;
impl Unpack for Q3K {
    const BYTES: usize = 110;
    const PARTS: usize = 8;
    const HALVES: bool = true;

    #[inline(always)]
    fn unpack(block: &[u8], to: &mut Group, _: usize) {
        let (high, low, packed) = (&block[..32], &block[32..96], &block[96..108]);
        let scale = half_at(block, 108);
        // Four bits of each of the sixteen scales, then the two above them.
        for i in 0..16 {
            let four = packed[i % 8] >> (i / 8 * 4) & 15;
            let two = packed[8 + i % 4] >> (i / 4 * 2) & 3;
            to.scales[i] = scale * (f32::from(four | two << 4) - 32.0);
        }
        pairs_of_bits(&low[..32], to, 0);
        pairs_of_bits(&low[32..], to, 4);
        let high: &[u8; BLOCK] = &high.as_chunks::<BLOCK>().0[0];
        for part in 0..PARTS {
            let numbers = to.numbers(part);
            for i in 0..BLOCK {
                // Without the third bit a weight is less by four.
                let third = (high[i] >> part & 1) << 2;
                numbers[i] = numbers[i].wrapping_add(third.cast_signed() - 4);
            }
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
        let high: &[u8; BLOCK] = &block[16..].as_chunks::<BLOCK>().0[0];
        let low = block[48..].as_chunks::<BLOCK>().0;
        for part in 0..PARTS {
            to.scale(part, scale * f32::from(scales[part]));
            to.minimum(part, minimum * f32::from(minima[part]));
            let (low, numbers) = (&low[part / 2], to.numbers(part));
            for i in 0..BLOCK {
                let four = low[i] >> (part % 2 * 4) & 15;
                numbers[i] = (four | (high[i] >> part & 1) << 4).cast_signed();
            }
        }
    }
}

/// The weights that the formats `IQ4` choose from.
const IQ4: [i8; 16] = [
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
];
/// Twice the 4-bit floats (one bit of sign, two of exponent, one of mantissa).
const FP4: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// 32 numbers of a table: those at the low nibbles of 16 bytes, then those at the high ones.
#[inline(always)]
fn look_up(table: &[i8; 16], bytes: &[u8], to: &mut [i8; BLOCK]) {
    let bytes: &[u8; 16] = &bytes.as_chunks::<16>().0[0];
    #[cfg(all(target_arch = "x86_64", target_feature = "ssse3"))]
    {
        use std::arch::x86_64::*;
        // SAFETY: the build's own target has the instructions; every pointer is to 16 bytes.
        unsafe {
            let table = _mm_loadu_si128(table.as_ptr().cast());
            let packed = _mm_loadu_si128(bytes.as_ptr().cast());
            let mask = _mm_set1_epi8(15);
            let low = _mm_shuffle_epi8(table, _mm_and_si128(packed, mask));
            let high = _mm_and_si128(_mm_srli_epi16::<4>(packed), mask);
            let high = _mm_shuffle_epi8(table, high);
            _mm_storeu_si128(to.as_mut_ptr().cast(), low);
            _mm_storeu_si128(to.as_mut_ptr().add(16).cast(), high);
        }
    }
    #[cfg(not(all(target_arch = "x86_64", target_feature = "ssse3")))]
    for i in 0..16 {
        to[i] = table[usize::from(bytes[i] & 15)];
        to[i + 16] = table[usize::from(bytes[i] >> 4)];
    }
}

pub(super) struct Iq4Nl;
impl Unpack for Iq4Nl {
    const BYTES: usize = 18;
    const PARTS: usize = 1;

    #[inline(always)]
    fn unpack(block: &[u8], to: &mut Group, part: usize) {
        to.scale(part, half_at(block, 0));
        look_up(&IQ4, &block[2..18], to.numbers(part));
    }
}

pub(super) struct Iq4Xs;
impl Unpack for Iq4Xs {
    const BYTES: usize = 136;
    const PARTS: usize = 8;

    #[inline(always)]
    fn unpack(block: &[u8], to: &mut Group, _: usize) {
        let scale = half_at(block, 0);
        let high = u16::from_le_bytes([block[2], block[3]]);
        for part in 0..PARTS {
            let low = block[4 + part / 2] >> (part % 2 * 4) & 15;
            let own = u16::from(low) | (high >> (2 * part) & 3) << 4;
            to.scale(part, scale * (f32::from(own) - 32.0));
            look_up(&IQ4, &block[8 + 16 * part..][..16], to.numbers(part));
        }
    }
}

pub(super) struct Mxfp4;
impl Unpack for Mxfp4 {
    const BYTES: usize = 17;
    const PARTS: usize = 1;

    #[inline(always)]
    fn unpack(block: &[u8], to: &mut Group, part: usize) {
        to.scale(part, half_power(block[0]));
        look_up(&FP4, &block[1..17], to.numbers(part));
    }
}

/// Half of the power of two whose exponent is `byte` less 127.
#[inline(always)]
fn half_power(byte: u8) -> f32 {
    match byte {
        0 | 1 => f32::from_bits(0x0020_0000 << byte),
        _ => f32::from_bits(u32::from(byte - 1) << 23),
    }
}
