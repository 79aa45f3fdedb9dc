//! `vokenboard train`

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub struct TrainArgs {
    /// What to train
    #[arg(value_name = "STAGE")]
    pub stage: String,
    /// Settings of the run (TOML)
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Folder for checkpoints, the log and sample grids
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Go on from the last checkpoint in the folder
    #[arg(long)]
    pub resume: bool,
}

/// Trains a stage to its last step.
///
/// # Errors
/// An unknown stage, settings or a folder that can't be used.
pub fn run(args: &TrainArgs) -> anyhow::Result<()> {
    Ok(crate::train::run(
        &args.stage,
        &args.config,
        &args.out,
        args.resume,
    )?)
}
