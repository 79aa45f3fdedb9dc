//! A Llama-family model in a GGUF file: its settings, its tokenizer's lists and where its
//! weights lie.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::{Content, TensorInfo, Value};

use super::LlmError;
use crate::nn::quant::{MappedFile, QuantMatrix, QuantType};

/// An open GGUF file.
pub(super) struct Gguf {
    path: PathBuf,
    content: Content,
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

    fn open(path: PathBuf) -> Result<Gguf, LlmError> {
        let unreadable = |error: std::io::Error| LlmError::Unreadable {
            path: path.clone(),
            reason: error.to_string(),
        };
        let mut reader = BufReader::new(File::open(&path).map_err(unreadable)?);
        let content = Content::read(&mut reader).map_err(|_| LlmError::Unusable {
            path: path.clone(),
            reason: "it is no GGUF file or is damaged".to_string(),
        })?;
        let file = Arc::new(MappedFile::open(&path).map_err(unreadable)?);
        Ok(Gguf {
            path,
            content,
            file,
        })
    }

    pub(super) fn unusable(&self, reason: impl Into<String>) -> LlmError {
        LlmError::Unusable {
            path: self.path.clone(),
            reason: reason.into(),
        }
    }

    fn value(&self, key: &str) -> Result<&Value, LlmError> {
        let value = self.content.metadata.get(key);
        value.ok_or_else(|| self.unusable(format!("it does not say {key}")))
    }

    pub(super) fn string(&self, key: &str) -> Result<&str, LlmError> {
        match self.value(key)? {
            Value::String(string) => Ok(string),
            _ => Err(self.unusable(format!("{key} is not a string"))),
        }
    }

    pub(super) fn strings(&self, key: &str) -> Result<Vec<&str>, LlmError> {
        let wrong = || self.unusable(format!("{key} is not a list of strings"));
        let Value::Array(values) = self.value(key)? else {
            return Err(wrong());
        };
        values
            .iter()
            .map(|value| match value {
                Value::String(string) => Ok(string.as_str()),
                _ => Err(wrong()),
            })
            .collect()
    }

    /// A list of whole numbers; `None` for each that is negative or no number.
    pub(super) fn numbers(&self, key: &str) -> Result<Vec<Option<usize>>, LlmError> {
        match self.value(key)? {
            Value::Array(values) => Ok(values.iter().map(whole).collect()),
            _ => Err(self.unusable(format!("{key} is not a list"))),
        }
    }

    /// A whole number from 1 to `limit`.
    pub(super) fn count(&self, key: &str, limit: usize) -> Result<usize, LlmError> {
        whole(self.value(key)?)
            .filter(|number| (1..=limit).contains(number))
            .ok_or_else(|| self.unusable(format!("{key} is not a number from 1 to {limit}")))
    }

    pub(super) fn float(&self, key: &str) -> Result<f32, LlmError> {
        match self.value(key)? {
            Value::F32(number) if number.is_finite() => Ok(*number),
            _ => Err(self.unusable(format!("{key} is not a number"))),
        }
    }

    pub(super) fn has(&self, tensor: &str) -> bool {
        self.content.tensor_infos.contains_key(tensor)
    }

    fn tensor(&self, name: &str, shape: &[usize]) -> Result<(&TensorInfo, usize), LlmError> {
        let Some(info) = self.content.tensor_infos.get(name) else {
            return Err(self.unusable(format!("it has no tensor {name}")));
        };
        if info.shape.dims() != shape {
            let found = info.shape.dims();
            return Err(self.unusable(format!("{name} has shape {found:?}, not {shape:?}")));
        }
        let offset = self.content.tensor_data_offset.saturating_add(info.offset);
        // Saturating, so that it is found to lie outside the file.
        Ok((info, usize::try_from(offset).unwrap_or(usize::MAX)))
    }

    /// The quantised matrix `name`, `[rows, cols]`.
    pub(super) fn matrix(
        &self,
        name: &str,
        rows: usize,
        cols: usize,
    ) -> Result<QuantMatrix, LlmError> {
        let (info, offset) = self.tensor(name, &[rows, cols])?;
        let kind = match info.ggml_dtype {
            GgmlDType::Q4_0 => QuantType::Q4_0,
            GgmlDType::Q4_1 => QuantType::Q4_1,
            GgmlDType::Q8_0 => QuantType::Q8_0,
            GgmlDType::Q4K => QuantType::Q4K,
            GgmlDType::Q6K => QuantType::Q6K,
            other => {
                return Err(self.unusable(format!(
                    "{name} is stored as {other:?}, not as Q4_0, Q4_1, Q8_0, Q4_K or Q6_K"
                )));
            }
        };
        QuantMatrix::new(self.file.clone(), offset, rows, cols, kind)
            .map_err(|error| self.unusable(error.to_string()))
    }

    /// The f32 vector `name`, `[length]`.
    pub(super) fn vector(&self, name: &str, length: usize) -> Result<Vec<f32>, LlmError> {
        let (info, offset) = self.tensor(name, &[length])?;
        if info.ggml_dtype != GgmlDType::F32 {
            return Err(self.unusable(format!("{name} is not stored as F32")));
        }
        let bytes = offset
            .checked_add(4 * length)
            .and_then(|end| self.file.bytes().get(offset..end))
            .ok_or_else(|| self.unusable("it ends before its last tensor"))?;
        let (numbers, _) = bytes.as_chunks::<4>();
        Ok(numbers
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect())
    }
}

fn whole(value: &Value) -> Option<usize> {
    match value {
        Value::U8(n) => Some(usize::from(*n)),
        Value::U16(n) => Some(usize::from(*n)),
        Value::U32(n) => usize::try_from(*n).ok(),
        Value::U64(n) => usize::try_from(*n).ok(),
        Value::I8(n) => usize::try_from(*n).ok(),
        Value::I16(n) => usize::try_from(*n).ok(),
        Value::I32(n) => usize::try_from(*n).ok(),
        Value::I64(n) => usize::try_from(*n).ok(),
        _ => None,
    }
}
