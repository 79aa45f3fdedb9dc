//! Saving, opening and exporting, on a thread of their own and in order.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use image::RgbaImage;

use super::dialogs::ImportRole;
use crate::export::{self, Existing, Export, ExportError, ExportOptions, Exporter};
use crate::story::{
    Document, Images, Project, ProjectError, Record, Rescue, Story, read_picture_file,
};

/// A board as it stands. `board` tells which of those opened one after another it is, so that
/// what is said of one is not taken for another.
pub(super) struct BoardSnapshot {
    pub board: u64,
    /// The board's revision that the document shows.
    pub revision: u64,
    /// That revision is on the disk already.
    pub saved: bool,
    pub document: Document,
    pub images: Images,
    /// Where a story without a folder of its own gets one, and the name that this gets.
    pub folder: PathBuf,
    pub name: String,
}

/// A task of the thread that saves and exports.
pub(super) enum FileTask {
    /// Into the story's folder; a story without one gets a new folder.
    Save(BoardSnapshot),
    SaveAs(PathBuf, BoardSnapshot),
    /// Another program has changed the story: its version stays, this one goes beside it.
    KeepBoth(BoardSnapshot),
    Open(PathBuf),
    /// Where the board is kept from now on; `None` for one without a folder.
    Use(Option<Project>),
    Export(Box<ExportTask>),
    /// Reads pictures that the author brings to board `board`.
    Bring {
        board: u64,
        paths: Vec<PathBuf>,
        becomes: ImportRole,
    },
}

/// An export of the board as it stands.
pub(super) struct ExportTask {
    pub exporter: &'static dyn Exporter,
    pub options: ExportOptions,
    /// By its place from 0, for an exporter of one panel.
    pub panel: Option<usize>,
    pub path: PathBuf,
    pub existing: Existing,
    pub story: Story,
    pub images: Images,
}

impl ExportTask {
    fn run(&self) -> Result<FileResult, ExportError> {
        let what = Export {
            story: &self.story,
            images: &self.images,
            panel: self.panel,
            options: &self.options,
            existing: self.existing,
        };
        let path = export::export(self.exporter, &what, &self.path)?;
        let left_out = match self.exporter.of_panel() {
            true => Vec::new(),
            false => export::left_out(&self.story, &self.images, self.exporter.cuts_texts()),
        };
        Ok(FileResult::Exported { path, left_out })
    }
}

/// The result of a task.
pub(super) enum FileResult {
    Saved {
        board: u64,
        dir: PathBuf,
        revision: u64,
    },
    Opened(Box<(Project, Document, Images)>),
    Exported {
        path: PathBuf,
        /// A sentence each.
        left_out: Vec<String>,
    },
    Brought {
        board: u64,
        pictures: Vec<(RgbaImage, Option<Record>)>,
        becomes: ImportRole,
        /// Why the other files are no pictures, a sentence each.
        refused: Vec<String>,
    },
    SaveFailed {
        reason: String,
        /// Another program has changed the story meanwhile.
        changed: bool,
    },
    Failed(String),
}

/// A handle on the thread, and on the one that reads brought pictures: however long one of those
/// takes, saving goes on.
pub(super) struct FileThread {
    tasks: Option<Sender<FileTask>>,
    pictures: Option<Sender<FileTask>>,
    done: Receiver<FileResult>,
    thread: Option<JoinHandle<()>>,
}

impl FileThread {
    /// Starts the thread, which keeps copies of what it can't save in `rescues`.
    ///
    /// # Panics
    /// When the operating system refuses a thread.
    pub(super) fn spawn(rescues: Vec<PathBuf>, wake: Arc<dyn Fn() + Send + Sync>) -> FileThread {
        let (outbox, done) = channel();
        let (tasks, thread) = {
            let mut desk = FileWorker {
                rescues,
                project: None,
                rescue: None,
            };
            let perform = move |task| desk.perform(task);
            work("files", perform, outbox.clone(), Arc::clone(&wake))
        };
        let (pictures, _) = work("pictures", brought, outbox, wake);
        FileThread {
            tasks: Some(tasks),
            pictures: Some(pictures),
            done,
            thread: Some(thread),
        }
    }

    pub(super) fn send(&self, task: FileTask) {
        let tasks = match task {
            FileTask::Bring { .. } => &self.pictures,
            _ => &self.tasks,
        };
        if let Some(tasks) = tasks {
            // The thread ends only after `finish`.
            let _ = tasks.send(task);
        }
    }

    pub(super) fn poll(&self) -> Option<FileResult> {
        self.done.try_recv().ok()
    }

    /// Does what is left and ends the thread. Pictures that are still being read are for nobody.
    pub(super) fn finish(&mut self) {
        (self.tasks, self.pictures) = (None, None);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for FileThread {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Starts a thread that performs tasks in order.
fn work(
    name: &str,
    mut perform: impl FnMut(FileTask) -> Option<FileResult> + Send + 'static,
    outbox: Sender<FileResult>,
    wake: Arc<dyn Fn() + Send + Sync>,
) -> (Sender<FileTask>, JoinHandle<()>) {
    let (tasks, inbox) = channel::<FileTask>();
    let thread = std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            for task in inbox {
                // Nobody listens any more when the program ends; saving goes on.
                if perform(task).is_some_and(|done| outbox.send(done).is_ok()) {
                    wake();
                }
            }
        })
        .expect("a process that cannot start one thread cannot go on");
    (tasks, thread)
}

/// Reads the pictures of a task that brings some.
fn brought(task: FileTask) -> Option<FileResult> {
    let FileTask::Bring {
        board,
        paths,
        becomes,
    } = task
    else {
        return None;
    };
    let (mut pictures, mut refused) = (Vec::new(), Vec::new());
    for path in paths {
        match read_picture_file(&path) {
            Ok(picture) => pictures.push(picture),
            Err(error) => refused.push(error.to_string()),
        }
    }
    Some(FileResult::Brought {
        board,
        pictures,
        becomes,
        refused,
    })
}

struct FileWorker {
    /// Where copies go of boards that can't be saved.
    rescues: Vec<PathBuf>,
    project: Option<Project>,
    /// The copy of a board that could not be saved, with the board's number.
    rescue: Option<(u64, Rescue)>,
}

impl FileWorker {
    fn perform(&mut self, task: FileTask) -> Option<FileResult> {
        Some(match task {
            FileTask::Save(snapshot) => {
                if self.project.is_none() {
                    match new_folder(&snapshot.folder, &snapshot.name) {
                        Ok(project) => self.project = Some(project),
                        Err(reason) => return Some(self.unsaved(&reason, false, &snapshot)),
                    }
                }
                self.save(&snapshot)
            }
            FileTask::SaveAs(dir, snapshot) => match Project::create(dir) {
                Ok(project) => {
                    let before = self.project.replace(project);
                    let done = self.save(&snapshot);
                    if matches!(done, FileResult::SaveFailed { .. }) {
                        // The story goes on where it was.
                        self.project = before;
                    }
                    done
                }
                Err(error) if snapshot.saved => FileResult::Failed(error.to_string()),
                Err(error) => self.save_failed(&error, &snapshot),
            },
            FileTask::KeepBoth(snapshot) => {
                if let Some(project) = &self.project {
                    match project.keep_both(&snapshot.document, &snapshot.images) {
                        Ok(beside) => self.project = Some(beside),
                        Err(error) => return Some(self.save_failed(&error, &snapshot)),
                    }
                }
                self.save(&snapshot)
            }
            FileTask::Open(dir) => match Project::open(dir) {
                Ok((project, document, images)) => {
                    // Read here, so that no frame waits for the disk.
                    for panel in &document.story().panels {
                        let _ = panel.picture().and_then(|take| images.shown(&take.image));
                    }
                    FileResult::Opened(Box::new((project, document, images)))
                }
                Err(error) => FileResult::Failed(error.to_string()),
            },
            FileTask::Use(project) => {
                self.project = project;
                return None;
            }
            FileTask::Export(task) => {
                let done = task.run();
                done.unwrap_or_else(|error| FileResult::Failed(error.to_string()))
            }
            // The other thread does this.
            FileTask::Bring { .. } => return None,
        })
    }

    fn save(&mut self, snapshot: &BoardSnapshot) -> FileResult {
        let Some(project) = &mut self.project else {
            return self.unsaved(
                "This story has no folder yet; use Save as.",
                false,
                snapshot,
            );
        };
        match project.save(&snapshot.document, &snapshot.images) {
            Ok(()) => {
                let dir = project.dir().to_path_buf();
                if let Some((_, rescue)) =
                    self.rescue.take_if(|(board, _)| *board == snapshot.board)
                {
                    rescue.forget();
                }
                FileResult::Saved {
                    board: snapshot.board,
                    dir,
                    revision: snapshot.revision,
                }
            }
            Err(error) => self.save_failed(&error, snapshot),
        }
    }

    fn save_failed(&mut self, error: &ProjectError, snapshot: &BoardSnapshot) -> FileResult {
        let changed = matches!(error, ProjectError::ChangedOnDisk(_));
        self.unsaved(&error.to_string(), changed, snapshot)
    }

    /// Keeps a copy of what could not be saved, at once: the next chance may not come.
    fn unsaved(&mut self, reason: &str, changed: bool, snapshot: &BoardSnapshot) -> FileResult {
        let (document, images) = (&snapshot.document, &snapshot.images);
        let known = self.rescue.take_if(|(board, _)| *board == snapshot.board);
        let kept = match known {
            Some((_, mut rescue)) => rescue.save(document, images).map(|()| rescue),
            None => {
                let from = self.project.as_ref().map(Project::dir);
                Rescue::keep(&self.rescues, document, images, from)
            }
        };
        let reason = match kept {
            Ok(rescue) => {
                let dir = rescue.dir().display().to_string();
                // The copy of another board stays where it is, for the next start.
                self.rescue = Some((snapshot.board, rescue));
                format!("{reason} Until it is saved, a copy is kept in {dir}.")
            }
            Err(error) => format!("{reason} No copy could be kept either: {error}"),
        };
        FileResult::SaveFailed { reason, changed }
    }
}

/// Makes a folder called `name`, or "name 2" where that is taken, which no other program takes
/// then.
fn new_folder(stories: &Path, name: &str) -> Result<Project, String> {
    let failed = |dir: &Path, error: io::Error| {
        format!(
            "{} cannot be made ({error}); use Save as to keep the story elsewhere.",
            dir.display()
        )
    };
    fs::create_dir_all(stories).map_err(|error| failed(stories, error))?;
    for number in 1u32.. {
        let dir = stories.join(match number {
            1 => name.to_owned(),
            n => format!("{name} {n}"),
        });
        match fs::create_dir(&dir) {
            Ok(()) => return Project::create(dir).map_err(|error| error.to_string()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(&dir, error)),
        }
    }
    Err(format!("{} holds too many stories.", stories.display()))
}
