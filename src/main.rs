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
use vokenboard::weights::{self, DEFAULT_MODEL, Manifest};

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

fn open_studio(arguments: Cli) -> anyhow::Result<()> {
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
        device: given.device,
    };
    let models = given.models;
    studio::run(StudioOptions {
        project: arguments.project,
        models: storytellers(models.as_deref(), &choice.model),
        loader_for: Arc::new(move |choice| {
            pipeline::loader(pipeline::Options {
                models: models.clone(),
                model: Some(choice.model.clone()),
                voken: None,
                device: choice.device,
            })
        }),
        choice,
    })?;
    Ok(())
}

/// The models that the author can choose in the studio: those installed, and the folder that the
/// command line names. What cannot be read is left out here; loading it says why.
fn storytellers(models: Option<&Path>, chosen: &str) -> Vec<Storyteller> {
    let Ok(models) = weights::models_dir(models) else {
        return Vec::new();
    };
    let installed = weights::catalogue(&models).unwrap_or_default();
    let mut all: Vec<Storyteller> = installed
        .into_iter()
        .filter(|model| model.manifest.language_model.is_some())
        .flat_map(|model| {
            let recipes = pipeline::recipes(&model);
            let usual = Storyteller {
                model: model.manifest.id.clone(),
                manifest: model.manifest,
            };
            let others = recipes.into_iter().skip(1).map(|recipe| Storyteller {
                model: format!("{}:{recipe}", usual.model),
                manifest: Manifest {
                    name: format!("{} ({recipe})", usual.manifest.name),
                    ..usual.manifest.clone()
                },
            });
            let others: Vec<Storyteller> = others.collect();
            std::iter::once(usual).chain(others)
        })
        .collect();
    if !all.iter().any(|known| known.model == chosen)
        && let Ok(named) = weights::find(&models, chosen)
    {
        all.push(Storyteller {
            model: chosen.to_owned(),
            manifest: named.manifest,
        });
    }
    all
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
