//! A scene: one to three subjects on a stage with one ground line and fixed slots. A scene
//! fully determines its picture, so it can be drawn at any size with the same geometry.

use std::ops::RangeInclusive;

use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};

use super::cast::SubjectId;
use super::place::{Place, Time, Weather};

/// Positions and heights are whole units of 1/128 of the picture, so that pictures of 128, 256,
/// 384 and 512 pixels are aligned to the pixel.
pub(super) const UNITS: i32 = 128;
/// Drawn variants of every place.
pub const LAYOUTS: u8 = 3;
/// Variants of falling rain and snow.
pub const FALLS: u8 = 2;
/// Sizes a subject is drawn in, relative to its usual one.
pub(super) const SCALES: [f32; 3] = [0.95, 1.0, 1.05];
/// Most subjects in one scene.
pub const MAX_SUBJECTS: usize = 3;

const GROUND: i32 = 116;
const SKY: i32 = 36;

/// A third of the stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PictureThird {
    /// At the left.
    Left,
    /// In the middle.
    Middle,
    /// At the right.
    Right,
}

/// A subject on the stage.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PlacedSubject {
    /// Who or what.
    pub subject: SubjectId,
    /// Where on the stage.
    pub slot: PictureThird,
    /// Offset from the slot, in 1/128 of the picture.
    pub dx: i8,
    /// As `dx`, downwards.
    pub dy: i8,
    /// Which of the three sizes, `0..3`.
    pub scale: u8,
}

/// A scene of the storyworld: subjects from left to right, place, time and weather.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scene {
    /// Where it plays.
    pub place: Place,
    /// Time of day.
    pub time: Time,
    /// Weather.
    pub weather: Weather,
    /// Which variant of the place, below [`LAYOUTS`].
    pub layout: u8,
    /// Which variant of rain or snow.
    pub fall: u8,
    /// Subjects, from left to right.
    pub subjects: Vec<PlacedSubject>,
}

/// A box in pixels; (x, y) is its top left corner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rect {
    /// Left edge, in pixels.
    pub x: u32,
    /// Top edge, in pixels.
    pub y: u32,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
}

/// Which combinations of subjects and place to draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// Only combinations that are not [`held_out`].
    Training,
    /// Only held-out ones, for evaluation.
    HeldOut,
    /// All combinations.
    Any,
}

/// What [`Scene::random`] draws; training widens it from single characters to three subjects.
#[derive(Clone, Debug)]
pub struct SceneOptions {
    /// Least and most subjects, within 1..=3; each number is equally likely.
    pub subjects: RangeInclusive<usize>,
    /// Things appear too, not only characters.
    pub things: bool,
    /// Which combinations may be drawn.
    pub split: Split,
}

impl Default for SceneOptions {
    fn default() -> Self {
        Self {
            subjects: 1..=MAX_SUBJECTS,
            things: true,
            split: Split::Training,
        }
    }
}

impl Scene {
    /// Draws a scene; the same generator state gives the same scene.
    pub fn random(rng: &mut impl Rng, options: &SceneOptions) -> Self {
        loop {
            let least = (*options.subjects.start()).clamp(1, MAX_SUBJECTS);
            let most = (*options.subjects.end()).clamp(least, MAX_SUBJECTS);
            let subjects = random_subjects(rng, least..=most, options.things);
            let place = *Place::ALL.choose(rng).unwrap_or(&Place::Forest);
            let time = match rng.random_range(0..10) {
                0..5 => Time::Day,
                5..7 => Time::Sunset,
                _ => Time::Night,
            };
            let weather = match rng.random_range(0..10) {
                0..6 => Weather::Clear,
                6..8 => Weather::Rain,
                _ => Weather::Snow,
            };
            let scene = Scene::compose(rng, &subjects, place, time, weather);
            match options.split {
                Split::Training if held_out(&scene) => continue,
                Split::HeldOut if !held_out(&scene) => continue,
                _ => return scene,
            }
        }
    }

    /// Puts the first three of `subjects` on the stage, from left to right; positions, sizes and
    /// the variant of the place are drawn. Weather falls only where there can be any.
    pub fn compose(
        rng: &mut impl Rng,
        subjects: &[SubjectId],
        place: Place,
        time: Time,
        weather: Weather,
    ) -> Self {
        let subjects = &subjects[..subjects.len().min(MAX_SUBJECTS)];
        let slots: &[PictureThird] = match subjects.len() {
            1 => match rng.random_range(0..10) {
                0..8 => &[PictureThird::Middle],
                8 => &[PictureThird::Left],
                _ => &[PictureThird::Right],
            },
            2 => &[PictureThird::Left, PictureThird::Right],
            _ => &[
                PictureThird::Left,
                PictureThird::Middle,
                PictureThird::Right,
            ],
        };
        let wander = [8, 4, 2][subjects.len().clamp(1, MAX_SUBJECTS) - 1];
        let subjects = subjects
            .iter()
            .zip(slots)
            .map(|(&subject, &slot)| PlacedSubject {
                subject,
                slot,
                dx: rng.random_range(-wander..=wander),
                dy: rng.random_range(-2..=2),
                scale: rng.random_range(0..SCALES.len() as u8),
            })
            .collect();
        let weather = if place.has_weather() {
            weather
        } else {
            Weather::Clear
        };
        Self {
            place,
            time,
            weather,
            layout: rng.random_range(0..LAYOUTS),
            fall: rng.random_range(0..FALLS),
            subjects,
        }
    }

    /// Each subject's box in a picture of `size` pixels, in the order of `subjects`.
    pub fn boxes(&self, size: u32) -> Vec<Rect> {
        let px = |u: i32| to_pixels(u, size);
        (0..self.subjects.len())
            .map(|i| {
                let (x, y, w, h) = self.unit_box(i);
                Rect {
                    x: px(x),
                    y: px(y),
                    width: px(x + w) - px(x),
                    height: px(y + h) - px(y),
                }
            })
            .collect()
    }

    /// Box of subject `i` in 1/128: x, y, width, height. Always inside the picture.
    pub(super) fn unit_box(&self, i: usize) -> (i32, i32, i32, i32) {
        let placed = &self.subjects[i];
        let count = self.subjects.len();
        let (w, h) = unit_size(placed.subject, count, placed.scale);
        let centre = match (count, placed.slot) {
            (1, PictureThird::Left) | (2, PictureThird::Left) => 36,
            (1, PictureThird::Right) | (2, PictureThird::Right) => 92,
            (_, PictureThird::Left) => 23,
            (_, PictureThird::Right) => 105,
            (_, PictureThird::Middle) => 64,
        };
        let x = (centre + i32::from(placed.dx) - w / 2).clamp(1, UNITS - 1 - w);
        let y = if placed.subject.get().sky {
            SKY - h / 2
        } else {
            GROUND - h
        };
        (x, (y + i32::from(placed.dy)).max(1), w, h)
    }
}

pub(super) fn to_pixels(units: i32, size: u32) -> u32 {
    (units as u32 * size + UNITS as u32 / 2) / UNITS as u32
}

/// Width and height in 1/128 of a subject among `count`, so that it is large and neighbours
/// hardly touch.
pub(super) fn unit_size(subject: SubjectId, count: usize, scale: u8) -> (i32, i32) {
    let (height, widest) = match count {
        1 => (63.0, 76.0),
        2 => (57.0, 58.0),
        _ => (50.0, 45.0),
    };
    let scale = subject.get().scale * SCALES[usize::from(scale) % SCALES.len()];
    let aspect = subject.aspect();
    // Narrow figures are drawn taller: all subjects then cover about the same area.
    let upright = if aspect < 0.75 { 1.12 } else { 1.0 };
    let h = (height * scale * upright).min(widest / aspect);
    ((h * aspect).round() as i32, h.round() as i32)
}

fn random_subjects(
    rng: &mut impl Rng,
    count: RangeInclusive<usize>,
    things: bool,
) -> Vec<SubjectId> {
    let count = rng.random_range(count);
    let mut characters: Vec<_> = SubjectId::characters().collect();
    let mut objects: Vec<_> = SubjectId::things().collect();
    characters.shuffle(rng);
    objects.shuffle(rng);
    let cast = match (things, count) {
        (false, _) => 0,
        (true, 1) => usize::from(rng.random_bool(0.35)),
        (true, 2) => match rng.random_range(0..10) {
            0..4 => 0,
            4..9 => 1,
            _ => 2,
        },
        _ => match rng.random_range(0..10) {
            0..3 => 0,
            3..8 => 1,
            _ => 2,
        },
    };
    let mut chosen: Vec<_> = characters[..count - cast].to_vec();
    chosen.extend_from_slice(&objects[..cast]);
    // Sentences put the character first ("the fox finds a lantern"), and the first one named
    // stands on the left; the other order is drawn less often.
    if rng.random_bool(0.35) {
        chosen.shuffle(rng);
    }
    chosen
}

/// Whether this combination of subjects and place is kept out of training: one in twenty.
pub fn held_out(scene: &Scene) -> bool {
    let mut subjects: Vec<_> = scene.subjects.iter().map(|p| p.subject.index()).collect();
    subjects.sort_unstable();
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for value in subjects.into_iter().chain([100 + scene.place.index()]) {
        hash = (hash ^ value as u64).wrapping_mul(0x0000_0100_0000_01b3);
    }
    ((hash ^ (hash >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 32).is_multiple_of(20)
}
