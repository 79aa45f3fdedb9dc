//! How well subjects that a model draws from pictures show what those pictures show.

use std::ops::ControlFlow;
use std::path::Path;

use image::{RgbImage, buffer::ConvertBuffer};
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::EvalError;
use crate::diffusion::{DenoisingOptions, Stage, StageDiffusion};
use crate::judges::{CHOICE, DrawingJudge, ShownStage, Verdict};
use crate::storyworld::library::{CompositionRenderer, DrawingId, Ground, SceneSetting, Subject};
use crate::storyworld::sheet;
use crate::storyworld::{LAYOUTS, Time, Weather};

/// Pictures of a row in a grid.
const GRID_COLUMNS: u32 = 8;

/// Whose drawings are drawn from.
#[derive(Clone, Debug)]
pub enum Hand {
    /// Drawings of the library that training saw.
    Trained,
    /// Drawings of the library that training never saw.
    HeldOut,
    /// Others, cut out: the judge chooses among the first hundred.
    Other(Vec<Subject>),
}

/// What to draw.
#[derive(Clone, Debug)]
pub struct DrawingOptions {
    /// Pictures with one, two and three figures, each.
    pub samples: usize,
    /// The same seed draws the same scenes.
    pub seed: u64,
    /// Steps, guidance and scheduler.
    pub how: DenoisingOptions,
    /// Whose drawings.
    pub hand: Hand,
}

/// What the judge said.
#[derive(Clone, Debug)]
pub struct DrawingReport {
    /// Of real scenes, drawn by the renderer: what the judge itself is worth.
    pub real: Verdict,
    /// Of what the model drew.
    pub drawn: Verdict,
}

impl Hand {
    fn choice(&self) -> Vec<Subject> {
        let library = |held_out: bool| {
            let all = DrawingId::all().filter(move |id| id.held_out() == held_out);
            all.map(Subject::Drawing).collect()
        };
        match self {
            Hand::Trained => library(false),
            Hand::HeldOut => library(true),
            Hand::Other(pictures) => pictures.clone(),
        }
    }
}

/// DrawableWords scenes of one, two and three figures, and asks the judge which of a hundred drawings each
/// figure comes nearest to. `grid` is a PNG file for pairs of real and drawn scenes.
///
/// # Errors
/// Fewer drawings than the judge chooses from, or a grid that can't be written.
pub fn judge_drawings(
    model: &StageDiffusion,
    options: &DrawingOptions,
    grid: Option<&Path>,
    said: &mut dyn FnMut(&str),
) -> Result<DrawingReport, EvalError> {
    let mut choice = options.hand.choice();
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
    if choice.len() < CHOICE {
        return Err(EvalError::FewDrawings(choice.len()));
    }
    if let Hand::Trained = options.hand {
        // The first hundred begin with the same letters.
        choice = choice.choose_multiple(&mut rng, CHOICE).cloned().collect();
    }
    choice.truncate(CHOICE);
    let stages: Vec<ShownStage> = (1..=3)
        .flat_map(|count| std::iter::repeat_n(count, options.samples))
        .map(|count| random_stage(&mut rng, &choice, count))
        .collect();
    let (side, _) = model.diffusion().picture_size();
    let renderer = CompositionRenderer::new(side);
    let real: Vec<RgbImage> = stages
        .iter()
        .filter_map(|stage| {
            RgbImage::from_raw(
                side,
                side,
                renderer.draw_stage(&stage.setting, &stage.figures),
            )
        })
        .collect();
    let mut drawn = Vec::with_capacity(stages.len());
    for (n, shown) in stages.iter().enumerate() {
        if n % 8 == 0 {
            said(&format!("picture {} of {}", n + 1, stages.len()));
        }
        let stage = Stage {
            figures: shown.figures.clone(),
            setting: shown.setting.description(),
        };
        let go_on = &mut |_| ControlFlow::Continue(());
        let seed = options.seed.wrapping_add(n as u64);
        if let Some(picture) = model.draw(&stage, "", seed, options.how, go_on)? {
            drawn.push(ConvertBuffer::<RgbImage>::convert(&picture));
        }
    }
    said("judging");
    let judge = DrawingJudge::new(choice);
    let with = |pictures: &[RgbImage]| {
        let shown: Vec<_> = pictures.iter().zip(&stages).collect();
        judge.judge(&shown)
    };
    let report = DrawingReport {
        real: with(&real),
        drawn: with(&drawn),
    };
    if let Some(path) = grid {
        let pairs = real.iter().zip(&drawn).zip(&stages);
        let cells: Vec<(RgbImage, String)> = pairs
            .flat_map(|((real, drawn), stage)| {
                let words = stage.setting.description();
                [(real.clone(), words.clone()), (drawn.clone(), words)]
            })
            .collect();
        sheet::write_pictures(&cells, GRID_COLUMNS, path)?;
    }
    Ok(report)
}

fn random_stage(rng: &mut ChaCha8Rng, choice: &[Subject], count: usize) -> ShownStage {
    let subjects: Vec<Subject> = choice.choose_multiple(rng, count).cloned().collect();
    let figures = subjects.into_iter().enumerate().map(|(i, subject)| {
        let corner = subject.corner(rng, count, i, None);
        (subject, corner)
    });
    let figures = figures.collect();
    let grounds: Vec<Ground> = Ground::all().collect();
    let time = match rng.random_range(0..4) {
        0 => Time::Night,
        1 => Time::Sunset,
        _ => Time::Day,
    };
    ShownStage {
        figures,
        setting: SceneSetting {
            ground: grounds[rng.random_range(0..grounds.len())],
            time,
            weather: Weather::Clear,
            layout: rng.random_range(0..LAYOUTS),
            fall: 0,
        },
    }
}
