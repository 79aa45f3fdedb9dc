//! Matrices of quantised weights, and how they are stored.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use super::{BLOCK, portable};

/// Why weights cannot be used; one sentence each.
#[derive(Debug, thiserror::Error)]
pub enum QuantError {
    /// A row does not divide into blocks.
    #[error("a row of {cols} weights is not a whole number of blocks of {block}")]
    Ragged {
        /// Weights in a row.
        cols: usize,
        /// Weights in a block of that type.
        block: usize,
    },
    /// The file is shorter than its header says.
    #[error("it ends before its last tensor, so it is not complete")]
    Truncated,
}

/// How weights are stored; names and layouts are ggml's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuantType {
    /// Not quantised.
    F32,
    /// Half precision, not quantised.
    F16,
    /// bfloat16, not quantised.
    Bf16,
    /// 32 at a time: f16 scale, 4-bit weights minus 8.
    Q4_0,
    /// 32 at a time: f16 scale, f16 minimum, 4-bit weights.
    Q4_1,
    /// 32 at a time: f16 scale, the fifth bits, 4 bits of each weight; minus 16.
    Q5_0,
    /// 32 at a time: f16 scale, f16 minimum, the fifth bits, 4 bits of each weight.
    Q5_1,
    /// 32 at a time: f16 scale, signed 8-bit weights.
    Q8_0,
    /// 256 at a time: 4-bit scale and minimum for every 16, 2-bit weights, f16 scale and minimum.
    Q2K,
    /// 256 at a time: third bits, 2 bits of each weight minus 4, 6-bit scale for every 16, f16 scale.
    Q3K,
    /// 256 at a time: f16 scale and minimum, 6-bit scale and minimum for every 32, 4-bit weights.
    Q4K,
    /// As `Q4K`, with fifth bits.
    Q5K,
    /// 256 at a time: 6-bit weights minus 32, 8-bit scale for every 16, f16 scale.
    Q6K,
    /// 32 at a time: f16 scale, 4-bit places in a table of 16 weights.
    Iq4Nl,
    /// 256 at a time: f16 scale, 6-bit scale for every 32, 4-bit places in the same table.
    Iq4Xs,
    /// 32 at a time: a power of two, 4-bit floats.
    Mxfp4,
}

impl QuantType {
    /// Every one.
    pub const ALL: [QuantType; 16] = [
        QuantType::F32,
        QuantType::F16,
        QuantType::Bf16,
        QuantType::Q4_0,
        QuantType::Q4_1,
        QuantType::Q5_0,
        QuantType::Q5_1,
        QuantType::Q8_0,
        QuantType::Q2K,
        QuantType::Q3K,
        QuantType::Q4K,
        QuantType::Q5K,
        QuantType::Q6K,
        QuantType::Iq4Nl,
        QuantType::Iq4Xs,
        QuantType::Mxfp4,
    ];

    /// Weights of a block.
    pub const fn block_weights(self) -> usize {
        match self {
            QuantType::F32 | QuantType::F16 | QuantType::Bf16 => 1,
            QuantType::Q4_0
            | QuantType::Q4_1
            | QuantType::Q5_0
            | QuantType::Q5_1
            | QuantType::Q8_0
            | QuantType::Iq4Nl
            | QuantType::Mxfp4 => BLOCK,
            QuantType::Q2K
            | QuantType::Q3K
            | QuantType::Q4K
            | QuantType::Q5K
            | QuantType::Q6K
            | QuantType::Iq4Xs => 8 * BLOCK,
        }
    }

    /// Bytes of a block.
    pub const fn block_bytes(self) -> usize {
        match self {
            QuantType::F32 => 4,
            QuantType::F16 | QuantType::Bf16 => 2,
            QuantType::Q4_0 | QuantType::Iq4Nl => 18,
            QuantType::Q4_1 => 20,
            QuantType::Q5_0 => 22,
            QuantType::Q5_1 => 24,
            QuantType::Q8_0 => 34,
            QuantType::Q2K => 84,
            QuantType::Q3K => 110,
            QuantType::Q4K => 144,
            QuantType::Q5K => 176,
            QuantType::Q6K => 210,
            QuantType::Iq4Xs => 136,
            QuantType::Mxfp4 => 17,
        }
    }

    /// Whether activations are rounded to 8 bits, where the processor has instructions for that.
    pub(super) const fn rounds(self) -> bool {
        matches!(self, QuantType::Q8_0 | QuantType::Q4K | QuantType::Q6K) || self.unpacks()
    }

    /// Whether there is no kernel for this type alone, but one for all whose blocks are unpacked
    /// to bytes ([`super::unpack`]).
    pub(super) const fn unpacks(self) -> bool {
        matches!(
            self,
            QuantType::Q4_0
                | QuantType::Q5_0
                | QuantType::Q5_1
                | QuantType::Q2K
                | QuantType::Q3K
                | QuantType::Q5K
                | QuantType::Iq4Nl
                | QuantType::Iq4Xs
                | QuantType::Mxfp4
        )
    }

    /// Whether it is not quantised.
    pub(super) const fn floats(self) -> bool {
        matches!(self, QuantType::F32 | QuantType::F16 | QuantType::Bf16)
    }
}

/// A file mapped into memory for reading.
///
/// A file that is replaced by renaming another one into its place stays mapped as it was. One that
/// is written in place, as another program may do in an author's folder, changes under the map:
/// [`MappedFile::check`] tells so, and is asked before bytes are read. On Unix a file that is cut
/// between the check and the reading still ends the program (SIGBUS), which no check can prevent:
/// [`crate::nn::report_cut_files`] has it end with a sentence.
#[derive(Debug)]
pub struct MappedFile {
    map: memmap2::Mmap,
    file: File,
    modified: Option<SystemTime>,
}

impl MappedFile {
    /// # Errors
    /// When the file cannot be opened or mapped.
    pub fn open(path: &Path) -> std::io::Result<MappedFile> {
        let file = crate::files::open_file(path)?;
        let modified = file.metadata()?.modified().ok();
        // SAFETY: the mapping is read only, and whoever reads asks first whether the file is still
        // what was mapped (`check`). Bytes that change all the same are numbers of any value, which
        // every reader takes.
        let map = unsafe { memmap2::Mmap::map(&file)? };
        Ok(MappedFile {
            map,
            file,
            modified,
        })
    }

    /// The whole file.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Whether the file still is what was mapped.
    ///
    /// # Errors
    /// When it was cut or written in place.
    pub fn check(&self) -> std::io::Result<()> {
        let now = self.file.metadata()?;
        if now.len() < self.map.len() as u64 {
            return Err(std::io::Error::other(
                "it was cut while it was used; restore it and load the model again",
            ));
        }
        if now.modified().ok() != self.modified {
            return Err(std::io::Error::other(
                "it was written to while it was used; load the model again",
            ));
        }
        Ok(())
    }

    /// Gives back the memory behind a part of the file that was read, such as a tensor that was
    /// copied; it comes anew from the file where it is asked for again.
    pub fn forget(&self, part: std::ops::Range<usize>) {
        #[cfg(unix)]
        {
            let advice = memmap2::UncheckedAdvice::DontNeed;
            // SAFETY: the mapping is read only and of a file, so that pages that are dropped come
            // back with the same bytes.
            let advised = unsafe {
                self.map
                    .unchecked_advise_range(advice, part.start, part.len())
            };
            // Where the system knows no such advice, the memory stays until the file is closed.
            let _ = advised;
        }
        #[cfg(not(unix))]
        let _ = part;
    }
}

/// Where a matrix's blocks lie.
#[derive(Clone, Debug)]
enum Bytes {
    Mapped(Arc<MappedFile>),
    Owned(Arc<[u8]>),
}

impl Bytes {
    fn all(&self) -> &[u8] {
        match self {
            Bytes::Mapped(file) => file.bytes(),
            Bytes::Owned(bytes) => bytes,
        }
    }
}

/// A `[rows, cols]` matrix of quantised weights.
#[derive(Clone, Debug)]
pub struct QuantMatrix {
    bytes: Bytes,
    offset: usize,
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) kind: QuantType,
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
        QuantMatrix {
            bytes: Bytes::Mapped(file),
            offset,
            rows,
            cols,
            kind,
        }
        .checked()
    }

    /// The matrix of a copy of these blocks.
    ///
    /// # Errors
    /// When a row is not a whole number of blocks, or there are too few.
    pub fn from_bytes(
        bytes: &[u8],
        rows: usize,
        cols: usize,
        kind: QuantType,
    ) -> Result<QuantMatrix, QuantError> {
        QuantMatrix {
            bytes: Bytes::Owned(bytes.into()),
            offset: 0,
            rows,
            cols,
            kind,
        }
        .checked()
    }

    fn checked(self) -> Result<QuantMatrix, QuantError> {
        let (cols, block) = (self.cols, self.kind.block_weights());
        if !cols.is_multiple_of(block) || cols == 0 {
            return Err(QuantError::Ragged { cols, block });
        }
        let end = (cols / block * self.kind.block_bytes())
            .checked_mul(self.rows)
            .and_then(|bytes| bytes.checked_add(self.offset));
        if end.is_none_or(|end| end > self.bytes.all().len()) {
            return Err(QuantError::Truncated);
        }
        Ok(self)
    }

    /// Rows, the width of what it produces.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns, the width of what it reads.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// How its weights are stored.
    pub fn kind(&self) -> QuantType {
        self.kind
    }

    /// Some of its rows, as a matrix.
    ///
    /// # Panics
    /// When they are not all rows of this one.
    #[must_use]
    pub fn some_rows(&self, rows: std::ops::Range<usize>) -> QuantMatrix {
        assert!(rows.start <= rows.end && rows.end <= self.rows);
        QuantMatrix {
            bytes: self.bytes.clone(),
            offset: self.offset + rows.start * self.row_length(),
            rows: rows.len(),
            ..*self
        }
    }

    /// Writes the weights of row `row` to `out`, `[cols]`.
    pub fn dequantise_row(&self, row: usize, out: &mut [f32]) {
        portable::dequantise_row(self.kind, self.row_bytes(row), out);
    }

    fn row_length(&self) -> usize {
        self.cols / self.kind.block_weights() * self.kind.block_bytes()
    }

    pub(super) fn row_bytes(&self, row: usize) -> &[u8] {
        let length = self.row_length();
        let start = self.offset + row * length;
        &self.bytes.all()[start..start + length]
    }
}
