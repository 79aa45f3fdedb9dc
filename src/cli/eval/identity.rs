//! `vokenboard eval identity`

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::bail;
use clap::Args;

use super::super::output::JsonArgs;
use crate::catalogue;
use crate::cli::board::warn;
use crate::eval::{IdentityEncoder, Similarity, identity};
use crate::story::Project;
use crate::weights::{self, STORYWORLD_MODEL};

#[derive(Debug, Args)]
pub(super) struct IdentityArgs {
    /// The project folder
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// An image encoder of CLIP, by its file, folder or id [default: the vision tower of the built-in model]
    #[arg(long, value_name = "FILE|ID")]
    encoder: Option<String>,
    /// The folder of installed models [default: VOKENBOARD_MODELS, or the one that comes with the program]
    #[arg(long, value_name = "DIR")]
    models: Option<PathBuf>,
    #[command(flatten)]
    json: JsonArgs,
}

/// Compares the pictures of a board and prints a table.
///
/// # Errors
/// A project or encoder that can't be read, a board with fewer than two pictures, or a file that
/// can't be written.
pub(super) fn run(args: &IdentityArgs) -> anyhow::Result<()> {
    args.json.check()?;
    let (document, images, warnings) = Project::read(&args.dir)?;
    warn(&warnings);
    let story = document.story();
    let shown = story.panels.iter().map(|panel| {
        let take = panel.picture()?;
        images.get(&take.image)
    });
    let shown: Vec<_> = shown.collect();
    if shown.iter().flatten().count() < 2 {
        bail!(
            "{} has fewer than two pictures, so there is nothing to compare; draw some first",
            args.dir.display()
        );
    }
    let models = weights::models_dir(args.models.as_deref())?;
    let (eye, by) = match &args.encoder {
        Some(id) => (
            IdentityEncoder::clip(&catalogue::file_of(&models, id)?)?,
            id.clone(),
        ),
        None => {
            let own = models.join(STORYWORLD_MODEL).join("voken");
            (
                IdentityEncoder::tower(&own)?,
                format!("the vision tower of {STORYWORLD_MODEL}"),
            )
        }
    };
    let look = |picture: &Option<_>| {
        let picture: &Option<Arc<image::RgbaImage>> = picture;
        let seen = picture.as_ref().map(|picture| eye.embed(picture));
        Ok(seen.transpose()?.map(Arc::new))
    };
    let seen: Vec<_> = shown.iter().map(look).collect::<anyhow::Result<_>>()?;
    let report = identity(story, &seen);
    println!("{} pictures, compared by {by}", report.pictures);
    println!("{:<32} {:>6} {:>8} {:>8}", "", "pairs", "cosine", "centred");
    let row = |name: &str, alike: &Similarity| {
        let format_cosine =
            |value: Option<f64>| value.map_or("-".to_owned(), |c| format!("{c:.3}"));
        let (cosine, centred) = (format_cosine(alike.cosine), format_cosine(alike.centred));
        println!("{name:<32} {:>6} {cosine:>8} {centred:>8}", alike.pairs);
    };
    for member in &report.members {
        row(&member.name, &member.alike);
    }
    row("panels that share a member", &report.shared);
    row("panels that share none", &report.apart);
    row("all panels", &report.all);
    args.json.write(&serde_json::to_value(&report)?)
}
