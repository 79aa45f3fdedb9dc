//! A latent diffusion model that draws its subjects from pictures of them.

use std::ops::ControlFlow;
use std::path::Path;

use candle_core::Tensor;
use image::{RgbImage, RgbaImage};

use super::{
    Conditioning, DenoisingOptions, DiffusionError, InitOptions, ReferenceLatents, StepDone,
    TextToImageModel, picture_tensor,
};
use crate::storyworld::library::{CELLS, CompositionRenderer, Figure};
use crate::weights::ComputeDevices;

/// Where in the picture the empty reference of a place without anybody stands, in cells.
const EMPTY_CORNER: [f32; 2] = [4.0, 7.0];

/// A picture request for a model that draws compositions.
#[derive(Clone, Debug, Default)]
pub struct CompositionRequest {
    /// Who and what stands there, from left to right.
    pub figures: Vec<Figure>,
    /// Where and when it plays, in the words of training captions.
    pub setting: String,
}

/// A latent diffusion model whose UNet has reference attention: it draws compositions of the library.
pub struct CompositionDiffusion {
    diffusion: TextToImageModel,
    renderer: CompositionRenderer,
}

impl CompositionDiffusion {
    /// Reads a model folder in diffusers' layout.
    ///
    /// # Errors
    /// As [`TextToImageModel::load`], or a UNet without reference attention or with other latents than the
    /// compositions have.
    pub fn load(dir: &Path, place: &ComputeDevices) -> Result<Self, DiffusionError> {
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

    /// The model that draws.
    pub fn diffusion(&self) -> &TextToImageModel {
        &self.diffusion
    }

    /// Draws `request`, led away from the words of `negative` and from a picture without subjects; as
    /// [`TextToImageModel::sample`] otherwise.
    ///
    /// # Errors
    /// Settings out of range.
    pub fn draw(
        &self,
        request: &CompositionRequest,
        negative: &str,
        seed: u64,
        init: InitOptions,
        how: DenoisingOptions,
        sink: &mut dyn FnMut(StepDone) -> ControlFlow<()>,
    ) -> Result<Option<RgbaImage>, DiffusionError> {
        let mut towards = self.conditioning(&request.setting)?;
        let empty = self.conditioning("")?;
        let references = self.references(request)?;
        let unet = &self.diffusion.unet;
        towards.references = Some(unet.read_references(&references, 1, &empty)?);
        let away = self.conditioning(negative)?;
        let conditions = [&towards, &away];
        self.diffusion
            .draw_conditioned(conditions, seed, init, how, sink)
    }

    /// Draws the words of `setting` without any reference, not even the empty one: whom to draw it is
    /// not told.
    ///
    /// # Errors
    /// As [`Self::draw`].
    pub fn draw_without_references(
        &self,
        setting: &str,
        seed: u64,
        how: DenoisingOptions,
        sink: &mut dyn FnMut(StepDone) -> ControlFlow<()>,
    ) -> Result<Option<RgbaImage>, DiffusionError> {
        let conditions = [&self.conditioning(setting)?, &self.conditioning("")?];
        self.diffusion
            .draw_conditioned(conditions, seed, InitOptions::default(), how, sink)
    }

    fn conditioning(&self, caption: &str) -> Result<Conditioning, DiffusionError> {
        let text = self.diffusion.encode_text(&[caption])?;
        let pooled = self.diffusion.unet.config().class_embed_type.is_some();
        Ok(Conditioning {
            pooled: pooled.then_some(text.pooled),
            ..Conditioning::of_text(text.states)
        })
    }

    fn references(&self, request: &CompositionRequest) -> Result<ReferenceLatents, DiffusionError> {
        let side = self.renderer.reference_size();
        let device = self.diffusion.device();
        let mut references: Vec<(Vec<u8>, [f32; 2])> = request
            .figures
            .iter()
            .map(|at| (self.renderer.reference(at), [at.x as f32, at.y as f32]))
            .collect();
        if references.is_empty() {
            references.push((self.renderer.empty_reference(), EMPTY_CORNER));
        }
        let (pixels, corners): (Vec<_>, Vec<_>) = references.into_iter().unzip();
        let pixels = pixels.into_iter().map(|rgb| {
            let picture = RgbImage::from_raw(side, side, rgb);
            let picture = picture.unwrap_or_else(|| RgbImage::new(side, side));
            picture_tensor(&picture, (side as usize, side as usize), device)
        });
        let pixels = Tensor::cat(&pixels.collect::<Result<Vec<_>, _>>()?, 0)?;
        let vae = &self.diffusion.vae;
        let latents = (vae.encode(&pixels)?.mean * vae.config().scaling_factor)?;
        Ok(ReferenceLatents {
            latents,
            left_out: vec![false; corners.len()],
            corners,
        })
    }
}
