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
use crate::remote::comfy::{self, ComfyModel, WorkflowInput};
use crate::story::{SchedulerName, Settings, Size};
use crate::weights::{ComputeDevices, Model};
use engine_worker::{EngineWorker, SCHEDULERS};
use pool::EnginePool;

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
            default_settings: Settings {
                guidance: 7.0,
                scheduler: takes.schedulers.first().cloned().unwrap_or_default(),
                ..Settings::default()
            },
            takes,
            ..PainterDescription::default()
        };
        Ok(Box::new(ComfyPainter {
            crew: Arc::new(EnginePool::new(hand)),
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
                guidance: 1.0..=30.0,
                init: has(WorkflowInput::Init),
                mask: has(WorkflowInput::Mask),
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
    crew: Arc<EnginePool>,
    description: PainterDescription,
}

impl Painter for ComfyPainter {
    fn describe(&self) -> &PainterDescription {
        &self.description
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
