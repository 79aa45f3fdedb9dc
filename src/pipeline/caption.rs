//! The caption pipeline: the language model writes the next sentence, and the picture is
//! conditioned on that sentence through the diffusion model's own text encoder.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use image::RgbaImage;

use super::{
    Description, LoadProgress, Loader, Output, Pipeline, PipelineError, Progress, Request,
    picture_prompt,
};
use crate::diffusion::Diffusion;
use crate::llm::{LanguageModel, Sampling};
use crate::story::{Record, Settings};
use crate::weights::{self, DEFAULT_MODEL, DeviceChoice, Manifest, WeightsError};

/// The name of this recipe in manifests and records.
const NAME: &str = "caption";

/// A little, so that a small model does not circle; more of it breaks names, which a story
/// repeats.
const REPETITION_PENALTY: f32 = 1.1;

/// Which model to load, and where to.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The folder of installed models where it is not the usual one.
    pub models: Option<PathBuf>,
    /// An installed model's id or a model folder; `None` for the built-in one.
    pub model: Option<String>,
    pub device: DeviceChoice,
}

/// Loads a caption pipeline on whatever thread calls it.
pub fn loader(options: Options) -> Loader {
    Box::new(move |progress| {
        let pipeline = CaptionPipeline::load(&options, progress)?;
        Ok(Box::new(pipeline))
    })
}

/// Language model and diffusion model, on one device.
pub struct CaptionPipeline {
    language: LanguageModel,
    diffusion: Diffusion,
    description: Description,
}

impl CaptionPipeline {
    /// Loads the models that `options` names, after checking that their files are whole.
    ///
    /// # Errors
    /// When a model is not installed, a file is missing or broken, or the device does not work.
    pub fn load(
        options: &Options,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<CaptionPipeline, PipelineError> {
        let mut tell = |what: &str, done| {
            progress(LoadProgress {
                what: what.to_string(),
                done,
                of: 2,
            });
        };
        let models = weights::models_dir(options.models.as_deref())?;
        let name = options.model.as_deref().unwrap_or(DEFAULT_MODEL);
        let model = weights::find(&models, name)?;
        let manifest = &model.manifest;
        let writer = match &manifest.language_model {
            Some(writer) if manifest.pipeline == NAME => weights::find(&models, writer)?,
            _ => {
                return Err(WeightsError::NotAStoryteller {
                    id: manifest.id.clone(),
                    pipeline: manifest.pipeline.clone(),
                }
                .into());
            }
        };
        for model in [&model, &writer] {
            model.verify_sizes()?;
        }
        let device = weights::select_device(options.device)?;
        tell("language model", 0);
        let mut language = LanguageModel::load(&writer.dir, &device)?;
        language.prepare()?;
        tell("picture model", 1);
        let diffusion = Diffusion::load(&model.dir, &device)?;
        let (width, height) = diffusion.picture_size();
        tell("picture model", 2);
        let description = Description {
            model: manifest.id.clone(),
            pipeline: NAME.to_string(),
            weights: format!(
                "{}+{}",
                manifest.weights_hash(),
                writer.manifest.weights_hash()
            ),
            device: weights::device_name(&device),
            width,
            height,
            characters: manifest.draws.characters.clone(),
            things: manifest.draws.things.clone(),
            places: manifest.draws.places.clone(),
            default_settings: default_settings(manifest),
        };
        Ok(CaptionPipeline {
            language,
            diffusion,
            description,
        })
    }

    fn record(&self, request: &Request, prompt: String, started: Instant) -> Record {
        Record {
            model: self.description.model.clone(),
            weights: self.description.weights.clone(),
            pipeline: NAME.to_string(),
            device: self.description.device.clone(),
            settings: request.settings.clone(),
            prompt,
            context: request.context.iter().map(|panel| panel.id).collect(),
            seconds: started.elapsed().as_secs_f32(),
            created: utc(SystemTime::now()),
        }
    }

    fn write(
        &mut self,
        request: &Request,
        context: &[String],
        sink: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Option<String>, PipelineError> {
        let sampling = Sampling {
            seed: request.settings.seed,
            temperature: request.settings.temperature,
            top_p: request.settings.top_p,
            repetition_penalty: REPETITION_PENALTY,
        };
        let text = self
            .language
            .continue_story(context, &sampling, &mut |piece| {
                sink(Progress::TextPiece(piece.to_string()))
            })?;
        Ok(text.filter(|text| sink(Progress::TextDone(text.clone())).is_continue()))
    }

    fn draw(
        &mut self,
        prompt: &str,
        settings: &Settings,
        sink: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Option<RgbaImage>, PipelineError> {
        let picture = self.diffusion.sample(prompt, settings, &mut |done| {
            sink(Progress::Step {
                step: done.step,
                steps: done.steps,
                preview: Arc::new(done.preview),
            })
        })?;
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
                let started = Instant::now();
                let Some(text) = self.write(request, &context, sink)? else {
                    return Ok(None);
                };
                let record = self.record(request, context.join("\n"), started);
                output.text = Some((text.clone(), record));
                text
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
}

/// The program's defaults with what the manifest says of them.
fn default_settings(manifest: &Manifest) -> Settings {
    let defaults = Settings::default();
    let (Some(serde_json::Value::Object(wanted)), Ok(serde_json::Value::Object(mut all))) = (
        manifest.default_settings.clone(),
        serde_json::to_value(&defaults),
    ) else {
        return defaults;
    };
    all.extend(wanted);
    serde_json::from_value(all.into()).unwrap_or(defaults)
}

/// `time` as RFC 3339 in UTC, to the second. The date is computed by Howard Hinnant's
/// `civil_from_days`.
fn utc(time: SystemTime) -> String {
    let seconds = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        of_day / 3_600,
        of_day / 60 % 60,
        of_day % 60
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_written_as_in_rfc_3339() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_735_689_600, "2025-01-01T00:00:00Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
        ] {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(utc(time), text);
        }
    }

    #[test]
    fn a_manifest_changes_only_the_defaults_it_names() {
        let manifest = Manifest {
            default_settings: Some(serde_json::json!({"guidance": 2.25})),
            ..Manifest::default()
        };
        let settings = default_settings(&manifest);
        assert_eq!(settings.guidance, 2.25);
        assert_eq!(settings.steps, Settings::default().steps);
    }
}
