//! The language model that writes the story: a Llama-family network in a GGUF file, its
//! tokenizer, sampling, and the prompt that makes it continue a picture book.
//!
//! It runs on the CPU on every machine: at one token a step a small quantised model is bound by
//! memory, and is faster there than the launches of its operations would be on a GPU.

mod error;
pub mod float;
mod gguf;
mod llama;
mod llama_tokenizer;
mod sampling;
mod sentencepiece;
mod story;
mod tokenizer;

use std::ops::ControlFlow;
use std::path::Path;

use candle_core::Device;

pub use error::LlmError;
pub use llama::{Input, Llama, LlamaConfig, State};
pub use llama_tokenizer::{LlamaTokenizer, VOKENS};
pub use sampling::{Sampling, log_probability};
pub use tokenizer::Tokenizer;

use gguf::Gguf;

/// A language model, loaded, with the text it read last still in its cache.
pub struct LanguageModel {
    llama: Llama,
    tokenizer: Tokenizer,
    state: State,
    /// The tokens in `state`.
    read: Vec<u32>,
    writer: story::Rules,
}

impl LanguageModel {
    /// Loads the GGUF file in `dir`. The model runs on the CPU whatever `device` is.
    ///
    /// # Errors
    /// When there is no such file, or it is damaged or of another kind.
    pub fn load(dir: &Path, _device: &Device) -> Result<LanguageModel, LlmError> {
        let gguf = Gguf::find(dir)?;
        let llama = Llama::read(&gguf)?;
        let tokenizer = Tokenizer::read(&gguf)?;
        Ok(LanguageModel {
            state: llama.state(),
            read: Vec::new(),
            writer: story::Rules::new(&tokenizer),
            llama,
            tokenizer,
        })
    }

    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    pub fn config(&self) -> &LlamaConfig {
        self.llama.config()
    }

    /// The network itself, for texts that are not only tokens.
    pub fn llama(&self) -> &Llama {
        &self.llama
    }

    /// The `n` tokens that are likeliest after `prompt`, one after the other; fewer when the
    /// model ends the text (its end token is then the last).
    ///
    /// # Errors
    /// When the prompt is empty, the text gets too long, or an id is not in the vocabulary.
    pub fn greedy(&mut self, prompt: &[u32], n: usize) -> Result<Vec<u32>, LlmError> {
        if prompt.is_empty() {
            return Err(LlmError::NoTokens);
        }
        let mut text = prompt.to_vec();
        let mut logits = Vec::new();
        while text.len() < prompt.len() + n {
            self.read(&text, &mut logits, &mut || ControlFlow::Continue(()))?;
            let next = sampling::likeliest(&logits);
            text.push(next);
            if self.tokenizer.is_end(next) {
                break;
            }
        }
        Ok(text.split_off(prompt.len()))
    }

    /// The hidden states of `ids` after the last layer and its norm, `[ids, width]`.
    ///
    /// # Errors
    /// When there are too many ids, or one is not in the vocabulary.
    pub fn hidden_states(&mut self, ids: &[u32]) -> Result<Vec<f32>, LlmError> {
        self.state.truncate(0);
        self.read.clear();
        let go_on = &mut || ControlFlow::Continue(());
        let states = self.llama.extend(&mut self.state, Input::Ids(ids), go_on)?;
        self.read.extend_from_slice(ids);
        Ok(states.unwrap_or_default())
    }

    /// Reads `text`, of which the cache may hold a beginning, and writes the logits after its
    /// last token to `logits`; `None` when `go_on` broke.
    fn read(
        &mut self,
        text: &[u32],
        logits: &mut Vec<f32>,
        go_on: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Option<()>, LlmError> {
        let known = self
            .read
            .iter()
            .zip(text)
            .take_while(|(a, b)| a == b)
            .count();
        // The last token is always read, since its hidden state is needed.
        let known = known.min(text.len().saturating_sub(1));
        self.state.truncate(known);
        self.read.truncate(known);
        let new = Input::Ids(&text[known..]);
        let Some(states) = self.llama.extend(&mut self.state, new, go_on)? else {
            return Ok(None);
        };
        self.read.extend_from_slice(&text[known..]);
        let width = self.llama.config().width;
        let last = &states[states.len().saturating_sub(width)..];
        self.llama.logits(last, logits);
        Ok(Some(()))
    }
}
