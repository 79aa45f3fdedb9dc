//! FLUX.1 and Z-Image from files and folders that authors own.

use std::ops::ControlFlow;
use std::sync::Arc;

use candle_core::Device;
use image::{DynamicImage, RgbImage, RgbaImage};

use super::stable::exact;
use super::{
    Brief, Capabilities, PaintedPicture, Painter, PainterDescription, PainterKind, PipelineError,
    Progress, SizeRange, embeddings, is_local,
};
use crate::diffusion::{
    Dit, DitFamily, DitPipeline, DitRequest, PipelineProgress, SchedulerKind, luma, weighted_words,
};
use crate::pipeline::LoadProgress;
use crate::pipeline::record::default_settings;
use crate::published::{decoding, format_bytes, free_memory};
use crate::story::{SchedulerName, Settings, Size};
use crate::weights::{self, ComputeDevices, Model};

/// What such a model's manifest says.
const PIPELINE: &str = "diffusion-transformer";
/// Sides of a picture whose attention is not larger than any memory, in pixels.
const MOST: u32 = 2048;

/// Transformers of ours, with text encoders of candle-transformers.
pub(super) struct DitKind;

impl PainterKind for DitKind {
    fn detect(&self, model: &Model) -> bool {
        is_local(model, PIPELINE)
    }

    fn load(
        &self,
        model: &Model,
        place: &ComputeDevices,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Box<dyn Painter>, PipelineError> {
        model.verify_sizes()?;
        let path = model.source.path().unwrap_or(&model.dir);
        let manifest = &model.manifest;
        let dit = Dit::open(path, &manifest.part_paths(), &place.device)?;
        if let Some(gpu) = &place.gpu {
            let what = format!(
                "picture model, on {} and not on {}: there are no GPU kernels for this kind yet",
                weights::device_name(&place.device),
                gpu.info().name
            );
            tracing::warn!(model = manifest.id, "{what}");
            progress(LoadProgress {
                what,
                done: 1,
                of: 2,
            });
        }
        let description = PainterDescription {
            model: manifest.id.clone(),
            weights: manifest.weights_hash(),
            // There are no kernels of ours for it on other devices than candle's.
            device: weights::device_name(&place.device),
            takes: takes(&dit),
            draws: manifest.draws.clone(),
            default_settings: default_settings(defaults(&dit), manifest),
        };
        Ok(Box::new(DitPainter {
            description,
            pipeline: DitPipeline::new(dit),
        }))
    }
}

fn takes(model: &Dit) -> Capabilities {
    let (width, height) = model.picture_size();
    let step = model.step() as u32;
    let most = model
        .longest_side()
        .map_or(MOST, |side| MOST.min(side as u32));
    let guided = model.reads_guidance() || model.takes_negative();
    Capabilities {
        size: Size { width, height },
        sizes: Some(SizeRange {
            step,
            least: 2 * step,
            most: most / step * step,
            budget: width * height,
        }),
        negative: model.takes_negative(),
        guidance: if guided { 1.0..=15.0 } else { 1.0..=1.0 },
        // Flow matching is sampled by Euler's method.
        schedulers: vec![SchedulerName::from(SchedulerKind::Euler.name())],
        variation: true,
        init: true,
        mask: true,
        ..Capabilities::default()
    }
}

/// As the published pipelines have it.
fn defaults(model: &Dit) -> Settings {
    let (guidance, steps) = match model.family() {
        DitFamily::Flux if model.reads_guidance() => (3.5, 28),
        DitFamily::Flux => (1.0, 4),
        // Of Turbo: eight steps lead to the picture, and one more is counted.
        DitFamily::ZImage => (1.0, 9),
    };
    Settings {
        guidance,
        steps,
        scheduler: SchedulerName::from(SchedulerKind::Euler.name()),
        ..Settings::default()
    }
}

struct DitPainter {
    description: PainterDescription,
    pipeline: DitPipeline,
}

impl Painter for DitPainter {
    fn describe(&self) -> &PainterDescription {
        &self.description
    }

    fn computes_on(&self) -> Device {
        self.pipeline.model().device().clone()
    }

    fn complete(&mut self, mut brief: Brief) -> Result<Brief, PipelineError> {
        let about = &self.description;
        let texts = [brief.prompt.as_str(), brief.negative.as_str()];
        let path = self.pipeline.model().path();
        let named = embeddings::named(path, &texts, &brief.embeddings);
        if let Some(used) = named.first() {
            return Err(PipelineError::Request(format!(
                "the model {} reads no embeddings, and the prompt names {} ({}); leave that word out or choose a Stable Diffusion model",
                about.model,
                super::embedding_name(&used.file),
                used.file
            )));
        }
        if let Some(words) = texts.iter().find_map(|text| weighted_words(text)) {
            return Err(PipelineError::Request(format!(
                "the model {} reads sentences and weighs no words; write the words of {words} without brackets and number, or choose a Stable Diffusion model",
                about.model
            )));
        }
        // Of a take before, whose prompt named them.
        brief.embeddings.clear();
        about.takes.check(&brief, &about.model)?;
        let model = self.pipeline.model();
        if !brief.negative.trim().is_empty() && brief.guidance <= 1.0 {
            return Err(PipelineError::Request(format!(
                "the model {} reads a negative prompt only where guidance is above 1; leave the negative prompt out or choose a guidance such as 4",
                about.model
            )));
        }
        let Size { width, height } = brief.size;
        let (texts, network, vae) = model.weight_bytes();
        let steps = model.step_numbers((width as usize, height as usize)) * 4;
        let fine = model.vae_config().block_out_channels.first().copied();
        let last = decoding(fine.unwrap_or(0), u64::from(width) * u64::from(height)) * 4;
        let needed = texts.max(network + steps).max(vae + last);
        // What is loaded already is not needed once more.
        let needed = needed.saturating_sub(self.pipeline.loaded());
        match free_memory(model.device()) {
            Some(free) if needed > free => Err(PipelineError::Request(format!(
                "a picture of {width}x{height} pixels needs about {} of memory more than is loaded, and {} are free; choose a smaller size, a file with smaller weights, or close other programs",
                format_bytes(needed),
                format_bytes(free)
            ))),
            _ => Ok(brief),
        }
    }

    fn draw(
        &mut self,
        brief: &Brief,
        sink: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Option<PaintedPicture>, PipelineError> {
        let rgb = |picture: &Arc<RgbaImage>| -> RgbImage {
            DynamicImage::ImageRgba8(picture.as_ref().clone()).to_rgb8()
        };
        let init = brief.init.as_ref().map(|(p, by)| (rgb(p), exact(*by)));
        let mask = brief.mask.as_ref().map(|mask| luma(&rgb(mask)));
        let request = DitRequest {
            prompt: &brief.prompt,
            negative: brief.negative.trim(),
            size: (brief.size.width as usize, brief.size.height as usize),
            seed: brief.seed,
            variation: brief
                .variation
                .as_ref()
                .map(|v| (v.seed, exact(v.strength))),
            guidance: exact(brief.guidance),
            steps: brief.steps as usize,
            init: init.as_ref().map(|(picture, by)| (picture, *by)),
            mask: mask.as_ref(),
        };
        let picture = self.pipeline.draw(&request, &mut |heard| {
            sink(match heard {
                PipelineProgress::Loading(part) => Progress::Loading(LoadProgress {
                    what: part.to_owned(),
                    done: 0,
                    of: 1,
                }),
                PipelineProgress::Still => Progress::Still,
                PipelineProgress::Step(done) => Progress::Step {
                    step: done.step,
                    steps: done.steps,
                    preview: Arc::new(done.preview),
                },
            })
        });
        Ok(picture?.map(PaintedPicture::from))
    }
}
