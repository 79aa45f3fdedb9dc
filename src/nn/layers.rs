//! The functions of [`super::ops`] with their parameters.

use super::gpu::Gpu;
use super::weight::Weight;
use super::{Activation, ActivationFunction, Array, ConvOptions, Result, ops};
use candle_core::Tensor;

/// `x [.., in] -> [.., out]`.
#[derive(Clone, Debug)]
pub struct Linear {
    pub(super) weight: Weight,
    pub(super) bias: Option<Weight>,
}

impl Linear {
    /// The same on a GPU, where its weights stay.
    ///
    /// # Errors
    /// A GPU that is lost or short of memory; so for other layers.
    pub fn placed(&self, gpu: &Gpu) -> Result<Self> {
        let bias = self.bias.as_ref().map(|bias| bias.moved(gpu));
        Ok(Self {
            weight: self.weight.moved(gpu)?,
            bias: bias.transpose()?,
        })
    }

    /// `weight` is `[in,out]`.
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self {
            weight: weight.into(),
            bias: bias.map(Weight::from),
        }
    }

    /// `[..,in]` -> `[..,out]`.
    pub fn forward<A: Array>(&self, x: &A) -> Result<A> {
        x.linear(self)
    }

    /// A function of that.
    pub fn forward_activated<A: Array>(&self, x: &A, by: ActivationFunction) -> Result<A> {
        x.linear_activated(self, by)
    }

    /// The first half of that times GELU of the second: `[..,out / 2]`.
    pub fn forward_geglu<A: Array>(&self, x: &A) -> Result<A> {
        x.linear_geglu(self)
    }

    /// The same, and `more`, `[..,out]`.
    pub fn forward_plus<A: Array>(&self, x: &A, more: &A) -> Result<A> {
        x.linear_plus(self, more)
    }

    /// `[in,out]`; of a layer on a GPU through wgpu only the shape.
    pub fn weight(&self) -> &Tensor {
        self.weight.shaped()
    }

    /// `[out]`, if it has one; of a layer on a GPU through wgpu only the shape.
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref().map(Weight::shaped)
    }
}

/// `x [B,H,W,in] -> [B,H',W',out]`.
#[derive(Clone, Debug)]
pub struct Conv2d {
    pub(super) weight: Weight,
    pub(super) bias: Option<Weight>,
    pub(super) options: ConvOptions,
}

impl Conv2d {
    /// The same on a GPU, where its weights stay.
    ///
    /// # Errors
    /// As [`Linear::placed`].
    pub fn placed(&self, gpu: &Gpu) -> Result<Self> {
        let bias = self.bias.as_ref().map(|bias| bias.moved(gpu));
        Ok(Self {
            weight: self.weight.moved(gpu)?,
            bias: bias.transpose()?,
            options: self.options,
        })
    }

    /// `weight` is `[kh,kw,in,out]`.
    pub fn new(weight: Tensor, bias: Option<Tensor>, options: ConvOptions) -> Self {
        Self {
            weight: weight.into(),
            bias: bias.map(Weight::from),
            options,
        }
    }

    /// `[B,H,W,in]` -> `[B,H',W',out]`.
    pub fn forward<A: Array>(&self, x: &A) -> Result<A> {
        x.conv2d(self)
    }

    /// A function of that.
    pub fn forward_activated<A: Array>(&self, x: &A, by: ActivationFunction) -> Result<A> {
        x.conv2d_activated(self, by)
    }

    /// The same, and `more`, `[B,H',W',out]`.
    pub fn forward_plus<A: Array>(&self, x: &A, more: &A) -> Result<A> {
        x.conv2d_plus(self, more)
    }

    /// The same, and `t [B,out]` at every place.
    pub fn forward_add_channels<A: Array>(&self, x: &A, t: &A) -> Result<A> {
        x.conv2d_add_channels(self, t)
    }

    /// The same weights at work in another way.
    #[must_use]
    pub fn with(&self, options: ConvOptions) -> Self {
        Self {
            options,
            ..self.clone()
        }
    }
}

/// Group normalisation over all but the first axis, channels last.
#[derive(Clone, Debug)]
pub struct GroupNorm {
    pub(super) gamma: Weight,
    pub(super) beta: Weight,
    pub(super) groups: usize,
    pub(super) eps: f64,
}

impl GroupNorm {
    /// Normalises groups of channels of `[B,H,W,C]`.
    pub fn forward<A: Array>(&self, x: &A) -> Result<A> {
        x.group_norm(self, Activation::None)
    }

    /// Norm and SiLU in one pass.
    pub fn forward_silu<A: Array>(&self, x: &A) -> Result<A> {
        x.group_norm(self, Activation::Silu)
    }
}

/// Layer norm over the last axis, with scale and bias.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    pub(super) gamma: Weight,
    pub(super) beta: Weight,
    pub(super) eps: f64,
}

impl LayerNorm {
    /// The same on a GPU, where its weights stay.
    ///
    /// # Errors
    /// As [`Linear::placed`].
    pub fn placed(&self, gpu: &Gpu) -> Result<Self> {
        Ok(Self {
            gamma: self.gamma.moved(gpu)?,
            beta: self.beta.moved(gpu)?,
            eps: self.eps,
        })
    }

    /// Normalises the last axis; the shape stays.
    pub fn forward<A: Array>(&self, x: &A) -> Result<A> {
        x.layer_norm(self)
    }
}

/// Root mean square norm over the last axis, with a scale (arXiv 1910.07467).
#[derive(Clone, Debug)]
pub struct RmsNorm {
    pub(super) gamma: Tensor,
    pub(super) eps: f64,
}

impl RmsNorm {
    /// Its scale, `[C]`, and what is added under the root.
    pub fn parts(&self) -> (&Tensor, f64) {
        (&self.gamma, self.eps)
    }

    /// A norm with this scale, `[C]`.
    pub fn new(gamma: Tensor, eps: f64) -> Self {
        Self { gamma, eps }
    }

    /// Normalises the last axis; the shape stays.
    pub fn forward<A: Array>(&self, x: &A) -> Result<A> {
        x.rms_norm(self)
    }
}

/// Rows of a table by id.
#[derive(Clone, Debug)]
pub struct Embedding {
    pub(super) table: Tensor,
}

impl Embedding {
    /// `table` is `[rows,dim]`.
    pub fn new(table: Tensor) -> Self {
        Self { table }
    }

    /// `ids` u32 of any shape `[..]` -> `[.., dim]`.
    pub fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        ops::embedding(&self.table, ids)
    }

    /// `[rows,dim]`.
    pub fn table(&self) -> &Tensor {
        &self.table
    }
}
