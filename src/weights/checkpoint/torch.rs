//! Files that `torch.save` wrote: a pickle that says which tensors there are, and the bytes of each
//! storage, as entries of a zip file or, before PyTorch 1.6, one after the other.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use super::pickle::{self, StorageView};
use super::{CheckpointError, Entry, StoredType, TensorInfo, zip};

/// Every tensor of the file `bytes`, by name; `file` is the file's number in the checkpoint.
///
/// The names are the keys of the dict that was saved, or of its `state_dict` (Lightning) or
/// `model` (LAVIS, MiniGPT-4) where it has one. What is no tensor is passed over.
///
/// # Errors
/// When the zip is damaged, or the pickle holds anything outside the vocabulary of tensors.
pub(super) fn entries(
    path: &Path,
    bytes: &[u8],
    file: usize,
) -> Result<Vec<(String, Entry)>, CheckpointError> {
    let damaged = |reason: String| CheckpointError::damaged(path, reason);
    let zip = zip::entries(bytes).map_err(damaged)?;
    // `<stem>/data.pkl`, or `archive/data.pkl` in older files.
    let pickle = zip.keys().filter(|name| name.ends_with("/data.pkl")).min();
    let Some(pickle) = pickle else {
        return Err(damaged("it is a zip file without data.pkl".to_string()));
    };
    let folder = &pickle[..pickle.len() - "data.pkl".len()];
    if let Some(order) = zip.get(&format!("{folder}byteorder"))
        && bytes[order.clone()].trim_ascii() != b"little"
    {
        return Err(CheckpointError::Unsupported {
            path: path.to_path_buf(),
            reason: "was written on a machine with another byte order".to_string(),
            remedy: "save it again on an ordinary computer",
        });
    }
    let read = pickle::read(&bytes[zip[pickle].clone()]).map_err(|e| refused(path, e))?;
    placed(path, read.tensors, file, |key| {
        zip.get(&format!("{folder}data/{key}")).cloned()
    })
}

/// The numbers with which a file of PyTorch before 1.6 begins, pickled.
pub(super) const LEGACY: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";

/// As [`entries`], of a file that begins with [`LEGACY`]: after three pickles about the format one
/// of the tensors, one that lists the storages in the order in which they follow, each with the
/// number of its elements before it.
///
/// # Errors
/// As for [`entries`].
pub(super) fn legacy_entries(
    path: &Path,
    bytes: &[u8],
    file: usize,
) -> Result<Vec<(String, Entry)>, CheckpointError> {
    let failed = |error| refused(path, error);
    let cut = || CheckpointError::damaged(path, "its storages are cut short");
    let mut at = 0;
    for _ in 0..3 {
        at += pickle::skip(&bytes[at..]).map_err(failed)?;
    }
    let read = pickle::read(&bytes[at..]).map_err(failed)?;
    at += read.length;
    let (keys, length) = pickle::texts(&bytes[at..]).map_err(failed)?;
    at += length;
    let mut storages = HashMap::new();
    for key in keys {
        let count = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>());
        let count = u64::from_le_bytes(*count.ok_or_else(cut)?);
        at += 8;
        let dtype = read.storages.get(&key).copied();
        let size = match dtype {
            Some(StoredType::Other) | None => {
                let reason = format!("storage {key} has a type of number that is not known");
                return Err(CheckpointError::damaged(path, reason));
            }
            Some(dtype) => dtype.size(),
        };
        let end = usize::try_from(count)
            .ok()
            .and_then(|count| count.checked_mul(size)?.checked_add(at))
            .filter(|&end| end <= bytes.len())
            .ok_or_else(cut)?;
        storages.insert(key, at..end);
        at = end;
    }
    placed(path, read.tensors, file, |key| storages.get(key).cloned())
}

fn refused(path: &Path, error: pickle::PickleError) -> CheckpointError {
    match error {
        pickle::PickleError::Forbidden(what) => CheckpointError::Forbidden {
            path: path.to_path_buf(),
            what,
        },
        pickle::PickleError::Damaged(reason) => CheckpointError::damaged(path, reason),
    }
}

fn placed(
    path: &Path,
    tensors: Vec<(String, StorageView)>,
    file: usize,
    storage: impl Fn(&str) -> Option<Range<usize>>,
) -> Result<Vec<(String, Entry)>, CheckpointError> {
    tensors
        .into_iter()
        .map(|(name, view)| {
            let entry = place(&view, storage(&view.key), file)
                .map_err(|reason| CheckpointError::damaged(path, format!("{name} {reason}")))?;
            Ok((name, entry))
        })
        .collect()
}

/// Where the tensor `view` lies in the file.
fn place(view: &StorageView, storage: Option<Range<usize>>, file: usize) -> Result<Entry, String> {
    let storage =
        storage.ok_or_else(|| format!("lies in storage {}, which is not in the file", view.key))?;
    let size = view.dtype.size();
    let outside = || "reaches beyond its storage".to_string();
    let stored = storage.len() / size;
    let count = view.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    let count = count.filter(|&n| n <= stored).ok_or_else(outside)?;
    // One past the last element that the view reaches.
    let mut end = view.offset;
    if count > 0 {
        for (&extent, &stride) in view.shape.iter().zip(&view.strides) {
            end = (extent - 1)
                .checked_mul(stride)
                .and_then(|n| end.checked_add(n))
                .ok_or_else(outside)?;
        }
        end = end.checked_add(1).ok_or_else(outside)?;
    }
    if end > stored {
        return Err(outside());
    }
    let start = storage.start + view.offset * size;
    let contiguous = contiguous_strides(&view.shape) == view.strides || count <= 1;
    Ok(Entry {
        info: TensorInfo {
            dtype: view.dtype,
            shape: view.shape.clone(),
        },
        file,
        bytes: start..storage.start + end * size,
        strides: (!contiguous).then(|| view.strides.clone()),
    })
}

fn contiguous_strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; shape.len()];
    for i in (1..shape.len()).rev() {
        // The product was checked before.
        strides[i - 1] = strides[i].saturating_mul(shape[i].max(1));
    }
    strides
}
