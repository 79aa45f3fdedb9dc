//! `vokenboard eval faithfulness`

use std::path::PathBuf;

use clap::Args;
use indicatif::ProgressBar;

use super::super::output::{ForceArgs, write_json};
use crate::diffusion::{DenoisingOptions, TextToImageModel};
use crate::eval::{self, FaithfulnessOptions, GUIDANCES, Recogniser};
use crate::weights;

#[derive(Debug, Args)]
pub(super) struct FaithfulnessArgs {
    /// Write the report here as well
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// The model folder [default: the built-in Sprout]
    #[arg(long, value_name = "DIR")]
    pub model: Option<PathBuf>,
    /// Captions to draw, a third each with one, two and three subjects
    #[arg(long, value_name = "N", default_value_t = 120)]
    pub samples: usize,
    /// The same number judges the same captions
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Steps of each picture [default: the model's usual number]
    #[arg(long, value_name = "N")]
    pub steps: Option<u32>,
    /// Guidance scales to judge
    #[arg(long, value_name = "X,..", value_delimiter = ',', default_values_t = GUIDANCES)]
    pub guidance: Vec<f32>,
    /// Write a PNG of 64 generated pictures with their captions
    #[arg(long, value_name = "FILE")]
    pub grid: Option<PathBuf>,
    #[command(flatten)]
    force: ForceArgs,
}

/// Judges the model and prints a table.
///
/// # Errors
/// A model or recogniser that can't be read, or a file that can't be written.
pub(super) fn run(args: &FaithfulnessArgs) -> anyhow::Result<()> {
    for file in [&args.json, &args.grid] {
        args.force.check(file.as_deref())?;
    }
    let built_in = || -> anyhow::Result<PathBuf> {
        Ok(weights::models_dir(None)?.join(weights::STORYWORLD_MODEL))
    };
    let dir = match &args.model {
        Some(dir) => dir.clone(),
        None => built_in()?,
    };
    // A model in training has no recogniser of its own: the one that comes with us knows the same
    // storyworld.
    let own = dir.join("recogniser");
    let recogniser = if own.exists() {
        own
    } else {
        built_in()?.join("recogniser")
    };
    let device = candle_core::Device::Cpu;
    let recogniser = Recogniser::load(&recogniser, &device)?;
    let model = TextToImageModel::load(&dir, &device)?;

    let mut how = DenoisingOptions::default();
    if let Some(steps) = args.steps {
        how.steps = steps as usize;
    }
    let options = FaithfulnessOptions {
        samples: args.samples,
        seed: args.seed,
        guidances: args.guidance.clone(),
        how,
    };
    let bar = ProgressBar::new_spinner();
    let report = eval::judge(
        &model,
        &recogniser,
        &options,
        args.grid.as_deref(),
        &mut |what| {
            bar.set_message(what.to_owned());
            bar.tick();
        },
    )?;
    bar.finish_and_clear();
    print!("{}", report.table());
    write_json(args.json.as_deref(), &report.json())
}
