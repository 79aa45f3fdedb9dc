//! Pictures that the author brings: PNG, JPEG and WebP files of any size and from anywhere. This
//! is the one way in which pictures are read, wherever they are wanted.

mod colour;
mod jpeg;
mod kind;

use std::borrow::Cow;
use std::io::{self, Cursor};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use image::codecs::png::PngDecoder;
use image::imageops::FilterType;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageReader, Limits, RgbaImage};
use moxcms::{CicpProfile, ColorProfile};
use thiserror::Error;

use super::{Record, record_png};
use crate::files::read_file;
use kind::{Kind, Other};

/// Longest side in pixels that a board shows and a model sees.
const SHOWN_SIDE: u32 = 1024;
/// Larger pictures than this are refused: pixels of a side, pixels in all, bytes of the file and
/// bytes that a decoder may take beside the pixels.
const LARGEST_SIDE: u32 = 20_000;
const MOST_PIXELS: u64 = 110_000_000;
const MOST_BYTES: u64 = 512 << 20;
const MOST_MEMORY: u64 = 1 << 30;

/// Endings of the pictures that can be read, in lower case.
const ENDINGS: [&str; 6] = ["png", "jpg", "jpeg", "jpe", "jfif", "webp"];

/// Endings for a dialog's filter: cameras write them in capitals, and filters tell those apart.
pub fn picture_endings() -> Vec<String> {
    let capital = |ending: &str| ending[..1].to_uppercase() + &ending[1..];
    let all = ENDINGS.into_iter();
    all.flat_map(|ending| [ending.to_owned(), ending.to_uppercase(), capital(ending)])
        .collect()
}

/// Why a file is no picture for the board.
#[derive(Debug, Error)]
pub enum PictureFileError {
    #[error("{} cannot be read: {source}. Check that the file is there and readable.", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is {}; {}.", path.display(), other.what, other.remedy)]
    Kind { path: PathBuf, other: Other },
    #[error("{} is not a whole picture ({why}); restore it from a copy.", path.display())]
    Damaged { path: PathBuf, why: String },
    #[error("{} is too large a picture ({why}); make it smaller first.", path.display())]
    TooLarge { path: PathBuf, why: String },
}

/// A brought picture in its full size: upright, in sRGB, on white where it is transparent; with
/// its generation record where it is one that Vokenboard exported.
///
/// # Errors
/// A file that can't be read, is of another kind, or is damaged or larger than any picture is.
pub fn read_picture_file(path: &Path) -> Result<(RgbaImage, Option<Record>), PictureFileError> {
    let damaged = |why: String| PictureFileError::Damaged {
        path: path.to_owned(),
        why,
    };
    let bytes = read_file(path, MOST_BYTES).map_err(|source| match source.kind() {
        io::ErrorKind::FileTooLarge => too_large(path, source.to_string()),
        _ => PictureFileError::Read {
            path: path.to_owned(),
            source,
        },
    })?;
    let kind = kind::identify(&bytes).map_err(|other| PictureFileError::Kind {
        path: path.to_owned(),
        other,
    })?;
    // A decoder that gives up on a crafted file must not take the program with it.
    let decoded = catch_unwind(AssertUnwindSafe(|| decode(&bytes, kind)));
    let mut picture = match decoded {
        Ok(Ok(picture)) => picture,
        Ok(Err(Trouble::TooLarge(why))) => return Err(too_large(path, why)),
        Ok(Err(Trouble::Damaged(why))) => return Err(damaged(why)),
        Err(_) => return Err(damaged("its reader gave up".to_owned())),
    };
    let record = match kind {
        // A record of another version is no reason to refuse the picture.
        Kind::Png => record_png::record_in(&bytes),
        _ => None,
    };
    put_on_white(&mut picture);
    Ok((picture, record))
}

/// Width and height in pixels as the file's head says them, turned as [`read_picture_file`] does:
/// what is behind the head is not looked at.
///
/// # Errors
/// As of [`read_picture_file`].
pub fn picture_file_size(path: &Path) -> Result<(u32, u32), PictureFileError> {
    let damaged = |why: String| PictureFileError::Damaged {
        path: path.to_owned(),
        why,
    };
    let bytes = read_file(path, MOST_BYTES).map_err(|source| PictureFileError::Read {
        path: path.to_owned(),
        source,
    })?;
    let kind = kind::identify(&bytes).map_err(|other| PictureFileError::Kind {
        path: path.to_owned(),
        other,
    })?;
    match catch_unwind(AssertUnwindSafe(|| Ok(decoder(&bytes, kind)?.dimensions()))) {
        Ok(Ok(size)) => Ok(size),
        Ok(Err(Trouble::TooLarge(why))) => Err(too_large(path, why)),
        Ok(Err(Trouble::Damaged(why))) => Err(damaged(why)),
        Err(_) => Err(damaged("its reader gave up".to_owned())),
    }
}

fn too_large(path: &Path, why: String) -> PictureFileError {
    PictureFileError::TooLarge {
        path: path.to_owned(),
        why,
    }
}

enum Trouble {
    Damaged(String),
    TooLarge(String),
}

impl From<ImageError> for Trouble {
    fn from(error: ImageError) -> Trouble {
        match error {
            ImageError::Limits(_) => {
                Trouble::TooLarge("it takes more memory than a picture should".to_owned())
            }
            other => Trouble::Damaged(other.to_string()),
        }
    }
}

fn decode(bytes: &[u8], kind: Kind) -> Result<RgbaImage, Trouble> {
    let mut decoder = decoder(bytes, kind)?;
    // Cameras write pictures as their sensor lay and note how to turn them; a note that can't be
    // read turns nothing.
    let turn = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let profile = decoder.icc_profile().ok().flatten();
    let profile = profile.and_then(|icc| colour::profile(&icc));
    let profile = profile.or_else(|| match kind {
        Kind::Png => png_colours(bytes),
        _ => None,
    });
    if kind == Kind::Jpeg {
        if !jpeg::is_whole(bytes) {
            return Err(Trouble::Damaged("it is cut short".to_owned()));
        }
        if let Some(picture) = jpeg::with_inks(bytes) {
            return Ok(turned(picture.into(), turn).into_rgba8());
        }
    }
    let picture = turned(DynamicImage::from_decoder(decoder)?, turn);
    let deep = matches!(
        picture,
        DynamicImage::ImageRgb16(_) | DynamicImage::ImageRgba16(_)
    );
    let picture = match &profile {
        Some(profile) if deep => {
            let mut deep = picture.into_rgba16();
            colour::to_srgb_16(&mut deep, profile);
            DynamicImage::from(deep).into_rgba8()
        }
        Some(profile) => {
            let mut picture = picture.into_rgba8();
            colour::to_srgb(&mut picture, profile);
            picture
        }
        None => picture.into_rgba8(),
    };
    Ok(picture)
}

fn turned(mut picture: DynamicImage, turn: Orientation) -> DynamicImage {
    picture.apply_orientation(turn);
    picture
}

fn decoder(bytes: &[u8], kind: Kind) -> Result<Box<dyn ImageDecoder + '_>, Trouble> {
    let mut limits = Limits::default();
    limits.max_alloc = Some(MOST_MEMORY);
    let mut decoder: Box<dyn ImageDecoder + '_> = match kind {
        Kind::Png => Box::new(PngDecoder::with_limits(Cursor::new(bytes), limits.clone())?),
        Kind::Jpeg | Kind::WebP => {
            let mut reader = ImageReader::new(Cursor::new(bytes));
            reader.set_format(match kind {
                Kind::Jpeg => image::ImageFormat::Jpeg,
                _ => image::ImageFormat::WebP,
            });
            reader.limits(limits.clone());
            Box::new(reader.into_decoder()?)
        }
    };
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if width > LARGEST_SIDE || height > LARGEST_SIDE {
        let why = format!("{width} by {height} pixels, where a side has at most {LARGEST_SIDE}");
        return Err(Trouble::TooLarge(why));
    }
    if pixels > MOST_PIXELS || decoder.total_bytes() > MOST_MEMORY {
        let most = MOST_PIXELS / 1_000_000;
        let why = format!("{width} by {height} pixels, where it has at most {most} million");
        return Err(Trouble::TooLarge(why));
    }
    if width == 0 || height == 0 {
        return Err(Trouble::Damaged("it has no pixels".to_owned()));
    }
    decoder.set_limits(limits)?;
    Ok(decoder)
}

/// The colours that a PNG says in numbers instead of a profile.
fn png_colours(bytes: &[u8]) -> Option<ColorProfile> {
    let reader = png::Decoder::new(Cursor::new(bytes)).read_info().ok()?;
    let said = reader.info().coding_independent_code_points?;
    let said = CicpProfile {
        color_primaries: said.color_primaries.try_into().ok()?,
        transfer_characteristics: said.transfer_function.try_into().ok()?,
        matrix_coefficients: said.matrix_coefficients.try_into().ok()?,
        full_range: said.is_video_full_range_image,
    };
    Some(ColorProfile::new_from_cicp(said))
}

/// Puts what is transparent on white.
pub fn put_on_white(picture: &mut RgbaImage) {
    for pixel in picture.pixels_mut() {
        let [.., alpha] = pixel.0;
        if alpha == 255 {
            continue;
        }
        for channel in &mut pixel.0[..3] {
            let over = u32::from(*channel) * u32::from(alpha);
            *channel = ((over + 255 * u32::from(255 - alpha) + 127) / 255) as u8;
        }
        pixel.0[3] = 255;
    }
}

/// `picture` on white, which most are already.
pub(crate) fn on_white(picture: &RgbaImage) -> Cow<'_, RgbaImage> {
    if picture.pixels().all(|pixel| pixel.0[3] == 255) {
        return Cow::Borrowed(picture);
    }
    let mut white = picture.clone();
    put_on_white(&mut white);
    Cow::Owned(white)
}

/// `picture` on white with no side longer than a board shows; `None` where it is so already.
pub(crate) fn shown(picture: &RgbaImage) -> Option<RgbaImage> {
    let white = on_white(picture);
    let longest = white.width().max(white.height());
    if longest <= SHOWN_SIDE {
        return match white {
            Cow::Borrowed(_) => None,
            Cow::Owned(white) => Some(white),
        };
    }
    let side = |side: u32| {
        let scaled = u64::from(side) * u64::from(SHOWN_SIDE) + u64::from(longest) / 2;
        // At most the side that is shown.
        ((scaled / u64::from(longest)) as u32).max(1)
    };
    let (width, height) = (side(white.width()), side(white.height()));
    let small = image::imageops::resize(&*white, width, height, FilterType::Lanczos3);
    Some(small)
}

#[cfg(test)]
mod tests;
