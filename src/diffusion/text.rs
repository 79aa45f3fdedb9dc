//! transformers' `CLIPTextModel`.

use crate::nn::gpu::{Gpu, GpuTensor};
use crate::nn::{
    ActivationFunction, Array, Embedding, LayerNorm, Linear, Mask, Params, Result, dims_of,
};
use candle_core::{DType, Tensor};
use serde::{Deserialize, Serialize};

/// Activation of the text encoder's feed-forward layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextActivation {
    /// GELU with the error function.
    Gelu,
    /// `x * sigmoid(1.702 x)`, as OpenAI's CLIP has it.
    QuickGelu,
}

/// transformers' `CLIPTextConfig`: the settings we read, under its names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TextConfig {
    /// Rows of the token embedding table.
    pub vocab_size: usize,
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Width inside the feed-forward part.
    pub intermediate_size: usize,
    /// Transformer layers.
    pub num_hidden_layers: usize,
    /// Attention heads.
    pub num_attention_heads: usize,
    /// Most tokens of a prompt, with its first and last; 77 in published models.
    pub max_position_embeddings: usize,
    /// Activation of the feed-forward part.
    pub hidden_act: TextActivation,
    /// Epsilon of layer norm.
    pub layer_norm_eps: f64,
    /// Id of the token that begins a text.
    pub bos_token_id: u32,
    /// Id of the token that ends a text.
    pub eos_token_id: u32,
    /// Id of the token that fills a text up.
    pub pad_token_id: u32,
    /// Width of the projected state at the end token, which only encoders with a projection have.
    pub projection_dim: usize,
}

impl Default for TextConfig {
    /// transformers' defaults, which a file may leave out.
    fn default() -> Self {
        Self {
            vocab_size: 49408,
            hidden_size: 512,
            intermediate_size: 2048,
            num_hidden_layers: 12,
            num_attention_heads: 8,
            max_position_embeddings: 77,
            hidden_act: TextActivation::QuickGelu,
            layer_norm_eps: 1e-5,
            bos_token_id: 49406,
            eos_token_id: 49407,
            pad_token_id: 1,
            projection_dim: 512,
        }
    }
}

/// Output of the text encoder for a batch of texts.
#[derive(Clone, Debug)]
pub struct TextFeatures {
    /// `[B,T,C]`: after the final norm, or as [`HiddenStates`] says.
    pub states: Tensor,
    /// The state at each text's end token, projected where the encoder has a projection: `[B,C]`.
    pub pooled: Tensor,
}

impl TextFeatures {
    /// Conditions `[B,T,C]` that are no text. Where a UNet also wants one vector for the whole,
    /// it is their mean.
    ///
    /// # Errors
    /// When `states` have not three axes.
    pub fn of_states(states: Tensor) -> Result<Self> {
        let pooled = states.mean(1)?;
        Ok(Self { states, pooled })
    }

    /// Conditions `[B,T+1,C]` whose last is the vector for the whole.
    ///
    /// # Errors
    /// When there are fewer than two.
    pub fn of_states_and_pooled(all: &Tensor) -> Result<Self> {
        let tokens = all.dim(1)?;
        if tokens < 2 {
            candle_core::bail!("{tokens} conditions are too few for a vector that stands for them");
        }
        Ok(Self {
            states: all.narrow(1, 0, tokens - 1)?.contiguous()?,
            pooled: all.narrow(1, tokens - 1, 1)?.squeeze(1)?.contiguous()?,
        })
    }

    /// Both in one, `[B,T+1,C]`.
    ///
    /// # Errors
    /// When their shapes don't fit each other.
    pub fn joined(&self) -> Result<Tensor> {
        Tensor::cat(&[&self.states, &self.pooled.unsqueeze(1)?], 1)
    }
}

/// Which hidden states of a text encoder condition the UNet (clip skip).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HiddenStates {
    /// Layers left out at the end.
    pub back: usize,
    /// Whether the final norm follows.
    pub norm: bool,
}

impl HiddenStates {
    /// The last states, normed.
    pub const LAST: Self = Self {
        back: 0,
        norm: true,
    };
}

/// CLIP's text transformer.
#[derive(Clone, Debug)]
pub struct TextEncoder {
    config: TextConfig,
    tokens: Embedding,
    positions: Embedding,
    layers: Vec<ClipLayer>,
    norm: LayerNorm,
    projection: Option<Linear>,
    gpu: Option<Gpu>,
}

impl TextEncoder {
    /// An encoder with a projection of the state at the end token, which has no bias
    /// (`CLIPTextModelWithProjection`).
    ///
    /// # Errors
    /// As for [`TextEncoder::new`].
    pub fn with_projection(config: TextConfig, p: Params) -> Result<Self> {
        let (width, out) = (config.hidden_size, config.projection_dim);
        let p = p.in_bf16(false);
        let projection = p.pp("text_projection").linear(width, out, false)?;
        Ok(Self {
            projection: Some(projection),
            ..Self::new(config, p)?
        })
    }

    /// # Errors
    /// A configuration that doesn't fit, or a tensor that is missing or has another shape.
    pub fn new(config: TextConfig, p: Params) -> Result<Self> {
        // A text is read once, whatever the picture's steps.
        let p = p.in_bf16(false);
        let (c, heads) = (config.hidden_size, config.num_attention_heads);
        if heads == 0 || c % heads != 0 {
            candle_core::bail!(
                "the text encoder's hidden_size {c} can't be split into {heads} heads"
            );
        }
        // Newer transformers leave the prefix out.
        let table = "embeddings.token_embedding.weight";
        let p = match p.contains(table) && !p.contains(&format!("text_model.{table}")) {
            true => p,
            false => p.pp("text_model"),
        };
        let e = p.pp("embeddings");
        Ok(Self {
            tokens: e.pp("token_embedding").embedding(config.vocab_size, c)?,
            positions: e
                .pp("position_embedding")
                .embedding(config.max_position_embeddings, c)?,
            layers: (0..config.num_hidden_layers)
                .map(|i| ClipLayer::new(&p.pp("encoder.layers").pp(i), ClipLayerShape::of(&config)))
                .collect::<Result<_>>()?,
            norm: p
                .pp("final_layer_norm")
                .layer_norm(c, config.layer_norm_eps)?,
            projection: None,
            gpu: p.gpu().cloned(),
            config,
        })
    }

    /// Configuration that it was built with.
    pub fn config(&self) -> &TextConfig {
        &self.config
    }

    /// `ids [B,T]` (u32), as Stable Diffusion conditions on them: padding is seen like text.
    pub fn forward(&self, ids: &Tensor) -> Result<TextFeatures> {
        self.run(ids, None, HiddenStates::LAST)
    }

    /// As [`TextEncoder::forward`], of the states that `reading` names.
    ///
    /// # Errors
    /// More layers left out than there are, or too many tokens.
    pub fn read(&self, ids: &Tensor, reading: HiddenStates) -> Result<TextFeatures> {
        self.run(ids, None, reading)
    }

    /// As [`TextEncoder::forward`], but padding is hidden: `lengths` holds each text's number of
    /// tokens before its padding. Only the states of the padding differ.
    pub fn forward_unpadded(&self, ids: &Tensor, lengths: &[usize]) -> Result<TextFeatures> {
        let (b, t) = ids.dims2()?;
        if lengths.len() != b {
            candle_core::bail!("{} lengths were given for {b} texts", lengths.len());
        }
        let real = lengths
            .iter()
            .flat_map(|&n| (0..t).map(move |i| if i < n { 1f32 } else { 0f32 }))
            .collect();
        let real = Tensor::from_vec(real, (b, t), ids.device())?;
        self.run(ids, Some(&real), HiddenStates::LAST)
    }

    fn run(
        &self,
        ids: &Tensor,
        real: Option<&Tensor>,
        reading: HiddenStates,
    ) -> Result<TextFeatures> {
        let (_, t) = ids.dims2()?;
        let max = self.config.max_position_embeddings;
        if t > max {
            candle_core::bail!("{t} tokens are more than the text encoder's {max}");
        }
        let positions = Tensor::arange(0u32, t as u32, ids.device())?;
        let x = self
            .tokens
            .forward(ids)?
            .broadcast_add(&self.positions.forward(&positions)?)?;
        let ends = self.ends(ids)?;
        match &self.gpu {
            None => {
                let (states, pooled) = self.encode(x, real, reading, &ends)?;
                Ok(TextFeatures { states, pooled })
            }
            // The table of tokens stays with the processor: only the rows that are read travel.
            Some(gpu) => {
                let x = GpuTensor::upload(gpu, &x)?;
                let (states, pooled) = self.encode(x, real, reading, &ends)?;
                Ok(TextFeatures {
                    states: states.download()?,
                    pooled: pooled.download()?,
                })
            }
        }
    }

    /// From the embedded tokens `x [B,T,C]` the states, and those at each text's end.
    fn encode<A: Array>(
        &self,
        mut x: A,
        real: Option<&Tensor>,
        reading: HiddenStates,
        ends: &[u32],
    ) -> Result<(A, A)> {
        let [b, t, c] = dims_of(&x)?;
        let padded = real.map(|real| Padded::new(real, &x));
        let padded = padded.transpose()?;
        let n = self.layers.len();
        let Some(wanted) = n.checked_sub(reading.back) else {
            candle_core::bail!(
                "{} layers can't be skipped, since the text encoder has {n}; lower the clip skip",
                reading.back
            );
        };
        let mut states = x.clone();
        for (i, layer) in self.layers.iter().enumerate() {
            x = layer.forward(&x, padded.as_ref())?;
            if i + 1 == wanted {
                states = x.clone();
            }
        }
        let last = self.norm.forward(&x)?;
        let states = match (reading.norm, reading.back) {
            (true, 0) => last.clone(),
            (true, _) => self.norm.forward(&states)?,
            (false, _) => states,
        };
        let mut pooled = last.reshape(&[b * t, c])?.select(ends, 0)?;
        if let Some(projection) = &self.projection {
            pooled = projection.forward(&pooled)?;
        }
        Ok((states, pooled))
    }

    /// Where each text's end token is, counted through the whole batch.
    fn ends(&self, ids: &Tensor) -> Result<Vec<u32>> {
        let rows = ids.to_dtype(DType::U32)?.to_vec2::<u32>()?;
        let at = |row: &Vec<u32>| match self.config.eos_token_id {
            // Old configurations say 2 whatever the vocabulary; transformers then takes the
            // largest id, which is CLIP's end token.
            2 => {
                let most = row.iter().max();
                row.iter().position(|id| Some(id) == most)
            }
            eos => row.iter().position(|id| *id == eos),
        };
        Ok(rows
            .iter()
            .enumerate()
            .map(|(i, row)| (i * row.len() + at(row).unwrap_or(row.len() - 1)) as u32)
            .collect())
    }
}

/// Which tokens are text and which are padding.
struct Padded<A> {
    /// `[B,T]`, 1 for text.
    real: Tensor,
    /// `[B,T,C]`, 1 for text.
    text: A,
    /// `[B,T,C]`, 1 for padding.
    padding: A,
}

impl<A: Array> Padded<A> {
    fn new(real: &Tensor, like: &A) -> Result<Self> {
        let all = real.unsqueeze(2)?.broadcast_as(like.dims())?.contiguous()?;
        Ok(Self {
            real: real.clone(),
            padding: like.beside(&all.affine(-1.0, 1.0)?)?,
            text: like.beside(&all)?,
        })
    }
}

/// The sizes of a layer of CLIP's encoders, which read texts and pictures alike.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClipLayerShape {
    pub width: usize,
    pub inner: usize,
    pub heads: usize,
    pub act: TextActivation,
    pub eps: f64,
}

impl ClipLayerShape {
    fn of(config: &TextConfig) -> Self {
        Self {
            width: config.hidden_size,
            inner: config.intermediate_size,
            heads: config.num_attention_heads,
            act: config.hidden_act,
            eps: config.layer_norm_eps,
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct ClipLayer {
    norm1: LayerNorm,
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
    norm2: LayerNorm,
    widen: Linear,
    narrow: Linear,
    heads: usize,
    act: TextActivation,
}

impl ClipLayer {
    pub(super) fn new(p: &Params, shape: ClipLayerShape) -> Result<Self> {
        let (c, wide, eps) = (shape.width, shape.inner, shape.eps);
        let a = p.pp("self_attn");
        Ok(Self {
            norm1: p.pp("layer_norm1").layer_norm(c, eps)?,
            q: a.pp("q_proj").linear(c, c, true)?,
            k: a.pp("k_proj").linear(c, c, true)?,
            v: a.pp("v_proj").linear(c, c, true)?,
            out: a.pp("out_proj").linear(c, c, true)?,
            norm2: p.pp("layer_norm2").layer_norm(c, eps)?,
            widen: p.pp("mlp.fc1").linear(c, wide, true)?,
            narrow: p.pp("mlp.fc2").linear(wide, c, true)?,
            heads: shape.heads,
            act: shape.act,
        })
    }

    /// Self-attention without a causal mask, as in a vision transformer.
    pub(super) fn forward_all<A: Array>(&self, x: &A) -> Result<A> {
        let [q, k, v] = self.queries_keys_values(x)?;
        let seen = q.attention(&k, &v, (self.heads, self.heads), &Mask::None)?;
        self.rest(x, &seen)
    }

    fn queries_keys_values<A: Array>(&self, x: &A) -> Result<[A; 3]> {
        let n = self.norm1.forward(x)?;
        Ok([
            self.q.forward(&n)?,
            self.k.forward(&n)?,
            self.v.forward(&n)?,
        ])
    }

    fn forward<A: Array>(&self, x: &A, padded: Option<&Padded<A>>) -> Result<A> {
        let [q, k, v] = self.queries_keys_values(x)?;
        let see = |mask: &Mask| q.attention(&k, &v, (self.heads, self.heads), mask);
        let mut seen = see(&Mask::Causal)?;
        if let Some(Padded {
            real,
            text,
            padding,
        }) = padded
        {
            // Padding comes last, so real tokens never see it under the causal mask, and for
            // padding the causal mask adds nothing to hiding the padding.
            let hidden = see(&Mask::Keys(real.clone()))?;
            seen = seen.times(text)?.plus(&hidden.times(padding)?)?;
        }
        self.rest(x, &seen)
    }

    /// What follows once it is known what each place of `x` saw.
    fn rest<A: Array>(&self, x: &A, seen: &A) -> Result<A> {
        let x = self.out.forward_plus(seen, x)?;
        let by = match self.act {
            TextActivation::Gelu => ActivationFunction::Gelu,
            TextActivation::QuickGelu => ActivationFunction::QuickGelu,
        };
        let n = self.norm2.forward(&x)?;
        let wide = self.widen.forward_activated(&n, by)?;
        self.narrow.forward_plus(&wide, &x)
    }
}
