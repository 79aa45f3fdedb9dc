//! Vokenboard: a desktop storyboard studio that continues a story as interleaved text and
//! pictures on the author's own machine, after MiniGPT-5 (arXiv 2310.02239).
//!
//! `ARCHITECTURE.md` at the top of the repository is the map of the rooms below.

#![warn(missing_docs)]
#![warn(clippy::unwrap_used, unreachable_pub)]

pub mod catalogue;
pub mod cause;
pub mod cli;
pub mod diffusion;
pub mod engine;
pub mod eval;
pub mod export;
mod files;
pub mod judges;
pub mod llm;
pub mod logging;
pub mod nn;
pub mod pipeline;
mod pixels;
pub mod published;
pub mod remote;
mod resample;
pub mod story;
pub mod storyworld;
pub mod studio;
pub mod train;
mod typefaces;
pub mod upscale;
pub mod vision;
pub mod voken;
pub mod weights;
pub mod words;
