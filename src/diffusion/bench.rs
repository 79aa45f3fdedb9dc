//! How long a model's parts take on this machine.

use super::stable::{builtin_unet, builtin_vae};
use super::{
    Conditioning, DiffusionError, StableDiffusionFamily, TextToImageModel, Unet, Vae,
    same_timestep, time_ids,
};
use crate::nn::{Params, TensorSource, noise};
use crate::weights::ComputeDevices;
use candle_core::{DType, Device, Tensor};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// A part of a picture's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BenchPart {
    /// One step with guidance: the UNet on a batch of two.
    Unet,
    /// Latents to picture.
    Vae,
}

/// One run of a part.
type Run<'a> = Box<dyn Fn() -> candle_core::Result<Tensor> + 'a>;

impl TextToImageModel {
    /// The seconds that each of `runs` runs of a part took, shortest first, after one that is not
    /// counted.
    pub fn time(&self, part: BenchPart, runs: usize) -> Result<Vec<f64>, DiffusionError> {
        time(runs, &*self.once(part)?)
    }

    /// What runs a part once.
    ///
    /// # Errors
    /// A text that can't be encoded.
    pub fn once(&self, part: BenchPart) -> Result<Run<'_>, DiffusionError> {
        let config = self.unet.config();
        let side = config.sample_size;
        let device = self.device();
        let latents = noise(0, 0, &[1, side, side, config.in_channels], device)?;
        let text = self.encode_text(&["", ""])?;
        let both = Tensor::cat(&[&latents, &latents], 0)?;
        let timesteps = Tensor::new(&[500f32, 500.0], device)?;
        Ok(match part {
            BenchPart::Unet => Box::new(move || {
                let pooled = Some(&text.pooled);
                self.unet.forward(&both, &timesteps, &text.states, pooled)
            }),
            BenchPart::Vae => {
                Box::new(move || self.decode(&latents).map_err(candle_core::Error::wrap))
            }
        })
    }
}

/// As [`TextToImageModel::time`], for a [`RandomPart`].
///
/// # Errors
/// Memory that can't be had.
pub fn time_family(
    family: StableDiffusionFamily,
    part: BenchPart,
    runs: usize,
    bf16: bool,
    place: &ComputeDevices,
) -> Result<Vec<f64>, DiffusionError> {
    let part = RandomPart::new(family, part, bf16, place)?;
    time(runs, &|| part.run())
}

/// A network of random weights as large as the published one of a family, held in f16, and what it
/// reads: the UNet latents of pictures of its size and 77 tokens, or the decoder of its autoencoder
/// the latents of such a picture.
pub struct RandomPart(Run<'static>);

impl RandomPart {
    /// # Errors
    /// Memory that can't be had.
    pub fn new(
        family: StableDiffusionFamily,
        part: BenchPart,
        bf16: bool,
        place: &ComputeDevices,
    ) -> Result<Self, DiffusionError> {
        let device = &place.device;
        let config = builtin_unet(family, 4);
        let drawn = |probe: &Params| -> Result<Params, DiffusionError> {
            let source = Arc::new(RandomWeights {
                numbers: noise(1, 0, &[1 << 20], &Device::Cpu)?,
                shapes: probe.required_tensors(),
            });
            let params = Params::held_as(source, DType::F16, device);
            Ok(params.on(place.gpu.as_ref()).in_bf16(bf16))
        };
        let probe = Params::probe(BTreeMap::new());
        let side = config.sample_size;
        Ok(Self(match part {
            BenchPart::Unet => {
                let noise = |stream: u64, shape: &[usize]| noise(0, stream, shape, device);
                let conditioning = Conditioning {
                    pooled: Some(noise(2, &[2, 1280])?),
                    time_ids: Some(time_ids(8 * side, 8 * side, 2, device)?),
                    ..Conditioning::of_text(noise(1, &[2, 77, config.cross_attention_dim])?)
                };
                Unet::new(config.clone(), probe.clone())?;
                let unet = Unet::new(config, drawn(&probe)?)?;
                let timesteps = same_timestep(500.0, 2, device)?;
                let latents = noise(0, &[2, side, side, 4])?;
                Box::new(move || unet.predict(&latents, &timesteps, &conditioning))
            }
            BenchPart::Vae => {
                let config = builtin_vae(family);
                Vae::new(config.clone(), probe.clone())?;
                let vae = Vae::new(config, drawn(&probe)?)?;
                let latents = noise(0, 0, &[1, side, side, 4], device)?;
                Box::new(move || vae.decode(&latents))
            }
        }))
    }

    /// Runs it once.
    ///
    /// # Errors
    /// Memory that can't be had, or a device that fails.
    pub fn run(&self) -> candle_core::Result<Tensor> {
        (self.0)()
    }
}

/// Random weights without end: each tensor is cut from the same numbers, scaled so that what goes
/// through a layer neither grows nor fades.
struct RandomWeights {
    numbers: Tensor,
    shapes: BTreeMap<String, Vec<usize>>,
}

impl TensorSource for RandomWeights {
    fn contains(&self, name: &str) -> bool {
        self.shapes.contains_key(name)
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.shapes.get(name).cloned()
    }

    fn tensor(&self, name: &str, device: &Device) -> candle_core::Result<Tensor> {
        let shape = self.shapes.get(name).cloned().unwrap_or_default();
        if shape.len() < 2 {
            return match name.ends_with("bias") {
                true => Tensor::zeros(shape, DType::F32, device),
                false => Tensor::ones(shape, DType::F32, device),
            };
        }
        let fan: usize = shape[1..].iter().product();
        let own = (&self.numbers * (fan as f64).powf(-0.5))?.to_dtype(DType::F16)?;
        let count: usize = shape.iter().product();
        own.repeat(count.div_ceil(own.elem_count()))?
            .narrow(0, 0, count)?
            .reshape(shape)?
            .to_device(device)
    }
}

fn time(
    runs: usize,
    run: &dyn Fn() -> candle_core::Result<Tensor>,
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
