//! diffusers' `ControlNetModel`: a copy of a UNet's first half that reads a picture, and whose
//! pictures are added to those of the UNet (arXiv 2302.05543).

use super::blocks::{Builder, MidBlock, UnetBlock, go_down};
use super::embedding::TimeEmbedding;
use super::transformer::{AttentionContext, ReferenceAttention};
use super::{Conditioning, UnetConfig, UpBlockKind};
use crate::nn::gpu::{Gpu, GpuTensor};
use crate::nn::{
    ActivationFunction, Array, Conv2d, ConvOptions, Params, Result, StoredArray, dims_of,
};
use candle_core::Tensor;
use serde::{Deserialize, Serialize};

/// diffusers' `ControlNetModel` configuration: that of its half of a UNet, and of what reads the
/// picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ControlNetConfig {
    /// Channels of the convolutions that read the picture, from the first.
    #[serde(default = "usual_channels")]
    pub conditioning_embedding_out_channels: Vec<usize>,
    /// Channels of the picture.
    #[serde(default = "three")]
    pub conditioning_channels: usize,
    /// Guesses what the picture shows; changes nothing while it is off.
    #[serde(default)]
    pub global_pool_conditions: bool,
    /// The UNet whose first half it copies.
    #[serde(flatten)]
    pub unet: UnetConfig,
}

impl ControlNetConfig {
    /// That of the published ControlNets for a UNet like this one.
    pub fn usual(unet: UnetConfig) -> Self {
        Self {
            conditioning_embedding_out_channels: usual_channels(),
            conditioning_channels: three(),
            global_pool_conditions: false,
            unet,
        }
    }
}

fn usual_channels() -> Vec<usize> {
    vec![16, 32, 96, 256]
}

fn three() -> usize {
    3
}

/// A ControlNet's residuals, which are added to the UNet's skip connections and to its middle
/// block.
#[derive(Clone, Debug)]
pub struct Residuals {
    /// Each `[B,h,w,C]`, in the order of the way down.
    pub down: Vec<StoredArray>,
    /// That of the middle block, `[B,h,w,C]`.
    pub mid: StoredArray,
}

impl Residuals {
    /// The sum of the residuals of two ControlNets.
    ///
    /// # Errors
    /// Shapes that don't fit each other.
    pub fn plus(&self, other: &Self) -> Result<Self> {
        let both = self.down.iter().zip(&other.down);
        Ok(Self {
            down: both.map(|(a, b)| a.plus(b)).collect::<Result<_>>()?,
            mid: self.mid.plus(&other.mid)?,
        })
    }

    /// Adds the pictures of the way down to `kept`, and that of the middle to `x`.
    pub(super) fn add<A: Array>(&self, x: &A, kept: &mut [A]) -> Result<A> {
        if kept.len() != self.down.len() {
            candle_core::bail!(
                "the ControlNet has {} pictures for the UNet's {}; use one made for this model",
                self.down.len(),
                kept.len()
            );
        }
        for (kept, more) in kept.iter_mut().zip(&self.down) {
            *kept = kept.plus(&kept.beside_held(more)?)?;
        }
        x.plus(&x.beside_held(&self.mid)?)
    }
}

/// A ControlNet, loaded.
#[derive(Clone, Debug)]
pub struct ControlNet {
    config: ControlNetConfig,
    conv_in: Conv2d,
    embedding: TimeEmbedding,
    down: Vec<UnetBlock>,
    mid: MidBlock,
    /// What reads the picture: all but the last are followed by a SiLU.
    reader: Vec<Conv2d>,
    down_out: Vec<Conv2d>,
    mid_out: Conv2d,
    gpu: Option<Gpu>,
}

impl ControlNet {
    /// # Errors
    /// A configuration that isn't supported, or a tensor that is missing or has another shape.
    pub fn new(mut config: ControlNetConfig, p: Params) -> Result<Self> {
        // It has no way up.
        config.unet.up_block_types =
            vec![UpBlockKind::UpBlock2D; config.unet.down_block_types.len()];
        config.unet.check()?;
        if config.global_pool_conditions {
            candle_core::bail!("the ControlNet's global_pool_conditions isn't supported");
        }
        let c = &config.unet.block_out_channels;
        let widths = &config.conditioning_embedding_out_channels;
        let (Some(&narrow), Some(&wide)) = (widths.first(), widths.last()) else {
            candle_core::bail!("the ControlNet's conditioning_embedding_out_channels are none");
        };
        let same = ConvOptions::same(3);
        let halved = ConvOptions { stride: 2, ..same };
        let e = p.pp("controlnet_cond_embedding");
        let mut reader =
            vec![
                e.pp("conv_in")
                    .conv2d(config.conditioning_channels, narrow, 3, same)?,
            ];
        for (i, pair) in widths.windows(2).enumerate() {
            let block = |j: usize| e.pp("blocks").pp(j);
            reader.push(block(2 * i).conv2d(pair[0], pair[0], 3, same)?);
            reader.push(block(2 * i + 1).conv2d(pair[0], pair[1], 3, halved)?);
        }
        reader.push(e.pp("conv_out").conv2d(wide, c[0], 3, same)?);

        let mut kept = vec![c[0]];
        for (i, &channels) in c.iter().enumerate() {
            let more = usize::from(i + 1 < c.len());
            kept.extend(vec![channels; config.unet.layers_per_block + more]);
        }
        let one = ConvOptions::same(1);
        let down_out = kept
            .iter()
            .enumerate()
            .map(|(i, &n)| p.pp("controlnet_down_blocks").pp(i).conv2d(n, n, 1, one))
            .collect::<Result<_>>()?;
        let last = c[c.len() - 1];
        let builder = Builder::new(&config.unet);
        Ok(Self {
            conv_in: p
                .pp("conv_in")
                .conv2d(config.unet.in_channels, c[0], 3, same)?,
            embedding: TimeEmbedding::new(&config.unet, &p)?,
            down: builder.down(&p)?,
            mid: builder.mid(&p)?,
            reader,
            down_out,
            mid_out: p.pp("controlnet_mid_block").conv2d(last, last, 1, one)?,
            gpu: p.gpu().cloned(),
            config,
        })
    }

    /// Configuration that it was built with.
    pub fn config(&self) -> &ControlNetConfig {
        &self.config
    }

    /// Pixels of the picture per latent, along one side.
    pub fn picture_scale(&self) -> usize {
        1 << (self.config.conditioning_embedding_out_channels.len() - 1)
    }

    /// What to add to a UNet's pictures for `latents [B,h,w,in]` at `timesteps [B]`, where
    /// `picture [1 or B,H,W,3]` in 0..1 is to be followed, `scale` times.
    ///
    /// # Errors
    /// Shapes that don't fit.
    pub fn forward(
        &self,
        latents: &Tensor,
        timesteps: &Tensor,
        conditioning: &Conditioning,
        picture: &Tensor,
        scale: f64,
    ) -> Result<Residuals> {
        match &self.gpu {
            None => self.read(latents, timesteps, conditioning, picture, scale),
            Some(gpu) => {
                let latents = GpuTensor::upload(gpu, latents)?;
                self.read(&latents, timesteps, conditioning, picture, scale)
            }
        }
    }

    fn read<A: Array>(
        &self,
        latents: &A,
        timesteps: &Tensor,
        conditioning: &Conditioning,
        picture: &Tensor,
        scale: f64,
    ) -> Result<Residuals> {
        let time = self
            .embedding
            .forward(latents, timesteps, conditioning, false)?;
        let seen = AttentionContext {
            text: &latents.beside(&conditioning.text)?,
            image: None,
            beside: ReferenceAttention::Nothing,
            placed: None,
        };
        let mut read = latents.beside(picture)?;
        for (i, conv) in self.reader.iter().enumerate() {
            read = match i + 1 < self.reader.len() {
                true => conv.forward_activated(&read, ActivationFunction::Silu)?,
                false => conv.forward(&read)?,
            };
        }
        let x = self.conv_in.forward(latents)?;
        if read.dims()[1..] != x.dims()[1..] {
            let factor = self.picture_scale();
            let [_, h, w, _] = dims_of(&x)?;
            candle_core::bail!(
                "the picture to follow must be {}x{} pixels for this size; resize it",
                w * factor,
                h * factor
            );
        }
        let x = x.plus(&read)?;
        let (x, kept) = go_down(&self.down, x, &time, seen)?;
        let x = self.mid.forward(&x, &time, seen)?;
        let down = kept
            .iter()
            .zip(&self.down_out)
            .map(|(x, conv)| Ok(conv.forward(x)?.scaled(scale)?.hold()))
            .collect::<Result<_>>()?;
        Ok(Residuals {
            down,
            mid: self.mid_out.forward(&x)?.scaled(scale)?.hold(),
        })
    }
}
