//! The header of a `.safetensors` file.

use std::collections::BTreeMap;

use safetensors::{Dtype, SafeTensors};

use super::{Entry, StoredType, TensorInfo};

/// The longest header that any file has.
const LONGEST: usize = 100_000_000;

/// Every tensor of the file `bytes`, by name; `file` is the file's number in the checkpoint.
///
/// # Errors
/// What is wrong with the header, in words.
pub(super) fn entries(bytes: &[u8], file: usize) -> Result<Vec<(String, Entry)>, String> {
    // This compares the header with the file's length as well.
    let (header, metadata) = SafeTensors::read_metadata(bytes)
        .map_err(|e| missing(bytes).unwrap_or_else(|| e.to_string()))?;
    let start = 8 + header;
    let entries = metadata.tensors().into_iter().map(|(name, info)| {
        let dtype = match info.dtype {
            Dtype::F16 => StoredType::F16,
            Dtype::BF16 => StoredType::BF16,
            Dtype::F32 => StoredType::F32,
            Dtype::F64 => StoredType::F64,
            Dtype::I64 => StoredType::I64,
            Dtype::I32 => StoredType::I32,
            Dtype::I16 => StoredType::I16,
            Dtype::U8 => StoredType::U8,
            Dtype::BOOL => StoredType::Bool,
            Dtype::F8_E4M3 => StoredType::F8E4M3,
            Dtype::F8_E5M2 => StoredType::F8E5M2,
            _ => StoredType::Other,
        };
        let (from, to) = info.data_offsets;
        let entry = Entry {
            info: TensorInfo {
                dtype,
                shape: info.shape.clone(),
            },
            file,
            bytes: start + from..start + to,
            strides: None,
        };
        (name, entry)
    });
    Ok(entries.collect())
}

/// The texts that the header of the file `bytes` holds beside its tensors.
pub(super) fn texts(bytes: &[u8]) -> BTreeMap<String, String> {
    let read = SafeTensors::read_metadata(bytes).ok();
    let texts = read.and_then(|(_, metadata)| metadata.metadata().clone());
    texts.unwrap_or_default().into_iter().collect()
}

/// How many bytes a file that was cut short lacks, in words.
fn missing(bytes: &[u8]) -> Option<String> {
    let size = u64::from_le_bytes(*bytes.first_chunk()?);
    let start = usize::try_from(size).ok()?.checked_add(8)?;
    let Some(header) = bytes.get(8..start) else {
        let known = start <= LONGEST;
        return known.then(|| {
            let missing = start - bytes.len();
            format!("it is incomplete: it ends {missing} bytes before its header does")
        });
    };
    let header: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(header).ok()?;
    let ends = header
        .values()
        .filter_map(|tensor| tensor["data_offsets"][1].as_u64());
    let whole = ends.max()?.checked_add(start as u64)?;
    let missing = whole
        .checked_sub(bytes.len() as u64)
        .filter(|missing| *missing > 0)?;
    Some(format!(
        "it is incomplete: {missing} of its {whole} bytes are missing"
    ))
}
