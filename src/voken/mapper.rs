//! From the language model's states at the vokens to what conditions a picture: a two-layer
//! perceptron and an encoder-decoder transformer (arXiv 2310.02239, section 3.2; reference:
//! `fc`, `llm_to_t2i_mapping` and `t2i_decoder_prompt`).

use super::MapperConfig;
use crate::nn::gpu::{Gpu, GpuTensor};
use crate::nn::{
    ActivationFunction, Array, Init, LayerNorm, Linear, Mask, Params, Result, dims_of,
};
use candle_core::Tensor;

/// Where the tensors come from: the second stage of training keeps only the transformer.
#[derive(Clone)]
pub struct MapperParams {
    /// `fc`.
    pub fc: Params,
    /// `llm_to_t2i_mapping`.
    pub mapper: Params,
    /// `t2i_decoder_prompt`.
    pub prompt: Params,
}

impl MapperParams {
    /// All from one file.
    pub fn all(p: &Params) -> Self {
        Self {
            fc: p.clone(),
            mapper: p.clone(),
            prompt: p.clone(),
        }
    }
}

/// Voken states `[B,vokens,H]` to picture conditions `[B,prompt_tokens,D]`.
#[derive(Clone, Debug)]
pub struct FeatureMapper {
    config: MapperConfig,
    width: usize,
    fc: [Linear; 2],
    /// `[1,prompt_tokens,D]`.
    prompt: Tensor,
    encoder: Vec<EncoderLayer>,
    encoder_norm: LayerNorm,
    decoder: Vec<DecoderLayer>,
    decoder_norm: LayerNorm,
    gpu: Option<Gpu>,
}

impl FeatureMapper {
    /// `width` is that of the language model.
    ///
    /// # Errors
    /// Sizes that can't be, or a tensor that is missing or has another shape.
    pub fn new(config: MapperConfig, width: usize, p: &MapperParams) -> Result<Self> {
        config.check()?;
        let d = config.d_model;
        let norm = |p: Params| p.layer_norm(d, config.layer_norm_eps);
        let t = p.mapper.pp("llm_to_t2i_mapping");
        let (enc, dec) = (t.pp("encoder"), t.pp("decoder"));
        let prompt = [1, config.prompt_tokens, d];
        Ok(Self {
            fc: [
                p.fc.pp("fc.0").linear(width, d, true)?,
                p.fc.pp("fc.2").linear(d, d, true)?,
            ],
            prompt: p
                .prompt
                .tensor(&prompt, "t2i_decoder_prompt", Init::Normal(1.0))?,
            encoder: (0..config.encoder_layers)
                .map(|i| EncoderLayer::new(&config, &enc.pp("layers").pp(i)))
                .collect::<Result<_>>()?,
            encoder_norm: norm(enc.pp("norm"))?,
            decoder: (0..config.decoder_layers)
                .map(|i| DecoderLayer::new(&config, &dec.pp("layers").pp(i)))
                .collect::<Result<_>>()?,
            decoder_norm: norm(dec.pp("norm"))?,
            gpu: None,
            config,
            width,
        })
    }

    /// Sizes that it was built with.
    pub fn config(&self) -> &MapperConfig {
        &self.config
    }

    /// Has it compute on a GPU from now on.
    ///
    /// # Errors
    /// A GPU that is lost or short of memory.
    pub fn move_to(&mut self, gpu: &Gpu) -> Result<()> {
        for linear in &mut self.fc {
            *linear = linear.placed(gpu)?;
        }
        for layer in &mut self.encoder {
            *layer = layer.placed(gpu)?;
        }
        for layer in &mut self.decoder {
            *layer = layer.placed(gpu)?;
        }
        self.encoder_norm = self.encoder_norm.placed(gpu)?;
        self.decoder_norm = self.decoder_norm.placed(gpu)?;
        self.gpu = Some(gpu.clone());
        Ok(())
    }

    /// The perceptron alone, `[B,vokens,H] -> [B,vokens,D]`.
    ///
    /// # Errors
    /// When shapes don't fit; so for all of them.
    pub fn fc<A: Array>(&self, states: &A) -> Result<A> {
        self.fc[1].forward(&self.fc[0].forward_activated(states, ActivationFunction::Gelu)?)
    }

    /// The encoder alone, `[B,vokens,D] -> [B,vokens,D]`.
    pub fn encode<A: Array>(&self, features: &A) -> Result<A> {
        let mut x = features.clone();
        for layer in &self.encoder {
            x = layer.forward(&x)?;
        }
        self.encoder_norm.forward(&x)
    }

    /// The decoder alone, `[B,vokens,D] -> [B,prompt_tokens,D]`.
    pub fn decode<A: Array>(&self, memory: &A) -> Result<A> {
        let [b, _, _] = dims_of(memory)?;
        let (_, n, d) = self.prompt.dims3()?;
        let mut x = memory.beside(&self.prompt)?.repeat_to(&[b, n, d])?;
        for layer in &self.decoder {
            x = layer.forward(&x, memory)?;
        }
        self.decoder_norm.forward(&x)
    }

    /// Perceptron, encoder and decoder: `[B,vokens,H] -> [B,prompt_tokens,D]`.
    pub fn forward(&self, states: &Tensor) -> Result<Tensor> {
        match &self.gpu {
            None => self.decode(&self.encode(&self.fc(states)?)?),
            Some(gpu) => {
                let features = self.fc(&GpuTensor::upload(gpu, states)?)?;
                self.decode(&self.encode(&features)?)?.download()
            }
        }
    }

    /// Zero states, the unconditional input of classifier-free guidance.
    pub fn zeros(&self, batch: usize, vokens: usize) -> Result<Tensor> {
        let shape = (batch, vokens, self.width);
        Tensor::zeros(shape, self.prompt.dtype(), self.prompt.device())
    }

    /// The condition of zero states, `[1,prompt_tokens,D]`.
    pub fn unconditional(&self, vokens: usize) -> Result<Tensor> {
        self.forward(&self.zeros(1, vokens)?)
    }
}

/// PyTorch's `nn.MultiheadAttention` with packed projections.
#[derive(Clone, Debug)]
struct MultiHead {
    /// `[D,3D]`: queries, keys, values.
    packed: Linear,
    out: Linear,
    heads: usize,
}

impl MultiHead {
    fn new(config: &MapperConfig, p: &Params) -> Result<Self> {
        let d = config.d_model;
        // PyTorch begins it by Xavier's rule for [3D,D].
        let xavier = Init::Normal((2.0 / (4 * d) as f64).sqrt());
        let names = ("in_proj_weight", "in_proj_bias");
        Ok(Self {
            packed: p.linear_named(d, 3 * d, names, xavier)?,
            out: p.pp("out_proj").linear(d, d, true)?,
            heads: config.nhead,
        })
    }

    fn placed(&self, gpu: &Gpu) -> Result<Self> {
        Ok(Self {
            packed: self.packed.placed(gpu)?,
            out: self.out.placed(gpu)?,
            heads: self.heads,
        })
    }

    fn forward<A: Array>(&self, x: &A, seen: Option<&A>) -> Result<A> {
        let width = x.dims().last().copied().unwrap_or(0);
        let own = |x: &A, from: usize, count: usize| {
            x.linear_columns(&self.packed, from * width, count * width)
        };
        let part = |of: &A, index: usize| of.cut(of.dims().len() - 1, index * width, width);
        let [q, k, v] = match seen {
            None => {
                let all = self.packed.forward(x)?;
                [part(&all, 0)?, part(&all, 1)?, part(&all, 2)?]
            }
            Some(seen) => {
                let both = own(seen, 1, 2)?;
                [own(x, 0, 1)?, part(&both, 0)?, part(&both, 1)?]
            }
        };
        let got = q.attention(&k, &v, (self.heads, self.heads), &Mask::None)?;
        self.out.forward(&got)
    }
}

/// `linear2(relu(linear1(x)))`.
#[derive(Clone, Debug)]
struct FeedForward(Linear, Linear);

impl FeedForward {
    fn new(config: &MapperConfig, p: &Params) -> Result<Self> {
        let (d, wide) = (config.d_model, config.dim_feedforward);
        Ok(Self(
            p.pp("linear1").linear(d, wide, true)?,
            p.pp("linear2").linear(wide, d, true)?,
        ))
    }

    fn placed(&self, gpu: &Gpu) -> Result<Self> {
        Ok(Self(self.0.placed(gpu)?, self.1.placed(gpu)?))
    }

    fn forward<A: Array>(&self, x: &A) -> Result<A> {
        self.1
            .forward(&self.0.forward_activated(x, ActivationFunction::Relu)?)
    }
}

#[derive(Clone, Debug)]
struct EncoderLayer {
    norm1: LayerNorm,
    itself: MultiHead,
    norm2: LayerNorm,
    feed: FeedForward,
}

impl EncoderLayer {
    fn new(config: &MapperConfig, p: &Params) -> Result<Self> {
        let norm = |name| p.pp(name).layer_norm(config.d_model, config.layer_norm_eps);
        Ok(Self {
            norm1: norm("norm1")?,
            itself: MultiHead::new(config, &p.pp("self_attn"))?,
            norm2: norm("norm2")?,
            feed: FeedForward::new(config, p)?,
        })
    }

    fn placed(&self, gpu: &Gpu) -> Result<Self> {
        Ok(Self {
            norm1: self.norm1.placed(gpu)?,
            itself: self.itself.placed(gpu)?,
            norm2: self.norm2.placed(gpu)?,
            feed: self.feed.placed(gpu)?,
        })
    }

    fn forward<A: Array>(&self, x: &A) -> Result<A> {
        let x = x.plus(&self.itself.forward(&self.norm1.forward(x)?, None)?)?;
        x.plus(&self.feed.forward(&self.norm2.forward(&x)?)?)
    }
}

#[derive(Clone, Debug)]
struct DecoderLayer {
    norm1: LayerNorm,
    itself: MultiHead,
    norm2: LayerNorm,
    memory: MultiHead,
    norm3: LayerNorm,
    feed: FeedForward,
}

impl DecoderLayer {
    fn new(config: &MapperConfig, p: &Params) -> Result<Self> {
        let norm = |name| p.pp(name).layer_norm(config.d_model, config.layer_norm_eps);
        Ok(Self {
            norm1: norm("norm1")?,
            itself: MultiHead::new(config, &p.pp("self_attn"))?,
            norm2: norm("norm2")?,
            memory: MultiHead::new(config, &p.pp("multihead_attn"))?,
            norm3: norm("norm3")?,
            feed: FeedForward::new(config, p)?,
        })
    }

    fn placed(&self, gpu: &Gpu) -> Result<Self> {
        Ok(Self {
            norm1: self.norm1.placed(gpu)?,
            itself: self.itself.placed(gpu)?,
            norm2: self.norm2.placed(gpu)?,
            memory: self.memory.placed(gpu)?,
            norm3: self.norm3.placed(gpu)?,
            feed: self.feed.placed(gpu)?,
        })
    }

    fn forward<A: Array>(&self, x: &A, memory: &A) -> Result<A> {
        let x = x.plus(&self.itself.forward(&self.norm1.forward(x)?, None)?)?;
        let n = self.norm2.forward(&x)?;
        let x = x.plus(&self.memory.forward(&n, Some(memory))?)?;
        x.plus(&self.feed.forward(&self.norm3.forward(&x)?)?)
    }
}
