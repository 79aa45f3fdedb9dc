//! `vokenboard models`

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::weights::{self, Model};

#[derive(Debug, Args)]
pub struct ModelsArgs {
    /// The folder of installed models [default: VOKENBOARD_MODELS, or the one that comes with the program]
    #[arg(long, value_name = "DIR")]
    models: Option<PathBuf>,
    /// Check the SHA-256 of every file
    #[arg(long)]
    verify: bool,
    /// One JSON object per model
    #[arg(long)]
    json: bool,
}

pub fn run(args: &ModelsArgs) -> anyhow::Result<()> {
    let dir = weights::models_dir(args.models.as_deref())?;
    let models = weights::catalogue(&dir)?;
    if models.is_empty() {
        anyhow::bail!(
            "{} holds no models; restore it from the repository or name another with --models",
            dir.display()
        );
    }
    for model in &models {
        if args.verify {
            model.verify_checksums()?;
        } else {
            model.verify_sizes()?;
        }
        if args.json {
            println!(
                "{}",
                json!({
                    "id": model.manifest.id, "name": model.manifest.name,
                    "pipeline": model.manifest.pipeline, "licence": model.manifest.licence,
                    "bytes": model.size(), "weights": model.manifest.weights_hash(),
                    "dir": model.dir, "draws": model.manifest.draws,
                })
            );
        } else {
            println!("{}", describe(model));
        }
    }
    Ok(())
}

fn describe(model: &Model) -> String {
    let manifest = &model.manifest;
    let mut text = format!(
        "{:<12} {:>10}  {:<15} {:<12} {}",
        manifest.id,
        size(model.size()),
        manifest.pipeline,
        manifest.licence,
        manifest.summary
    );
    let draws = &manifest.draws;
    for (what, names) in [
        ("characters", &draws.characters),
        ("things", &draws.things),
        ("places", &draws.places),
        ("times", &draws.times),
        ("weathers", &draws.weathers),
    ] {
        if !names.is_empty() {
            text.push_str(&format!("\n  {what}: {}", names.join(", ")));
        }
    }
    text
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_for_people() {
        assert_eq!(size(999), "999 B");
        assert_eq!(size(1_500), "1.5 kB");
        assert_eq!(size(60_000_000), "60.0 MB");
        assert_eq!(size(2_500_000_000), "2.5 GB");
    }
}
