//! Pictures of subjects without their ground.

use image::{Rgba, RgbaImage, imageops};

/// Colours as far from the ground's as this, in any channel, belong to the subject.
const TOLERANCE: u8 = 24;
/// Share of the pixels along the edge that must have the colour of the ground.
const EVEN: f32 = 0.7;
/// A subject of which less than this is covered is drawn in lines: one cuts around those.
const LINES: f32 = 0.5;
/// Gaps between lines that are no wider than this share of the subject are not cut out.
const GAP: f32 = 0.14;

/// The subject of a picture without its ground, cut to what it covers: what is transparent is
/// ground, and where nothing is, so is what is joined to the edge in an even colour. Of a drawing in
/// lines the ground between them stays, as if one had cut around it with scissors. A picture without
/// either is all subject.
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
        fill_between_lines(&mut subject, picture);
    }
    match extent(&subject) {
        Some((left, top, width, height)) => {
            imageops::crop_imm(&subject, left, top, width, height).to_image()
        }
        // Nothing but ground.
        None => picture.clone(),
    }
}

fn covered(pixel: &Rgba<u8>) -> bool {
    pixel[3] > 16
}

/// The box of what is covered: left, top, width, height.
fn extent(picture: &RgbaImage) -> Option<(u32, u32, u32, u32)> {
    let (mut left, mut top) = picture.dimensions();
    let (mut right, mut bottom) = (0, 0);
    for (x, y, _) in picture.enumerate_pixels().filter(|(.., p)| covered(p)) {
        (left, top) = (left.min(x), top.min(y));
        (right, bottom) = (right.max(x + 1), bottom.max(y + 1));
    }
    let some = left < right && top < bottom;
    some.then(|| (left, top, right - left, bottom - top))
}

/// Gives a subject that is drawn in lines the ground between them back: where scissors of a certain
/// width don't reach from outside.
fn fill_between_lines(subject: &mut RgbaImage, picture: &RgbaImage) {
    let Some((left, top, width, height)) = extent(subject) else {
        return;
    };
    let reach = (width.max(height) as f32 * GAP / 2.0).ceil() as u32;
    // Around the subject there is room for the scissors.
    let room = reach + 1;
    let columns = width + 2 * room;
    let rows = height + 2 * room;
    let inside = |x: u32, y: u32| {
        let (x, y) = (x.checked_sub(room)?, y.checked_sub(room)?);
        (x < width && y < height).then(|| (left + x, top + y))
    };
    let places = || (0..rows).flat_map(|y| (0..columns).map(move |x| inside(x, y)));
    let lines: Vec<bool> = places()
        .map(|place| place.is_some_and(|(x, y)| covered(subject.get_pixel(x, y))))
        .collect();
    let (columns, reach) = (columns as usize, reach as usize);
    let outside = reached_from_outside(&widened(&lines, columns, reach), columns);
    let cut = widened(&outside, columns, reach);
    let ink = lines.iter().filter(|yes| **yes).count() as f32;
    let kept = cut.iter().filter(|yes| !**yes).count() as f32;
    if ink >= kept * LINES {
        return;
    }
    for (place, cut) in places().zip(cut) {
        if let Some((x, y)) = place.filter(|_| !cut) {
            *subject.get_pixel_mut(x, y) = *picture.get_pixel(x, y);
        }
    }
}

/// Each place of `mask` within `reach` rows and columns of one that is set.
fn widened(mask: &[bool], columns: usize, reach: usize) -> Vec<bool> {
    let across = |row: &[bool]| -> Vec<bool> {
        let mut since = usize::MAX;
        let mut far: Vec<usize> = row
            .iter()
            .map(|set| {
                since = if *set { 0 } else { since.saturating_add(1) };
                since
            })
            .collect();
        let mut since = usize::MAX;
        for (far, set) in far.iter_mut().zip(row).rev() {
            since = if *set { 0 } else { since.saturating_add(1) };
            *far = since.min(*far);
        }
        far.iter().map(|far| *far <= reach).collect()
    };
    let rows = mask.len() / columns.max(1);
    let mut out: Vec<bool> = mask.chunks(columns.max(1)).flat_map(across).collect();
    for x in 0..columns {
        let column: Vec<bool> = (0..rows).map(|y| out[y * columns + x]).collect();
        for (y, set) in across(&column).into_iter().enumerate() {
            out[y * columns + x] = set;
        }
    }
    out
}

/// Places that are not set and joined to the edge, or beyond it.
fn reached_from_outside(mask: &[bool], columns: usize) -> Vec<bool> {
    let rows = mask.len() / columns.max(1);
    let mut reached = vec![false; mask.len()];
    let edge = |x: usize, y: usize| x == 0 || y == 0 || x + 1 == columns || y + 1 == rows;
    let mut todo: Vec<(usize, usize)> = (0..rows)
        .flat_map(|y| (0..columns).map(move |x| (x, y)))
        .filter(|(x, y)| edge(*x, *y))
        .collect();
    while let Some((x, y)) = todo.pop() {
        let at = y * columns + x;
        if mask[at] || reached[at] {
            continue;
        }
        reached[at] = true;
        let beside = [
            (x.wrapping_sub(1), y),
            (x + 1, y),
            (x, y.wrapping_sub(1)),
            (x, y + 1),
        ];
        todo.extend(beside.iter().filter(|(x, y)| *x < columns && *y < rows));
    }
    reached
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
    let of_the_ground = along
        .iter()
        .filter(|(x, y)| is_ground(picture.get_pixel(*x, *y)));
    if (of_the_ground.count() as f32) < along.len() as f32 * EVEN {
        return;
    }
    let subject: Vec<bool> = picture.pixels().map(|pixel| !is_ground(pixel)).collect();
    let reached = reached_from_outside(&subject, width as usize);
    for (pixel, reached) in picture.pixels_mut().zip(reached) {
        if reached {
            *pixel = Rgba([0; 4]);
        }
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

    #[test]
    fn of_a_drawing_in_lines_the_paper_between_them_stays_and_that_around_it_goes() {
        let paper = Rgba([250, 250, 248, 255]);
        let ink = Rgba([20, 30, 40, 255]);
        let mut sketch = RgbaImage::from_pixel(120, 120, paper);
        // A box whose right side is open a little.
        for at in 20..100 {
            for wide in 0..3 {
                sketch.put_pixel(at, 20 + wide, ink);
                sketch.put_pixel(at, 98 + wide, ink);
                sketch.put_pixel(20 + wide, at, ink);
                if !(56..62).contains(&at) {
                    sketch.put_pixel(98 + wide, at, ink);
                }
            }
        }
        let subject = cut_out(&sketch);
        let (width, height) = subject.dimensions();
        assert!(width < 84 && height < 84, "{width}x{height}");
        let middle = *subject.get_pixel(width / 2, height / 2);
        assert_eq!(middle, paper);
        // Two dots far from each other have nothing between them.
        let mut dots = RgbaImage::from_pixel(120, 120, paper);
        for x in [20, 21, 98, 99] {
            for y in 50..53 {
                dots.put_pixel(x, y, ink);
            }
        }
        assert_eq!(cut_out(&dots).get_pixel(40, 1)[3], 0);
        // Of what is filled with colour nothing between its legs stays.
        let mut filled = RgbaImage::from_pixel(120, 120, paper);
        for (x, y, pixel) in filled.enumerate_pixels_mut() {
            let legs = y > 80 && (55..60).contains(&x);
            if (30..90).contains(&x) && (20..110).contains(&y) && !legs {
                *pixel = Rgba([200, 0, 0, 255]);
            }
        }
        assert_eq!(cut_out(&filled).get_pixel(27, 85)[3], 0);
    }
}
