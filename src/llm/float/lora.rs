//! Low-rank adapters (arXiv 2106.09685) as peft stores them.

use crate::nn::{Init, Linear, Params, Result};
use candle_core::Tensor;
use serde::{Deserialize, Serialize};

/// Settings of the adapters; the defaults are the reference's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LoraConfig {
    /// Rank.
    pub r: usize,
    /// What an adapter adds is scaled by `alpha / r`.
    pub alpha: f64,
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self { r: 8, alpha: 16.0 }
    }
}

/// A linear layer without bias, perhaps with an adapter beside it.
#[derive(Clone, Debug)]
pub(super) struct Adapted {
    base: Linear,
    adapter: Option<Adapter>,
}

#[derive(Clone, Debug)]
struct Adapter {
    down: Linear,
    up: Linear,
    scale: f64,
}

impl Adapted {
    pub fn new(base: Linear) -> Self {
        Self {
            base,
            adapter: None,
        }
    }

    pub fn weight(&self) -> &Tensor {
        self.base.weight()
    }

    /// `p` holds `lora_A.default` and `lora_B.default`.
    pub fn add_lora(&mut self, lora: &LoraConfig, p: &Params) -> Result<()> {
        let (inp, out) = self.base.weight().dims2()?;
        if lora.r == 0 {
            candle_core::bail!("an adapter of rank 0 adapts nothing; give it a rank of at least 1");
        }
        let (a, b) = (p.pp("lora_A.default"), p.pp("lora_B.default"));
        self.adapter = Some(Adapter {
            down: a.linear(inp, lora.r, false)?,
            up: b.linear_init(lora.r, out, false, Init::Zeros)?,
            scale: lora.alpha / lora.r as f64,
        });
        Ok(())
    }

    pub fn merge(&mut self) -> Result<()> {
        if let Some(adapter) = self.adapter.take() {
            let change = adapter.down.weight().matmul(adapter.up.weight())?;
            let merged = (self.base.weight() + (change * adapter.scale)?)?;
            self.base = Linear::new(merged, None);
        }
        Ok(())
    }

    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = self.base.forward(x)?;
        match &self.adapter {
            None => Ok(y),
            Some(a) => y + (a.up.forward(&a.down.forward(x)?)? * a.scale)?,
        }
    }
}
