//! The voken pipeline, which is MiniGPT-5 (arXiv 2310.02239): the language model reads the story
//! so far, texts and pictures, writes on, and asks for the picture itself; its states at the
//! vokens are what the picture is drawn from.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use candle_core::{Device, Tensor};
use image::RgbaImage;

use super::load::Chosen;
use super::networks::{Networks, Speech};
use super::record::{default_settings, record};
use super::{
    ContextPanel, Description, LoadProgress, Make, Output, Pipeline, PipelineError, Progress,
    Request,
};
use crate::diffusion::TextFeatures;
use crate::llm::{LlamaTokenizer, LlmError};
use crate::published::Parts;
use crate::story::{SchedulerKind, Settings};
use crate::vision::{Crop, Preprocess};
use crate::voken::{
    Choice, Order, Reader, STOP, Text, VistPanel, VistTask, Vocabulary, force_picture, generate,
    interleave, vist_prompt,
};
use crate::weights;

/// The name of this recipe in manifests and records.
pub(super) const NAME: &str = crate::published::PIPELINE;

/// Most tokens of a panel's text, the reference's.
const MAX_NEW_TOKENS: usize = 256;
/// Pictures whose embeddings are kept: those of a long story.
const SEEN: usize = 64;

/// Language model, what it sees with and what draws for it.
pub struct VokenPipeline {
    networks: Networks,
    speech: Speech,
    description: Description,
    /// Embeddings of pictures that were read lately, by the pictures' bytes.
    seen: Vec<(Arc<RgbaImage>, Tensor)>,
}

/// Hears of every piece and step, and breaks to cancel.
type Sink<'a> = dyn FnMut(Progress) -> ControlFlow<()> + 'a;

impl VokenPipeline {
    /// Loads the parts that the folder's `vokenboard.toml` names.
    ///
    /// # Errors
    /// When a part is missing or broken, does not fit the others, or needs more memory than there
    /// is.
    pub(super) fn load(
        chosen: &Chosen,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<VokenPipeline, PipelineError> {
        let (model, device) = (&chosen.model, &chosen.device);
        model.verify_sizes()?;
        let parts = Parts::read(&model.dir)?;
        let (networks, speech) = Networks::load(parts, device, progress)?;
        let (width, height) = networks.picture_size()?;
        let manifest = &model.manifest;
        let description = Description {
            model: manifest.id.clone(),
            pipeline: NAME.to_string(),
            weights: manifest.weights_hash(),
            device: weights::device_name(device),
            width,
            height,
            characters: manifest.draws.characters.clone(),
            things: manifest.draws.things.clone(),
            places: manifest.draws.places.clone(),
            default_settings: default_settings(reference_settings(), manifest),
        };
        Ok(VokenPipeline {
            networks,
            speech,
            description,
            seen: Vec::new(),
        })
    }

    /// Embeddings `[1,queries,width]` of a picture on the board.
    fn see(&mut self, picture: &Arc<RgbaImage>, sink: &mut Sink) -> Result<Tensor, PipelineError> {
        let known = |(other, _): &&(Arc<RgbaImage>, Tensor)| {
            Arc::ptr_eq(other, picture) || other.as_ref() == picture.as_ref()
        };
        if let Some((_, embeddings)) = self.seen.iter().find(known) {
            return Ok(embeddings.clone());
        }
        // Nothing of a picture is cut off, whatever its shape.
        let how = Preprocess::seen(self.networks.vision().image_size, Crop::WhiteSquare);
        let (tower, device) = self.networks.tower(&mut loading(sink))?;
        let embeddings = tower.forward(&how.tensor_of_rgba(picture, device)?)?;
        // They outlive the tower, so they wait where memory is not short.
        let embeddings = embeddings.to_device(&Device::Cpu)?;
        if self.seen.len() >= SEEN {
            self.seen.remove(0);
        }
        self.seen.push((picture.clone(), embeddings.clone()));
        Ok(embeddings)
    }

    /// The story so far and what is asked, as text and as embeddings `[1,T,width]`. The oldest
    /// panels are left out where the model can't read them all.
    fn read(
        &mut self,
        context: &[ContextPanel],
        task: VistTask,
        sink: &mut Sink,
    ) -> Result<(String, Tensor), PipelineError> {
        let vocabulary = self.speech.vocabulary;
        let room = MAX_NEW_TOKENS + vocabulary.vokens as usize;
        let limit = self.speech.limit.saturating_sub(room);
        let queries = self.networks.vision().qformer.num_query_tokens;
        let mut told = context;
        let (prompt, ids) = loop {
            let panels: Vec<VistPanel> = told
                .iter()
                .map(|panel| VistPanel {
                    text: panel.text.trim(),
                    picture: panel.picture.is_some(),
                })
                .collect();
            let prompt = vist_prompt(&panels, task, 0);
            let ids = self.networks.tokenizer().encode(&prompt);
            let pictures = panels.iter().filter(|panel| panel.picture).count();
            if told.is_empty() || 1 + ids.len() + pictures * queries <= limit {
                break (prompt, ids);
            }
            told = &told[1..];
        };
        let mut pictures = Vec::new();
        for picture in told.iter().filter_map(|panel| panel.picture.as_ref()) {
            pictures.push(self.see(picture, sink)?);
        }
        let speaker = self.networks.speaker(&mut loading(sink))?;
        let pictures = match pictures.is_empty() {
            true => None,
            false => Some(Tensor::cat(&pictures, 0)?.to_device(speaker.device())?),
        };
        let text = Text::prompt(ids);
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
        never: Vec<u32>,
        sink: &mut Sink,
    ) -> Result<Option<(String, Option<Tensor>)>, PipelineError> {
        let order = Order {
            choice: Choice {
                temperature: settings.temperature,
                top_p: settings.top_p,
                ..Choice::default()
            },
            seed: Some(settings.seed),
            max_new_tokens: MAX_NEW_TOKENS,
            force_picture: false,
            never,
            // The text is whole when its picture comes.
            stops: [self.stops(), vec![vec![self.speech.vocabulary.first]]].concat(),
            eos: self.speech.ends.1,
            start: self.speech.ends.0,
        };
        let (vocabulary, stops) = (self.speech.vocabulary, self.stops());
        let (speaker, tokenizer) = self.networks.speaking(&mut loading(sink))?;
        let text = |sequence: &[u32]| words(tokenizer, &vocabulary, &order, &stops, sequence);
        let mut told = String::new();
        let made = generate(
            &mut speaker.reader,
            prompt,
            &vocabulary,
            &order,
            &mut |step| {
                let now = text(step.sequence);
                // What may still change is told later: half a letter, space at the end.
                let now = now.trim_end_matches(['\u{fffd}', ' ']);
                let Some(piece) = now.strip_prefix(&told).filter(|piece| !piece.is_empty()) else {
                    return sink(Progress::TextPiece(String::new()));
                };
                let piece = piece.to_string();
                told.push_str(&piece);
                sink(Progress::TextPiece(piece))
            },
        )?;
        Ok(made.map(|made| {
            // Halves of letters, which only a model that is not trained writes, are left out.
            let text = text(&made.sequence).replace('\u{fffd}', "");
            (text.trim().to_string(), made.voken_states)
        }))
    }

    /// `###` as the tokenizer writes it after a word and without a space.
    fn stops(&self) -> Vec<Vec<u32>> {
        let tokenizer = self.networks.tokenizer();
        let spaced = tokenizer.encode(STOP);
        let joined = tokenizer.encode(&format!("a{STOP}"));
        let alone = tokenizer.encode("a").len();
        let joined = joined.get(alone..).unwrap_or_default().to_vec();
        [spaced, joined]
            .into_iter()
            .filter(|s| !s.is_empty())
            .collect()
    }

    fn draw(
        &mut self,
        states: &Tensor,
        settings: &Settings,
        sink: &mut Sink,
    ) -> Result<Option<RgbaImage>, PipelineError> {
        let mapper = &self.networks.speaker(&mut loading(sink))?.mapper;
        let towards = mapper.forward(states)?;
        let away = mapper.unconditional(states.dim(1)?)?;
        // From here on the language model is not needed.
        let painter = self.networks.painter(&mut loading(sink))?;
        let condition =
            |states: Tensor| TextFeatures::of_states(states.to_device(painter.device())?);
        let (towards, away) = (condition(towards)?, condition(away)?);
        let seeds = [settings.seed];
        let pictures = painter.draw(&towards, &away, &seeds, settings.into(), &mut |done| {
            sink(Progress::Step {
                step: done.step,
                steps: done.steps,
                preview: Arc::new(done.preview),
            })
        })?;
        Ok(pictures.and_then(|mut pictures| pictures.pop()))
    }

    /// The text of the next panel, and what its picture is drawn from where that was asked for.
    fn tell(
        &mut self,
        request: &Request,
        prompt: &Tensor,
        sink: &mut Sink,
    ) -> Result<Option<(String, Option<Tensor>)>, PipelineError> {
        // Without a picture wanted, none may be asked for.
        let mut never = match request.make {
            Make::Text => self.speech.vocabulary.ids(),
            Make::Picture | Make::Both => Vec::new(),
        };
        never.push(self.speech.vocabulary.picture);
        let Some((mut text, mut states)) =
            self.write(prompt, &request.settings, never.clone(), sink)?
        else {
            return Ok(None);
        };
        if text.is_empty() {
            // It began with the picture or ended at once: the text is asked for again.
            never.extend(self.speech.vocabulary.ids());
            never.extend(self.speech.ends.1);
            never.extend(self.stops().concat());
            let again = self.write(prompt, &request.settings, never, sink)?;
            let Some((words, _)) = again else {
                return Ok(None);
            };
            if words.is_empty() {
                return Err(LlmError::Speechless.into());
            }
            (text, states) = (words, None);
        }
        Ok(Some((text, states)))
    }
}

/// Tells `sink` what is loaded. Cancelling is obeyed when it is done.
fn loading<'a>(sink: &'a mut Sink) -> impl FnMut(LoadProgress) + 'a {
    |progress| {
        let _ = sink(Progress::Loading(progress));
    }
}

/// The words of a generated sequence, without its first id and what ended it.
fn words(
    tokenizer: &LlamaTokenizer,
    vocabulary: &Vocabulary,
    order: &Order,
    stops: &[Vec<u32>],
    sequence: &[u32],
) -> String {
    let mut ids = sequence.get(1..).unwrap_or_default();
    if let Some(stop) = stops.iter().find(|stop| ids.ends_with(stop)) {
        ids = &ids[..ids.len() - stop.len()];
    }
    let vokens = vocabulary.ids();
    let said: Vec<u32> = ids
        .iter()
        .copied()
        .filter(|id| !vokens.contains(id) && Some(*id) != order.eos)
        .collect();
    tokenizer.decode(&said, true)
}

/// The reference's own: 50 steps of PNDM at guidance 7.5, text at temperature 1.
fn reference_settings() -> Settings {
    Settings {
        guidance: 7.5,
        steps: 50,
        scheduler: SchedulerKind::Pndm,
        temperature: 1.0,
        top_p: 0.9,
        ..Settings::default()
    }
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
        let mut output = Output::default();
        let started = Instant::now();
        let given = request.text.as_deref().map(str::trim);
        let given = given.filter(|text| !text.is_empty());
        let (mut prompt, mut embeddings) = match given {
            Some(text) => self.read(&request.context, VistTask::Picture(text), sink)?,
            None => self.read(&request.context, VistTask::Both, sink)?,
        };
        let mut states = None;
        if given.is_none() && request.make.text() {
            let Some((text, asked)) = self.tell(request, &embeddings, sink)? else {
                return Ok(None);
            };
            let record = record(&self.description, request, prompt.clone(), started);
            if sink(Progress::TextDone(text.clone(), Box::new(record.clone()))).is_break() {
                return Ok(None);
            }
            if asked.is_none() && request.make.picture() {
                // It did not ask, so the picture of its text is asked for.
                let task = VistTask::Picture(&text);
                (prompt, embeddings) = self.read(&request.context, task, sink)?;
            }
            states = asked;
            output.text = Some((text, record));
        }
        if request.make.picture() {
            let started = Instant::now();
            let states = match states {
                Some(states) => states,
                None => {
                    let speaker = self.networks.speaker(&mut loading(sink))?;
                    force_picture(&mut speaker.reader, &embeddings, &self.speech.vocabulary)?
                }
            };
            let Some(picture) = self.draw(&states, &request.settings, sink)? else {
                return Ok(None);
            };
            let record = record(&self.description, request, prompt, started);
            output.picture = Some((picture, record));
        }
        Ok(Some(output))
    }
}
