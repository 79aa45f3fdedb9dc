//! Generation recipes behind one trait: what goes in is the story before a panel, what comes out
//! is the panel's text and picture.

mod caption;
mod load;
mod networks;
mod record;
mod scene;
mod speech;
mod voken;

pub use caption::CaptionPipeline;
pub use load::{Options, loader, recipes};
pub use record::default_settings;
pub use scene::picture_prompt;
pub use voken::VokenPipeline;

use std::ops::ControlFlow;
use std::sync::Arc;

use image::RgbaImage;

use crate::story::{PanelId, Record, Settings};

/// What to make for a panel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Make {
    Text,
    Picture,
    Both,
}

impl Make {
    pub fn text(self) -> bool {
        matches!(self, Make::Text | Make::Both)
    }

    pub fn picture(self) -> bool {
        matches!(self, Make::Picture | Make::Both)
    }
}

/// A panel that comes before the one to be made.
#[derive(Clone, Debug)]
pub struct ContextPanel {
    pub id: PanelId,
    pub text: String,
    pub picture: Option<Arc<RgbaImage>>,
}

/// An order for one panel.
#[derive(Clone, Debug)]
pub struct Request {
    /// The panels before this one, in order.
    pub context: Vec<ContextPanel>,
    /// The panel's text where it is given; `None` where it is to be written.
    pub text: Option<String>,
    /// The panel's own picture where its text is to say what that shows; recipes that don't look
    /// at pictures leave it.
    pub picture: Option<Arc<RgbaImage>>,
    pub make: Make,
    pub settings: Settings,
}

/// What a pipeline tells while it works.
#[derive(Clone, Debug)]
pub enum Progress {
    /// Part of the model had to leave for want of memory and is loaded again.
    Loading(LoadProgress),
    /// The next piece of the text, to be appended to those before.
    TextPiece(String),
    /// The whole text, cleaned up, and how it was made; it replaces the pieces.
    TextDone(String, Box<Record>),
    /// `step` of `steps` (from 1) is done; `preview` is a small picture of the latents.
    Step {
        step: u32,
        steps: u32,
        preview: Arc<RgbaImage>,
    },
}

/// What was made, each with the record of how.
#[derive(Clone, Debug, Default)]
pub struct Output {
    pub text: Option<(String, Record)>,
    pub picture: Option<(RgbaImage, Record)>,
    /// Where text and picture were wanted: whether the model asked for the picture by itself.
    /// `None` in recipes that leave it no choice.
    pub asked: Option<bool>,
}

/// What a loaded pipeline is and can do.
#[derive(Clone, Debug, Default)]
pub struct Description {
    /// Model id.
    pub model: String,
    /// Name of the recipe, such as `caption`.
    pub pipeline: String,
    /// Hash of the weights.
    pub weights: String,
    /// The device for people, such as `CPU (2 threads)`.
    pub device: String,
    /// Size of its pictures in pixels.
    pub width: u32,
    pub height: u32,
    pub characters: Vec<String>,
    pub things: Vec<String>,
    pub places: Vec<String>,
    /// Settings that look best on this model.
    pub default_settings: Settings,
}

/// How far loading has come.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadProgress {
    /// What is being loaded, such as `language model`.
    pub what: String,
    /// Parts done and parts in all.
    pub done: u32,
    pub of: u32,
}

/// Why a pipeline could not be loaded or could not make a panel; each message is one sentence.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    #[error(transparent)]
    Weights(#[from] crate::weights::WeightsError),
    #[error(transparent)]
    Device(#[from] crate::weights::DeviceError),
    #[error(transparent)]
    Language(#[from] crate::llm::LlmError),
    #[error(transparent)]
    Diffusion(#[from] crate::diffusion::DiffusionError),
    #[error(transparent)]
    Voken(#[from] crate::voken::FolderError),
    #[error(transparent)]
    Published(#[from] crate::published::PublishedError),
    #[error(transparent)]
    Checkpoint(#[from] crate::weights::CheckpointError),
    #[error("{0}")]
    Tensor(String),
    #[error("{0}")]
    Request(String),
}

impl From<candle_core::Error> for PipelineError {
    fn from(error: candle_core::Error) -> Self {
        // Without the backtrace that candle appends when one is asked for.
        let text = error.to_string();
        Self::Tensor(text.lines().next().unwrap_or_default().to_owned())
    }
}

/// Loads a pipeline on the thread that will use it, telling how far it has come.
pub type Loader = Box<
    dyn FnOnce(&mut dyn FnMut(LoadProgress)) -> Result<Box<dyn Pipeline>, PipelineError> + Send,
>;

/// A generation recipe with its models loaded. It lives on the engine's thread.
pub trait Pipeline {
    fn describe(&self) -> &Description;

    /// Makes what `request` orders, telling `sink` of every piece of text and every step; the
    /// sink breaks to cancel, which is obeyed before the next token or step. Every call starts
    /// anew: nothing that an earlier call left, cancelled or failed, changes the result.
    ///
    /// Returns `None` when cancelled.
    ///
    /// # Errors
    /// When the request cannot be met or a model fails; the pipeline can be used again.
    fn generate(
        &mut self,
        request: &Request,
        sink: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Option<Output>, PipelineError>;

    /// Natural log probabilities of the tokens of `text`, which goes on with the story after
    /// `context`, as the model gives them before any sampling.
    ///
    /// # Errors
    /// When the story is too long or a model fails.
    fn log_probabilities(
        &mut self,
        _context: &[ContextPanel],
        _text: &str,
    ) -> Result<Vec<f64>, PipelineError> {
        Err(PipelineError::Request(format!(
            "the recipe {} does not say how likely a text is; compare it without its texts",
            self.describe().pipeline
        )))
    }
}
