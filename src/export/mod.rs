//! A story becomes a PNG sheet, a Markdown folder, or a panel's PNG with its record.

mod markdown;
mod panel;
mod sheet;
mod typeset;

pub use markdown::write_markdown;
pub use panel::{Scale, write_panel};
pub use sheet::{draw_sheet, write_sheet};

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::files::write_beside;

/// Why an export could not be made. What was at its place before is still there.
#[derive(Debug, Error)]
pub enum ExportError {
    #[error("There is no folder {0} to export to; make it or choose another place.")]
    NoFolder(PathBuf),
    #[error("{path} cannot be written: {source}; free some space or choose another place.")]
    Write { path: PathBuf, source: io::Error },
    #[error("This panel has no picture to export; make one first.")]
    NoPicture,
    #[error("The picture {0} is missing or damaged; make it again or restore its file.")]
    NoPixels(String),
    #[error("The board is too large for one sheet ({0}); export it as Markdown.")]
    Sheet(String),
}

/// Writes a whole file into a folder that must be there.
fn write_file(path: &Path, bytes: &[u8]) -> Result<(), ExportError> {
    must_be_in_a_folder(path)?;
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
