//! The weights of one network as they are used: those of the model's file, with LoRAs merged in and
//! rows of embeddings added, each when a layer asks for it.

use crate::nn::{Result, TensorSource};
use crate::weights::{Checkpoint, StoredType, TensorView};
use candle_core::{DType, Device, Tensor};
use std::collections::HashMap;
use std::sync::Arc;

/// What a LoRA adds to a weight: `scale * up down`.
#[derive(Clone)]
pub(in crate::diffusion) struct Delta {
    pub file: Arc<Checkpoint>,
    /// Names in the file.
    pub up: String,
    pub down: String,
    pub scale: f64,
}

impl Delta {
    /// In the shape of the weight.
    fn tensor(&self, shape: &[usize]) -> Result<Tensor> {
        let read = |name: &str| -> Result<Tensor> {
            self.file
                .tensor(name, DType::F32, &Device::Cpu)
                .map_err(|error| candle_core::Error::Msg(error.to_string()))?
                .flatten_from(1)
        };
        (read(&self.up)?.matmul(&read(&self.down)?)? * self.scale)?.reshape(shape)
    }
}

/// A source of parameters under diffusers' names.
#[derive(Clone, Default)]
pub(in crate::diffusion) struct Patched {
    pub view: TensorView,
    pub deltas: HashMap<String, Vec<Delta>>,
    /// Rows after those of the token table, `[n,C]` in f32.
    pub rows: Vec<Tensor>,
}

/// The table that textual inversion adds rows to.
pub(super) const TOKENS: &str = "text_model.embeddings.token_embedding.weight";

impl Patched {
    /// The type in which the file stores the network, as one that can be computed from.
    pub(in crate::diffusion) fn stored(&self) -> DType {
        let wide = self.view.names().filter_map(|name| {
            let info = self.view.info(name)?;
            (info.shape.len() > 1).then_some(info)
        });
        // Of the largest.
        let info = wide.max_by_key(|info| info.count());
        match info.map(|info| info.dtype) {
            Some(StoredType::F16 | StoredType::F8E4M3 | StoredType::F8E5M2) => DType::F16,
            Some(StoredType::BF16) => DType::BF16,
            _ => DType::F32,
        }
    }

    fn added_rows(&self) -> usize {
        self.rows.iter().filter_map(|rows| rows.dim(0).ok()).sum()
    }
}

impl TensorSource for Patched {
    fn contains(&self, name: &str) -> bool {
        self.view.contains(name)
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        let mut shape = self.view.shape(name)?;
        if let (TOKENS, Some(rows)) = (name, shape.first_mut()) {
            *rows += self.added_rows();
        }
        Some(shape)
    }

    fn tensor(&self, name: &str, device: &Device) -> Result<Tensor> {
        if name == TOKENS && !self.rows.is_empty() {
            let table = self.view.tensor(name, &Device::Cpu)?.to_dtype(DType::F32)?;
            let all: Vec<&Tensor> = std::iter::once(&table).chain(&self.rows).collect();
            return Tensor::cat(&all, 0)?.to_device(device);
        }
        let Some(deltas) = self.deltas.get(name) else {
            return self.view.tensor(name, device);
        };
        let mut sum = self.view.tensor(name, &Device::Cpu)?.to_dtype(DType::F32)?;
        for delta in deltas {
            sum = (&sum + delta.tensor(sum.dims())?)?;
        }
        sum.to_device(device)
    }
}
