use super::*;
use std::sync::Arc;

const KINDS: [QuantType; 16] = QuantType::ALL;

const SETS: &[InstructionSet] = &[
    InstructionSet::Portable,
    #[cfg(target_arch = "x86_64")]
    InstructionSet::Avx2,
    #[cfg(target_arch = "x86_64")]
    InstructionSet::Avx512,
    #[cfg(target_arch = "aarch64")]
    InstructionSet::Neon,
    #[cfg(target_arch = "aarch64")]
    InstructionSet::NeonDot,
];

/// A matrix of pseudo-random blocks with scales between 1/64 and 1/8.
fn matrix(kind: QuantType, rows: usize, cols: usize) -> QuantMatrix {
    let mut state = 12_345u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let mut bytes = Vec::new();
    for _ in 0..rows * cols / kind.block_weights() {
        if kind.floats() {
            let weight = (f32::from(next()) - 127.5) / 300.0;
            match kind {
                QuantType::F32 => bytes.extend(weight.to_le_bytes()),
                QuantType::F16 => bytes.extend(f16::from_f32(weight).to_le_bytes()),
                _ => bytes.extend(half::bf16::from_f32(weight).to_le_bytes()),
            }
            continue;
        }
        let mut block: Vec<u8> = (0..kind.block_bytes()).map(|_| next()).collect();
        let scale = f16::from_f32((f32::from(next()) + 36.0) / 2304.0).to_le_bytes();
        let minimum = f16::from_f32(f32::from(next()) / 256.0 - 0.7).to_le_bytes();
        match kind {
            QuantType::Q4_1 | QuantType::Q5_1 | QuantType::Q4K | QuantType::Q5K => {
                block[..2].copy_from_slice(&scale);
                block[2..4].copy_from_slice(&minimum);
            }
            QuantType::Q2K => {
                block[80..82].copy_from_slice(&scale);
                block[82..].copy_from_slice(&minimum);
            }
            QuantType::Q3K => block[108..].copy_from_slice(&scale),
            QuantType::Q6K => block[208..].copy_from_slice(&scale),
            QuantType::Mxfp4 => block[0] = 118 + block[0] % 8,
            _ => block[..2].copy_from_slice(&scale),
        }
        bytes.extend(block);
    }
    QuantMatrix::from_bytes(&bytes, rows, cols, kind).unwrap()
}

fn columns(count: usize, cols: usize) -> Vec<f32> {
    (0..count * cols)
        .map(|i| ((i * 7919) % 2001) as f32 / 1000.0 - 1.0)
        .collect()
}

fn product(set: InstructionSet, matrix: &QuantMatrix, x: &[f32]) -> Vec<f32> {
    product_as(set, ActivationPrecision::Rounded, matrix, x)
}

fn product_as(
    set: InstructionSet,
    how: ActivationPrecision,
    matrix: &QuantMatrix,
    x: &[f32],
) -> Vec<f32> {
    let mut out = vec![f32::NAN; x.len() / matrix.cols() * matrix.rows()];
    let mut products = [Product {
        matrix,
        out: &mut out,
    }];
    multiply_with(set, how, &mut products, x, matrix.cols());
    out
}

/// What `x` is multiplied as: itself, or rounded to 8 bits, for `Q8_0` in two steps.
fn as_multiplied(set: InstructionSet, kind: QuantType, x: &[f32]) -> Vec<f64> {
    if !kind.rounds() || set == InstructionSet::Portable {
        return x.iter().copied().map(f64::from).collect();
    }
    x.chunks(BLOCK)
        .flat_map(|block| {
            let largest = block.iter().fold(0.0f32, |a, b| a.max(b.abs()));
            let inverse = match 127.0 / largest {
                inverse if inverse.is_finite() => inverse,
                _ => 0.0,
            };
            let scale = f64::from(largest / 127.0);
            let rounded = move |x: &f32| {
                let first = (x * inverse).round_ties_even();
                let rest = 256.0 * (x * inverse - first);
                let rest = match kind {
                    QuantType::Q8_0 => rest.clamp(-127.0, 127.0).round_ties_even(),
                    _ => 0.0,
                };
                scale * (f64::from(first) + f64::from(rest) / 256.0)
            };
            block.iter().map(rounded).collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn every_instruction_set_agrees_with_the_weights_written_out() {
    // 3 columns are computed one by one, 11 as a tile and the rest; 18 and 3 blocks leave parts of
    // a register empty.
    for (cols, count) in [(576, 1), (576, 11), (96, 3), (1536, 8), (256, 3)] {
        for kind in KINDS {
            if cols % kind.block_weights() != 0 {
                continue;
            }
            let matrix = matrix(kind, 101, cols);
            let mut x = columns(count, cols);
            // A block of nothing, and one of numbers so small that they have no inverse.
            x[..BLOCK].fill(0.0);
            x[cols - BLOCK..cols].fill(1e-40);
            let mut row = vec![0.0; cols];
            for &set in SETS {
                if !set.is_available() {
                    continue;
                }
                let out = product(set, &matrix, &x);
                let x = as_multiplied(set, kind, &x);
                for r in 0..matrix.rows() {
                    matrix.dequantise_row(r, &mut row);
                    for (c, x) in x.chunks_exact(cols).enumerate() {
                        let terms = || row.iter().zip(x).map(|(w, x)| f64::from(*w) * x);
                        let exact: f64 = terms().sum();
                        let size: f64 = terms().map(f64::abs).sum();
                        let found = f64::from(out[c * matrix.rows() + r]);
                        assert!(
                            (found - exact).abs() < 2e-6 * size,
                            "{set:?} {kind:?} {cols}: {found} is not {exact}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn rounding_activations_moves_results_by_less_than_a_percent() {
    let best = InstructionSet::best();
    for kind in KINDS {
        let matrix = matrix(kind, 200, 1024);
        let x = columns(5, 1024);
        let rounded = product(best, &matrix, &x);
        let exact = product(InstructionSet::Portable, &matrix, &x);
        let squares = |v: &mut dyn Iterator<Item = f32>| -> f64 {
            v.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt()
        };
        let apart = squares(&mut rounded.iter().zip(&exact).map(|(a, b)| a - b));
        let apart = apart / squares(&mut exact.iter().copied());
        let most = match kind {
            kind if !kind.rounds() => 1e-6,
            QuantType::Q8_0 => 4e-5,
            _ => 1e-2,
        };
        assert!(apart < most, "{kind:?}: {apart}");
    }
}

#[test]
fn exact_products_round_nothing() {
    for &set in SETS {
        for kind in KINDS {
            if !set.is_available() {
                continue;
            }
            for count in [1, 11] {
                let matrix = matrix(kind, 20, 768);
                let x = columns(count, 768);
                let exact = product(InstructionSet::Portable, &matrix, &x);
                let found = product_as(set, ActivationPrecision::Exact, &matrix, &x);
                let size = exact.iter().fold(0.0f32, |a, b| a.max(b.abs()));
                for (found, exact) in found.iter().zip(&exact) {
                    assert!((found - exact).abs() < 3e-6 * size, "{set:?} {kind:?}");
                }
            }
        }
    }
}

#[test]
fn some_rows_of_a_matrix_are_a_matrix() {
    let whole = matrix(QuantType::Q5K, 9, 512);
    let part = whole.some_rows(3..7);
    let (mut one, mut other) = ([0.0; 512], [0.0; 512]);
    for row in 0..4 {
        part.dequantise_row(row, &mut one);
        whole.dequantise_row(row + 3, &mut other);
        assert_eq!(one, other);
    }
    assert_eq!(part.rows(), 4);
}

#[test]
fn unpacked_formats_give_the_same_in_plain_code() {
    for kind in KINDS.into_iter().filter(|kind| kind.unpacks()) {
        let matrix = matrix(kind, 3, 768);
        let x = columns(1, 768);
        let rounded = Rounded::of(&x, 768);
        let x = as_multiplied(InstructionSet::best(), kind, &x);
        let mut row = [0.0; 768];
        for r in 0..3 {
            matrix.dequantise_row(r, &mut row);
            let [found] = unpacked::dot(kind, &[matrix.row_bytes(r)], &rounded.column(0));
            let exact: f64 = row.iter().zip(&x).map(|(w, x)| f64::from(*w) * x).sum();
            let size: f64 = row
                .iter()
                .zip(&x)
                .map(|(w, x)| (f64::from(*w) * x).abs())
                .sum();
            assert!((f64::from(found) - exact).abs() < 2e-6 * size, "{kind:?}");
        }
    }
}

#[test]
fn nan_and_infinity_pass_through() {
    for &set in SETS {
        if !set.is_available() {
            continue;
        }
        for kind in KINDS {
            let matrix = matrix(kind, 5, 256);
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut x = columns(2, 256);
                x[77] = bad;
                let out = product(set, &matrix, &x);
                let (first, second) = out.split_at(5);
                // A weight of nothing times infinity is no number either.
                assert!(first.iter().all(|v| !v.is_finite()), "{set:?} {kind:?}");
                assert!(second.iter().all(|v| v.is_finite()), "{set:?} {kind:?}");
            }
        }
    }
}

#[test]
fn a_column_is_the_same_alone_and_among_others() {
    for kind in KINDS {
        let matrix = matrix(kind, 40, 768);
        let x = columns(11, 768);
        let together = product(InstructionSet::best(), &matrix, &x);
        for (column, expected) in x.chunks_exact(768).zip(together.chunks_exact(40)) {
            let alone = product(InstructionSet::best(), &matrix, column);
            if !kind.rounds() {
                assert_eq!(alone, expected);
            }
            // What is rounded is summed up in another order.
            let size = expected.iter().fold(0.0f32, |a, b| a.max(b.abs()));
            for (alone, expected) in alone.iter().zip(expected) {
                assert!((alone - expected).abs() < 1e-5 * size, "{kind:?}");
            }
        }
    }
}

#[test]
fn blocks_are_read_as_ggml_wrote_them() {
    use candle_core::quantized::{GgmlDType, QTensor};
    let weights = crate::nn::noise(3, 0, &[3, 512], &candle_core::Device::Cpu).unwrap();
    for (kind, dtype) in [
        (QuantType::F32, GgmlDType::F32),
        (QuantType::F16, GgmlDType::F16),
        (QuantType::Bf16, GgmlDType::BF16),
        (QuantType::Q4_0, GgmlDType::Q4_0),
        (QuantType::Q4_1, GgmlDType::Q4_1),
        (QuantType::Q5_0, GgmlDType::Q5_0),
        (QuantType::Q5_1, GgmlDType::Q5_1),
        (QuantType::Q8_0, GgmlDType::Q8_0),
        (QuantType::Q2K, GgmlDType::Q2K),
        (QuantType::Q3K, GgmlDType::Q3K),
        (QuantType::Q4K, GgmlDType::Q4K),
        (QuantType::Q5K, GgmlDType::Q5K),
        (QuantType::Q6K, GgmlDType::Q6K),
    ] {
        let theirs = QTensor::quantize(&weights, dtype).unwrap();
        let ours = QuantMatrix::from_bytes(&theirs.data().unwrap(), 3, 512, kind).unwrap();
        let theirs = theirs.dequantize(&candle_core::Device::Cpu).unwrap();
        for (row, expected) in theirs.to_vec2::<f32>().unwrap().iter().enumerate() {
            let mut found = vec![0.0; 512];
            ours.dequantise_row(row, &mut found);
            for (found, expected) in found.iter().zip(expected) {
                assert!(
                    (found - expected).abs() < 1e-6,
                    "{kind:?}: {found} {expected}"
                );
            }
        }
    }
}

#[test]
fn a_matrix_outside_its_file_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), [0; 64 + 4 * 2 * 20]).unwrap();
    let map = Arc::new(MappedFile::open(file.path()).unwrap());
    for (rows, cols, offset, fits) in [
        (4, 64, 64, true),
        (5, 64, 64, false),
        (4, 64, 65, false),
        (usize::MAX, 64, 0, false),
        (4, 40, 0, false),
    ] {
        let made = QuantMatrix::new(map.clone(), offset, rows, cols, QuantType::Q4_1);
        assert_eq!(made.is_ok(), fits, "{rows} {cols} {offset}");
    }
    assert!(QuantMatrix::from_bytes(&[0; 144], 1, 256, QuantType::Q4K).is_ok());
    assert!(QuantMatrix::from_bytes(&[0; 144], 1, 288, QuantType::Q4K).is_err());
}

#[test]
fn a_gpu_unpacks_every_format_to_the_same_weights() {
    use crate::nn::gpu::{Gpu, GpuOptions, GpuQuantMatrix, GpuTensor, adapters};
    use candle_core::{Device, Tensor};
    if adapters().is_empty() {
        eprintln!(
            "no adapter of Vulkan, Metal or DirectX 12 is on this machine: nothing is tested"
        );
        return;
    }
    let gpu = Gpu::open(Some(0), GpuOptions::default()).unwrap();
    for kind in KINDS {
        // More tokens than go together, and rows that no workgroup divides.
        for (rows, cols, tokens) in [(1, 256, 1), (7, 512, 5), (70, 256, 2), (37, 256, 33)] {
            let matrix = matrix(kind, rows, cols);
            let x = columns(tokens, cols);
            let bias: Vec<f32> = (0..rows).map(|i| i as f32 / 8.0).collect();
            let exact = ActivationPrecision::Exact;
            let mut want = product_as(InstructionSet::Portable, exact, &matrix, &x);
            for (i, want) in want.iter_mut().enumerate() {
                *want += bias[i % rows];
            }
            let there = GpuQuantMatrix::upload(&gpu, &matrix, Some(&bias)).unwrap();
            let x = Tensor::from_vec(x, (1, tokens, cols), &Device::Cpu).unwrap();
            let got = there
                .multiply(&GpuTensor::upload(&gpu, &x).unwrap())
                .unwrap();
            assert_eq!(got.dims(), [1, tokens, rows]);
            let got = got.download().unwrap().flatten_all().unwrap();
            let got = got.to_vec1::<f32>().unwrap();
            let largest = want.iter().fold(1e-3f32, |m, v| m.max(v.abs()));
            for (got, want) in got.iter().zip(&want) {
                let off = (got - want).abs() / largest;
                assert!(off < 1e-4, "{kind:?} {rows}x{cols}: {got} for {want}");
            }
        }
    }
}
