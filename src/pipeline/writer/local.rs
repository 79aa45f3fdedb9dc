//! Language models in GGUF files that authors own.

use candle_core::Device;

use super::eyes::ProjectorEyes;
use super::instruct::InstructWriter;
use super::{Writer, WriterDescription, WriterKind};
use crate::llm::chat::LocalChat;
use crate::pipeline::{LoadProgress, PipelineError};
use crate::weights::{self, ComputeDevices, Model, ModelSource};

/// Added language models; the one that comes with the program has a recipe of its own.
pub(super) struct LocalKind;

impl WriterKind for LocalKind {
    fn detect(&self, model: &Model) -> bool {
        model.manifest.pipeline == "language-model" && model.manifest.identity.is_some()
    }

    fn load(
        &self,
        model: &Model,
        place: &ComputeDevices,
        _progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Box<dyn Writer>, PipelineError> {
        let path = match &model.source {
            ModelSource::File(file) => file,
            ModelSource::Folder(_) | ModelSource::Address(_) => &model.dir,
        };
        let (mut chat, lacking) = LocalChat::open_on(path, place.gpu.as_ref())?;
        if let Some(projector) = &model.manifest.projector {
            let eyes = ProjectorEyes::new(projector, place.gpu.as_ref())?;
            chat = chat.with_image_encoder(Box::new(eyes))?;
        }
        if let Some(what) = &lacking {
            tracing::warn!(
                model = model.manifest.id,
                "the words are made on the processor: no GPU kernel for {what} yet"
            );
        }
        let description = WriterDescription {
            model: model.manifest.id.clone(),
            weights: model.manifest.weights_hash(),
            device: match (&place.gpu, &lacking) {
                (Some(_), None) => place.name(),
                // It runs on the processor whatever else the device is.
                _ => weights::device_name(&Device::Cpu),
            },
            ..WriterDescription::default()
        };
        Ok(Box::new(InstructWriter::new(Box::new(chat), description)))
    }
}
