//! `vokenboard models`

mod engine;
mod list;
mod look;
mod published;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};

use crate::catalogue::{self, CatalogueError};
use crate::nn::gpu::adapter;
use crate::published::{ModelPart, parse_bytes};
use crate::weights::{self, DeviceChoice, DeviceKind, WeightsKind};

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
    /// Add a model where it lies: a file, a folder, or a model of Ollama's by its name
    Add(AddArgs),
    /// Forget an added model; its files stay where they are
    Remove(RemoveArgs),
    /// Say what a file or folder is, without adding it
    Identify(look::IdentifyArgs),
    /// List every model in a folder tree, such as that of ComfyUI, A1111, LM Studio or Ollama
    Scan(look::ScanArgs),
    /// Tell how much memory a model takes at most, and what of it will lie where
    Plan(PlanArgs),
}

#[derive(Debug, Args)]
struct AddArgs {
    /// A .safetensors, .ckpt or .gguf file, a diffusers folder, a folder of the public weights of
    /// MiniGPT-5, what Ollama calls a model, the address of an OpenAI-compatible server, or
    /// `comfyui` with its address behind it
    #[arg(value_name = "PATH")]
    path: PathBuf,
    #[command(flatten)]
    engine: engine::EngineArgs,
    /// What the UNet predicts, where the file does not say (Stable Diffusion 2.x)
    #[arg(long, value_name = "WHAT")]
    prediction: Option<PredictionArg>,
    /// The vision projector (mmproj) of a language model: a file, or the id of an added one
    /// [default: the one that lies beside it]
    #[arg(long, value_name = "FILE", conflicts_with = "prediction")]
    mmproj: Option<PathBuf>,
    /// A text encoder or the VAE of FLUX.1 or Z-Image where they are files of their own: a file, or the
    /// id of an added one; once for each [default: those that lie beside it]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["prediction", "mmproj"])]
    with: Vec<PathBuf>,
    #[command(flatten)]
    parts: PartArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum PredictionArg {
    /// The noise
    Epsilon,
    /// The velocity
    #[value(name = "v", alias = "v_prediction", alias = "v-prediction")]
    V,
}

impl PredictionArg {
    fn name(self) -> &'static str {
        match self {
            PredictionArg::Epsilon => "epsilon",
            PredictionArg::V => "v_prediction",
        }
    }
}

#[derive(Debug, Args)]
struct RemoveArgs {
    /// As `vokenboard models` lists it
    #[arg(value_name = "ID")]
    id: String,
}

#[derive(Debug, Args)]
struct PlanArgs {
    /// An installed or added model, or a folder of public weights, added or not
    #[arg(value_name = "ID")]
    model: PathBuf,
    #[command(flatten)]
    parts: PartArgs,
    /// auto, cpu, cuda, metal, gpu, or a GPU by its number in `vokenboard devices` such as gpu:0; with ",cpu" behind a GPU the processor goes on where it fails; auto takes the best that works, and then the processor
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: DeviceChoice,
    /// How much memory may be used on the device, such as 8GB [default: as much as it takes]
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    memory: Option<u64>,
    /// Width and height of pictures, such as 1024x768 [default: those that the model was trained for]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    size: Option<(u32, u32)>,
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
    fn given(&self) -> BTreeMap<ModelPart, PathBuf> {
        let paths = [
            (ModelPart::Llama, &self.llama),
            (ModelPart::EvaVit, &self.eva_vit),
            (ModelPart::Qformer, &self.qformer),
            (ModelPart::LlamaProj, &self.llama_proj),
            (ModelPart::StableDiffusion, &self.stable_diffusion),
            (ModelPart::Stage1, &self.stage1),
            (ModelPart::Stage2, &self.stage2),
        ];
        let given = paths
            .into_iter()
            .filter_map(|(part, path)| Some((part, path.clone()?)));
        given.collect()
    }
}

pub(super) fn run(args: &ModelsArgs) -> anyhow::Result<()> {
    let models = || weights::models_dir(args.models.as_deref());
    match &args.command {
        Some(ModelsCommand::Add(add)) => run_add(add, &models()?),
        Some(ModelsCommand::Remove(remove)) => {
            let model = catalogue::remove(&remove.id, &models()?)?;
            println!("forgot {}; it stays at {}", remove.id, model.source);
            Ok(())
        }
        Some(ModelsCommand::Identify(identify)) => look::identify(identify, args.json),
        Some(ModelsCommand::Scan(scan)) => look::scan(scan, args.json, models),
        Some(ModelsCommand::Plan(plan)) => run_plan(plan, &models()?),
        None => list::run(args),
    }
}

fn run_add(args: &AddArgs, models: &Path) -> anyhow::Result<()> {
    if engine::is_one(&args.path, &args.engine) {
        return engine::add(&args.path, &args.engine, models);
    }
    if !args.parts.given().is_empty() {
        return published::add(args, models);
    }
    let prediction = args.prediction.map(PredictionArg::name);
    match catalogue::identify(&args.path) {
        Ok(found)
            if found.is == WeightsKind::Storyteller
                && !args.path.join(weights::MANIFEST).is_file() =>
        {
            return published::add(args, models);
        }
        // A folder that is no model by itself may hold the parts of one.
        Err(CatalogueError::Trouble { .. })
            if args.path.is_dir() && !crate::published::find(&args.path)?.parts.is_empty() =>
        {
            return published::add(args, models);
        }
        _ => {}
    }
    let added = match &args.mmproj {
        Some(projector) => catalogue::add_with_projector(&args.path, projector, models)?,
        None if !args.with.is_empty() => catalogue::add_with_parts(&args.path, &args.with, models)?,
        None => catalogue::add(&args.path, None, prediction, models)?,
    };
    println!("{}", look::added(&added));
    Ok(())
}

fn parse_size(text: &str) -> Result<(u32, u32), String> {
    let sides = text.split_once('x').and_then(|(width, height)| {
        let side = |text: &str| text.parse().ok().filter(|side| (8..=8192).contains(side));
        Some((side(width)?, side(height)?))
    });
    sides.ok_or_else(|| "give a size such as 1024x768".to_string())
}

/// The device of candle's that a plan is made for. A network takes as much on a GPU through wgpu as
/// beside the processor.
fn planned_on(choice: DeviceChoice) -> anyhow::Result<DeviceKind> {
    Ok(match choice {
        DeviceChoice::Only(kind) => kind,
        DeviceChoice::Gpu(number) | DeviceChoice::GpuOrCpu(number) => {
            number.map(adapter).transpose()?;
            DeviceKind::Cpu
        }
        DeviceChoice::Auto => weights::kind_of(&weights::select_candle_device()),
    })
}

fn run_plan(args: &PlanArgs, models: &Path) -> anyhow::Result<()> {
    let known = args.model.to_str().map(|id| weights::find(models, id));
    let model = match known {
        // A folder of public weights that was not added, or the parts of one.
        _ if !args.parts.given().is_empty() => return published::plan(args, &args.model),
        Some(Ok(model)) if model.manifest.pipeline == crate::published::PIPELINE => {
            return published::plan(args, &model.dir);
        }
        Some(Ok(model)) => model,
        _ if args.model.is_dir() => return published::plan(args, &args.model),
        Some(Err(error)) => return Err(error.into()),
        None => anyhow::bail!("{} is no id of a model", args.model.display()),
    };
    let device = planned_on(args.device)?;
    println!(
        "{}",
        catalogue::plan(&model, device, args.memory, args.size)?
    );
    let on_gpu = matches!(
        args.device,
        DeviceChoice::Gpu(_) | DeviceChoice::GpuOrCpu(_)
    );
    if on_gpu && let Some(more) = catalogue::plan_on_gpu(&model, args.size)? {
        println!("{more}");
    }
    Ok(())
}
