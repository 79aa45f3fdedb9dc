//! Writers: language models that continue the text of a story, rewrite it, plan it and say what a
//! picture of it shows. [`WRITERS`] lists the kinds there are.

mod continuation;
mod endpoint;
mod eyes;
pub mod instruct;
mod local;

use std::ops::ControlFlow;

use super::painter::PromptStyle;
use super::{ContextPanel, LoadProgress, PipelineError, Request};
use crate::story::Member;
use crate::weights::{ComputeDevices, Model};

/// Most panels that are planned at a time.
pub const MOST_PLANNED: u32 = 40;

/// Callback for every piece of a text as it is written; breaks to cancel.
pub type TextSink<'a> = dyn FnMut(&str) -> ControlFlow<()> + 'a;

/// What a loaded writer is and can do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WriterDescription {
    /// Model id.
    pub model: String,
    /// Hash of the weights.
    pub weights: String,
    /// The device for people, such as `CPU (2 threads)`.
    pub device: String,
    /// Follows instructions: rewrites by them, plans a story, writes picture prompts.
    pub instructs: bool,
    /// Reads the pictures on the board.
    pub sees: bool,
}

/// A text and what the writer was given to write it from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WrittenText {
    /// The text.
    pub text: String,
    /// What the writer read, for the record.
    pub prompt: String,
}

/// Writes the texts of a story. It lives on the engine's thread.
///
/// Every method returns `None` when its sink broke, which is obeyed before the next token, and
/// starts anew: nothing that an earlier call left changes the result. The request's settings say
/// how text is sampled; the same request gives the same text.
pub trait Writer {
    /// What is loaded, and what it can do.
    fn describe(&self) -> &WriterDescription;

    /// The text of the next panel after `request.context`; of `request.picture` where there is one
    /// and the writer sees. Plain prose: no markup, no thoughts, no control tokens.
    ///
    /// # Errors
    /// When the story is too long, or the model fails or finds no words.
    fn continue_story(
        &mut self,
        request: &Request,
        sink: &mut TextSink,
    ) -> Result<Option<WrittenText>, PipelineError>;

    /// `request.text` changed after `instruction`, such as `shorter`.
    ///
    /// # Errors
    /// As [`Writer::continue_story`]; where the writer follows no instructions.
    fn rewrite(
        &mut self,
        _request: &Request,
        _instruction: &str,
        _sink: &mut TextSink,
    ) -> Result<Option<WrittenText>, PipelineError> {
        Err(self.no_instructions("rewrite a text by an instruction"))
    }

    /// What is to happen in the next `panels` panels, a line each, ending as a story does.
    ///
    /// # Errors
    /// As [`Writer::rewrite`].
    fn plan(
        &mut self,
        _request: &Request,
        _panels: usize,
        _sink: &mut TextSink,
    ) -> Result<Option<Vec<String>>, PipelineError> {
        Err(self.no_instructions("plan a story"))
    }

    /// Who and what comes back in the story and is not in its cast: names and looks, without ids.
    ///
    /// # Errors
    /// As [`Writer::rewrite`].
    fn cast(
        &mut self,
        _request: &Request,
        _sink: &mut TextSink,
    ) -> Result<Option<Vec<Member>>, PipelineError> {
        Err(self.no_instructions("say who is in a story"))
    }

    /// What a picture of `text`, the panel after `request.context`, shows: who, how they look,
    /// where, light and camera, in the terms of the painter. The style line of the board is not
    /// in it; the recipe puts that before it.
    ///
    /// # Errors
    /// As [`Writer::rewrite`].
    fn picture_prompt(
        &mut self,
        _request: &Request,
        _text: &str,
        _style: PromptStyle,
        _sink: &mut TextSink,
    ) -> Result<Option<WrittenText>, PipelineError> {
        Err(self.no_instructions("write a picture prompt"))
    }

    /// Who is in a picture of `text`, the panel after `request.context`, from left to right, where
    /// and when, as a prompt for a painter that draws compositions; `None` where the writer leaves
    /// that to the words.
    ///
    /// # Errors
    /// When the story is too long or the model fails.
    fn composition_prompt(
        &mut self,
        _request: &Request,
        _text: &str,
    ) -> Result<Option<String>, PipelineError> {
        Ok(None)
    }

    /// Natural log probabilities of the tokens of `text` after `context`, before any sampling.
    ///
    /// # Errors
    /// When the story is too long or the model fails; where the writer can't say.
    fn log_probabilities(
        &mut self,
        _context: &[ContextPanel],
        _text: &str,
    ) -> Result<Vec<f64>, PipelineError> {
        Err(self.no_likelihoods())
    }

    /// The error of a writer that can't say how likely a text is.
    fn no_likelihoods(&self) -> PipelineError {
        PipelineError::Request(format!(
            "the writer {} does not say how likely a text is; compare it without its texts",
            self.describe().model
        ))
    }

    /// The error of a writer that is asked for what only an instruct model does.
    fn no_instructions(&self, what: &str) -> PipelineError {
        PipelineError::Request(format!(
            "the writer {} can't {what}, because it follows no instructions; choose an instruct model with --writer",
            self.describe().model
        ))
    }
}

/// A kind of writer: which models are of it, and how one is loaded.
pub trait WriterKind: Sync {
    /// Whether a model is of this kind.
    fn detect(&self, model: &Model) -> bool;

    /// # Errors
    /// When a file is missing, broken or of a kind that is not read.
    fn load(
        &self,
        model: &Model,
        place: &ComputeDevices,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Box<dyn Writer>, PipelineError>;
}

/// Every kind of writer; the first that detects a model loads it.
pub static WRITERS: &[&dyn WriterKind] = &[
    &local::LocalKind,
    &endpoint::EndpointKind,
    &continuation::ContinuationKind,
];

/// The kind that a model is of.
pub(super) fn kind_of(model: &Model) -> Option<&'static dyn WriterKind> {
    WRITERS.iter().copied().find(|kind| kind.detect(model))
}
