//! PNG files that say how their picture was made.

use crate::cause::Cause;
use std::fs::File;
use std::io::{self, BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use image::RgbaImage;
use thiserror::Error;

use super::{Record, picture};
use crate::files::open_file;

/// Keyword of the iTXt chunk that holds the record as JSON.
const KEYWORD: &str = "vokenboard";
/// A record that is longer than any story makes it is not read.
const LONGEST_RECORD: usize = 4 << 20;
/// Bytes that texts and profiles in a picture may take.
const ROOM_FOR_TEXTS: usize = 64 << 20;
/// More pixels are in no picture of a project.
const MOST_PIXELS: u64 = 400_000_000;

/// Why a picture could not be read.
#[derive(Debug, Error)]
pub enum PngError {
    /// The file cannot be opened or read.
    #[error("{path} cannot be read: {source}. Check that the file is there and readable.")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why the system refused.
        source: io::Error,
    },
    /// The file is not a PNG, is cut short, or has a chunk that fails its checksum.
    #[error("{path} is not a whole PNG picture ({why}); restore it from a copy.")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the decoder found.
        #[source]
        why: Cause,
    },
    /// The record in the file is not valid JSON or has values of another type.
    #[error("{path} carries a generation record that this Vokenboard cannot read ({why}).")]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        why: Cause,
    },
}

/// A PNG of `image` with `record` in an iTXt chunk. The chunk leaves out how long the making took
/// and when it was, so that the same picture made again is the same file, byte for byte.
pub fn encode_png(image: &RgbaImage, record: Option<&Record>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, image.width(), image.height());
    encoder.set_color(png::ColorType::Rgba);
    encoder.set_depth(png::BitDepth::Eight);
    if let Some(record) = record {
        encoder.add_itxt_chunk(KEYWORD.to_string(), record_json(record)?)?;
    }
    let mut writer = encoder.write_header()?;
    writer.write_image_data(image.as_raw())?;
    writer.finish()?;
    Ok(bytes)
}

fn record_json(record: &Record) -> io::Result<String> {
    let mut value = serde_json::to_value(record)?;
    if let Some(fields) = value.as_object_mut() {
        fields.remove("seconds");
        fields.remove("created");
    }
    Ok(value.to_string())
}

/// The record in a PNG that Vokenboard wrote, with `seconds` 0 and `created` empty; `None` in a
/// PNG without one.
pub fn read_record(path: &Path) -> Result<Option<Record>, PngError> {
    let mut reader = open(path)?.read_info().map_err(|e| damaged(path, e))?;
    // Other programs put what they don't know behind the pixels.
    if !has_record(reader.info()) {
        reader.finish().map_err(|e| damaged(path, e))?;
    }
    record_of(reader.info()).map_err(|why| PngError::Record {
        path: path.to_path_buf(),
        why: why.into(),
    })
}

/// The record in the bytes of a PNG; `None` where there is none that can be read.
pub(super) fn record_in(bytes: &[u8]) -> Option<Record> {
    let limits = png::Limits {
        bytes: ROOM_FOR_TEXTS,
    };
    let decoder = png::Decoder::new_with_limits(Cursor::new(bytes), limits);
    let mut reader = decoder.read_info().ok()?;
    if !has_record(reader.info()) {
        reader.finish().ok()?;
    }
    record_of(reader.info()).ok().flatten()
}

/// Pixels of a PNG of a project.
pub(super) fn read_png(path: &Path) -> Result<RgbaImage, PngError> {
    let mut decoder = open(path)?;
    decoder.set_transformations(png::Transformations::ALPHA | png::Transformations::STRIP_16);
    // Its record is read where it is wanted.
    decoder.set_ignore_text_chunk(true);
    let mut reader = decoder.read_info().map_err(|e| damaged(path, e))?;
    let (width, height) = reader.info().size();
    let size = reader
        .output_buffer_size()
        .filter(|_| u64::from(width) * u64::from(height) <= MOST_PIXELS)
        .ok_or_else(|| damaged(path, "it is too large"))?;
    let mut pixels = vec![0; size];
    let frame = reader
        .next_frame(&mut pixels)
        .map_err(|e| damaged(path, e))?;
    reader.finish().map_err(|e| damaged(path, e))?;
    pixels.truncate(frame.buffer_size());
    let rgba = match frame.color_type {
        png::ColorType::Rgba => pixels,
        png::ColorType::GrayscaleAlpha => pixels
            .chunks_exact(2)
            .flat_map(|ga| [ga[0], ga[0], ga[0], ga[1]])
            .collect(),
        other => return Err(damaged(path, format!("its colours are {other:?}"))),
    };
    let picture = RgbaImage::from_raw(frame.width, frame.height, rgba);
    let mut picture = picture.ok_or_else(|| damaged(path, "its pixels are too few"))?;
    picture::to_srgb(&mut picture, reader.info());
    Ok(picture)
}

/// Width and height, read from the head of the file; that it goes on to the end that every PNG
/// has is looked at, too.
pub(super) fn png_size(path: &Path) -> Result<(u32, u32), PngError> {
    const END: &[u8] = b"IEND\xaeB`\x82";
    /// Something may stand behind it.
    const TAIL: u64 = 4096;
    let reader = open(path)?.read_info().map_err(|e| damaged(path, e))?;
    let unread = |source| PngError::Read {
        path: path.to_path_buf(),
        source,
    };
    let mut file = open_file(path).map_err(unread)?;
    let mut tail = Vec::new();
    let length = file.metadata().map_err(unread)?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))
        .and_then(|_| file.read_to_end(&mut tail))
        .map_err(unread)?;
    if !tail.windows(END.len()).any(|end| end == END) {
        return Err(damaged(path, "it is cut short"));
    }
    Ok((reader.info().width, reader.info().height))
}

fn open(path: &Path) -> Result<png::Decoder<BufReader<File>>, PngError> {
    let file = open_file(path).map_err(|source| PngError::Read {
        path: path.to_path_buf(),
        source,
    })?;
    let limits = png::Limits {
        bytes: ROOM_FOR_TEXTS,
    };
    Ok(png::Decoder::new_with_limits(BufReader::new(file), limits))
}

fn damaged(path: &Path, why: impl Into<Cause>) -> PngError {
    PngError::Damaged {
        path: path.to_path_buf(),
        why: why.into(),
    }
}

fn has_record(info: &png::Info) -> bool {
    info.utf8_text.iter().any(|chunk| chunk.keyword == KEYWORD)
}

fn record_of(info: &png::Info) -> Result<Option<Record>, String> {
    let Some(chunk) = info.utf8_text.iter().find(|chunk| chunk.keyword == KEYWORD) else {
        return Ok(None);
    };
    let mut chunk = chunk.clone();
    // A few bytes may be made to say as much as fills the memory.
    chunk
        .decompress_text_with_limit(LONGEST_RECORD)
        .map_err(|_| "it is packed wrongly or too long".to_owned())?;
    let text = chunk.get_text().map_err(|e| e.to_string())?;
    if text.len() > LONGEST_RECORD {
        return Err("it is too long".to_owned());
    }
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|e| e.to_string())
}
