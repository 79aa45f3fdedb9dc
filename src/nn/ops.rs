//! The operations: on the CPU in f32 our kernels, elsewhere [`super::plain`].

mod attend;
mod conv;
mod elementwise;
mod half;
mod norm;
mod position;

use super::kernels::bf16;
use super::kernels::elementwise::Unary;
use super::kernels::gemm::fresh;
use super::kernels::norm::RowNorm;
use super::{Result, plain};
use candle_core::{CpuStorage, DType, Device, Layout, Storage, Tensor};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// What follows a norm in the same pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// The identity.
    None,
    /// `x * sigmoid(x)`.
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

/// Stride, padding and upsampling of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvOptions {
    /// Stride in both directions.
    pub stride: usize,
    /// Zeros around the input.
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
    /// Every query sees every key.
    None,
    /// The last query sees all keys, the one before all but the last, and so on.
    Causal,
    /// `[B,Tk]`, 1 where a key may be seen and 0 where not.
    Keys(Tensor),
}

/// Queries in a row, and the keys that they see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its queries, as rows of the packed batch.
    pub queries: Range<usize>,
    /// In reading order. The last of them belongs to the last query, the one before to the query
    /// before, and so on.
    pub keys: Vec<Range<usize>>,
}

/// Whether our kernels can take these tensors: f32 on the CPU.
fn ours(tensors: &[&Tensor]) -> bool {
    tensors
        .iter()
        .all(|t| t.device().is_cpu() && t.dtype() == DType::F32)
}

/// The elements of a contiguous f32 storage.
pub(super) fn slice<'a>(s: &'a CpuStorage, l: &Layout) -> Result<&'a [f32]> {
    match l.contiguous_offsets() {
        Some((a, b)) => Ok(&s.as_slice::<f32>()?[a..b]),
        None => candle_core::bail!("kernel input is not contiguous"),
    }
}

/// Calls `f` with the elements of each tensor (made contiguous where it isn't).
pub(super) fn with_slices<const N: usize, R>(
    tensors: [&Tensor; N],
    f: impl FnOnce([&[f32]; N]) -> R,
) -> Result<R> {
    let held = tensors.map(candle_core::Tensor::contiguous);
    let mut ready = Vec::with_capacity(N);
    for t in held {
        ready.push(t?);
    }
    let guards: Vec<_> = ready.iter().map(|t| t.storage_and_layout()).collect();
    let mut slices = [&[] as &[f32]; N];
    for (i, (storage, layout)) in guards.iter().enumerate() {
        match &**storage {
            Storage::Cpu(s) => slices[i] = slice(s, layout)?,
            _ => candle_core::bail!("kernel input is not on the CPU"),
        }
    }
    Ok(f(slices))
}

/// A new tensor like `t`, filled by the caller.
pub(super) fn tensor_like(values: Vec<f32>, t: &Tensor) -> Result<Tensor> {
    Tensor::from_vec(values, t.shape(), t.device())
}

/// A bias, or zeros that stand in for it.
fn or_zeros(b: Option<&Tensor>, n: usize, like: &Tensor) -> Result<Tensor> {
    match b {
        Some(b) => b.contiguous(),
        None => Tensor::zeros(n, DType::F32, like.device()),
    }
}

/// `x [.., in]`, `w [in,out]`, `b [out]` -> `[.., out]`.
pub fn linear(x: &Tensor, w: &Tensor, b: Option<&Tensor>) -> Result<Tensor> {
    // Weights that are held in half the width are widened for as long as they are needed.
    let w = &half::widened(w, x.dtype())?;
    if !ours(&[x, w]) {
        return plain::linear(x, w, b);
    }
    let bias = or_zeros(b, w.dim(1)?, x)?;
    x.contiguous()?.apply_op3(
        &w.contiguous()?,
        &bias,
        conv::LinearOp {
            has_bias: b.is_some(),
        },
    )
}

/// As [`linear`], with a weight that is packed in bf16, to which `x` is rounded; sums are f32. It
/// has no backward.
pub(super) fn linear_in_bf16(x: &Tensor, w: &bf16::Packed, b: Option<&Tensor>) -> Result<Tensor> {
    let mut dims = x.dims().to_vec();
    let (inp, out) = w.widths();
    if dims.pop() != Some(inp) || !ours(&[x]) {
        candle_core::bail!(
            "a layer reads {inp} numbers in f32, and is given {:?}",
            x.dims()
        );
    }
    dims.push(out);
    let bias = or_zeros(b, out, x)?;
    let y = with_slices([x, &bias], |[x, bias]| {
        let mut y = fresh(x.len() / inp * out);
        w.multiply(x, &mut y);
        if b.is_some() {
            y.par_chunks_mut(64 * out).for_each(|rows| {
                for row in rows.chunks_exact_mut(out) {
                    row.iter_mut().zip(bias).for_each(|(sum, b)| *sum += b);
                }
            });
        }
        y
    })?;
    Tensor::from_vec(y, dims, x.device())
}

/// `x [B,H,W,in]`, `w [kh,kw,in,out]`, `b [out]` -> `[B,H',W',out]`.
pub fn conv2d(x: &Tensor, w: &Tensor, b: Option<&Tensor>, o: ConvOptions) -> Result<Tensor> {
    let w = &half::widened(w, x.dtype())?;
    if !ours(&[x, w]) {
        return plain::conv2d(x, w, b, o);
    }
    let bias = or_zeros(b, w.dim(3)?, x)?;
    x.contiguous()?.apply_op3(
        &w.contiguous()?,
        &bias,
        conv::ConvOp {
            options: o,
            has_bias: b.is_some(),
        },
    )
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
    if !ours(&[x, gamma, beta]) {
        return plain::group_norm(x, gamma, beta, groups, eps, act);
    }
    let op = norm::GroupNormOp {
        groups,
        eps,
        silu: act == Activation::Silu,
    };
    x.contiguous()?.apply_op3(gamma, beta, op)
}

/// Normalises the last axis.
pub fn layer_norm(x: &Tensor, gamma: &Tensor, beta: &Tensor, eps: f64) -> Result<Tensor> {
    if !ours(&[x, gamma, beta]) {
        return plain::layer_norm(x, gamma, beta, eps);
    }
    x.contiguous()?.apply_op3(
        gamma,
        beta,
        norm::RowNormOp {
            kind: RowNorm::Layer,
            eps,
        },
    )
}

/// Divides by the root mean square of the last axis.
pub fn rms_norm(x: &Tensor, gamma: &Tensor, eps: f64) -> Result<Tensor> {
    if !ours(&[x, gamma]) {
        return plain::rms_norm(x, gamma, eps);
    }
    let zeros = gamma.zeros_like()?.detach();
    x.contiguous()?.apply_op3(
        gamma,
        &zeros,
        norm::RowNormOp {
            kind: RowNorm::Rms,
            eps,
        },
    )
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
    if !ours(&[q, k, v]) {
        return plain::attention(q, k, v, heads, kv_heads, mask);
    }
    let keys = match mask {
        Mask::Keys(m) => Some(m.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?),
        Mask::None | Mask::Causal => None,
    };
    let causal = matches!(mask, Mask::Causal);
    let op = attend::AttentionOp::new(heads, kv_heads, causal, keys);
    q.contiguous()?
        .apply_op3(&k.contiguous()?, &v.contiguous()?, op)
}

/// Causal attention of texts that are packed: `q [1,N,heads*D]`, `k`/`v [1,M,kv_heads*D]` ->
/// `[1,N,heads*D]`, each of the `segments` over the keys that it sees. They follow one another and
/// cover all queries.
pub fn packed_attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: usize,
    kv_heads: usize,
    segments: &Arc<[Segment]>,
) -> Result<Tensor> {
    attend::check_segments(segments, q.dims(), k.dims())?;
    if !ours(&[q, k, v]) {
        return plain::packed_attention(q, k, v, heads, kv_heads, segments);
    }
    let op = attend::PackedOp {
        attention: attend::AttentionOp::new(heads, kv_heads, true, None),
        segments: segments.clone(),
    };
    q.contiguous()?
        .apply_op3(&k.contiguous()?, &v.contiguous()?, op)
}

/// SwiGLU (arXiv 2002.05202): `silu(gate) * up`, both of the same shape.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    if !ours(&[gate, up]) {
        return plain::swiglu(gate, up);
    }
    gate.contiguous()?
        .apply_op2(&up.contiguous()?, elementwise::SwigluOp)
}

/// `x * sigmoid(x)`, element by element.
pub fn silu(x: &Tensor) -> Result<Tensor> {
    if !ours(&[x]) {
        return plain::silu(x);
    }
    x.contiguous()?.apply_op1(elementwise::UnaryOp(Unary::Silu))
}

/// GELU by the error function.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    if !ours(&[x]) {
        return plain::gelu(x);
    }
    x.contiguous()?.apply_op1(elementwise::UnaryOp(Unary::Gelu))
}

/// GELU by its approximation with the tangent, as SigLIP has it.
pub fn gelu_tanh(x: &Tensor) -> Result<Tensor> {
    if !ours(&[x]) {
        return plain::gelu_tanh(x);
    }
    x.contiguous()?
        .apply_op1(elementwise::UnaryOp(Unary::GeluTanh))
}

/// `x * sigmoid(1.702 x)`, as OpenAI's CLIP has it.
pub fn quick_gelu(x: &Tensor) -> Result<Tensor> {
    if !ours(&[x]) {
        return plain::quick_gelu(x);
    }
    x.contiguous()?
        .apply_op1(elementwise::UnaryOp(Unary::QuickGelu))
}

/// `[.., 2C] -> [.., C]`: the first half times GELU of the second.
pub fn geglu(x: &Tensor) -> Result<Tensor> {
    if !ours(&[x]) {
        return plain::geglu(x);
    }
    x.contiguous()?.apply_op1(elementwise::GegluOp)
}

/// Adds `t [B,C]` to every place of `x [B,H,W,C]`.
pub fn add_channels(x: &Tensor, t: &Tensor) -> Result<Tensor> {
    if !ours(&[x, t]) {
        return plain::add_channels(x, t);
    }
    x.contiguous()?
        .apply_op2(&t.contiguous()?, elementwise::AddChannelsOp)
}

/// Doubles height and width of `x [B,H,W,C]`.
pub fn upsample_nearest(x: &Tensor) -> Result<Tensor> {
    plain::upsample_nearest(x)
}

/// The mean of all squares, as a loss has it: a scalar.
pub fn mean_square(x: &Tensor) -> Result<Tensor> {
    if !ours(&[x]) {
        return plain::mean_square(x);
    }
    x.contiguous()?.apply_op1(elementwise::MeanSquareOp)
}

/// Softmax over the last axis.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    if !ours(&[x]) {
        return plain::softmax(x);
    }
    x.contiguous()?.apply_op1(elementwise::SoftmaxOp)
}

/// Rotary position embedding (arXiv 2104.09864): turns each pair of neighbours in each head of
/// `x [B,T,H*D]` by the angle of its position, as cosine and sine in `turns [T,D/2,2]` (see
/// [`rotations`]). Weights in GGUF order are made for pairs of neighbours.
pub fn rotary(x: &Tensor, turns: &Tensor) -> Result<Tensor> {
    if !ours(&[x, turns]) {
        return plain::rotary(x, turns);
    }
    x.contiguous()?
        .apply_op2(&turns.contiguous()?.detach(), position::RotaryOp)
}

/// Cosine and sine for [`rotary`], `[positions, dim/2, 2]`: pair `i` turns by
/// `position * base^(-2i/dim)`.
pub fn rotations(positions: usize, dim: usize, base: f64, device: &Device) -> Result<Tensor> {
    let half = dim / 2;
    let turns: Vec<f32> = (0..positions * half)
        .flat_map(|i| {
            let speed = base.powf(-((i % half) as f64) / half as f64);
            let (sin, cos) = ((i / half) as f64 * speed).sin_cos();
            [cos as f32, sin as f32]
        })
        .collect();
    Tensor::from_vec(turns, (positions, half, 2), device)
}

/// As [`embedding`], where only the rows that `learns` (one for each row of the table) marks get a
/// gradient, as when a few new tokens are taught to a frozen model.
pub fn embedding_masked(table: &Tensor, ids: &Tensor, learns: &[bool]) -> Result<Tensor> {
    let (rows, dim) = table.dims2()?;
    if learns.len() != rows {
        candle_core::bail!("embedding: {} marks for {rows} rows", learns.len());
    }
    if !ours(&[table]) {
        return plain::embedding_masked(table, ids, learns);
    }
    let mut dims = ids.dims().to_vec();
    dims.push(dim);
    let op = position::MaskedEmbeddingOp {
        learns: learns.to_vec(),
    };
    table
        .contiguous()?
        .apply_op2(&ids.flatten_all()?.contiguous()?, op)?
        .reshape(dims)
}

/// Rows of `table [rows,dim]` by `ids` (u32, any shape), in f32 where the table is held in half
/// precision.
pub fn embedding(table: &Tensor, ids: &Tensor) -> Result<Tensor> {
    let mut dims = ids.dims().to_vec();
    dims.push(table.dim(1)?);
    let rows = table.index_select(&ids.flatten_all()?, 0)?;
    match rows.dtype() {
        DType::F16 | DType::BF16 => rows.to_dtype(DType::F32)?.reshape(dims),
        _ => rows.reshape(dims),
    }
}

#[cfg(test)]
mod tests;
