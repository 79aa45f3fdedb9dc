//! `vokenboard storyworld`

use std::path::PathBuf;

use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
pub struct StoryworldArgs {
    /// What to draw
    #[arg(value_enum)]
    pub what: What,
    #[arg(long, value_name = "N")]
    pub seed: u64,
    /// The PNG file to write
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum What {
    /// A contact sheet of scenes with their captions
    Sheet,
    /// One story
    Story,
}

pub fn run(args: &StoryworldArgs) -> anyhow::Result<()> {
    anyhow::bail!("the storyworld {:?} is not built in yet", args.what)
}
