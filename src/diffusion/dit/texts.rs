//! What the transformers' text encoders make of prompts: CLIP and T5 for FLUX.1, Qwen3 for Z-Image.

use super::names;
use super::source::{StorageType, Weights, WeightsFile, asked_of_candle};
use crate::diffusion::clip::{ClipTokenizer, PadToken, byte_characters};
use crate::diffusion::error::read_json;
use crate::diffusion::stable::LoadablePart;
use crate::diffusion::{DiffusionError, TextConfig, TextEncoder};
use candle_core::{DType, Device, Tensor};
use candle_transformers::models::t5;
use candle_transformers::models::z_image::{TextEncoderConfig, ZImageTextEncoder};
use flate2::read::GzDecoder;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use tokenizers::Tokenizer;

/// The tokenizers of the published models, for files that come without.
const T5_TOKENIZER: &[u8] = include_bytes!("../../../assets/t5/tokenizer.json.gz");
const QWEN_MERGES: &[u8] = include_bytes!("../../../assets/qwen/merges.txt.gz");

/// Prompt embeddings of a diffusion transformer.
#[derive(Clone, Debug)]
pub struct DitPromptEmbeds {
    /// States of the text, `[1,T,C]`.
    pub states: Tensor,
    /// CLIP's pooled state `[1,P]`, of FLUX.1.
    pub pooled: Option<Tensor>,
}

/// The two text encoders of FLUX.1.
#[derive(Clone)]
pub(super) struct FluxTexts {
    pub clip: LoadablePart<TextConfig>,
    pub clip_tokenizer: Option<PathBuf>,
    pub t5: Weights,
    pub t5_config: t5::Config,
    pub t5_tokenizer: Option<PathBuf>,
    /// Tokens that T5 reads of every prompt, padding among them.
    pub length: usize,
}

/// The text encoder of Z-Image.
#[derive(Clone)]
pub(super) struct ZImageTexts {
    pub qwen: Weights,
    pub config: TextEncoderConfig,
    pub tokenizer: Option<PathBuf>,
    /// Most tokens that are read.
    pub length: usize,
}

/// The text encoders of a model, not yet loaded.
#[derive(Clone)]
pub(super) enum Texts {
    Flux(Box<FluxTexts>),
    ZImage(Box<ZImageTexts>),
}

impl Texts {
    /// Bytes that the largest of them takes in memory: they are loaded one after the other.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Texts::Flux(texts) => texts.t5.bytes().max(texts.clip.bytes(None)),
            Texts::ZImage(texts) => texts.qwen.bytes(),
        }
    }

    /// The ids that each text encoder gets for a prompt.
    ///
    /// # Errors
    /// A tokenizer that is missing or damaged.
    pub(super) fn ids(&self, text: &str) -> Result<Vec<Vec<u32>>, DiffusionError> {
        match self {
            Texts::Flux(texts) => {
                let clip = match &texts.clip_tokenizer {
                    Some(dir) => ClipTokenizer::load(dir)?,
                    None => ClipTokenizer::published(PadToken::End)?,
                };
                let t5 = tokenizer(texts.t5_tokenizer.as_deref(), published_t5)?;
                Ok(vec![clip.encode(text), t5_ids(&t5, text, texts.length)?])
            }
            Texts::ZImage(texts) => {
                let qwen = tokenizer(texts.tokenizer.as_deref(), published_qwen)?;
                // The chat template of Qwen3, which is let think.
                let asked = format!("<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n");
                let mut ids = encoded(&qwen, &asked)?;
                ids.truncate(texts.length);
                Ok(vec![ids])
            }
        }
    }

    /// Loads the encoders one after the other, reads all `prompts` and lets them go.
    ///
    /// # Errors
    /// A file that is missing or damaged, or states that are no numbers.
    pub(super) fn encode_prompts(
        &self,
        prompts: &[&str],
        device: &Device,
    ) -> Result<Vec<DitPromptEmbeds>, DiffusionError> {
        let ids = prompts.iter().map(|text| self.ids(text));
        let ids = ids.collect::<Result<Vec<_>, _>>()?;
        let row = |ids: &[u32]| Tensor::new(ids, device)?.unsqueeze(0);
        match self {
            Texts::Flux(texts) => {
                let pooled = {
                    let config = texts.clip.config.clone();
                    let clip = texts
                        .clip
                        .load(None, device, |p| TextEncoder::new(config, p))?;
                    let pooled = |ids: &Vec<Vec<u32>>| Ok(clip.forward(&row(&ids[0])?)?.pooled);
                    let pooled = ids.iter().map(pooled);
                    pooled.collect::<Result<Vec<_>, DiffusionError>>()?
                };
                let mut t5 = texts
                    .t5
                    .load(device, |vb| t5::T5EncoderModel::load(vb, &texts.t5_config))?;
                let both = ids.iter().zip(pooled);
                both.map(|(ids, pooled)| {
                    Ok(DitPromptEmbeds {
                        states: t5.forward(&row(&ids[1])?)?.to_dtype(DType::F32)?,
                        pooled: Some(pooled),
                    })
                })
                .collect()
            }
            Texts::ZImage(texts) => {
                let config = &texts.config;
                let qwen = texts
                    .qwen
                    .load(device, |vb| ZImageTextEncoder::new(config, vb))?;
                let encode = |ids: &Vec<Vec<u32>>| {
                    Ok(DitPromptEmbeds {
                        states: qwen.forward(&row(&ids[0])?)?.to_dtype(DType::F32)?,
                        pooled: None,
                    })
                };
                ids.iter().map(encode).collect()
            }
        }
    }
}

/// T5's encoder in `file`, with the configuration that the published models have where none is
/// said.
///
/// # Errors
/// A setting that isn't read, or a tensor that is missing or has another shape.
pub(super) fn find_t5(
    file: &WeightsFile,
    config: Option<&Path>,
) -> Result<(Weights, t5::Config), DiffusionError> {
    let config = match config {
        Some(path) => {
            let mut json: Map<String, Value> = read_json(path)?;
            let gated = json.get("feed_forward_proj").and_then(Value::as_str);
            if !matches!(gated, Some("gated-gelu" | "gated-silu" | "relu")) {
                let why = format!("feed_forward_proj is {gated:?}, which isn't supported");
                return Err(DiffusionError::config(path, why));
            }
            json.entry("is_encoder_decoder").or_insert(false.into());
            json.insert("use_cache".into(), false.into());
            json.insert("is_decoder".into(), false.into());
            serde_json::from_value(json.into()).map_err(|e| DiffusionError::config(path, e))?
        }
        None => t5::Config {
            d_model: 4096,
            d_kv: 64,
            d_ff: 10_240,
            num_layers: 24,
            num_heads: 64,
            use_cache: false,
            feed_forward_proj: t5::ActivationWithOptionalGating {
                gated: true,
                activation: candle_nn::Activation::NewGelu,
            },
            ..t5::Config::default()
        },
    };
    let asked = asked_of_candle(file.path(), |vb| t5::T5EncoderModel::load(vb, &config))?;
    let weights = Weights::find(file, "T5", StorageType::Widened, asked, names::t5)?;
    Ok((weights, config))
}

/// Qwen3 as a text encoder in `file`, with the configuration of Qwen3 4B where none is said.
///
/// # Errors
/// As for [`find_t5`].
pub(super) fn find_qwen(
    file: &WeightsFile,
    config: Option<&Path>,
) -> Result<(Weights, TextEncoderConfig), DiffusionError> {
    let config = match config {
        Some(path) => {
            let mut json: Map<String, Value> = read_json(path)?;
            let rope = json.get("rope_parameters").or(json.get("rope_scaling"));
            let rope = rope.and_then(Value::as_object).cloned().unwrap_or_default();
            let kind = rope.get("rope_type").or(rope.get("type"));
            let scaled = kind.is_some_and(|kind| kind != "default");
            let window = json.get("use_sliding_window") == Some(&true.into());
            if scaled || window {
                let what = if scaled {
                    "rope_parameters"
                } else {
                    "use_sliding_window"
                };
                let why = format!("the text encoder's {what} isn't supported");
                return Err(DiffusionError::config(path, why));
            }
            if let Some(theta) = rope.get("rope_theta") {
                json.entry("rope_theta").or_insert(theta.clone());
            }
            serde_json::from_value(json.into()).map_err(|e| DiffusionError::config(path, e))?
        }
        None => TextEncoderConfig::z_image(),
    };
    if config.num_hidden_layers < 2 || config.num_key_value_heads == 0 {
        let why = "a text encoder of fewer than two layers has no states before its last";
        return Err(DiffusionError::config(file.path(), why));
    }
    // Tables of positions are as long as this, and no prompt is.
    let config = TextEncoderConfig {
        max_position_embeddings: config.max_position_embeddings.min(1024),
        ..config
    };
    let asked = asked_of_candle(file.path(), |vb| ZImageTextEncoder::new(&config, vb))?;
    let weights = Weights::find(file, "Qwen3", StorageType::Computed, asked, names::qwen3)?;
    Ok((weights, config))
}

fn tokenizer(
    dir: Option<&Path>,
    published: fn() -> Result<Tokenizer, DiffusionError>,
) -> Result<Tokenizer, DiffusionError> {
    let Some(dir) = dir else {
        return published();
    };
    let path = dir.join("tokenizer.json");
    let bytes =
        crate::files::read_whole(&path).map_err(|e| DiffusionError::unreadable(&path, e))?;
    let mut tokenizer =
        Tokenizer::from_bytes(bytes).map_err(|e| DiffusionError::config(&path, e))?;
    // Lengths are ours to decide.
    tokenizer.with_padding(None);
    let cut = tokenizer.with_truncation(None);
    cut.map_err(|e| DiffusionError::config(&path, e))?;
    Ok(tokenizer)
}

fn built_in(error: impl std::fmt::Display) -> DiffusionError {
    DiffusionError::Tensor(format!("a tokenizer that is built in is damaged: {error}").into())
}

fn unpacked(packed: &[u8]) -> Result<Vec<u8>, DiffusionError> {
    let mut bytes = Vec::new();
    let read = GzDecoder::new(packed).read_to_end(&mut bytes);
    read.map_err(built_in)?;
    Ok(bytes)
}

fn published_t5() -> Result<Tokenizer, DiffusionError> {
    let mut tokenizer = Tokenizer::from_bytes(unpacked(T5_TOKENIZER)?).map_err(built_in)?;
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None).map_err(built_in)?;
    Ok(tokenizer)
}

/// Qwen's vocabulary is its bytes, then its merges in their order, then the special tokens.
fn published_qwen() -> Result<Tokenizer, DiffusionError> {
    const WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    let merges = String::from_utf8(unpacked(QWEN_MERGES)?).map_err(built_in)?;
    let merges: Vec<&str> = merges.lines().collect();
    let bytes = byte_characters().into_iter();
    let joined = merges.iter().map(|merge| merge.replace(' ', ""));
    let vocabulary: HashMap<String, u32> = bytes.chain(joined).zip(0..).collect();
    let first = vocabulary.len();
    let special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
        .iter()
        .enumerate();
    let special = special.map(|(i, text)| {
        json!({"id": first + i, "content": text, "special": true, "normalized": false,
            "single_word": false, "lstrip": false, "rstrip": false})
    });
    let json = json!({
        "version": "1.0",
        "added_tokens": special.collect::<Vec<_>>(),
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": WORDS}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false},
        ]},
        "model": {"type": "BPE", "dropout": null, "unk_token": null,
            "continuing_subword_prefix": "", "end_of_word_suffix": "", "fuse_unk": false,
            "byte_fallback": false, "vocab": vocabulary, "merges": merges},
    });
    Tokenizer::from_bytes(json.to_string()).map_err(built_in)
}

fn encoded(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>, DiffusionError> {
    let encoded = tokenizer.encode(text, false);
    let encoded = encoded.map_err(|e| {
        DiffusionError::Settings(
            format!("the prompt can't be read ({e}); leave out what is unusual in it").into(),
        )
    })?;
    Ok(encoded.get_ids().to_vec())
}

/// A prompt's ids with T5's end, cut or filled up to `length`.
fn t5_ids(tokenizer: &Tokenizer, text: &str, length: usize) -> Result<Vec<u32>, DiffusionError> {
    let id = |token: &str, usual: u32| tokenizer.token_to_id(token).unwrap_or(usual);
    let mut ids = encoded(tokenizer, text)?;
    ids.truncate(length.saturating_sub(1));
    ids.push(id("</s>", 1));
    ids.resize(length, id("<pad>", 0));
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "A fox's Größe: 1,234 — naïve \"lighthouse\" ｆｕｌｌ 猫 😀!";
    const T5_IDS: [u32; 30] = [
        71, 3, 20400, 31, 7, 12622, 10, 1914, 357, 3710, 3, 318, 3, 29, 9, 2, 162, 96, 2242, 1840,
        121, 423, 3, 2, 3, 2, 55, 1, 0, 0,
    ];
    const QWEN_TEXT: &str = "<|im_start|>user\nA fox's Größe: 1,234 — naïve\t\"lighthouse\"\n\n  猫 😀!<|im_end|>\n<|im_start|>assistant\n";
    const QWEN_IDS: [u32; 33] = [
        151644, 872, 198, 32, 38835, 594, 137208, 25, 220, 16, 11, 17, 18, 19, 1959, 94880, 586,
        197, 1, 75, 57909, 1837, 220, 10236, 234, 104, 90316, 0, 151645, 198, 151644, 77091, 198,
    ];

    #[test]
    fn built_in_tokenizers_have_the_published_ids() {
        // As transformers has them for google/t5-v1_1-xxl and Qwen/Qwen3-4B.
        let t5 = published_t5().unwrap();
        let ids = t5_ids(&t5, TEXT, 30).unwrap();
        assert_eq!(ids, T5_IDS);
        let qwen = published_qwen().unwrap();
        assert_eq!(encoded(&qwen, QWEN_TEXT).unwrap(), QWEN_IDS);
    }
}
