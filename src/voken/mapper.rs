//! From the language model's states at the vokens to what conditions a picture: a two-layer
//! perceptron and an encoder-decoder transformer (arXiv 2310.02239, section 3.2; reference:
//! `fc`, `llm_to_t2i_mapping` and `t2i_decoder_prompt`).

use super::MapperConfig;
use crate::nn::{Init, LayerNorm, Linear, Mask, Params, Result, attention, gelu, linear};
use candle_core::{D, Tensor};

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
            config,
            width,
        })
    }

    /// Sizes that it was built with.
    pub fn config(&self) -> &MapperConfig {
        &self.config
    }

    /// The perceptron alone, `[B,vokens,H] -> [B,vokens,D]`.
    ///
    /// # Errors
    /// When shapes don't fit; so for all of them.
    pub fn fc(&self, states: &Tensor) -> Result<Tensor> {
        self.fc[1].forward(&gelu(&self.fc[0].forward(states)?)?)
    }

    /// The encoder alone, `[B,vokens,D] -> [B,vokens,D]`.
    pub fn encode(&self, features: &Tensor) -> Result<Tensor> {
        let mut x = features.clone();
        for layer in &self.encoder {
            x = layer.forward(&x)?;
        }
        self.encoder_norm.forward(&x)
    }

    /// The decoder alone, `[B,vokens,D] -> [B,prompt_tokens,D]`.
    pub fn decode(&self, memory: &Tensor) -> Result<Tensor> {
        let (_, n, d) = self.prompt.dims3()?;
        let mut x = self
            .prompt
            .broadcast_as((memory.dim(0)?, n, d))?
            .contiguous()?;
        for layer in &self.decoder {
            x = layer.forward(&x, memory)?;
        }
        self.decoder_norm.forward(&x)
    }

    /// All of it.
    pub fn forward(&self, states: &Tensor) -> Result<Tensor> {
        self.decode(&self.encode(&self.fc(states)?)?)
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

    /// Columns `from .. from + count` of the packed projections, in widths of the model.
    fn project(&self, x: &Tensor, from: usize, count: usize) -> Result<Vec<Tensor>> {
        let d = x.dim(D::Minus1)?;
        let w = self.packed.weight().narrow(1, from * d, count * d)?;
        let b = self.packed.bias().map(|b| b.narrow(0, from * d, count * d));
        linear(x, &w, b.transpose()?.as_ref())?.chunk(count, D::Minus1)
    }

    fn forward(&self, x: &Tensor, seen: Option<&Tensor>) -> Result<Tensor> {
        let qkv = match seen {
            None => self.packed.forward(x)?.chunk(3, D::Minus1)?,
            Some(seen) => {
                let mut qkv = self.project(x, 0, 1)?;
                qkv.extend(self.project(seen, 1, 2)?);
                qkv
            }
        };
        let heads = self.heads;
        let got = attention(&qkv[0], &qkv[1], &qkv[2], heads, heads, &Mask::None)?;
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

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.1.forward(&self.0.forward(x)?.relu()?)
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

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = (x + self.itself.forward(&self.norm1.forward(x)?, None)?)?;
        &x + self.feed.forward(&self.norm2.forward(&x)?)?
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

    fn forward(&self, x: &Tensor, memory: &Tensor) -> Result<Tensor> {
        let x = (x + self.itself.forward(&self.norm1.forward(x)?, None)?)?;
        let n = self.norm2.forward(&x)?;
        let x = (&x + self.memory.forward(&n, Some(memory))?)?;
        &x + self.feed.forward(&self.norm3.forward(&x)?)?
    }
}
