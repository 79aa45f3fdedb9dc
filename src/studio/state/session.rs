//! Around the story: the start page, preferences, and leaving a board without losing anything.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use super::State;
use crate::story::{Document, Images, Rescued};
use crate::studio::files::FileTask;
use crate::studio::preferences::Preferences;
use crate::studio::recent::{self, RecentStory};

/// What the board is left for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leave {
    /// The end of the program.
    Close,
    /// A new story.
    New,
    /// The story in this folder.
    Open(PathBuf),
}

/// A board that is about to be left.
#[derive(Clone, Debug)]
pub struct Leaving {
    /// What comes afterwards.
    pub to: Leave,
    /// The author is asked; else the board is left once it is saved.
    pub asks: bool,
    /// The author has chosen where a copy goes: then it is left.
    pub copying: bool,
}

/// Stories that can be opened, and how the open one is left.
pub struct StoryList {
    /// Where stories without a folder of their own are kept, unless the author prefers another.
    pub(super) projects: PathBuf,
    /// Stories that were open last, as far as they have been read.
    pub recent: Vec<RecentStory>,
    pub(super) looking: Option<Receiver<RecentStory>>,
    /// Copies of stories that could not be saved in an earlier session.
    pub rescued: Vec<Rescued>,
    /// Set while the board is about to be left.
    pub leaving: Option<Leaving>,
    pub(super) quit: bool,
}

impl StoryList {
    /// Nothing but what could not be saved earlier, which lies in the folders `rescues`.
    pub(super) fn new(projects: PathBuf, rescues: &[PathBuf]) -> StoryList {
        StoryList {
            projects,
            recent: Vec::new(),
            looking: None,
            rescued: Rescued::all(rescues),
            leaving: None,
            quit: false,
        }
    }
}

impl State {
    /// What the story is called: its title or its opening; empty before there is either.
    pub fn called(&self) -> String {
        self.story().display_title()
    }

    /// Where new stories are kept.
    pub fn folder(&self) -> &Path {
        let chosen = self.preferences.folder.as_deref();
        chosen.unwrap_or(&self.stories.projects)
    }

    /// Whether the board holds something that is not on the disk.
    fn has_unsaved(&self) -> bool {
        let untouched = self.board.project.is_none() && self.panels().is_empty();
        self.is_unsaved() && !untouched
    }

    /// Whether leaving the board loses what is not saved: it is not saved by itself.
    pub fn loses_unsaved(&self) -> bool {
        self.has_unsaved() && (self.save_failed() || !self.preferences.autosave)
    }

    /// Whether words are lost that stand below and in no panel yet; another story keeps them there.
    pub fn loses_typed(&self, to: &Leave) -> bool {
        *to == Leave::Close && !self.view.composer.trim().is_empty()
    }

    /// Why it is not, in a sentence.
    pub fn why_unsaved(&self) -> String {
        match self.board.autosave.trouble() {
            Some(trouble) => crate::studio::plain::words(trouble).0,
            None if !self.preferences.autosave => "It is saved only when you say so.".to_owned(),
            None => String::new(),
        }
    }

    /// Whether the window may close now.
    pub fn may_close(&self) -> bool {
        self.stories.quit
    }

    /// Leaves the board for `to`, at once where nothing is lost by it; else what is not saved is
    /// saved first, or the author asked.
    pub(super) fn leave_for(&mut self, to: Leave, now: Instant) {
        self.commit(now);
        let asks = !self.work.is_idle() || self.loses_unsaved() || self.loses_typed(&to);
        if !asks && !self.has_unsaved() {
            return self.go(to, now);
        }
        self.stories.leaving = Some(Leaving {
            to,
            asks,
            copying: false,
        });
        if !asks {
            self.flush();
        }
    }

    /// The author leaves the board as it is.
    pub(super) fn leave_now(&mut self, now: Instant) {
        if let Some(leaving) = self.stories.leaving.take() {
            if self.loses_unsaved() {
                // Nothing of it is sent to the disk any more.
                let revision = self.board.document.revision();
                self.board.autosave.give_up(revision);
            }
            self.go(leaving.to, now);
        }
    }

    /// A save has succeeded: a board that waited for it is left.
    pub(super) fn saved_before_leaving(&mut self, now: Instant) {
        let waited = self
            .stories
            .leaving
            .as_ref()
            .is_some_and(|leaving| leaving.copying || (!leaving.asks && !self.is_unsaved()));
        if waited && let Some(leaving) = self.stories.leaving.take() {
            self.go(leaving.to, now);
        }
    }

    fn go(&mut self, to: Leave, now: Instant) {
        self.leave(now);
        match to {
            Leave::Close => self.stories.quit = true,
            Leave::New => {
                self.files.send(FileTask::Use(None));
                self.replace(Document::default(), Images::default(), None);
                self.look_for_recent();
            }
            Leave::Open(dir) => self.files.send(FileTask::Open(dir)),
        }
    }

    pub(super) fn prefer(&mut self, preferences: Preferences, now: Instant) {
        self.preferences = preferences;
        self.keep_preferences(now);
    }

    pub(super) fn keep_preferences(&mut self, now: Instant) {
        let Some(file) = &self.preferences_file else {
            return;
        };
        if let Err(reason) = self.preferences.save(file) {
            self.toasts.error(reason, now);
        }
    }

    /// The story in `dir` is the one at work.
    pub(super) fn remember(&mut self, dir: &Path, now: Instant) {
        if self.preferences.recent.first().map(PathBuf::as_path) != Some(dir) {
            self.preferences.remember(dir);
            self.keep_preferences(now);
        }
    }

    pub(super) fn forget_rescued(&mut self, index: usize, now: Instant) {
        if index >= self.stories.rescued.len() {
            return;
        }
        let copy = self.stories.rescued.remove(index);
        if let Err(error) = copy.forget() {
            let dir = copy.dir.display();
            let words =
                format!("The copy in {dir} could not be thrown away ({error}); delete the folder.");
            self.toasts.error(words, now);
        }
    }

    pub(super) fn look_for_recent(&mut self) {
        self.stories.recent.clear();
        let dirs = &self.preferences.recent;
        if !dirs.is_empty() {
            self.stories.looking = Some(recent::look(dirs, Arc::clone(&self.wake)));
        }
    }

    pub(super) fn found_recent(&mut self) {
        if let Some(looking) = &self.stories.looking {
            self.stories.recent.extend(looking.try_iter());
        }
    }
}
