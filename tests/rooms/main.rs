//! What the rooms promise, one module a room. One program for all of them, since each would link
//! the whole library.

mod arrows;
mod catalogue;
mod checkpoints;
mod export;
mod gradients;
mod llm;
mod stable_diffusion;
mod train;
mod transformers;
mod voken;
