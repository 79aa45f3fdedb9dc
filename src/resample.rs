//! Pillow's antialiased resize of 8-bit pictures, bit for bit: a filter as wide as the reduction,
//! fixed-point weights, one axis after the other, rounded to 8 bits between.

use image::RgbImage;

/// Fixed-point bits of a weight (Pillow's `PRECISION_BITS`).
const BITS: u32 = 32 - 8 - 2;

/// How the pixels around a place are weighed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filter {
    /// A triangle.
    Bilinear,
    /// Two cubic pieces, with Pillow's -0.5.
    Bicubic,
    /// Three lobes.
    Lanczos,
}

impl Filter {
    /// How far it reaches to each side, in pixels of the smaller picture.
    fn reach(self) -> f64 {
        match self {
            Filter::Bilinear => 1.0,
            Filter::Bicubic => 2.0,
            Filter::Lanczos => 3.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        let x = x.abs();
        if x >= self.reach() {
            return 0.0;
        }
        match self {
            Filter::Bilinear => 1.0 - x,
            Filter::Bicubic if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
            Filter::Bicubic => ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0,
            Filter::Lanczos => sinc(x) * sinc(x / 3.0),
        }
    }
}

fn sinc(x: f64) -> f64 {
    let x = x * std::f64::consts::PI;
    if x == 0.0 { 1.0 } else { x.sin() / x }
}

/// For each output place, the first input place it reads and the weights from there on.
fn weights(from: usize, to: usize, filter: Filter) -> Vec<(usize, Vec<i32>)> {
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let reach = filter.reach() * stretch;
    (0..to)
        .map(|i| {
            let centre = (i as f64 + 0.5) * scale;
            // Pillow rounds both ends to the nearest place.
            let first = (centre - reach + 0.5).max(0.0) as usize;
            let last = ((centre + reach + 0.5) as usize).min(from);
            let raw: Vec<f64> = (first..last)
                .map(|x| filter.weight((x as f64 - centre + 0.5) / stretch))
                .collect();
            let sum: f64 = raw.iter().sum();
            let fixed = raw
                .iter()
                .map(|w| w / sum * f64::from(1u32 << BITS))
                .map(|w| (w + 0.5f64.copysign(w)) as i32)
                .collect();
            (first, fixed)
        })
        .collect()
}

fn round(sum: i32) -> u8 {
    // Clamped, so the cast keeps the value.
    (sum >> BITS).clamp(0, 255) as u8
}

/// Resizes to `width` x `height`, both at least 1.
pub(crate) fn resize(picture: &RgbImage, width: u32, height: u32, filter: Filter) -> RgbImage {
    match columns_first(picture.dimensions(), (width, height)) {
        true => resize_rows(&resize_columns(picture, height, filter), width, filter),
        false => resize_columns(&resize_rows(picture, width, filter), height, filter),
    }
}

/// As torchvision does it, with which transformers reads pictures: always rows before columns.
pub(crate) fn resize_rows_first(
    picture: &RgbImage,
    width: u32,
    height: u32,
    filter: Filter,
) -> RgbImage {
    resize_columns(&resize_rows(picture, width, filter), height, filter)
}

/// Since version 13 Pillow begins with the columns where the height shrinks by more than twice as
/// many pixels as the width.
fn columns_first(from: (u32, u32), to: (u32, u32)) -> bool {
    let shrinks = |from: u32, to: u32| i64::from(from) - i64::from(to);
    let (narrower, lower) = (shrinks(from.0, to.0), shrinks(from.1, to.1));
    lower > 0 && lower > 2 * narrower
}

fn resize_columns(picture: &RgbImage, height: u32, filter: Filter) -> RgbImage {
    if picture.height() == height {
        return picture.clone();
    }
    let row = picture.width() as usize * 3;
    let source = picture.as_raw();
    let mut out = Vec::with_capacity(row * height as usize);
    for (first, weights) in weights(picture.height() as usize, height as usize, filter) {
        for x in 0..row {
            let sum = weights
                .iter()
                .enumerate()
                .fold(1 << (BITS - 1), |s, (i, w)| {
                    s + i32::from(source[(first + i) * row + x]) * w
                });
            out.push(round(sum));
        }
    }
    RgbImage::from_raw(picture.width(), height, out).unwrap_or_default()
}

fn resize_rows(picture: &RgbImage, width: u32, filter: Filter) -> RgbImage {
    if picture.width() == width {
        return picture.clone();
    }
    let weights = weights(picture.width() as usize, width as usize, filter);
    let row = picture.width() as usize * 3;
    let mut out = Vec::with_capacity(width as usize * 3 * picture.height() as usize);
    for source in picture.as_raw().chunks_exact(row) {
        for (first, weights) in &weights {
            for c in 0..3 {
                let sum = weights
                    .iter()
                    .enumerate()
                    .fold(1 << (BITS - 1), |s, (i, w)| {
                        s + i32::from(source[(first + i) * 3 + c]) * w
                    });
                out.push(round(sum));
            }
        }
    }
    RgbImage::from_raw(width, picture.height(), out).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halving_averages_with_a_triangle() {
        let picture =
            RgbImage::from_fn(4, 1, |x, _| image::Rgb([[0, 80, 160, 240][x as usize]; 3]));
        let half = resize(&picture, 2, 1, Filter::Bilinear);
        // Weights 3/7, 3/7, 1/7 and mirrored.
        assert_eq!(half.get_pixel(0, 0).0[0], 57);
        assert_eq!(half.get_pixel(1, 0).0[0], 183);
    }

    #[test]
    fn what_shrinks_most_in_height_is_made_lower_before_it_is_made_wider() {
        // Recorded from Pillow 13.0.
        let grey = |x: u32, y: u32| image::Rgb([((x * 97 + y * y * 13) % 256) as u8; 3]);
        let lower = resize(&RgbImage::from_fn(3, 9, grey), 4, 3, Filter::Lanczos);
        let values: Vec<u8> = lower.pixels().map(|p| p.0[0]).collect();
        assert_eq!(
            values,
            [20, 77, 176, 207, 147, 139, 115, 102, 122, 152, 115, 52]
        );
        assert!(columns_first((33, 61), (40, 32)) && columns_first((38, 63), (23, 32)));
        assert!(!columns_first((512, 768), (256, 256)) && !columns_first((8, 46), (51, 53)));
    }

    #[test]
    fn the_same_size_is_the_same_picture() {
        let picture = RgbImage::from_fn(5, 3, |x, y| image::Rgb([x as u8, y as u8, 7]));
        assert_eq!(resize(&picture, 5, 3, Filter::Lanczos), picture);
    }

    #[test]
    fn a_sharper_filter_reaches_beyond_an_edge() {
        let picture = RgbImage::from_fn(8, 1, |x, _| image::Rgb([if x < 4 { 40 } else { 200 }; 3]));
        let wide = resize(&picture, 16, 1, Filter::Lanczos);
        let line: Vec<u8> = wide.pixels().map(|p| p.0[0]).collect();
        let (least, most) = (line.iter().min(), line.iter().max());
        assert!(least < Some(&40) && most > Some(&200), "{line:?}");
    }
}
