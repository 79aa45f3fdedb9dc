//! Painters: models that draw a picture from a brief. [`PAINTERS`] lists the kinds there are.

mod brief;
mod capabilities;
mod comfy;
mod diffusers;
mod dit;
mod embeddings;
mod hashes;
mod library;
mod presets;
mod stable;

#[cfg(test)]
mod tests;

use std::ops::ControlFlow;

use candle_core::Device;
use image::RgbaImage;

pub use brief::{Brief, GivenControl, GivenReference};
pub use capabilities::{Capabilities, PromptStyle, SHAPES, SizeRange};
pub(super) use diffusers::own_schedulers;
pub(super) use embeddings::embedding_name;
pub(super) use hashes::Hashes;
pub use presets::{PRESETS, Preset};

use super::{LoadProgress, PipelineError, Progress};
use crate::story::Settings;
use crate::weights::{ComputeDevices, DrawableWords, Model};

/// What a loaded painter is and can do.
#[derive(Clone, Debug, Default)]
pub struct PainterDescription {
    /// Model id.
    pub model: String,
    /// Hash of the weights.
    pub weights: String,
    /// The device for people, such as `CPU (2 threads)`.
    pub device: String,
    /// What it can take.
    pub takes: Capabilities,
    /// Words that it knows where it knows only some.
    pub draws: DrawableWords,
    /// Settings that look best on this model.
    pub default_settings: Settings,
}

/// A picture as it came out.
#[derive(Clone, Debug)]
pub struct PaintedPicture {
    /// The picture.
    pub picture: RgbaImage,
    /// What an engine elsewhere was given to draw it.
    pub graph: Option<serde_json::Value>,
    /// Which of several engines that share the work drew it.
    pub by: Option<RemoteEngine>,
}

/// An engine as records name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteEngine {
    /// Model id.
    pub model: String,
    /// What it drew with.
    pub weights: String,
    /// Where, for people.
    pub device: String,
}

impl From<RgbaImage> for PaintedPicture {
    fn from(picture: RgbaImage) -> PaintedPicture {
        PaintedPicture {
            picture,
            graph: None,
            by: None,
        }
    }
}

/// Draws pictures. It lives on the engine's thread.
pub trait Painter {
    /// What is loaded, and what it can take.
    fn describe(&self) -> &PainterDescription;

    /// The brief with what only the painter can fill in, such as the hashes of files that it
    /// names; what the painter can't do is refused here, before anything is drawn.
    ///
    /// # Errors
    /// Where it asks for what the painter can't do, or names a file that is gone or unfit.
    fn complete(&mut self, brief: Brief) -> Result<Brief, PipelineError> {
        let about = self.describe();
        about.takes.check(&brief, &about.model)?;
        Ok(brief)
    }

    /// What a brief that was completed asks for and the picture won't show, each in a sentence that
    /// the author is told.
    fn notes(&self, brief: &Brief) -> Vec<String> {
        brief.unread().into_iter().collect()
    }

    /// Takes on those of `others` that have the same to draw with on another machine, and shares
    /// pictures with them.
    fn share(&mut self, _others: &[Model]) {}

    /// Pictures that it draws at once.
    fn at_once(&self) -> usize {
        1
    }

    /// The device of this machine that it computes on; upscalers work there too.
    fn computes_on(&self) -> Device {
        Device::Cpu
    }

    /// A second handle on the engines elsewhere that draw, for any thread; `None` where pictures are
    /// drawn here.
    fn elsewhere(&self) -> Option<Box<dyn Painter + Send>> {
        None
    }

    /// Draws a brief that was completed, telling `sink` of every step ([`Progress::Step`]); the
    /// sink breaks to cancel, which is obeyed before the next step. `None` is cancelled. The same
    /// brief gives the same picture, byte for byte, on one machine.
    ///
    /// # Errors
    /// When the model fails; it can be used again.
    fn draw(
        &mut self,
        brief: &Brief,
        sink: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Option<PaintedPicture>, PipelineError>;
}

/// A kind of painter: which models are of it, and how one is loaded.
pub trait PainterKind: Sync {
    /// Whether a model is of this kind.
    fn detect(&self, model: &Model) -> bool;

    /// # Errors
    /// When a file is missing, broken or of a kind that is not read.
    fn load(
        &self,
        model: &Model,
        place: &ComputeDevices,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Box<dyn Painter>, PipelineError>;
}

/// Every kind of painter; the first that detects a model loads it.
pub static PAINTERS: &[&dyn PainterKind] = &[
    &library::LibraryKind,
    &diffusers::DiffusersKind,
    &stable::StableKind,
    &dit::DitKind,
    &comfy::ComfyKind,
];

/// Whether a model's files are on this machine and its manifest says `pipeline`.
fn is_local(model: &Model, pipeline: &str) -> bool {
    model.manifest.pipeline == pipeline && model.source.path().is_some()
}

/// Loads the painter of a model.
///
/// # Errors
/// As [`PainterKind::load`], or a model that draws nothing.
pub fn load(
    model: &Model,
    place: &ComputeDevices,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<Box<dyn Painter>, PipelineError> {
    match kind_of(model) {
        Some(kind) => kind.load(model, place, progress),
        None => Err(PipelineError::not_a_storyteller(&model.manifest)),
    }
}

/// The kind that a model is of.
pub(super) fn kind_of(model: &Model) -> Option<&'static dyn PainterKind> {
    PAINTERS.iter().copied().find(|kind| kind.detect(model))
}
