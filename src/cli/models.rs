//! `vokenboard models`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use crate::published::{self, Part, PartReport, Parts, Report, format_bytes};
use crate::weights::{self, DeviceChoice, Model};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct ModelsArgs {
    #[command(subcommand)]
    command: Option<ModelsCommand>,
    /// The folder of installed models [default: VOKENBOARD_MODELS, or the one that comes with the program]
    #[arg(long, value_name = "DIR", global = true)]
    models: Option<PathBuf>,
    /// Check the SHA-256 of every file
    #[arg(long)]
    verify: bool,
    /// One JSON object per model
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum ModelsCommand {
    /// Find the parts of MiniGPT-5 in a folder of public weights, check them and add it as a model
    Add(AddArgs),
    /// Tell what of such a model will lie where, at which precision, and the peak of memory
    Plan(PlanArgs),
}

#[derive(Debug, Args)]
struct AddArgs {
    /// The folder of public weights
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    #[command(flatten)]
    parts: PartArgs,
}

#[derive(Debug, Args)]
struct PlanArgs {
    /// The folder of public weights, added or not
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    #[command(flatten)]
    parts: PartArgs,
    /// auto, cpu, cuda or metal; auto takes the best that works
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: DeviceChoice,
    /// How much memory may be used on the device, such as 8GB [default: as much as it takes]
    #[arg(long, value_name = "SIZE", value_parser = published::parse_bytes)]
    memory: Option<u64>,
}

/// Parts that are named rather than found.
#[derive(Debug, Args)]
struct PartArgs {
    /// The language model: a folder in Hugging Face's layout, or a GGUF file
    #[arg(long, value_name = "PATH")]
    llama: Option<PathBuf>,
    /// eva_vit_g.pth
    #[arg(long, value_name = "FILE")]
    eva_vit: Option<PathBuf>,
    /// blip2_pretrained_flant5xxl.pth
    #[arg(long, value_name = "FILE")]
    qformer: Option<PathBuf>,
    /// MiniGPT-4's checkpoint, which holds llama_proj
    #[arg(long, value_name = "FILE")]
    llama_proj: Option<PathBuf>,
    /// The folder of Stable Diffusion 2.1-base
    #[arg(long, value_name = "DIR")]
    stable_diffusion: Option<PathBuf>,
    /// stage1_cc3m.ckpt
    #[arg(long, value_name = "FILE")]
    stage1: Option<PathBuf>,
    /// stage2_vist.ckpt
    #[arg(long, value_name = "FILE")]
    stage2: Option<PathBuf>,
}

impl PartArgs {
    fn given(&self) -> BTreeMap<Part, PathBuf> {
        let paths = [
            (Part::Llama, &self.llama),
            (Part::EvaVit, &self.eva_vit),
            (Part::Qformer, &self.qformer),
            (Part::LlamaProj, &self.llama_proj),
            (Part::StableDiffusion, &self.stable_diffusion),
            (Part::Stage1, &self.stage1),
            (Part::Stage2, &self.stage2),
        ];
        let given = paths
            .into_iter()
            .filter_map(|(part, path)| Some((part, path.clone()?)));
        given.collect()
    }
}

pub fn run(args: &ModelsArgs) -> anyhow::Result<()> {
    match &args.command {
        Some(ModelsCommand::Add(add)) => run_add(add, args.models.as_deref()),
        Some(ModelsCommand::Plan(plan)) => run_plan(plan),
        None => run_list(args),
    }
}

fn run_add(args: &AddArgs, models: Option<&Path>) -> anyhow::Result<()> {
    let models = weights::models_dir(models)?;
    let found = published::find(&args.dir)?;
    for error in &found.unreadable {
        println!("{error}");
    }
    for path in &found.extra {
        println!("extra: {} is no part of the model", path.display());
    }
    let parts = found.choose(&args.dir, &args.parts.given())?;
    let report = checked(&args.dir, &parts)?;
    eprintln!("every file is read once for its checksum");
    let model = published::add(&args.dir, &parts, &models)?;
    let (id, size) = (&model.manifest.id, format_bytes(model.size()));
    let parts = report.parts.len();
    println!("added {id}: {parts} parts, {size}; tell a story with --model {id}");
    Ok(())
}

fn run_plan(args: &PlanArgs) -> anyhow::Result<()> {
    let given = args.parts.given();
    let parts = match given.is_empty() {
        true => Parts::of_folder(&args.dir)?,
        false => published::find(&args.dir)?.choose(&args.dir, &given)?,
    };
    let device = match args.device {
        DeviceChoice::Only(kind) => kind,
        choice @ DeviceChoice::Auto => weights::kind_of(&weights::select_device(choice)?),
    };
    let report = checked(&args.dir, &parts)?;
    let memory = args.memory.or(parts.memory());
    println!("{}", published::plan(&report, device, memory)?);
    Ok(())
}

/// Checks the parts and tells what was found.
fn checked(dir: &Path, parts: &Parts) -> anyhow::Result<Report> {
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

fn run_list(args: &ModelsArgs) -> anyhow::Result<()> {
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
