//! The pixels of pictures, kept beside the document and named by their hash.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard};

use image::RgbaImage;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::folder::{SEEN_FOLDER, TRASH_FOLDER};
use super::lock::Lock;
use super::record_png::read_png;
use crate::files::{read_file, write_in_folder};
use crate::pixels;

/// SHA-256, in lower-case hexadecimal, of a picture's width and height (each as four bytes,
/// little end first) and its RGBA pixels.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageId(String);

impl ImageId {
    /// Hash of a picture's size and pixels.
    pub fn of(image: &RgbaImage) -> ImageId {
        let mut hash = Sha256::new();
        hash.update(image.width().to_le_bytes());
        hash.update(image.height().to_le_bytes());
        hash.update(image.as_raw());
        let digest = hash.finalize();
        ImageId(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The hash in lower-case hexadecimal, which is also the file's name without its extension.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `<hash>.png`
    ///
    /// ```
    /// use vokenboard::story::ImageId;
    ///
    /// let id: ImageId = "ab".repeat(32).parse().unwrap();
    /// assert_eq!(id.file_name(), format!("{}.png", "ab".repeat(32)));
    /// assert!("../story.json".parse::<ImageId>().is_err());
    /// ```
    pub fn file_name(&self) -> String {
        format!("{}.png", self.0)
    }

    /// The id in `<hash>.png`.
    pub(super) fn of_file_name(name: &str) -> Option<ImageId> {
        name.strip_suffix(".png")?.parse().ok()
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

/// Bytes of pictures that are kept in memory while their files are at hand, too.
const ROOM: usize = 512 << 20;
/// Bytes of small copies of large pictures that are kept.
const ROOM_FOR_COPIES: usize = 256 << 20;

/// Pictures by id: those put in by this program, and those in the folders of opened projects,
/// which are read when they are asked for and let go when memory is short. Clones share their
/// pictures.
#[derive(Clone, Debug, Default)]
pub struct Images {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    folders: Vec<Folder>,
    /// Put in, and in no file yet.
    unsaved: HashMap<ImageId, Arc<RgbaImage>>,
    read: Kept,
    /// What large or transparent pictures look like on a board.
    shown: Kept,
    /// In a story that was opened, but with a file that is missing or damaged.
    broken: HashSet<ImageId>,
}

/// Nothing that is kept with a project is larger.
const LARGEST_KEPT: u64 = 64 << 20;

/// Pictures that were used lately.
#[derive(Debug, Default)]
struct Kept {
    pictures: HashMap<ImageId, (Arc<RgbaImage>, u64)>,
    bytes: usize,
    /// Counts the uses.
    clock: u64,
}

impl Kept {
    fn get(&mut self, id: &ImageId) -> Option<Arc<RgbaImage>> {
        let (picture, used) = self.pictures.get_mut(id)?;
        self.clock += 1;
        *used = self.clock;
        Some(picture.clone())
    }

    /// Keeps a picture, and lets go of those that were not used for longest beyond `room` bytes.
    fn add(&mut self, id: ImageId, picture: Arc<RgbaImage>, room: usize) {
        self.clock += 1;
        self.bytes += picture.as_raw().len();
        if let Some((old, _)) = self.pictures.insert(id, (picture, self.clock)) {
            self.bytes -= old.as_raw().len();
        }
        while self.bytes > room && self.pictures.len() > 1 {
            let oldest = self.pictures.iter().min_by_key(|(_, (_, used))| *used);
            let Some(oldest) = oldest.map(|(id, _)| id.clone()) else {
                return;
            };
            if let Some((gone, _)) = self.pictures.remove(&oldest) {
                self.bytes -= gone.as_raw().len();
            }
        }
    }
}

#[derive(Clone, Debug)]
struct Folder {
    path: PathBuf,
    /// Undo may want a picture that is in this folder alone, so no other program may sweep it,
    /// not even after the story has moved to another folder.
    lock: Option<Arc<Lock>>,
}

impl Images {
    /// A store without pictures.
    pub fn new() -> Images {
        Images::default()
    }

    ///
    /// ```
    /// use vokenboard::story::{ImageId, Images};
    ///
    /// let images = Images::new();
    /// let id = images.put(image::RgbaImage::new(2, 2));
    /// assert_eq!(images.get(&id).unwrap().dimensions(), (2, 2));
    /// assert_eq!(ImageId::of(&image::RgbaImage::new(2, 2)), id);
    /// ```
    pub fn put(&self, image: impl Into<Arc<RgbaImage>>) -> ImageId {
        let image = image.into();
        let id = ImageId::of(&image);
        self.lock().unsaved.insert(id.clone(), image);
        id
    }

    /// The picture, full size, read from the project folder if it is not in memory. `None` if it
    /// is in neither or its file is damaged, which opening the project has warned of.
    pub fn get(&self, id: &ImageId) -> Option<Arc<RgbaImage>> {
        let folders = {
            let mut shared = self.lock();
            if let Some(image) = shared.unsaved.get(id) {
                return Some(image.clone());
            }
            if shared.broken.contains(id) {
                return None;
            }
            if let Some(image) = shared.read.get(id) {
                return Some(image);
            }
            let paths = shared.folders.iter().map(|folder| folder.path.clone());
            paths.collect::<Vec<PathBuf>>()
        };
        // Not under the lock: a saving thread must not hold up the window.
        let files: Vec<PathBuf> = folders.iter().filter_map(|f| find_file(f, id)).collect();
        let read = files.iter().find_map(|file| read_png(file).ok());
        let mut shared = self.lock();
        match read {
            Some(image) => {
                let image = Arc::new(image);
                shared.read.add(id.clone(), image.clone(), ROOM);
                Some(image)
            }
            None => {
                if !files.is_empty() {
                    shared.broken.insert(id.clone());
                }
                None
            }
        }
    }

    /// The picture as a board shows it and a model sees it: on white where it is transparent, and
    /// no side longer than 1,024 pixels. `None` as of [`Images::get`].
    pub fn shown(&self, id: &ImageId) -> Option<Arc<RgbaImage>> {
        if let Some(image) = self.lock().shown.get(id) {
            return Some(image);
        }
        let image = self.get(id)?;
        match pixels::shown(&image) {
            None => Some(image),
            Some(copy) => {
                let copy = Arc::new(copy);
                let mut shared = self.lock();
                shared.shown.add(id.clone(), copy.clone(), ROOM_FOR_COPIES);
                Some(copy)
            }
        }
    }

    /// The picture in its full size, on white where it is transparent. `None` as of
    /// [`Images::get`].
    pub fn on_white(&self, id: &ImageId) -> Option<Arc<RgbaImage>> {
        let image = self.get(id)?;
        Some(match pixels::on_white(&image) {
            Cow::Borrowed(_) => image,
            Cow::Owned(white) => Arc::new(white),
        })
    }

    /// What was kept under `name` with the project that these pictures belong to.
    pub fn kept(&self, name: &str) -> Option<Vec<u8>> {
        read_file(&self.seen_folder()?.join(name), LARGEST_KEPT).ok()
    }

    /// Keeps with the project what takes long to make of its pictures. Where that can't be
    /// written, it is made again.
    pub fn keep(&self, name: &str, bytes: &[u8]) {
        if let Some(folder) = self.seen_folder() {
            let _ = write_in_folder(&folder.join(name), bytes);
        }
    }

    /// In the project that is open for writing.
    fn seen_folder(&self) -> Option<PathBuf> {
        let shared = self.lock();
        let own = shared
            .folders
            .iter()
            .rfind(|folder| folder.lock.is_some())?;
        Some(own.path.with_file_name(SEEN_FOLDER))
    }

    /// Notes that a story was opened without this picture.
    pub(super) fn set_broken(&self, id: &ImageId) {
        self.lock().broken.insert(id.clone());
    }

    /// True if the picture's file is known to be missing or damaged.
    pub(super) fn is_broken(&self, id: &ImageId) -> bool {
        self.lock().broken.contains(id)
    }

    /// Whether the picture was put in and is in no file yet.
    pub(super) fn is_unsaved(&self, id: &ImageId) -> bool {
        self.lock().unsaved.contains_key(id)
    }

    /// The picture has been written to a file of a folder that was added: it need not be kept in
    /// memory any longer, and is not broken any more.
    pub(super) fn is_in_file(&self, id: &ImageId) {
        let mut shared = self.lock();
        shared.broken.remove(id);
        if let Some(image) = shared.unsaved.remove(id) {
            shared.read.add(id.clone(), image, ROOM);
        }
    }

    /// Where pictures are read from that are not in memory. The trash of that project is looked
    /// into last: what was thrown away may be wanted by a copy of the story.
    pub(super) fn add_folder(&self, path: PathBuf, lock: Option<Arc<Lock>>) {
        let mut shared = self.lock();
        if !shared.folders.iter().any(|folder| folder.path == path) {
            shared.folders.push(Folder { path, lock });
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // What is behind the lock is whole after every statement, so a panic elsewhere that
        // poisoned it does no harm.
        self.shared
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The file of a picture in the images folder `folder`, in whatever case its name was written by
/// other programs, or in the trash beside it.
pub(super) fn find_file(folder: &Path, id: &ImageId) -> Option<PathBuf> {
    let name = id.file_name();
    let exact = folder.join(&name);
    if exact.is_file() {
        return Some(exact);
    }
    let alike = fs::read_dir(folder).into_iter().flatten().flatten();
    let alike = alike
        .filter(|entry| entry.file_name().eq_ignore_ascii_case(&name))
        .map(|entry| entry.path());
    let thrown_away = folder.with_file_name(TRASH_FOLDER).join(&name);
    alike.chain([thrown_away]).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_leave_memory_when_there_is_no_room_and_the_last_used_stay() {
        let mut kept = Kept::default();
        let id = |seed: u8| ImageId::of(&RgbaImage::from_pixel(1, 1, image::Rgba([seed; 4])));
        for seed in 0..4 {
            kept.add(id(seed), Arc::new(RgbaImage::new(10, 10)), 1000);
            // The first is used again and again.
            assert!(kept.get(&id(0)).is_some());
        }
        assert_eq!((kept.bytes, kept.pictures.len()), (800, 2));
        assert!(kept.get(&id(3)).is_some() && kept.get(&id(1)).is_none());
        kept.add(id(3), Arc::new(RgbaImage::new(5, 10)), 1000);
        assert_eq!(kept.bytes, 600);
    }
}
