//! The layers of a LLaMA on a GPU through wgpu: its matrices, with the adapters beside them, and
//! keys and values stay there; embeddings go in, hidden states and logits come out.

use super::layer::{FloatRopeType, Layer};
use super::lora::LinearWeight;
use super::{FloatConfig, FloatKvCache, FloatLlama, LikeliestTokens, Rotation};
use crate::nn::gpu::{CausalAttention, Gate, Gpu, GpuCache, GpuQuantMatrix, GpuTensor};
use crate::nn::{Array, Linear, Result, RmsNorm};
use candle_core::{D, Device, Tensor};

/// Those layers, and the output layers.
pub(super) struct GpuLlama {
    gpu: Gpu,
    layers: Vec<GpuLayer>,
    norm: GpuNorm,
    /// Of the table, and of the tokens that were added to it.
    heads: Vec<GpuMatrix>,
}

impl std::fmt::Debug for GpuLlama {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GpuLlama({} layers)", self.layers.len())
    }
}

struct GpuNorm(GpuTensor, f64);

enum GpuMatrix {
    Float(Linear),
    Packed(GpuQuantMatrix),
}

/// A matrix, perhaps with an adapter beside it: down, up and scale.
struct GpuLinear {
    matrix: GpuMatrix,
    adapter: Option<(Linear, Linear, f64)>,
}

struct GpuLayer {
    attention_norm: GpuNorm,
    query: GpuLinear,
    key: GpuMatrix,
    value: GpuLinear,
    out: GpuMatrix,
    inner_norm: GpuNorm,
    gate: GpuMatrix,
    up: GpuMatrix,
    down: GpuMatrix,
    heads: (usize, usize),
    halves: bool,
}

impl GpuNorm {
    fn new(norm: &RmsNorm, gpu: &Gpu) -> Result<Self> {
        let (scale, eps) = norm.parts();
        Ok(Self(GpuTensor::upload(gpu, scale)?, eps))
    }

    fn forward(&self, x: &GpuTensor) -> Result<GpuTensor> {
        x.rms_norm(&self.0, self.1)
    }
}

impl GpuMatrix {
    fn new(weight: &LinearWeight, gpu: &Gpu) -> Result<Self> {
        match weight {
            LinearWeight::Float(linear) => linear.placed(gpu).map(Self::Float),
            LinearWeight::Mapped(matrix) => {
                GpuQuantMatrix::upload(gpu, matrix, None).map(Self::Packed)
            }
            LinearWeight::Frozen(_) | LinearWeight::Quantised(..) => {
                candle_core::bail!("weights that are held for training or CUDA can't be moved")
            }
        }
    }

    fn forward(&self, x: &GpuTensor) -> Result<GpuTensor> {
        match self {
            GpuMatrix::Float(linear) => linear.forward(x),
            GpuMatrix::Packed(matrix) => matrix.multiply(x),
        }
    }

    fn forward_gated(&self, x: &GpuTensor, gate: &GpuTensor) -> Result<GpuTensor> {
        match self {
            GpuMatrix::Float(linear) => x.linear_gated(linear, gate, Gate::Silu),
            GpuMatrix::Packed(matrix) => matrix.multiply_gated(x, gate, Gate::Silu),
        }
    }

    fn forward_plus(&self, x: &GpuTensor, more: &GpuTensor) -> Result<GpuTensor> {
        match self {
            GpuMatrix::Float(linear) => linear.forward_plus(x, more),
            GpuMatrix::Packed(matrix) => matrix.multiply_plus(x, more),
        }
    }
}

impl GpuLinear {
    fn forward(&self, x: &GpuTensor) -> Result<GpuTensor> {
        let y = self.matrix.forward(x)?;
        match &self.adapter {
            None => Ok(y),
            Some((down, up, scale)) => y.plus(&up.forward(&down.forward(x)?)?.scaled(*scale)?),
        }
    }
}

impl GpuLayer {
    fn new(layer: &Layer, gpu: &Gpu) -> Result<Self> {
        let adapted = |linear: &super::lora::LoraLinear| -> Result<GpuLinear> {
            let adapter = linear.adapter().map(|(down, up, scale)| {
                Ok::<_, candle_core::Error>((down.placed(gpu)?, up.placed(gpu)?, scale))
            });
            Ok(GpuLinear {
                matrix: GpuMatrix::new(linear.base(), gpu)?,
                adapter: adapter.transpose()?,
            })
        };
        Ok(Self {
            attention_norm: GpuNorm::new(&layer.attention_norm, gpu)?,
            query: adapted(&layer.query)?,
            key: GpuMatrix::new(&layer.key, gpu)?,
            value: adapted(&layer.value)?,
            out: GpuMatrix::new(&layer.out, gpu)?,
            inner_norm: GpuNorm::new(&layer.inner_norm, gpu)?,
            gate: GpuMatrix::new(&layer.gate, gpu)?,
            up: GpuMatrix::new(&layer.up, gpu)?,
            down: GpuMatrix::new(&layer.down, gpu)?,
            heads: (layer.heads, layer.kv_heads),
            halves: layer.pairs == FloatRopeType::Halves,
        })
    }

    /// `x [1,T,C]` behind the `first` tokens that `cache` holds.
    fn forward(
        &self,
        x: &GpuTensor,
        turns: &GpuTensor,
        head: usize,
        (cache, first): (&mut GpuCache, usize),
    ) -> Result<GpuTensor> {
        let n = self.attention_norm.forward(x)?;
        let turned = |x: GpuTensor| x.rotary(turns, head, head / 2, self.halves);
        let q = turned(self.query.forward(&n)?)?;
        let k = turned(self.key.forward(&n)?)?;
        let (k, v) = cache.extended(first, &k, &self.value.forward(&n)?)?;
        let how = CausalAttention {
            heads: self.heads,
            scale: 1.0 / (head as f32).sqrt(),
            window: None,
            cap: None,
            sinks: None,
            picture: None,
        };
        let seen = q.causal_attention(&k, &v, how)?;
        let x = self.out.forward_plus(&seen, x)?;
        let n = self.inner_norm.forward(&x)?;
        let inner = self.up.forward_gated(&n, &self.gate.forward(&n)?)?;
        self.down.forward_plus(&inner, &x)
    }
}

impl FloatLlama {
    /// Has its layers compute on a GPU from now on, one text at a time; what they held on the
    /// processor is given back. One whose weights can't be read there stays, and why comes back.
    ///
    /// # Errors
    /// A GPU that is lost or short of memory.
    pub fn move_to(&mut self, gpu: &Gpu) -> Result<Option<String>> {
        if let Some(why) = self.unfit() {
            return Ok(Some(why));
        }
        let layers = self.layers.iter().map(|layer| GpuLayer::new(layer, gpu));
        let head = match &self.quick_head {
            Some(head) => GpuMatrix::new(head, gpu)?,
            None => GpuMatrix::Float(self.head.placed(gpu)?),
        };
        let added = self.added.as_ref().map(|added| added.head.placed(gpu));
        let added = added.transpose()?.map(GpuMatrix::Float);
        let there = GpuLlama {
            layers: layers.collect::<Result<_>>()?,
            norm: GpuNorm::new(&self.norm, gpu)?,
            heads: std::iter::once(head).chain(added).collect(),
            gpu: gpu.clone(),
        };
        self.gpu = Some(std::sync::Arc::new(there));
        self.layers.clear();
        Ok(None)
    }

    /// Whether its layers compute on a GPU through wgpu.
    pub fn is_on_gpu(&self) -> bool {
        self.gpu.is_some()
    }

    /// Why it can't be moved to a GPU, if so.
    fn unfit(&self) -> Option<String> {
        let readable = |weight: &LinearWeight| match weight {
            LinearWeight::Float(_) => true,
            LinearWeight::Mapped(matrix) => GpuQuantMatrix::takes(matrix.cols()),
            LinearWeight::Frozen(_) | LinearWeight::Quantised(..) => false,
        };
        let all = self.layers.iter().flat_map(|layer| {
            let (query, value) = (layer.query.base(), layer.value.base());
            [
                query,
                &layer.key,
                value,
                &layer.out,
                &layer.gate,
                &layer.up,
                &layer.down,
            ]
        });
        let mut all = all.chain(&self.quick_head);
        all.any(|weight| !readable(weight))
            .then(|| "weights of its type".to_owned())
    }
}

impl GpuLlama {
    /// As [`FloatLlama::forward`].
    pub(super) fn forward(
        &self,
        config: &FloatConfig,
        embeddings: &Tensor,
        cache: &mut FloatKvCache,
    ) -> Result<Tensor> {
        let (texts, tokens, _) = embeddings.dims3()?;
        if texts != 1 {
            candle_core::bail!("a language model on a GPU reads one text at a time, not {texts}");
        }
        let first = cache.len();
        let rotation = Rotation::new(config, first, tokens, &Device::Cpu)?;
        let turns = GpuTensor::upload(&self.gpu, rotation.turns())?;
        let mut x = GpuTensor::upload(&self.gpu, embeddings)?;
        let head = config.head_width();
        let caches = cache.on_gpu(self.layers.len());
        for (layer, kept) in self.layers.iter().zip(caches) {
            x = layer.forward(&x, &turns, head, (kept, first))?;
        }
        let states = self.norm.forward(&x)?.download()?;
        cache.read_on_gpu(tokens);
        Ok(states)
    }

    /// The likeliest tokens after one hidden state `[1,1,width]`: `never` come last, and a penalty is for others, each once.
    pub(super) fn candidates(
        &self,
        hidden: &Tensor,
        never: &[u32],
        (seen, penalty): (&[u32], f32),
    ) -> Result<LikeliestTokens> {
        let hidden = GpuTensor::upload(&self.gpu, hidden)?;
        let heads = self.heads.iter().map(|head| head.forward(&hidden));
        let heads = heads.collect::<Result<Vec<_>>>()?;
        let logits = match heads.as_slice() {
            [one] => one.clone(),
            several => {
                let axis = hidden.dims().len() - 1;
                GpuTensor::join(&several.iter().collect::<Vec<_>>(), axis)?
            }
        };
        let ids = |ids: &[u32]| {
            let numbers: Vec<f32> = ids.iter().map(|id| *id as f32).collect();
            GpuTensor::upload(&self.gpu, &Tensor::new(numbers, &Device::Cpu)?)
        };
        if penalty != 1.0 && !seen.is_empty() {
            logits.penalise(&ids(seen)?, Some(penalty))?;
        }
        if !never.is_empty() {
            logits.penalise(&ids(never)?, None)?;
        }
        let vocabulary = logits.dims().iter().product();
        Ok(LikeliestTokens {
            tokens: logits.candidates(1.0, 1.0)?.tokens,
            vocabulary,
        })
    }

    /// Logits `[..,rows]` of hidden states `[..,width]`.
    pub(super) fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        let hidden = GpuTensor::upload(&self.gpu, hidden)?;
        let logits = self
            .heads
            .iter()
            .map(|head| head.forward(&hidden)?.download());
        Tensor::cat(&logits.collect::<Result<Vec<_>>>()?, D::Minus1)
    }
}
