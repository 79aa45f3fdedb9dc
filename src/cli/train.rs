//! `vokenboard train`

use std::path::PathBuf;

use clap::Args;

use crate::export;

#[derive(Debug, Args)]
pub struct TrainArgs {
    /// What to train
    #[arg(value_name = "STAGE")]
    pub stage: String,
    /// Settings of the run (TOML); align and story train a published model where they name its
    /// folder as their model
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Folder for checkpoints, the log and sample grids
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Learn from these files instead of the storyworld (align, story): a project, a folder of
    /// projects, or CC3M, VIST or MMDialog as they are published
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Go on from the last checkpoint in the folder
    #[arg(long)]
    pub resume: bool,
}

/// Trains a stage to its last step.
///
/// # Errors
/// An unknown stage, settings or a folder that can't be used.
pub(super) fn run(args: &TrainArgs) -> anyhow::Result<()> {
    export::check_folder(&args.out)?;
    Ok(crate::train::run_with(
        &args.stage,
        &args.config,
        &args.out,
        args.resume,
        args.data.as_deref(),
    )?)
}
