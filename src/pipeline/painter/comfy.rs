//! A painter on a ComfyUI: one of its checkpoints by a built-in graph, or the author's own workflow.

use std::ops::ControlFlow;
use std::sync::Arc;

use candle_core::Device;
use image::{Rgba, RgbaImage};
use serde_json::Value;

use super::{
    Brief, Capabilities, Drawn, Painter, PainterDescription, PainterKind, SizeRange, embeddings,
};
use crate::pipeline::{LoadProgress, PipelineError, Progress};
use crate::remote::comfy::{
    self, CheckpointGraph, ComfyModel, Guide, Input, JobEvent, LoraNode, Values, Workflow,
};
use crate::remote::{Address, Client, keys};
use crate::story::{ImageId, SchedulerName, Settings, Size};
use crate::weights::{Model, Source};

/// Our schedulers and what ComfyUI calls them: a sampler and a noise schedule.
const SCHEDULERS: [(&str, &str, &str); 10] = [
    ("euler", "euler", "normal"),
    ("euler-karras", "euler", "karras"),
    ("euler-a", "euler_ancestral", "normal"),
    ("euler-a-karras", "euler_ancestral", "karras"),
    ("dpm++", "dpmpp_2m", "normal"),
    ("dpm++-karras", "dpmpp_2m", "karras"),
    ("ddim", "ddim", "ddim_uniform"),
    ("pndm", "ipndm", "normal"),
    ("unipc", "uni_pc", "normal"),
    ("lcm", "lcm", "sgm_uniform"),
];

/// What was found on a ComfyUI.
pub(super) struct Kind;

impl PainterKind for Kind {
    fn detect(&self, model: &Model) -> bool {
        model.manifest.pipeline == comfy::PIPELINE
    }

    /// Asks the engine what it has, so that one that is off, or has lost the checkpoint, is told at
    /// once.
    fn load(
        &self,
        model: &Model,
        _device: &Device,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Box<dyn Painter>, PipelineError> {
        let broken = || {
            PipelineError::Request(format!(
                "what was kept of the model {} can't be read; remove it and add its address again",
                model.manifest.id
            ))
        };
        let Source::Address(address) = &model.source else {
            return Err(broken());
        };
        let address = Address::parse(address.split('#').next().unwrap_or_default())?;
        let kept = model.manifest.engine.clone().ok_or_else(broken)?;
        let what: ComfyModel = serde_json::from_value(kept).map_err(|_| broken())?;
        progress(LoadProgress {
            what: format!("ComfyUI at {}", address.host()),
            done: 0,
            of: 1,
        });
        let client = Client::new(address.clone(), keys::find(&address).as_ref())?;
        let about = comfy::look(&client)?;
        if let ComfyModel::Checkpoint { name, .. } = &what
            && !about.checkpoints.contains(name)
        {
            return Err(PipelineError::Request(format!(
                "ComfyUI at {address} has no checkpoint {name} any more; put it back there or choose another model"
            )));
        }
        let takes = takes(&what, &about);
        let description = PainterDescription {
            model: model.manifest.id.clone(),
            weights: format!("{} of {address}", what.label()),
            device: format!("ComfyUI at {}", address.host()),
            default_settings: Settings {
                guidance: 7.0,
                scheduler: takes.schedulers.first().cloned().unwrap_or_default(),
                ..Settings::default()
            },
            takes,
            ..PainterDescription::default()
        };
        Ok(Box::new(ComfyPainter {
            client,
            what,
            about,
            description,
        }))
    }
}

/// What a checkpoint there, or a workflow, can be given.
fn takes(what: &ComfyModel, about: &comfy::About) -> Capabilities {
    match what {
        ComfyModel::Checkpoint { width, height, .. } => Capabilities {
            size: Size {
                width: *width,
                height: *height,
            },
            sizes: Some(free_sizes(width * height)),
            negative: true,
            guidance: 1.0..=30.0,
            schedulers: SCHEDULERS
                .iter()
                .filter(|(_, sampler, schedule)| {
                    let has = |list: &[String], name: &str| list.iter().any(|known| known == name);
                    has(&about.samplers, sampler) && has(&about.schedulers, schedule)
                })
                .map(|(name, ..)| SchedulerName::from(*name))
                .collect(),
            clip_skip: true,
            loras: !about.loras.is_empty(),
            embeddings: true,
            vae: !about.vaes.is_empty(),
            init: true,
            mask: true,
            ..Capabilities::default()
        },
        ComfyModel::Workflow { workflow, .. } => {
            let has = |input| workflow.takes(input);
            let (width, height) = workflow.size().unwrap_or((1024, 1024));
            let references = Input::REFERENCES
                .into_iter()
                .take_while(|input| has(*input));
            Capabilities {
                size: Size { width, height },
                sizes: (has(Input::Width) && has(Input::Height))
                    .then(|| free_sizes(width * height)),
                negative: has(Input::Negative),
                guidance: 1.0..=30.0,
                init: has(Input::Init),
                mask: has(Input::Mask),
                references: references.count(),
                ..Capabilities::default()
            }
        }
    }
}

fn free_sizes(budget: u32) -> SizeRange {
    SizeRange {
        step: 8,
        least: 64,
        most: 4096,
        budget,
    }
}

struct ComfyPainter {
    client: Client,
    what: ComfyModel,
    about: comfy::About,
    description: PainterDescription,
}

impl Painter for ComfyPainter {
    fn describe(&self) -> &PainterDescription {
        &self.description
    }

    fn draw(
        &mut self,
        brief: &Brief,
        sink: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Option<Drawn>, PipelineError> {
        let mut sent = Sent {
            client: &self.client,
            sink,
        };
        let Some(graph) = self.graph(brief, &mut sent)? else {
            return Ok(None);
        };
        let output = match &self.what {
            ComfyModel::Workflow { workflow, .. } => Some(workflow.output()),
            ComfyModel::Checkpoint { .. } => None,
        };
        let host = self.client.address().host();
        // Steps may come before the first preview, and without any.
        let mut preview = Arc::new(RgbaImage::from_pixel(8, 8, Rgba([128, 128, 128, 255])));
        let (mut step, mut steps) = (0, brief.steps);
        let picture = comfy::draw(&self.client, &graph, output, &mut |event| match event {
            JobEvent::Quiet => sink(Progress::Still),
            JobEvent::Waiting(0) => sink(Progress::Still),
            JobEvent::Waiting(jobs) => sink(Progress::Waiting(format!(
                "{jobs} before this one on {host}"
            ))),
            JobEvent::Step {
                step: now,
                steps: all,
            } => {
                (step, steps) = (now, all);
                sink(Progress::Step {
                    step,
                    steps,
                    preview: Arc::clone(&preview),
                })
            }
            JobEvent::Preview(picture) => {
                preview = Arc::new(*picture);
                sink(Progress::Step {
                    step,
                    steps,
                    preview: Arc::clone(&preview),
                })
            }
        })?;
        Ok(picture.map(|picture| Drawn {
            picture,
            graph: Some(graph),
        }))
    }
}

/// Sends pictures to the engine.
struct Sent<'a> {
    client: &'a Client,
    sink: &'a mut dyn FnMut(Progress) -> ControlFlow<()>,
}

impl Sent<'_> {
    /// The name under which graphs find `picture`; `None` when cancelled.
    fn picture(&mut self, picture: &RgbaImage) -> Result<Option<String>, PipelineError> {
        let name = ImageId::of(picture).to_string();
        let mut cancel = || (self.sink)(Progress::Still);
        Ok(comfy::upload(self.client, picture, &name, &mut cancel)?)
    }
}

impl ComfyPainter {
    /// The graph with all values; `None` when cancelled while pictures were sent.
    fn graph(&self, brief: &Brief, sent: &mut Sent) -> Result<Option<Value>, PipelineError> {
        let mut init = None;
        if let Some((picture, strength)) = &brief.init {
            let Some(name) = sent.picture(picture)? else {
                return Ok(None);
            };
            init = Some((name, f64::from(*strength)));
        }
        let mut mask = None;
        if let Some(picture) = &brief.mask {
            let Some(name) = sent.picture(picture)? else {
                return Ok(None);
            };
            mask = Some(name);
        }
        match &self.what {
            ComfyModel::Checkpoint { name, .. } => {
                let guide = init.map(|(image, strength)| Guide {
                    image,
                    strength,
                    mask,
                });
                Ok(Some(self.checkpoint_graph(name, brief, guide)?))
            }
            ComfyModel::Workflow { workflow, .. } => {
                let mut references = Vec::new();
                for reference in &brief.references {
                    let Some(name) = sent.picture(&reference.picture)? else {
                        return Ok(None);
                    };
                    references.push(name);
                }
                Ok(Some(filled(workflow, brief, init, mask, references)))
            }
        }
    }

    fn checkpoint_graph(
        &self,
        checkpoint: &str,
        brief: &Brief,
        guide: Option<Guide>,
    ) -> Result<Value, PipelineError> {
        let known = SCHEDULERS
            .iter()
            .find(|(name, ..)| *name == brief.scheduler.as_str());
        let (_, sampler, scheduler) = known.unwrap_or(&SCHEDULERS[0]);
        let loras = brief.loras.iter().map(|lora| {
            Ok(LoraNode {
                name: self.theirs(&self.about.loras, &lora.file, "LoRA")?,
                weight: f64::from(lora.weight),
            })
        });
        let vae = brief.vae.as_ref();
        let vae = vae.map(|vae| self.theirs(&self.about.vaes, &vae.file, "VAE"));
        Ok(comfy::checkpoint_graph(&CheckpointGraph {
            checkpoint: checkpoint.to_owned(),
            prompt: embeddings::marked(&brief.prompt, &brief.embeddings),
            negative: embeddings::marked(&brief.negative, &brief.embeddings),
            width: brief.size.width,
            height: brief.size.height,
            seed: brief.seed,
            steps: brief.steps,
            guidance: f64::from(brief.guidance),
            sampler: (*sampler).to_owned(),
            scheduler: (*scheduler).to_owned(),
            clip_skip: brief.clip_skip.filter(|skip| *skip > 0),
            loras: loras.collect::<Result<_, PipelineError>>()?,
            vae: vae.transpose()?,
            guide,
        }))
    }

    /// The engine's own name of a file: it must lie there, under the same name in whatever folder.
    fn theirs(&self, list: &[String], file: &str, what: &str) -> Result<String, PipelineError> {
        let name = |path: &str| {
            path.rsplit(['/', '\\'])
                .next()
                .unwrap_or_default()
                .to_owned()
        };
        let mut same = list
            .iter()
            .filter(|known| *known == file || name(known) == name(file));
        same.next().cloned().ok_or_else(|| {
            PipelineError::Request(format!(
                "ComfyUI at {} has no {what} {}; put it into its folder there or leave it out",
                self.client.address(),
                name(file)
            ))
        })
    }
}

fn filled(
    workflow: &Workflow,
    brief: &Brief,
    init: Option<(String, f64)>,
    mask: Option<String>,
    references: Vec<String>,
) -> Value {
    let (init, strength) = init.map_or((None, 1.0), |(name, strength)| (Some(name), strength));
    workflow.fill(&Values {
        prompt: brief.prompt.clone(),
        negative: brief.negative.clone(),
        seed: brief.seed,
        steps: brief.steps,
        guidance: f64::from(brief.guidance),
        width: brief.size.width,
        height: brief.size.height,
        init,
        strength,
        mask,
        references,
    })
}
