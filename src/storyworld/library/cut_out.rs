//! Pictures of subjects without their ground.

use image::{Rgba, RgbaImage, imageops};

/// Colours as far from the ground's as this, in any channel, belong to the subject.
const TOLERANCE: u8 = 24;
/// Share of the pixels along the edge that must have the colour of the ground.
const EVEN: f32 = 0.7;

/// The subject of a picture without its ground, cut to what it covers: what is transparent is
/// ground, and where nothing is, so is what is joined to the edge in an even colour. A picture
/// without either is all subject.
///
/// ```
/// use image::{Rgba, RgbaImage};
/// use vokenboard::storyworld::library::cut_out;
///
/// let mut drawing = RgbaImage::from_pixel(9, 9, Rgba([255; 4]));
/// (3..6).for_each(|x| drawing.put_pixel(x, 4, Rgba([200, 0, 0, 255])));
/// let subject = cut_out(&drawing);
/// assert_eq!(subject.dimensions(), (3, 1));
/// ```
pub fn cut_out(picture: &RgbaImage) -> RgbaImage {
    let mut subject = picture.clone();
    if picture.pixels().all(|pixel| pixel[3] == 255) {
        clear_ground(&mut subject);
    }
    let covered = |pixel: &Rgba<u8>| pixel[3] > 16;
    let (mut left, mut top) = picture.dimensions();
    let (mut right, mut bottom) = (0, 0);
    for (x, y, _) in subject.enumerate_pixels().filter(|(.., p)| covered(p)) {
        (left, top) = (left.min(x), top.min(y));
        (right, bottom) = (right.max(x + 1), bottom.max(y + 1));
    }
    match left < right && top < bottom {
        true => imageops::crop_imm(&subject, left, top, right - left, bottom - top).to_image(),
        // Nothing but ground.
        false => picture.clone(),
    }
}

/// Makes transparent what is joined to the edge in the colour that most of the edge has.
fn clear_ground(picture: &mut RgbaImage) {
    let (width, height) = picture.dimensions();
    let edge = |x: u32, y: u32| x == 0 || y == 0 || x + 1 == width || y + 1 == height;
    let along: Vec<(u32, u32)> = (0..height)
        .flat_map(|y| (0..width).map(move |x| (x, y)))
        .filter(|(x, y)| edge(*x, *y))
        .collect();
    let mut channels = [Vec::new(), Vec::new(), Vec::new()];
    for &(x, y) in &along {
        let pixel = picture.get_pixel(x, y);
        (0..3).for_each(|c| channels[c].push(pixel[c]));
    }
    let ground = channels.map(|mut values| {
        values.sort_unstable();
        values.get(values.len() / 2).copied().unwrap_or_default()
    });
    let is_ground = |pixel: &Rgba<u8>| (0..3).all(|c| pixel[c].abs_diff(ground[c]) <= TOLERANCE);
    let mut todo: Vec<(u32, u32)> = along.clone();
    todo.retain(|(x, y)| is_ground(picture.get_pixel(*x, *y)));
    if (todo.len() as f32) < along.len() as f32 * EVEN {
        return;
    }
    while let Some((x, y)) = todo.pop() {
        let pixel = picture.get_pixel_mut(x, y);
        if pixel[3] == 0 || !is_ground(pixel) {
            continue;
        }
        *pixel = Rgba([0; 4]);
        let beside = [
            (x.wrapping_sub(1), y),
            (x + 1, y),
            (x, y.wrapping_sub(1)),
            (x, y + 1),
        ];
        todo.extend(beside.iter().filter(|(x, y)| *x < width && *y < height));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ground_that_the_subject_encloses_stays_and_an_uneven_ground_stays_whole() {
        let paper = Rgba([250, 250, 248, 255]);
        let ink = Rgba([20, 30, 40, 255]);
        let mut ring = RgbaImage::from_pixel(20, 20, paper);
        for (x, y, pixel) in ring.enumerate_pixels_mut() {
            let far = (x as f32 - 10.0).hypot(y as f32 - 10.0);
            if (4.0..7.0).contains(&far) {
                *pixel = ink;
            }
        }
        let subject = cut_out(&ring);
        assert_eq!(subject.width(), subject.height());
        assert!(subject.width() < 16);
        assert_eq!(subject.get_pixel(0, 0)[3], 0);
        let middle = subject.width() / 2;
        assert_eq!(*subject.get_pixel(middle, middle), paper);
        let stripes = RgbaImage::from_fn(20, 20, |x, _| Rgba([(x * 12) as u8, 0, 0, 255]));
        assert_eq!(cut_out(&stripes), stripes);
        let mut clear = RgbaImage::new(20, 20);
        clear.put_pixel(5, 6, ink);
        assert_eq!(cut_out(&clear).dimensions(), (1, 1));
    }
}
