//! The kernels in plain Rust: what the others must agree with.

use super::{BLOCK, QuantType, half_at, scales_q4k};

/// Writes the weights of `block` to `out`.
pub(super) fn dequantise(kind: QuantType, block: &[u8], out: &mut [f32]) {
    match kind {
        QuantType::Q4_0 => {
            let scale = half_at(block, 0);
            nibbles(&block[2..], scale, -8.0 * scale, out);
        }
        QuantType::Q4_1 => nibbles(&block[4..], half_at(block, 0), half_at(block, 2), out),
        QuantType::Q8_0 => {
            let scale = half_at(block, 0);
            for (out, byte) in out.iter_mut().zip(&block[2..]) {
                *out = scale * f32::from(byte.cast_signed());
            }
        }
        QuantType::Q4K => {
            let (scale, minimum) = (half_at(block, 0), half_at(block, 2));
            let mut packed = [0; 12];
            packed.copy_from_slice(&block[4..16]);
            let (scales, minima) = scales_q4k(&packed);
            for (part, out) in out.chunks_exact_mut(BLOCK).enumerate() {
                let bytes = &block[16 + part / 2 * BLOCK..][..BLOCK];
                let scale = scale * f32::from(scales[part]);
                let minimum = minimum * f32::from(minima[part]);
                for (out, byte) in out.iter_mut().zip(bytes) {
                    let weight = byte >> (part % 2 * 4) & 15;
                    *out = scale * f32::from(weight) - minimum;
                }
            }
        }
        QuantType::Q6K => {
            let scale = half_at(block, 208);
            for (part, out) in out.chunks_exact_mut(BLOCK).enumerate() {
                let (half, quarter) = (part / 4, part % 4);
                let low = &block[64 * half + 32 * (quarter % 2)..][..BLOCK];
                let high = &block[128 + 32 * half..][..BLOCK];
                for (i, out) in out.iter_mut().enumerate() {
                    let scale = scale * f32::from(block[192 + 2 * part + i / 16].cast_signed());
                    let weight =
                        low[i] >> (quarter / 2 * 4) & 15 | (high[i] >> (2 * quarter) & 3) << 4;
                    *out = scale * (f32::from(weight) - 32.0);
                }
            }
        }
    }
}

/// 32 weights from 16 bytes: all the low nibbles, then all the high ones.
fn nibbles(bytes: &[u8], scale: f32, minimum: f32, out: &mut [f32]) {
    let (low, high) = out.split_at_mut(BLOCK / 2);
    for ((low, high), byte) in low.iter_mut().zip(high).zip(bytes) {
        *low = scale * f32::from(byte & 15) + minimum;
        *high = scale * f32::from(byte >> 4) + minimum;
    }
}

/// The dot product of a row of weights with each column.
pub(super) fn dot<const N: usize>(kind: QuantType, row: &[u8], columns: &[&[f32]; N]) -> [f32; N] {
    const LANES: usize = 8;
    let mut sums = [[0.0f32; LANES]; N];
    let mut weights = [0.0; 8 * BLOCK];
    let weights = &mut weights[..kind.block_weights()];
    for (index, block) in row.chunks_exact(kind.block_bytes()).enumerate() {
        dequantise(kind, block, weights);
        for (sums, column) in sums.iter_mut().zip(columns) {
            let x = &column[index * weights.len()..][..weights.len()];
            for (weights, x) in weights.chunks_exact(LANES).zip(x.chunks_exact(LANES)) {
                for ((sum, weight), x) in sums.iter_mut().zip(weights).zip(x) {
                    *sum += weight * x;
                }
            }
        }
    }
    sums.map(|lanes| lanes.iter().sum())
}
