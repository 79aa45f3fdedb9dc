//! How long a model's parts take on this machine.

use super::{Diffusion, DiffusionError};
use crate::nn::noise;
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
        let run = || -> Result<Tensor, DiffusionError> {
            Ok(match part {
                Part::Unet => {
                    let pooled = Some(&text.pooled);
                    self.unet.forward(&both, &timesteps, &text.states, pooled)?
                }
                Part::Vae => self.decode(&latents)?,
            })
        };
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
}
