//! Which drawing does a picture show? The judge learns nothing and so knows no drawing by heart: it
//! puts each of a hundred where the figure should stand, draws the scene, and takes the one that the
//! picture comes nearest to.

use crate::storyworld::LAYOUTS;
use crate::storyworld::library::{
    CANVAS_CELLS, CELLS, Composition, CompositionRenderer, CompositionSubject, DrawingId, Figure,
    MAX_FIGURES,
};
use image::{RgbImage, imageops};
use rayon::prelude::*;

use super::Accuracy;

/// Drawings that a [`DrawingJudge`] chooses from.
pub const CHOICE: usize = 100;
/// Pixels at which it compares: detail below that is not held against a picture.
pub(super) const SIDE: u32 = 64;

/// Takes each figure of a picture for one of [`CHOICE`] drawings.
pub struct DrawingJudge {
    renderer: CompositionRenderer,
    choice: Vec<CompositionSubject>,
}

/// How many figures were taken for what they are, by how many figures the picture shows, from one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict(pub [Accuracy; MAX_FIGURES]);

impl Verdict {
    /// The accuracy over all pictures, however many figures they show.
    pub fn all(&self) -> Accuracy {
        let mut all = Accuracy::default();
        for share in &self.0 {
            all.add(share.right, share.of);
        }
        all
    }

    /// Shares right, such as `26 of 32, with two 20 of 24`.
    pub fn say(&self) -> String {
        let words = ["one", "two", "three", "four"];
        let all = self.all();
        let mut said = format!("{} of {}", all.right, all.of);
        for (word, share) in words.iter().zip(&self.0).filter(|(_, share)| share.of > 0) {
            said += &format!(", with {word} {} of {}", share.right, share.of);
        }
        said
    }
}

impl DrawingJudge {
    /// Chooses from the first [`CHOICE`] of `choice`.
    pub fn new(mut choice: Vec<CompositionSubject>) -> Self {
        choice.truncate(CHOICE);
        Self {
            renderer: CompositionRenderer::new(SIDE),
            choice,
        }
    }

    /// Chooses from drawings of the library that are held out of training.
    pub fn of_held_out() -> Self {
        let held_out = DrawingId::all().filter(|id| id.held_out());
        Self::new(held_out.map(CompositionSubject::Drawing).collect())
    }

    /// Draws what pictures are compared with.
    pub(super) fn renderer(&self) -> &CompositionRenderer {
        &self.renderer
    }

    /// What it chooses from.
    pub(super) fn choice(&self) -> &[CompositionSubject] {
        &self.choice
    }

    /// Whether figure `i` of `picture` comes nearest to what it should be. `scaled` are the figures
    /// that it is chosen from.
    fn is_nearest(
        &self,
        picture: &RgbImage,
        shown: &Composition,
        i: usize,
        scaled: &[Figure],
    ) -> bool {
        let own = &shown.figures[i];
        let mut small = shown.clone();
        for figure in &mut small.figures {
            *figure = self.renderer.scaled(figure);
        }
        let far = |other: &Figure| {
            let mut drawn = small.clone();
            drawn.figures[i] = Figure {
                x: own.x,
                y: own.y,
                ..other.clone()
            };
            let distances = (0..LAYOUTS).map(|layout| {
                drawn.setting.layout = layout;
                distance(picture, &self.renderer.draw(&drawn), (own.x, own.y))
            });
            distances.min().unwrap_or(u64::MAX)
        };
        let nearest = far(&small.figures[i].clone());
        let others = self.choice.iter().zip(scaled);
        let others = others.filter(|(other, _)| **other != own.subject);
        let mut others = others.take(CHOICE - 1);
        others.all(|(_, other)| far(other) > nearest)
    }

    /// Judges pictures of any size by what they should show; which variant of its place a
    /// composition has does not matter. Each figure is one of the judge's choice, or takes the place
    /// of the last of it.
    pub fn judge(&self, shown: &[(&RgbImage, &Composition)]) -> Verdict {
        let small: Vec<RgbImage> = shown
            .iter()
            .map(|(picture, _)| {
                imageops::resize(*picture, SIDE, SIDE, imageops::FilterType::Triangle)
            })
            .collect();
        // What is chosen from, in the size among one figure, two, and so on.
        let scaled: Vec<Vec<Figure>> = (1..=MAX_FIGURES)
            .map(|count| {
                let all = self.choice.par_iter().cloned();
                all.map(|other| {
                    self.renderer
                        .scaled(&Figure::new(other, count, 1.0, (0, 0)))
                })
                .collect()
            })
            .collect();
        let count = |at: usize| shown[at].1.figures.len().clamp(1, MAX_FIGURES) - 1;
        let figures: Vec<(usize, usize)> = shown
            .iter()
            .enumerate()
            .flat_map(|(at, (_, shown))| (0..shown.figures.len()).map(move |i| (at, i)))
            .collect();
        let right: Vec<bool> = figures
            .par_iter()
            .map(|&(at, i)| self.is_nearest(&small[at], shown[at].1, i, &scaled[count(at)]))
            .collect();
        let mut verdict = Verdict::default();
        for ((at, _), right) in figures.into_iter().zip(right) {
            verdict.0[count(at)].add(usize::from(right), 1);
        }
        verdict
    }
}

/// Squared differences of colours within the canvas whose corner is given in cells.
pub(super) fn distance(picture: &RgbImage, scene: &[u8], (x, y): (i32, i32)) -> u64 {
    let cell = SIDE as i32 / CELLS;
    let span = |from: i32| {
        let to = ((from + CANVAS_CELLS) * cell).clamp(0, SIDE as i32);
        ((from * cell).clamp(0, SIDE as i32) as usize)..to as usize
    };
    let side = SIDE as usize;
    let mut sum = 0;
    for row in span(y) {
        for column in span(x) {
            let at = (row * side + column) * 3;
            for c in 0..3 {
                let off = i32::from(picture.as_raw()[at + c]) - i32::from(scene[at + c]);
                sum += (off * off) as u64;
            }
        }
    }
    sum
}

/// Squared differences of colours in the whole picture.
pub(super) fn distance_of_all(picture: &RgbImage, scene: &[u8]) -> u64 {
    let pairs = picture.as_raw().iter().zip(scene);
    let each = pairs.map(|(a, b)| u64::from(a.abs_diff(*b)).pow(2));
    each.sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storyworld::library::{Location, SceneSetting};
    use crate::storyworld::{Time, Weather};
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// On real scenes of another variant of the place it is nearly always right; of scenes that
    /// show other drawings nearly never.
    #[test]
    fn real_figures_are_taken_for_what_they_are_and_others_are_not() {
        let judge = DrawingJudge::of_held_out();
        assert_eq!(judge.choice.len(), CHOICE);
        let renderer = CompositionRenderer::new(128);
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let locations: Vec<Location> = Location::all().collect();
        let made: Vec<Composition> = (0..24)
            .map(|n| {
                let count = 1 + n % 2;
                let figures = (0..count).map(|i| {
                    let subject = judge.choice[rng.random_range(0..CHOICE)].clone();
                    let corner = subject.corner(&mut rng, count, i, None);
                    Figure::new(subject, count, 1.0, corner)
                });
                let figures = figures.collect();
                Composition {
                    figures,
                    setting: SceneSetting {
                        location: locations[rng.random_range(0..locations.len())],
                        time: Time::Day,
                        weather: Weather::Clear,
                        layout: rng.random_range(0..LAYOUTS),
                        fall: 0,
                    },
                }
            })
            .collect();
        let picture = |shown: &Composition| {
            let rgb = renderer.draw(shown);
            RgbImage::from_raw(128, 128, rgb).unwrap()
        };
        let real: Vec<RgbImage> = made.iter().map(picture).collect();
        let shown: Vec<_> = real.iter().zip(&made).collect();
        let verdict = judge.judge(&shown);
        let all = verdict.all();
        assert!(all.right * 100 >= all.of * 95, "{}", verdict.say());
        // The same pictures, held to show what stands in the next one's place.
        let mut wrong = made.clone();
        for (i, shown) in wrong.iter_mut().enumerate() {
            let count = shown.figures.len();
            for figure in &mut shown.figures {
                let other = judge.choice[(7 * i + 3) % CHOICE].clone();
                *figure = Figure::new(other, count, 1.0, (figure.x, figure.y));
            }
        }
        let shown: Vec<_> = real.iter().zip(&wrong).collect();
        let verdict = judge.judge(&shown);
        assert!(verdict.all().right <= 4, "{}", verdict.say());
    }
}
