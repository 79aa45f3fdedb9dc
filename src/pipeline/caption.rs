//! The caption recipe: a writer continues the text, and a painter draws what it says. Any writer
//! goes with any painter; Sprout with its own language model is the first pair.

use std::ops::ControlFlow;
use std::time::Instant;

use super::load::ResolvedModels;
use super::painter::{Brief, Painter, PromptStyle};
use super::recipe::{CAPTION, Recipe};
use super::record::record;
use super::writer::{Writer, WrittenText};
use super::{
    ContextPanel, Description, LoadProgress, Make, Output, Pipeline, PipelineError, Progress,
    RecipeId, Request, Sink, Started, frame, painter, picture_prompt, writer,
};
use crate::story::{Member, ModelUse, Record, Size};
use crate::weights::Model;
use crate::words::other_language;

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
struct CaptionPipeline {
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
        Ok(CaptionPipeline {
            description: describe(writer.as_ref(), painter.as_ref(), own),
            writer,
            painter,
            own,
        })
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
        let instructs = self.writer.describe().instructs;
        if style == PromptStyle::Stage {
            if !instructs || other_language(text).is_none() {
                return Ok(Some((request.stage_prompt(text), false)));
            }
            // The library's nouns are English.
            let quietly = &mut |_: &str| sink(Progress::TextPiece(String::new()));
            let written = self.writer.picture_prompt(request, text, style, quietly)?;
            return Ok(written.map(|written| (request.stage_prompt(&written.text), true)));
        }
        if style == PromptStyle::Storyworld {
            if !instructs || other_language(text).is_none() {
                let (told, text) = (request.told_in_storyworld(), request.in_storyworld(text));
                return Ok(Some((picture_prompt(&told, &text), false)));
            }
            // A painter that knows English only is told in English what a text in another shows.
            let quietly = &mut |_: &str| sink(Progress::TextPiece(String::new()));
            let written = self.writer.picture_prompt(request, text, style, quietly)?;
            return Ok(written.map(|written| (picture_prompt(&[], &written.text), true)));
        }
        if !instructs {
            let told = request.with_descriptions(text, text, &takes);
            return Ok(Some((with_style(&request.board.style, &told), false)));
        }
        // Nobody reads along, but cancelling is obeyed.
        let quietly = &mut |_: &str| sink(Progress::TextPiece(String::new()));
        let written = self.writer.picture_prompt(request, text, style, quietly)?;
        Ok(written.map(|written| {
            let shown = request.with_descriptions(&written.text, text, &takes);
            (with_style(&request.board.style, &shown), true)
        }))
    }

    /// What a picture of `text` is drawn from, and its record but for what drawing tells.
    fn brief(
        &mut self,
        request: &Request,
        text: &str,
        sink: &mut Sink,
    ) -> Result<Option<Sketch>, PipelineError> {
        let started = Instant::now();
        let Some((prompt, by_writer)) = self.prompt(request, text, sink)? else {
            return Ok(None);
        };
        let takes = &self.painter.describe().takes;
        let usual = takes.size;
        let staged = takes.prompts == PromptStyle::Stage;
        let newcomers = match staged {
            true => newcomers(request, &prompt),
            false => Vec::new(),
        };
        let request = &match staged {
            // The prompt says who stands there, whoever the sentence leaves out.
            true => Request {
                cast: None,
                ..request.clone()
            }
            .with_looks(&prompt, takes),
            false => request.with_looks(text, takes),
        };
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
        Ok(Some(Sketch {
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
            Some(sketch) => Prepared::Drawing(Box::new((output, sketch))),
            None => Prepared::ended(None),
        })
    }
}

/// An order before its picture is drawn.
enum Prepared {
    /// There is none to draw; `None` is cancelled.
    Ended(Box<Option<Output>>),
    Drawing(Box<(Output, Sketch)>),
}

impl Prepared {
    fn ended(output: Option<Output>) -> Prepared {
        Prepared::Ended(Box::new(output))
    }
}

/// A picture that is to be drawn.
struct Sketch {
    brief: Brief,
    /// Its size where one was chosen.
    size: Option<Size>,
    record: Record,
    /// Who is drawn from the library and not in the cast yet.
    newcomers: Vec<Member>,
    started: Instant,
}

impl Sketch {
    /// `output` with the picture; `None` when cancelled.
    fn draw(
        self,
        painter: &mut dyn Painter,
        output: Output,
        sink: &mut Sink,
    ) -> Result<Option<Output>, PipelineError> {
        let Some(drawn) = frame::draw(painter, &self.brief, self.size, sink)? else {
            return Ok(None);
        };
        let mut record = self.record;
        record.seconds = self.started.elapsed().as_secs_f32();
        record.graph = drawn.graph;
        if let Some(by) = drawn.by {
            (record.model, record.weights, record.device) = (by.model, by.weights, by.device);
        }
        Ok(Some(Output {
            picture: Some((drawn.picture, record)),
            newcomers: self.newcomers,
            ..output
        }))
    }
}

/// What a pair is; `own` where both are one model.
fn describe(writer: &dyn Writer, painter: &dyn Painter, own: bool) -> Description {
    let (words, pictures) = (writer.describe(), painter.describe());
    Description {
        model: pictures.model.clone(),
        pipeline: CAPTION.to_string(),
        weights: match own {
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

/// Those of [`Request::newcomers`] with their drawing among the pictures of the request.
fn newcomers(request: &Request, prompt: &str) -> Vec<Member> {
    let all = request.newcomers(prompt).into_iter();
    all.map(|(member, drawing)| Member {
        pictures: vec![request.images.put(drawing)],
        ..member
    })
    .collect()
}

/// A picture prompt with the board's style line before it.
fn with_style(style: &str, prompt: &str) -> String {
    match style.trim().trim_end_matches(',') {
        "" => prompt.trim().to_string(),
        style => format!("{style}, {}", prompt.trim()),
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
            Prepared::Drawing(drawing) => {
                let (output, sketch) = *drawing;
                sketch.draw(self.painter.as_mut(), output, sink)
            }
        }
    }

    fn begin(&mut self, request: &Request, sink: &mut Sink) -> Result<Started, PipelineError> {
        let (output, sketch) = match self.prepare(request, sink)? {
            Prepared::Ended(output) => return Ok(Started::Ended(output)),
            Prepared::Drawing(drawing) => *drawing,
        };
        Ok(match self.painter.elsewhere() {
            Some(mut painter) => Started::Elsewhere(Box::new(move |sink| {
                sketch.draw(painter.as_mut(), output, sink)
            })),
            None => {
                let output = sketch.draw(self.painter.as_mut(), output, sink)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::painter::{Capabilities, PaintedPicture, PainterDescription};
    use crate::pipeline::writer::{TextSink, WriterDescription};
    use crate::pipeline::{BoardContext, ContextPanel};
    use crate::story::{PanelId, Settings};
    use image::{Rgba, RgbaImage};

    /// Says what it was asked for.
    struct Scribe(WriterDescription);

    impl Writer for Scribe {
        fn describe(&self) -> &WriterDescription {
            &self.0
        }

        fn continue_story(
            &mut self,
            request: &Request,
            sink: &mut TextSink,
        ) -> Result<Option<WrittenText>, PipelineError> {
            let text = format!("seed {}", request.settings.seed);
            let prompt = request.texts_before().join("|");
            Ok(sink(&text)
                .is_continue()
                .then_some(WrittenText { text, prompt }))
        }

        fn rewrite(
            &mut self,
            request: &Request,
            instruction: &str,
            sink: &mut TextSink,
        ) -> Result<Option<WrittenText>, PipelineError> {
            let text = format!("{instruction} {}", request.settings.seed);
            let prompt = request.text.clone().unwrap_or_default();
            Ok(sink(&text)
                .is_continue()
                .then_some(WrittenText { text, prompt }))
        }

        fn plan(
            &mut self,
            _: &Request,
            panels: usize,
            _: &mut TextSink,
        ) -> Result<Option<Vec<String>>, PipelineError> {
            Ok(Some(vec!["a turn".to_string(); panels]))
        }

        fn picture_prompt(
            &mut self,
            _: &Request,
            text: &str,
            style: PromptStyle,
            _: &mut TextSink,
        ) -> Result<Option<WrittenText>, PipelineError> {
            let text = format!("{style:?} of {text}");
            let prompt = String::new();
            Ok(Some(WrittenText { text, prompt }))
        }
    }

    /// Draws its seed.
    struct Brush(PainterDescription);

    impl Painter for Brush {
        fn describe(&self) -> &PainterDescription {
            &self.0
        }

        fn draw(
            &mut self,
            brief: &Brief,
            _: &mut dyn FnMut(Progress) -> ControlFlow<()>,
        ) -> Result<Option<PaintedPicture>, PipelineError> {
            let picture = RgbaImage::from_pixel(2, 2, Rgba([brief.seed as u8; 4]));
            Ok(Some(picture.into()))
        }
    }

    fn pair(instructs: bool, own: bool) -> CaptionPipeline {
        let writer = Box::new(Scribe(WriterDescription {
            model: "scribe".into(),
            weights: "aa".into(),
            device: "CPU".into(),
            instructs,
            sees: false,
        }));
        let painter = Box::new(Brush(PainterDescription {
            model: "brush".into(),
            weights: "bb".into(),
            takes: Capabilities {
                negative: true,
                prompts: PromptStyle::Tags,
                ..Capabilities::default()
            },
            ..PainterDescription::default()
        }));
        CaptionPipeline {
            description: describe(writer.as_ref(), painter.as_ref(), own),
            writer,
            painter,
            own,
        }
    }

    fn request(make: Make) -> Request {
        Request {
            board: BoardContext {
                style: "watercolour".into(),
                negative: "text".into(),
                ..BoardContext::default()
            },
            context: vec![ContextPanel {
                id: PanelId(1),
                text: "A door.".into(),
                picture: None,
            }],
            make,
            settings: Settings {
                seed: 7,
                ..Settings::default()
            },
            ..Request::default()
        }
    }

    fn made(pipeline: &mut CaptionPipeline, request: &Request) -> Output {
        let go_on = &mut |_| ControlFlow::Continue(());
        pipeline.generate(request, go_on).unwrap().unwrap()
    }

    #[test]
    fn any_writer_writes_for_any_painter_and_the_records_say_who_did_what() {
        let mut pipeline = pair(true, false);
        let output = made(&mut pipeline, &request(Make::Both));
        let (text, record) = output.text.unwrap();
        assert_eq!(
            (text.as_str(), record.prompt.as_str()),
            ("seed 7", "A door.")
        );
        assert_eq!(
            (record.model.as_str(), record.weights.as_str()),
            ("scribe", "aa")
        );
        let (_, record) = output.picture.unwrap();
        assert_eq!(
            (record.model.as_str(), record.weights.as_str()),
            ("brush", "bb")
        );
        assert_eq!(record.prompt, "watercolour, Tags of seed 7");
        assert_eq!(record.negative, "text");
        assert_eq!(record.settings.negative, "");
        assert_eq!(record.text.as_deref(), Some("seed 7"));
        assert_eq!(record.writer.unwrap().model, "scribe");
    }

    #[test]
    fn the_authors_prompt_goes_before_the_writers_and_a_small_writer_writes_none() {
        let own = Request {
            prompt: Some("a red door".into()),
            ..request(Make::Both)
        };
        let (_, record) = made(&mut pair(true, false), &own).picture.unwrap();
        assert_eq!(
            (record.prompt.as_str(), record.writer),
            ("a red door", None)
        );
        let small = made(&mut pair(false, true), &request(Make::Both));
        let (_, record) = small.picture.unwrap();
        assert_eq!(record.prompt, "watercolour, seed 7");
        // One model: its hash is that of both, as in records of before.
        assert_eq!(record.weights, "bb+aa");
        let prompt = Request {
            text: Some("A key.".into()),
            ..request(Make::Prompt)
        };
        let prompt = made(&mut pair(true, false), &prompt).prompt;
        assert_eq!(prompt.as_deref(), Some("watercolour, Tags of A key."));
        let plan = made(&mut pair(true, false), &request(Make::Plan(3))).plan;
        assert_eq!(plan.unwrap().len(), 3);
    }

    #[test]
    fn candidates_of_a_rewriting_have_seeds_of_their_own() {
        let order = request(Make::Text).rewriting("A long door.", "shorter", 3);
        let mut told = Vec::new();
        let output = pair(true, false).generate(&order, &mut |progress| {
            if let Progress::TextDone(text, record) = progress {
                told.push((text, record.settings.seed, record.instruction));
            }
            ControlFlow::Continue(())
        });
        let output = output.unwrap().unwrap();
        assert_eq!(output.text.unwrap().0, "shorter 7");
        let rest: Vec<&str> = output.candidates.iter().map(|(text, _)| &**text).collect();
        assert_eq!(rest, ["shorter 8", "shorter 9"]);
        assert_eq!(told.len(), 3);
        assert_eq!(told[2], ("shorter 9".into(), 9, "shorter".into()));
        let cancelled = pair(true, false).generate(&order, &mut |_| ControlFlow::Break(()));
        assert!(cancelled.unwrap().is_none());
    }
}
