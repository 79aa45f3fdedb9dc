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
use super::session::{EngineSession, PanelStarted};
use super::words::WordsArgs;
use crate::engine::{JobId, Make, Output, Request};
use crate::pipeline::new_seed;
use crate::story::Settings;

#[derive(Debug, Args)]
pub struct RegenerateArgs {
    /// The project folder
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// The panel, from 1
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..), required_unless_present = "all")]
    panel: Option<u32>,
    /// Draw another picture of every panel that has a text; engines that have the same model share them
    #[arg(long, conflicts_with_all = ["panel", "text"])]
    all: bool,
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

pub(super) fn run(args: &RegenerateArgs) -> anyhow::Result<()> {
    let mut board = Board::open(&args.dir)?;
    let panels = panels(args, &board)?;
    let Some(&first) = panels.first() else {
        bail!(
            "{} has no panel with a text to draw; write one first",
            args.dir.display()
        );
    };
    if args.text && args.frame.is_given() {
        bail!("--text leaves the picture as it is; leave out what is said of the picture");
    }
    board.check_writable()?;
    let make = if args.text { Make::Text } else { Make::Picture };
    let mut model = args.model.clone();
    if make == Make::Picture {
        // What drew it draws it again.
        let drawn_by = panels.iter().find_map(|at| board.drawn_by(*at));
        model.model = model.model.or(drawn_by);
    }
    let count = panels.len() * usize::from(args.frame.variations.unwrap_or(1));
    let mut session = EngineSession::start(&model, Reporter::new(args.json, count))?;
    args.words.check(&session.description.writer)?;
    let mut orders = Vec::new();
    for at in panels {
        let settings = settings(args, &board, &session, at, make)?;
        let all = args.frame.all(settings).into_iter();
        orders.extend(all.map(|settings| (at, settings)));
    }
    if let Some(direction) = &args.words.direction {
        for at in orders.iter().map(|(at, _)| *at) {
            board.set_panel_direction(at, direction)?;
        }
    }
    session
        .reporter
        .ready(&session.description, orders[0].1.seed);
    let candidates = args.candidates.unwrap_or(1);
    let made = orders.len();
    let mut redrawing = RegenerateRun {
        session,
        board,
        elsewhere: Vec::new(),
    };
    for (at, settings) in orders {
        redrawing.panel(args, at, make, settings, candidates)?;
    }
    redrawing.take_in_all()?;
    let RegenerateRun { mut session, .. } = redrawing;
    let dir = args.dir.display();
    let what = match (args.text, candidates, made) {
        (true, 1, _) => "a text".to_string(),
        (true, many, _) => format!("{many} texts"),
        (false, _, 1) => "a picture".to_string(),
        (false, _, many) => format!("{many} pictures"),
    };
    let sentence = match args.all {
        true => format!("added {what} to the panels of {dir}"),
        false => format!("added {what} to panel {} of {dir}", first + 1),
    };
    session
        .reporter
        .done(&sentence, &json!({"project": plain(&args.dir)}));
    Ok(())
}

/// The places of the panels that are meant, from 0.
fn panels(args: &RegenerateArgs, board: &Board) -> anyhow::Result<Vec<usize>> {
    let Some(number) = args.panel else {
        let has_text = |at: &usize| !board.text(*at).trim().is_empty();
        return Ok((0..board.len()).filter(has_text).collect());
    };
    let number = number as usize;
    if number > board.len() {
        bail!(
            "{} has {} panels, so there is no panel {number}; give --panel from 1 to {}",
            args.dir.display(),
            board.len(),
            board.len()
        );
    }
    Ok(vec![number - 1])
}

/// The settings of the panel's take before, with what was given; a new seed where nothing was, with
/// which the same take would come again.
fn settings(
    args: &RegenerateArgs,
    board: &Board,
    teller: &EngineSession,
    at: usize,
    make: Make,
) -> anyhow::Result<Settings> {
    let about = &teller.description;
    let before = board.settings(at, make);
    let changed =
        args.settings.changes_settings() || args.words.changes_settings() || args.frame.is_given();
    let fresh = before.is_none() || !changed;
    let mut base = match before {
        Some(before) if board.drawn_by(at).is_some_and(|model| model != about.model) => {
            let (settings, changed) = about.takes.adapt(before, &about.default_settings);
            if !changed.is_empty() {
                teller.reporter.adapted(&about.model, &changed);
            }
            settings
        }
        Some(before) => before,
        None => about.default_settings.clone(),
    };
    if fresh {
        base.seed = new_seed();
    }
    let takes = &about.takes;
    let models = args.model.models.as_deref();
    if args.frame.reshapes() {
        base.size = None;
    }
    let settings = args
        .words
        .apply_to(args.settings.apply_to(base, takes, models)?);
    args.frame.apply_to(board, at, takes, models, settings)
}

/// A board that is given new takes.
struct RegenerateRun {
    session: EngineSession,
    board: Board,
    elsewhere: Vec<PendingTake>,
}

/// A picture that is drawn elsewhere.
struct PendingTake {
    job: JobId,
    at: usize,
    seed: u64,
    started: Instant,
}

impl RegenerateRun {
    fn panel(
        &mut self,
        args: &RegenerateArgs,
        at: usize,
        make: Make,
        settings: Settings,
        candidates: u32,
    ) -> anyhow::Result<()> {
        while !self.session.has_room() && self.take_in()? {}
        let (seed, started) = (settings.seed, Instant::now());
        let mut request = self.board.request(at, make, settings);
        request = match &args.instruction {
            Some(instruction) => request.rewriting(self.board.text(at), instruction, candidates),
            None => Request {
                candidates,
                ..request
            },
        };
        match self.session.begin(at + 1, request) {
            Ok(PanelStarted::Done(output)) => self.keep(at, *output, seed, started),
            Ok(PanelStarted::Elsewhere(job, _)) => {
                self.elsewhere.push(PendingTake {
                    job,
                    at,
                    seed,
                    started,
                });
                Ok(())
            }
            Err(error) => {
                // What others draw is not lost for it.
                self.take_in_all()?;
                Err(error)
            }
        }
    }

    /// Waits for a picture from elsewhere; `false` where none is to come.
    fn take_in(&mut self) -> anyhow::Result<bool> {
        let Some((job, output)) = self.session.next_ended()? else {
            return Ok(false);
        };
        let at = self.elsewhere.iter().position(|drawing| drawing.job == job);
        let Some(drawing) = at.map(|at| self.elsewhere.remove(at)) else {
            return Ok(true);
        };
        match output {
            Ok(output) => self.keep(drawing.at, output, drawing.seed, drawing.started)?,
            Err(error) => {
                self.take_in_all()?;
                return Err(error);
            }
        }
        Ok(true)
    }

    fn take_in_all(&mut self) -> anyhow::Result<()> {
        while self.take_in()? {}
        Ok(())
    }

    fn keep(
        &mut self,
        at: usize,
        output: Output,
        seed: u64,
        started: Instant,
    ) -> anyhow::Result<()> {
        self.board.add_takes(at, output)?;
        self.board.save_made()?;
        self.session.reporter.panel_done(&PanelDone {
            panel: at + 1,
            text: self.board.text(at),
            image: self.board.image(at),
            device: self.board.device(at),
            seed,
            seconds: started.elapsed().as_secs_f32(),
        });
        Ok(())
    }
}
