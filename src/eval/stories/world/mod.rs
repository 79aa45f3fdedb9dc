//! Whose stories are told, and who judges the pictures: a file for each world.

mod closed;
mod library;

use std::path::Path;
use std::rc::Rc;

use image::RgbImage;
use serde::Deserialize;

use super::StoryOptions;
use super::score::PanelScore;
use crate::eval::EvalError;
use crate::judges::Contrastive;
use crate::pipeline::ContextPanel;
use crate::story::{Images, Member};
use crate::weights;

/// The world that a comparison's stories are of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum World {
    /// The storyworld, whose characters and things a model knows by heart.
    #[default]
    Storyworld,
    /// Any drawings of the library, the heroes held out of training; a cast given by pictures.
    Library,
}

impl World {
    /// Its key in a file of rows and in scores.
    pub(super) fn key(self) -> &'static str {
        match self {
            World::Storyworld => "storyworld",
            World::Library => "library",
        }
    }

    /// The built-in model that draws it, whose usual settings all rows take.
    pub fn model(self) -> &'static str {
        match self {
            World::Storyworld => weights::STORYWORLD_MODEL,
            World::Library => weights::DEFAULT_MODEL,
        }
    }

    /// The world with its judges, of which the learnt ones are in `models`.
    ///
    /// # Errors
    /// A judge that can't be read.
    pub fn open(self, models: &Path) -> Result<Box<dyn StoryWorld>, EvalError> {
        Ok(match self {
            World::Storyworld => Box::new(closed::ClosedWorld::open(models)?),
            World::Library => Box::new(library::LibraryWorld::new()),
        })
    }
}

/// A world of held-out stories, and its judges of pictures.
pub trait StoryWorld {
    /// The held-out story of a seed.
    fn story(&self, seed: u64) -> Box<dyn HeldOutStory + '_>;

    /// Who says how well a picture fits a text, where somebody does.
    fn contrastive(&self) -> Option<Rc<Contrastive>>;

    /// Features of `scenes` real scenes that pictures' features are held against; none where nobody
    /// sees features.
    ///
    /// # Errors
    /// When a judge fails.
    fn real_features(&self, scenes: usize) -> Result<Vec<Vec<f32>>, EvalError>;

    /// What a reader of the table should know of its judges, a sentence each.
    fn notes(&self, options: &StoryOptions) -> Vec<String>;
}

/// A held-out story with its pictures.
pub trait HeldOutStory {
    /// Its panels with their own texts and pictures.
    fn panels(&self) -> &[ContextPanel];

    /// Who is in the cast before the panel at `at`.
    fn cast(&self, at: usize) -> &[Member];

    /// The pictures of the cast.
    fn images(&self) -> &Images;

    /// What `picture`, drawn for the panel at `at`, shows of what it should.
    ///
    /// # Errors
    /// When a judge fails.
    fn judge(&self, at: usize, picture: &RgbImage) -> Result<PanelScore, EvalError>;

    /// How many characters `text` names, and how many of them the texts of the first `panels`
    /// panels name.
    fn of_the_cast(&self, text: &str, panels: usize) -> (usize, usize);
}
