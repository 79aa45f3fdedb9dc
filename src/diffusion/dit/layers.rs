//! What both transformers are built of: layers in any precision, positions, patches of latents.

use super::source::Weights;
use crate::nn::quant::{Product, QuantMatrix, multiply};
use crate::nn::{Init, Linear, Mask, Params, Result, attention, rms_norm, rotary, silu};
use candle_core::{DType, Device, Tensor};
use std::fmt::Display;

/// A scope of names below which a network's layers are.
pub(super) struct Layers {
    params: Params,
    /// Those that may stay in their file.
    weights: Option<Weights>,
    prefix: String,
}

impl Layers {
    pub(super) fn new(params: Params, weights: Option<Weights>) -> Self {
        Self {
            params,
            weights,
            prefix: String::new(),
        }
    }

    fn path(&self, name: &str) -> String {
        match self.prefix.as_str() {
            "" => name.to_owned(),
            prefix => format!("{prefix}.{name}"),
        }
    }

    /// The scope `name` within this one.
    pub(super) fn pp(&self, name: impl Display) -> Self {
        Self {
            params: self.params.clone(),
            weights: self.weights.clone(),
            prefix: self.path(&name.to_string()),
        }
    }

    /// The layer `name` from `inp` to `out` numbers.
    ///
    /// # Errors
    /// A tensor that is missing, has another shape or holds NaN; so for the others.
    pub(super) fn linear(&self, name: &str, inp: usize, out: usize, bias: bool) -> Result<Layer> {
        let name = self.path(name);
        let weights = self.weights.as_ref();
        // The kernels for quantised weights are the processor's.
        let weights = weights.filter(|_| self.params.device().is_cpu());
        let packed = weights.map(|weights| weights.matrix(&format!("{name}.weight")));
        let Some(weight) = packed.transpose()?.flatten() else {
            let layer = self.params.pp(&name).linear(inp, out, bias)?;
            return Ok(Layer::Plain(layer));
        };
        Ok(Layer::Packed {
            weight,
            bias: match bias {
                true => Some(self.numbers(&format!("{name}.bias"), out)?.to_vec1()?),
                false => None,
            },
        })
    }

    /// The vector `name`.
    pub(super) fn vector(&self, name: &str, length: usize) -> Result<Tensor> {
        self.numbers(&self.path(name), length)
    }

    fn numbers(&self, name: &str, length: usize) -> Result<Tensor> {
        self.params.tensor(&[length], name, Init::Ones)
    }

    /// The row `name`, `[1,length]`.
    pub(super) fn row(&self, name: &str, length: usize) -> Result<Tensor> {
        self.params
            .tensor(&[1, length], &self.path(name), Init::Ones)
    }
}

/// A linear layer.
pub(super) enum Layer {
    /// Of floats, which are widened while they are multiplied by.
    Plain(Linear),
    /// Of quantised weights.
    Packed {
        weight: QuantMatrix,
        bias: Option<Vec<f32>>,
    },
}

impl Layer {
    /// `x [..,inp]` -> `[..,out]`.
    ///
    /// # Errors
    /// An input of another width.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (weight, bias) = match self {
            Layer::Plain(layer) => return layer.forward(x),
            Layer::Packed { weight, bias } => (weight, bias),
        };
        let mut dims = x.dims().to_vec();
        let inp = dims.pop().unwrap_or(0);
        let (rows, cols) = (weight.rows(), weight.cols());
        if inp != cols {
            candle_core::bail!("a layer reads {cols} numbers and is given {inp}");
        }
        let x = x.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        let mut out = vec![0.0; x.len() / cols * rows];
        let product = Product {
            matrix: weight,
            out: &mut out,
        };
        multiply(&mut [product], &x, cols);
        if let Some(bias) = bias {
            for row in out.chunks_exact_mut(rows) {
                row.iter_mut().zip(bias).for_each(|(sum, b)| *sum += b);
            }
        }
        dims.push(rows);
        Tensor::from_vec(out, dims, &Device::Cpu)
    }
}

/// Two layers with SiLU between them.
pub(super) fn two(layers: &[Layer; 2], x: &Tensor) -> Result<Tensor> {
    layers[1].forward(&silu(&layers[0].forward(x)?)?)
}

/// RMS norms of each head's queries and keys.
pub(super) struct HeadNorms {
    pub query: Tensor,
    pub key: Tensor,
    pub eps: f64,
}

/// Norms of the heads of `x [1,T,C]`, one after the other.
pub(super) fn norm_heads(x: &Tensor, gamma: &Tensor, eps: f64) -> Result<Tensor> {
    let (b, t, width) = x.dims3()?;
    let head = gamma.dim(0)?;
    let heads = x.contiguous()?.reshape((b, t, width / head, head))?;
    rms_norm(&heads, gamma, eps)?.reshape((b, t, width))
}

/// Attention of all tokens to all others, `[1,T,C]` each, with their places turned in by `turns`.
pub(super) fn attend(
    (q, k, v): (&Tensor, &Tensor, &Tensor),
    turns: &Tensor,
    heads: usize,
) -> Result<Tensor> {
    let (q, k) = (rotary(q, turns)?, rotary(k, turns)?);
    attention(&q, &k, &v.contiguous()?, heads, heads, &Mask::None)
}

/// Cosine and sine for [`rotary`], `[T,D/2,2]`: each axis of `places` turns its share of the head.
pub(super) fn turns(
    places: &[[usize; 3]],
    axes: &[usize],
    base: f64,
    device: &Device,
) -> Result<Tensor> {
    let half: usize = axes.iter().map(|axis| axis / 2).sum();
    let speeds: Vec<Vec<f64>> = axes
        .iter()
        .map(|axis| {
            let speed = |i: usize| base.powf(-2.0 * i as f64 / *axis as f64);
            (0..axis / 2).map(speed).collect()
        })
        .collect();
    let mut numbers = Vec::with_capacity(places.len() * half * 2);
    for place in places {
        for (at, speeds) in place.iter().zip(&speeds) {
            for speed in speeds {
                let (sin, cos) = (*at as f64 * speed).sin_cos();
                numbers.extend([cos as f32, sin as f32]);
            }
        }
    }
    Tensor::from_vec(numbers, (places.len(), half, 2), device)
}

/// Cosines and sines of a timestep, `[1,width]`.
pub(super) fn sinusoids(timestep: f32, width: usize, device: &Device) -> Result<Tensor> {
    let half = width / 2;
    let angle = |i: usize| {
        let speed = (i as f32 * (-(10_000f64.ln()) / half as f64) as f32).exp();
        timestep * speed
    };
    let cosines = (0..half).map(|i| angle(i).cos());
    let all: Vec<f32> = cosines.chain((0..half).map(|i| angle(i).sin())).collect();
    Tensor::from_vec(all, (1, width), device)
}

/// In which order the numbers of a square of latents stand in its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PatchOrder {
    /// Channel, row, column.
    ChannelsFirst,
    /// Row, column, channel.
    ChannelsLast,
}

/// Side of the squares of latents that are one token.
pub(super) const PATCH: usize = 2;

/// `latents [1,h,w,C]` as tokens `[1,h*w/4,4*C]`.
pub(super) fn to_tokens(latents: &Tensor, order: PatchOrder) -> Result<Tensor> {
    let (b, h, w, c) = latents.dims4()?;
    let (rows, columns) = (h / PATCH, w / PATCH);
    let squares = latents.reshape(vec![b, rows, PATCH, columns, PATCH, c])?;
    let squares = match order {
        PatchOrder::ChannelsFirst => squares.permute((0, 1, 3, 5, 2, 4))?,
        PatchOrder::ChannelsLast => squares.permute((0, 1, 3, 2, 4, 5))?,
    };
    squares
        .contiguous()?
        .reshape((b, rows * columns, PATCH * PATCH * c))
}

/// The latents `[1,h,w,C]` that tokens are.
pub(super) fn of_tokens(
    tokens: &Tensor,
    (h, w): (usize, usize),
    order: PatchOrder,
) -> Result<Tensor> {
    let (b, _, numbers) = tokens.dims3()?;
    let c = numbers / PATCH / PATCH;
    let (rows, columns) = (h / PATCH, w / PATCH);
    let squares = match order {
        PatchOrder::ChannelsFirst => tokens
            .reshape(vec![b, rows, columns, c, PATCH, PATCH])?
            .permute((0, 1, 4, 2, 5, 3))?,
        PatchOrder::ChannelsLast => tokens
            .reshape(vec![b, rows, columns, PATCH, PATCH, c])?
            .permute((0, 1, 3, 2, 4, 5))?,
    };
    squares.contiguous()?.reshape((b, h, w, c))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::noise;
    use crate::nn::quant::QuantType;

    #[test]
    fn latents_come_back_from_their_tokens() {
        let latents = noise(1, 0, &[1, 4, 6, 3], &Device::Cpu).unwrap();
        for order in [PatchOrder::ChannelsFirst, PatchOrder::ChannelsLast] {
            let tokens = to_tokens(&latents, order).unwrap();
            assert_eq!(tokens.dims(), [1, 6, 12]);
            let back = of_tokens(&tokens, (4, 6), order).unwrap();
            let off = (back - &latents).unwrap().abs().unwrap();
            assert_eq!(off.max_all().unwrap().to_scalar::<f32>().unwrap(), 0.0);
        }
    }

    #[test]
    fn a_packed_layer_is_a_plain_one_of_its_weights() {
        let x = noise(1, 0, &[1, 5, 32], &Device::Cpu).unwrap();
        let w = noise(1, 1, &[3, 32], &Device::Cpu).unwrap();
        let bytes: Vec<u8> = w
            .flatten_all()
            .and_then(|w| w.to_vec1::<f32>())
            .unwrap()
            .iter()
            .flat_map(|w| w.to_le_bytes())
            .collect();
        let bias = Tensor::new(&[1f32, -2.0, 0.5], &Device::Cpu).unwrap();
        let packed = Layer::Packed {
            weight: QuantMatrix::from_bytes(&bytes, 3, 32, QuantType::F32).unwrap(),
            bias: Some(bias.to_vec1().unwrap()),
        };
        let plain = x.reshape((5, 32)).unwrap().matmul(&w.t().unwrap()).unwrap();
        let plain = plain.broadcast_add(&bias).unwrap();
        let found = packed.forward(&x).unwrap();
        assert_eq!(found.dims(), [1, 5, 3]);
        let off = (found.squeeze(0).unwrap() - plain).unwrap().abs().unwrap();
        assert!(off.max_all().unwrap().to_scalar::<f32>().unwrap() < 1e-5);
        assert!(packed.forward(&w.narrow(1, 0, 16).unwrap()).is_err());
    }
}
