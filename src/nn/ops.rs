//! The operations: on the CPU in f32 our kernels, elsewhere [`super::plain`].

use super::{Result, plain};
use candle_core::Tensor;

/// What follows a norm in the same pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    None,
    Silu,
}

/// Zeros around a convolution's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding {
    /// The same on all four sides.
    Zeros(usize),
    /// Only below and on the right, as the downsampling of Stable Diffusion's autoencoder has it.
    BottomRight(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvOptions {
    pub stride: usize,
    pub padding: Padding,
    /// Double the input's height and width first (nearest neighbour), in the same pass.
    pub upsample: bool,
}

impl ConvOptions {
    /// Stride 1, output as large as the input.
    pub fn same(kernel: usize) -> Self {
        Self {
            stride: 1,
            padding: Padding::Zeros(kernel / 2),
            upsample: false,
        }
    }
}

/// Which keys a query sees.
#[derive(Clone, Debug)]
pub enum Mask {
    None,
    /// The last query sees all keys, the one before all but the last, and so on.
    Causal,
    /// `[B,Tk]`, 1 where a key may be seen and 0 where not.
    Keys(Tensor),
}

/// `x [.., in]`, `w [in,out]`, `b [out]` -> `[.., out]`.
pub fn linear(x: &Tensor, w: &Tensor, b: Option<&Tensor>) -> Result<Tensor> {
    plain::linear(x, w, b)
}

/// `x [B,H,W,in]`, `w [kh,kw,in,out]`, `b [out]` -> `[B,H',W',out]`.
pub fn conv2d(x: &Tensor, w: &Tensor, b: Option<&Tensor>, o: ConvOptions) -> Result<Tensor> {
    plain::conv2d(x, w, b, o)
}

/// Normalises each group of channels of `x [B, .., C]` over all places of its sample.
pub fn group_norm(
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    groups: usize,
    eps: f64,
    act: Activation,
) -> Result<Tensor> {
    plain::group_norm(x, gamma, beta, groups, eps, act)
}

/// Normalises the last axis.
pub fn layer_norm(x: &Tensor, gamma: &Tensor, beta: &Tensor, eps: f64) -> Result<Tensor> {
    plain::layer_norm(x, gamma, beta, eps)
}

/// Divides by the root mean square of the last axis.
pub fn rms_norm(x: &Tensor, gamma: &Tensor, eps: f64) -> Result<Tensor> {
    plain::rms_norm(x, gamma, eps)
}

/// Scaled dot-product attention: `q [B,Tq,heads*D]`, `k`/`v [B,Tk,kv_heads*D]` -> `[B,Tq,heads*D]`.
pub fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: usize,
    kv_heads: usize,
    mask: &Mask,
) -> Result<Tensor> {
    plain::attention(q, k, v, heads, kv_heads, mask)
}

pub fn silu(x: &Tensor) -> Result<Tensor> {
    plain::silu(x)
}

/// GELU by the error function.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    plain::gelu(x)
}

/// `x * sigmoid(1.702 x)`, as OpenAI's CLIP has it.
pub fn quick_gelu(x: &Tensor) -> Result<Tensor> {
    plain::quick_gelu(x)
}

/// `[.., 2C] -> [.., C]`: the first half times GELU of the second.
pub fn geglu(x: &Tensor) -> Result<Tensor> {
    plain::geglu(x)
}

/// Adds `t [B,C]` to every place of `x [B,H,W,C]`.
pub fn add_channels(x: &Tensor, t: &Tensor) -> Result<Tensor> {
    plain::add_channels(x, t)
}

/// Doubles height and width of `x [B,H,W,C]`.
pub fn upsample_nearest(x: &Tensor) -> Result<Tensor> {
    plain::upsample_nearest(x)
}

/// Softmax over the last axis.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    plain::softmax(x)
}

/// Rows of `table [rows,dim]` by `ids` (u32, any shape).
pub fn embedding(table: &Tensor, ids: &Tensor) -> Result<Tensor> {
    let mut dims = ids.dims().to_vec();
    dims.push(table.dim(1)?);
    table.index_select(&ids.flatten_all()?, 0)?.reshape(dims)
}
