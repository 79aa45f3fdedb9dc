//! The words of a voken model whose pictures are drawn from the library: it writes the story, and
//! its vokens say who is in a picture, where they stand, where and when it plays.

use std::ops::ControlFlow;

use candle_core::{Device, Tensor};

use super::{VOKEN, VokenPipeline};
use crate::diffusion::{ModelFolder, SettingFeatures};
use crate::pipeline::caption::CaptionPipeline;
use crate::pipeline::composition::Candidate;
use crate::pipeline::load::ResolvedModels;
use crate::pipeline::painter;
use crate::pipeline::sightings::Sight;
use crate::pipeline::writer::{TextSink, Writer, WriterDescription, WrittenText};
use crate::pipeline::{ContextPanel, LoadProgress, Pipeline, PipelineError, Progress, Request};
use crate::storyworld::library::SceneSetting;
use crate::voken::{
    CachedLm, PictureConditioning, VistTask, embed_names, force_picture, name_in_sentence,
};

/// Joins the words of a model with its painter.
pub(super) fn load(
    chosen: &ResolvedModels,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<Box<dyn Pipeline>, PipelineError> {
    let model = &chosen.model;
    let mut tell = |what: &str, done| {
        progress(LoadProgress {
            what: what.to_string(),
            done,
            of: 2,
        });
    };
    tell("language model", 0);
    let writer = VokenWriter::load(chosen)?;
    tell("picture model", 1);
    let unfit = || PipelineError::not_a_storyteller(&model.manifest);
    let kind = painter::kind_of(model).ok_or_else(unfit)?;
    let painter = kind.load(model, &chosen.place, &mut |_| {})?;
    tell("picture model", 2);
    Ok(Box::new(
        CaptionPipeline::of(Box::new(writer), painter, true).called(VOKEN),
    ))
}

/// By how much a setting is nearer to what the vokens say for its place, its time and its weather each,
/// where the last picture shows that: see [`SettingFeatures::nearest`]. Of 65 panels without the texts
/// before, whose vokens know next to nothing of the place, 95 % have the right one with 20, all with 40.
const AS_BEFORE: f32 = 40.0;

struct VokenWriter {
    words: VokenPipeline,
    settings: SettingFeatures,
    sight: Sight,
    /// Whether it writes picture prompts in words, where others say by vokens who is in a picture.
    describes: bool,
    description: WriterDescription,
}

impl VokenWriter {
    fn load(chosen: &ResolvedModels) -> Result<Self, PipelineError> {
        let mut words = VokenPipeline::load_words(chosen)?;
        let manifest = &chosen.model.manifest;
        let speaker = words.networks.language_model(&mut |_| {})?;
        let describes = chosen.voken.read_config()?.speaks == PictureConditioning::Description;
        if speaker.composition_head.is_none() && !describes {
            return Err(PipelineError::Request(format!(
                "the voken folder of {} has no stage_head, which says who is in a picture; train it with one, or choose --pipeline caption",
                manifest.id
            )));
        }
        let folder = ModelFolder::new(&chosen.model.dir);
        let device = Device::Cpu;
        let encoder = folder.read_text_encoder(&device)?;
        let tokenizer = folder.read_tokenizer()?;
        let settings = SettingFeatures::of(&encoder, &tokenizer, &device)?;
        Ok(Self {
            description: WriterDescription {
                model: manifest.id.clone(),
                weights: words.description.weights.clone(),
                device: words.description.device.clone(),
                instructs: false,
                sees: true,
            },
            words,
            settings,
            sight: Sight::new(),
            describes,
        })
    }

    /// The story up to the picture of `text`.
    fn read(&mut self, request: &Request, text: &str) -> Result<Tensor, PipelineError> {
        let go_on = &mut |_: Progress| ControlFlow::Continue(());
        let context = (&[][..], request.context.as_slice());
        let task = VistTask::Picture(text);
        let read = self
            .words
            .read(context, task, None, &request.images, go_on)?;
        Ok(read.1)
    }

    /// What the vokens of a picture of `text` say of where and when it plays, and of each of
    /// `candidates` how sure it is that it is shown (a logit) and where it stands (-1 to 1).
    fn look(
        &mut self,
        request: &Request,
        text: &str,
        candidates: &[Candidate],
    ) -> Result<(SceneSetting, Vec<(f32, f32)>), PipelineError> {
        let prompt = self.read(request, text)?;
        let ids: Vec<Vec<u32>> = candidates
            .iter()
            .map(|one| self.words.speech.encode(&name_in_sentence(one.name())))
            .collect();
        let seen = self.sight.of(request, candidates);
        let features = request.mention_features(text, candidates, &seen);
        let vocabulary = self.words.voice.vocabulary;
        let speaker = self.words.networks.language_model(&mut |_| {})?;
        let states = force_picture(&mut speaker.reader, &prompt, &vocabulary)?;
        let condition = speaker.mapper.forward(&states)?.to_device(&Device::Cpu)?;
        // What words leave out stays as the last picture shows it, unless the vokens are sure.
        let alike = |one: &SceneSetting, last: SceneSetting| {
            let all = [
                one.location == last.location,
                one.time == last.time,
                one.weather == last.weather,
            ];
            AS_BEFORE * all.iter().filter(|same| **same).count() as f32
        };
        let nearer = |one: &SceneSetting| seen.setting.map_or(0.0, |last| alike(one, last));
        let setting = self.settings.nearest(&condition, nearer)?;
        let setting = setting.into_iter().next().ok_or_else(|| {
            PipelineError::Request("the vokens of this model say nothing".to_owned())
        })?;
        let (Some(head), false) = (&speaker.composition_head, candidates.is_empty()) else {
            return Ok((setting, Vec::new()));
        };
        let embedded = embed_names(&ids, |ids| speaker.reader.embed(ids))?;
        let scores = head.forward(&states, &embedded, &vec![0; candidates.len()], &features)?;
        let present = scores.present.to_vec1::<f32>()?;
        let place = scores.place.to_vec1::<f32>()?;
        Ok((setting, present.into_iter().zip(place).collect()))
    }
}

impl Writer for VokenWriter {
    fn describe(&self) -> &WriterDescription {
        &self.description
    }

    fn continue_story(
        &mut self,
        request: &Request,
        sink: &mut TextSink,
    ) -> Result<Option<WrittenText>, PipelineError> {
        let sink = &mut |progress: Progress| match progress {
            Progress::TextPiece(piece) => sink(&piece),
            _ => ControlFlow::Continue(()),
        };
        let own = request.picture.as_ref();
        let task = match own {
            Some(_) => VistTask::Text,
            None => VistTask::Both,
        };
        // Whoever is in the story has been seen in its pictures.
        let cast = match request.context.is_empty() {
            true => self.words.with_cast(request).introduced(),
            false => Vec::new(),
        };
        let context = (cast.as_slice(), request.context.as_slice());
        let (prompt, embeddings) = self.words.read(context, task, own, &request.images, sink)?;
        let told = self.words.generate_panel(request, &embeddings, sink)?;
        Ok(told.map(|(text, _)| WrittenText { text, prompt }))
    }

    fn composition_prompt(
        &mut self,
        request: &Request,
        text: &str,
    ) -> Result<Option<String>, PipelineError> {
        if self.describes {
            let go_on = &mut |_: Progress| ControlFlow::Continue(());
            let prompt = self.read(request, text)?;
            let described = self.words.description_after(&prompt, go_on)?;
            return Ok(Some(described).filter(|text| !text.is_empty()));
        }
        let candidates = request.candidates_of(text);
        let (setting, scores) = self.look(request, text, &candidates)?;
        Ok(request.composition_of(text, candidates, &scores, setting))
    }

    fn log_probabilities(
        &mut self,
        context: &[ContextPanel],
        text: &str,
    ) -> Result<Vec<f64>, PipelineError> {
        self.words.log_probabilities(context, text)
    }
}
