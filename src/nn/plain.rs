//! Every operation composed from candle's differentiable ones: the path on GPUs, and the
//! reference that the CPU kernels are tested against.
//!
//! Activations may be in half precision: parameters take their type, sums of many numbers (norms,
//! softmax) are made in f32.

use super::{Activation, ConvOptions, Mask, Padding, Result, Segment};
use candle_core::{D, DType, Tensor};

/// Attention scores that are held at once, in numbers: queries are taken in rows, so that scores of
/// all tokens to all others never are.
const SCORES: usize = 1 << 26;

/// The type in which the sums over numbers of the type `of` are made.
fn summed(of: DType) -> DType {
    match of {
        DType::F16 | DType::BF16 => DType::F32,
        other => other,
    }
}

/// A norm of `x`, computed with parameters of the same type.
fn normed(x: &Tensor, f: impl FnOnce(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    f(&x.to_dtype(summed(x.dtype()))?)?.to_dtype(x.dtype())
}

/// A sum with a parameter, which takes the type of `x`.
fn with_bias(x: &Tensor, b: &Tensor) -> Result<Tensor> {
    x.broadcast_add(&b.to_dtype(x.dtype())?)
}

pub(crate) fn linear(x: &Tensor, w: &Tensor, b: Option<&Tensor>) -> Result<Tensor> {
    let mut dims = x.dims().to_vec();
    let inp = dims.pop().unwrap_or(1);
    let y = x.reshape(((), inp))?.matmul(w)?;
    dims.push(w.dim(1)?);
    let y = y.reshape(dims)?;
    match b {
        Some(b) => with_bias(&y, b),
        None => Ok(y),
    }
}

pub(crate) fn upsample_nearest(x: &Tensor) -> Result<Tensor> {
    let (b, h, w, c) = x.dims4()?;
    x.reshape((b, h, 1, w, 1, c))?
        .broadcast_as((b, h, 2, w, 2, c))?
        .reshape((b, 2 * h, 2 * w, c))
}

pub(crate) fn conv2d(x: &Tensor, w: &Tensor, b: Option<&Tensor>, o: ConvOptions) -> Result<Tensor> {
    let up;
    let x = if o.upsample {
        up = upsample_nearest(x)?;
        &up
    } else {
        x
    };
    let x = x.permute((0, 3, 1, 2))?.contiguous()?;
    let (x, pad) = match o.padding {
        Padding::Zeros(p) => (x, p),
        Padding::BottomRight(p) => (x.pad_with_zeros(2, 0, p)?.pad_with_zeros(3, 0, p)?, 0),
    };
    let w = w.permute((3, 2, 0, 1))?.contiguous()?;
    let y = x
        .conv2d(&w, pad, o.stride, 1, 1)?
        .permute((0, 2, 3, 1))?
        .contiguous()?;
    match b {
        Some(b) => with_bias(&y, b),
        None => Ok(y),
    }
}

pub(crate) fn group_norm(
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    groups: usize,
    eps: f64,
    act: Activation,
) -> Result<Tensor> {
    let dims = x.dims().to_vec();
    let (b, c) = (dims[0], dims[dims.len() - 1]);
    let n: usize = dims[1..dims.len() - 1].iter().product();
    normed(x, |x| {
        let x = x.reshape((b, n, groups, c / groups))?;
        let mean = x.mean_keepdim(3)?.mean_keepdim(1)?;
        let x = x.broadcast_sub(&mean)?;
        let var = x.sqr()?.mean_keepdim(3)?.mean_keepdim(1)?;
        let y = x
            .broadcast_div(&(var + eps)?.sqrt()?)?
            .reshape(dims)?
            .broadcast_mul(&gamma.to_dtype(x.dtype())?)?
            .broadcast_add(&beta.to_dtype(x.dtype())?)?;
        match act {
            Activation::None => Ok(y),
            Activation::Silu => silu(&y),
        }
    })
}

pub(crate) fn layer_norm(x: &Tensor, gamma: &Tensor, beta: &Tensor, eps: f64) -> Result<Tensor> {
    normed(x, |x| {
        let x = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let var = x.sqr()?.mean_keepdim(D::Minus1)?;
        x.broadcast_div(&(var + eps)?.sqrt()?)?
            .broadcast_mul(&gamma.to_dtype(x.dtype())?)?
            .broadcast_add(&beta.to_dtype(x.dtype())?)
    })
}

pub(crate) fn rms_norm(x: &Tensor, gamma: &Tensor, eps: f64) -> Result<Tensor> {
    normed(x, |x| {
        let var = x.sqr()?.mean_keepdim(D::Minus1)?;
        x.broadcast_div(&(var + eps)?.sqrt()?)?
            .broadcast_mul(&gamma.to_dtype(x.dtype())?)
    })
}

pub(crate) fn mean_square(x: &Tensor) -> Result<Tensor> {
    x.sqr()?.mean_all()
}

pub(crate) fn softmax(x: &Tensor) -> Result<Tensor> {
    let x = x
        .broadcast_sub(&x.max_keepdim(D::Minus1)?.detach())?
        .exp()?;
    x.broadcast_div(&x.sum_keepdim(D::Minus1)?)
}

pub(crate) fn silu(x: &Tensor) -> Result<Tensor> {
    x / (x.neg()?.exp()? + 1.0)?
}

pub(crate) fn gelu(x: &Tensor) -> Result<Tensor> {
    x.gelu_erf()
}

pub(crate) fn gelu_tanh(x: &Tensor) -> Result<Tensor> {
    x.gelu()
}

pub(crate) fn quick_gelu(x: &Tensor) -> Result<Tensor> {
    x / ((x * -1.702)?.exp()? + 1.0)?
}

pub(crate) fn geglu(x: &Tensor) -> Result<Tensor> {
    let halves = x.chunk(2, D::Minus1)?;
    halves[0].contiguous()? * gelu(&halves[1].contiguous()?)?
}

pub(crate) fn add_channels(x: &Tensor, t: &Tensor) -> Result<Tensor> {
    let (b, c) = t.dims2()?;
    x.broadcast_add(&t.reshape((b, 1, 1, c))?.to_dtype(x.dtype())?)
}

pub(crate) fn rotary(x: &Tensor, turns: &Tensor) -> Result<Tensor> {
    let kept = x.dtype();
    let x = x.to_dtype(turns.dtype())?;
    let (b, t, width) = x.dims3()?;
    let half = turns.dim(1)?;
    let pairs = x.reshape((b, t, width / half / 2, half, 2))?;
    let turns = turns.reshape((1, t, 1, half, 2))?;
    let part = |x: &Tensor, i: usize| x.narrow(4, i, 1);
    let (cos, sin) = (part(&turns, 0)?, part(&turns, 1)?);
    let (a, b) = (part(&pairs, 0)?, part(&pairs, 1)?);
    let turned_a = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
    let turned_b = (a.broadcast_mul(&sin)? + b.broadcast_mul(&cos)?)?;
    Tensor::cat(&[turned_a, turned_b], 4)?
        .reshape(x.shape())?
        .to_dtype(kept)
}

pub(crate) fn embedding_masked(table: &Tensor, ids: &Tensor, learns: &[bool]) -> Result<Tensor> {
    let marks: Vec<f32> = learns.iter().map(|l| if *l { 1.0 } else { 0.0 }).collect();
    let marks = Tensor::from_vec(marks, (learns.len(), 1), table.device())?;
    let marks = marks.to_dtype(table.dtype())?;
    let learning = table.broadcast_mul(&marks)?;
    let frozen = table.broadcast_mul(&(1.0 - marks)?)?.detach();
    super::ops::embedding(&(learning + frozen)?, ids)
}

pub(crate) fn packed_attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: usize,
    kv_heads: usize,
    segments: &[Segment],
) -> Result<Tensor> {
    let seen: Vec<Tensor> = segments
        .iter()
        .map(|segment| {
            let gather = |t: &Tensor| {
                let pieces = segment.keys.iter().map(|r| t.narrow(1, r.start, r.len()));
                Tensor::cat(&pieces.collect::<Result<Vec<_>>>()?, 1)
            };
            let own = &segment.queries;
            let q = q.narrow(1, own.start, own.len())?;
            // Elsewhere than here, that may well have a kernel of its own.
            super::ops::attention(&q, &gather(k)?, &gather(v)?, heads, kv_heads, &Mask::Causal)
        })
        .collect::<Result<_>>()?;
    Tensor::cat(&seen, 1)
}

pub(crate) fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    silu(gate)? * up
}

pub(crate) fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: usize,
    kv_heads: usize,
    mask: &Mask,
) -> Result<Tensor> {
    let (batch, tq, _) = q.dims3()?;
    let row = batch * heads * k.dim(1)?;
    let rows = (SCORES / row.max(1)).clamp(1, tq.max(1));
    attention_by_rows(rows, q, k, v, (heads, kv_heads), mask)
}

/// Attention of `rows` queries at a time.
pub(super) fn attention_by_rows(
    rows: usize,
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    (heads, kv_heads): (usize, usize),
    mask: &Mask,
) -> Result<Tensor> {
    let (b, tq, width) = q.dims3()?;
    let tk = k.dim(1)?;
    let d = width / heads;
    let split = |t: &Tensor, n: usize, h: usize| {
        t.reshape((b, n, h, d))?.permute((0, 2, 1, 3))?.contiguous()
    };
    let repeat = |t: Tensor| -> Result<Tensor> {
        if kv_heads == heads {
            return Ok(t);
        }
        let n = heads / kv_heads;
        t.unsqueeze(2)?
            .broadcast_as((b, kv_heads, n, tk, d))?
            .reshape((b, heads, tk, d))
    };
    // Scaled before the product, which in f16 might leave the range.
    let q = (split(q, tq, heads)? / (d as f64).sqrt())?;
    let k = repeat(split(k, tk, kv_heads)?)?
        .transpose(2, 3)?
        .contiguous()?;
    let v = repeat(split(v, tk, kv_heads)?)?;
    let some = |start: usize, len: usize| -> Result<Tensor> {
        let s = q.narrow(2, start, len)?.contiguous()?.matmul(&k)?;
        let kept = s.dtype();
        let mut s = s.to_dtype(summed(kept))?;
        let hidden = match mask {
            Mask::None => None,
            Mask::Causal => {
                let m: Vec<f32> = (start * tk..(start + len) * tk)
                    .map(|i| match i % tk + tq > i / tk + tk {
                        true => f32::NEG_INFINITY,
                        false => 0.0,
                    })
                    .collect();
                Some(Tensor::from_vec(m, (1, 1, len, tk), q.device())?)
            }
            Mask::Keys(m) => {
                let seen = m.reshape((b, 1, 1, tk))?.gt(0f64)?;
                let zero = seen.to_dtype(s.dtype())?.zeros_like()?;
                let minus = (&zero + f64::from(f32::MIN))?;
                Some(seen.where_cond(&zero, &minus)?)
            }
        };
        if let Some(m) = hidden {
            s = s.broadcast_add(&m.to_dtype(s.dtype())?)?;
        }
        softmax(&s)?.to_dtype(kept)?.matmul(&v)
    };
    let parts = (0..tq).step_by(rows.max(1));
    let parts = parts.map(|start| some(start, rows.min(tq - start)));
    let parts = parts.collect::<Result<Vec<_>>>()?;
    let all = match parts.as_slice() {
        [only] => only.clone(),
        several => Tensor::cat(several, 2)?,
    };
    all.permute((0, 2, 1, 3))?.reshape((b, tq, width))
}
