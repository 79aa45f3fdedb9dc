//! What networks are written with: tensors of candle's, or of a GPU that candle does not know.

use super::gpu::GpuTensor;
use super::{
    Activation, Conv2d, ConvOptions, GroupNorm, LayerNorm, Linear, Mask, Result, RmsNorm, ops,
};
use candle_core::{Device, Tensor};
use std::fmt::Debug;

/// A function that a network applies to each number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActivationFunction {
    /// `x * sigmoid(x)`.
    Silu,
    /// GELU by the error function.
    Gelu,
    /// `x * sigmoid(1.702 x)`.
    QuickGelu,
    /// GELU by the tangent.
    GeluTanh,
    /// What is negative becomes zero.
    Relu,
}

/// A tensor on the device that a network lies on, with what networks do to it. A network that is
/// generic over it is written once for candle's devices, where all of this has a backward, and for
/// [`super::gpu`], where nothing leaves the GPU in between.
pub trait Array: Clone + Debug {
    /// Sizes of the axes.
    fn dims(&self) -> &[usize];
    /// The same numbers under another shape.
    ///
    /// # Errors
    /// Shapes that don't fit, or a device that fails; so for all that follow.
    fn reshape(&self, dims: &[usize]) -> Result<Self>;
    /// Places `start .. start + len` of an axis, contiguous.
    fn cut(&self, axis: usize, start: usize, len: usize) -> Result<Self>;
    /// One behind the other along an axis.
    fn join(parts: &[&Self], axis: usize) -> Result<Self>;
    /// Axis `i` of the result is axis `axes[i]` of this, contiguous.
    fn turn(&self, axes: &[usize]) -> Result<Self>;
    /// The places of an axis in another order, or some of them.
    fn select(&self, places: &[u32], axis: usize) -> Result<Self>;
    /// Repeats axes of size 1, contiguous.
    fn repeat_to(&self, dims: &[usize]) -> Result<Self>;
    /// Adds another of the same shape, or of the shape's end but for leading ones.
    fn plus(&self, other: &Self) -> Result<Self>;
    /// Multiplies by another, as [`Array::plus`] adds.
    fn times(&self, other: &Self) -> Result<Self>;
    /// Multiplies all numbers.
    fn scaled(&self, by: f64) -> Result<Self>;
    /// See [`ops::add_channels`].
    fn add_channels(&self, t: &Self) -> Result<Self>;
    /// What a function makes of each number.
    fn activated(&self, by: ActivationFunction) -> Result<Self>;
    /// See [`ops::geglu`].
    fn geglu(&self) -> Result<Self>;
    /// See [`ops::upsample_nearest`].
    fn upsample_nearest(&self) -> Result<Self>;
    /// See [`ops::attention`].
    fn attention(&self, k: &Self, v: &Self, heads: (usize, usize), mask: &Mask) -> Result<Self>;
    /// What a linear layer makes of it.
    fn linear(&self, layer: &Linear) -> Result<Self>;
    /// What `count` of a linear layer's outputs, from the one numbered `from` on, make of it.
    fn linear_columns(&self, layer: &Linear, from: usize, count: usize) -> Result<Self>;
    /// What a convolution makes of it.
    fn conv2d(&self, layer: &Conv2d) -> Result<Self>;
    /// A function of what a linear layer makes of it: in one pass where there is a kernel for it, as
    /// for those that follow.
    fn linear_activated(&self, layer: &Linear, by: ActivationFunction) -> Result<Self> {
        self.linear(layer)?.activated(by)
    }
    /// [`Array::geglu`] of what a linear layer makes of it.
    fn linear_geglu(&self, layer: &Linear) -> Result<Self> {
        self.linear(layer)?.geglu()
    }
    /// A function of what a convolution makes of it.
    fn conv2d_activated(&self, layer: &Conv2d, by: ActivationFunction) -> Result<Self> {
        self.conv2d(layer)?.activated(by)
    }
    /// What a linear layer makes of it, and `more` of that shape.
    fn linear_plus(&self, layer: &Linear, more: &Self) -> Result<Self> {
        self.linear(layer)?.plus(more)
    }
    /// What a convolution makes of it, and `more` of that shape.
    fn conv2d_plus(&self, layer: &Conv2d, more: &Self) -> Result<Self> {
        self.conv2d(layer)?.plus(more)
    }
    /// What a convolution makes of it, and `t` as [`Array::add_channels`] adds it.
    fn conv2d_add_channels(&self, layer: &Conv2d, t: &Self) -> Result<Self> {
        self.conv2d(layer)?.add_channels(t)
    }
    /// What a group norm, and what follows in the same pass, makes of it.
    fn group_norm(&self, layer: &GroupNorm, act: Activation) -> Result<Self>;
    /// What a layer norm makes of it.
    fn layer_norm(&self, layer: &LayerNorm) -> Result<Self>;
    /// What a root mean square norm makes of it.
    fn rms_norm(&self, layer: &RmsNorm) -> Result<Self>;
    /// The device of candle's whose tensors this one takes as masks.
    fn device(&self) -> Device;
    /// `t`, which changes no more, on the device that this one is on and in its precision.
    fn beside(&self, t: &Tensor) -> Result<Self>;
    /// `t`, which is asked for but once, on that device.
    fn sent(&self, t: &Tensor) -> Result<Self>;
    /// The same for what may be on a device already.
    fn beside_held(&self, held: &StoredArray) -> Result<Self>;
    /// Keeps it for another pass.
    fn hold(self) -> StoredArray;
}

/// What one pass through a network keeps for another, on the network's device.
#[derive(Clone, Debug)]
pub enum StoredArray {
    /// On a device of candle's.
    Tensor(Tensor),
    /// On a GPU through wgpu.
    Gpu(GpuTensor),
}

impl StoredArray {
    /// Sizes of the axes.
    pub fn dims(&self) -> &[usize] {
        match self {
            StoredArray::Tensor(t) => t.dims(),
            StoredArray::Gpu(t) => t.dims(),
        }
    }

    /// It on a device of candle's: copied from the GPU where it is on one.
    ///
    /// # Errors
    /// A GPU that is lost.
    pub fn tensor(&self) -> Result<Tensor> {
        match self {
            StoredArray::Tensor(t) => Ok(t.clone()),
            StoredArray::Gpu(t) => t.download(),
        }
    }

    /// The same numbers under another shape.
    ///
    /// # Errors
    /// A shape of another size.
    pub fn reshape(&self, dims: &[usize]) -> Result<Self> {
        Ok(match self {
            StoredArray::Tensor(t) => StoredArray::Tensor(t.reshape(dims)?),
            StoredArray::Gpu(t) => StoredArray::Gpu(t.reshape(dims)?),
        })
    }

    /// Adds another of the same shape.
    ///
    /// # Errors
    /// Another shape, or a device that fails.
    pub fn plus(&self, other: &Self) -> Result<Self> {
        Ok(match self {
            StoredArray::Tensor(t) => t.plus(&t.beside_held(other)?)?.hold(),
            StoredArray::Gpu(t) => t.plus(&t.beside_held(other)?)?.hold(),
        })
    }
}

/// The sizes of `N` axes.
///
/// # Errors
/// More axes or fewer.
pub fn dims_of<const N: usize>(x: &impl Array) -> Result<[usize; N]> {
    x.dims()
        .try_into()
        .map_err(|_| candle_core::Error::Msg(format!("{:?} has not {N} axes", x.dims())))
}

impl Array for Tensor {
    fn dims(&self) -> &[usize] {
        self.dims()
    }

    fn reshape(&self, dims: &[usize]) -> Result<Self> {
        self.reshape(dims)
    }

    fn cut(&self, axis: usize, start: usize, len: usize) -> Result<Self> {
        self.narrow(axis, start, len)?.contiguous()
    }

    fn join(parts: &[&Self], axis: usize) -> Result<Self> {
        Tensor::cat(parts, axis)
    }

    fn turn(&self, axes: &[usize]) -> Result<Self> {
        self.permute(axes)?.contiguous()
    }

    fn select(&self, places: &[u32], axis: usize) -> Result<Self> {
        let places = Tensor::new(places, self.device())?;
        self.contiguous()?.index_select(&places, axis)
    }

    fn repeat_to(&self, dims: &[usize]) -> Result<Self> {
        self.broadcast_as(dims)?.contiguous()
    }

    fn plus(&self, other: &Self) -> Result<Self> {
        match self.dims() == other.dims() {
            true => self + other,
            false => self.broadcast_add(other),
        }
    }

    fn times(&self, other: &Self) -> Result<Self> {
        match self.dims() == other.dims() {
            true => self * other,
            false => self.broadcast_mul(other),
        }
    }

    fn scaled(&self, by: f64) -> Result<Self> {
        self * by
    }

    fn add_channels(&self, t: &Self) -> Result<Self> {
        ops::add_channels(self, t)
    }

    fn activated(&self, by: ActivationFunction) -> Result<Self> {
        match by {
            ActivationFunction::Silu => ops::silu(self),
            ActivationFunction::Gelu => ops::gelu(self),
            ActivationFunction::QuickGelu => ops::quick_gelu(self),
            ActivationFunction::GeluTanh => ops::gelu_tanh(self),
            ActivationFunction::Relu => self.relu(),
        }
    }

    fn geglu(&self) -> Result<Self> {
        ops::geglu(self)
    }

    fn upsample_nearest(&self) -> Result<Self> {
        ops::upsample_nearest(self)
    }

    fn attention(&self, k: &Self, v: &Self, heads: (usize, usize), mask: &Mask) -> Result<Self> {
        ops::attention(self, k, v, heads.0, heads.1, mask)
    }

    fn linear(&self, layer: &Linear) -> Result<Self> {
        let bias = layer.bias.as_ref().map(|bias| bias.host());
        if let Some(packed) = layer.weight.packed() {
            return ops::linear_in_bf16(self, packed, bias.transpose()?);
        }
        ops::linear(self, layer.weight.host()?, bias.transpose()?)
    }

    fn linear_columns(&self, layer: &Linear, from: usize, count: usize) -> Result<Self> {
        let weight = layer.weight.host()?.narrow(1, from, count)?;
        let bias = layer.bias.as_ref().map(|bias| bias.host());
        let bias = bias.transpose()?.map(|bias| bias.narrow(0, from, count));
        ops::linear(self, &weight, bias.transpose()?.as_ref())
    }

    fn conv2d(&self, layer: &Conv2d) -> Result<Self> {
        let bias = layer.bias.as_ref().map(|bias| bias.host());
        if let Some(packed) = layer.weight.packed() {
            let plain = ConvOptions::same(1) == layer.options;
            return match plain {
                true => ops::linear_in_bf16(self, packed, bias.transpose()?),
                false => candle_core::bail!("a packed kernel convolves in one way only"),
            };
        }
        ops::conv2d(self, layer.weight.host()?, bias.transpose()?, layer.options)
    }

    fn group_norm(&self, n: &GroupNorm, act: Activation) -> Result<Self> {
        ops::group_norm(self, n.gamma.host()?, n.beta.host()?, n.groups, n.eps, act)
    }

    fn layer_norm(&self, n: &LayerNorm) -> Result<Self> {
        ops::layer_norm(self, n.gamma.host()?, n.beta.host()?, n.eps)
    }

    fn rms_norm(&self, n: &RmsNorm) -> Result<Self> {
        ops::rms_norm(self, &n.gamma, n.eps)
    }

    fn device(&self) -> Device {
        self.device().clone()
    }

    fn beside(&self, t: &Tensor) -> Result<Self> {
        t.to_dtype(self.dtype())
    }

    fn sent(&self, t: &Tensor) -> Result<Self> {
        t.to_dtype(self.dtype())
    }

    fn beside_held(&self, held: &StoredArray) -> Result<Self> {
        held.tensor()?.to_dtype(self.dtype())
    }

    fn hold(self) -> StoredArray {
        StoredArray::Tensor(self)
    }
}
