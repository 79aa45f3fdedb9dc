//! The layers' matrices, in floating point or quantised, and low-rank adapters beside them (arXiv
//! 2106.09685) as peft stores them.

use crate::nn::quant::{Product, QuantMatrix, multiply};
use crate::nn::{FrozenLinear, Init, Linear, Params, Result};
use candle_core::quantized::QMatMul;
use candle_core::{DType, Module, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, PoisonError};

/// Settings of the adapters; the defaults are the reference's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LoraConfig {
    /// Rank.
    pub r: usize,
    /// What an adapter adds is scaled by `alpha / r`.
    pub alpha: f64,
    /// Share of an adapter's inputs that is left out while it is trained.
    #[serde(rename = "dropout_upstream")]
    pub dropout: f64,
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self {
            r: 8,
            alpha: 16.0,
            dropout: 0.05,
        }
    }
}

/// Leaves out a share of what goes through it and scales up the rest (PyTorch's `nn.Dropout`).
#[derive(Debug)]
pub(super) struct Dropout {
    share: f64,
    rng: Mutex<ChaCha8Rng>,
}

impl Dropout {
    pub(super) fn new(share: f64, seed: u64) -> Self {
        Self {
            share,
            rng: Mutex::new(ChaCha8Rng::seed_from_u64(seed)),
        }
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let kept = (1.0 / (1.0 - self.share)) as f32;
        let mask: Vec<f32> = {
            let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
            let mut draw = |_| match rng.random::<f64>() < self.share {
                true => 0.0,
                false => kept,
            };
            (0..x.elem_count()).map(&mut draw).collect()
        };
        x * Tensor::from_vec(mask, x.shape(), x.device())?
    }
}

impl LoraConfig {
    /// These settings with the rank of the adapters that `p` holds, if it holds any.
    pub fn of_file(mut self, p: &Params) -> Self {
        if let Some(&[rank, _]) = p
            .shape("layers.0.self_attn.q_proj.lora_A.default.weight")
            .as_deref()
        {
            self.r = rank;
        }
        self
    }
}

/// A linear layer without bias.
#[derive(Clone, Debug)]
pub(super) enum LinearWeight {
    Float(Linear),
    /// One that training leaves as it is.
    Frozen(FrozenLinear),
    /// `out` rows of ggml's blocks, and how long a row is. It has no backward.
    Quantised(QMatMul, usize, usize),
    /// Rows of ggml's blocks as they lie in the mapped file, for the CPU. It has no backward.
    Mapped(QuantMatrix),
}

impl LinearWeight {
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            LinearWeight::Float(linear) => linear.forward(x),
            LinearWeight::Frozen(linear) => linear.forward(x),
            LinearWeight::Quantised(matrix, ..) => matrix.forward(&x.contiguous()?),
            LinearWeight::Mapped(matrix) => {
                let columns = x.flatten_all()?.to_vec1::<f32>()?;
                let mut dims = x.dims().to_vec();
                if dims.pop() != Some(matrix.cols()) {
                    candle_core::bail!(
                        "a quantised matrix reads {} numbers, not {:?}",
                        matrix.cols(),
                        x.dims()
                    );
                }
                let mut out = vec![0f32; columns.len() / matrix.cols() * matrix.rows()];
                let product = Product {
                    matrix,
                    out: &mut out,
                };
                multiply(&mut [product], &columns, matrix.cols());
                dims.push(matrix.rows());
                Tensor::from_vec(out, dims, x.device())
            }
        }
    }

    /// A weight in floating point is held as training needs it where it does not learn.
    pub(super) fn freeze(&mut self) -> Result<()> {
        if let LinearWeight::Float(linear) = self
            && let Some(frozen) = FrozenLinear::new(linear)?
        {
            *self = LinearWeight::Frozen(frozen);
        }
        Ok(())
    }

    /// Width of input and output.
    fn widths(&self) -> Result<(usize, usize)> {
        match self {
            LinearWeight::Float(linear) => linear.weight().dims2(),
            LinearWeight::Frozen(linear) => Ok(linear.widths()),
            LinearWeight::Quantised(_, out, inp) => Ok((*inp, *out)),
            LinearWeight::Mapped(matrix) => Ok((matrix.cols(), matrix.rows())),
        }
    }
}

/// A matrix, perhaps with an adapter beside it.
#[derive(Clone, Debug)]
pub(super) struct LoraLinear {
    base: LinearWeight,
    adapter: Option<Adapter>,
}

#[derive(Clone, Debug)]
struct Adapter {
    down: Linear,
    up: Linear,
    scale: f64,
    /// While it is trained.
    dropout: Option<Arc<Dropout>>,
}

impl LoraLinear {
    pub(super) fn new(base: LinearWeight) -> Self {
        Self {
            base,
            adapter: None,
        }
    }

    /// The matrix.
    pub(super) fn base(&self) -> &LinearWeight {
        &self.base
    }

    /// The adapter beside it: down, up, and what is made is scaled by.
    pub(super) fn adapter(&self) -> Option<(&Linear, &Linear, f64)> {
        let adapter = self.adapter.as_ref()?;
        Some((&adapter.down, &adapter.up, adapter.scale))
    }

    /// The weight `[in,out]` where it is not quantised.
    pub(super) fn weight(&self) -> Option<&Tensor> {
        match &self.base {
            LinearWeight::Float(linear) => Some(linear.weight()),
            LinearWeight::Frozen(_) | LinearWeight::Quantised(..) | LinearWeight::Mapped(_) => None,
        }
    }

    pub(super) fn freeze(&mut self) -> Result<()> {
        self.base.freeze()
    }

    /// `p` holds `lora_A.default` and `lora_B.default`. `order` puts the outputs `[r,out]` of the
    /// adapter into the order that the matrix has them in.
    pub(super) fn add_lora(
        &mut self,
        lora: &LoraConfig,
        p: &Params,
        order: impl Fn(&Tensor) -> Result<Tensor>,
    ) -> Result<()> {
        let (inp, out) = self.base.widths()?;
        if lora.r == 0 {
            candle_core::bail!("an adapter of rank 0 adapts nothing; give it a rank of at least 1");
        }
        let (a, b) = (p.pp("lora_A.default"), p.pp("lora_B.default"));
        let up = b.linear_init(lora.r, out, false, Init::Zeros)?;
        self.adapter = Some(Adapter {
            down: a.linear(inp, lora.r, false)?,
            up: Linear::new(order(up.weight())?, None),
            scale: lora.alpha / lora.r as f64,
            dropout: None,
        });
        Ok(())
    }

    /// From now on `dropout` leaves out some of the adapter's inputs, or nothing.
    pub(super) fn set_dropout(&mut self, dropout: Option<&Arc<Dropout>>) {
        if let Some(adapter) = &mut self.adapter {
            adapter.dropout = dropout.cloned();
        }
    }

    /// Folds the adapter into the weight; beside a quantised one it stays.
    pub(super) fn merge(&mut self) -> Result<()> {
        if let (LinearWeight::Float(base), Some(adapter)) = (&self.base, &self.adapter) {
            let wide = |linear: &Linear| linear.weight().to_dtype(DType::F32);
            let change = wide(&adapter.down)?.matmul(&wide(&adapter.up)?)?;
            let merged = (wide(base)? + (change * adapter.scale)?)?;
            let held = base.weight().dtype();
            self.base = LinearWeight::Float(Linear::new(merged.to_dtype(held)?, None));
            self.adapter = None;
        }
        Ok(())
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = self.base.forward(x)?;
        match &self.adapter {
            None => Ok(y),
            Some(a) => {
                let dropped = a.dropout.as_ref().map(|dropout| dropout.forward(x));
                let dropped = dropped.transpose()?;
                let seen = dropped.as_ref().unwrap_or(x);
                y + (a.up.forward(&a.down.forward(seen)?)? * a.scale)?
            }
        }
    }
}
