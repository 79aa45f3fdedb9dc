//! What a picture takes of a GPU through wgpu, counted without one: the networks are run with
//! tensors that have a shape and no numbers.

use super::{Conditioning, Unet, UnetConfig, Vae, VaeConfig, same_timestep, time_ids};
use crate::nn::gpu::{Counts, Gpu, KernelCounts};
use crate::nn::{Params, Result};
use candle_core::{DType, Device, Tensor};
use std::collections::BTreeMap;

/// Bytes of the largest buffer that is counted with: as most GPUs have it.
const LARGEST: u64 = 2 << 30;
/// Tokens of a prompt.
const TOKENS: usize = 77;

/// A part of a picture's work.
#[derive(Clone, Debug)]
pub struct CountedPart {
    /// What it is.
    pub name: &'static str,
    /// Bytes of the weights.
    pub weights: u64,
    /// What is done each time.
    pub counts: Counts,
    /// The same by kernel.
    pub kernels: BTreeMap<String, KernelCounts>,
}

/// A step with guidance and decoding, of a picture of `size` pixels; matrices and kernels are held
/// in f16 if they are `half`.
///
/// # Errors
/// Configurations that aren't supported, or a size that they can't draw.
pub fn counted(
    (unet, vae): (&UnetConfig, &VaeConfig),
    (width, height): (u32, u32),
    half: bool,
) -> Result<[CountedPart; 2]> {
    let scale = vae.decoder_scale();
    let (w, h) = (width as usize / scale, height as usize / scale);
    let device = &Device::Cpu;
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, device);
    // Beside the pooled text, where they are read, stand the six sizes of a picture.
    let sizes = unet.addition_embed_type.as_ref();
    let sizes = sizes
        .and(unet.addition_time_embed_dim)
        .map_or(0, |size| 6 * size);
    let pooled = unet.projection_class_embeddings_input_dim.unwrap_or(1);
    let pooled = [2, pooled.saturating_sub(sizes).max(1)];
    let conditioning = Conditioning {
        pooled: Some(zeros(&pooled)?),
        time_ids: Some(time_ids(8 * w, 8 * h, 2, device)?),
        ..Conditioning::of_text(zeros(&[2, TOKENS, unet.cross_attention_dim])?)
    };
    let step = part("a step", half, &|p| {
        let network = Unet::new(unet.clone(), p)?;
        let latents = zeros(&[2, h, w, unet.in_channels])?;
        let (timesteps, conditioning) = (same_timestep(500.0, 2, device)?, conditioning.clone());
        Ok(Box::new(move || {
            network
                .predict(&latents, &timesteps, &conditioning)
                .map(drop)
        }))
    })?;
    let decoding = part("decoding", half, &|p| {
        let network = Vae::new(vae.clone(), p)?;
        let latents = zeros(&[1, h, w, vae.latent_channels])?;
        Ok(Box::new(move || network.decode(&latents).map(drop)))
    })?;
    Ok([step, decoding])
}

type Network = Box<dyn Fn() -> Result<()>>;

fn part(
    name: &'static str,
    half: bool,
    build: &dyn Fn(Params) -> Result<Network>,
) -> Result<CountedPart> {
    let gpu = Gpu::counting(LARGEST, half);
    let run = build(Params::probe(BTreeMap::new()).on(Some(&gpu)))?;
    let weights = gpu.counts().held;
    // What conditions a picture goes there once, with the first step.
    run()?;
    let before = (gpu.counts(), gpu.by_kernel());
    run()?;
    let kernels = gpu.by_kernel().into_iter().map(|(name, counts)| {
        let before = before.1.get(&name).copied().unwrap_or_default();
        (name, counts.since(before))
    });
    Ok(CountedPart {
        name,
        weights,
        counts: gpu.counts().since(&before.0, 1),
        kernels: kernels.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diffusion::StableDiffusionFamily;
    use crate::diffusion::stable::{builtin_unet, builtin_vae};

    /// Of published sizes: no kernel moves more than half as much again as it must or has workgroups
    /// that a slow GPU could not end or leave soon, a step brings its latents there and its answer
    /// back and nothing else, and the second step makes no buffer.
    #[test]
    fn a_step_moves_little_more_than_it_must_and_makes_no_new_buffers() {
        let mut greedy = Vec::new();
        for (family, side) in [
            (StableDiffusionFamily::Sd1, 512),
            (StableDiffusionFamily::Sd2, 768),
            (StableDiffusionFamily::Sdxl, 1024),
        ] {
            let (unet, vae) = (builtin_unet(family, 4), builtin_vae(family));
            let parts = counted((&unet, &vae), (side, side), true).unwrap();
            let latents = 2 * u64::from(side / 8).pow(2) * 4 * 4;
            let [step, decoding] = &parts;
            assert!(
                step.counts.uploaded < latents + (64 << 10),
                "{:?}",
                step.counts
            );
            assert_eq!(step.counts.downloaded, latents);
            for part in &parts {
                assert_eq!(part.counts.allocated, 0, "{} of {family:?}", part.name);
                for (name, counts) in &part.kernels {
                    // A slow GPU does sixteen workgroups at a time, 1.9 GFLOP/s each.
                    let seconds = counts.longest_step as f64 / 1.9e9;
                    assert!(seconds < 0.025, "{name} can't pause for {seconds} s");
                    // What registers hold is too little for those (`traffic.rs`).
                    let most = match name {
                        _ if name.contains("GEGLU") => 2.3,
                        _ if name.contains("of a picture") => 1.75,
                        _ => 1.5,
                    };
                    let times = counts.most_times;
                    if times > most {
                        greedy.push(format!("{name} in {} of {family:?}: {times}", part.name));
                    }
                }
            }
            assert!(decoding.counts.flops > 0 && step.counts.flops > decoding.counts.flops / 20);
        }
        assert!(greedy.is_empty(), "times what they must move: {greedy:#?}");
    }

    /// Stable Diffusion 1.5 has 860 million weights in its UNet, and a step with guidance at 512
    /// pixels is known to be some 1.6 TFLOP.
    #[test]
    fn what_is_counted_is_what_is_known_of_stable_diffusion() {
        let family = StableDiffusionFamily::Sd1;
        let (unet, vae) = (builtin_unet(family, 4), builtin_vae(family));
        let [step, _] = counted((&unet, &vae), (512, 512), true).unwrap();
        let millions = step.weights as f64 / 2e6;
        assert!((855.0..880.0).contains(&millions), "{millions}");
        let tflop = step.counts.flops as f64 / 1e12;
        assert!((1.3..1.8).contains(&tflop), "{tflop}");
        assert!(step.counts.most_held > step.weights);
        // What follows a product is done in the same run.
        assert_eq!(step.counts.dispatches, 570);
        assert!(step.counts.most_held < step.weights + (2 << 30));
    }
}
