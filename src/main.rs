//! The program: reads the command line and opens the studio or runs a command.

mod processor;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use vokenboard::cli::{self, Cli, UiBenchArgs};
use vokenboard::pipeline;
use vokenboard::story::Project;
use vokenboard::studio::{self, Choice, Storyteller, StudioOptions};
use vokenboard::weights::{self, DEFAULT_MODEL, Manifest, Model};

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
    vokenboard::logging::start();
    vokenboard::nn::share_cores();
    vokenboard::nn::keep_memory();
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Causes may come in many lines; what is told is one.
            let sentence = format!("{error:#}");
            let words: Vec<&str> = sentence.split_whitespace().collect();
            eprintln!("vokenboard: {}", words.join(" "));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Cli) -> anyhow::Result<()> {
    match arguments.command {
        Some(command) => {
            // Whoever reads what is printed may stop (`| head`): then this ends, too, quietly.
            sigpipe::reset();
            cli::run(command, bench_ui)
        }
        None => open_studio(arguments),
    }
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
    let choice = Choice {
        model: given.model.unwrap_or_else(|| DEFAULT_MODEL.to_owned()),
        recipe: given.recipe,
        writer: given.writer,
        device: given.device,
    };
    let models = given.models;
    let (storytellers, writers) = offered(models.as_deref(), &choice);
    studio::run(StudioOptions {
        project: arguments.project,
        models: storytellers,
        writers,
        loader_for: Arc::new(move |choice| {
            pipeline::loader(pipeline::Options {
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

/// The models that the author can choose in the studio, those that draw and those that write: all
/// that a recipe takes, and the one that the command line names. What cannot be read is left out
/// here; loading it says why.
fn offered(models: Option<&Path>, chosen: &Choice) -> (Vec<Storyteller>, Vec<Manifest>) {
    let Ok(models) = weights::models_dir(models) else {
        return Default::default();
    };
    let installed = weights::catalogue(&models).unwrap_or_default();
    let writers = installed.iter().filter(|model| pipeline::is_writer(model));
    let writers = writers.map(|model| model.manifest.clone()).collect();
    let mut all: Vec<Storyteller> = installed.into_iter().flat_map(with_recipes).collect();
    if !all.iter().any(|known| known.is(chosen))
        && let Ok(named) = weights::find(&models, &chosen.model)
    {
        all.push(Storyteller {
            model: chosen.model.clone(),
            recipe: chosen.recipe,
            manifest: named.manifest,
        });
    }
    (all, writers)
}

/// A model once for each of its recipes, by the usual one without naming it.
fn with_recipes(model: Model) -> Vec<Storyteller> {
    let recipes = pipeline::recipes(&model).into_iter().enumerate();
    let all = recipes.map(|(at, recipe)| Storyteller {
        model: model.manifest.id.clone(),
        recipe: (at > 0).then_some(recipe),
        manifest: match at {
            0 => model.manifest.clone(),
            _ => Manifest {
                name: format!("{} ({recipe})", model.manifest.name),
                ..model.manifest.clone()
            },
        },
    });
    all.collect()
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
