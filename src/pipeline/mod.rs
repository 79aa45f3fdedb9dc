//! Generation recipes behind one trait, in one list ([`RECIPES`]): what goes in is the story before a panel, what comes out
//! is the panel's text and picture.

mod caption;
mod carry;
mod composition;
mod drawable;
mod fallback;
pub mod frame;
mod load;
mod looks;
mod networks;
pub mod painter;
mod recipe;
mod record;
mod request;
mod scene;
mod sightings;
mod speech;
mod voken;
pub mod writer;

pub use caption::CAPTION;
pub use drawable::{NounDrawings, noun_drawings, unknown_words};
pub use load::{LoadOptions, ResolvedModels, is_writer, loader};
pub use recipe::{Recipe, RecipeId, recipes, split_recipe};
pub use record::{default_settings, denoising};
pub use request::{BoardContext, ContextPanel, Make, Request, new_seed, panel_seed};
pub use scene::picture_prompt;
pub use voken::{VOKEN, VokenPipeline};

use std::ops::ControlFlow;
use std::sync::Arc;

use image::RgbaImage;

use crate::cause::{Cause, first_line};
use crate::story::{Member, Record, Settings};
use crate::weights::{Manifest, WeightsError};
use painter::Capabilities;
use writer::WriterDescription;

/// Every recipe. Of those that a model is made for the first is its usual one.
pub static RECIPES: &[&dyn Recipe] = &[&voken::VokenRecipe, &caption::CaptionRecipe];

/// Progress of a generation, as the callback gets it.
#[derive(Clone, Debug)]
pub enum Progress {
    /// Part of the model had to leave for want of memory and is loaded again.
    Loading(LoadProgress),
    /// Nothing new: asked so that a cancel is obeyed while an engine elsewhere is silent.
    Still,
    /// Something that went another way than the author may expect, in a sentence; the work goes on.
    Note(String),
    /// Who or what is before this on an engine that others use as well, for people.
    Waiting(String),
    /// The next piece of the text, to be appended to those before.
    TextPiece(String),
    /// The whole text, cleaned up, and how it was made; it replaces the pieces. Of several
    /// candidates each comes in turn.
    TextDone(String, Box<Record>),
    /// `step` of `steps` (from 1) is done; `preview` is a small picture of the latents.
    Step {
        /// The step, from 1.
        step: u32,
        /// How many there are.
        steps: u32,
        /// Small picture of the latents.
        preview: Arc<RgbaImage>,
    },
}

/// Callback for progress, which is also called while nothing happens; breaks to cancel.
pub type Sink<'a> = dyn FnMut(Progress) -> ControlFlow<()> + 'a;

/// The rest of a request that only engines elsewhere work on. It needs no model of this program, so
/// that any thread may run it.
pub type RemoteWork = Box<dyn FnOnce(&mut Sink) -> Result<Option<Output>, PipelineError> + Send>;

/// How far a request came on the thread that owns the models.
pub enum Started {
    /// Finished; `None` is cancelled.
    Ended(Box<Option<Output>>),
    /// What is left of it.
    Elsewhere(RemoteWork),
}

/// What a request has made: texts, pictures, a plan, each with its record.
#[derive(Clone, Debug, Default)]
pub struct Output {
    /// The text and its record, where one was asked for.
    pub text: Option<(String, Record)>,
    /// The picture and its record, where one was asked for or came by itself.
    pub picture: Option<(RgbaImage, Record)>,
    /// Further texts where several were wanted.
    pub candidates: Vec<(String, Record)>,
    /// For [`Make::Prompt`].
    pub prompt: Option<String>,
    /// For [`Make::Plan`].
    pub plan: Option<Vec<String>>,
    /// For [`Make::Cast`]: those who are not in the cast, without ids.
    pub cast: Option<Vec<Member>>,
    /// Who was drawn from the library of drawings and is not in the cast, without ids; with the
    /// drawing, so that it looks the same in the next picture.
    pub newcomers: Vec<Member>,
    /// Where text and picture were wanted: whether the model began the picture by itself with
    /// `[IMG0]`. `None` in recipes that leave it no choice.
    pub asked: Option<bool>,
}

/// The models of a loaded pipeline, and their capabilities.
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
    /// Characters that it can draw, where it knows only some.
    pub characters: Vec<String>,
    /// Things that it can draw, where it knows only some.
    pub things: Vec<String>,
    /// Places that it can draw, where it knows only some.
    pub places: Vec<String>,
    /// Settings that look best on this model.
    pub default_settings: Settings,
    /// What its pictures can be asked for.
    pub takes: Capabilities,
    /// Pictures that engines elsewhere draw at once; 0 and 1 are one at a time.
    pub at_once: usize,
    /// Who writes the texts.
    pub writer: WriterDescription,
}

/// How far loading has come.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadProgress {
    /// What is being loaded, such as `language model`.
    pub what: String,
    /// Parts loaded so far.
    pub done: u32,
    /// Parts in all.
    pub of: u32,
}

/// Why a pipeline could not be loaded or could not make a panel; each message is one sentence.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// A model cannot be found or its manifest cannot be read.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// What lies in a file cannot be told.
    #[error(transparent)]
    Catalogue(#[from] crate::catalogue::CatalogueError),
    /// The device cannot be used.
    #[error(transparent)]
    Device(#[from] crate::weights::DeviceError),
    /// The language model cannot be loaded or failed.
    #[error(transparent)]
    Language(#[from] crate::llm::LlmError),
    /// The picture model cannot be loaded or failed.
    #[error(transparent)]
    Diffusion(#[from] crate::diffusion::DiffusionError),
    /// The vision projector cannot be loaded or failed.
    #[error(transparent)]
    Projector(#[from] crate::vision::ProjectorError),
    /// The voken folder cannot be read.
    #[error(transparent)]
    Voken(#[from] crate::voken::FolderError),
    /// The published weights cannot be loaded.
    #[error(transparent)]
    Published(#[from] crate::published::PublishedError),
    /// A checkpoint cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] crate::weights::CheckpointError),
    /// An engine elsewhere failed.
    #[error(transparent)]
    Remote(#[from] crate::remote::RemoteError),
    /// The upscaler failed.
    #[error(transparent)]
    Upscale(#[from] crate::upscale::UpscaleError),
    /// A tensor operation failed.
    #[error("{}", first_line(.0))]
    Tensor(#[source] Cause),
    /// The request asks for what the model cannot do; the sentence names it.
    #[error("{0}")]
    Request(String),
}

impl PipelineError {
    /// The error of a model that no recipe takes.
    pub(crate) fn not_a_storyteller(manifest: &Manifest) -> PipelineError {
        let (id, pipeline) = (manifest.id.clone(), manifest.pipeline.clone());
        WeightsError::NotAStoryteller { id, pipeline }.into()
    }
}

impl From<candle_core::Error> for PipelineError {
    fn from(error: candle_core::Error) -> Self {
        Self::Tensor(error.into())
    }
}

/// Loads a pipeline on the thread that will use it, telling how far it has come.
pub type Loader = Box<
    dyn FnOnce(&mut dyn FnMut(LoadProgress)) -> Result<Box<dyn Pipeline>, PipelineError> + Send,
>;

/// A generation recipe with its models loaded. It lives on the engine's thread.
pub trait Pipeline {
    /// What is loaded, and what it can do.
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

    /// As [`Pipeline::generate`], but returns when only engines elsewhere have to work on.
    ///
    /// # Errors
    /// As [`Pipeline::generate`].
    fn begin(&mut self, request: &Request, sink: &mut Sink) -> Result<Started, PipelineError> {
        let output = self.generate(request, sink)?;
        Ok(Started::Ended(Box::new(output)))
    }

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
