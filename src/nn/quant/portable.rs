//! The kernels in plain Rust: what the others must agree with.

use super::{BLOCK, Column, QuantType, half_at};

/// Writes the 32 weights of `block` to `out`.
pub(super) fn dequantise(kind: QuantType, block: &[u8], out: &mut [f32]) {
    let (scale, minimum, values) = unpack(kind, block);
    for (out, value) in out.iter_mut().zip(values) {
        *out = scale * f32::from(value) + minimum;
    }
}

/// Scale, minimum and 32 integers of a block.
fn unpack(kind: QuantType, block: &[u8]) -> (f32, f32, [i16; BLOCK]) {
    let scale = half_at(block, 0);
    let mut values = [0; BLOCK];
    let (minimum, nibbles) = match kind {
        QuantType::Q8_0 => {
            for (value, byte) in values.iter_mut().zip(&block[2..]) {
                *value = i16::from(byte.cast_signed());
            }
            return (scale, 0.0, values);
        }
        QuantType::Q4_0 => (-8.0 * scale, &block[2..18]),
        QuantType::Q4_1 => (half_at(block, 2), &block[4..20]),
    };
    let (low, high) = values.split_at_mut(BLOCK / 2);
    for ((low, high), byte) in low.iter_mut().zip(high).zip(nibbles) {
        *low = i16::from(byte & 15);
        *high = i16::from(byte >> 4);
    }
    (scale, minimum, values)
}

/// The dot product of a row of weights with each column.
pub(super) fn dot<const N: usize>(
    kind: QuantType,
    row: &[u8],
    columns: &[Column<'_>; N],
) -> [f32; N] {
    let mut sums = [0.0; N];
    for (index, block) in row.chunks_exact(kind.block_bytes()).enumerate() {
        let (scale, minimum, weights) = unpack(kind, block);
        for (sum, column) in sums.iter_mut().zip(columns) {
            let values = &column.values[index * BLOCK..][..BLOCK];
            let exact: i32 = weights
                .iter()
                .zip(values)
                .map(|(w, x)| i32::from(*w) * i32::from(*x))
                .sum();
            *sum += exact as f32 * (scale * column.scales[2 * index])
                + minimum * column.scales[2 * index + 1];
        }
    }
    sums
}
