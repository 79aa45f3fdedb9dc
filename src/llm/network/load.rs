//! A network from the tensors of its file.

use super::{
    ActivationPrecision, FeedForwardLayer, Layer, LlmNetwork, MixtureOfExperts, QuantLinear, Rope,
};
use crate::llm::LlmError;
use crate::llm::gguf::Gguf;
use crate::llm::hyperparameters::{Hyperparameters, LayerSizes};
use crate::nn::quant::QuantMatrix;

impl LlmNetwork {
    /// The network in a file.
    ///
    /// # Errors
    /// What the file lacks, or holds that is not read here, by name.
    pub(in crate::llm) fn read(gguf: &Gguf) -> Result<LlmNetwork, LlmError> {
        let hyper = Hyperparameters::from_gguf(gguf.header());
        let hyper = hyper.map_err(|reason| gguf.unusable(reason))?;
        let width = hyper.width;
        let embedding = gguf.matrix("token_embd.weight", hyper.vocabulary, width)?;
        let head = match gguf.has("output.weight") {
            true => gguf.matrix("output.weight", hyper.vocabulary, width)?,
            false => embedding.clone(),
        };
        let layers = (0..hyper.layers.len())
            .map(|index| {
                Reader {
                    gguf,
                    hyper: &hyper,
                    index,
                }
                .layer()
            })
            .collect::<Result<_, LlmError>>()?;
        let factors = |name: &str| match gguf.has(name) {
            true => gguf.vector(name, hyper.rotated / 2).map(Some),
            false => Ok(None),
        };
        let short = match hyper.short_context {
            Some(_) => factors("rope_factors_short.weight")?,
            None => factors("rope_freqs.weight")?,
        };
        let long = match hyper.short_context {
            Some(_) => factors("rope_factors_long.weight")?,
            None => None,
        };
        Ok(LlmNetwork {
            embedding,
            layers,
            norm: gguf.vector("output_norm.weight", width)?,
            head,
            global: Rope::global(&hyper, short.as_deref()),
            local: Rope::local(&hyper, short.as_deref()),
            long: long.map(|long| Rope::global(&hyper, Some(&long))),
            activations: ActivationPrecision::Rounded,
            gpu: None,
            hyper,
        })
    }
}

/// Reads a layer.
struct Reader<'a> {
    gguf: &'a Gguf,
    hyper: &'a Hyperparameters,
    index: usize,
}

impl Reader<'_> {
    fn layer(&self) -> Result<Layer, LlmError> {
        let (hyper, family) = (self.hyper, self.hyper.family);
        let sizes = &hyper.layers[self.index];
        let (width, head) = (hyper.width, hyper.head_width);
        let (wide, narrow) = (sizes.heads * head, sizes.kv_heads * head);
        let (query, key, value) = match family.fused {
            true => {
                let all = self.linear("attn_qkv", wide + 2 * narrow, width)?;
                (
                    all.rows(0..wide),
                    all.rows(wide..wide + narrow),
                    all.rows(wide + narrow..wide + 2 * narrow),
                )
            }
            false => (
                self.linear("attn_q", wide, width)?,
                self.linear("attn_k", narrow, width)?,
                self.linear("attn_v", narrow, width)?,
            ),
        };
        let norm = |wanted: bool, part: &str, length: usize| match wanted {
            true => self.vector(part, length).map(Some),
            false => Ok(None),
        };
        Ok(Layer {
            attention_norm: self.vector("attn_norm", width)?,
            query,
            key,
            value,
            output: self.linear("attn_output", width, wide)?,
            query_norm: norm(family.head_norms, "attn_q_norm", head)?,
            key_norm: norm(family.head_norms, "attn_k_norm", head)?,
            sinks: norm(family.sinks, "attn_sinks", sizes.heads)?,
            post_attention_norm: norm(family.post_norms, "post_attention_norm", width)?,
            inner_norm: self.vector(family.inner_norm, width)?,
            feed: self.feed(sizes)?,
            post_inner_norm: norm(family.post_norms, "post_ffw_norm", width)?,
        })
    }

    fn feed(&self, sizes: &LayerSizes) -> Result<FeedForwardLayer, LlmError> {
        let (hyper, width) = (self.hyper, self.hyper.width);
        if let Some(experts) = hyper.experts {
            let (count, inner) = (experts.count, experts.inner);
            return Ok(FeedForwardLayer::Experts(MixtureOfExperts {
                router: self.linear("ffn_gate_inp", count, width)?,
                gate: self.experts("ffn_gate_exps", count, inner, width)?,
                up: self.experts("ffn_up_exps", count, inner, width)?,
                down: self.experts("ffn_down_exps", count, width, inner)?,
                used: experts.used,
            }));
        }
        let (gate, up) = match hyper.family.fused {
            true => {
                let both = self.linear("ffn_up", 2 * sizes.inner, width)?;
                (
                    both.rows(0..sizes.inner),
                    both.rows(sizes.inner..2 * sizes.inner),
                )
            }
            false => (
                self.linear("ffn_gate", sizes.inner, width)?,
                self.linear("ffn_up", sizes.inner, width)?,
            ),
        };
        let down = self.linear("ffn_down", width, sizes.inner)?;
        Ok(FeedForwardLayer::Dense { gate, up, down })
    }

    fn name(&self, part: &str, end: &str) -> String {
        format!("blk.{}.{part}.{end}", self.index)
    }

    fn vector(&self, part: &str, length: usize) -> Result<Vec<f32>, LlmError> {
        self.gguf.vector(&self.name(part, "weight"), length)
    }

    /// A matrix with its bias, where there is one.
    fn linear(&self, part: &str, rows: usize, cols: usize) -> Result<QuantLinear, LlmError> {
        let bias = self.name(part, "bias");
        Ok(QuantLinear {
            weight: self.gguf.matrix(&self.name(part, "weight"), rows, cols)?,
            bias: match self.gguf.has(&bias) {
                true => Some(self.gguf.vector(&bias, rows)?),
                false => None,
            },
        })
    }

    /// The matrices of `count` experts.
    fn experts(
        &self,
        part: &str,
        count: usize,
        rows: usize,
        cols: usize,
    ) -> Result<Vec<QuantLinear>, LlmError> {
        let all: QuantMatrix = self
            .gguf
            .stack(&self.name(part, "weight"), &[count, rows, cols])?;
        let bias = self.name(part, "bias");
        let bias = match self.gguf.has(&bias) {
            true => Some(self.gguf.floats_of(&bias, &[count, rows])?),
            false => None,
        };
        Ok((0..count)
            .map(|i| QuantLinear {
                weight: all.some_rows(i * rows..(i + 1) * rows),
                bias: bias
                    .as_ref()
                    .map(|all| all[i * rows..(i + 1) * rows].to_vec()),
            })
            .collect())
    }
}

impl QuantLinear {
    /// Some of its rows.
    fn rows(&self, rows: std::ops::Range<usize>) -> QuantLinear {
        QuantLinear {
            weight: self.weight.some_rows(rows.clone()),
            bias: self.bias.as_ref().map(|bias| bias[rows].to_vec()),
        }
    }
}
