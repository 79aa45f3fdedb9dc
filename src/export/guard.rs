//! Where an export may go: never into the files that a story is made of, and never over a file
//! that its author did not agree to lose.

use std::fs;
use std::path::{Path, PathBuf};

use super::ExportError;
use crate::story::owner;

/// What may happen to a file that is at an export's place already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and the export is refused.
    Stays,
    /// It is replaced: the author was asked about that very name.
    Goes,
}

impl Existing {
    /// Replaces what is there where `force` is set, as `--force` does.
    pub fn forced(force: bool) -> Existing {
        if force {
            Existing::Goes
        } else {
            Existing::Stays
        }
    }
}

/// `path` with the ending (`"png"`) that its kind of file has, in any case of letters.
///
/// ```
/// use std::path::Path;
/// use vokenboard::export::with_ending;
///
/// assert_eq!(with_ending(Path::new("board"), "png"), Path::new("board.png"));
/// assert_eq!(with_ending(Path::new("board.PNG"), "png"), Path::new("board.PNG"));
/// ```
pub fn with_ending(path: &Path, ending: &str) -> PathBuf {
    if path
        .extension()
        .is_some_and(|known| known.eq_ignore_ascii_case(ending))
    {
        return path.to_path_buf();
    }
    let mut name = path.as_os_str().to_os_string();
    name.push(".");
    name.push(ending);
    name.into()
}

/// The file that a dialog's answer means, and whether the dialog has asked about it: it has not
/// where the ending had to be added.
///
/// ```
/// use std::path::Path;
/// use vokenboard::export::{Existing, answered};
///
/// // The dialog asked about `a.png`, but not about what `a` becomes.
/// assert_eq!(answered(Path::new("a.png"), "png").1, Existing::Goes);
/// assert_eq!(answered(Path::new("a"), "png").1, Existing::Stays);
/// ```
pub fn answered(path: &Path, ending: &str) -> (PathBuf, Existing) {
    let named = with_ending(path, ending);
    let existing = match named == path {
        true => Existing::Goes,
        false => Existing::Stays,
    };
    (named, existing)
}

/// Whether a file may be written at `path`.
///
/// # Errors
/// When it would be one of the files that a story is made of, however it is spelt; when there is
/// one that stays; when what is there is no file; when its folder is not there.
pub fn check_target(path: &Path, existing: Existing) -> Result<(), ExportError> {
    super::must_be_in_a_folder(path)?;
    check_place(path, existing)
}

/// As [`check_target`], for a file whose folders are made with it.
///
/// # Errors
/// As of [`check_target`]; when what is to be a folder above it is none.
pub fn check_output(path: &Path, existing: Existing) -> Result<(), ExportError> {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    match whole.ancestors().skip(1).find(|above| above.exists()) {
        Some(above) if !above.is_dir() => Err(ExportError::NotAFolder(above.to_path_buf())),
        _ => check_place(path, existing),
    }
}

fn check_place(path: &Path, existing: Existing) -> Result<(), ExportError> {
    if let Some(project) = owner(path) {
        return Err(ExportError::OwnFile {
            path: path.to_path_buf(),
            project,
        });
    }
    match fs::metadata(path) {
        Ok(about) if !about.is_file() => Err(ExportError::NotAFile(path.to_path_buf())),
        Ok(_) if existing == Existing::Stays => Err(ExportError::Exists(path.to_path_buf())),
        _ => Ok(()),
    }
}

/// Whether files may be put into the folder `dir`, which need not be there yet: it may be the
/// folder of a story, but none of those inside.
///
/// # Errors
/// When it is a folder that a story is made of, or no folder.
pub fn check_folder(dir: &Path) -> Result<(), ExportError> {
    // As if a file were written there: what is above it must not be a story's own.
    if let Some(project) = owner(&dir.join("x")) {
        return Err(ExportError::OwnFile {
            path: dir.to_path_buf(),
            project,
        });
    }
    match fs::metadata(dir) {
        Ok(about) if !about.is_dir() => Err(ExportError::NotAFolder(dir.to_path_buf())),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that is a story's, as far as anybody looks from outside.
    fn story() -> (tempfile::TempDir, PathBuf) {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("story");
        fs::create_dir_all(dir.join("images")).unwrap();
        fs::write(dir.join("story.json"), "{}").unwrap();
        fs::write(dir.join("images/a.png"), "a").unwrap();
        (temp, dir)
    }

    fn said(path: &Path) -> String {
        match check_target(path, Existing::Goes) {
            Ok(()) => "nothing".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_story_s_own_files_are_no_place_however_they_are_spelt() {
        let (temp, dir) = story();
        for own in [
            "story.json",
            "STORY.JSON",
            "\u{17f}tory.json",
            "images/a.png",
            "images/new.png",
            "Images/new.png",
            "images/../story.json",
            "./images/./a.png",
            ".lock",
            ".writing-1",
            "trash/a.png",
            "../story/story.json",
        ] {
            // Folders that are not there are told of first.
            let said = said(&dir.join(own));
            let good = said.contains("a part of the story") || said.contains("no folder");
            assert!(good, "{own}: {said}");
        }
        for free in ["storyboard.png", "story.md", "my story.json.png", "x.json"] {
            assert_eq!(said(&dir.join(free)), "nothing");
        }
        assert_eq!(said(&temp.path().join("story.json")), "nothing");
        assert!(check_folder(&dir).is_ok());
        assert!(check_folder(&dir.join("images")).is_err());
        assert!(check_folder(&dir.join("images/deeper")).is_err());
        assert!(check_folder(&dir.join("story.json")).is_err());
        assert!(check_folder(&temp.path().join("new")).is_ok());
    }

    #[cfg(unix)]
    #[test]
    fn links_do_not_lead_into_a_story() {
        use std::os::unix::fs::symlink;
        let (temp, dir) = story();
        let at = |name: &str| temp.path().join(name);
        symlink(dir.join("story.json"), at("a.png")).unwrap();
        symlink("story/images/a.png", at("b.png")).unwrap();
        symlink(dir.join("images"), at("pictures")).unwrap();
        symlink("story/images/not-there.png", at("c.png")).unwrap();
        symlink("c.png", at("d.png")).unwrap();
        for link in ["a.png", "b.png", "pictures/new.png", "c.png", "d.png"] {
            let said = said(&at(link));
            assert!(said.contains("a part of the story"), "{link}: {said}");
        }
        symlink("round.png", at("round.png")).unwrap();
        said(&at("round.png"));
    }

    #[test]
    fn what_exists_stays_unless_its_author_was_asked() {
        let (temp, _) = story();
        let path = temp.path().join("board.png");
        assert!(check_target(&path, Existing::Stays).is_ok());
        fs::write(&path, "mine").unwrap();
        let error = check_target(&path, Existing::Stays).unwrap_err();
        assert!(error.to_string().contains("--force"), "{error}");
        assert!(check_target(&path, Existing::Goes).is_ok());
        let error = check_target(temp.path(), Existing::Goes).unwrap_err();
        assert!(error.to_string().contains("not a file"), "{error}");
        assert_eq!(
            answered(&temp.path().join("board"), "png"),
            (path.clone(), Existing::Stays)
        );
        assert_eq!(answered(&path, "png"), (path, Existing::Goes));
    }
}
