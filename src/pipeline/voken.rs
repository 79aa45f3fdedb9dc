//! The voken pipeline, which is MiniGPT-5 (arXiv 2310.02239): the language model reads the story
//! so far, texts and pictures, writes on, and asks for the picture itself; its states at the
//! vokens are what the picture is drawn from.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use candle_core::Tensor;
use image::RgbaImage;

use super::load::Chosen;
use super::record::{default_settings, record};
use super::{
    ContextPanel, Description, LoadProgress, Make, Output, Pipeline, PipelineError, Progress,
    Request,
};
use crate::diffusion::{Painter, TextFeatures};
use crate::llm::{LlamaTokenizer, LlmError, log_probability};
use crate::published::{Parts, Published};
use crate::story::{SchedulerKind, Settings};
use crate::vision::{Crop, Preprocess, VisionTower};
use crate::voken::{
    Choice, FeatureMapper, Order, Reader, STOP, Text, VistPanel, VistTask, Vocabulary,
    force_picture, generate, interleave, vist_prompt,
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
    reader: Box<dyn Reader>,
    tokenizer: LlamaTokenizer,
    vocabulary: Vocabulary,
    /// The first id of a sequence and the one that ends it.
    ends: (u32, Option<u32>),
    tower: VisionTower,
    mapper: FeatureMapper,
    painter: Painter,
    description: Description,
    /// Embeddings of pictures that were read lately, by the pictures' bytes.
    seen: Vec<(Arc<RgbaImage>, Tensor)>,
}

impl VokenPipeline {
    /// Loads the parts that the folder's `vokenboard.toml` names.
    ///
    /// # Errors
    /// When a part is missing or broken, or does not fit the others.
    pub(super) fn load(
        chosen: &Chosen,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<VokenPipeline, PipelineError> {
        let mut tell = |what: &str, done| {
            progress(LoadProgress {
                what: what.to_string(),
                done,
                of: 3,
            });
        };
        let (model, device) = (&chosen.model, &chosen.device);
        model.verify_sizes()?;
        let parts = Parts::read(&model.dir)?;
        tell("language model", 0);
        let published = Published::open(&parts, device)?;
        let language = published.read_language()?;
        tell("vision tower", 1);
        let tower = published.read_tower()?;
        tell("picture model", 2);
        let painter = Painter::load(&parts.stable_diffusion, device)?;
        let wanted = painter.unet.config().cross_attention_dim;
        let given = language.mapper.config().d_model;
        if wanted != given {
            return Err(PipelineError::Tensor(format!(
                "the mapper of {} makes conditions of width {given} where the UNet of {} reads {wanted}; use the files that belong together",
                parts.stage1.display(),
                parts.stable_diffusion.display()
            )));
        }
        tell("picture model", 3);
        let (width, height) = painter.picture_size();
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
            reader: language.reader,
            tokenizer: published.tokenizer,
            vocabulary: language.vocabulary,
            ends: language.ends,
            tower,
            mapper: language.mapper,
            painter,
            description,
            seen: Vec::new(),
        })
    }

    /// Embeddings `[1,queries,width]` of a picture on the board.
    fn see(&mut self, picture: &Arc<RgbaImage>) -> Result<Tensor, PipelineError> {
        let known = |(other, _): &&(Arc<RgbaImage>, Tensor)| {
            Arc::ptr_eq(other, picture) || other.as_ref() == picture.as_ref()
        };
        if let Some((_, embeddings)) = self.seen.iter().find(known) {
            return Ok(embeddings.clone());
        }
        // Nothing of a picture is cut off, whatever its shape.
        let size = self.tower.config().image_size;
        let how = Preprocess::seen(size, Crop::WhiteSquare);
        let pixels = how.tensor_of_rgba(picture, self.painter.device())?;
        let embeddings = self.tower.forward(&pixels)?;
        let embeddings = embeddings.to_device(self.reader.device())?;
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
    ) -> Result<(String, Tensor), PipelineError> {
        let room = MAX_NEW_TOKENS + self.vocabulary.vokens as usize;
        let limit = self.reader.limit().saturating_sub(room);
        let queries = self.tower.config().qformer.num_query_tokens;
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
            let ids = self.tokenizer.encode(&prompt);
            let pictures = panels.iter().filter(|panel| panel.picture).count();
            if told.is_empty() || 1 + ids.len() + pictures * queries <= limit {
                break (prompt, ids);
            }
            told = &told[1..];
        };
        let mut pictures = Vec::new();
        for picture in told.iter().filter_map(|panel| panel.picture.as_ref()) {
            pictures.push(self.see(picture)?);
        }
        let pictures = match pictures.is_empty() {
            true => None,
            false => Some(Tensor::cat(&pictures, 0)?),
        };
        let text = Text::prompt(ids);
        let embed = |ids: &[u32]| self.reader.embed(ids);
        let read = interleave(&text, pictures.as_ref(), &self.vocabulary, &embed)?;
        Ok((prompt, read.embeddings))
    }

    /// Writes on after `prompt`: the text and, where the model asked for a picture after it, the
    /// states that it is drawn from. `None` when cancelled.
    fn write(
        &mut self,
        prompt: &Tensor,
        settings: &Settings,
        never: Vec<u32>,
        sink: &mut dyn FnMut(Progress) -> ControlFlow<()>,
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
            stops: [self.stops(), vec![vec![self.vocabulary.first]]].concat(),
            eos: self.ends.1,
            start: self.ends.0,
        };
        let (tokenizer, vocabulary) = (&self.tokenizer, self.vocabulary);
        let stops = self.stops();
        let text = |sequence: &[u32]| words(tokenizer, &vocabulary, &order, &stops, sequence);
        let mut told = String::new();
        let made = generate(
            self.reader.as_mut(),
            prompt,
            &self.vocabulary,
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
        let spaced = self.tokenizer.encode(STOP);
        let joined = self.tokenizer.encode(&format!("a{STOP}"));
        let alone = self.tokenizer.encode("a").len();
        let joined = joined.get(alone..).unwrap_or_default().to_vec();
        [spaced, joined]
            .into_iter()
            .filter(|s| !s.is_empty())
            .collect()
    }

    fn draw(
        &self,
        states: &Tensor,
        settings: &Settings,
        sink: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Option<RgbaImage>, PipelineError> {
        let states = states.to_device(self.painter.device())?;
        let vokens = states.dim(1)?;
        let towards = TextFeatures::of_states(self.mapper.forward(&states)?)?;
        let away = TextFeatures::of_states(self.mapper.unconditional(vokens)?)?;
        let seeds = [settings.seed];
        let pictures =
            self.painter
                .draw(&towards, &away, &seeds, settings.into(), &mut |done| {
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
        sink: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Option<(String, Option<Tensor>)>, PipelineError> {
        // Without a picture wanted, none may be asked for.
        let mut never = match request.make {
            Make::Text => self.vocabulary.ids(),
            Make::Picture | Make::Both => Vec::new(),
        };
        never.push(self.vocabulary.picture);
        let Some((mut text, mut states)) =
            self.write(prompt, &request.settings, never.clone(), sink)?
        else {
            return Ok(None);
        };
        if text.is_empty() {
            // It began with the picture or ended at once: the text is asked for again.
            never.extend(self.vocabulary.ids());
            never.extend(self.ends.1);
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
            Some(text) => self.read(&request.context, VistTask::Picture(text))?,
            None => self.read(&request.context, VistTask::Both)?,
        };
        let mut states = None;
        if given.is_none() && request.make.text() {
            let Some((text, asked)) = self.tell(request, &embeddings, sink)? else {
                return Ok(None);
            };
            if sink(Progress::TextDone(text.clone())).is_break() {
                return Ok(None);
            }
            let record = record(&self.description, request, prompt.clone(), started);
            if request.make.picture() {
                output.asked = Some(asked.is_some());
            }
            if asked.is_none() && request.make.picture() {
                // It did not ask, so the picture of its text is asked for.
                let task = VistTask::Picture(&text);
                (prompt, embeddings) = self.read(&request.context, task)?;
            }
            states = asked;
            output.text = Some((text, record));
        }
        if request.make.picture() {
            let started = Instant::now();
            let states = match states {
                Some(states) => states,
                None => force_picture(self.reader.as_mut(), &embeddings, &self.vocabulary)?,
            };
            let Some(picture) = self.draw(&states, &request.settings, sink)? else {
                return Ok(None);
            };
            let record = record(&self.description, request, prompt, started);
            output.picture = Some((picture, record));
        }
        Ok(Some(output))
    }
    fn log_probabilities(
        &mut self,
        context: &[ContextPanel],
        text: &str,
    ) -> Result<Vec<f64>, PipelineError> {
        let (_, prompt) = self.read(context, VistTask::Both)?;
        let ids = self.tokenizer.encode(text.trim());
        let Some((_, before)) = ids.split_last() else {
            return Ok(Vec::new());
        };
        self.reader.clear();
        let hidden = self.reader.read(&prompt)?;
        let mut states = vec![hidden.narrow(1, hidden.dim(1)? - 1, 1)?];
        if !before.is_empty() {
            states.push(self.reader.read(&self.reader.embed(before)?)?);
        }
        let states = Tensor::cat(&states, 1)?;
        let mut all = Vec::with_capacity(ids.len());
        for (i, &id) in ids.iter().enumerate() {
            let logits = self.reader.logits(&states.narrow(1, i, 1)?)?;
            all.push(log_probability(&logits, id));
        }
        Ok(all)
    }
}
