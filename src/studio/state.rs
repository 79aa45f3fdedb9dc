//! The studio without its window: the document, the author's actions on it, and the engine's
//! events folded into it.

mod keeping;
mod making;
mod model;
mod settings;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use image::RgbaImage;

use super::actions::Action;
use super::dialogs::{Ask, Dialogs};
use super::files::{Files, Task};
use super::live::Live;
use super::toasts::Toasts;
use super::work::{Order, Target, Work};
use crate::engine::{Description, Engine, Make};
use crate::pipeline::new_seed;
use crate::story::{Document, Edit, Images, Panel, PanelId, Record, Settings, Story};
use crate::weights::Manifest;
pub use model::{Choice, LoaderFor, Storyteller, Words};

/// How long typing rests before it becomes an undo step.
const TYPING_REST: Duration = Duration::from_millis(1500);
/// How long the board rests before it is saved by itself.
const SAVE_REST: Duration = Duration::from_millis(1000);

/// Whether the model can be asked.
#[derive(Clone, Debug)]
pub enum Readiness {
    /// What is being loaded, for people.
    Loading(String),
    Ready(Box<Description>),
    /// Why not, in a sentence.
    Failed(String),
}

/// What the studio is made of, so that tests can give their own parts.
pub struct Parts {
    pub loader_for: LoaderFor,
    pub choice: Choice,
    /// The installed models that tell stories.
    pub models: Vec<Storyteller>,
    /// The installed models that write for others.
    pub writers: Vec<Manifest>,
    /// Called from other threads when there is something to draw.
    pub wake: Arc<dyn Fn() + Send + Sync>,
    pub dialogs: Box<dyn Dialogs>,
    /// Where stories without a folder of their own are kept.
    pub projects: PathBuf,
}

/// A picture seen while the guidance slider is held.
struct Glimpse {
    panel: PanelId,
    picture: Arc<RgbaImage>,
    record: Record,
}

pub struct State {
    pub document: Document,
    pub images: Images,
    pub readiness: Readiness,
    pub choice: Choice,
    pub models: Vec<Storyteller>,
    pub writers: Vec<Manifest>,
    pub work: Work,
    pub toasts: Toasts,
    /// The folder of this story, once it has one.
    pub project: Option<PathBuf>,
    pub selected: Option<PanelId>,
    /// The panel whose picture is open large.
    pub large: Option<PanelId>,
    pub composer: String,
    /// The title as typed.
    pub title: String,
    pub focus_composer: bool,
    /// The cursor is in the text of the selected panel: the board must not move under it.
    pub editing: bool,
    pub scroll_to: Option<PanelId>,
    /// Cards in a row, as last drawn.
    pub columns: usize,
    pub seed_locked: bool,
    /// Which words the empty board shows: characters, things or places.
    pub words_shown: usize,
    /// Settings of panels to come.
    next: Settings,
    /// Settings of the selected panel.
    panel_settings: Settings,
    /// The author chose the seed: the next picture takes it.
    seed_chosen: bool,
    /// When the author last typed in a panel.
    typed: Option<Instant>,
    glimpse: Option<Glimpse>,
    live: Live,
    engine: Engine,
    loader_for: LoaderFor,
    files: Files,
    dialogs: Box<dyn Dialogs>,
    /// The revision that was last sent to be saved, and the last that was.
    sent: u64,
    saved: u64,
    changed: Option<(u64, Instant)>,
    /// A failed save is not tried again by itself until the board changes.
    save_failed: bool,
    /// The author waits to hear of a save.
    save_asked: bool,
    /// Counts the boards opened so far.
    board: u64,
    /// The author has chosen settings: a model's own no longer replace them.
    settings_chosen: bool,
}

impl State {
    pub fn new(parts: Parts) -> State {
        let wake = Arc::clone(&parts.wake);
        let engine = Engine::spawn((parts.loader_for)(&parts.choice), Box::new(move || wake()));
        let document = Document::default();
        let revision = document.revision();
        State {
            title: document.story().title.clone(),
            document,
            images: Images::default(),
            readiness: Readiness::Loading("Loading the model…".to_owned()),
            choice: parts.choice,
            writers: parts.writers,
            models: parts.models,
            work: Work::default(),
            toasts: Toasts::default(),
            project: None,
            selected: None,
            large: None,
            composer: String::new(),
            focus_composer: true,
            editing: false,
            scroll_to: None,
            columns: 3,
            seed_locked: false,
            words_shown: 0,
            next: Settings {
                seed: new_seed(),
                ..Settings::default()
            },
            panel_settings: Settings::default(),
            seed_chosen: false,
            typed: None,
            glimpse: None,
            live: Live::default(),
            engine,
            loader_for: parts.loader_for,
            files: Files::spawn(parts.projects, parts.wake),
            dialogs: parts.dialogs,
            sent: revision,
            saved: revision,
            changed: None,
            save_failed: false,
            save_asked: false,
            board: 0,
            settings_chosen: false,
        }
    }

    /// Opens a project folder, in the background.
    pub fn open(&mut self, dir: PathBuf) {
        self.flush();
        self.files.send(Task::Open(dir));
    }

    pub fn story(&self) -> &Story {
        self.document.story()
    }

    pub fn panels(&self) -> &[Panel] {
        &self.document.story().panels
    }

    pub fn index_of(&self, id: PanelId) -> Option<usize> {
        self.story().position(id)
    }

    pub fn panel(&self, id: PanelId) -> Option<&Panel> {
        self.story().panel(id)
    }

    pub fn text_of(&self, id: PanelId) -> &str {
        self.panel(id).map_or("", |panel| &panel.text)
    }

    /// The text that the panel shows: one that is being made goes before the one it has.
    pub fn seen_text(&self, id: PanelId) -> &str {
        match self.work.on(id).filter(|running| !running.text_done) {
            Some(running) => running.text.trim_start(),
            None => self.text_of(id),
        }
    }

    /// The picture that the panel shows.
    pub fn picture_of(&self, id: PanelId) -> Option<Arc<RgbaImage>> {
        if let Some(glimpse) = self.glimpse.as_ref().filter(|g| g.panel == id) {
            return Some(Arc::clone(&glimpse.picture));
        }
        let take = self.panel(id)?.pictures.active()?;
        self.images.shown(&take.image)
    }

    pub fn selected_with_picture(&self) -> Option<PanelId> {
        self.selected.filter(|&id| {
            self.panel(id)
                .is_some_and(|p| p.pictures.active().is_some())
        })
    }

    /// The settings that the inspector shows.
    pub fn shown(&self) -> &Settings {
        if self.selected.is_some() {
            &self.panel_settings
        } else {
            &self.next
        }
    }

    /// Whether everything is on the disk, in a word or two; `None` before there is anything.
    pub fn saved_words(&self) -> Option<&'static str> {
        if self.save_failed {
            Some("not saved")
        } else if self.is_unsaved() {
            Some("saving…").filter(|_| !self.panels().is_empty())
        } else {
            self.project.as_ref().map(|_| "saved")
        }
    }

    fn is_unsaved(&self) -> bool {
        self.document.revision() != self.saved
    }

    /// Carries out what the author did.
    pub fn perform(&mut self, action: Action, now: Instant) {
        // Anything but more typing and looking around ends the typing.
        let typing = matches!(
            action,
            Action::Typed(..) | Action::Enlarge(_) | Action::Insert(_)
        );
        if !typing {
            self.commit(now);
        }
        match action {
            Action::Enter => self.tell(Make::Both, now),
            Action::Tell(make) => self.tell(make, now),
            Action::TellFive => self.tell_five(now),
            Action::Open(opening) => {
                self.composer = opening.to_owned();
                self.tell(Make::Both, now);
            }
            Action::Insert(word) => {
                let added = word.after(&self.composer, |word| self.knows(word));
                let kept = self.composer.trim_end().len();
                self.composer.truncate(kept);
                self.composer.push_str(&added);
                self.focus_composer = true;
            }
            Action::Select(id) => self.select(id),
            Action::Step(step) => self.step(step),
            Action::Enlarge(id) => {
                self.large = id;
                if id.is_none() {
                    self.focus_composer = self.composer.is_empty();
                }
            }
            Action::AddPanel => {
                let id = self.add_panel(String::new(), now);
                self.select(Some(id));
                self.scroll_to = Some(id);
            }
            Action::Duplicate(id) => self.duplicate(id, now),
            Action::Delete(id) => self.delete(id, now),
            Action::Move(panel, before) => {
                if let Some(from) = self.index_of(panel) {
                    let to = if before > from { before - 1 } else { before };
                    self.edit(Edit::MovePanel { panel, to }, now);
                }
            }
            Action::Typed(panel, text) => {
                self.edit(Edit::SetText { panel, text }, now);
                self.typed = Some(now);
            }
            Action::Committed => {}
            Action::PictureTake(id, index) => {
                self.forget_glimpse();
                self.edit(
                    Edit::ChoosePicture {
                        panel: id,
                        take: index,
                    },
                    now,
                );
                self.load_settings();
            }
            Action::TextTake(id, index) => self.edit(
                Edit::ChooseText {
                    panel: id,
                    take: index,
                },
                now,
            ),
            Action::Star(panel, take, starred) => {
                self.edit(
                    Edit::StarPicture {
                        panel,
                        take,
                        starred,
                    },
                    now,
                );
            }
            Action::DeletePicture(panel, take) => {
                self.forget_glimpse();
                self.edit(Edit::DeletePicture { panel, take }, now);
                self.load_settings();
            }
            Action::DeleteText(panel, take) => {
                self.edit(Edit::DeleteText { panel, take }, now);
                self.load_settings();
            }
            Action::DrawPicture(id) => self.draw_picture(id),
            Action::RewriteText(id) => {
                let settings = Settings {
                    seed: self.next_seed(),
                    ..self.settings_for(id)
                };
                self.order(Order {
                    target: Target::Panel(id),
                    make: Make::Text,
                    settings,
                    live: false,
                });
            }
            Action::Set(setting) => self.set(setting, now),
            Action::Undo => {
                self.forget_glimpse();
                self.document.undo();
                self.after_history();
            }
            Action::Redo => {
                self.forget_glimpse();
                self.document.redo();
                self.after_history();
            }
            Action::Cancel => self.cancel(),
            Action::New => {
                self.flush();
                self.files.send(Task::Use(None));
                self.replace(Document::default(), Images::default(), None);
            }
            Action::Save => self.save(true),
            Action::Drop(paths) => self.dropped(paths),
            Action::AskOpen => self.ask(Ask::Open),
            Action::AskBring => self.ask(Ask::Bring),
            Action::AskSaveAs => self.ask(Ask::SaveAs(self.file_name())),
            Action::AskSheet => self.ask(Ask::Sheet(format!("{}.png", self.file_name()))),
            Action::AskMarkdown => self.ask(Ask::Markdown),
            Action::AskPicture(id) => {
                if let Some(index) = self.index_of(id) {
                    let name = format!("{} {}.png", self.file_name(), index + 1);
                    self.ask(Ask::Picture(id, name));
                }
            }
            Action::Device(device) => self.choose(Choice {
                device,
                ..self.choice.clone()
            }),
            Action::Model(model, recipe) => self.choose(Choice {
                model,
                recipe,
                ..self.choice.clone()
            }),
            Action::Writer(writer) => self.choose(Choice {
                writer,
                ..self.choice.clone()
            }),
        }
    }

    /// Takes in what other threads have done and starts what is due. Returns when to be called
    /// again at the latest, if nothing else happens before.
    pub fn tick(&mut self, now: Instant) -> Option<Duration> {
        while let Some(event) = self.engine.poll() {
            self.event(event, now);
        }
        while let Some(answer) = self.dialogs.answer() {
            self.answered(answer, now);
        }
        while let Some(done) = self.files.poll() {
            self.done(done, now);
        }
        if self
            .typed
            .is_some_and(|at| now.duration_since(at) >= TYPING_REST)
        {
            self.commit(now);
        }
        if let Some(wanted) = self.live.due(now) {
            self.draw_live(wanted.panel, wanted.guidance, now);
        }
        self.drop_work_of_deleted_panels();
        self.start_next(now);
        self.autosave(now);

        let typing = self
            .typed
            .map(|at| (at + TYPING_REST).saturating_duration_since(now));
        let save = self
            .changed
            .map(|(_, at)| (at + SAVE_REST).saturating_duration_since(now));
        [typing, save, self.live.wait(now), self.toasts.expire(now)]
            .into_iter()
            .flatten()
            .min()
    }

    /// Saves what is not saved and waits for it; for the end of the program.
    pub fn finish(&mut self) {
        self.commit(Instant::now());
        self.flush();
        self.files.finish();
    }

    fn add_panel(&mut self, text: String, now: Instant) -> PanelId {
        let id = self.document.fresh_id();
        let at = self.panels().len();
        let panel = Panel::with_text(id, text);
        self.edit(Edit::InsertPanel { at, panel }, now);
        id
    }

    /// Shows a panel that has come if the author asked to see it or is at the end of the story;
    /// never while a text is being written.
    fn follow(&mut self, id: PanelId, asked: bool) {
        let before = self
            .index_of(id)
            .and_then(|i| Some(self.panels().get(i.checked_sub(1)?)?.id));
        let at_end = self.selected.is_none() || self.selected == before;
        if !self.editing && (asked || at_end) {
            self.scroll_to = Some(id);
            self.select(Some(id));
        }
    }

    fn duplicate(&mut self, id: PanelId, now: Instant) {
        match self.document.duplicate_panel(id) {
            Ok(copy) => {
                self.select(Some(copy));
                self.scroll_to = Some(copy);
            }
            Err(error) => self.toasts.error(error.to_string(), now),
        }
    }

    fn delete(&mut self, id: PanelId, now: Instant) {
        let Some(index) = self.index_of(id) else {
            return;
        };
        self.edit(Edit::DeletePanel(id), now);
        if self.selected == Some(id) {
            let beside = self
                .panels()
                .get(index)
                .or(self.panels().last())
                .map(|p| p.id);
            self.select(beside);
        }
    }

    fn select(&mut self, id: Option<PanelId>) {
        let id = id.filter(|&id| self.index_of(id).is_some());
        if self.selected == id {
            return;
        }
        self.forget_glimpse();
        self.selected = id;
        self.load_settings();
    }

    fn step(&mut self, step: isize) {
        let last = self.panels().len().checked_sub(1);
        let Some(last) = last else { return };
        let here = self.selected.and_then(|id| self.index_of(id));
        let to = match here {
            Some(index) => index.saturating_add_signed(step).min(last),
            None if step > 0 => 0,
            None => last,
        };
        let id = self.panels()[to].id;
        self.select(Some(id));
        self.scroll_to = Some(id);
        if self.large.is_some() {
            self.large = Some(id);
        }
    }

    fn cancel(&mut self) {
        self.work.clear();
        self.live.forget();
        if let Some(running) = self.work.running_mut() {
            running.cancelled = true;
        }
        self.engine.cancel_all();
    }

    fn after_history(&mut self) {
        self.title.clone_from(&self.document.story().title);
        if self.selected.is_some_and(|id| self.index_of(id).is_none()) {
            self.selected = None;
        }
        if self.large.is_some_and(|id| self.index_of(id).is_none()) {
            self.large = None;
        }
        self.load_settings();
    }

    fn edit(&mut self, edit: Edit, now: Instant) {
        if let Err(error) = self.document.apply(edit) {
            self.toasts.error(error.to_string(), now);
        }
    }

    /// The end of a piece of typing: what comes next is an undo step of its own.
    fn commit(&mut self, now: Instant) {
        self.typed = None;
        self.document.end_typing();
        let title = self.title.trim();
        if title != self.story().title {
            self.edit(Edit::SetTitle(title.to_owned()), now);
        }
    }

    fn replace(&mut self, document: Document, images: Images, project: Option<PathBuf>) {
        self.engine.cancel_all();
        self.work.abandon();
        self.forget_glimpse();
        self.board += 1;
        self.title.clone_from(&document.story().title);
        (self.sent, self.saved) = (document.revision(), document.revision());
        self.document = document;
        self.images = images;
        self.project = project;
        self.selected = None;
        self.large = None;
        self.typed = None;
        self.changed = None;
        self.save_failed = false;
        self.save_asked = false;
        self.focus_composer = true;
    }
}
