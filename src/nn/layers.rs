//! The functions of [`super::ops`] with their parameters.

use super::{Activation, ConvOptions, Result, ops};
use candle_core::Tensor;

/// `x [.., in] -> [.., out]`.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// `weight` is `[in,out]`.
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self { weight, bias }
    }

    /// `[..,in]` -> `[..,out]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::linear(x, &self.weight, self.bias.as_ref())
    }

    /// `[in,out]`.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// `[out]`, if it has one.
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }
}

/// `x [B,H,W,in] -> [B,H',W',out]`.
#[derive(Clone, Debug)]
pub struct Conv2d {
    weight: Tensor,
    bias: Option<Tensor>,
    options: ConvOptions,
}

impl Conv2d {
    /// `weight` is `[kh,kw,in,out]`.
    pub fn new(weight: Tensor, bias: Option<Tensor>, options: ConvOptions) -> Self {
        Self {
            weight,
            bias,
            options,
        }
    }

    /// `[B,H,W,in]` -> `[B,H',W',out]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::conv2d(x, &self.weight, self.bias.as_ref(), self.options)
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
    pub(super) gamma: Tensor,
    pub(super) beta: Tensor,
    pub(super) groups: usize,
    pub(super) eps: f64,
}

impl GroupNorm {
    /// Normalises groups of channels of `[B,H,W,C]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::group_norm(
            x,
            &self.gamma,
            &self.beta,
            self.groups,
            self.eps,
            Activation::None,
        )
    }

    /// Norm and SiLU in one pass.
    pub fn forward_silu(&self, x: &Tensor) -> Result<Tensor> {
        ops::group_norm(
            x,
            &self.gamma,
            &self.beta,
            self.groups,
            self.eps,
            Activation::Silu,
        )
    }
}

/// Layer norm over the last axis, with scale and bias.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    pub(super) gamma: Tensor,
    pub(super) beta: Tensor,
    pub(super) eps: f64,
}

impl LayerNorm {
    /// Normalises the last axis; the shape stays.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::layer_norm(x, &self.gamma, &self.beta, self.eps)
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
