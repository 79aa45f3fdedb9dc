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
mod composition;
mod counted;
mod dit;
mod error;
mod family;
mod folder;
mod image_prompt;
mod lora_base;
mod pixels;
mod preview;
mod resnet;
mod sample;
mod schedule;
mod scheduler;
mod setting;
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

pub use bench::{BenchPart, RandomPart, time_family};
pub use clip::{
    ClipTokenizer, PadToken, TokenChunk, WeightedText, apply_weights, parse_weights, split_chunks,
    weighted_words,
};
pub use clip_vision::{ClipVision, ClipVisionConfig};
pub use composition::{CompositionDiffusion, CompositionRequest};
pub use counted::{CountedPart, counted};
pub use dit::{
    Dit, DitFamily, DitNetwork, DitPart, DitPipeline, DitPromptEmbeds, DitRequest, FlowConfig,
    part_of,
};
pub use error::DiffusionError;
pub use family::{StableDiffusionFamily, guess as guess_prediction, of_text_encoder};
pub use folder::{ModelFolder, Open};
pub use image_prompt::IpAdapter;
pub use lora_base::LoraBase;
pub use pixels::{cut_out, luma, mask_tensor, paste_around, picture_tensor};
pub use preview::Preview;
pub use sample::{
    DenoisingOptions, InitOptions, LatentDiffusion, StepDone, TextToImageModel, to_picture,
};
pub use schedule::{BetaSchedule, NoiseSchedule, Prediction};
pub use scheduler::{Scheduler, SchedulerConfig, SchedulerKind, TimestepSpacing};
pub use setting::SettingFeatures;
pub use stable::{
    BESIDE_UNET, ControlImage, ControlNetConditioning, IpAdapterImage, PictureRequest,
    PipelineProgress, PromptEmbeds, PromptPair, ReferenceConditioning, ReferenceImage,
    StableDiffusion, StableDiffusionOptions, StableDiffusionPipeline, StepConditioning,
    TextEncoders,
};
pub use text::{HiddenStates, TextActivation, TextConfig, TextEncoder, TextFeatures};
pub use tiles::decode_tiled;
pub use tokenizer::CaptionTokenizer;
pub use trajectory::{StepResult, Trajectory, UnetCall};
pub use unet::{
    Conditioning, ControlNet, ControlNetConfig, DownBlockKind, ImageLayers, ImagePrompt, PerBlock,
    ReferenceBank, ReferenceLatents, References, Residuals, TokenSelection, Unet, UnetConfig,
    UnetKind, UpBlockKind, guidance_embedding, same_timestep, time_ids,
};
pub use vae::{LatentDistribution, Vae, VaeConfig};
