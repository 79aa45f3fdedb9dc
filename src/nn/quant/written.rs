//! Many columns with AVX2 or NEON, formats that are not quantised, and products that round nothing:
//! some rows' weights are written out as f32 once, and then multiplied with all columns, or with
//! what these were rounded to. With weights of 4 bits in blocks of 32, what each row's product with
//! each column is does not change.

use std::ops::Range;

#[cfg(target_arch = "x86_64")]
use super::avx2::{self as kernels, Q4_1, Q4K, Q6K, Q8_0, write_out};
#[cfg(target_arch = "aarch64")]
use super::neon::{self as kernels, Q4_1, Q4K, Q6K, Q8_0, write_out};
use super::{InstructionSet, Out, QuantMatrix, QuantType, portable};
use crate::nn::kernels::gemm::with_scratch;

/// Rows and columns multiplied together, so that registers hold all sums.
const ROWS: usize = 3;
const COLUMNS: usize = 4;
/// Weights that stay in the first-level cache, together with the columns passing by.
const WEIGHTS: usize = 4096;

/// Floats that kernels multiply at a time.
const LANES: usize = 16;

/// The products of `rows` of `matrix` with each column of `x`.
pub(super) fn rows(
    set: InstructionSet,
    matrix: &QuantMatrix,
    x: &[f32],
    rows: Range<usize>,
    out: Out,
) {
    let cols = matrix.cols;
    let group = (WEIGHTS / cols / ROWS).max(1) * ROWS;
    with_scratch(|weights| {
        for start in rows.clone().step_by(group) {
            let count = group.min(rows.end - start);
            weights.resize(count * cols, 0.0);
            for (row, weights) in weights.chunks_exact_mut(cols).enumerate() {
                let bytes = matrix.row_bytes(start + row);
                // SAFETY: this is called where the processor has AVX2, FMA and F16C, or NEON, and
                // there is room for a row.
                unsafe {
                    match matrix.kind {
                        QuantType::Q4_1 => write_out::<Q4_1>(bytes, weights),
                        QuantType::Q8_0 => write_out::<Q8_0>(bytes, weights),
                        QuantType::Q4K => write_out::<Q4K>(bytes, weights),
                        QuantType::Q6K => write_out::<Q6K>(bytes, weights),
                        kind => portable::dequantise_row(kind, bytes, weights),
                    }
                }
            }
            let columns: Vec<&[f32]> = x.chunks_exact(cols).collect();
            let rows: Vec<&[f32]> = weights.chunks_exact(cols).collect();
            let write = |row: usize, column: usize, value: f32| {
                // SAFETY: `out` holds columns * rows numbers (asserted in `multiply_with`), and no
                // other task has this row.
                unsafe { *out.0.add(column * matrix.rows + start + row) = value };
            };
            let (by_four, left) = columns.as_chunks::<COLUMNS>();
            for (i, columns) in by_four.iter().enumerate() {
                all_rows(set, &rows, columns, |row, n, value| {
                    write(row, i * COLUMNS + n, value);
                });
            }
            for (i, column) in left.iter().enumerate() {
                let at = by_four.len() * COLUMNS + i;
                all_rows(set, &rows, &[*column], |row, _, value| {
                    write(row, at, value);
                });
            }
        }
    });
}

/// Calls `write` with each row's and each column's number and their product.
fn all_rows<const N: usize>(
    set: InstructionSet,
    rows: &[&[f32]],
    columns: &[&[f32]; N],
    write: impl Fn(usize, usize, f32),
) {
    let (by_three, left) = rows.as_chunks::<ROWS>();
    let each = |row: usize, values: &[f32; N]| {
        values
            .iter()
            .enumerate()
            .for_each(|(n, v)| write(row, n, *v));
    };
    for (i, rows) in by_three.iter().enumerate() {
        let values = dot(set, rows, columns);
        values
            .iter()
            .enumerate()
            .for_each(|(r, v)| each(i * ROWS + r, v));
    }
    for (i, row) in left.iter().enumerate() {
        let [values] = dot(set, &[*row], columns);
        each(by_three.len() * ROWS + i, &values);
    }
}

/// The product of each row with each column.
fn dot<const R: usize, const N: usize>(
    set: InstructionSet,
    rows: &[&[f32]; R],
    columns: &[&[f32]; N],
) -> [[f32; N]; R] {
    let whole = rows[0].len() / LANES * LANES;
    let (first, x) = (rows.map(|row| &row[..whole]), columns.map(|x| &x[..whole]));
    let mut values = match set {
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx512 => {
            // SAFETY: see `rows`; rows and columns are as long as the matrix is wide.
            unsafe { super::avx512::dot_written(&first, &x) }
        }
        _ => {
            // SAFETY: see `rows`; rows and columns are as long as the matrix is wide.
            unsafe { kernels::dot_written(&first, &x) }
        }
    };
    if whole < rows[0].len() {
        for (values, row) in values.iter_mut().zip(rows) {
            for (value, x) in values.iter_mut().zip(columns) {
                let rest = row[whole..].iter().zip(&x[whole..]);
                *value += rest.map(|(weight, x)| weight * x).sum::<f32>();
            }
        }
    }
    values
}
