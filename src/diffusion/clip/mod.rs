//! Prompts of Stable Diffusion: CLIP's tokens, words with weights, and chunks of 75 tokens.

mod chunk;
mod mark;
mod tokenizer;

pub use chunk::{TokenChunk, chunks, weigh};
pub use mark::{WeightedText, pieces};
pub(in crate::diffusion) use tokenizer::byte_characters;
pub use tokenizer::{ClipTokenizer, PadToken};
