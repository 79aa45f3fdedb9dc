//! `vokenboard eval compositions`

use anyhow::bail;
use clap::Args;
use indicatif::ProgressBar;
use serde_json::json;

use super::super::options::ModelArgs;
use super::super::output::JsonArgs;
use super::drawings::share_text;
use crate::eval::{Accuracy, judge_compositions};

#[derive(Debug, Args)]
pub(super) struct CompositionsArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Held-out stories
    #[arg(long, value_name = "N", default_value_t = 100)]
    stories: usize,
    /// The same number tells the same stories
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    seed: u64,
    #[command(flatten)]
    json: JsonArgs,
}

/// Asks for the prompts of held-out stories and prints a table.
///
/// # Errors
/// A model that can't be read or draws no compositions, or a file that can't be written.
pub(super) fn run(args: &CompositionsArgs) -> anyhow::Result<()> {
    args.json.check()?;
    if args.stories == 0 {
        bail!("there is nothing to judge; ask for at least 1 with --stories");
    }
    let mut pipeline = args.model.loader()(&mut |_| {})?;
    let about = pipeline.describe().clone();
    let bar = ProgressBar::new(args.stories as u64);
    let progress = &mut |story| bar.set_position(story as u64);
    let report = judge_compositions(pipeline.as_mut(), args.stories, args.seed, progress)?;
    bar.finish_and_clear();
    println!(
        "{} panels of {} held-out stories by {} ({}), with 95 % intervals (Wilson):",
        report.panels, args.stories, about.model, about.pipeline
    );
    let share = |right, of| Accuracy { right, of };
    for (what, share) in [
        (
            "subjects of the panel that are shown",
            share(report.found, report.wanted),
        ),
        (
            "subjects shown that are of the panel",
            share(report.found, report.shown),
        ),
        (
            "everybody, and nobody else",
            share(report.everybody, report.panels),
        ),
        (
            "of these in order from left to right",
            share(report.ordered, report.everybody),
        ),
        ("place", share(report.place, report.panels)),
        ("time", share(report.time, report.panels)),
        ("weather", share(report.weather, report.panels)),
        (
            "everybody, place, time and weather",
            share(report.all, report.panels),
        ),
    ] {
        println!("{what:<40} {}", share_text(share));
    }
    println!(
        "{:<40} {:.2} ({} tokens)",
        "perplexity of the texts",
        report.perplexity(),
        report.tokens
    );
    args.json.write(&json!({
        "model": about.model, "pipeline": about.pipeline, "stories": args.stories,
        "seed": args.seed, "report": report, "perplexity": report.perplexity(),
    }))
}
