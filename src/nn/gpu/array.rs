//! What networks do to tensors, on a GPU.

use super::product::Onto;
use super::tensor::GpuTensor;
use super::{attend, elementwise, norm, product, strided};
use crate::nn::array::{Array, StoredArray};
use crate::nn::{Activation, Conv2d, GroupNorm, LayerNorm, Linear, Mask, Result, RmsNorm};
use candle_core::{Device, Tensor};

fn linear(x: &GpuTensor, layer: &Linear, more: Option<&GpuTensor>) -> Result<GpuTensor> {
    let bias = layer.bias.as_ref().map(|bias| bias.on(x.gpu()));
    let weight = layer.weight.on(x.gpu())?;
    let onto = more.map(Onto::All);
    product::linear(x, &weight, bias.transpose()?.as_ref(), onto)
}

fn conv2d(x: &GpuTensor, layer: &Conv2d, onto: Option<Onto>) -> Result<GpuTensor> {
    let bias = layer.bias.as_ref().map(|bias| bias.on(x.gpu()));
    let weight = layer.weight.on(x.gpu())?;
    let bias = bias.transpose()?;
    product::conv2d(x, &weight, (bias.as_ref(), onto), layer.options)
}

impl Array for GpuTensor {
    fn dims(&self) -> &[usize] {
        self.dims()
    }

    fn reshape(&self, dims: &[usize]) -> Result<Self> {
        self.reshape(dims)
    }

    fn cut(&self, axis: usize, start: usize, len: usize) -> Result<Self> {
        strided::narrow(self, axis, start, len)
    }

    fn join(parts: &[&Self], axis: usize) -> Result<Self> {
        strided::cat(parts, axis)
    }

    fn turn(&self, axes: &[usize]) -> Result<Self> {
        strided::permute(self, axes)
    }

    fn select(&self, places: &[u32], axis: usize) -> Result<Self> {
        strided::select(self, places, axis)
    }

    fn repeat_to(&self, dims: &[usize]) -> Result<Self> {
        strided::broadcast(self, dims)
    }

    fn plus(&self, other: &Self) -> Result<Self> {
        elementwise::combine(self, other, "+")
    }

    fn times(&self, other: &Self) -> Result<Self> {
        elementwise::combine(self, other, "*")
    }

    fn scaled(&self, by: f64) -> Result<Self> {
        elementwise::each(self, "x[i] * s.by", by)
    }

    fn add_channels(&self, t: &Self) -> Result<Self> {
        elementwise::add_channels(self, t)
    }

    fn silu(&self) -> Result<Self> {
        elementwise::each(self, "silu(x[i])", 0.0)
    }

    fn gelu(&self) -> Result<Self> {
        elementwise::each(self, "gelu(x[i])", 0.0)
    }

    fn quick_gelu(&self) -> Result<Self> {
        elementwise::each(self, "quick_gelu(x[i])", 0.0)
    }

    fn gelu_tanh(&self) -> Result<Self> {
        elementwise::each(self, "gelu_tanh(x[i])", 0.0)
    }

    fn relu(&self) -> Result<Self> {
        elementwise::each(self, "max(x[i], 0.0)", 0.0)
    }

    fn geglu(&self) -> Result<Self> {
        elementwise::geglu(self)
    }

    fn upsample_nearest(&self) -> Result<Self> {
        strided::upsample_nearest(self)
    }

    fn attention(&self, k: &Self, v: &Self, heads: (usize, usize), mask: &Mask) -> Result<Self> {
        attend::attention(self, k, v, heads, mask)
    }

    fn linear(&self, layer: &Linear) -> Result<Self> {
        linear(self, layer, None)
    }

    fn linear_plus(&self, layer: &Linear, more: &Self) -> Result<Self> {
        linear(self, layer, Some(more))
    }

    fn linear_columns(&self, layer: &Linear, from: usize, count: usize) -> Result<Self> {
        let all = self.linear(layer)?;
        strided::narrow(&all, all.dims().len() - 1, from, count)
    }

    fn conv2d(&self, layer: &Conv2d) -> Result<Self> {
        conv2d(self, layer, None)
    }

    fn conv2d_plus(&self, layer: &Conv2d, more: &Self) -> Result<Self> {
        conv2d(self, layer, Some(Onto::All(more)))
    }

    fn conv2d_add_channels(&self, layer: &Conv2d, t: &Self) -> Result<Self> {
        conv2d(self, layer, Some(Onto::Channels(t)))
    }

    fn group_norm(&self, n: &GroupNorm, act: Activation) -> Result<Self> {
        let (gamma, beta) = (n.gamma.on(self.gpu())?, n.beta.on(self.gpu())?);
        norm::group_norm(self, &gamma, &beta, n.groups, n.eps, act)
    }

    fn layer_norm(&self, n: &LayerNorm) -> Result<Self> {
        let (gamma, beta) = (n.gamma.on(self.gpu())?, n.beta.on(self.gpu())?);
        norm::layer_norm(self, &gamma, &beta, n.eps)
    }

    fn rms_norm(&self, n: &RmsNorm) -> Result<Self> {
        GpuTensor::rms_norm(self, &self.beside(&n.gamma)?, n.eps)
    }

    fn device(&self) -> Device {
        Device::Cpu
    }

    fn beside(&self, t: &Tensor) -> Result<Self> {
        self.gpu().remembered(t)
    }

    fn sent(&self, t: &Tensor) -> Result<Self> {
        Self::upload(self.gpu(), t)
    }

    fn beside_held(&self, held: &StoredArray) -> Result<Self> {
        match held {
            StoredArray::Tensor(t) => self.beside(t),
            StoredArray::Gpu(t) if t.gpu().is(self.gpu()) => Ok(t.clone()),
            StoredArray::Gpu(t) => GpuTensor::upload(self.gpu(), &t.download()?),
        }
    }

    fn hold(self) -> StoredArray {
        StoredArray::Gpu(self)
    }
}
