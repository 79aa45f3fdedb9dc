//! `vokenboard tell`

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::bail;
use clap::Args;
use serde_json::json;

use super::board::Board;
use super::cast::Listing;
use super::options::{ModelArgs, SettingsArgs};
use super::report::{PanelDone, Reporter, plain};
use super::teller::EngineSession;
use super::words::WordsArgs;
use crate::engine::{Make, Request};
use crate::pipeline::writer::MOST_PLANNED;
use crate::pipeline::{new_seed, panel_seed, unknown_words};
use crate::story::Project;
use crate::words::other_language;

#[derive(Debug, Args)]
pub struct TellArgs {
    /// The story's first sentence (with --continue: its next, or left out)
    #[arg(
        value_name = "OPENING",
        required_unless_present = "go_on",
        allow_hyphen_values = true,
        value_parser = opening
    )]
    opening: Option<String>,
    /// The project folder to write
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// How many panels to tell (with --continue: how many more)
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    panels: u16,
    /// Continue the story in the folder
    #[arg(long = "continue")]
    go_on: bool,
    /// Who and what the story comes back to: JSON or TOML, such as `cast DIR list --json` prints, or the folder of another story
    #[arg(long, value_name = "FILE|DIR")]
    cast: Option<PathBuf>,
    /// Don't plan the panels before they are told, which writers that follow instructions do
    #[arg(long)]
    no_plan: bool,
    #[command(flatten)]
    words: WordsArgs,
    #[command(flatten)]
    settings: SettingsArgs,
    #[command(flatten)]
    model: ModelArgs,
    /// One JSON object per event on stdout
    #[arg(long)]
    json: bool,
}

/// A text may begin with a dash; a word that does is a setting that was mistyped.
fn opening(text: &str) -> Result<String, String> {
    let word = text.trim_start_matches('-');
    let typed = word.starts_with(|c: char| c.is_ascii_alphabetic());
    if word.len() < text.len() && typed && !text.contains(char::is_whitespace) {
        return Err("there is no such setting; an opening has more than one word".to_owned());
    }
    Ok(text.to_owned())
}

pub fn run(args: &TellArgs) -> anyhow::Result<()> {
    let opening = args.opening.as_deref().map(str::trim);
    if opening == Some("") {
        bail!("the opening is empty; give the story's first sentence");
    }
    // Looked at before the model is loaded, so that a mistake is told at once; a new folder is
    // made after it, so that a failed start leaves none.
    check_folder(&args.out, args.go_on)?;
    let going_on = args.go_on.then(|| Board::open(&args.out)).transpose()?;
    match &going_on {
        Some(board) => board.check_writable()?,
        None => Project::check_creatable(&args.out)?,
    }
    let cast = args.cast.as_deref().map(Listing::read).transpose()?;
    let seed = args.settings.seed.unwrap_or_else(new_seed);
    let reporter = Reporter::new(args.json, usize::from(args.panels));
    let mut teller = EngineSession::start(&args.model, reporter)?;
    teller.reporter.ready(&teller.description, seed);
    args.words.check(&teller.description.writer)?;
    if let Some(opening) = opening {
        say_unknown(&mut teller, opening);
    }

    let mut board = match going_on {
        Some(board) => board,
        None => Board::create(&args.out, opening.unwrap_or_default())?,
    };
    // The same command with --continue goes on where it was stopped; its opening is told already.
    let mut given = opening.filter(|opening| board.opening() != Some(*opening));
    if given.is_none() && board.len() == 0 {
        bail!(
            "{} has no panels to continue; give the story's first sentence",
            args.out.display()
        );
    }
    let mut left = args.panels;
    if let Some(cast) = cast {
        cast.put(&mut board)?;
    }
    if let Some(direction) = &args.words.direction {
        board.set_direction(direction)?;
    }
    if let Some(opening) = given.take() {
        tell_panel(args, &mut teller, &mut board, Some(opening), seed)?;
        left -= 1;
    }
    if left > 1 && !args.no_plan && teller.description.writer.instructs {
        plan(args, &mut teller, &mut board, left, seed)?;
    }
    for _ in 0..left {
        tell_panel(args, &mut teller, &mut board, None, seed)?;
    }
    let (sheet, markdown) = board.write_exports()?;
    let told = usize::from(args.panels);
    teller.reporter.done(
        &format!(
            "told {told} panel{} in {}",
            if told == 1 { "" } else { "s" },
            args.out.display()
        ),
        &json!({
            "project": plain(&args.out),
            "storyboard": sheet.as_deref().map(plain),
            "markdown": markdown.as_deref().map(plain),
        }),
    );
    Ok(())
}

/// Says what of the opening the model cannot draw.
fn say_unknown(teller: &mut EngineSession, opening: &str) {
    let known = &teller.description;
    let lists = [&known.characters[..], &known.things, &known.places];
    if lists.iter().all(|list| list.is_empty()) {
        return;
    }
    let mut words: Vec<String> = Vec::new();
    for found in unknown_words(&lists, opening) {
        if !words.contains(&found.word) {
            words.push(found.word);
        }
    }
    let model = known.model.clone();
    let language = other_language(opening);
    // Another writer keeps to the language of the story.
    let writes = !teller.description.writer.instructs;
    teller.reporter.unknown(&model, &words, language, writes);
}

/// Tells the next panel, whose text may be given.
fn tell_panel(
    args: &TellArgs,
    teller: &mut EngineSession,
    board: &mut Board,
    given: Option<&str>,
    seed: u64,
) -> anyhow::Result<()> {
    let number = board.len() + 1;
    let defaults = teller.description.default_settings.clone();
    let (takes, models) = (&teller.description.takes, args.model.models.as_deref());
    let settings = args.settings.over(defaults, takes, models)?;
    let mut settings = args.words.over(settings);
    settings.seed = panel_seed(seed, number);
    let text = given.map(str::to_string);
    let started = Instant::now();
    let output = teller.make(
        number,
        Request {
            text: text.clone(),
            ..board.request(board.len(), Make::Both, settings.clone())
        },
    )?;
    board.add_panel(text, output)?;
    board.save_made()?;
    teller.reporter.panel_done(&PanelDone {
        panel: number,
        text: board.text(number - 1),
        image: board.image(number - 1),
        seed: settings.seed,
        seconds: started.elapsed().as_secs_f32(),
    });
    Ok(())
}

/// Plans the panels to come, so that they end as a story does; the plan is kept in the story.
fn plan(
    args: &TellArgs,
    teller: &mut EngineSession,
    board: &mut Board,
    panels: u16,
    seed: u64,
) -> anyhow::Result<()> {
    // A longer story is planned as far as a plan goes.
    let panels = u32::from(panels).min(MOST_PLANNED);
    let number = board.len() + 1;
    let defaults = teller.description.default_settings.clone();
    let (takes, models) = (&teller.description.takes, args.model.models.as_deref());
    let settings = args.settings.over(defaults, takes, models)?;
    let mut settings = args.words.over(settings);
    settings.seed = panel_seed(seed, number);
    let request = board.request(board.len(), Make::Plan(panels), settings);
    let output = match teller.make(number, request) {
        Ok(output) => output,
        // A story without a plan is better than none.
        Err(error) => {
            eprintln!("vokenboard: the story is told without a plan, because {error}");
            return Ok(());
        }
    };
    let lines = output.plan.unwrap_or_default();
    teller.reporter.planned(number, &lines);
    board.plan_on(lines)?;
    board.save_made()
}

/// Whether the folder can take the story.
fn check_folder(dir: &Path, go_on: bool) -> anyhow::Result<()> {
    let is_project = Project::is_project(dir);
    if is_project && !go_on {
        bail!(
            "{} holds a story already; add --continue to continue it or choose another folder with --out",
            dir.display()
        );
    }
    if go_on && !is_project {
        bail!(
            "{} is not a Vokenboard project, so there is no story to continue; leave out --continue to begin one",
            dir.display()
        );
    }
    if dir.exists() && !dir.is_dir() {
        bail!(
            "{} is a file, not a folder; choose another folder with --out",
            dir.display()
        );
    }
    if !is_project && !Project::is_empty(dir).unwrap_or(true) {
        bail!(
            "{} is not empty and not a Vokenboard project; choose another folder with --out",
            dir.display()
        );
    }
    Ok(())
}
