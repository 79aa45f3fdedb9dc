//! Pictures that the author brings: PNG, JPEG and WebP files of any size and from anywhere.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use image::imageops::FilterType;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbaImage};
use thiserror::Error;

use super::{Record, read_record};

/// Longest side in pixels that a brought picture keeps: sharp on any board, light in a project.
const LONGEST_SIDE: u32 = 1024;
/// Larger pictures than this are refused: pixels of a side, and bytes while they are decoded.
const LARGEST_SIDE: u32 = 20_000;
const MOST_MEMORY: u64 = 1 << 30;

/// Why a file is no picture for the board.
#[derive(Debug, Error)]
pub enum PictureFileError {
    #[error("{} cannot be read: {source}. Check that the file is there and readable.", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is not a PNG, JPEG or WebP picture; save it as one of these first.", path.display())]
    Kind { path: PathBuf },
    #[error("{} is not a whole picture ({why}); restore it from a copy.", path.display())]
    Damaged { path: PathBuf, why: String },
}

/// A brought picture, upright and at most 1024 pixels a side; with its generation record where it
/// is one that Vokenboard exported, pixel for pixel.
///
/// # Errors
/// A file that can't be read, is of another kind, or is damaged or larger than any picture is.
pub fn read_picture_file(path: &Path) -> Result<(RgbaImage, Option<Record>), PictureFileError> {
    let unread = |source| PictureFileError::Read {
        path: path.to_owned(),
        source,
    };
    let damaged = |e: image::ImageError| PictureFileError::Damaged {
        path: path.to_owned(),
        why: e.to_string(),
    };
    let file = BufReader::new(File::open(path).map_err(unread)?);
    // By what is in it: names lie.
    let mut reader = ImageReader::new(file)
        .with_guessed_format()
        .map_err(unread)?;
    let kind = reader.format();
    let known = [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP];
    let Some(kind) = kind.filter(|kind| known.contains(kind)) else {
        return Err(PictureFileError::Kind {
            path: path.to_owned(),
        });
    };
    let mut limits = Limits::default();
    limits.max_image_width = Some(LARGEST_SIDE);
    limits.max_image_height = Some(LARGEST_SIDE);
    limits.max_alloc = Some(MOST_MEMORY);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(damaged)?;
    // Cameras write pictures as their sensor lay and note how to turn them.
    let turn = decoder.orientation().map_err(damaged)?;
    let mut picture = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    picture.apply_orientation(turn);
    let longest = picture.width().max(picture.height());
    if longest > LONGEST_SIDE {
        let picture = picture.resize(LONGEST_SIDE, LONGEST_SIDE, FilterType::Lanczos3);
        return Ok((picture.into_rgba8(), None));
    }
    let record = match kind {
        // A record of another version is no reason to refuse the picture.
        ImageFormat::Png => read_record(path).ok().flatten(),
        _ => None,
    };
    Ok((picture.into_rgba8(), record))
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgba;

    fn said(path: &Path) -> String {
        read_picture_file(path).unwrap_err().to_string()
    }

    #[test]
    fn each_kind_is_known_by_what_is_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let picture = RgbaImage::from_pixel(40, 30, Rgba([200, 10, 20, 255]));
        let plain = DynamicImage::from(picture).into_rgb8();
        for kind in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP] {
            let path = dir.path().join("picture.txt");
            plain.save_with_format(&path, kind).unwrap();
            let (read, record) = read_picture_file(&path).unwrap();
            assert_eq!(read.dimensions(), (40, 30), "{kind:?}");
            let [r, g, b, a] = read.get_pixel(20, 15).0;
            assert!(r.abs_diff(200) < 6 && g.abs_diff(10) < 6 && b.abs_diff(20) < 6 && a == 255);
            assert!(record.is_none());
        }
    }

    #[test]
    fn a_large_picture_is_made_smaller_in_its_shape() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wide.png");
        RgbaImage::new(3000, 600).save(&path).unwrap();
        let (read, _) = read_picture_file(&path).unwrap();
        assert_eq!(read.dimensions(), (1024, 205));
    }

    #[test]
    fn what_is_no_picture_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notes.png");
        assert!(said(&path).contains("notes.png cannot be read"));
        std::fs::write(&path, "not a picture").unwrap();
        assert!(said(&path).contains("notes.png is not a PNG, JPEG or WebP"));
        let whole = dir.path().join("whole.png");
        RgbaImage::from_fn(64, 64, |x, y| Rgba([x as u8, y as u8, (x * y) as u8, 255]))
            .save(&whole)
            .unwrap();
        let bytes = std::fs::read(&whole).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        assert!(said(&path).contains("notes.png is not a whole picture"));
    }
}
