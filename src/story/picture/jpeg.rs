//! What the general decoder does not see in a JPEG: whether it is whole, and inks with a profile.

use image::RgbaImage;
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use super::colour;

/// Whether the file goes on to the marker that ends it. What decoders make of one that does not
/// is grey from there on.
pub(super) fn is_whole(bytes: &[u8]) -> bool {
    // Behind the two bytes that begin it, segments follow one another.
    let mut at = 2;
    loop {
        // Markers may be filled up in front.
        while bytes.get(at) == Some(&0xff) && bytes.get(at + 1) == Some(&0xff) {
            at += 1;
        }
        let (Some(0xff), Some(marker)) = (bytes.get(at), bytes.get(at + 1)) else {
            return false;
        };
        at += 2;
        match marker {
            0xd9 => return true,
            // Without a length: restarts and a nested beginning.
            0x01 | 0xd0..=0xd8 => {}
            _ => {
                let Some(length) = bytes.get(at..at + 2) else {
                    return false;
                };
                at += usize::from(u16::from_be_bytes([length[0], length[1]])).max(2);
                if *marker == 0xda {
                    // Data of a scan: a marker is an 0xff that no zero or restart follows.
                    let data = bytes.get(at..).unwrap_or_default();
                    let end = data.windows(2).position(|pair| {
                        pair[0] == 0xff && !matches!(pair[1], 0 | 0xd0..=0xd7 | 0xff)
                    });
                    let Some(end) = end else {
                        return false;
                    };
                    at += end;
                }
            }
        }
    }
}

/// A picture of inks whose profile says how they look; `None` of other pictures, and where the
/// profile can't be used.
pub(super) fn with_inks(bytes: &[u8]) -> Option<RgbaImage> {
    let open = |options| JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    let options = DecoderOptions::default()
        .set_strict_mode(false)
        .set_max_width(usize::MAX)
        .set_max_height(usize::MAX);
    let mut decoder = open(options);
    decoder.decode_headers().ok()?;
    let inks = decoder.input_colorspace()?;
    if !matches!(inks, ColorSpace::CMYK | ColorSpace::YCCK) {
        return None;
    }
    let profile = colour::profile(&decoder.icc_profile()?)?;
    let (width, height) = decoder.dimensions()?;
    let mut values = open(options.jpeg_set_out_colorspace(inks)).decode().ok()?;
    for pixel in values.chunks_exact_mut(4) {
        if inks == ColorSpace::YCCK {
            let [y, cb, cr] = [0, 1, 2].map(|at| f32::from(pixel[at]));
            let (cb, cr) = (cb - 128.0, cr - 128.0);
            let rgb = [
                y + 1.402 * cr,
                y - 0.344_136 * cb - 0.714_136 * cr,
                y + 1.772 * cb,
            ];
            for (ink, value) in pixel.iter_mut().zip(rgb) {
                *ink = value.round().clamp(0.0, 255.0) as u8;
            }
        } else {
            // Programs that write inks write them the other way round.
            pixel[..3].iter_mut().for_each(|ink| *ink = 255 - *ink);
        }
        pixel[3] = 255 - pixel[3];
    }
    let colours = colour::inks_to_srgb(&values, &profile)?;
    drop(values);
    let opaque = colours
        .chunks_exact(3)
        .flat_map(|c| [c[0], c[1], c[2], 255]);
    RgbaImage::from_raw(width as u32, height as u32, opaque.collect())
}
