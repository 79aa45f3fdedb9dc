//! Networks that make pictures larger, in Real-ESRGAN's published file formats.

mod compact;
mod error;
mod rrdb;

use crate::nn::{Params, Result as TensorResult};
use crate::weights::{Checkpoint, TensorView};
use candle_core::{DType, Device, Tensor};
use image::RgbImage;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use error::UpscaleError;

/// Names and shapes of a file's tensors.
type FileShapes = BTreeMap<String, Vec<usize>>;

/// What a file wraps its weights in, the one that is used first.
const WRAPPERS: [&str; 4] = ["params_ema.", "params.", "state_dict.", "module."];

/// Sides of what is read at once, and what is read around it and left out, in pixels.
const TILE: u32 = 192;
const AROUND: u32 = 16;

/// A network from `[B,H,W,3]` to `[B,scale H,scale W,3]`, both about 0..1.
trait UpscaleNetwork {
    fn forward(&self, x: &Tensor) -> TensorResult<Tensor>;

    /// Sides that it reads are multiples of this.
    fn step(&self) -> u32 {
        1
    }
}

/// An upscaler that is loaded.
pub struct Upscaler {
    path: PathBuf,
    network: Box<dyn UpscaleNetwork>,
    scale: u32,
    device: Device,
}

impl std::fmt::Debug for Upscaler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upscaler")
            .field("path", &self.path)
            .field("scale", &self.scale)
            .finish_non_exhaustive()
    }
}

impl Upscaler {
    /// Loads an RRDBNet (x4plus, x2plus, anime 6B, and ESRGAN's of 2018, which many others have the
    /// names of) or a compact network (SRVGGNet) from a pickle or safetensors.
    ///
    /// # Errors
    /// A file that is missing, damaged, of another kind, or has NaN among its weights.
    pub fn open(path: &Path, device: &Device) -> Result<Upscaler, UpscaleError> {
        let file = Arc::new(Checkpoint::open(path).map_err(UpscaleError::Checkpoint)?);
        let wrapped = wrapper(&file);
        let bare: FileShapes = file
            .names()
            .filter_map(|name| {
                let bare = name.strip_prefix(&wrapped)?.to_owned();
                Some((bare, file.info(name)?.shape.clone()))
            })
            .collect();
        let renamed = rrdb::renamed(&bare);
        let view = TensorView::default().and(&file, |name| {
            let bare = name.strip_prefix(&wrapped)?;
            match &renamed {
                Some(names) => names.get(bare).cloned(),
                None => Some(bare.to_owned()),
            }
        });
        let shapes = view.shapes();
        let params = Params::from_source(Arc::new(view), false, device);
        let misfit = |error| UpscaleError::misfit(path, error);
        let (network, scale) = match (rrdb::detect(&shapes), compact::detect(&shapes)) {
            (Some(config), _) => {
                let network = rrdb::RrdbNet::new(&config, &params).map_err(misfit)?;
                (Box::new(network) as Box<dyn UpscaleNetwork>, config.scale)
            }
            (None, Some(config)) => {
                let network = compact::Compact::new(&config, &params).map_err(misfit)?;
                (Box::new(network) as Box<dyn UpscaleNetwork>, config.scale)
            }
            (None, None) => return Err(UpscaleError::Other(path.to_owned())),
        };
        Ok(Upscaler {
            path: path.to_owned(),
            network,
            scale,
            device: device.clone(),
        })
    }

    /// New sides over old.
    pub fn scale(&self) -> u32 {
        self.scale
    }

    /// `picture` larger by [`Upscaler::scale`]. `each` hears of every tile that is done, of how
    /// many, and breaks to cancel; then it is `None`.
    ///
    /// # Errors
    /// Memory that can't be had, or values that are no numbers.
    pub fn enlarge(
        &self,
        picture: &RgbImage,
        each: &mut dyn FnMut(u32, u32) -> ControlFlow<()>,
    ) -> Result<Option<RgbImage>, UpscaleError> {
        let (width, height) = picture.dimensions();
        let mut out = RgbImage::new(width * self.scale, height * self.scale);
        let (columns, rows) = (width.div_ceil(TILE), height.div_ceil(TILE));
        for number in 0..columns * rows {
            let (left, top) = (number % columns * TILE, number / columns * TILE);
            let (wide, high) = (TILE.min(width - left), TILE.min(height - top));
            let tile = self.tile(picture, (left, top), (wide, high))?;
            let at = |side: u32| i64::from(side * self.scale);
            image::imageops::replace(&mut out, &tile, at(left), at(top));
            if each(number + 1, columns * rows).is_break() {
                return Ok(None);
            }
        }
        Ok(Some(out))
    }

    /// One tile, read with what is around it; beyond the picture its outermost pixels run on.
    fn tile(
        &self,
        picture: &RgbImage,
        (left, top): (u32, u32),
        (wide, high): (u32, u32),
    ) -> Result<RgbImage, UpscaleError> {
        let (width, height) = picture.dimensions();
        let step = self.network.step();
        let around = AROUND.next_multiple_of(step);
        let read = |side: u32| (side + 2 * around).next_multiple_of(step);
        let (read_wide, read_high) = (read(wide), read(high));
        let mut values = Vec::with_capacity((read_wide * read_high * 3) as usize);
        for y in 0..read_high {
            for x in 0..read_wide {
                let x = (left + x).saturating_sub(around).min(width - 1);
                let y = (top + y).saturating_sub(around).min(height - 1);
                let pixel = picture.get_pixel(x, y).0;
                values.extend(pixel.map(|byte| f32::from(byte) / 255.0));
            }
        }
        let shape = (1, read_high as usize, read_wide as usize, 3);
        let x = Tensor::from_vec(values, shape, &self.device)?;
        let (from, scale) = ((around * self.scale) as usize, self.scale);
        let (w, h) = (wide * scale, high * scale);
        let out = self.network.forward(&x)?;
        let out = out.narrow(1, from, h as usize)?;
        let out = out.narrow(2, from, w as usize)?;
        let out = out.to_dtype(DType::F32)?.flatten_all()?;
        let values = out.to_device(&Device::Cpu)?.to_vec1::<f32>()?;
        if values.iter().any(|value| !value.is_finite()) {
            return Err(UpscaleError::NotNumbers(self.path.clone()));
        }
        let bytes = values
            .iter()
            .map(|value| (value.clamp(0.0, 1.0) * 255.0).round_ties_even() as u8);
        Ok(RgbImage::from_raw(w, h, bytes.collect()).unwrap_or_default())
    }
}

/// What stands before the names of a file's tensors.
fn wrapper(file: &Checkpoint) -> String {
    let mut prefix = String::new();
    // A wrapper may hold another.
    for _ in 0..2 {
        let inner = WRAPPERS.iter().find(|wrapper| {
            let whole = format!("{prefix}{wrapper}");
            file.names().any(|name| name.starts_with(&whole))
        });
        prefix.push_str(inner.copied().unwrap_or_default());
    }
    prefix
}

/// What the tensors of a file say that it is, for people, where it is an upscaler that can be used:
/// its kind and by how much it enlarges.
///
/// ```
/// let none = std::collections::BTreeMap::new();
/// assert!(vokenboard::upscale::describe(&none).is_none());
/// ```
pub fn describe(shapes: &BTreeMap<String, Vec<usize>>) -> Option<(&'static str, u32)> {
    let renamed: FileShapes = match rrdb::renamed(shapes) {
        Some(names) => shapes
            .iter()
            .filter_map(|(name, shape)| Some((names.get(name)?.clone(), shape.clone())))
            .collect(),
        None => shapes.clone(),
    };
    let rrdb = rrdb::detect(&renamed).map(|config| ("ESRGAN", config.scale));
    rrdb.or_else(|| compact::detect(&renamed).map(|config| ("compact ESRGAN", config.scale)))
}

/// `max(x, slope x)`.
fn leaky_relu(x: &Tensor, slope: f64) -> TensorResult<Tensor> {
    x.maximum(&(x * slope)?)
}

#[cfg(test)]
mod tests;
