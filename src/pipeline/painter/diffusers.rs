//! A text-to-picture model of our own in diffusers' folder layout, such as Sprout.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use candle_core::Device;
use image::{DynamicImage, GrayImage, RgbImage, RgbaImage};

use super::stable::{exact, in_bf16};
use super::{
    Brief, Capabilities, PaintedPicture, Painter, PainterDescription, PainterKind, PipelineError,
    Progress, PromptStyle,
};
use crate::diffusion::{InitOptions, SchedulerKind, StepDone, TextToImageModel, luma};
use crate::pipeline::record::{default_settings, denoising};
use crate::pipeline::{CAPTION, LoadProgress};
use crate::story::{SchedulerName, Settings, Size};
use crate::weights::{ComputeDevices, Model};

/// Models whose manifest says `caption`: they draw the captions of the storyworld.
pub(super) struct DiffusersKind;

impl PainterKind for DiffusersKind {
    fn detect(&self, model: &Model) -> bool {
        model.manifest.pipeline == CAPTION.as_str()
    }

    fn load(
        &self,
        model: &Model,
        place: &ComputeDevices,
        _progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Box<dyn Painter>, PipelineError> {
        let diffusion = TextToImageModel::load_at(&model.dir, place)?;
        let (width, height) = diffusion.picture_size();
        let manifest = &model.manifest;
        let description = PainterDescription {
            model: manifest.id.clone(),
            weights: manifest.weights_hash(),
            device: place.name(),
            takes: Capabilities {
                size: Size { width, height },
                prompts: PromptStyle::Storyworld,
                negative: true,
                variation: true,
                init: true,
                mask: true,
                bf16: in_bf16(&place.device, place.gpu.is_some()),
                schedulers: own_schedulers(),
                ..Capabilities::default()
            },
            draws: manifest.draws.clone(),
            default_settings: default_settings(Settings::default(), manifest),
        };
        Ok(Box::new(DiffusersPainter {
            dir: model.dir.clone(),
            place: place.clone(),
            bf16: false,
            diffusion,
            description,
        }))
    }
}

/// The names of our own schedulers.
pub(in crate::pipeline) fn own_schedulers() -> Vec<SchedulerName> {
    let all = SchedulerKind::ALL.iter();
    all.map(|kind| SchedulerName::from(kind.name())).collect()
}

/// Tells `sink` of each denoising step.
pub(super) fn step_progress(
    sink: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> impl FnMut(StepDone) -> ControlFlow<()> {
    move |done| {
        sink(Progress::Step {
            step: done.step,
            steps: done.steps,
            preview: Arc::new(done.preview),
        })
    }
}

/// The pictures that a brief begins from, as a model of our own reads them.
pub(super) struct BegunFrom {
    variation: Option<(u64, f64)>,
    picture: Option<(RgbImage, f64)>,
    mask: Option<GrayImage>,
}

impl BegunFrom {
    pub(super) fn of(brief: &Brief) -> Self {
        let rgb = |picture: &RgbaImage| DynamicImage::ImageRgba8(picture.clone()).to_rgb8();
        let variation = brief.variation.as_ref();
        let picture = brief.init.as_ref();
        Self {
            variation: variation.map(|v| (v.seed, exact(v.strength))),
            picture: picture.map(|(picture, by)| (rgb(picture), exact(*by))),
            mask: brief.mask.as_ref().map(|mask| luma(&rgb(mask))),
        }
    }

    pub(super) fn options(&self) -> InitOptions<'_> {
        InitOptions {
            variation: self.variation,
            picture: self.picture.as_ref().map(|(picture, by)| (picture, *by)),
            mask: self.mask.as_ref(),
        }
    }
}

struct DiffusersPainter {
    dir: PathBuf,
    place: ComputeDevices,
    /// Whether `diffusion` multiplies in bf16.
    bf16: bool,
    diffusion: TextToImageModel,
    description: PainterDescription,
}

impl Painter for DiffusersPainter {
    fn describe(&self) -> &PainterDescription {
        &self.description
    }

    fn computes_on(&self) -> Device {
        self.diffusion.painter.device().clone()
    }

    fn draw(
        &mut self,
        brief: &Brief,
        sink: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Option<PaintedPicture>, PipelineError> {
        let how = denoising(&brief.scheduler, brief.steps, brief.guidance)?;
        if brief.bf16 != self.bf16 {
            self.diffusion = TextToImageModel::load_with(&self.dir, &self.place, brief.bf16)?;
            self.bf16 = brief.bf16;
        }
        let texts = [brief.prompt.as_str(), brief.negative.trim()];
        let (begun, steps) = (BegunFrom::of(brief), &mut step_progress(sink));
        let picture = self
            .diffusion
            .sample_from(texts, brief.seed, begun.options(), how, steps)?;
        Ok(picture.map(PaintedPicture::from))
    }
}
