//! Which drawing of the library does a picture show? The judge learns nothing and so knows no
//! drawing by heart: it puts each of a hundred held-out drawings where the figure should stand,
//! draws the scene, and takes the one that the picture comes nearest to.

use crate::storyworld::LAYOUTS;
use crate::storyworld::library::{
    CANVAS_CELLS, CELLS, Composition, CompositionRenderer, DrawingId, Figure,
};
use image::{RgbImage, imageops};
use rayon::prelude::*;

/// How many drawings it chooses from.
pub(super) const CHOICE: usize = 100;
/// Pixels at which it compares: detail below that is not held against a picture.
const SIDE: u32 = 64;

pub(super) struct Judge {
    renderer: CompositionRenderer,
    choice: Vec<DrawingId>,
}

/// How many figures were taken for what they are, by how many figures the picture shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    pub right: [usize; 4],
    pub all: [usize; 4],
}

impl Verdict {
    /// Shares right, such as `81 % (26 of 32), with two 70 % (...)`.
    pub(super) fn say(&self) -> String {
        let words = ["one", "two", "three", "four"];
        let (right, all): (usize, usize) = (self.right.iter().sum(), self.all.iter().sum());
        let mut said = format!("{} of {all}", right);
        for (i, word) in words.iter().enumerate() {
            if self.all[i] > 0 {
                said += &format!(", with {word} {} of {}", self.right[i], self.all[i]);
            }
        }
        said
    }
}

impl Judge {
    pub(super) fn new() -> Self {
        let held_out = DrawingId::all().filter(|id| id.held_out());
        Self {
            renderer: CompositionRenderer::new(SIDE),
            choice: held_out.take(CHOICE).collect(),
        }
    }

    /// The drawing that figure `i` of `picture` comes nearest to, among the choice and what it
    /// should be.
    fn nearest(&self, picture: &RgbImage, composition: &Composition, i: usize) -> DrawingId {
        let figure = &composition.figures[i];
        let count = composition.figures.len();
        let corner = (figure.x, figure.y);
        let usual = Figure::new(figure.drawing, count, 1.0, corner);
        let scale = figure.height as f32 / usual.height as f32;
        let others = self.choice.iter().filter(|id| **id != figure.drawing);
        // What it should be takes the place of the last, so that there are as many to choose from.
        let choice: Vec<DrawingId> = std::iter::once(figure.drawing)
            .chain(others.copied().take(CHOICE - 1))
            .collect();
        let far = |drawing: DrawingId| {
            let as_it = Figure {
                hue: figure.hue,
                mirrored: figure.mirrored,
                ..Figure::new(drawing, count, scale, corner)
            };
            let distances = (0..LAYOUTS).map(|layout| {
                let mut other = composition.clone();
                // Which variant of a place is drawn, nobody says.
                other.setting.layout = layout;
                other.figures[i] = as_it.clone();
                distance(picture, &self.renderer.draw(&other), corner)
            });
            distances.min().unwrap_or(u64::MAX)
        };
        let best = choice.iter().min_by_key(|drawing| far(**drawing));
        best.copied().unwrap_or(figure.drawing)
    }

    /// Judges pictures of any size by what they should show.
    pub(super) fn judge(&self, shown: &[(&RgbImage, &Composition)]) -> Verdict {
        let tasks: Vec<(RgbImage, &Composition)> = shown
            .iter()
            .map(|(picture, composition)| {
                let filter = imageops::FilterType::Triangle;
                (imageops::resize(*picture, SIDE, SIDE, filter), *composition)
            })
            .collect();
        let figures: Vec<(usize, usize)> = tasks
            .iter()
            .enumerate()
            .flat_map(|(t, (_, c))| (0..c.figures.len()).map(move |i| (t, i)))
            .collect();
        let right: Vec<bool> = figures
            .par_iter()
            .map(|&(t, i)| {
                let (picture, composition) = &tasks[t];
                self.nearest(picture, composition, i) == composition.figures[i].drawing
            })
            .collect();
        let mut verdict = Verdict::default();
        for ((t, _), right) in figures.into_iter().zip(right) {
            let count = tasks[t].1.figures.len() - 1;
            verdict.all[count] += 1;
            verdict.right[count] += usize::from(right);
        }
        verdict
    }
}

/// Squared differences of colours within the canvas whose corner is given in cells.
fn distance(picture: &RgbImage, scene: &[u8], (x, y): (i32, i32)) -> u64 {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storyworld::Split;
    use crate::storyworld::library::CompositionOptions;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    /// On real scenes of another variant of the place it is nearly always right; of scenes that
    /// show other drawings nearly never.
    #[test]
    fn real_figures_are_taken_for_what_they_are_and_others_are_not() {
        let judge = Judge::new();
        assert_eq!(judge.choice.len(), CHOICE);
        let renderer = CompositionRenderer::new(128);
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let options = CompositionOptions {
            figures: 1..=2,
            split: Split::HeldOut,
            recoloured: 0.0,
        };
        let made: Vec<Composition> = (0..24)
            .map(|_| Composition::random(&mut rng, &options))
            .collect();
        let picture = |c: &Composition| RgbImage::from_raw(128, 128, renderer.draw(c)).unwrap();
        let real: Vec<RgbImage> = made.iter().map(picture).collect();
        let shown: Vec<_> = real.iter().zip(&made).collect();
        let verdict = judge.judge(&shown);
        let (right, all) = (
            verdict.right.iter().sum::<usize>(),
            verdict.all.iter().sum::<usize>(),
        );
        assert!(right * 100 >= all * 95, "{}", verdict.say());
        // The same pictures, held to show what stands in the next one's place.
        let mut wrong = made.clone();
        for (i, composition) in wrong.iter_mut().enumerate() {
            for figure in &mut composition.figures {
                let other = judge.choice[(7 * i + 3) % CHOICE];
                *figure = Figure::new(other, 1, 1.0, (figure.x, figure.y));
            }
        }
        let shown: Vec<_> = real.iter().zip(&wrong).collect();
        let verdict = judge.judge(&shown);
        assert!(
            verdict.right.iter().sum::<usize>() <= 4,
            "{}",
            verdict.say()
        );
    }
}
