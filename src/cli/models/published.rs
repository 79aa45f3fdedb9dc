//! `vokenboard models add` and `plan` for a folder of the public weights of MiniGPT-5.

use std::path::Path;

use super::{AddArgs, PlanArgs, planned_on};
use crate::published::{self, PartPaths, PartReport, WeightsReport, format_bytes};

pub(super) fn add(args: &AddArgs, models: &Path) -> anyhow::Result<()> {
    let found = published::find(&args.path)?;
    for error in &found.unreadable {
        println!("{error}");
    }
    for path in &found.extra {
        println!("extra: {} is no part of the model", path.display());
    }
    let parts = found.choose(&args.path, &args.parts.given())?;
    let report = checked(&args.path, &parts)?;
    eprintln!("every file is read once for its checksum");
    let model = published::add(&args.path, &parts, models)?;
    let (id, size) = (&model.manifest.id, format_bytes(model.size()));
    let parts = report.parts.len();
    println!("added {id}: {parts} parts, {size}; tell a story with --model {id}");
    Ok(())
}

pub(super) fn plan(args: &PlanArgs, dir: &Path) -> anyhow::Result<()> {
    let given = args.parts.given();
    let parts = match given.is_empty() {
        true => PartPaths::of_folder(dir)?,
        false => published::find(dir)?.choose(dir, &given)?,
    };
    let device = planned_on(args.device)?;
    let report = checked(dir, &parts)?;
    let memory = args.memory.or(parts.memory());
    println!("{}", published::plan(&report, device, memory)?);
    Ok(())
}

/// Checks the parts and tells what was found.
fn checked(dir: &Path, parts: &PartPaths) -> anyhow::Result<WeightsReport> {
    let report = published::check(parts)?;
    for part in &report.parts {
        println!("{}", describe_part(part, dir));
    }
    for misfit in &report.misfits {
        println!("{misfit}");
    }
    if !report.is_good() {
        anyhow::bail!(
            "{} is not a model that can be used; get the files again that are named above",
            dir.display()
        );
    }
    Ok(report)
}

/// Names that are listed at most; the rest is counted.
const LISTED: usize = 8;

fn describe_part(part: &PartReport, dir: &Path) -> String {
    let path = part.path.strip_prefix(dir).unwrap_or(&part.path);
    let mut text = format!(
        "{:<18} {:>8.1} million numbers, {} in {}",
        part.name,
        part.numbers as f64 / 1e6,
        format_bytes(part.bytes),
        path.display()
    );
    let wrong = part.wrong.iter().map(|(name, found, needed)| {
        format!("{name} has shape {found:?} where {needed:?} is needed")
    });
    for (what, names) in [
        ("missing", part.missing.clone()),
        ("wrong shape", wrong.collect()),
        ("extra, not read", part.extra.clone()),
    ] {
        if names.is_empty() {
            continue;
        }
        let rest = match names.len() > LISTED {
            true => format!(" and {} more", names.len() - LISTED),
            false => String::new(),
        };
        let listed = names[..names.len().min(LISTED)].join(", ");
        text.push_str(&format!("\n  {what}: {listed}{rest}"));
    }
    text
}
