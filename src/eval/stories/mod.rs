//! The comparison: the same held-out stories told by several models and baselines, judged alike.
//!
//! Every panel after a story's first is told from the panels before it as they are in the story
//! (their own texts and pictures), so that all rows are asked the same: a picture of the panel's
//! sentence, and the next text. The last panel is also told with neither text nor picture given.

mod gill;
mod keep;
mod ledger;
mod method;
mod rows;
mod score;
mod table;
mod unreferenced;
mod world;

use std::path::PathBuf;
use std::time::Instant;

use super::EvalError;
use super::bootstrap::{Interval, centred, interval};
use super::frechet::{Gaussian, ReferenceGaussian};
use super::text::TextScore;
use crate::story::Settings;

use ledger::Ledger;
pub use method::{Continuation, MethodContext, StoryMethod, StoryPosition};
pub use rows::{BUILT_IN, ComparisonConfig, ContextPart, MethodKind, RowConfig, read as read_rows};
pub use score::{Metric, OF_PICTURES, OF_TEXTS, PanelScore, StoryScore, Unit};
pub use table::{FRECHET, StoriesReport, StoryRow};
pub use world::{HeldOutStory, StoryWorld, World};

/// Draws of stories for an interval; fewer for the Fréchet distance, which is slow.
const DRAWS: usize = 1000;
const FRECHET_DRAWS: usize = 100;

/// Settings of [`compare`].
#[derive(Clone, Debug)]
pub struct StoryOptions {
    /// Whose stories are told.
    pub world: World,
    /// Held-out stories that every row tells.
    pub stories: usize,
    /// Real scenes that the Fréchet distance is measured from.
    pub scenes: usize,
    /// The same seed tells the same stories.
    pub seed: u64,
    /// Steps, scheduler and guidance of all rows.
    pub settings: Settings,
    /// Where each row's stories are kept as projects.
    pub keep: Option<PathBuf>,
    /// Where each story's scores are kept, so that a comparison that was stopped goes on there.
    pub scores: Option<PathBuf>,
}

/// The panel at `at` of the story of `seed`, with those before it.
fn position(story: &dyn HeldOutStory, seed: u64, at: usize) -> StoryPosition<'_> {
    StoryPosition {
        context: &story.panels()[..at],
        panel: &story.panels()[at],
        cast: story.cast(at),
        images: story.images(),
        // Panels differ in their seeds, and rows do not.
        seed: seed.wrapping_mul(64).wrapping_add(at as u64),
    }
}

/// Compares `rows`; `progress` is called with what is being done, and what is left out and why.
///
/// # Errors
/// A judge or a model that fails while it works, or stories that can't be kept. A row that can't
/// begin is left out.
pub fn compare(
    rows: &[RowConfig],
    workshop: &MethodContext,
    world: &dyn StoryWorld,
    options: &StoryOptions,
    progress: &mut dyn FnMut(&str),
) -> Result<StoriesReport, EvalError> {
    if options.stories == 0 {
        return Err(EvalError::NoStories);
    }
    let mut report = StoriesReport::new(options, world.notes(options));
    report.met_before = met_before(world, options);
    progress("real scenes");
    let features = world.real_features(options.scenes)?;
    let gaussian = Gaussian::of(features.iter().map(Vec::as_slice));
    let reference = gaussian.map(ReferenceGaussian::new);
    for row in rows {
        let stories = match score_stories(row, workshop, world, options, progress) {
            Ok(stories) => stories,
            Err(Failed::Begin(why)) => {
                report.left_out.push((row.name.clone(), why.to_string()));
                continue;
            }
            Err(Failed::Work(why)) => return Err(why),
        };
        progress(&format!("{}: intervals", row.name));
        report
            .rows
            .push(summary(row, &stories, &reference, options.seed));
    }
    Ok(report)
}

/// Of the characters that the stories' own texts name after the first panel, the share that was
/// named before: as many as a text can be expected to take from the story so far.
fn met_before(world: &dyn StoryWorld, options: &StoryOptions) -> Option<f64> {
    let (mut named, mut known) = (0, 0);
    for i in 0..options.stories as u64 {
        let story = world.story(options.seed.wrapping_add(i));
        for (at, panel) in story.panels().iter().enumerate().skip(1) {
            let (all, some) = story.of_the_cast(&panel.text, at);
            (named, known) = (named + all, known + some);
        }
    }
    (named > 0).then(|| known as f64 / named as f64)
}

/// Why a row has no scores.
enum Failed {
    /// It can't begin, and the others can go on.
    Begin(EvalError),
    Work(EvalError),
}

impl From<EvalError> for Failed {
    fn from(why: EvalError) -> Self {
        Failed::Work(why)
    }
}

/// The scores of a row's stories, those that an earlier run judged among them.
fn score_stories(
    row: &RowConfig,
    workshop: &MethodContext,
    world: &dyn StoryWorld,
    options: &StoryOptions,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<StoryScore>, Failed> {
    let (mut ledger, mut stories) = match &options.scores {
        None => (None, Vec::new()),
        Some(dir) => {
            let of = ledger::fingerprint(row, workshop, options).map_err(Failed::Begin)?;
            let (ledger, stories) = Ledger::open(dir, row, &of)?;
            (Some(ledger), stories)
        }
    };
    stories.truncate(options.stories);
    if stories.len() == options.stories {
        return Ok(stories);
    }
    progress(&format!("{}: loading", row.name));
    let mut teller = workshop.method_of_row(row).map_err(Failed::Begin)?;
    for i in stories.len()..options.stories {
        let (number, of) = (i + 1, options.stories);
        progress(&format!("{}: story {number} of {of}", row.name));
        let seed = options.seed.wrapping_add(i as u64);
        let story = world.story(seed);
        let (score, last) = judge(teller.as_mut(), story.as_ref(), seed, row.writes)?;
        if let (Some(dir), Some(last)) = (&options.keep, last) {
            let before = &story.panels()[..story.panels().len() - 1];
            keep::write(dir, &row.name, i, before, last)?;
        }
        if let Some(ledger) = &mut ledger {
            ledger.add(&score)?;
        }
        stories.push(score);
    }
    Ok(stories)
}

/// One story told by `teller`, its texts too if it `writes`, and its last panel as the teller told
/// it by itself.
fn judge(
    teller: &mut dyn StoryMethod,
    held_out: &dyn HeldOutStory,
    seed: u64,
    writes: bool,
) -> Result<(StoryScore, Option<Continuation>), EvalError> {
    let mut story = StoryScore::default();
    let panels = held_out.panels();
    let texts: Vec<&str> = panels.iter().map(|panel| panel.text.as_str()).collect();
    for at in 1..panels.len() {
        let moment = position(held_out, seed, at);
        let started = Instant::now();
        let picture = teller.draw(&moment)?;
        let seconds = started.elapsed().as_secs_f64();
        story.panels.push(PanelScore {
            seconds,
            ..held_out.judge(at, &picture)?
        });
        if !writes {
            continue;
        }
        if let Some(text) = teller.write(&moment)? {
            let cast = held_out.of_the_cast(&text, at + 1);
            let score = TextScore::new(&text, texts[at], &texts[..at], cast);
            story.texts.push(score);
        }
        if let Some(all) = teller.log_probabilities(&moment)? {
            story.likelihood.0 += all.iter().sum::<f64>();
            story.likelihood.1 += all.len();
        }
    }
    let last = match writes {
        true => teller.go_on(&position(held_out, seed, panels.len() - 1))?,
        false => None,
    };
    story
        .asked
        .extend(last.as_ref().and_then(|last| last.asked));
    Ok((story, last))
}

fn summary(
    row: &RowConfig,
    stories: &[StoryScore],
    reference: &Option<ReferenceGaussian>,
    seed: u64,
) -> StoryRow {
    let all: Vec<&StoryScore> = stories.iter().collect();
    let measure = |metric: &Metric| -> Option<(f64, Option<Interval>)> {
        let value = (metric.compute)(&all)?;
        let drawn = |indices: &[usize]| {
            let some: Vec<&StoryScore> = indices.iter().map(|&i| &stories[i]).collect();
            (metric.compute)(&some)
        };
        let interval = match metric.resampled {
            true => interval(stories.len(), DRAWS, seed, drawn),
            false => None,
        };
        Some((value, interval))
    };
    let distance = |some: &[&StoryScore]| {
        let reference = reference.as_ref()?;
        let features = some.iter().flat_map(|story| &story.panels);
        let gaussian = Gaussian::of(features.map(|p| p.features.as_slice()))?;
        Some(reference.distance(&gaussian))
    };
    let frechet = distance(&all).map(|whole| {
        let drawn = |indices: &[usize]| {
            let some: Vec<&StoryScore> = indices.iter().map(|&i| &stories[i]).collect();
            distance(&some)
        };
        (
            whole,
            centred(whole, stories.len(), FRECHET_DRAWS, seed, drawn),
        )
    });
    StoryRow {
        name: row.name.clone(),
        pictures: stories.iter().map(|story| story.panels.len()).sum(),
        texts: stories.iter().map(|story| story.texts.len()).sum(),
        of_pictures: OF_PICTURES.iter().map(measure).collect(),
        frechet,
        of_texts: OF_TEXTS.iter().map(measure).collect(),
    }
}
