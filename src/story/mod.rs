//! The document an author edits: a story of panels with their takes, edit commands with undo and
//! redo, and the project folder it lives in. No model, thread or window.

mod document;
mod edit;
mod files;
mod images;
mod lock;
mod picture_file;
mod project;
mod record;
mod record_png;
mod sweep;
mod takes;

pub use document::Document;
pub use edit::{Edit, EditError};
pub(crate) use files::{write_beside, write_in_folder};
pub use images::{ImageId, Images};
pub use picture_file::{PictureFileError, read_picture_file};
pub use project::{Project, ProjectError, SCHEMA_VERSION};
pub use record::{Record, SchedulerKind, Settings};
pub use record_png::{PngError, encode_png, read_record};
pub use takes::{PictureTake, Take, Takes, TextTake};

use std::fmt;

use serde::{Deserialize, Serialize};

/// Names a panel for as long as its story lives; never given to another panel of that story.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PanelId(pub u64);

impl fmt::Display for PanelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A title, a style line and panels in order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Story {
    pub title: String,
    #[serde(default)]
    pub style: String,
    #[serde(default)]
    pub panels: Vec<Panel>,
}

/// One place on the board: what it shows and every take made for it.
///
/// `text` is always the text of the active text take, and empty without one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Panel {
    pub id: PanelId,
    #[serde(default)]
    pub text: String,
    #[serde(default)]
    pub texts: Takes<TextTake>,
    #[serde(default)]
    pub pictures: Takes<PictureTake>,
}

impl Story {
    pub fn panel(&self, id: PanelId) -> Option<&Panel> {
        self.panels.iter().find(|panel| panel.id == id)
    }

    /// Where the panel stands on the board, counted from 0.
    pub fn position(&self, id: PanelId) -> Option<usize> {
        self.panels.iter().position(|panel| panel.id == id)
    }
}

impl Panel {
    pub fn empty(id: PanelId) -> Panel {
        Panel {
            id,
            text: String::new(),
            texts: Takes::default(),
            pictures: Takes::default(),
        }
    }

    /// A panel whose text the author typed.
    pub fn with_text(id: PanelId, text: impl Into<String>) -> Panel {
        let mut panel = Panel::empty(id);
        panel.set_text(text.into());
        panel
    }

    /// The picture the board shows.
    pub fn picture(&self) -> Option<&PictureTake> {
        self.pictures.active()
    }

    /// The picture that a new text is to tell of: one that there is no text to yet, or that is
    /// the author's own. A picture that was drawn from the text does not stand in the way of another.
    pub fn told_by(&self) -> Option<&PictureTake> {
        let own = |take: &&PictureTake| self.text.trim().is_empty() || take.record.is_none();
        self.picture().filter(own)
    }

    /// The author's own words: they change the active take if the author typed that one too,
    /// and become a take of their own beside generated ones, so that no generated text is lost.
    fn set_text(&mut self, text: String) {
        if self.text == text {
            return;
        }
        match self.texts.active_mut() {
            Some(take) if take.record.is_none() => take.text.clone_from(&text),
            _ => self.texts.push(TextTake::new(text.clone(), None)),
        }
        self.text = text;
    }

    /// Makes `text` that of the active take, after the takes have changed.
    fn show_active_text(&mut self) {
        self.text = self
            .texts
            .active()
            .map(|take| take.text.clone())
            .unwrap_or_default();
    }
}
