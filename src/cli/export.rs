//! `vokenboard export`

use std::path::PathBuf;

use clap::Args;

use super::board::Board;

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

/// With neither file named, both are written into the project folder, as `tell` does.
pub fn run(args: &ExportArgs) -> anyhow::Result<()> {
    let board = Board::open(&args.dir)?;
    if args.png.is_none() && args.markdown.is_none() {
        let (sheet, markdown) = board.write_exports()?;
        println!("wrote {} and {}", sheet.display(), markdown.display());
        return Ok(());
    }
    if let Some(file) = &args.png {
        board.write_sheet(file)?;
        println!("wrote {}", file.display());
    }
    if let Some(dir) = &args.markdown {
        let file = board.write_markdown(dir)?;
        println!("wrote {}", file.display());
    }
    Ok(())
}
