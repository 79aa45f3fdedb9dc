//! Seeing: pictures become embeddings that a language model reads in place of words.
//!
//! MiniGPT-4's tower, which MiniGPT-5 keeps: EVA-CLIP's ViT, a norm over its tokens, BLIP-2's
//! Q-Former with its learned queries, and a projection into the language model's space. All
//! modules are differentiable and take their sizes from configurations, so the full tower and
//! a small one of our own are the same code. Gemma 3 sees through a [`Projector`].

mod config;
mod eva;
mod preprocess;
mod projector;
mod qformer;
mod siglip;
mod tower;

pub use config::{EvaConfig, QFormerConfig, VisionConfig};
pub use eva::Eva;
pub use preprocess::{Crop, Preprocess, pad_to_square};
pub use projector::{Projector, ProjectorError, ProjectorFacts, has_projector};
pub use qformer::QFormer;
pub use siglip::{Siglip, SiglipConfig};
pub use tower::{TowerParams, VisionTower};
