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
mod dot;
mod eight;
#[cfg(target_arch = "x86_64")]
mod eight_avx512;
#[cfg(target_arch = "x86_64")]
mod eight_tile;
#[cfg(target_arch = "x86_64")]
mod fours_avx512;
pub mod halves;
mod instruction_set;
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
#[cfg(target_arch = "x86_64")]
mod tiles;
mod unpack;
#[cfg(any(test, target_arch = "x86_64", target_arch = "aarch64"))]
mod unpacked;
pub mod vector;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod written;

use super::crew;
use dot::dot;
use eight::{Rounded, RoundedColumn};
use half::f16;
pub use instruction_set::InstructionSet;
#[cfg(target_arch = "x86_64")]
use instruction_set::multiplies_bytes;
pub use matrix::{MappedFile, QuantError, QuantMatrix, QuantType};
pub(crate) use packed::packed;
#[cfg(target_arch = "x86_64")]
use tiles::tiles;

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
