//! Scenes whose subjects are any drawings of the library.
//!
//! A composition is a grid of cells, one for each latent of the built-in autoencoder. A figure stands
//! in a square canvas of cells, and so looks the same, latent by latent, in its reference and on
//! the picture: what has to be learnt is where it goes and what light falls on it.

use std::ops::RangeInclusive;

use rand::Rng;
use rand::seq::IndexedRandom;

use super::subject::{corner, in_canvas};
use super::{CompositionSubject, DrawingId, Location, SceneSetting};
use crate::storyworld::place::{Time, Weather};
use crate::storyworld::scene::{FALLS, LAYOUTS, Rect, Split, UNITS, to_pixels};

/// Cells along a side of the picture.
pub const CELLS: i32 = 16;
/// Cells along a side of a figure's canvas.
pub const CANVAS_CELLS: i32 = 8;
/// Most figures in one scene, and most references at once.
pub const MAX_FIGURES: usize = 4;

/// A cell in units of 1/128 of the picture.
const CELL: i32 = UNITS / CELLS;
/// Sizes in which figures are drawn, relative to the usual one.
pub(crate) const SCALES: [f32; 3] = [0.9, 1.0, 1.08];
/// A turn of hue by one step is this part of a circle.
pub(super) const HUES: u8 = 16;

/// Somebody or something in a composition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Figure {
    /// What it shows.
    pub subject: CompositionSubject,
    /// The canvas's top left corner in cells; it may lie outside the picture.
    pub x: i32,
    /// See `x`.
    pub y: i32,
    /// Height and width in 1/128 of the picture.
    pub height: i32,
    /// See `height`.
    pub width: i32,
    /// Steps that its hue is turned by, of 16 in a circle.
    pub hue: u8,
    /// Whether left and right are exchanged.
    pub mirrored: bool,
}

/// A scene of the library: its setting and its figures, from left to right.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Composition {
    /// Where and when it plays.
    pub setting: SceneSetting,
    /// Who and what stands there.
    pub figures: Vec<Figure>,
}

/// Settings of [`Composition::random`].
#[derive(Clone, Debug)]
pub struct CompositionOptions {
    /// Least and most figures, within 1..=4.
    pub figures: RangeInclusive<usize>,
    /// Drawings of training, held-out ones, or any.
    pub split: Split,
    /// Share of the figures whose colours are turned, so that none is known by heart.
    pub recoloured: f64,
}

impl Figure {
    /// `subject` with `scale` times its usual size among `count`, in the canvas whose corner is
    /// (x, y).
    pub fn new(subject: CompositionSubject, count: usize, scale: f32, (x, y): (i32, i32)) -> Self {
        let (width, height) = subject.extent(count, scale);
        Self {
            subject,
            x,
            y,
            height,
            width,
            hue: 0,
            mirrored: false,
        }
    }

    /// Its box in 1/128 of the picture: x, y, width, height; it may reach beyond the edges.
    pub fn unit_box(&self) -> (i32, i32, i32, i32) {
        let (x, y) = self.in_canvas();
        (
            CELL * self.x + x,
            CELL * self.y + y,
            self.width,
            self.height,
        )
    }

    /// Its corner in its canvas, in 1/128 of the picture.
    pub(super) fn in_canvas(&self) -> (i32, i32) {
        in_canvas(self.width, self.height, self.subject.is_sky())
    }
}

impl Composition {
    /// Draws a composition; the same generator state gives the same one.
    pub fn random(rng: &mut impl Rng, options: &CompositionOptions) -> Self {
        let wanted = |id: &DrawingId| match options.split {
            Split::Training => !id.held_out(),
            Split::HeldOut => id.held_out(),
            Split::Any => true,
        };
        let choice: Vec<DrawingId> = DrawingId::all().filter(wanted).collect();
        let least = (*options.figures.start()).clamp(1, MAX_FIGURES);
        let most = (*options.figures.end()).clamp(least, MAX_FIGURES);
        let count = rng.random_range(least..=most);
        let drawings: Vec<DrawingId> = choice.choose_multiple(rng, count).copied().collect();
        let locations: Vec<Location> = Location::all().collect();
        let location = locations[rng.random_range(0..locations.len())];
        let time = match rng.random_range(0..10) {
            0..5 => Time::Day,
            5..7 => Time::Sunset,
            _ => Time::Night,
        };
        let weather = match rng.random_range(0..10) {
            _ if !location.has_weather() => Weather::Clear,
            0..6 => Weather::Clear,
            6..8 => Weather::Rain,
            _ => Weather::Snow,
        };
        let mut made = Self::arranged(rng, &drawings, location, time, weather);
        for figure in &mut made.figures {
            if rng.random_bool(options.recoloured) {
                figure.hue = rng.random_range(1..HUES);
            }
            figure.mirrored = rng.random_bool(0.5);
        }
        made
    }

    /// The first four of `drawings` from left to right; positions, sizes and the variant of the
    /// place are drawn.
    pub fn arranged(
        rng: &mut impl Rng,
        drawings: &[DrawingId],
        location: Location,
        time: Time,
        weather: Weather,
    ) -> Self {
        let drawings = &drawings[..drawings.len().min(MAX_FIGURES)];
        let count = drawings.len();
        let figures = drawings.iter().enumerate().map(|(i, &drawing)| {
            let corner = corner(rng, count, i, drawing.get().sky);
            let scale = *SCALES.choose(rng).unwrap_or(&1.0);
            Figure::new(CompositionSubject::Drawing(drawing), count, scale, corner)
        });
        let figures = figures.collect();
        Self {
            setting: SceneSetting {
                location,
                time,
                weather,
                layout: rng.random_range(0..LAYOUTS),
                fall: rng.random_range(0..FALLS),
            },
            figures,
        }
    }

    /// Each figure's box in a picture of `size` pixels, cut off at the edges.
    pub fn boxes(&self, size: u32) -> Vec<Rect> {
        let px = |u: i32| to_pixels(u.clamp(0, UNITS), size);
        let boxes = self.figures.iter().map(|figure| {
            let (x, y, w, h) = figure.unit_box();
            Rect {
                x: px(x),
                y: px(y),
                width: px(x + w) - px(x),
                height: px(y + h) - px(y),
            }
        });
        boxes.collect()
    }
}
