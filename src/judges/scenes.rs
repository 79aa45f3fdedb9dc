//! What else a picture of drawings shows: where and when it plays, and whether somebody stands in it
//! who should not. Like [`DrawingJudge`] it learns nothing: it draws what could be shown, and takes
//! what the picture comes nearest to.

use image::{RgbImage, imageops};
use rayon::prelude::*;

use super::drawings::{SIDE, distance, distance_of_all};
use super::{Accuracy, DrawingJudge};
use crate::storyworld::LAYOUTS;
use crate::storyworld::library::{Composition, Figure, SceneSetting};

/// Corners in cells at which a figure on the ground is looked for, and one in the sky.
const ROWS: [i32; 2] = [7, 1];
/// The same from left to right.
const COLUMNS: std::ops::RangeInclusive<i32> = -1..=9;

/// Counts of pictures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SceneVerdict {
    /// Pictures whose place is the right one of all.
    pub place: Accuracy,
    /// Pictures with the right time.
    pub time: Accuracy,
    /// Pictures with the right weather, where the place has any.
    pub weather: Accuracy,
    /// Pictures that show none of their subjects twice.
    pub once: Accuracy,
    /// Pictures in which nobody of the judge's choice stands beside those who should.
    pub nobody_else: Accuracy,
}

impl SceneVerdict {
    fn add(&mut self, other: &Self) {
        for (sum, one) in [
            (&mut self.place, other.place),
            (&mut self.time, other.time),
            (&mut self.weather, other.weather),
            (&mut self.once, other.once),
            (&mut self.nobody_else, other.nobody_else),
        ] {
            sum.add(one.right, one.of);
        }
    }
}

impl DrawingJudge {
    /// Judges pictures of any size by what they should show, but for their figures.
    pub fn judge_scenes(&self, shown: &[(&RgbImage, &Composition)]) -> SceneVerdict {
        let verdicts = shown.par_iter().map(|(picture, shown)| {
            let small = imageops::resize(*picture, SIDE, SIDE, imageops::FilterType::Triangle);
            self.scene(&small, shown)
        });
        let mut sum = SceneVerdict::default();
        for verdict in verdicts.collect::<Vec<_>>() {
            sum.add(&verdict);
        }
        sum
    }

    fn scene(&self, picture: &RgbImage, shown: &Composition) -> SceneVerdict {
        let mut scene = shown.clone();
        for figure in &mut scene.figures {
            *figure = self.renderer().scaled(figure);
        }
        let setting = self.nearest_setting(picture, &scene);
        let mut verdict = SceneVerdict::default();
        let wanted = &shown.setting;
        let right = |is: bool| usize::from(is);
        verdict
            .place
            .add(right(setting.location == wanted.location), 1);
        verdict.time.add(right(setting.time == wanted.time), 1);
        if wanted.location.has_weather() {
            verdict
                .weather
                .add(right(setting.weather == wanted.weather), 1);
        }
        // Somebody is looked for before what the picture shows, be it right or wrong.
        scene.setting = setting;
        let without = self.renderer().draw(&scene);
        let twice = shown
            .figures
            .iter()
            .any(|figure| self.stands(picture, (&scene, &without), figure));
        verdict.once.add(right(!twice), 1);
        let count = shown.figures.len();
        let mut others = self
            .choice()
            .iter()
            .filter(|other| shown.figures.iter().all(|own| own.subject != **other));
        let other = others.any(|other| {
            let figure = Figure::new(other.clone(), count, 1.0, (0, 0));
            self.stands(picture, (&scene, &without), &figure)
        });
        verdict.nobody_else.add(right(!other && !twice), 1);
        verdict
    }

    /// The setting that the picture comes nearest to.
    fn nearest_setting(&self, picture: &RgbImage, scene: &Composition) -> SceneSetting {
        let mut drawn = scene.clone();
        let settings = SceneSetting::all().flat_map(|setting| {
            (0..LAYOUTS).map(move |layout| SceneSetting {
                layout,
                fall: scene.setting.fall,
                ..setting
            })
        });
        let nearest = settings.min_by_key(|setting| {
            drawn.setting = *setting;
            distance_of_all(picture, &self.renderer().draw(&drawn))
        });
        nearest.unwrap_or(scene.setting)
    }

    /// Whether `picture` comes nearer to `scene` with `figure` somewhere where nobody stands than
    /// `without`, as it was drawn.
    fn stands(
        &self,
        picture: &RgbImage,
        (scene, without): (&Composition, &[u8]),
        figure: &Figure,
    ) -> bool {
        let small = self.renderer().scaled(figure);
        let y = ROWS[usize::from(figure.subject.is_sky())];
        COLUMNS.into_iter().any(|x| {
            let there = Figure {
                x,
                y,
                ..small.clone()
            };
            if scene.figures.iter().any(|other| overlap(&there, other)) {
                return false;
            }
            let mut with = scene.clone();
            with.figures.push(there);
            let with = self.renderer().draw(&with);
            distance(picture, &with, (x, y)) < distance(picture, without, (x, y))
        })
    }
}

/// Whether the boxes of two figures have more than a fifth of the smaller one's width in common.
pub(super) fn overlap(a: &Figure, b: &Figure) -> bool {
    let span = |figure: &Figure| {
        let (left, _, width, _) = figure.unit_box();
        (left, left + width)
    };
    let ((a_left, a_right), (b_left, b_right)) = (span(a), span(b));
    let both = a_right.min(b_right) - a_left.max(b_left);
    5 * both > (a_right - a_left).min(b_right - b_left)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storyworld::library::{CompositionRenderer, CompositionSubject, Location};
    use crate::storyworld::{Time, Weather};
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    fn scene(judge: &DrawingJudge, n: usize, rng: &mut ChaCha8Rng) -> Composition {
        let subject = judge.choice()[n * 7 % judge.choice().len()].clone();
        let corner = subject.corner(rng, 2, 0, None);
        let locations: Vec<Location> = Location::all().collect();
        Composition {
            figures: vec![Figure::new(subject, 2, 1.0, corner)],
            setting: SceneSetting {
                location: locations[n * 5 % locations.len()],
                time: [Time::Day, Time::Night][n % 2],
                weather: Weather::Clear,
                layout: (n % 3) as u8,
                fall: 0,
            },
        }
    }

    fn drawn(renderer: &CompositionRenderer, shown: &Composition) -> RgbImage {
        RgbImage::from_raw(128, 128, renderer.draw(shown)).unwrap()
    }

    /// Real scenes are taken for what they are; with the same one, or another, beside them that is
    /// seen.
    #[test]
    fn real_scenes_are_right_and_whoever_should_not_be_there_is_seen() {
        let judge = DrawingJudge::of_held_out();
        let renderer = CompositionRenderer::new(128);
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let scenes: Vec<Composition> = (0..6).map(|n| scene(&judge, n, &mut rng)).collect();
        let real: Vec<RgbImage> = scenes.iter().map(|shown| drawn(&renderer, shown)).collect();
        let pairs: Vec<_> = real.iter().zip(&scenes).collect();
        let verdict = judge.judge_scenes(&pairs);
        assert!(
            verdict.place.right >= 5 && verdict.time.right >= 5,
            "{verdict:?}"
        );
        assert!(
            verdict.once.right >= 5 && verdict.nobody_else.right >= 5,
            "{verdict:?}"
        );
        let crowded = |other: &dyn Fn(&Composition) -> CompositionSubject| {
            let pictures = scenes.iter().map(|shown| {
                let mut with = shown.clone();
                let subject = other(shown);
                let y = ROWS[usize::from(subject.is_sky())];
                with.figures.push(Figure::new(subject, 2, 1.0, (8, y)));
                drawn(&renderer, &with)
            });
            let pictures: Vec<RgbImage> = pictures.collect();
            let pairs: Vec<_> = pictures.iter().zip(&scenes).collect();
            judge.judge_scenes(&pairs)
        };
        let twice = crowded(&|shown| shown.figures[0].subject.clone());
        assert!(twice.once.right <= 1, "{twice:?}");
        let another = crowded(&|_| judge.choice()[50].clone());
        assert!(another.nobody_else.right <= 1, "{another:?}");
    }
}
