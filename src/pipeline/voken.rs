//! The voken pipeline, which is MiniGPT-5 (arXiv 2310.02239): the language model reads the story
//! so far, texts and pictures, writes on, and asks for the picture itself; its states at the
//! vokens are what the picture is drawn from.

mod context;
mod embeddings;
mod load;
mod writer;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use candle_core::Tensor;
use image::RgbaImage;

use super::load::ResolvedModels;
use super::networks::{ImageModel, LanguageInfo, PipelineNetworks};
use super::painter::Brief;
use super::recipe::Recipe;
use super::record::{denoising, record};
use super::speech::TextFormat;
use super::{
    CAPTION, ContextPanel, Description, LoadProgress, Make, Output, Pipeline, PipelineError,
    Progress, RecipeId, Request, frame,
};
use crate::diffusion::TextFeatures;
use crate::llm::{LlmError, log_probability};
use crate::story::{Images, Settings};
use crate::voken::{
    CachedLm, GenerationConfig, InterleavedText, PictureConditioning, VistTask, VokenFolder,
    force_description, force_picture, generate, interleave, tidy,
};
use crate::weights::Model;

/// Most tokens of a panel's text, the reference's.
const MAX_NEW_TOKENS: usize = 256;
/// Most tokens of a description.
const DESCRIBED: usize = 48;
/// The voken folder in the folder of a model of our own.
const FOLDER: &str = "voken";
/// Times that a text is written anew which the story holds already.
const ATTEMPTS: u64 = 4;

/// The states of a model that reads texts and pictures become the picture (MiniGPT-5).
pub const VOKEN: RecipeId = RecipeId::new(crate::published::PIPELINE);

pub(super) struct VokenRecipe;

impl Recipe for VokenRecipe {
    fn id(&self) -> RecipeId {
        VOKEN
    }

    fn summary(&self) -> &'static str {
        "the story so far makes the picture"
    }

    fn detect(&self, model: &Model) -> bool {
        let recipe = model.manifest.pipeline.as_str();
        recipe == VOKEN.as_str() || (recipe == CAPTION.as_str() && own_folder(model).is_whole())
    }

    fn load(
        &self,
        chosen: &ResolvedModels,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Box<dyn Pipeline>, PipelineError> {
        let manifest = &chosen.model.manifest;
        if manifest.pipeline == VOKEN.as_str() {
            return Ok(Box::new(VokenPipeline::load(chosen, progress)?));
        }
        if manifest.draws.library {
            // Its vokens say who stands where, and its painter draws that.
            return writer::load(chosen, progress);
        }
        Ok(Box::new(VokenPipeline::load_own(chosen, progress)?))
    }
}

/// Where a model of our own has what makes it a voken model.
pub(super) fn own_folder(model: &Model) -> VokenFolder {
    VokenFolder::new(model.dir.join(FOLDER))
}

/// Language model, what it sees with and what draws for it.
pub struct VokenPipeline {
    networks: PipelineNetworks,
    voice: LanguageInfo,
    speech: TextFormat,
    description: Description,
    /// Embeddings of pictures that were read lately, by the pictures' bytes.
    seen: Vec<(Arc<RgbaImage>, Tensor)>,
}

/// Hears of every piece and step, and breaks to cancel.
type VokenSink<'a> = dyn FnMut(Progress) -> ControlFlow<()> + 'a;

/// What a picture is drawn from.
enum PictureCondition {
    /// States at the vokens.
    States(Tensor),
    /// The story up to the picture, `[1,T,width]`.
    After(Tensor),
}

/// Tells `sink` what is loaded. Cancelling is obeyed when it is done.
fn loading<'a>(sink: &'a mut VokenSink) -> impl FnMut(LoadProgress) + 'a {
    |progress| {
        let _ = sink(Progress::Loading(progress));
    }
}

impl VokenPipeline {
    /// Refuses what this recipe can't do rather than passing it over.
    fn check(&self, request: &Request) -> Result<(), PipelineError> {
        let model = &self.description.model;
        let refuse = |what: &str| {
            Err(PipelineError::Request(format!(
                "the model {model} tells by vokens and {what}; use the caption recipe or another model"
            )))
        };
        if request.instruction.is_some() {
            return refuse("can't rewrite a text by an instruction");
        }
        match request.make {
            Make::Plan(_) => return refuse("can't plan a story"),
            Make::Prompt => return refuse("has no picture prompts"),
            Make::Cast => return refuse("can't say who is in a story"),
            Make::Text => return Ok(()),
            Make::Picture | Make::Both => {}
        }
        if request.prompt.is_some() {
            return refuse("can't draw from a picture prompt");
        }
        let takes = &self.description.takes;
        let (negative, settings) = (request.negative(), &request.settings);
        let part = |strength: f32| strength != 0.0 && strength != 1.0;
        let likeness = settings.likeness.as_ref();
        let weighed = likeness.is_some_and(|how| part(how.strength) || how.adapter.is_some());
        let named = settings.references.iter();
        let named = named.filter(|reference| reference.member.is_none());
        if weighed
            || named
                .into_iter()
                .any(|how| part(how.strength) || how.adapter.is_some())
        {
            return refuse(
                "reads reference pictures whole, without an IP-Adapter; give them strength 1",
            );
        }
        let brief = Brief::new(
            String::new(),
            negative,
            settings,
            &request.images,
            takes.size,
        )?;
        takes.check(&brief, model)
    }

    /// Whether pictures are described in words, which a text encoder reads.
    fn describes(&self) -> bool {
        self.networks.conditioning() == PictureConditioning::Description
    }

    /// The story so far and what is asked, as text and as embeddings `[1,T,width]`; `own` is the
    /// picture whose text is asked for. `context` is who is introduced and then what was told. The
    /// oldest panels are left out where the model can't read them all.
    fn read(
        &mut self,
        context: (&[ContextPanel], &[ContextPanel]),
        task: VistTask,
        own: Option<&Arc<RgbaImage>>,
        images: &Images,
        sink: &mut VokenSink,
    ) -> Result<(String, Tensor), PipelineError> {
        let vocabulary = self.voice.vocabulary;
        let (visible, prompt, ids) = self.visible_context(context, task, own);
        let mut pictures = Vec::new();
        let shown = visible.iter().filter_map(|panel| panel.picture.as_ref());
        for picture in shown.chain(own) {
            pictures.push(self.see(picture, images, sink)?);
        }
        let speaker = self.networks.language_model(&mut loading(sink))?;
        let pictures = match pictures.is_empty() {
            true => None,
            false => Some(Tensor::cat(&pictures, 0)?.to_device(speaker.device())?),
        };
        let text = InterleavedText::prompt(ids);
        let embed = |ids: &[u32]| speaker.reader.embed(ids);
        let read = interleave(&text, pictures.as_ref(), &vocabulary, &embed)?;
        Ok((prompt, read.embeddings))
    }

    /// Writes on after `prompt`: the text and, where the model asked for a picture after it, the
    /// states that it is drawn from. `None` when cancelled.
    fn write(
        &mut self,
        prompt: &Tensor,
        settings: &Settings,
        suppress_tokens: &[u32],
        suppress_initially: Vec<u32>,
        sink: &mut VokenSink,
    ) -> Result<Option<(String, Option<Tensor>)>, PipelineError> {
        let order = GenerationConfig {
            sampling: self.speech.sampling(settings),
            seed: Some(settings.seed),
            max_new_tokens: MAX_NEW_TOKENS,
            force_picture: false,
            suppress_tokens: suppress_tokens.to_vec(),
            suppress_initially,
            // The text is whole when its picture comes.
            stop_sequences: [
                self.speech.stop_sequences(),
                vec![vec![self.voice.vocabulary.first]],
            ]
            .concat(),
            eos: self.voice.eos,
            bos: self.voice.bos,
        };
        let (speech, vocabulary) = (&self.speech, self.voice.vocabulary);
        let stop_sequences = speech.stop_sequences();
        let text = |sequence: &[u32]| speech.words(&vocabulary, &order, &stop_sequences, sequence);
        let speaker = self.networks.language_model(&mut loading(sink))?;
        let mut sent = String::new();
        let made = generate(
            &mut speaker.reader,
            prompt,
            &vocabulary,
            &order,
            &mut |step| {
                let now = text(step.sequence);
                // What may still change is told later: half a letter, space at the end.
                let now = now.trim_end_matches(['\u{fffd}', ' ']);
                let Some(piece) = now.strip_prefix(&sent).filter(|piece| !piece.is_empty()) else {
                    return sink(Progress::TextPiece(String::new()));
                };
                let piece = piece.to_string();
                sent.push_str(&piece);
                sink(Progress::TextPiece(piece))
            },
        )?;
        Ok(made.map(|made| {
            // Halves of letters, which only a model that is not trained writes, are left out.
            let text = text(&made.sequence).replace('\u{fffd}', "");
            (text.trim().to_string(), made.voken_states)
        }))
    }

    /// Conditional and unconditional embeddings for classifier-free guidance.
    fn conditions(
        &mut self,
        from: PictureCondition,
        sink: &mut VokenSink,
    ) -> Result<[TextFeatures; 2], PipelineError> {
        if self.describes()
            && let PictureCondition::After(prompt) = &from
        {
            return self.described(prompt, sink);
        }
        let vocabulary = self.voice.vocabulary;
        let speaker = self.networks.language_model(&mut loading(sink))?;
        let states = match from {
            PictureCondition::States(states) => states,
            PictureCondition::After(prompt) => {
                force_picture(&mut speaker.reader, &prompt, &vocabulary)?
            }
        };
        let mapper = &speaker.mapper;
        let both = [
            mapper.forward(&states)?,
            mapper.unconditional(states.dim(1)?)?,
        ];
        let pooled = mapper.config().pooled;
        // From here on the language model is not needed.
        let device = self
            .networks
            .image_model(&mut loading(sink))?
            .painter()
            .device();
        let [towards, away] = both.map(|all| {
            let all = all.to_device(device)?;
            match pooled {
                true => TextFeatures::of_states_and_pooled(&all),
                false => TextFeatures::of_states(all),
            }
        });
        Ok([towards?, away?])
    }

    /// The description that the language model writes of the picture right after `prompt`.
    fn description_after(
        &mut self,
        prompt: &Tensor,
        sink: &mut VokenSink,
    ) -> Result<String, PipelineError> {
        let speaker = self.networks.language_model(&mut loading(sink))?;
        let (vocabulary, ends) = (self.voice.vocabulary, self.speech.stop_sequences());
        let line_end = ends.iter().flatten().copied().next().unwrap_or_default();
        let ids = force_description(
            &mut speaker.reader,
            prompt,
            &vocabulary,
            line_end,
            DESCRIBED,
        )?;
        Ok(self.speech.decode(&ids).trim().to_owned())
    }

    /// What the text encoder makes of the description that the language model writes.
    fn described(
        &mut self,
        prompt: &Tensor,
        sink: &mut VokenSink,
    ) -> Result<[TextFeatures; 2], PipelineError> {
        let caption = self.description_after(prompt, sink)?;
        match self.networks.image_model(&mut loading(sink))? {
            ImageModel::Own(diffusion, _) => Ok([
                diffusion.encode_text(&[caption.as_str()])?,
                diffusion.encode_text(&[""])?,
            ]),
            ImageModel::Painter(_) => Err(PipelineError::Request(
                "this model describes its pictures but has no text encoder to read that with; use its whole folder".to_string(),
            )),
        }
    }

    fn draw(
        &mut self,
        from: PictureCondition,
        settings: &Settings,
        sink: &mut VokenSink,
    ) -> Result<Option<RgbaImage>, PipelineError> {
        let [towards, away] = self.conditions(from, sink)?;
        let painter = self.networks.image_model(&mut loading(sink))?.painter();
        let (seeds, how) = (
            [settings.seed],
            denoising(&settings.scheduler, settings.steps, settings.guidance)?,
        );
        let pictures = painter.draw(&towards, &away, &seeds, how, &mut |done| {
            sink(Progress::Step {
                step: done.step,
                steps: done.steps,
                preview: Arc::new(done.preview),
            })
        })?;
        Ok(pictures.and_then(|mut pictures| pictures.pop()))
    }

    /// The text of the next panel, and what its picture is drawn from where that was asked for.
    fn generate_panel(
        &mut self,
        request: &Request,
        prompt: &Tensor,
        sink: &mut VokenSink,
    ) -> Result<Option<(String, Option<Tensor>)>, PipelineError> {
        let suppress_tokens = self
            .speech
            .suppress_tokens(request.make, &self.voice.vocabulary);
        let mut settings = request.settings.clone();
        let mut best = None;
        for attempt in 0..ATTEMPTS {
            let Some((mut text, mut states)) =
                self.write(prompt, &settings, &suppress_tokens, Vec::new(), sink)?
            else {
                return Ok(None);
            };
            if text.is_empty() {
                // It began with the picture or ended at once: the text is asked for again.
                let mut suppress_initially = self.voice.vocabulary.ids();
                suppress_initially.extend(self.voice.eos);
                suppress_initially.extend(self.speech.stop_sequences().concat());
                let again = self.write(
                    prompt,
                    &settings,
                    &suppress_tokens,
                    suppress_initially,
                    sink,
                )?;
                let Some(again) = again else {
                    return Ok(None);
                };
                if again.0.is_empty() {
                    return Err(LlmError::Speechless.into());
                }
                (text, states) = again;
            }
            let repeated = self.speech.is_own() && repeats(&text, &request.context);
            best = Some((text, states));
            if !repeated {
                break;
            }
            // Freer each time, so that the next differs even when the model is sure.
            settings.seed = settings.seed.wrapping_add(0x9e37_79b9);
            settings.temperature = settings.temperature.max(0.6) + 0.1 * attempt as f32;
        }
        Ok(best)
    }
}

/// Whether a sentence of `text` was told before.
fn repeats(text: &str, context: &[ContextPanel]) -> bool {
    let sentences = |text: &str| -> Vec<String> {
        let all = text.split(['.', '!', '?']);
        let all = all.map(|sentence| tidy(&sentence.to_lowercase()));
        all.filter(|sentence| !sentence.is_empty()).collect()
    };
    let earlier: Vec<String> = context.iter().flat_map(|p| sentences(&p.text)).collect();
    let own = sentences(text);
    let twice = (1..own.len()).any(|i| own[..i].contains(&own[i]));
    twice || own.iter().any(|sentence| earlier.contains(sentence))
}

impl Pipeline for VokenPipeline {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn generate(
        &mut self,
        request: &Request,
        sink: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Option<Output>, PipelineError> {
        if request.make == Make::Picture && frame::needs_no_painter(&request.settings) {
            return frame::enlarged(&self.description, &self.networks.drawing(), request, sink);
        }
        let request = &self.with_cast(request);
        self.check(request)?;
        let cast = request.introduced();
        let context = (cast.as_slice(), request.context.as_slice());
        let mut output = Output::default();
        let started = Instant::now();
        let given = request.text.as_deref().map(str::trim);
        let given = given.filter(|text| !text.is_empty());
        let own = request.picture.as_ref();
        let own = own.filter(|_| given.is_none() && !request.make.picture());
        let task = match (given, own) {
            (Some(text), _) => VistTask::Picture(text),
            (None, Some(_)) => VistTask::Text,
            (None, None) => VistTask::Both,
        };
        let (mut prompt, mut embeddings) = self.read(context, task, own, &request.images, sink)?;
        let mut states = None;
        let mut forced = false;
        if given.is_none() && request.make.text() {
            let Some((text, asked)) = self.generate_panel(request, &embeddings, sink)? else {
                return Ok(None);
            };
            let record = record(&self.description, request, prompt.clone(), started);
            if sink(Progress::TextDone(text.clone(), Box::new(record.clone()))).is_break() {
                return Ok(None);
            }
            if request.make.picture() {
                output.asked = Some(asked.is_some());
            }
            if asked.is_none() && request.make.picture() {
                // It did not ask, so the picture of its text is asked for.
                forced = true;
            }
            if request.make.picture() && (asked.is_none() || self.describes()) {
                let task = VistTask::Picture(&text);
                (prompt, embeddings) = self.read(context, task, None, &request.images, sink)?;
            }
            states = asked;
            output.text = Some((text, record));
        }
        if request.make.picture() {
            let started = Instant::now();
            let from = match states.filter(|_| !self.describes()) {
                Some(states) => PictureCondition::States(states),
                None => PictureCondition::After(embeddings),
            };
            let Some(picture) = self.draw(from, &request.settings, sink)? else {
                return Ok(None);
            };
            let mut record = record(&self.description, request, prompt, started);
            record.forced = forced;
            let text = output
                .text
                .as_ref()
                .map(|(text, _)| text.as_str())
                .or(given);
            record.text = text.map(str::to_owned);
            output.picture = Some((picture, record));
        }
        Ok(Some(output))
    }

    fn log_probabilities(
        &mut self,
        context: &[ContextPanel],
        text: &str,
    ) -> Result<Vec<f64>, PipelineError> {
        let go_on = &mut |_| ControlFlow::Continue(());
        let (_, prompt) = self.read((&[], context), VistTask::Both, None, &Images::new(), go_on)?;
        let ids = self.speech.encode(text.trim());
        let Some((_, before)) = ids.split_last() else {
            return Ok(Vec::new());
        };
        let reader = &mut self.networks.language_model(&mut |_| {})?.reader;
        let hidden = reader.begin(&prompt)?;
        let mut states = vec![hidden.narrow(1, hidden.dim(1)? - 1, 1)?];
        if !before.is_empty() {
            let before = reader.embed(before)?;
            states.push(reader.read(&before)?);
        }
        let states = Tensor::cat(&states, 1)?;
        let logits = reader.logits(&states)?;
        let rows = logits.chunks_exact(logits.len() / ids.len());
        let all = rows.zip(&ids);
        Ok(all.map(|(row, id)| log_probability(row, *id)).collect())
    }
}
