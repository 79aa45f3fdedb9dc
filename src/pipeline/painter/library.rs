//! A model of our own that draws its subjects from pictures: those of the cast, and drawings of the
//! library for whatever else a prompt names.

use std::ops::{ControlFlow, Range};

use candle_core::Device;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::diffusers::{BegunFrom, step_progress};
use super::{
    Brief, Capabilities, PaintedPicture, Painter, PainterDescription, PainterKind, PipelineError,
    Progress, PromptStyle, own_schedulers,
};
use crate::diffusion::{CompositionDiffusion, CompositionRequest};
use crate::pipeline::record::{default_settings, denoising};
use crate::pipeline::{CAPTION, LoadProgress};
use crate::story::{Member, MemberId, Settings, Size, name_mentions};
use crate::storyworld::library::{
    CompositionPrompt, CompositionSubject, Figure, MAX_FIGURES, PromptSubject, SceneSetting, Side,
    cut_out, drawn_nouns,
};
use crate::storyworld::{Time, Weather};
use crate::weights::{ComputeDevices, Model};

/// Models whose manifest says `caption` and that they draw from the library.
pub(super) struct LibraryKind;

impl PainterKind for LibraryKind {
    fn detect(&self, model: &Model) -> bool {
        model.manifest.pipeline == CAPTION.as_str() && model.manifest.draws.library
    }

    fn load(
        &self,
        model: &Model,
        place: &ComputeDevices,
        _progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Box<dyn Painter>, PipelineError> {
        let manifest = &model.manifest;
        let model = CompositionDiffusion::load(&model.dir, place)?;
        let (width, height) = model.diffusion().picture_size();
        Ok(Box::new(LibraryPainter {
            description: PainterDescription {
                model: manifest.id.clone(),
                weights: manifest.weights_hash(),
                device: place.name(),
                takes: Capabilities {
                    size: Size { width, height },
                    prompts: PromptStyle::Composition,
                    negative: true,
                    variation: true,
                    init: true,
                    mask: true,
                    schedulers: own_schedulers(),
                    references: MAX_FIGURES,
                    sees: true,
                    ..Capabilities::default()
                },
                draws: manifest.draws.clone(),
                default_settings: default_settings(Settings::default(), manifest),
            },
            model,
        }))
    }
}

struct LibraryPainter {
    model: CompositionDiffusion,
    description: PainterDescription,
}

/// What a brief shows.
fn composition(brief: &Brief) -> CompositionRequest {
    // Pictures are called by name; one without a name is shown beside those.
    let called: Vec<Member> = brief
        .references
        .iter()
        .zip(0..)
        .map(|(reference, number)| Member {
            name: name_of(&reference.how.prompt).to_owned(),
            ..Member::new(MemberId(number))
        })
        .collect();
    let names: Vec<(Range<usize>, usize)> = name_mentions(&called, &brief.prompt)
        .into_iter()
        .map(|name| (name.start..name.end, name.member.0 as usize))
        .collect();
    let CompositionPrompt {
        mut figures,
        setting,
    } = CompositionPrompt::read(&brief.prompt, &names);
    for (number, reference) in brief.references.iter().enumerate() {
        let subject = PromptSubject::Member(number);
        let unnamed = reference.how.member.is_none();
        if unnamed && figures.iter().all(|(other, _)| *other != subject) {
            figures.push((subject, None));
        }
    }
    figures.truncate(MAX_FIGURES);
    let mut rng = ChaCha8Rng::seed_from_u64(brief.seed);
    let count = figures.len();
    let subjects: Vec<(CompositionSubject, Option<Side>)> = figures
        .into_iter()
        .map(|(subject, side)| {
            let subject = match subject {
                PromptSubject::Drawing(drawing) => CompositionSubject::Drawing(drawing),
                PromptSubject::Member(i) => {
                    let reference = &brief.references[i];
                    CompositionSubject::Picture {
                        picture: cut_out(&reference.whole),
                        like: drawn_nouns(&reference.how.prompt)
                            .first()
                            .map(|n| n.drawing),
                    }
                }
            };
            (subject, side)
        })
        .collect();
    let placed = subjects
        .into_iter()
        .enumerate()
        .map(|(i, (subject, side))| {
            let corner = subject.corner(&mut rng, count, i, side);
            Figure::new(subject, count, 1.0, corner)
        });
    let figures = placed.collect();
    let setting = match setting.location {
        Some(location) => SceneSetting {
            location,
            time: setting.time.unwrap_or(Time::Day),
            weather: setting.weather.unwrap_or(Weather::Clear),
            layout: 0,
            fall: 0,
        }
        .description(),
        // The model was told of places, times and weathers only.
        None => String::new(),
    };
    CompositionRequest { figures, setting }
}

/// `Milo` of `Milo: small, red scarf`.
fn name_of(introduction: &str) -> &str {
    introduction.split(':').next().unwrap_or_default().trim()
}

impl Painter for LibraryPainter {
    fn describe(&self) -> &PainterDescription {
        &self.description
    }

    fn computes_on(&self) -> Device {
        self.model.diffusion().painter.device().clone()
    }

    fn draw(
        &mut self,
        brief: &Brief,
        sink: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Option<PaintedPicture>, PipelineError> {
        let how = denoising(&brief.scheduler, brief.steps, brief.guidance)?;
        let request = composition(brief);
        let figures = request.figures.len();
        tracing::debug!(setting = request.setting, figures, "composition");
        let (negative, steps) = (brief.negative.trim(), &mut step_progress(sink));
        let begun = BegunFrom::of(brief);
        let init = begun.options();
        let picture = self
            .model
            .draw(&request, negative, brief.seed, init, how, steps)?;
        Ok(picture.map(PaintedPicture::from))
    }
}
