//! `vokenboard tell`

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{anyhow, bail};
use clap::Args;
use serde_json::json;

use super::board::Board;
use super::cast::Listing;
use super::options::{ModelArgs, SettingsArgs};
use super::report::{PanelDone, Reporter, plain};
use super::session::{EngineSession, PanelStarted};
use super::words::WordsArgs;
use crate::engine::{JobId, Make, Output, Request};
use crate::pipeline::painter::PromptStyle;
use crate::pipeline::writer::MOST_PLANNED;
use crate::pipeline::{new_seed, noun_drawings, panel_seed, unknown_words};
use crate::story::{Project, Settings};
use crate::weights;
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

pub(super) fn run(args: &TellArgs) -> anyhow::Result<()> {
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
    let mut session = EngineSession::start(&args.model, reporter)?;
    session.reporter.ready(&session.description, seed);
    args.words.check(&session.description.writer)?;
    if let Some(opening) = opening {
        warn_unknown_words(&mut session, args.model.models.as_deref(), opening);
    }

    let (fresh, made) = (going_on.is_none(), !args.out.exists());
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
    let mut telling = TellRun {
        args,
        session,
        board,
        seed,
        elsewhere: Vec::new(),
    };
    if let Some(opening) = given.take() {
        if let Err(error) = telling.panel(Some(opening)) {
            if fresh && telling.board.len() == 0 {
                telling.board.discard();
                if made {
                    // Only where nothing else lies there.
                    let _ = std::fs::remove_dir(&args.out);
                }
            }
            return Err(error);
        }
        left -= 1;
    }
    if left > 1 && !args.no_plan && telling.session.description.writer.instructs {
        telling.plan(left)?;
    }
    for _ in 0..left {
        telling.panel(None)?;
    }
    telling.take_in_all()?;
    let (board, mut session) = (telling.board, telling.session);
    let (sheet, markdown) = board.write_exports()?;
    let count = usize::from(args.panels);
    let shares = board.shares(board.len() - count..board.len());
    session.reporter.done(
        &format!(
            "told {count} panel{} in {}{}",
            if count == 1 { "" } else { "s" },
            args.out.display(),
            match session.description.at_once > 1 {
                true => format!(" ({shares})"),
                false => String::new(),
            }
        ),
        &json!({
            "project": plain(&args.out),
            "storyboard": sheet.as_deref().map(plain),
            "markdown": markdown.as_deref().map(plain),
        }),
    );
    Ok(())
}

/// The id of an installed model that draws from the library.
fn library_model(models: Option<&Path>) -> Option<String> {
    let installed = weights::installed(&weights::models_dir(models).ok()?).ok()?;
    let mut models = installed.models.into_iter();
    let found = models.find(|model| model.manifest.draws.library)?;
    Some(found.manifest.id)
}

/// Says what of the opening the model cannot draw, or what it draws for it.
fn warn_unknown_words(session: &mut EngineSession, models: Option<&Path>, opening: &str) {
    let known = &session.description;
    if known.takes.prompts == PromptStyle::Composition {
        if let Some(line) = noun_drawings(&[], opening).line() {
            let model = known.model.clone();
            session.reporter.drawn_as(&model, &line);
        }
        return;
    }
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
    let writes = !session.description.writer.instructs;
    session.reporter.unknown(&model, &words, language, writes);
    if !words.is_empty()
        && let Some(other) = library_model(models)
        && let Some(line) = noun_drawings(&[], opening).line()
    {
        session
            .reporter
            .drawn_as(&format!("--model {other}"), &line);
    }
}

/// A story that is being told.
struct TellRun<'a> {
    args: &'a TellArgs,
    session: EngineSession,
    board: Board,
    seed: u64,
    elsewhere: Vec<PendingPicture>,
}

/// A panel whose picture is drawn elsewhere.
struct PendingPicture {
    job: JobId,
    /// Its place from 0.
    at: usize,
    seed: u64,
    started: Instant,
}

impl TellRun<'_> {
    fn settings(&self, number: usize) -> anyhow::Result<Settings> {
        let about = &self.session.description;
        let (takes, models) = (&about.takes, self.args.model.models.as_deref());
        let defaults = about.default_settings.clone();
        let settings = self.args.settings.apply_to(defaults, takes, models)?;
        Ok(Settings {
            seed: panel_seed(self.seed, number),
            ..self.args.words.apply_to(settings)
        })
    }

    /// Tells the next panel, whose text may be given. Where its picture is drawn elsewhere, its
    /// text is kept and the story goes on.
    fn panel(&mut self, given: Option<&str>) -> anyhow::Result<()> {
        while !self.session.has_room() && self.take_in()? {}
        let at = self.board.len();
        let settings = self.settings(at + 1)?;
        let seed = settings.seed;
        let text = given.map(str::to_string);
        let started = Instant::now();
        let request = Request {
            text: text.clone(),
            ..self.board.request(at, Make::Both, settings)
        };
        let begun = match self.session.begin(at + 1, request) {
            Ok(begun) => begun,
            Err(error) => {
                // What others draw is not lost for it.
                self.take_in_all()?;
                return Err(error);
            }
        };
        match begun {
            PanelStarted::Done(output) => {
                self.board.add_panel(text, *output)?;
                self.board.save_made()?;
                self.report(at, seed, started);
            }
            PanelStarted::Elsewhere(job, written) => {
                let output = Output {
                    text: written.map(|written| *written),
                    ..Output::default()
                };
                self.board.add_panel(text, output)?;
                self.board.save_made()?;
                self.elsewhere.push(PendingPicture {
                    job,
                    at,
                    seed,
                    started,
                });
            }
        }
        Ok(())
    }

    /// Waits for a picture from elsewhere and puts it into its panel; `false` where none is to come.
    fn take_in(&mut self) -> anyhow::Result<bool> {
        let Some((job, output)) = self.session.next_ended()? else {
            return Ok(false);
        };
        let Some(at) = self.elsewhere.iter().position(|drawing| drawing.job == job) else {
            return Ok(true);
        };
        let PendingPicture {
            at, seed, started, ..
        } = self.elsewhere.remove(at);
        let output = match output {
            Ok(output) => output,
            Err(error) => {
                self.take_in_all()?;
                let (number, dir) = (at + 1, self.args.out.display());
                let model = &self.session.description.model;
                return Err(anyhow!(
                    "{error}; its text is kept, and `vokenboard regenerate {dir} --panel {number} --model {model}` draws it"
                ));
            }
        };
        let output = Output {
            text: None,
            ..output
        };
        self.board.add_takes(at, output)?;
        self.board.save_made()?;
        self.report(at, seed, started);
        Ok(true)
    }

    fn take_in_all(&mut self) -> anyhow::Result<()> {
        while self.take_in()? {}
        Ok(())
    }

    fn report(&mut self, at: usize, seed: u64, started: Instant) {
        self.session.reporter.panel_done(&PanelDone {
            panel: at + 1,
            text: self.board.text(at),
            image: self.board.image(at),
            device: self.board.device(at),
            seed,
            seconds: started.elapsed().as_secs_f32(),
        });
    }

    /// Plans the panels to come, so that they end as a story does; the plan is kept in the story.
    fn plan(&mut self, panels: u16) -> anyhow::Result<()> {
        // A longer story is planned as far as a plan goes.
        let panels = u32::from(panels).min(MOST_PLANNED);
        while !self.session.has_room() && self.take_in()? {}
        let number = self.board.len() + 1;
        let settings = self.settings(number)?;
        let request = self
            .board
            .request(self.board.len(), Make::Plan(panels), settings);
        let output = match self.session.begin(number, request) {
            Ok(PanelStarted::Done(output)) => *output,
            Ok(PanelStarted::Elsewhere(..)) => Output::default(),
            // A story without a plan is better than none.
            Err(error) => {
                eprintln!("vokenboard: the story is told without a plan, because {error}");
                return Ok(());
            }
        };
        let lines = output.plan.unwrap_or_default();
        self.session.reporter.planned(number, &lines);
        self.board.plan_on(lines)?;
        self.board.save_made()
    }
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
