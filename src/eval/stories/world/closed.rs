//! The storyworld: its pictures are judged by networks that were trained on it.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use image::{RgbImage, RgbaImage, buffer::ConvertBuffer};

use super::{HeldOutStory, StoryWorld};
use crate::eval::EvalError;
use crate::eval::stories::method::SIZE;
use crate::eval::stories::score::PanelScore;
use crate::eval::stories::{StoryOptions, gill};
use crate::eval::text::of_the_cast;
use crate::judges::Recogniser;
use crate::judges::contrastive::{Contrastive, dot};
use crate::pipeline::ContextPanel;
use crate::story::{Images, Member, PanelId};
use crate::storyworld::{Renderer, Scene, Split, Tale, description};

/// Scenes of real pictures are from stories with seeds from here on, which no row tells.
const REAL_SEEDS: u64 = 1 << 32;

/// The storyworld with the judges of the built-in model.
pub(super) struct ClosedWorld {
    /// Says what a picture shows.
    recogniser: Recogniser,
    /// Without it there is no text–picture similarity.
    contrastive: Option<Rc<Contrastive>>,
    renderer: Renderer,
}

impl ClosedWorld {
    /// With the judges in `models`; the contrastive one may be missing.
    ///
    /// # Errors
    /// A judge that can't be read.
    pub(super) fn open(models: &Path) -> Result<Self, EvalError> {
        let device = candle_core::Device::Cpu;
        let sprout = models.join(crate::weights::STORYWORLD_MODEL);
        let contrastive = sprout.join("contrastive");
        Ok(Self {
            recogniser: Recogniser::load(&sprout.join("recogniser"), &device)?,
            contrastive: match contrastive.exists() {
                true => Some(Rc::new(Contrastive::load(&contrastive, &device)?)),
                false => None,
            },
            renderer: Renderer::new(SIZE),
        })
    }
}

impl StoryWorld for ClosedWorld {
    fn story(&self, seed: u64) -> Box<dyn HeldOutStory + '_> {
        let panels = Tale::referring(seed, Split::HeldOut).panels;
        let pictured = (0..).zip(&panels).map(|(i, (scene, text))| {
            let picture: RgbaImage = gill::draw(&self.renderer, scene).convert();
            ContextPanel {
                id: PanelId(i),
                text: text.clone(),
                picture: Some(Arc::new(picture)),
            }
        });
        Box::new(ClosedStory {
            pictured: pictured.collect(),
            scenes: panels.into_iter().map(|(scene, _)| scene).collect(),
            images: Images::new(),
            world: self,
        })
    }

    fn contrastive(&self) -> Option<Rc<Contrastive>> {
        self.contrastive.clone()
    }

    fn real_features(&self, scenes: usize) -> Result<Vec<Vec<f32>>, EvalError> {
        let all = (REAL_SEEDS..)
            .flat_map(|seed| Tale::referring(seed, Split::HeldOut).panels)
            .map(|(scene, _)| scene)
            .take(scenes);
        let mut features = Vec::with_capacity(scenes);
        let mut pictures: Vec<RgbImage> = Vec::new();
        for scene in all {
            pictures.push(gill::draw(&self.renderer, &scene));
            if pictures.len() == 32 {
                features.extend(self.recogniser.features(&pictures)?);
                pictures.clear();
            }
        }
        features.extend(self.recogniser.features(&pictures)?);
        Ok(features)
    }

    fn notes(&self, options: &StoryOptions) -> Vec<String> {
        let mut notes = vec![format!(
            "The Fréchet distance is between features of the recogniser, from {} real scenes.",
            options.scenes
        )];
        if self.contrastive.is_none() {
            notes.push(
                "There is no text–picture similarity, since the built-in model has no contrastive judge; \
                 make one with `vokenboard train contrastive` and put it into its folder `contrastive`."
                    .to_owned(),
            );
        }
        notes
    }
}

struct ClosedStory<'a> {
    pictured: Vec<ContextPanel>,
    scenes: Vec<Scene>,
    images: Images,
    world: &'a ClosedWorld,
}

impl HeldOutStory for ClosedStory<'_> {
    fn panels(&self) -> &[ContextPanel] {
        &self.pictured
    }

    /// What this world's models know by heart needs no pictures.
    fn cast(&self, _at: usize) -> &[Member] {
        &[]
    }

    fn images(&self) -> &Images {
        &self.images
    }

    fn judge(&self, at: usize, picture: &RgbImage) -> Result<PanelScore, EvalError> {
        let (scene, sentence) = (&self.scenes[at], &self.pictured[at].text);
        let pictures = std::slice::from_ref(picture);
        let seen = self.world.recogniser.recognise(pictures)?;
        let mut score = PanelScore::new(scene, sentence, &seen[0]);
        score.features = self.world.recogniser.features(pictures)?.remove(0);
        if let Some(judge) = &self.world.contrastive {
            // The sentence alone leaves open what should be seen: the whole scene in words.
            let wanted = judge.embed_text(&description(scene))?;
            score.similarity = Some(dot(&judge.embed_pictures(pictures)?[0], &wanted));
        }
        Ok(score)
    }

    fn of_the_cast(&self, text: &str, panels: usize) -> (usize, usize) {
        let told = self.pictured.iter().take(panels);
        let told: Vec<&str> = told.map(|panel| panel.text.as_str()).collect();
        of_the_cast(text, &told)
    }
}
