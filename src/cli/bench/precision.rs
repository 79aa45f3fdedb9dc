//! How far pictures in bf16 are from those in f32, and how much sooner they are there.

use std::ops::ControlFlow;
use std::time::Instant;

use anyhow::bail;
use clap::Args;
use image::RgbaImage;

use super::picture::{brief, painter_and_settings};
use super::{BenchRow, print_rows};
use crate::cli::options::{ModelArgs, SettingsArgs};
use crate::cli::output::JsonArgs;
use crate::eval::{mean_square_error, psnr};
use crate::pipeline::painter::{Brief, Painter};
use crate::pipeline::{PipelineError, Progress, frame};

/// Words that every painter knows, Sprout among them.
const PROMPTS: [&str; 10] = [
    "a fox in the forest",
    "an owl on the mountain at night",
    "a rabbit and a bear on the beach",
    "a dragon in the city",
    "a mouse in the kitchen",
    "a robot on the moon",
    "a cat in the garden at sunset",
    "a bear by the river in the rain",
    "a girl in the village in the snow",
    "a lion in the desert",
];

#[derive(Debug, Args)]
pub struct PrecisionBench {
    /// Pictures, each drawn twice
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..))]
    pictures: u16,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    settings: SettingsArgs,
    #[command(flatten)]
    pub(super) json: JsonArgs,
}

pub(super) fn run(args: &PrecisionBench) -> anyhow::Result<()> {
    let (mut painter, settings) = painter_and_settings(&args.model, &args.settings)?;
    let about = painter.describe().clone();
    if !about.takes.bf16 {
        bail!(
            "the model {} is not drawn with in bf16 on this machine; choose another one",
            about.model
        );
    }
    let mut drawn: [Vec<RgbaImage>; 2] = Default::default();
    let mut seconds = [0.0; 2];
    for (way, bf16) in [false, true].into_iter().enumerate() {
        // Loading is not counted.
        draw(
            painter.as_mut(),
            Brief {
                bf16,
                steps: 1,
                ..brief(&settings, about.takes.size)
            },
        )?;
        let prompts = PROMPTS.iter().cycle().zip(0..args.pictures);
        for (prompt, number) in prompts {
            let brief = Brief {
                prompt: (*prompt).to_owned(),
                seed: settings.seed.wrapping_add(u64::from(number)),
                bf16,
                ..brief(&settings, about.takes.size)
            };
            let started = Instant::now();
            drawn[way].push(draw(painter.as_mut(), brief)?);
            seconds[way] += started.elapsed().as_secs_f64();
        }
    }
    let [whole, rounded] = &drawn;
    let apart = whole.iter().zip(rounded).map(|(a, b)| {
        let error = mean_square_error(a.as_raw(), b.as_raw()).unwrap_or(f64::MAX);
        // Alike byte for byte has no end.
        psnr(error).unwrap_or(f64::INFINITY)
    });
    let mut apart: Vec<f64> = apart.collect();
    apart.sort_by(f64::total_cmp);
    let count = f64::from(args.pictures);
    let rows: Vec<BenchRow> = vec![
        ("PSNR, least".to_owned(), apart[0], "dB"),
        ("PSNR, median".to_owned(), apart[apart.len() / 2], "dB"),
        ("a picture in f32".to_owned(), seconds[0] / count, "s"),
        ("a picture in bf16".to_owned(), seconds[1] / count, "s"),
    ];
    println!(
        "{} on {}, {} pictures of {} steps with {}",
        about.model, about.device, args.pictures, settings.steps, settings.scheduler
    );
    print_rows(&rows, &args.json)
}

fn draw(painter: &mut dyn Painter, brief: Brief) -> anyhow::Result<RgbaImage> {
    let brief = frame::complete(painter, brief, None)?;
    let mut go_on = |_: Progress| ControlFlow::Continue(());
    let drawn = frame::draw(painter, &brief, None, &mut go_on)?;
    let drawn = drawn.ok_or_else(|| PipelineError::Request("nothing was drawn".into()))?;
    Ok(drawn.picture)
}
