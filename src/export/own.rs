//! Marks on what Vokenboard writes beside a story by itself, so that it can be written anew while
//! what its author made or changed stays.

use std::io::{self, Cursor};
use std::path::Path;

use image::RgbaImage;
use sha2::{Digest, Sha256};

use crate::files::read_file;
use crate::story::ImageId;

/// Keyword of the text in a PNG that holds the hash of its pixels.
const KEYWORD: &str = "vokenboard-sheet";
/// What stands before the hash of the text above it, and behind it.
const MARK: (&str, &str) = ("\n<!-- written by Vokenboard, sha256 ", " -->\n");
/// Nothing that Vokenboard writes beside a story is larger.
const LARGEST: u64 = 1 << 30;

/// A PNG of `image` that carries the mark.
pub(super) fn marked_png(image: &RgbaImage) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, image.width(), image.height());
    encoder.set_color(png::ColorType::Rgba);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.add_text_chunk(KEYWORD.to_string(), ImageId::of(image).to_string())?;
    let mut writer = encoder.write_header()?;
    writer.write_image_data(image.as_raw())?;
    writer.finish()?;
    Ok(bytes)
}

/// `text` with the mark, which a reader of the page does not see.
pub(super) fn marked_text(text: &str) -> String {
    format!("{text}{}{}{}", MARK.0, hash(text), MARK.1)
}

fn hash(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether Vokenboard wrote the file and nobody has changed it since.
pub fn is_ours(path: &Path) -> bool {
    let Ok(bytes) = read_file(path, LARGEST) else {
        return false;
    };
    match std::str::from_utf8(&bytes) {
        Ok(text) => text_is_ours(text),
        Err(_) => png_is_ours(&bytes).unwrap_or(false),
    }
}

fn text_is_ours(text: &str) -> bool {
    let marked = text
        .strip_suffix(MARK.1)
        .and_then(|text| text.rsplit_once(MARK.0));
    marked.is_some_and(|(text, marked)| hash(text) == marked)
}

fn png_is_ours(bytes: &[u8]) -> Option<bool> {
    let mut reader = png::Decoder::new(Cursor::new(bytes)).read_info().ok()?;
    let texts = reader.info().uncompressed_latin1_text.iter();
    let marked = texts
        .clone()
        .find(|text| text.keyword == KEYWORD)?
        .text
        .clone();
    let mut pixels = vec![0; reader.output_buffer_size()?];
    let frame = reader.next_frame(&mut pixels).ok()?;
    let image = RgbaImage::from_raw(frame.width, frame.height, pixels)?;
    Some(ImageId::of(&image).as_str() == marked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_was_changed_is_not_ours_any_more() {
        let dir = tempfile::tempdir().unwrap();
        let page = dir.path().join("story.md");
        assert!(!is_ours(&page));
        fs::write(&page, marked_text("# A fox\n")).unwrap();
        assert!(is_ours(&page));
        let text = fs::read_to_string(&page).unwrap();
        fs::write(&page, text.replace("fox", "vixen")).unwrap();
        assert!(!is_ours(&page));
        fs::write(&page, text + "One line more.\n").unwrap();
        assert!(!is_ours(&page));
        let sheet = dir.path().join("storyboard.png");
        let image = RgbaImage::from_fn(9, 7, |x, y| image::Rgba([x as u8, y as u8, 3, 255]));
        fs::write(&sheet, marked_png(&image).unwrap()).unwrap();
        assert!(is_ours(&sheet));
        image.save(&sheet).unwrap();
        assert!(!is_ours(&sheet));
    }
}
