//! Flags that several commands share.

use std::path::{Path, PathBuf};

use clap::Args;

use super::picture_args::PictureArgs;
use crate::diffusion::SchedulerKind;
use crate::engine::Loader;
use crate::pipeline::painter::{Capabilities, PRESETS, Preset};
use crate::pipeline::{self, RecipeId, split_recipe};
use crate::story::{SchedulerName, Settings};
use crate::weights::{DEFAULT_MODEL, DeviceChoice};

/// Which model, on which device.
#[derive(Clone, Debug, Default, Args)]
pub struct ModelArgs {
    /// An installed model's id, or a model folder [default: sprout-open]
    #[arg(long, value_name = "ID|DIR")]
    pub model: Option<String>,
    /// The model that writes the text, in the same way [default: the one that belongs to --model]
    #[arg(long, value_name = "ID|DIR")]
    pub writer: Option<String>,
    /// voken (the story so far makes the picture) or caption (its sentence alone does) [default: what the model does best]
    #[arg(long, value_name = "NAME")]
    pub pipeline: Option<RecipeId>,
    /// auto, cpu, cuda, metal, gpu, or a GPU by its number in `vokenboard devices` such as gpu:0; with ",cpu" behind a GPU the processor goes on where it fails; auto takes the best that works, and then the processor
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub device: DeviceChoice,
    /// The folder of installed models [default: VOKENBOARD_MODELS, or the one that comes with the program]
    #[arg(long, value_name = "DIR")]
    pub models: Option<PathBuf>,
}

impl ModelArgs {
    /// Loads the pipeline that the flags name.
    pub fn loader(&self) -> Loader {
        pipeline::loader(self.options())
    }

    /// The flags as the pipeline's [`pipeline::LoadOptions`].
    pub fn options(&self) -> pipeline::LoadOptions {
        let (model, recipe) = match &self.model {
            Some(model) => split_recipe(model),
            None => (DEFAULT_MODEL, None),
        };
        pipeline::LoadOptions {
            models: self.models.clone(),
            model: Some(model.to_owned()),
            writer: self.writer.clone(),
            recipe: self.pipeline.or(recipe),
            voken: None,
            device: self.device,
        }
    }
}

/// How text is sampled and pictures are denoised; what is left out comes from the model or from
/// the take before.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct SettingsArgs {
    /// Same seed, same story [default: a new one, which is told]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// How strictly the picture keeps to the text, 1 to 15
    #[arg(long, value_name = "X", value_parser = guidance, allow_negative_numbers = true)]
    pub guidance: Option<f32>,
    /// Denoising steps, 1 to 200
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=200))]
    pub steps: Option<u32>,
    /// ddim, pndm, euler, euler-karras, euler-a, euler-a-karras, dpm++, dpm++-karras, unipc or lcm
    #[arg(long, value_name = "NAME")]
    pub scheduler: Option<SchedulerKind>,
    /// Scheduler, steps and guidance that belong together; lcm: 4 steps, for a model or LoRA that was distilled so
    #[arg(long, value_name = "NAME", value_parser = preset)]
    pub preset: Option<Preset>,
    /// How freely the text is written, 0 (always the likeliest word) to 2
    #[arg(long, value_name = "X", value_parser = temperature, allow_negative_numbers = true)]
    pub temperature: Option<f32>,
    /// Words are drawn from the likeliest that make up this share, above 0 to 1
    #[arg(long, value_name = "X", value_parser = top_p, allow_negative_numbers = true)]
    pub top_p: Option<f32>,
    #[command(flatten)]
    pub picture: PictureArgs,
}

impl SettingsArgs {
    /// `base` with what was given on the command line, for a model that takes `takes`; its seed
    /// stays where none was given. Ids are those of the folder `models`.
    ///
    /// # Errors
    /// A size or a LoRA that is none.
    pub(super) fn apply_to(
        &self,
        base: Settings,
        takes: &Capabilities,
        models: Option<&Path>,
    ) -> anyhow::Result<Settings> {
        let base = match self.preset {
            Some(preset) => preset.apply_to(base),
            None => base,
        };
        let base = self.picture.apply_to(base, takes, models)?;
        Ok(Settings {
            seed: self.seed.unwrap_or(base.seed),
            guidance: self.guidance.unwrap_or(base.guidance),
            steps: self.steps.unwrap_or(base.steps),
            scheduler: match self.scheduler {
                Some(kind) => SchedulerName::from(kind.name()),
                None => base.scheduler,
            },
            temperature: self.temperature.unwrap_or(base.temperature),
            top_p: self.top_p.unwrap_or(base.top_p),
            ..base
        })
    }

    /// Whether anything but the seed was given.
    pub(super) fn changes_settings(&self) -> bool {
        self.guidance.is_some()
            || self.steps.is_some()
            || self.scheduler.is_some()
            || self.preset.is_some()
            || self.temperature.is_some()
            || self.top_p.is_some()
            || self.picture.is_given()
    }
}

fn preset(name: &str) -> Result<Preset, String> {
    let found = PRESETS.iter().find(|preset| preset.name == name).copied();
    found.ok_or_else(|| {
        let names = PRESETS.map(|preset| preset.name);
        format!("choose {}", names.join(" or "))
    })
}

pub(super) fn guidance(text: &str) -> Result<f32, String> {
    number(text, "a guidance scale from 1 to 15", |x| {
        (1.0..=15.0).contains(&x)
    })
}

fn temperature(text: &str) -> Result<f32, String> {
    number(text, "a temperature from 0 to 2", |x| {
        (0.0..=2.0).contains(&x)
    })
}

fn top_p(text: &str) -> Result<f32, String> {
    number(text, "a share above 0 and at most 1", |x| {
        x > 0.0 && x <= 1.0
    })
}

fn number(text: &str, what: &str, fits: impl Fn(f32) -> bool) -> Result<f32, String> {
    text.parse()
        .ok()
        .filter(|&x| fits(x))
        .ok_or_else(|| format!("give {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_out_of_range_are_refused() {
        assert_eq!(guidance("7.5"), Ok(7.5));
        for bad in ["0.5", "16", "NaN", "inf", "much"] {
            assert!(guidance(bad).unwrap_err().contains("1 to 15"));
        }
        assert_eq!(temperature("0"), Ok(0.0));
        assert!(temperature("-1").is_err());
        assert!(top_p("0").is_err());
        assert_eq!(top_p("1"), Ok(1.0));
        assert_eq!(preset("lcm").map(|preset| preset.steps), Ok(4));
        assert!(preset("fast").unwrap_err().contains("lcm"));
    }
}
