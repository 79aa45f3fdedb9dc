//! What lies in a project folder: our own files, those that systems put everywhere, and nothing.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::Path;

use super::ImageId;
use super::lock::LOCK_FILE;
use crate::files::is_being_written;

pub(super) const STORY_FILE: &str = "story.json";
pub(super) const IMAGES_FOLDER: &str = "images";
/// Pictures that no take names any more.
pub(super) const TRASH_FOLDER: &str = "trash";

/// What models have seen in the pictures, so that it need not be looked at again.
pub(super) const SEEN_FOLDER: &str = ".seen";

/// Files and folders that systems, versioning and synchronising programs make by themselves. A
/// folder with nothing else is empty to its author.
const OF_THE_SYSTEM: [&str; 33] = [
    ".ds_store",
    ".localized",
    ".spotlight-v100",
    ".trashes",
    ".fseventsd",
    ".temporaryitems",
    ".documentrevisions-v100",
    ".volumeicon.icns",
    "icon\r",
    "desktop.ini",
    "thumbs.db",
    "ehthumbs.db",
    "ehthumbs_vista.db",
    "system volume information",
    "$recycle.bin",
    ".directory",
    ".hidden",
    "lost+found",
    ".git",
    ".gitignore",
    ".gitattributes",
    ".gitkeep",
    ".hg",
    ".svn",
    ".stfolder",
    ".stignore",
    ".stversions",
    ".sync",
    ".dropbox",
    ".dropbox.attr",
    ".dropbox.cache",
    ".nextcloudsync.log",
    ".owncloudsync.log",
];

/// Whether a name in a project folder is one that the story is made of, on a file system that
/// tells letters apart by case or not.
pub(super) fn is_own_file(name: &OsStr) -> bool {
    let name = folded(name);
    // Windows leaves the end away, and reads behind a colon what part of the file is meant.
    let name = name.split(':').next().unwrap_or_default();
    let name = name.trim_end_matches(['.', ' ']);
    [
        STORY_FILE,
        IMAGES_FOLDER,
        TRASH_FOLDER,
        SEEN_FOLDER,
        LOCK_FILE,
    ]
    .contains(&name)
        || is_being_written(OsStr::new(name))
}

/// As file systems compare that don't tell letters apart by case: some take "ſ" for "s".
fn folded(name: &OsStr) -> String {
    name.to_string_lossy().to_uppercase().to_lowercase()
}

fn is_of_the_system(name: &OsStr) -> bool {
    let folded = folded(name);
    // What macOS keeps beside a file on other people's file systems begins so.
    folded.starts_with("._") || OF_THE_SYSTEM.contains(&folded.as_str())
}

/// True if there is nothing in a folder that its author put there: what the system makes and what
/// a first save that failed has left does not count. A folder that is not there is empty.
///
/// # Errors
/// When the folder cannot be looked into.
pub(super) fn is_empty(dir: &Path) -> io::Result<bool> {
    all_entries(dir, |name| {
        let pictures = [IMAGES_FOLDER, TRASH_FOLDER].map(OsStr::new);
        Ok(is_left_by_us(name)
            || is_of_the_system(name)
            || pictures.contains(&name) && only_pictures(&dir.join(name))?)
    })
}

fn is_left_by_us(name: &OsStr) -> bool {
    name == LOCK_FILE || name == SEEN_FOLDER || is_being_written(name)
}

/// Whether a folder holds nothing but pictures of ours.
fn only_pictures(dir: &Path) -> io::Result<bool> {
    if !fs::symlink_metadata(dir)?.is_dir() {
        return Ok(false);
    }
    all_entries(dir, |name| {
        let ours = name.to_str().and_then(ImageId::of_file_name).is_some();
        Ok(ours || is_left_by_us(name) || is_of_the_system(name))
    })
}

fn all_entries(dir: &Path, fits: impl Fn(&OsStr) -> io::Result<bool>) -> io::Result<bool> {
    match fs::read_dir(dir) {
        Ok(entries) => {
            for entry in entries {
                if !fits(&entry?.file_name())? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_makes_does_not_fill_a_folder() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for file in [
            ".DS_Store",
            "Thumbs.db",
            "desktop.ini",
            "._x",
            ".directory",
            ".writing-a",
        ] {
            fs::write(at(file), "x").unwrap();
        }
        for folder in [".git", ".stfolder", "images"] {
            fs::create_dir(at(folder)).unwrap();
        }
        let picture = format!("images/{}.png", "0".repeat(64));
        fs::write(at(&picture), "x").unwrap();
        assert!(is_empty(dir.path()).unwrap());
        fs::write(at("images/holiday.png"), "x").unwrap();
        assert!(!is_empty(dir.path()).unwrap());
        fs::remove_file(at("images/holiday.png")).unwrap();
        fs::write(at("diary.txt"), "x").unwrap();
        assert!(!is_empty(dir.path()).unwrap());
        assert!(is_empty(&at("none")).unwrap());
        assert!(is_empty(&at("diary.txt")).is_err());
    }

    #[test]
    fn own_files_are_known_in_every_spelling() {
        for name in [
            "story.json",
            "Story.JSON",
            "\u{17f}tory.json",
            "story.json.",
            "IMAGES",
            "trash",
        ] {
            assert!(is_own_file(OsStr::new(name)), "{name}");
        }
        for name in ["story.md", "storyboard.png", "my images", "story.json.bak"] {
            assert!(!is_own_file(OsStr::new(name)), "{name}");
        }
    }
}
