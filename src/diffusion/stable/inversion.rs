//! Textual inversion (arXiv 2208.01618): files of embeddings that become rows of the token table.

use crate::diffusion::{DiffusionError, StableDiffusionFamily};
use crate::weights::Checkpoint;
use candle_core::{DType, Device, Tensor};
use std::path::Path;

/// The rows of the file at `path` for text encoders of these widths: one `[n,width]` each.
///
/// # Errors
/// A file that cannot be read, is no embedding, or is one for models of another width.
pub(super) fn read(
    path: &Path,
    family: StableDiffusionFamily,
    widths: &[usize],
) -> Result<Vec<Tensor>, DiffusionError> {
    let file = Checkpoint::open(path).map_err(DiffusionError::Checkpoint)?;
    let names: Vec<&str> = file.names().collect();
    let parts: Vec<&str> = match names[..] {
        [_] => names.clone(),
        _ => ["clip_l", "clip_g"]
            .into_iter()
            .filter(|name| file.contains(name))
            .collect(),
    };
    if parts.is_empty() {
        let why = "is not an embedding, which has one tensor, or clip_l and clip_g";
        return Err(DiffusionError::unfit(path, why, "name an embedding file"));
    }
    let mut rows = Vec::new();
    for name in parts {
        let tensor = file
            .tensor(name, DType::F32, &Device::Cpu)
            .map_err(DiffusionError::Checkpoint)?;
        rows.push(match tensor.rank() {
            1 => tensor.unsqueeze(0)?,
            _ => tensor.flatten_to(tensor.rank().saturating_sub(2))?,
        });
    }
    let theirs: Vec<usize> = rows.iter().filter_map(|rows| rows.dim(1).ok()).collect();
    if theirs != widths {
        let list = |widths: &[usize]| {
            let texts: Vec<String> = widths.iter().map(ToString::to_string).collect();
            texts.join(" and ")
        };
        let why = format!(
            "is an embedding of width {}, and the model's is {}",
            list(&theirs),
            list(widths)
        );
        let remedy = format!("use one made for {}", family.label());
        return Err(DiffusionError::unfit(path, why, &remedy));
    }
    Ok(rows)
}
