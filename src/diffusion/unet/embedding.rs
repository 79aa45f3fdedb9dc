//! What a UNet is told beside the latents: the timestep, and where it has them a vector for the
//! whole text, the sizes of the picture, and the guidance scale.

use super::{Conditioning, UnetConfig};
use crate::nn::{ActivationFunction, Array, Init, Linear, Params, Result};
use candle_core::{DType, Device, Tensor};

/// The time embedding with what is added to it.
#[derive(Clone, Debug)]
pub(super) struct TimeEmbedding {
    width: usize,
    flip: bool,
    shift: f64,
    time: [Linear; 2],
    guidance: Option<Linear>,
    class: Option<Linear>,
    added: Option<AddEmbedding>,
    /// Marks the pass over a reference.
    reference: Option<Tensor>,
}

/// SDXL's `add_embedding`.
#[derive(Clone, Debug)]
struct AddEmbedding {
    /// Of each size's sinusoids.
    width: usize,
    layers: [Linear; 2],
}

impl TimeEmbedding {
    /// Reads the layers from `p`.
    pub(super) fn new(config: &UnetConfig, p: &Params) -> Result<Self> {
        let first = config.block_out_channels[0];
        let width = 4 * first;
        let two = |p: &Params, inp: usize| -> Result<[Linear; 2]> {
            Ok([
                p.pp("linear_1").linear(inp, width, true)?,
                p.pp("linear_2").linear(width, width, true)?,
            ])
        };
        let t = p.pp("time_embedding");
        let time = two(&t, first)?;
        let guidance = match config.time_cond_proj_dim {
            Some(inp) => Some(t.pp("cond_proj").linear(inp, first, false)?),
            None => None,
        };
        let inp = config.projection_class_embeddings_input_dim;
        let class = match inp {
            Some(inp) if config.class_embed_type.is_some() => {
                Some(p.pp("class_embedding").linear(inp, width, true)?)
            }
            _ => None,
        };
        let added = match (inp, config.addition_time_embed_dim) {
            (Some(inp), Some(size)) if config.addition_embed_type.is_some() => Some(AddEmbedding {
                width: size,
                layers: two(&p.pp("add_embedding"), inp)?,
            }),
            _ => None,
        };
        let reference = match config.reference_attention {
            true => Some(p.tensor(&[width], "reference_embedding", Init::Zeros)?),
            false => None,
        };
        Ok(Self {
            width: first,
            flip: config.flip_sin_to_cos,
            shift: config.freq_shift,
            time,
            guidance,
            class,
            added,
            reference,
        })
    }

    /// `timesteps [B]` -> `[B, 4 * block_out_channels[0]]`, with the SiLU that every residual block
    /// would apply to it again. `reference` marks the pass over a reference. `x` is where it is
    /// computed.
    pub(super) fn forward<A: Array>(
        &self,
        x: &A,
        timesteps: &Tensor,
        conditioning: &Conditioning,
        reference: bool,
    ) -> Result<A> {
        let mut waves = x.sent(&sinusoids(timesteps, self.width, self.flip, self.shift)?)?;
        if let Some(layer) = &self.guidance {
            let Some(guidance) = &conditioning.timestep_cond else {
                candle_core::bail!("this UNet needs an embedding of the guidance scale");
            };
            waves = waves.plus(&layer.forward(&x.beside(guidance)?)?)?;
        }
        let two = |layers: &[Linear; 2], x: &A| {
            layers[1].forward(&layers[0].forward_activated(x, ActivationFunction::Silu)?)
        };
        let mut t = two(&self.time, &waves)?;
        let pooled = || {
            let pooled = conditioning.pooled.as_ref();
            pooled.ok_or_else(|| candle_core::Error::Msg("this UNet needs the pooled text".into()))
        };
        if let Some(layer) = &self.class {
            t = t.plus(&layer.forward(&x.beside(pooled()?)?)?)?;
        }
        if let Some(added) = &self.added {
            let Some(ids) = &conditioning.time_ids else {
                candle_core::bail!("this UNet needs the sizes of the picture");
            };
            let (b, n) = ids.dims2()?;
            let sizes = sinusoids(&ids.flatten_all()?, added.width, self.flip, self.shift)?;
            let sizes = sizes.reshape((b, n * added.width))?;
            let both = Tensor::cat(&[pooled()?, &sizes], 1)?;
            t = t.plus(&two(&added.layers, &x.sent(&both)?)?)?;
        }
        if let (Some(mark), true) = (&self.reference, reference) {
            t = t.plus(&x.beside(mark)?)?;
        }
        t.activated(ActivationFunction::Silu)
    }
}

/// Sinusoids of numbers: `[N]` -> `[N, width]`, cosines first where `flip` says so.
fn sinusoids(t: &Tensor, width: usize, flip: bool, shift: f64) -> Result<Tensor> {
    let half = width / 2;
    let scale = -(10_000f64.ln()) / (half as f64 - shift);
    let frequencies: Vec<f32> = (0..half).map(|i| (i as f64 * scale).exp() as f32).collect();
    let frequencies = Tensor::from_vec(frequencies, (1, half), t.device())?;
    let angles = t
        .to_dtype(DType::F32)?
        .unsqueeze(1)?
        .broadcast_mul(&frequencies)?;
    let (sin, cos) = (angles.sin()?, angles.cos()?);
    match flip {
        true => Tensor::cat(&[cos, sin], 1),
        false => Tensor::cat(&[sin, cos], 1),
    }
}

/// The embedding of a guidance scale for a distilled UNet of `time_cond_proj_dim` `width`:
/// `[1,width]`, diffusers' `get_guidance_scale_embedding` of the scale less one.
pub fn guidance_embedding(guidance: f64, width: usize, device: &Device) -> Result<Tensor> {
    let w = Tensor::new(&[((guidance - 1.0) * 1000.0) as f32], device)?;
    sinusoids(&w, width, false, 1.0)
}

/// The added time ids of SDXL for a picture of `width` x `height` pixels that is not cropped:
/// original size, corner, wanted size, `[batch,6]`.
pub fn time_ids(width: usize, height: usize, batch: usize, device: &Device) -> Result<Tensor> {
    let (w, h) = (width as f32, height as f32);
    Tensor::new(&[[h, w, 0.0, 0.0, h, w]], device)?.repeat((batch, 1))
}
