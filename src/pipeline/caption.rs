//! The caption pipeline: the language model writes the next sentence, and the picture is
//! conditioned on that sentence through the diffusion model's own text encoder.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use image::RgbaImage;

use super::load::Chosen;
use super::record::{denoising, description, record};
use super::{
    ContextPanel, Description, LoadProgress, Output, Pipeline, PipelineError, Progress, Request,
    picture_prompt,
};
use crate::diffusion::Diffusion;
use crate::llm::{LanguageModel, Sampling};
use crate::story::{Record, Settings};

/// The name of this recipe in manifests and records.
pub(super) const NAME: &str = "caption";

/// A little, so that a small model does not circle; more of it breaks names, which a story
/// repeats.
const REPETITION_PENALTY: f32 = 1.1;

/// Language model and diffusion model, on one device.
pub struct CaptionPipeline {
    language: LanguageModel,
    diffusion: Diffusion,
    description: Description,
}

impl CaptionPipeline {
    /// Loads the model that was chosen, and the language model that writes for it, after checking
    /// that their files are whole.
    ///
    /// # Errors
    /// When a model is not installed, or a file is missing or broken.
    pub(super) fn load(
        chosen: &Chosen,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<CaptionPipeline, PipelineError> {
        let mut tell = |what: &str, done| {
            progress(LoadProgress {
                what: what.to_string(),
                done,
                of: 2,
            });
        };
        let (model, device) = (&chosen.model, &chosen.device);
        let manifest = &model.manifest;
        let writer = chosen.writer()?;
        tell("language model", 0);
        let mut language = LanguageModel::load(&writer.dir, device)?;
        language.prepare()?;
        tell("picture model", 1);
        let diffusion = Diffusion::load(&model.dir, device)?;
        let size = diffusion.picture_size();
        tell("picture model", 2);
        let description = description(
            &[manifest, &writer.manifest],
            NAME,
            device,
            size,
            Settings::default(),
        );
        Ok(CaptionPipeline {
            language,
            diffusion,
            description,
        })
    }

    fn record(&self, request: &Request, prompt: String, started: Instant) -> Record {
        record(&self.description, request, prompt, started)
    }

    fn write(
        &mut self,
        request: &Request,
        context: &[String],
        sink: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Option<(String, Record)>, PipelineError> {
        let sampling = Sampling {
            seed: request.settings.seed,
            temperature: request.settings.temperature,
            top_p: request.settings.top_p,
            repetition_penalty: REPETITION_PENALTY,
        };
        let started = Instant::now();
        let text = self
            .language
            .continue_story(context, &sampling, &mut |piece| {
                sink(Progress::TextPiece(piece.to_string()))
            })?;
        let Some(text) = text else { return Ok(None) };
        let record = self.record(request, context.join("\n"), started);
        let done = Progress::TextDone(text.clone(), Box::new(record.clone()));
        Ok(sink(done).is_continue().then_some((text, record)))
    }

    fn draw(
        &mut self,
        prompt: &str,
        settings: &Settings,
        sink: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Option<RgbaImage>, PipelineError> {
        let picture = self.diffusion.sample(
            prompt,
            &settings.negative,
            settings.seed,
            denoising(settings)?,
            &mut |done| {
                sink(Progress::Step {
                    step: done.step,
                    steps: done.steps,
                    preview: Arc::new(done.preview),
                })
            },
        )?;
        Ok(picture)
    }
}

impl Pipeline for CaptionPipeline {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn generate(
        &mut self,
        request: &Request,
        sink: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Option<Output>, PipelineError> {
        let context: Vec<String> = request
            .context
            .iter()
            .map(|panel| panel.text.clone())
            .filter(|text| !text.trim().is_empty())
            .collect();
        let mut output = Output::default();
        let text = match &request.text {
            Some(text) => text.clone(),
            None if request.make.text() => {
                let Some(written) = self.write(request, &context, sink)? else {
                    return Ok(None);
                };
                output.text.insert(written).0.clone()
            }
            None => String::new(),
        };
        if request.make.picture() {
            if text.trim().is_empty() {
                return Err(PipelineError::Request(
                    "a panel without text has nothing to draw; write its text first".to_string(),
                ));
            }
            let started = Instant::now();
            let prompt = picture_prompt(&context, &text);
            let Some(picture) = self.draw(&prompt, &request.settings, sink)? else {
                return Ok(None);
            };
            output.picture = Some((picture, self.record(request, prompt, started)));
        }
        Ok(Some(output))
    }

    fn log_probabilities(
        &mut self,
        context: &[ContextPanel],
        text: &str,
    ) -> Result<Vec<f64>, PipelineError> {
        let told: Vec<String> = context.iter().map(|panel| panel.text.clone()).collect();
        Ok(self.language.log_probabilities(&told, text)?)
    }
}
