//! Tiles of rows and columns, for the products of many columns with AVX-512.

use super::dot::sum;
use super::eight_avx512::{Q4K, Q6K, Q8_0};
use super::eight_tile::{Kind, Packed, ROWS, Tile, Unpacked};
use super::k_avx512::Q5K;
use super::{
    ActivationPrecision, Activations, InstructionSet, Out, QuantMatrix, QuantType, TILE,
    multiplies_bytes, unpack,
};

/// The products of as many of `rows` as fill whole tiles, where tiles are worth it; the first row
/// that is left.
pub(super) fn tiles(
    set: InstructionSet,
    matrix: &QuantMatrix,
    x: &Activations,
    rows: std::ops::Range<usize>,
    out: Out,
) -> usize {
    let columns = x.x.len() / matrix.cols;
    let suits = set == InstructionSet::Avx512 && multiplies_bytes() && matrix.kind.rounds();
    if !suits || columns < TILE || x.how == ActivationPrecision::Exact {
        return rows.start;
    }
    fn one<F: Kind>(tile: &Tile, matrix: &QuantMatrix, x: &Activations, at: usize, out: Out) {
        let columns = x.x.len() / matrix.cols;
        // SAFETY: rows `at..at + ROWS` of the column are within `out`, which holds columns * rows
        // numbers (asserted in `multiply_with`); no other task has these rows.
        let write = |column: usize, values: &[f32; ROWS]| unsafe {
            let to = out.0.add(column * matrix.rows + at);
            to.copy_from_nonoverlapping(values.as_ptr(), ROWS);
        };
        let mut first = 0;
        while first + TILE <= columns {
            let tiled = std::array::from_fn(|i| x.rounded.column(first + i));
            // SAFETY: `suits` has asked for the instructions; columns are as long as the matrix is wide.
            let mut values = unsafe { tile.multiply::<F, TILE>(&tiled) };
            if matrix.kind == QuantType::Q8_0 {
                let rest = std::array::from_fn(|i| x.rest.column(first + i));
                // SAFETY: `suits` has asked for the instructions; columns are as long as the matrix is wide.
                sum(&mut values, &unsafe { tile.multiply::<F, TILE>(&rest) });
            }
            for (i, values) in values.iter().enumerate() {
                write(first + i, values);
            }
            first += TILE;
        }
        for single in first..columns {
            // SAFETY: `suits` has asked for the instructions; columns are as long as the matrix is wide.
            let mut values = unsafe { tile.multiply::<F, 1>(&[x.rounded.column(single)]) };
            if matrix.kind == QuantType::Q8_0 {
                let rest = [x.rest.column(single)];
                // SAFETY: `suits` has asked for the instructions; columns are as long as the matrix is wide.
                sum(&mut values, &unsafe { tile.multiply::<F, 1>(&rest) });
            }
            write(single, &values[0]);
        }
    }
    let mut tile = Tile::default();
    let mut at = rows.start;
    while at + ROWS <= rows.end {
        let bytes: [&[u8]; ROWS] = std::array::from_fn(|r| matrix.row_bytes(at + r));
        match matrix.kind {
            QuantType::Q8_0 => {
                // SAFETY: rows are as long as the matrix is wide, and `suits` has asked for the instructions.
                unsafe { tile.pack::<Q8_0>(&bytes) };
                one::<Packed<Q8_0>>(&tile, matrix, x, at, out);
            }
            QuantType::Q4K => {
                // SAFETY: rows are as long as the matrix is wide, and `suits` has asked for the instructions.
                unsafe { tile.pack::<Q4K>(&bytes) };
                one::<Packed<Q4K>>(&tile, matrix, x, at, out);
            }
            QuantType::Q6K => {
                // SAFETY: rows are as long as the matrix is wide, and `suits` has asked for the instructions.
                unsafe { tile.pack::<Q6K>(&bytes) };
                one::<Packed<Q6K>>(&tile, matrix, x, at, out);
            }
            QuantType::Q5K => {
                // SAFETY: rows are as long as the matrix is wide, and `suits` has asked for the instructions.
                unsafe { tile.pack::<Q5K>(&bytes) };
                one::<Packed<Q5K>>(&tile, matrix, x, at, out);
            }
            kind => unpack::with_format!(kind, F => {
                // SAFETY: rows are as long as the matrix is wide, and `suits` has asked for the instructions.
                unsafe { tile.pack_unpacked::<F>(&bytes) };
                one::<Unpacked<F>>(&tile, matrix, x, at, out);
            }),
        }
        at += ROWS;
    }
    at
}
