//! Pictures of training stories that can be shown again instead of drawing a new one.

use std::rc::Rc;

use image::RgbImage;

use super::method::{SIZE, StoryPosition};
use crate::eval::EvalError;
use crate::judges::contrastive::{Contrastive, dot};
use crate::storyworld::{Renderer, Scene, Split, Tale};

/// The pictures of some training stories with their embeddings.
pub(super) struct Gallery {
    judge: Rc<Contrastive>,
    renderer: Renderer,
    scenes: Vec<(Scene, Vec<f32>)>,
}

impl Gallery {
    /// With at least `pictures` of them.
    ///
    /// # Errors
    /// When the contrastive model fails.
    pub(super) fn new(judge: Rc<Contrastive>, pictures: usize) -> Result<Self, EvalError> {
        let renderer = Renderer::new(SIZE);
        let mut scenes = Vec::new();
        let stories = (0..).map(|seed| Tale::referring(seed, Split::Training).panels);
        for panels in stories {
            if scenes.len() >= pictures {
                break;
            }
            let pictures: Vec<RgbImage> = panels.iter().map(|(s, _)| draw(&renderer, s)).collect();
            let vectors = judge.embed_pictures(&pictures)?;
            scenes.extend(panels.into_iter().map(|(scene, _)| scene).zip(vectors));
        }
        Ok(Self {
            judge,
            renderer,
            scenes,
        })
    }

    /// `drawn`, or the gallery's picture that fits `sentence` and the texts before it best, where
    /// that fits better.
    ///
    /// # Errors
    /// When the contrastive model fails.
    pub(super) fn better(
        &self,
        at: &StoryPosition,
        sentence: &str,
        drawn: RgbImage,
    ) -> Result<RgbImage, EvalError> {
        let before = at.context.iter().map(|panel| panel.text.as_str());
        let texts: Vec<&str> = before.chain([sentence]).collect();
        let wanted = self.judge.embed_text(&texts.join(" "))?;
        let own = self.judge.embed_pictures(std::slice::from_ref(&drawn))?;
        let best = self
            .scenes
            .iter()
            .map(|(scene, vector)| (dot(vector, &wanted), scene))
            .max_by(|a, b| a.0.total_cmp(&b.0));
        Ok(match best {
            Some((fit, scene)) if fit > dot(&own[0], &wanted) => draw(&self.renderer, scene),
            _ => drawn,
        })
    }
}

pub(super) fn draw(renderer: &Renderer, scene: &Scene) -> RgbImage {
    let mut picture = RgbImage::new(renderer.size(), renderer.size());
    renderer.draw(scene, &mut picture);
    picture
}
