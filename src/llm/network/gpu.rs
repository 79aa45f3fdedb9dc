//! The layers of a network on a GPU through wgpu: the weights stay packed there, and so do keys and
//! values; token embeddings go in, hidden states and logits come out.

use super::{DecodingState, FeedForwardLayer, LlmNetwork, QuantLinear};
use crate::llm::LlmError;
use crate::llm::families::{FeedForwardActivation, RopeType};
use crate::llm::hyperparameters::Hyperparameters;
use crate::nn::gpu::{Gpu, GpuCache, GpuQuantMatrix, GpuTensor};
use crate::nn::{Array, Result};
use candle_core::{Device, Tensor};

/// Weights of a network whose layers compute on a GPU.
pub(super) struct GpuLayers {
    gpu: Gpu,
    layers: Vec<GpuLayer>,
    norm: GpuTensor,
    head: GpuQuantMatrix,
}

struct GpuLayer {
    attention_norm: GpuTensor,
    query: GpuQuantMatrix,
    key: GpuQuantMatrix,
    value: GpuQuantMatrix,
    output: GpuQuantMatrix,
    query_norm: Option<GpuTensor>,
    key_norm: Option<GpuTensor>,
    inner_norm: GpuTensor,
    gate: GpuQuantMatrix,
    up: GpuQuantMatrix,
    down: GpuQuantMatrix,
}

/// Why a network's layers can't be computed on a GPU yet, if so.
fn unfit(hyper: &Hyperparameters) -> Option<&'static str> {
    let family = hyper.family;
    [
        (hyper.experts.is_some(), "a mixture of experts"),
        (
            hyper.layers.iter().any(|layer| layer.window.is_some()),
            "attention with a window",
        ),
        (hyper.score_cap.is_some(), "capped scores of attention"),
        (family.sinks, "attention sinks"),
        (family.post_norms, "norms behind its layers"),
        (
            family.activation != FeedForwardActivation::Silu,
            "an activation other than SiLU",
        ),
    ]
    .into_iter()
    .find_map(|(there, what)| there.then_some(what))
}

impl LlmNetwork {
    /// Has the layers compute on a GPU; a network that has something for which there is no kernel
    /// stays on the processor, and what it is comes back.
    ///
    /// # Errors
    /// A GPU that is lost or short of memory.
    pub fn move_to(&mut self, gpu: &Gpu) -> std::result::Result<Option<&'static str>, LlmError> {
        if let Some(what) = unfit(&self.hyper) {
            return Ok(Some(what));
        }
        self.gpu = Some(GpuLayers::new(self, gpu)?);
        Ok(None)
    }
}

fn vector(gpu: &Gpu, numbers: &[f32]) -> Result<GpuTensor> {
    GpuTensor::upload(gpu, &Tensor::new(numbers, &Device::Cpu)?)
}

impl GpuLayers {
    fn new(network: &LlmNetwork, gpu: &Gpu) -> Result<Self> {
        let matrix = |linear: &QuantLinear| {
            GpuQuantMatrix::upload(gpu, &linear.weight, linear.bias.as_deref())
        };
        let norm = |numbers: &Option<Vec<f32>>| {
            let there = numbers.as_ref().map(|numbers| vector(gpu, numbers));
            there.transpose()
        };
        let layers = network.layers.iter().map(|layer| {
            let FeedForwardLayer::Dense { gate, up, down } = &layer.feed else {
                candle_core::bail!("a mixture of experts can't be computed on a GPU");
            };
            Ok(GpuLayer {
                attention_norm: vector(gpu, &layer.attention_norm)?,
                query: matrix(&layer.query)?,
                key: matrix(&layer.key)?,
                value: matrix(&layer.value)?,
                output: matrix(&layer.output)?,
                query_norm: norm(&layer.query_norm)?,
                key_norm: norm(&layer.key_norm)?,
                inner_norm: vector(gpu, &layer.inner_norm)?,
                gate: matrix(gate)?,
                up: matrix(up)?,
                down: matrix(down)?,
            })
        });
        Ok(Self {
            layers: layers.collect::<Result<_>>()?,
            norm: vector(gpu, &network.norm)?,
            head: GpuQuantMatrix::upload(gpu, &network.head, None)?,
            gpu: gpu.clone(),
        })
    }

    /// Reads a few tokens' embeddings behind the `first` that the caches hold; gives their last
    /// hidden states, `[tokens, width]`.
    pub(super) fn forward(
        &self,
        hyper: &Hyperparameters,
        state: &mut DecodingState,
        embeddings: &[f32],
        turns: &[f32],
    ) -> Result<Vec<f32>> {
        let (width, first) = (hyper.width, state.length);
        let tokens = embeddings.len() / width;
        let eps = f64::from(hyper.norm_epsilon);
        let mut x = vector(&self.gpu, embeddings)?.reshape(&[1, tokens, width])?;
        let turns = vector(&self.gpu, turns)?;
        let halves = hyper.family.pairs == RopeType::Halves;
        state.gpu.resize_with(self.layers.len(), GpuCache::default);
        let layers = self.layers.iter().zip(&hyper.layers);
        for ((layer, sizes), cache) in layers.zip(&mut state.gpu) {
            let head = hyper.head_width;
            let n = x.rms_norm(&layer.attention_norm, eps)?;
            let turned = |matrix: &GpuQuantMatrix, norm: &Option<GpuTensor>| {
                let mut y = matrix.multiply(&n)?;
                if let Some(norm) = norm {
                    y = y.rms_norm(norm, eps)?;
                }
                match sizes.turns {
                    true => y.rotary(&turns, head, hyper.rotated / 2, halves),
                    false => Ok(y),
                }
            };
            let q = turned(&layer.query, &layer.query_norm)?;
            let k = turned(&layer.key, &layer.key_norm)?;
            let v = layer.value.multiply(&n)?;
            let (k, v) = cache.extended(first, &k, &v)?;
            let heads = (sizes.heads, sizes.kv_heads);
            let seen = q.attention_scaled(&k, &v, heads, hyper.attention_scale)?;
            x = layer.output.multiply(&seen)?.plus(&x)?;
            let n = x.rms_norm(&layer.inner_norm, eps)?;
            let wide = layer.gate.multiply(&n)?.swiglu(&layer.up.multiply(&n)?)?;
            x = layer.down.multiply(&wide)?.plus(&x)?;
        }
        let states = x.rms_norm(&self.norm, eps)?.download()?;
        states.flatten_all()?.to_vec1()
    }

    /// Logits of hidden states, `[tokens, width]` -> `[tokens, vocabulary]`.
    pub(super) fn logits(&self, hidden: &[f32], width: usize) -> Result<Vec<f32>> {
        let x = vector(&self.gpu, hidden)?.reshape(&[hidden.len() / width, width])?;
        let logits = self.head.multiply(&x)?.download()?;
        logits.flatten_all()?.to_vec1()
    }
}
