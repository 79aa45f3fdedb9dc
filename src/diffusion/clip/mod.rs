//! Prompts of Stable Diffusion: CLIP's tokens, words with weights, and chunks of 75 tokens.

mod chunk;
mod mark;
mod tokenizer;

pub use chunk::{TokenChunk, apply_weights, split_chunks};
pub use mark::{WeightedText, parse_weights, weighted_words};
pub(in crate::diffusion) use tokenizer::byte_characters;
pub use tokenizer::{ClipTokenizer, PadToken};
