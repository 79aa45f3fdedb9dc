//! What a picture of drawings shows, told from the picture alone: who of a choice stands where, and
//! where and when it plays. It learns nothing and so knows no drawing by heart: it draws what could
//! be shown and takes what the picture comes nearest to.

use std::sync::OnceLock;

use image::{RgbImage, imageops};
use rayon::prelude::*;

use super::drawings::{SIDE, distance_of_all};
use super::scenes::overlap;
use crate::storyworld::library::{
    CELLS, Composition, CompositionRenderer, CompositionSubject, Figure, MAX_FIGURES, SCALES,
    SceneSetting,
};
use crate::storyworld::{FALLS, LAYOUTS, Time, Weather};

/// Corners in cells at which they are looked for from left to right.
const COLUMNS: std::ops::RangeInclusive<i32> = -2..=10;
/// The same from top to bottom, of figures on the ground and of those in the sky.
const ROWS: [std::ops::RangeInclusive<i32>; 2] = [6..=7, -1..=2];
/// How far a figure may reach beyond the picture, in 1/128 of it.
const BEYOND: i32 = 2;
/// Times that the setting is looked for with the figures that were found.
const ROUNDS: usize = 3;
/// Somebody is there who brings the picture nearer by this share at least of what they change. Chosen
/// on real scenes whose own variant of the place, or whose sharpness, was kept from the judge.
const CLEARLY: f32 = 0.25;
/// And by as much a pixel at least, in squared differences, where they hardly differ from what is behind.
const FAINT: f32 = 300.0;
/// Pixels a side at which all settings are compared, before the nearest are at [`SIDE`].
const COARSE: u32 = 32;
/// Settings that are compared at [`SIDE`], of those that come nearest at [`COARSE`].
const NEAREST: usize = 16;
/// A picture is one of a place where this share of its cells comes as near to it in the mean, in steps of
/// a colour of 255.
const PLACE: f32 = 0.35;
/// See [`PLACE`].
const ALIKE: f32 = 12.0;
/// Pixels of a cell at [`SIDE`].
const CELL: usize = (SIDE as i32 / CELLS) as usize;

/// Takes pictures for compositions of the drawings of a choice.
pub struct CompositionRecogniser {
    renderer: CompositionRenderer,
    /// Every setting.
    settings: Vec<EmptySetting>,
}

/// A setting, and what it looks like with nobody in it.
struct EmptySetting {
    setting: SceneSetting,
    /// At [`SIDE`].
    drawn: OnceLock<Vec<u8>>,
    /// At [`COARSE`].
    coarse: OnceLock<Vec<u8>>,
}

/// The drawings that a [`CompositionRecogniser`] chooses from, each drawn once.
pub struct DrawingChoice(Vec<ChoiceFigure>);

/// A drawing in one of its sizes, with its corner at the origin.
struct ChoiceFigure {
    figure: Figure,
    /// By time of day.
    cuts: [OnceLock<Vec<CutPixel>>; Time::COUNT],
}

/// A pixel of a figure in its canvas.
struct CutPixel {
    x: u8,
    y: u8,
    /// How much of what is behind it shows through, of 255.
    through: u8,
    colour: [u8; 3],
}

/// A figure that was found: its number in the choice, and its corner in cells.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Found {
    number: usize,
    corner: (i32, i32),
    gain: i64,
}

impl DrawingChoice {
    /// Chooses from `subjects`.
    pub fn new(subjects: &[CompositionSubject]) -> Self {
        let mut all: Vec<ChoiceFigure> = Vec::new();
        for subject in subjects {
            let of_subject = all.len();
            for (count, scale) in (1..=MAX_FIGURES).flat_map(|n| SCALES.map(|scale| (n, scale))) {
                let figure = Figure::new(subject.clone(), count, scale, (0, 0));
                // Sizes that are the same in pixels are looked for once.
                let size = |figure: &Figure| {
                    [figure.width, figure.height].map(|units| (units * SIDE as i32 + 64) / 128)
                };
                let known = &all[of_subject..];
                if known
                    .iter()
                    .all(|other| size(&other.figure) != size(&figure))
                {
                    let cuts = std::array::from_fn(|_| OnceLock::new());
                    all.push(ChoiceFigure { figure, cuts });
                }
            }
        }
        Self(all)
    }

    fn at(&self, found: &Found) -> Figure {
        let (x, y) = found.corner;
        Figure {
            x,
            y,
            ..self.0[found.number].figure.clone()
        }
    }
}

impl ChoiceFigure {
    fn cut(&self, renderer: &CompositionRenderer, time: Time) -> &[CutPixel] {
        self.cuts[time.index()].get_or_init(|| {
            let side = renderer.reference_size();
            let places = (0..side).flat_map(|y| (0..side).map(move |x| (x as u8, y as u8)));
            let pixels = places.zip(renderer.cut(&self.figure, time));
            let covered = pixels.filter(|(_, (_, through))| *through < u8::MAX);
            covered
                .map(|((x, y), (colour, through))| CutPixel {
                    x,
                    y,
                    through,
                    colour,
                })
                .collect()
        })
    }

    /// Where it can stand.
    fn corners(&self) -> impl Iterator<Item = (i32, i32)> {
        let rows = ROWS[usize::from(self.figure.subject.is_sky())].clone();
        let (left, _, width, _) = self.figure.unit_box();
        let cell = 128 / CELLS;
        let inside = move |x: &i32| {
            let left = left + cell * x;
            left >= -BEYOND && left + width <= 128 + BEYOND
        };
        rows.flat_map(move |y| COLUMNS.filter(inside).map(move |x| (x, y)))
    }
}

/// The pixels of `cut` that lie in the picture with its canvas at `corner`, by their place in it.
fn placed(cut: &[CutPixel], (x, y): (i32, i32)) -> impl Iterator<Item = (usize, &CutPixel)> {
    let (x, y) = (x * CELL as i32, y * CELL as i32);
    let side = SIDE as i32;
    cut.iter().filter_map(move |pixel| {
        let (x, y) = (x + i32::from(pixel.x), y + i32::from(pixel.y));
        let inside = (0..side).contains(&x) && (0..side).contains(&y);
        inside.then_some(((y * side + x) as usize, pixel))
    })
}

impl CutPixel {
    /// Over `behind`.
    fn over(&self, behind: [i32; 3]) -> [i32; 3] {
        [0, 1, 2].map(|c| {
            let through = behind[c] * i32::from(self.through);
            i32::from(self.colour[c]) + (through + 127) / 255
        })
    }
}

/// `setting` with nobody in it.
fn empty(setting: SceneSetting) -> Composition {
    Composition {
        setting,
        figures: Vec::new(),
    }
}

fn at_side(picture: &RgbImage, side: u32) -> RgbImage {
    imageops::resize(picture, side, side, imageops::FilterType::Triangle)
}

fn from_left(found: &[Found], choice: &DrawingChoice) -> Vec<Figure> {
    let mut figures: Vec<Figure> = found.iter().map(|found| choice.at(found)).collect();
    figures.sort_by_key(|figure| figure.x);
    figures
}

/// Squared differences of colours within each cell, of a picture and a scene of its size.
fn cells_apart(picture: &RgbImage, scene: &[u8]) -> [f32; (CELLS * CELLS) as usize] {
    let side = picture.width() as usize;
    let cell = side / CELLS as usize;
    let mut cells = [0u32; (CELLS * CELLS) as usize];
    for at in 0..side * side {
        let (row, column) = (at / side / cell, at % side / cell);
        let off = apart(colour(scene, at), colour(picture.as_raw(), at));
        cells[row * CELLS as usize + column] += off as u32;
    }
    cells.map(|sum| sum as f32)
}

/// How far a picture is from a scene some of whose cells it covers: a cell counts by the root of its
/// squares, so that the covered ones don't decide.
fn off_by_cells(cells: &[f32]) -> f32 {
    cells.iter().map(|sum| sum.sqrt()).sum()
}

/// Squared difference of two colours.
fn apart(a: [i32; 3], b: [i32; 3]) -> i32 {
    a.iter().zip(b).map(|(a, b)| (a - b).pow(2)).sum()
}

fn colour(rgb: &[u8], at: usize) -> [i32; 3] {
    [0, 1, 2].map(|c| i32::from(rgb[3 * at + c]))
}

impl Default for CompositionRecogniser {
    fn default() -> Self {
        Self::new()
    }
}

impl CompositionRecogniser {
    /// For pictures of any size.
    pub fn new() -> Self {
        let settings = SceneSetting::all().flat_map(|setting| {
            let falls = match setting.weather {
                Weather::Clear => 1,
                Weather::Rain | Weather::Snow => FALLS,
            };
            (0..LAYOUTS).flat_map(move |layout| {
                (0..falls).map(move |fall| SceneSetting {
                    layout,
                    fall,
                    ..setting
                })
            })
        });
        Self {
            renderer: CompositionRenderer::new(SIDE),
            settings: settings
                .map(|setting| EmptySetting {
                    setting,
                    drawn: OnceLock::new(),
                    coarse: OnceLock::new(),
                })
                .collect(),
        }
    }

    /// What `picture` shows, its figures those of `choice`, from left to right.
    pub fn recognise(&self, picture: &RgbImage, choice: &DrawingChoice) -> Composition {
        let picture = at_side(picture, SIDE);
        let mut setting = self.emptiest(&picture);
        let mut found = Vec::new();
        for _ in 0..ROUNDS {
            found = self.figures(&picture, setting, choice);
            let nearest = self.behind(&picture, &found, choice);
            if std::mem::replace(&mut setting, nearest) == nearest {
                break;
            }
        }
        Composition {
            setting,
            figures: from_left(&found, choice),
        }
    }

    /// The setting that `picture` has, looked for among the few that come nearest to it in a coarse
    /// picture; `None` of a picture that comes near to no place.
    pub fn setting(&self, picture: &RgbImage) -> Option<SceneSetting> {
        let small = at_side(picture, COARSE);
        let far = |one: &EmptySetting| {
            let coarse = one.coarse.get_or_init(|| {
                let drawn = self.renderer.draw(&empty(one.setting));
                let drawn = RgbImage::from_raw(SIDE, SIDE, drawn).unwrap_or_default();
                at_side(&drawn, COARSE).into_raw()
            });
            off_by_cells(&cells_apart(&small, coarse))
        };
        let distances = self.settings.par_iter().map(|one| (far(one), one));
        let mut nearest: Vec<(f32, &EmptySetting)> = distances.collect();
        nearest.sort_by(|a, b| a.0.total_cmp(&b.0));
        let picture = at_side(picture, SIDE);
        let nearest = nearest.iter().take(NEAREST).map(|(_, one)| {
            let cells = cells_apart(&picture, self.drawn(one));
            (off_by_cells(&cells), cells, one.setting)
        });
        let (_, cells, setting) = nearest.min_by(|a, b| a.0.total_cmp(&b.0))?;
        let near = ALIKE * ALIKE * 3.0 * (CELL * CELL) as f32;
        let alike = cells.iter().filter(|off| **off < near).count();
        (alike as f32 >= PLACE * cells.len() as f32).then_some(setting)
    }

    /// Who of `choice` stands in `picture`, whose setting is known, from left to right.
    pub fn figures_in(
        &self,
        picture: &RgbImage,
        setting: SceneSetting,
        choice: &DrawingChoice,
    ) -> Vec<Figure> {
        let found = self.figures(&at_side(picture, SIDE), setting, choice);
        from_left(&found, choice)
    }

    /// The setting with nobody in it that most cells of the picture come near to: where somebody
    /// stands, they come near to none.
    fn emptiest(&self, picture: &RgbImage) -> SceneSetting {
        self.nearest(|_, empty| (1000.0 * off_by_cells(&cells_apart(picture, empty))) as u64)
    }

    /// The setting that the picture comes nearest to where it shows those who were `found`.
    fn behind(&self, picture: &RgbImage, found: &[Found], choice: &DrawingChoice) -> SceneSetting {
        self.nearest(|setting, empty| {
            let mut scene = empty.to_vec();
            for found in found {
                let figure = &choice.0[found.number];
                let cut = figure.cut(&self.renderer, setting.time);
                for (at, pixel) in placed(cut, found.corner) {
                    let over = pixel.over(colour(empty, at));
                    for (out, value) in scene[3 * at..].iter_mut().zip(over) {
                        *out = value.clamp(0, 255) as u8;
                    }
                }
            }
            distance_of_all(picture, &scene)
        })
    }

    fn nearest(&self, far: impl Fn(&SceneSetting, &[u8]) -> u64 + Sync) -> SceneSetting {
        let distances = self
            .settings
            .par_iter()
            .map(|one| (far(&one.setting, self.drawn(one)), one.setting));
        let nearest = distances.min_by_key(|(far, _)| *far);
        nearest.map_or(self.settings[0].setting, |(_, setting)| setting)
    }

    fn drawn<'a>(&self, one: &'a EmptySetting) -> &'a [u8] {
        one.drawn
            .get_or_init(|| self.renderer.draw(&empty(one.setting)))
    }

    /// Whoever brings the picture clearly nearer to the setting, one after another.
    fn figures(
        &self,
        picture: &RgbImage,
        setting: SceneSetting,
        choice: &DrawingChoice,
    ) -> Vec<Found> {
        let mut found: Vec<Found> = Vec::new();
        let mut scene = Composition {
            setting,
            figures: Vec::new(),
        };
        while found.len() < MAX_FIGURES {
            let without = self.renderer.draw(&scene);
            let free = |figure: &ChoiceFigure, (x, y): (i32, i32)| {
                let there = Figure {
                    x,
                    y,
                    ..figure.figure.clone()
                };
                scene.figures.iter().all(|other| !overlap(&there, other))
            };
            let all = choice
                .0
                .par_iter()
                .enumerate()
                .flat_map_iter(|(number, figure)| {
                    let cut = figure.cut(&self.renderer, setting.time);
                    let corners = figure.corners().filter(|corner| free(figure, *corner));
                    let gains = corners.filter_map(|corner| {
                        let gain = gain(picture, &without, cut, corner)?;
                        Some(Found {
                            number,
                            corner,
                            gain,
                        })
                    });
                    gains.collect::<Vec<_>>()
                });
            let best = all.max_by_key(|found| (found.gain, std::cmp::Reverse(found.number)));
            let Some(best) = best else {
                break;
            };
            scene.figures.push(choice.at(&best));
            found.push(best);
        }
        found
    }
}

/// By how much `picture` comes nearer to `scene` with a figure in it than without, where that is
/// clearly so.
fn gain(picture: &RgbImage, scene: &[u8], cut: &[CutPixel], corner: (i32, i32)) -> Option<i64> {
    let (mut gain, mut change, mut pixels) = (0, 0, 0);
    for (at, pixel) in placed(cut, corner) {
        let (shown, behind) = (colour(picture.as_raw(), at), colour(scene, at));
        let with = pixel.over(behind);
        let nearer = apart(shown, behind) - apart(with, shown);
        gain += i64::from(nearer);
        change += i64::from(apart(with, behind));
        pixels += 1;
    }
    let least = (CLEARLY * change as f32).max(FAINT * pixels as f32);
    (gain as f32 > least).then_some(gain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storyworld::Split;
    use crate::storyworld::library::{DrawingId, LibraryTale, TalePanel};
    use std::sync::LazyLock;

    /// Its pictures of empty places take a while.
    static RECOGNISER: LazyLock<CompositionRecogniser> = LazyLock::new(CompositionRecogniser::new);

    /// Both of the members of `tale` and others.
    fn choice(tale: &LibraryTale) -> DrawingChoice {
        let members = tale.members.iter().map(|member| member.drawing);
        let others = DrawingId::all().step_by(11).take(40);
        let all = members.chain(others).map(CompositionSubject::Drawing);
        let mut unique: Vec<CompositionSubject> = Vec::new();
        for subject in all {
            if !unique.contains(&subject) {
                unique.push(subject);
            }
        }
        DrawingChoice::new(&unique)
    }

    fn picture(shown: &Composition) -> RgbImage {
        let rgb = CompositionRenderer::new(128).draw(shown);
        RgbImage::from_raw(128, 128, rgb).unwrap()
    }

    fn subjects(shown: &Composition) -> Vec<&CompositionSubject> {
        let mut figures: Vec<&Figure> = shown.figures.iter().collect();
        figures.sort_by_key(|figure| figure.x);
        figures.iter().map(|figure| &figure.subject).collect()
    }

    #[test]
    fn real_scenes_are_taken_for_what_they_are() {
        let (mut right, mut settings, mut at_a_glance, mut of) = (0, 0, 0, 0);
        for seed in 0..3 {
            let tale = LibraryTale::random(seed, Split::HeldOut);
            let choice = choice(&tale);
            for TalePanel { composition, .. } in &tale.panels {
                let picture = picture(composition);
                let seen = RECOGNISER.recognise(&picture, &choice);
                let (a, b) = (seen.setting, composition.setting);
                let setting = RECOGNISER.setting(&picture).unwrap();
                let figures = RECOGNISER.figures_in(&picture, setting, &choice);
                let glanced = Composition { setting, figures };
                let same =
                    setting.location == b.location && subjects(&glanced) == subjects(composition);
                at_a_glance += usize::from(same);
                let when = |setting: SceneSetting| (setting.time, setting.weather);
                right += usize::from(subjects(&seen) == subjects(composition));
                settings += usize::from(a.location == b.location && when(a) == when(b));
                of += 1;
            }
        }
        assert!(
            of >= 9 && right + 1 >= of && settings == of && at_a_glance + 1 >= of,
            "{right} {settings} {at_a_glance} {of}"
        );
    }

    /// A second one of the same kind is seen twice; where nobody stands nobody is seen.
    #[test]
    fn twins_are_two_and_an_empty_place_is_empty() {
        let tale = LibraryTale::random(3, Split::HeldOut);
        let choice = choice(&tale);
        let hero = CompositionSubject::Drawing(tale.members[0].drawing);
        let figure = |x| Figure::new(hero.clone(), 2, 1.0, (x, 7));
        let mut shown = Composition {
            setting: tale.panels[0].composition.setting,
            figures: vec![figure(0), figure(8)],
        };
        let seen = RECOGNISER.recognise(&picture(&shown), &choice);
        assert_eq!(subjects(&seen), [&hero, &hero]);
        shown.figures.clear();
        let seen = RECOGNISER.recognise(&picture(&shown), &choice);
        assert_eq!(seen.setting.location, shown.setting.location);
        assert!(seen.figures.is_empty(), "{:?}", seen.figures);
    }
}
