//! Which model tells the story: what can be chosen, and what is known of it.

use std::sync::{Arc, OnceLock};

use super::State;
use crate::engine::{Description, Loader};
use crate::nn::gpu::AdapterInfo;
use crate::pipeline::RecipeId;
use crate::studio::models::ModelLibrary;
use crate::studio::toasts::sentence;
use crate::weights::{DeviceChoice, Manifest};

/// Which model tells the story, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelChoice {
    /// An installed model's id, or a model folder.
    pub model: String,
    /// `None` for the usual one of the model.
    pub recipe: Option<RecipeId>,
    /// Who writes; `None` for the one that belongs to the model.
    pub writer: Option<String>,
    /// The device that it is loaded on.
    pub device: DeviceChoice,
}

/// A model that the author can choose.
#[derive(Clone, Debug, Default)]
pub struct Storyteller {
    /// As [`ModelChoice::model`] names it.
    pub model: String,
    /// A recipe that is not the usual one of the model.
    pub recipe: Option<RecipeId>,
    /// What the model is.
    pub manifest: Manifest,
}

impl Storyteller {
    /// Whether it is what was chosen.
    pub fn is(&self, choice: &ModelChoice) -> bool {
        self.model == choice.model && self.recipe == choice.recipe
    }
}

/// Makes the loader of what was chosen.
pub type LoaderFor = Arc<dyn Fn(&ModelChoice) -> Loader + Send + Sync>;

/// Whether the model is loaded.
#[derive(Clone, Debug)]
pub enum Readiness {
    /// What is being loaded, for people.
    Loading(String),
    /// It is loaded; this is what it can do.
    Ready(Box<Description>),
    /// Why not, in a sentence.
    Failed(String),
}

impl Default for Readiness {
    fn default() -> Self {
        Self::Loading("Loading the model…".to_owned())
    }
}

/// The models that can be chosen, the one that was, and whether it is ready.
pub struct Models {
    /// The model that was chosen.
    pub choice: ModelChoice,
    /// The installed models that tell stories.
    pub storytellers: Vec<Storyteller>,
    /// The installed models that write for others.
    pub writers: Vec<Manifest>,
    /// The GPUs of this machine, once they are known.
    pub gpus: Arc<OnceLock<Vec<AdapterInfo>>>,
    /// The models folder, where models can be added to it.
    pub library: Option<ModelLibrary>,
    pub(super) loader_for: LoaderFor,
    /// Whether it can be asked.
    pub readiness: Readiness,
}

/// Characters, things and places that a model can draw.
#[derive(Clone, Copy, Debug, Default)]
pub struct DrawableWordLists<'a> {
    /// Characters.
    pub characters: &'a [String],
    /// Things.
    pub things: &'a [String],
    /// Places.
    pub places: &'a [String],
}

impl State {
    /// What is known of the chosen model without loading it.
    fn storyteller(&self) -> Option<&Storyteller> {
        let mut models = self.models.storytellers.iter();
        models.find(|known| known.is(&self.models.choice))
    }

    /// The model's name for people.
    pub fn model_name(&self) -> String {
        if let Some(known) = self.storyteller() {
            return known.manifest.name.clone();
        }
        let name = match &self.models.readiness {
            Readiness::Ready(d) => &d.model,
            _ => &self.models.choice.model,
        };
        sentence(name.clone())
    }

    /// What the model can draw; its manifest tells before it is loaded.
    pub fn words(&self) -> DrawableWordLists<'_> {
        match (&self.models.readiness, self.storyteller()) {
            (Readiness::Ready(d), _) => DrawableWordLists {
                characters: &d.characters,
                things: &d.things,
                places: &d.places,
            },
            (Readiness::Loading(_), Some(known)) => DrawableWordLists {
                characters: &known.manifest.draws.characters,
                things: &known.manifest.draws.things,
                places: &known.manifest.draws.places,
            },
            _ => DrawableWordLists::default(),
        }
    }

    /// Whether the model can draw a character, thing or place of this name.
    pub(super) fn knows(&self, word: &str) -> bool {
        let words = self.words();
        let mut all = words
            .characters
            .iter()
            .chain(words.things)
            .chain(words.places);
        all.any(|known| known == word)
    }

    /// Loads what the author has chosen in place of the model at work.
    pub(super) fn choose(&mut self, choice: ModelChoice) {
        self.models.readiness = Readiness::default();
        self.engine.reload((self.models.loader_for)(&choice));
        self.models.choice = choice;
    }
}
