//! What belongs together: the parts of a model, and what is added to them.

use super::lora::{Network, Targets};
use super::{StableDiffusion, inversion};
use crate::diffusion::DiffusionError;

impl StableDiffusion {
    /// Whether the parts fit each other.
    pub(super) fn check(&self) -> Result<(), DiffusionError> {
        let (unet, latents) = (&self.unet.config, self.vae.config.latent_channels);
        let unfit = |why: String| {
            let remedy = "get the whole model again";
            Err(DiffusionError::unfit(&self.path, why, remedy))
        };
        if unet.in_channels == 8 || unet.in_channels == 5 {
            let what = match unet.in_channels {
                8 => "InstructPix2Pix",
                _ => "a model that reads depth maps",
            };
            let why = format!("is {what}, which is not supported");
            let remedy = "use a model for text to image or for inpainting";
            return Err(DiffusionError::unfit(&self.path, why, remedy));
        }
        if unet.out_channels != latents
            || (unet.in_channels != latents && unet.in_channels != 2 * latents + 1)
        {
            return unfit(format!(
                "has a UNet from {} to {} channels for latents of {latents}",
                unet.in_channels, unet.out_channels
            ));
        }
        let width: usize = self.texts.iter().map(|text| text.config.hidden_size).sum();
        if unet.cross_attention_dim != width {
            return unfit(format!(
                "has a UNet for texts of width {} and text encoders of {width}",
                unet.cross_attention_dim
            ));
        }
        let pooled = self
            .texts
            .last()
            .map_or(0, |text| text.config.projection_dim);
        if let Some(size) = unet.addition_time_embed_dim
            && unet.addition_embed_type.is_some()
            && unet.projection_class_embeddings_input_dim != Some(pooled + 6 * size)
        {
            return unfit(format!(
                "has a UNet whose projection_class_embeddings_input_dim does not fit a pooled text of {pooled}"
            ));
        }
        Ok(())
    }

    /// Adds the embeddings' rows to the tables of the text encoders.
    pub(super) fn add_embeddings(&mut self) -> Result<(), DiffusionError> {
        self.added = vec![Vec::new(); self.texts.len()];
        let widths: Vec<usize> = self.texts.iter().map(|t| t.config.hidden_size).collect();
        for (path, token) in &self.options.embeddings {
            let rows = inversion::read(path, self.family, &widths)?;
            for ((text, rows), added) in self.texts.iter_mut().zip(rows).zip(&mut self.added) {
                let first = text.config.vocab_size;
                let last = first + rows.dim(0)?;
                added.push((token.clone(), first as u32..last as u32));
                text.config.vocab_size = last;
                text.source.rows.push(rows);
            }
        }
        Ok(())
    }

    /// Merges the LoRAs into the weights that they change.
    pub(super) fn add_loras(&mut self) -> Result<(), DiffusionError> {
        if self.options.loras.is_empty() {
            return Ok(());
        }
        let texts: Vec<_> = self
            .texts
            .iter()
            .map(|text| (&text.asked, text.config.num_hidden_layers))
            .collect();
        let targets = Targets::new(self.family, &self.unet.config, &self.unet.asked, &texts);
        for (path, weight) in &self.options.loras {
            if !weight.is_finite() {
                let why = "has a weight that is no number";
                return Err(DiffusionError::unfit(path, why, "choose one such as 0.8"));
            }
            for (network, name, delta) in targets.deltas(path, *weight)? {
                let deltas = match network {
                    Network::Unet => &mut self.unet.source.deltas,
                    Network::Text(i) => &mut self.texts[i].source.deltas,
                };
                deltas.entry(name).or_default().push(delta);
            }
        }
        Ok(())
    }
}
