//! Products of block-quantised matrices with activations, for decoding a language model on the
//! CPU.
//!
//! The weights stay as they lie in the memory-mapped GGUF file (row major, blocks of 32 along a
//! row) and are unpacked in registers. Activations stay f32: rounding them to 8 bits, as ggml
//! does, saves little time here, where reading the weights takes longest, and can turn the
//! likeliest token into another. The instruction set is chosen at run time. A column's result
//! does not depend on how many columns are computed together.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;
#[cfg(test)]
mod tests;
pub mod vector;

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use half::f16;
use rayon::prelude::*;

/// Weights in a block.
pub const BLOCK: usize = 32;

/// Rows that one task computes: enough to outweigh handing it out, few enough to balance threads.
const TASK_ROWS: usize = 96;
/// Rows whose weights stay in the first-level cache while all columns pass by.
const CACHED_ROWS: usize = 16;
/// Columns computed together; what is left over is computed one by one.
const TILE: usize = 8;

/// Why weights cannot be used; one sentence each.
#[derive(Debug, thiserror::Error)]
pub enum QuantError {
    #[error("a row of {cols} weights is not a whole number of blocks of {BLOCK}")]
    Ragged { cols: usize },
    #[error("it ends before its last tensor, so it is not complete")]
    Truncated,
}

/// How a block of 32 weights is stored; names and layouts are ggml's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuantType {
    /// f16 scale, 4-bit weights minus 8.
    Q4_0,
    /// f16 scale, f16 minimum, 4-bit weights.
    Q4_1,
    /// f16 scale, signed 8-bit weights.
    Q8_0,
}

impl QuantType {
    /// Bytes of a block of 32 weights.
    pub const fn block_bytes(self) -> usize {
        match self {
            QuantType::Q4_0 => 18,
            QuantType::Q4_1 => 20,
            QuantType::Q8_0 => 34,
        }
    }
}

/// A file mapped into memory for reading.
#[derive(Debug)]
pub struct MappedFile(memmap2::Mmap);

impl MappedFile {
    /// # Errors
    /// When the file cannot be opened or mapped.
    pub fn open(path: &Path) -> std::io::Result<MappedFile> {
        let file = File::open(path)?;
        // SAFETY: the mapping is read only. Model files are replaced by renaming, never written
        // in place, so the bytes do not change under us.
        let map = unsafe { memmap2::Mmap::map(&file)? };
        Ok(MappedFile(map))
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A `[rows, cols]` matrix of quantised weights inside a mapped file.
#[derive(Clone, Debug)]
pub struct QuantMatrix {
    file: Arc<MappedFile>,
    offset: usize,
    rows: usize,
    cols: usize,
    kind: QuantType,
}

impl QuantMatrix {
    /// The matrix whose first block lies `offset` bytes into `file`.
    ///
    /// # Errors
    /// When a row is not a whole number of blocks, or the file is too short.
    pub fn new(
        file: Arc<MappedFile>,
        offset: usize,
        rows: usize,
        cols: usize,
        kind: QuantType,
    ) -> Result<QuantMatrix, QuantError> {
        if !cols.is_multiple_of(BLOCK) || cols == 0 {
            return Err(QuantError::Ragged { cols });
        }
        let end = (cols / BLOCK * kind.block_bytes())
            .checked_mul(rows)
            .and_then(|bytes| bytes.checked_add(offset));
        if end.is_none_or(|end| end > file.bytes().len()) {
            return Err(QuantError::Truncated);
        }
        Ok(QuantMatrix {
            file,
            offset,
            rows,
            cols,
            kind,
        })
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Writes the weights of row `row` to `out`, `[cols]`.
    pub fn dequantise_row(&self, row: usize, out: &mut [f32]) {
        let bytes = self.row_bytes(row);
        for (block, out) in bytes
            .chunks_exact(self.kind.block_bytes())
            .zip(out.chunks_exact_mut(BLOCK))
        {
            portable::dequantise(self.kind, block, out);
        }
    }

    fn row_bytes(&self, row: usize) -> &[u8] {
        let length = self.cols / BLOCK * self.kind.block_bytes();
        let start = self.offset + row * length;
        &self.file.bytes()[start..start + length]
    }
}

/// The instruction sets that there are kernels for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstructionSet {
    Portable,
    Avx2,
    Avx512,
}

impl InstructionSet {
    /// The fastest that this processor has.
    pub fn best() -> InstructionSet {
        static BEST: OnceLock<InstructionSet> = OnceLock::new();
        *BEST.get_or_init(|| {
            [InstructionSet::Avx512, InstructionSet::Avx2]
                .into_iter()
                .find(|set| set.is_available())
                .unwrap_or(InstructionSet::Portable)
        })
    }

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
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }
}

/// A product to be made: a matrix, and where its result goes, `[columns, rows]`.
pub struct Product<'a> {
    pub matrix: &'a QuantMatrix,
    pub out: &'a mut [f32],
}

/// Multiplies each matrix with `x`, `[columns, cols]`, on all threads.
///
/// All matrices must be `cols` wide, and each `out` must hold `columns * rows` numbers.
pub fn multiply(products: &mut [Product<'_>], x: &[f32], cols: usize) {
    multiply_with(InstructionSet::best(), products, x, cols);
}

fn multiply_with(set: InstructionSet, products: &mut [Product<'_>], x: &[f32], cols: usize) {
    assert!(x.len().is_multiple_of(cols));
    let columns = x.len() / cols;
    let mut tasks = Vec::new();
    for product in products.iter_mut() {
        assert_eq!(product.matrix.cols, cols);
        assert_eq!(product.out.len(), columns * product.matrix.rows);
        let out = Out(product.out.as_mut_ptr());
        for first in (0..product.matrix.rows).step_by(TASK_ROWS) {
            tasks.push((product.matrix, out, first));
        }
    }
    tasks.par_iter().for_each(|&(matrix, out, first)| {
        let last = (first + TASK_ROWS).min(matrix.rows);
        for start in (first..last).step_by(CACHED_ROWS) {
            let end = (start + CACHED_ROWS).min(last);
            rows(set, matrix, x, start..end, out);
        }
    });
}

/// Where a product's result goes; tasks write to disjoint rows of it.
#[derive(Clone, Copy)]
struct Out(*mut f32);

// SAFETY: every task writes to rows of its own, and the slice it came from is borrowed mutably
// for as long as the tasks run.
unsafe impl Send for Out {}
// SAFETY: as above.
unsafe impl Sync for Out {}

fn rows(
    set: InstructionSet,
    matrix: &QuantMatrix,
    x: &[f32],
    rows: std::ops::Range<usize>,
    out: Out,
) {
    let column = |index: usize| &x[index * matrix.cols..][..matrix.cols];
    let columns = x.len() / matrix.cols;
    let mut first = 0;
    while first < columns {
        let wide = columns - first >= TILE;
        for row in rows.clone() {
            let bytes = matrix.row_bytes(row);
            let write = |column: usize, value: f32| {
                // SAFETY: column < columns and row < rows, and `out` holds columns * rows
                // numbers (asserted in `multiply_with`); no other task has this row.
                unsafe { *out.0.add(column * matrix.rows + row) = value };
            };
            if wide {
                let tile: [&[f32]; TILE] = std::array::from_fn(|i| column(first + i));
                for (i, value) in dot(set, matrix.kind, bytes, &tile).into_iter().enumerate() {
                    write(first + i, value);
                }
            } else {
                let [value] = dot(set, matrix.kind, bytes, &[column(first)]);
                write(first, value);
            }
        }
        first += if wide { TILE } else { 1 };
    }
}

fn dot<const N: usize>(
    set: InstructionSet,
    kind: QuantType,
    row: &[u8],
    columns: &[&[f32]; N],
) -> [f32; N] {
    match set {
        // SAFETY (both): an instruction set is only asked for when the processor has it.
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx512 => unsafe {
            match kind {
                QuantType::Q4_0 => avx512::dot::<{ avx512::Q4_0 }, N>(row, columns),
                QuantType::Q4_1 => avx512::dot::<{ avx512::Q4_1 }, N>(row, columns),
                QuantType::Q8_0 => avx512::dot::<{ avx512::Q8_0 }, N>(row, columns),
            }
        },
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx2 => unsafe {
            match kind {
                QuantType::Q4_0 => avx2::dot::<{ avx2::Q4_0 }, N>(row, columns),
                QuantType::Q4_1 => avx2::dot::<{ avx2::Q4_1 }, N>(row, columns),
                QuantType::Q8_0 => avx2::dot::<{ avx2::Q8_0 }, N>(row, columns),
            }
        },
        _ => portable::dot(kind, row, columns),
    }
}

fn half_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}
