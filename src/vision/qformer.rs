//! BLIP-2's Q-Former (arXiv 2301.12597; reference: LAVIS `Qformer.py`), the part that reads
//! pictures: learned queries that look at each other and, every other layer, at the picture.

use super::QFormerConfig;
use crate::nn::{
    ActivationFunction, Array, Init, LayerNorm, Linear, Mask, Params, Result, dims_of,
};
use candle_core::Tensor;

/// Picture tokens `[B,T,encoder_width]` to `[B,queries,hidden_size]`.
#[derive(Clone, Debug)]
pub struct QFormer {
    /// `[1,queries,C]`.
    queries: Tensor,
    norm: LayerNorm,
    layers: Vec<Layer>,
}

impl QFormer {
    /// `p` holds `query_tokens` and `Qformer.bert`.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub fn new(config: &QFormerConfig, p: &Params) -> Result<Self> {
        let c = config.hidden_size;
        let queries = [1, config.num_query_tokens, c];
        let bert = p.pp("Qformer.bert");
        Ok(Self {
            queries: p.tensor(&queries, "query_tokens", Init::Normal(0.02))?,
            norm: bert
                .pp("embeddings.LayerNorm")
                .layer_norm(c, config.layer_norm_eps)?,
            layers: (0..config.num_hidden_layers)
                .map(|i| Layer::new(config, i, &bert.pp("encoder.layer").pp(i)))
                .collect::<Result<_>>()?,
        })
    }

    /// The queries after the embedding norm and after each layer; the last are the output.
    pub fn states<A: Array>(&self, picture: &A) -> Result<Vec<A>> {
        let ([batch, _, _], (_, n, c)) = (dims_of(picture)?, self.queries.dims3()?);
        let queries = picture.beside(&self.queries)?.repeat_to(&[batch, n, c])?;
        let mut states = vec![self.norm.forward(&queries)?];
        for layer in &self.layers {
            let next = layer.forward(&states[states.len() - 1], picture)?;
            states.push(next);
        }
        Ok(states)
    }

    /// Output of the last layer, `[B,queries,C]`, for the image embeddings `picture [B,T,C']`.
    pub fn forward<A: Array>(&self, picture: &A) -> Result<A> {
        let mut states = self.states(picture)?;
        Ok(states.swap_remove(states.len() - 1))
    }
}

#[derive(Clone, Debug)]
struct Layer {
    itself: Attention,
    picture: Option<Attention>,
    widen: Linear,
    narrow: Linear,
    norm: LayerNorm,
}

impl Layer {
    fn new(config: &QFormerConfig, index: usize, p: &Params) -> Result<Self> {
        let (c, wide) = (config.hidden_size, config.intermediate_size);
        let looks = index.is_multiple_of(config.cross_attention_freq);
        let out = p.pp("output_query");
        Ok(Self {
            itself: Attention::new(config, c, &p.pp("attention"))?,
            picture: looks
                .then(|| Attention::new(config, config.encoder_width, &p.pp("crossattention")))
                .transpose()?,
            widen: p.pp("intermediate_query.dense").linear(c, wide, true)?,
            narrow: out.pp("dense").linear(wide, c, true)?,
            norm: out.pp("LayerNorm").layer_norm(c, config.layer_norm_eps)?,
        })
    }

    fn forward<A: Array>(&self, x: &A, picture: &A) -> Result<A> {
        let mut x = self.itself.forward(x, x)?;
        if let Some(look) = &self.picture {
            x = look.forward(&x, picture)?;
        }
        let wide = self.widen.forward_activated(&x, ActivationFunction::Gelu)?;
        self.norm.forward(&self.narrow.forward_plus(&wide, &x)?)
    }
}

/// Attention with its residual and norm.
#[derive(Clone, Debug)]
struct Attention {
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    norm: LayerNorm,
    heads: usize,
}

impl Attention {
    fn new(config: &QFormerConfig, seen: usize, p: &Params) -> Result<Self> {
        let c = config.hidden_size;
        let (s, o) = (p.pp("self"), p.pp("output"));
        Ok(Self {
            query: s.pp("query").linear(c, c, true)?,
            key: s.pp("key").linear(seen, c, true)?,
            value: s.pp("value").linear(seen, c, true)?,
            out: o.pp("dense").linear(c, c, true)?,
            norm: o.pp("LayerNorm").layer_norm(c, config.layer_norm_eps)?,
            heads: config.num_attention_heads,
        })
    }

    fn forward<A: Array>(&self, x: &A, seen: &A) -> Result<A> {
        let (q, k, v) = (
            self.query.forward(x)?,
            self.key.forward(seen)?,
            self.value.forward(seen)?,
        );
        let got = q.attention(&k, &v, (self.heads, self.heads), &Mask::None)?;
        self.norm.forward(&self.out.forward_plus(&got, x)?)
    }
}
