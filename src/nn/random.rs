//! Seeded noise that is the same on every device (candle's CPU generator can't be seeded).

use super::Result;
use candle_core::{Device, Tensor};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

/// A stream of N(0,1) draws, determined by its seed and stream number.
pub struct NoiseSource(ChaCha8Rng);

impl NoiseSource {
    /// A generator of its own for each pair of seed and stream.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        Self(rng)
    }

    /// A tensor of the given shape, f32, drawn on the CPU and moved to `device`.
    pub fn tensor(&mut self, shape: &[usize], device: &Device) -> Result<Tensor> {
        let n = shape.iter().product();
        let draws: Vec<f32> = (0..n).map(|_| StandardNormal.sample(&mut self.0)).collect();
        Tensor::from_vec(draws, shape, device)
    }
}

/// Seeded N(0,1) noise of `shape` (f32).
///
/// ```
/// use candle_core::Device;
/// use vokenboard::nn::noise;
///
/// let draw = |seed| noise(seed, 0, &[4], &Device::Cpu).unwrap().to_vec1::<f32>().unwrap();
/// assert_eq!(draw(7), draw(7));
/// assert_ne!(draw(7), draw(8));
/// ```
pub fn noise(seed: u64, stream: u64, shape: &[usize], device: &Device) -> Result<Tensor> {
    NoiseSource::new(seed, stream).tensor(shape, device)
}
