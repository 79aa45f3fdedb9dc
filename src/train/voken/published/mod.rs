//! Stages `align` and `story` of the published model, on an author's own files: MiniGPT-5's two
//! stages as the reference trains them (`MiniGPT5_InputImage`). Its losses, what it trains and how
//! fast, its samples, its dropout; what is written can be named as a model, and trained again.

mod material;
mod nets;
#[cfg(test)]
mod tests;

use super::data::TrainingStory;
use super::loss::LossWeights;
use super::stage::VokenStage;
use super::{datasets, telling};
use crate::cause::Cause;
use crate::llm::LlmError;
use crate::pipeline::{ContextPanel, Make, Pipeline, PipelineError, Request};
use crate::published::{PartPaths, is_published, write_down};
use crate::story::{PanelId, SchedulerName, Settings};
use crate::train::course::{self, Course, Decay, Phase, StepLosses};
use crate::train::optimizer::{AdamSettings, AdamW};
use crate::train::{Result, TrainError, checkpoint, read_config, write_whole};
use candle_core::Var;
use candle_core::backprop::GradStore;
use image::DynamicImage;
use material::{TokenisedSample, items, pick};
use nets::{PublishedNetworks, PublishedPass};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// candle's backward pass walks the graph by recursion, deeper than a thread's usual stack.
const STACK: usize = 256 << 20;
/// Panels of a sample story.
const PANELS: usize = 4;

/// Settings of both stages (TOML); the defaults are the reference's. Paths are relative to the
/// file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishedSettings {
    /// Folder of the published model, which is not changed.
    pub model: PathBuf,
    /// Seed of everything drawn at random.
    pub seed: u64,
    /// Steps in all.
    pub steps: u64,
    /// Samples of a step.
    #[serde(default = "batch")]
    pub batch: usize,
    /// Samples that go through the networks together, as many as memory holds; a step's gradient
    /// is the mean over its groups.
    #[serde(default = "at_once")]
    pub at_once: usize,
    /// Learning rate after the warm-up.
    #[serde(default = "learning_rate")]
    pub learning_rate: f64,
    /// Steps over which the learning rate rises to its value.
    #[serde(default = "warmup")]
    pub warmup: u64,
    /// Weights of the losses.
    #[serde(default)]
    pub loss: LossWeights,
    /// Steps between checkpoints.
    pub checkpoint_every: u64,
    /// Steps between samples.
    pub sample_every: u64,
}

fn batch() -> usize {
    48
}

fn at_once() -> usize {
    1
}

fn learning_rate() -> f64 {
    2e-5
}

fn warmup() -> u64 {
    1000
}

/// Whether the settings in `config` name a published model.
pub fn names_one(config: &Path) -> bool {
    #[derive(Deserialize)]
    struct NamedSample {
        model: PathBuf,
    }
    let text = crate::files::read_text(config).unwrap_or_default();
    let base = config.parent().unwrap_or(Path::new("."));
    toml::from_str::<NamedSample>(&text).is_ok_and(|named| is_published(&base.join(named.model)))
}

/// Runs a stage to its last step.
///
/// # Errors
/// Settings, data or folders that can't be used, or a loss that is no longer a number.
pub fn train(
    stage: VokenStage,
    config: &Path,
    run: &Path,
    resume: bool,
    data: Option<&Path>,
) -> Result<()> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .stack_size(STACK)
            .spawn_scoped(scope, || learn(stage, config, run, resume, data))
            .map_err(candle_core::Error::wrap)?;
        match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn learn(
    stage: VokenStage,
    config: &Path,
    run: &Path,
    resume: bool,
    data: Option<&Path>,
) -> Result<()> {
    let s: PublishedSettings = read_config(config)?;
    if [s.batch, s.at_once].contains(&0) || s.checkpoint_every == 0 || s.sample_every == 0 {
        return Err(TrainError::Config(
            config.to_owned(),
            "batch, at_once, checkpoint_every and sample_every must be above 0".into(),
        ));
    }
    let data = data.ok_or(TrainError::WantsData)?;
    checkpoint::may_begin(run, resume)?;
    let strips = datasets::read(data)?;
    let base = config.parent().unwrap_or(Path::new("."));
    let parts = PartPaths::of_folder(&base.join(&s.model))?;
    let device = crate::train::device();
    let nets = PublishedNetworks::read(parts, stage, strips.clone(), s.seed, &device)?;
    let items = learnable(&nets, &strips, stage, s.seed, data)?;
    let mut opt = AdamW::new(nets.params.vars(), AdamSettings::pytorch())?;
    let mut learning = PublishedTraining {
        settings: &s,
        stage,
        run,
        nets,
        items,
        strips,
    };
    let phase = Phase {
        peak: s.learning_rate,
        warmup: s.warmup,
        steps: s.steps,
        decay: Decay::Linear,
    };
    let course = Course {
        sample_every: s.sample_every,
        ..Course::new(
            run,
            resume,
            phase,
            s.checkpoint_every,
            &VokenStage::LOSSES[..3],
        )
    };
    course::run(&course, &mut opt, &mut learning)
}

/// What a run holds.
struct PublishedTraining<'a> {
    settings: &'a PublishedSettings,
    stage: VokenStage,
    run: &'a Path,
    nets: PublishedNetworks,
    items: Vec<TokenisedSample>,
    strips: Vec<TrainingStory>,
}

impl course::Stage for PublishedTraining<'_> {
    const ALL_LEARN: bool = false;

    fn step(&mut self, step: u64) -> Result<StepLosses> {
        let s = self.settings;
        let (grads, losses) = gradients(&mut self.nets, &self.items, s, self.stage, step)?;
        Ok(StepLosses {
            grads: vec![grads],
            losses: losses.to_vec(),
            samples: s.batch,
        })
    }

    fn rate_factor(&self, name: &str) -> f64 {
        self.stage.rate_factor(name)
    }

    fn export(&mut self, _: &AdamW) -> Result<()> {
        write(&self.nets, self.run, self.stage)
    }

    fn sample(&mut self, opt: &AdamW, _: bool) -> Result<()> {
        let told = generate_story(&self.nets, &self.strips, self.settings.seed)?;
        telling::write(&[told], self.run, opt.steps())
    }
}

/// The samples in `strips`, of which there is at least one.
fn learnable(
    nets: &PublishedNetworks,
    strips: &[TrainingStory],
    stage: VokenStage,
    seed: u64,
    data: &Path,
) -> Result<Vec<TokenisedSample>> {
    let limit = nets.model.llama.config().max_position_embeddings;
    let queries = nets.tower.config().qformer.num_query_tokens;
    let (tokenizer, vocabulary) = (&nets.published.tokenizer, &nets.model.vocabulary);
    let room = (limit, queries);
    let (items, left_out) = items(strips, stage, tokenizer, vocabulary, room, seed);
    if left_out > 0 {
        eprintln!("{left_out} samples are longer than the {limit} tokens that the model reads");
    }
    match items.is_empty() {
        true => Err(TrainError::Data {
            path: data.to_owned(),
            line: None,
            why: "none of its panels has a picture with a text that is short enough".into(),
        }),
        false => Ok(items),
    }
}

/// Gradients and losses of a step, the mean over its groups.
fn gradients(
    nets: &mut PublishedNetworks,
    items: &[TokenisedSample],
    s: &PublishedSettings,
    stage: VokenStage,
    step: u64,
) -> Result<(GradStore, [f64; 3])> {
    let vars = nets.params.vars();
    // All that is random in a step follows from its number, so that a run can be taken up again.
    let mut rng = ChaCha8Rng::seed_from_u64(s.seed ^ 0x9d15);
    rng.set_stream(step);
    let picked = pick(items.len(), s.batch, step, s.seed);
    let groups: Vec<&[usize]> = picked.chunks(s.at_once).collect();
    let share = 1.0 / groups.len() as f64;
    let mut whole: Option<PublishedPass> = None;
    for group in groups {
        if stage == VokenStage::Story {
            let dropout = nets.published.sizes.lora.dropout;
            nets.model
                .llama
                .drop_adapter_inputs(dropout, rng.random())?;
        }
        let pass = pass(nets, items, group, s, share, &mut rng)?;
        whole = Some(match whole {
            None => pass,
            Some(before) => sum(before, pass, &vars)?,
        });
    }
    let Some(PublishedPass { grads, losses }) = whole else {
        return Err(candle_core::Error::Msg("a step has no samples".into()).into());
    };
    Ok((grads, losses))
}

/// The losses of the samples `group`, in each of whose places the next one stands whose pictures
/// can be read.
fn pass(
    nets: &mut PublishedNetworks,
    items: &[TokenisedSample],
    group: &[usize],
    s: &PublishedSettings,
    share: f64,
    rng: &mut ChaCha8Rng,
) -> Result<PublishedPass> {
    loop {
        let sound = |at: &usize| {
            let mut behind = items.iter().cycle().skip(*at).take(items.len());
            behind.find(|item| nets.has(item))
        };
        let group: Option<Vec<&TokenisedSample>> = group.iter().map(sound).collect();
        let Some(group) = group else {
            let nothing = "none of the pictures can be read any more";
            return Err(candle_core::Error::Msg(nothing.to_owned()).into());
        };
        // What is random is drawn as if the bad picture had never been there.
        let mut tried = rng.clone();
        if let Some(pass) = nets.pass(&group, &s.loss, share, &mut tried)? {
            *rng = tried;
            return Ok(pass);
        }
    }
}

fn sum(
    mut a: PublishedPass,
    mut b: PublishedPass,
    vars: &[(String, Var)],
) -> Result<PublishedPass> {
    for (_, var) in vars {
        if let Some(more) = b.grads.remove(var) {
            let sum = match a.grads.remove(var) {
                Some(known) => (known + more)?,
                None => more,
            };
            a.grads.insert(var, sum);
        }
    }
    a.losses.iter_mut().zip(b.losses).for_each(|(a, b)| *a += b);
    Ok(a)
}

/// Writes what the stage trained, under the reference's names, and makes the run a model folder:
/// its other parts stay where they are.
fn write(nets: &PublishedNetworks, run: &Path, stage: VokenStage) -> Result<()> {
    let name = match stage {
        VokenStage::Align => "stage1.safetensors",
        VokenStage::Story => "stage2.safetensors",
    };
    let file = run.join(name);
    let fail = |why: Cause| TrainError::Write(file.clone(), why);
    let state = nets.params.to_file_layout(None)?;
    let bytes = safetensors::serialize(&state, None).map_err(|e| fail(e.into()))?;
    write_whole(&file, &bytes)?;
    let parts = nets.published.parts().absolute();
    let mut parts = parts.map_err(|e| fail(e.into()))?;
    match stage {
        // A second stage belongs to the first that it was trained on.
        VokenStage::Align => (parts.stage1, parts.stage2) = (file.clone(), None),
        VokenStage::Story => parts.stage2 = Some(file.clone()),
    }
    Ok(write_down(run, &parts, "trained on files of its owner")?)
}

/// Tells the first story: its opening is given, the rest is the model's own, told by the pipeline
/// that authors use.
fn generate_story(
    nets: &PublishedNetworks,
    strips: &[TrainingStory],
    seed: u64,
) -> Result<telling::GeneratedStory> {
    let mut pipeline = nets.pipeline()?;
    let opening = strips.iter().flat_map(|strip| &strip.panels);
    let opening = opening.map(|panel| panel.text.trim());
    let mut given = opening.into_iter().find(|text| !text.is_empty());
    let mut context: Vec<ContextPanel> = Vec::new();
    for at in 0..PANELS as u64 {
        let mut request = Request {
            context: context.clone(),
            text: given.take().map(str::to_string),
            picture: None,
            make: Make::Both,
            settings: Settings {
                seed: seed + at,
                scheduler: SchedulerName::from("ddim"),
                steps: 15,
                ..pipeline.describe().default_settings.clone()
            },
            ..Request::default()
        };
        let mut make =
            |request: &Request| pipeline.generate(request, &mut |_| ControlFlow::Continue(()));
        let made = match make(&request) {
            Err(PipelineError::Language(LlmError::Speechless)) => {
                // A model at its beginning may have nothing to say.
                request.text = Some("...".to_string());
                make(&request)
            }
            made => made,
        };
        let made = made?.unwrap_or_default();
        let text = made.text.map(|(text, _)| text).or(request.text);
        context.push(ContextPanel {
            id: PanelId(at),
            text: text.unwrap_or_default(),
            picture: made.picture.map(|(picture, _)| Arc::new(picture)),
        });
    }
    let panel = |panel: ContextPanel| {
        let picture = panel.picture.map(|picture| picture.as_ref().clone());
        let picture = DynamicImage::ImageRgba8(picture.unwrap_or_default());
        (panel.text, picture.to_rgb8())
    };
    Ok(context.into_iter().map(panel).collect())
}
