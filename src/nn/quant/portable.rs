//! The kernels in plain Rust: what the others must agree with.

use super::super::kernels::gemm::with_scratch;
use super::super::kernels::simd::dispatch;
use super::{BLOCK, QuantType, half_at, scales_q4k, unpack};
use half::{bf16, f16};

dispatch! {
    /// Writes a row's weights to `out`.
    pub(super) fn dequantise_row(kind: QuantType, row: &[u8], out: &mut [f32]) {
        match kind {
            QuantType::F32 => {
                for (out, bytes) in out.iter_mut().zip(row.as_chunks().0) {
                    *out = f32::from_le_bytes(*bytes);
                }
            }
            QuantType::F16 => {
                for (out, bytes) in out.iter_mut().zip(row.as_chunks().0) {
                    *out = f16::from_le_bytes(*bytes).to_f32();
                }
            }
            QuantType::Bf16 => {
                for (out, bytes) in out.iter_mut().zip(row.as_chunks().0) {
                    *out = bf16::from_le_bytes(*bytes).to_f32();
                }
            }
            kind if kind.unpacks() => unpack::dequantise_row(kind, row, out),
            kind => {
                let blocks = row.chunks_exact(kind.block_bytes());
                for (block, out) in blocks.zip(out.chunks_exact_mut(kind.block_weights())) {
                    dequantise(kind, block, out);
                }
            }
        }
    }
}

/// Writes the weights of a block of one of the formats with kernels of their own to `out`.
#[inline(always)]
fn dequantise(kind: QuantType, block: &[u8], out: &mut [f32]) {
    match kind {
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
        _ => {
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
    with_scratch(|weights| {
        weights.resize(columns[0].len(), 0.0);
        dequantise_row(kind, row, weights);
        let (whole, rest) = weights.as_chunks::<LANES>();
        columns.map(|column| {
            let (x, more) = column.as_chunks::<LANES>();
            let mut sums = [0.0f32; LANES];
            for (weights, x) in whole.iter().zip(x) {
                for ((sum, weight), x) in sums.iter_mut().zip(weights).zip(x) {
                    *sum += weight * x;
                }
            }
            let rest = rest.iter().zip(more).map(|(weight, x)| weight * x);
            sums.iter().sum::<f32>() + rest.sum::<f32>()
        })
    })
}
