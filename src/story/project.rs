//! The project folder: `story.json` and `images/<hash>.png`, readable without this program.

use crate::cause::Cause;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::folder::{self, IMAGES_FOLDER, STORY_FILE};
use super::images::find_file;
use super::lock::Lock;
use super::record_png::{encode_png, png_size, read_png};
use super::sweep::{self, SweptFiles, put_unused_into_trash};
use super::{Document, ImageId, Images, PictureTake, Story, owner, written};
use crate::files::{clear_left_behind, read_file, write_beside};

/// The schema of `story.json`; raised when an older program could not read what a newer one writes.
pub const SCHEMA_VERSION: u64 = 2;

/// No story is longer, in bytes of `story.json`.
const LONGEST_STORY: u64 = 256 << 20;
/// Pixels that opening a story looks at; of pictures beyond it only reads the heads.
const LOOKED_AT: u64 = 100_000_000;

/// Why a project could not be opened or saved. What is on the disk is as it was.
#[derive(Debug, Error)]
pub enum ProjectError {
    /// The folder has no `story.json`.
    #[error(
        "{0} is not a Vokenboard project: it has no story.json; choose a folder that Vokenboard saved."
    )]
    NotAProject(PathBuf),
    /// A new project needs a folder without files.
    #[error("{0} is not empty; choose a new or an empty folder.")]
    NotEmpty(PathBuf),
    /// A folder for a new project lies within another project's own folders.
    #[error(
        "{dir} is inside the story in {story}, whose files it would be taken for; choose another folder."
    )]
    Inside {
        /// The folder that was chosen.
        dir: PathBuf,
        /// The project around it.
        story: PathBuf,
    },
    /// A story is to be saved where there is another one.
    #[error("{0} already holds a story; open it, or choose another folder.")]
    AlreadyAProject(PathBuf),
    /// The project was written by a newer version than this one can read.
    #[error(
        "{path} has schema version {found}, and this Vokenboard reads up to {SCHEMA_VERSION}; open it with a newer Vokenboard."
    )]
    Newer {
        /// The project's `story.json`.
        path: PathBuf,
        /// Schema version in the file.
        found: u64,
    },
    /// A file of the project is not valid JSON, or its values contradict one another.
    #[error("{path} cannot be understood ({why}); mend it by hand or restore it from a copy.")]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        why: Cause,
    },
    /// Another process holds the project's lock.
    #[error(
        "{0} is open in another Vokenboard; close it there first, or work on a copy of the folder."
    )]
    InUse(PathBuf),
    /// `story.json` is not as it was when it was last read or written.
    #[error(
        "{0} was changed by another program since it was opened; save this story to another folder, or open it again."
    )]
    ChangedOnDisk(PathBuf),
    /// The story names a picture whose pixels are neither in memory nor in the folder.
    #[error(
        "The picture {id} of panel {panel} is not at hand; make it again or delete that take, then save."
    )]
    NoPixels {
        /// Hash of the picture.
        id: ImageId,
        /// Number of the panel, from 1.
        panel: usize,
    },
    /// A file of the project cannot be written.
    #[error(
        "{path} cannot be written: {source}; free some space or choose another folder, then save again."
    )]
    Write {
        /// The file.
        path: PathBuf,
        /// Why the system refused.
        source: io::Error,
    },
    /// A file of the project cannot be read.
    #[error("{path} cannot be read: {source}; check that it is there and that you may read it.")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why the system refused.
        source: io::Error,
    },
}

/// A folder that a story is saved to. No other program can open it for writing meanwhile.
#[derive(Debug)]
pub struct Project {
    dir: PathBuf,
    lock: Option<Arc<Lock>>,
    /// SHA-256 of `story.json` as this program last read or wrote it.
    seen: Option<[u8; 32]>,
    warnings: Vec<String>,
}

impl Project {
    /// Takes a new or empty folder for a story; it is written with the first [`Project::save`].
    pub fn create(dir: impl Into<PathBuf>) -> Result<Project, ProjectError> {
        let dir = dir.into();
        if Project::is_project(&dir) {
            return Err(ProjectError::AlreadyAProject(dir));
        }
        check_outside(&dir)?;
        match Project::is_empty(&dir) {
            Ok(true) => make_folder(&dir)?,
            Ok(false) => return Err(ProjectError::NotEmpty(dir)),
            Err(source) => return Err(ProjectError::Read { path: dir, source }),
        }
        let lock = lock(&dir)?;
        if lock.as_ref().is_some_and(|lock| lock.is_only()) {
            clear_left_behind(&dir, false);
        }
        Ok(Project {
            lock,
            dir,
            seen: None,
            warnings: Vec::new(),
        })
    }

    /// Takes a project away whose story was never begun: what [`Project::create`] and a first save
    /// made, as far as nothing else lies there. The folder itself stays.
    pub fn discard(self) {
        let dir = self.dir.clone();
        let _ = fs::remove_file(dir.join(STORY_FILE));
        // What is not empty stays.
        let _ = fs::remove_dir(dir.join(IMAGES_FOLDER));
        // The lock's file goes with it.
        drop(self);
    }

    /// Takes a new folder of the name that `dir` ends in, or of that name with a number where there
    /// is one already.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn create_new(dir: &Path) -> Result<Project, ProjectError> {
        check_outside(dir)?;
        let mut number = 1u32;
        loop {
            let mut name = dir.as_os_str().to_os_string();
            if number > 1 {
                name.push(format!(" {number}"));
            }
            let dir = PathBuf::from(name);
            match fs::create_dir(&dir) {
                Ok(()) => return Project::create(dir),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(source) => return Err(ProjectError::Write { path: dir, source }),
            }
        }
    }

    /// Keeps both where another program has changed the story meanwhile: theirs stays, and
    /// `document` goes to a new folder beside it, which the project is from then on.
    ///
    /// # Errors
    /// When that folder can't be made or written.
    pub fn keep_both(&self, document: &Document, images: &Images) -> Result<Project, ProjectError> {
        let whole = std::path::absolute(&self.dir).unwrap_or_else(|_| self.dir.clone());
        let mut name = whole.into_os_string();
        name.push(" (mine)");
        let mut project = Project::create_new(Path::new(&name))?;
        project.save(document, images)?;
        Ok(project)
    }

    /// Whether another program, or this one, has the folder open for writing.
    pub(super) fn is_in_use(dir: &Path) -> bool {
        match Lock::take(dir) {
            Ok(lock) => lock.is_some_and(|lock| !lock.is_only()),
            Err(_) => true,
        }
    }

    /// Whether a story could be saved into a folder that may not be there yet, tried with a file
    /// that is gone again.
    ///
    /// # Errors
    /// Why it can't.
    pub fn check_creatable(dir: &Path) -> Result<(), ProjectError> {
        check_outside(dir)?;
        let whole = std::path::absolute(dir).unwrap_or_else(|_| dir.to_path_buf());
        let there = whole.ancestors().find(|dir| dir.exists());
        let there = there.unwrap_or(&whole);
        try_writing(there).map_err(|source| ProjectError::Write {
            path: there.to_path_buf(),
            source,
        })
    }

    /// Opens a story to change it, clears what a killed program was writing, and puts pictures
    /// into its trash that neither a take nor a copy of the story refers to: undo does not reach
    /// back to before the opening. Pictures that are missing or damaged do not make a story
    /// unreadable: their takes stay, [`Images::get`] has nothing for them, and
    /// [`Project::warnings`] names them.
    pub fn open(dir: impl Into<PathBuf>) -> Result<(Project, Document, Images), ProjectError> {
        let dir = dir.into();
        // The lock comes first: a program that ends now may still write the story.
        let lock = match Project::is_project(&dir) {
            true => lock(&dir)?,
            false => None,
        };
        let (document, images, seen, warnings) = read(&dir, lock.clone())?;
        if lock.as_ref().is_some_and(|lock| lock.is_only()) {
            for folder in [dir.clone(), dir.join(IMAGES_FOLDER)] {
                clear_left_behind(&folder, false);
            }
            put_unused_into_trash(&dir, document.story());
        }
        let project = Project {
            dir,
            lock,
            seen: Some(seen),
            warnings,
        };
        Ok((project, document, images))
    }

    /// Reads a story without changing anything; another program may be writing it. Last come
    /// the warnings, as of [`Project::warnings`].
    pub fn read(dir: &Path) -> Result<(Document, Images, Vec<String>), ProjectError> {
        let (document, images, _, warnings) = read(dir, None)?;
        Ok((document, images, warnings))
    }

    /// True if a story can be put into the folder: it does not exist, or there is nothing in it but
    /// what the system makes or a first save that failed has left.
    ///
    /// # Errors
    /// When the folder cannot be looked into.
    pub fn is_empty(dir: &Path) -> io::Result<bool> {
        folder::is_empty(dir)
    }

    /// Whether a name in a project folder is one that the story is made of, in any spelling that
    /// a file system takes for it.
    pub fn is_own_file(name: &OsStr) -> bool {
        folder::is_own_file(name)
    }

    /// Throws away what is in the trash of the project, but for pictures that a copy of the story
    /// names or may name; `all` throws those away, too.
    ///
    /// # Errors
    /// When the trash can't be emptied.
    pub fn empty_trash(&self, document: &Document, all: bool) -> Result<SweptFiles, ProjectError> {
        sweep::empty_trash(&self.dir, document.story(), all).map_err(|source| ProjectError::Write {
            path: self.dir.join(folder::TRASH_FOLDER),
            source,
        })
    }

    /// Whether the story can be saved into its folder, tried with a file that is gone again.
    ///
    /// # Errors
    /// Why it can't.
    pub fn check_writable(&self) -> Result<(), ProjectError> {
        self.check_unchanged(&self.dir.join(STORY_FILE))?;
        let images = self.dir.join(IMAGES_FOLDER);
        make_folder(&images)?;
        for folder in [&self.dir, &images] {
            try_writing(folder).map_err(|source| ProjectError::Write {
                path: folder.clone(),
                source,
            })?;
        }
        Ok(())
    }

    /// True if there is a `story.json` in the folder.
    pub fn is_project(dir: &Path) -> bool {
        dir.join(STORY_FILE).is_file()
    }

    /// The project folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// One sentence for each picture that was missing or damaged when the project was opened, and
    /// for each record that could not be understood.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Writes the pictures that are not there yet, then `story.json`, each beside its place and
    /// renamed into it. Pictures that no take refers to any more stay, since undo may want them.
    ///
    /// Refuses with [`ProjectError::ChangedOnDisk`] if another program wrote `story.json` since
    /// this one last read or wrote it.
    pub fn save(&mut self, document: &Document, images: &Images) -> Result<(), ProjectError> {
        self.save_all(document, images, false)
    }

    /// As [`Project::save`], without the pictures that are not at hand.
    pub(super) fn save_what_is_there(
        &mut self,
        document: &Document,
        images: &Images,
    ) -> Result<(), ProjectError> {
        self.save_all(document, images, true)
    }

    fn save_all(
        &mut self,
        document: &Document,
        images: &Images,
        without_lost: bool,
    ) -> Result<(), ProjectError> {
        let path = self.dir.join(STORY_FILE);
        self.check_unchanged(&path)?;
        make_folder(&self.dir.join(IMAGES_FOLDER))?;
        self.save_pictures(document.story(), images, without_lost)?;
        let json = written::write(document).map_err(|error| ProjectError::Write {
            path: path.clone(),
            source: error.into(),
        })?;
        let seen = digest(&json);
        if self.seen == Some(seen) && path.is_file() {
            return Ok(());
        }
        // Pictures may have taken a while to write.
        self.check_unchanged(&path)?;
        write_beside(&path, |file| file.write_all(&json))
            .map_err(|source| ProjectError::Write { path, source })?;
        self.seen = Some(seen);
        Ok(())
    }

    fn check_unchanged(&self, path: &Path) -> Result<(), ProjectError> {
        // Renaming another file into its place would pass over that its author protects it.
        if fs::metadata(path).is_ok_and(|about| about.permissions().readonly()) {
            return Err(ProjectError::Write {
                path: path.to_path_buf(),
                source: io::ErrorKind::PermissionDenied.into(),
            });
        }
        match read_file(path, LONGEST_STORY) {
            Ok(bytes) if self.seen == Some(digest(&bytes)) => Ok(()),
            Ok(_) => Err(ProjectError::ChangedOnDisk(path.to_path_buf())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(ProjectError::Read {
                path: path.to_path_buf(),
                source,
            }),
        }
    }

    fn save_pictures(
        &self,
        story: &Story,
        images: &Images,
        without_lost: bool,
    ) -> Result<(), ProjectError> {
        let folder = self.dir.join(IMAGES_FOLDER);
        images.add_folder(folder.clone(), self.lock.clone());
        let mut done = HashSet::new();
        for (number, take) in pictures(story) {
            let id = &take.image;
            let path = folder.join(id.file_name());
            if !done.insert(id) {
                continue;
            }
            let unsaved = images.is_unsaved(id);
            if path.is_file() && !unsaved {
                continue;
            }
            // One that was made again is written only where its file is another or damaged.
            let is_there = || read_png(&path).is_ok_and(|image| ImageId::of(&image) == *id);
            if unsaved && path.is_file() && is_there() {
                images.is_in_file(id);
                continue;
            }
            let Some(image) = images.get(id) else {
                // Opening warned of it; its take stays so that a restored file is found again.
                if without_lost || images.is_broken(id) {
                    continue;
                }
                let id = id.clone();
                return Err(ProjectError::NoPixels { id, panel: number });
            };
            encode_png(&image, take.record.as_ref())
                .and_then(|png| write_beside(&path, |file| file.write_all(&png)))
                .map_err(|source| ProjectError::Write { path, source })?;
            images.is_in_file(id);
        }
        // Pictures that are no take: of the cast, and those that takes were made with. One that
        // is gone is no reason to keep the story from being saved.
        for id in story.images() {
            let path = folder.join(id.file_name());
            if !done.insert(id) || path.is_file() {
                continue;
            }
            if let Some(image) = images.get(id) {
                encode_png(&image, None)
                    .and_then(|png| write_beside(&path, |file| file.write_all(&png)))
                    .map_err(|source| ProjectError::Write { path, source })?;
                images.is_in_file(id);
            }
        }
        Ok(())
    }
}

/// A story inside the files of another would be swept up with those.
fn check_outside(dir: &Path) -> Result<(), ProjectError> {
    match owner(&dir.join(STORY_FILE)) {
        Some(story) if story != dir => Err(ProjectError::Inside {
            dir: dir.to_path_buf(),
            story,
        }),
        _ => Ok(()),
    }
}

/// Whether a file can be made in the folder, and written to.
fn try_writing(folder: &Path) -> io::Result<()> {
    let mut file = tempfile::Builder::new()
        .prefix(".writing-")
        .tempfile_in(folder)?;
    file.write_all(&[0; 4096])?;
    file.flush()
}

/// Every picture take with the number of its panel, counted from 1.
fn pictures(story: &Story) -> impl Iterator<Item = (usize, &PictureTake)> {
    let numbered = (1..).zip(&story.panels);
    numbered.flat_map(|(number, panel)| panel.pictures.items().iter().map(move |t| (number, t)))
}

/// The story in the folder, its pictures, the SHA-256 of `story.json`, and warnings.
type Contents = (Document, Images, [u8; 32], Vec<String>);

fn read(dir: &Path, lock: Option<Arc<Lock>>) -> Result<Contents, ProjectError> {
    let path = dir.join(STORY_FILE);
    let bytes = match read_file(&path, LONGEST_STORY) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(ProjectError::NotAProject(dir.to_path_buf()));
        }
        Err(source) => return Err(ProjectError::Read { path, source }),
    };
    let (document, mut warnings) = written::read(&path, &bytes)?;
    let images = Images::new();
    images.add_folder(dir.join(IMAGES_FOLDER), lock);
    warnings.extend(check_pictures(dir, document.story(), &images));
    Ok((document, images, digest(&bytes), warnings))
}

fn lock(dir: &Path) -> Result<Option<Arc<Lock>>, ProjectError> {
    match Lock::take(dir) {
        Ok(lock) => Ok(lock.map(Arc::new)),
        Err(_) => Err(ProjectError::InUse(dir.to_path_buf())),
    }
}

fn make_folder(dir: &Path) -> Result<(), ProjectError> {
    fs::create_dir_all(dir).map_err(|source| ProjectError::Write {
        path: dir.to_path_buf(),
        source,
    })
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Looks at the pictures that the board shows, and at the heads of the other takes' files, and
/// returns a sentence for each file that is missing, damaged or another picture than it was.
fn check_pictures(dir: &Path, story: &Story, images: &Images) -> Vec<String> {
    let shown: HashSet<&ImageId> = story
        .panels
        .iter()
        .filter_map(|panel| panel.picture().map(|take| &take.image))
        .collect();
    let mut seen = HashSet::new();
    let mut pixels = 0u64;
    // With whether the picture is to be looked at whole.
    let takes: Vec<(usize, &PictureTake, bool)> = pictures(story)
        .filter(|(_, take)| seen.insert(&take.image))
        .map(|(number, take)| {
            let whole = shown.contains(&take.image) && pixels < LOOKED_AT;
            if whole {
                pixels += u64::from(take.width) * u64::from(take.height);
            }
            (number, take, whole)
        })
        .collect();
    takes
        .par_iter()
        .filter_map(|&(number, take, whole)| {
            let id = &take.image;
            let at = dir.join(IMAGES_FOLDER);
            let path = find_file(&at, id);
            let size = path.as_ref().and_then(|path| {
                let read = || {
                    images
                        .get(id)
                        .map(|image| (image.dimensions(), Some(image)))
                };
                match whole {
                    true => read(),
                    false => Some((png_size(path).ok()?, None)),
                }
            });
            let what = match size {
                Some((size, image))
                    if size == (take.width, take.height)
                        && image.as_ref().is_none_or(|image| ImageId::of(image) == *id) =>
                {
                    return None;
                }
                Some(_) => {
                    return Some(format!(
                        "The picture {} of panel {number} was changed by another program; it is \
                         shown as it is now.",
                        Path::new(IMAGES_FOLDER).join(id.file_name()).display()
                    ));
                }
                None if path.is_some() => "damaged",
                None => "missing",
            };
            images.set_broken(id);
            Some(format!(
                "The picture {} of panel {number} is {what}; restore that file or make the \
                 picture again.",
                Path::new(IMAGES_FOLDER).join(id.file_name()).display()
            ))
        })
        .collect()
}
