//! What a model can be guided by beside text: a ControlNet.

use super::part::{Part, asked};
use super::{StableDiffusion, ldm};
use crate::diffusion::error::read_json;
use crate::diffusion::{ControlNet, ControlNetConfig, DiffusionError, Family, UnetConfig};
use crate::weights::{Checkpoint, Taken};
use std::path::Path;
use std::sync::Arc;

impl StableDiffusion {
    /// Loads a ControlNet for this model: a folder of diffusers', or a single file with diffusers'
    /// or LDM's names.
    ///
    /// # Errors
    /// A file that is missing, damaged, no ControlNet, or one for another kind of model.
    pub fn controlnet(&self, path: &Path) -> Result<ControlNet, DiffusionError> {
        let file = Checkpoint::open(path).map_err(DiffusionError::Checkpoint)?;
        let file = Arc::new(file);
        let config: ControlNetConfig = match path.is_dir() {
            true => read_json(&path.join("config.json"))?,
            false => ControlNetConfig::usual(UnetConfig {
                in_channels: self.vae.config.latent_channels,
                ..self.unet.config.clone()
            }),
        };
        let (own, theirs) = (&self.unet.config, &config.unet);
        if own.cross_attention_dim != theirs.cross_attention_dim {
            let made = Family::of_width(theirs.cross_attention_dim);
            let made = made.map_or("another kind of model", Family::called);
            let ours = self.family.called();
            let why = format!("is a ControlNet for {made}, and the model is {ours}");
            let remedy = format!("use one made for {ours}");
            return Err(DiffusionError::unfit(path, why, &remedy));
        }
        let asked = asked(path, |p| ControlNet::new(config.clone(), p))?;
        let blocks = 2 * (config.conditioning_embedding_out_channels.len() - 1);
        let unet = config.unet.clone();
        let part = Part::new(&file, config, asked, "the ControlNet", |name| {
            let ldm = ldm::control(name, &unet, blocks).map(|ldm| format!("control_model.{ldm}"));
            let names = std::iter::once(name.to_string()).chain(ldm);
            names.map(|name| (name, Taken::Whole)).collect()
        })?;
        let config = part.config.clone();
        part.load(self.options.held, self.device(), |p| {
            ControlNet::new(config, p)
        })
    }
}
