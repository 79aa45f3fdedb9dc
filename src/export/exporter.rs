//! Exporters: what a board can become. [`EXPORTERS`] lists them; the menu of the studio and the
//! command line are made of that list.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{EXPORTERS, Existing, ExportError, check_folder, check_target, with_ending};
use crate::story::{Images, Story};

/// What an export is written to: a file or a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A file with this ending; `kind` is what such files are called.
    File {
        /// Extension of the file, without its dot.
        ending: &'static str,
        /// What such files are called, for people.
        kind: &'static str,
    },
    /// A folder that takes several files.
    Folder,
}

/// One of several values that an exporter can be given; the first is taken where none is.
#[derive(Debug, PartialEq, Eq)]
pub struct OptionSpec {
    /// The flag of the command line, without its dashes.
    pub id: &'static str,
    /// Label in the dialog.
    pub label: &'static str,
    /// What it does, in one sentence.
    pub help: &'static str,
    /// Each as the command line names it, and for people.
    pub values: &'static [(&'static str, &'static str)],
}

/// Values of an exporter's choices.
///
/// ```
/// use vokenboard::export::{ExportOptions, exporter};
///
/// let pdf = exporter("pdf").unwrap();
/// let mut options = ExportOptions::default();
/// options.set(pdf, "page", "letter").unwrap();
/// assert!(options.set(pdf, "page", "napkin").unwrap_err().contains("a4"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExportOptions(BTreeMap<&'static str, &'static str>);

impl ExportOptions {
    /// Sets the choice `id` of `exporter`.
    ///
    /// # Errors
    /// Where the exporter has no such choice, or the choice no such value.
    pub fn set(&mut self, exporter: &dyn Exporter, id: &str, value: &str) -> Result<(), String> {
        let choices = exporter.choices();
        let Some(choice) = choices.iter().find(|choice| choice.id == id) else {
            return Err(format!(
                "The format {} has no option --{id}; leave that out.",
                exporter.id()
            ));
        };
        let known = choice.values.iter().find(|(name, _)| *name == value);
        let Some((value, _)) = known else {
            let names: Vec<&str> = choice.values.iter().map(|(name, _)| *name).collect();
            return Err(format!(
                "\"{value}\" is no value of --{id}; choose {}.",
                names.join(", ")
            ));
        };
        self.0.insert(choice.id, value);
        Ok(())
    }

    /// What was chosen, or the first value.
    pub fn get(&self, choice: &OptionSpec) -> &'static str {
        let usual = choice.values.first().map_or("", |(value, _)| *value);
        self.0.get(choice.id).copied().unwrap_or(usual)
    }
}

/// What is exported, and how.
pub struct Export<'a> {
    /// The story.
    pub story: &'a Story,
    /// Pixels of the story's pictures.
    pub images: &'a Images,
    /// The panel that is meant, by its place from 0, for exporters of one.
    pub panel: Option<usize>,
    /// Chosen values of the exporter's options.
    pub options: &'a ExportOptions,
    /// What happens to files that are there.
    pub existing: Existing,
}

/// Makes something of a board.
pub trait Exporter: Sync {
    /// What the command line calls it.
    fn id(&self) -> &'static str;

    /// Its item in the studio's menu.
    fn label(&self) -> &'static str;

    /// Whether it writes a file or a folder.
    fn place(&self) -> Destination;

    /// Whether it is of one panel and not of the whole board.
    fn of_panel(&self) -> bool {
        false
    }

    /// Options that it takes; none by default.
    fn choices(&self) -> &'static [OptionSpec] {
        &[]
    }

    /// Whether texts that are longer than a sheet has room for are cut.
    fn cuts_texts(&self) -> bool {
        false
    }

    /// Whether it may be written to `target`.
    ///
    /// # Errors
    /// When that would replace what is to stay, or write into the files of a story.
    fn check(&self, export: &Export, target: &Path) -> Result<(), ExportError> {
        match self.place() {
            Destination::File { .. } => check_target(target, export.existing),
            Destination::Folder => check_folder(target),
        }
    }

    /// Writes to `target`, which was checked, and returns what to tell of.
    ///
    /// # Errors
    /// When there is nothing to export or it can't be written.
    fn write(&self, export: &Export, target: &Path) -> Result<PathBuf, ExportError>;
}

/// The exporter that is called `id`.
pub fn exporter(id: &str) -> Option<&'static dyn Exporter> {
    EXPORTERS.iter().copied().find(|known| known.id() == id)
}

/// `path` with the ending that the exporter's files have.
pub fn target_of(exporter: &dyn Exporter, path: &Path) -> PathBuf {
    match exporter.place() {
        Destination::File { ending, .. } => with_ending(path, ending),
        Destination::Folder => path.to_path_buf(),
    }
}

/// Checks the place and writes: the way in which everything is exported.
///
/// # Errors
/// As of [`Exporter::check`] and [`Exporter::write`].
pub fn export(
    exporter: &dyn Exporter,
    what: &Export,
    target: &Path,
) -> Result<PathBuf, ExportError> {
    exporter.check(what, target)?;
    exporter.write(what, target)
}
