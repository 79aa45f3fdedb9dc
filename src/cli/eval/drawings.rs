//! `vokenboard eval drawings`

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::{Args, ValueEnum};
use indicatif::ProgressBar;
use serde_json::json;

use super::super::options::guidance;
use super::super::output::{ForceArgs, write_json};
use crate::diffusion::{CompositionDiffusion, DenoisingOptions};
use crate::eval::{Accuracy, DrawingOptions, DrawingSource, SceneVerdict, Verdict, judge_drawings};
use crate::pipeline;
use crate::story::{Settings, read_picture_file};
use crate::storyworld::library::{CompositionSubject, cut_out};
use crate::weights::{self, ComputeDevices};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Whose {
    /// Drawings of the library that training saw
    Trained,
    /// Drawings of the library that training never saw
    HeldOut,
}

/// A share of whole pictures.
type OfScene = fn(&SceneVerdict) -> Accuracy;
/// What is told of whole pictures.
const SCENES: [(&str, OfScene); 5] = [
    ("place", |scene| scene.place),
    ("time", |scene| scene.time),
    ("weather", |scene| scene.weather),
    ("nobody twice", |scene| scene.once),
    ("nobody else", |scene| scene.nobody_else),
];

#[derive(Debug, Args)]
pub(super) struct DrawingsArgs {
    /// The model folder [default: the built-in Sprout Open]
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Whose drawings are drawn from
    #[arg(long, value_enum, default_value_t = Whose::HeldOut)]
    drawings: Whose,
    /// A folder of at least a hundred pictures of another hand to draw from in their place
    #[arg(long, value_name = "DIR", conflicts_with = "drawings")]
    pictures: Option<PathBuf>,
    /// Scenes of one, two and three figures, each
    #[arg(long, value_name = "N", default_value_t = 32)]
    samples: usize,
    /// The same number draws the same scenes
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Steps of each picture [default: Sprout Open's usual number]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=200))]
    steps: Option<u32>,
    /// Guidance scale [default: Sprout Open's usual one]
    #[arg(long, value_name = "X", value_parser = guidance)]
    guidance: Option<f32>,
    /// Write a PNG of the scenes, each as the renderer and as the model draws it
    #[arg(long, value_name = "FILE")]
    grid: Option<PathBuf>,
    /// Write the report here as well
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    force: ForceArgs,
}

/// Draws, judges and prints a table.
///
/// # Errors
/// A model or folder that can't be read, too few pictures, or a file that can't be written.
pub(super) fn run(args: &DrawingsArgs) -> anyhow::Result<()> {
    for file in [&args.json, &args.grid] {
        args.force.check(file.as_deref())?;
    }
    if args.samples == 0 {
        bail!("there is nothing to judge; ask for at least 1 with --samples");
    }
    let built_in = weights::find(&weights::models_dir(None)?, weights::DEFAULT_MODEL)?;
    let usual = pipeline::default_settings(Settings::default(), &built_in.manifest);
    let steps = args.steps.unwrap_or(usual.steps);
    let guidance = args.guidance.unwrap_or(usual.guidance);
    let dir = args.model.as_ref().unwrap_or(&built_in.dir);
    let source = match (&args.pictures, args.drawings) {
        (Some(dir), _) => DrawingSource::Other(pictures(dir)?),
        (None, Whose::Trained) => DrawingSource::Trained,
        (None, Whose::HeldOut) => DrawingSource::HeldOut,
    };
    let model = CompositionDiffusion::load(dir, &ComputeDevices::of(&candle_core::Device::Cpu))?;
    let options = DrawingOptions {
        samples: args.samples,
        seed: args.seed,
        how: DenoisingOptions {
            steps: steps as usize,
            guidance: f64::from(guidance),
            ..DenoisingOptions::default()
        },
        source,
    };
    let bar = ProgressBar::new_spinner();
    let report = judge_drawings(&model, &options, args.grid.as_deref(), &mut |what| {
        bar.set_message(what.to_owned());
        bar.tick();
    })?;
    bar.finish_and_clear();
    println!(
        "Figures whose nearest of 100 drawings is the right one, with 95 % intervals (Wilson):"
    );
    println!("{:<8} {:>28} {:>28}", "figures", "real scenes", "drawn");
    for (n, (real, drawn)) in report.real.0.iter().zip(&report.drawn.0).enumerate() {
        if drawn.of > 0 {
            println!(
                "{:<8} {:>28} {:>28}",
                n + 1,
                share_text(*real),
                share_text(*drawn)
            );
        }
    }
    let (real, drawn) = (report.real.all(), report.drawn.all());
    println!(
        "{:<8} {:>28} {:>28}",
        "all",
        share_text(real),
        share_text(drawn)
    );
    println!("Pictures with what they should show, judged in the same way:");
    let scenes = [&report.real_scenes, &report.drawn_scenes];
    for (name, of) in SCENES {
        let [real, drawn] = scenes.map(|scene| share_text(of(scene)));
        println!("{name:<20} {real:>28} {drawn:>28}");
    }
    let rates = |scene: &SceneVerdict| {
        let all = SCENES.iter().map(|(name, of)| {
            let share = of(scene);
            (
                name.replace(' ', "_"),
                json!({"right": share.right, "of": share.of}),
            )
        });
        all.collect::<serde_json::Map<_, _>>()
    };
    let shares = |verdict: &Verdict| {
        let rows = verdict.0.iter().filter(|share| share.of > 0);
        rows.map(|share| json!({"right": share.right, "of": share.of}))
            .collect::<Vec<_>>()
    };
    let report = json!({
        "seed": args.seed, "steps": steps, "guidance": guidance,
        "real": shares(&report.real), "drawn": shares(&report.drawn),
        "real_scenes": rates(&report.real_scenes), "drawn_scenes": rates(&report.drawn_scenes),
    });
    write_json(args.json.as_deref(), &report)?;
    Ok(())
}

/// The pictures of a folder, cut out, in the order of their names.
fn pictures(dir: &Path) -> anyhow::Result<Vec<CompositionSubject>> {
    let entries = std::fs::read_dir(dir);
    let entries = entries.map_err(|error| {
        anyhow::anyhow!(
            "{} can't be read ({error}); give --pictures a folder of pictures",
            dir.display()
        )
    })?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    paths.sort();
    let is_picture = |path: &PathBuf| {
        let ending = path.extension().and_then(|ending| ending.to_str());
        ending.is_some_and(|ending| matches!(ending, "png" | "jpg" | "jpeg" | "webp"))
    };
    paths.retain(is_picture);
    let subject = |path: &PathBuf| -> anyhow::Result<CompositionSubject> {
        Ok(CompositionSubject::Picture {
            picture: cut_out(&read_picture_file(path)?.0),
            like: None,
        })
    };
    paths.iter().map(subject).collect()
}

/// `91.2 % (31 of 34; 77 to 97)`
pub(super) fn share_text(share: Accuracy) -> String {
    let Some(rate) = share.rate() else {
        return "-".to_owned();
    };
    let (low, high) = wilson(share.right as f64, share.of as f64);
    format!(
        "{:.1} % ({} of {}; {:.0} to {:.0})",
        100.0 * rate,
        share.right,
        share.of,
        100.0 * low,
        100.0 * high
    )
}

/// Wilson's interval of a share at 95 %.
fn wilson(right: f64, of: f64) -> (f64, f64) {
    const Z: f64 = 1.96;
    let rate = right / of;
    let middle = rate + Z * Z / (2.0 * of);
    let half = Z * (rate * (1.0 - rate) / of + Z * Z / (4.0 * of * of)).sqrt();
    let whole = 1.0 + Z * Z / of;
    (
        ((middle - half) / whole).max(0.0),
        ((middle + half) / whole).min(1.0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_wilsons() {
        // 45 of 50: 0.786 to 0.957 (Newcombe 1998's method 3).
        let (low, high) = wilson(45.0, 50.0);
        assert!((low - 0.786).abs() < 0.001 && (high - 0.957).abs() < 0.001);
        assert_eq!(wilson(5.0, 5.0).1, 1.0);
    }
}
