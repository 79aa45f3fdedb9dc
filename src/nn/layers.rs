//! The functions of [`super::ops`] with their parameters.

use super::weight::Weight;
use super::{Activation, Array, ConvOptions, Result, ops};
use candle_core::Tensor;

/// `x [.., in] -> [.., out]`.
#[derive(Clone, Debug)]
pub struct Linear {
    pub(super) weight: Weight,
    pub(super) bias: Option<Weight>,
}

impl Linear {
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
    /// A norm with this scale, `[C]`.
    pub fn new(gamma: Tensor, eps: f64) -> Self {
        Self { gamma, eps }
    }

    /// Normalises the last axis; the shape stays.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::rms_norm(x, &self.gamma, self.eps)
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
