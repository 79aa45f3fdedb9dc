//! PNG files that say how their picture was made.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use image::RgbaImage;
use thiserror::Error;

use super::Record;

/// Keyword of the iTXt chunk that holds the record as JSON.
const KEYWORD: &str = "vokenboard";

/// Why a picture could not be read.
#[derive(Debug, Error)]
pub enum PngError {
    #[error("{path} cannot be read: {source}. Check that the file is there and readable.")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} is not a whole PNG picture ({why}); restore it from a copy.")]
    Damaged { path: PathBuf, why: String },
    #[error("{path} carries a generation record that this Vokenboard cannot read ({why}).")]
    Record { path: PathBuf, why: String },
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
    let reader = open(path)?.read_info().map_err(|e| damaged(path, e))?;
    record_of(path, reader.info())
}

/// Pixels and record of a PNG.
pub(super) fn read_png(path: &Path) -> Result<(RgbaImage, Option<Record>), PngError> {
    let mut decoder = open(path)?;
    decoder.set_transformations(png::Transformations::ALPHA | png::Transformations::STRIP_16);
    let mut reader = decoder.read_info().map_err(|e| damaged(path, e))?;
    let record = record_of(path, reader.info())?;
    let size = reader
        .output_buffer_size()
        .ok_or_else(|| damaged(path, "it is too large"))?;
    let mut pixels = vec![0; size];
    let frame = reader
        .next_frame(&mut pixels)
        .map_err(|e| damaged(path, e))?;
    pixels.truncate(frame.buffer_size());
    let rgba = match frame.color_type {
        png::ColorType::Rgba => pixels,
        png::ColorType::GrayscaleAlpha => pixels
            .chunks_exact(2)
            .flat_map(|ga| [ga[0], ga[0], ga[0], ga[1]])
            .collect(),
        other => return Err(damaged(path, format!("its colours are {other:?}"))),
    };
    let image = RgbaImage::from_raw(frame.width, frame.height, rgba)
        .ok_or_else(|| damaged(path, "its pixels are too few"))?;
    Ok((image, record))
}

/// Width and height, read from the head of the file only.
pub(super) fn png_size(path: &Path) -> Result<(u32, u32), PngError> {
    let reader = open(path)?.read_info().map_err(|e| damaged(path, e))?;
    Ok((reader.info().width, reader.info().height))
}

fn open(path: &Path) -> Result<png::Decoder<BufReader<File>>, PngError> {
    let file = File::open(path).map_err(|source| PngError::Read {
        path: path.to_path_buf(),
        source,
    })?;
    Ok(png::Decoder::new(BufReader::new(file)))
}

fn damaged(path: &Path, why: impl ToString) -> PngError {
    PngError::Damaged {
        path: path.to_path_buf(),
        why: why.to_string(),
    }
}

fn record_of(path: &Path, info: &png::Info) -> Result<Option<Record>, PngError> {
    let unreadable = |why: String| PngError::Record {
        path: path.to_path_buf(),
        why,
    };
    let Some(chunk) = info.utf8_text.iter().find(|chunk| chunk.keyword == KEYWORD) else {
        return Ok(None);
    };
    let text = chunk.get_text().map_err(|e| unreadable(e.to_string()))?;
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|e| unreadable(e.to_string()))
}
