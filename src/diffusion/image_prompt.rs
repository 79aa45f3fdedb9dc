//! IP-Adapters (arXiv 2308.06721): a picture as a prompt, by tokens that the UNet attends to beside
//! those of the text.

use super::clip_vision::ClipVision;
use super::unet::{ImageLayers, ImagePrompt};
use crate::nn::{LayerNorm, Linear, Mask, Params, Result, attention, gelu};
use candle_core::{Device, Tensor};
use image::RgbImage;
use std::sync::Arc;

/// Width of an attention head of the resampler.
const HEAD: usize = 64;

/// An IP-Adapter with its image encoder.
pub struct IpAdapter {
    vision: ClipVision,
    projection: Projection,
    layers: Arc<ImageLayers>,
    device: Device,
}

/// From what the image encoder says to tokens.
enum Projection {
    /// From one embedding, as the base adapters have it.
    Linear {
        linear: Box<Linear>,
        norm: Box<LayerNorm>,
        tokens: usize,
    },
    /// From the states of all patches, as the plus adapters have it.
    Resampler(Box<Resampler>),
}

struct Resampler {
    /// `[1,N,C]`.
    latents: Tensor,
    proj_in: Linear,
    layers: Vec<ResamplerLayer>,
    proj_out: Linear,
    norm_out: LayerNorm,
}

struct ResamplerLayer {
    norm_picture: LayerNorm,
    norm_latents: LayerNorm,
    q: Linear,
    kv: Linear,
    out: Linear,
    norm: LayerNorm,
    widen: Linear,
    narrow: Linear,
}

/// The shape of a tensor of an adapter.
fn shape(p: &Params, name: &str) -> Result<Vec<usize>> {
    p.shape(name)
        .ok_or_else(|| candle_core::Error::Msg(format!("parameter {name} is missing")))
}

impl Resampler {
    fn new(p: &Params) -> Result<Self> {
        let own = shape(p, "latents")?;
        let &[1, _, c] = &own[..] else {
            candle_core::bail!("the resampler's latents have the shape {own:?}");
        };
        let latents = p.tensor(&own, "latents", crate::nn::Init::Zeros)?;
        let read = shape(p, "proj_in.weight")?;
        let width = read.get(1).copied().unwrap_or(0);
        let count = (0..)
            .take_while(|i| p.contains(&format!("layers.{i}.0.to_q.weight")))
            .count();
        let out = shape(p, "proj_out.weight")?;
        let out = out.first().copied().unwrap_or(0);
        Ok(Self {
            latents,
            proj_in: p.pp("proj_in").linear(width, c, true)?,
            layers: (0..count)
                .map(|i| ResamplerLayer::new(&p.pp("layers").pp(i), c))
                .collect::<Result<_>>()?,
            proj_out: p.pp("proj_out").linear(c, out, true)?,
            norm_out: p.pp("norm_out").layer_norm(out, 1e-5)?,
        })
    }

    /// `states [B,T,width]` -> `[B,N,out]`.
    fn forward(&self, states: &Tensor) -> Result<Tensor> {
        let x = self.proj_in.forward(states)?;
        let mut latents = self.latents.repeat((states.dim(0)?, 1, 1))?;
        for layer in &self.layers {
            latents = layer.forward(&x, &latents)?;
        }
        self.norm_out.forward(&self.proj_out.forward(&latents)?)
    }
}

impl ResamplerLayer {
    fn new(p: &Params, c: usize) -> Result<Self> {
        let (a, f) = (p.pp("0"), p.pp("1"));
        let rows = |name: &str| -> Result<usize> {
            Ok(shape(p, name)?.first().copied().unwrap_or_default())
        };
        let (inner, wide) = (rows("0.to_q.weight")?, rows("1.1.weight")?);
        if inner == 0 || inner % HEAD != 0 {
            candle_core::bail!("the resampler's width {inner} is no multiple of {HEAD}");
        }
        Ok(Self {
            norm_picture: a.pp("norm1").layer_norm(c, 1e-5)?,
            norm_latents: a.pp("norm2").layer_norm(c, 1e-5)?,
            q: a.pp("to_q").linear(c, inner, false)?,
            kv: a.pp("to_kv").linear(c, 2 * inner, false)?,
            out: a.pp("to_out").linear(inner, c, false)?,
            norm: f.pp("0").layer_norm(c, 1e-5)?,
            widen: f.pp("1").linear(c, wide, false)?,
            narrow: f.pp("3").linear(wide, c, false)?,
        })
    }

    fn forward(&self, x: &Tensor, latents: &Tensor) -> Result<Tensor> {
        let n = self.norm_latents.forward(latents)?;
        let q = self.q.forward(&n)?;
        let seen = Tensor::cat(&[&self.norm_picture.forward(x)?, &n], 1)?;
        let kv = self.kv.forward(&seen)?;
        let inner = q.dim(2)?;
        let (k, v) = (kv.narrow(2, 0, inner)?, kv.narrow(2, inner, inner)?);
        let heads = inner / HEAD;
        let found = attention(&q, &k, &v, heads, heads, &Mask::None)?;
        let latents = (self.out.forward(&found)? + latents)?;
        let wide = gelu(&self.widen.forward(&self.norm.forward(&latents)?)?)?;
        self.narrow.forward(&wide)? + latents
    }
}

impl IpAdapter {
    /// `p` has the adapter's own names; `channels` are those of the UNet's attentions to the text,
    /// in the order of their numbers, and `text` is the width of what they attend to.
    ///
    /// # Errors
    /// An adapter of a kind that isn't supported, or for another model.
    pub fn new(vision: ClipVision, p: &Params, channels: &[usize], text: usize) -> Result<Self> {
        // A picture is read once; what the UNet multiplies in every step lies where the UNet does.
        let image = p.pp("image_proj").on(None);
        let projection = if image.contains("latents") {
            Projection::Resampler(Box::new(Resampler::new(&image)?))
        } else if image.contains("proj.weight") {
            let own = shape(&image, "proj.weight")?;
            let (&[rows, width], out) = (&own[..], shape(&image, "norm.weight")?[0]) else {
                candle_core::bail!("image_proj.proj.weight has the shape {own:?}");
            };
            Projection::Linear {
                linear: Box::new(image.pp("proj").linear(width, rows, true)?),
                norm: Box::new(image.pp("norm").layer_norm(out, 1e-5)?),
                tokens: rows / out.max(1),
            }
        } else {
            candle_core::bail!("is neither a base nor a plus IP-Adapter");
        };
        let layers = channels
            .iter()
            .enumerate()
            .map(|(i, &channels)| {
                let p = p.pp("ip_adapter").pp(2 * i + 1);
                Ok((
                    p.pp("to_k_ip").linear(text, channels, false)?,
                    p.pp("to_v_ip").linear(text, channels, false)?,
                ))
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            device: p.device().clone(),
            vision,
            projection,
            layers: Arc::new(ImageLayers(layers)),
        })
    }

    /// As [`ClipVision::pixels`].
    ///
    /// # Errors
    /// A picture without pixels.
    pub fn pixels(&self, picture: &RgbImage) -> Result<Tensor> {
        self.vision.pixels(picture, &self.device)
    }

    /// Image embeddings for guidance, unconditional before conditional: `[2,E]`, or patch states
    /// `[2,T,D]` where the adapter reads those.
    ///
    /// # Errors
    /// Pixels of another size.
    pub fn embeds(&self, pixels: &Tensor) -> Result<Tensor> {
        match &self.projection {
            Projection::Linear { .. } => {
                let embeds = self.vision.embed(pixels)?;
                Tensor::cat(&[&embeds.zeros_like()?, &embeds], 0)
            }
            Projection::Resampler(_) => {
                let both = Tensor::cat(&[&pixels.zeros_like()?, pixels], 0)?;
                self.vision.states(&both, 1)
            }
        }
    }

    /// Image prompt tokens `[2,N,C]`, projected from [`IpAdapter::embeds`].
    ///
    /// # Errors
    /// An image encoder of another width.
    pub fn tokens(&self, embeds: &Tensor) -> Result<Tensor> {
        match &self.projection {
            Projection::Linear {
                linear,
                norm,
                tokens,
            } => {
                let b = embeds.dim(0)?;
                let x = linear.forward(embeds)?.reshape((b, *tokens, ()))?;
                norm.forward(&x)
            }
            Projection::Resampler(resampler) => resampler.forward(embeds),
        }
    }

    /// The tokens of several pictures side by side, as diffusers has them: `[2,N of each,C]`.
    ///
    /// # Errors
    /// No picture, or what [`IpAdapter::pixels`] says.
    pub fn tokens_of(&self, pictures: &[&RgbImage]) -> Result<Tensor> {
        let tokens = pictures
            .iter()
            .map(|picture| self.tokens(&self.embeds(&self.pixels(picture)?)?));
        Tensor::cat(&tokens.collect::<Result<Vec<_>>>()?, 1)
    }

    /// The image prompt as cross-attention takes it: both halves of a guided batch, or the
    /// conditional one.
    ///
    /// # Errors
    /// Tokens without two halves.
    pub fn prompt(&self, tokens: &Tensor, guided: bool, scale: f64) -> Result<ImagePrompt> {
        Ok(ImagePrompt {
            layers: self.layers.clone(),
            tokens: match guided {
                true => tokens.clone(),
                false => tokens.narrow(0, 1, 1)?.contiguous()?,
            },
            scale,
        })
    }
}
