//! What a GGUF file says about its network, read in one place, and refused by name where a part of
//! it is not read: passing it over would change every word that is written.

mod keys;
mod parts;
mod tensors;
#[cfg(test)]
mod tests;

use super::families::ModelFamily;
use crate::weights::{GgufHeader, GgufValue};
use keys::{Keys, refuse_keys};
use parts::{experts, rope_scaling, windows};

/// How frequencies of rotations are changed for texts longer than those first trained on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    None,
    /// Positions are divided by it.
    Linear(f64),
    Yarn {
        factor: f64,
        original: usize,
        fast: f64,
        slow: f64,
    },
}

/// Experts of a mixture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Experts {
    pub count: usize,
    /// Those that a token passes through.
    pub used: usize,
    /// Width inside each.
    pub inner: usize,
}

/// The sizes of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerSizes {
    pub heads: usize,
    /// Heads of keys and values, each shared by `heads / kv_heads` queries.
    pub kv_heads: usize,
    /// Width inside the feed-forward part, where there are no experts.
    pub inner: usize,
    /// The tokens that each sees, itself among them; `None`: all before it.
    pub window: Option<usize>,
    /// Whether positions turn queries and keys.
    pub turns: bool,
}

/// Sizes and constants of a network.
#[derive(Clone, Debug, PartialEq)]
pub struct Hyperparameters {
    /// What all networks of its architecture have in common.
    pub family: &'static ModelFamily,
    /// Sizes of each layer, from the first.
    pub layers: Vec<LayerSizes>,
    /// Width of embeddings and hidden states.
    pub width: usize,
    /// Width of a head of queries and keys.
    pub head_width: usize,
    /// Rows of the embedding table.
    pub vocabulary: usize,
    /// The longest text that it was trained on, in tokens.
    pub trained: usize,
    /// Epsilon of the norms.
    pub norm_epsilon: f32,
    /// Base of rotary position embedding.
    pub rope_base: f64,
    /// That of layers with a window.
    pub local_rope_base: f64,
    /// The part of a head that positions turn.
    pub rotated: usize,
    /// How rotary positions are stretched for long texts.
    pub rope_scaling: RopeScaling,
    /// What cosines and sines are multiplied with.
    pub rope_magnitude: f32,
    /// From this length on the factors for long texts are taken, where there are such.
    pub short_context: Option<usize>,
    /// What products of queries and keys are multiplied with.
    pub attention_scale: f32,
    /// Soft cap of attention scores (Gemma 2).
    pub score_cap: Option<f32>,
    /// Soft cap of the logits (Gemma 2).
    pub logit_cap: Option<f32>,
    /// What embeddings are multiplied with (Gemma).
    pub embedding_scale: Option<f32>,
    /// Mixture of experts; none where the feed-forward part is dense.
    pub experts: Option<Experts>,
}

impl Hyperparameters {
    /// Hyperparameters from the header of a GGUF file.
    ///
    /// # Errors
    /// What is missing or not read here, by name: an architecture, a key, a tensor or its type.
    pub fn from_gguf(header: &GgufHeader) -> Result<Hyperparameters, String> {
        let architecture = header.string("general.architecture");
        let architecture = architecture.ok_or("it does not say general.architecture")?;
        let family = ModelFamily::find(architecture).ok_or_else(|| {
            format!(
                "its architecture is {architecture}, which this program does not read (it reads {})",
                ModelFamily::names()
            )
        })?;
        let keys = Keys {
            header,
            architecture,
        };
        refuse_keys(&keys)?;
        let count = keys.needed("block_count", 1 << 10)?;
        let width = keys.needed("embedding_length", 1 << 16)?;
        let heads = keys.each("attention.head_count", count, 1 << 10)?;
        let heads =
            heads.ok_or_else(|| format!("it does not say {architecture}.attention.head_count"))?;
        let kv_heads = keys.each("attention.head_count_kv", count, 1 << 10)?;
        let kv_heads = kv_heads.unwrap_or_else(|| heads.clone());
        let head_width = match keys.count("attention.key_length", 1 << 12)? {
            Some(width) => width,
            None => width / heads[0],
        };
        let values = keys.count("attention.value_length", 1 << 12)?;
        if values.is_some_and(|values| values != head_width) {
            let name = format!("{architecture}.attention.value_length");
            return Err(format!(
                "its {name} differs from its keys' length, which is not read here"
            ));
        }
        let rotated = keys.count("rope.dimension_count", head_width)?;
        let rotated = rotated.unwrap_or(head_width);
        let grouped = heads
            .iter()
            .zip(&kv_heads)
            .all(|(h, kv)| h.is_multiple_of(*kv));
        if !grouped || !rotated.is_multiple_of(2) || !head_width.is_multiple_of(2) {
            return Err("its attention heads are of an unknown kind".to_string());
        }
        let experts = experts(&keys, family)?;
        let inner = keys.each("feed_forward_length", count, 1 << 20)?;
        let inner = match (inner, experts) {
            (Some(inner), _) => inner,
            (None, Some(experts)) => vec![experts.inner; count],
            (None, None) => {
                return Err(format!(
                    "it does not say {architecture}.feed_forward_length"
                ));
            }
        };
        let trained = keys.needed("context_length", 1 << 30)?;
        let windows = windows(&keys, family, count, trained)?;
        let layers = (0..count)
            .map(|i| LayerSizes {
                heads: heads[i],
                kv_heads: kv_heads[i],
                inner: inner[i],
                window: windows[i],
                turns: family.still_every.is_none_or(|n| (i + 1) % n != 0),
            })
            .collect();
        let epsilon = keys.positive("attention.layer_norm_rms_epsilon")?;
        let epsilon = epsilon.ok_or_else(|| {
            format!("it does not say {architecture}.attention.layer_norm_rms_epsilon")
        })?;
        let rope_base = keys.positive("rope.freq_base")?.unwrap_or(10_000.0);
        let local = keys.positive("rope.freq_base_swa")?;
        let (rope_scaling, magnitude) = rope_scaling(&keys, family)?;
        let scaled_by = match family.layers_scaled_by_width == Some(count) {
            true => width / heads[0],
            false => head_width,
        };
        let attention_scale = 1.0 / (scaled_by as f32).sqrt();
        let said = keys
            .number("attention.scale")?
            .filter(|scale| *scale != 0.0);
        if said.is_some_and(|scale| (scale as f32 / attention_scale - 1.0).abs() > 1e-4) {
            return Err(format!(
                "its {architecture}.attention.scale is not read here"
            ));
        }
        let cap = |key: &str| -> Result<Option<f32>, String> {
            match keys.number(key)?.filter(|cap| *cap != 0.0) {
                Some(_) if !family.caps => Err(format!(
                    "its {architecture}.{key} is not read with this architecture"
                )),
                cap => Ok(cap.map(|cap| cap as f32)),
            }
        };
        let long = family.long_factors && header.tensors.contains_key("rope_factors_long.weight");
        let short_context = match long {
            true => Some(keys.needed("rope.scaling.original_context_length", 1 << 30)?),
            false => None,
        };
        if header.tensors.is_empty() {
            return Err("it holds no weights, only a vocabulary".to_string());
        }
        let table = header.tensors.get("token_embd.weight");
        let tokens = match header.metadata.get("tokenizer.ggml.tokens") {
            Some(GgufValue::Strings(tokens)) => tokens.len(),
            _ => 0,
        };
        // Where the table is elsewhere, there is a row for each token.
        let vocabulary = table.and_then(|table| table.shape.first());
        let vocabulary = vocabulary.copied().unwrap_or(tokens);
        let read = Hyperparameters {
            family,
            layers,
            width,
            head_width,
            vocabulary,
            trained,
            norm_epsilon: epsilon as f32,
            rope_base,
            local_rope_base: local.or(family.local_rope_base).unwrap_or(rope_base),
            rotated,
            rope_scaling,
            rope_magnitude: magnitude,
            short_context,
            attention_scale,
            score_cap: cap("attn_logit_softcapping")?,
            logit_cap: cap("final_logit_softcapping")?,
            embedding_scale: family.scales_embeddings.then(|| (width as f32).sqrt()),
            experts,
        };
        read.refuse_tensors(header)?;
        Ok(read)
    }

    /// The tokens between which a picture stands, where the family reads pictures and the file's
    /// vocabulary has them.
    pub fn image_tokens(&self, header: &GgufHeader) -> Option<(&'static str, &'static str)> {
        let Some(GgufValue::Strings(tokens)) = header.metadata.get("tokenizer.ggml.tokens") else {
            return None;
        };
        let knows = |mark: &str| tokens.iter().any(|token| token == mark);
        let marks = self.family.picture_marks;
        marks.filter(|(begin, end)| knows(begin) && knows(end))
    }

    /// The most tokens that a layer's cache holds of a text of `context`.
    pub fn cached_tokens(&self, layer: usize, context: usize) -> usize {
        match self.layers[layer].window {
            Some(window) => context.min(window + super::cache::BEHIND_WINDOW),
            None => context,
        }
    }
}
