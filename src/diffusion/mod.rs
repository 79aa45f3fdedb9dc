//! Latent diffusion: text encoder, UNet, autoencoder, schedulers, guidance and previews.
//!
//! One set of modules reads the folder layout, `config.json` files and tensor names of diffusers
//! (`StableDiffusionPipeline`), so that Stable Diffusion 2.1-base and Sprout, the built-in model,
//! differ in their configurations only. Everything is differentiable: the trainer uses the same
//! modules.
//!
//! Pictures and latents are `[B,H,W,C]`, text states `[B,T,C]`, timesteps `[B]`.

mod resnet;
mod text;
mod unet;
mod vae;

pub use text::{TextAct, TextConfig, TextEncoder, TextFeatures};
pub use unet::{DownBlockKind, PerBlock, Unet, UnetConfig, UpBlockKind, same_timestep};
pub use vae::{Moments, Vae, VaeConfig};
