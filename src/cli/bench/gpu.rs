//! `vokenboard bench gpu`: what a GPU through wgpu does, as a table to send us.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::cli::options::ModelArgs;
use crate::cli::output::JsonArgs;
use crate::diffusion::{BenchPart, RandomPart, StableDiffusionFamily, TextToImageModel};
use crate::nn::gpu::{AdapterKind, Gpu, Measured, kernels, measure};
use crate::weights::{self, ComputeDevices, DeviceChoice, Model};

mod pictures;

#[derive(Debug, Args)]
pub struct GpuBench {
    /// Only networks of random weights as large as those of this family: sd1, sd2 or sdxl [default: all three, and on software none]
    #[arg(long, value_name = "FAMILY")]
    family: Option<StableDiffusionFamily>,
    /// Times that each is run; the median is told
    #[arg(long, value_name = "N", default_value_t = 3)]
    runs: u8,
    /// Pictures of the model that are compared with the processor's [default: 20, on software 2]
    #[arg(long, value_name = "N")]
    pictures: Option<u8>,
    /// Also write these pictures to this PNG file, a row each: the processor's, then one for each way of computing
    #[arg(long, value_name = "FILE")]
    sheet: Option<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    pub(super) json: JsonArgs,
}

pub(super) fn run(args: &GpuBench) -> anyhow::Result<()> {
    args.json.force().check(args.sheet.as_deref())?;
    let choice = match args.model.device {
        DeviceChoice::Auto => DeviceChoice::Gpu(None),
        // What fails here is to be told.
        DeviceChoice::GpuOrCpu(number) => DeviceChoice::Gpu(number),
        choice => choice,
    };
    let place = weights::select_device(choice)?;
    let Some(gpu) = &place.gpu else {
        anyhow::bail!("{choice} is no GPU through wgpu; give one as --device gpu or gpu:0");
    };
    let info = gpu.info();
    println!(
        "{}, {}, {}, driver {}",
        info.name, info.kind, info.backend, info.driver
    );
    println!(
        "{:<56} {:>9} {:>8} {:>8} {:>6} {:>7} {:>8} {:>8} {:>5} {:>8} {:>8} {:>8}",
        "",
        "ms",
        "GFLOP",
        "GFLOP/s",
        "runs",
        "longest",
        "least",
        "moved",
        "times",
        "up",
        "down",
        "held"
    );
    println!(
        "{:<56} {:>9} {:>8} {:>8} {:>6} {:>7} {:>8} {:>8} {:>5} {:>8} {:>8} {:>8}",
        "", "", "", "", "", "ms", "MB", "MB", "", "MB", "MB", "MB"
    );
    let mut all = Vec::new();
    let mut tell = |measured: Measured| {
        let c = &measured.counts;
        let mb = |bytes: u64| bytes as f64 / 1e6;
        println!(
            "{:<56} {:>9.2} {:>8.2} {:>8.0} {:>6} {:>7.0} {:>8.1} {:>8.1} {:>5.2} {:>8.2} {:>8.2} {:>8.0}",
            measured.name,
            measured.seconds * 1e3,
            c.flops as f64 / 1e9,
            c.flops as f64 / 1e9 / measured.seconds,
            c.dispatches,
            c.longest * 1e3,
            mb(c.bytes),
            mb(c.moved),
            c.moved as f64 / c.bytes.max(1) as f64,
            mb(c.uploaded),
            mb(c.downloaded),
            mb(c.most_held),
        );
        all.push(json!({
            "name": measured.name, "seconds": measured.seconds, "flops": c.flops,
            "dispatches": c.dispatches, "submissions": c.submissions,
            "longest_submission_seconds": c.longest, "least_bytes": c.bytes,
            "moved_bytes": c.moved, "uploaded": c.uploaded, "downloaded": c.downloaded,
            "most_held": c.most_held,
        }));
    };
    let software = info.kind == AdapterKind::Software;
    let runs = usize::from(args.runs);
    let mut compared = Vec::new();
    if args.family.is_none() {
        // Software takes minutes for what a GPU does in a moment.
        for measured in kernels(gpu, if software { 4 } else { 1 }, runs)? {
            tell(measured);
        }
        let model = pictures::model_of(args)?;
        for measured in own_model(&model, &place, gpu, runs)? {
            tell(measured);
        }
        let count = args.pictures.unwrap_or(if software { 2 } else { 20 });
        let sheet = args.sheet.as_deref();
        compared = pictures::compare(&model, gpu, usize::from(count), sheet)?;
    }
    let families = match args.family {
        Some(family) => vec![family],
        None if software => Vec::new(),
        None => vec![
            StableDiffusionFamily::Sd1,
            StableDiffusionFamily::Sd2,
            StableDiffusionFamily::Sdxl,
        ],
    };
    for family in families {
        for (part, what) in [
            (BenchPart::Unet, "UNet step, batch 2"),
            (BenchPart::Vae, "decoding a picture"),
        ] {
            let name = format!("{}, {what}", family.label());
            let random = RandomPart::new(family, part, false, &place)?;
            tell(measure(gpu, &name, runs, &|| random.run().map(drop))?);
            drop(random);
            gpu.trim();
        }
    }
    println!(
        "least: what each kernel must read and write; moved: what goes between memory and a cache of 3 MB, by the order of their work"
    );
    let about = json!({
        "name": info.name, "kind": info.kind.to_string(), "backend": info.backend,
        "driver": info.driver, "memory": info.memory,
    });
    args.json
        .write(&json!({ "gpu": about, "measured": all, "pictures": compared }))
}

/// A model that is there: one step with guidance, and decoding.
fn own_model(
    model: &Model,
    place: &ComputeDevices,
    gpu: &Gpu,
    runs: usize,
) -> anyhow::Result<Vec<Measured>> {
    let diffusion = TextToImageModel::load_at(&model.dir, place)?;
    let id = &model.manifest.id;
    [
        (BenchPart::Unet, "UNet step, batch 2"),
        (BenchPart::Vae, "decoding a picture"),
    ]
    .into_iter()
    .map(|(part, what)| {
        let run = diffusion.once(part)?;
        Ok(measure(gpu, &format!("{id}, {what}"), runs, &|| {
            run().map(drop)
        })?)
    })
    .collect()
}
