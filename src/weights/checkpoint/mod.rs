//! Tensors by name from the files that public weights come in: `.safetensors`, zip pickles that
//! `torch.save` wrote (`.pth`, `.bin`, `.ckpt`), and folders of shards with an index.
//!
//! Opening reads only what the file says about its tensors; their bytes stay in a memory map
//! until one is asked for. Nothing in a pickle is run (see `pickle`).

mod error;
mod folder;
mod pickle;
mod safetensors;
mod torch;
mod view;
mod zip;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};

use super::trouble::{HEAD, trouble};
use crate::nn::quant::MappedFile;

pub use error::CheckpointError;
pub use view::{TensorSlice, TensorView};

/// How the elements of a tensor are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredType {
    /// IEEE half precision.
    F16,
    /// bfloat16.
    BF16,
    /// Single precision.
    F32,
    /// Double precision.
    F64,
    /// Signed, 64 bits.
    I64,
    /// Signed, 32 bits.
    I32,
    /// Signed, 16 bits.
    I16,
    /// Unsigned, 8 bits.
    U8,
    /// Booleans, one byte each.
    Bool,
    /// Eight bits: four of exponent and three of fraction, no infinity; widened to f16, which
    /// holds every one of them, or with its scale to f32.
    F8E4M3,
    /// Eight bits: five of exponent and two of fraction, the upper half of an f16.
    F8E5M2,
    /// A type that no weights of ours have; such a tensor is listed but cannot be loaded.
    Other,
}

impl StoredType {
    /// Bytes of an element.
    pub fn size(self) -> usize {
        match self {
            StoredType::F64 | StoredType::I64 => 8,
            StoredType::F32 | StoredType::I32 => 4,
            StoredType::F16 | StoredType::BF16 | StoredType::I16 => 2,
            StoredType::U8
            | StoredType::Bool
            | StoredType::F8E4M3
            | StoredType::F8E5M2
            | StoredType::Other => 1,
        }
    }

    fn dtype(self) -> Option<DType> {
        match self {
            StoredType::F16 | StoredType::F8E4M3 | StoredType::F8E5M2 => Some(DType::F16),
            StoredType::BF16 => Some(DType::BF16),
            StoredType::F32 => Some(DType::F32),
            StoredType::F64 => Some(DType::F64),
            StoredType::I64 => Some(DType::I64),
            StoredType::I32 => Some(DType::I32),
            StoredType::I16 => Some(DType::I16),
            StoredType::U8 | StoredType::Bool => Some(DType::U8),
            StoredType::Other => None,
        }
    }

    /// Whether every element is a finite number.
    fn is_finite(self, bytes: &[u8]) -> bool {
        // A float is NaN or infinite when its exponent is all ones.
        match self {
            StoredType::F16 => all16(bytes, 0x7c00),
            StoredType::BF16 => all16(bytes, 0x7f80),
            StoredType::F32 => bytes
                .as_chunks::<4>()
                .0
                .iter()
                .all(|b| u32::from_le_bytes(*b) & 0x7f80_0000 != 0x7f80_0000),
            StoredType::F64 => bytes
                .as_chunks::<8>()
                .0
                .iter()
                .all(|b| f64::from_le_bytes(*b).is_finite()),
            StoredType::F8E4M3 => bytes.iter().all(|b| b & 0x7f != 0x7f),
            StoredType::F8E5M2 => bytes.iter().all(|b| b & 0x7c != 0x7c),
            _ => true,
        }
    }
}

/// The f16 that an 8-bit float stands for, as bytes.
fn widened(stored: StoredType, bytes: &[u8]) -> Vec<u8> {
    let one = |b: u8| match stored {
        StoredType::F8E5M2 => [0, b],
        _ => e4m3(b).to_le_bytes(),
    };
    bytes.iter().flat_map(|&b| one(b)).collect()
}

/// The bits of the f16 that `b`, four bits of exponent and three of fraction, stands for.
fn e4m3(b: u8) -> u16 {
    let sign = u16::from(b & 0x80) << 8;
    let (exponent, fraction) = (u16::from(b >> 3) & 0xf, u16::from(b & 7));
    if exponent > 0 {
        // The exponents' biases are 7 and 15.
        return sign | ((exponent + 8) << 10) | (fraction << 7);
    }
    // A multiple of 2^-9, which an f16 holds as a normal number.
    let small = half::f16::from_f32(f32::from(fraction) / 512.0);
    sign | small.to_bits()
}

fn all16(bytes: &[u8], exponent: u16) -> bool {
    let (numbers, _) = bytes.as_chunks::<2>();
    numbers
        .iter()
        .all(|b| u16::from_le_bytes(*b) & exponent != exponent)
}

/// What is known of a tensor without loading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// How its numbers are stored.
    pub dtype: StoredType,
    /// Sizes of its axes, outermost first.
    pub shape: Vec<usize>,
}

impl TensorInfo {
    /// Number of elements.
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes as stored.
    pub fn bytes(&self) -> u64 {
        self.count() as u64 * self.dtype.size() as u64
    }
}

/// A tensor and where it lies.
#[derive(Clone, Debug)]
struct Entry {
    info: TensorInfo,
    /// Index of the file.
    file: usize,
    /// From its first element to its last.
    bytes: Range<usize>,
    /// In elements; `None` when they lie row by row.
    strides: Option<Vec<usize>>,
}

/// The bytes of a file.
enum Data {
    Mapped(MappedFile),
    Owned(Vec<u8>),
}

impl Data {
    fn bytes(&self) -> &[u8] {
        match self {
            Data::Mapped(file) => file.bytes(),
            Data::Owned(bytes) => bytes,
        }
    }
}

/// A file or folder of named tensors, open for reading.
pub struct Checkpoint {
    path: PathBuf,
    files: Vec<(PathBuf, Data)>,
    entries: BTreeMap<String, Entry>,
}

impl std::fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Checkpoint({:?}, {} tensors)",
            self.path,
            self.entries.len()
        )
    }
}

impl Checkpoint {
    /// Opens a `.safetensors` file, a torch zip pickle, or a folder that holds one of them or
    /// shards with their index. The kind is told by the contents, not by the name.
    ///
    /// # Errors
    /// When the file is missing, damaged or of another kind, holds a pickle with anything but
    /// tensors and plain values, or an index names what its shards do not hold.
    pub fn open(path: &Path) -> Result<Checkpoint, CheckpointError> {
        let mut checkpoint = Checkpoint {
            path: path.to_path_buf(),
            files: Vec::new(),
            entries: BTreeMap::new(),
        };
        if !path.is_dir() {
            checkpoint.map_file(path)?;
            return Ok(checkpoint);
        }
        let folder = folder::find(path)?;
        for file in &folder.files {
            checkpoint.map_file(file)?;
        }
        if let Some((index, map)) = folder.index {
            checkpoint.check_index(&index, &map)?;
        }
        Ok(checkpoint)
    }

    /// Reads a file from memory; `path` is what errors call it.
    ///
    /// # Errors
    /// As for [`Checkpoint::open`].
    pub fn from_bytes(path: &Path, bytes: Vec<u8>) -> Result<Checkpoint, CheckpointError> {
        let mut checkpoint = Checkpoint {
            path: path.to_path_buf(),
            files: Vec::new(),
            entries: BTreeMap::new(),
        };
        checkpoint.add_file(path, Data::Owned(bytes))?;
        Ok(checkpoint)
    }

    fn map_file(&mut self, path: &Path) -> Result<(), CheckpointError> {
        let map = || {
            // Opening a pipe or a device could wait for ever.
            if !fs::metadata(path)?.is_file() {
                return Err(std::io::Error::other("it is not a file"));
            }
            MappedFile::open(path)
        };
        let map = map().map_err(|error| CheckpointError::read(path, error))?;
        self.add_file(path, Data::Mapped(map))
    }

    fn add_file(&mut self, path: &Path, data: Data) -> Result<(), CheckpointError> {
        let (bytes, file) = (data.bytes(), self.files.len());
        let head = &bytes[..bytes.len().min(HEAD)];
        if let Some(trouble) = trouble(head, bytes.len() as u64) {
            return Err(CheckpointError::Unsupported {
                path: path.to_path_buf(),
                reason: trouble.reason,
                remedy: trouble.remedy,
            });
        }
        let entries = if bytes.starts_with(b"PK\x03\x04") {
            torch::entries(path, bytes, file)?
        } else if bytes.get(8) == Some(&b'{')
            || path
                .extension()
                .is_some_and(|e| e.eq_ignore_ascii_case("safetensors"))
        {
            safetensors::entries(bytes, file)
                .map_err(|reason| CheckpointError::damaged(path, reason))?
        } else if bytes.starts_with(torch::LEGACY) {
            torch::legacy_entries(path, bytes, file)?
        } else {
            return Err(CheckpointError::Format {
                path: path.to_path_buf(),
            });
        };
        let entries = unwrapped(entries);
        self.entries.extend(entries);
        self.files.push((path.to_path_buf(), data));
        Ok(())
    }

    /// Checks that each shard holds what the index says it holds.
    fn check_index(
        &self,
        index: &Path,
        map: &BTreeMap<String, PathBuf>,
    ) -> Result<(), CheckpointError> {
        for (name, shard) in map {
            let found = self
                .entries
                .get(name)
                .map(|entry| &self.files[entry.file].0);
            if found != Some(shard) {
                return Err(CheckpointError::Missing {
                    path: shard.clone(),
                    name: format!("{name}, which {} says it holds", index.display()),
                });
            }
        }
        Ok(())
    }

    /// The file or folder that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The files that are mapped.
    pub fn files(&self) -> BTreeSet<&Path> {
        self.files.iter().map(|(path, _)| path.as_path()).collect()
    }

    /// The metadata in the header of the first safetensors file.
    pub fn metadata(&self) -> BTreeMap<String, String> {
        let first = self.files.first();
        first.map_or_else(BTreeMap::new, |(_, data)| safetensors::texts(data.bytes()))
    }

    /// The names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Whether there is a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// Type and shape of a tensor, without loading it.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.entries.get(name).map(|entry| &entry.info)
    }

    /// Loads one tensor, as `dtype`, to `device`.
    ///
    /// # Errors
    /// When there is none of that name, or it holds NaN or infinity.
    pub fn tensor(
        &self,
        name: &str,
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor, CheckpointError> {
        let tensor = self.stored_tensor(name, device)?;
        let load = |error: candle_core::Error| self.load_error(name, error);
        tensor.to_dtype(dtype).map_err(load)
    }

    /// Loads one tensor in the type that it is stored in, to `device`; floats of 8 bits as f16, or
    /// as f32 where the file has their scale.
    ///
    /// # Errors
    /// As for [`Checkpoint::tensor`].
    pub fn stored_tensor(&self, name: &str, device: &Device) -> Result<Tensor, CheckpointError> {
        self.check_scales(name)?;
        let tensor = self.unscaled_tensor(name)?;
        let load = |error: candle_core::Error| self.load_error(name, error);
        let Some(scale) = self.scale_of(name) else {
            return tensor.to_device(device).map_err(load);
        };
        let scale = self.unscaled_tensor(&scale)?;
        // One for all, or one for each row.
        let fits = scale.elem_count() == 1 || Some(&scale.elem_count()) == tensor.dims().first();
        if !fits {
            return Err(CheckpointError::Unsupported {
                path: self.path.clone(),
                reason: format!("scales {name} in blocks of another form"),
                remedy: "use a file with f16 or bf16 weights",
            });
        }
        let scaled = || {
            let mut shape = vec![1; tensor.rank()];
            if let Some(first) = shape.first_mut() {
                *first = scale.elem_count();
            }
            let scale = scale.to_dtype(DType::F32)?.reshape(shape)?;
            tensor
                .to_dtype(DType::F32)?
                .broadcast_mul(&scale)?
                .to_device(device)
        };
        scaled().map_err(load)
    }

    /// The name of the scale by which a weight of 8 bits is to be multiplied, where there is one.
    fn scale_of(&self, name: &str) -> Option<String> {
        let stored = self.info(name)?.dtype;
        if !matches!(stored, StoredType::F8E4M3 | StoredType::F8E5M2) {
            return None;
        }
        let module = name.strip_suffix("weight")?;
        [format!("{module}scale_weight"), format!("{name}_scale")]
            .into_iter()
            .find(|scale| self.contains(scale))
    }

    /// Refuses a weight of 8 bits beside which there is a scale of a kind that is not read.
    fn check_scales(&self, name: &str) -> Result<(), CheckpointError> {
        let others = ["_scale_inv", "_scale_2", "_zero_point", "_block_scale"];
        let mut others = others.iter().map(|end| format!("{name}{end}"));
        match others.find(|other| self.contains(other)) {
            Some(other) => Err(CheckpointError::Unsupported {
                path: self.path.clone(),
                reason: format!("scales {name} by {other}, which is not read"),
                remedy: "use a file with f16 or bf16 weights",
            }),
            None => Ok(()),
        }
    }

    fn unscaled_tensor(&self, name: &str) -> Result<Tensor, CheckpointError> {
        let entry = self
            .entries
            .get(name)
            .ok_or_else(|| CheckpointError::Missing {
                path: self.path.clone(),
                name: name.to_string(),
            })?;
        let (path, data) = &self.files[entry.file];
        if let Data::Mapped(file) = data {
            let changed = |error: std::io::Error| CheckpointError::damaged(path, error);
            file.check().map_err(changed)?;
        }
        let stored = entry.info.dtype;
        let dtype = stored.dtype().ok_or_else(|| CheckpointError::Unsupported {
            path: path.clone(),
            reason: format!("stores {name} as a type of number that is not supported"),
            remedy: "use a file with f32, f16 or bf16 weights",
        })?;
        let bytes = &data.bytes()[entry.bytes.clone()];
        let gathered;
        let bytes = match &entry.strides {
            None => bytes,
            Some(strides) => {
                gathered = gather(bytes, stored.size(), &entry.info.shape, strides);
                &gathered[..]
            }
        };
        if !stored.is_finite(bytes) {
            return Err(CheckpointError::NotFinite {
                path: path.clone(),
                name: name.to_string(),
            });
        }
        let wide;
        let bytes = match stored {
            StoredType::F8E4M3 | StoredType::F8E5M2 => {
                wide = widened(stored, bytes);
                &wide[..]
            }
            _ => bytes,
        };
        let tensor = Tensor::from_raw_buffer(bytes, dtype, &entry.info.shape, &Device::Cpu);
        if let Data::Mapped(file) = data {
            // The copy is enough.
            file.forget(entry.bytes.clone());
        }
        tensor.map_err(|error| self.load_error(name, error))
    }

    fn load_error(&self, name: &str, error: candle_core::Error) -> CheckpointError {
        CheckpointError::Load {
            path: self.path.clone(),
            name: name.to_string(),
            reason: error.into(),
        }
    }
}

/// Names without the `module.` that all of them have where a model was saved from several devices.
fn unwrapped(mut entries: Vec<(String, Entry)>) -> Vec<(String, Entry)> {
    const MODULE: &str = "module.";
    if entries.iter().all(|(name, _)| name.starts_with(MODULE)) {
        for (name, _) in &mut entries {
            name.drain(..MODULE.len());
        }
    }
    entries
}

/// The elements of a strided tensor row by row. That they lie inside `bytes` was checked when the
/// checkpoint was opened.
fn gather(bytes: &[u8], size: usize, shape: &[usize], strides: &[usize]) -> Vec<u8> {
    let count: usize = shape.iter().product();
    let mut out = Vec::with_capacity(count * size);
    let mut index = vec![0usize; shape.len()];
    for _ in 0..count {
        let at: usize = index
            .iter()
            .zip(strides)
            .map(|(i, stride)| i * stride)
            .sum();
        out.extend_from_slice(&bytes[at * size..(at + 1) * size]);
        for (i, extent) in index.iter_mut().zip(shape).rev() {
            *i += 1;
            if *i < *extent {
                break;
            }
            *i = 0;
        }
    }
    out
}
