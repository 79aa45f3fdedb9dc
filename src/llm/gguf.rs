//! A Llama-family model in a GGUF file: its settings, its tokenizer's lists and where its
//! weights lie.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::quantized::ggml_file::qtensor_from_ggml;
use candle_core::quantized::{QMatMul, QTensor};
use candle_core::{Device, Tensor};

use super::LlmError;
use super::gguf_check::{refuse_other_format, refuse_other_kind};
use crate::cause::Cause;
use crate::nn::quant::{MappedFile, QuantMatrix};
use crate::weights::{GgmlType, GgufHeader, GgufTensor, GgufValue};

/// An open GGUF file, with its further parts where it was split.
pub(super) struct Gguf {
    path: PathBuf,
    /// Of the first part, with the tensors of all.
    header: GgufHeader,
    files: Vec<Arc<MappedFile>>,
    /// The parts that hold tensors which are not in the first.
    parts: HashMap<String, usize>,
}

/// The files that a model reads while it works, with the path of the first.
pub(super) struct MappedFiles {
    path: PathBuf,
    files: Vec<Arc<MappedFile>>,
}

impl MappedFiles {
    /// Whether they still are what was opened.
    pub(super) fn check(&self) -> Result<(), LlmError> {
        let mut files = self.files.iter();
        files
            .try_for_each(|file| file.check())
            .map_err(|error| LlmError::Changed {
                path: self.path.clone(),
                source: error,
            })
    }
}

impl Gguf {
    pub(super) fn files(&self) -> MappedFiles {
        MappedFiles {
            path: self.path.clone(),
            files: self.files.clone(),
        }
    }

    /// Opens the language model in `dir`: what sees pictures for it (mmproj) or changes it (a
    /// LoRA) may lie beside it, and of a set the first part is meant.
    pub(super) fn find(dir: &Path) -> Result<Gguf, LlmError> {
        let missing = || LlmError::Missing {
            dir: dir.to_path_buf(),
        };
        let entries = std::fs::read_dir(dir).map_err(|_| missing())?;
        let mut paths: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| may_be_model(path))
            .collect();
        paths.sort();
        if paths.len() > 1 {
            // Those that cannot be read stay, so that they are told of.
            paths.retain(|path| {
                let part = open_part(path);
                part.is_err()
                    || part.is_ok_and(|(header, _)| refuse_other_kind(path, &header).is_ok())
            });
        }
        match &paths[..] {
            [] => Err(missing()),
            [path] => Gguf::open(path.clone()),
            many => {
                let names = many.iter().filter_map(|path| path.file_name());
                let names: Vec<_> = names.map(|name| name.to_string_lossy()).collect();
                Err(LlmError::Several {
                    dir: dir.to_path_buf(),
                    names: names.join(", "),
                })
            }
        }
    }

    pub(super) fn open(path: PathBuf) -> Result<Gguf, LlmError> {
        let (header, file) = open_part(&path)?;
        refuse_other_kind(&path, &header)?;
        let mut gguf = Gguf {
            path,
            header,
            files: vec![file],
            parts: HashMap::new(),
        };
        let count = gguf.header.whole("split.count").unwrap_or(1);
        for number in 2..=count {
            let path = gguf.part(number, count)?;
            let (header, file) = open_part(&path)?;
            if header.whole("split.no") != Some(number - 1) {
                let name = path.display();
                return Err(gguf.unusable(format!("{name} is not its part {number} of {count}")));
            }
            for (name, tensor) in header.tensors {
                gguf.parts.insert(name.clone(), gguf.files.len());
                gguf.header.tensors.insert(name, tensor);
            }
            gguf.files.push(file);
        }
        Ok(gguf)
    }

    /// Where a further part lies, by the names that llama.cpp gives.
    fn part(&self, number: usize, count: usize) -> Result<PathBuf, LlmError> {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let first = format!("-00001-of-{count:05}.gguf");
        let cut = name.len().saturating_sub(first.len());
        let stem = name.split_at_checked(cut);
        let stem = stem.filter(|(_, end)| end.eq_ignore_ascii_case(&first));
        let Some((stem, end)) = stem else {
            return Err(self.unusable(format!(
                "it is the first of {count} parts, so its name must end with {first}"
            )));
        };
        let path = self
            .path
            .with_file_name(format!("{stem}-{number:05}{}", &end["-00001".len()..]));
        match path.exists() {
            true => Ok(path),
            false => Err(self.unusable(format!(
                "its part {number} of {count} is missing ({}); all parts must lie side by side",
                path.display()
            ))),
        }
    }

    /// The files of all parts.
    pub(super) fn paths(&self) -> Result<Vec<PathBuf>, LlmError> {
        let count = self.files.len();
        let further = (2..=count).map(|number| self.part(number, count));
        std::iter::once(Ok(self.path.clone()))
            .chain(further)
            .collect()
    }

    pub(super) fn header(&self) -> &GgufHeader {
        &self.header
    }

    pub(super) fn unusable(&self, reason: impl Into<Cause>) -> LlmError {
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

    pub(super) fn has(&self, tensor: &str) -> bool {
        self.header.tensors.contains_key(tensor)
    }

    fn file(&self, tensor: &str) -> &Arc<MappedFile> {
        &self.files[self.parts.get(tensor).copied().unwrap_or(0)]
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
        self.stack(name, &[rows, cols])
    }

    /// A tensor of that shape, its rows one below the other.
    pub(super) fn stack(&self, name: &str, shape: &[usize]) -> Result<QuantMatrix, LlmError> {
        let tensor = self.tensor(name, shape)?;
        let kind = tensor.kind.and_then(GgmlType::quant);
        let kind = kind.ok_or_else(|| self.unread(name, tensor))?;
        let cols = shape.last().copied().unwrap_or(1);
        let rows = shape.iter().rev().skip(1).product();
        QuantMatrix::new(self.file(name).clone(), tensor.offset, rows, cols, kind)
            .map_err(|error| self.unusable(format!("{name}: {error}")))
    }

    /// The f32 vector `name`, `[length]`.
    pub(super) fn vector(&self, name: &str, length: usize) -> Result<Vec<f32>, LlmError> {
        self.floats_of(name, &[length])
    }

    /// The numbers of an f32 tensor.
    pub(super) fn floats_of(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, LlmError> {
        let tensor = self.tensor(name, shape)?;
        if tensor.kind != Some(GgmlType::F32) {
            return Err(self.unusable(format!("{name} is not stored as F32")));
        }
        // Was checked to lie inside the file when the header was read.
        let bytes = &self.file(name).bytes()[tensor.offset..tensor.offset + tensor.bytes];
        let (numbers, _) = bytes.as_chunks::<4>();
        Ok(numbers
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect())
    }

    /// A tensor in whatever type it is stored.
    fn stored(&self, name: &str, shape: &[usize], device: &Device) -> Result<QTensor, LlmError> {
        let tensor = self.tensor(name, shape)?;
        let kind = tensor.kind.and_then(GgmlType::candle);
        let kind = kind.ok_or_else(|| self.unread(name, tensor))?;
        // Was checked to lie inside the file when the header was read.
        let bytes = &self.file(name).bytes()[tensor.offset..tensor.offset + tensor.bytes];
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
        let matrix = self.stack(name, shape)?;
        let mut numbers = vec![0.0; matrix.rows() * matrix.cols()];
        for (row, to) in numbers.chunks_exact_mut(matrix.cols()).enumerate() {
            matrix.dequantise_row(row, to);
        }
        Ok(Tensor::from_vec(numbers, shape, device)?)
    }

    fn unread(&self, name: &str, tensor: &GgufTensor) -> LlmError {
        let kind = match tensor.kind {
            Some(kind) => kind.name().to_string(),
            None => format!("unknown type {}", tensor.kind_number),
        };
        self.unusable(format!(
            "{name} is stored as {kind}, which this program does not read; take a Q4_K_M or Q8_0 of the same model"
        ))
    }
}

/// A file mapped, and its header.
fn open_part(path: &Path) -> Result<(GgufHeader, Arc<MappedFile>), LlmError> {
    refuse_other_format(path)?;
    let file = MappedFile::open(path).map_err(|error| LlmError::Unreadable {
        path: path.to_path_buf(),
        reason: error.into(),
    })?;
    let header = GgufHeader::read(file.bytes()).map_err(|reason| LlmError::Unusable {
        path: path.to_path_buf(),
        reason: reason.into(),
    })?;
    Ok((header, Arc::new(file)))
}

/// Whether a file may be a model, by its ending in any case: what macOS leaves beside files on other
/// disks is none, and further parts of a set are named by its first.
fn may_be_model(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let Some((stem, end)) = name.rsplit_once('.') else {
        return false;
    };
    let part = stem.rsplit_once("-of-").and_then(|(stem, _)| {
        let (_, part) = stem.rsplit_once('-')?;
        part.parse::<u32>().ok()
    });
    !name.starts_with('.') && end.eq_ignore_ascii_case("gguf") && part.is_none_or(|part| part <= 1)
}
