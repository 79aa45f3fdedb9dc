//! `vokenboard bench`

mod gpu;
mod picture;
mod precision;
mod speed;

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};

use super::options::ModelArgs;
use super::output::JsonArgs;
use crate::diffusion::BenchPart;
use crate::engine::{ContextPanel, Engine, Event, Make, Output, Progress, Request};
use crate::story::{PanelId, Size};

#[derive(Debug, Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    pub what: BenchWhat,
}

#[derive(Debug, Subcommand)]
pub enum BenchWhat {
    /// Each operation at named shapes, ours and candle's stock one
    Ops(speed::OpsBench),
    /// One step of drawing with guidance: the UNet on a batch of two
    Unet(speed::PartBench),
    /// From latents to a picture
    Vae(speed::PartBench),
    /// Whole pictures: from words, from a picture, in a region, with a reference
    Picture(Box<picture::PictureBench>),
    /// Pictures drawn in f32 and in bf16, and how far they differ (PSNR)
    Precision(Box<precision::PrecisionBench>),
    /// Kernels and networks on a GPU through wgpu, as a table to send us
    Gpu(Box<gpu::GpuBench>),
    /// The language model: reading 512 tokens, and writing
    Llm(speed::LlmBench),
    /// Load the model and tell a story: time to load, to the first token, to the first preview
    /// and to a picture, and memory
    Tell(TellBench),
    /// The studio's own work in a frame while a panel is made, without a screen
    Ui(UiBenchArgs),
}

impl BenchWhat {
    fn json(&self) -> &JsonArgs {
        match self {
            BenchWhat::Ops(args) => &args.json,
            BenchWhat::Unet(args) | BenchWhat::Vae(args) => &args.json,
            BenchWhat::Picture(args) => &args.json,
            BenchWhat::Precision(args) => &args.json,
            BenchWhat::Gpu(args) => &args.json,
            BenchWhat::Llm(args) => &args.json,
            BenchWhat::Tell(args) => &args.json,
            BenchWhat::Ui(args) => &args.json,
        }
    }
}

/// What `bench ui` measures.
#[derive(Debug, Args)]
pub struct UiBenchArgs {
    /// Panels on the board
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub panels: usize,
    /// Frames to draw
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub frames: u32,
    #[command(flatten)]
    json: JsonArgs,
}

impl UiBenchArgs {
    /// Tells the quantiles of the time a frame took, in milliseconds.
    ///
    /// # Errors
    /// A JSON file that can't be written.
    pub fn report(&self, p50: f64, p99: f64, longest: f64) -> anyhow::Result<()> {
        let name = format!("frame with {} panels", self.panels);
        let rows = [
            ("median", p50),
            ("99th percentile", p99),
            ("longest", longest),
        ];
        let rows = rows.map(|(quantile, ms)| (format!("{name}, {quantile}"), ms, "ms"));
        print_rows(&rows, &self.json)
    }
}

#[derive(Debug, Args)]
pub struct TellBench {
    /// Panels to tell
    #[arg(long, value_name = "N", default_value_t = 5)]
    panels: u32,
    /// Panels that the story has already, each with a picture
    #[arg(long, value_name = "N", default_value_t = 0)]
    panels_before: u32,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    json: JsonArgs,
}

pub(super) fn run(
    args: &BenchArgs,
    bench_ui: fn(&UiBenchArgs) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    args.what.json().check()?;
    match &args.what {
        BenchWhat::Ops(args) => speed::ops(args),
        BenchWhat::Unet(args) => speed::part(args, BenchPart::Unet),
        BenchWhat::Vae(args) => speed::part(args, BenchPart::Vae),
        BenchWhat::Picture(args) => picture::picture(args),
        BenchWhat::Precision(args) => precision::run(args),
        BenchWhat::Gpu(args) => gpu::run(args),
        BenchWhat::Llm(args) => speed::llm(args),
        BenchWhat::Tell(args) => tell(args),
        BenchWhat::Ui(args) => bench_ui(args),
    }
}

/// What was measured, its value and its unit.
type BenchRow = (String, f64, &'static str);

/// Prints the rows, and writes them to a JSON file if one is wanted.
fn print_rows(rows: &[BenchRow], json: &JsonArgs) -> anyhow::Result<()> {
    for (name, value, unit) in rows {
        println!("{name:<40} {value:>8.2} {unit}");
    }
    let values: serde_json::Map<String, serde_json::Value> = rows
        .iter()
        .map(|(name, value, unit)| (format!("{name} ({unit})"), (*value).into()))
        .collect();
    json.write(&values.into())
}

/// What one panel took.
#[derive(Default)]
struct Times {
    first_token: Option<Duration>,
    text: Option<Duration>,
    /// From the text's end.
    first_preview: Option<Duration>,
    picture: Duration,
}

const OPENING: &str = "A fox finds a glowing lantern in the snowy forest.";

fn tell(args: &TellBench) -> anyhow::Result<()> {
    let started = Instant::now();
    let engine = Engine::spawn(args.model.loader(), Box::new(|| {}));
    let description = loop {
        match engine.wait() {
            Event::Ready(description) => break description,
            Event::LoadFailed(reason) => anyhow::bail!(reason),
            _ => {}
        }
    };
    let load = started.elapsed();
    let before = args.panels_before;
    let mut context: Vec<ContextPanel> = (1..=before)
        .map(|number| context_panel(number, description.takes.size))
        .collect();
    let mut all = Vec::new();
    let mut whole = Vec::new();
    for number in before + 1..=before + args.panels.max(1) {
        let begun = Instant::now();
        let mut settings = description.default_settings.clone();
        settings.seed = u64::from(number);
        let given = (number == 1).then(|| OPENING.to_string());
        let (output, times) = panel(
            &engine,
            Request {
                context: context.clone(),
                text: given.clone(),
                picture: None,
                make: Make::Both,
                settings,
                ..Request::default()
            },
        )?;
        context.push(ContextPanel {
            id: PanelId(u64::from(number)),
            text: given
                .or(output.text.map(|(text, _)| text))
                .unwrap_or_default(),
            picture: output.picture.map(|(picture, _)| Arc::new(picture)),
        });
        all.push(times);
        whole.push(begun.elapsed().as_secs_f64());
    }
    let total = started.elapsed();
    let worst = |pick: fn(&Times) -> Option<Duration>| {
        let longest = all.iter().filter_map(pick).max().unwrap_or_default();
        longest.as_secs_f64()
    };
    let rows = [
        ("load", load.as_secs_f64(), "s"),
        ("first token, worst", worst(|t| t.first_token), "s"),
        ("text, worst", worst(|t| t.text), "s"),
        (
            "first preview after the text, worst",
            worst(|t| t.first_preview),
            "s",
        ),
        ("picture, worst", worst(|t| Some(t.picture)), "s"),
        (
            "first panel",
            whole.first().copied().unwrap_or_default(),
            "s",
        ),
        (
            "slowest panel after it",
            whole.iter().skip(1).copied().fold(0.0, f64::max),
            "s",
        ),
        ("whole story", total.as_secs_f64(), "s"),
        ("peak memory", peak_memory().unwrap_or(0.0), "MiB"),
    ];
    println!(
        "{} on {}, {} panels after {before}, {} steps",
        description.model,
        description.device,
        all.len(),
        description.default_settings.steps
    );
    print_rows(
        &rows.map(|(name, value, unit)| (name.to_string(), value, unit)),
        &args.json,
    )
}

/// Panel `number` of a story that goes on and on; no two pictures are alike.
fn context_panel(number: u32, size: Size) -> ContextPanel {
    let (width, height) = (size.width.max(1), size.height.max(1));
    let friends = ["owl", "rabbit", "bear", "mouse", "dragon"];
    // Of different things, so that no model is led to say the same again.
    let events = [
        "The fox asked the {} for the way to the lake.",
        "A cold wind blew the {}'s hat over the hill.",
        "In the old mill they heard the {} sing.",
        "The lantern went out, and the {} lit it with a spark.",
        "Under the bridge the {} had hidden a boat.",
        "Rain fell all night on the {}'s roof of leaves.",
        "The {} baked bread and gave the first piece away.",
    ];
    let at = number as usize;
    let text = events[at % events.len()].replace("{}", friends[at % friends.len()]);
    let [r, g, b] = [7, 59, 113].map(|by: u32| (number * by % 256) as u8);
    let picture = image::RgbaImage::from_fn(width, height, |x, y| {
        let shade = ((x * 255 / width + y * 255 / height) / 2) as u8;
        image::Rgba([r ^ shade, g, b ^ shade, 255])
    });
    ContextPanel {
        id: PanelId(u64::from(number)),
        text,
        picture: Some(Arc::new(picture)),
    }
}

fn panel(engine: &Engine, request: Request) -> anyhow::Result<(Output, Times)> {
    let started = Instant::now();
    let mut text_end = started;
    let mut times = Times::default();
    engine.submit(request);
    loop {
        match engine.wait() {
            // Empty ones say no more than that the model reads.
            Event::Progress(_, Progress::TextPiece(piece)) if !piece.is_empty() => {
                times.first_token.get_or_insert_with(|| started.elapsed());
            }
            Event::Progress(_, Progress::TextDone(..)) => {
                text_end = Instant::now();
                times.text = Some(started.elapsed());
            }
            Event::Progress(_, Progress::Step { .. }) => {
                times
                    .first_preview
                    .get_or_insert_with(|| text_end.elapsed());
            }
            Event::Finished(_, output) => {
                times.picture = text_end.elapsed();
                return Ok((output, times));
            }
            Event::Failed(_, reason) | Event::LoadFailed(reason) => anyhow::bail!(reason),
            _ => {}
        }
    }
}

/// The most memory this process has held, in MiB, where the system tells (Linux).
fn peak_memory() -> Option<f64> {
    // sysinfo knows what is held now, not the most that ever was.
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kibibytes: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes / 1024.0)
}
