//! What a model can be guided by beside text: a ControlNet, an IP-Adapter.

use super::part::{LoadablePart, Shapes, required_tensors};
use super::{StableDiffusion, StableDiffusionOptions, ldm};
use crate::diffusion::error::{read_json, sentence};
use crate::diffusion::{
    ClipVision, ClipVisionConfig, ControlNet, ControlNetConfig, DiffusionError, IpAdapter,
    StableDiffusionFamily, UnetConfig,
};
use crate::nn::Params;
use crate::weights::{Checkpoint, TensorSlice, TensorView};
use candle_core::{DType, Device};
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
            let made = StableDiffusionFamily::of_width(theirs.cross_attention_dim);
            let made = made.map_or("another kind of model", StableDiffusionFamily::label);
            let ours = self.family.label();
            let why = format!("is a ControlNet for {made}, and the model is {ours}");
            let remedy = format!("use one made for {ours}");
            return Err(DiffusionError::unfit(path, why, &remedy));
        }
        let asked = required_tensors(path, |p| ControlNet::new(config.clone(), p))?;
        let blocks = 2 * (config.conditioning_embedding_out_channels.len() - 1);
        let unet = config.unet.clone();
        let part = LoadablePart::new(&file, config, asked, "the ControlNet", |name| {
            let ldm = ldm::control(name, &unet, blocks).map(|ldm| format!("control_model.{ldm}"));
            let names = std::iter::once(name.to_string()).chain(ldm);
            names.map(|name| (name, TensorSlice::Whole)).collect()
        })?;
        let config = part.config.clone();
        part.load_with(&self.options, |p| ControlNet::new(config, p))
    }

    /// Loads an IP-Adapter (base or plus) for this model with the image encoder that it was made
    /// with: a folder of transformers', or a single file.
    ///
    /// # Errors
    /// A file that is missing, damaged, of another kind, or one for another kind of model.
    pub fn ip_adapter(&self, path: &Path, encoder: &Path) -> Result<IpAdapter, DiffusionError> {
        let file = Checkpoint::open(path).map_err(DiffusionError::Checkpoint)?;
        let ours = self.family.label();
        let remedy = format!("use an IP-Adapter (base or plus) made for {ours}");
        let width = file
            .info("ip_adapter.1.to_k_ip.weight")
            .and_then(|info| info.shape.get(1).copied());
        let Some(width) = width else {
            return Err(DiffusionError::unfit(path, "is no IP-Adapter", &remedy));
        };
        let text = self.unet.config.cross_attention_dim;
        if width != text {
            let made = StableDiffusionFamily::of_width(width)
                .map_or("another kind of model", StableDiffusionFamily::label);
            let why = format!("is an IP-Adapter for {made}, and the model is {ours}");
            return Err(DiffusionError::unfit(path, why, &remedy));
        }
        let vision = ClipVision::open_with(encoder, &self.options)?;
        let params = Params::from_source(
            Arc::new(TensorView::of(&Arc::new(file))),
            false,
            self.device(),
        )
        .on(self.gpu());
        IpAdapter::new(vision, &params, &attentions(&self.unet.asked), text)
            .map_err(|error| DiffusionError::unfit(path, sentence(&error), &remedy))
    }
}

impl ClipVision {
    /// Loads an image encoder of CLIP: a folder of transformers', or a single file. Weights are
    /// held as `held` or as they are stored.
    ///
    /// # Errors
    /// A file that is missing, damaged or of another kind.
    pub fn open(
        path: &Path,
        held: Option<DType>,
        device: &Device,
    ) -> Result<ClipVision, DiffusionError> {
        let options = StableDiffusionOptions {
            held,
            ..StableDiffusionOptions::on(device)
        };
        ClipVision::open_with(path, &options)
    }

    /// The same as the options of a model say.
    fn open_with(
        path: &Path,
        options: &StableDiffusionOptions,
    ) -> Result<ClipVision, DiffusionError> {
        let file = Arc::new(Checkpoint::open(path).map_err(DiffusionError::Checkpoint)?);
        let config = match path.is_dir() {
            true => read_json(&path.join("config.json"))?,
            false => {
                ClipVisionConfig::of_shapes(&TensorView::of(&file).shapes()).ok_or_else(|| {
                    let why = "is no image encoder of CLIP";
                    DiffusionError::unfit(
                        path,
                        why,
                        "use the one that the IP-Adapter was made with",
                    )
                })?
            }
        };
        let asked = required_tensors(path, |p| ClipVision::new(config.clone(), p))?;
        let part = LoadablePart::new(&file, config, asked, "the image encoder", |name| {
            vec![(name.to_string(), TensorSlice::Whole)]
        })?;
        let config = part.config.clone();
        part.load_with(options, |p| ClipVision::new(config, p))
    }
}

/// The channels of a UNet's attentions to the text in the order in which IP-Adapters number them:
/// the way down, the way up, the middle.
fn attentions(unet: &Shapes) -> Vec<usize> {
    let mut found: Vec<(usize, Vec<usize>, usize)> = unet
        .iter()
        .filter(|(name, _)| name.ends_with("attn2.to_k.weight"))
        .filter_map(|(name, shape)| {
            let half = ["down_blocks", "up_blocks", "mid_block"]
                .iter()
                .position(|half| name.starts_with(half))?;
            let numbers = name.split('.').filter_map(|part| part.parse().ok());
            Some((half, numbers.collect(), *shape.first()?))
        })
        .collect();
    found.sort();
    found.into_iter().map(|(_, _, channels)| channels).collect()
}
