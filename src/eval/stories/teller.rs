//! Who tells a story on: each row of the comparison behind one trait.

use std::ops::ControlFlow;
use std::path::Path;
use std::rc::Rc;

use candle_core::Device;
use image::{RgbImage, buffer::ConvertBuffer};

use super::gill::Gallery;
use super::rows::{Kind, Part, RowConfig};
use crate::diffusion::Diffusion;
use crate::eval::EvalError;
use crate::eval::contrastive::Contrastive;
use crate::llm::LlmError;
use crate::pipeline::{self, ContextPanel, Make, Output, Pipeline, PipelineError, Request};
use crate::story::{PanelId, Settings};
use crate::storyworld::{Renderer, Scene, description};
use crate::weights::DeviceChoice;

/// Pixels a side of the pictures in context and of real ones.
pub(super) const SIZE: u32 = 256;

/// A panel to be told, and what comes before it.
pub struct Moment<'a> {
    /// The panels before, with their own texts and pictures.
    pub context: &'a [ContextPanel],
    /// The same panels' scenes and sentences, then this one's: a teller other than the real one
    /// looks only at the scenes before the last, as a perfect describer would.
    pub panels: &'a [(Scene, String)],
    pub seed: u64,
}

impl Moment<'_> {
    /// This panel's sentence.
    pub fn sentence(&self) -> &str {
        self.panels.last().map_or("", |(_, text)| text)
    }

    fn scene(&self) -> Option<&Scene> {
        self.panels.last().map(|(scene, _)| scene)
    }
}

/// The next panel, told without its sentence being known.
pub struct GoneOn {
    pub text: String,
    pub picture: RgbImage,
    /// Whether the model asked for the picture by itself, where it has the choice.
    pub asked: Option<bool>,
}

/// Tells stories on from where they are. A seed gives the same every time.
pub trait Teller {
    /// A picture of the panel's sentence.
    ///
    /// # Errors
    /// When a model fails.
    fn draw(&mut self, at: &Moment) -> Result<RgbImage, EvalError>;

    /// The next text, empty where the model finds none; `None` where the row writes no texts.
    ///
    /// # Errors
    /// When a model fails.
    fn write(&mut self, at: &Moment) -> Result<Option<String>, EvalError>;

    /// The next text with its picture; `None` where the row does not make both.
    ///
    /// # Errors
    /// When a model fails.
    fn go_on(&mut self, at: &Moment) -> Result<Option<GoneOn>, EvalError>;

    /// Natural log probabilities of the sentence's tokens; `None` where the row writes no texts.
    ///
    /// # Errors
    /// When a model fails.
    fn log_probabilities(&mut self, at: &Moment) -> Result<Option<Vec<f64>>, EvalError>;
}

/// What tellers are made from.
pub struct Workshop<'a> {
    /// The folder of installed models.
    pub models: &'a Path,
    /// Steps, scheduler and guidance of all rows; seeds are replaced.
    pub settings: &'a Settings,
    pub judge: Option<Rc<Contrastive>>,
    /// Pictures of training stories that GILL can retrieve.
    pub gallery: usize,
}

impl Workshop<'_> {
    /// The teller of a row.
    ///
    /// # Errors
    /// One sentence that says what the row lacks.
    pub fn make(&self, row: &RowConfig) -> Result<Box<dyn Teller>, EvalError> {
        let mut settings = self.settings.clone();
        settings.guidance = row.guidance.unwrap_or(settings.guidance);
        let model = row.model.as_deref().unwrap_or_default();
        let painter = |settings| -> Result<Painted, EvalError> {
            let folder = self.models.join(row.painter.as_deref().unwrap_or_default());
            Ok(Painted {
                model: Diffusion::load(&folder, &Device::Cpu)?,
                settings,
            })
        };
        Ok(match row.kind {
            Kind::Real => Box::new(Real(Renderer::new(SIZE))),
            Kind::Pipeline => Box::new(Whole {
                pipeline: self.pipeline(model, row.recipe.as_deref())?,
                settings,
                context: row.context.clone(),
            }),
            Kind::Gill => {
                let Some(judge) = &self.judge else {
                    return Err(EvalError::Contrastive {
                        path: self.models.join("sprout/contrastive"),
                        why: "it is needed to retrieve pictures and not there".into(),
                    });
                };
                let whole = Whole {
                    pipeline: self.pipeline(model, row.recipe.as_deref())?,
                    settings,
                    context: row.context.clone(),
                };
                Box::new(Gill {
                    whole,
                    gallery: Gallery::new(judge.clone(), self.gallery)?,
                })
            }
            Kind::Divter => Box::new(Divter {
                writer: self.pipeline(model, None)?,
                painter: painter(settings)?,
            }),
            Kind::Unimodal => Box::new(Unimodal {
                writer: match &row.model {
                    Some(model) => Some(self.pipeline(model, None)?),
                    None => None,
                },
                painter: painter(settings)?,
            }),
        })
    }

    fn pipeline(&self, model: &str, recipe: Option<&str>) -> Result<Box<dyn Pipeline>, EvalError> {
        // Where a model knows several recipes, its usual one may be another.
        let asked = recipe.map_or_else(|| model.to_owned(), |recipe| format!("{model}:{recipe}"));
        let loader = pipeline::loader(pipeline::Options {
            models: Some(self.models.to_owned()),
            model: Some(asked),
            device: DeviceChoice::Auto,
        });
        let pipeline = loader(&mut |_| {})?;
        let has = &pipeline.describe().pipeline;
        match recipe {
            Some(wanted) if wanted != has => Err(PipelineError::Request(format!(
                "the model {model} tells stories by {has} and not by {wanted}"
            ))
            .into()),
            _ => Ok(pipeline),
        }
    }
}

/// Runs a pipeline to the end.
fn run(pipeline: &mut dyn Pipeline, request: &Request) -> Result<Output, EvalError> {
    let made = pipeline.generate(request, &mut |_| ControlFlow::Continue(()))?;
    Ok(made.unwrap_or_default())
}

/// What a model made, or `None` where it finds no text or can't read a story as long as this: that
/// speaks against the model, and is no reason to end a comparison of hours.
fn able<T>(made: Result<T, EvalError>) -> Result<Option<T>, EvalError> {
    let unable = |e: &LlmError| matches!(e, LlmError::Speechless | LlmError::TooLong { .. });
    match made {
        Err(EvalError::Pipeline(PipelineError::Language(e))) if unable(&e) => Ok(None),
        made => made.map(Some),
    }
}

/// The text that a pipeline goes on with after `context`; empty where it finds none.
fn text(
    pipeline: &mut dyn Pipeline,
    context: Vec<ContextPanel>,
    settings: &Settings,
) -> Result<String, EvalError> {
    let request = Request {
        context,
        text: None,
        make: Make::Text,
        settings: settings.clone(),
    };
    let made = able(run(pipeline, &request))?;
    let text = made.and_then(|made| made.text);
    Ok(text.map(|(text, _)| text).unwrap_or_default())
}

/// Log probabilities of `text`; none where the story is too long for the model.
fn likelihood(
    pipeline: &mut dyn Pipeline,
    context: &[ContextPanel],
    text: &str,
) -> Result<Option<Vec<f64>>, EvalError> {
    let all = pipeline.log_probabilities(context, text);
    able(all.map_err(EvalError::from))
}

fn seeded(settings: &Settings, seed: u64) -> Settings {
    Settings {
        seed,
        ..settings.clone()
    }
}

fn missing_picture() -> EvalError {
    PipelineError::Request("the model made no picture where one was wanted".into()).into()
}

struct Real(Renderer);

impl Real {
    fn picture(&self, at: &Moment) -> RgbImage {
        let mut picture = RgbImage::new(SIZE, SIZE);
        if let Some(scene) = at.scene() {
            self.0.draw(scene, &mut picture);
        }
        picture
    }
}

impl Teller for Real {
    fn draw(&mut self, at: &Moment) -> Result<RgbImage, EvalError> {
        Ok(self.picture(at))
    }

    fn write(&mut self, _: &Moment) -> Result<Option<String>, EvalError> {
        Ok(None)
    }

    fn go_on(&mut self, at: &Moment) -> Result<Option<GoneOn>, EvalError> {
        Ok(Some(GoneOn {
            text: at.sentence().to_owned(),
            picture: self.picture(at),
            asked: None,
        }))
    }

    fn log_probabilities(&mut self, _: &Moment) -> Result<Option<Vec<f64>>, EvalError> {
        Ok(None)
    }
}

/// A pipeline that writes and draws, with some of the context or all of it.
struct Whole {
    pipeline: Box<dyn Pipeline>,
    settings: Settings,
    context: Vec<Part>,
}

impl Whole {
    fn context(&self, at: &Moment) -> Vec<ContextPanel> {
        let has = |part| self.context.contains(&part);
        if self.context.is_empty() {
            return Vec::new();
        }
        let panel = |panel: &ContextPanel| ContextPanel {
            id: panel.id,
            text: match has(Part::Texts) {
                true => panel.text.clone(),
                false => String::new(),
            },
            picture: panel.picture.clone().filter(|_| has(Part::Pictures)),
        };
        at.context.iter().map(panel).collect()
    }
}

impl Teller for Whole {
    fn draw(&mut self, at: &Moment) -> Result<RgbImage, EvalError> {
        let request = Request {
            context: self.context(at),
            text: Some(at.sentence().to_owned()),
            make: Make::Picture,
            settings: seeded(&self.settings, at.seed),
        };
        let made = run(self.pipeline.as_mut(), &request)?;
        let (picture, _) = made.picture.ok_or_else(missing_picture)?;
        Ok(picture.convert())
    }

    fn write(&mut self, at: &Moment) -> Result<Option<String>, EvalError> {
        if self.context.is_empty() {
            // Without a story there is nothing to go on with.
            return Ok(None);
        }
        let settings = seeded(&self.settings, at.seed);
        let context = self.context(at);
        text(self.pipeline.as_mut(), context, &settings).map(Some)
    }

    fn go_on(&mut self, at: &Moment) -> Result<Option<GoneOn>, EvalError> {
        if self.context.is_empty() {
            return Ok(None);
        }
        let request = Request {
            context: self.context(at),
            text: None,
            make: Make::Both,
            settings: seeded(&self.settings, at.seed),
        };
        let Some(made) = able(run(self.pipeline.as_mut(), &request))? else {
            return Ok(None);
        };
        let (picture, _) = made.picture.ok_or_else(missing_picture)?;
        Ok(Some(GoneOn {
            text: made.text.map(|(text, _)| text).unwrap_or_default(),
            picture: picture.convert(),
            asked: made.asked,
        }))
    }

    fn log_probabilities(&mut self, at: &Moment) -> Result<Option<Vec<f64>>, EvalError> {
        if self.context.is_empty() {
            return Ok(None);
        }
        let context = self.context(at);
        likelihood(self.pipeline.as_mut(), &context, at.sentence())
    }
}

/// GILL (arXiv 2305.17216) draws or retrieves. Its classifier for that choice learnt from people's
/// ratings, which we have not: here the picture that fits the story so far better, by the
/// contrastive model, is taken.
struct Gill {
    whole: Whole,
    gallery: Gallery,
}

impl Teller for Gill {
    fn draw(&mut self, at: &Moment) -> Result<RgbImage, EvalError> {
        let drawn = self.whole.draw(at)?;
        self.gallery.better(at, at.sentence(), drawn)
    }

    fn write(&mut self, at: &Moment) -> Result<Option<String>, EvalError> {
        self.whole.write(at)
    }

    fn go_on(&mut self, at: &Moment) -> Result<Option<GoneOn>, EvalError> {
        let Some(mut told) = self.whole.go_on(at)? else {
            return Ok(None);
        };
        told.picture = self.gallery.better(at, &told.text, told.picture)?;
        Ok(Some(told))
    }

    fn log_probabilities(&mut self, at: &Moment) -> Result<Option<Vec<f64>>, EvalError> {
        self.whole.log_probabilities(at)
    }
}

/// A diffusion model that draws texts through its text encoder.
struct Painted {
    model: Diffusion,
    settings: Settings,
}

impl Painted {
    fn draw(&self, text: &str, seed: u64) -> Result<RgbImage, EvalError> {
        let settings = seeded(&self.settings, seed);
        let go_on = &mut |_| ControlFlow::Continue(());
        let picture = self.model.sample(text, &settings, go_on)?;
        Ok(picture.ok_or_else(missing_picture)?.convert())
    }
}

/// Divter (arXiv 2110.08515) reads pictures as descriptions and describes the one to be drawn. Its
/// model goes on with a story in which every sentence is followed by the description of its
/// picture, each a panel's text; the descriptions in context are exact.
struct Divter {
    writer: Box<dyn Pipeline>,
    painter: Painted,
}

impl Divter {
    /// Sentences and descriptions of the panels before, and this panel's `sentence` where there
    /// is one.
    fn context(at: &Moment, sentence: Option<&str>) -> Vec<ContextPanel> {
        let before = &at.panels[..at.panels.len().saturating_sub(1)];
        let told = before
            .iter()
            .flat_map(|(scene, text)| [text.clone(), description(scene)])
            .chain(sentence.map(str::to_owned));
        (0..)
            .zip(told)
            .map(|(i, text)| ContextPanel {
                id: PanelId(i),
                text,
                picture: None,
            })
            .collect()
    }

    fn describe_and_draw(&mut self, at: &Moment, sentence: &str) -> Result<RgbImage, EvalError> {
        let settings = seeded(&self.painter.settings, at.seed);
        let context = Self::context(at, Some(sentence));
        let said = text(self.writer.as_mut(), context, &settings)?;
        self.painter.draw(&said, at.seed)
    }
}

impl Teller for Divter {
    fn draw(&mut self, at: &Moment) -> Result<RgbImage, EvalError> {
        self.describe_and_draw(at, at.sentence())
    }

    fn write(&mut self, at: &Moment) -> Result<Option<String>, EvalError> {
        let settings = seeded(&self.painter.settings, at.seed);
        text(self.writer.as_mut(), Self::context(at, None), &settings).map(Some)
    }

    fn go_on(&mut self, at: &Moment) -> Result<Option<GoneOn>, EvalError> {
        let Some(text) = self.write(at)?.filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        Ok(Some(GoneOn {
            picture: self.describe_and_draw(at, &text)?,
            text,
            asked: None,
        }))
    }

    fn log_probabilities(&mut self, at: &Moment) -> Result<Option<Vec<f64>>, EvalError> {
        let context = Self::context(at, None);
        likelihood(self.writer.as_mut(), &context, at.sentence())
    }
}

/// Text to picture from the sentence alone, text to text from the sentences before.
struct Unimodal {
    writer: Option<Box<dyn Pipeline>>,
    painter: Painted,
}

impl Unimodal {
    fn context(at: &Moment) -> Vec<ContextPanel> {
        let text = |panel: &ContextPanel| ContextPanel {
            picture: None,
            ..panel.clone()
        };
        at.context.iter().map(text).collect()
    }
}

impl Teller for Unimodal {
    fn draw(&mut self, at: &Moment) -> Result<RgbImage, EvalError> {
        self.painter.draw(at.sentence(), at.seed)
    }

    fn write(&mut self, at: &Moment) -> Result<Option<String>, EvalError> {
        let settings = seeded(&self.painter.settings, at.seed);
        match &mut self.writer {
            Some(writer) => text(writer.as_mut(), Self::context(at), &settings).map(Some),
            None => Ok(None),
        }
    }

    fn go_on(&mut self, at: &Moment) -> Result<Option<GoneOn>, EvalError> {
        let Some(text) = self.write(at)?.filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        Ok(Some(GoneOn {
            picture: self.painter.draw(&text, at.seed)?,
            text,
            asked: None,
        }))
    }

    fn log_probabilities(&mut self, at: &Moment) -> Result<Option<Vec<f64>>, EvalError> {
        match &mut self.writer {
            Some(writer) => {
                let context = Self::context(at);
                likelihood(writer.as_mut(), &context, at.sentence())
            }
            None => Ok(None),
        }
    }
}
