//! The language models that write stories: networks of several families in GGUF files, the
//! tokenizer, sampling and prompt of the one that continues a picture book.
//!
//! It runs on the CPU on every machine: at one token a step a small quantised model is bound by
//! memory, and is faster there than the launches of its operations would be on a GPU.

mod cache;
mod causal;
pub mod chat;
mod error;
mod families;
pub mod float;
mod gguf;
mod gguf_check;
mod hyperparameters;
mod llama_tokenizer;
mod memory;
mod network;
mod sampling;
mod sentencepiece;
mod shield;
mod slots;
mod story;
mod tokenizer;

use std::ops::ControlFlow;
use std::path::Path;

use candle_core::Device;

pub use cache::CacheType;
pub use causal::{CausalLm, GgufLm, LanguageModelOptions};
pub use error::LlmError;
pub use families::{FAMILIES, ModelFamily};
pub use gguf_check::{GgufFacts, check_gguf, memory_of_gguf};
pub use hyperparameters::Hyperparameters;
pub use llama_tokenizer::{LlamaTokenizer, VOKENS};
pub use memory::LlmMemory;
pub use network::{DecodingState, LlmNetwork, NetworkInput};
pub use sampling::{Sampling, TokenChoice, likeliest, log_probability};
pub(crate) use shield::{SHIELD, shielded, unshielded};
pub use tokenizer::{Decoder, Tokenizer};

use gguf::Gguf;

/// Most tokens that are kept; picture books are far shorter than what the model was trained for.
const MAX_CONTEXT: usize = 2048;

/// The language model of picture books, loaded, with the text it read last still in its cache.
pub struct LanguageModel {
    lm: GgufLm,
    tokenizer: Tokenizer,
    writer: story::TokenRules,
}

impl LanguageModel {
    /// Loads the GGUF file in `dir`. The model runs on the CPU whatever `device` is.
    ///
    /// # Errors
    /// When there is no such file, or it is damaged or of another kind.
    pub fn load(dir: &Path, _device: &Device) -> Result<LanguageModel, LlmError> {
        let gguf = Gguf::find(dir)?;
        let options = LanguageModelOptions {
            context: MAX_CONTEXT,
            cache: CacheType::F32,
        };
        let lm = GgufLm::from_gguf(&gguf, &options)?;
        let tokenizer = Tokenizer::read(&gguf)?;
        Ok(LanguageModel {
            lm,
            writer: story::TokenRules::new(&tokenizer),
            tokenizer,
        })
    }

    /// Its tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The model itself, for texts that are no picture book.
    pub fn lm(&mut self) -> &mut GgufLm {
        &mut self.lm
    }

    /// The `n` tokens that are likeliest after `prompt`, one after the other; fewer when the
    /// model ends the text (its end token is then the last).
    ///
    /// # Errors
    /// When the prompt is empty, the text gets too long, or an id is not in the vocabulary.
    pub fn greedy(&mut self, prompt: &[u32], n: usize) -> Result<Vec<u32>, LlmError> {
        let mut text = prompt.to_vec();
        let mut logits = Vec::new();
        while text.len() < prompt.len() + n {
            let go_on = &mut || ControlFlow::Continue(());
            self.lm.read(&text, &mut logits, go_on)?;
            let next = likeliest(&logits);
            text.push(next);
            if self.tokenizer.is_end_token(next) {
                break;
            }
        }
        Ok(text.split_off(prompt.len()))
    }
}
