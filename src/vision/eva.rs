//! EVA-CLIP's vision transformer (`eva_vit_g.pth`; reference: LAVIS `eva_vit.py`), without its
//! last block, norm and head.

use super::EvaConfig;
use crate::nn::{
    ActivationFunction, Array, Conv2d, ConvOptions, Init, LayerNorm, Linear, Mask, Padding, Params,
    Result, dims_of,
};
use candle_core::Tensor;

/// Pictures `[B,H,W,3]` to tokens `[B,1+patches,C]`.
#[derive(Clone, Debug)]
pub struct Eva {
    patches: Conv2d,
    class: Tensor,
    /// `[1,1+patches,C]`.
    positions: Tensor,
    blocks: Vec<Block>,
}

impl Eva {
    /// `image_size` are the pixels a side that are read; where the file was made for another
    /// size, its position embeddings are resized (bicubic, as the reference does).
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub fn new(config: &EvaConfig, image_size: usize, p: &Params) -> Result<Self> {
        let c = config.embed_dim;
        let side = image_size / config.patch_size;
        let patches = ConvOptions {
            stride: config.patch_size,
            padding: Padding::Zeros(0),
            upsample: false,
        };
        let stored = p.shape("pos_embed").unwrap_or(vec![1, 1 + side * side, c]);
        let positions = p.tensor(&stored, "pos_embed", Init::Normal(0.02))?;
        Ok(Self {
            patches: p
                .pp("patch_embed.proj")
                .conv2d(3, c, config.patch_size, patches)?,
            class: p.tensor(&[1, 1, c], "cls_token", Init::Normal(0.02))?,
            positions: resize_positions(&positions, side, c)?,
            blocks: (0..config.depth)
                .map(|i| Block::new(config, &p.pp("blocks").pp(i)))
                .collect::<Result<_>>()?,
        })
    }

    /// The picture's patches with class token and positions, `[B,1+patches,C]`.
    pub fn embed<A: Array>(&self, pictures: &A) -> Result<A> {
        let x = self.patches.forward(pictures)?;
        let [b, h, w, c] = dims_of(&x)?;
        let x = x.reshape(&[b, h * w, c])?;
        if h * w + 1 != self.positions.dim(1)? {
            candle_core::bail!(
                "pictures of {h} x {w} patches don't fit the vision transformer's {} positions",
                self.positions.dim(1)? - 1
            );
        }
        let class = x.beside(&self.class)?.repeat_to(&[b, 1, c])?;
        A::join(&[&class, &x], 1)?.plus(&x.beside(&self.positions)?)
    }

    /// The tokens after each block, first to last.
    pub fn states(&self, pictures: &Tensor) -> Result<Vec<Tensor>> {
        let mut x = self.embed(pictures)?;
        self.blocks
            .iter()
            .map(|block| {
                x = block.forward(&x)?;
                Ok(x.clone())
            })
            .collect()
    }

    /// The tokens after the last block, without a norm.
    pub fn forward<A: Array>(&self, pictures: &A) -> Result<A> {
        let x = self.embed(pictures)?;
        self.blocks.iter().try_fold(x, |x, block| block.forward(&x))
    }
}

#[derive(Clone, Debug)]
struct Block {
    norm1: LayerNorm,
    qkv: Linear,
    /// Keys have no bias.
    query_bias: Tensor,
    value_bias: Tensor,
    out: Linear,
    norm2: LayerNorm,
    widen: Linear,
    narrow: Linear,
    heads: usize,
}

impl Block {
    fn new(config: &EvaConfig, p: &Params) -> Result<Self> {
        let (c, hidden, eps) = (config.embed_dim, config.mlp_hidden, config.layer_norm_eps);
        let a = p.pp("attn");
        Ok(Self {
            norm1: p.pp("norm1").layer_norm(c, eps)?,
            qkv: a.pp("qkv").linear(c, 3 * c, false)?,
            query_bias: a.tensor(&[c], "q_bias", Init::Zeros)?,
            value_bias: a.tensor(&[c], "v_bias", Init::Zeros)?,
            out: a.pp("proj").linear(c, c, true)?,
            norm2: p.pp("norm2").layer_norm(c, eps)?,
            widen: p.pp("mlp.fc1").linear(c, hidden, true)?,
            narrow: p.pp("mlp.fc2").linear(hidden, c, true)?,
            heads: config.num_heads,
        })
    }

    fn forward<A: Array>(&self, x: &A) -> Result<A> {
        let qkv = self.qkv.forward(&self.norm1.forward(x)?)?;
        let c = self.query_bias.dim(0)?;
        let part = |i: usize| qkv.cut(2, i * c, c);
        let q = part(0)?.plus(&x.beside(&self.query_bias)?)?;
        let v = part(2)?.plus(&x.beside(&self.value_bias)?)?;
        let seen = q.attention(&part(1)?, &v, (self.heads, self.heads), &Mask::None)?;
        let x = self.out.forward_plus(&seen, x)?;
        let n = self.norm2.forward(&x)?;
        let wide = self.widen.forward_activated(&n, ActivationFunction::Gelu)?;
        self.narrow.forward_plus(&wide, &x)
    }
}

/// The positions of a grid of patches resized to `side` x `side`; the class token's stays.
fn resize_positions(positions: &Tensor, side: usize, c: usize) -> Result<Tensor> {
    let count = positions.dim(1)?.saturating_sub(1);
    let from = count.isqrt();
    if from == side && count == side * side {
        return Ok(positions.clone());
    }
    if from == 0 || from * from != count {
        candle_core::bail!(
            "the vision transformer's {count} positions are no square grid; get its file again"
        );
    }
    let grid = positions.narrow(1, 1, count)?.reshape((from, from * c))?;
    let m = cubic(from, side, positions)?;
    // Columns of the grid, then its rows.
    let rows = m.matmul(&grid)?.reshape((side, from, c))?;
    let rows = rows
        .transpose(0, 1)?
        .contiguous()?
        .reshape((from, side * c))?;
    let both = m.matmul(&rows)?.reshape((side, side, c))?;
    let grid = both
        .transpose(0, 1)?
        .contiguous()?
        .reshape((1, side * side, c))?;
    Tensor::cat(&[&positions.narrow(1, 0, 1)?, &grid], 1)
}

/// PyTorch's bicubic interpolation (a = -0.75, corners not aligned, edges repeated) as a matrix
/// `[to,from]`.
fn cubic(from: usize, to: usize, like: &Tensor) -> Result<Tensor> {
    const A: f64 = -0.75;
    let near = |x: f64| ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0;
    let far = |x: f64| ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A;
    let mut m = vec![0f32; to * from];
    for i in 0..to {
        let at = (i as f64 + 0.5) * from as f64 / to as f64 - 0.5;
        let t = at - at.floor();
        let weights = [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)];
        for (k, weight) in weights.into_iter().enumerate() {
            let place = at.floor() as i64 + k as i64 - 1;
            let place = place.clamp(0, from as i64 - 1) as usize;
            m[i * from + place] += weight as f32;
        }
    }
    Tensor::from_vec(m, (to, from), like.device())
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn a_grid_of_positions_is_resized_with_pytorchs_cubic_weights() {
        // With a = -0.75 a ramp bends: a quarter of the way becomes 0.296875 of it.
        let from = 6;
        let ramp: Vec<f32> = std::iter::once(9.0)
            .chain((0..36).map(|i| (i / from) as f32 * 10.0 + (i % from) as f32))
            .collect();
        let positions = Tensor::from_vec(ramp, (1, 37, 1), &Device::Cpu).unwrap();
        let twice = resize_positions(&positions, 12, 1).unwrap();
        let v = twice.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!((v.len(), v[0]), (145, 9.0));
        let at = |y: usize, x: usize| v[1 + y * 12 + x];
        for (y, x) in [(4, 5), (6, 7), (5, 4)] {
            let along = |i: usize| {
                let place = i as f32 / 2.0 - 0.25;
                let bent = if place.fract() > 0.5 {
                    0.703_125
                } else {
                    0.296_875
                };
                place.floor() + bent
            };
            let want = along(y) * 10.0 + along(x);
            assert!((at(y, x) - want).abs() < 1e-4, "{} {want}", at(y, x));
        }
    }
}
