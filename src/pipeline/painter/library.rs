//! A model of our own that draws its subjects from pictures: those of the cast, and drawings of the
//! library for whatever else a prompt names.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::{
    Brief, Capabilities, PaintedPicture, Painter, PainterDescription, PainterKind, PipelineError,
    Progress, PromptStyle, own_schedulers,
};
use crate::diffusion::{DenoisingOptions, ModelFolder, Stage, StageDiffusion};
use crate::pipeline::record::default_settings;
use crate::pipeline::{CAPTION, LoadProgress};
use crate::story::{Member, MemberId, Settings, Size, named};
use crate::storyworld::library::{
    MAX_FIGURES, SceneSetting, Shown, Side, StagePrompt, Subject, cut_out, named as nouns,
};
use crate::storyworld::{Time, Weather};
use crate::weights::{Model, Place};

/// Models whose manifest says `caption` and whose UNet draws from references.
pub(super) struct LibraryKind;

impl PainterKind for LibraryKind {
    fn detect(&self, model: &Model) -> bool {
        let config = || ModelFolder::new(&model.dir).read_unet_config();
        model.manifest.pipeline == CAPTION.as_str()
            && config().is_ok_and(|config| config.reference_attention)
    }

    fn load(
        &self,
        model: &Model,
        place: &Place,
        _progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Box<dyn Painter>, PipelineError> {
        let manifest = &model.manifest;
        let model = StageDiffusion::load(&model.dir, place)?;
        let (width, height) = model.diffusion().picture_size();
        Ok(Box::new(LibraryPainter {
            description: PainterDescription {
                model: manifest.id.clone(),
                weights: manifest.weights_hash(),
                device: place.name(),
                takes: Capabilities {
                    size: Size { width, height },
                    prompts: PromptStyle::Stage,
                    negative: true,
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
    model: StageDiffusion,
    description: PainterDescription,
}

/// What a brief shows.
fn stage(brief: &Brief) -> Stage {
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
    let names: Vec<(Range<usize>, usize)> = named(&called, &brief.prompt)
        .into_iter()
        .map(|name| (name.start..name.end, name.member.0 as usize))
        .collect();
    let StagePrompt { mut figures, said } = StagePrompt::read(&brief.prompt, &names);
    for (number, reference) in brief.references.iter().enumerate() {
        let shown = Shown::Member(number);
        let unnamed = reference.how.member.is_none();
        if unnamed && figures.iter().all(|(other, _)| *other != shown) {
            figures.push((shown, None));
        }
    }
    figures.truncate(MAX_FIGURES);
    let mut rng = ChaCha8Rng::seed_from_u64(brief.seed);
    let count = figures.len();
    let subjects: Vec<(Subject, Option<Side>)> = figures
        .into_iter()
        .map(|(shown, side)| {
            let subject = match shown {
                Shown::Drawing(drawing) => Subject::Drawing(drawing),
                Shown::Member(i) => {
                    let reference = &brief.references[i];
                    Subject::Picture {
                        picture: cut_out(&reference.whole),
                        like: nouns(&reference.how.prompt).first().map(|n| n.drawing),
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
            (subject, corner)
        });
    let figures = placed.collect();
    let setting = match said.ground {
        Some(ground) => SceneSetting {
            ground,
            time: said.time.unwrap_or(Time::Day),
            weather: said.weather.unwrap_or(Weather::Clear),
            layout: 0,
            fall: 0,
        }
        .description(),
        // The model was told of places, times and weathers only.
        None => String::new(),
    };
    Stage { figures, setting }
}

/// `Milo` of `Milo: small, red scarf`.
fn name_of(introduction: &str) -> &str {
    introduction.split(':').next().unwrap_or_default().trim()
}

impl Painter for LibraryPainter {
    fn describe(&self) -> &PainterDescription {
        &self.description
    }

    fn draw(
        &mut self,
        brief: &Brief,
        sink: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Option<PaintedPicture>, PipelineError> {
        let scheduler = brief.scheduler.as_str().parse();
        let how = DenoisingOptions {
            scheduler: scheduler.map_err(PipelineError::Request)?,
            steps: brief.steps as usize,
            guidance: f64::from(brief.guidance),
        };
        let stage = stage(brief);
        let figures = stage.figures.len();
        tracing::debug!(setting = stage.setting, figures, "stage");
        let negative = brief.negative.trim();
        let picture = self
            .model
            .draw(&stage, negative, brief.seed, how, &mut |done| {
                sink(Progress::Step {
                    step: done.step,
                    steps: done.steps,
                    preview: Arc::new(done.preview),
                })
            })?;
        Ok(picture.map(PaintedPicture::from))
    }
}
