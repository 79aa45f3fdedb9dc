//! The caption recipe: a writer continues the text, and a painter draws what it says. Any writer
//! goes with any painter; Sprout with its own language model is the first pair.

mod prepared;
mod prompt;
#[cfg(test)]
mod tests;

use std::ops::ControlFlow;
use std::time::Instant;

use prepared::{Prepared, PreparedPicture};

use super::load::ResolvedModels;
use super::painter::{Brief, Painter, PromptStyle};
use super::recipe::Recipe;
use super::record::record;
use super::writer::{Writer, WrittenText};
use super::{
    ContextPanel, Description, LoadProgress, Make, Output, Pipeline, PipelineError, Progress,
    RecipeId, Request, Sink, Started, frame, painter, writer,
};
use crate::story::{ModelUse, Record};
use crate::weights::Model;
use crate::words::other_language;

/// A text becomes a picture prompt, and that a picture: any writer with any painter.
pub const CAPTION: RecipeId = RecipeId::new("caption");

pub(super) struct CaptionRecipe;

impl Recipe for CaptionRecipe {
    fn id(&self) -> RecipeId {
        CAPTION
    }

    fn summary(&self) -> &'static str {
        "its sentence alone makes the picture"
    }

    fn detect(&self, model: &Model) -> bool {
        painter::kind_of(model).is_some()
    }

    fn load(
        &self,
        chosen: &ResolvedModels,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Box<dyn Pipeline>, PipelineError> {
        Ok(Box::new(CaptionPipeline::load(chosen, progress)?))
    }
}

/// A writer and a painter.
pub(super) struct CaptionPipeline {
    writer: Box<dyn Writer>,
    painter: Box<dyn Painter>,
    /// Whether the writer is the one that the painter's manifest names: then both are one model.
    own: bool,
    description: Description,
}

impl CaptionPipeline {
    fn load(
        chosen: &ResolvedModels,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<CaptionPipeline, PipelineError> {
        let tell = |progress: &mut dyn FnMut(LoadProgress), what: &str, done| {
            progress(LoadProgress {
                what: what.to_string(),
                done,
                of: 2,
            });
        };
        let (model, place) = (&chosen.model, &chosen.place);
        let words = chosen.writer()?;
        let unfit = || PipelineError::not_a_storyteller(&model.manifest);
        let painter_kind = painter::kind_of(model).ok_or_else(unfit)?;
        let writer_kind = writer::kind_of(&words).ok_or_else(|| {
            PipelineError::Request(format!(
                "the model {} writes no stories; choose a language model with --writer",
                words.manifest.id
            ))
        })?;
        tell(progress, "language model", 0);
        let writer = writer_kind.load(&words, place, progress)?;
        tell(progress, "picture model", 1);
        let mut painter = painter_kind.load(model, place, progress)?;
        painter.share(&chosen.others());
        tell(progress, "picture model", 2);
        let own = model.manifest.language_model.as_deref() == Some(&words.manifest.id);
        Ok(Self::of(writer, painter, own))
    }

    /// A writer and a painter; `own` where both are one model.
    pub(super) fn of(writer: Box<dyn Writer>, painter: Box<dyn Painter>, own: bool) -> Self {
        Self {
            description: describe(writer.as_ref(), painter.as_ref(), own),
            writer,
            painter,
            own,
        }
    }

    /// The same as another recipe calls it.
    pub(super) fn called(mut self, recipe: RecipeId) -> Self {
        self.description.pipeline = recipe.to_string();
        self
    }

    /// The record of a text of the writer's.
    fn text_record(&self, request: &Request, prompt: String, started: Instant) -> Record {
        let mut record = record(&self.description, request, prompt, started);
        if !self.own {
            let about = self.writer.describe();
            record.model.clone_from(&about.model);
            record.weights.clone_from(&about.weights);
            record.device.clone_from(&about.device);
        }
        record.instruction = request.instruction.clone().unwrap_or_default();
        record
    }

    /// The text that goes on with the story, or the given one changed after an instruction.
    fn write(
        &mut self,
        request: &Request,
        sink: &mut Sink,
    ) -> Result<Option<(String, Record)>, PipelineError> {
        let started = Instant::now();
        let pieces = &mut |piece: &str| sink(Progress::TextPiece(piece.to_string()));
        let written = match &request.instruction {
            Some(instruction) => self.writer.rewrite(request, instruction, pieces)?,
            None => self.writer.continue_story(request, pieces)?,
        };
        let Some(WrittenText { text, prompt }) = written else {
            return Ok(None);
        };
        tracing::debug!(prompt, text, "written");
        let record = self.text_record(request, prompt, started);
        let done = Progress::TextDone(text.clone(), Box::new(record.clone()));
        Ok(sink(done).is_continue().then_some((text, record)))
    }

    /// All texts that are wanted: one, or as many candidates, each with a seed of its own.
    fn candidates(
        &mut self,
        request: &Request,
        sink: &mut Sink,
    ) -> Result<Option<Vec<(String, Record)>>, PipelineError> {
        let mut all = Vec::new();
        for number in 0..u64::from(request.candidates.max(1)) {
            let mut one = request.clone();
            one.settings.seed = request.settings.seed.wrapping_add(number);
            let Some(written) = self.write(&one, sink)? else {
                return Ok(None);
            };
            all.push(written);
        }
        Ok(Some(all))
    }

    /// The picture prompt of `text`, and whether the writer wrote it: the author's own where there
    /// is one, else in the terms of the painter.
    fn prompt(
        &mut self,
        request: &Request,
        text: &str,
        sink: &mut Sink,
    ) -> Result<Option<(String, bool)>, PipelineError> {
        let own = request.prompt.as_deref().map(str::trim);
        if let Some(own) = own.filter(|prompt| !prompt.is_empty()) {
            return Ok(Some((own.to_string(), false)));
        }
        if text.trim().is_empty() {
            return Err(PipelineError::Request(
                "a panel without text has nothing to draw; write its text first".to_string(),
            ));
        }
        let takes = self.painter.describe().takes.clone();
        let style = takes.prompts;
        if style == PromptStyle::Composition
            && let Some(prompt) = self.writer.composition_prompt(request, text)?
        {
            return Ok(Some((prompt, false)));
        }
        let writes = self.writer.describe().instructs
            && (!style.is_english() || other_language(text).is_some());
        let written = match writes {
            true => {
                // Nobody reads along, but cancelling is obeyed.
                let quietly = &mut |_: &str| sink(Progress::TextPiece(String::new()));
                let written = self.writer.picture_prompt(request, text, style, quietly)?;
                let Some(written) = written else {
                    return Ok(None);
                };
                Some(written.text)
            }
            false => None,
        };
        let prompt = style.prompt(request, text, written.as_deref(), &takes);
        Ok(Some((prompt, written.is_some())))
    }

    /// What a picture of `text` is drawn from, and its record but for what drawing tells.
    fn brief(
        &mut self,
        request: &Request,
        text: &str,
        sink: &mut Sink,
    ) -> Result<Option<PreparedPicture>, PipelineError> {
        let started = Instant::now();
        let Some((prompt, by_writer)) = self.prompt(request, text, sink)? else {
            return Ok(None);
        };
        let takes = &self.painter.describe().takes;
        let usual = takes.size;
        let (request, newcomers) = takes.prompts.with_cast(request, text, &prompt, takes);
        let request = &request;
        let (negative, settings) = (request.negative(), &request.settings);
        let brief = Brief::new(prompt.clone(), negative, settings, &request.images, usual)?;
        let (painter, size) = (self.painter.as_mut(), settings.size);
        let brief = frame::complete(painter, brief, size)?;
        tracing::debug!(
            prompt = brief.prompt,
            negative = brief.negative,
            "drawn from"
        );
        let mut record = record(&self.description, request, prompt, started);
        brief.write_into(&mut record);
        record.text = Some(text.to_string());
        if by_writer && !self.own {
            let about = self.writer.describe();
            record.writer = Some(ModelUse {
                model: about.model.clone(),
                weights: about.weights.clone(),
            });
        }
        Ok(Some(PreparedPicture {
            brief,
            size,
            record,
            newcomers,
            started,
        }))
    }

    /// All but the picture, and what that is drawn from.
    fn prepare(&mut self, request: &Request, sink: &mut Sink) -> Result<Prepared, PipelineError> {
        if request.make == Make::Picture && frame::needs_no_painter(&request.settings) {
            let enlarged = frame::enlarged(
                &self.description,
                &self.painter.computes_on(),
                request,
                sink,
            )?;
            return Ok(Prepared::ended(enlarged));
        }
        let mut output = Output::default();
        let given = request.text.clone().unwrap_or_default();
        match request.make {
            Make::Plan(panels) => {
                let pieces = &mut |piece: &str| sink(Progress::TextPiece(piece.to_string()));
                let plan = self.writer.plan(request, panels as usize, pieces)?;
                return Ok(Prepared::ended(plan.map(|plan| Output {
                    plan: Some(plan),
                    ..output
                })));
            }
            Make::Cast => {
                let pieces = &mut |piece: &str| sink(Progress::TextPiece(piece.to_string()));
                let cast = self.writer.cast(request, pieces)?;
                return Ok(Prepared::ended(cast.map(|cast| Output {
                    cast: Some(cast),
                    ..output
                })));
            }
            Make::Prompt => {
                let prompt = self.prompt(request, &given, sink)?;
                return Ok(Prepared::ended(prompt.map(|(prompt, _)| Output {
                    prompt: Some(prompt),
                    ..output
                })));
            }
            Make::Text | Make::Picture | Make::Both => {}
        }
        let rewritten = request.instruction.is_some();
        let mut text = given;
        if request.make.text() && (request.text.is_none() || rewritten) {
            let Some(written) = self.candidates(request, sink)? else {
                return Ok(Prepared::ended(None));
            };
            let mut written = written.into_iter();
            output.text = written.next();
            output.candidates = written.collect();
            text = output.text.iter().map(|(text, _)| text.clone()).collect();
        }
        if !request.make.picture() {
            return Ok(Prepared::ended(Some(output)));
        }
        Ok(match self.brief(request, &text, sink)? {
            Some(picture) => Prepared::Picture(Box::new((output, picture))),
            None => Prepared::ended(None),
        })
    }
}

/// What a pair is; `own` where both are one model.
fn describe(writer: &dyn Writer, painter: &dyn Painter, own: bool) -> Description {
    let (words, pictures) = (writer.describe(), painter.describe());
    Description {
        model: pictures.model.clone(),
        pipeline: CAPTION.to_string(),
        weights: match own {
            // A voken model's words name what it draws with.
            true if words.weights.starts_with(&pictures.weights) => words.weights.clone(),
            true => format!("{}+{}", pictures.weights, words.weights),
            false => pictures.weights.clone(),
        },
        device: pictures.device.clone(),
        characters: pictures.draws.characters.clone(),
        things: pictures.draws.things.clone(),
        places: pictures.draws.places.clone(),
        default_settings: pictures.default_settings.clone(),
        takes: pictures.takes.clone(),
        at_once: painter.at_once(),
        writer: words.clone(),
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
        match self.prepare(request, sink)? {
            Prepared::Ended(output) => Ok(*output),
            Prepared::Picture(prepared) => {
                let (output, picture) = *prepared;
                picture.draw(self.painter.as_mut(), output, sink)
            }
        }
    }

    fn begin(&mut self, request: &Request, sink: &mut Sink) -> Result<Started, PipelineError> {
        let (output, picture) = match self.prepare(request, sink)? {
            Prepared::Ended(output) => return Ok(Started::Ended(output)),
            Prepared::Picture(prepared) => *prepared,
        };
        Ok(match self.painter.elsewhere() {
            Some(mut painter) => Started::Elsewhere(Box::new(move |sink| {
                picture.draw(painter.as_mut(), output, sink)
            })),
            None => {
                let output = picture.draw(self.painter.as_mut(), output, sink)?;
                Started::Ended(Box::new(output))
            }
        })
    }

    fn log_probabilities(
        &mut self,
        context: &[ContextPanel],
        text: &str,
    ) -> Result<Vec<f64>, PipelineError> {
        self.writer.log_probabilities(context, text)
    }
}
