//! `vokenboard storyworld`

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::output::ForceArgs;
use crate::storyworld::sheet;

#[derive(Debug, Args)]
pub struct StoryworldArgs {
    /// What to draw
    #[arg(value_enum)]
    pub what: StoryworldCommand,
    /// The same number draws the same pictures
    #[arg(long, value_name = "N")]
    pub seed: u64,
    /// The PNG file to write
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    #[command(flatten)]
    force: ForceArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum StoryworldCommand {
    /// A contact sheet of scenes with their captions
    Sheet,
    /// One story
    Story,
}

pub(super) fn run(args: &StoryworldArgs) -> anyhow::Result<()> {
    args.force.check(Some(&args.out))?;
    match args.what {
        StoryworldCommand::Sheet => sheet::write_sheet(args.seed, &args.out),
        StoryworldCommand::Story => sheet::write_story(args.seed, &args.out),
    }?;
    println!("{}", args.out.display());
    Ok(())
}
