//! Who tells a story on: each row of the comparison behind one trait.

use std::ops::ControlFlow;
use std::path::Path;
use std::rc::Rc;

use image::{RgbImage, buffer::ConvertBuffer};

use super::gill::Gallery;
use super::rows::{ContextPart, MethodKind, RowConfig};
use super::unreferenced::Unreferenced;
use crate::eval::EvalError;
use crate::judges::{Contrastive, JudgeError};
use crate::llm::LlmError;
use crate::pipeline::{
    self, BoardContext, ContextPanel, Make, Output, Pipeline, PipelineError, Request,
};
use crate::story::{Images, Member, Settings};
use crate::weights;

/// Pixels a side of the pictures in context and of real ones.
pub(super) const SIZE: u32 = 256;

/// A panel to be generated, with the panels before it.
pub struct StoryPosition<'a> {
    /// The panels before, with their own texts and pictures.
    pub context: &'a [ContextPanel],
    /// The panel itself: only the real teller looks at its picture.
    pub panel: &'a ContextPanel,
    /// Who is in the cast by then.
    pub cast: &'a [Member],
    /// The pictures of the cast.
    pub images: &'a Images,
    /// Seed of the panel.
    pub seed: u64,
}

impl StoryPosition<'_> {
    /// This panel's sentence.
    pub fn sentence(&self) -> &str {
        &self.panel.text
    }
}

/// A continuation: the next panel's text and picture.
pub struct Continuation {
    /// Text of the panel.
    pub text: String,
    /// Picture of the panel.
    pub picture: RgbImage,
    /// Whether the model asked for the picture by itself, where it has the choice.
    pub asked: Option<bool>,
}

/// A row of the comparison: continues a story by one panel, the same each time for the same seed.
pub trait StoryMethod {
    /// A picture of the panel's sentence.
    ///
    /// # Errors
    /// When a model fails.
    fn draw(&mut self, at: &StoryPosition) -> Result<RgbImage, EvalError>;

    /// The next text, empty where the model finds none; `None` where the row writes no texts.
    ///
    /// # Errors
    /// When a model fails.
    fn write(&mut self, at: &StoryPosition) -> Result<Option<String>, EvalError>;

    /// The next text with its picture; `None` where the row does not make both.
    ///
    /// # Errors
    /// When a model fails.
    fn go_on(&mut self, at: &StoryPosition) -> Result<Option<Continuation>, EvalError>;

    /// Natural log probabilities of the sentence's tokens; `None` where the row writes no texts.
    ///
    /// # Errors
    /// When a model fails.
    fn log_probabilities(&mut self, at: &StoryPosition) -> Result<Option<Vec<f64>>, EvalError>;
}

/// Models, settings and judges that the rows are built from.
pub struct MethodContext<'a> {
    /// The folder of installed models.
    pub models: &'a Path,
    /// Steps, scheduler and guidance of all rows; seeds are replaced.
    pub settings: &'a Settings,
    /// The contrastive judge, where there is one.
    pub judge: Option<Rc<Contrastive>>,
    /// Pictures of training stories that GILL can retrieve.
    pub gallery: usize,
}

impl MethodContext<'_> {
    /// The method that a row names.
    ///
    /// # Errors
    /// One sentence that says what the row lacks.
    pub fn method_of_row(&self, row: &RowConfig) -> Result<Box<dyn StoryMethod>, EvalError> {
        let mut settings = self.settings.clone();
        settings.guidance = row.guidance.unwrap_or(settings.guidance);
        let model = row.model.as_deref().unwrap_or_default();
        let recipe = row.recipe.as_deref();
        let whole = || -> Result<Whole, EvalError> {
            Ok(Whole {
                pipeline: self.pipeline(model, recipe, row.voken.as_deref())?,
                settings: settings.clone(),
                context: row.context.clone(),
            })
        };
        Ok(match row.kind {
            MethodKind::Real => Box::new(Real),
            MethodKind::Pipeline if row.references => Box::new(whole()?),
            MethodKind::Pipeline => {
                let folder = weights::find(self.models, model)?.dir;
                Box::new(Unreferenced::open(whole()?, &folder)?)
            }
            MethodKind::Gill => {
                let whole = whole()?;
                let Some(judge) = &self.judge else {
                    return Err(JudgeError::Contrastive {
                        path: self.models.join("sprout/contrastive"),
                        why: "it is needed to retrieve pictures and not there".into(),
                    }
                    .into());
                };
                Box::new(Gill {
                    whole,
                    gallery: Gallery::new(judge.clone(), self.gallery)?,
                })
            }
            MethodKind::Unimodal => Box::new(Unimodal {
                painter: Whole {
                    context: Vec::new(),
                    ..whole()?
                },
                writer: Whole {
                    pipeline: self.pipeline(model, recipe, row.writer.as_deref())?,
                    settings: settings.clone(),
                    context: vec![ContextPart::Texts],
                },
            }),
        })
    }

    fn pipeline(
        &self,
        model: &str,
        recipe: Option<&str>,
        voken: Option<&Path>,
    ) -> Result<Box<dyn Pipeline>, EvalError> {
        // Where a model knows several recipes, its usual one may be another.
        let asked = recipe.map(str::parse).transpose();
        let loader = pipeline::loader(pipeline::LoadOptions {
            models: Some(self.models.to_owned()),
            model: Some(model.to_owned()),
            recipe: asked.map_err(PipelineError::Request)?,
            voken: voken.map(Path::to_owned),
            ..pipeline::LoadOptions::default()
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

/// Log probabilities of `text`; none where the story is too long for the model.
fn likelihood(
    pipeline: &mut dyn Pipeline,
    context: &[ContextPanel],
    text: &str,
) -> Result<Option<Vec<f64>>, EvalError> {
    let all = pipeline.log_probabilities(context, text);
    able(all.map_err(EvalError::from))
}

pub(super) fn missing_picture() -> EvalError {
    PipelineError::Request("the model made no picture where one was wanted".into()).into()
}

struct Real;

impl Real {
    fn picture(&self, at: &StoryPosition) -> RgbImage {
        let picture = at.panel.picture.as_deref();
        picture.map(ConvertBuffer::convert).unwrap_or_default()
    }
}

impl StoryMethod for Real {
    fn draw(&mut self, at: &StoryPosition) -> Result<RgbImage, EvalError> {
        Ok(self.picture(at))
    }

    fn write(&mut self, _: &StoryPosition) -> Result<Option<String>, EvalError> {
        Ok(None)
    }

    fn go_on(&mut self, at: &StoryPosition) -> Result<Option<Continuation>, EvalError> {
        Ok(Some(Continuation {
            text: at.sentence().to_owned(),
            picture: self.picture(at),
            asked: None,
        }))
    }

    fn log_probabilities(&mut self, _: &StoryPosition) -> Result<Option<Vec<f64>>, EvalError> {
        Ok(None)
    }
}

/// A pipeline that writes and draws, with some of the context or all of it.
pub(super) struct Whole {
    pipeline: Box<dyn Pipeline>,
    pub(super) settings: Settings,
    context: Vec<ContextPart>,
}

impl Whole {
    fn context(&self, at: &StoryPosition) -> Vec<ContextPanel> {
        let has = |part| self.context.contains(&part);
        if self.context.is_empty() {
            return Vec::new();
        }
        let panel = |panel: &ContextPanel| ContextPanel {
            id: panel.id,
            text: match has(ContextPart::Texts) {
                true => panel.text.clone(),
                false => String::new(),
            },
            picture: panel.picture.clone().filter(|_| has(ContextPart::Pictures)),
        };
        at.context.iter().map(panel).collect()
    }

    /// What is asked for `text` or the next one.
    fn request(&self, at: &StoryPosition, text: Option<&str>, make: Make) -> Request {
        Request {
            board: BoardContext {
                cast: at.cast.to_vec(),
                ..BoardContext::default()
            },
            context: self.context(at),
            text: text.map(str::to_owned),
            make,
            settings: Settings {
                seed: at.seed,
                ..self.settings.clone()
            },
            images: at.images.clone(),
            ..Request::default()
        }
    }

    /// The picture prompt of `sentence` in the place of the panel's own.
    pub(super) fn prompt(
        &mut self,
        at: &StoryPosition,
        sentence: &str,
    ) -> Result<String, EvalError> {
        let request = self.request(at, Some(sentence), Make::Prompt);
        let made = run(self.pipeline.as_mut(), &request)?;
        Ok(made.prompt.unwrap_or_default())
    }

    /// A picture of `sentence` in the place of the panel's own.
    fn picture(&mut self, at: &StoryPosition, sentence: &str) -> Result<RgbImage, EvalError> {
        let request = self.request(at, Some(sentence), Make::Picture);
        let made = run(self.pipeline.as_mut(), &request)?;
        let (picture, _) = made.picture.ok_or_else(missing_picture)?;
        Ok(picture.convert())
    }
}

impl StoryMethod for Whole {
    fn draw(&mut self, at: &StoryPosition) -> Result<RgbImage, EvalError> {
        self.picture(at, at.sentence())
    }

    fn write(&mut self, at: &StoryPosition) -> Result<Option<String>, EvalError> {
        if self.context.is_empty() {
            // Without a story there is nothing to go on with.
            return Ok(None);
        }
        let request = self.request(at, None, Make::Text);
        let made = able(run(self.pipeline.as_mut(), &request))?;
        let text = made.and_then(|made| made.text);
        Ok(Some(text.map(|(text, _)| text).unwrap_or_default()))
    }

    fn go_on(&mut self, at: &StoryPosition) -> Result<Option<Continuation>, EvalError> {
        if self.context.is_empty() {
            return Ok(None);
        }
        let request = self.request(at, None, Make::Both);
        let Some(made) = able(run(self.pipeline.as_mut(), &request))? else {
            return Ok(None);
        };
        let (picture, _) = made.picture.ok_or_else(missing_picture)?;
        Ok(Some(Continuation {
            text: made.text.map(|(text, _)| text).unwrap_or_default(),
            picture: picture.convert(),
            asked: made.asked,
        }))
    }

    fn log_probabilities(&mut self, at: &StoryPosition) -> Result<Option<Vec<f64>>, EvalError> {
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

impl StoryMethod for Gill {
    fn draw(&mut self, at: &StoryPosition) -> Result<RgbImage, EvalError> {
        let drawn = self.whole.draw(at)?;
        self.gallery.better(at, at.sentence(), drawn)
    }

    fn write(&mut self, at: &StoryPosition) -> Result<Option<String>, EvalError> {
        self.whole.write(at)
    }

    fn go_on(&mut self, at: &StoryPosition) -> Result<Option<Continuation>, EvalError> {
        let Some(mut panel) = self.whole.go_on(at)? else {
            return Ok(None);
        };
        panel.picture = self.gallery.better(at, &panel.text, panel.picture)?;
        Ok(Some(panel))
    }

    fn log_probabilities(&mut self, at: &StoryPosition) -> Result<Option<Vec<f64>>, EvalError> {
        self.whole.log_probabilities(at)
    }
}

/// Text to picture from the sentence alone, text to text from the sentences before.
struct Unimodal {
    painter: Whole,
    writer: Whole,
}

impl StoryMethod for Unimodal {
    fn draw(&mut self, at: &StoryPosition) -> Result<RgbImage, EvalError> {
        self.painter.draw(at)
    }

    fn write(&mut self, at: &StoryPosition) -> Result<Option<String>, EvalError> {
        self.writer.write(at)
    }

    fn go_on(&mut self, at: &StoryPosition) -> Result<Option<Continuation>, EvalError> {
        let Some(text) = self.write(at)?.filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        Ok(Some(Continuation {
            picture: self.painter.picture(at, &text)?,
            text,
            asked: None,
        }))
    }

    fn log_probabilities(&mut self, at: &StoryPosition) -> Result<Option<Vec<f64>>, EvalError> {
        self.writer.log_probabilities(at)
    }
}
