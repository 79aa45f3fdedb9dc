//! Tensors of several checkpoints under one set of names, as a source of parameters.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use candle_core::{Device, Tensor};

use super::{Checkpoint, TensorInfo};
use crate::nn::TensorSource;

/// Which part of a stored tensor a tensor of the view is, and in which order of axes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TensorSlice {
    /// As it is.
    Whole,
    /// These of its rows (the first axis).
    Rows(Range<usize>),
    /// A matrix with its axes exchanged.
    Transposed,
    /// A 1x1 convolution `[out,in,1,1]` as the matrix that it is.
    Flattened,
}

impl TensorSlice {
    /// The shape of it, of a stored tensor with this one.
    pub fn shape(&self, stored: &[usize]) -> Vec<usize> {
        match self {
            TensorSlice::Whole => stored.to_vec(),
            TensorSlice::Rows(rows) => {
                let mut shape = stored.to_vec();
                if let Some(first) = shape.first_mut() {
                    // As many as there are of them.
                    *first = rows.end.min(*first).saturating_sub(rows.start);
                }
                shape
            }
            TensorSlice::Transposed => stored.iter().rev().copied().collect(),
            TensorSlice::Flattened => stored.iter().take(2).copied().collect(),
        }
    }

    /// It, of a stored tensor.
    ///
    /// # Errors
    /// A tensor with other axes.
    pub fn of(&self, stored: Tensor) -> candle_core::Result<Tensor> {
        match self {
            TensorSlice::Whole => Ok(stored),
            TensorSlice::Rows(rows) => {
                let rows = rows.start..rows.end.min(stored.dim(0)?);
                stored.narrow(0, rows.start, rows.len())?.contiguous()
            }
            TensorSlice::Transposed => stored.t()?.contiguous(),
            TensorSlice::Flattened => {
                let shape = self.shape(stored.dims());
                stored.reshape(shape)
            }
        }
    }
}

#[derive(Clone)]
struct Place {
    checkpoint: Arc<Checkpoint>,
    stored: String,
    taken: TensorSlice,
}

/// Tensors of one or more checkpoints, renamed; those added later take the place of earlier ones
/// of the same name, as when `load_state_dict` is called for one file after the other.
#[derive(Clone, Default)]
pub struct TensorView {
    tensors: BTreeMap<String, Place>,
}

impl TensorView {
    /// The tensors of `checkpoint` under their own names.
    pub fn of(checkpoint: &Arc<Checkpoint>) -> TensorView {
        TensorView::default().and(checkpoint, |name| Some(name.to_string()))
    }

    /// Adds the tensors of `checkpoint` that `rename` gives a name.
    #[must_use]
    pub fn and(
        mut self,
        checkpoint: &Arc<Checkpoint>,
        rename: impl Fn(&str) -> Option<String>,
    ) -> TensorView {
        for name in checkpoint.names() {
            if let Some(new) = rename(name) {
                self.insert(new, checkpoint, name, TensorSlice::Whole);
            }
        }
        self
    }

    /// Adds the tensor `stored` of `checkpoint`, or a part of it, as `name`.
    pub fn insert(
        &mut self,
        name: String,
        checkpoint: &Arc<Checkpoint>,
        stored: &str,
        taken: TensorSlice,
    ) {
        let place = Place {
            checkpoint: checkpoint.clone(),
            stored: stored.to_string(),
            taken,
        };
        self.tensors.insert(name, place);
    }

    /// The names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Type and shape of a tensor, without loading it.
    pub fn info(&self, name: &str) -> Option<TensorInfo> {
        let place = self.tensors.get(name)?;
        let stored = place.checkpoint.info(&place.stored)?;
        Some(TensorInfo {
            dtype: stored.dtype,
            shape: place.taken.shape(&stored.shape),
        })
    }

    /// Names and shapes of all tensors.
    pub fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        self.names()
            .filter_map(|name| Some((name.to_string(), self.info(name)?.shape)))
            .collect()
    }
}

impl TensorSource for TensorView {
    fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.info(name).map(|info| info.shape)
    }

    fn tensor(&self, name: &str, device: &Device) -> candle_core::Result<Tensor> {
        let place = self.tensors.get(name).ok_or_else(|| {
            candle_core::Error::Msg(format!("parameter {name} is missing from the weights"))
        })?;
        let stored = place
            .checkpoint
            .stored_tensor(&place.stored, device)
            .map_err(|error| candle_core::Error::Msg(error.to_string()))?;
        place.taken.of(stored)
    }
}
