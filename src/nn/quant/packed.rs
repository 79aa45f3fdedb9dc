//! Quantised weights in two layouts that a GPU unpacks: the same numbers, with scales in f32.

use super::unpack::{self, Group, PARTS};
use super::{BLOCK, QuantMatrix, QuantType, half_at, scales_q4k};
use half::f16;

/// A matrix's weights, row by row.
pub(crate) struct Packed {
    /// Of each weight: 4 or 8 (a weight is `scale * number + minimum`), 16 or 32 (floats).
    pub(crate) bits: u32,
    /// The weights: the lower nibble first, bytes with a sign, or little-endian floats.
    pub(crate) numbers: Vec<u8>,
    /// Scale and minimum of each 32 weights of 4 bits, or of each 16 of 8 bits.
    pub(crate) scales: Vec<f32>,
}

/// Repacks a matrix.
pub(crate) fn packed(matrix: &QuantMatrix) -> Packed {
    let bits = match matrix.kind() {
        QuantType::Q4_0 | QuantType::Q4_1 | QuantType::Q4K => 4,
        kind if kind.floats() => return floats(matrix),
        _ => 8,
    };
    let mut to = Packed {
        bits,
        numbers: Vec::with_capacity(matrix.rows() * matrix.cols() * bits as usize / 8),
        scales: Vec::new(),
    };
    for row in 0..matrix.rows() {
        let bytes = matrix.row_bytes(row);
        let blocks = bytes.chunks_exact(matrix.kind().block_bytes());
        match matrix.kind() {
            QuantType::Q4_0 => blocks.for_each(|block| {
                let scale = half_at(block, 0);
                to.nibbles(&block[2..], scale, -8.0 * scale);
            }),
            QuantType::Q4_1 => blocks.for_each(|block| {
                to.nibbles(&block[4..], half_at(block, 0), half_at(block, 2));
            }),
            QuantType::Q4K => blocks.for_each(|block| to.q4k(block)),
            QuantType::Q8_0 => blocks.for_each(|block| {
                to.numbers.extend_from_slice(&block[2..]);
                to.scales.extend([half_at(block, 0), 0.0].repeat(2));
            }),
            QuantType::Q6K => blocks.for_each(|block| to.q6k(block)),
            kind => to.unpacked(kind, bytes, matrix.cols()),
        }
    }
    to
}

/// In f16, or in f32 where a weight is not one of f16's.
fn floats(matrix: &QuantMatrix) -> Packed {
    let mut row = vec![0f32; matrix.cols()];
    let mut all = Vec::with_capacity(matrix.rows() * matrix.cols());
    for at in 0..matrix.rows() {
        matrix.dequantise_row(at, &mut row);
        all.extend_from_slice(&row);
    }
    let halves = all.iter().map(|&v| f16::from_f32(v));
    let fits = matrix.kind() != QuantType::F32 && halves.clone().all(f16::is_finite);
    Packed {
        bits: if fits { 16 } else { 32 },
        numbers: match fits {
            true => halves.flat_map(f16::to_le_bytes).collect(),
            false => all.iter().flat_map(|v| v.to_le_bytes()).collect(),
        },
        scales: Vec::new(),
    }
}

impl Packed {
    /// 32 weights from 16 bytes: all the low nibbles, then all the high ones.
    fn nibbles(&mut self, bytes: &[u8], scale: f32, minimum: f32) {
        let low = bytes.iter().map(|byte| byte & 15);
        let high = bytes.iter().map(|byte| byte >> 4);
        self.pairs(low.chain(high), scale, minimum);
    }

    /// Weights of four bits each.
    fn pairs(&mut self, weights: impl Iterator<Item = u8>, scale: f32, minimum: f32) {
        let weights: Vec<u8> = weights.collect();
        let pairs = weights.as_chunks::<2>().0;
        self.numbers.extend(pairs.iter().map(|[a, b]| a | b << 4));
        self.scales.extend([scale, minimum]);
    }

    fn q4k(&mut self, block: &[u8]) {
        let (scale, minimum) = (half_at(block, 0), half_at(block, 2));
        let mut six = [0; 12];
        six.copy_from_slice(&block[4..16]);
        let (scales, minima) = scales_q4k(&six);
        for part in 0..8 {
            let bytes = &block[16 + part / 2 * BLOCK..][..BLOCK];
            let weights = bytes.iter().map(|byte| byte >> (part % 2 * 4) & 15);
            let scale = scale * f32::from(scales[part]);
            self.pairs(weights, scale, -minimum * f32::from(minima[part]));
        }
    }

    fn q6k(&mut self, block: &[u8]) {
        let scale = half_at(block, 208);
        for part in 0..8 {
            let (half, quarter) = (part / 4, part % 4);
            let low = &block[64 * half + 32 * (quarter % 2)..][..BLOCK];
            let high = &block[128 + 32 * half..][..BLOCK];
            for (low, high) in low.iter().zip(high) {
                let six = low >> (quarter / 2 * 4) & 15 | (high >> (2 * quarter) & 3) << 4;
                self.numbers.push(six.wrapping_sub(32));
            }
            for sixteen in &block[192 + 2 * part..][..2] {
                self.scales
                    .extend([scale * f32::from(sixteen.cast_signed()), 0.0]);
            }
        }
    }

    fn unpacked(&mut self, kind: QuantType, row: &[u8], columns: usize) {
        let mut group = Group::EMPTY;
        let parts = columns / BLOCK;
        for first in (0..parts).step_by(PARTS) {
            let count = PARTS.min(parts - first);
            unpack::with_format!(kind, F => unpack::group::<F>(row, first, count, &mut group));
            let numbers = group.numbers[..count * BLOCK].iter();
            self.numbers
                .extend(numbers.map(|number| number.cast_unsigned()));
            let each = group.scales.iter().zip(&group.minima).take(2 * count);
            self.scales
                .extend(each.flat_map(|(scale, minimum)| [*scale, -minimum]));
        }
    }
}
