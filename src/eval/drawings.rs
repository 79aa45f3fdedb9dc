//! How well subjects that a model draws from pictures show what those pictures show.

use std::ops::ControlFlow;
use std::path::Path;

use image::{RgbImage, buffer::ConvertBuffer};
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::EvalError;
use crate::diffusion::{CompositionDiffusion, CompositionRequest, DenoisingOptions, InitOptions};
use crate::judges::{CHOICE, DrawingJudge, SceneVerdict, Verdict};
use crate::storyworld::library::{
    Composition, CompositionRenderer, CompositionSubject, DrawingId, Figure, Location, SceneSetting,
};
use crate::storyworld::sheet;
use crate::storyworld::{LAYOUTS, Time, Weather};

/// Pictures of a row in a grid.
const GRID_COLUMNS: u32 = 8;

/// Which drawings are drawn and chosen from.
#[derive(Clone, Debug)]
pub enum DrawingSource {
    /// Drawings of the library that training saw.
    Trained,
    /// Drawings of the library that training never saw.
    HeldOut,
    /// Others, cut out: the judge chooses among the first hundred.
    Other(Vec<CompositionSubject>),
}

/// Settings of [`judge_drawings`].
#[derive(Clone, Debug)]
pub struct DrawingOptions {
    /// Pictures with one, two and three figures, each.
    pub samples: usize,
    /// The same seed draws the same scenes.
    pub seed: u64,
    /// Steps, guidance and scheduler.
    pub how: DenoisingOptions,
    /// Whose drawings.
    pub source: DrawingSource,
}

/// How many figures the judge took for what they are.
#[derive(Clone, Debug)]
pub struct DrawingReport {
    /// Of real scenes, drawn by the renderer: what the judge itself is worth.
    pub real: Verdict,
    /// Of what the model drew.
    pub drawn: Verdict,
    /// What else the real scenes show, and what the model drew.
    pub real_scenes: SceneVerdict,
    /// See `real_scenes`.
    pub drawn_scenes: SceneVerdict,
}

impl DrawingSource {
    fn choice(&self) -> Vec<CompositionSubject> {
        let library = |held_out: bool| {
            let all = DrawingId::all().filter(move |id| id.held_out() == held_out);
            all.map(CompositionSubject::Drawing).collect()
        };
        match self {
            DrawingSource::Trained => library(false),
            DrawingSource::HeldOut => library(true),
            DrawingSource::Other(pictures) => pictures.clone(),
        }
    }
}

/// Draws scenes of one, two and three figures, and asks the judge which of a hundred drawings each
/// figure comes nearest to. `grid` is a PNG file for pairs of real and drawn scenes.
///
/// # Errors
/// Fewer drawings than the judge chooses from, or a grid that can't be written.
pub fn judge_drawings(
    model: &CompositionDiffusion,
    options: &DrawingOptions,
    grid: Option<&Path>,
    said: &mut dyn FnMut(&str),
) -> Result<DrawingReport, EvalError> {
    let mut choice = options.source.choice();
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
    if choice.len() < CHOICE {
        return Err(EvalError::FewDrawings(choice.len()));
    }
    if let DrawingSource::Trained = options.source {
        // The first hundred begin with the same letters.
        choice = choice.choose_multiple(&mut rng, CHOICE).cloned().collect();
    }
    choice.truncate(CHOICE);
    let shown: Vec<Composition> = (1..=3)
        .flat_map(|count| std::iter::repeat_n(count, options.samples))
        .map(|count| random_composition(&mut rng, &choice, count))
        .collect();
    let (side, _) = model.diffusion().picture_size();
    let renderer = CompositionRenderer::new(side);
    let real: Vec<RgbImage> = shown
        .iter()
        .filter_map(|shown| RgbImage::from_raw(side, side, renderer.draw(shown)))
        .collect();
    let mut drawn = Vec::with_capacity(shown.len());
    for (n, shown) in shown.iter().enumerate() {
        if n % 8 == 0 {
            said(&format!("picture {} of {}", n + 1, real.len()));
        }
        let request = CompositionRequest {
            figures: shown.figures.clone(),
            setting: shown.setting.description(),
        };
        let go_on = &mut |_| ControlFlow::Continue(());
        let seed = options.seed.wrapping_add(n as u64);
        let init = InitOptions::default();
        if let Some(picture) = model.draw(&request, "", seed, init, options.how, go_on)? {
            drawn.push(ConvertBuffer::<RgbImage>::convert(&picture));
        }
    }
    said("judging");
    let judge = DrawingJudge::new(choice);
    let with = |pictures: &[RgbImage]| {
        let pairs: Vec<_> = pictures.iter().zip(&shown).collect();
        (judge.judge(&pairs), judge.judge_scenes(&pairs))
    };
    let (real_figures, real_scenes) = with(&real);
    let (drawn_figures, drawn_scenes) = with(&drawn);
    let report = DrawingReport {
        real: real_figures,
        drawn: drawn_figures,
        real_scenes,
        drawn_scenes,
    };
    if let Some(path) = grid {
        let pairs = real.iter().zip(&drawn).zip(&shown);
        let cells: Vec<(RgbImage, String)> = pairs
            .flat_map(|((real, drawn), shown)| {
                let words = shown.setting.description();
                [(real.clone(), words.clone()), (drawn.clone(), words)]
            })
            .collect();
        sheet::write_pictures(&cells, GRID_COLUMNS, path)?;
    }
    Ok(report)
}

fn random_composition(
    rng: &mut ChaCha8Rng,
    choice: &[CompositionSubject],
    count: usize,
) -> Composition {
    let subjects: Vec<CompositionSubject> = choice.choose_multiple(rng, count).cloned().collect();
    let figures = subjects.into_iter().enumerate().map(|(i, subject)| {
        let corner = subject.corner(rng, count, i, None);
        Figure::new(subject, count, 1.0, corner)
    });
    let figures = figures.collect();
    let locations: Vec<Location> = Location::all().collect();
    let time = match rng.random_range(0..4) {
        0 => Time::Night,
        1 => Time::Sunset,
        _ => Time::Day,
    };
    let location = locations[rng.random_range(0..locations.len())];
    let weather = match rng.random_range(0..10) {
        _ if !location.has_weather() => Weather::Clear,
        0..6 => Weather::Clear,
        6..8 => Weather::Rain,
        _ => Weather::Snow,
    };
    Composition {
        figures,
        setting: SceneSetting {
            location,
            time,
            weather,
            layout: rng.random_range(0..LAYOUTS),
            fall: 0,
        },
    }
}
