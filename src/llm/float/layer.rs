//! One layer of the network, and what it remembers.

use super::FloatConfig;
use super::lora::{Dropout, LinearWeight, LoraConfig, LoraLinear};
use crate::nn::gpu::GpuCache;
use crate::nn::{
    Mask, Params, Result, RmsNorm, Segment, attention, packed_attention, rotary, swiglu,
};
use candle_core::{Device, Tensor};
use std::sync::Arc;

/// Keys and values of the tokens read so far, for every layer.
#[derive(Clone, Debug)]
pub struct FloatKvCache {
    layers: Vec<Option<(Tensor, Tensor)>>,
    /// Those of a network on a GPU, and how many tokens they hold.
    gpu: (Vec<GpuCache>, usize),
}

impl FloatKvCache {
    pub(super) fn new(layers: usize) -> Self {
        Self::holding(vec![None; layers])
    }

    fn holding(layers: Vec<Option<(Tensor, Tensor)>>) -> Self {
        Self {
            layers,
            gpu: (Vec::new(), 0),
        }
    }

    pub(super) fn layer(&mut self, index: usize) -> &mut Option<(Tensor, Tensor)> {
        &mut self.layers[index]
    }

    /// Those on a GPU of each of so many layers.
    pub(super) fn on_gpu(&mut self, layers: usize) -> &mut [GpuCache] {
        self.gpu.0.resize_with(layers, GpuCache::default);
        &mut self.gpu.0
    }

    /// So many tokens more were read there.
    pub(super) fn read_on_gpu(&mut self, tokens: usize) {
        self.gpu.1 += tokens;
    }

    /// Tokens read.
    pub fn len(&self) -> usize {
        let first = self.layers.first().and_then(Option::as_ref);
        first.map_or(self.gpu.1, |(k, _)| k.dims()[1])
    }

    /// Whether no token was read yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets all but the first `tokens`.
    ///
    /// # Errors
    /// When the device fails.
    pub fn truncate(&mut self, tokens: usize) -> Result<()> {
        for (k, v) in self.layers.iter_mut().flatten() {
            let kept = tokens.min(k.dim(1)?);
            (*k, *v) = (k.narrow(1, 0, kept)?, v.narrow(1, 0, kept)?);
        }
        self.gpu.1 = self.gpu.1.min(tokens);
        if tokens == 0 {
            self.layers.fill(None);
        }
        Ok(())
    }

    /// What several caches of the same network hold, one after the other, for texts that are
    /// packed ([`super::FloatLlama::forward_packed`]).
    ///
    /// # Errors
    /// Caches of other networks, or empty ones.
    pub fn joined(caches: &[&FloatKvCache]) -> Result<Self> {
        let layers = caches.first().map_or(0, |cache| cache.layers.len());
        let layer = |i: usize| -> Result<Option<(Tensor, Tensor)>> {
            let kept: Vec<&(Tensor, Tensor)> = caches
                .iter()
                .filter_map(|cache| cache.layers.get(i)?.as_ref())
                .collect();
            if kept.len() < caches.len() {
                candle_core::bail!("a cache that is to be joined holds nothing for layer {i}");
            }
            let cat = |of: fn(&(Tensor, Tensor)) -> &Tensor| {
                Tensor::cat(&kept.iter().map(|both| of(both)).collect::<Vec<_>>(), 1)
            };
            Ok(Some((cat(|(k, _)| k)?, cat(|(_, v)| v)?)))
        };
        let layers = (0..layers).map(layer).collect::<Result<_>>()?;
        Ok(Self::holding(layers))
    }

    /// Numbers held.
    pub fn elements(&self) -> usize {
        let kept = self.layers.iter().flatten();
        kept.map(|(k, v)| k.elem_count() + v.elem_count()).sum()
    }
}

/// Which dimensions of a head are rotated in pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FloatRopeType {
    /// A number of the first half with one of the second, as Hugging Face has it.
    Halves,
    /// Neighbours, as GGUF files have it.
    Neighbours,
}

/// Rotary position embedding (arXiv 2104.09864).
#[derive(Clone, Debug)]
pub struct Rotation {
    /// `[1,T,1,head_width/2]`.
    cos: Tensor,
    sin: Tensor,
    /// Both, `[T,head_width/2,2]`.
    turns: Tensor,
}

impl Rotation {
    /// For positions `first .. first + count`.
    ///
    /// # Errors
    /// When the device can't hold it.
    pub fn new(config: &FloatConfig, first: usize, count: usize, device: &Device) -> Result<Self> {
        let positions: Vec<usize> = (first..first + count).collect();
        Self::at(config, &positions, device)
    }

    /// For tokens at these positions.
    ///
    /// # Errors
    /// As [`Rotation::new`].
    pub fn at(config: &FloatConfig, positions: &[usize], device: &Device) -> Result<Self> {
        let half = config.head_width() / 2;
        let count = positions.len();
        let speeds: Vec<f32> = (0..half)
            .map(|i| config.rope_theta.powf(-(i as f64) / half as f64) as f32)
            .collect();
        // The angle is an f32 product in the reference.
        let angles: Vec<f64> = positions
            .iter()
            .flat_map(|&at| speeds.iter().map(move |s| f64::from(at as f32 * s)))
            .collect();
        let table = |f: fn(f64) -> f64| {
            let values: Vec<f32> = angles.iter().map(|a| f(*a) as f32).collect();
            Tensor::from_vec(values, (1, count, 1, half), device)
        };
        let (cos, sin) = (table(f64::cos)?, table(f64::sin)?);
        let turns = Tensor::stack(&[&cos, &sin], 4)?.reshape((count, half, 2))?;
        Ok(Self { cos, sin, turns })
    }

    /// Cosines and sines, `[T,head_width/2,2]`.
    pub(super) fn turns(&self) -> &Tensor {
        &self.turns
    }

    /// Turns `x [B,T,heads*head_width]`.
    fn turn(&self, x: &Tensor, heads: usize, pairs: FloatRopeType) -> Result<Tensor> {
        if pairs == FloatRopeType::Neighbours {
            return rotary(x, &self.turns);
        }
        let (b, t, c) = x.dims3()?;
        let half = c / heads / 2;
        let x = x.reshape((b, t, heads, 2, half))?;
        let one = x.narrow(3, 0, 1)?.squeeze(3)?;
        let two = x.narrow(3, 1, 1)?.squeeze(3)?;
        let first = (one.broadcast_mul(&self.cos)? - two.broadcast_mul(&self.sin)?)?;
        let second = (two.broadcast_mul(&self.cos)? + one.broadcast_mul(&self.sin)?)?;
        Tensor::stack(&[&first, &second], 3)?.reshape((b, t, c))
    }
}

#[derive(Clone, Debug)]
pub(super) struct Layer {
    pub attention_norm: RmsNorm,
    pub query: LoraLinear,
    pub key: LinearWeight,
    pub value: LoraLinear,
    pub out: LinearWeight,
    pub inner_norm: RmsNorm,
    pub gate: LinearWeight,
    pub up: LinearWeight,
    pub down: LinearWeight,
    pub heads: usize,
    pub kv_heads: usize,
    pub pairs: FloatRopeType,
}

impl Layer {
    pub(super) fn new(config: &FloatConfig, p: &Params) -> Result<Self> {
        let (c, inner) = (config.hidden_size, config.intermediate_size);
        let (heads, kv_heads) = (config.num_attention_heads, config.kv_heads());
        let (wide, narrow) = (heads * config.head_width(), kv_heads * config.head_width());
        let (a, m) = (p.pp("self_attn"), p.pp("mlp"));
        let norm = |name| p.pp(name).rms_norm(c, config.rms_norm_eps);
        let matrix = |p: Params, inp, out| p.linear(inp, out, false).map(LinearWeight::Float);
        Ok(Self {
            attention_norm: norm("input_layernorm")?,
            query: LoraLinear::new(matrix(a.pp("q_proj"), c, wide)?),
            key: matrix(a.pp("k_proj"), c, narrow)?,
            value: LoraLinear::new(matrix(a.pp("v_proj"), c, narrow)?),
            out: matrix(a.pp("o_proj"), wide, c)?,
            inner_norm: norm("post_attention_layernorm")?,
            gate: matrix(m.pp("gate_proj"), c, inner)?,
            up: matrix(m.pp("up_proj"), c, inner)?,
            down: matrix(m.pp("down_proj"), inner, c)?,
            heads,
            kv_heads,
            pairs: FloatRopeType::Halves,
        })
    }

    /// `own`: the adapters were trained on these matrices, so that their outputs lie as these do.
    pub(super) fn add_lora(&mut self, lora: &LoraConfig, p: &Params, own: bool) -> Result<()> {
        let (heads, pairs) = (
            self.heads,
            if own {
                FloatRopeType::Halves
            } else {
                self.pairs
            },
        );
        let order = |up: &Tensor| match pairs {
            FloatRopeType::Halves => Ok(up.clone()),
            FloatRopeType::Neighbours => {
                let (r, out) = up.dims2()?;
                up.reshape((r, heads, 2, out / heads / 2))?
                    .transpose(2, 3)?
                    .contiguous()?
                    .reshape((r, out))
            }
        };
        self.query.add_lora(lora, &p.pp("q_proj"), order)?;
        self.value
            .add_lora(lora, &p.pp("v_proj"), |up| Ok(up.clone()))
    }

    pub(super) fn set_dropout(&mut self, dropout: Option<&Arc<Dropout>>) {
        self.query.set_dropout(dropout);
        self.value.set_dropout(dropout);
    }

    pub(super) fn merge_lora(&mut self) -> Result<()> {
        self.query.merge()?;
        self.value.merge()
    }

    pub(super) fn freeze(&mut self) -> Result<()> {
        self.query.freeze()?;
        self.value.freeze()?;
        let matrices = [&mut self.key, &mut self.out, &mut self.gate, &mut self.up];
        matrices.into_iter().try_for_each(LinearWeight::freeze)?;
        self.down.freeze()
    }

    pub(super) fn query_weight(&self) -> Option<&Tensor> {
        self.query.weight()
    }

    pub(super) fn forward(
        &self,
        x: &Tensor,
        rotation: &Rotation,
        kept: Option<&mut Option<(Tensor, Tensor)>>,
        packed: Option<&Arc<[Segment]>>,
    ) -> Result<Tensor> {
        let n = self.attention_norm.forward(x)?;
        let q = rotation.turn(&self.query.forward(&n)?, self.heads, self.pairs)?;
        let mut k = rotation.turn(&self.key.forward(&n)?, self.kv_heads, self.pairs)?;
        let mut v = self.value.forward(&n)?;
        if let Some(kept) = kept {
            if let Some((before_k, before_v)) = kept {
                k = Tensor::cat(&[&*before_k, &k], 1)?;
                v = Tensor::cat(&[&*before_v, &v], 1)?;
            }
            *kept = Some((k.clone(), v.clone()));
        }
        let (heads, kv_heads) = (self.heads, self.kv_heads);
        let seen = match packed {
            None => attention(&q, &k, &v, heads, kv_heads, &Mask::Causal)?,
            Some(segments) => packed_attention(&q, &k, &v, heads, kv_heads, segments)?,
        };
        let x = (x + self.out.forward(&seen)?)?;
        let n = self.inner_norm.forward(&x)?;
        let inner = swiglu(&self.gate.forward(&n)?, &self.up.forward(&n)?)?;
        &x + self.down.forward(&inner)?
    }
}
