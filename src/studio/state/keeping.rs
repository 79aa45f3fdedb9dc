//! Saving, opening and exporting: what is asked of the files thread and what comes back.

use std::path::PathBuf;
use std::time::Instant;

use image::RgbaImage;

use super::{SAVE_REST, State};
use crate::export;
use crate::story::{Edit, Panel, Record};
use crate::studio::dialogs::{Answer, Ask};
use crate::studio::files::{Done, Snapshot, Task};

impl State {
    pub(super) fn ask(&mut self, ask: Ask) {
        self.dialogs.ask(ask);
    }

    /// The story's title as a file name.
    pub(super) fn file_name(&self) -> String {
        let name: String = self
            .title
            .trim()
            .chars()
            .map(|c| {
                if c.is_alphanumeric() || " -_'".contains(c) {
                    c
                } else {
                    ' '
                }
            })
            .take(60)
            .collect();
        let name = name.trim();
        if name.is_empty() {
            "Untitled story".to_owned()
        } else {
            name.to_owned()
        }
    }

    pub(super) fn answered(&mut self, answer: Answer, now: Instant) {
        self.commit(now);
        let Answer { ask, path } = answer;
        let path = match path {
            Ok(path) => path,
            Err(reason) => return self.toasts.error(reason, now),
        };
        let (story, images) = (self.story().clone(), self.images.clone());
        let task = match ask {
            Ask::Open => {
                self.flush();
                Task::Open(path)
            }
            Ask::Bring => return self.bring(vec![path]),
            Ask::SaveAs(_) => Task::SaveAs(path, self.snapshot()),
            Ask::Sheet(_) => {
                let (path, existing) = export::answered(&path, "png");
                Task::Sheet {
                    path,
                    existing,
                    story,
                    images,
                }
            }
            Ask::Markdown => Task::Markdown {
                dir: path,
                story,
                images,
            },
            Ask::Picture(id, _) => {
                let Some(panel) = self.panel(id).cloned() else {
                    return;
                };
                let (path, existing) = export::answered(&path, "png");
                Task::Picture {
                    path,
                    existing,
                    panel: Box::new(panel),
                    images,
                }
            }
        };
        self.files.send(task);
    }

    pub(super) fn done(&mut self, done: Done, now: Instant) {
        match done {
            Done::Saved {
                board,
                dir,
                revision,
            } if board == self.board => {
                self.saved = self.saved.max(revision);
                self.save_failed = false;
                if std::mem::take(&mut self.save_asked) {
                    self.toasts
                        .note(format!("Saved in {}.", dir.display()), now);
                }
                self.project = Some(dir);
            }
            Done::Saved { .. } => {}
            Done::Opened(opened) => {
                let (project, document, images) = *opened;
                // What was done while the folder was read belongs to the board before.
                self.flush();
                let dir = project.dir().to_path_buf();
                if self.project.as_ref() == Some(&dir) && self.is_unsaved() && !self.save_failed {
                    // That board is in the same folder: it is read again when it is saved.
                    self.files.send(Task::Open(dir));
                    return;
                }
                for warning in project.warnings() {
                    self.toasts.error(warning.clone(), now);
                }
                self.files.send(Task::Use(Some(project)));
                self.replace(document, images, Some(dir));
            }
            Done::Exported(path) => self
                .toasts
                .note(format!("Exported to {}.", path.display()), now),
            Done::Brought {
                board,
                pictures,
                refused,
            } => {
                for reason in refused {
                    self.toasts.error(reason, now);
                }
                if board == self.board {
                    self.place(pictures, now);
                }
            }
            Done::SaveFailed(reason) => {
                self.save_failed = true;
                self.toasts.error(reason, now);
            }
            Done::Failed(reason) => self.toasts.error(reason, now),
        }
    }

    /// What is dropped on the window: a folder is a story to open, files are pictures.
    pub(super) fn dropped(&mut self, paths: Vec<PathBuf>) {
        match paths.iter().find(|path| path.is_dir()) {
            Some(dir) => self.open(dir.clone()),
            None => self.bring(paths),
        }
    }

    fn bring(&mut self, paths: Vec<PathBuf>) {
        let board = self.board;
        self.files.send(Task::Bring { board, paths });
    }

    /// Brought pictures become panels at the end, in one step of undo.
    fn place(&mut self, pictures: Vec<(RgbaImage, Option<Record>)>, now: Instant) {
        let mut edits = Vec::new();
        let mut last = None;
        for (picture, record) in pictures {
            let panel = self.document.fresh_id();
            edits.push(Edit::InsertPanel {
                at: usize::MAX,
                panel: Panel::empty(panel),
            });
            edits.push(self.picture_take(panel, picture, record));
            last = Some(panel);
        }
        if let Some(last) = last {
            self.edit(Edit::Together(edits), now);
            self.follow(last, true);
        }
    }

    /// Sends the board to be saved if it has changed since the last time, or was never saved
    /// and `asked` says that the author wants it.
    pub(super) fn save(&mut self, asked: bool) {
        let revision = self.document.revision();
        let untouched = self.project.is_none() && self.panels().is_empty();
        let wanted = if asked {
            !untouched
        } else {
            revision != self.sent && !untouched
        };
        if !wanted {
            return;
        }
        self.sent = revision;
        self.changed = None;
        self.save_asked |= asked;
        self.files.send(Task::Save(self.snapshot()));
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            board: self.board,
            document: self.document.without_history(),
            images: self.images.clone(),
        }
    }

    /// Saves what is not saved, if only after a failure.
    pub(super) fn flush(&mut self) {
        self.commit(Instant::now());
        if self.save_failed {
            self.sent = self.saved;
        }
        self.save(false);
    }

    pub(super) fn autosave(&mut self, now: Instant) {
        let revision = self.document.revision();
        if revision == self.sent {
            self.changed = None;
            return;
        }
        match self.changed {
            Some((seen, at)) if seen == revision => {
                if now.duration_since(at) >= SAVE_REST {
                    self.save(false);
                    // An empty board without a folder is not worth one.
                    self.changed = None;
                    self.sent = revision;
                }
            }
            _ => self.changed = Some((revision, now)),
        }
    }
}
