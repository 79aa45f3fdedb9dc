//! diffusers' `AutoencoderKL`.

mod config;

pub use config::VaeConfig;

use super::resnet::{ResnetBlock, ResnetShape, downsampler, upsampler};
use super::tiles::decode_tiled;
use crate::nn::gpu::{Gpu, GpuTensor};
use crate::nn::{
    Array, Conv2d, ConvOptions, GroupNorm, Init, Linear, Mask, Padding, Params, Result, dims_of,
};
use candle_core::Tensor;

/// diffusers fixes this epsilon for every norm of the autoencoder.
const EPS: f64 = 1e-6;

/// The distribution of a picture's latents, each `[B,h,w,latent_channels]`.
#[derive(Clone, Debug)]
pub struct LatentDistribution {
    /// Mean, `[B,h,w,C]`.
    pub mean: Tensor,
    /// Logarithm of the variance, `[B,h,w,C]`.
    pub logvar: Tensor,
}

impl LatentDistribution {
    /// A draw, from `noise` of the mean's shape.
    pub fn sample(&self, noise: &Tensor) -> Result<Tensor> {
        let std = (&self.logvar * 0.5)?.exp()?;
        &self.mean + (std * noise)?
    }
}

/// Autoencoder between pictures `[B,H,W,3]` and latents `[B,h,w,C]`.
#[derive(Clone, Debug)]
pub struct Vae {
    config: VaeConfig,
    encoder: Encoder,
    decoder: Decoder,
    gpu: Option<Gpu>,
}

impl Vae {
    /// # Errors
    /// A configuration that isn't supported, or a tensor that is missing or has another shape.
    pub fn new(config: VaeConfig, p: Params) -> Result<Self> {
        config.check()?;
        // Pixels show what is rounded here.
        let p = p.in_bf16(false);
        Ok(Self {
            encoder: Encoder::new(&config, &p)?,
            decoder: Decoder::new(&config, &p)?,
            gpu: p.gpu().cloned(),
            config,
        })
    }

    /// Configuration that it was built with.
    pub fn config(&self) -> &VaeConfig {
        &self.config
    }

    /// `x [B,H,W,3]` in -1..1 -> moments of `[B,H/f,W/f,latent_channels]`, not yet scaled.
    pub fn encode(&self, x: &Tensor) -> Result<LatentDistribution> {
        let (_, h, w, _) = x.dims4()?;
        let f = self.config.encoder_scale();
        if h % f != 0 || w % f != 0 {
            candle_core::bail!(
                "a picture of {w}x{h} can't be encoded; make both sides multiples of {f}"
            );
        }
        let y = match &self.gpu {
            None => self.encoder.forward(x)?,
            Some(gpu) => self
                .encoder
                .forward(&GpuTensor::upload(gpu, x)?)?
                .download()?,
        };
        let n = self.config.latent_channels;
        Ok(LatentDistribution {
            mean: y.narrow(3, 0, n)?.contiguous()?,
            logvar: y.narrow(3, n, n)?.contiguous()?.clamp(-30f32, 20f32)?,
        })
    }

    /// Scales and shifts the encoder's latents (a mean or a draw) to those that the UNet works on.
    pub fn to_unet(&self, x: &Tensor) -> Result<Tensor> {
        let (m, s) = self
            .config
            .normalisation()
            .into_iter()
            .unzip::<_, _, Vec<_>, Vec<_>>();
        x.broadcast_sub(&row(&m, x)?)?.broadcast_mul(&row(&s, x)?)
    }

    /// The UNet's latents as the decoder reads them.
    pub fn from_unet(&self, x: &Tensor) -> Result<Tensor> {
        let (m, s) = self
            .config
            .normalisation()
            .into_iter()
            .unzip::<_, _, Vec<_>, Vec<_>>();
        x.broadcast_div(&row(&s, x)?)?.broadcast_add(&row(&m, x)?)
    }

    /// `z [B,h,w,latent_channels]`, divided by the scaling factor -> `[B,H,W,3]`, about -1..1.
    pub fn decode(&self, z: &Tensor) -> Result<Tensor> {
        match &self.gpu {
            None => self.decoder.forward(z),
            Some(gpu) => {
                let decode = |z: &Tensor| {
                    self.decoder
                        .forward(&GpuTensor::upload(gpu, z)?)?
                        .download()
                };
                let (_, h, w, _) = z.dims4()?;
                match self.tile(gpu) {
                    tile if h.max(w) > tile => {
                        decode_tiled(z, tile, self.config.decoder_scale(), decode)
                    }
                    _ => decode(z),
                }
            }
        }
    }
}

impl Vae {
    /// The side of the latents whose picture a GPU can hold in one buffer while it is drawn.
    fn tile(&self, gpu: &Gpu) -> usize {
        let widest = self.config.decoder_channels().iter().take(2).max();
        let pixels = gpu.largest() / 4 / widest.copied().unwrap_or(1).max(1) as u64;
        (pixels.isqrt() as usize / self.config.decoder_scale()).max(4)
    }
}

/// Numbers as f32 beside `x`.
fn row(numbers: &[f64], x: &Tensor) -> Result<Tensor> {
    let numbers: Vec<f32> = numbers.iter().map(|&n| n as f32).collect();
    Tensor::new(numbers, x.device())
}

#[derive(Clone, Debug)]
struct Encoder {
    patch: usize,
    conv_in: Conv2d,
    blocks: Vec<Block>,
    mid: Mid,
    norm_out: GroupNorm,
    conv_out: Conv2d,
    quant: Option<Conv2d>,
}

#[derive(Clone, Debug)]
struct Decoder {
    patch: usize,
    quant: Option<Conv2d>,
    conv_in: Conv2d,
    mid: Mid,
    blocks: Vec<Block>,
    norm_out: GroupNorm,
    conv_out: Conv2d,
}

#[derive(Clone, Debug)]
struct Block {
    resnets: Vec<ResnetBlock>,
    resample: Option<Conv2d>,
}

impl Block {
    fn resnets(
        p: &Params,
        cin: usize,
        cout: usize,
        n: usize,
        s: ResnetShape,
    ) -> Result<Vec<ResnetBlock>> {
        (0..n)
            .map(|j| {
                let cin = if j == 0 { cin } else { cout };
                ResnetBlock::new(&p.pp("resnets").pp(j), cin, cout, s)
            })
            .collect()
    }

    fn forward<A: Array>(&self, x: &A) -> Result<A> {
        let mut x = x.clone();
        for r in &self.resnets {
            x = r.forward(&x, None)?;
        }
        match &self.resample {
            Some(conv) => conv.forward(&x),
            None => Ok(x),
        }
    }
}

fn resnet_shape(config: &VaeConfig) -> ResnetShape {
    ResnetShape {
        groups: config.norm_num_groups,
        eps: EPS,
        time: None,
    }
}

fn quant(p: &Params, channels: usize, used: bool) -> Result<Option<Conv2d>> {
    match used {
        true => Ok(Some(p.conv2d(
            channels,
            channels,
            1,
            ConvOptions::same(1),
        )?)),
        false => Ok(None),
    }
}

impl Encoder {
    fn new(config: &VaeConfig, root: &Params) -> Result<Self> {
        let p = root.pp("encoder");
        let c = &config.block_out_channels;
        let n = c.len();
        let shape = resnet_shape(config);
        let same = ConvOptions::same(3);
        let moments = 2 * config.latent_channels;
        let mut blocks = Vec::with_capacity(n);
        for i in 0..n {
            let p = p.pp("down_blocks").pp(i);
            let cin = c[i.saturating_sub(1)];
            blocks.push(Block {
                resnets: Block::resnets(&p, cin, c[i], config.layers_per_block, shape)?,
                resample: match i + 1 < n {
                    true => Some(downsampler(&p, c[i], Padding::BottomRight(1))?),
                    false => None,
                },
            });
        }
        Ok(Self {
            patch: config.patch_size,
            conv_in: p.pp("conv_in").conv2d(
                config.in_channels * config.patch_size.pow(2),
                c[0],
                3,
                same,
            )?,
            blocks,
            mid: Mid::new(&p.pp("mid_block"), c[n - 1], config)?,
            norm_out: p
                .pp("conv_norm_out")
                .group_norm(shape.groups, c[n - 1], EPS)?,
            conv_out: p.pp("conv_out").conv2d(c[n - 1], moments, 3, same)?,
            quant: quant(&root.pp("quant_conv"), moments, config.use_quant_conv)?,
        })
    }

    fn forward<A: Array>(&self, x: &A) -> Result<A> {
        let mut x = self.conv_in.forward(&to_patches(x, self.patch)?)?;
        for block in &self.blocks {
            x = block.forward(&x)?;
        }
        let x = self.mid.forward(&x)?;
        let x = self.conv_out.forward(&self.norm_out.forward_silu(&x)?)?;
        match &self.quant {
            Some(conv) => conv.forward(&x),
            None => Ok(x),
        }
    }
}

impl Decoder {
    fn new(config: &VaeConfig, root: &Params) -> Result<Self> {
        let p = root.pp("decoder");
        let c = config.decoder_channels();
        let n = c.len();
        let shape = resnet_shape(config);
        let same = ConvOptions::same(3);
        let latent = config.latent_channels;
        let mut blocks = Vec::with_capacity(n);
        for i in 0..n {
            let p = p.pp("up_blocks").pp(i);
            let level = n - 1 - i;
            let cin = c[(level + 1).min(n - 1)];
            blocks.push(Block {
                resnets: Block::resnets(&p, cin, c[level], config.decoder_blocks(), shape)?,
                resample: match level > 0 {
                    true => Some(upsampler(&p, c[level])?),
                    false => None,
                },
            });
        }
        Ok(Self {
            quant: quant(
                &root.pp("post_quant_conv"),
                latent,
                config.use_post_quant_conv,
            )?,
            patch: config.decoder_patch_size,
            conv_in: p.pp("conv_in").conv2d(latent, c[n - 1], 3, same)?,
            mid: Mid::new(&p.pp("mid_block"), c[n - 1], config)?,
            blocks,
            norm_out: p.pp("conv_norm_out").group_norm(shape.groups, c[0], EPS)?,
            conv_out: p.pp("conv_out").conv2d(
                c[0],
                config.out_channels * config.decoder_patch_size.pow(2),
                3,
                same,
            )?,
        })
    }

    fn forward<A: Array>(&self, z: &A) -> Result<A> {
        let z = match &self.quant {
            Some(conv) => conv.forward(z)?,
            None => z.clone(),
        };
        let mut x = self.mid.forward(&self.conv_in.forward(&z)?)?;
        for block in &self.blocks {
            x = block.forward(&x)?;
        }
        let x = self.conv_out.forward(&self.norm_out.forward_silu(&x)?)?;
        from_patches(&x, self.patch)
    }
}

/// `[B,H,W,C]` to `[B,H/p,W/p,p*p*C]`, each square's pixels row by row.
fn to_patches<A: Array>(x: &A, p: usize) -> Result<A> {
    if p == 1 {
        return Ok(x.clone());
    }
    let [b, h, w, c] = dims_of(x)?;
    if h % p != 0 || w % p != 0 {
        candle_core::bail!("a {w}x{h} picture can't be read in squares of {p} pixels");
    }
    x.reshape(&[b, h / p, p, w / p, p, c])?
        .turn(&[0, 1, 3, 2, 4, 5])?
        .reshape(&[b, h / p, w / p, p * p * c])
}

/// The way back from [`to_patches`].
fn from_patches<A: Array>(x: &A, p: usize) -> Result<A> {
    if p == 1 {
        return Ok(x.clone());
    }
    let [b, h, w, c] = dims_of(x)?;
    x.reshape(&[b, h, w, p, p, c / (p * p)])?
        .turn(&[0, 1, 3, 2, 4, 5])?
        .reshape(&[b, h * p, w * p, c / (p * p)])
}

#[derive(Clone, Debug)]
struct Mid {
    first: ResnetBlock,
    attention: Option<MidAttention>,
    second: ResnetBlock,
}

impl Mid {
    fn new(p: &Params, c: usize, config: &VaeConfig) -> Result<Self> {
        let shape = resnet_shape(config);
        Ok(Self {
            first: ResnetBlock::new(&p.pp("resnets.0"), c, c, shape)?,
            attention: match config.mid_block_add_attention {
                true => Some(MidAttention::new(
                    &p.pp("attentions.0"),
                    c,
                    config.norm_num_groups,
                )?),
                false => None,
            },
            second: ResnetBlock::new(&p.pp("resnets.1"), c, c, shape)?,
        })
    }

    fn forward<A: Array>(&self, x: &A) -> Result<A> {
        let mut x = self.first.forward(x, None)?;
        if let Some(a) = &self.attention {
            x = a.forward(&x)?;
        }
        self.second.forward(&x, None)
    }
}

/// Attention with one head among all places.
#[derive(Clone, Debug)]
struct MidAttention {
    norm: GroupNorm,
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
}

impl MidAttention {
    fn new(p: &Params, c: usize, groups: usize) -> Result<Self> {
        // The public Stable Diffusion files have the first names, newer diffusers the second.
        let names = match p.contains("query.weight") && !p.contains("to_q.weight") {
            true => ["query", "key", "value", "proj_attn"],
            false => ["to_q", "to_k", "to_v", "to_out.0"],
        };
        Ok(Self {
            norm: p.pp("group_norm").group_norm(groups, c, EPS)?,
            q: p.pp(names[0]).linear(c, c, true)?,
            k: p.pp(names[1]).linear(c, c, true)?,
            v: p.pp(names[2]).linear(c, c, true)?,
            out: p.pp(names[3]).linear_init(c, c, true, Init::Zeros)?,
        })
    }

    fn forward<A: Array>(&self, x: &A) -> Result<A> {
        let [b, h, w, c] = dims_of(x)?;
        let y = self.norm.forward(x)?.reshape(&[b, h * w, c])?;
        let (q, k, v) = (
            self.q.forward(&y)?,
            self.k.forward(&y)?,
            self.v.forward(&y)?,
        );
        let seen = q.attention(&k, &v, (1, 1), &Mask::None)?;
        let seen = seen.reshape(&[b, h, w, c])?;
        self.out.forward_plus(&seen, x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    #[test]
    fn patches_come_back_as_they_went() {
        let x = Tensor::arange(0f32, 2.0 * 4.0 * 6.0 * 3.0, &Device::Cpu)
            .unwrap()
            .reshape((2, 4, 6, 3))
            .unwrap();
        let patches = to_patches(&x, 2).unwrap();
        assert_eq!(patches.dims(), [2, 2, 3, 12]);
        // The first square holds the first two pixels of the first two rows.
        let first: Vec<f32> = patches
            .flatten_all()
            .unwrap()
            .narrow(0, 0, 12)
            .unwrap()
            .to_vec1()
            .unwrap();
        assert_eq!(
            first,
            [0., 1., 2., 3., 4., 5., 18., 19., 20., 21., 22., 23.]
        );
        let back = from_patches(&patches, 2).unwrap();
        let apart = (back - &x).unwrap().abs().unwrap().sum_all().unwrap();
        assert_eq!(apart.to_scalar::<f32>().unwrap(), 0.0);
        assert!(to_patches(&x, 4).is_err());
    }

    #[test]
    fn patches_change_the_scales_and_not_the_tensors_names() {
        let config = VaeConfig {
            block_out_channels: vec![8, 8],
            norm_num_groups: 2,
            mid_block_add_attention: false,
            patch_size: 2,
            decoder_patch_size: 4,
            ..VaeConfig::default()
        };
        assert_eq!((config.encoder_scale(), config.decoder_scale()), (4, 8));
        let vae = Vae::new(config, Params::init(0, &Device::Cpu)).unwrap();
        let x = Tensor::zeros((1, 16, 16, 3), DType::F32, &Device::Cpu).unwrap();
        let latents = vae.encode(&x).unwrap().mean;
        assert_eq!(latents.dims(), [1, 4, 4, 4]);
        assert_eq!(vae.decode(&latents).unwrap().dims(), [1, 32, 32, 3]);
    }
}
