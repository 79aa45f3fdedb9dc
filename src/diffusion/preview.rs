//! A small picture straight from latents, cheap enough for every step of denoising.
//!
//! Each latent and its eight neighbours go through one fitted linear map to a square of
//! `cell x cell` pixels. The map is fitted once, by the trainer, on latents and their pictures,
//! and kept in the model folder as `preview.json`.

use super::StableDiffusionFamily;
use crate::nn::Result;
use candle_core::{DType, Device, Tensor};
use image::{Rgba, RgbaImage};
use serde::{Deserialize, Serialize};

/// A linear map from latents (scaled, as the UNet has them) to pixels in -1..1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Preview {
    /// Pixels drawn per latent, along one side.
    cell: usize,
    /// How many latents to each side a pixel sees.
    reach: usize,
    /// One row for each pixel's colour `[cell][cell][3]`: a weight for each input
    /// `[2 reach + 1][2 reach + 1][channels]`, then the constant.
    weights: Vec<Vec<f32>>,
}

impl Preview {
    /// For a model without `preview.json`: the known factors of Stable Diffusion's four latents,
    /// and for others the first three channels as colours.
    pub fn plain(channels: usize) -> Self {
        const STABLE_DIFFUSION: [[f32; 3]; 4] = [
            [0.298, 0.207, 0.208],
            [0.187, 0.286, 0.173],
            [-0.158, 0.189, 0.264],
            [-0.184, -0.271, -0.473],
        ];
        let weight = |colour: usize, channel: usize| match channels {
            4 => STABLE_DIFFUSION[channel][colour],
            _ if channel == colour => 0.4,
            _ => 0.0,
        };
        let weights = (0..3)
            .map(|colour| {
                (0..channels)
                    .map(|c| weight(colour, c))
                    .chain([0.0])
                    .collect()
            })
            .collect();
        Self {
            cell: 1,
            reach: 0,
            weights,
        }
    }

    /// For latents of the published models of a family, by the factors that ComfyUI shows them with.
    pub fn of(family: StableDiffusionFamily, channels: usize) -> Self {
        const XL: [[f32; 4]; 3] = [
            [0.3920, -0.2634, 0.0568, -0.3112],
            [0.4054, -0.0196, 0.1687, -0.2359],
            [0.4549, 0.0653, -0.0755, -0.2076],
        ];
        const XL_GREY: [f32; 3] = [0.1084, -0.0175, -0.0011];
        match (family, channels) {
            (StableDiffusionFamily::Sdxl, 4) => Self {
                cell: 1,
                reach: 0,
                weights: (0..3)
                    .map(|c| [&XL[c][..], &XL_GREY[c..=c]].concat())
                    .collect(),
            },
            _ => Self::plain(channels),
        }
    }

    /// For the latents of 16 channels that FLUX.1 and Z-Image share, by the factors that ComfyUI shows
    /// them with.
    pub fn of_sixteen() -> Self {
        const FACTORS: [[f32; 17]; 3] = [
            [
                -0.0346, 0.0034, 0.0275, -0.0174, 0.0859, 0.0004, 0.0405, -0.0236, -0.0245, 0.1008,
                -0.0515, 0.0428, 0.0817, -0.1264, -0.0280, -0.1262, -0.0329,
            ],
            [
                0.0244, 0.0210, -0.0668, 0.0160, 0.0721, 0.0383, 0.0861, -0.0185, 0.0250, 0.0755,
                0.0201, -0.0012, 0.0765, -0.0522, -0.0881, -0.0982, -0.0718,
            ],
            [
                0.0681, 0.0687, -0.0433, 0.0617, 0.0329, 0.0115, 0.0915, -0.0259, 0.1180, -0.0421,
                0.0011, -0.0036, 0.0749, -0.1103, -0.0499, -0.0778, -0.0851,
            ],
        ];
        Self {
            cell: 1,
            reach: 0,
            weights: FACTORS.iter().map(|row| row.to_vec()).collect(),
        }
    }

    /// Fits the map by least squares: `latents [N,h,w,C]` (scaled) and the pictures they stand for,
    /// `images [N,H,W,3]` in -1..1, whose sides are a multiple of the latents'. A few hundred
    /// pictures are enough.
    ///
    /// # Errors
    /// When the sizes don't belong together.
    pub fn fit(latents: &Tensor, images: &Tensor) -> Result<Self> {
        let (n, h, w, _) = latents.dims4()?;
        let (ni, height, width, colours) = images.dims4()?;
        if n != ni || colours != 3 || height % h != 0 || width % w != 0 || height / h != width / w {
            candle_core::bail!(
                "pictures {:?} don't belong to latents {:?}",
                images.dims(),
                latents.dims()
            );
        }
        let (reach, scale) = (1, height / h);
        let cell = (1..=4)
            .rev()
            .find(|c| scale.is_multiple_of(*c))
            .unwrap_or(1);
        let inputs = neighbourhoods(latents, reach)?;
        let wanted = cells(images, (h, w), cell, scale / cell)?;
        let k = inputs[0].len();
        let m = wanted[0].len();

        // Normal equations, with a ridge small against the latents' unit variance.
        let mut gram = vec![vec![0f64; k]; k];
        let mut sums = vec![vec![0f64; m]; k];
        for (x, y) in inputs.iter().zip(&wanted) {
            for i in 0..k {
                let xi = f64::from(x[i]);
                for j in 0..k {
                    gram[i][j] += xi * f64::from(x[j]);
                }
                for j in 0..m {
                    sums[i][j] += xi * f64::from(y[j]);
                }
            }
        }
        for (i, row) in gram.iter_mut().enumerate() {
            row[i] += 1e-3 * inputs.len() as f64;
        }
        solve(&mut gram, &mut sums);
        let weights = (0..m)
            .map(|j| (0..k).map(|i| sums[i][j] as f32).collect())
            .collect();
        Ok(Self {
            cell,
            reach,
            weights,
        })
    }

    /// Whether the map is for latents of so many channels.
    pub fn fits(&self, channels: usize) -> bool {
        let side = 2 * self.reach + 1;
        self.cell > 0
            && self.weights.len() == 3 * self.cell * self.cell
            && self
                .weights
                .iter()
                .all(|w| w.len() == side * side * channels + 1)
    }

    /// The first of `latents [B,h,w,C]` as a picture of `cell` times its size.
    pub fn draw(&self, latents: &Tensor) -> Result<RgbaImage> {
        let (_, h, w, c) = latents.dims4()?;
        if !self.fits(c) {
            candle_core::bail!("preview.json is not for latents of {c} channels");
        }
        let inputs = neighbourhoods(&latents.narrow(0, 0, 1)?, self.reach)?;
        let mut picture = RgbaImage::new((w * self.cell) as u32, (h * self.cell) as u32);
        for (place, x) in inputs.iter().enumerate() {
            let colour = |row: &Vec<f32>| {
                let v: f32 = row.iter().zip(x).map(|(a, b)| a * b).sum();
                to_byte(v)
            };
            let bytes: Vec<u8> = self.weights.iter().map(colour).collect();
            for (i, rgb) in bytes.chunks_exact(3).enumerate() {
                let column = place % w * self.cell + i % self.cell;
                let line = place / w * self.cell + i / self.cell;
                let pixel = Rgba([rgb[0], rgb[1], rgb[2], 255]);
                picture.put_pixel(column as u32, line as u32, pixel);
            }
        }
        Ok(picture)
    }
}

/// A value in -1..1 as a byte.
pub(super) fn to_byte(v: f32) -> u8 {
    // The cast saturates, so values beyond -1..1 become black and white.
    ((v * 0.5 + 0.5) * 255.0).round() as u8
}

/// For each place of each sample, the latents around it (the border's repeated), and 1.
fn neighbourhoods(latents: &Tensor, reach: usize) -> Result<Vec<Vec<f32>>> {
    let (n, h, w, c) = latents.dims4()?;
    let values = on_host(latents)?;
    let side = 2 * reach + 1;
    let near = |at: usize, by: usize, size: usize| (at + by).saturating_sub(reach).min(size - 1);
    let mut all = Vec::with_capacity(n * h * w);
    for sample in 0..n {
        for place in 0..h * w {
            let mut x = Vec::with_capacity(side * side * c + 1);
            for by in 0..side * side {
                let line = near(place / w, by / side, h);
                let column = near(place % w, by % side, w);
                let start = ((sample * h + line) * w + column) * c;
                x.extend_from_slice(&values[start..start + c]);
            }
            x.push(1.0);
            all.push(x);
        }
    }
    Ok(all)
}

/// For each latent's place, the mean colours of its `cell x cell` squares of `pixels` a side.
fn cells(
    images: &Tensor,
    (h, w): (usize, usize),
    cell: usize,
    pixels: usize,
) -> Result<Vec<Vec<f32>>> {
    let (n, height, width, _) = images.dims4()?;
    let values = on_host(images)?;
    let mut all = Vec::with_capacity(n * h * w);
    for sample in 0..n {
        for place in 0..h * w {
            let mut y = Vec::with_capacity(3 * cell * cell);
            for square in 0..cell * cell {
                let top = (place / w * cell + square / cell) * pixels;
                let left = (place % w * cell + square % cell) * pixels;
                for colour in 0..3 {
                    let sum: f32 = (0..pixels * pixels)
                        .map(|i| (top + i / pixels, left + i % pixels))
                        .map(|(l, c)| values[((sample * height + l) * width + c) * 3 + colour])
                        .sum();
                    y.push(sum / (pixels * pixels) as f32);
                }
            }
            all.push(y);
        }
    }
    Ok(all)
}

fn on_host(t: &Tensor) -> Result<Vec<f32>> {
    t.to_device(&Device::Cpu)?
        .to_dtype(DType::F32)?
        .flatten_all()?
        .to_vec1()
}

/// Solves `a x = b` for every column of `b` in place; `a` is symmetric and positive definite, so
/// elimination needs no pivots.
fn solve(a: &mut [Vec<f64>], b: &mut [Vec<f64>]) {
    let n = a.len();
    for i in 0..n {
        let (row, right) = (a[i].clone(), b[i].clone());
        for j in 0..n {
            if j == i {
                continue;
            }
            let f = a[j][i] / row[i];
            for (x, y) in a[j].iter_mut().zip(&row).skip(i) {
                *x -= f * y;
            }
            for (x, y) in b[j].iter_mut().zip(&right) {
                *x -= f * y;
            }
        }
    }
    for (row, right) in a.iter().enumerate().map(|(i, r)| r[i]).zip(b) {
        right.iter_mut().for_each(|x| *x /= row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::noise;

    #[test]
    fn a_linear_decoder_is_found_again() {
        let dev = Device::Cpu;
        let latents = noise(3, 0, &[8, 6, 6, 4], &dev).unwrap();
        // Each latent's picture: 4 x 4 pixels of one colour, a linear map of the latent.
        let mix = noise(3, 1, &[4, 3], &dev)
            .unwrap()
            .affine(0.2, 0.0)
            .unwrap();
        let colours = latents.reshape((288, 4)).unwrap().matmul(&mix).unwrap();
        let images = colours
            .reshape((8, 6, 1, 6, 1, 3))
            .and_then(|c| c.broadcast_as((8, 6, 4, 6, 4, 3)))
            .and_then(|c| c.reshape((8, 24, 24, 3)))
            .unwrap();
        let p = Preview::fit(&latents, &images).unwrap();
        assert!(p.fits(4) && !p.fits(8));
        let picture = p.draw(&latents).unwrap();
        assert_eq!(picture.dimensions(), (24, 24));
        let want = images.get(0).unwrap().flatten_all().unwrap();
        let want = want.to_vec1::<f32>().unwrap();
        for (pixel, rgb) in picture.pixels().zip(want.chunks(3)) {
            let close = |(p, v): (&u8, &f32)| p.abs_diff(to_byte(*v)) <= 2;
            assert!(pixel.0.iter().zip(rgb).all(close));
        }
    }

    #[test]
    fn a_plain_preview_fits_any_latents() {
        assert!(Preview::of_sixteen().fits(16));
        for channels in [1, 3, 4, 8] {
            let p = Preview::plain(channels);
            assert!(p.fits(channels));
            assert!(Preview::of(StableDiffusionFamily::Sdxl, channels).fits(channels));
            let latents = Tensor::zeros((1, 2, 3, channels), DType::F32, &Device::Cpu).unwrap();
            let picture = p.draw(&latents).unwrap();
            assert_eq!(picture.dimensions(), (3, 2));
            assert_eq!(picture.get_pixel(0, 0).0, [128, 128, 128, 255]);
        }
    }
}
