//! Products of block-quantised matrices with activations, for decoding a language model on the
//! CPU.
//!
//! The weights stay as they lie in the memory-mapped GGUF file (row major, blocks of 32 along a
//! row) and are unpacked in registers. With `Q4_1`, of which the built-in language model is,
//! activations stay f32: rounding them can turn the likeliest token
//! into another. With `Q4_K` and `Q6_K` they are rounded to 8 bits, as in ggml (`eight`), which
//! is several times faster and, for activations spread evenly, moves a result by about 0.4 % of
//! the results' usual size; so are they with the other formats, whose weights are unpacked to bytes
//! first (`unpack`), but not with weights that are not quantised. `Q8_0`, which keeps a model's first and last table next to 4-bit
//! weights, gets two such numbers for each activation, the second for what the first leaves: that
//! moves a result by some 0.002 %. The portable path rounds nothing. The instruction set is chosen
//! at run time. With AVX2 and NEON, weights are written out for eight columns and more, which is
//! quicker (`written`). Where nothing is rounded, a column's result does not depend on how many
//! columns are computed together; elsewhere only the order of sums does.

#![allow(
    clippy::needless_range_loop,
    reason = "loops over lanes and rows index several arrays of registers at once"
)]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod bytes;
mod eight;
#[cfg(target_arch = "x86_64")]
mod eight_avx512;
#[cfg(target_arch = "x86_64")]
mod eight_tile;
#[cfg(target_arch = "x86_64")]
mod fours_avx512;
pub mod halves;
#[cfg(target_arch = "x86_64")]
mod k_avx512;
mod matrix;
#[cfg(target_arch = "aarch64")]
mod neon;
mod packed;
mod portable;
#[cfg(target_arch = "x86_64")]
mod single_avx2;
#[cfg(target_arch = "x86_64")]
mod single_avx512;
#[cfg(target_arch = "aarch64")]
mod single_neon;
#[cfg(test)]
mod tests;
mod unpack;
#[cfg(any(test, target_arch = "x86_64", target_arch = "aarch64"))]
mod unpacked;
pub mod vector;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod written;

#[cfg(target_arch = "x86_64")]
use std::sync::LazyLock;

use super::crew;
use super::kernels::simd::{Isa, isa};
use eight::{Rounded, RoundedColumn};
use half::f16;
pub use matrix::{MappedFile, QuantError, QuantMatrix, QuantType};
pub(crate) use packed::packed;

/// Weights that are unpacked at a time; every format's blocks are one or several of these.
const BLOCK: usize = 32;

/// Rows that one task computes: enough to outweigh handing it out, few enough to balance threads.
const TASK_ROWS: usize = 96;
/// Rows whose weights stay in the first-level cache while all columns pass by.
const CACHED_ROWS: usize = 24;
/// Columns for which weights that are not quantised are written out.
const FEW: usize = 4;
/// Columns computed together; what is left over is computed one by one.
const TILE: usize = 8;
/// Rows computed together with a tile of columns, so that registers hold all sums.
const TILE_ROWS: usize = 2;
/// Rows computed together with a single column, so that their sums do not wait for each other.
const SINGLE_ROWS: usize = 4;

/// The instruction sets that there are kernels for, the lesser first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstructionSet {
    /// Plain Rust, on every processor.
    Portable,
    /// AVX2 with FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// NEON.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// NEON with the instruction for dot products of bytes.
    #[cfg(target_arch = "aarch64")]
    NeonDot,
}

impl InstructionSet {
    /// The fastest that this processor has and `VOKENBOARD_ISA` allows.
    pub fn best() -> InstructionSet {
        let best = match isa() {
            Isa::Portable => InstructionSet::Portable,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => InstructionSet::Avx2,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => InstructionSet::Avx512,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => match InstructionSet::NeonDot.is_available() {
                true => InstructionSet::NeonDot,
                false => InstructionSet::Neon,
            },
        };
        // A processor without F16C.
        match best.is_available() {
            true => best,
            false => InstructionSet::Portable,
        }
    }

    /// Whether this processor has it.
    pub fn is_available(self) -> bool {
        match self {
            InstructionSet::Portable => true,
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
            }
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512 => {
                InstructionSet::Avx2.is_available() && is_x86_feature_detected!("avx512f")
            }
            #[cfg(target_arch = "aarch64")]
            InstructionSet::Neon => true,
            #[cfg(target_arch = "aarch64")]
            InstructionSet::NeonDot => std::arch::is_aarch64_feature_detected!("dotprod"),
        }
    }
}

/// A product to be made: a matrix, and where its result goes, `[columns, rows]`.
pub struct Product<'a> {
    /// The weights, `[rows, cols]`.
    pub matrix: &'a QuantMatrix,
    /// Where the result goes.
    pub out: &'a mut [f32],
}

/// Multiplies each matrix with `x`, `[columns, cols]`, on all threads.
///
/// All matrices must be `cols` wide, and each `out` must hold `columns * rows` numbers.
pub fn multiply(products: &mut [Product<'_>], x: &[f32], cols: usize) {
    multiply_as(ActivationPrecision::Rounded, products, x, cols);
}

/// What activations are multiplied as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActivationPrecision {
    /// As quickly as the processor can: rounded where that helps, as said above.
    Rounded,
    /// As they are, with weights written out as f32: for comparing with reference values.
    Exact,
}

/// As [`multiply`], with activations as they are wanted.
pub fn multiply_as(how: ActivationPrecision, products: &mut [Product<'_>], x: &[f32], cols: usize) {
    // The pool is entered once, since each entrance waits for a thread to wake.
    rayon::scope(|_| multiply_with(InstructionSet::best(), how, products, x, cols));
}

fn multiply_with(
    set: InstructionSet,
    how: ActivationPrecision,
    products: &mut [Product<'_>],
    x: &[f32],
    cols: usize,
) {
    assert!(x.len().is_multiple_of(cols));
    let columns = x.len() / cols;
    let simd = set != InstructionSet::Portable && how == ActivationPrecision::Rounded;
    let any = |f: fn(QuantType) -> bool| simd && products.iter().any(|p| f(p.matrix.kind));
    let rounded = match any(QuantType::rounds) {
        true => Rounded::of(x, cols),
        false => Rounded::default(),
    };
    let rest = match any(|kind| kind == QuantType::Q8_0) {
        true => rounded.rest(x, cols),
        false => Rounded::default(),
    };
    let written = |kind| {
        let there = products.iter().any(|product| product.matrix.kind == kind);
        there && how == ActivationPrecision::Rounded && written_out(set, how, kind, columns)
    };
    let values = |wanted: bool, rest| match wanted {
        true => rounded.values(rest, columns, cols),
        false => Vec::new(),
    };
    let eight = |kind: QuantType| kind.rounds() && kind != QuantType::Q8_0;
    let eight = QuantType::ALL.into_iter().filter(|kind| eight(*kind));
    let eight = values(eight.into_iter().any(written), None);
    let sixteen = values(written(QuantType::Q8_0), Some(&rest));
    let x = Activations {
        how,
        x,
        rounded,
        rest,
        eight,
        sixteen,
    };
    let mut tasks = Vec::with_capacity(64);
    for product in products.iter_mut() {
        assert_eq!(product.matrix.cols, cols);
        assert_eq!(product.out.len(), columns * product.matrix.rows);
        let out = Out(product.out.as_mut_ptr());
        let share = task_rows(product.matrix.rows, columns);
        for first in (0..product.matrix.rows).step_by(share) {
            tasks.push((product.matrix, out, first, share));
        }
    }
    crew::each(tasks.len(), |task| {
        let (matrix, out, first, share) = tasks[task];
        let last = (first + share).min(matrix.rows);
        #[cfg(target_arch = "x86_64")]
        let first = tiles(set, matrix, &x, first..last, out);
        for start in (first..last).step_by(CACHED_ROWS) {
            let end = (start + CACHED_ROWS).min(last);
            rows(set, matrix, &x, start..end, out);
        }
    });
}

/// Rows of a task: of a matrix with few rows and a single column fewer than usual, so that all threads
/// are done at the same time.
fn task_rows(rows: usize, columns: usize) -> usize {
    let share = rows.div_ceil(4 * rayon::current_num_threads());
    match columns {
        1 => share.next_multiple_of(SINGLE_ROWS).min(TASK_ROWS),
        _ => TASK_ROWS,
    }
}

/// Where a product's result goes; tasks write to disjoint rows of it.
#[derive(Clone, Copy)]
struct Out(*mut f32);

// SAFETY: every task writes to rows of its own, and the slice it came from is borrowed mutably
// for as long as the tasks run.
unsafe impl Send for Out {}
// SAFETY: as above.
unsafe impl Sync for Out {}

/// What is multiplied, `[columns, cols]`, as it is and rounded.
struct Activations<'a> {
    how: ActivationPrecision,
    x: &'a [f32],
    rounded: Rounded,
    /// What rounding took away, rounded itself, for `Q8_0`.
    rest: Rounded,
    /// What the rounded ones stand for, where weights are written out: without the rest and with it.
    eight: Vec<f32>,
    sixteen: Vec<f32>,
}

impl Activations<'_> {
    /// What written out weights of a kind are multiplied with.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    fn values(&self, kind: QuantType) -> &[f32] {
        match kind {
            kind if self.how == ActivationPrecision::Exact || !kind.rounds() => self.x,
            QuantType::Q8_0 => &self.sixteen,
            _ => &self.eight,
        }
    }
}

/// One column of [`Activations`].
#[derive(Clone, Copy)]
struct Column<'a> {
    x: &'a [f32],
    /// Empty where nothing was rounded.
    rounded: RoundedColumn<'a>,
    rest: RoundedColumn<'a>,
}

/// The products of as many of `rows` as fill whole tiles, where tiles are worth it; the first row
/// that is left.
#[cfg(target_arch = "x86_64")]
fn tiles(
    set: InstructionSet,
    matrix: &QuantMatrix,
    x: &Activations,
    rows: std::ops::Range<usize>,
    out: Out,
) -> usize {
    use eight_avx512::{Q4K, Q6K, Q8_0};
    use eight_tile::{Kind, Packed, ROWS, Tile, Unpacked};
    use k_avx512::Q5K;

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

fn rows(
    set: InstructionSet,
    matrix: &QuantMatrix,
    x: &Activations,
    rows: std::ops::Range<usize>,
    out: Out,
) {
    let column = |index: usize| Column {
        x: &x.x[index * matrix.cols..][..matrix.cols],
        rounded: x.rounded.column(index),
        rest: x.rest.column(index),
    };
    let columns = x.x.len() / matrix.cols;
    // What is not quantised goes through the kernels as it is, unless many columns pass by.
    let straight = cfg!(target_arch = "x86_64")
        && matrix.kind.floats()
        && x.how == ActivationPrecision::Rounded
        && columns < FEW
        && matrix.cols.is_multiple_of(BLOCK);
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    if !straight && written_out(set, x.how, matrix.kind, columns) {
        return written::rows(set, matrix, x.values(matrix.kind), rows, out);
    }
    let mut first = 0;
    while first + TILE <= columns {
        let tile: [Column; TILE] = std::array::from_fn(|i| column(first + i));
        groups::<TILE_ROWS, TILE>(set, matrix, rows.clone(), &tile, first, out);
        first += TILE;
    }
    for single in first..columns {
        groups::<SINGLE_ROWS, 1>(set, matrix, rows.clone(), &[column(single)], single, out);
    }
}

/// The products of `rows` with columns from `first` on, `R` rows at a time.
fn groups<const R: usize, const N: usize>(
    set: InstructionSet,
    matrix: &QuantMatrix,
    rows: std::ops::Range<usize>,
    columns: &[Column; N],
    first: usize,
    out: Out,
) {
    let write = |row: usize, values: &[f32; N]| {
        for (i, value) in values.iter().enumerate() {
            // SAFETY: the column is one of `columns` and the row one of the matrix's, and `out`
            // holds columns * rows numbers (asserted in `multiply_with`); no other task has this
            // row.
            unsafe { *out.0.add((first + i) * matrix.rows + row) = *value };
        }
    };
    let mut row = rows.start;
    while row + R <= rows.end {
        let bytes: [&[u8]; R] = std::array::from_fn(|r| matrix.row_bytes(row + r));
        for (r, values) in dot(set, matrix.kind, &bytes, columns).iter().enumerate() {
            write(row + r, values);
        }
        row += R;
    }
    for row in row..rows.end {
        let [values] = dot(set, matrix.kind, &[matrix.row_bytes(row)], columns);
        write(row, &values);
    }
}

/// The dot product of each row with each column; a result does not depend on the others.
fn dot<const R: usize, const N: usize>(
    set: InstructionSet,
    kind: QuantType,
    rows: &[&[u8]; R],
    columns: &[Column; N],
) -> [[f32; N]; R] {
    let x = columns.map(|column| column.x);
    #[cfg(target_arch = "x86_64")]
    {
        let rounded = columns.map(|column| column.rounded);
        let rest = columns.map(|column| column.rest);
        let (rounded, rest) = (&rounded, &rest);
        match (set, kind) {
            (InstructionSet::Avx512, QuantType::Q4_1) => {
                // SAFETY: an instruction set is only asked for when the processor has it.
                return unsafe { avx512::dot::<avx512::Q4_1, R, N>(rows, &x) };
            }
            (InstructionSet::Avx512, QuantType::F16) => {
                // SAFETY: an instruction set is only asked for when the processor has it.
                return unsafe { avx512::dot::<avx512::F16, R, N>(rows, &x) };
            }
            (InstructionSet::Avx512, QuantType::Bf16) => {
                // SAFETY: an instruction set is only asked for when the processor has it.
                return unsafe { avx512::dot::<avx512::Bf16, R, N>(rows, &x) };
            }
            (InstructionSet::Avx512, QuantType::F32) => {
                // SAFETY: an instruction set is only asked for when the processor has it.
                return unsafe { avx512::dot::<avx512::F32, R, N>(rows, &x) };
            }
            (InstructionSet::Portable, _) => {}
            (InstructionSet::Avx512, kind) if multiplies_bytes() && kind.unpacks() => {
                let mut values = [[0.0; N]; R];
                for n in 0..N {
                    // SAFETY: an instruction set is only asked for when the processor has it.
                    let column = unsafe { single_unpacked(kind, rows, &rounded[n]) };
                    (0..R).for_each(|r| values[r][n] = column[r]);
                }
                return values;
            }
            (InstructionSet::Avx512, _) if multiplies_bytes() && N == 1 => {
                let (rounded, rest) = (&rounded[0], &rest[0]);
                // SAFETY: an instruction set is only asked for when the processor has it.
                let values: [f32; R] = unsafe {
                    match kind {
                        QuantType::Q8_0 => single_avx512::dot_q8_0(rows, rounded, rest),
                        QuantType::Q4K => single_avx512::dot::<eight_avx512::Q4K, R>(rows, rounded),
                        _ => single_avx512::dot::<eight_avx512::Q6K, R>(rows, rounded),
                    }
                };
                return values.map(|value| [value; N]);
            }
            (InstructionSet::Avx512, _) if multiplies_bytes() => {
                // SAFETY: an instruction set is only asked for when the processor has it.
                return unsafe {
                    match kind {
                        QuantType::Q8_0 => {
                            use eight_avx512::{Q8_0, dot};
                            let mut values = dot::<Q8_0, R, N>(rows, rounded);
                            sum(&mut values, &dot::<Q8_0, R, N>(rows, rest));
                            values
                        }
                        QuantType::Q4K => {
                            eight_avx512::dot::<eight_avx512::Q4K, R, N>(rows, rounded)
                        }
                        _ => eight_avx512::dot::<eight_avx512::Q6K, R, N>(rows, rounded),
                    }
                };
            }
            // For more than one column, weights are written out.
            _ if N == 1 => {
                let (rounded, rest) = (&rounded[0], &rest[0]);
                // SAFETY: an instruction set is only asked for when the processor has it.
                let values: [f32; R] = unsafe {
                    match kind {
                        QuantType::F32 => avx2::dot::<avx2::F32, R>(rows, x[0]),
                        QuantType::F16 => avx2::dot::<avx2::F16, R>(rows, x[0]),
                        QuantType::Bf16 => avx2::dot::<avx2::Bf16, R>(rows, x[0]),
                        QuantType::Q4_1 => avx2::dot::<avx2::Q4_1, R>(rows, x[0]),
                        QuantType::Q8_0 => single_avx2::dot_q8_0(rows, rounded, rest),
                        QuantType::Q4K => single_avx2::dot::<single_avx2::Q4K, R>(rows, rounded),
                        QuantType::Q6K => single_avx2::dot::<single_avx2::Q6K, R>(rows, rounded),
                        _ => unpacked::dot_avx2(kind, rows, rounded),
                    }
                };
                return values.map(|value| [value; N]);
            }
            _ => {}
        }
    }
    // For more than one column, weights are written out.
    #[cfg(target_arch = "aarch64")]
    if N == 1 && set != InstructionSet::Portable {
        // SAFETY: as above; rows and columns are as long as the matrix is wide.
        let values = unsafe { single_neon::dot(set, kind, rows, &columns[0]) };
        return values.map(|value| [value; N]);
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = set;
    rows.map(|row| portable::dot(kind, row, &x))
}

/// The dot product of each row of a type that [`QuantType::unpacks`] with a column, with AVX-512.
///
/// # Safety
/// The processor has AVX-512F, BW, DQ, VL and VNNI; rows and column hold the same number of
/// weights.
#[cfg(target_arch = "x86_64")]
unsafe fn single_unpacked<const R: usize>(
    kind: QuantType,
    rows: &[&[u8]; R],
    column: &RoundedColumn,
) -> [f32; R] {
    // SAFETY: the caller's promise.
    unsafe {
        match kind {
            QuantType::Q2K => single_avx512::dot::<k_avx512::Q2K, R>(rows, column),
            QuantType::Q3K => single_avx512::dot::<k_avx512::Q3K, R>(rows, column),
            QuantType::Q5K => single_avx512::dot::<k_avx512::Q5K, R>(rows, column),
            kind => fours_avx512::dot(kind, rows, column),
        }
    }
}

/// Adds `other` to `values`, one by one.
#[cfg(target_arch = "x86_64")]
fn sum<const R: usize, const N: usize>(values: &mut [[f32; N]; R], other: &[[f32; N]; R]) {
    for (values, other) in values.iter_mut().zip(other) {
        values.iter_mut().zip(other).for_each(|(a, b)| *a += b);
    }
}

/// Whether weights of a kind are written out for so many columns.
fn written_out(
    set: InstructionSet,
    how: ActivationPrecision,
    kind: QuantType,
    columns: usize,
) -> bool {
    let exact = how == ActivationPrecision::Exact || kind.floats();
    if exact && set != InstructionSet::Portable {
        return true;
    }
    let suits = match (set, kind) {
        (InstructionSet::Portable, _) => false,
        // There are tiles for whole numbers, but not on the first processors.
        #[cfg(target_arch = "x86_64")]
        (InstructionSet::Avx512, kind) => kind.rounds() && !multiplies_bytes(),
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        _ => true,
    };
    suits && columns >= TILE
}

/// Whether the processor has AVX-512's instructions for bytes.
#[cfg(target_arch = "x86_64")]
fn multiplies_bytes() -> bool {
    // Asked once for every few rows.
    static THERE: LazyLock<bool> = LazyLock::new(|| {
        is_x86_feature_detected!("avx512vnni")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
    });
    *THERE
}

/// The scales and minima of the eight parts of a `Q4K` block, before the block's own, from its 12
/// bytes of 6-bit numbers.
fn scales_q4k(packed: &[u8; 12]) -> ([u8; 8], [u8; 8]) {
    let word = |at: usize| {
        u32::from_le_bytes([packed[at], packed[at + 1], packed[at + 2], packed[at + 3]])
    };
    let (low, high, rest) = (word(0), word(4), word(8));
    const SIX: u32 = 0x3f3f_3f3f;
    const FOUR: u32 = 0x0f0f_0f0f;
    const TWO: u32 = 0x0303_0303;
    let join = |first: u32, second: u32| (u64::from(first) | u64::from(second) << 32).to_le_bytes();
    (
        join(low & SIX, rest & FOUR | (low >> 6 & TWO) << 4),
        join(high & SIX, rest >> 4 & FOUR | (high >> 6 & TWO) << 4),
    )
}

fn half_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}
