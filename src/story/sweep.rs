//! Puts pictures that no story needs any more into the project's trash, and empties that.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::folder::{IMAGES_FOLDER, SEEN_FOLDER, STORY_FILE, TRASH_FOLDER};
use super::{ImageId, Story};
use crate::files::read_file;

/// Larger files are not read for what they name.
const LONGEST: u64 = 64 << 20;
/// Nor is a folder looked through that holds more than so many files.
const MOST_FILES: usize = 20_000;

/// What was thrown away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SweptFiles {
    /// Pictures that were put away.
    pub pictures: usize,
    /// Size of those, in bytes.
    pub bytes: u64,
    /// Pictures that stay, since a copy of the story names them or may do so.
    pub kept: usize,
}

/// Moves the pictures that neither `story` nor any other writing names from the project folder
/// `dir` to its trash: a copy of `story.json`, however deep, or an exported `story.md`. Where
/// something cannot be looked into (an archive, `.git`), nothing moves. Files that are not named
/// like pictures of ours stay. What cannot be moved stays too: it harms nobody.
///
/// Call it only while nothing can bring a deleted take back: right after the story was read, and
/// with the folder locked.
pub(super) fn put_unused_into_trash(dir: &Path, story: &Story) {
    let images = dir.join(IMAGES_FOLDER);
    let used: HashSet<&ImageId> = story.images().collect();
    let mut unused = pictures_in(&images);
    unused.retain(|id| !used.contains(id));
    if unused.is_empty() {
        return;
    }
    let Some(named) = named_in_writings(dir) else {
        return;
    };
    unused.retain(|id| !named.contains(id));
    let trash = dir.join(TRASH_FOLDER);
    if unused.is_empty() || fs::create_dir_all(&trash).is_err() {
        return;
    }
    for id in unused {
        // A picture that stays is tried again the next time.
        let _ = fs::rename(images.join(id.file_name()), trash.join(id.file_name()));
    }
}

/// Throws away what is in the trash of the project folder `dir`, for good. Pictures that the
/// story or another writing names stay, and all of them where one cannot be looked into; `all`
/// throws those away, too, that only copies name.
///
/// # Errors
/// When the trash can't be looked into or emptied.
pub(super) fn empty_trash(dir: &Path, story: &Story, all: bool) -> io::Result<SweptFiles> {
    let trash = dir.join(TRASH_FOLDER);
    let mut cleaned = SweptFiles::default();
    let used: HashSet<&ImageId> = story.images().collect();
    let pictures = pictures_in(&trash);
    let named = match all || pictures.is_empty() {
        true => Some(HashSet::new()),
        false => named_in_writings(dir),
    };
    for id in pictures {
        let doubted = named.as_ref().is_none_or(|named| named.contains(&id));
        if doubted || used.contains(&id) {
            cleaned.kept += 1;
            continue;
        }
        let path = trash.join(id.file_name());
        let bytes = fs::metadata(&path).map_or(0, |about| about.len());
        fs::remove_file(&path)?;
        cleaned.pictures += 1;
        cleaned.bytes += bytes;
    }
    // Stays where something else is in it.
    let _ = fs::remove_dir(&trash);
    // What models have seen they see again; most of it may be of pictures that are gone.
    let _ = fs::remove_dir_all(dir.join(SEEN_FOLDER));
    Ok(cleaned)
}

fn pictures_in(folder: &Path) -> Vec<ImageId> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name());
    names
        .filter_map(|name| ImageId::of_file_name(name.to_str()?))
        .collect()
}

/// The pictures that files in the project folder name, and files beside it that may be copies of
/// the story. `None` where one of them cannot be looked into.
fn named_in_writings(dir: &Path) -> Option<HashSet<ImageId>> {
    let mut named = HashSet::new();
    let mut folders = vec![dir.to_path_buf()];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).ok()? {
            let path = entry.ok()?.path();
            files += 1;
            if files > MOST_FILES || path.file_name().is_some_and(keeps_history) {
                return None;
            }
            // Where a link leads nowhere there is nothing that is named.
            match fs::metadata(&path) {
                // A link may lead round in a circle, or anywhere.
                Ok(about) if about.is_dir() && path.is_symlink() => return None,
                Ok(about) if about.is_dir() && path == dir.join(SEEN_FOLDER) => {}
                Ok(about) if about.is_dir() => folders.push(path),
                Ok(about) if about.is_file() => note_names(&path, about.len(), &mut named)?,
                _ => {}
            }
        }
    }
    for path in copies_beside(dir)? {
        let length = fs::metadata(&path).ok()?.len();
        note_names(&path, length, &mut named)?;
    }
    Some(named)
}

/// Folders in which programs keep former states of files in their own way.
fn keeps_history(name: &std::ffi::OsStr) -> bool {
    [".git", ".hg", ".svn", ".bzr", ".jj"].contains(&name.to_string_lossy().to_lowercase().as_str())
}

/// Files in the folder around the project that are called like it or like a story.
fn copies_beside(dir: &Path) -> Option<Vec<PathBuf>> {
    let real = dir.canonicalize().ok()?;
    let (Some(around), Some(own)) = (real.parent(), real.file_name()) else {
        return Some(Vec::new());
    };
    let own = own.to_string_lossy().to_lowercase();
    let Ok(entries) = fs::read_dir(around) else {
        // What may not be looked at is nobody's backup of this folder.
        return Some(Vec::new());
    };
    let mut copies = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().to_lowercase();
        let alike = name.contains(&own) || name.contains("story");
        let path = entry.path();
        if alike && path.is_file() {
            copies.push(path);
        } else if alike && path != real && path.join(STORY_FILE).is_file() {
            // A copy of the folder, which may have been made without its pictures.
            copies.push(path.join(STORY_FILE));
        }
    }
    Some(copies)
}

/// Adds the pictures that a file names. `None` where that can't be known: it is packed, too long or
/// can't be read.
fn note_names(path: &Path, length: u64, named: &mut HashSet<ImageId>) -> Option<()> {
    const PICTURES: [&str; 6] = ["png", "jpg", "jpeg", "webp", "gif", "pdf"];
    let ending = path.extension().unwrap_or_default().to_ascii_lowercase();
    if PICTURES.iter().any(|known| ending == *known) {
        return Some(());
    }
    if length > LONGEST {
        return None;
    }
    let bytes = read_file(path, LONGEST).ok()?;
    if is_packed(&bytes) {
        return None;
    }
    // UTF-16 is this text with zeros between.
    let text = bytes.iter().filter(|byte| **byte != 0);
    let mut run = String::new();
    for byte in text.copied().chain([b' ']) {
        if byte.is_ascii_hexdigit() {
            run.push(char::from(byte.to_ascii_lowercase()));
            continue;
        }
        if run.len() >= 64 {
            // Hexadecimal digits may stand right before or behind.
            let all = (0..=run.len() - 64).map(|at| &run[at..at + 64]);
            named.extend(all.filter_map(|id| id.parse::<ImageId>().ok()));
        }
        run.clear();
    }
    Some(())
}

/// Archives and compressed files, by how they begin.
fn is_packed(bytes: &[u8]) -> bool {
    const BEGINNINGS: [&[u8]; 9] = [
        b"\x1f\x8b",
        b"\x1f\x9d",
        b"PK\x03\x04",
        b"7z\xbc\xaf\x27\x1c",
        b"\xfd7zXZ",
        b"BZh",
        b"\x28\xb5\x2f\xfd",
        b"\x04\x22\x4d\x18",
        b"Rar!",
    ];
    BEGINNINGS.iter().any(|begin| bytes.starts_with(begin))
}
