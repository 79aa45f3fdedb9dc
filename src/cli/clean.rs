//! `vokenboard clean`

use std::path::PathBuf;

use clap::Args;

use super::board::warn;
use crate::story::Project;

#[derive(Debug, Args)]
pub struct CleanArgs {
    /// The project folder
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Throw away those, too, that a copy of the story names or may name
    #[arg(long)]
    all: bool,
}

/// Empties the trash of a project: pictures that no take of its story names any more.
///
/// # Errors
/// A folder that is no project or is open elsewhere, or a trash that can't be emptied.
pub(super) fn run(args: &CleanArgs) -> anyhow::Result<()> {
    let (project, document, _images) = Project::open(&args.dir)?;
    warn(project.warnings());
    let cleaned = project.empty_trash(&document, args.all)?;
    let count = |pictures: usize| match pictures {
        1 => "1 picture".to_owned(),
        pictures => format!("{pictures} pictures"),
    };
    println!(
        "threw away {} of {:.1} MB",
        count(cleaned.pictures),
        cleaned.bytes as f64 / 1e6
    );
    if cleaned.kept > 0 {
        println!(
            "kept {} in the trash, which a copy of the story names or may name; --all throws them away, too",
            count(cleaned.kept)
        );
    }
    Ok(())
}
