//! Pictures as everybody looks at them: on white where they are transparent, no larger than needed.

use std::borrow::Cow;

use image::imageops::FilterType;
use image::{DynamicImage, RgbImage, RgbaImage};

/// Longest side in pixels that a board shows and a model sees.
const SHOWN_SIDE: u32 = 1024;

/// Puts what is transparent on white.
pub(crate) fn put_on_white(picture: &mut RgbaImage) {
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

/// As [`shown`], without the alpha that says nothing any more.
pub(crate) fn shown_rgb(picture: &RgbaImage) -> RgbImage {
    let small = shown(picture).unwrap_or_else(|| picture.clone());
    DynamicImage::ImageRgba8(small).into_rgb8()
}
