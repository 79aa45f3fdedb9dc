//! `vokenboard export`

use std::path::PathBuf;

use clap::Args;

use super::board::{warn, write_exports};
use crate::export;
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
}

/// With neither file named, both are written into the project folder, as `tell` does. The project
/// itself is only read, so a story that is open in the studio can be exported as last saved.
pub fn run(args: &ExportArgs) -> anyhow::Result<()> {
    let (document, images, warnings) = Project::read(&args.dir)?;
    warn(&warnings);
    let story = document.story();
    if args.png.is_none() && args.markdown.is_none() {
        let (sheet, markdown) = write_exports(story, &images, &args.dir)?;
        println!("wrote {} and {}", sheet.display(), markdown.display());
        return Ok(());
    }
    if let Some(file) = &args.png {
        export::write_sheet(story, &images, file)?;
        println!("wrote {}", file.display());
    }
    if let Some(dir) = &args.markdown {
        export::write_markdown(story, &images, dir)?;
        println!("wrote {}", dir.join("story.md").display());
    }
    Ok(())
}
