use super::*;
use crate::pipeline::painter::{Capabilities, PaintedPicture, PainterDescription, PromptStyle};
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
    CaptionPipeline::of(writer, painter, own)
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
