//! A picture that is changed only where a mask says so: what the model is to draw is cut out,
//! drawn at the size that it draws best, and put back.

use std::sync::Arc;

use image::imageops::{self, FilterType};
use image::{GrayImage, Luma, Rgb, RgbImage, Rgba, RgbaImage};
use imageproc::distance_transform::{Norm, distance_transform};

use super::{refuse, rgb};
use crate::diffusion::luma;
use crate::pipeline::PipelineError;
use crate::pipeline::painter::{Brief, Capabilities, GivenControl};
use crate::resample::{Filter, resize};
use crate::story::{Margins, Size};

/// Longest side of a picture, in pixels.
const MOST: u32 = 16_384;
/// Most pixels over which an edge fades.
const MOST_FEATHER: u32 = 128;
/// The longer side of what is cut out over the shorter, where the picture has room.
const LONGEST: u32 = 2;

/// A rectangle of pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct CropRect {
    x: u32,
    y: u32,
    width: u32,
    height: u32,
}

/// The whole picture, and what is drawn of it.
pub(super) struct FrameCanvas {
    picture: RgbImage,
    /// White is drawn anew, black stays.
    mask: GrayImage,
    /// How much of what is drawn is put over each pixel.
    over: GrayImage,
    cut: CropRect,
    /// Sides of what the model draws.
    size: Size,
}

impl FrameCanvas {
    /// None where the brief draws a whole picture as any other.
    ///
    /// # Errors
    /// No picture to draw in, a mask with nothing white, margins of nothing, or too large sides.
    pub(super) fn of(
        brief: &Brief,
        chosen: Option<Size>,
        takes: &Capabilities,
    ) -> Result<Option<FrameCanvas>, PipelineError> {
        let mask = brief.mask.as_ref().map(|mask| luma(&rgb(mask)));
        if mask.as_ref().is_some_and(|mask| !has_white(mask)) {
            return refuse("the mask has nothing white; paint white what is to be drawn anew");
        }
        if brief.region.is_some() && mask.is_none() && brief.outpaint.is_none() {
            return refuse(
                "a region is what is around a mask; give the mask, or leave the region out",
            );
        }
        let margins = brief.outpaint.unwrap_or_default();
        if brief.outpaint.is_some() && margins == Margins::default() {
            return refuse("nothing is to be added around the picture; say how many pixels");
        }
        if brief.region.is_none() && brief.outpaint.is_none() {
            return Ok(None);
        }
        let Some((init, _)) = &brief.init else {
            return refuse("there is no picture to draw in; say which one to begin from");
        };
        let picture = extended(&rgb(init), margins)?;
        let mask = widened(
            mask.as_ref(),
            init.dimensions(),
            margins,
            picture.dimensions(),
        );
        let feather = brief.region.map_or(0, |region| region.feather);
        if feather > MOST_FEATHER {
            return refuse("the mask's edge can fade over 128 pixels at most; choose fewer");
        }
        let cut = match brief.region {
            Some(region) => around(&mask, region.padding),
            None => CropRect {
                x: 0,
                y: 0,
                width: picture.width(),
                height: picture.height(),
            },
        };
        let size = chosen.unwrap_or_else(|| match (&takes.sizes, brief.region) {
            (Some(range), Some(_)) => range.in_shape(cut.width, cut.height),
            (Some(range), None) => range.like(Size {
                width: cut.width,
                height: cut.height,
            }),
            (None, _) => takes.size,
        });
        Ok(Some(FrameCanvas {
            over: faded(&mask, feather),
            picture,
            mask,
            cut,
            size,
        }))
    }

    /// What the painter is to draw.
    pub(super) fn inner(&self, brief: &Brief) -> Brief {
        let Size { width, height } = self.size;
        let CropRect { x, y, .. } = self.cut;
        let (wide, high) = (self.cut.width, self.cut.height);
        let (whole_width, whole_height) = self.picture.dimensions();
        let cut_out = |picture: &RgbImage| {
            // A picture to follow may have another size than the one that is drawn in.
            let at = |at: u32, of: u32, whole: u32| {
                (u64::from(at) * u64::from(of) / u64::from(whole)) as u32
            };
            let (w, h) = picture.dimensions();
            let cut = imageops::crop_imm(
                picture,
                at(x, w, whole_width),
                at(y, h, whole_height),
                at(wide, w, whole_width).max(1),
                at(high, h, whole_height).max(1),
            );
            let fitting = resize(&cut.to_image(), width, height, Filter::Lanczos);
            Arc::new(opaque(&fitting))
        };
        let mask = imageops::crop_imm(&self.mask, x, y, wide, high).to_image();
        let mask = imageops::resize(&mask, width, height, FilterType::Nearest);
        let mask = RgbaImage::from_fn(width, height, |x, y| {
            let grey = mask.get_pixel(x, y).0[0];
            Rgba([grey, grey, grey, 255])
        });
        let strength = brief.init.as_ref().map_or(1.0, |(_, strength)| *strength);
        let control = brief.control.iter().map(|given| GivenControl {
            picture: cut_out(&rgb(&given.picture)),
            ..given.clone()
        });
        Brief {
            size: self.size,
            init: Some((cut_out(&self.picture), strength)),
            mask: Some(Arc::new(mask)),
            control: control.collect(),
            region: None,
            outpaint: None,
            ..brief.clone()
        }
    }

    /// The whole picture with what was drawn; what the mask leaves is as it was.
    pub(super) fn put_back(&self, drawn: &RgbaImage) -> RgbaImage {
        let CropRect {
            x,
            y,
            width,
            height,
        } = self.cut;
        let drawn = resize(&rgb(drawn), width, height, Filter::Lanczos);
        let mut whole = opaque(&self.picture);
        for (at_x, at_y, new) in drawn.enumerate_pixels() {
            let by = self.over.get_pixel(x + at_x, y + at_y).0[0];
            put_over(whole.get_pixel_mut(x + at_x, y + at_y), *new, by);
        }
        whole
    }

    /// A small picture of the whole, with a preview of what is drawn.
    pub(super) fn preview(&self, drawn: &RgbaImage) -> Arc<RgbaImage> {
        let share = f64::from(drawn.width()) / f64::from(self.cut.width);
        let to = |pixels: u32| ((f64::from(pixels) * share).round() as u32).max(1);
        let (width, height) = self.picture.dimensions();
        let (width, height) = (to(width), to(height));
        let mut whole = opaque(&imageops::thumbnail(&self.picture, width, height));
        let over = imageops::resize(&self.over, width, height, FilterType::Nearest);
        let (left, top) = (to(self.cut.x + 1) - 1, to(self.cut.y + 1) - 1);
        for (x, y, new) in drawn.enumerate_pixels() {
            let (x, y) = (left + x, top + y);
            if x < width && y < height {
                let [r, g, b, _] = new.0;
                let by = over.get_pixel(x, y).0[0];
                put_over(whole.get_pixel_mut(x, y), Rgb([r, g, b]), by);
            }
        }
        Arc::new(whole)
    }
}

fn has_white(mask: &GrayImage) -> bool {
    mask.pixels().any(|pixel| pixel.0[0] >= 128)
}

fn put_over(pixel: &mut Rgba<u8>, new: Rgb<u8>, by: u8) {
    let by = u32::from(by);
    for (old, new) in pixel.0.iter_mut().zip(new.0) {
        let sum = u32::from(new) * by + u32::from(*old) * (255 - by);
        *old = ((sum + 127) / 255) as u8;
    }
}

fn opaque(picture: &RgbImage) -> RgbaImage {
    image::DynamicImage::ImageRgb8(picture.clone()).to_rgba8()
}

/// The picture with margins, into which its outermost pixels run on.
fn extended(picture: &RgbImage, margins: Margins) -> Result<RgbImage, PipelineError> {
    let (width, height) = picture.dimensions();
    let wide = width
        .saturating_add(margins.left)
        .saturating_add(margins.right);
    let high = height
        .saturating_add(margins.top)
        .saturating_add(margins.bottom);
    if wide > MOST || high > MOST {
        return Err(PipelineError::Request(format!(
            "a picture of {wide}x{high} pixels is larger than {MOST} pixels a side; add less around it"
        )));
    }
    Ok(RgbImage::from_fn(wide, high, |x, y| {
        let x = x.saturating_sub(margins.left).min(width - 1);
        let y = y.saturating_sub(margins.top).min(height - 1);
        *picture.get_pixel(x, y)
    }))
}

/// The mask of a picture of `own` pixels for one with margins, which are white.
fn widened(
    mask: Option<&GrayImage>,
    own: (u32, u32),
    margins: Margins,
    whole: (u32, u32),
) -> GrayImage {
    let mask = match mask {
        Some(mask) => imageops::resize(mask, own.0, own.1, FilterType::Nearest),
        None => GrayImage::new(own.0, own.1),
    };
    let mut all = GrayImage::from_pixel(whole.0, whole.1, Luma([255]));
    let (left, top) = (i64::from(margins.left), i64::from(margins.top));
    imageops::replace(&mut all, &mask, left, top);
    all
}

/// The mask faded over so many pixels from its edge inwards; what is black stays black.
fn faded(mask: &GrayImage, feather: u32) -> GrayImage {
    // A mask that is black nowhere has no edge.
    if feather == 0 || mask.pixels().all(|pixel| pixel.0[0] > 0) {
        return mask.clone();
    }
    let outside = GrayImage::from_fn(mask.width(), mask.height(), |x, y| {
        Luma([if mask.get_pixel(x, y).0[0] == 0 {
            255
        } else {
            0
        }])
    });
    let mut far = distance_transform(&outside, Norm::L2);
    for (far, mask) in far.pixels_mut().zip(mask.pixels()) {
        let ramp = u32::from(far.0[0]) * 255 / (feather + 1);
        far.0[0] = ramp.min(255).min(u32::from(mask.0[0])) as u8;
    }
    far
}

/// What is not black in the mask, with so much around it, no longer than twice its other side
/// where there is room.
fn around(mask: &GrayImage, padding: u32) -> CropRect {
    let (width, height) = mask.dimensions();
    let painted = mask.enumerate_pixels().filter(|(.., pixel)| pixel.0[0] > 0);
    let (mut left, mut top, mut right, mut bottom) = (width, height, 0, 0);
    for (x, y, _) in painted {
        (left, right) = (left.min(x), right.max(x + 1));
        (top, bottom) = (top.min(y), bottom.max(y + 1));
    }
    let (x, wide) = padded(left, right, padding, width);
    let (y, high) = padded(top, bottom, padding, height);
    let (x, wide) = stretched(x, wide, high.div_ceil(LONGEST), width);
    let (y, high) = stretched(y, high, wide.div_ceil(LONGEST), height);
    CropRect {
        x,
        y,
        width: wide,
        height: high,
    }
}

/// From `from` to `to` with so much on both sides, within `whole`: begin and length.
fn padded(from: u32, to: u32, padding: u32, whole: u32) -> (u32, u32) {
    let begin = from.saturating_sub(padding);
    let end = to.saturating_add(padding).min(whole);
    (begin, end - begin)
}

/// At least `least` long, within `whole`, about the same middle.
fn stretched(begin: u32, length: u32, least: u32, whole: u32) -> (u32, u32) {
    let wanted = length.max(least).min(whole);
    let begin = begin.saturating_sub((wanted - length) / 2);
    (begin.min(whole - wanted), wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::painter::SizeRange;
    use crate::story::Region;

    fn takes() -> Capabilities {
        Capabilities {
            sizes: Some(SizeRange {
                step: 8,
                least: 16,
                most: 2048,
                budget: 64 * 64,
            }),
            ..Capabilities::default()
        }
    }

    fn picture(width: u32, height: u32) -> RgbaImage {
        RgbaImage::from_fn(width, height, |x, y| {
            Rgba([(7 * x + y) as u8, (3 * y) as u8, (x ^ y) as u8, 255])
        })
    }

    /// A mask of `width` x `height` that is white from (40, 20) to (60, 30).
    fn mask(width: u32, height: u32) -> RgbaImage {
        RgbaImage::from_fn(width, height, |x, y| {
            let white = (40..60).contains(&x) && (20..30).contains(&y);
            let grey = 255 * u8::from(white);
            Rgba([grey, grey, grey, 255])
        })
    }

    fn brief() -> Brief {
        Brief {
            init: Some((Arc::new(picture(120, 80)), 1.0)),
            mask: Some(Arc::new(mask(120, 80))),
            region: Some(Region {
                padding: 6,
                feather: 3,
            }),
            ..Brief::default()
        }
    }

    fn canvas(brief: &Brief) -> FrameCanvas {
        FrameCanvas::of(brief, None, &takes()).unwrap().unwrap()
    }

    #[test]
    fn what_is_around_the_mask_is_drawn_at_the_models_size_and_the_rest_stays() {
        let brief = brief();
        let canvas = canvas(&brief);
        let cut = CropRect {
            x: 34,
            y: 14,
            width: 32,
            height: 22,
        };
        assert_eq!(canvas.cut, cut);
        let inner = canvas.inner(&brief);
        // About 64 x 64 pixels in the shape of 32 x 22.
        assert_eq!((inner.size.width, inner.size.height), (80, 56));
        let (drawn_in, strength) = inner.init.unwrap();
        assert_eq!((drawn_in.dimensions(), strength), ((80, 56), 1.0));
        let seen = inner.mask.unwrap();
        assert_eq!(seen.get_pixel(40, 28).0, [255; 4]);
        assert_eq!(seen.get_pixel(2, 2).0, [0, 0, 0, 255]);
        assert!(inner.region.is_none());

        let red = Rgba([255, 0, 0, 255]);
        let whole = canvas.put_back(&RgbaImage::from_pixel(80, 56, red));
        assert_eq!(whole.dimensions(), (120, 80));
        for (x, y, pixel) in whole.enumerate_pixels() {
            let before = picture(120, 80).get_pixel(x, y).0;
            match (40..60).contains(&x) && (20..30).contains(&y) {
                false => assert_eq!(pixel.0, before),
                true => assert_ne!(pixel.0, before),
            }
        }
        assert_eq!(*whole.get_pixel(50, 25), red);
        // At its edge the old picture is seen through.
        assert!(whole.get_pixel(40, 25).0[0] < 255);
    }

    #[test]
    fn more_is_drawn_around_a_picture_that_stays() {
        let margins = Margins {
            left: 16,
            bottom: 8,
            ..Margins::default()
        };
        let brief = Brief {
            mask: None,
            region: None,
            outpaint: Some(margins),
            ..brief()
        };
        let canvas = canvas(&brief);
        let inner = canvas.inner(&brief);
        // 136 x 88 are more than twice what the model draws best.
        assert_eq!((inner.size.width, inner.size.height), (80, 48));
        let green = RgbaImage::from_pixel(80, 48, Rgba([0, 255, 0, 255]));
        let whole = canvas.put_back(&green);
        for (x, y, pixel) in whole.enumerate_pixels() {
            match x >= 16 && y < 80 {
                true => assert_eq!(pixel, picture(120, 80).get_pixel(x - 16, y)),
                false => assert_eq!(pixel.0, [0, 255, 0, 255]),
            }
        }
    }

    #[test]
    fn a_thin_mask_is_given_room() {
        let line = GrayImage::from_fn(200, 100, |x, y| {
            Luma([255 * u8::from(y == 50 && (20..180).contains(&x))])
        });
        let cut = around(&line, 0);
        assert_eq!((cut.x, cut.width, cut.height), (20, 160, 80));
        assert!(cut.y <= 50 && cut.y + cut.height > 50);
        let corner = GrayImage::from_fn(200, 100, |x, y| Luma([255 * u8::from(x + y == 0)]));
        assert_eq!((around(&corner, 9).x, around(&corner, 9).width), (0, 10));
    }

    #[test]
    fn what_does_not_go_together_is_said() {
        let said = |brief: Brief| {
            let why = FrameCanvas::of(&brief, None, &takes());
            why.err().map(|why| why.to_string()).unwrap_or_default()
        };
        let black = RgbaImage::from_pixel(4, 4, Rgba([0, 0, 0, 255]));
        let empty = Brief {
            mask: Some(Arc::new(black)),
            region: None,
            ..brief()
        };
        assert!(said(empty).contains("nothing white"));
        let nowhere = Brief {
            init: None,
            ..brief()
        };
        assert!(said(nowhere).contains("no picture to draw in"));
        let none = Brief {
            outpaint: Some(Margins::default()),
            ..brief()
        };
        assert!(said(none).contains("how many pixels"));
        let huge = Brief {
            outpaint: Some(Margins {
                left: u32::MAX,
                ..Margins::default()
            }),
            ..brief()
        };
        assert!(said(huge).contains("larger than 16384"));
        let unmasked = Brief {
            mask: None,
            ..brief()
        };
        assert!(said(unmasked).contains("give the mask"));
        let plain = Brief {
            region: None,
            ..brief()
        };
        assert!(FrameCanvas::of(&plain, None, &takes()).unwrap().is_none());
    }
}
