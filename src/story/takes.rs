//! Takes: every text and picture made for a panel, one of them active.

use image::RgbaImage;
use serde::{Deserialize, Serialize};

use super::{ImageId, Images, Record, UnknownFields, is_default};

/// A text of a panel. `record` is `None` where the author typed it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TextTake {
    /// The text.
    pub text: String,
    /// How it was made; none where the author wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<Record>,
    /// Marked by the author as a favourite.
    #[serde(default, skip_serializing_if = "is_default")]
    pub starred: bool,
    /// Fields of a newer Vokenboard, kept as they are.
    #[serde(flatten)]
    pub unknown: UnknownFields,
}

/// A picture of a panel; its pixels are kept in [`super::Images`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PictureTake {
    /// Hash of its pixels.
    pub image: ImageId,
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// How it was made; none where the author brought it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<Record>,
    /// Marked by the author as a favourite.
    #[serde(default, skip_serializing_if = "is_default")]
    pub starred: bool,
    /// Fields of a newer Vokenboard, kept as they are.
    #[serde(flatten)]
    pub unknown: UnknownFields,
}

impl TextTake {
    /// A take that is not starred.
    pub fn new(text: impl Into<String>, record: Option<Record>) -> TextTake {
        TextTake {
            text: text.into(),
            record,
            starred: false,
            unknown: UnknownFields::new(),
        }
    }
}

impl PictureTake {
    /// A take of `picture`, whose pixels go into `images`.
    pub fn of(picture: RgbaImage, record: Option<Record>, images: &Images) -> PictureTake {
        let (width, height) = picture.dimensions();
        PictureTake::new(images.put(picture), width, height, record)
    }

    /// `width` and `height` are those of the picture that `image` names.
    pub fn new(image: ImageId, width: u32, height: u32, record: Option<Record>) -> PictureTake {
        PictureTake {
            image,
            width,
            height,
            record,
            starred: false,
            unknown: UnknownFields::new(),
        }
    }
}

/// What texts and pictures have in common.
pub trait Take {
    /// How it was made; none where the author brought it.
    fn record(&self) -> Option<&Record>;
    /// Whether it is marked as a favourite.
    fn starred(&self) -> bool;
    /// Marks it as a favourite, or no longer.
    fn set_starred(&mut self, starred: bool);
}

impl Take for TextTake {
    fn record(&self) -> Option<&Record> {
        self.record.as_ref()
    }
    fn starred(&self) -> bool {
        self.starred
    }
    fn set_starred(&mut self, starred: bool) {
        self.starred = starred;
    }
}

impl Take for PictureTake {
    fn record(&self) -> Option<&Record> {
        self.record.as_ref()
    }
    fn starred(&self) -> bool {
        self.starred
    }
    fn set_starred(&mut self, starred: bool) {
        self.starred = starred;
    }
}

/// Takes in the order they were made. One is active unless there are none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "RawTakes<T>")]
pub struct Takes<T> {
    active: usize,
    items: Vec<T>,
    /// Fields of a newer Vokenboard, kept as they are.
    #[serde(flatten)]
    unknown: UnknownFields,
}

/// As read from a file, where `active` may name no take.
#[derive(Deserialize)]
struct RawTakes<T> {
    #[serde(default)]
    active: usize,
    #[serde(default = "Vec::new")]
    items: Vec<T>,
    #[serde(flatten)]
    unknown: UnknownFields,
}

impl<T> From<RawTakes<T>> for Takes<T> {
    fn from(raw: RawTakes<T>) -> Takes<T> {
        Takes {
            active: raw.active.min(raw.items.len().saturating_sub(1)),
            items: raw.items,
            unknown: raw.unknown,
        }
    }
}

impl<T> Default for Takes<T> {
    fn default() -> Takes<T> {
        Takes {
            active: 0,
            items: Vec::new(),
            unknown: UnknownFields::new(),
        }
    }
}

impl<T> Takes<T> {
    /// All takes, oldest first.
    pub fn items(&self) -> &[T] {
        &self.items
    }

    /// Number of takes.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are no takes.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The take the board shows.
    pub fn active(&self) -> Option<&T> {
        self.items.get(self.active)
    }

    /// Index of the active take; none where there are no takes.
    pub fn active_index(&self) -> Option<usize> {
        (!self.items.is_empty()).then_some(self.active)
    }

    pub(super) fn active_mut(&mut self) -> Option<&mut T> {
        self.items.get_mut(self.active)
    }

    pub(super) fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.items.get_mut(index)
    }

    /// Adds a take and makes it active.
    pub(super) fn push(&mut self, take: T) {
        self.items.push(take);
        self.active = self.items.len() - 1;
    }

    /// `index` must be below [`Takes::len`].
    pub(super) fn choose(&mut self, index: usize) {
        self.active = index;
    }

    /// Removes a take. The active take stays active; if it is the one removed, the one after it
    /// does, or the last. `index` must be below [`Takes::len`].
    pub(super) fn remove(&mut self, index: usize) {
        self.items.remove(index);
        if self.active > index {
            self.active -= 1;
        }
        self.active = self.active.min(self.items.len().saturating_sub(1));
    }
}
