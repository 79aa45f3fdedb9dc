//! What networks do to tensors, on a GPU.

use super::epilogue::{Epilogue, Gate, function};
use super::tensor::GpuTensor;
use super::{attend, elementwise, norm, product, strided};
use crate::nn::array::{Array, StoredArray};
use crate::nn::{
    Activation, ActivationFunction, Conv2d, GroupNorm, LayerNorm, Linear, Mask, Result, RmsNorm,
};
use candle_core::{Device, Tensor};

fn linear(x: &GpuTensor, layer: &Linear, epilogue: Epilogue) -> Result<GpuTensor> {
    let bias = layer.bias.as_ref().map(|bias| bias.on(x.gpu()));
    let weight = layer.weight.on(x.gpu())?;
    product::linear(x, &weight, bias.transpose()?.as_ref(), epilogue)
}

fn conv2d(x: &GpuTensor, layer: &Conv2d, epilogue: Epilogue) -> Result<GpuTensor> {
    let bias = layer.bias.as_ref().map(|bias| bias.on(x.gpu()));
    let weight = layer.weight.on(x.gpu())?;
    let bias = bias.transpose()?;
    product::conv2d(x, &weight, (bias.as_ref(), epilogue), layer.options)
}

impl GpuTensor {
    /// What a linear layer makes of it, with a gate of that shape.
    ///
    /// # Errors
    /// Shapes that don't fit, or a GPU that fails.
    pub fn linear_gated(&self, layer: &Linear, gate: &Self, how: Gate) -> Result<Self> {
        linear(self, layer, Epilogue::Gated(gate, how))
    }
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

    fn activated(&self, by: ActivationFunction) -> Result<Self> {
        elementwise::each(self, &format!("{}(x[i])", function(by)), 0.0)
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
        linear(self, layer, Epilogue::Nothing)
    }

    fn linear_activated(&self, layer: &Linear, by: ActivationFunction) -> Result<Self> {
        linear(self, layer, Epilogue::Activation(by))
    }

    fn linear_geglu(&self, layer: &Linear) -> Result<Self> {
        let [inp, out] = *layer.weight().dims() else {
            candle_core::bail!("a linear layer of {:?}", layer.weight().dims());
        };
        let short = inp <= product::LONGEST_GEGLU;
        match short && inp.is_multiple_of(4) && out.is_multiple_of(8) {
            true => linear(self, layer, Epilogue::Geglu),
            false => self.linear(layer)?.geglu(),
        }
    }

    fn linear_plus(&self, layer: &Linear, more: &Self) -> Result<Self> {
        linear(self, layer, Epilogue::Plus(more))
    }

    fn linear_columns(&self, layer: &Linear, from: usize, count: usize) -> Result<Self> {
        let all = self.linear(layer)?;
        strided::narrow(&all, all.dims().len() - 1, from, count)
    }

    fn conv2d(&self, layer: &Conv2d) -> Result<Self> {
        conv2d(self, layer, Epilogue::Nothing)
    }

    fn conv2d_activated(&self, layer: &Conv2d, by: ActivationFunction) -> Result<Self> {
        conv2d(self, layer, Epilogue::Activation(by))
    }

    fn conv2d_plus(&self, layer: &Conv2d, more: &Self) -> Result<Self> {
        conv2d(self, layer, Epilogue::Plus(more))
    }

    fn conv2d_add_channels(&self, layer: &Conv2d, t: &Self) -> Result<Self> {
        conv2d(self, layer, Epilogue::PlusChannels(t))
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
