//! The program: reads the command line and opens the studio or runs a command.

use std::process::ExitCode;

use clap::Parser;
use vokenboard::cli::{self, Cli};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let sentence = format!("{error:#}");
            eprintln!(
                "vokenboard: {}",
                sentence.split_whitespace().collect::<Vec<_>>().join(" ")
            );
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Cli) -> anyhow::Result<()> {
    match arguments.command {
        Some(command) => cli::run(command),
        None => anyhow::bail!("the studio is not built in yet; see `vokenboard help`"),
    }
}

