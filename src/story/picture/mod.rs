//! Pictures that the author brings: PNG, JPEG and WebP files of any size and from anywhere. This
//! is the one way in which pictures are read, wherever they are wanted.

mod colour;
mod jpeg;
mod kind;

use crate::cause::Cause;
use std::io::{self, Cursor};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use image::codecs::jpeg::JpegDecoder;
use image::codecs::png::PngDecoder;
use image::codecs::webp::WebPDecoder;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, Limits, RgbaImage};
use moxcms::{CicpProfile, ColorProfile};
use thiserror::Error;

use super::{Record, record_png};
use crate::files::read_file;
use crate::pixels::put_on_white;
use kind::{NotAPicture, PictureFormat};

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
    /// The file cannot be opened or read.
    #[error("{} cannot be read: {source}. Check that the file is there and readable.", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why the system refused.
        source: io::Error,
    },
    /// The file is not a PNG, JPEG or WebP picture.
    #[error("{} is {}; {}.", path.display(), other.what, other.remedy)]
    Kind {
        /// The file.
        path: PathBuf,
        /// What it is instead, and what to do about it.
        other: NotAPicture,
    },
    /// The file is cut short or its data are invalid.
    #[error("{} is not a whole picture ({why}); restore it from a copy.", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the decoder found.
        #[source]
        why: Cause,
    },
    /// The picture has more pixels or bytes than may be decoded.
    #[error("{} is too large a picture ({why}); make it smaller first.", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Which limit it exceeds, for people.
        why: String,
    },
}

/// A brought picture in its full size: upright, in sRGB, on white where it is transparent; with
/// its generation record where it is one that Vokenboard exported.
///
/// # Errors
/// A file that can't be read, is of another kind, or is damaged or larger than any picture is.
pub fn read_picture_file(path: &Path) -> Result<(RgbaImage, Option<Record>), PictureFileError> {
    let damaged = |why: Cause| PictureFileError::Damaged {
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
        Ok(Err(PictureDamage::TooLarge(why))) => return Err(too_large(path, why)),
        Ok(Err(PictureDamage::Damaged(why))) => return Err(damaged(why.into())),
        Err(_) => return Err(damaged("its reader gave up".to_owned().into())),
    };
    let record = match kind {
        // A record of another version is no reason to refuse the picture.
        PictureFormat::Png => record_png::record_in(&bytes),
        _ => None,
    };
    put_on_white(&mut picture);
    Ok((picture, record))
}

fn too_large(path: &Path, why: String) -> PictureFileError {
    PictureFileError::TooLarge {
        path: path.to_owned(),
        why,
    }
}

enum PictureDamage {
    Damaged(String),
    TooLarge(String),
}

impl From<ImageError> for PictureDamage {
    fn from(error: ImageError) -> PictureDamage {
        match error {
            ImageError::Limits(_) => {
                PictureDamage::TooLarge("it takes more memory than a picture should".to_owned())
            }
            other => {
                // Decoders may say it in many lines.
                let why = other.to_string();
                let words: Vec<&str> = why.split_whitespace().collect();
                PictureDamage::Damaged(words.join(" "))
            }
        }
    }
}

fn decode(bytes: &[u8], kind: PictureFormat) -> Result<RgbaImage, PictureDamage> {
    if !is_whole(bytes, kind) {
        return Err(PictureDamage::Damaged("it is cut short".to_owned()));
    }
    let mut decoder = decoder(bytes, kind)?;
    // Cameras write pictures as their sensor lay and note how to turn them; a note that can't be
    // read turns nothing.
    let turn = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let profile = decoder.icc_profile().ok().flatten();
    let profile = profile.and_then(|icc| colour::profile(&icc));
    let profile = match kind {
        PictureFormat::Png => png_colours(bytes, profile),
        _ => profile,
    };
    if kind == PictureFormat::Jpeg
        && let Some(picture) = jpeg::with_inks(bytes)
    {
        return Ok(turned(picture.into(), turn).into_rgba8());
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

/// Whether the file goes on to its end, which some decoders don't mind.
fn is_whole(bytes: &[u8], kind: PictureFormat) -> bool {
    match kind {
        PictureFormat::Png => png_is_whole(bytes),
        PictureFormat::Jpeg => jpeg::is_whole(bytes),
        // It says how long it is behind the eight bytes that begin it.
        PictureFormat::WebP => bytes.get(4..8).is_some_and(|size| {
            let size = u32::from_le_bytes([size[0], size[1], size[2], size[3]]);
            u64::from(size) + 8 <= bytes.len() as u64
        }),
    }
}

/// Whether the chunks of a PNG go on to the one that ends it.
fn png_is_whole(bytes: &[u8]) -> bool {
    let mut at = 8;
    while let Some(head) = bytes.get(at..at + 8) {
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        // With its length, its name and its checksum.
        at = at.saturating_add(length as usize).saturating_add(12);
        if head[4..] == *b"IEND" {
            return at <= bytes.len();
        }
    }
    false
}

fn turned(mut picture: DynamicImage, turn: Orientation) -> DynamicImage {
    picture.apply_orientation(turn);
    picture
}

fn decoder(bytes: &[u8], kind: PictureFormat) -> Result<Box<dyn ImageDecoder + '_>, PictureDamage> {
    let mut limits = Limits::default();
    limits.max_alloc = Some(MOST_MEMORY);
    // A PNG begins with its size; its decoder would read on to the pixels first.
    if let (PictureFormat::Png, Some(size)) = (kind, bytes.get(16..24)) {
        let side =
            |at: usize| u32::from_be_bytes([size[at], size[at + 1], size[at + 2], size[at + 3]]);
        must_fit(side(0), side(4))?;
    }
    let mut decoder: Box<dyn ImageDecoder + '_> = match kind {
        PictureFormat::Png => {
            Box::new(PngDecoder::with_limits(Cursor::new(bytes), limits.clone())?)
        }
        PictureFormat::Jpeg => Box::new(JpegDecoder::new(Cursor::new(bytes))?),
        PictureFormat::WebP => Box::new(WebPDecoder::new(Cursor::new(bytes))?),
    };
    let (width, height) = decoder.dimensions();
    must_fit(width, height)?;
    if width == 0 || height == 0 {
        return Err(PictureDamage::Damaged("it has no pixels".to_owned()));
    }
    decoder.set_limits(limits)?;
    Ok(decoder)
}

fn must_fit(width: u32, height: u32) -> Result<(), PictureDamage> {
    let is = format!("{width} by {height} pixels");
    if width > LARGEST_SIDE || height > LARGEST_SIDE {
        let why = format!("{is}, where a side has at most {LARGEST_SIDE}");
        return Err(PictureDamage::TooLarge(why));
    }
    if u64::from(width) * u64::from(height) > MOST_PIXELS {
        let most = MOST_PIXELS / 1_000_000;
        let why = format!("{is}, where it has at most {most} million");
        return Err(PictureDamage::TooLarge(why));
    }
    Ok(())
}

/// The colours that a PNG says, of whose ways the specification lets the first count: code points,
/// the profile `icc`, sRGB, gamma and chromaticities.
fn png_colours(bytes: &[u8], icc: Option<ColorProfile>) -> Option<ColorProfile> {
    match png::Decoder::new(Cursor::new(bytes)).read_info() {
        Ok(reader) => colours_of(reader.info(), icc),
        Err(_) => icc,
    }
}

/// Changes the colours of a PNG of a project to sRGB, where another program has said of them that
/// they are others.
pub(super) fn to_srgb(picture: &mut RgbaImage, info: &png::Info<'_>) {
    let icc = info.icc_profile.as_deref().and_then(colour::profile);
    if let Some(profile) = colours_of(info, icc) {
        colour::to_srgb(picture, &profile);
    }
}

fn colours_of(info: &png::Info<'_>, icc: Option<ColorProfile>) -> Option<ColorProfile> {
    let points = || {
        let cicp = info.coding_independent_code_points?;
        let cicp = CicpProfile {
            color_primaries: cicp.color_primaries.try_into().ok()?,
            transfer_characteristics: cicp.transfer_function.try_into().ok()?,
            matrix_coefficients: cicp.matrix_coefficients.try_into().ok()?,
            full_range: cicp.is_video_full_range_image,
        };
        let known = ColorProfile::new_from_cicp(cicp);
        known.red_trc.is_some().then_some(known)
    };
    points().or(icc).or_else(|| {
        let cicp = info.srgb.is_none();
        cicp.then(|| colour::of_numbers(info.gama_chunk, info.chrm_chunk.as_ref()))?
    })
}

#[cfg(test)]
mod tests;
