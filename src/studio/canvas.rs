//! What is painted over a picture: a mask, or a scribble to draw from.

use egui::{Color32, ColorImage};
use image::imageops::{FilterType, resize};
use image::{GrayImage, Luma, Rgba, RgbaImage};

/// Longest side of what is painted, in pixels; a larger picture's mask is enlarged from it.
const LARGEST: u32 = 768;
/// Strokes that can be taken back.
const STEPS: usize = 30;

/// What a stroke is painted with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Brush {
    /// Diameter as a share of the picture's longer side, above 0 to 1.
    pub size: f32,
    /// Share of the radius that is painted in full; the rest fades. 0 to 1.
    pub hardness: f32,
    /// It takes away what is painted.
    pub erase: bool,
}

impl Default for Brush {
    fn default() -> Brush {
        Brush {
            size: 0.12,
            hardness: 0.8,
            erase: false,
        }
    }
}

/// A grey picture that is painted on: 255 where the brush went.
#[derive(Clone, Debug)]
pub struct MaskCanvas {
    painted: GrayImage,
    /// Of the picture that it lies over.
    size: (u32, u32),
    before: Vec<GrayImage>,
    /// What the stroke that is being drawn began from, and its last point.
    stroke: Option<(GrayImage, [f32; 2])>,
    /// Counts the changes.
    revision: u64,
}

impl MaskCanvas {
    /// Nothing painted over a picture of `width` by `height` pixels.
    pub fn new(width: u32, height: u32) -> MaskCanvas {
        let (width, height) = (width.max(1), height.max(1));
        let shrink = f64::from(LARGEST) / f64::from(width.max(height).max(LARGEST));
        let side = |side: u32| ((f64::from(side) * shrink).round() as u32).max(1);
        MaskCanvas {
            painted: GrayImage::new(side(width), side(height)),
            size: (width, height),
            before: Vec::new(),
            stroke: None,
            revision: 0,
        }
    }

    /// A number that is another one after each change.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The size of the picture that it lies over.
    pub fn size(&self) -> (u32, u32) {
        self.size
    }

    /// Whether nothing is painted.
    pub fn is_empty(&self) -> bool {
        self.painted.iter().all(|value| *value == 0)
    }

    /// Whether there is a change to take back.
    pub fn can_undo(&self) -> bool {
        !self.before.is_empty()
    }

    /// Draws on to `to`, in shares of width and height; the first point begins a stroke.
    pub fn stroke(&mut self, to: [f32; 2], brush: Brush) {
        let (begun, from) = match self.stroke.take() {
            Some((begun, from)) => (begun, from),
            None => {
                self.keep();
                (self.painted.clone(), to)
            }
        };
        let (width, height) = self.painted.dimensions();
        let radius = (brush.size * width.max(height) as f32 / 2.0).max(0.5);
        let at = |point: [f32; 2]| [point[0] * width as f32, point[1] * height as f32];
        let (a, b) = (at(from), at(to));
        let reach = |a: f32, b: f32, most: u32| {
            let low = (a.min(b) - radius - 1.0).clamp(0.0, most as f32) as u32;
            let high = (a.max(b) + radius + 2.0).clamp(0.0, most as f32) as u32;
            low..high
        };
        for y in reach(a[1], b[1], height) {
            for x in reach(a[0], b[0], width) {
                let distance = distance([x as f32 + 0.5, y as f32 + 0.5], a, b);
                let ink = coverage(distance, radius, brush.hardness);
                if ink == 0 {
                    continue;
                }
                let Luma([now]) = self.painted.get_pixel_mut(x, y);
                // A stroke never fades where it crosses itself.
                let Luma([old]) = *begun.get_pixel(x, y);
                *now = match brush.erase {
                    false => (*now).max(ink.max(old)),
                    true => (*now).min(old.min(255 - ink)),
                };
            }
        }
        self.stroke = Some((begun, to));
        self.revision += 1;
    }

    /// The stroke is done.
    pub fn lift(&mut self) {
        self.stroke = None;
    }

    /// What was not painted is, and the other way about.
    pub fn invert(&mut self) {
        self.keep();
        self.painted
            .iter_mut()
            .for_each(|value| *value = 255 - *value);
        self.revision += 1;
    }

    /// Nothing is painted any more; undo brings it back.
    pub fn clear(&mut self) {
        self.keep();
        self.painted.iter_mut().for_each(|value| *value = 0);
        self.revision += 1;
    }

    /// Takes the last change back.
    pub fn undo(&mut self) {
        if let Some(before) = self.before.pop() {
            self.painted = before;
            self.stroke = None;
            self.revision += 1;
        }
    }

    /// What is bright in `picture`, stretched over all.
    pub fn load(&mut self, picture: &RgbaImage) {
        self.keep();
        let (width, height) = self.painted.dimensions();
        let grey = image::DynamicImage::ImageRgba8(picture.clone()).to_luma8();
        self.painted = resize(&grey, width, height, FilterType::Triangle);
        self.revision += 1;
    }

    fn keep(&mut self) {
        self.before.push(self.painted.clone());
        if self.before.len() > STEPS {
            self.before.remove(0);
        }
    }

    /// White where it is painted, on black, in the size of the picture.
    pub fn mask(&self) -> RgbaImage {
        self.grown(|value| value)
    }

    /// Black lines on white paper, in the size of the picture.
    pub fn drawing(&self) -> RgbaImage {
        self.grown(|value| 255 - value)
    }

    fn grown(&self, shade: impl Fn(u8) -> u8) -> RgbaImage {
        let (width, height) = self.size;
        let grown = match self.painted.dimensions() == self.size {
            true => self.painted.clone(),
            false => resize(&self.painted, width, height, FilterType::Triangle),
        };
        RgbaImage::from_fn(width, height, |x, y| {
            let grey = shade(grown.get_pixel(x, y).0[0]);
            Rgba([grey, grey, grey, 255])
        })
    }

    /// What is painted, in `ink`, to be laid over the picture.
    pub fn overlay(&self, ink: Color32) -> ColorImage {
        let (width, height) = self.painted.dimensions();
        let colour = |value: &u8| ink.gamma_multiply(f32::from(*value) / 255.0);
        ColorImage::new(
            [width as usize, height as usize],
            self.painted.iter().map(colour).collect(),
        )
    }
}

/// How far `point` is from the line from `a` to `b`.
fn distance(point: [f32; 2], a: [f32; 2], b: [f32; 2]) -> f32 {
    let along = [b[0] - a[0], b[1] - a[1]];
    let to = [point[0] - a[0], point[1] - a[1]];
    let length = along[0] * along[0] + along[1] * along[1];
    let share = match length > 0.0 {
        true => ((to[0] * along[0] + to[1] * along[1]) / length).clamp(0.0, 1.0),
        false => 0.0,
    };
    let off = [to[0] - share * along[0], to[1] - share * along[1]];
    (off[0] * off[0] + off[1] * off[1]).sqrt()
}

/// How much ink lies so far from the middle of the stroke.
fn coverage(distance: f32, radius: f32, hardness: f32) -> u8 {
    let full = radius * hardness.clamp(0.0, 1.0);
    if distance <= full {
        return 255;
    }
    // A hard edge is a pixel wide, so that it shows no steps.
    let edge = (radius - full).max(1.0);
    let share = 1.0 - (distance - full) / edge;
    (share.clamp(0.0, 1.0) * 255.0).round() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(canvas: &MaskCanvas, x: u32, y: u32) -> u8 {
        canvas.mask().get_pixel(x, y).0[0]
    }

    #[test]
    fn strokes_cover_the_line_and_nothing_far_from_it() {
        let mut canvas = MaskCanvas::new(100, 50);
        let brush = Brush {
            size: 0.1,
            hardness: 1.0,
            erase: false,
        };
        canvas.stroke([0.2, 0.5], brush);
        canvas.stroke([0.8, 0.5], brush);
        canvas.lift();
        assert_eq!(
            (
                at(&canvas, 20, 25),
                at(&canvas, 50, 25),
                at(&canvas, 79, 25)
            ),
            (255, 255, 255)
        );
        assert_eq!(
            (at(&canvas, 50, 10), at(&canvas, 5, 25), at(&canvas, 95, 25)),
            (0, 0, 0)
        );
        let eraser = Brush {
            erase: true,
            ..brush
        };
        canvas.stroke([0.5, 0.5], eraser);
        canvas.lift();
        assert_eq!((at(&canvas, 50, 25), at(&canvas, 30, 25)), (0, 255));
        canvas.undo();
        assert_eq!(at(&canvas, 50, 25), 255);
        canvas.invert();
        assert_eq!((at(&canvas, 50, 25), at(&canvas, 5, 5)), (0, 255));
        canvas.undo();
        canvas.undo();
        assert!(canvas.is_empty() && !canvas.can_undo());
    }

    #[test]
    fn a_soft_brush_fades_and_crossing_it_does_not() {
        let mut canvas = MaskCanvas::new(100, 100);
        let soft = Brush {
            size: 0.4,
            hardness: 0.0,
            erase: false,
        };
        canvas.stroke([0.5, 0.5], soft);
        let (middle, half) = (at(&canvas, 50, 50), at(&canvas, 60, 50));
        assert!(middle > 240 && (90..160).contains(&half), "{middle} {half}");
        canvas.stroke([0.5, 0.5], soft);
        assert_eq!(at(&canvas, 60, 50), half);
    }

    #[test]
    fn a_large_picture_has_a_mask_of_its_size_and_black_stays_black() {
        let mut canvas = MaskCanvas::new(2000, 1000);
        canvas.stroke([0.25, 0.5], Brush::default());
        let mask = canvas.mask();
        assert_eq!(mask.dimensions(), (2000, 1000));
        assert_eq!(mask.get_pixel(500, 500).0, [255; 4]);
        assert_eq!(mask.get_pixel(1500, 500).0, [0, 0, 0, 255]);
        assert_eq!(canvas.drawing().get_pixel(1500, 500).0, [255; 4]);
        let mut other = MaskCanvas::new(200, 100);
        other.load(&mask);
        assert_eq!((at(&other, 50, 50), at(&other, 150, 50)), (255, 0));
    }
}
