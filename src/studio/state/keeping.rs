//! Saving, opening and exporting: what is asked of the files thread and what comes back.

use std::path::{Path, PathBuf};
use std::time::Instant;

use image::RgbaImage;

use super::State;
use crate::export::{self, Destination, Existing};
use crate::story::{Edit, Panel, PanelId, Record};
use crate::studio::dialogs::{DialogAnswer, DialogRequest, ExportDialog, ImportRole};
use crate::studio::files::{BoardSnapshot, ExportTask, FileResult, FileTask};
use crate::studio::preferences::Preferences;
use crate::studio::sheets::{FileChooser, Sheet};

impl State {
    pub(super) fn ask(&mut self, ask: DialogRequest) {
        self.dialogs.ask(ask);
    }

    /// What the story is called, as the name of a file or a folder.
    pub(super) fn file_name(&self) -> String {
        let letter = |c: char| match c {
            c if c.is_alphanumeric() || " -_'".contains(c) => c,
            _ => ' ',
        };
        let called = self.called();
        // So many bytes that every file system takes it, with a number or an ending.
        let mut name = String::new();
        for c in called.chars().map(letter) {
            if name.len() + c.len_utf8() > 150 {
                break;
            }
            name.push(c);
        }
        match name.trim() {
            "" => "Untitled story".to_owned(),
            name => name.to_owned(),
        }
    }

    /// Asks where an exporter is to write to; one of a panel is asked for `panel`.
    pub(super) fn ask_export(&mut self, exporter: &'static str, panel: Option<PanelId>) {
        let Some(known) = export::exporter(exporter) else {
            return;
        };
        let panel = panel.filter(|_| known.of_panel());
        let number = panel.and_then(|id| self.index_of(id)).map(|at| at + 1);
        let name = match (known.place(), number) {
            (Destination::File { ending, .. }, Some(number)) => {
                format!("{} {number}.{ending}", self.file_name())
            }
            (Destination::File { ending, .. }, None) => format!("{}.{ending}", self.file_name()),
            (Destination::Folder, _) => self.file_name(),
        };
        self.ask(DialogRequest::Export(ExportDialog {
            exporter,
            options: self.exports.get(exporter).cloned().unwrap_or_default(),
            panel,
            name,
        }));
    }

    pub(super) fn answered(&mut self, answer: DialogAnswer, now: Instant) {
        self.commit(now);
        let DialogAnswer { ask, path } = answer;
        let Some(path) = path else {
            self.view.chooser = Some(FileChooser::new(ask, self.folder()));
            return;
        };
        let task = match ask {
            DialogRequest::Open => return self.open(path),
            DialogRequest::Bring(becomes) => return self.bring(vec![path], becomes),
            DialogRequest::Model | DialogRequest::ModelFolder => {
                return self.add_model(path, false);
            }
            DialogRequest::Models => return self.add_model(path, true),
            DialogRequest::Workflow => {
                if let Some(library) = &mut self.models.library {
                    library.engine.workflow = Some(path);
                }
                return;
            }
            DialogRequest::Weights(what) => return self.put_weights(what, &path, now),
            DialogRequest::Folder => {
                let folder = Some(path);
                let preferences = Preferences {
                    folder,
                    ..self.preferences.clone()
                };
                return self.prefer(preferences, now);
            }
            DialogRequest::SaveAs(_) => {
                if let Some(leaving) = &mut self.stories.leaving {
                    leaving.copying = true;
                }
                FileTask::SaveAs(path, self.snapshot())
            }
            DialogRequest::Export(what) => {
                let Some(exporter) = export::exporter(what.exporter) else {
                    return;
                };
                let (path, existing) = match exporter.place() {
                    Destination::File { ending, .. } => export::answered(&path, ending),
                    Destination::Folder => (path, Existing::Stays),
                };
                let panel = what.panel.and_then(|id| self.index_of(id));
                if exporter.of_panel() && panel.is_none() {
                    return;
                }
                FileTask::Export(Box::new(ExportTask {
                    exporter,
                    options: what.options,
                    panel,
                    path,
                    existing,
                    story: self.story().clone(),
                    images: self.board.images.clone(),
                }))
            }
        };
        self.files.send(task);
    }

    pub(super) fn done(&mut self, done: FileResult, now: Instant) {
        match done {
            FileResult::Saved {
                board,
                dir,
                revision,
            } if board == self.board.number => {
                if self.board.autosave.succeeded(revision) {
                    self.toasts
                        .note(format!("Saved in {}.", dir.display()), now);
                }
                self.remember(&dir, now);
                self.board.project = Some(dir);
                self.saved_before_leaving(now);
            }
            FileResult::Saved { .. } => {}
            FileResult::Opened(opened) => {
                let (project, document, images) = *opened;
                // What was done while the folder was read belongs to the board before.
                self.leave(now);
                let dir = project.dir().to_path_buf();
                if self.board.project.as_ref() == Some(&dir)
                    && self.is_unsaved()
                    && !self.save_failed()
                {
                    // That board is in the same folder: it is read again when it is saved.
                    self.files.send(FileTask::Open(dir));
                    return;
                }
                for warning in project.warnings() {
                    self.toasts.error(warning.clone(), now);
                }
                self.files.send(FileTask::Use(Some(project)));
                self.remember(&dir, now);
                self.replace(document, images, Some(dir));
            }
            FileResult::Exported { path, left_out } => {
                for sentence in left_out {
                    self.toasts.error(sentence, now);
                }
                self.toasts
                    .note(format!("Exported to {}.", path.display()), now);
            }
            FileResult::Brought {
                board,
                pictures,
                becomes,
                refused,
            } => {
                for reason in refused {
                    self.toasts.error(reason, now);
                }
                if board == self.board.number {
                    self.brought(pictures, becomes, now);
                }
            }
            FileResult::SaveFailed { reason, changed } => {
                self.toasts.error(reason.clone(), now);
                if changed && self.stories.leaving.is_none() {
                    self.view.sheet = Some(Sheet::Changed);
                }
                self.board.autosave.failed(reason, changed);
                if let Some(leaving) = &mut self.stories.leaving {
                    (leaving.asks, leaving.copying) = (true, false);
                }
            }
            FileResult::Failed(reason) => {
                if let Some(leaving) = &mut self.stories.leaving {
                    leaving.copying = false;
                }
                self.toasts.error(reason, now);
            }
        }
    }

    /// What is dropped on the window: a folder is a story to open, files are pictures.
    pub(super) fn dropped(&mut self, paths: Vec<PathBuf>, into: Option<PanelId>) {
        let named = |path: &&PathBuf| path.file_name().is_some_and(|name| name == "story.json");
        let story = paths.iter().find(named).and_then(|file| file.parent());
        let folder = paths
            .iter()
            .map(PathBuf::as_path)
            .find(|path| path.is_dir());
        match story.or(folder).map(Path::to_owned) {
            Some(dir) => self.open(dir),
            None => self.bring(paths, ImportRole::Panels(into)),
        }
    }

    pub(super) fn bring(&mut self, paths: Vec<PathBuf>, becomes: ImportRole) {
        let board = self.board.number;
        self.files.send(FileTask::Bring {
            board,
            paths,
            becomes,
        });
    }

    fn brought(
        &mut self,
        pictures: Vec<(RgbaImage, Option<Record>)>,
        becomes: ImportRole,
        now: Instant,
    ) {
        match becomes {
            ImportRole::Panels(into) => self.put(pictures, into, now),
            ImportRole::Looks(_) if pictures.is_empty() => {}
            ImportRole::Looks(id) => {
                let pictures = pictures.into_iter().map(|(picture, _)| picture);
                self.put_looks(id, pictures.collect(), now);
            }
            ImportRole::Frame(id, used) => {
                if let Some((picture, _)) = pictures.into_iter().next() {
                    self.put_into_frame(id, used, picture);
                }
            }
        }
    }

    /// A picture from the clipboard.
    pub(super) fn paste(
        &mut self,
        picture: &egui::ColorImage,
        into: Option<PanelId>,
        now: Instant,
    ) {
        let [width, height] = picture.size.map(|side| side as u32);
        let pixels = picture.pixels.iter();
        let bytes = pixels
            .flat_map(egui::Color32::to_srgba_unmultiplied)
            .collect();
        // An image of egui's has as many pixels as its size says.
        if let Some(picture) = RgbaImage::from_raw(width, height, bytes) {
            self.put(vec![(picture, None)], into, now);
        }
    }

    /// Brought pictures become takes of the panel `into`, or panels behind the one that the
    /// author is at, in one step of undo.
    fn put(
        &mut self,
        pictures: Vec<(RgbaImage, Option<Record>)>,
        into: Option<PanelId>,
        now: Instant,
    ) {
        let into = into.filter(|&id| self.index_of(id).is_some());
        let mut edits = Vec::new();
        let mut last = None;
        let first = self.index_behind(self.place());
        for (place, (picture, record)) in pictures.into_iter().enumerate() {
            let panel = into.unwrap_or_else(|| self.board.document.fresh_id());
            if into.is_none() {
                edits.push(Edit::InsertPanel {
                    at: first + place,
                    panel: Panel::empty(panel),
                });
            }
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
        let revision = self.board.document.revision();
        let panels = self.panels().len() - self.begun().len();
        let untouched = self.board.project.is_none() && panels == 0;
        let wanted = if asked {
            !untouched
        } else {
            !self.board.autosave.is_sent(revision) && !untouched
        };
        if !wanted {
            return;
        }
        self.board.autosave.send(revision, asked);
        self.files.send(FileTask::Save(self.snapshot()));
    }

    /// The panels that the jobs at work have made and put nothing into yet.
    fn begun(&self) -> Vec<PanelId> {
        let running = self.work.all().filter(|job| job.made.is_some());
        let panels = running.filter_map(|running| self.panel(running.panel));
        let empty = panels.filter(|panel| panel.is_empty());
        empty.map(|panel| panel.id).collect()
    }

    /// Ours goes beside what another program made of the story.
    pub(super) fn keep_both(&mut self) {
        self.view.sheet = None;
        self.board
            .autosave
            .send(self.board.document.revision(), true);
        self.files.send(FileTask::KeepBoth(self.snapshot()));
    }

    fn snapshot(&self) -> BoardSnapshot {
        let mut document = self.board.document.without_history();
        // A panel in which nothing stands yet is not kept: whoever stops now finds no empty one.
        for panel in self.begun() {
            document
                .apply(Edit::DeletePanel(panel))
                .expect("the panel was just found on this board");
        }
        BoardSnapshot {
            board: self.board.number,
            revision: self.board.document.revision(),
            saved: !self.is_unsaved(),
            document,
            images: self.board.images.clone(),
            folder: self.folder().to_owned(),
            name: self.file_name(),
        }
    }

    /// Saves what is not saved, if only after a failure.
    pub(super) fn flush(&mut self) {
        self.commit(Instant::now());
        if !self.preferences.autosave {
            return;
        }
        self.board.autosave.retry();
        self.save(false);
    }

    pub(super) fn autosave(&mut self, now: Instant) {
        let revision = self.board.document.revision();
        if !self.preferences.autosave {
            self.board.autosave.rest();
        } else if self.board.autosave.due(revision, now) {
            self.save(false);
            // An empty board without a folder is not worth one.
            self.board.autosave.send(revision, false);
        }
    }
}
