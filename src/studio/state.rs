//! The studio without its window: the document, the author's actions on it, and the engine's
//! events folded into it.

mod keeping;
mod making;
mod model;
mod selection;
mod session;
mod settings;
mod unknown;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use image::RgbaImage;

use super::actions::Action;
use super::dialogs::{Ask, Dialogs};
use super::files::Files;
use super::live::Live;
use super::models::Library;
use super::preferences::Preferences;
use super::recent::Recent;
use super::sheets::{Chooser, Sheet};
use super::toasts::Toasts;
use super::work::{Order, Target, Work};
use crate::engine::{Description, Engine, Make};
use crate::export;
use crate::pipeline::new_seed;
use crate::story::{Document, Edit, Images, Panel, PanelId, Record, Rescued, Settings, Story};
use crate::weights::Manifest;
pub use model::{Choice, LoaderFor, Storyteller, Words};
pub use session::{Leave, Leaving};

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
    /// Where stories without a folder of their own are kept, unless the author prefers another.
    pub projects: PathBuf,
    pub preferences: Preferences,
    /// The file that keeps them; none to forget them.
    pub preferences_file: Option<PathBuf>,
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
    /// What was chosen for each exporter, by its id.
    pub exports: BTreeMap<&'static str, export::Options>,
    pub work: Work,
    pub toasts: Toasts,
    /// The folder of this story, once it has one.
    pub project: Option<PathBuf>,
    pub selected: Option<PanelId>,
    /// Panels chosen with the selected one, which may be among them.
    pub also: BTreeSet<PanelId>,
    /// The panel whose picture is open large.
    pub large: Option<PanelId>,
    /// The take of that panel that is shown beside it.
    pub compare: Option<usize>,
    pub composer: String,
    /// The title as typed.
    pub title: String,
    pub focus_composer: bool,
    /// The cursor is in the text of the selected panel: the board must not move under it.
    pub editing: bool,
    pub scroll_to: Option<PanelId>,
    /// The cursor goes into the text of this panel once it is drawn.
    pub write_in: Option<PanelId>,
    /// Cards in a row, and rows in view, as last drawn.
    pub columns: usize,
    pub rows: usize,
    pub preferences: Preferences,
    preferences_file: Option<PathBuf>,
    projects: PathBuf,
    /// Stories that were open last, as far as they have been read.
    pub recent: Vec<Recent>,
    looking: Option<Receiver<Recent>>,
    /// Whether the author wants the inspector; none where the width of the window decides.
    pub inspector: Option<bool>,
    pub sheet: Option<Sheet>,
    pub chooser: Option<Chooser>,
    /// The models folder, where models can be added to it.
    pub library: Option<Library>,
    pub leaving: Option<Leaving>,
    /// Copies of stories that could not be saved in an earlier session.
    pub rescued: Vec<Rescued>,
    quit: bool,
    wake: Arc<dyn Fn() + Send + Sync>,
    /// Which words the empty board shows: characters, things or places.
    pub words_shown: usize,
    /// Settings of panels to come.
    next: Settings,
    /// Settings of the selected panel.
    panel_settings: Settings,
    /// Panels whose seed is used again; `None` for those to come.
    locked: BTreeSet<Option<PanelId>>,
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
    /// Why the last save failed; it is not tried again by itself until the board changes.
    save_trouble: Option<String>,
    /// It failed because another program has changed the story.
    pub changed_elsewhere: bool,
    /// The author waits to hear of a save.
    save_asked: bool,
    /// Counts the boards opened so far.
    board: u64,
    /// The author was told that the model knows another language.
    said_language: bool,
    /// The author has chosen settings: a model's own no longer replace them.
    settings_chosen: bool,
}

impl State {
    pub fn new(parts: Parts) -> State {
        let wake = Arc::clone(&parts.wake);
        let engine = Engine::spawn((parts.loader_for)(&parts.choice), Box::new(move || wake()));
        let document = Document::default();
        let revision = document.revision();
        let mut state = State {
            title: document.story().title.clone(),
            document,
            images: Images::default(),
            readiness: Readiness::Loading("Loading the model…".to_owned()),
            choice: parts.choice,
            writers: parts.writers,
            exports: BTreeMap::new(),
            models: parts.models,
            work: Work::default(),
            toasts: Toasts::default(),
            project: None,
            selected: None,
            also: BTreeSet::new(),
            large: None,
            compare: None,
            composer: String::new(),
            focus_composer: true,
            editing: false,
            scroll_to: None,
            write_in: None,
            columns: 3,
            rows: 1,
            locked: BTreeSet::new(),
            preferences: parts.preferences,
            preferences_file: parts.preferences_file,
            projects: parts.projects,
            recent: Vec::new(),
            looking: None,
            inspector: None,
            sheet: None,
            chooser: None,
            library: None,
            leaving: None,
            rescued: Vec::new(),
            quit: false,
            wake: Arc::clone(&parts.wake),
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
            files: Files::spawn(parts.wake),
            dialogs: parts.dialogs,
            sent: revision,
            saved: revision,
            changed: None,
            save_trouble: None,
            changed_elsewhere: false,
            save_asked: false,
            board: 0,
            said_language: false,
            settings_chosen: false,
        };
        state.look_for_recent();
        state
    }

    /// Opens a project folder, in the background.
    pub fn open(&mut self, dir: PathBuf) {
        self.leave_for(Leave::Open(dir), Instant::now());
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
        if self.save_failed() {
            Some("not saved")
        } else if self.is_unsaved() {
            let words = match self.preferences.autosave {
                true => "saving…",
                false => "changed",
            };
            Some(words).filter(|_| !self.panels().is_empty())
        } else {
            self.project.as_ref().map(|_| "saved")
        }
    }

    fn save_failed(&self) -> bool {
        self.save_trouble.is_some()
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
            Action::Toggle(id) => self.toggle(id),
            Action::Extend(id) => self.extend(id),
            Action::SelectAll => self.select_all(),
            Action::Step(step) => self.step(step),
            Action::Enlarge(id) => self.enlarge(id),
            Action::Compare(take) => self.compare = take,
            Action::AddPanel => self.write_new(None, now),
            Action::InsertAfter(id) => self.write_new(Some(id), now),
            Action::TellAfter(id) => {
                self.select(Some(id));
                self.go_on(Make::Both, true);
            }
            Action::Duplicate(id) => self.duplicate(id, now),
            Action::Delete(id) => self.delete(&[id], now),
            Action::DeleteChosen => self.delete(&self.chosen(), now),
            Action::RedrawChosen => {
                for id in self.chosen() {
                    self.draw_picture(id);
                }
            }
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
                    seed: self.seed_for(id),
                    ..self.settings_for(id)
                };
                self.order(Order {
                    target: Target::Panel(id),
                    make: Make::Text,
                    settings,
                    live: false,
                    rewrite: None,
                });
            }
            Action::Rewrite(id, rewrite) => self.rewrite(id, rewrite),
            Action::WritePrompt(id) => self.write_prompt(id),
            Action::Plan(panels) => self.plan(panels),
            Action::Apply(edit) => self.edit(*edit, now),
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
            Action::New => self.leave_for(Leave::New, now),
            Action::Close => self.leave_for(Leave::Close, now),
            Action::LeaveNow => self.leave_now(now),
            Action::Stay => self.leaving = None,
            Action::OpenStory(dir) => self.open(dir),
            Action::KeepBoth => self.keep_both(),
            Action::ForgetRescued(index) => self.forget_rescued(index, now),
            Action::Show(sheet) => self.sheet = sheet,
            Action::Prefer(preferences) => self.prefer(*preferences, now),
            Action::AskFolder => self.ask(Ask::Folder),
            Action::AskModel => self.ask(Ask::Model),
            Action::AskModelFolder => self.ask(Ask::ModelFolder),
            Action::AskModels => self.ask(Ask::Models),
            Action::Chosen(answer) => {
                self.chooser = None;
                self.answered(answer, now);
            }
            Action::ChooseNothing => self.chooser = None,
            Action::Save => self.save(true),
            Action::Drop(paths, into) => self.dropped(paths, into),
            Action::Paste(picture, into) => self.paste(&picture, into, now),
            Action::AskOpen => self.ask(Ask::Open),
            Action::AskBring(into) => self.ask(Ask::Bring(into)),
            Action::AskSaveAs => self.ask(Ask::SaveAs(self.file_name())),
            Action::AskExport(exporter) => {
                self.ask_export(exporter, self.selected_with_picture());
            }
            Action::AskPicture(id) => self.ask_export("panel", Some(id)),
            Action::ExportOption(exporter, choice, value) => {
                if let Some(known) = export::exporter(exporter) {
                    let options = self.exports.entry(exporter).or_default();
                    // The menu offers no other values than the exporter's own.
                    let _ = options.set(known, choice, value);
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
        self.found_recent();
        self.take_in_models(now);
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
        let now = Instant::now();
        self.leave(now);
        self.keep_preferences(now);
        self.files.finish();
    }

    /// The board is about to be closed: a panel that is only begun goes, the rest is saved.
    fn leave(&mut self, now: Instant) {
        self.commit(now);
        self.cancel();
        if let Some(job) = self.work.running().map(|running| running.job) {
            self.stopped(job, now);
        }
        self.flush();
    }

    /// A panel with this text behind `after`, or at the end; what was to come there comes after it.
    fn add_panel(&mut self, text: String, after: Option<PanelId>, now: Instant) -> PanelId {
        let id = self.document.fresh_id();
        let at = self.index_behind(after);
        let panel = Panel::with_text(id, text);
        self.edit(Edit::InsertPanel { at, panel }, now);
        if let Some(after) = after {
            self.work.reanchor(after, id);
        }
        id
    }

    /// An empty panel with the cursor in it.
    fn write_new(&mut self, after: Option<PanelId>, now: Instant) {
        let id = self.add_panel(String::new(), after, now);
        self.large = None;
        self.select(Some(id));
        self.scroll_to = Some(id);
        self.write_in = Some(id);
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
        let panels = &self.document.story().panels;
        self.also.retain(|id| panels.iter().any(|p| p.id == *id));
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
        self.also.clear();
        self.large = None;
        self.compare = None;
        self.write_in = None;
        self.typed = None;
        self.changed = None;
        self.save_trouble = None;
        self.changed_elsewhere = false;
        self.save_asked = false;
        self.focus_composer = true;
        self.said_language = false;
        self.reset_settings();
    }
}
