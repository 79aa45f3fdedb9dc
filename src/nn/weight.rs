//! Where a layer's parameters lie.

use super::Result;
use super::gpu::{Gpu, GpuTensor};
use candle_core::{DType, Tensor};

/// A parameter of a layer: on a device of candle's, or on a GPU that candle does not know.
#[derive(Clone, Debug)]
pub(super) struct Weight {
    /// On a GPU only the shape: one zero, seen everywhere.
    host: Tensor,
    gpu: Option<GpuTensor>,
}

impl From<Tensor> for Weight {
    fn from(host: Tensor) -> Self {
        Self { host, gpu: None }
    }
}

impl Weight {
    /// Moves it to where the layer is to compute.
    pub(super) fn placed(host: Tensor, gpu: Option<&Gpu>) -> Result<Self> {
        let Some(gpu) = gpu else {
            return Ok(host.into());
        };
        let moved = GpuTensor::upload_weight(gpu, &host)?;
        let zero = Tensor::zeros((), DType::F32, &candle_core::Device::Cpu)?;
        Ok(Self {
            host: zero.broadcast_as(host.shape())?,
            gpu: Some(moved),
        })
    }

    /// It on its device of candle's.
    pub(super) fn host(&self) -> Result<&Tensor> {
        match self.gpu {
            None => Ok(&self.host),
            Some(_) => candle_core::bail!("the layer's weights are on a GPU, and its input is not"),
        }
    }

    /// It, or for one on a GPU what has its shape.
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
