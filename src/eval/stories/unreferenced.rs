//! What a picture is worth that is drawn without references: the pipeline says who is there as ever,
//! and the painter is shown nobody.

use std::ops::ControlFlow;
use std::path::Path;

use image::{RgbImage, buffer::ConvertBuffer};

use super::method::{Continuation, StoryMethod, StoryPosition, Whole, missing_picture};
use crate::diffusion::CompositionDiffusion;
use crate::eval::EvalError;
use crate::pipeline::{PipelineError, denoising};
use crate::storyworld::library::{SceneSetting, SettingMentions};
use crate::storyworld::{Time, Weather};
use crate::weights::ComputeDevices;

/// A pipeline whose painter reads no references.
pub(super) struct Unreferenced {
    whole: Whole,
    painter: CompositionDiffusion,
}

impl Unreferenced {
    /// With the painter in the folder `model`.
    ///
    /// # Errors
    /// A model that does not draw from references.
    pub(super) fn open(whole: Whole, model: &Path) -> Result<Self, EvalError> {
        let place = ComputeDevices::of(&candle_core::Device::Cpu);
        Ok(Self {
            whole,
            painter: CompositionDiffusion::load(model, &place)?,
        })
    }

    fn picture(&mut self, at: &StoryPosition, sentence: &str) -> Result<RgbImage, EvalError> {
        let setting = setting_words(&self.whole.prompt(at, sentence)?)?;
        let settings = &self.whole.settings;
        let how = denoising(&settings.scheduler, settings.steps, settings.guidance)?;
        let go_on = &mut |_| ControlFlow::Continue(());
        let picture = self
            .painter
            .draw_without_references(&setting, at.seed, how, go_on)?;
        Ok(picture.ok_or_else(missing_picture)?.convert())
    }
}

/// The words of place, time and weather of a picture prompt that says who stands there, too.
///
/// # Errors
/// A prompt without a place.
fn setting_words(prompt: &str) -> Result<String, EvalError> {
    let said = SettingMentions::of(prompt);
    let Some(location) = said.location else {
        let why =
            format!("{prompt:?} names no place, and nothing else is drawn without references");
        return Err(PipelineError::Request(why).into());
    };
    let setting = SceneSetting {
        location,
        time: said.time.unwrap_or(Time::Day),
        weather: said.weather.unwrap_or(Weather::Clear),
        layout: 0,
        fall: 0,
    };
    Ok(setting.description())
}

impl StoryMethod for Unreferenced {
    fn draw(&mut self, at: &StoryPosition) -> Result<RgbImage, EvalError> {
        self.picture(at, at.sentence())
    }

    fn write(&mut self, at: &StoryPosition) -> Result<Option<String>, EvalError> {
        self.whole.write(at)
    }

    fn go_on(&mut self, at: &StoryPosition) -> Result<Option<Continuation>, EvalError> {
        let Some(mut panel) = self.whole.go_on(at)? else {
            return Ok(None);
        };
        panel.picture = self.picture(at, &panel.text)?;
        Ok(Some(panel))
    }

    fn log_probabilities(&mut self, at: &StoryPosition) -> Result<Option<Vec<f64>>, EvalError> {
        self.whole.log_probabilities(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_references_a_prompt_keeps_where_and_when_it_plays() {
        let words = setting_words("owl on the left and boat on the right in the harbour at night");
        assert_eq!(words.unwrap(), "in the harbour at night");
        let said = setting_words("an owl").unwrap_err().to_string();
        assert!(
            said.contains("an owl") && said.contains("no place"),
            "{said}"
        );
    }
}
