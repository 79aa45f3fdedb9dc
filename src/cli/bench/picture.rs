//! Whole pictures: from words, from a picture, in a region, with a reference.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use clap::{Args, ValueEnum};
use image::{Rgba, RgbaImage};

use super::{BenchRow, peak_memory, print_rows};
use crate::catalogue;
use crate::cli::options::{ModelArgs, SettingsArgs};
use crate::cli::output::JsonArgs;
use crate::pipeline::painter::{Brief, Capabilities, GivenReference, Painter, load};
use crate::pipeline::{PipelineError, Progress, frame};
use crate::story::{ImageId, Reference, Region, Settings, Size};
use crate::weights::{self, DEFAULT_MODEL};

/// What a picture is drawn from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Words alone
    Words,
    /// A picture at strength 0.5
    From,
    /// A mask of a quarter of a picture, at full resolution
    Region,
    /// Words and a reference picture
    Reference,
}

impl Mode {
    fn is_taken(self, takes: &Capabilities) -> bool {
        match self {
            Mode::Words => true,
            Mode::From => takes.init,
            Mode::Region => takes.mask,
            Mode::Reference => takes.references > 0 && !takes.sees,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Mode::Words => "words",
            Mode::From => "from a picture, strength 0.5",
            Mode::Region => "a region",
            Mode::Reference => "words and a reference",
        }
    }

    /// `brief` with what this draws from.
    fn of(self, brief: Brief) -> Brief {
        let Size { width, height } = brief.size;
        let picture = Arc::new(RgbaImage::from_fn(width, height, |x, y| {
            Rgba([(x / 3) as u8, (y / 2) as u8, (x ^ y) as u8, 255])
        }));
        let quarter = RgbaImage::from_fn(width, height, |x, y| {
            let grey = 255 * u8::from(x < width / 2 && y < height / 2);
            Rgba([grey, grey, grey, 255])
        });
        match self {
            Mode::Words => brief,
            Mode::From => Brief {
                init: Some((picture, 0.5)),
                ..brief
            },
            Mode::Region => Brief {
                init: Some((picture, 1.0)),
                mask: Some(Arc::new(quarter)),
                region: Some(Region {
                    padding: 32,
                    feather: 8,
                }),
                ..brief
            },
            Mode::Reference => Brief {
                references: vec![GivenReference {
                    how: Reference {
                        image: ImageId::of(&picture),
                        strength: 0.5,
                        start: 0.0,
                        end: 1.0,
                        prompt: PROMPT.to_owned(),
                        adapter: None,
                        encoder: None,
                        member: None,
                    },
                    whole: picture.clone(),
                    picture,
                }],
                ..brief
            },
        }
    }
}

const PROMPT: &str = "a fox with a lantern in a snowy forest";

#[derive(Debug, Args)]
pub struct PictureBench {
    /// Only this, so that the memory is its own [default: all that the model takes]
    #[arg(long, value_enum)]
    mode: Option<Mode>,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    settings: SettingsArgs,
    #[command(flatten)]
    pub(super) json: JsonArgs,
}

/// The painter that `model` names, and the settings that it takes from `chosen`.
///
/// # Errors
/// A model that can't be found or loaded, or a setting that it does not take.
pub(super) fn painter_and_settings(
    model: &ModelArgs,
    chosen: &SettingsArgs,
) -> anyhow::Result<(Box<dyn Painter>, Settings)> {
    let place = weights::select_device(model.device)?;
    let models = weights::models_dir(model.models.as_deref())?;
    let name = model.model.as_deref().unwrap_or(DEFAULT_MODEL);
    let painter = load(&catalogue::find(&models, name)?, &place, &mut |_| {})?;
    let about = painter.describe();
    let usual = about.default_settings.clone();
    let settings = chosen.apply_to(usual, &about.takes, model.models.as_deref())?;
    Ok((painter, settings))
}

pub(super) fn picture(args: &PictureBench) -> anyhow::Result<()> {
    let (mut painter, settings) = painter_and_settings(&args.model, &args.settings)?;
    let about = painter.describe().clone();
    let all = Mode::value_variants().iter().copied();
    let modes = all.filter(|mode| args.mode.is_none_or(|only| only == *mode));
    let modes: Vec<Mode> = modes.filter(|mode| mode.is_taken(&about.takes)).collect();
    if modes.is_empty() {
        anyhow::bail!(
            "the model {} can't draw that; leave --mode out",
            about.model
        );
    }
    let mut rows: Vec<BenchRow> = Vec::new();
    for mode in modes {
        let brief = mode.of(brief(&settings, about.takes.size));
        let chosen = settings.size;
        let started = Instant::now();
        let brief = frame::complete(painter.as_mut(), brief, chosen)?;
        let mut steps = Vec::new();
        let mut sink = |progress| {
            if let Progress::Step { .. } = progress {
                steps.push(started.elapsed().as_secs_f64());
            }
            ControlFlow::Continue(())
        };
        frame::draw(painter.as_mut(), &brief, chosen, &mut sink)?
            .ok_or_else(|| PipelineError::Request("nothing was drawn".into()))?;
        let whole = started.elapsed().as_secs_f64();
        let mut each: Vec<f64> = steps.windows(2).map(|two| two[1] - two[0]).collect();
        each.sort_by(f64::total_cmp);
        let name = mode.name();
        rows.push((format!("{name}, whole picture"), whole, "s"));
        if let Some(median) = each.get(each.len() / 2) {
            rows.push((format!("{name}, step, median"), *median, "s"));
            rows.push((format!("{name}, step, shortest"), each[0], "s"));
        }
        let last = steps.last().copied().unwrap_or_default();
        rows.push((format!("{name}, after the steps"), whole - last, "s"));
    }
    rows.push((
        "peak memory".to_owned(),
        peak_memory().unwrap_or(0.0),
        "MiB",
    ));
    let Size { width, height } = settings.size.unwrap_or(about.takes.size);
    println!(
        "{} on {}, {width}x{height} pixels, {} steps with {}",
        about.model, about.device, settings.steps, settings.scheduler
    );
    print_rows(&rows, &args.json)
}

pub(super) fn brief(settings: &Settings, usual: Size) -> Brief {
    Brief {
        prompt: PROMPT.to_owned(),
        size: settings.size.unwrap_or(usual),
        seed: settings.seed,
        guidance: settings.guidance,
        steps: settings.steps,
        scheduler: settings.scheduler.clone(),
        clip_skip: settings.clip_skip,
        loras: settings.loras.clone(),
        vae: settings.vae.clone(),
        prediction: settings.prediction.clone(),
        bf16: settings.bf16,
        ..Brief::default()
    }
}
