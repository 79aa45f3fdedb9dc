//! Pictures as the autoencoder reads them, and masks as latents have them.

use crate::nn::Result;
use crate::resample::{Filter, resize};
use candle_core::{Device, Tensor};
use image::{GrayImage, RgbImage};

/// A picture at `width` x `height` as `[1,H,W,3]` in -1..1; another size is resampled as Pillow's
/// Lanczos does.
///
/// # Errors
/// Memory that can't be had; so for the others.
pub fn picture_tensor(
    picture: &RgbImage,
    (width, height): (usize, usize),
    device: &Device,
) -> Result<Tensor> {
    let fitting = resize(picture, width as u32, height as u32, Filter::Lanczos);
    let values: Vec<f32> = fitting
        .as_raw()
        .iter()
        .map(|byte| f32::from(*byte) / 255.0 * 2.0 - 1.0)
        .collect();
    Tensor::from_vec(values, (1, height, width, 3), device)
}

/// Where a mask is at least half white: 1 is drawn anew, 0 stays. `[1,H,W,1]` for `width` x
/// `height`, from the nearest of its pixels.
pub fn mask_tensor(
    mask: &GrayImage,
    (width, height): (usize, usize),
    device: &Device,
) -> Result<Tensor> {
    let (w, h) = (mask.width() as usize, mask.height() as usize);
    let values: Vec<f32> = (0..width * height)
        .map(|place| (place / width * h / height, place % width * w / width))
        .map(|(y, x)| mask.as_raw()[y * w + x])
        .map(|byte| if byte >= 128 { 1.0 } else { 0.0 })
        .collect();
    Tensor::from_vec(values, (1, height, width, 1), device)
}

/// The picture with its hole in the middle of the range, as inpainting models are shown it.
pub fn cut_out(picture: &Tensor, mask: &Tensor) -> Result<Tensor> {
    picture.broadcast_mul(&mask.affine(-1.0, 1.0)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{Luma, Rgb};

    #[test]
    fn a_mask_is_cut_at_half_and_read_at_its_nearest_pixels() {
        let mask = GrayImage::from_fn(4, 2, |x, _| Luma([[127, 128, 0, 255][x as usize]]));
        let whole = mask_tensor(&mask, (4, 2), &Device::Cpu).unwrap();
        let whole = whole.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(whole[..4], [0.0, 1.0, 0.0, 1.0]);
        let half = mask_tensor(&mask, (2, 1), &Device::Cpu).unwrap();
        assert_eq!(
            half.flatten_all().unwrap().to_vec1::<f32>().unwrap(),
            [0.0, 0.0]
        );
    }

    #[test]
    fn what_is_drawn_anew_is_grey_in_the_cut_out() {
        let picture = RgbImage::from_pixel(2, 1, Rgb([255, 255, 0]));
        let mask = GrayImage::from_fn(2, 1, |x, _| Luma([[0, 255][x as usize]]));
        let pixels = picture_tensor(&picture, (2, 1), &Device::Cpu).unwrap();
        let cut = cut_out(&pixels, &mask_tensor(&mask, (2, 1), &Device::Cpu).unwrap()).unwrap();
        let cut = cut.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(cut, [1.0, 1.0, -1.0, 0.0, 0.0, 0.0]);
    }
}
