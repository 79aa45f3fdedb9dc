//! Reading what a file says about its tensors: headers only, in bounded time and memory, whatever
//! the bytes are.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use serde::de::{Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{CatalogueError, HeaderTensor, HeaderTensors};
use crate::nn::quant::MappedFile;
use crate::weights::{Checkpoint, GgufHeader, HEAD, StoredType, trouble};

/// The format's own limit.
const LONGEST_HEADER: u64 = 100_000_000;
/// More than any model has.
const MOST_TENSORS: usize = 1 << 18;
const MOST_DIMENSIONS: usize = 16;

/// What a file says.
#[derive(Debug)]
pub(super) enum FileHeader {
    /// safetensors, or a pickle of PyTorch.
    Tensors(HeaderTensors),
    Gguf(Box<GgufHeader>),
}

/// Reads the header of the file `path`.
///
/// # Errors
/// When it cannot be read, is damaged or cut short, or is no file of weights; the message says
/// which.
pub(super) fn read(path: &Path) -> Result<FileHeader, CatalogueError> {
    let unreadable = |error: std::io::Error| CatalogueError::read(path, error);
    let about = fs::metadata(path).map_err(unreadable)?;
    if !about.is_file() {
        // Opening a pipe or a device could wait for ever.
        return Err(CatalogueError::read(path, "it is not a file"));
    }
    let mut file = File::open(path).map_err(unreadable)?;
    let mut head = Vec::new();
    let beginning = file.by_ref().take(HEAD as u64).read_to_end(&mut head);
    beginning.map_err(unreadable)?;
    let length = about.len();
    if let Some(trouble) = trouble(&head, length) {
        return Err(CatalogueError::Trouble {
            path: path.to_path_buf(),
            reason: trouble.reason,
            remedy: trouble.remedy.to_string(),
        });
    }
    if head.starts_with(b"GGUF") {
        let file = MappedFile::open(path).map_err(unreadable)?;
        let header = GgufHeader::read(file.bytes());
        let header = header.map_err(|reason| CatalogueError::damaged(path, reason))?;
        return Ok(FileHeader::Gguf(Box::new(header)));
    }
    if head.get(8) == Some(&b'{') {
        let tensors = safetensors(&mut file, length);
        return tensors
            .map(FileHeader::Tensors)
            .map_err(|reason| CatalogueError::damaged(path, reason));
    }
    Ok(FileHeader::Tensors(of_checkpoint(&Checkpoint::open(path)?)))
}

/// Names, types and shapes of the tensors in an open checkpoint.
pub(super) fn of_checkpoint(checkpoint: &Checkpoint) -> HeaderTensors {
    let infos = checkpoint.names().filter_map(|name| {
        let info = checkpoint.info(name)?;
        let info = HeaderTensor {
            dtype: type_name(info.dtype).to_string(),
            shape: info.shape.clone(),
            bytes: info.bytes(),
        };
        Some((name.to_string(), info))
    });
    HeaderTensors {
        map: infos.collect(),
        metadata: BTreeMap::new(),
    }
}

/// safetensors' name of a type.
fn type_name(stored: StoredType) -> &'static str {
    match stored {
        StoredType::F16 => "F16",
        StoredType::BF16 => "BF16",
        StoredType::F32 => "F32",
        StoredType::F64 => "F64",
        StoredType::I64 => "I64",
        StoredType::I32 => "I32",
        StoredType::I16 => "I16",
        StoredType::U8 => "U8",
        StoredType::Bool => "BOOL",
        StoredType::F8E4M3 => "F8_E4M3",
        StoredType::F8E5M2 => "F8_E5M2",
        StoredType::Other => "another type",
    }
}

/// The header of a safetensors file of `length` bytes.
///
/// # Errors
/// What is wrong, in words.
fn safetensors(file: &mut File, length: u64) -> Result<HeaderTensors, String> {
    let failed = |error: std::io::Error| error.to_string();
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    let mut size = [0; 8];
    file.read_exact(&mut size).map_err(failed)?;
    let size = u64::from_le_bytes(size);
    if size > LONGEST_HEADER {
        return Err(format!(
            "its header would be {size} bytes long, which no safetensors file has"
        ));
    }
    let data = length
        .checked_sub(8)
        .and_then(|rest| rest.checked_sub(size));
    let Some(data) = data else {
        let missing = size + 8 - length;
        return Err(format!(
            "it is incomplete: it ends {missing} bytes before its header does"
        ));
    };
    let mut header = vec![0; usize::try_from(size).unwrap_or(0)];
    file.read_exact(&mut header).map_err(failed)?;
    let raw: Raw = serde_json::from_slice(&header)
        .map_err(|error| format!("its header is garbled: {error}"))?;
    check(&raw, data)?;
    let map = raw.tensors.into_iter().map(|(name, tensor)| {
        let info = HeaderTensor {
            dtype: tensor.dtype,
            shape: tensor.shape.0,
            bytes: tensor.data_offsets.1 - tensor.data_offsets.0,
        };
        (name, info)
    });
    Ok(HeaderTensors {
        map: map.collect(),
        metadata: raw.metadata,
    })
}

/// Checks that the tensors fill `data` bytes one after the other.
fn check(raw: &Raw, data: u64) -> Result<(), String> {
    let mut places: Vec<_> = raw.tensors.iter().collect();
    places.sort_by_key(|(_, tensor)| tensor.data_offsets);
    let mut at = 0;
    for (name, tensor) in places {
        let (from, to) = tensor.data_offsets;
        if from != at || to < from {
            return Err(format!(
                "its header is garbled: {name} lies in a wrong place"
            ));
        }
        let count = tensor.shape.0.iter().map(|&size| size as u64);
        let count = count.fold(1, u64::saturating_mul);
        let fits =
            bits(&tensor.dtype).is_none_or(|bits| count.checked_mul(bits) == Some((to - from) * 8));
        if !fits {
            return Err(format!(
                "its header is garbled: {name} has another length than its shape"
            ));
        }
        at = to;
    }
    match data.cmp(&at) {
        std::cmp::Ordering::Less => Err(format!(
            "it is incomplete: {} of its {} bytes of weights are missing",
            at - data,
            at
        )),
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => Err(format!("it has {} bytes too many", data - at)),
    }
}

/// Bits of a number; `None` for a type that is not known here.
fn bits(dtype: &str) -> Option<u64> {
    Some(match dtype {
        "F64" | "I64" | "U64" => 64,
        "F32" | "I32" | "U32" => 32,
        "F16" | "BF16" | "I16" | "U16" => 16,
        "F8_E4M3" | "F8_E5M2" | "F8_E8M0" | "I8" | "U8" | "BOOL" => 8,
        "F6_E2M3" | "F6_E3M2" => 6,
        "F4" => 4,
        _ => return None,
    })
}

struct Raw {
    tensors: BTreeMap<String, RawTensor>,
    metadata: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct RawTensor {
    dtype: String,
    shape: Shape,
    data_offsets: (u64, u64),
}

/// A shape of no more dimensions than any tensor has, whatever the header says.
struct Shape(Vec<usize>);

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Sizes;
        impl<'de> Visitor<'de> for Sizes {
            type Value = Shape;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a shape")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Shape, A::Error> {
                let mut sizes = Vec::new();
                while let Some(size) = list.next_element()? {
                    if sizes.len() == MOST_DIMENSIONS {
                        return Err(A::Error::custom("a tensor has too many dimensions"));
                    }
                    sizes.push(size);
                }
                Ok(Shape(sizes))
            }
        }
        deserializer.deserialize_seq(Sizes)
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TensorsVisitor;
        impl<'de> Visitor<'de> for TensorsVisitor {
            type Value = Raw;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of tensors")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
                let mut raw = Raw {
                    tensors: BTreeMap::new(),
                    metadata: BTreeMap::new(),
                };
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        raw.metadata = map.next_value::<Metadata>()?.0;
                        continue;
                    }
                    if raw.tensors.len() == MOST_TENSORS {
                        return Err(A::Error::custom("it has more tensors than any model"));
                    }
                    raw.tensors.insert(name, map.next_value()?);
                }
                Ok(raw)
            }
        }
        deserializer.deserialize_map(TensorsVisitor)
    }
}

/// What a header says in words; other values than texts, which some programs write, are left out.
struct Metadata(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Value {
            Text(String),
            Other(IgnoredAny),
        }
        let all = Option::<BTreeMap<String, Value>>::deserialize(deserializer)?;
        let texts = all.unwrap_or_default().into_iter();
        let texts = texts.filter_map(|(key, value)| match value {
            Value::Text(text) => Some((key, text)),
            Value::Other(_) => None,
        });
        Ok(Metadata(texts.collect()))
    }
}
