//! `vokenboard export`

use std::path::PathBuf;

use clap::Args;

use super::board::{sheet_in, warn};
use crate::export::{self, Existing};
use crate::story::Project;

#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The project folder
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Write all panels as one picture
    #[arg(long, value_name = "FILE")]
    png: Option<PathBuf>,
    /// Write the story as Markdown with a folder of pictures
    #[arg(long, value_name = "DIR")]
    markdown: Option<PathBuf>,
    /// Replace files that are there already; a story's own files never are
    #[arg(long)]
    force: bool,
}

/// With neither file named, both are written into the project folder, as `tell` does. The project
/// itself is only read, so a story that is open in the studio can be exported as last saved.
pub fn run(args: &ExportArgs) -> anyhow::Result<()> {
    let (document, images, warnings) = Project::read(&args.dir)?;
    warn(&warnings);
    let story = document.story();
    warn(&export::left_out(story, &images));
    let existing = Existing::forced(args.force);
    let both = args.png.is_none() && args.markdown.is_none();
    let sheet = match &args.png {
        Some(file) => Some((export::with_ending(file, "png"), existing)),
        None => both.then(|| {
            let file = sheet_in(&args.dir);
            let existing = if export::is_ours(&file) {
                Existing::Goes
            } else {
                existing
            };
            (file, existing)
        }),
    };
    let markdown = args.markdown.as_ref().or(both.then_some(&args.dir));
    // All are looked at before one is written.
    if let Some((file, existing)) = &sheet {
        export::check_target(file, *existing)?;
    }
    if let Some(dir) = markdown {
        export::check_markdown(story, dir, existing)?;
    }
    if let Some((file, _)) = &sheet {
        export::write_sheet(story, &images, file)?;
        println!("wrote {}", file.display());
    }
    if let Some(dir) = markdown {
        export::write_markdown_over(story, &images, dir, existing)?;
        println!("wrote {}", dir.join("story.md").display());
    }
    Ok(())
}
