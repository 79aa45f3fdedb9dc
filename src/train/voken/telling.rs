//! Sample stories while a model learns: the opening is given, the rest is its own.

use super::data::{FrozenNetworks, TrainingPanel, told};
use crate::diffusion::{DenoisingOptions, SchedulerKind, TextFeatures};
use crate::llm::Tokenizer;
use crate::storyworld::{Split, Tale};
use crate::train::{Result, log, write_whole};
use crate::vision::{Crop, Preprocess};
use crate::voken::{
    ContextInput, FloatCachedLm, GenerationConfig, InterleavedText, PictureConditioning,
    SamplingParams, VokenModel, force_description, force_picture, generate, interleave, panel_ids,
};
use candle_core::Tensor;
use image::{DynamicImage, RgbImage};
use std::ops::ControlFlow;
use std::path::Path;

/// Panels of a sample.
const PANELS: usize = 4;
/// Most tokens of a text.
const LONGEST: usize = 48;

/// The id that ends a line.
///
/// # Errors
/// A tokenizer that has none.
pub(super) fn line_end(tokenizer: &Tokenizer) -> Result<u32> {
    match tokenizer.encode("\n").as_slice() {
        [id] => Ok(*id),
        _ => Err(candle_core::Error::Msg(
            "the language model's tokenizer has no token for the end of a line; use SmolLM2's"
                .into(),
        )
        .into()),
    }
}

/// A told story: its texts, each with its picture.
pub(super) type GeneratedStory = Vec<(String, RgbImage)>;

/// Tells two stories of held-out openings.
///
/// # Errors
/// When the networks don't fit each other.
pub(super) fn samples(
    model: &VokenModel,
    frozen: &FrozenNetworks,
    speaks: PictureConditioning,
    seed: u64,
) -> Result<Vec<GeneratedStory>> {
    (0..2)
        .map(|i| {
            let tale = told(&Tale::referring(seed + i, Split::HeldOut));
            let mut writer = SampleWriter {
                model,
                frozen,
                speaks,
                line_end: line_end(&frozen.tokenizer)?,
                reader: FloatCachedLm::new(model.llama.clone()),
                seen: Vec::new(),
            };
            writer.generate(&tale, seed)
        })
        .collect()
}

struct SampleWriter<'a> {
    model: &'a VokenModel,
    frozen: &'a FrozenNetworks,
    speaks: PictureConditioning,
    line_end: u32,
    reader: FloatCachedLm,
    seen: Vec<Tensor>,
}

impl SampleWriter<'_> {
    fn generate(&mut self, tale: &[TrainingPanel], seed: u64) -> Result<GeneratedStory> {
        let mut story: GeneratedStory = Vec::new();
        for i in 0..PANELS.min(tale.len()) {
            let text = match i {
                0 => tale[0].text.clone(),
                _ => self.write(&story)?,
            };
            let prompt = self.prompt(&story, &text)?;
            let picture = self.draw(&prompt, seed + i as u64)?;
            let see = Preprocess::seen(self.frozen.tower.config().image_size, Crop::WhiteSquare);
            let pixels = see.tensor(&picture, &self.frozen.device)?;
            self.seen.push(self.frozen.tower.forward(&pixels)?.detach());
            story.push((text, picture));
        }
        Ok(story)
    }

    /// The story so far and the words of the next panel, `[1,T,width]`.
    fn prompt(&self, story: &GeneratedStory, text: &str) -> Result<Tensor> {
        let vocabulary = &self.model.vocabulary;
        let panels: Vec<ContextInput> = story
            .iter()
            .map(|(text, _)| ContextInput {
                text,
                picture: true,
            })
            .collect();
        let encode = |text: &str| self.frozen.tokenizer.encode(text);
        let mut ids = panel_ids(&panels, vocabulary.picture, self.line_end, &encode);
        ids.extend(encode(text));
        let pictures = match self.seen.is_empty() {
            true => None,
            false => Some(Tensor::cat(&self.seen, 0)?),
        };
        let embed = |ids: &[u32]| self.model.llama.embed_ids(ids);
        let text = InterleavedText::prompt(ids);
        Ok(interleave(&text, pictures.as_ref(), vocabulary, &embed)?.embeddings)
    }

    fn write(&mut self, story: &GeneratedStory) -> Result<String> {
        let vocabulary = self.model.vocabulary;
        let order = GenerationConfig {
            sampling: SamplingParams {
                temperature: 0.0,
                repetition_penalty: 1.0,
                ..SamplingParams::default()
            },
            seed: None,
            max_new_tokens: LONGEST,
            force_picture: false,
            suppress_tokens: Vec::new(),
            suppress_initially: Vec::new(),
            stop_sequences: vec![vec![vocabulary.first], vec![self.line_end]],
            eos: self.model.llama.config().eos(),
            bos: vocabulary.bos,
        };
        let prompt = self.prompt(story, "")?;
        let go_on = &mut |_: &crate::voken::GenerationStep| ControlFlow::Continue(());
        let made = generate(&mut self.reader, &prompt, &vocabulary, &order, go_on)?;
        let ids: Vec<u32> = made.map_or_else(Vec::new, |made| made.sequence);
        let words: Vec<u32> = ids
            .into_iter()
            .skip(1)
            .filter(|id| *id < vocabulary.first && *id != self.line_end)
            .collect();
        let text = self.frozen.tokenizer.decode(&words).trim().to_string();
        // An untrained model may have nothing to say.
        Ok(if text.is_empty() { "...".into() } else { text })
    }

    fn draw(&mut self, prompt: &Tensor, seed: u64) -> Result<RgbImage> {
        let vocabulary = self.model.vocabulary;
        let (towards, away) = match self.speaks {
            PictureConditioning::Vokens => {
                let states = force_picture(&mut self.reader, prompt, &vocabulary)?;
                let mapper = &self.model.mapper;
                let features = |t: Tensor| match mapper.config().pooled {
                    true => TextFeatures::of_states_and_pooled(&t),
                    false => TextFeatures::of_states(t),
                };
                (
                    features(mapper.forward(&states)?)?,
                    features(mapper.unconditional(vocabulary.vokens as usize)?)?,
                )
            }
            PictureConditioning::Description => {
                let end = self.line_end;
                let ids = force_description(&mut self.reader, prompt, &vocabulary, end, LONGEST)?;
                let caption = self.frozen.tokenizer.decode(&ids);
                let encode = |text: &str| self.frozen.diffusion.encode_text(&[text]);
                (encode(caption.trim())?, encode("")?)
            }
        };
        let how = DenoisingOptions {
            scheduler: SchedulerKind::Ddim,
            steps: 15,
            guidance: 4.0,
        };
        let go_on = &mut |_| ControlFlow::Continue(());
        let drawn = self
            .frozen
            .diffusion
            .draw(&towards, &away, &[seed], how, go_on)?;
        let picture = drawn.and_then(|mut drawn| drawn.pop()).unwrap_or_default();
        Ok(DynamicImage::ImageRgba8(picture).to_rgb8())
    }
}

/// Writes `stories-STEP.png`, a story a row, and `stories-STEP.txt`.
///
/// # Errors
/// When the folder can't be written.
pub(super) fn write(stories: &[GeneratedStory], run: &Path, step: u64) -> Result<()> {
    let pictures: Vec<RgbImage> = stories.iter().flatten().map(|(_, p)| p.clone()).collect();
    log::write_grid(
        &run.join(format!("stories-{step:06}.png")),
        &pictures,
        stories.first().map_or(1, Vec::len),
    )?;
    let texts: Vec<String> = stories
        .iter()
        .map(|story| story.iter().map(|(text, _)| format!("{text}\n")).collect())
        .collect();
    write_whole(
        &run.join(format!("stories-{step:06}.txt")),
        texts.join("\n").as_bytes(),
    )
}
