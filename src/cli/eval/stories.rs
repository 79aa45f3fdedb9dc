//! `vokenboard eval stories`

use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::ProgressBar;

use super::super::output::{ForceArgs, write_json};
use crate::eval::EvalError;
use crate::eval::stories::{BUILT_IN, MethodContext, StoryOptions, compare, read_rows};
use crate::export;
use crate::pipeline;
use crate::story::Settings;
use crate::weights;

/// Most pictures that can be retrieved.
const GALLERY: usize = 2000;

#[derive(Debug, Args)]
pub(super) struct StoriesArgs {
    /// The rows to compare (TOML) [default: those of the built-in model]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Write the report here as well
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Held-out stories that every row tells
    #[arg(long, value_name = "N", default_value_t = 300)]
    pub stories: usize,
    /// Real scenes that the Fréchet distance is measured from; also most that can be retrieved, up to 2000
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub scenes: usize,
    /// The same number tells the same stories
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Steps of each picture [default: the usual number of the world's built-in model]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=200))]
    pub steps: Option<u32>,
    /// Keep the stories that each row told as project folders, to be voted on
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
    /// Keep the scores of each story there; a comparison that was stopped goes on where it was
    #[arg(long, value_name = "DIR")]
    pub scores: Option<PathBuf>,
    /// The folder of installed models [default: VOKENBOARD_MODELS, or the one that comes with the program]
    #[arg(long, value_name = "DIR")]
    pub models: Option<PathBuf>,
    #[command(flatten)]
    force: ForceArgs,
}

/// Compares the rows and prints them as Markdown.
///
/// # Errors
/// Rows or a judge that can't be read, a model that fails, or a file that can't be written.
pub(super) fn run(args: &StoriesArgs) -> anyhow::Result<()> {
    args.force.check(args.json.as_deref())?;
    for folder in [&args.keep, &args.scores].into_iter().flatten() {
        export::check_folder(folder)?;
    }
    // On a thread of the pool, so that small operations do not wait for one to wake.
    rayon::scope(|_| compare_rows(args))
}

fn compare_rows(args: &StoriesArgs) -> anyhow::Result<()> {
    let comparison = match &args.config {
        None => read_rows(Path::new(BUILT_IN.0), BUILT_IN.1)?,
        Some(path) => {
            let text = crate::files::read_text(path).map_err(|e| EvalError::Rows {
                path: path.clone(),
                why: e.into(),
            })?;
            read_rows(path, &text)?
        }
    };
    let models = weights::models_dir(args.models.as_deref())?;
    let world = comparison.world.open(&models)?;
    let built_in = weights::find(&models, comparison.world.model())?;
    let mut settings = pipeline::default_settings(Settings::default(), &built_in.manifest);
    settings.steps = args.steps.unwrap_or(settings.steps);
    let workshop = MethodContext {
        models: &models,
        settings: &settings,
        judge: world.contrastive(),
        gallery: args.scenes.min(GALLERY),
    };
    let options = StoryOptions {
        world: comparison.world,
        stories: args.stories,
        scenes: args.scenes,
        seed: args.seed,
        settings: settings.clone(),
        keep: args.keep.clone(),
        scores: args.scores.clone(),
    };
    let bar = ProgressBar::new_spinner();
    let progress = &mut |what: &str| {
        bar.set_message(what.to_owned());
        bar.tick();
    };
    let report = compare(
        &comparison.rows,
        &workshop,
        world.as_ref(),
        &options,
        progress,
    )?;
    bar.finish_and_clear();
    print!("{}", report.markdown());
    write_json(args.json.as_deref(), &report.json())
}
