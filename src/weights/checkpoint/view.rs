//! Tensors of several checkpoints under one set of names, as a source of parameters.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{Device, Tensor};

use super::{Checkpoint, TensorInfo};
use crate::nn::TensorSource;

/// Tensors of one or more checkpoints, renamed; those added later take the place of earlier ones
/// of the same name, as when `load_state_dict` is called for one file after the other.
#[derive(Clone, Default)]
pub struct View {
    tensors: BTreeMap<String, (Arc<Checkpoint>, String)>,
}

impl View {
    /// The tensors of `checkpoint` under their own names.
    pub fn of(checkpoint: &Arc<Checkpoint>) -> View {
        View::default().and(checkpoint, |name| Some(name.to_string()))
    }

    /// Adds the tensors of `checkpoint` that `rename` gives a name.
    #[must_use]
    pub fn and(
        mut self,
        checkpoint: &Arc<Checkpoint>,
        rename: impl Fn(&str) -> Option<String>,
    ) -> View {
        for name in checkpoint.names() {
            if let Some(new) = rename(name) {
                self.tensors
                    .insert(new, (checkpoint.clone(), name.to_string()));
            }
        }
        self
    }

    /// The names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Type and shape of a tensor, without loading it.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        let (checkpoint, name) = self.tensors.get(name)?;
        checkpoint.info(name)
    }
}

impl TensorSource for View {
    fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.info(name).map(|info| info.shape.clone())
    }

    fn tensor(&self, name: &str, device: &Device) -> candle_core::Result<Tensor> {
        let (checkpoint, stored) = self.tensors.get(name).ok_or_else(|| {
            candle_core::Error::Msg(format!("parameter {name} is missing from the weights"))
        })?;
        checkpoint
            .stored_tensor(stored, device)
            .map_err(|error| candle_core::Error::Msg(error.to_string()))
    }
}
