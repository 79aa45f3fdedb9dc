//! The tensors of a GGUF file as a network asks for them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use super::{GgmlType, GgufHeader, WeightsError};
use crate::cause::Cause;
use crate::nn::TensorSource;
use crate::nn::quant::{MappedFile, QuantMatrix};

/// A mapped GGUF file; each tensor is widened when it is asked for.
pub struct GgufTensors {
    header: GgufHeader,
    file: Arc<MappedFile>,
}

impl GgufTensors {
    /// Maps the file `path` and reads its header.
    ///
    /// # Errors
    /// When it cannot be read, is damaged, or is no GGUF file.
    pub fn open(path: &Path) -> Result<GgufTensors, WeightsError> {
        let unreadable = |reason: Cause| WeightsError::Read {
            path: path.to_path_buf(),
            reason,
        };
        let about = std::fs::metadata(path).map_err(|error| unreadable(error.into()))?;
        if !about.is_file() {
            // Opening a pipe or a device could wait for ever.
            return Err(unreadable("it is not a file".into()));
        }
        let file = MappedFile::open(path).map_err(|error| unreadable(error.into()))?;
        let header = GgufHeader::read(file.bytes());
        let header = header.map_err(|reason| unreadable(reason.into()))?;
        Ok(GgufTensors {
            header,
            file: Arc::new(file),
        })
    }

    /// Header of the file.
    pub fn header(&self) -> &GgufHeader {
        &self.header
    }

    /// The tensors that `named` names, by that name; those that it does not name are left out.
    #[must_use]
    pub fn select(mut self, named: impl Fn(&str) -> Option<String>) -> GgufTensors {
        let tensors = std::mem::take(&mut self.header.tensors).into_iter();
        let tensors = tensors.filter_map(|(name, tensor)| Some((named(&name)?, tensor)));
        self.header.tensors = tensors.collect();
        self
    }

    /// Names and shapes of all tensors.
    pub fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        let tensors = self.header.tensors.iter();
        tensors
            .map(|(name, tensor)| (name.clone(), tensor.shape.clone()))
            .collect()
    }
}

impl GgufTensors {
    /// A tensor as the matrix that it is stored as, with all axes but the last as its rows; a vector
    /// is one row. It stays in the mapped file.
    ///
    /// # Errors
    /// When there is none of that name, it is of a type that is not read, or the file was changed.
    pub fn matrix(&self, name: &str) -> candle_core::Result<QuantMatrix> {
        let fault = |reason: String| candle_core::Error::Msg(format!("{name}: {reason}"));
        self.file
            .check()
            .map_err(|error| fault(error.to_string()))?;
        let tensor = self.header.tensors.get(name);
        let tensor = tensor.ok_or_else(|| fault("it is missing from the weights".to_string()))?;
        let kind = tensor.kind.and_then(GgmlType::quant).ok_or_else(|| {
            let kind = tensor.kind.map_or("an unknown type", GgmlType::name);
            fault(format!("it is stored as {kind}, which is not read"))
        })?;
        let cols = tensor.shape.last().copied().unwrap_or(1);
        let rows = tensor.shape.iter().rev().skip(1).product();
        let matrix = QuantMatrix::new(self.file.clone(), tensor.offset, rows, cols, kind);
        matrix.map_err(|error| fault(error.to_string()))
    }
}

impl TensorSource for GgufTensors {
    fn contains(&self, name: &str) -> bool {
        self.header.tensors.contains_key(name)
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        let tensor = self.header.tensors.get(name)?;
        Some(tensor.shape.clone())
    }

    fn tensor(&self, name: &str, device: &Device) -> candle_core::Result<Tensor> {
        let matrix = self.matrix(name)?;
        let (rows, cols) = (matrix.rows(), matrix.cols());
        let Some(tensor) = self.header.tensors.get(name) else {
            candle_core::bail!("{name}: it is missing from the weights");
        };
        if tensor.kind == Some(GgmlType::F16) {
            // Was checked to lie inside the file when the header was read.
            let bytes = &self.file.bytes()[tensor.offset..tensor.offset + tensor.bytes];
            return Tensor::from_raw_buffer(bytes, DType::F16, &tensor.shape, device);
        }
        let mut numbers = vec![0.0; rows * cols];
        for (row, to) in numbers.chunks_exact_mut(cols).enumerate() {
            matrix.dequantise_row(row, to);
        }
        Tensor::from_vec(numbers, tensor.shape.as_slice(), device)
    }
}
