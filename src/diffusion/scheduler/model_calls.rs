//! The calls of the UNet for one picture, and what an answer stands for.

use super::keys::Keys;
use crate::diffusion::Prediction;
use crate::diffusion::schedule::{clean, noise_in};
use crate::nn::Result;
use candle_core::Tensor;

/// One call of the UNet.
#[derive(Clone, Copy, Debug)]
pub(super) struct ModelCall {
    /// The timestep that the UNet is told.
    pub timestep: f64,
    /// Signal shares (cumulative alphas): where the UNet looks, where the step begins and ends.
    pub at: f64,
    pub from: f64,
    pub to: f64,
}

/// Which scaling the samples have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SampleSpace {
    /// `sqrt(a) x0 + sqrt(1-a) noise`.
    Preserving,
    /// `x0 + sigma noise`.
    Exploding,
}

/// What is done to clean latents that are out of range.
#[derive(Clone, Copy, Debug)]
pub(super) enum ClipSample {
    None,
    /// They are cut to plus and minus that.
    Range(f64),
    /// Dynamic thresholding (arXiv 2205.11487): cut to the quantile `ratio` of their size, which
    /// is at least 1 and at most `most`, and divided by it.
    Threshold {
        ratio: f64,
        most: f64,
    },
}

impl ClipSample {
    /// As the classes have it that know both; DPM-Solver++ and UniPC only threshold.
    pub(super) fn of(keys: &Keys, cuts: bool) -> Self {
        match keys {
            _ if keys.thresholding => Self::Threshold {
                ratio: keys.dynamic_thresholding_ratio,
                most: keys.sample_max_value,
            },
            _ if cuts && keys.clip_sample => Self::Range(keys.clip_sample_range),
            _ => Self::None,
        }
    }
}

/// The UNet calls of one picture: timesteps, noise levels, and how predictions are read.
pub(super) struct ModelCalls {
    pub prediction: Prediction,
    pub calls: Vec<ModelCall>,
    pub space: SampleSpace,
    pub clip: ClipSample,
    pub init_noise_sigma: f64,
    /// Whether its calls go by noise levels.
    pub by_level: bool,
}

impl ModelCalls {
    /// # Errors
    /// A call from pure noise of a UNet that predicts noise, from which nothing follows.
    pub(super) fn check(&self) -> Result<()> {
        let blind = self.calls.iter().any(|call| call.at <= 0.0);
        if blind && self.prediction == Prediction::Epsilon {
            candle_core::bail!(
                "the scheduler's rescale_betas_zero_snr needs a model that predicts v, and its prediction_type is epsilon; choose euler or the prediction that the model was trained with"
            );
        }
        Ok(())
    }

    pub(super) fn sigmas(&self) -> Option<Vec<f64>> {
        let last = self.calls.last()?;
        let levels = self.calls.iter().map(|call| sigma(call.at));
        self.by_level
            .then(|| levels.chain([sigma(last.to)]).collect())
    }

    pub(super) fn scale_input(&self, sample: &Tensor, i: usize) -> Result<Tensor> {
        match self.space {
            SampleSpace::Exploding => sample * self.calls[i].at.sqrt(),
            SampleSpace::Preserving => Ok(sample.clone()),
        }
    }

    /// The noise in `seen`, a sample as the UNet saw it in call `i`.
    pub(super) fn noise(&self, answer: &Tensor, i: usize, seen: &Tensor) -> Result<Tensor> {
        combine(seen, answer, noise_in(self.prediction, self.calls[i].at))
    }

    pub(super) fn predict_x0(&self, answer: &Tensor, i: usize, sample: &Tensor) -> Result<Tensor> {
        let seen = self.scale_input(sample, i)?;
        let x0 = combine(&seen, answer, clean(self.prediction, self.calls[i].at))?;
        match self.clip {
            ClipSample::None => Ok(x0),
            ClipSample::Range(most) => x0.clamp(-most, most),
            ClipSample::Threshold { ratio, most } => threshold(&x0, ratio, most),
        }
    }

    pub(super) fn add_noise(&self, x0: &Tensor, noise: &Tensor, i: usize) -> Result<Tensor> {
        let a = self.calls[i].at;
        match self.space {
            SampleSpace::Exploding => combine(x0, noise, (1.0, sigma(a))),
            SampleSpace::Preserving => combine(x0, noise, (a.sqrt(), (1.0 - a).sqrt())),
        }
    }
}

/// Each of the batch cut to its own threshold.
fn threshold(x0: &Tensor, ratio: f64, most: f64) -> Result<Tensor> {
    let (batch, shape) = (x0.dim(0)?, x0.shape());
    let flat = x0.reshape((batch, ()))?;
    let sizes = flat.abs()?.to_vec2::<f32>()?;
    let limits: Vec<f32> = sizes
        .into_iter()
        .map(|mut sizes| {
            sizes.sort_unstable_by(f32::total_cmp);
            let at = ratio * (sizes.len() - 1) as f64;
            let (low, by) = (at.floor() as usize, at.fract());
            let high = (low + 1).min(sizes.len() - 1);
            let quantile = f64::from(sizes[low]) * (1.0 - by) + f64::from(sizes[high]) * by;
            quantile.clamp(1.0, most.max(1.0)) as f32
        })
        .collect();
    let limits = Tensor::from_vec(limits, (batch, 1), x0.device())?;
    let cut = flat
        .broadcast_minimum(&limits)?
        .broadcast_maximum(&limits.neg()?)?;
    cut.broadcast_div(&limits)?.reshape(shape)
}

/// `a x + b y`.
pub(super) fn combine(x: &Tensor, y: &Tensor, (a, b): (f64, f64)) -> Result<Tensor> {
    x.affine(a, 0.0)? + y.affine(b, 0.0)?
}

/// The noise's scale where the signal's is 1.
pub(super) fn sigma(alpha_cumprod: f64) -> f64 {
    ((1.0 - alpha_cumprod) / alpha_cumprod).sqrt()
}

pub(super) fn half_log_snr(alpha_cumprod: f64) -> f64 {
    -sigma(alpha_cumprod).ln()
}

/// Appends, keeping the latest `most`.
pub(super) fn remember(history: &mut Vec<Tensor>, latest: Tensor, most: usize) {
    if history.len() == most {
        history.remove(0);
    }
    history.push(latest);
}

/// The unit noise that a solver asked for.
pub(super) fn fresh(noise: Option<&Tensor>) -> Result<&Tensor> {
    match noise {
        Some(noise) => Ok(noise),
        None => candle_core::bail!("this scheduler's steps need fresh noise"),
    }
}
