//! The pixels of pictures, kept beside the document and named by their hash.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard};

use image::RgbaImage;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::lock::Lock;
use super::record_png::read_png;

/// SHA-256, in lower-case hexadecimal, of a picture's width and height (each as four bytes,
/// little end first) and its RGBA pixels.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageId(String);

impl ImageId {
    pub fn of(image: &RgbaImage) -> ImageId {
        let mut hash = Sha256::new();
        hash.update(image.width().to_le_bytes());
        hash.update(image.height().to_le_bytes());
        hash.update(image.as_raw());
        let digest = hash.finalize();
        ImageId(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `<hash>.png`
    pub fn file_name(&self) -> String {
        format!("{}.png", self.0)
    }
}

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ImageId {
    type Err = String;

    /// Anything but a hash is refused, since the id becomes a file name.
    fn from_str(text: &str) -> Result<ImageId, String> {
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == 64 && text.bytes().all(hex) {
            Ok(ImageId(text.to_string()))
        } else {
            Err(format!("\"{text}\" is not the SHA-256 of a picture"))
        }
    }
}

impl TryFrom<String> for ImageId {
    type Error = String;
    fn try_from(text: String) -> Result<ImageId, String> {
        text.parse()
    }
}

impl From<ImageId> for String {
    fn from(id: ImageId) -> String {
        id.0
    }
}

/// Pictures by id: those put in by this program, and those in the folders of opened projects,
/// which are read when they are first asked for. Clones share their pictures.
#[derive(Clone, Debug, Default)]
pub struct Images {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    folders: Vec<Folder>,
    loaded: HashMap<ImageId, Arc<RgbaImage>>,
    /// In a story that was opened, but with a file that is missing or damaged.
    broken: HashSet<ImageId>,
}

#[derive(Clone, Debug)]
struct Folder {
    path: PathBuf,
    /// Undo may want a picture that is in this folder alone, so no other program may sweep it,
    /// not even after the story has moved to another folder.
    _lock: Option<Arc<Lock>>,
}

impl Images {
    pub fn new() -> Images {
        Images::default()
    }

    pub fn put(&self, image: impl Into<Arc<RgbaImage>>) -> ImageId {
        let image = image.into();
        let id = ImageId::of(&image);
        self.lock().loaded.insert(id.clone(), image);
        id
    }

    /// The picture, read from the project folder if it is not in memory. `None` if it is in
    /// neither or its file is damaged, which opening the project has warned of.
    pub fn get(&self, id: &ImageId) -> Option<Arc<RgbaImage>> {
        let folders = {
            let shared = self.lock();
            if let Some(image) = shared.loaded.get(id) {
                return Some(image.clone());
            }
            if shared.broken.contains(id) {
                return None;
            }
            let paths = shared.folders.iter().map(|folder| folder.path.clone());
            paths.collect::<Vec<PathBuf>>()
        };
        // Not under the lock: a saving thread must not hold up the window.
        let read = folders.iter().find_map(|folder| read_image(folder, id));
        let mut shared = self.lock();
        match read {
            Some(image) => Some(shared.loaded.entry(id.clone()).or_insert(image).clone()),
            None => {
                let damaged = |folder: &PathBuf| folder.join(id.file_name()).is_file();
                if folders.iter().any(damaged) {
                    shared.broken.insert(id.clone());
                }
                None
            }
        }
    }

    /// Notes that a story was opened without this picture.
    pub(super) fn set_broken(&self, id: &ImageId) {
        self.lock().broken.insert(id.clone());
    }

    /// True if the picture's file is known to be missing or damaged.
    pub(super) fn is_broken(&self, id: &ImageId) -> bool {
        self.lock().broken.contains(id)
    }

    pub(super) fn is_loaded(&self, id: &ImageId) -> bool {
        self.lock().loaded.contains_key(id)
    }

    /// A picture that was broken has been written again.
    pub(super) fn mend(&self, id: &ImageId) {
        self.lock().broken.remove(id);
    }

    pub(super) fn add_folder(&self, path: PathBuf, lock: Option<Arc<Lock>>) {
        let mut shared = self.lock();
        if !shared.folders.iter().any(|folder| folder.path == path) {
            shared.folders.push(Folder { path, _lock: lock });
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // What is behind the lock is whole after every statement, so a panic elsewhere that
        // poisoned it does no harm.
        self.shared.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// `None` if the file is missing, damaged, or holds other pixels than its name says.
fn read_image(folder: &Path, id: &ImageId) -> Option<Arc<RgbaImage>> {
    let (image, _) = read_png(&folder.join(id.file_name())).ok()?;
    (ImageId::of(&image) == *id).then(|| Arc::new(image))
}
