//! `vokenboard eval`

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub struct EvalArgs {
    /// What to judge
    #[arg(value_name = "WHAT")]
    pub what: String,
    /// Write the report here as well
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

pub fn run(args: &EvalArgs) -> anyhow::Result<()> {
    anyhow::bail!("the judgement {} is not built in yet", args.what)
}
