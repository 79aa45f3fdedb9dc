//! The author's models in the window: which can be chosen, and adding more of them where they lie,
//! on a thread of their own.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use egui::{RichText, Ui};

use super::actions::Action;
use super::state::{Choice, State, Storyteller};
use super::{theme, widgets};
use crate::catalogue;
use crate::pipeline;
use crate::weights::{self, Manifest, Model};

/// What can be chosen.
#[derive(Clone, Debug, Default)]
pub struct Offer {
    /// Models that tell stories.
    pub models: Vec<Storyteller>,
    /// Models that write for others.
    pub writers: Vec<Manifest>,
    /// Names of those whose disk is away, and where they were.
    pub away: Vec<(String, String)>,
}

/// All in the models folder `models` that a recipe takes, and what the command line names. What
/// cannot be read is left out here; loading it says why.
pub fn offer(models: &Path, chosen: &Choice) -> Offer {
    let installed = weights::catalogue(models).unwrap_or_default();
    let (there, away): (Vec<Model>, Vec<Model>) = installed
        .into_iter()
        .partition(|model| model.source.is_there());
    let writers = there.iter().filter(|model| pipeline::is_writer(model));
    let writers = writers.map(|model| model.manifest.clone()).collect();
    let mut all: Vec<Storyteller> = there.into_iter().flat_map(with_recipes).collect();
    if !all.iter().any(|known| known.is(chosen))
        && let Ok(named) = weights::find(models, &chosen.model)
    {
        all.push(Storyteller {
            model: chosen.model.clone(),
            recipe: chosen.recipe,
            manifest: named.manifest,
        });
    }
    let place = |model: Model| (model.manifest.name, model.source.to_string());
    Offer {
        models: all,
        writers,
        away: away.into_iter().map(place).collect(),
    }
}

/// A model once for each of its recipes, by the usual one without naming it.
fn with_recipes(model: Model) -> Vec<Storyteller> {
    let recipes = pipeline::recipes(&model).into_iter().enumerate();
    let all = recipes.map(|(at, recipe)| Storyteller {
        model: model.manifest.id.clone(),
        recipe: (at > 0).then_some(recipe),
        manifest: match at {
            0 => model.manifest.clone(),
            _ => Manifest {
                name: format!("{} ({recipe})", model.manifest.name),
                ..model.manifest.clone()
            },
        },
    });
    all.collect()
}

/// What the thread tells.
enum Told {
    /// The file that is looked at, and how many were added so far.
    Looking(String, usize),
    /// What was done, in a sentence.
    Done(String),
    Failed(String),
}

/// The models folder, and what is being added to it.
pub struct Library {
    dir: PathBuf,
    away: Vec<(String, String)>,
    wake: Arc<dyn Fn() + Send + Sync>,
    send: Sender<Told>,
    told: Receiver<Told>,
    /// What is looked at now, where something is added.
    pub looking: Option<String>,
}

impl Library {
    /// A library over the models folder `dir`; `wake` is called when an addition has news.
    pub fn new(
        dir: PathBuf,
        away: Vec<(String, String)>,
        wake: Arc<dyn Fn() + Send + Sync>,
    ) -> Library {
        let (send, told) = channel();
        Library {
            dir,
            away,
            wake,
            send,
            told,
            looking: None,
        }
    }

    /// Adds the file or model folder `path`, or all below the folder `path`.
    pub fn add(&mut self, path: PathBuf, all: bool) {
        self.looking = Some(path.display().to_string());
        let (send, wake, models) = (self.send.clone(), Arc::clone(&self.wake), self.dir.clone());
        let tell = move |told| {
            // The window may have been closed meanwhile.
            let open = send.send(told).is_ok();
            wake();
            open
        };
        let work = move || {
            let done = match all {
                true => add_all(&path, &models, &tell),
                false => add_one(&path, &models),
            };
            tell(match done {
                Ok(done) => Told::Done(done),
                Err(error) => Told::Failed(error.to_string()),
            });
        };
        let thread = std::thread::Builder::new()
            .name("models".to_owned())
            .spawn(work);
        if let Err(error) = thread {
            let _ = self.send.send(Told::Failed(format!(
                "the model could not be looked at ({error}); close some programs and try again"
            )));
        }
    }
}

fn add_one(path: &Path, models: &Path) -> Result<String, catalogue::CatalogueError> {
    let added = catalogue::add(path, None, None, models)?;
    let manifest = &added.model.manifest;
    let notes = manifest
        .identity
        .iter()
        .flat_map(|identity| &identity.notes);
    let notes: String = notes.map(|note| format!("; {note}")).collect();
    Ok(format!(
        "Added {}: {}{notes}.",
        manifest.name, manifest.summary
    ))
}

fn add_all(
    dir: &Path,
    models: &Path,
    tell: &dyn Fn(Told) -> bool,
) -> Result<String, catalogue::CatalogueError> {
    let (mut added, mut others, mut broken) = (0, 0, 0);
    catalogue::scan(dir, &mut |found| {
        let name = found
            .path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        match &found.identity {
            Ok(identity) if identity.supported => {
                match catalogue::add(&found.path, found.name.as_deref(), None, models) {
                    Ok(_) => added += 1,
                    Err(_) => broken += 1,
                }
            }
            Ok(_) => others += 1,
            Err(_) => broken += 1,
        }
        match tell(Told::Looking(name, added)) {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    })?;
    Ok(format!(
        "Added {added} from {}; {others} that cannot be used and {broken} that cannot be read were passed over, as `vokenboard models scan` lists them.",
        dir.display()
    ))
}

impl State {
    /// Takes in what the thread of the models told.
    pub(super) fn take_in_models(&mut self, now: Instant) {
        let Some(library) = &mut self.models.library else {
            return;
        };
        let mut done = false;
        while let Ok(told) = library.told.try_recv() {
            match told {
                Told::Looking(name, added) => {
                    library.looking = Some(format!("{name}, {added} added"));
                }
                Told::Done(sentence) => {
                    library.looking = None;
                    self.toasts.note(sentence, now);
                    done = true;
                }
                Told::Failed(sentence) => {
                    library.looking = None;
                    self.toasts.error(sentence, now);
                }
            }
        }
        if done {
            let offer = offer(&library.dir, &self.models.choice);
            library.away = offer.away;
            self.models.storytellers = offer.models;
            self.models.writers = offer.writers;
        }
    }

    /// Adds what the author named.
    pub(super) fn add_model(&mut self, path: PathBuf, all: bool) {
        if let Some(library) = &mut self.models.library {
            library.add(path, all);
        }
    }
}

/// What the model menu says of the author's models, below those that can be chosen.
pub fn menu(ui: &mut Ui, state: &State, actions: &mut Vec<Action>) {
    let Some(library) = &state.models.library else {
        return;
    };
    for (name, place) in &library.away {
        let button = egui::Button::selectable(false, name.as_str());
        ui.add_enabled(false, button)
            .accessible_name(format!("{name}, away"))
            .on_disabled_hover_text(format!(
                "It was at {place}, which is not there at the moment."
            ));
    }
    if let Some(looking) = &library.looking {
        ui.horizontal(|ui| {
            ui.spinner();
            ui.label(RichText::new(format!("Looking at {looking}")).color(theme::palette(ui).ink));
        });
    }
    let idle = library.looking.is_none();
    for (words, action) in [
        ("Add a model…", Action::AskModel),
        ("Add a model folder…", Action::AskModelFolder),
        ("Add a folder of models…", Action::AskModels),
    ] {
        if widgets::menu_item(ui, words, "", idle) {
            actions.push(action);
        }
    }
    ui.separator();
}
