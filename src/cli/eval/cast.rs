//! `vokenboard eval cast`

use std::path::PathBuf;

use clap::Args;
use indicatif::ProgressBar;

use super::super::options::ModelArgs;
use super::super::output::JsonArgs;
use crate::eval::{self, CastOptions, IdentityEncoder, Recogniser, Share};
use crate::weights::{self, STORYWORLD_MODEL};

#[derive(Debug, Args)]
pub(super) struct CastArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Stories of five panels, each told without the cast and with it
    #[arg(long, value_name = "N", default_value_t = 60)]
    stories: usize,
    /// The same number tells the same stories
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Steps of each picture [default: the model's usual number]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=200))]
    steps: Option<u32>,
    /// Keep the stories as projects in this folder
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    #[command(flatten)]
    json: JsonArgs,
}

/// Tells the stories, judges them and prints a table.
///
/// # Errors
/// A model or judge that can't be read, or a file that can't be written.
pub(super) fn run(args: &CastArgs) -> anyhow::Result<()> {
    args.json.check()?;
    let own = weights::models_dir(args.model.models.as_deref())?.join(STORYWORLD_MODEL);
    let recogniser = Recogniser::load(&own.join("recogniser"), &candle_core::Device::Cpu)?;
    let eye = IdentityEncoder::tower(&own.join("voken"))?;
    let mut pipeline = args.model.loader()(&mut |_| {})?;
    let about = pipeline.describe().clone();
    let mut settings = about.default_settings.clone();
    settings.steps = args.steps.unwrap_or(settings.steps);
    let options = CastOptions {
        stories: args.stories,
        seed: args.seed,
        settings,
        keep: args.keep.clone(),
    };
    let bar = ProgressBar::new_spinner();
    let rows = eval::judge_cast(
        pipeline.as_mut(),
        &recogniser,
        &eye,
        &options,
        &mut |what| {
            bar.set_message(what.to_owned());
            bar.tick();
        },
    )?;
    bar.finish_and_clear();
    println!(
        "{} stories of five panels by {}, with 95 % intervals (bootstrap over stories):",
        args.stories, about.model
    );
    println!(
        "{:<18} {:>30} {:>30} {:>8} {:>8}",
        "", "characters found", "found in both of two panels", "shared", "apart"
    );
    for row in &rows {
        let name = if row.with_cast {
            "with the cast"
        } else {
            "without the cast"
        };
        let [shared, apart] = row
            .alike
            .map(|cosine| cosine.map_or("-".to_owned(), |c| format!("{c:.3}")));
        println!(
            "{name:<18} {:>30} {:>30} {shared:>8} {apart:>8}",
            share_text(&row.shown),
            share_text(&row.kept)
        );
    }
    println!(
        "shared, apart: centred cosine of pictures whose panels share a character, and of others, by the vision tower of {STORYWORLD_MODEL}"
    );
    args.json.write(&serde_json::json!({
        "model": about.model, "stories": args.stories, "seed": args.seed, "rows": rows,
    }))
}

/// `91.2 % (31 of 34; 77 to 97)`
fn share_text(share: &Share) -> String {
    let Some(rate) = share.counted.rate() else {
        return "-".to_owned();
    };
    let (right, of) = (share.counted.right, share.counted.of);
    let ends = share.interval.map_or(String::new(), |(low, high)| {
        format!("; {:.0} to {:.0}", 100.0 * low, 100.0 * high)
    });
    format!("{:.1} % ({right} of {of}{ends})", 100.0 * rate)
}
