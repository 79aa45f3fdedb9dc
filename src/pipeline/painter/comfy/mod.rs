//! A painter on a ComfyUI: one of its checkpoints by a built-in graph, or the author's own workflow.
//! Several engines that have the same share its pictures.

mod engine_worker;
mod pool;

use std::ops::ControlFlow;
use std::sync::Arc;

use super::{
    Brief, Capabilities, PaintedPicture, Painter, PainterDescription, PainterKind, SizeRange,
};
use crate::catalogue;
use crate::pipeline::{LoadProgress, PipelineError, Progress};
use crate::remote::Address;
use crate::remote::comfy::{self, ComfyModel, Workflow, WorkflowInput};
use crate::story::{SchedulerName, Settings, Size};
use crate::weights::{ComputeDevices, Model};
use engine_worker::{EngineWorker, SCHEDULERS};
use pool::EnginePool;

/// Guidance of a checkpoint that says nothing of its own, as ComfyUI's first workflow has it.
const GUIDANCE: f32 = 7.0;
/// How records call the scheduler that a workflow has by itself.
const OWN: &str = "workflow";

/// What was found on a ComfyUI.
pub(super) struct ComfyKind;

impl PainterKind for ComfyKind {
    fn detect(&self, model: &Model) -> bool {
        model.manifest.pipeline == comfy::PIPELINE
    }

    /// Asks the engine what it has, so that one that is off, or has lost the checkpoint, is told at
    /// once.
    fn load(
        &self,
        model: &Model,
        _place: &ComputeDevices,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Box<dyn Painter>, PipelineError> {
        let (address, what): (Address, ComfyModel) = catalogue::kept(model)?;
        progress(LoadProgress {
            what: format!("ComfyUI at {}", address.host()),
            done: 0,
            of: 1,
        });
        let mut hand = EngineWorker::new(&model.manifest.id, address, what)?;
        let about = hand.look(&mut || ControlFlow::Continue(()))?;
        let about = about.cloned().unwrap_or_default();
        let what = hand.what();
        let takes = takes(what, &about);
        let description = PainterDescription {
            model: model.manifest.id.clone(),
            weights: hand.by().weights,
            device: hand.by().device,
            default_settings: defaults(what, &takes),
            takes,
            ..PainterDescription::default()
        };
        let own = match what {
            ComfyModel::Workflow { workflow, .. } => Some(workflow.clone()),
            ComfyModel::Checkpoint { .. } => None,
        };
        Ok(Box::new(ComfyPainter {
            crew: Arc::new(EnginePool::new(hand)),
            workflow: own,
            description,
        }))
    }
}

/// What a checkpoint there, or a workflow, can be given.
fn takes(what: &ComfyModel, about: &comfy::ServerInfo) -> Capabilities {
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
            let references = WorkflowInput::REFERENCES
                .into_iter()
                .take_while(|input| has(*input));
            Capabilities {
                size: Size { width, height },
                sizes: (has(WorkflowInput::Width) && has(WorkflowInput::Height))
                    .then(|| free_sizes(width * height)),
                negative: has(WorkflowInput::Negative),
                guidance: match has(WorkflowInput::Guidance) {
                    true => 1.0..=30.0,
                    false => 1.0..=1.0,
                },
                steps: match has(WorkflowInput::Steps) {
                    true => 1..=200,
                    false => 1..=1,
                },
                schedulers: vec![SchedulerName::from(OWN)],
                init: has(WorkflowInput::Init),
                mask: has(WorkflowInput::Mask),
                references: references.count(),
                sees: true,
                ..Capabilities::default()
            }
        }
    }
}

/// What the model is drawn with where nothing else is asked for; a workflow's own.
fn defaults(what: &ComfyModel, takes: &Capabilities) -> Settings {
    let (guidance, steps) = match what {
        ComfyModel::Checkpoint { .. } => (None, None),
        ComfyModel::Workflow { workflow, .. } => (
            workflow.number(WorkflowInput::Guidance),
            workflow.number(WorkflowInput::Steps),
        ),
    };
    let usual = Settings::default();
    let guidance = guidance.map_or(GUIDANCE, |guidance| guidance as f32);
    let steps = steps.map_or(usual.steps, |steps| steps as u32);
    Settings {
        guidance: guidance.clamp(*takes.guidance.start(), *takes.guidance.end()),
        steps: steps.clamp(*takes.steps.start(), *takes.steps.end()),
        scheduler: takes.schedulers.first().cloned().unwrap_or_default(),
        ..usual
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

/// Refuses what no input of the workflow takes.
fn check_inputs(
    workflow: &Workflow,
    takes: &Capabilities,
    brief: &Brief,
    model: &str,
) -> Result<(), PipelineError> {
    let guidance = !takes.guidance.contains(&brief.guidance);
    let steps = !takes.steps.contains(&brief.steps);
    let negative = !brief.negative.trim().is_empty();
    let asked = [
        (guidance, WorkflowInput::Guidance),
        (steps, WorkflowInput::Steps),
        (negative, WorkflowInput::Negative),
        (brief.init.is_some(), WorkflowInput::Init),
        (brief.mask.is_some(), WorkflowInput::Mask),
    ];
    let mut passed_over = asked
        .into_iter()
        .filter(|(asked, input)| *asked && !workflow.takes(*input));
    match passed_over.next() {
        Some((_, input)) => Err(PipelineError::Request(unbound(model, input))),
        None if !takes.schedulers.contains(&brief.scheduler) => {
            Err(PipelineError::Request(format!(
                "the workflow of {model} keeps its own scheduler; leave the scheduler out, or choose one in ComfyUI and add the workflow again"
            )))
        }
        None => Ok(()),
    }
}

/// What is said where the workflow's own value stays.
fn unbound(model: &str, input: WorkflowInput) -> String {
    format!(
        "the workflow of {model} has no input for the {input}, so its own stays; leave it out, or give a node the title \"{input}\" in ComfyUI and add the workflow again"
    )
}

struct ComfyPainter {
    crew: Arc<EnginePool>,
    /// The author's own, where that draws.
    workflow: Option<Workflow>,
    description: PainterDescription,
}

impl Painter for ComfyPainter {
    fn describe(&self) -> &PainterDescription {
        &self.description
    }

    fn complete(&mut self, brief: Brief) -> Result<Brief, PipelineError> {
        let about = &self.description;
        if let Some(workflow) = &self.workflow {
            check_inputs(workflow, &about.takes, &brief, &about.model)?;
        }
        about.takes.check(&brief, &about.model)?;
        Ok(brief)
    }

    fn notes(&self, brief: &Brief) -> Vec<String> {
        let Some(workflow) = &self.workflow else {
            return brief.unread().into_iter().collect();
        };
        let strength = brief.init.is_some() && !workflow.takes(WorkflowInput::Strength);
        let seed = !workflow.takes(WorkflowInput::Seed);
        let own = [
            (seed, WorkflowInput::Seed),
            (strength, WorkflowInput::Strength),
        ];
        let own = own.into_iter().filter(|(stays, _)| *stays);
        own.map(|(_, input)| unbound(&self.description.model, input))
            .collect()
    }

    fn share(&mut self, others: &[Model]) {
        for other in others.iter().filter(|model| ComfyKind.detect(model)) {
            // One that can't be read is told where it is chosen itself.
            let kept: Result<(Address, ComfyModel), _> = catalogue::kept(other);
            if let Ok((address, what)) = kept {
                self.crew.join(&other.manifest.id, address, what);
            }
        }
    }

    fn at_once(&self) -> usize {
        self.crew.len()
    }

    fn elsewhere(&self) -> Option<Box<dyn Painter + Send>> {
        Some(Box::new(ComfyPainter {
            crew: Arc::clone(&self.crew),
            workflow: self.workflow.clone(),
            description: self.description.clone(),
        }))
    }

    fn draw(
        &mut self,
        brief: &Brief,
        sink: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Option<PaintedPicture>, PipelineError> {
        self.crew.draw(brief, sink)
    }
}
