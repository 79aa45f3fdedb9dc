//! `vokenboard regenerate`

use std::path::PathBuf;
use std::time::Instant;

use anyhow::bail;
use clap::Args;
use serde_json::json;

use super::board::Board;
use super::frame_args::FrameArgs;
use super::options::{ModelArgs, SettingsArgs};
use super::report::{PanelDone, Reporter, plain};
use super::teller::EngineSession;
use super::words::WordsArgs;
use crate::engine::{Make, Request};
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
    /// With --text: how to change the text that is there, such as "shorter", "spookier" or "in rhyme"
    #[arg(long, value_name = "WORDS", requires = "text")]
    instruction: Option<String>,
    /// With --text: how many takes to write, 1 to 3
    #[arg(long, value_name = "N", requires = "text", value_parser = clap::value_parser!(u32).range(1..=3))]
    candidates: Option<u32>,
    /// Draw another picture of the text (what is done without --text too)
    #[arg(long)]
    image: bool,
    #[command(flatten)]
    words: WordsArgs,
    #[command(flatten)]
    settings: SettingsArgs,
    #[command(flatten)]
    frame: FrameArgs,
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
    if args.text && args.frame.is_given() {
        bail!("--text leaves the picture as it is; leave out what is said of the picture");
    }
    board.check_writable()?;
    let at = number - 1;
    let make = if args.text { Make::Text } else { Make::Picture };
    let mut model = args.model.clone();
    if make == Make::Picture {
        // What drew it draws it again.
        model.model = model.model.or_else(|| board.drawn_by(at));
    }
    let mut teller = EngineSession::start(&model, Reporter::new(args.json, 1))?;
    args.words.check(&teller.description.writer)?;
    let before = board.settings(at, make);
    let changed =
        args.settings.changes_settings() || args.words.changes_settings() || args.frame.is_given();
    let fresh = before.is_none() || !changed;
    let mut base = before.unwrap_or_else(|| teller.description.default_settings.clone());
    if fresh {
        // With nothing changed, the same seed would give the same take again.
        base.seed = new_seed();
    }
    let takes = &teller.description.takes;
    let models = args.model.models.as_deref();
    if args.frame.reshapes() {
        base.size = None;
    }
    let settings = args.words.over(args.settings.over(base, takes, models)?);
    let settings = args.frame.over(&board, at, takes, models, settings)?;
    if let Some(direction) = &args.words.direction {
        board.set_panel_direction(at, direction)?;
    }
    teller.reporter.ready(&teller.description, settings.seed);
    let candidates = args.candidates.unwrap_or(1);
    for settings in args.frame.all(settings) {
        let started = Instant::now();
        let mut request = board.request(at, make, settings.clone());
        request = match &args.instruction {
            Some(instruction) => request.rewriting(board.text(at), instruction, candidates),
            None => Request {
                candidates,
                ..request
            },
        };
        let output = teller.make(number, request)?;
        board.add_takes(at, output)?;
        board.save_made()?;
        teller.reporter.panel_done(&PanelDone {
            panel: number,
            text: board.text(at),
            image: board.image(at),
            seed: settings.seed,
            seconds: started.elapsed().as_secs_f32(),
        });
    }
    let what = match (args.text, candidates) {
        (true, 1) => "a text".to_string(),
        (true, many) => format!("{many} texts"),
        (false, _) => match args.frame.variations {
            Some(many) if many > 1 => format!("{many} pictures"),
            _ => "a picture".to_string(),
        },
    };
    teller.reporter.done(
        &format!("added {what} to panel {number} of {}", args.dir.display()),
        &json!({"project": plain(&args.dir)}),
    );
    Ok(())
}
