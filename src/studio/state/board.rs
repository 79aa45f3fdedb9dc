//! The story under edit.

use std::path::PathBuf;
use std::time::Instant;

use super::autosave::Autosave;
use super::casting::CastProposals;
use super::unknown::NounCache;
use crate::story::{Document, Images};

/// The story under edit, and all that is known of it until another takes its place.
pub struct OpenBoard {
    /// The story with its history.
    pub document: Document,
    /// Pixels of the story's pictures.
    pub images: Images,
    /// The title as typed.
    pub title: String,
    /// The folder of this story, once it has one.
    pub project: Option<PathBuf>,
    /// What is saved, and when to save again.
    pub autosave: Autosave,
    /// When the author last typed in a panel.
    pub(super) typed: Option<Instant>,
    /// Counts the boards opened so far.
    pub(super) number: u64,
    /// The author was told that the model knows another language.
    pub(super) language_noted: bool,
    pub(super) cast_proposals: CastProposals,
    pub(super) nouns: NounCache,
}

impl OpenBoard {
    /// The `number`-th board of this session, as it is saved in `project`.
    pub(super) fn new(
        number: u64,
        document: Document,
        images: Images,
        project: Option<PathBuf>,
    ) -> OpenBoard {
        OpenBoard {
            title: document.story().title.clone(),
            autosave: Autosave::at(document.revision()),
            document,
            images,
            project,
            typed: None,
            number,
            language_noted: false,
            cast_proposals: CastProposals::default(),
            nouns: NounCache::default(),
        }
    }
}
