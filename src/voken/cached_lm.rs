//! Reading: a prompt with all its pictures at once, then what is written behind it.

use crate::llm::float::{FloatKvCache, FloatLlama, LikeliestTokens};
use crate::nn::Result;
use candle_core::{DType, Device, Tensor};

/// Tokens of a prompt that are read together. A story's prompts begin alike, so these are known
/// from the panel before; and because they are the same tokens with whatever was read before, no
/// number depends on that.
const CHUNK: usize = 32;

/// What makes tokens less likely.
#[derive(Clone, Copy, Debug)]
pub struct TokenRules<'a> {
    /// Tokens that may not come.
    pub suppressed: &'a [u32],
    /// Tokens that the penalty is for, each once.
    pub seen: &'a [u32],
    /// Logits of these are divided by it where they are positive and multiplied where not.
    pub repetition_penalty: f32,
}

/// A language model with the key-value cache of one text.
pub trait CachedLm {
    /// Forgets the text and reads a prompt, embeddings `[1,n,width]`; its hidden states after the
    /// last norm, `[1,n,width]`.
    ///
    /// # Errors
    /// When it is too long.
    fn begin(&mut self, prompt: &Tensor) -> Result<Tensor>;
    /// Embeddings `[1,n,width]` of ids.
    ///
    /// # Errors
    /// An id that is not in the vocabulary.
    fn embed(&self, ids: &[u32]) -> Result<Tensor>;
    /// Reads embeddings `[1,n,width]` behind what was read; their hidden states after the last
    /// norm, `[1,n,width]`.
    ///
    /// # Errors
    /// When the text gets too long.
    fn read(&mut self, embeddings: &Tensor) -> Result<Tensor>;
    /// Logits of hidden states `[1,n,width]`, one after the other.
    ///
    /// # Errors
    /// When shapes don't fit.
    fn logits(&self, hidden: &Tensor) -> Result<Vec<f32>>;
    /// The likeliest tokens after one hidden state `[1,1,width]` by these rules; `None` where only all logits are to be
    /// had.
    ///
    /// # Errors
    /// When shapes don't fit.
    fn candidates(&self, _hidden: &Tensor, _rules: &TokenRules) -> Result<Option<LikeliestTokens>> {
        Ok(None)
    }
    /// Tokens read.
    fn len(&self) -> usize;
    /// Most tokens that can be read.
    fn limit(&self) -> usize;
    /// Device that the model computes on.
    fn device(&self) -> &Device;
    /// Whether nothing was read.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A prompt that was read, as far as it came in whole chunks.
struct CachedPrompt {
    /// `[n,width]` in f32.
    embeddings: Vec<f32>,
    /// `[1,n,width]`.
    states: Tensor,
}

/// A text in progress on a model in floating point.
pub struct FloatCachedLm {
    llama: FloatLlama,
    cache: FloatKvCache,
    /// What the cache begins with.
    prompt: Option<CachedPrompt>,
}

impl FloatCachedLm {
    /// A reader with an empty cache.
    pub fn new(llama: FloatLlama) -> Self {
        Self {
            cache: llama.cache(),
            llama,
            prompt: None,
        }
    }

    /// Whether its layers compute on a GPU through wgpu.
    pub fn is_on_gpu(&self) -> bool {
        self.llama.is_on_gpu()
    }

    fn fits(&self, tokens: usize) -> Result<()> {
        let limit = self.limit();
        if tokens > limit {
            candle_core::bail!(
                "the story is {tokens} tokens long where the language model reads at most {limit}; begin a new story or shorten this one"
            );
        }
        Ok(())
    }

    /// Tokens in whole chunks with which the prompt before this one begins, too.
    fn known(&self, embeddings: &[f32], width: usize) -> usize {
        let Some(before) = &self.prompt else {
            return 0;
        };
        let chunks = |values| <[f32]>::chunks_exact(values, CHUNK * width);
        let both = chunks(embeddings).zip(chunks(&before.embeddings));
        CHUNK * both.take_while(|(a, b)| a == b).count()
    }
}

impl CachedLm for FloatCachedLm {
    fn begin(&mut self, prompt: &Tensor) -> Result<Tensor> {
        let (_, tokens, width) = prompt.dims3()?;
        self.fits(tokens)?;
        let embeddings = prompt.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
        let known = self.known(&embeddings, width);
        // What is read below may fail; then nothing is known.
        let before = self.prompt.take().filter(|_| known > 0);
        self.cache.truncate(known)?;
        let mut states: Vec<Tensor> = Vec::new();
        if let Some(before) = before {
            states.push(before.states.narrow(1, 0, known)?);
        }
        for first in (known..tokens).step_by(CHUNK) {
            let chunk = prompt.narrow(1, first, CHUNK.min(tokens - first))?;
            states.push(self.read(&chunk)?);
        }
        let states = Tensor::cat(&states, 1)?;
        let whole = tokens - tokens % CHUNK;
        self.prompt = match whole {
            0 => None,
            _ => Some(CachedPrompt {
                states: states.narrow(1, 0, whole)?,
                embeddings: embeddings[..whole * width].to_vec(),
            }),
        };
        Ok(states)
    }

    fn embed(&self, ids: &[u32]) -> Result<Tensor> {
        self.llama.embed_ids(ids)
    }

    fn read(&mut self, embeddings: &Tensor) -> Result<Tensor> {
        self.fits(self.cache.len() + embeddings.dim(1)?)?;
        self.llama.forward(embeddings, Some(&mut self.cache))
    }

    fn logits(&self, hidden: &Tensor) -> Result<Vec<f32>> {
        let logits = self.llama.logits(hidden)?;
        logits.flatten_all()?.to_dtype(DType::F32)?.to_vec1()
    }

    fn candidates(&self, hidden: &Tensor, rules: &TokenRules) -> Result<Option<LikeliestTokens>> {
        let penalised = (rules.seen, rules.repetition_penalty);
        self.llama.candidates(hidden, rules.suppressed, penalised)
    }

    fn len(&self) -> usize {
        self.cache.len()
    }

    fn limit(&self) -> usize {
        self.llama.config().max_position_embeddings
    }

    fn device(&self) -> &Device {
        self.llama.device()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::float::FloatConfig;
    use crate::nn::{Params, noise};

    fn reader() -> FloatCachedLm {
        let config = FloatConfig {
            vocab_size: 60,
            max_position_embeddings: 128,
            ..FloatConfig::tiny()
        };
        FloatCachedLm::new(FloatLlama::new(config, &Params::init(1, &Device::Cpu)).unwrap())
    }

    fn bits(states: &Tensor) -> Vec<u32> {
        let all: Vec<f32> = states.flatten_all().unwrap().to_vec1().unwrap();
        all.into_iter().map(f32::to_bits).collect()
    }

    #[test]
    fn a_prompt_reads_the_same_whatever_was_read_before() {
        let all = noise(4, 0, &[1usize, 100, 24], &Device::Cpu).unwrap();
        let own = noise(5, 0, &[1usize, 40, 24], &Device::Cpu).unwrap();
        let start = |tokens: usize| all.narrow(1, 0, tokens).unwrap();
        let other = Tensor::cat(&[&start(50), &own], 1).unwrap();
        let mut used = reader();
        for (prompt, known) in [
            (start(70), 0),
            (start(100), 64),
            (other.clone(), 32),
            (other, 64),
            (own, 0),
            (start(20), 0),
        ] {
            let values: Vec<f32> = prompt.flatten_all().unwrap().to_vec1().unwrap();
            assert_eq!(used.known(&values, 24), known);
            let mut fresh = reader();
            let states = used.begin(&prompt).unwrap();
            assert_eq!(bits(&states), bits(&fresh.begin(&prompt).unwrap()));
            assert_eq!(used.len(), prompt.dim(1).unwrap());
            // What is written behind it leaves nothing in the next prompt.
            let ids = used.embed(&[7]).unwrap();
            let next = used.read(&ids).unwrap();
            assert_eq!(bits(&next), bits(&fresh.read(&ids).unwrap()));
        }
        let long = Tensor::cat(&[start(100), start(100)], 1).unwrap();
        let said = used.begin(&long).unwrap_err().to_string();
        assert!(
            said.contains("200 tokens") && said.contains("128"),
            "{said}"
        );
    }
}
