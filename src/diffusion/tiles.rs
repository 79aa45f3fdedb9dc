//! Decoding large pictures piece by piece, so that memory stays bounded.

use crate::nn::Result;
use candle_core::{DType, Device, Tensor};

/// Decodes `latents [1,h,w,C]` in overlapping squares of at most `tile` latents a side and blends
/// them; `decode` maps `[1,h,w,C]` to `[1,h*scale,w*scale,3]`. What fits in one tile is decoded
/// whole.
pub fn decode_tiled(
    latents: &Tensor,
    tile: usize,
    scale: usize,
    decode: impl Fn(&Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let (_, h, w, _) = latents.dims4()?;
    if h <= tile && w <= tile {
        return decode(latents);
    }
    let (height, width) = (h * scale, w * scale);
    let mut sum = vec![0f32; height * width * 3];
    let mut weights = vec![0f32; height * width];
    for (top, rows) in pieces(h, tile) {
        for (left, columns) in pieces(w, tile) {
            let piece = latents.narrow(1, top, rows)?.narrow(2, left, columns)?;
            let drawn = decode(&piece.contiguous()?)?
                .to_device(&Device::Cpu)?
                .to_dtype(DType::F32)?
                .flatten_all()?
                .to_vec1::<f32>()?;
            let (ph, pw) = (rows * scale, columns * scale);
            for (i, rgb) in drawn.chunks_exact(3).enumerate() {
                let (y, x) = (i / pw, i % pw);
                let weight = ramp(y, ph) * ramp(x, pw);
                let at = (top * scale + y) * width + left * scale + x;
                weights[at] += weight;
                for c in 0..3 {
                    sum[at * 3 + c] += weight * rgb[c];
                }
            }
        }
    }
    for (rgb, weight) in sum.chunks_exact_mut(3).zip(&weights) {
        rgb.iter_mut().for_each(|v| *v /= weight);
    }
    Tensor::from_vec(sum, (1, height, width, 3), latents.device())
}

/// Starts and sizes of the pieces of a side: equal sizes, a quarter or more overlapping.
fn pieces(side: usize, tile: usize) -> Vec<(usize, usize)> {
    if side <= tile {
        return vec![(0, side)];
    }
    let stride = (tile * 3 / 4).max(1);
    let n = (side - tile).div_ceil(stride) + 1;
    (0..n)
        .map(|i| ((i * stride).min(side - tile), tile))
        .collect()
}

/// A pixel's weight by its distance from the tile's nearer edge: never 0, 1 from a quarter on.
fn ramp(at: usize, size: usize) -> f32 {
    let distance = at.min(size - 1 - at) as f32 + 0.5;
    (distance / (size as f32 / 4.0)).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{noise, upsample_nearest};

    #[test]
    fn tiles_of_a_local_decoder_make_the_whole_picture() {
        let latents = noise(5, 0, &[1, 13, 9, 3], &Device::Cpu).unwrap();
        let whole = upsample_nearest(&latents).unwrap();
        let tiled = decode_tiled(&latents, 4, 2, upsample_nearest).unwrap();
        assert_eq!(tiled.dims(), whole.dims());
        let d = (tiled - whole)
            .unwrap()
            .abs()
            .unwrap()
            .flatten_all()
            .unwrap();
        assert!(d.max(0).unwrap().to_scalar::<f32>().unwrap() < 1e-5);
    }

    #[test]
    fn no_tile_is_larger_than_asked() {
        let latents = noise(5, 1, &[1, 10, 10, 3], &Device::Cpu).unwrap();
        decode_tiled(&latents, 4, 2, |t| {
            assert!(t.dim(1)? <= 4 && t.dim(2)? <= 4);
            upsample_nearest(t)
        })
        .unwrap();
    }
}
