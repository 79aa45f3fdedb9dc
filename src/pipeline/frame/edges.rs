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
