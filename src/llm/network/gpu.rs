//! The layers of a network on a GPU through wgpu: the weights stay packed there, and so do keys and
//! values; token embeddings go in, hidden states and logits come out.

use super::{DecodingState, FeedForwardLayer, LlmNetwork, QuantLinear};
use crate::llm::LlmError;
use crate::llm::families::{FeedForwardActivation, RopeType};
use crate::llm::hyperparameters::Hyperparameters;
use crate::llm::sampling::TokenChoice;
use crate::nn::gpu::{
    CausalAttention, ChosenExperts, Gate, Gpu, GpuCache, GpuExperts, GpuQuantMatrix, GpuTensor,
    TokenCandidates,
};
use crate::nn::{Array, Result};
use candle_core::{Device, Tensor};
use std::sync::{Mutex, PoisonError};

/// Weights of a network whose layers compute on a GPU.
pub(super) struct GpuLayers {
    gpu: Gpu,
    layers: Vec<GpuLayer>,
    norm: GpuTensor,
    head: GpuQuantMatrix,
    /// Tokens that were last said never to be drawn, and where they lie.
    never: Mutex<Option<(Vec<u32>, GpuTensor)>>,
}

struct GpuLayer {
    attention_norm: GpuTensor,
    query: GpuQuantMatrix,
    key: GpuQuantMatrix,
    value: GpuQuantMatrix,
    output: GpuQuantMatrix,
    query_norm: Option<GpuTensor>,
    key_norm: Option<GpuTensor>,
    sinks: Option<GpuTensor>,
    post_attention_norm: Option<GpuTensor>,
    inner_norm: GpuTensor,
    feed: GpuFeedForward,
    post_inner_norm: Option<GpuTensor>,
}

enum GpuFeedForward {
    Dense {
        gate: GpuQuantMatrix,
        up: GpuQuantMatrix,
        down: GpuQuantMatrix,
    },
    Experts {
        router: GpuQuantMatrix,
        gate: GpuExperts,
        up: GpuExperts,
        down: GpuExperts,
        used: usize,
    },
}

/// Why a network's layers can't be computed on a GPU, if so.
fn unfit(network: &LlmNetwork) -> Option<String> {
    let hyper = &network.hyper;
    let inner = hyper.layers.iter().map(|layer| layer.inner);
    let heads = hyper.layers.iter().map(|l| l.heads * hyper.head_width);
    let experts = hyper.experts.iter().map(|experts| experts.inner);
    let mut widths = [hyper.width].into_iter().chain(heads).chain(experts);
    let dense = hyper.experts.is_none();
    let odd = |width: &usize| !GpuQuantMatrix::takes(*width);
    let found = widths.find(odd);
    let found = found.or_else(|| inner.filter(|_| dense).find(|width| odd(width)));
    found.map(|width| format!("rows of {width} weights, which are no whole number of eights"))
}

impl LlmNetwork {
    /// Has the layers compute on a GPU; a network that has something for which there is no kernel
    /// stays on the processor, and what it is comes back.
    ///
    /// # Errors
    /// A GPU that is lost or short of memory.
    pub fn move_to(&mut self, gpu: &Gpu) -> std::result::Result<Option<String>, LlmError> {
        if let Some(what) = unfit(self) {
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
            let experts = |all: &[QuantLinear]| {
                let all = all.iter().map(|one| (&one.weight, one.bias.as_deref()));
                GpuExperts::upload(gpu, &all.collect::<Vec<_>>())
            };
            let feed = match &layer.feed {
                FeedForwardLayer::Dense { gate, up, down } => GpuFeedForward::Dense {
                    gate: matrix(gate)?,
                    up: matrix(up)?,
                    down: matrix(down)?,
                },
                FeedForwardLayer::Experts(mixture) => GpuFeedForward::Experts {
                    router: matrix(&mixture.router)?,
                    gate: experts(&mixture.gate)?,
                    up: experts(&mixture.up)?,
                    down: experts(&mixture.down)?,
                    used: mixture.used,
                },
            };
            Ok(GpuLayer {
                attention_norm: vector(gpu, &layer.attention_norm)?,
                query: matrix(&layer.query)?,
                key: matrix(&layer.key)?,
                value: matrix(&layer.value)?,
                output: matrix(&layer.output)?,
                query_norm: norm(&layer.query_norm)?,
                key_norm: norm(&layer.key_norm)?,
                sinks: norm(&layer.sinks)?,
                post_attention_norm: norm(&layer.post_attention_norm)?,
                inner_norm: vector(gpu, &layer.inner_norm)?,
                feed,
                post_inner_norm: norm(&layer.post_inner_norm)?,
            })
        });
        Ok(Self {
            layers: layers.collect::<Result<_>>()?,
            norm: vector(gpu, &network.norm)?,
            head: GpuQuantMatrix::upload(gpu, &network.head, None)?,
            never: Mutex::default(),
            gpu: gpu.clone(),
        })
    }

    /// Reads a few tokens' embeddings behind those that the caches hold, which end with a picture
    /// up to `picture`; `turns` are those of layers that see all of a text and of those with a
    /// window. Gives the last hidden states, `[tokens, width]`.
    pub(super) fn forward(
        &self,
        hyper: &Hyperparameters,
        state: &mut DecodingState,
        embeddings: &[f32],
        turns: (&[f32], &[f32]),
        picture: Option<usize>,
    ) -> Result<GpuTensor> {
        let (width, first) = (hyper.width, state.length);
        let tokens = embeddings.len() / width;
        let eps = f64::from(hyper.norm_epsilon);
        let mut x = vector(&self.gpu, embeddings)?.reshape(&[1, tokens, width])?;
        let turns = (vector(&self.gpu, turns.0)?, vector(&self.gpu, turns.1)?);
        let halves = hyper.family.pairs == RopeType::Halves;
        let normed = |x: GpuTensor, norm: &Option<GpuTensor>| match norm {
            Some(norm) => x.rms_norm(norm, eps),
            None => Ok(x),
        };
        state.gpu.resize_with(self.layers.len(), GpuCache::default);
        let layers = self.layers.iter().zip(&hyper.layers);
        for ((layer, sizes), cache) in layers.zip(&mut state.gpu) {
            let head = hyper.head_width;
            let n = x.rms_norm(&layer.attention_norm, eps)?;
            let turns = if sizes.window.is_some() {
                &turns.1
            } else {
                &turns.0
            };
            let turned = |matrix: &GpuQuantMatrix, norm: &Option<GpuTensor>| {
                let y = normed(matrix.multiply(&n)?, norm)?;
                match sizes.turns {
                    true => y.rotary(turns, head, hyper.rotated / 2, halves),
                    false => Ok(y),
                }
            };
            let q = turned(&layer.query, &layer.query_norm)?;
            let k = turned(&layer.key, &layer.key_norm)?;
            let v = layer.value.multiply(&n)?;
            let (k, v) = cache.extended(first, &k, &v)?;
            let how = CausalAttention {
                heads: (sizes.heads, sizes.kv_heads),
                scale: hyper.attention_scale,
                window: sizes.window,
                cap: hyper.score_cap,
                sinks: layer.sinks.as_ref(),
                picture,
            };
            let seen = q.causal_attention(&k, &v, how)?;
            x = match &layer.post_attention_norm {
                None => layer.output.multiply_plus(&seen, &x)?,
                Some(norm) => layer
                    .output
                    .multiply(&seen)?
                    .rms_norm(norm, eps)?
                    .plus(&x)?,
            };
            let n = x.rms_norm(&layer.inner_norm, eps)?;
            x = match &layer.post_inner_norm {
                None => layer.feed.forward_plus(&n, gate_of(hyper), Some(&x))?,
                Some(norm) => {
                    let made = layer.feed.forward_plus(&n, gate_of(hyper), None)?;
                    made.rms_norm(norm, eps)?.plus(&x)?
                }
            };
        }
        x.rms_norm(&self.norm, eps)
    }

    /// Hidden states from the processor, `[tokens, width]`.
    pub(super) fn upload(&self, hidden: &[f32], width: usize) -> Result<GpuTensor> {
        vector(&self.gpu, hidden)?.reshape(&[hidden.len() / width, width])
    }

    /// Logits of hidden states, `[.., width]` -> `[.., vocabulary]`.
    pub(super) fn logits(&self, hidden: &GpuTensor) -> Result<GpuTensor> {
        self.head.multiply(hidden)
    }

    /// The likeliest tokens after one hidden state; `cap` is what the model keeps logits below.
    pub(super) fn candidates(
        &self,
        hidden: &GpuTensor,
        cap: Option<f32>,
        choice: &TokenChoice<'_>,
    ) -> Result<TokenCandidates> {
        let logits = self.logits(hidden)?;
        let logits = cap.map_or(Ok(logits.clone()), |cap| logits.capped(cap))?;
        let ids = |ids: &[u32]| {
            let numbers: Vec<f32> = ids.iter().map(|id| *id as f32).collect();
            vector(&self.gpu, &numbers)
        };
        let penalty = choice.sampling.repetition_penalty;
        if penalty != 1.0 && !choice.used.is_empty() {
            logits.penalise(&ids(choice.used)?, Some(penalty))?;
        }
        if !choice.never.is_empty() {
            let mut never = self.never.lock().unwrap_or_else(PoisonError::into_inner);
            if never.as_ref().is_none_or(|(of, _)| of != choice.never) {
                *never = Some((choice.never.to_vec(), ids(choice.never)?));
            }
            if let Some((_, there)) = &*never {
                logits.penalise(there, None)?;
            }
        }
        let sampling = choice.sampling;
        match sampling.is_greedy() {
            true => logits.candidates(1.0, 1.0),
            false => logits.candidates(sampling.temperature, sampling.least_weight()),
        }
    }
}

fn gate_of(hyper: &Hyperparameters) -> Gate {
    match hyper.family.activation {
        FeedForwardActivation::Silu => Gate::Silu,
        FeedForwardActivation::GeluTanh => Gate::GeluTanh,
        FeedForwardActivation::Clamped => Gate::Clamped,
    }
}

impl GpuFeedForward {
    /// `[1, tokens, width]` to the same, and `more`.
    fn forward_plus(
        &self,
        x: &GpuTensor,
        how: Gate,
        more: Option<&GpuTensor>,
    ) -> Result<GpuTensor> {
        match self {
            GpuFeedForward::Dense { gate, up, down } => {
                let wide = up.multiply_gated(x, &gate.multiply(x)?, how)?;
                more.map_or_else(
                    || down.multiply(&wide),
                    |more| down.multiply_plus(&wide, more),
                )
            }
            GpuFeedForward::Experts {
                router,
                gate,
                up,
                down,
                used,
            } => {
                let chosen = ChosenExperts::best(&router.multiply(x)?, *used)?;
                let gate = gate.multiply(x, &chosen)?;
                let wide = gate.gated(&up.multiply(x, &chosen)?, how)?;
                let made = chosen.joined(&down.multiply(&wide, &chosen)?)?;
                let made = made.reshape(x.dims())?;
                more.map_or(Ok(made.clone()), |more| made.plus(more))
            }
        }
    }
}
