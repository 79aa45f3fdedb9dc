//! Copies of stories that could not be saved where they belong, kept in the data folder until
//! their authors have them back.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Document, Images, Project, ProjectError};
use crate::files::{data_folder, read_file, write_in_folder};

/// Says where the story belongs.
const NOTE: &str = "rescue.json";
const LONGEST_NOTE: u64 = 1 << 20;

/// A copy that this program keeps of a story it could not save. The copy is a project folder.
#[derive(Debug)]
pub struct Rescue {
    project: Project,
}

/// A copy that was kept by a program that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rescued {
    /// The project folder of the copy.
    pub dir: PathBuf,
    /// Title of the story.
    pub title: String,
    /// Where the story belongs, for people; empty where it never had a folder.
    pub from: String,
}

#[derive(Default, Serialize, Deserialize)]
struct Note {
    #[serde(default)]
    title: String,
    #[serde(default)]
    from: String,
}

/// Where copies are kept: in the author's data folder or, where there is none to write to, in the
/// system's folder for what is passing.
pub fn rescue_folders() -> Vec<PathBuf> {
    let passing = std::env::temp_dir().join("vokenboard");
    let folders = data_folder().into_iter().chain([passing]);
    folders.map(|folder| folder.join("rescued")).collect()
}

impl Rescue {
    /// Keeps a copy of a story that belongs to the folder `from`, in the first of `folders` that
    /// takes it, see [`rescue_folders`]. Pictures that are not at hand are left out of it: it
    /// names them still.
    ///
    /// # Errors
    /// When it can be kept nowhere.
    pub fn keep(
        folders: &[PathBuf],
        document: &Document,
        images: &Images,
        from: Option<&Path>,
    ) -> Result<Rescue, ProjectError> {
        let mut kept = Err(ProjectError::Write {
            path: PathBuf::from("the data folder"),
            source: io::ErrorKind::NotFound.into(),
        });
        for shelf in folders {
            kept = Rescue::keep_in(shelf, document, images, from);
            if kept.is_ok() {
                break;
            }
        }
        kept
    }

    fn keep_in(
        shelf: &Path,
        document: &Document,
        images: &Images,
        from: Option<&Path>,
    ) -> Result<Rescue, ProjectError> {
        let title = document.story().title.trim();
        let name = from.and_then(Path::file_name).map_or_else(
            || "story".to_owned(),
            |name| name.to_string_lossy().into_owned(),
        );
        let failed = |path: &Path, source| ProjectError::Write {
            path: path.to_path_buf(),
            source,
        };
        fs::create_dir_all(shelf).map_err(|source| failed(shelf, source))?;
        let project = Project::create_new(&shelf.join(name))?;
        let mut rescue = Rescue { project };
        let note = Note {
            title: title.to_owned(),
            from: from.map_or_else(String::new, |from| {
                let whole = std::path::absolute(from);
                whole
                    .unwrap_or_else(|_| from.to_path_buf())
                    .display()
                    .to_string()
            }),
        };
        // The story first: a note alone is of no use.
        let saved = rescue.save(document, images).and_then(|()| {
            let path = rescue.dir().join(NOTE);
            let json = serde_json::to_vec_pretty(&note).map_err(io::Error::from);
            json.and_then(|json| write_in_folder(&path, &json))
                .map_err(|source| failed(&path, source))
        });
        match saved {
            Ok(()) => Ok(rescue),
            Err(error) => {
                // Half a copy would be offered as a whole one.
                let _ = fs::remove_dir_all(rescue.dir());
                Err(error)
            }
        }
    }

    /// Brings the copy up to date.
    ///
    /// # Errors
    /// As of [`Project::save`], but for pictures that are not at hand.
    pub fn save(&mut self, document: &Document, images: &Images) -> Result<(), ProjectError> {
        self.project.save_what_is_there(document, images)
    }

    /// The project folder of the copy.
    pub fn dir(&self) -> &Path {
        self.project.dir()
    }

    /// Throws the copy away: the story was saved after all.
    pub fn forget(self) {
        // What stays is offered at the next start.
        let _ = fs::remove_dir_all(self.project.dir());
    }
}

impl Rescued {
    /// The copies in `folders` that no running program works on, oldest first.
    pub fn all(folders: &[PathBuf]) -> Vec<Rescued> {
        folders
            .iter()
            .flat_map(|shelf| Rescued::on(shelf))
            .collect()
    }

    fn on(shelf: &Path) -> Vec<Rescued> {
        let entries = fs::read_dir(shelf).into_iter().flatten().flatten();
        let mut found: Vec<(std::time::SystemTime, Rescued)> = entries
            .filter_map(|entry| {
                let dir = entry.path();
                if !Project::is_project(&dir) || Project::is_in_use(&dir) {
                    return None;
                }
                let note = read_file(&dir.join(NOTE), LONGEST_NOTE).unwrap_or_default();
                let note: Note = serde_json::from_slice(&note).unwrap_or_default();
                let at = entry.metadata().and_then(|about| about.modified());
                let rescued = Rescued {
                    dir,
                    title: note.title,
                    from: note.from,
                };
                Some((at.unwrap_or(std::time::UNIX_EPOCH), rescued))
            })
            .collect();
        found.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.dir.cmp(&b.1.dir)));
        found.into_iter().map(|(_, rescued)| rescued).collect()
    }

    /// What an author is told of it.
    pub fn sentence(&self) -> String {
        let title = match self.title.is_empty() {
            true => "A story".to_owned(),
            false => format!("The story \"{}\"", self.title),
        };
        let from = match self.from.is_empty() {
            true => String::new(),
            false => format!(" in {}", self.from),
        };
        format!(
            "{title} could not be saved{from}; it is kept in {}: open it with `vokenboard` and that folder and save it elsewhere, or delete the folder.",
            self.dir.display()
        )
    }

    /// Throws the copy away.
    ///
    /// # Errors
    /// When its folder can't be removed.
    pub fn forget(&self) -> io::Result<()> {
        fs::remove_dir_all(&self.dir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::story::{Edit, PictureTake, Story};
    use image::{Rgba, RgbaImage};

    #[test]
    fn a_story_that_could_not_be_saved_is_found_again() {
        let shelf = tempfile::tempdir().unwrap();
        let images = Images::new();
        let mut document = Document::new(Story::default());
        document
            .apply(Edit::SetTitle("The lantern".into()))
            .unwrap();
        let panel = document.insert_panel(0);
        let picture = RgbaImage::from_pixel(4, 4, Rgba([9, 9, 9, 255]));
        let here = PictureTake::new(images.put(picture), 4, 4, None);
        let gone = Images::new().put(RgbaImage::from_pixel(5, 5, Rgba([1, 1, 1, 255])));
        let gone = PictureTake::new(gone, 5, 5, None);
        for take in [here, gone] {
            document.apply(Edit::AddPicture { panel, take }).unwrap();
        }
        let from = Path::new("/media/stick/lantern");
        let keep = || Rescue::keep_in(shelf.path(), &document, &images, Some(from)).unwrap();
        let rescue = keep();
        assert!(
            Rescued::on(shelf.path()).is_empty(),
            "it is being worked on"
        );
        let dir = rescue.dir().to_path_buf();
        drop((rescue, images.clone()));
        let second = keep();
        assert_ne!(second.dir(), dir);
        second.forget();
        drop(images);
        let found = Rescued::on(shelf.path());
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].title, "The lantern");
        assert!(found[0].sentence().contains("/media/stick/lantern"));
        let (_, opened, read) = Project::open(&found[0].dir).unwrap();
        assert_eq!(opened.story(), document.story());
        assert!(
            read.get(&document.story().panels[0].pictures.items()[0].image)
                .is_some()
        );
        drop(read);
        found[0].forget().unwrap();
        assert!(Rescued::on(shelf.path()).is_empty());
    }
}
