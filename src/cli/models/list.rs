//! `vokenboard models`: the installed models and those that were added.

use serde_json::json;

use super::ModelsArgs;
use crate::published::format_bytes;
use crate::weights::{self, Model};

pub(super) fn run(args: &ModelsArgs) -> anyhow::Result<()> {
    let dir = weights::models_dir(args.models.as_deref())?;
    let installed = weights::installed(&dir)?;
    // What is broken is said, and does not hide the rest.
    for fault in &installed.faults {
        eprintln!("vokenboard: {fault}; it is passed over");
    }
    if installed.models.is_empty() {
        anyhow::bail!(
            "{} holds no models; restore it from the repository or name another with --models",
            dir.display()
        );
    }
    let mut damaged = 0;
    for model in &installed.models {
        let there = model.source.is_there();
        let whole = match (there, args.verify) {
            (false, _) => Ok(()),
            (true, true) => model.verify_checksums(),
            (true, false) => model.verify_sizes(),
        };
        damaged += usize::from(whole.is_err());
        if args.json {
            println!(
                "{}",
                json!({
                    "id": model.manifest.id, "name": model.manifest.name,
                    "pipeline": model.manifest.pipeline, "licence": model.manifest.licence,
                    "bytes": model.size(), "weights": model.manifest.weights_hash(),
                    "dir": model.dir, "draws": model.manifest.draws,
                    "source": model.source, "there": there,
                    "identity": model.manifest.identity,
                    "damaged": whole.as_ref().err().map(ToString::to_string),
                })
            );
        } else {
            println!("{}", describe(model));
        }
        if let Err(error) = whole {
            eprintln!("vokenboard: {error}");
        }
    }
    if damaged > 0 && args.verify {
        let of = installed.models.len();
        anyhow::bail!(
            "{damaged} of {of} models are damaged; get the files again that are named above"
        );
    }
    Ok(())
}

fn describe(model: &Model) -> String {
    let manifest = &model.manifest;
    let mut text = format!(
        "{:<12} {:>10}  {:<15} {:<12} {}",
        manifest.id,
        format_bytes(model.size()),
        manifest.pipeline,
        manifest.licence,
        manifest.summary
    );
    if !model.source.is_there() {
        text.push_str(&format!("\n  away: was at {}", model.source));
    }
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
