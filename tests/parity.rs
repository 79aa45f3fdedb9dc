//! The published architecture, number for number: every stage against values that the original
//! Python code recorded, on every folder under `tests/fixtures` that holds such a set, and on
//! those that `VOKENBOARD_PARITY_DIRS` names (separated by colons). A set is a folder with
//! `checkpoint/`, `vectors/` and `manifest.json`; sizes may differ. In sets that are named, parts
//! may be absent: a stage whose values or weights a set lacks is skipped and says so; a set of
//! which nothing can be compared fails, and so does a set of this repository that lacks a stage.
//!
//! Each stage prints one line: folder, stage, largest relative error, pass or fail. It is the
//! largest `max|a - b| / max|b|` over the stage's tensors; the limit is 1e-4, for gradients 1e-3;
//! token ids are exact, pictures to one grey level. An argument runs only the stages whose line
//! contains it.
//!
//! Where there is a GPU for wgpu (software too), the picture models run there as well, within 2e-3.
//!
//! Models that authors own come as cases: a folder with `case.json`, or one that holds such folders;
//! picture models (see `pictures`) and language models (see `writers`), which the keys in it tell
//! apart. There nothing is skipped: each value is compared, or the case fails.

#[path = "parity/diffusion.rs"]
mod diffusion;
#[path = "parity/fixture.rs"]
mod fixture;
#[path = "parity/generation.rs"]
mod generation;
#[path = "parity/language.rs"]
mod language;
#[path = "parity/pictures.rs"]
mod pictures;
#[path = "parity/report.rs"]
mod report;
#[path = "parity/samples.rs"]
mod samples;
#[path = "parity/training.rs"]
mod training;
#[path = "parity/vision.rs"]
mod vision;
#[path = "parity/writer_talk.rs"]
mod writer_talk;
#[path = "parity/writers.rs"]
mod writers;

use candle_core::Device;
use fixture::Fixture;
use report::{Outcome, Stage, Verdict};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use vokenboard::nn::gpu::{Arithmetic, Gpu, GpuOptions};
use vokenboard::weights::ComputeDevices;

const DIRS: &str = "VOKENBOARD_PARITY_DIRS";

type Run = fn(&Fixture, &str, &mut Stage) -> Outcome;

/// Every stage: the vectors that it needs, and what it does with them.
const STAGES: &[(&str, Run)] = &[
    ("preprocess", vision::preprocess),
    ("eva_vit", vision::eva_vit),
    ("qformer_proj", vision::qformer_proj),
    ("tokenizer_llama", language::tokenizer),
    ("llama_plain", language::llama),
    ("llama_lora", language::llama),
    ("resize_init", language::resize_init),
    ("cc3m_samples", samples::cc3m),
    ("mmdialog_samples", samples::mmdialog),
    ("vist_samples", language::vist_samples),
    ("vist_samples_stage2", language::vist_samples),
    ("input_warp", language::input_warp),
    ("mapper", language::mapper),
    ("generate_stage1_natural", generation::generate),
    ("generate_stage1_forced", generation::generate),
    ("generate_stage2_natural", generation::generate),
    ("generate_stage2_forced", generation::generate),
    ("generate_playground", generation::generate),
    ("generate_stop", generation::generate),
    ("generate_eos", generation::generate),
    ("tokenizer_clip", diffusion::tokenizer),
    ("clip_text", diffusion::clip_text),
    ("unet", diffusion::unet),
    ("vae", diffusion::vae),
    ("pndm", diffusion::trajectory),
    ("ddim", diffusion::trajectory),
    ("euler", diffusion::trajectory),
    ("dpmpp", diffusion::trajectory),
    ("train_stage1", training::train),
    ("train_stage1_cfgdrop", training::train),
    ("train_stage2", training::train),
    ("train_stage2_textonly", training::train),
];

/// Those that run on a GPU as well: networks that a model of this program loads onto one.
const ON_GPU: [&str; 17] = [
    "qformer_proj",
    "input_warp",
    "mapper",
    "generate_stage1_natural",
    "generate_stage1_forced",
    "generate_stage2_natural",
    "generate_stage2_forced",
    "generate_playground",
    "generate_stop",
    "generate_eos",
    "clip_text",
    "unet",
    "vae",
    "pndm",
    "ddim",
    "euler",
    "dpmpp",
];

/// candle's backward pass walks the graph by recursion, deeper than a thread's usual stack.
const STACK: usize = 256 << 20;

fn main() -> ExitCode {
    let run = std::thread::Builder::new().stack_size(STACK).spawn(run);
    match run.map(std::thread::JoinHandle::join) {
        Ok(Ok(true)) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// The processor, and a GPU through wgpu where there is one: software too, as automatic tests have.
fn places() -> Vec<ComputeDevices> {
    let mut places = vec![ComputeDevices::of(&Device::Cpu)];
    // Reference values were computed in f32.
    let options = GpuOptions {
        arithmetic: Some(Arithmetic::F32),
        ..GpuOptions::default()
    };
    match Gpu::open(Some(0), options) {
        Ok(gpu) => places.push(ComputeDevices {
            gpu: Some(gpu),
            ..ComputeDevices::of(&Device::Cpu)
        }),
        Err(error) => println!("no GPU: skipped ({error})"),
    }
    places
}

/// Whether everything passed, and there was something.
fn run() -> bool {
    let wanted = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let wanted = wanted.unwrap_or_default();
    let folders = folders();
    let mut good = !folders.is_empty();
    let places = places();
    for folder in folders {
        let (drawn, written) = (pictures::cases(&folder), writers::cases(&folder));
        if !drawn.is_empty() || !written.is_empty() {
            for place in &places {
                for case in &drawn {
                    good &= pictures::run(case, &wanted, place);
                }
            }
            for case in written {
                good &= writers::run(&case, &wanted);
            }
            continue;
        }
        let fixture = match Fixture::open(&folder) {
            Ok(fixture) => fixture,
            Err(error) => {
                println!("{}: fail ({error})", folder.display());
                good = false;
                continue;
            }
        };
        let asked = STAGES
            .iter()
            .filter(|(name, _)| format!("{} {name}", fixture.name).contains(&wanted));
        let mut verdicts: Vec<Verdict> = asked
            .clone()
            .map(|(name, check)| report::run(&fixture, name, *check))
            .collect();
        for gpu in places.iter().filter_map(|place| place.gpu.as_ref()) {
            let there = fixture.on(gpu);
            let asked = asked.clone().filter(|(name, _)| ON_GPU.contains(name));
            verdicts.extend(asked.map(|(name, check)| report::run(&there, name, *check)));
        }
        good &= !verdicts.contains(&Verdict::Fail);
        // What this repository records is there whole.
        if folder.starts_with(own()) && verdicts.contains(&Verdict::Skipped) {
            println!("{}: fail (a stage is missing)", folder.display());
            good = false;
        }
        // A folder of which nothing could be compared proves nothing.
        if !verdicts.is_empty() && !verdicts.contains(&Verdict::Pass) {
            println!("{}: fail (nothing could be compared)", folder.display());
            good = false;
        }
    }
    good
}

fn is_or_holds_cases(path: &Path) -> bool {
    !pictures::cases(path).is_empty() || !writers::cases(path).is_empty()
}

/// The recorded values of this repository.
fn own() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// Folders with recorded values.
fn folders() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = std::fs::read_dir(own())
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.join("vectors").is_dir() || is_or_holds_cases(path))
        .collect();
    folders.sort();
    let named = std::env::var(DIRS).unwrap_or_default();
    folders.extend(
        named
            .split(':')
            .filter(|n| !n.is_empty())
            .map(PathBuf::from),
    );
    folders
}
