//! What a model's text encoders make of prompts of any length, with weights.

use super::StableDiffusion;
use crate::diffusion::clip::{
    ClipTokenizer, PadToken, TokenChunk, apply_weights, parse_weights, split_chunks,
};
use crate::diffusion::trajectory::is_finite;
use crate::diffusion::{DiffusionError, StableDiffusionFamily, TextEncoders, TextFeatures};
use candle_core::Tensor;

/// Prompt and negative prompt to be encoded for one picture.
#[derive(Clone, Debug, PartialEq)]
pub struct PromptPair {
    /// Prompt, with weights in A1111's brackets.
    pub prompt: String,
    /// None for nothing.
    pub negative: Option<String>,
    /// Guidance scale; 1 is none, so that the negative prompt is not read.
    pub guidance: f64,
    /// In diffusers' counting: 0 skips none.
    pub clip_skip: usize,
}

/// Conditional and unconditional embeddings for classifier-free guidance.
#[derive(Clone, Debug)]
pub struct PromptEmbeds {
    /// Embeddings of the prompt.
    pub positive: TextFeatures,
    /// Embeddings of the negative prompt, or of the empty one; none without guidance.
    pub negative: Option<TextFeatures>,
}

impl StableDiffusion {
    /// The tokenizer of each text encoder, which knows the embeddings that were opened.
    ///
    /// # Errors
    /// A file that is missing or damaged.
    pub fn tokenizers(&self) -> Result<Vec<ClipTokenizer>, DiffusionError> {
        let dirs = self.tokenizers.iter().enumerate();
        dirs.map(|(i, dir)| {
            let tokenizer = match dir {
                Some(dir) => ClipTokenizer::load(dir)?,
                None if i == 1 || self.family() == StableDiffusionFamily::Sd2 => {
                    ClipTokenizer::published(PadToken::Bang)?
                }
                None => ClipTokenizer::published(PadToken::End)?,
            };
            let added = self.added_tokens().get(i).map_or(&[][..], |added| added);
            Ok(tokenizer.with_added(added))
        })
        .collect()
    }

    /// Whether the UNet predicts twice a step, with and without the prompt: not where guidance is
    /// 1 or less, nor where it is an input of a distilled UNet.
    pub fn is_guided(&self, guidance: f64) -> bool {
        guidance > 1.0 && self.unet_config().time_cond_proj_dim.is_none()
    }

    /// Loads the text encoders, reads prompts and negative prompts and lets the encoders go. The last
    /// `clip_skip` layers are skipped in the prompt; never in the negative prompt. Where there is no
    /// negative prompt, SDXL is led away from zeros and the others from an empty text. The shorter
    /// prompt is filled up with chunks of nothing.
    ///
    /// # Errors
    /// A file that is missing or damaged, more layers to skip than there are, or states that are
    /// no numbers.
    pub fn encode_prompts(&self, all: &[PromptPair]) -> Result<Vec<PromptEmbeds>, DiffusionError> {
        let tokenizers = self.tokenizers()?;
        let encoders = self.text_encoders()?;
        let read = |pair| self.read(&encoders, &tokenizers, pair);
        all.iter().map(read).collect()
    }

    fn read(
        &self,
        encoders: &TextEncoders,
        tokenizers: &[ClipTokenizer],
        pair: &PromptPair,
    ) -> Result<PromptEmbeds, DiffusionError> {
        let split = |text: &str| -> Vec<Vec<TokenChunk>> {
            let pieces = parse_weights(text);
            let of = |tokenizer| split_chunks(tokenizer, &pieces);
            tokenizers.iter().map(of).collect()
        };
        let (guidance, negative) = (pair.guidance, pair.negative.as_deref());
        let clip_skip = pair.clip_skip;
        let positive_chunks = split(&pair.prompt);
        let led = self.is_guided(guidance);
        let away = match negative {
            Some(text) if led => Some(split(text)),
            None if led && !self.zeros_for_empty() => Some(split("")),
            _ => None,
        };
        let longest = positive_chunks
            .iter()
            .chain(away.iter().flatten())
            .map(Vec::len)
            .max();
        let longest = longest.unwrap_or(1);
        let read = |text: Vec<Vec<TokenChunk>>, skip| {
            let full = text
                .into_iter()
                .zip(tokenizers)
                .map(|(mut all, tokenizer)| {
                    let empty = split_chunks(tokenizer, &[]);
                    all.resize(longest, empty[0].clone());
                    all
                });
            encode(encoders, &full.collect::<Vec<_>>(), skip)
        };
        let positive = read(positive_chunks, clip_skip)?;
        let negative = match away {
            Some(text) => Some(read(text, 0)?),
            None if led => Some(encoders.zeros(positive.states.dim(1)?)?),
            None => None,
        };
        Ok(PromptEmbeds { positive, negative })
    }
}

/// The states of all chunks in a row, and the pooled state of the first. `text` has the chunks of
/// each encoder, as many for one as for another.
fn encode(
    encoders: &TextEncoders,
    text: &[Vec<TokenChunk>],
    clip_skip: usize,
) -> Result<TextFeatures, DiffusionError> {
    let mut states = Vec::new();
    let mut pooled = None;
    for at in 0..text.first().map_or(0, Vec::len) {
        let chunk: Vec<&TokenChunk> = text.iter().map(|all| &all[at]).collect();
        let ids: Vec<Vec<u32>> = chunk.iter().map(|chunk| chunk.ids.clone()).collect();
        let read = encoders.encode(&ids, clip_skip)?;
        let mut from = 0;
        let mut weighed = Vec::new();
        for (width, chunk) in encoders.widths().into_iter().zip(chunk) {
            let own = read.states.narrow(2, from, width)?;
            weighed.push(apply_weights(&own, &chunk.weights)?);
            from += width;
        }
        states.push(Tensor::cat(&weighed, 2)?);
        pooled.get_or_insert(read.pooled);
    }
    let states = Tensor::cat(&states, 1)?;
    if !is_finite(&states)? {
        return Err(DiffusionError::NotNumbers {
            stage: "the text encoder".into(),
            remedy: "lower the weights of the words and LoRAs, or get the model again".into(),
        });
    }
    let pooled = pooled.ok_or_else(|| DiffusionError::Settings("there is no prompt".into()))?;
    Ok(TextFeatures { states, pooled })
}
