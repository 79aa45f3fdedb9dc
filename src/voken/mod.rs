//! Vokens, after MiniGPT-5 (arXiv 2310.02239): tokens of a language model that stand for a
//! picture. Texts and pictures are read interleaved; where the model asks for a picture, its
//! states at the vokens are mapped to what conditions a diffusion model.

mod config;
mod folder;
mod generate;
mod input;
mod mapper;
mod model;
mod panels;
mod prompt;
mod reader;
mod sample;
mod words;

pub use config::{MapperConfig, Sizes, Vocabulary};
pub use folder::{FolderConfig, FolderError, Speaks, VokenFolder};
pub use generate::{Generated, GenerationConfig, Step, force_description, force_picture, generate};
pub use input::{Batch, Interleaved, Text, batch, interleave, voken_states};
pub use mapper::{FeatureMapper, MapperParams};
pub use model::{Body, VokenModel};
pub use panels::{ToldPanel, panel_ids, tidy};
pub use prompt::{STOP, VistPanel, VistTask, vist_prompt};
pub use reader::{FloatReader, Reader};
pub use sample::{SamplingParams, process};
pub use words::inert;
