//! The program: reads the command line and opens the studio or runs a command.

mod processor;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use vokenboard::cause;
use vokenboard::cli::{self, Cli, UiBenchArgs};
use vokenboard::pipeline;
use vokenboard::story::Project;
use vokenboard::studio::{self, ModelChoice, StudioOptions};
use vokenboard::weights::{self, DEFAULT_MODEL};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    if !processor::suits() {
        processor::refuse();
        return ExitCode::FAILURE;
    }
    start()
}

/// Apart from `main`, where no instruction may stand that the processor lacks.
#[inline(never)]
fn start() -> ExitCode {
    vokenboard::nn::ask_no_session();
    vokenboard::nn::share_cores();
    vokenboard::logging::start();
    vokenboard::nn::keep_memory();
    vokenboard::nn::report_cut_files();
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let sentence = cause::sentence(error.as_ref());
            // Where nobody can be told, how it ended still says it.
            let _ = writeln!(std::io::stderr(), "vokenboard: {sentence}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Cli) -> anyhow::Result<()> {
    match arguments.command {
        Some(command) => {
            // Whoever reads what is printed may stop (`| head`): then this ends, too, quietly.
            sigpipe::reset();
            report_full_output();
            cli::run(command, bench_ui)
        }
        None => open_studio(arguments),
    }
}

/// Where what is printed cannot be written (a full disk), a command ends with a sentence: the
/// standard library panics then, wherever something is printed.
fn report_full_output() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let message = panic.payload_as_str().unwrap_or_default();
        let Some(why) = message.strip_prefix("failed printing to std") else {
            return usual(panic);
        };
        let why = why.split_once(": ").map_or(why, |(_, why)| why);
        let _ = writeln!(
            std::io::stderr(),
            "vokenboard: the standard output can't be written ({why}); free some space or write elsewhere"
        );
        std::process::exit(1);
    }));
}

fn open_studio(mut arguments: Cli) -> anyhow::Result<()> {
    // A story may be named by the file in its folder, as file managers do.
    if let Some(file) = &arguments.project
        && file.file_name().is_some_and(|name| name == "story.json")
        && file.is_file()
    {
        let folder = file.parent().filter(|dir| !dir.as_os_str().is_empty());
        arguments.project = Some(folder.unwrap_or(Path::new(".")).to_owned());
    }
    if let Some(dir) = &arguments.project
        && !Project::is_project(dir)
    {
        anyhow::bail!(
            "{} is neither a command nor a Vokenboard project; see `vokenboard help`",
            dir.display()
        );
    }
    if !has_display() {
        anyhow::bail!(
            "there is no display to open the studio on; without one, use `vokenboard tell \"OPENING\" --out DIR`"
        );
    }
    let given = arguments.model.options();
    let choice = ModelChoice {
        model: given.model.unwrap_or_else(|| DEFAULT_MODEL.to_owned()),
        recipe: given.recipe,
        writer: given.writer,
        device: given.device,
    };
    let models = given.models;
    // What cannot be read is left out of what can be chosen; loading it says why.
    let library = weights::models_dir(models.as_deref()).ok();
    let offer = library
        .as_deref()
        .map(|dir| studio::models::offered_models(dir, &choice));
    let offer = offer.unwrap_or_default();
    studio::run(StudioOptions {
        project: arguments.project,
        models: offer.models,
        writers: offer.writers,
        library,
        away: offer.away,
        loader_for: Arc::new(move |choice| {
            pipeline::loader(pipeline::LoadOptions {
                models: models.clone(),
                model: Some(choice.model.clone()),
                writer: choice.writer.clone(),
                recipe: choice.recipe,
                voken: None,
                device: choice.device,
            })
        }),
        choice,
    })?;
    Ok(())
}

fn bench_ui(args: &UiBenchArgs) -> anyhow::Result<()> {
    let times = studio::bench_ui(args.panels, args.frames).map_err(anyhow::Error::msg)?;
    args.report(times.p50_ms, times.p99_ms, times.longest_ms)
}

/// Whether there is a screen to open a window on; only Linux goes without.
fn has_display() -> bool {
    !cfg!(target_os = "linux")
        || ["WAYLAND_DISPLAY", "WAYLAND_SOCKET", "DISPLAY"]
            .iter()
            .any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
}
