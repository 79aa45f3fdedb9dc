//! The author's models in the window: which can be chosen, and adding more of them where they lie,
//! on a thread of their own.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use egui::{RichText, Ui};

use super::actions::Action;
use super::sheets::Sheet;
use super::state::{ModelChoice, State, Storyteller};
use super::{theme, widgets};
use crate::catalogue;
use crate::pipeline;
use crate::remote::ApiKey;
use crate::weights::{self, Manifest, Model};

/// The models, writers and recipes that can be chosen.
#[derive(Clone, Debug, Default)]
pub struct ModelOffer {
    /// Models that tell stories.
    pub models: Vec<Storyteller>,
    /// Models that write for others.
    pub writers: Vec<Manifest>,
    /// Names of those whose disk is away, and where they were.
    pub away: Vec<(String, String)>,
}

/// All in the models folder `models` that a recipe takes, and what the command line names. What
/// cannot be read is left out here; loading it says why.
pub fn offered_models(models: &Path, chosen: &ModelChoice) -> ModelOffer {
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
    ModelOffer {
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

/// Progress of the thread that adds models.
enum AddProgress {
    /// The file that is looked at, and how many were added so far.
    Looking(String, usize),
    /// What was done, in a sentence.
    Done(String),
    Failed(String),
}

/// What engines do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EngineKind {
    /// Writes texts.
    #[default]
    Words,
    /// Draws.
    Pictures,
}

impl EngineKind {
    /// Every kind, in the order of the form.
    pub const ALL: [EngineKind; 2] = [EngineKind::Words, EngineKind::Pictures];

    /// The name for people.
    pub fn label(self) -> &'static str {
        match self {
            EngineKind::Words => "Words: llama-server, LM Studio, Ollama, vLLM",
            EngineKind::Pictures => "Pictures: ComfyUI",
        }
    }

    /// The address that such an engine has by default.
    pub fn example(self) -> &'static str {
        match self {
            EngineKind::Words => "http://127.0.0.1:8080/v1",
            EngineKind::Pictures => "http://127.0.0.1:8188",
        }
    }
}

/// An engine as the author describes it, before it is added.
#[derive(Clone, Default)]
pub struct EngineForm {
    /// What it does.
    pub kind: EngineKind,
    /// Where it is.
    pub address: String,
    /// What it is opened with, where it wants that.
    pub key: String,
    /// A workflow of the author's for ComfyUI.
    pub workflow: Option<PathBuf>,
    /// Its inputs that are bound by hand, between spaces.
    pub bindings: String,
    /// Why the last attempt failed.
    pub trouble: Option<String>,
}

impl EngineForm {
    /// Asks the engine what it has, and adds that.
    fn add(&self, models: &Path) -> Result<String, catalogue::CatalogueError> {
        let key = ApiKey::new(&self.key);
        let address = self.address.trim();
        let bindings: Vec<String> = self
            .bindings
            .split_whitespace()
            .map(str::to_owned)
            .collect();
        let added = match self.kind {
            EngineKind::Words => catalogue::add_endpoint(address, key.as_ref(), models)?,
            EngineKind::Pictures => {
                let workflow = self.workflow.as_deref().map(|file| (file, &bindings[..]));
                catalogue::add_comfy(address, key.as_ref(), workflow, models)?
            }
        };
        let names: Vec<&str> = added
            .iter()
            .map(|added| added.model.manifest.name.as_str())
            .collect();
        Ok(format!("Added {} at {address}.", names.join(", ")))
    }
}

/// The models folder, and what is being added to it.
pub struct ModelLibrary {
    dir: PathBuf,
    away: Vec<(String, String)>,
    wake: Arc<dyn Fn() + Send + Sync>,
    send: Sender<AddProgress>,
    progress: Receiver<AddProgress>,
    /// What is looked at now, where something is added.
    pub looking: Option<String>,
    /// The engine that the author describes.
    pub engine: EngineForm,
}

impl ModelLibrary {
    /// A library over the models folder `dir`; `wake` is called when an addition has news.
    pub fn new(
        dir: PathBuf,
        away: Vec<(String, String)>,
        wake: Arc<dyn Fn() + Send + Sync>,
    ) -> ModelLibrary {
        let (send, progress) = channel();
        ModelLibrary {
            dir,
            away,
            wake,
            send,
            progress,
            looking: None,
            engine: EngineForm::default(),
        }
    }

    /// Adds the file or model folder `path`, or all below the folder `path`.
    pub fn add(&mut self, path: PathBuf, all: bool) {
        self.look_at(path.display().to_string(), move |models, tell| match all {
            true => add_all(&path, models, tell),
            false => add_one(&path, models),
        });
    }

    /// Adds the engine that the author describes.
    fn add_engine(&mut self) {
        self.engine.trouble = None;
        let form = self.engine.clone();
        self.look_at(form.address.trim().to_owned(), move |models, _| {
            form.add(models)
        });
    }

    /// Does `add` on a thread of its own; `what` is what it looks at.
    fn look_at(
        &mut self,
        what: String,
        add: impl FnOnce(
            &Path,
            &dyn Fn(AddProgress) -> bool,
        ) -> Result<String, catalogue::CatalogueError>
        + Send
        + 'static,
    ) {
        self.looking = Some(what);
        let (send, wake, models) = (self.send.clone(), Arc::clone(&self.wake), self.dir.clone());
        let tell = move |progress| {
            // The window may have been closed meanwhile.
            let open = send.send(progress).is_ok();
            wake();
            open
        };
        let work = move || {
            tell(match add(&models, &tell) {
                Ok(done) => AddProgress::Done(done),
                Err(error) => AddProgress::Failed(error.to_string()),
            });
        };
        let thread = std::thread::Builder::new()
            .name("models".to_owned())
            .spawn(work);
        if let Err(error) = thread {
            let _ = self.send.send(AddProgress::Failed(format!(
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
    tell: &dyn Fn(AddProgress) -> bool,
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
        match tell(AddProgress::Looking(name, added)) {
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
        while let Ok(progress) = library.progress.try_recv() {
            match progress {
                AddProgress::Looking(name, added) => {
                    library.looking = Some(format!("{name}, {added} added"));
                }
                AddProgress::Done(sentence) => {
                    library.looking = None;
                    self.toasts.note(sentence, now);
                    if self.view.sheet == Some(Sheet::Engine) {
                        self.view.sheet = None;
                        library.engine = EngineForm::default();
                    }
                    done = true;
                }
                AddProgress::Failed(sentence) => {
                    library.looking = None;
                    if self.view.sheet == Some(Sheet::Engine) {
                        library.engine.trouble = Some(sentence);
                    } else {
                        self.toasts.error(sentence, now);
                    }
                }
            }
        }
        if done {
            let offer = offered_models(&library.dir, &self.models.choice);
            library.away = offer.away;
            self.models.storytellers = offer.models;
            self.models.writers = offer.writers;
        }
    }

    /// Adds the engine that the author described.
    pub(super) fn add_engine(&mut self) {
        if let Some(library) = &mut self.models.library {
            library.add_engine();
        }
    }

    /// Adds what the author named.
    pub(super) fn add_model(&mut self, path: PathBuf, all: bool) {
        if let Some(library) = &mut self.models.library {
            library.add(path, all);
        }
    }
}

/// The author's models in the model menu, below those that can be chosen.
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
        ("Add an engine…", Action::Show(Some(Sheet::Engine))),
    ] {
        if widgets::menu_item(ui, words, "", idle) {
            actions.push(action);
        }
    }
    ui.separator();
}
