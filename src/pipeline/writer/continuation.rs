//! A small language model that goes on with the story as with a text in a book.

use candle_core::Device;

use super::{TextSink, Writer, WriterDescription, WriterKind, WrittenText};
use crate::llm::{LanguageModel, Sampling};
use crate::pipeline::{ContextPanel, LoadProgress, PipelineError, Request};
use crate::weights::{self, ComputeDevices, Model};

/// A little, so that a small model does not circle; more of it breaks names, which a story
/// repeats.
const REPETITION_PENALTY: f32 = 1.1;

/// Models whose manifest says `language-model`.
pub(super) struct ContinuationKind;

impl WriterKind for ContinuationKind {
    fn detect(&self, model: &Model) -> bool {
        model.manifest.pipeline == "language-model"
    }

    fn load(
        &self,
        model: &Model,
        place: &ComputeDevices,
        _progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Box<dyn Writer>, PipelineError> {
        let mut language = LanguageModel::load(&model.dir, &place.device)?;
        language.prepare()?;
        Ok(Box::new(ContinuationWriter {
            language,
            description: WriterDescription {
                model: model.manifest.id.clone(),
                weights: model.manifest.weights_hash(),
                // It runs on the processor whatever the device is.
                device: weights::device_name(&Device::Cpu),
                instructs: false,
                sees: false,
            },
        }))
    }
}

struct ContinuationWriter {
    language: LanguageModel,
    description: WriterDescription,
}

impl Writer for ContinuationWriter {
    fn describe(&self) -> &WriterDescription {
        &self.description
    }

    fn continue_story(
        &mut self,
        request: &Request,
        sink: &mut TextSink,
    ) -> Result<Option<WrittenText>, PipelineError> {
        let settings = &request.settings;
        let sampling = Sampling {
            seed: settings.seed,
            temperature: settings.temperature,
            top_p: settings.top_p,
            top_k: settings.top_k.map_or(0, |most| most as usize),
            min_p: settings.min_p.unwrap_or(0.0),
            repetition_penalty: settings.repetition_penalty.unwrap_or(REPETITION_PENALTY),
        };
        let texts = request.texts_before();
        let text = self.language.continue_story(&texts, &sampling, sink)?;
        Ok(text.map(|text| WrittenText {
            text,
            prompt: texts.join("\n"),
        }))
    }

    fn log_probabilities(
        &mut self,
        context: &[ContextPanel],
        text: &str,
    ) -> Result<Vec<f64>, PipelineError> {
        let texts: Vec<String> = context.iter().map(|panel| panel.text.clone()).collect();
        Ok(self.language.log_probabilities(&texts, text)?)
    }
}
