//! The project folder: `story.json` and `images/<hash>.png`, readable without this program.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::lock::{LOCK_FILE, Lock};
use super::record_png::{encode_png, png_size};
use super::sweep::remove_unused_pictures;
use super::{Document, ImageId, Images, PictureTake, Story, is_default};
use crate::files::write_beside;

/// Of `story.json`. Raised when an older program could not read what a newer one writes.
pub const SCHEMA_VERSION: u64 = 2;

const STORY_FILE: &str = "story.json";
const IMAGES_FOLDER: &str = "images";

/// Why a project could not be opened or saved. What is on the disk is as it was.
#[derive(Debug, Error)]
pub enum ProjectError {
    #[error(
        "{0} is not a Vokenboard project: it has no story.json; choose a folder that Vokenboard saved."
    )]
    NotAProject(PathBuf),
    #[error("{0} is not empty; choose a new or an empty folder.")]
    NotEmpty(PathBuf),
    #[error("{0} already holds a story; open it, or choose another folder.")]
    AlreadyAProject(PathBuf),
    #[error(
        "{path} has schema version {found}, and this Vokenboard reads up to {SCHEMA_VERSION}; open it with a newer Vokenboard."
    )]
    Newer { path: PathBuf, found: u64 },
    #[error("{path} cannot be understood ({why}); mend it by hand or restore it from a copy.")]
    Broken { path: PathBuf, why: String },
    #[error(
        "{0} is open in another Vokenboard; close it there first, or work on a copy of the folder."
    )]
    InUse(PathBuf),
    #[error(
        "{0} was changed by another program since it was opened; save this story to another folder, or open it again."
    )]
    ChangedOnDisk(PathBuf),
    #[error(
        "The picture {id} of panel {panel} is not at hand; make it again or delete that take, then save."
    )]
    NoPixels { id: ImageId, panel: usize },
    #[error(
        "{path} cannot be written: {source}; free some space or choose another folder, then save again."
    )]
    Write { path: PathBuf, source: io::Error },
    #[error("{path} cannot be read: {source}; check that it is there and that you may read it.")]
    Read { path: PathBuf, source: io::Error },
}

/// `story.json`
#[derive(Serialize, Deserialize)]
struct StoryFile<S> {
    schema_version: u64,
    /// Ids from here on have not been given to a panel.
    #[serde(default)]
    next_panel: u64,
    /// The same of members of the cast; left out in a story that never had one.
    #[serde(default, skip_serializing_if = "is_default")]
    next_member: u64,
    #[serde(flatten)]
    story: S,
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
        match Project::is_empty(&dir) {
            Ok(true) => make_folder(&dir)?,
            Ok(false) => return Err(ProjectError::NotEmpty(dir)),
            Err(source) => return Err(ProjectError::Read { path: dir, source }),
        }
        Ok(Project {
            lock: lock(&dir)?,
            dir,
            seen: None,
            warnings: Vec::new(),
        })
    }

    /// Opens a story to change it, and removes pictures from its folder that no take refers to:
    /// undo does not reach back to before the opening. Pictures that are missing or damaged do
    /// not make a story unreadable: their takes stay, [`Images::get`] has nothing for them, and
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
            remove_unused_pictures(&dir, &dir.join(IMAGES_FOLDER), document.story());
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

    /// True if a story can be put into the folder: there is nothing in it, or it does not exist.
    ///
    /// # Errors
    /// When the folder cannot be looked into.
    pub fn is_empty(dir: &Path) -> io::Result<bool> {
        match fs::read_dir(dir) {
            Ok(entries) => {
                for entry in entries {
                    // All that a program leaves that ended before its first save.
                    if entry?.file_name() != LOCK_FILE {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// True if there is a `story.json` in the folder.
    pub fn is_project(dir: &Path) -> bool {
        dir.join(STORY_FILE).is_file()
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// One sentence for each picture that was missing or damaged when the project was opened.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Writes the pictures that are not there yet, then `story.json`, each beside its place and
    /// renamed into it. Pictures that no take refers to any more stay, since undo may want them.
    ///
    /// Refuses with [`ProjectError::ChangedOnDisk`] if another program wrote `story.json` since
    /// this one last read or wrote it.
    pub fn save(&mut self, document: &Document, images: &Images) -> Result<(), ProjectError> {
        let path = self.dir.join(STORY_FILE);
        self.check_unchanged(&path)?;
        make_folder(&self.dir.join(IMAGES_FOLDER))?;
        self.save_pictures(document.story(), images)?;
        let file = StoryFile {
            schema_version: SCHEMA_VERSION,
            next_panel: document.next_id(),
            next_member: document.next_member(),
            story: document.story(),
        };
        let mut json = serde_json::to_vec_pretty(&file).map_err(|error| ProjectError::Write {
            path: path.clone(),
            source: error.into(),
        })?;
        json.push(b'\n');
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
        match fs::read(path) {
            Ok(bytes) if self.seen == Some(digest(&bytes)) => Ok(()),
            Ok(_) => Err(ProjectError::ChangedOnDisk(path.to_path_buf())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(ProjectError::Read {
                path: path.to_path_buf(),
                source,
            }),
        }
    }

    fn save_pictures(&self, story: &Story, images: &Images) -> Result<(), ProjectError> {
        let folder = self.dir.join(IMAGES_FOLDER);
        let mut done = HashSet::new();
        for (number, take) in pictures(story) {
            let id = &take.image;
            let path = folder.join(id.file_name());
            if !done.insert(id) {
                continue;
            }
            let mend = images.is_broken(id) && images.is_loaded(id);
            if path.is_file() && !mend {
                continue;
            }
            let Some(image) = images.get(id) else {
                // Opening warned of it; its take stays so that a restored file is found again.
                if images.is_broken(id) {
                    continue;
                }
                let id = id.clone();
                return Err(ProjectError::NoPixels { id, panel: number });
            };
            encode_png(&image, take.record.as_ref())
                .and_then(|png| write_beside(&path, |file| file.write_all(&png)))
                .map_err(|source| ProjectError::Write { path, source })?;
            images.mend(id);
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
            }
        }
        images.add_folder(folder, self.lock.clone());
        Ok(())
    }
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
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(ProjectError::NotAProject(dir.to_path_buf()));
        }
        Err(source) => return Err(ProjectError::Read { path, source }),
    };
    let document = parse(&path, &bytes)?;
    let images = Images::new();
    images.add_folder(dir.join(IMAGES_FOLDER), lock);
    let warnings = check_pictures(dir, document.story(), &images);
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

fn parse(path: &Path, bytes: &[u8]) -> Result<Document, ProjectError> {
    let broken = |why: String| ProjectError::Broken {
        path: path.to_path_buf(),
        why,
    };
    // The version first: a newer story may have another shape altogether.
    #[derive(Deserialize)]
    struct Version {
        schema_version: u64,
    }
    let Version { schema_version } =
        serde_json::from_slice(bytes).map_err(|e| broken(e.to_string()))?;
    if schema_version > SCHEMA_VERSION {
        return Err(ProjectError::Newer {
            path: path.to_path_buf(),
            found: schema_version,
        });
    }
    let mut file: StoryFile<Story> =
        serde_json::from_slice(bytes).map_err(|e| broken(e.to_string()))?;
    let mut ids = HashSet::new();
    for panel in &mut file.story.panels {
        if !ids.insert(panel.id) {
            return Err(broken(format!("two panels have the id {}", panel.id)));
        }
        // Text that was changed in the file by hand is the author's own.
        let text = std::mem::take(&mut panel.text);
        panel.show_active_text();
        if !text.is_empty() {
            panel.set_text(text);
        }
    }
    Ok(Document::with_next_ids(
        file.story,
        file.next_panel,
        file.next_member,
    ))
}

/// Loads the pictures that the board shows, looks at the heads of the other takes' files, and
/// returns a sentence for each file that is missing or damaged.
fn check_pictures(dir: &Path, story: &Story, images: &Images) -> Vec<String> {
    let shown: HashSet<&ImageId> = story
        .panels
        .iter()
        .filter_map(|panel| panel.picture().map(|take| &take.image))
        .collect();
    let mut seen = HashSet::new();
    let takes: Vec<(usize, &PictureTake)> = pictures(story)
        .filter(|(_, take)| seen.insert(&take.image))
        .collect();
    takes
        .par_iter()
        .filter_map(|&(number, take)| {
            let file = Path::new(IMAGES_FOLDER).join(take.image.file_name());
            let path = dir.join(&file);
            let whole = if shown.contains(&take.image) {
                images.get(&take.image).map(|image| image.dimensions())
            } else {
                png_size(&path).ok()
            };
            if whole == Some((take.width, take.height)) {
                return None;
            }
            images.set_broken(&take.image);
            let what = if path.is_file() { "damaged" } else { "missing" };
            Some(format!(
                "The picture {} of panel {number} is {what}; restore that file or make the \
                 picture again.",
                file.display()
            ))
        })
        .collect()
}
