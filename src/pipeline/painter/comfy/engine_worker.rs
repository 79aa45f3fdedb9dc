//! One ComfyUI: what it has, the graph of a picture in its own names, and drawing it there.

use std::ops::ControlFlow;
use std::sync::Arc;

use image::{Rgba, RgbaImage};
use serde_json::Value;

use super::super::{Brief, PaintedPicture, RemoteEngine, embeddings};
use crate::pipeline::{PipelineError, Progress, Sink};
use crate::remote::comfy::{
    self, CheckpointGraph, ComfyModel, InitImageNode, JobEvent, LoraNode, ServerInfo, Workflow,
    WorkflowValues,
};
use crate::remote::{Address, Cancel, Client, keys};
use crate::story::ImageId;

/// Our schedulers and what ComfyUI calls them: a sampler and a noise schedule.
pub(super) const SCHEDULERS: [(&str, &str, &str); 10] = [
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

/// A ComfyUI engine with the checkpoint or workflow that it draws with.
pub(super) struct EngineWorker {
    /// Model id.
    id: String,
    address: Address,
    what: ComfyModel,
    client: Client,
    /// What it has; not known before it is asked, and after it went away.
    about: Option<ServerInfo>,
}

impl EngineWorker {
    /// # Errors
    /// When no connection can be prepared.
    pub(super) fn new(
        id: &str,
        address: Address,
        what: ComfyModel,
    ) -> Result<EngineWorker, PipelineError> {
        let client = Client::new(address.clone(), keys::find(&address).as_ref())?;
        Ok(EngineWorker {
            id: id.to_owned(),
            address,
            what,
            client,
            about: None,
        })
    }

    pub(super) fn what(&self) -> &ComfyModel {
        &self.what
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn by(&self) -> RemoteEngine {
        RemoteEngine {
            model: self.id.clone(),
            weights: format!("{} of {}", self.what.label(), self.address),
            device: format!("ComfyUI at {}", self.address.host()),
        }
    }

    /// Drops what is known of the engine, which may have changed.
    pub(super) fn forget(&mut self) {
        self.about = None;
    }

    /// Asks the engine what it has, once. `None` when cancelled.
    ///
    /// # Errors
    /// When it does not answer, or has lost the checkpoint.
    pub(super) fn look(
        &mut self,
        cancel: &mut Cancel,
    ) -> Result<Option<&ServerInfo>, PipelineError> {
        if self.about.is_none() {
            let Some(about) = comfy::about(&self.client, cancel)? else {
                return Ok(None);
            };
            if let ComfyModel::Checkpoint { name, .. } = &self.what
                && !about.checkpoints.contains(name)
            {
                return Err(PipelineError::Request(format!(
                    "ComfyUI at {} has no checkpoint {name} any more; put it back there or choose another model",
                    self.address
                )));
            }
            self.about = Some(about);
        }
        Ok(self.about.as_ref())
    }

    /// Draws `brief`. `None` when cancelled.
    ///
    /// # Errors
    /// When the engine goes away, lacks what the brief asks for, refuses or fails.
    pub(super) fn draw(
        &mut self,
        brief: &Brief,
        sink: &mut Sink,
    ) -> Result<Option<PaintedPicture>, PipelineError> {
        let Some(about) = self.look(&mut || sink(Progress::Still))?.cloned() else {
            return Ok(None);
        };
        let mut sent = PictureUpload {
            client: &self.client,
            sink,
        };
        let Some(graph) = self.graph(&about, brief, &mut sent)? else {
            return Ok(None);
        };
        let output = match &self.what {
            ComfyModel::Workflow { workflow, .. } => Some(workflow.output()),
            ComfyModel::Checkpoint { .. } => None,
        };
        let host = self.address.host();
        // Steps may come before the first preview, and without any.
        let mut preview = Arc::new(RgbaImage::from_pixel(8, 8, Rgba([128, 128, 128, 255])));
        let (mut step, mut steps) = (0, brief.steps);
        let picture = comfy::draw(&self.client, &graph, output, &mut |event| {
            match event {
                JobEvent::Quiet | JobEvent::Waiting(0) => return sink(Progress::Still),
                JobEvent::Waiting(jobs) => {
                    let words = format!("{jobs} before this one on {host}");
                    return sink(Progress::Waiting(words));
                }
                JobEvent::Step {
                    step: now,
                    steps: all,
                } => (step, steps) = (now, all),
                JobEvent::Preview(picture) => preview = Arc::new(*picture),
            }
            sink(Progress::Step {
                step,
                steps,
                preview: Arc::clone(&preview),
            })
        })?;
        Ok(picture.map(|picture| PaintedPicture {
            picture,
            graph: Some(graph),
            by: Some(self.by()),
        }))
    }
}

/// Sends pictures to the engine.
struct PictureUpload<'a> {
    client: &'a Client,
    sink: &'a mut dyn FnMut(Progress) -> ControlFlow<()>,
}

impl PictureUpload<'_> {
    /// The name under which graphs find `picture`; `None` when cancelled.
    fn picture(&mut self, picture: &RgbaImage) -> Result<Option<String>, PipelineError> {
        let name = ImageId::of(picture).to_string();
        let mut cancel = || (self.sink)(Progress::Still);
        Ok(comfy::upload(self.client, picture, &name, &mut cancel)?)
    }
}

impl EngineWorker {
    /// The graph with all values; `None` when cancelled while pictures were sent.
    fn graph(
        &self,
        about: &ServerInfo,
        brief: &Brief,
        sent: &mut PictureUpload,
    ) -> Result<Option<Value>, PipelineError> {
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
                let guide = init.map(|(image, strength)| InitImageNode {
                    image,
                    strength,
                    mask,
                });
                Ok(Some(self.checkpoint_graph(about, name, brief, guide)?))
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
        about: &ServerInfo,
        checkpoint: &str,
        brief: &Brief,
        guide: Option<InitImageNode>,
    ) -> Result<Value, PipelineError> {
        let known = SCHEDULERS
            .iter()
            .find(|(name, ..)| *name == brief.scheduler.as_str());
        let Some((_, sampler, scheduler)) = known else {
            return Err(PipelineError::Request(format!(
                "ComfyUI at {} has no scheduler that is called \"{}\" here; choose another",
                self.address, brief.scheduler
            )));
        };
        let loras = brief.loras.iter().map(|lora| {
            Ok(LoraNode {
                name: self.theirs(&about.loras, &lora.file, "LoRA")?,
                weight: f64::from(lora.weight),
            })
        });
        let vae = brief.vae.as_ref();
        let vae = vae.map(|vae| self.theirs(&about.vaes, &vae.file, "VAE"));
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
            clip_skip: brief.clip_skip.filter(|skip| *skip > 1),
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
                self.address,
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
    workflow.fill(&WorkflowValues {
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
