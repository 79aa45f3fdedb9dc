//! transformers' `CLIPVisionModelWithProjection`: pictures to embeddings.

use super::settings::{UnknownSettings, read_others};
use super::text::{ClipLayer, ClipLayerShape, TextActivation};
use crate::nn::gpu::{Gpu, GpuTensor};
use crate::nn::{
    Array, Conv2d, ConvOptions, Init, LayerNorm, Linear, Padding, Params, Result, dims_of,
};
use crate::resample::{Filter, resize_rows_first};
use candle_core::{Device, Tensor};
use image::RgbImage;
use serde::Deserialize;
use std::collections::BTreeMap;

/// CLIP's mean and standard deviation of the colours.
const MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const STD: [f32; 3] = [0.268_629_55, 0.261_302_6, 0.275_777_1];

/// transformers' `CLIPVisionConfig`: the settings we read, under its names.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct ClipVisionConfig {
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Width inside the feed-forward part.
    pub intermediate_size: usize,
    /// Transformer layers.
    pub num_hidden_layers: usize,
    /// Attention heads.
    pub num_attention_heads: usize,
    /// Pixels a side of the pictures that are read.
    pub image_size: usize,
    /// Pixels a side of a patch.
    pub patch_size: usize,
    /// Width of the projected embedding.
    pub projection_dim: usize,
    /// Channels of the pictures.
    pub num_channels: usize,
    /// Activation of the feed-forward part.
    pub hidden_act: TextActivation,
    /// Epsilon of layer norm.
    pub layer_norm_eps: f64,
    /// What the file says beyond this.
    #[serde(flatten, deserialize_with = "read_others")]
    pub others: UnknownSettings,
}

impl Default for ClipVisionConfig {
    /// transformers' defaults, which a file may leave out.
    fn default() -> Self {
        Self {
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            image_size: 224,
            patch_size: 32,
            projection_dim: 512,
            num_channels: 3,
            hidden_act: TextActivation::QuickGelu,
            layer_norm_eps: 1e-5,
            others: UnknownSettings::new(),
        }
    }
}

impl ClipVisionConfig {
    /// The configuration of a published encoder, recognised by the names and shapes of its tensors.
    pub fn of_shapes(shapes: &BTreeMap<String, Vec<usize>>) -> Option<Self> {
        let shape = |name: &str| shapes.get(name);
        let patches = shape("vision_model.embeddings.patch_embedding.weight")?;
        let (width, patch) = (*patches.first()?, *patches.get(2)?);
        let positions = shape("vision_model.embeddings.position_embedding.weight")?;
        let inner = shape("vision_model.encoder.layers.0.mlp.fc1.weight")?;
        let side = (positions.first()?.checked_sub(1)?).isqrt();
        let layers = (0..)
            .take_while(|i| {
                let name = format!("vision_model.encoder.layers.{i}.layer_norm1.weight");
                shapes.contains_key(&name)
            })
            .count();
        Some(Self {
            hidden_size: width,
            intermediate_size: *inner.first()?,
            num_hidden_layers: layers,
            num_attention_heads: if width == 768 { 12 } else { 16 },
            image_size: side * patch,
            patch_size: patch,
            projection_dim: *shape("visual_projection.weight")?.first()?,
            // OpenAI's are up to 1024 wide, OpenCLIP's are wider.
            hidden_act: match width > 1024 {
                true => TextActivation::Gelu,
                false => TextActivation::QuickGelu,
            },
            ..Self::default()
        })
    }
}

/// CLIP's vision transformer with its projection.
#[derive(Clone, Debug)]
pub struct ClipVision {
    config: ClipVisionConfig,
    patches: Conv2d,
    /// `[1,1,C]`.
    class: Tensor,
    /// `[1,1+patches,C]`.
    positions: Tensor,
    before: LayerNorm,
    layers: Vec<ClipLayer>,
    after: LayerNorm,
    projection: Linear,
    gpu: Option<Gpu>,
}

impl ClipVision {
    /// # Errors
    /// A configuration that doesn't fit, or a tensor that is missing or has another shape.
    pub fn new(config: ClipVisionConfig, p: Params) -> Result<Self> {
        let (c, patch, heads) = (
            config.hidden_size,
            config.patch_size,
            config.num_attention_heads,
        );
        if patch == 0 || heads == 0 || c % heads != 0 || !config.image_size.is_multiple_of(patch) {
            candle_core::bail!("the image encoder's sizes don't fit each other");
        }
        let count = 1 + (config.image_size / patch).pow(2);
        let root = p.pp("vision_model");
        let e = root.pp("embeddings");
        let kernel = e.pp("patch_embedding").tensor(
            &[c, config.num_channels, patch, patch],
            "weight",
            Init::Normal(0.02),
        )?;
        let options = ConvOptions {
            stride: patch,
            padding: Padding::Zeros(0),
            upsample: false,
        };
        let shape = ClipLayerShape {
            width: c,
            inner: config.intermediate_size,
            heads,
            act: config.hidden_act,
            eps: config.layer_norm_eps,
        };
        let positions =
            e.pp("position_embedding")
                .tensor(&[count, c], "weight", Init::Normal(0.02))?;
        let gpu = p.gpu().cloned();
        let built = Self {
            patches: Conv2d::new(kernel.permute((2, 3, 1, 0))?.contiguous()?, None, options),
            class: e
                .tensor(&[c], "class_embedding", Init::Normal(0.02))?
                .reshape((1, 1, c))?,
            positions: positions.unsqueeze(0)?,
            before: root
                // So it is spelt in every file.
                .pp("pre_layrnorm")
                .layer_norm(c, config.layer_norm_eps)?,
            layers: (0..config.num_hidden_layers)
                .map(|i| ClipLayer::new(&root.pp("encoder.layers").pp(i), shape))
                .collect::<Result<_>>()?,
            after: root
                .pp("post_layernorm")
                .layer_norm(c, config.layer_norm_eps)?,
            projection: p
                .pp("visual_projection")
                .linear(c, config.projection_dim, false)?,
            gpu: None,
            config,
        };
        built.placed(gpu.as_ref())
    }

    /// Configuration that it was built with.
    pub fn config(&self) -> &ClipVisionConfig {
        &self.config
    }

    /// The picture as the image encoder reads it, `[1,S,S,3]`: the shorter side resized, the middle
    /// cut out, colours normalised.
    ///
    /// # Errors
    /// A picture without pixels.
    pub fn pixels(&self, picture: &RgbImage, device: &Device) -> Result<Tensor> {
        let side = self.config.image_size as u32;
        let (w, h) = picture.dimensions();
        if w == 0 || h == 0 {
            candle_core::bail!("the picture has no pixels");
        }
        // The longer side is rounded down, as transformers does.
        let longer =
            |long: u32, short: u32| (u64::from(side) * u64::from(long) / u64::from(short)) as u32;
        let (w, h) = if w <= h {
            (side, longer(h, w))
        } else {
            (longer(w, h), side)
        };
        let scaled = resize_rows_first(picture, w, h, Filter::Bicubic);
        let (left, top) = ((w - side) / 2, (h - side) / 2);
        let square = image::imageops::crop_imm(&scaled, left, top, side, side).to_image();
        let values: Vec<f32> = square
            .pixels()
            .flat_map(|p| [0, 1, 2].map(|c| (f32::from(p.0[c]) / 255.0 - MEAN[c]) / STD[c]))
            .collect();
        let side = side as usize;
        Tensor::from_vec(values, (1, side, side, 3), device)
    }

    /// Has it compute on a GPU from now on.
    ///
    /// # Errors
    /// A GPU that is lost or short of memory.
    fn placed(self, gpu: Option<&Gpu>) -> Result<Self> {
        Ok(match gpu {
            Some(gpu) => Self {
                patches: self.patches.placed(gpu)?,
                gpu: Some(gpu.clone()),
                ..self
            },
            None => self,
        })
    }

    /// `pictures [B,S,S,3]`, normalised -> the states after all layers but the last `back`,
    /// `[B,1+patches,C]`, without a norm.
    ///
    /// # Errors
    /// Pictures of another size.
    pub fn states(&self, pictures: &Tensor, back: usize) -> Result<Tensor> {
        match &self.gpu {
            None => self.layered(pictures, back),
            Some(gpu) => self
                .layered(&GpuTensor::upload(gpu, pictures)?, back)?
                .download(),
        }
    }

    fn layered<A: Array>(&self, pictures: &A, back: usize) -> Result<A> {
        let [b, h, w, _] = dims_of(pictures)?;
        let side = self.config.image_size;
        if (h, w) != (side, side) {
            candle_core::bail!("the image encoder reads {side}x{side} pixels, not {w}x{h}");
        }
        let c = self.config.hidden_size;
        let patches = (side / self.config.patch_size).pow(2);
        let x = self.patches.forward(pictures)?.reshape(&[b, patches, c])?;
        let class = x.beside(&self.class)?.repeat_to(&[b, 1, c])?;
        let x = A::join(&[&class, &x], 1)?.plus(&x.beside(&self.positions)?)?;
        let mut x = self.before.forward(&x)?;
        for layer in &self.layers[..self.layers.len().saturating_sub(back)] {
            x = layer.forward_all(&x)?;
        }
        Ok(x)
    }

    /// `pictures [B,S,S,3]`, normalised -> one embedding each, `[B,projection_dim]`.
    ///
    /// # Errors
    /// Pictures of another size.
    pub fn embed(&self, pictures: &Tensor) -> Result<Tensor> {
        match &self.gpu {
            None => self.embedded(pictures),
            Some(gpu) => self
                .embedded(&GpuTensor::upload(gpu, pictures)?)?
                .download(),
        }
    }

    fn embedded<A: Array>(&self, pictures: &A) -> Result<A> {
        let states = self.layered(pictures, 0)?;
        let [b, _, c] = dims_of(&states)?;
        let class = states.cut(1, 0, 1)?.reshape(&[b, c])?;
        self.projection.forward(&self.after.forward(&class)?)
    }
}
