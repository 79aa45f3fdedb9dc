//! Where a layer's parameters lie.

use super::Result;
use super::gpu::{Gpu, GpuTensor};
use super::kernels::bf16;
use super::ops::with_slices;
use candle_core::{DType, Tensor};
use std::sync::Arc;

/// A parameter of a layer: on a device of candle's, on a GPU that candle does not know, or packed
/// in bf16 for the processor.
#[derive(Clone, Debug)]
pub(super) struct Weight {
    /// On a GPU and where it is packed only the shape: one zero, seen everywhere.
    host: Tensor,
    gpu: Option<GpuTensor>,
    packed: Option<Arc<bf16::Packed>>,
}

impl From<Tensor> for Weight {
    fn from(host: Tensor) -> Self {
        Self {
            host,
            gpu: None,
            packed: None,
        }
    }
}

impl Weight {
    /// Moves it to where the layer is to compute.
    pub(super) fn placed(host: Tensor, gpu: Option<&Gpu>) -> Result<Self> {
        let Some(gpu) = gpu else {
            return Ok(host.into());
        };
        let moved = GpuTensor::upload_weight(gpu, &host)?;
        Ok(Self {
            host: of_shape(&host)?,
            gpu: Some(moved),
            packed: None,
        })
    }

    /// A matrix `[in,out]`, or a kernel `[1,1,in,out]`, rounded to bf16 and packed, where the
    /// processor multiplies that; else as it is.
    pub(super) fn rounded(host: Tensor) -> Result<Self> {
        let matrix = match host.dims() {
            [inp, out] | [1, 1, inp, out] => Some((*inp, *out)),
            _ => None,
        };
        let Some((inp, out)) = matrix.filter(|(inp, out)| *inp > 0 && *out > 0) else {
            return Ok(host.into());
        };
        if !host.device().is_cpu() || !bf16::available() {
            return Ok(host.into());
        }
        let wide = host.to_dtype(DType::F32)?;
        let packed = with_slices([&wide], |[w]| {
            bf16::Packed::new(inp, out, |i, j| w[i * out + j])
        })?;
        Ok(Self {
            host: of_shape(&host)?,
            gpu: None,
            packed: Some(Arc::new(packed)),
        })
    }

    /// It in bf16, where it is packed.
    pub(super) fn packed(&self) -> Option<&bf16::Packed> {
        self.packed.as_deref()
    }

    /// The same on a GPU.
    pub(super) fn moved(&self, gpu: &Gpu) -> Result<Self> {
        if self.packed.is_some() {
            candle_core::bail!("weights that are packed for the processor can't be moved");
        }
        match &self.gpu {
            Some(there) if there.gpu().is(gpu) => Ok(self.clone()),
            Some(_) => candle_core::bail!("the layer's weights are on another GPU"),
            None => Self::placed(self.host.clone(), Some(gpu)),
        }
    }

    /// It on its device of candle's.
    pub(super) fn host(&self) -> Result<&Tensor> {
        match (&self.gpu, &self.packed) {
            (None, None) => Ok(&self.host),
            (Some(_), _) => {
                candle_core::bail!("the layer's weights are on a GPU, and its input is not")
            }
            (None, Some(_)) => {
                candle_core::bail!("the layer's weights are packed, and its input is not in f32")
            }
        }
    }

    /// It, or for one on a GPU or packed what has its shape.
    pub(super) fn shaped(&self) -> &Tensor {
        &self.host
    }

    /// It on a GPU: what lies elsewhere is copied there for this once.
    pub(super) fn on(&self, gpu: &Gpu) -> Result<GpuTensor> {
        match &self.gpu {
            Some(there) if there.gpu().is(gpu) => Ok(there.clone()),
            Some(_) => candle_core::bail!("the layer's weights are on another GPU than its input"),
            None => GpuTensor::upload_weight(gpu, &self.host),
        }
    }
}

/// One zero, seen everywhere in the shape of `tensor`.
fn of_shape(tensor: &Tensor) -> Result<Tensor> {
    let zero = Tensor::zeros((), DType::F32, &candle_core::Device::Cpu)?;
    zero.broadcast_as(tensor.shape())
}
