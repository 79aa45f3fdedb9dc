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

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use image::{RgbImage, RgbaImage, buffer::ConvertBuffer};

use super::EvalError;
use super::bootstrap::{Interval, centred, interval};
use super::frechet::{Gaussian, ReferenceGaussian};
use super::text::{TextScore, of_the_cast};
use crate::judges::Recogniser;
use crate::judges::contrastive::{Contrastive, dot};
use crate::pipeline::ContextPanel;
use crate::story::{PanelId, Settings};
use crate::storyworld::{Renderer, Scene, Split, Tale, description};

use ledger::Ledger;
pub use method::{Continuation, MethodContext, StoryMethod, StoryPosition};
pub use rows::{BUILT_IN, ContextPart, MethodKind, RowConfig, read as read_rows};
pub use score::{Metric, OF_PICTURES, OF_TEXTS, PanelScore, StoryScore, Unit};
pub use table::{FRECHET, StoriesReport, StoryRow};

/// Draws of stories for an interval; fewer for the Fréchet distance, which is slow.
const DRAWS: usize = 1000;
const FRECHET_DRAWS: usize = 100;
/// Scenes of real pictures are from stories with seeds from here on, which no row tells.
const REAL_SEEDS: u64 = 1 << 32;

/// Settings of [`compare`].
#[derive(Clone, Debug)]
pub struct StoryOptions {
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

/// The judges of pictures.
pub struct Judges {
    /// Says what a picture shows.
    pub recogniser: Recogniser,
    /// Without it there is no text–picture similarity.
    pub contrastive: Option<Rc<Contrastive>>,
}

/// A story with its pictures.
struct PicturedStory {
    panels: Vec<(Scene, String)>,
    context: Vec<ContextPanel>,
    seed: u64,
}

impl PicturedStory {
    fn new(seed: u64, renderer: &Renderer) -> Self {
        let panels = Tale::referring(seed, Split::HeldOut).panels;
        let context = (0..)
            .zip(&panels)
            .map(|(i, (scene, text))| {
                let picture: RgbaImage = gill::draw(renderer, scene).convert();
                ContextPanel {
                    id: PanelId(i),
                    text: text.clone(),
                    picture: Some(Arc::new(picture)),
                }
            })
            .collect();
        Self {
            panels,
            context,
            seed,
        }
    }

    /// Panel `at`, with those before it.
    fn moment(&self, at: usize) -> StoryPosition<'_> {
        StoryPosition {
            context: &self.context[..at],
            panels: &self.panels[..=at],
            // Panels differ in their seeds, and rows do not.
            seed: self.seed.wrapping_mul(64).wrapping_add(at as u64),
        }
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
    judges: &Judges,
    options: &StoryOptions,
    progress: &mut dyn FnMut(&str),
) -> Result<StoriesReport, EvalError> {
    if options.stories == 0 {
        return Err(EvalError::NoStories);
    }
    let renderer = Renderer::new(method::SIZE);
    let mut report = StoriesReport::new(options, judges.contrastive.is_some());
    report.met_before = met_before(options);
    progress("real scenes");
    let reference = real(judges, &renderer, options.scenes)?;
    for row in rows {
        let stories = match score_stories(row, workshop, judges, options, &renderer, progress) {
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
fn met_before(options: &StoryOptions) -> Option<f64> {
    let (mut named, mut known) = (0, 0);
    for i in 0..options.stories as u64 {
        let panels = Tale::referring(options.seed.wrapping_add(i), Split::HeldOut).panels;
        let texts: Vec<&str> = panels.iter().map(|(_, text)| text.as_str()).collect();
        for at in 1..texts.len() {
            let (all, some) = of_the_cast(texts[at], &texts[..at]);
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
    judges: &Judges,
    options: &StoryOptions,
    renderer: &Renderer,
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
        let story = PicturedStory::new(options.seed.wrapping_add(i as u64), renderer);
        let (score, last) = judge(teller.as_mut(), judges, &story, row.writes)?;
        if let (Some(dir), Some(last)) = (&options.keep, last) {
            let number = story.panels.len() - 1;
            keep::write(dir, &row.name, i, &story.context[..number], last)?;
        }
        if let Some(ledger) = &mut ledger {
            ledger.add(&score)?;
        }
        stories.push(score);
    }
    Ok(stories)
}

/// Features of real scenes, as a Gaussian; `None` with fewer than two.
fn real(
    judges: &Judges,
    renderer: &Renderer,
    count: usize,
) -> Result<Option<ReferenceGaussian>, EvalError> {
    let scenes = (REAL_SEEDS..)
        .flat_map(|seed| Tale::referring(seed, Split::HeldOut).panels)
        .map(|(scene, _)| scene)
        .take(count);
    let mut features = Vec::with_capacity(count);
    let mut pictures: Vec<RgbImage> = Vec::new();
    for scene in scenes {
        pictures.push(gill::draw(renderer, &scene));
        if pictures.len() == 32 {
            features.extend(judges.recogniser.features(&pictures)?);
            pictures.clear();
        }
    }
    features.extend(judges.recogniser.features(&pictures)?);
    let gaussian = Gaussian::of(features.iter().map(Vec::as_slice));
    Ok(gaussian.map(ReferenceGaussian::new))
}

/// One story told by `teller`, its texts too if it `writes`, and its last panel as the teller told
/// it by itself.
fn judge(
    teller: &mut dyn StoryMethod,
    judges: &Judges,
    picture_story: &PicturedStory,
    writes: bool,
) -> Result<(StoryScore, Option<Continuation>), EvalError> {
    let mut story = StoryScore::default();
    let texts: Vec<&str> = picture_story
        .panels
        .iter()
        .map(|(_, text)| text.as_str())
        .collect();
    for at in 1..picture_story.panels.len() {
        let moment = picture_story.moment(at);
        let (scene, sentence) = &picture_story.panels[at];
        let started = Instant::now();
        let picture = teller.draw(&moment)?;
        let seconds = started.elapsed().as_secs_f64();
        let pictures = std::slice::from_ref(&picture);
        let seen = judges.recogniser.recognise(pictures)?;
        let mut score = PanelScore::new(scene, sentence, &seen[0]);
        score.seconds = seconds;
        score.features = judges.recogniser.features(pictures)?.remove(0);
        if let Some(judge) = &judges.contrastive {
            // The sentence alone leaves open what should be seen: the whole scene in words.
            let wanted = judge.embed_text(&description(scene))?;
            score.similarity = Some(dot(&judge.embed_pictures(pictures)?[0], &wanted));
        }
        story.panels.push(score);
        if !writes {
            continue;
        }
        if let Some(text) = teller.write(&moment)? {
            story
                .texts
                .push(TextScore::new(&text, sentence, &texts[..at]));
        }
        if let Some(all) = teller.log_probabilities(&moment)? {
            story.likelihood.0 += all.iter().sum::<f64>();
            story.likelihood.1 += all.len();
        }
    }
    let last = match writes {
        true => teller.go_on(&picture_story.moment(picture_story.panels.len() - 1))?,
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
        let features = some.iter().flat_map(|story| &story.panels);
        let gaussian = Gaussian::of(features.map(|p| p.features.as_slice()))?;
        Some(reference.as_ref()?.distance(&gaussian))
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

/// Opens the judges of the built-in model in `models`; the contrastive one may be missing.
///
/// # Errors
/// A judge that can't be read.
pub fn judges(models: &Path) -> Result<Judges, EvalError> {
    let device = candle_core::Device::Cpu;
    let sprout = models.join(crate::weights::DEFAULT_MODEL);
    let contrastive = sprout.join("contrastive");
    Ok(Judges {
        recogniser: Recogniser::load(&sprout.join("recogniser"), &device)?,
        contrastive: match contrastive.exists() {
            true => Some(Rc::new(Contrastive::load(&contrastive, &device)?)),
            false => None,
        },
    })
}
