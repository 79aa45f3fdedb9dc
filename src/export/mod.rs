//! What a story can become: [`EXPORTERS`] lists it, one file each.

mod exporter;
mod guard;
mod html;
mod ink;
mod markdown;
mod own;
mod pages;
mod panel;
mod pdf;
mod pictures;
mod sheet;
mod typeset;

pub use exporter::{
    Destination, Export, ExportOptions, Exporter, OptionSpec, export, exporter, target_of,
};
pub use guard::{Existing, answered, check_folder, check_output, check_target, with_ending};
pub use markdown::{check_markdown, write_markdown, write_markdown_over};
pub use own::is_ours;
pub use panel::{Scale, write_panel};
pub use sheet::{draw_sheet, write_sheet};

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::cause::Cause;
use crate::files::write_beside;
use crate::story::{Images, Story};

/// Every exporter, in the order of the menu.
pub static EXPORTERS: &[&dyn Exporter] = &[
    &sheet::SheetPng,
    &pdf::Pdf,
    &html::Html,
    &markdown::Markdown,
    &pictures::Pictures,
    &panel::SinglePicture,
];

/// Why an export could not be made. What was at its place before is still there.
#[derive(Debug, Error)]
pub enum ExportError {
    /// The folder around the target does not exist.
    #[error("There is no folder {0} to export to; make it or choose another place.")]
    NoFolder(PathBuf),
    /// The target cannot be written.
    #[error("{path} cannot be written: {source}; free some space or choose another place.")]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why the system refused.
        source: io::Error,
    },
    /// The target is a file that the story's own project needs.
    #[error(
        "{path} is a part of the story in {project}, which would be lost; choose another place."
    )]
    OwnFile {
        /// The target.
        path: PathBuf,
        /// The project folder.
        project: PathBuf,
    },
    /// The target exists and was not to be replaced.
    #[error("{0} is there already; choose another name, or replace it with --force.")]
    Exists(PathBuf),
    /// The target is a folder where a file is to be written.
    #[error("{0} is not a file; choose another place.")]
    NotAFile(PathBuf),
    /// The target is a file where a folder is to be written.
    #[error("{0} is not a folder; choose another place.")]
    NotAFolder(PathBuf),
    /// The panel has no picture.
    #[error("This panel has no picture to export; make one first.")]
    NoPicture,
    /// No panel has a picture.
    #[error("This story has no pictures to export; make some first.")]
    NoPictures,
    /// The pixels of a picture, named by its file, cannot be read.
    #[error("The picture {0} is missing or damaged; make it again or restore its file.")]
    NoPixels(String),
    /// Laying out or writing the PDF failed.
    #[error("The pages could not be made ({0}); export the board as a web page.")]
    Pages(#[source] Cause),
    /// The sheet exceeds what the renderer or the PNG format can take.
    #[error("The board is too large for one sheet ({0}); export it as Markdown.")]
    Sheet(#[source] Cause),
}

/// What an export of the board leaves out, a sentence each: pictures that are missing or damaged
/// and, where it `cuts_texts`, the rest of those that are longer than a sheet has room for.
pub fn left_out(story: &Story, images: &Images, cuts_texts: bool) -> Vec<String> {
    let room = match cuts_texts {
        true => sheet::room_for_text(story.panels.len()),
        false => usize::MAX,
    };
    let panels = (1..).zip(&story.panels);
    let picture = panels.clone().filter_map(|(number, panel)| {
        let take = panel.picture()?;
        images.shown(&take.image).is_none().then(|| {
            format!(
                "The picture {} of panel {number} is missing or damaged; it is left out.",
                take.image.file_name()
            )
        })
    });
    let text = panels.filter_map(|(number, panel)| {
        let length = panel
            .text
            .chars()
            .nth(room)
            .map(|_| panel.text.chars().count())?;
        Some(format!(
            "The text of panel {number} has {length} characters; a sheet shows the first {room}."
        ))
    });
    picture.chain(text).collect()
}

/// Writes a whole file into a folder that must be there, wherever [`check_target`] lets it; a
/// file that is there is replaced, so ask first.
fn write_file(path: &Path, bytes: &[u8]) -> Result<(), ExportError> {
    check_target(path, Existing::Goes)?;
    write_beside(path, |file| file.write_all(bytes)).map_err(|source| failed(path, source))
}

fn must_be_in_a_folder(path: &Path) -> Result<(), ExportError> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() && !parent.is_dir() => {
            Err(ExportError::NoFolder(parent.to_path_buf()))
        }
        _ => Ok(()),
    }
}

fn failed(path: &Path, source: io::Error) -> ExportError {
    ExportError::Write {
        path: path.to_path_buf(),
        source,
    }
}
