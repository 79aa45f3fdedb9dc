//! The program: reads the command line and opens the studio or runs a command.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use vokenboard::cli::{self, Cli, UiBenchArgs};
use vokenboard::pipeline;
use vokenboard::story::Project;
use vokenboard::studio::{self, StudioOptions};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    vokenboard::nn::share_cores();
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
        Some(command) => cli::run(command, bench_ui),
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
    let model = arguments.model.options();
    let device = model.device;
    studio::run(StudioOptions {
        project: arguments.project,
        loader_for: Arc::new(move |device| {
            pipeline::loader(pipeline::Options {
                device,
                ..model.clone()
            })
        }),
        device,
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
