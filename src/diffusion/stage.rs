//! A latent diffusion model that draws its subjects from pictures of them.

use std::ops::ControlFlow;
use std::path::Path;

use candle_core::Tensor;
use image::{RgbImage, RgbaImage};

use super::{
    Conditioning, DenoisingOptions, DiffusionError, ReferenceLatents, StepDone, TextToImageModel,
    picture_tensor,
};
use crate::storyworld::library::{CELLS, CompositionRenderer, Subject};
use crate::weights::Place;

/// What is to be drawn.
#[derive(Clone, Debug, Default)]
pub struct Stage {
    /// Who stands there from left to right, each with the corner of its canvas in latents.
    pub figures: Vec<(Subject, (i32, i32))>,
    /// Where and when it plays, in the words of training captions.
    pub setting: String,
}

/// A model whose UNet has reference attention, on the stage of the library.
pub struct StageDiffusion {
    diffusion: TextToImageModel,
    renderer: CompositionRenderer,
}

impl StageDiffusion {
    /// Reads a model folder in diffusers' layout.
    ///
    /// # Errors
    /// As [`TextToImageModel::load`], or a UNet without reference attention or with other latents than the
    /// stage has.
    pub fn load(dir: &Path, place: &Place) -> Result<Self, DiffusionError> {
        let diffusion = TextToImageModel::load_at(dir, place)?;
        let config = diffusion.unet.config();
        if !config.reference_attention || config.sample_size != CELLS as usize {
            let why = format!(
                "the UNet has no reference_attention on {CELLS}x{CELLS} latents, with which subjects are drawn from pictures"
            );
            return Err(DiffusionError::config(dir, why));
        }
        let pixels = CELLS as u32 * diffusion.vae.config().encoder_scale() as u32;
        Ok(Self {
            renderer: CompositionRenderer::new(pixels),
            diffusion,
        })
    }

    /// The model without its stage.
    pub fn diffusion(&self) -> &TextToImageModel {
        &self.diffusion
    }

    /// DrawableWords `stage`, led away from the words of `negative` and from a picture without subjects; as
    /// [`TextToImageModel::sample`] otherwise.
    ///
    /// # Errors
    /// Settings out of range.
    pub fn draw(
        &self,
        stage: &Stage,
        negative: &str,
        seed: u64,
        how: DenoisingOptions,
        sink: &mut dyn FnMut(StepDone) -> ControlFlow<()>,
    ) -> Result<Option<RgbaImage>, DiffusionError> {
        let mut towards = self.conditioning(&stage.setting)?;
        if let Some(references) = self.references(stage)? {
            let empty = self.conditioning("")?;
            let unet = &self.diffusion.unet;
            towards.references = Some(unet.read_references(&references, 1, &empty)?);
        }
        let away = self.conditioning(negative)?;
        let conditions = [&towards, &away];
        self.diffusion.draw_conditioned(conditions, seed, how, sink)
    }

    fn conditioning(&self, caption: &str) -> Result<Conditioning, DiffusionError> {
        let text = self.diffusion.encode_text(&[caption])?;
        let pooled = self.diffusion.unet.config().class_embed_type.is_some();
        Ok(Conditioning {
            pooled: pooled.then_some(text.pooled),
            ..Conditioning::of_text(text.states)
        })
    }

    fn references(&self, stage: &Stage) -> Result<Option<ReferenceLatents>, DiffusionError> {
        let count = stage.figures.len();
        if count == 0 {
            return Ok(None);
        }
        let side = self.renderer.reference_size();
        let device = self.diffusion.device();
        let pixels = stage.figures.iter().map(|(subject, _)| {
            let rgb = self.renderer.reference_of(subject, count);
            let picture = RgbImage::from_raw(side, side, rgb);
            let picture = picture.unwrap_or_else(|| RgbImage::new(side, side));
            picture_tensor(&picture, (side as usize, side as usize), device)
        });
        let pixels = Tensor::cat(&pixels.collect::<Result<Vec<_>, _>>()?, 0)?;
        let vae = &self.diffusion.vae;
        let latents = (vae.encode(&pixels)?.mean * vae.config().scaling_factor)?;
        let corners = stage.figures.iter();
        Ok(Some(ReferenceLatents {
            latents,
            corners: corners.map(|(_, (x, y))| [*x as f32, *y as f32]).collect(),
            left_out: vec![false; count],
        }))
    }
}
