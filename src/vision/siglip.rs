//! Gemma 3's vision tower: SigLIP's vision transformer (arXiv 2303.15343; reference: transformers
//! `modeling_siglip.py` and `modeling_gemma3.py`), whose tokens are averaged over squares, normed
//! and projected into the language model's space. Names of tensors are llama.cpp's.

use std::ops::ControlFlow;

use candle_core::Tensor;

use crate::nn::gpu::{Gpu, GpuTensor};
use crate::nn::{
    ActivationFunction, Array, Conv2d, ConvOptions, Init, LayerNorm, Linear, Mask, Padding, Params,
    Result, RmsNorm, dims_of,
};

/// Sizes of the tower.
#[derive(Clone, Debug, PartialEq)]
pub struct SiglipConfig {
    /// Pixels a side of the pictures that are read.
    pub image_size: usize,
    /// Pixels a side of a patch.
    pub patch_size: usize,
    /// Width of the hidden states.
    pub hidden: usize,
    /// Width inside the feed-forward part.
    pub inner: usize,
    /// Transformer layers.
    pub depth: usize,
    /// Attention heads.
    pub heads: usize,
    /// Epsilon of the norms.
    pub epsilon: f64,
    /// Patches a side that are averaged.
    pub pool: usize,
    /// Width of the language model.
    pub projection: usize,
}

impl SiglipConfig {
    /// Patches a side.
    pub fn grid(&self) -> usize {
        self.image_size / self.patch_size
    }

    /// Embeddings of a picture.
    pub fn tokens(&self) -> usize {
        let side = self.grid() / self.pool;
        side * side
    }

    /// # Errors
    /// The first size that doesn't fit the others, in words.
    pub fn check(&self) -> std::result::Result<(), String> {
        let whole = |n: usize, by: usize| by > 0 && n > 0 && n.is_multiple_of(by);
        let fits = [
            (
                whole(self.image_size, self.patch_size) && self.image_size <= 1 << 12,
                "image_size",
            ),
            (
                self.patch_size > 0 && whole(self.grid(), self.pool),
                "projector.scale_factor",
            ),
            (
                whole(self.hidden, self.heads) && self.hidden <= 1 << 14,
                "attention.head_count",
            ),
            ((1..=1 << 16).contains(&self.inner), "feed_forward_length"),
            ((1..=1 << 8).contains(&self.depth), "block_count"),
            ((1..=1 << 16).contains(&self.projection), "projection_dim"),
            (
                self.epsilon > 0.0 && self.epsilon.is_finite(),
                "attention.layer_norm_epsilon",
            ),
        ];
        match fits.iter().find(|(fits, _)| !fits) {
            Some((_, key)) => Err(format!(
                "its clip.vision.{key} does not fit its other sizes"
            )),
            None => Ok(()),
        }
    }
}

/// Pictures `[B,S,S,3]` to embeddings `[B,tokens,projection]`.
pub struct Siglip {
    config: SiglipConfig,
    patches: Conv2d,
    /// `[1,patches,C]`.
    positions: Tensor,
    blocks: Vec<Block>,
    norm: LayerNorm,
    soft_norm: RmsNorm,
    projection: Linear,
    gpu: Option<Gpu>,
}

impl Siglip {
    /// `blocks` are the same tensors, held as those of the transformer's blocks are to be.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub fn new(config: SiglipConfig, p: &Params, blocks: &Params) -> Result<Self> {
        let (c, vision) = (config.hidden, p.pp("v"));
        let options = ConvOptions {
            stride: config.patch_size,
            padding: Padding::Zeros(0),
            upsample: false,
        };
        let count = config.grid() * config.grid();
        let positions = vision.tensor(&[count, c], "position_embd.weight", Init::Normal(0.02))?;
        let projection = p.tensor(
            &[c, config.projection],
            "mm.input_projection.weight",
            Init::Normal(0.02),
        )?;
        Ok(Self {
            patches: vision
                .pp("patch_embd")
                .conv2d(3, c, config.patch_size, options)?,
            positions: positions.unsqueeze(0)?,
            blocks: (0..config.depth)
                .map(|index| Block::new(&config, &blocks.pp("v.blk").pp(index)))
                .collect::<Result<_>>()?,
            norm: vision.pp("post_ln").layer_norm(c, config.epsilon)?,
            // The file's weight holds the "+1" of Gemma's norms.
            soft_norm: p.pp("mm.soft_emb_norm").rms_norm(c, config.epsilon)?,
            projection: match p.gpu() {
                Some(gpu) => Linear::new(projection, None).placed(gpu)?,
                None => Linear::new(projection, None),
            },
            gpu: p.gpu().cloned(),
            config,
        })
    }

    /// `pictures [B,S,S,3]`, normalised; `go_on` is asked before each block, and when it breaks,
    /// the result is `None`.
    ///
    /// # Errors
    /// Pictures of another size.
    pub fn forward(
        &self,
        pictures: &Tensor,
        go_on: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Option<Tensor>> {
        let Some(gpu) = &self.gpu else {
            return self.embed(pictures, go_on);
        };
        let seen = self.embed(&GpuTensor::upload(gpu, pictures)?, go_on)?;
        let seen = seen.map(|seen| seen.download()).transpose();
        gpu.trim();
        seen
    }

    fn embed<A: Array>(
        &self,
        pictures: &A,
        go_on: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Option<A>> {
        let x = self.patches.forward(pictures)?;
        let [b, h, w, c] = dims_of(&x)?;
        let positions = x.beside(&self.positions)?;
        let mut x = x.reshape(&[b, h * w, c])?.plus(&positions)?;
        for block in &self.blocks {
            if go_on().is_break() {
                return Ok(None);
            }
            x = block.forward(&x)?;
        }
        let x = self.norm.forward(&x)?;
        let (side, pool) = (self.config.grid() / self.config.pool, self.config.pool);
        let x = averaged(&x.reshape(&[b * side, pool, side * pool * c])?)?;
        let x = averaged(&x.reshape(&[b * side * side, pool, c])?)?;
        let x = self.soft_norm.forward(&x.reshape(&[b, side * side, c])?)?;
        self.projection.forward(&x).map(Some)
    }
}

/// The mean over the middle axis.
fn averaged<A: Array>(x: &A) -> Result<A> {
    let [_, count, _] = dims_of(x)?;
    let mut sum = x.cut(1, 0, 1)?;
    for at in 1..count {
        sum = sum.plus(&x.cut(1, at, 1)?)?;
    }
    sum.scaled(1.0 / count as f64)
}

struct Block {
    norm1: LayerNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    norm2: LayerNorm,
    widen: Linear,
    narrow: Linear,
    heads: usize,
}

impl Block {
    fn new(config: &SiglipConfig, p: &Params) -> Result<Self> {
        let (c, inner) = (config.hidden, config.inner);
        let square = |name: &str| p.pp(name).linear(c, c, true);
        // Converters of early 2025 had the names of the two the other way round.
        let swapped = c != inner && p.shape("ffn_up.weight") == Some(vec![c, inner]);
        let (widen, narrow) = match swapped {
            true => ("ffn_down", "ffn_up"),
            false => ("ffn_up", "ffn_down"),
        };
        Ok(Self {
            norm1: p.pp("ln1").layer_norm(c, config.epsilon)?,
            query: square("attn_q")?,
            key: square("attn_k")?,
            value: square("attn_v")?,
            out: square("attn_out")?,
            norm2: p.pp("ln2").layer_norm(c, config.epsilon)?,
            widen: p.pp(widen).linear(c, inner, true)?,
            narrow: p.pp(narrow).linear(inner, c, true)?,
            heads: config.heads,
        })
    }

    fn forward<A: Array>(&self, x: &A) -> Result<A> {
        let normed = self.norm1.forward(x)?;
        let (q, k) = (self.query.forward(&normed)?, self.key.forward(&normed)?);
        let v = self.value.forward(&normed)?;
        let seen = q.attention(&k, &v, (self.heads, self.heads), &Mask::None)?;
        let x = self.out.forward_plus(&seen, x)?;
        let n = self.norm2.forward(&x)?;
        let wide = self
            .widen
            .forward_activated(&n, ActivationFunction::GeluTanh)?;
        self.narrow.forward_plus(&wide, &x)
    }
}
