//! Seeing: pictures become embeddings that a language model reads in place of words.
//!
//! MiniGPT-4's tower, which MiniGPT-5 keeps: EVA-CLIP's ViT, a norm over its tokens, BLIP-2's
//! Q-Former with its learned queries, and a projection into the language model's space. All
//! modules are differentiable and take their sizes from configurations, so the full tower and
//! a small one of our own are the same code.

mod config;
mod eva;
mod preprocess;
mod qformer;
mod tower;

pub use config::{EvaConfig, QFormerConfig, VisionConfig};
pub use eva::Eva;
pub use preprocess::{Crop, Preprocess, pad_to_square};
pub use qformer::QFormer;
pub use tower::{TowerParams, VisionTower};
