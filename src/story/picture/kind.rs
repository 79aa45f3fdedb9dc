//! What a file is, by what is in it: names lie.

/// Kinds of pictures that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PictureFormat {
    Png,
    Jpeg,
    WebP,
}

/// A file of another kind: what it is, and what helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAPicture {
    pub what: &'static str,
    pub remedy: &'static str,
}

const SAVE_AS: &str = "save it as PNG, JPEG or WebP first";
const AGAIN: &str = "download the picture itself";
const RESTORE: &str = "restore it from a copy";

/// Formats by how their files begin.
const FORMATS: [(&[u8], &str); 15] = [
    (b"GIF8", "a GIF"),
    (b"BM", "a BMP picture"),
    (b"II*\0", "a TIFF or camera raw picture"),
    (b"MM\0*", "a TIFF or camera raw picture"),
    (b"II+\0", "a TIFF picture"),
    (b"MM\0+", "a TIFF picture"),
    (b"\0\0\x01\0", "an icon"),
    (b"8BPS", "a Photoshop document"),
    (b"%PDF", "a PDF document"),
    (b"gimp xcf", "a GIMP document"),
    (b"\xff\x0a", "a JPEG XL picture"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL picture"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 picture"),
    (b"PK\x03\x04", "an archive or an office document"),
    (b"\x76\x2f\x31\x01", "an OpenEXR picture"),
];

/// Pictures in the container of MPEG-4, by its brand.
const BRANDS: [(&[u8], &str); 9] = [
    (b"avif", "an AVIF picture"),
    (b"avis", "an AVIF picture"),
    (b"heic", "a HEIC photo"),
    (b"heix", "a HEIC photo"),
    (b"hevc", "a HEIC photo"),
    (b"mif1", "a HEIF photo"),
    (b"msf1", "a HEIF photo"),
    (b"crx ", "a camera raw picture"),
    (b"qt  ", "a film"),
];

/// The kind of a file with these contents.
///
/// # Errors
/// What it is instead, as far as that can be told.
pub(super) fn identify(bytes: &[u8]) -> Result<PictureFormat, NotAPicture> {
    let save = |what| {
        Err(NotAPicture {
            what,
            remedy: SAVE_AS,
        })
    };
    let begins = |begin: &[u8]| bytes.starts_with(begin);
    let part = |from: usize| bytes.get(from..from + 4).unwrap_or_default();
    if bytes.is_empty() {
        return Err(NotAPicture {
            what: "an empty file",
            remedy: RESTORE,
        });
    }
    if begins(b"\x89PNG\r\n\x1a\n") {
        return Ok(PictureFormat::Png);
    }
    if begins(b"\xff\xd8\xff") {
        return Ok(PictureFormat::Jpeg);
    }
    if begins(b"RIFF") && part(8) == b"WEBP" {
        return Ok(PictureFormat::WebP);
    }
    if part(4) == b"ftyp" {
        let known = BRANDS.iter().find(|(brand, _)| part(8) == *brand);
        return save(known.map_or("a film or a picture in a film's format", |(_, what)| what));
    }
    if let Some((_, what)) = FORMATS.iter().find(|(begin, _)| begins(begin)) {
        return save(what);
    }
    text(bytes).map_or_else(
        || {
            if bytes.iter().all(|byte| *byte == 0) {
                return Err(NotAPicture {
                    what: "nothing but zeros",
                    remedy: RESTORE,
                });
            }
            save("not a PNG, JPEG or WebP picture")
        },
        Err,
    )
}

/// Texts that come in place of a picture.
fn text(bytes: &[u8]) -> Option<NotAPicture> {
    let head = &bytes[..bytes.len().min(1024)];
    let head = String::from_utf8_lossy(head).to_lowercase();
    let head = head.trim_start_matches('\u{feff}').trim_start();
    let other = |what, remedy| Some(NotAPicture { what, remedy });
    if head.starts_with("version https://git-lfs") {
        let remedy = "fetch the picture itself with `git lfs pull`";
        return other("a pointer of Git LFS", remedy);
    }
    let page = ["<!doctype html", "<html", "<head", "<body"];
    if page.iter().any(|begin| head.starts_with(begin)) {
        return other("a web page", AGAIN);
    }
    if head.starts_with("<svg") || head.starts_with("<?xml") && head.contains("<svg") {
        return other("an SVG drawing", SAVE_AS);
    }
    if head.starts_with("<?xml") {
        return match head.contains("<html") {
            true => other("a web page", AGAIN),
            false => other("an XML document, perhaps a server's answer", AGAIN),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_zeros_are_told_apart() {
        let what = |bytes: &[u8]| identify(bytes).unwrap_err().what;
        assert_eq!(what(b"\xef\xbb\xbf\n<!DOCTYPE HTML><title>"), "a web page");
        assert_eq!(what(b"<?xml version='1.0'?><svg/>"), "an SVG drawing");
        assert_eq!(what(&[0; 4000]), "nothing but zeros");
        assert_eq!(what(b"hello"), "not a PNG, JPEG or WebP picture");
        assert_eq!(what(b"RIFF\0\0\0\0WAVE"), "not a PNG, JPEG or WebP picture");
    }
}
