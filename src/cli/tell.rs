//! `vokenboard tell`

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::bail;
use clap::Args;
use serde_json::json;

use super::board::Board;
use super::options::{ModelArgs, SettingsArgs};
use super::report::{PanelDone, Reporter, plain};
use super::teller::Teller;
use crate::engine::{Make, Request};
use crate::pipeline::{new_seed, panel_seed, unknown_words};
use crate::story::Project;
use crate::words::other_language;

#[derive(Debug, Args)]
pub struct TellArgs {
    /// The story's first sentence (with --continue: its next, or left out)
    #[arg(value_name = "OPENING", required_unless_present = "go_on")]
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
    #[command(flatten)]
    settings: SettingsArgs,
    #[command(flatten)]
    model: ModelArgs,
    /// One JSON object per event on stdout
    #[arg(long)]
    json: bool,
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
    let seed = args.settings.seed.unwrap_or_else(new_seed);
    let reporter = Reporter::new(args.json, usize::from(args.panels));
    let mut teller = Teller::start(&args.model, reporter)?;
    teller.reporter.ready(&teller.description, seed);
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
    for _ in 0..args.panels {
        let number = board.len() + 1;
        let mut settings = args
            .settings
            .over(teller.description.default_settings.clone());
        settings.seed = panel_seed(seed, number);
        let text = given.take().map(str::to_string);
        let started = Instant::now();
        let output = teller.make(
            number,
            Request {
                text: text.clone(),
                ..board.request(board.len(), Make::Both, settings.clone())
            },
        )?;
        board.add_panel(text, output)?;
        board.save()?;
        teller.reporter.panel_done(&PanelDone {
            panel: number,
            text: board.text(number - 1),
            image: board.image(number - 1),
            seed: settings.seed,
            seconds: started.elapsed().as_secs_f32(),
        });
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
fn say_unknown(teller: &mut Teller, opening: &str) {
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
    teller.reporter.unknown(&model, &words, language);
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
