use std::io::Write;

use super::*;

const KINDS: [QuantType; 3] = [QuantType::Q4_0, QuantType::Q4_1, QuantType::Q8_0];

/// A matrix of pseudo-random blocks with scales between 1/64 and 1/8.
fn matrix(kind: QuantType, rows: usize, cols: usize) -> QuantMatrix {
    let mut state = 12_345u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let mut bytes = vec![0xEE; 64];
    for _ in 0..rows * cols / BLOCK {
        let scale = f16::from_f32((f32::from(next()) + 36.0) / 2304.0);
        bytes.extend(scale.to_le_bytes());
        if kind == QuantType::Q4_1 {
            bytes.extend(f16::from_f32(f32::from(next()) / 256.0 - 0.7).to_le_bytes());
        }
        let left = kind.block_bytes() - (bytes.len() - 64) % kind.block_bytes();
        bytes.extend((0..left).map(|_| next()));
    }
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&bytes).unwrap();
    file.flush().unwrap();
    let map = Arc::new(MappedFile::open(file.path()).unwrap());
    QuantMatrix::new(map, 64, rows, cols, kind).unwrap()
}

fn columns(count: usize, cols: usize) -> Vec<f32> {
    (0..count * cols)
        .map(|i| ((i * 7919) % 2001) as f32 / 1000.0 - 1.0)
        .collect()
}

fn product(set: InstructionSet, matrix: &QuantMatrix, x: &[f32]) -> Vec<f32> {
    let mut out = vec![f32::NAN; x.len() / matrix.cols() * matrix.rows()];
    let mut products = [Product {
        matrix,
        out: &mut out,
    }];
    multiply_with(set, &mut products, x, matrix.cols());
    out
}

#[test]
fn every_instruction_set_agrees_with_the_weights_written_out() {
    // 3 columns are computed one by one, 11 as a tile and the rest; 18 and 3 blocks leave parts of
    // a register empty.
    for (cols, count) in [(576, 1), (576, 11), (96, 3), (1536, 8)] {
        for kind in KINDS {
            let matrix = matrix(kind, 101, cols);
            let x = columns(count, cols);
            let mut row = vec![0.0; cols];
            for set in [
                InstructionSet::Portable,
                InstructionSet::Avx2,
                InstructionSet::Avx512,
            ] {
                if !set.is_available() {
                    continue;
                }
                let out = product(set, &matrix, &x);
                for r in 0..matrix.rows() {
                    matrix.dequantise_row(r, &mut row);
                    for (c, x) in x.chunks_exact(cols).enumerate() {
                        let terms = || row.iter().zip(x).map(|(w, x)| f64::from(w * x));
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
fn a_column_is_the_same_alone_and_among_others() {
    for kind in KINDS {
        let matrix = matrix(kind, 40, 576);
        let x = columns(11, 576);
        let together = product(InstructionSet::best(), &matrix, &x);
        for (column, expected) in x.chunks_exact(576).zip(together.chunks_exact(40)) {
            assert_eq!(product(InstructionSet::best(), &matrix, column), expected);
        }
    }
}

#[test]
fn a_matrix_outside_its_file_is_refused() {
    let whole = matrix(QuantType::Q4_1, 4, 64);
    for (rows, cols, offset) in [(5, 64, 64), (4, 64, 65), (usize::MAX, 64, 0), (4, 40, 0)] {
        let made = QuantMatrix::new(whole.file.clone(), offset, rows, cols, QuantType::Q4_1);
        assert!(made.is_err(), "{rows} {cols} {offset}");
    }
}
