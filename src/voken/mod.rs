//! Vokens, after MiniGPT-5 (arXiv 2310.02239): tokens of a language model that stand for a
//! picture. Texts and pictures are read interleaved; where the model asks for a picture, its
//! states at the vokens are mapped to what conditions a diffusion model.

mod cached_lm;
mod composition_head;
mod config;
mod folder;
mod generate;
mod input;
mod mapper;
mod model;
mod panels;
mod prompt;
mod sample;
mod words;

pub use cached_lm::{CachedLm, FloatCachedLm, TokenRules};
pub use composition_head::{
    CompositionHead, CompositionHeadConfig, CompositionScores, embed_names, name_in_sentence,
};
pub use config::{MapperConfig, ReferenceSizes, VokenIds};
pub use folder::{FolderConfig, FolderError, PictureConditioning, VokenFolder};
pub use generate::{
    Generated, GenerationConfig, GenerationStep, force_description, force_picture, generate,
};
pub use input::{
    InterleavedEmbeddings, InterleavedText, PaddedBatch, batch, interleave, voken_states,
};
pub use mapper::{FeatureMapper, MapperParams};
pub use model::{BaseModel, VokenModel};
pub use panels::{ContextInput, panel_ids, tidy};
pub use prompt::{STOP, VistPanel, VistTask, vist_prompt};
pub use sample::{SamplingParams, process};
pub use words::inert;
