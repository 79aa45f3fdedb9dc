//! Stories to learn from: drawn from the storyworld, or read from files, and what the frozen
//! networks make of their pictures and descriptions, computed once.

use super::datasets;
use super::left_out::{LeftOut, PictureFile};
use crate::diffusion::{LatentDistribution, TextToImageModel};
use crate::llm::Tokenizer;
use crate::pixels::shown_rgb;
use crate::story::read_picture_file;
use crate::storyworld::library::{
    Composition, CompositionPrompt, CompositionRenderer, DrawingId, LibraryTale, TalePanel,
};
use crate::storyworld::{
    Referent, Scene, SceneOptions, Split, Tale, caption, description, roughen,
};
use crate::train::Result;
use crate::vision::{Crop, Preprocess, VisionTower};
use crate::voken::{name_in_sentence, tidy};
use candle_core::{Device, Tensor};
use image::{RgbImage, RgbaImage};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// A picture, wherever it comes from.
#[derive(Clone, Debug)]
pub enum TrainingPicture {
    /// A scene of the storyworld, rendered when it is needed.
    Scene(Box<Scene>),
    /// A scene of the library's drawings, rendered when it is needed.
    Composition(Box<Composition>),
    /// A picture in a file, read when it is needed.
    File(Arc<PictureFile>),
    /// A picture in memory.
    Image(Arc<RgbaImage>),
}

/// A panel to learn from.
#[derive(Clone, Debug)]
pub struct TrainingPanel {
    /// Text of the panel.
    pub text: String,
    /// Picture of the panel, if it has one.
    pub picture: Option<TrainingPicture>,
    /// What is on the picture, in words that the text encoder knows; the text where nobody says.
    pub description: String,
    /// Who could be on the picture, of stories about the library's drawings.
    pub stage: Vec<CompositionTarget>,
}

/// Somebody who has come into a story by a panel, and whether its picture shows them.
#[derive(Clone, Debug, PartialEq)]
pub struct CompositionTarget {
    /// What they are called, and as what they are drawn.
    pub referent: Referent,
    /// Where they stand, from -1 (left) to 1 (right); `None` where they are not shown.
    pub place: Option<f32>,
}

/// A story of the author's files.
#[derive(Clone, Debug)]
pub struct TrainingStory {
    /// Panels in reading order.
    pub panels: Vec<TrainingPanel>,
    /// Whether it is a conversation of two, whose turns the panels are.
    pub spoken: bool,
}

/// Which data a stage learns from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DataKind {
    /// Single scenes with their captions.
    Pairs,
    /// Stories.
    #[default]
    Stories,
    /// Stories about any drawings of the library, described by where and when they play.
    Library,
    /// The same, described by whole picture prompts.
    Prompts,
}

/// Where stories come from.
pub enum StorySource {
    /// So many of the storyworld.
    World {
        /// Seed of the stories.
        seed: u64,
        /// Single scenes or stories.
        kind: DataKind,
        /// How many.
        count: usize,
    },
    /// Stories that were read from files.
    Files(Vec<TrainingStory>),
}

impl StorySource {
    /// The files in `data` where it is given, else the storyworld's.
    ///
    /// # Errors
    /// Data that can't be read, named by file and line.
    pub fn open(data: Option<&Path>, seed: u64, kind: DataKind, count: usize) -> Result<Self> {
        match data {
            None => Ok(StorySource::World { seed, kind, count }),
            Some(dir) => Ok(StorySource::Files(datasets::read(dir)?)),
        }
    }

    /// Number of stories.
    pub fn len(&self) -> usize {
        match self {
            StorySource::World { count, .. } => *count,
            StorySource::Files(stories) => stories.len(),
        }
    }

    /// Whether there are no stories.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Story `index`.
    pub fn story(&self, index: usize) -> Vec<TrainingPanel> {
        match self {
            StorySource::Files(stories) => stories[index].panels.clone(),
            StorySource::World { seed, kind, .. } => world(*seed, *kind, index),
        }
    }
}

fn world(seed: u64, kind: DataKind, index: usize) -> Vec<TrainingPanel> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(index as u64);
    match kind {
        DataKind::Pairs => {
            let options = SceneOptions {
                subjects: 1..=3,
                things: true,
                split: Split::Training,
            };
            let scene = Scene::random(&mut rng, &options);
            let text = caption(&scene, &mut rng);
            let text = match rng.random_bool(0.2) {
                true => roughen(&text, &mut rng),
                false => text,
            };
            vec![TrainingPanel {
                text: tidy(&text),
                description: description(&scene),
                picture: Some(TrainingPicture::Scene(Box::new(scene))),
                stage: Vec::new(),
            }]
        }
        DataKind::Stories => told(&Tale::referring(rng.random(), Split::Training)),
        DataKind::Library => told_of_library(&training_tale(&mut rng), &mut rng),
        DataKind::Prompts => {
            let tale = training_tale(&mut rng);
            let mut panels = told_of_library(&tale, &mut rng);
            for (panel, told) in panels.iter_mut().zip(&tale.panels) {
                let shown = told.shown.iter().map(|i| tale.members[*i].name.as_str());
                let shown: Vec<&str> = shown.collect();
                panel.description = CompositionPrompt::write(&shown, &panel.description);
            }
            panels
        }
    }
}

/// A story about the library's drawings: half of them leave out names wherever they can, which
/// teaches whom words mean, half are told as one would tell them.
pub(super) fn training_tale(rng: &mut impl Rng) -> LibraryTale {
    match rng.random_bool(0.5) {
        true => LibraryTale::random(rng.random(), Split::Training),
        false => LibraryTale::naming(rng.random(), Split::Training),
    }
}

/// A tale's panels, each with everybody who has come into the story and one who never does.
/// Nothing but where and when is described: the UNet sees who is shown in references.
pub fn told_of_library(tale: &LibraryTale, rng: &mut impl Rng) -> Vec<TrainingPanel> {
    let all: Vec<DrawingId> = DrawingId::all().collect();
    let panel = |panel: &TalePanel| {
        let members = &tale.members[..panel.known];
        let middle = |i: usize| {
            let last = panel.shown.len().saturating_sub(1);
            match last {
                0 => 0.0,
                last => 2.0 * i as f32 / last as f32 - 1.0,
            }
        };
        let mut stage: Vec<CompositionTarget> = members
            .iter()
            .enumerate()
            .map(|(number, member)| CompositionTarget {
                referent: referent(&member.name, member.noun, member.drawing),
                place: panel.shown.iter().position(|n| *n == number).map(middle),
            })
            .collect();
        let stranger = all[rng.random_range(0..all.len())];
        if members.iter().all(|member| member.drawing != stranger) {
            stage.push(CompositionTarget {
                referent: referent(stranger.get().noun(), stranger.get().noun(), stranger),
                place: None,
            });
        }
        TrainingPanel {
            text: tidy(&panel.text),
            description: panel.composition.setting.description(),
            picture: Some(TrainingPicture::Composition(Box::new(
                panel.composition.clone(),
            ))),
            stage,
        }
    };
    tale.panels.iter().map(panel).collect()
}

fn referent(name: &str, noun: &str, drawing: DrawingId) -> Referent {
    Referent {
        names: vec![name.to_owned(), noun.to_owned()],
        acts: drawing.get().kind.is_character(),
    }
}

/// A tale's panels. Every picture is described in words of one build, whatever the text says: what
/// the mapper learns to write is then what is to be seen, not how someone happened to put it.
pub fn told(tale: &Tale) -> Vec<TrainingPanel> {
    let panel = |(scene, text): &(Scene, String)| TrainingPanel {
        text: tidy(text),
        description: description(scene),
        picture: Some(TrainingPicture::Scene(Box::new(scene.clone()))),
        stage: Vec::new(),
    };
    tale.panels.iter().map(panel).collect()
}

impl TrainingPicture {
    /// The picture's pixels; scenes are drawn by `renderer`.
    ///
    /// # Errors
    /// A file that can't be read as a picture.
    pub fn draw(&self, renderer: &CompositionRenderer) -> Result<RgbImage> {
        match self {
            TrainingPicture::Composition(composition) => {
                let size = renderer.size();
                let picture = RgbImage::from_raw(size, size, renderer.draw(composition));
                Ok(picture.unwrap_or_else(|| RgbImage::new(size, size)))
            }
            TrainingPicture::Scene(scene) => {
                let mut picture = RgbImage::new(renderer.size(), renderer.size());
                renderer.scenes().draw(scene, &mut picture);
                Ok(picture)
            }
            TrainingPicture::File(file) => {
                let read = read_picture_file(&file.path);
                let (picture, _) = read.map_err(|error| file.trouble(error))?;
                Ok(shown_rgb(&picture))
            }
            TrainingPicture::Image(picture) => Ok(shown_rgb(picture)),
        }
    }
}

/// A training panel after the frozen networks have encoded its picture.
pub struct EncodedPanel {
    /// Token ids of the text.
    pub text: Vec<u32>,
    /// Token ids of the description.
    pub description: Vec<u32>,
    /// The picture; none where the panel has none.
    pub met: Option<EncodedPicture>,
    /// Who could be on it: the ids of a name, and where they stand if they are shown.
    pub stage: Vec<(Vec<u32>, Option<f32>)>,
    /// The panel itself.
    pub panel: TrainingPanel,
}

/// A picture after the frozen networks: its embeddings, latents and caption states.
pub struct EncodedPicture {
    /// `[1,queries,width]`, as the language model reads it.
    pub seen: Tensor,
    /// The text encoder's features of the description, `[1,T+1,D]` with the vector for the whole
    /// as the last.
    pub features: Tensor,
    picture: TrainingPicture,
    /// See [`FrozenNetworks::moments`].
    moments: OnceLock<LatentDistribution>,
}

/// The networks that are not trained.
pub struct FrozenNetworks {
    /// Picture model, whose text encoder the mapper learns from.
    pub diffusion: TextToImageModel,
    /// Vision tower that reads pictures for the language model.
    pub tower: VisionTower,
    /// Tokenizer of the language model.
    pub tokenizer: Tokenizer,
    /// At the size of the diffusion model's pictures.
    pub renderer: CompositionRenderer,
    /// Device that everything computes on.
    pub device: Device,
}

impl FrozenNetworks {
    fn meet(&self, picture: &TrainingPicture, description: &str) -> Result<EncodedPicture> {
        let pixels = picture.draw(&self.renderer)?;
        let see = Preprocess::seen(self.tower.config().image_size, Crop::WhiteSquare);
        let moments = OnceLock::new();
        if let TrainingPicture::File(_) = picture {
            // It is not read again: it may have gone bad by then.
            let _ = moments.set(self.encoded(&pixels)?);
        }
        Ok(EncodedPicture {
            seen: self.tower.forward(&see.tensor(&pixels, &self.device)?)?,
            features: self.diffusion.encode_text(&[description])?.joined()?,
            picture: picture.clone(),
            moments,
        })
    }

    fn encoded(&self, pixels: &RgbImage) -> Result<LatentDistribution> {
        let (size, _) = self.diffusion.picture_size();
        let pixels = Preprocess::drawn(size as usize).tensor(pixels, &self.device)?;
        Ok(self.diffusion.vae.encode(&pixels)?)
    }

    /// The autoencoder's distribution of a picture, `[1,h,w,c]`: encoded when its noise is first
    /// predicted, which is never for many.
    ///
    /// # Errors
    /// A picture that can't be read.
    pub fn moments<'a>(&self, met: &'a EncodedPicture) -> Result<&'a LatentDistribution> {
        if let Some(known) = met.moments.get() {
            return Ok(known);
        }
        let moments = self.encoded(&met.picture.draw(&self.renderer)?)?;
        Ok(met.moments.get_or_init(|| moments))
    }

    /// Height, width and channels of a picture's latents.
    pub fn latents(&self) -> [usize; 3] {
        let config = self.diffusion.vae.config();
        let (width, height) = self.diffusion.picture_size();
        let [h, w] = [height, width].map(|side| side as usize / config.encoder_scale());
        [h, w, config.latent_channels]
    }

    /// A story with what it takes to learn from it, without the pictures that can't be read.
    ///
    /// # Errors
    /// Too many of those.
    pub fn story(
        &self,
        panels: &[TrainingPanel],
        left_out: &mut LeftOut,
    ) -> Result<Vec<EncodedPanel>> {
        panels
            .iter()
            .map(|panel| {
                let met = match &panel.picture {
                    None => None,
                    Some(picture) => match self.meet(picture, &panel.description) {
                        Ok(met) => Some(met),
                        Err(trouble) => {
                            left_out.add(picture, trouble)?;
                            None
                        }
                    },
                };
                Ok(EncodedPanel {
                    text: self.tokenizer.encode(&tidy(&panel.text)),
                    description: self.tokenizer.encode(&tidy(&panel.description)),
                    met,
                    stage: panel
                        .stage
                        .iter()
                        .map(|who| {
                            let name = &who.referent.names[0];
                            (self.tokenizer.encode(&name_in_sentence(name)), who.place)
                        })
                        .collect(),
                    panel: panel.clone(),
                })
            })
            .collect()
    }
}

/// Encoded stories, so that each is encoded once.
pub(super) struct StoryCache {
    pub source: StorySource,
    met: HashMap<usize, Arc<Vec<EncodedPanel>>>,
    left_out: LeftOut,
}

impl StoryCache {
    pub(super) fn new(source: StorySource) -> Self {
        let left_out = match &source {
            StorySource::World { .. } => LeftOut::default(),
            StorySource::Files(strips) => LeftOut::of(strips),
        };
        Self {
            source,
            met: HashMap::new(),
            left_out,
        }
    }

    /// Story `index`, or the next one where its pictures went bad and nothing is left to learn of
    /// it.
    ///
    /// # Errors
    /// Too many pictures that can't be read.
    pub(super) fn story(
        &mut self,
        index: usize,
        frozen: &FrozenNetworks,
    ) -> Result<Arc<Vec<EncodedPanel>>> {
        let count = self.source.len();
        for next in 0..count {
            let at = (index + next) % count;
            if let Some(met) = self.met.get(&at) {
                return Ok(met.clone());
            }
            let panels = self.source.story(at);
            let met = frozen.story(&panels, &mut self.left_out)?;
            let had = panels.iter().any(|panel| panel.picture.is_some());
            if had && met.iter().all(|panel| panel.met.is_none()) {
                continue;
            }
            let met = Arc::new(met);
            self.met.insert(at, met.clone());
            return Ok(met);
        }
        let nothing = "none of the pictures can be read any more";
        Err(candle_core::Error::Msg(nothing.to_owned()).into())
    }
}
