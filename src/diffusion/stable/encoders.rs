//! One or two text encoders that speak together.

use crate::diffusion::{
    DiffusionError, HiddenStates, StableDiffusionFamily, TextEncoder, TextFeatures,
};
use candle_core::{DType, Device, Tensor};

/// The text encoders of a model; drop them once the prompts are encoded.
pub struct TextEncoders {
    pub(super) family: StableDiffusionFamily,
    pub(super) encoders: Vec<TextEncoder>,
    pub(super) device: Device,
}

impl TextEncoders {
    /// The width of each one's states, which the UNet gets side by side.
    pub fn widths(&self) -> Vec<usize> {
        let widths = self.encoders.iter().map(|e| e.config().hidden_size);
        widths.collect()
    }

    /// What the UNet gets for one text: states `[1,T,C]`, and with SDXL the pooled state `[1,P]`.
    /// `ids` has a list for each encoder; so many layers are skipped at their end (0: as the model
    /// was trained), in diffusers' counting.
    ///
    /// # Errors
    /// More layers to skip than there are, or lists that don't fit.
    pub fn encode(
        &self,
        ids: &[Vec<u32>],
        clip_skip: usize,
    ) -> Result<TextFeatures, DiffusionError> {
        if ids.len() != self.encoders.len() {
            return Err(DiffusionError::Settings(
                format!(
                    "{} lists of tokens were given to {} text encoders",
                    ids.len(),
                    self.encoders.len()
                )
                .into(),
            ));
        }
        let reading = match self.family {
            StableDiffusionFamily::Sd1 | StableDiffusionFamily::Sd2 => HiddenStates {
                back: clip_skip,
                norm: true,
            },
            StableDiffusionFamily::Sdxl => HiddenStates {
                back: clip_skip + 1,
                norm: false,
            },
        };
        let mut read = Vec::with_capacity(ids.len());
        for (encoder, ids) in self.encoders.iter().zip(ids) {
            let ids = Tensor::new(&ids[..], &self.device)?.unsqueeze(0)?;
            read.push(encoder.read(&ids, reading)?);
        }
        let states: Vec<&Tensor> = read.iter().map(|read| &read.states).collect();
        let states = Tensor::cat(&states, 2)?;
        let Some(last) = read.pop() else {
            return Err(DiffusionError::Settings("there is no text encoder".into()));
        };
        Ok(TextFeatures {
            states,
            pooled: last.pooled,
        })
    }

    /// Zeros in place of a text of `tokens` tokens, as SDXL has them where there is none.
    ///
    /// # Errors
    /// Memory that can't be had.
    pub fn zeros(&self, tokens: usize) -> Result<TextFeatures, DiffusionError> {
        let width = self.widths().iter().sum();
        let pooled = self
            .encoders
            .last()
            .map_or(0, |e| e.config().projection_dim);
        let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &self.device);
        Ok(TextFeatures {
            states: zeros(&[1, tokens, width])?,
            pooled: zeros(&[1, pooled])?,
        })
    }
}
