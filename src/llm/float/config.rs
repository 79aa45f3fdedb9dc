//! A LLaMA's `config.json` as Hugging Face writes it.

use crate::cause::Cause;
use crate::llm::hyperparameters::RopeScaling;
use crate::llm::{Hyperparameters, LlmError};
use crate::nn::Result;
use crate::weights::GgufHeader;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// One id, or the first of a list, as newer files have it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum TokenIds {
    One(i64),
    Many(Vec<i64>),
}

/// transformers' `LlamaConfig`: the settings we read, under its names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FloatConfig {
    /// Width of embeddings and hidden states.
    pub hidden_size: usize,
    /// Width inside the feed-forward part.
    pub intermediate_size: usize,
    /// Transformer layers.
    pub num_hidden_layers: usize,
    /// Attention heads (of queries).
    pub num_attention_heads: usize,
    /// Heads of keys and values, each shared by several queries; none: as many as queries.
    pub num_key_value_heads: Option<usize>,
    /// Width of a head; none is `hidden_size / num_attention_heads`.
    pub head_dim: Option<usize>,
    /// Rows of the embedding table.
    pub vocab_size: usize,
    /// Longest text that it was trained on, in tokens.
    pub max_position_embeddings: usize,
    /// Epsilon of RMS norm.
    pub rms_norm_eps: f64,
    /// Base of rotary position embedding.
    pub rope_theta: f64,
    pub(crate) rope_scaling: Option<serde_json::Value>,
    /// How newer files say both base and scaling.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rope_parameters: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) attention_bias: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) mlp_bias: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sliding_window: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) partial_rotary_factor: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) quantization_config: Option<serde_json::Value>,
    /// Activation of the feed-forward part, such as `silu`.
    pub hidden_act: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) model_type: Option<String>,
    /// Whether the output layer is the embedding table.
    pub tie_word_embeddings: bool,
    pub(crate) bos_token_id: Option<TokenIds>,
    pub(crate) eos_token_id: Option<TokenIds>,
}

#[cfg(test)]
impl FloatConfig {
    /// For tests: grouped-query attention, sizes that differ from each other.
    pub(crate) fn tiny() -> Self {
        Self {
            hidden_size: 24,
            intermediate_size: 40,
            num_hidden_layers: 2,
            num_attention_heads: 6,
            num_key_value_heads: Some(2),
            vocab_size: 30,
            ..Self::default()
        }
    }
}

impl Default for FloatConfig {
    /// transformers' defaults, which a file may leave out.
    fn default() -> Self {
        Self {
            hidden_size: 4096,
            intermediate_size: 11008,
            num_hidden_layers: 32,
            num_attention_heads: 32,
            num_key_value_heads: None,
            head_dim: None,
            vocab_size: 32000,
            max_position_embeddings: 2048,
            rms_norm_eps: 1e-6,
            rope_theta: 10000.0,
            rope_scaling: None,
            rope_parameters: None,
            attention_bias: false,
            mlp_bias: false,
            sliding_window: None,
            partial_rotary_factor: None,
            quantization_config: None,
            hidden_act: "silu".into(),
            model_type: None,
            tie_word_embeddings: false,
            bos_token_id: Some(TokenIds::One(1)),
            eos_token_id: Some(TokenIds::One(2)),
        }
    }
}

/// Kinds of models that compute what a LLaMA does, given the settings below.
const LIKE_LLAMA: [&str; 2] = ["llama", "mistral"];

fn is_default(yes: &bool) -> bool {
    !yes
}

/// Whether a setting of rotations leaves them as they are.
fn is_plain_rope(setting: Option<&serde_json::Value>) -> bool {
    let Some(setting) = setting.filter(|setting| !setting.is_null()) else {
        return true;
    };
    let kind = setting.get("rope_type").or(setting.get("type"));
    kind.is_none_or(|kind| kind == "default")
        && setting.as_object().is_some_and(|all| {
            let known = [
                "rope_type",
                "type",
                "rope_theta",
                "factor",
                "partial_rotary_factor",
            ];
            all.keys().all(|key| known.contains(&key.as_str()))
                && all
                    .get("factor")
                    .is_none_or(|factor| factor == 1.0 || factor.is_null())
                && all
                    .get("partial_rotary_factor")
                    .is_none_or(|part| part == 1.0)
        })
}

fn first(ids: Option<&TokenIds>) -> Option<u32> {
    let id = match ids? {
        TokenIds::One(id) => *id,
        TokenIds::Many(ids) => *ids.first()?,
    };
    u32::try_from(id).ok()
}

/// The ids in `generation_config.json`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Generation {
    #[serde(rename = "_from_model_config")]
    from_model: bool,
    bos_token_id: Option<TokenIds>,
    eos_token_id: Option<TokenIds>,
}

impl FloatConfig {
    /// Reads `config.json` in `dir`, and the ids of `generation_config.json` where that was not
    /// made from it: in transformers 4.31 the one that was not derived wins.
    ///
    /// # Errors
    /// When a file is missing or damaged, or the model is not supported.
    pub fn read(dir: &Path) -> std::result::Result<Self, LlmError> {
        let bytes = |name: &str| {
            let path = dir.join(name);
            crate::files::read_whole(&path).map_err(|error| LlmError::Unreadable {
                path,
                reason: error.into(),
            })
        };
        let unusable = |name: &str, reason: Cause| LlmError::Unusable {
            path: dir.join(name),
            reason,
        };
        let mut config: Self = serde_json::from_slice(&bytes("config.json")?)
            .map_err(|e| unusable("config.json", e.into()))?;
        let name = "generation_config.json";
        if dir.join(name).exists() {
            let own: Generation =
                serde_json::from_slice(&bytes(name)?).map_err(|e| unusable(name, e.into()))?;
            if !own.from_model {
                config.bos_token_id = own.bos_token_id.or(config.bos_token_id);
                config.eos_token_id = own.eos_token_id.or(config.eos_token_id);
            }
        }
        let theta = config.rope_parameters.as_ref();
        let theta = theta.and_then(|rope| rope.get("rope_theta")?.as_f64());
        config.rope_theta = theta.unwrap_or(config.rope_theta);
        config
            .check()
            .map_err(|e| unusable("config.json", e.into()))?;
        Ok(config)
    }

    /// The settings of a LLaMA in a GGUF file.
    ///
    /// # Errors
    /// What is wrong, or not read of a model that also reads pictures, by name.
    pub fn from_gguf(header: &GgufHeader) -> std::result::Result<Self, String> {
        let hyper = Hyperparameters::from_gguf(header)?;
        let architecture = hyper.family.architecture;
        if architecture != "llama" {
            return Err(format!("its architecture is {architecture}, not llama"));
        }
        let first = hyper.layers[0];
        let bias = header.tensors.keys().find(|name| name.ends_with(".bias"));
        let unread = [
            (
                header.tensors.contains_key("rope_freqs.weight"),
                "rope_freqs.weight",
            ),
            (
                hyper.rope_scaling != RopeScaling::None,
                "llama.rope.scaling",
            ),
            (first.window.is_some(), "llama.attention.sliding_window"),
            (
                hyper.rotated != hyper.head_width,
                "llama.rope.dimension_count",
            ),
            (bias.is_some(), bias.map_or("", String::as_str)),
            (
                hyper.layers.iter().any(|layer| *layer != first),
                "a list of sizes, one for each layer",
            ),
        ];
        if let Some((_, name)) = unread.iter().find(|(there, _)| *there) {
            return Err(format!(
                "it has {name}, which is not read where pictures are read as well"
            ));
        }
        Ok(Self {
            hidden_size: hyper.width,
            intermediate_size: first.inner,
            num_hidden_layers: hyper.layers.len(),
            num_attention_heads: first.heads,
            num_key_value_heads: Some(first.kv_heads),
            head_dim: Some(hyper.head_width),
            vocab_size: hyper.vocabulary,
            max_position_embeddings: hyper.trained,
            rms_norm_eps: f64::from(hyper.norm_epsilon),
            rope_theta: hyper.rope_base,
            ..Self::default()
        })
    }

    /// Heads of keys and values.
    pub fn kv_heads(&self) -> usize {
        self.num_key_value_heads.unwrap_or(self.num_attention_heads)
    }

    /// Width of a head.
    pub fn head_width(&self) -> usize {
        self.head_dim
            .unwrap_or(self.hidden_size / self.num_attention_heads.max(1))
    }

    /// The id that a generated sequence begins with. It need not be the tokenizer's.
    pub fn bos(&self) -> Option<u32> {
        first(self.bos_token_id.as_ref())
    }

    /// The id that ends a generated sequence.
    pub fn eos(&self) -> Option<u32> {
        first(self.eos_token_id.as_ref())
    }

    /// The same with other ids at the ends of a sequence.
    pub(super) fn with_ends(self, bos: Option<usize>, eos: Option<usize>) -> Self {
        let id = |id: Option<usize>| id.and_then(|id| i64::try_from(id).ok()).map(TokenIds::One);
        Self {
            bos_token_id: id(bos),
            eos_token_id: id(eos),
            ..self
        }
    }

    /// # Errors
    /// One sentence naming the first setting that doesn't fit or isn't supported.
    pub fn check(&self) -> Result<()> {
        let (heads, kv) = (self.num_attention_heads, self.kv_heads());
        let fits = [
            (self.hidden_size > 0, "hidden_size"),
            (self.num_hidden_layers > 0, "num_hidden_layers"),
            (heads > 0, "num_attention_heads"),
            (
                kv > 0 && heads.is_multiple_of(kv.max(1)),
                "num_key_value_heads",
            ),
            (
                self.head_width() > 0 && self.head_width().is_multiple_of(2),
                "head_dim",
            ),
            (
                self.rope_theta.is_finite() && self.rope_theta > 0.0,
                "rope_theta",
            ),
            (is_plain_rope(self.rope_scaling.as_ref()), "rope_scaling"),
            (
                is_plain_rope(self.rope_parameters.as_ref()),
                "rope_parameters",
            ),
            (!self.attention_bias, "attention_bias"),
            (!self.mlp_bias, "mlp_bias"),
            (
                self.sliding_window.as_ref().is_none_or(|window| {
                    let window = window.as_u64().unwrap_or(0) as usize;
                    window >= self.max_position_embeddings
                }),
                "sliding_window",
            ),
            (
                self.partial_rotary_factor.is_none_or(|part| part == 1.0),
                "partial_rotary_factor",
            ),
            (self.quantization_config.is_none(), "quantization_config"),
            (self.hidden_act == "silu", "hidden_act"),
            (
                self.model_type
                    .as_deref()
                    .is_none_or(|kind| LIKE_LLAMA.contains(&kind)),
                "model_type",
            ),
        ];
        match fits.iter().find(|(ok, _)| !ok) {
            Some((_, name)) => candle_core::bail!(
                "the language model's {name} has a value that isn't supported; use a LLaMA model"
            ),
            None => Ok(()),
        }
    }
}
