//! `vokenboard eval vote`

use std::path::PathBuf;

use clap::Args;

use super::super::output::{ForceArgs, write_json};
use crate::eval::vote;

#[derive(Debug, Args)]
pub(super) struct VoteArgs {
    /// Stories of one side: a folder of project folders
    #[arg(long, value_name = "DIR", required_unless_present = "tally", requires_all = ["b", "out"])]
    pub a: Option<PathBuf>,
    /// Stories of the other side, under the same names
    #[arg(long, value_name = "DIR", requires = "a")]
    pub b: Option<PathBuf>,
    /// The page to write (HTML)
    #[arg(long, value_name = "FILE", requires = "a")]
    pub out: Option<PathBuf>,
    /// The same number gives the same order and sides
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Count the votes of these downloads of one page
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with = "a")]
    pub tally: Vec<PathBuf>,
    /// Write the counted votes here as well
    #[arg(long, value_name = "FILE", requires = "tally")]
    pub json: Option<PathBuf>,
    #[command(flatten)]
    force: ForceArgs,
}

/// Writes the page, or counts votes and prints them as Markdown.
///
/// # Errors
/// Folders or ballots that can't be used, or a file that can't be written.
pub(super) fn run(args: &VoteArgs) -> anyhow::Result<()> {
    for file in [&args.out, &args.json] {
        args.force.check(file.as_deref())?;
    }
    if let (Some(a), Some(b), Some(out)) = (&args.a, &args.b, &args.out) {
        let pairs = vote::write_page(a, b, args.seed, out)?;
        println!("{}: {pairs} pairs", out.display());
        return Ok(());
    }
    let tally = vote::tally(&args.tally)?;
    print!("{}", tally.markdown());
    write_json(args.json.as_deref(), &tally.json())
}
