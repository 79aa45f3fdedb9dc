//! The kernels in plain Rust: what the others must agree with.

use super::{BLOCK, QuantType, half_at};

/// Writes the 32 weights of `block` to `out`.
pub(super) fn dequantise(kind: QuantType, block: &[u8], out: &mut [f32]) {
    let scale = half_at(block, 0);
    let (minimum, nibbles) = match kind {
        QuantType::Q8_0 => {
            for (out, byte) in out.iter_mut().zip(&block[2..]) {
                *out = scale * f32::from(byte.cast_signed());
            }
            return;
        }
        QuantType::Q4_0 => (-8.0 * scale, &block[2..18]),
        QuantType::Q4_1 => (half_at(block, 2), &block[4..20]),
    };
    let (low, high) = out.split_at_mut(BLOCK / 2);
    for ((low, high), byte) in low.iter_mut().zip(high).zip(nibbles) {
        *low = scale * f32::from(byte & 15) + minimum;
        *high = scale * f32::from(byte >> 4) + minimum;
    }
}

/// The dot product of a row of weights with each column.
pub(super) fn dot<const N: usize>(kind: QuantType, row: &[u8], columns: &[&[f32]; N]) -> [f32; N] {
    const LANES: usize = 8;
    let mut sums = [[0.0f32; LANES]; N];
    let mut weights = [0.0; BLOCK];
    for (index, block) in row.chunks_exact(kind.block_bytes()).enumerate() {
        dequantise(kind, block, &mut weights);
        for (sums, column) in sums.iter_mut().zip(columns) {
            let x = &column[index * BLOCK..][..BLOCK];
            for (weights, x) in weights.chunks_exact(LANES).zip(x.chunks_exact(LANES)) {
                for ((sum, weight), x) in sums.iter_mut().zip(weights).zip(x) {
                    *sum += weight * x;
                }
            }
        }
    }
    sums.map(|lanes| lanes.iter().sum())
}
