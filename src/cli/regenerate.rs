//! `vokenboard regenerate`

use std::path::PathBuf;
use std::time::Instant;

use anyhow::bail;
use clap::Args;
use serde_json::json;

use super::board::Board;
use super::options::{ModelArgs, SettingsArgs};
use super::report::{PanelDone, Reporter, plain};
use super::teller::Teller;
use crate::engine::Make;
use crate::pipeline::new_seed;

#[derive(Debug, Args)]
pub struct RegenerateArgs {
    /// The project folder
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// The panel, from 1
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    panel: u32,
    /// Rewrite the text; the picture stays
    #[arg(long, conflicts_with = "image")]
    text: bool,
    /// Draw another picture of the text (what is done without --text too)
    #[arg(long)]
    image: bool,
    #[command(flatten)]
    settings: SettingsArgs,
    #[command(flatten)]
    model: ModelArgs,
    /// One JSON object per event on stdout
    #[arg(long)]
    json: bool,
}

pub fn run(args: &RegenerateArgs) -> anyhow::Result<()> {
    let mut board = Board::open(&args.dir)?;
    let number = args.panel as usize;
    if number > board.len() {
        bail!(
            "{} has {} panels, so there is no panel {number}; give --panel from 1 to {}",
            args.dir.display(),
            board.len(),
            board.len()
        );
    }
    let at = number - 1;
    let make = if args.text { Make::Text } else { Make::Picture };
    let mut teller = Teller::start(&args.model, Reporter::new(args.json, 1))?;
    let before = board.settings(at, make);
    let fresh = before.is_none() || !args.settings.changes_settings();
    let mut base = before.unwrap_or_else(|| teller.description.default_settings.clone());
    if fresh {
        // With nothing changed, the same seed would give the same take again.
        base.seed = new_seed();
    }
    let settings = args.settings.over(base);
    teller.reporter.ready(&teller.description, settings.seed);
    let started = Instant::now();
    let output = teller.make(number, board.request(at, make, settings.clone()))?;
    board.add_takes(at, output)?;
    board.save()?;
    teller.reporter.panel_done(&PanelDone {
        panel: number,
        text: board.text(at),
        image: board.image(at),
        seed: settings.seed,
        seconds: started.elapsed().as_secs_f32(),
    });
    let what = if args.text { "text" } else { "picture" };
    teller.reporter.done(
        &format!("added a {what} to panel {number} of {}", args.dir.display()),
        &json!({"project": plain(&args.dir)}),
    );
    Ok(())
}
