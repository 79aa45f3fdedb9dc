//! A picture's edges as lines, for ControlNets that follow them.

use image::{DynamicImage, RgbaImage};
use imageproc::edges::canny;

/// Strengths of an edge that may be one and that is one, as ControlNet's own detector has them.
const THRESHOLDS: (f32, f32) = (100.0, 200.0);
/// Share of the pixels in thousandths that may be grey in a drawing of lines.
const GREY: usize = 20;

/// White lines on black where `picture` has edges (Canny's detector). A picture that is white lines
/// on black already stays as it is.
///
/// ```
/// use image::{Rgba, RgbaImage};
/// use vokenboard::pipeline::frame::edges;
///
/// let half = RgbaImage::from_fn(32, 32, |x, _| match x < 16 {
///     true => Rgba([60, 60, 60, 255]),
///     false => Rgba([200, 200, 200, 255]),
/// });
/// let lines = edges(&half);
/// assert_eq!(lines.get_pixel(4, 16).0, [0, 0, 0, 255]);
/// assert!((14..18).any(|x| lines.get_pixel(x, 16).0 == [255; 4]));
/// assert_eq!(edges(&lines), lines);
/// ```
pub fn edges(picture: &RgbaImage) -> RgbaImage {
    let white = crate::pixels::on_white(picture);
    let grey = DynamicImage::ImageRgba8(white.into_owned()).to_luma8();
    let (width, height) = grey.dimensions();
    let is = |range: std::ops::RangeInclusive<u8>| {
        grey.pixels().filter(|p| range.contains(&p.0[0])).count()
    };
    let all = (width * height) as usize;
    let drawn = is(16..=239) * 1000 <= all * GREY && is(0..=15) * 2 > all;
    // Canny's detector looks at the neighbours of every place.
    if drawn || width < 3 || height < 3 {
        return DynamicImage::ImageLuma8(grey).to_rgba8();
    }
    DynamicImage::ImageLuma8(canny(&grey, THRESHOLDS.0, THRESHOLDS.1)).to_rgba8()
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgba;

    #[test]
    fn edges_lie_where_light_and_dark_meet_and_drawn_lines_stay() {
        let square = RgbaImage::from_fn(48, 40, |x, y| {
            match (12..36).contains(&x) && (10..30).contains(&y) {
                true => Rgba([230, 200, 90, 255]),
                false => Rgba([10, 10, 10, 255]),
            }
        });
        let lines = edges(&square);
        assert_eq!(lines.dimensions(), (48, 40));
        let white = |x: u32, y: u32| lines.get_pixel(x, y).0 == [255; 4];
        // All four sides, and nothing inside or outside.
        for at in [16, 24, 30] {
            assert!((10..14).any(|x| white(x, at.min(27))), "left at {at}");
            assert!((34..38).any(|x| white(x, at.min(27))), "right at {at}");
            assert!((8..12).any(|y| white(at, y)), "top at {at}");
            assert!((28..32).any(|y| white(at, y)), "bottom at {at}");
        }
        assert!(!white(24, 20) && !white(3, 3) && !white(45, 37));
        let all = lines.pixels().filter(|p| p.0 == [255; 4]).count();
        assert!((60..200).contains(&all), "{all}");
        assert_eq!(edges(&lines), lines);
        // A picture without edges has none, and one too small for the detector stays as it is.
        let plain = RgbaImage::from_pixel(32, 32, Rgba([128, 128, 128, 255]));
        assert!(edges(&plain).pixels().all(|p| p.0 == [0, 0, 0, 255]));
        let dot = RgbaImage::from_pixel(2, 2, Rgba([9, 200, 30, 255]));
        assert_eq!(edges(&dot).dimensions(), (2, 2));
    }
}
