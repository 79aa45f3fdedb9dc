//! What a painter can take: the studio shows the controls for it, and the rest is refused by name.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::Path;

use super::{Brief, GivenReference, embeddings};
use crate::pipeline::PipelineError;
use crate::story::{SchedulerName, Settings, Size};

/// The style of prompt that a painter was trained with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PromptStyle {
    /// The captions of the storyworld, which Sprout has learnt from.
    Storyworld,
    /// Who stands where from left to right, then place, time and weather; nouns find a drawing of
    /// the library, names the cast's pictures.
    Composition,
    /// Sentences that describe the picture.
    #[default]
    Sentences,
    /// Comma-separated tags, as many fine-tunes of SDXL have learnt from.
    Tags,
}

/// Picture sizes other than the usual one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeRange {
    /// Width and height are multiples of this, in pixels.
    pub step: u32,
    /// Least and most pixels of a side.
    pub least: u32,
    /// Most pixels of a side.
    pub most: u32,
    /// Pixels of a picture in all that the model draws best: presets have about as many.
    pub budget: u32,
}

/// The shapes that are offered, width to height.
pub const SHAPES: [(u32, u32); 7] = [(1, 1), (4, 3), (3, 2), (16, 9), (21, 9), (2, 3), (9, 16)];
/// Sides of offered sizes are multiples of so many steps, with which models were trained.
const ROUND: u32 = 8;

impl SizeRange {
    /// The size for a picture that begins from one of `size`: the same where the model draws it
    /// well, else its shape.
    pub fn like(&self, size: Size) -> Size {
        let Size { width, height } = size;
        let large = u64::from(width) * u64::from(height) > 2 * u64::from(self.budget);
        match self.has(width) && self.has(height) && !large {
            true => size,
            false => self.in_shape(width, height),
        }
    }

    fn has(&self, side: u32) -> bool {
        side.is_multiple_of(self.step) && (self.least..=self.most).contains(&side)
    }

    /// The size of about [`SizeRange::budget`] pixels in the shape `wide` to `high`.
    pub fn in_shape(&self, wide: u32, high: u32) -> Size {
        let ratio = f64::from(wide.max(1)) / f64::from(high.max(1));
        let budget = f64::from(self.budget);
        let side = |pixels: f64| {
            let round = f64::from(self.step * ROUND);
            let whole = (pixels / round).round() * round;
            // A small model has no room for large steps.
            let whole = match whole < pixels * 0.9 || whole > pixels * 1.1 {
                true => (pixels / f64::from(self.step)).round() as u32 * self.step,
                false => whole as u32,
            };
            whole.clamp(self.least, self.most)
        };
        Size {
            width: side((budget * ratio).sqrt()),
            height: side((budget / ratio).sqrt()),
        }
    }
}

/// What a painter can take.
#[derive(Clone, Debug, PartialEq)]
pub struct Capabilities {
    /// The size of a picture for which none is asked.
    pub size: Size,
    /// Other sizes; `None` where it draws that one only.
    pub sizes: Option<SizeRange>,
    /// What kind of prompt it has learnt from.
    pub prompts: PromptStyle,
    /// Negative prompts.
    pub negative: bool,
    /// Guidance scales; one value where it takes none.
    pub guidance: RangeInclusive<f32>,
    /// Numbers of denoising steps.
    pub steps: RangeInclusive<u32>,
    /// Schedulers it knows, the usual first; empty where there is no choice.
    pub schedulers: Vec<SchedulerName>,
    /// Leaving out last layers of the text encoder.
    pub clip_skip: bool,
    /// LoRAs.
    pub loras: bool,
    /// Another autoencoder.
    pub vae: bool,
    /// What the UNet predicts can be said.
    pub prediction: bool,
    /// Products of matrices in bf16, where the processor makes them.
    pub bf16: bool,
    /// Noise between two seeds.
    pub variation: bool,
    /// Image to image.
    pub init: bool,
    /// Inpainting.
    pub mask: bool,
    /// Embeddings (textual inversion) that prompts call by name.
    pub embeddings: bool,
    /// Most reference pictures.
    pub references: usize,
    /// It reads them whole, as a model that sees reads the story's own: they have no strength.
    pub sees: bool,
    /// Kinds of control pictures, such as `scribble`.
    pub control: Vec<String>,
}

impl Default for Capabilities {
    /// A plain text-to-picture model: prompt, guidance, steps and seed.
    fn default() -> Capabilities {
        Capabilities {
            size: Size {
                width: 512,
                height: 512,
            },
            sizes: None,
            prompts: PromptStyle::default(),
            negative: false,
            guidance: 1.0..=15.0,
            steps: 1..=200,
            schedulers: Vec::new(),
            clip_skip: false,
            loras: false,
            vae: false,
            prediction: false,
            bf16: false,
            variation: false,
            init: false,
            mask: false,
            embeddings: false,
            references: 0,
            sees: false,
            control: Vec::new(),
        }
    }
}

impl Capabilities {
    /// Whether a painter that takes this can draw `brief`; `model` names it in the message.
    ///
    /// # Errors
    /// The first thing that it can't take, with what to do.
    ///
    /// ```
    /// use vokenboard::pipeline::painter::{Brief, Capabilities};
    ///
    /// let plain = Capabilities::default();
    /// let brief = Brief { negative: "blurry".into(), ..Brief::default() };
    /// let refused = plain.check(&brief, "sketch").unwrap_err().to_string();
    /// assert!(refused.starts_with("the model sketch can't take a negative prompt"));
    /// ```
    pub fn check(&self, brief: &Brief, model: &str) -> Result<(), PipelineError> {
        let refuse = |sentence: String| Err(PipelineError::Request(sentence));
        let texts = [brief.prompt.as_str(), brief.negative.as_str()];
        let called = !embeddings::named(Path::new(""), &texts, &brief.embeddings).is_empty();
        let asked = [
            (
                !brief.negative.trim().is_empty() && !self.negative,
                "a negative prompt",
            ),
            (brief.clip_skip.is_some() && !self.clip_skip, "a clip skip"),
            (!brief.loras.is_empty() && !self.loras, "LoRAs"),
            (brief.vae.is_some() && !self.vae, "another VAE"),
            (
                brief.prediction.is_some() && !self.prediction,
                "another prediction",
            ),
            (brief.bf16 && !self.bf16, "products in bf16 on this machine"),
            (
                brief.variation.is_some() && !self.variation,
                "variations of a seed",
            ),
            (
                brief.init.is_some() && !self.init,
                "a picture to begin from",
            ),
            (
                (brief.mask.is_some() || brief.region.is_some() || brief.outpaint.is_some())
                    && !self.mask,
                "a mask",
            ),
            (
                brief.upscale.is_some() && !self.init,
                "a picture to draw over in a larger size",
            ),
            (
                !brief.references.is_empty() && self.references == 0,
                "reference pictures",
            ),
            (called && !self.embeddings, "embeddings"),
            (
                !brief.control.is_empty() && self.control.is_empty(),
                "control pictures",
            ),
        ];
        if let Some((_, what)) = asked.iter().find(|(refused, _)| *refused) {
            return refuse(format!(
                "the model {model} can't take {what}; leave that out or choose another model"
            ));
        }
        let weighed = |given: &GivenReference| {
            let how = &given.how;
            let part = how.strength != 0.0 && how.strength != 1.0;
            part || how.start != 0.0 || how.end != 1.0 || how.adapter.is_some()
        };
        if self.sees && brief.references.iter().any(weighed) {
            return refuse(format!(
                "the model {model} reads reference pictures whole, without an IP-Adapter and in all steps; give them strength 1"
            ));
        }
        if !self.guidance.contains(&brief.guidance) {
            return refuse(format!(
                "the model {model} can't take the guidance {}; choose {}",
                brief.guidance,
                choice(&self.guidance)
            ));
        }
        if !self.steps.contains(&brief.steps) {
            return refuse(format!(
                "the model {model} can't take {} steps; choose {}",
                brief.steps,
                choice(&self.steps)
            ));
        }
        let most = self.references;
        if brief.references.len() > most {
            return refuse(format!(
                "the model {model} takes at most {most} reference pictures; leave some out"
            ));
        }
        let known = |kind: &String| self.control.contains(kind);
        if let Some(given) = brief.control.iter().find(|given| !known(&given.kind)) {
            return refuse(format!(
                "the model {model} follows no {} picture; choose {}",
                given.kind,
                self.control.join(" or ")
            ));
        }
        if !self.schedulers.is_empty() && !self.schedulers.contains(&brief.scheduler) {
            let names: Vec<&str> = self.schedulers.iter().map(SchedulerName::as_str).collect();
            return refuse(format!(
                "the model {model} has no scheduler \"{}\"; choose {}",
                brief.scheduler,
                names.join(", ")
            ));
        }
        self.check_size(brief.size, model)
    }

    /// The settings of a take that another model drew as this one can take them: guidance, steps and
    /// scheduler as `usual` has them where they are out of its range. Also says which those are.
    ///
    /// ```
    /// use vokenboard::pipeline::painter::Capabilities;
    /// use vokenboard::story::{SchedulerName, Settings};
    ///
    /// let flow = Capabilities {
    ///     schedulers: vec![SchedulerName::from("euler")],
    ///     ..Capabilities::default()
    /// };
    /// let usual = Settings { scheduler: "euler".into(), ..Settings::default() };
    /// let (settings, changed) = flow.adapt(Settings::default(), &usual);
    /// assert_eq!(settings.scheduler.as_str(), "euler");
    /// assert_eq!(changed, ["scheduler euler"]);
    /// ```
    pub fn adapt(&self, mut settings: Settings, usual: &Settings) -> (Settings, Vec<String>) {
        let mut changed = Vec::new();
        if !self.guidance.contains(&settings.guidance) {
            settings.guidance = usual.guidance;
            changed.push(format!("guidance {}", usual.guidance));
        }
        if !self.steps.contains(&settings.steps) {
            settings.steps = usual.steps;
            changed.push(format!("{} steps", usual.steps));
        }
        if !self.schedulers.is_empty() && !self.schedulers.contains(&settings.scheduler) {
            settings.scheduler = usual.scheduler.clone();
            changed.push(format!("scheduler {}", usual.scheduler));
        }
        (settings, changed)
    }

    fn check_size(&self, Size { width, height }: Size, model: &str) -> Result<(), PipelineError> {
        let Size {
            width: own_width,
            height: own_height,
        } = self.size;
        if (width, height) == (own_width, own_height) {
            return Ok(());
        }
        let Some(range) = &self.sizes else {
            return Err(PipelineError::Request(format!(
                "the model {model} draws pictures of {own_width}x{own_height} pixels only; leave the size out or choose another model"
            )));
        };
        if range.has(width) && range.has(height) {
            return Ok(());
        }
        Err(PipelineError::Request(format!(
            "the model {model} can't draw {width}x{height} pixels; choose sides of {} to {} in steps of {}",
            range.least, range.most, range.step
        )))
    }
}

/// `1 to 15`, or the one value that there is.
fn choice<T: PartialEq + fmt::Display>(range: &RangeInclusive<T>) -> String {
    match range.start() == range.end() {
        true => range.start().to_string(),
        false => format!("{} to {}", range.start(), range.end()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(takes: &Capabilities, change: impl FnOnce(&mut Brief)) -> String {
        let mut brief = Brief {
            size: takes.size,
            ..Brief::default()
        };
        change(&mut brief);
        match takes.check(&brief, "plain") {
            Ok(()) => String::new(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_a_painter_cannot_take_is_named() {
        let plain = Capabilities::default();
        assert_eq!(said(&plain, |_| {}), "");
        let negative = said(&plain, |brief| brief.negative = "blurry".into());
        assert!(negative.contains("plain can't take a negative prompt"));
        let skip = said(&plain, |brief| brief.clip_skip = Some(2));
        assert!(skip.contains("a clip skip"), "{skip}");
        let size = said(&plain, |brief| brief.size.width = 640);
        assert!(size.contains("512x512 pixels only"), "{size}");
        let mut free = plain.clone();
        free.sizes = Some(SizeRange {
            step: 8,
            least: 64,
            most: 2048,
            budget: 512 * 512,
        });
        assert_eq!(said(&free, |brief| brief.size.width = 640), "");
        let odd = said(&free, |brief| brief.size.width = 641);
        assert!(
            odd.contains("641x512") && odd.contains("steps of 8"),
            "{odd}"
        );
        free.schedulers = vec![SchedulerName::from("euler")];
        let other = said(&free, |_| {});
        assert!(
            other.contains("no scheduler \"ddim\"; choose euler"),
            "{other}"
        );
    }

    #[test]
    fn offered_sizes_are_those_that_models_were_trained_with() {
        let xl = SizeRange {
            step: 8,
            least: 64,
            most: 4096,
            budget: 1024 * 1024,
        };
        let sizes = SHAPES.map(|(w, h)| xl.in_shape(w, h));
        let sizes = sizes.map(|size| (size.width, size.height));
        assert_eq!(sizes[0], (1024, 1024));
        assert_eq!(sizes[1], (1152, 896));
        assert_eq!(sizes[3], (1344, 768));
        assert_eq!(sizes[4], (1536, 640));
        assert_eq!(sizes[6], (768, 1344));
        let tiny = SizeRange {
            step: 4,
            least: 8,
            most: 64,
            budget: 32 * 32,
        };
        let wide = tiny.in_shape(16, 9);
        assert_eq!((wide.width, wide.height), (44, 24));
    }
}
