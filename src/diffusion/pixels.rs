//! Pictures as the autoencoder reads them, and masks as latents have them.

use crate::nn::Result;
use crate::resample::{Filter, resize};
use candle_core::{Device, Tensor};
use image::{GrayImage, RgbImage, Rgba, RgbaImage};

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

/// A picture in grey, as Pillow makes it.
pub fn luma(picture: &RgbImage) -> GrayImage {
    let grey = picture.pixels().map(|p| {
        let [r, g, b] = p.0.map(u32::from);
        ((r * 19_595 + g * 38_470 + b * 7_471 + 0x8000) >> 16) as u8
    });
    let (width, height) = picture.dimensions();
    GrayImage::from_raw(width, height, grey.collect()).unwrap_or_default()
}

/// What was drawn where the mask is white, and what was there where it is black, byte for byte;
/// between them the one fades into the other.
pub fn paste_around(drawn: &RgbaImage, was: &RgbImage, mask: &GrayImage) -> RgbaImage {
    let (width, height) = drawn.dimensions();
    let was = resize(was, width, height, Filter::Lanczos);
    RgbaImage::from_fn(width, height, |x, y| {
        let mask = mask.get_pixel(x * mask.width() / width, y * mask.height() / height);
        let (new, old) = (drawn.get_pixel(x, y).0, was.get_pixel(x, y).0);
        let by = u32::from(mask.0[0]);
        let mix = |c: usize| {
            let sum = u32::from(new[c]) * by + u32::from(old[c]) * (255 - by);
            ((sum + 127) / 255) as u8
        };
        Rgba([mix(0), mix(1), mix(2), 255])
    })
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

    #[test]
    fn what_is_black_in_the_mask_stays_byte_for_byte() {
        let was = RgbImage::from_fn(3, 1, |x, _| Rgb([10 * x as u8, 77, 255]));
        let drawn = RgbaImage::from_pixel(3, 1, Rgba([200, 100, 0, 255]));
        let mask = GrayImage::from_fn(3, 1, |x, _| Luma([[0, 255, 51][x as usize]]));
        let got = paste_around(&drawn, &was, &mask);
        assert_eq!(got.get_pixel(0, 0).0, [0, 77, 255, 255]);
        assert_eq!(got.get_pixel(1, 0).0, [200, 100, 0, 255]);
        assert_eq!(got.get_pixel(2, 0).0, [56, 82, 204, 255]);
    }

    #[test]
    fn grey_is_weighed_as_pillow_does() {
        let grey = luma(&RgbImage::from_fn(3, 1, |x, _| {
            Rgb([[255, 0, 0], [0, 255, 0], [9, 9, 9]][x as usize])
        }));
        assert_eq!(grey.as_raw(), &[76, 150, 9]);
    }
}
