//! The autoencoder's configuration.

use crate::diffusion::settings::{UnknownSettings, read_others, refuse};
use crate::nn::Result;
use serde::{Deserialize, Serialize};

/// diffusers' `AutoencoderKL` configuration: the settings we read, under its names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct VaeConfig {
    /// Channels of pictures that are read.
    pub in_channels: usize,
    /// Channels of pictures that are drawn.
    pub out_channels: usize,
    /// Channels of the latents.
    pub latent_channels: usize,
    /// From the finest level to the coarsest.
    pub block_out_channels: Vec<usize>,
    /// Ours: the decoder's levels (finest first) where they differ from the encoder's. One level
    /// more than the encoder has draws at twice the size that was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decoder_block_out_channels: Option<Vec<usize>>,
    /// Ours: the encoder reads squares of this many pixels a side as channels, so that no layer
    /// works at full resolution, where a flat drawing holds little; 1 is diffusers' own.
    #[serde(skip_serializing_if = "is_one")]
    pub patch_size: usize,
    /// Ours: the decoder draws such squares at its finest level.
    #[serde(skip_serializing_if = "is_one")]
    pub decoder_patch_size: usize,
    /// Residual blocks a level in the encoder; one more in the decoder.
    pub layers_per_block: usize,
    /// Ours: the decoder's `layers_per_block` where it differs from the encoder's; its levels have
    /// one residual block more than this, as diffusers' have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decoder_layers_per_block: Option<usize>,
    /// Groups of group norm.
    pub norm_num_groups: usize,
    /// Latents are multiplied by this after encoding and divided by it before decoding, by the
    /// caller, so that the UNet sees values of about unit variance.
    pub scaling_factor: f64,
    /// Subtracted from latents before they are multiplied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shift_factor: Option<f64>,
    /// Each channel's mean and standard deviation, where latents are normalised by them as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latents_mean: Option<Vec<f64>>,
    /// See `latents_mean`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latents_std: Option<Vec<f64>>,
    /// Whether the middle blocks have attention.
    pub mid_block_add_attention: bool,
    /// Whether a 1x1 convolution follows the encoder.
    pub use_quant_conv: bool,
    /// Whether a 1x1 convolution comes before the decoder.
    pub use_post_quant_conv: bool,
    /// Activation; only `silu` is supported.
    pub act_fn: String,
    /// Pixels a side of the pictures that it was trained on.
    pub sample_size: usize,
    /// What the file says beyond this.
    #[serde(flatten, deserialize_with = "read_others")]
    pub others: UnknownSettings,
}

/// Settings of diffusers' that we build in one way only.
const NEUTRAL: [(&str, &str); 2] = [
    ("down_block_types", "\"DownEncoderBlock2D\""),
    ("up_block_types", "\"UpDecoderBlock2D\""),
];

/// Settings that change no result here, where everything is computed in f32.
const INERT: [&str; 1] = ["force_upcast"];

impl Default for VaeConfig {
    /// diffusers' defaults, which a file may leave out.
    fn default() -> Self {
        Self {
            in_channels: 3,
            out_channels: 3,
            latent_channels: 4,
            block_out_channels: vec![64],
            decoder_block_out_channels: None,
            patch_size: 1,
            decoder_patch_size: 1,
            layers_per_block: 1,
            decoder_layers_per_block: None,
            norm_num_groups: 32,
            scaling_factor: 0.18215,
            shift_factor: None,
            latents_mean: None,
            latents_std: None,
            mid_block_add_attention: true,
            use_quant_conv: true,
            use_post_quant_conv: true,
            act_fn: "silu".into(),
            sample_size: 32,
            others: UnknownSettings::new(),
        }
    }
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde asks for a reference"
)]
fn is_one(n: &usize) -> bool {
    *n == 1
}

impl VaeConfig {
    /// The decoder's channels, finest level first.
    pub fn decoder_channels(&self) -> &[usize] {
        self.decoder_block_out_channels
            .as_deref()
            .unwrap_or(&self.block_out_channels)
    }

    /// Residual blocks of each level of the decoder.
    pub(super) fn decoder_blocks(&self) -> usize {
        self.decoder_layers_per_block
            .unwrap_or(self.layers_per_block)
            + 1
    }

    /// Pixels read per latent, along one side.
    pub fn encoder_scale(&self) -> usize {
        self.patch_size << (self.block_out_channels.len() - 1)
    }

    /// Pixels drawn per latent, along one side.
    pub fn decoder_scale(&self) -> usize {
        self.decoder_patch_size << (self.decoder_channels().len() - 1)
    }

    /// Whether there is a number for each channel of the latents, or none.
    fn fits(&self, each: &Option<Vec<f64>>) -> bool {
        each.as_ref()
            .is_none_or(|each| each.len() == self.latent_channels)
    }

    /// For each channel `(m, s)` such that the UNet's latents are `(x - m) s` of the encoder's `x`.
    pub(super) fn normalisation(&self) -> Vec<(f64, f64)> {
        (0..self.latent_channels)
            .map(|i| match (&self.latents_mean, &self.latents_std) {
                (Some(mean), Some(std)) => (mean[i], self.scaling_factor / std[i]),
                _ => (self.shift_factor.unwrap_or(0.0), self.scaling_factor),
            })
            .collect()
    }

    /// # Errors
    /// One sentence naming the first setting that doesn't fit or isn't supported.
    pub fn check(&self) -> Result<()> {
        let fits = [
            (self.act_fn == "silu", "act_fn"),
            (!self.block_out_channels.is_empty(), "block_out_channels"),
            (
                !self.decoder_channels().is_empty(),
                "decoder_block_out_channels",
            ),
            ((1..=16).contains(&self.patch_size), "patch_size"),
            (
                (1..=16).contains(&self.decoder_patch_size),
                "decoder_patch_size",
            ),
            (self.layers_per_block > 0, "layers_per_block"),
            (self.scaling_factor > 0.0, "scaling_factor"),
            (self.fits(&self.latents_mean), "latents_mean"),
            (
                self.fits(&self.latents_std)
                    && self.latents_std.is_some() == self.latents_mean.is_some(),
                "latents_std",
            ),
        ];
        if let Some((_, name)) = fits.iter().find(|(ok, _)| !ok) {
            candle_core::bail!("the autoencoder's {name} has a value that isn't supported")
        }
        refuse("the autoencoder", &self.others, &NEUTRAL, &INERT)
    }
}
