//! The commands and how they report. Only what opens no window is here; `main` opens the studio.

mod bench;
mod board;
mod cast;
mod clean;
mod devices;
mod eval;
mod export;
mod frame_args;
mod models;
mod options;
mod output;
mod panel;
mod picture_args;
mod regenerate;
mod report;
mod session;
mod storyworld;
mod tell;
mod train;
mod words;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

pub use bench::UiBenchArgs;
pub use options::ModelArgs;

use crate::story::{Rescued, rescue_folders};

/// Tell an illustrated story on your own machine.
///
/// Without a command the studio opens, with DIR on that project.
#[derive(Debug, Parser)]
#[command(
    name = "vokenboard",
    version,
    args_conflicts_with_subcommands = true,
    args_override_self = true
)]
pub struct Cli {
    /// A project folder to open in the studio
    #[arg(value_name = "DIR")]
    pub project: Option<PathBuf>,
    /// Which models are used, on which device.
    #[command(flatten)]
    pub model: ModelArgs,
    /// What to do; none opens the studio.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Everything that is done without a window.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Tell a story from its opening and write it as a project folder
    Tell(tell::TellArgs),
    /// Add a take to a panel of a project and make it active
    Regenerate(Box<regenerate::RegenerateArgs>),
    /// Tell or change who and what a story comes back to
    Cast(cast::CastArgs),
    /// Change a panel of a project by hand: its text, its picture, its place
    Panel(panel::PanelArgs),
    /// Write a project as one picture of all panels, as Markdown, or both
    Export(export::ExportArgs),
    /// Empty a project's trash: pictures that its story names no more
    Clean(clean::CleanArgs),
    /// List the installed models
    Models(models::ModelsArgs),
    /// List what models can be computed on
    Devices(devices::DevicesArgs),
    /// Train a stage of the built-in model
    Train(train::TrainArgs),
    /// Judge how well pictures show what texts say, alone and in stories
    Eval(eval::EvalArgs),
    /// Draw the procedural picture book that the built-in model learns from
    Storyworld(storyworld::StoryworldArgs),
    /// Measure speed
    Bench(bench::BenchArgs),
}

/// Runs a command to its end; `bench_ui` measures the studio, which only `main` knows.
///
/// # Errors
/// One sentence that names the thing and the remedy.
pub fn run(
    command: Command,
    bench_ui: fn(&UiBenchArgs) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    if matches!(
        command,
        Command::Tell(_)
            | Command::Regenerate(_)
            | Command::Cast(_)
            | Command::Panel(_)
            | Command::Export(_)
            | Command::Clean(_)
    ) {
        let rescued: Vec<String> = Rescued::all(&rescue_folders())
            .iter()
            .map(Rescued::sentence)
            .collect();
        board::warn(&rescued);
    }
    match command {
        Command::Tell(args) => tell::run(&args),
        Command::Regenerate(args) => regenerate::run(&args),
        Command::Cast(args) => cast::run(&args),
        Command::Panel(args) => panel::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Clean(args) => clean::run(&args),
        Command::Models(args) => models::run(&args),
        Command::Devices(args) => devices::run(&args),
        Command::Train(args) => train::run(&args),
        Command::Eval(args) => eval::run(&args),
        Command::Storyworld(args) => storyworld::run(&args),
        Command::Bench(args) => bench::run(&args, bench_ui),
    }
}
