//! What a composition can show, where that stands, and how large it is.

use image::RgbaImage;
use rand::Rng;

use super::DrawingId;

/// Where a figure's feet are in its canvas, and the middle of one that hangs in the sky, in 1/128 of
/// the picture.
pub(super) const FEET: i32 = 60;
pub(super) const MIDDLE: i32 = 32;

/// Somebody or something that a composition can show.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CompositionSubject {
    /// A drawing of the library.
    Drawing(DrawingId),
    /// A picture of the author's, cut out ([`super::cut_out()`]).
    Picture {
        /// Its pixels.
        picture: RgbaImage,
        /// A drawing of what it shows, which is as large and stands where that does; somebody as
        /// large as a person without.
        like: Option<DrawingId>,
    },
}

/// Where a subject stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// On the left.
    Left,
    /// In the middle.
    Middle,
    /// On the right.
    Right,
}

impl CompositionSubject {
    /// Whether it hangs in the sky.
    pub fn is_sky(&self) -> bool {
        self.like().is_some_and(|drawing| drawing.get().sky)
    }

    /// Width and height in 1/128 of the picture among `count`, at `relative` times the usual size.
    pub(super) fn extent(&self, count: usize, relative: f32) -> (i32, i32) {
        let scale = self.like().map_or(1.0, |drawing| drawing.get().scale);
        let aspect = match self {
            Self::Drawing(drawing) => drawing.get().aspect(),
            Self::Picture { picture, .. } => {
                picture.width() as f32 / picture.height().max(1) as f32
            }
        };
        extent(count, relative * scale, aspect)
    }

    fn like(&self) -> Option<DrawingId> {
        match self {
            Self::Drawing(drawing) => Some(*drawing),
            Self::Picture { like, .. } => *like,
        }
    }

    /// The corner of its canvas in cells, where it is the `i`-th of `count` from the left; one who
    /// is alone stands at `side`.
    pub fn corner(
        &self,
        rng: &mut impl Rng,
        count: usize,
        i: usize,
        side: Option<Side>,
    ) -> (i32, i32) {
        let (x, y) = corner(rng, count, i, self.is_sky());
        let x = match side.filter(|_| count == 1) {
            Some(Side::Left) => 0,
            Some(Side::Right) => 8,
            Some(Side::Middle) => 4,
            None => x,
        };
        (x, y)
    }
}

/// The canvas's corner in cells of the `i`-th of `count` figures from the left.
pub(super) fn corner(rng: &mut impl Rng, count: usize, i: usize, sky: bool) -> (i32, i32) {
    // And how far it may wander to the right.
    let (x, wander) = match (count, i) {
        (1, _) => match rng.random_range(0..10) {
            0..8 => (3, 2),
            8 => (0, 1),
            _ => (7, 1),
        },
        (2, _) => ([0, 7][i.min(1)], 1),
        (3, _) => ([-1, 4, 9][i.min(2)], 0),
        _ => ([-2, 2, 6, 10][i.min(3)], 0),
    };
    let x = x + rng.random_range(0..=wander);
    let y = match sky {
        true => rng.random_range(0..=2) - i32::from(count > 2),
        false if count < 3 && rng.random_bool(0.25) => 6,
        false => 7,
    };
    (x, y)
}

/// Width and height in 1/128 of the picture among `count` figures; `scale` is the height relative to
/// a person's, `aspect` width divided by height.
fn extent(count: usize, scale: f32, aspect: f32) -> (i32, i32) {
    let (height, widest) = match count {
        1 => (56.0, 60.0),
        2 => (52.0, 54.0),
        3 => (46.0, 42.0),
        _ => (38.0, 32.0),
    };
    // Narrow figures are drawn taller: all then cover about the same area.
    let upright = if aspect < 0.75 { 1.1 } else { 1.0 };
    let height = f32::min(height * scale * upright, 57.0).min(widest / aspect);
    (
        (height * aspect).round().max(4.0) as i32,
        height.round().max(8.0) as i32,
    )
}

/// The corner of a figure of that size in its canvas, in 1/128 of the picture.
pub(super) fn in_canvas(width: i32, height: i32, sky: bool) -> (i32, i32) {
    let x = MIDDLE - width / 2;
    match sky {
        true => (x, MIDDLE - height / 2),
        false => (x, FEET - height),
    }
}
