//! From a picture to what a network reads, as torchvision's transforms in the reference do it:
//! the shorter side is resized, the middle is cut out, colours are normalised.

use crate::nn::Result;
use crate::pixels::on_white;
use crate::resample::{Filter, resize};
use candle_core::{Device, Tensor};
use image::{Rgb, RgbImage, RgbaImage};

/// CLIP's mean and standard deviation of the colours.
const CLIP_MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const CLIP_STD: [f32; 3] = [0.268_629_55, 0.261_302_6, 0.275_777_1];

/// What to do with a picture that is no square.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crop {
    /// Cut out the middle.
    Centre,
    /// Put it in the middle of a white square first, so that nothing is lost.
    WhiteSquare,
}

/// Picture to tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Preprocess {
    /// Pixels a side.
    pub size: usize,
    /// How a picture that is not square becomes one.
    pub crop: Crop,
    /// Mean that is subtracted from each channel, of values 0 to 1.
    pub mean: [f32; 3],
    /// Standard deviation that each channel is divided by.
    pub std: [f32; 3],
}

impl Preprocess {
    /// As the vision tower reads pictures.
    pub fn seen(size: usize, crop: Crop) -> Self {
        Self {
            size,
            crop,
            mean: CLIP_MEAN,
            std: CLIP_STD,
        }
    }

    /// As the autoencoder reads pictures that are to be drawn: -1..1.
    pub fn drawn(size: usize) -> Self {
        Self {
            size,
            crop: Crop::WhiteSquare,
            mean: [0.5; 3],
            std: [0.5; 3],
        }
    }

    /// `picture` as the network's square of pixels, still 8 bits a colour.
    pub fn square(&self, picture: &RgbImage) -> RgbImage {
        let padded;
        let picture = match self.crop {
            Crop::Centre => picture,
            Crop::WhiteSquare => {
                padded = pad_to_square(picture);
                &padded
            }
        };
        let middle;
        let picture = match middle_of(picture) {
            None => picture,
            Some(cut) => {
                middle = cut;
                &middle
            }
        };
        let side = self.size as u32;
        let (w, h) = (picture.width().max(1), picture.height().max(1));
        // The longer side is rounded down, as torchvision does.
        let longer =
            |long: u32, short: u32| (u64::from(side) * u64::from(long) / u64::from(short)) as u32;
        let (w, h) = if w <= h {
            (side, longer(h, w))
        } else {
            (longer(w, h), side)
        };
        let scaled = resize(picture, w, h, Filter::Bilinear);
        let (left, top) = (half_even(w - side), half_even(h - side));
        image::imageops::crop_imm(&scaled, left, top, side, side).to_image()
    }

    /// `[1,size,size,3]`, normalised.
    ///
    /// # Errors
    /// When the device can't hold it.
    pub fn tensor(&self, picture: &RgbImage, device: &Device) -> Result<Tensor> {
        let square = self.square(picture);
        let values: Vec<f32> = square
            .pixels()
            .flat_map(|p| {
                [0, 1, 2].map(|c| (f32::from(p.0[c]) / 255.0 - self.mean[c]) / self.std[c])
            })
            .collect();
        Tensor::from_vec(values, (1, self.size, self.size, 3), device)
    }

    /// As [`Preprocess::tensor`], of a picture with transparency, which is seen on white.
    ///
    /// # Errors
    /// As [`Preprocess::tensor`].
    pub fn tensor_of_rgba(&self, picture: &RgbaImage, device: &Device) -> Result<Tensor> {
        let white = on_white(picture);
        let rgb = RgbImage::from_fn(white.width(), white.height(), |x, y| {
            let [r, g, b, _] = white.get_pixel(x, y).0;
            Rgb([r, g, b])
        });
        self.tensor(&rgb, device)
    }
}

/// The middle of a picture that is so long and thin that resizing all of it, of which a square is
/// left, would take gigabytes.
fn middle_of(picture: &RgbImage) -> Option<RgbImage> {
    const LONGEST: u32 = 16;
    let (w, h) = picture.dimensions();
    let most = w.min(h).saturating_mul(LONGEST);
    if w.max(h) <= most {
        return None;
    }
    let (cut_w, cut_h) = (w.min(most), h.min(most));
    let (left, top) = ((w - cut_w) / 2, (h - cut_h) / 2);
    Some(image::imageops::crop_imm(picture, left, top, cut_w, cut_h).to_image())
}

/// Half of `n`, halves to the even neighbour (Python's `round`).
fn half_even(n: u32) -> u32 {
    let down = n / 2;
    down + u32::from(n % 2 == 1 && down % 2 == 1)
}

/// `picture` in the middle of a white square.
pub fn pad_to_square(picture: &RgbImage) -> RgbImage {
    let (w, h) = picture.dimensions();
    let side = w.max(h);
    let mut square = RgbImage::from_pixel(side, side, Rgb([255; 3]));
    let (left, top) = ((side - w) / 2, (side - h) / 2);
    image::imageops::replace(&mut square, picture, left.into(), top.into());
    square
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_go_to_the_even_neighbour() {
        assert_eq!([0, 1, 2, 3, 4, 5].map(half_even), [0, 0, 1, 2, 2, 2]);
    }

    #[test]
    fn padding_is_white_and_the_picture_keeps_its_colours() {
        let picture = RgbImage::from_pixel(4, 2, Rgb([10, 20, 30]));
        let square = pad_to_square(&picture);
        assert_eq!(square.dimensions(), (4, 4));
        assert_eq!(square.get_pixel(0, 0).0, [255; 3]);
        assert_eq!(square.get_pixel(3, 1).0, [10, 20, 30]);
        assert_eq!(square.get_pixel(0, 3).0, [255; 3]);
    }

    #[test]
    fn a_thin_picture_is_cut_to_a_square() {
        let picture = RgbImage::from_pixel(100, 1, Rgb([255, 0, 0]));
        let t = Preprocess::drawn(8).tensor(&picture, &Device::Cpu).unwrap();
        assert_eq!(t.dims(), [1, 8, 8, 3]);
        let cut = Preprocess::seen(8, Crop::Centre).square(&picture);
        assert!(cut.pixels().all(|p| p.0 == [255, 0, 0]));
        let line = RgbImage::from_pixel(1, 20_000, Rgb([255, 0, 0]));
        let cut = Preprocess::seen(224, Crop::Centre).square(&line);
        assert!(cut.pixels().all(|p| p.0 == [255, 0, 0]));
    }

    #[test]
    fn what_is_transparent_is_seen_on_white() {
        let picture = RgbaImage::from_pixel(4, 4, image::Rgba([0, 0, 0, 0]));
        let see = Preprocess::drawn(4);
        let seen = see.tensor_of_rgba(&picture, &Device::Cpu).unwrap();
        let white = see.tensor(&RgbImage::from_pixel(4, 4, Rgb([255; 3])), &Device::Cpu);
        let off = (seen - white.unwrap())
            .unwrap()
            .abs()
            .unwrap()
            .max_all()
            .unwrap();
        assert_eq!(off.to_scalar::<f32>().unwrap(), 0.0);
    }
}
