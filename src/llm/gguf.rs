//! A Llama-family model in a GGUF file: its settings, its tokenizer's lists and where its
//! weights lie.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::quantized::ggml_file::qtensor_from_ggml;
use candle_core::quantized::{GgmlDType, QMatMul, QTensor};
use candle_core::{Device, Tensor};

use super::LlmError;
use crate::nn::quant::{MappedFile, QuantMatrix, QuantType};
use crate::weights::{GgufHeader, GgufTensor, GgufValue};

/// An open GGUF file.
pub(super) struct Gguf {
    path: PathBuf,
    header: GgufHeader,
    file: Arc<MappedFile>,
}

impl Gguf {
    /// Opens the only or first (by name) `.gguf` file in `dir`.
    pub(super) fn find(dir: &Path) -> Result<Gguf, LlmError> {
        let missing = || LlmError::Missing {
            dir: dir.to_path_buf(),
        };
        let entries = std::fs::read_dir(dir).map_err(|_| missing())?;
        let path = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|end| end == "gguf"))
            .min()
            .ok_or_else(missing)?;
        Gguf::open(path)
    }

    pub(super) fn open(path: PathBuf) -> Result<Gguf, LlmError> {
        let unreadable = |error: std::io::Error| LlmError::Unreadable {
            path: path.clone(),
            reason: error.to_string(),
        };
        let file = Arc::new(MappedFile::open(&path).map_err(unreadable)?);
        let header = GgufHeader::read(file.bytes()).map_err(|reason| LlmError::Unusable {
            path: path.clone(),
            reason,
        })?;
        Ok(Gguf { path, header, file })
    }

    pub(super) fn unusable(&self, reason: impl Into<String>) -> LlmError {
        LlmError::Unusable {
            path: self.path.clone(),
            reason: reason.into(),
        }
    }

    fn value(&self, key: &str) -> Result<&GgufValue, LlmError> {
        let value = self.header.metadata.get(key);
        value.ok_or_else(|| self.unusable(format!("it does not say {key}")))
    }

    pub(super) fn string(&self, key: &str) -> Result<&str, LlmError> {
        match self.value(key)? {
            GgufValue::String(string) => Ok(string),
            _ => Err(self.unusable(format!("{key} is not a string"))),
        }
    }

    pub(super) fn strings(&self, key: &str) -> Result<Vec<&str>, LlmError> {
        match self.value(key)? {
            GgufValue::Strings(strings) => Ok(strings.iter().map(String::as_str).collect()),
            _ => Err(self.unusable(format!("{key} is not a list of strings"))),
        }
    }

    /// A list of whole numbers; `None` for each that is negative.
    pub(super) fn numbers(&self, key: &str) -> Result<Vec<Option<usize>>, LlmError> {
        match self.value(key)? {
            GgufValue::Wholes(numbers) => {
                Ok(numbers.iter().map(|n| usize::try_from(*n).ok()).collect())
            }
            _ => Err(self.unusable(format!("{key} is not a list of whole numbers"))),
        }
    }

    pub(super) fn floats(&self, key: &str) -> Result<Vec<f32>, LlmError> {
        match self.value(key)? {
            GgufValue::Floats(numbers) => Ok(numbers.iter().map(|&n| n as f32).collect()),
            _ => Err(self.unusable(format!("{key} is not a list of numbers"))),
        }
    }

    /// A whole number from 1 to `limit`.
    pub(super) fn count(&self, key: &str, limit: usize) -> Result<usize, LlmError> {
        self.value(key)?;
        let number = self.header.whole(key);
        number
            .filter(|number| (1..=limit).contains(number))
            .ok_or_else(|| self.unusable(format!("{key} is not a number from 1 to {limit}")))
    }

    pub(super) fn float(&self, key: &str) -> Result<f32, LlmError> {
        match self.value(key)? {
            GgufValue::Float(number) if number.is_finite() => Ok(*number as f32),
            _ => Err(self.unusable(format!("{key} is not a number"))),
        }
    }

    pub(super) fn has(&self, tensor: &str) -> bool {
        self.header.tensors.contains_key(tensor)
    }

    fn tensor(&self, name: &str, shape: &[usize]) -> Result<&GgufTensor, LlmError> {
        let Some(tensor) = self.header.tensors.get(name) else {
            return Err(self.unusable(format!("it has no tensor {name}")));
        };
        if tensor.shape != shape {
            let found = &tensor.shape;
            return Err(self.unusable(format!("{name} has shape {found:?}, not {shape:?}")));
        }
        Ok(tensor)
    }

    /// The quantised matrix `name`, `[rows, cols]`.
    pub(super) fn matrix(
        &self,
        name: &str,
        rows: usize,
        cols: usize,
    ) -> Result<QuantMatrix, LlmError> {
        let tensor = self.tensor(name, &[rows, cols])?;
        let kind = match tensor.kind {
            Some(GgmlDType::Q4_0) => QuantType::Q4_0,
            Some(GgmlDType::Q4_1) => QuantType::Q4_1,
            Some(GgmlDType::Q8_0) => QuantType::Q8_0,
            Some(GgmlDType::Q4K) => QuantType::Q4K,
            Some(GgmlDType::Q6K) => QuantType::Q6K,
            other => {
                let number = tensor.kind_number;
                let other = other.map_or(format!("type {number}"), |kind| format!("{kind:?}"));
                return Err(self.unusable(format!(
                    "{name} is stored as {other}, not as Q4_0, Q4_1, Q8_0, Q4_K or Q6_K"
                )));
            }
        };
        QuantMatrix::new(self.file.clone(), tensor.offset, rows, cols, kind)
            .map_err(|error| self.unusable(error.to_string()))
    }

    /// The f32 vector `name`, `[length]`.
    pub(super) fn vector(&self, name: &str, length: usize) -> Result<Vec<f32>, LlmError> {
        let tensor = self.tensor(name, &[length])?;
        if tensor.kind != Some(GgmlDType::F32) {
            return Err(self.unusable(format!("{name} is not stored as F32")));
        }
        // Was checked to lie inside the file when the header was read.
        let bytes = &self.file.bytes()[tensor.offset..tensor.offset + tensor.bytes];
        let (numbers, _) = bytes.as_chunks::<4>();
        Ok(numbers
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect())
    }

    /// A tensor in whatever type it is stored.
    fn stored(&self, name: &str, shape: &[usize], device: &Device) -> Result<QTensor, LlmError> {
        let tensor = self.tensor(name, shape)?;
        let Some(kind) = tensor.kind else {
            let number = tensor.kind_number;
            return Err(self.unusable(format!("{name} is stored as unknown type {number}")));
        };
        // Was checked to lie inside the file when the header was read.
        let bytes = &self.file.bytes()[tensor.offset..tensor.offset + tensor.bytes];
        qtensor_from_ggml(kind, bytes, shape.to_vec(), device)
            .map_err(|error| self.unusable(format!("{name}: {error}")))
    }

    /// The matrix `name`, `[rows, cols]`, of any of ggml's types, ready to be multiplied with.
    pub(super) fn product(
        &self,
        name: &str,
        rows: usize,
        cols: usize,
        device: &Device,
    ) -> Result<QMatMul, LlmError> {
        QMatMul::from_qtensor(self.stored(name, &[rows, cols], device)?)
            .map_err(|error| self.unusable(format!("{name}: {error}")))
    }

    /// The tensor `name` in f32.
    pub(super) fn float_tensor(
        &self,
        name: &str,
        shape: &[usize],
        device: &Device,
    ) -> Result<Tensor, LlmError> {
        self.stored(name, shape, device)?
            .dequantize(device)
            .map_err(|error| self.unusable(format!("{name}: {error}")))
    }
}
