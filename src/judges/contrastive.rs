//! A small contrastive model of pictures and texts (CLIP, arXiv 2103.00020), trained on the
//! storyworld alone: how well a picture fits a text, and which of many pictures fits best.

use std::path::Path;

use candle_core::{D, Device, Tensor};
use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::recogniser::{Trunk, inputs};
use super::{JudgeError, write_file};
use crate::cause::Cause;
use crate::diffusion::{CaptionTokenizer, TextActivation, TextConfig, TextEncoder};
use crate::nn::{Init, Linear, Params, Result as TensorResult};
use crate::storyworld::vocabulary;

/// CLIP's first temperature, 0.07, as the logarithm of its inverse over this factor: the
/// parameter begins at zero and learns in steps that matter.
const SCALE: f64 = 10.0;
const FIRST_SCALE: f64 = 2.659_26;
/// CLIP never scales by more than 100.
const MOST_SCALE: f64 = 4.605_17;

/// The contrastive model's `config.json`, beside its weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContrastiveConfig {
    /// Channels of the four halving convolutions.
    pub channels: [usize; 4],
    /// Groups of group norm.
    pub norm_groups: usize,
    /// Width of what both become.
    pub width: usize,
    /// Of the text encoder.
    pub hidden: usize,
    /// Transformer layers of the text encoder.
    pub layers: usize,
    /// Attention heads of the text encoder.
    pub heads: usize,
    /// Tokens that are read of a text.
    pub tokens: usize,
}

impl Default for ContrastiveConfig {
    fn default() -> Self {
        Self {
            channels: [16, 32, 64, 128],
            norm_groups: 8,
            width: 64,
            hidden: 96,
            layers: 2,
            heads: 4,
            tokens: 48,
        }
    }
}

/// The contrastive model: an image and a text encoder with one embedding space.
pub struct Contrastive {
    trunk: Trunk,
    picture: Linear,
    text: TextEncoder,
    words: Linear,
    scale: Tensor,
    tokenizer: CaptionTokenizer,
    device: Device,
}

impl Contrastive {
    /// # Errors
    /// A tensor that is missing or has another shape than `config` and the tokenizer say.
    pub fn new(
        config: &ContrastiveConfig,
        tokenizer: CaptionTokenizer,
        p: &Params,
    ) -> TensorResult<Self> {
        let (begin, end, pad) = tokenizer.special_ids();
        let text = TextConfig {
            vocab_size: tokenizer.vocab_size(),
            hidden_size: config.hidden,
            intermediate_size: 4 * config.hidden,
            num_hidden_layers: config.layers,
            num_attention_heads: config.heads,
            max_position_embeddings: config.tokens,
            hidden_act: TextActivation::Gelu,
            bos_token_id: begin,
            eos_token_id: end,
            pad_token_id: pad,
            ..TextConfig::default()
        };
        Ok(Self {
            trunk: Trunk::new(&config.channels, config.norm_groups, p)?,
            picture: p
                .pp("picture")
                .linear(config.channels[3], config.width, false)?,
            text: TextEncoder::new(text, p.pp("text"))?,
            words: p.pp("words").linear(config.hidden, config.width, false)?,
            scale: p.tensor(&[1], "scale", Init::Zeros)?,
            device: p.device().clone(),
            tokenizer,
        })
    }

    /// A tokenizer of all words of the storyworld.
    pub fn tokenizer(config: &ContrastiveConfig) -> CaptionTokenizer {
        CaptionTokenizer::from_words(&vocabulary(), config.tokens)
    }

    /// Reads a folder that [`Contrastive::save`] wrote.
    ///
    /// # Errors
    /// A file that is missing or damaged.
    pub fn load(dir: &Path, device: &Device) -> Result<Self, JudgeError> {
        let bad = |why: Cause| JudgeError::Contrastive {
            path: dir.to_owned(),
            why,
        };
        let text = crate::files::read_text(dir.join("config.json")).map_err(|e| bad(e.into()))?;
        let config: ContrastiveConfig = serde_json::from_str(&text).map_err(|e| bad(e.into()))?;
        let tokenizer = CaptionTokenizer::load(dir).map_err(|e| bad(e.into()))?;
        let weights = dir.join("model.safetensors");
        let params = Params::from_safetensors(&[weights], device).map_err(|e| bad(e.into()))?;
        Self::new(&config, tokenizer, &params).map_err(|e| bad(e.into()))
    }

    /// Writes `config.json`, `model.safetensors` and the tokenizer's files into `dir`; `tensors`
    /// are in the file layout.
    ///
    /// # Errors
    /// When the folder can't be written.
    pub fn save(
        &self,
        dir: &Path,
        config: &ContrastiveConfig,
        tensors: &std::collections::HashMap<String, Tensor>,
    ) -> Result<(), JudgeError> {
        let failed = |why: Cause| JudgeError::Write {
            path: dir.to_owned(),
            why,
        };
        let bytes = safetensors::serialize(tensors, None).map_err(|e| failed(e.into()))?;
        let text = serde_json::to_string_pretty(config).map_err(|e| failed(e.into()))?;
        write_file(&dir.join("model.safetensors"), &bytes)?;
        self.tokenizer.save(dir)?;
        write_file(&dir.join("config.json"), format!("{text}\n").as_bytes())
    }

    /// Unit vectors `[B,width]` of pictures `[B,128,128,3]` in -1..1.
    pub(crate) fn pictures(&self, x: &Tensor) -> TensorResult<Tensor> {
        let h = self.trunk.forward(x)?;
        unit(&self.picture.forward(&h.mean(1)?.mean(1)?)?)
    }

    /// Unit vectors `[B,width]` of texts. Of a long one the end is read.
    pub(crate) fn texts(&self, texts: &[&str]) -> TensorResult<Tensor> {
        let mut ids = Vec::new();
        let mut lengths = Vec::new();
        for text in texts {
            let (row, length) = self.tokenizer.encode_with_length(&self.end_of(text));
            ids.extend(row);
            lengths.push(length);
        }
        let ids = Tensor::from_vec(ids, (texts.len(), self.tokenizer.length()), &self.device)?;
        let read = self.text.forward_unpadded(&ids, &lengths)?;
        unit(&self.words.forward(&read.pooled)?)
    }

    /// The last words that there is room for.
    fn end_of(&self, text: &str) -> String {
        let words: Vec<&str> = text.split_whitespace().collect();
        // Every word is one token at most, and begin and end are two.
        let from = words.len().saturating_sub(self.tokenizer.length() - 2);
        words[from..].join(" ")
    }

    /// What similarities are multiplied with before the softmax.
    pub(crate) fn scale(&self) -> TensorResult<Tensor> {
        ((&self.scale * SCALE)? + FIRST_SCALE)?
            .clamp(0.0, MOST_SCALE)?
            .exp()
    }

    /// Embeddings of pictures, unit vectors.
    pub fn embed_pictures(&self, pictures: &[RgbImage]) -> Result<Vec<Vec<f32>>, JudgeError> {
        let mut all = Vec::with_capacity(pictures.len());
        for batch in pictures.chunks(32) {
            all.extend(self.pictures(&inputs(batch, &self.device)?)?.to_vec2()?);
        }
        Ok(all)
    }

    /// The embedding of a text, a unit vector.
    pub fn embed_text(&self, text: &str) -> Result<Vec<f32>, JudgeError> {
        Ok(self.texts(&[text])?.flatten_all()?.to_vec1()?)
    }

    /// The cosine between a picture and a text, -1 to 1.
    pub fn similarity(&self, picture: &RgbImage, text: &str) -> Result<f64, JudgeError> {
        let pictures = self.embed_pictures(std::slice::from_ref(picture))?;
        Ok(dot(&pictures[0], &self.embed_text(text)?))
    }
}

/// The cosine of unit vectors.
pub fn dot(a: &[f32], b: &[f32]) -> f64 {
    let product = |(a, b): (&f32, &f32)| f64::from(*a) * f64::from(*b);
    a.iter().zip(b).map(product).sum()
}

/// Rows of length one.
fn unit(x: &Tensor) -> TensorResult<Tensor> {
    let length = (x.sqr()?.sum_keepdim(D::Minus1)? + 1e-12)?.sqrt()?;
    x.broadcast_div(&length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embeddings_are_unit_vectors_and_come_back_from_disk() {
        let dir = tempfile::tempdir().unwrap();
        let config = ContrastiveConfig {
            channels: [8, 8, 8, 16],
            norm_groups: 2,
            width: 8,
            hidden: 8,
            heads: 2,
            tokens: 12,
            ..ContrastiveConfig::default()
        };
        let params = Params::init(5, &Device::Cpu);
        let model = Contrastive::new(&config, Contrastive::tokenizer(&config), &params).unwrap();
        let tensors = params.to_file_layout(None).unwrap();
        model.save(dir.path(), &config, &tensors).unwrap();
        let again = Contrastive::load(dir.path(), &Device::Cpu).unwrap();
        let picture = RgbImage::from_fn(64, 64, |x, y| image::Rgb([x as u8, y as u8, 90]));
        let text = "A fox finds a lantern in the forest at night.";
        let vector = model.embed_text(text).unwrap();
        assert!((dot(&vector, &vector) - 1.0).abs() < 1e-5);
        let got = model.similarity(&picture, text).unwrap();
        assert!((-1.0..=1.0).contains(&got));
        assert_eq!(got, again.similarity(&picture, text).unwrap());
        // Of a long text the end counts.
        let long = format!("{} {text}", "An owl sits on the beach by day. ".repeat(4));
        assert_eq!(model.embed_text(&long).unwrap(), vector);

        std::fs::remove_file(dir.path().join("vocab.json")).unwrap();
        let error = Contrastive::load(dir.path(), &Device::Cpu).err().unwrap();
        assert!(error.to_string().contains("train contrastive"), "{error}");
    }
}
