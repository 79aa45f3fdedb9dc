//! A LLaMA that reads pictures among words and can be trained: differentiable, with a key-value
//! cache, grouped-query attention, and adapters on its query and value projections. Its layers
//! can be quantised, with adapters and tables beside them in floating point; `Llama` is the
//! faster one for a small quantised model that only writes.

mod config;
mod gguf;
mod gpu;
mod layer;
mod lora;
mod packed;

pub use config::FloatConfig;
pub use gguf::GgufLlama;
pub use layer::{FloatKvCache, Rotation};
pub use lora::LoraConfig;
pub use packed::PackedPart;

use crate::nn::{
    Embedding, FrozenLinear, Init, Linear, Params, Result, RmsNorm, embedding, frozen_cross_entropy,
};
use candle_core::{D, Device, Tensor};
use gpu::GpuLlama;
use layer::Layer;
use lora::{Dropout, LinearWeight};
use std::sync::Arc;

/// Hugging Face's `LlamaForCausalLM`.
#[derive(Clone, Debug)]
pub struct FloatLlama {
    config: FloatConfig,
    embedding: Embedding,
    layers: Vec<Layer>,
    norm: RmsNorm,
    head: Linear,
    /// What stands in for the output layer where that does not learn: the same weight, held so that
    /// it is read quicker.
    quick_head: Option<LinearWeight>,
    added: Option<EmbeddingTables>,
    device: Device,
    /// Where the layers compute, if that is a GPU through wgpu; then none is in `layers`.
    gpu: Option<Arc<GpuLlama>>,
}

/// Embedding table and output layer, which grow with the vocabulary.
#[derive(Clone, Debug)]
pub struct EmbeddingTables {
    /// `[rows,width]`.
    pub embedding: Embedding,
    /// `width -> rows`.
    pub head: Linear,
}

/// The likeliest tokens of a vocabulary.
#[derive(Clone, Debug)]
pub struct LikeliestTokens {
    /// Tokens with their logits, from the largest on.
    pub tokens: Vec<(u32, f32)>,
    /// Tokens that there are.
    pub vocabulary: usize,
}

impl FloatLlama {
    /// Reads `model.*` and `lm_head` below `p`.
    ///
    /// # Errors
    /// A configuration that isn't supported, or a tensor that is missing or has another shape.
    pub fn new(config: FloatConfig, p: &Params) -> Result<Self> {
        config.check()?;
        let (rows, c) = (config.vocab_size, config.hidden_size);
        let embedding = p.pp("model.embed_tokens").embedding(rows, c)?;
        let head = if config.tie_word_embeddings {
            Linear::new(embedding.table().t()?, None)
        } else {
            p.pp("lm_head").linear(c, rows, false)?
        };
        Self::with_tables(config, p, EmbeddingTables { embedding, head })
    }

    /// Reads all but the tables, which come from elsewhere: a fine-tuned model keeps its own.
    ///
    /// # Errors
    /// As [`FloatLlama::new`].
    pub fn with_tables(config: FloatConfig, p: &Params, tables: EmbeddingTables) -> Result<Self> {
        config.check()?;
        let p = p.pp("model");
        Ok(Self {
            layers: (0..config.num_hidden_layers)
                .map(|i| Layer::new(&config, &p.pp("layers").pp(i)))
                .collect::<Result<_>>()?,
            norm: p
                .pp("norm")
                .rms_norm(config.hidden_size, config.rms_norm_eps)?,
            device: p.device().clone(),
            embedding: tables.embedding,
            head: tables.head,
            quick_head: None,
            added: None,
            gpu: None,
            config,
        })
    }

    /// Puts `count` tokens behind those of the tables, with rows of their own in both:
    /// `embed_tokens` and `lm_head` below `p`. The tables themselves stay as they are.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub fn add_rows(&mut self, count: usize, p: &Params) -> Result<()> {
        let (embedding, head) = (p.pp("embed_tokens"), p.pp("lm_head"));
        let width = self.config.hidden_size;
        self.added = Some(EmbeddingTables::read(&embedding, &head, count, width)?);
        Ok(())
    }

    /// Puts adapters on the query and value projections; `p` holds
    /// `layers.N.self_attn.{q,v}_proj.lora_{A,B}.default.weight`, as peft names them.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub fn add_lora(&mut self, lora: &LoraConfig, p: &Params) -> Result<()> {
        for (i, layer) in self.layers.iter_mut().enumerate() {
            layer.add_lora(lora, &p.pp("layers").pp(i).pp("self_attn"), false)?;
        }
        Ok(())
    }

    /// As [`FloatLlama::add_lora`], with adapters that were trained on this very file: where it is
    /// a GGUF, the outputs of queries lie in its order. Only such adapters can be trained on it.
    ///
    /// # Errors
    /// As [`FloatLlama::add_lora`].
    pub fn add_own_lora(&mut self, lora: &LoraConfig, p: &Params) -> Result<()> {
        for (i, layer) in self.layers.iter_mut().enumerate() {
            layer.add_lora(lora, &p.pp("layers").pp(i).pp("self_attn"), true)?;
        }
        Ok(())
    }

    /// Training begins: from now on the adapters see their inputs without a `share` of them, drawn
    /// anew at every call from `seed` on. A share of 0 ends that.
    ///
    /// # Errors
    /// When `share` is no share, or would leave nothing.
    pub fn drop_adapter_inputs(&mut self, share: f64, seed: u64) -> Result<()> {
        if !(0.0..1.0).contains(&share) {
            candle_core::bail!("a dropout of {share} can't be; choose one from 0 to below 1");
        }
        let dropout = (share > 0.0).then(|| Arc::new(Dropout::new(share, seed)));
        for layer in &mut self.layers {
            layer.set_dropout(dropout.as_ref());
        }
        Ok(())
    }

    /// Folds the adapters into the weights that they adapt.
    ///
    /// # Errors
    /// When memory does not suffice.
    pub fn merge_lora(&mut self) -> Result<()> {
        self.layers.iter_mut().try_for_each(Layer::merge_lora)
    }

    /// Training begins of what is beside the layers' matrices and the output layer: these do not
    /// learn, and are held as is quickest then ([`FrozenLinear`]). Adapters can no longer be
    /// merged into them.
    ///
    /// # Errors
    /// When memory does not suffice.
    pub fn freeze(&mut self) -> Result<()> {
        self.layers.iter_mut().try_for_each(Layer::freeze)?;
        self.quick_head = FrozenLinear::new(&self.head)?.map(LinearWeight::Frozen);
        Ok(())
    }

    /// Hyperparameters.
    pub fn config(&self) -> &FloatConfig {
        &self.config
    }

    /// Device that it computes on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The tables at both ends.
    pub fn tables(&self) -> EmbeddingTables {
        EmbeddingTables {
            embedding: self.embedding.clone(),
            head: self.head.clone(),
        }
    }

    /// Tokens that it knows, with those that were added.
    ///
    /// # Errors
    /// None in practice: the tables have two axes.
    pub fn rows(&self) -> Result<usize> {
        let added = self.added.as_ref().map(|a| a.embedding.table().dim(0));
        Ok(self.embedding.table().dim(0)? + added.transpose()?.unwrap_or(0))
    }

    /// The weight `[in,out]` of a layer's query projection, with its adapter where that is merged;
    /// `None` where it is quantised.
    pub fn query_weight(&self, layer: usize) -> Option<&Tensor> {
        self.layers.get(layer).and_then(Layer::query_weight)
    }

    /// Embeddings of `ids` (u32, any shape) `[..,width]`.
    ///
    /// # Errors
    /// An id beyond the table.
    pub fn embed(&self, ids: &Tensor) -> Result<Tensor> {
        self.embedding.forward(ids)
    }

    /// Embeddings `[1,n,width]` of ids.
    ///
    /// # Errors
    /// An id beyond the table.
    pub fn embed_ids(&self, ids: &[u32]) -> Result<Tensor> {
        let rows = self.rows()?;
        if let Some(id) = ids.iter().find(|id| **id as usize >= rows) {
            candle_core::bail!(
                "the language model has {rows} tokens, so there is no token {id}; use the tokenizer that belongs to it"
            );
        }
        let lookup = |table: &Embedding, ids: &[u32]| {
            table.forward(&Tensor::from_slice(ids, (1, ids.len()), &self.device)?)
        };
        let Some(added) = &self.added else {
            return lookup(&self.embedding, ids);
        };
        let own = self.embedding.table().dim(0)? as u32;
        let runs = ids.chunk_by(|a, b| (*a < own) == (*b < own));
        let runs = runs.map(|run| match run.first() {
            Some(first) if *first >= own => {
                let rows: Vec<u32> = run.iter().map(|id| id - own).collect();
                lookup(&added.embedding, &rows)
            }
            _ => lookup(&self.embedding, run),
        });
        Tensor::cat(&runs.collect::<Result<Vec<_>>>()?, 1)
    }

    /// Hidden states after the last norm, `[B,T,width]`, of embeddings `[B,T,width]` that come
    /// after what `cache` holds. Places of a batch that are padded must come last.
    ///
    /// # Errors
    /// When shapes don't fit.
    pub fn forward(&self, embeddings: &Tensor, cache: Option<&mut FloatKvCache>) -> Result<Tensor> {
        if let Some(gpu) = &self.gpu {
            let mut own = self.cache();
            return gpu.forward(&self.config, embeddings, cache.unwrap_or(&mut own));
        }
        let mut x = embeddings.clone();
        let mut cache = cache;
        let at = cache.as_ref().map_or(0, |c| c.len());
        let rotation = Rotation::new(&self.config, at, x.dim(1)?, x.device())?;
        for (i, layer) in self.layers.iter().enumerate() {
            let kept = cache.as_deref_mut().map(|c| c.layer(i));
            x = layer.forward(&x, &rotation, kept, None)?;
        }
        self.norm.forward(&x)
    }

    /// As [`FloatLlama::forward`] with texts that share what is before them: `embeddings
    /// [1,N,width]` are the tokens of all `parts`, one after the other, each of which sees what it
    /// names of the places before it (those in `cache` first, then these) and itself. A part's
    /// tokens have the states that they would have behind just what they see.
    ///
    /// # Errors
    /// Parts that don't cover the tokens in order, or see what comes after them.
    pub fn forward_packed(
        &self,
        embeddings: &Tensor,
        parts: &[PackedPart],
        cache: Option<&mut FloatKvCache>,
    ) -> Result<Tensor> {
        let mut cache = cache;
        let before = cache.as_ref().map_or(0, |c| c.len());
        let positions = packed::positions(parts, before, embeddings.dim(1)?)?;
        let rotation = Rotation::at(&self.config, &positions, embeddings.device())?;
        let segments = packed::segments(parts, before);
        let mut x = embeddings.clone();
        for (i, layer) in self.layers.iter().enumerate() {
            let kept = cache.as_deref_mut().map(|c| c.layer(i));
            x = layer.forward(&x, &rotation, kept, Some(&segments))?;
        }
        self.norm.forward(&x)
    }

    /// The embeddings themselves, then what each layer passes on, the last one normed: what
    /// transformers calls `hidden_states`.
    ///
    /// # Errors
    /// When shapes don't fit.
    pub fn states(&self, embeddings: &Tensor) -> Result<Vec<Tensor>> {
        let mut x = embeddings.clone();
        let rotation = Rotation::new(&self.config, 0, x.dim(1)?, x.device())?;
        let mut states = Vec::with_capacity(self.layers.len() + 1);
        for layer in &self.layers {
            states.push(x.clone());
            x = layer.forward(&x, &rotation, None, None)?;
        }
        states.push(self.norm.forward(&x)?);
        Ok(states)
    }

    /// The likeliest tokens after one hidden state `[1,1,width]`, where a GPU through wgpu sorts them
    /// out: `never` come last, and a penalty is for others, each once, as for
    /// [`GpuTensor::penalise`](crate::nn::gpu::GpuTensor::penalise).
    ///
    /// # Errors
    /// When shapes don't fit, or the GPU fails.
    pub fn candidates(
        &self,
        hidden: &Tensor,
        never: &[u32],
        penalised: (&[u32], f32),
    ) -> Result<Option<LikeliestTokens>> {
        let gpu = self.gpu.as_ref();
        gpu.map(|gpu| gpu.candidates(hidden, never, penalised))
            .transpose()
    }

    /// Logits `[..,rows]` of hidden states `[..,width]`.
    ///
    /// # Errors
    /// When shapes don't fit.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        if let Some(gpu) = &self.gpu {
            return gpu.logits(hidden);
        }
        let logits = match &self.quick_head {
            Some(head) => head.forward(hidden)?,
            None => self.head.forward(hidden)?,
        };
        match &self.added {
            None => Ok(logits),
            Some(added) => Tensor::cat(&[logits, added.head.forward(hidden)?], D::Minus1),
        }
    }

    /// Mean cross-entropy of the tokens `wanted` after hidden states `[n,width]`, in one pass
    /// where the output layer is frozen; `None` where it is not.
    ///
    /// # Errors
    /// When shapes don't fit.
    pub fn frozen_cross_entropy(&self, hidden: &Tensor, wanted: &[u32]) -> Result<Option<Tensor>> {
        let (Some(LinearWeight::Frozen(head)), Some(added)) = (&self.quick_head, &self.added)
        else {
            return Ok(None);
        };
        let more = added.head.forward(hidden)?;
        frozen_cross_entropy(head, hidden, &more, wanted.to_vec()).map(Some)
    }

    /// An empty cache.
    pub fn cache(&self) -> FloatKvCache {
        FloatKvCache::new(self.config.num_hidden_layers)
    }
}

impl EmbeddingTables {
    /// Both tables from the names they have below `embedding` and `head`.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub fn read(embedding: &Params, head: &Params, rows: usize, width: usize) -> Result<Self> {
        Ok(Self {
            embedding: embedding.embedding(rows, width)?,
            head: head.linear_init(width, rows, false, Init::Normal(0.02))?,
        })
    }
}

/// `table [rows,width]` with `more` rows, each the mean of the rows there were: how the
/// reference begins the rows of new tokens.
///
/// # Errors
/// When the table has not two axes.
pub fn resize_rows(table: &Tensor, more: usize) -> Result<Tensor> {
    let mean = table.mean_keepdim(0)?;
    let new = embedding(
        &mean,
        &Tensor::zeros(more, candle_core::DType::U32, table.device())?,
    )?;
    Tensor::cat(&[table, &new], 0)
}

#[cfg(test)]
mod tests;
