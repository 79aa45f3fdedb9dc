//! Latent diffusion: text encoder, UNet, autoencoder, schedulers, guidance and previews.
//!
//! One set of modules reads the folder layout, `config.json` files and tensor names of diffusers
//! (`StableDiffusionPipeline`), so that Stable Diffusion 2.1-base and Sprout, the built-in model,
//! differ in their configurations only. Everything is differentiable: the trainer uses the same
//! modules.
//!
//! Pictures and latents are `[B,H,W,C]`, text states `[B,T,C]`, timesteps `[B]`.

mod bench;
mod clip;
mod clip_vision;
mod error;
mod family;
mod folder;
mod image_prompt;
mod pixels;
mod preview;
mod resnet;
mod sample;
mod schedule;
mod scheduler;
mod settings;
mod stable;
mod text;
mod tiles;
mod tokenizer;
mod trajectory;
mod unet;
mod vae;

#[cfg(test)]
mod tests;

pub use bench::{Part, time_family};
pub use clip::{Chunk, ClipTokenizer, Pad, Piece, chunks, pieces, weigh};
pub use clip_vision::{ClipVision, ClipVisionConfig};
pub use error::DiffusionError;
pub use family::{Family, guess as guess_prediction, of_text_encoder};
pub use folder::{ModelFolder, Open};
pub use image_prompt::IpAdapter;
pub use pixels::{cut_out, luma, mask_tensor, paste_around, picture_tensor};
pub use preview::Preview;
pub use sample::{Denoising, Diffusion, Painter, StepDone, to_picture};
pub use schedule::{BetaSchedule, NoiseSchedule, Prediction};
pub use scheduler::{Scheduler, SchedulerConfig, SchedulerKind, Spacing};
pub use stable::{
    Artist, BESIDE_UNET, Follow, Followed, Guide, Heard, Look, OpenOptions, Order, Refer, Referred,
    Said, Spoken, StableDiffusion, TextEncoders,
};
pub use text::{Reading, TextAct, TextConfig, TextEncoder, TextFeatures};
pub use tiles::decode_tiled;
pub use tokenizer::CaptionTokenizer;
pub use trajectory::{Call, Taken, Trajectory};
pub use unet::{
    Bank, Conditioning, ControlNet, ControlNetConfig, DownBlockKind, ImageLayers, ImagePrompt,
    PerBlock, Pick, ReferenceLatents, References, Residuals, Unet, UnetConfig, UpBlockKind,
    guidance_embedding, same_timestep, time_ids,
};
pub use vae::{Moments, Vae, VaeConfig};
