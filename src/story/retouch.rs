//! What an author does to a picture by hand: crop, flip, turn.

use image::RgbaImage;
use image::imageops;
use serde::{Deserialize, Serialize};

use super::ImageId;

/// A change of a picture without any model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Retouch {
    /// Left, top, width and height in pixels of what stays.
    Crop(u32, u32, u32, u32),
    /// Left becomes right.
    FlipHorizontal,
    /// Top becomes bottom.
    FlipVertical,
    /// A quarter turn clockwise.
    RotateRight,
    /// A quarter turn anticlockwise.
    RotateLeft,
}

/// One such change in a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retouched {
    /// The picture before it.
    pub of: ImageId,
    /// What was done to it.
    pub how: Retouch,
}

impl Retouch {
    /// What was done, for people.
    pub fn words(self) -> &'static str {
        match self {
            Retouch::Crop(..) => "cropped",
            Retouch::FlipHorizontal => "flipped sideways",
            Retouch::FlipVertical => "flipped upside down",
            Retouch::RotateRight => "turned right",
            Retouch::RotateLeft => "turned left",
        }
    }

    /// The changed picture; `None` where nothing of it would be left.
    ///
    /// ```
    /// use vokenboard::story::Retouch;
    ///
    /// let picture = image::RgbaImage::new(4, 2);
    /// let turned = Retouch::RotateRight.apply(&picture).unwrap();
    /// assert_eq!(turned.dimensions(), (2, 4));
    /// let cut = Retouch::Crop(3, 0, 9, 9).apply(&picture).unwrap();
    /// assert_eq!(cut.dimensions(), (1, 2));
    /// assert!(Retouch::Crop(4, 0, 1, 1).apply(&picture).is_none());
    /// ```
    pub fn apply(self, picture: &RgbaImage) -> Option<RgbaImage> {
        let (wide, high) = picture.dimensions();
        match self {
            Retouch::Crop(x, y, width, height) => {
                let width = width.min(wide.saturating_sub(x));
                let height = height.min(high.saturating_sub(y));
                (width > 0 && height > 0)
                    .then(|| imageops::crop_imm(picture, x, y, width, height).to_image())
            }
            Retouch::FlipHorizontal => Some(imageops::flip_horizontal(picture)),
            Retouch::FlipVertical => Some(imageops::flip_vertical(picture)),
            Retouch::RotateRight => Some(imageops::rotate90(picture)),
            Retouch::RotateLeft => Some(imageops::rotate270(picture)),
        }
    }
}
