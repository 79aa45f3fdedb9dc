//! The studio without its window: the document, the author's actions on it, and the engine's
//! events folded into it.

mod autosave;
mod board;
mod casting;
mod controls;
mod framing;
mod keeping;
mod making;
mod model;
mod perform;
mod selection;
mod session;
mod settings;
mod unknown;
mod view;
mod weights;
mod words;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use image::RgbaImage;

use super::dialogs::Dialogs;
use super::files::FileThread;
use super::preferences::Preferences;
use super::toasts::Toasts;
use super::work::JobQueue;
use crate::engine::Engine;
use crate::export;
use crate::story::{Document, Edit, Images, Panel, PanelId, Settings, Story};
use crate::weights::Manifest;
pub use autosave::Autosave;
pub use board::OpenBoard;
use controls::{Controls, PreviewPicture};
use framing::Framing;
pub use model::{DrawableWordLists, LoaderFor, ModelChoice, Models, Readiness, Storyteller};
pub use session::{Leave, Leaving, StoryList};
pub use view::View;

/// How long typing rests before it becomes an undo step.
const TYPING_REST: Duration = Duration::from_millis(1500);

/// What the studio is made of, so that tests can give their own parts.
pub struct StudioParts {
    /// Makes the loader of what is chosen.
    pub loader_for: LoaderFor,
    /// The model that is loaded at the start.
    pub choice: ModelChoice,
    /// The installed models that tell stories.
    pub models: Vec<Storyteller>,
    /// The installed models that write for others.
    pub writers: Vec<Manifest>,
    /// Called from other threads when there is something to draw.
    pub wake: Arc<dyn Fn() + Send + Sync>,
    /// The system's file dialogs, or a test's.
    pub dialogs: Box<dyn Dialogs>,
    /// Where stories without a folder of their own are kept, unless the author prefers another.
    pub projects: PathBuf,
    /// Where copies are kept of stories that can't be saved, and offered at the next start; the
    /// first that takes one.
    pub rescues: Vec<PathBuf>,
    /// Preferences at the start.
    pub preferences: Preferences,
    /// The file that keeps them; none to forget them.
    pub preferences_file: Option<PathBuf>,
    /// A seed for a picture or text whose seed is not locked; tests count.
    pub seeds: fn() -> u64,
}

/// The studio without its window, in parts: the story and its autosave, the view of it, the
/// settings of what is selected, the models, and the work in hand.
pub struct State {
    /// The story under edit.
    pub board: OpenBoard,
    /// Selection, cursor, and what lies open over the board.
    pub view: View,
    seeds: fn() -> u64,
    /// The tool in hand, and what the controls of the frame stand at.
    pub framing: Framing,
    controls: Controls,
    /// Models that can be chosen, and the one that was.
    pub models: Models,
    /// What is being made, and what waits.
    pub work: JobQueue,
    engine: Engine,
    files: FileThread,
    dialogs: Box<dyn Dialogs>,
    wake: Arc<dyn Fn() + Send + Sync>,
    /// Short messages over the board.
    pub toasts: Toasts,
    /// What was chosen for each exporter, by its id.
    pub exports: BTreeMap<&'static str, export::ExportOptions>,
    /// What the author has set once for all stories.
    pub preferences: Preferences,
    preferences_file: Option<PathBuf>,
    /// Stories that can be opened, and how the open one is left.
    pub stories: StoryList,
}

impl State {
    /// An empty board; the engine begins to load the chosen model.
    pub fn new(parts: StudioParts) -> State {
        let wake = Arc::clone(&parts.wake);
        let woken = Arc::clone(&wake);
        let engine = Engine::spawn((parts.loader_for)(&parts.choice), Box::new(move || woken()));
        let mut state = State {
            board: OpenBoard::new(0, Document::default(), Images::default(), None),
            view: View::default(),
            framing: Framing::default(),
            controls: Controls::new((parts.seeds)()),
            seeds: parts.seeds,
            models: Models {
                choice: parts.choice,
                storytellers: parts.models,
                writers: parts.writers,
                gpus: Arc::default(),
                library: None,
                loader_for: parts.loader_for,
                readiness: Readiness::default(),
            },
            work: JobQueue::default(),
            engine,
            stories: StoryList::new(parts.projects, &parts.rescues),
            files: FileThread::spawn(parts.rescues, parts.wake),
            dialogs: parts.dialogs,
            wake,
            toasts: Toasts::default(),
            exports: BTreeMap::new(),
            preferences: parts.preferences,
            preferences_file: parts.preferences_file,
        };
        state.look_for_recent();
        state
    }

    /// Opens a project folder, in the background.
    pub fn open(&mut self, dir: PathBuf) {
        self.leave_for(Leave::Open(dir), Instant::now());
    }

    /// The story as it stands.
    pub fn story(&self) -> &Story {
        self.board.document.story()
    }

    /// Panels in the order of the board.
    pub fn panels(&self) -> &[Panel] {
        &self.board.document.story().panels
    }

    /// Position of a panel on the board, from 0.
    pub fn index_of(&self, id: PanelId) -> Option<usize> {
        self.story().position(id)
    }

    /// The panel with this id, if it is on the board.
    pub fn panel(&self, id: PanelId) -> Option<&Panel> {
        self.story().panel(id)
    }

    /// Text of a panel; empty where there is none.
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
        if let Some(glimpse) = self.controls.glimpse.as_ref().filter(|g| g.panel == id) {
            return Some(Arc::clone(&glimpse.picture));
        }
        let take = self.panel(id)?.pictures.active()?;
        self.board.images.shown(&take.image)
    }

    /// The selected panel, where it has a picture.
    pub fn selected_with_picture(&self) -> Option<PanelId> {
        self.view.selected.filter(|&id| {
            self.panel(id)
                .is_some_and(|p| p.pictures.active().is_some())
        })
    }

    /// The settings that the inspector shows.
    pub fn shown(&self) -> &Settings {
        if self.view.selected.is_some() {
            &self.controls.panel
        } else {
            &self.controls.next
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
            self.board.project.as_ref().map(|_| "saved")
        }
    }

    fn save_failed(&self) -> bool {
        self.board.autosave.trouble().is_some()
    }

    fn is_unsaved(&self) -> bool {
        !self.board.autosave.is_saved(self.board.document.revision())
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
            .board
            .typed
            .is_some_and(|at| now.duration_since(at) >= TYPING_REST)
        {
            self.commit(now);
        }
        if let Some(wanted) = self.controls.live.due(now) {
            self.draw_live(wanted.panel, wanted.slid, now);
        }
        self.look_for_names();
        self.drop_tool_of_another_picture();
        self.drop_work_of_deleted_panels();
        self.start_next(now);
        self.autosave(now);

        let typing = self
            .board
            .typed
            .map(|at| (at + TYPING_REST).saturating_duration_since(now));
        let save = self.board.autosave.wait(now);
        [
            typing,
            save,
            self.controls.live.wait(now),
            self.toasts.expire(now),
        ]
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
        let jobs: Vec<_> = self.work.all().map(|running| running.job).collect();
        for job in jobs {
            self.stopped(job, now);
        }
        self.flush();
    }

    /// A panel with this text behind `after`, or at the end; what was to come there comes after it.
    fn add_panel(&mut self, text: String, after: Option<PanelId>, now: Instant) -> PanelId {
        let id = self.board.document.fresh_id();
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
        self.view.large = None;
        self.select(Some(id));
        self.view.scroll_to = Some(id);
        self.view.write_in = Some(id);
    }

    /// Shows a panel that has come if the author asked to see it or is at the end of the story;
    /// never while a text is being written.
    fn follow(&mut self, id: PanelId, asked: bool) {
        let before = self
            .index_of(id)
            .and_then(|i| Some(self.panels().get(i.checked_sub(1)?)?.id));
        let at_end = self.view.selected.is_none() || self.view.selected == before;
        if !self.view.editing && (asked || at_end) {
            self.view.scroll_to = Some(id);
            self.select(Some(id));
        }
    }

    fn duplicate(&mut self, id: PanelId, now: Instant) {
        match self.board.document.duplicate_panel(id) {
            Ok(copy) => {
                self.select(Some(copy));
                self.view.scroll_to = Some(copy);
            }
            Err(error) => self.toasts.error(error.to_string(), now),
        }
    }

    fn cancel(&mut self) {
        self.work.clear();
        self.controls.live.forget();
        for running in self.work.all_mut() {
            running.cancelled = true;
        }
        self.engine.cancel_all();
    }

    fn after_history(&mut self) {
        self.board
            .title
            .clone_from(&self.board.document.story().title);
        if self
            .view
            .selected
            .is_some_and(|id| self.index_of(id).is_none())
        {
            self.view.selected = None;
        }
        let panels = &self.board.document.story().panels;
        self.view
            .also
            .retain(|id| panels.iter().any(|p| p.id == *id));
        if self
            .view
            .large
            .is_some_and(|id| self.index_of(id).is_none())
        {
            self.view.large = None;
        }
        self.load_settings();
    }

    fn edit(&mut self, edit: Edit, now: Instant) {
        if let Err(error) = self.board.document.apply(edit) {
            self.toasts.error(error.to_string(), now);
        }
    }

    /// The end of a piece of typing: what comes next is an undo step of its own.
    fn commit(&mut self, now: Instant) {
        self.board.typed = None;
        self.board.document.end_typing();
        let title = self.board.title.trim();
        if title != self.story().title {
            self.edit(Edit::SetTitle(title.to_owned()), now);
        }
    }

    fn replace(&mut self, document: Document, images: Images, project: Option<PathBuf>) {
        self.engine.cancel_all();
        self.work.abandon();
        self.forget_glimpse();
        self.board = OpenBoard::new(self.board.number + 1, document, images, project);
        self.view.forget_board();
        self.framing = Framing::default();
        self.reset_settings();
    }
}
