//! The parts measured by themselves: operations, UNet, autoencoder, language model.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use serde_json::json;

use super::super::options::ModelArgs;
use super::super::output::JsonArgs;
use super::{peak_memory, print_rows};
use crate::diffusion::{BenchPart, StableDiffusionFamily, TextToImageModel, time_family};
use crate::llm::{CacheType, CausalLm, GgufLm, LanguageModelOptions};
use crate::nn;
use crate::nn::bench::{BenchFn, OpBench, op_benches, quantised_benches};
use crate::weights;

#[derive(Debug, Args)]
pub struct OpsBench {
    /// Only operations whose name or shape holds this
    #[arg(value_name = "WORD")]
    only: Option<String>,
    /// Seconds to repeat each operation
    #[arg(long, value_name = "S", default_value_t = 0.5)]
    seconds: f64,
    #[command(flatten)]
    pub(super) json: JsonArgs,
}

#[derive(Debug, Args)]
pub struct PartBench {
    /// Random f16 weights of the size of a published model in place of the installed one: sd1, sd2
    /// or sdxl, at its own picture size
    #[arg(long, value_name = "FAMILY", conflicts_with = "model")]
    family: Option<StableDiffusionFamily>,
    /// Matrices of the UNet multiplied in bf16, where the processor does that
    #[arg(long)]
    bf16: bool,
    /// Runs that are counted
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    pub(super) json: JsonArgs,
}

#[derive(Debug, Args)]
pub struct LlmBench {
    /// A GGUF file, an installed language model's id, or a model folder
    #[arg(long, value_name = "FILE|ID|DIR", default_value = "smollm2")]
    model: String,
    /// The folder of installed models [default: VOKENBOARD_MODELS, or the one that comes with the program]
    #[arg(long, value_name = "DIR")]
    models: Option<PathBuf>,
    #[command(flatten)]
    pub(super) json: JsonArgs,
}

/// The shortest of the runs in about `budget` seconds, at least two, after one that is not counted.
fn shortest(run: &BenchFn, budget: f64) -> anyhow::Result<f64> {
    run()?;
    let mut best = f64::INFINITY;
    let start = Instant::now();
    let mut runs = 0;
    while runs < 2 || start.elapsed().as_secs_f64() < budget {
        let one = Instant::now();
        run()?;
        best = best.min(one.elapsed().as_secs_f64());
        runs += 1;
    }
    Ok(best)
}

pub(super) fn ops(args: &OpsBench) -> anyhow::Result<()> {
    let wanted = |op: &OpBench| {
        let name = format!("{} {}", op.name, op.shape);
        args.only.as_ref().is_none_or(|word| name.contains(word))
    };
    println!(
        "{:<38} {:<28} {:>8} {:>8}  unit",
        "operation", "shape", "ours", "candle"
    );
    let mut all = Vec::new();
    for op in op_benches()?.into_iter().chain(quantised_benches()?) {
        if !wanted(&op) {
            continue;
        }
        let ours = op.work / shortest(&op.ours, args.seconds)?;
        let candle = match &op.candle {
            Some(run) => Some(op.work / shortest(run, args.seconds)?),
            None => None,
        };
        println!(
            "{:<38} {:<28} {ours:>8.1} {:>8}  {}/s",
            op.name,
            op.shape,
            candle.map_or_else(|| "-".to_string(), |c| format!("{c:.1}")),
            op.unit
        );
        all.push(json!({
            "operation": op.name, "shape": op.shape, "unit": format!("{}/s", op.unit),
            "ours": ours, "candle": candle,
        }));
    }
    args.json.write(&all.into())
}

pub(super) fn part(args: &PartBench, part: BenchPart) -> anyhow::Result<()> {
    let place = weights::select_device(args.model.device)?;
    let runs = usize::from(args.runs);
    let (name, seconds) = if let Some(family) = args.family {
        let seconds = time_family(family, part, runs, args.bf16, &place)?;
        (
            format!("random weights as large as {}", family.label()),
            seconds,
        )
    } else {
        let models = weights::models_dir(args.model.models.as_deref())?;
        let name = args.model.model.as_deref();
        let model = weights::find(&models, name.unwrap_or(weights::STORYWORLD_MODEL))?;
        let diffusion = TextToImageModel::load_with(&model.dir, &place, args.bf16)?;
        (model.manifest.id.clone(), diffusion.time(part, runs)?)
    };
    println!("{name} on {}", place.name());
    let what = match part {
        BenchPart::Unet => "UNet step, batch 2",
        BenchPart::Vae => "decoding a picture",
    };
    let rows = [
        (format!("{what}, shortest"), 1e3 * seconds[0], "ms"),
        (format!("{what}, median"), 1e3 * seconds[runs / 2], "ms"),
        (
            "peak memory".to_string(),
            peak_memory().unwrap_or(0.0),
            "MiB",
        ),
    ];
    print_rows(&rows, &args.json)
}

pub(super) fn llm(args: &LlmBench) -> anyhow::Result<()> {
    const ROUNDS: usize = 5;
    const READ: usize = 512;
    const WRITTEN: usize = 128;
    let mut path = PathBuf::from(&args.model);
    if !path.is_file() {
        let models = weights::models_dir(args.models.as_deref())?;
        path = weights::find(&models, &args.model)?.dir;
    }
    let options = LanguageModelOptions {
        context: READ + WRITTEN,
        cache: CacheType::F16,
    };
    let mut lm = GgufLm::open(&path, &options)?;
    let size = lm.vocabulary();
    let text: Vec<u32> = (0..READ + WRITTEN)
        .map(|i| ((i * 7919 + 100) % size) as u32)
        .collect();
    let mut logits = Vec::new();
    let mut read = |lm: &mut GgufLm, tokens: usize| {
        lm.read(&text[..tokens], &mut logits, &mut || {
            ControlFlow::Continue(())
        })
    };
    let (mut reading, mut writing) = (0f64, 0f64);
    for _ in 0..ROUNDS {
        lm.forget();
        let start = Instant::now();
        read(&mut lm, READ)?;
        reading = reading.max(READ as f64 / start.elapsed().as_secs_f64());
        lm.forget();
        // The first token is read before, so that only writing is measured.
        read(&mut lm, 1)?;
        let start = Instant::now();
        for tokens in 2..2 + WRITTEN {
            read(&mut lm, tokens)?;
        }
        writing = writing.max(WRITTEN as f64 / start.elapsed().as_secs_f64());
    }
    let each = lm.memory().read_for_a_token as f64;
    let memory = nn::read_bandwidth();
    let rows = [
        (format!("reading {READ} tokens"), reading, "tokens/s"),
        (format!("writing {WRITTEN} tokens"), writing, "tokens/s"),
        (
            "weights read while writing".to_string(),
            writing * each / 1e9,
            "GB/s",
        ),
        ("this memory, only read".to_string(), memory / 1e9, "GB/s"),
        (
            "share of that while writing".to_string(),
            100.0 * writing * each / memory,
            "%",
        ),
        (
            "peak memory".to_string(),
            peak_memory().unwrap_or(0.0),
            "MiB",
        ),
    ];
    print_rows(&rows, &args.json)
}
