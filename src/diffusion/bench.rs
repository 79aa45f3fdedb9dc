//! How long a model's parts take on this machine.

use super::{Diffusion, DiffusionError, PerBlock, Unet, UnetConfig, Vae, VaeConfig};
use crate::nn::{Params, noise};
use candle_core::{Device, Tensor};
use std::time::Instant;

/// A part of a picture's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// One step with guidance: the UNet on a batch of two.
    Unet,
    /// Latents to picture.
    Vae,
}

impl Diffusion {
    /// The seconds that each of `runs` runs of a part took, shortest first, after one that is not
    /// counted.
    pub fn time(&self, part: Part, runs: usize) -> Result<Vec<f64>, DiffusionError> {
        let config = self.unet.config();
        let side = config.sample_size;
        let device = self.device();
        let latents = noise(0, 0, &[1, side, side, config.in_channels], device)?;
        let text = self.encode_text(&["", ""])?;
        let both = Tensor::cat(&[&latents, &latents], 0)?;
        let timesteps = Tensor::new(&[500f32, 500.0], device)?;
        time(runs, || {
            Ok(match part {
                Part::Unet => {
                    let pooled = Some(&text.pooled);
                    self.unet.forward(&both, &timesteps, &text.states, pooled)?
                }
                Part::Vae => self.decode(&latents)?,
            })
        })
    }
}

/// As [`Diffusion::time`], for a network of random weights as large as Stable Diffusion 2.1-base:
/// a UNet of 865 million parameters on 64x64 latents and 77 tokens, or the decoder of its
/// autoencoder to 512x512 pixels.
///
/// # Errors
/// Memory that can't be had.
pub fn time_stable_diffusion(
    part: Part,
    runs: usize,
    device: &Device,
) -> Result<Vec<f64>, DiffusionError> {
    let params = Params::random(1, device);
    let latents = |batch: usize| noise(0, 0, &[batch, 64, 64, 4], device);
    match part {
        Part::Unet => {
            let config = UnetConfig {
                attention_head_dim: PerBlock::Each(vec![5, 10, 20, 20]),
                cross_attention_dim: 1024,
                use_linear_projection: true,
                ..UnetConfig::default()
            };
            let unet = Unet::new(config, params)?;
            let text = noise(0, 1, &[2, 77, 1024], device)?;
            let timesteps = Tensor::new(&[500f32, 500.0], device)?;
            let latents = latents(2)?;
            time(
                runs,
                || Ok(unet.forward(&latents, &timesteps, &text, None)?),
            )
        }
        Part::Vae => {
            let config = VaeConfig {
                block_out_channels: vec![128, 256, 512, 512],
                layers_per_block: 2,
                sample_size: 512,
                ..VaeConfig::default()
            };
            let vae = Vae::new(config, params)?;
            let latents = latents(1)?;
            time(runs, || Ok(vae.decode(&latents)?))
        }
    }
}

fn time(
    runs: usize,
    run: impl Fn() -> Result<Tensor, DiffusionError>,
) -> Result<Vec<f64>, DiffusionError> {
    let mut seconds = Vec::with_capacity(runs);
    for i in 0..=runs {
        let start = Instant::now();
        // Bringing the result here waits for a GPU.
        run()?.to_device(&Device::Cpu)?;
        if i > 0 {
            seconds.push(start.elapsed().as_secs_f64());
        }
    }
    seconds.sort_by(f64::total_cmp);
    Ok(seconds)
}
