//! `vokenboard export`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};

use super::board::{sheet_in, warn};
use super::output::ForceArgs;
use crate::export::{self, EXPORTERS, Existing, Export, ExportOptions, OptionSpec};
use crate::story::{Images, Project, Story};

#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The project folder
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// What to make of it
    #[arg(long, value_name = "FORMAT", value_parser = formats(), requires = "out", conflicts_with_all = ["png", "markdown"])]
    format: Option<String>,
    /// Where to write that: a file, or for markdown and pictures a folder
    #[arg(long, value_name = "PATH", requires = "format")]
    out: Option<PathBuf>,
    /// The panel, from 1, for a format of one panel
    #[arg(long, value_name = "K", requires = "format", value_parser = clap::value_parser!(u32).range(1..))]
    panel: Option<u32>,
    /// Write all panels as one picture
    #[arg(long, value_name = "FILE")]
    png: Option<PathBuf>,
    /// Write the story as Markdown with a folder of pictures
    #[arg(long, value_name = "DIR")]
    markdown: Option<PathBuf>,
    #[command(flatten)]
    force: ForceArgs,
    #[command(flatten)]
    options: OptionArgs,
}

/// The formats by their names, for the help as well.
fn formats() -> PossibleValuesParser {
    let all = EXPORTERS.iter();
    PossibleValuesParser::new(all.map(|exporter| {
        let label = exporter.label().trim_end_matches('…');
        PossibleValue::new(exporter.id()).help(label)
    }))
}

/// A flag for each choice that an exporter offers, made of the list of exporters.
#[derive(Clone, Debug, Default)]
struct OptionArgs(BTreeMap<&'static str, String>);

fn choices() -> impl Iterator<Item = &'static OptionSpec> {
    EXPORTERS.iter().flat_map(|exporter| exporter.choices())
}

impl Args for OptionArgs {
    fn augment_args(command: Command) -> Command {
        choices().fold(command, |command, choice| {
            let usual = choice.values.first().map_or("", |(value, _)| *value);
            let values = choice.values.iter().map(|(value, _)| *value);
            let help = format!("{} [default: {usual}]", choice.help);
            let flag = Arg::new(choice.id).long(choice.id).help(help);
            let flag = flag
                .requires("format")
                .value_parser(PossibleValuesParser::new(values));
            command.arg(flag)
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for OptionArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<OptionArgs, clap::Error> {
        let given = |choice: &'static OptionSpec| {
            let value = matches.get_one::<String>(choice.id)?;
            Some((choice.id, value.clone()))
        };
        Ok(OptionArgs(choices().filter_map(given).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// With neither file named, both are written into the project folder, as `tell` does. The project
/// itself is only read, so a story that is open in the studio can be exported as last saved.
pub(super) fn run(args: &ExportArgs) -> anyhow::Result<()> {
    let (document, images, warnings) = Project::read(&args.dir)?;
    warn(&warnings);
    let story = document.story();
    let existing = args.force.existing();
    if let (Some(format), Some(out)) = (&args.format, &args.out) {
        return run_format(args, format, out, story, &images);
    }
    let both = args.png.is_none() && args.markdown.is_none();
    let sheet_too = both || args.png.is_some();
    warn(&export::left_out(story, &images, sheet_too));
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

/// `--format`: any exporter of the list.
fn run_format(
    args: &ExportArgs,
    format: &str,
    out: &Path,
    story: &Story,
    images: &Images,
) -> anyhow::Result<()> {
    let Some(exporter) = export::exporter(format) else {
        bail!("there is no format {format}; see `vokenboard help export`");
    };
    let mut options = ExportOptions::default();
    for (id, value) in &args.options.0 {
        let set = options.set(exporter, id, value);
        set.map_err(anyhow::Error::msg)?;
    }
    let panel = args.panel.map(|number| number as usize - 1);
    match (exporter.of_panel(), panel) {
        (true, None) => bail!("the format {format} is of one panel; name it with --panel"),
        (true, Some(at)) if at >= story.panels.len() => bail!(
            "{} has {} panels, so there is no panel {}",
            args.dir.display(),
            story.panels.len(),
            at + 1
        ),
        (false, Some(_)) => bail!("the format {format} is of the whole board; leave --panel out"),
        _ => {}
    }
    let what = Export {
        story,
        images,
        panel,
        options: &options,
        existing: args.force.existing(),
    };
    if !exporter.of_panel() {
        warn(&export::left_out(story, images, exporter.cuts_texts()));
    }
    let target = export::target_of(exporter, out);
    let written = export::export(exporter, &what, &target)?;
    println!("wrote {}", written.display());
    Ok(())
}
