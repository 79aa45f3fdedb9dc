//! The commands and how they report. Only what opens no window is here; `main` opens the studio.

mod eval;
mod models;
mod storyworld;
mod train;

use std::path::PathBuf;

use clap::{Parser, Subcommand};


/// Tell an illustrated story on your own machine.
///
/// Without a command the studio opens, with DIR on that project.
#[derive(Debug, Parser)]
#[command(name = "vokenboard", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// A project folder to open in the studio
    #[arg(value_name = "DIR")]
    pub project: Option<PathBuf>,
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the installed models
    Models(models::ModelsArgs),
    /// Train a stage of the built-in model
    Train(train::TrainArgs),
    /// Judge how well pictures show what their captions say
    Eval(eval::EvalArgs),
    /// Draw the procedural picture book that the built-in model learns from
    Storyworld(storyworld::StoryworldArgs),
}

/// Runs a command to its end.
///
/// # Errors
/// One sentence that names the thing and the remedy.
pub fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Models(args) => models::run(&args),
        Command::Train(args) => train::run(&args),
        Command::Eval(args) => eval::run(&args),
        Command::Storyworld(args) => storyworld::run(&args),
    }
}
