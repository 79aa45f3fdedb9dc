//! How much noise a timestep holds, and what follows from it for training: noisy latents,
//! targets and loss weights. Coefficients are kept in f64; tensors are f32.

use super::SchedulerConfig;
use super::scheduler::Keys;
use crate::nn::Result;
use candle_core::{DType, Tensor};
use serde::{Deserialize, Serialize};
use std::ops::{Div, Mul, Sub};

/// What the UNet is trained to predict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prediction {
    /// The noise.
    #[default]
    Epsilon,
    /// The velocity `sqrt(a) noise - sqrt(1-a) x0` (Salimans & Ho, arXiv 2202.00512).
    VPrediction,
    /// The clean latents.
    Sample,
}

/// How the betas (variances of the added noise) grow over the timesteps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BetaSchedule {
    /// Linear in the betas.
    Linear,
    /// Linear in the square roots, as Stable Diffusion has it.
    #[default]
    ScaledLinear,
    /// The cosine schedule of improved DDPM (arXiv 2102.09672).
    #[serde(rename = "squaredcos_cap_v2")]
    SquaredCosCapV2,
}

/// The share of signal at every timestep of training.
#[derive(Clone, Debug)]
pub struct NoiseSchedule {
    alphas_cumprod: Vec<f64>,
    prediction: Prediction,
}

impl NoiseSchedule {
    /// # Errors
    /// When the configuration has no timesteps or betas outside 0..1.
    pub fn new(config: &SchedulerConfig) -> Result<Self> {
        Self::of(&config.as_configured().map_err(candle_core::Error::Msg)?)
    }

    /// # Errors
    /// As [`NoiseSchedule::new`].
    pub(super) fn of(keys: &Keys) -> Result<Self> {
        let n = keys.num_train_timesteps;
        let (start, end) = (keys.beta_start, keys.beta_end);
        let given = keys.trained_betas.as_deref();
        let share = |beta: &f64| (0.0..1.0).contains(beta);
        if n < 2 || !share(&start) || !share(&end) || given.is_some_and(|b| !b.iter().all(share)) {
            candle_core::bail!(
                "the scheduler needs at least 2 num_train_timesteps, and betas from 0 to below 1"
            );
        }
        if let Some(given) = given.filter(|given| given.len() != n) {
            candle_core::bail!(
                "the scheduler has {} trained_betas for {n} num_train_timesteps; get its scheduler_config.json again",
                given.len()
            );
        }
        let alphas_cumprod = match keys.next_listed {
            true => in_double(keys),
            false => in_single(keys),
        };
        Ok(Self {
            alphas_cumprod,
            prediction: keys.prediction_type,
        })
    }

    /// The number of timesteps.
    pub fn timesteps(&self) -> usize {
        self.alphas_cumprod.len()
    }

    /// What the network predicts.
    pub fn prediction(&self) -> Prediction {
        self.prediction
    }

    /// The signal's share of the variance at timestep `t`; beyond the last, that of the last.
    pub fn alpha_cumprod(&self, t: usize) -> f64 {
        self.alphas_cumprod[t.min(self.timesteps() - 1)]
    }

    /// `a x + b y` with coefficients by each sample's timestep.
    fn mix(
        &self,
        x: &Tensor,
        y: &Tensor,
        timesteps: &[usize],
        coefficients: impl Fn(f64) -> (f64, f64),
    ) -> Result<Tensor> {
        let mut shape = vec![1; x.rank()];
        shape[0] = timesteps.len();
        let (a, b): (Vec<f32>, Vec<f32>) = timesteps
            .iter()
            .map(|&t| coefficients(self.alpha_cumprod(t)))
            .map(|(a, b)| (a as f32, b as f32))
            .unzip();
        let a = Tensor::from_vec(a, shape.as_slice(), x.device())?.to_dtype(DType::F32)?;
        let b = Tensor::from_vec(b, shape.as_slice(), x.device())?.to_dtype(DType::F32)?;
        x.broadcast_mul(&a)? + y.broadcast_mul(&b)?
    }

    /// Latents at their timesteps: `x0` and `noise [B,h,w,C]`, one timestep a sample.
    pub fn add_noise(&self, x0: &Tensor, noise: &Tensor, timesteps: &[usize]) -> Result<Tensor> {
        self.mix(x0, noise, timesteps, |a| (a.sqrt(), (1.0 - a).sqrt()))
    }

    /// What the UNet should answer for [`NoiseSchedule::add_noise`]'s latents.
    pub fn target(&self, x0: &Tensor, noise: &Tensor, timesteps: &[usize]) -> Result<Tensor> {
        match self.prediction {
            Prediction::Epsilon => Ok(noise.clone()),
            Prediction::VPrediction => {
                self.mix(noise, x0, timesteps, |a| (a.sqrt(), -(1.0 - a).sqrt()))
            }
            Prediction::Sample => Ok(x0.clone()),
        }
    }

    /// The clean latents that an answer of the UNet stands for.
    pub fn predict_x0(
        &self,
        answer: &Tensor,
        sample: &Tensor,
        timesteps: &[usize],
    ) -> Result<Tensor> {
        let prediction = self.prediction;
        self.mix(sample, answer, timesteps, |a| clean(prediction, a))
    }

    /// Min-SNR loss weights (arXiv 2303.09556) with bound `gamma`, for the squared error of
    /// [`NoiseSchedule::target`].
    pub fn min_snr_weights(&self, timesteps: &[usize], gamma: f64) -> Vec<f32> {
        let weight = |t: &usize| {
            let a = self.alpha_cumprod(*t);
            let snr = a / (1.0 - a);
            let bounded = snr.min(gamma);
            match self.prediction {
                Prediction::Epsilon => bounded / snr,
                Prediction::VPrediction => bounded / (snr + 1.0),
                Prediction::Sample => bounded,
            }
        };
        timesteps.iter().map(|t| weight(t) as f32).collect()
    }
}

/// `(c, d)` such that the clean latents are `c sample + d answer` where the signal's share is `a`.
pub(super) fn clean(prediction: Prediction, a: f64) -> (f64, f64) {
    match prediction {
        Prediction::Epsilon => (1.0 / a.sqrt(), -((1.0 - a) / a).sqrt()),
        Prediction::VPrediction => (a.sqrt(), -(1.0 - a).sqrt()),
        Prediction::Sample => (0.0, 1.0),
    }
}

/// `(c, d)` such that the noise is `c sample + d answer` where the signal's share is `a`.
pub(super) fn noise_in(prediction: Prediction, a: f64) -> (f64, f64) {
    match prediction {
        Prediction::Epsilon => (0.0, 1.0),
        Prediction::VPrediction => ((1.0 - a).sqrt(), a.sqrt()),
        Prediction::Sample => (1.0 / (1.0 - a).sqrt(), -(a / (1.0 - a)).sqrt()),
    }
}

/// The cosine schedule's beta, of `n`.
fn cosine(i: usize, n: usize) -> f64 {
    let share = |i: usize| {
        let t = (i as f64 / n as f64 + 0.008) / 1.008;
        (t * std::f64::consts::FRAC_PI_2).cos().powi(2)
    };
    (1.0 - share(i + 1) / share(i)).min(0.999)
}

/// The table in f64, as models of our own and takes of theirs have it.
fn in_double(keys: &Keys) -> Vec<f64> {
    let n = keys.num_train_timesteps;
    let (start, end) = (keys.beta_start, keys.beta_end);
    let between = |a: f64, b: f64, i: usize| a + (b - a) * i as f64 / (n - 1) as f64;
    let beta = |i: usize| match (&keys.trained_betas, keys.beta_schedule) {
        (Some(given), _) => given[i],
        (None, BetaSchedule::Linear) => between(start, end, i),
        (None, BetaSchedule::ScaledLinear) => between(start.sqrt(), end.sqrt(), i).powi(2),
        (None, BetaSchedule::SquaredCosCapV2) => cosine(i, n),
    };
    let mut alphas_cumprod: Vec<f64> = (0..n)
        .scan(1.0, |product, i| {
            *product *= 1.0 - beta(i);
            Some(*product)
        })
        .collect();
    if keys.rescale_betas_zero_snr {
        let shifted = end_in_noise(&alphas_cumprod.iter().map(|a| a.sqrt()).collect::<Vec<_>>());
        alphas_cumprod = shifted.into_iter().map(|root| root * root).collect();
    }
    alphas_cumprod
}

/// The table as PyTorch makes it, bit for bit: in f32, but for the running product. What it rounds
/// is seen: timesteps of Karras levels are found by it.
fn in_single(keys: &Keys) -> Vec<f64> {
    let n = keys.num_train_timesteps;
    let (start, end) = (keys.beta_start, keys.beta_end);
    let betas: Vec<f32> = match (&keys.trained_betas, keys.beta_schedule) {
        (Some(given), _) => given.iter().map(|beta| *beta as f32).collect(),
        (None, BetaSchedule::Linear) => linspace(start, end, n),
        (None, BetaSchedule::ScaledLinear) => {
            let roots = linspace(start.sqrt(), end.sqrt(), n);
            roots.into_iter().map(|root| root * root).collect()
        }
        (None, BetaSchedule::SquaredCosCapV2) => (0..n).map(|i| cosine(i, n) as f32).collect(),
    };
    let mut alphas_cumprod = running_product(betas.into_iter().map(|beta| 1.0 - beta));
    if keys.rescale_betas_zero_snr {
        let roots: Vec<f32> = alphas_cumprod.iter().map(|a| a.sqrt()).collect();
        let bars: Vec<f32> = end_in_noise(&roots)
            .iter()
            .map(|root| root * root)
            .collect();
        // diffusers goes back to betas and forth again.
        let ratios = bars.windows(2).map(|pair| pair[1] / pair[0]);
        let alphas = bars.first().copied().into_iter().chain(ratios);
        alphas_cumprod = running_product(alphas.map(|alpha| 1.0 - (1.0 - alpha)));
    }
    alphas_cumprod.into_iter().map(f64::from).collect()
}

/// PyTorch's: from both ends towards the middle, each rounded once.
fn linspace(start: f64, end: f64, n: usize) -> Vec<f32> {
    let (start, end) = (start as f32, end as f32);
    let step = (end - start) / (n - 1) as f32;
    let at = |i: usize| match i < n / 2 {
        true => step.mul_add(i as f32, start),
        false => (-step).mul_add((n - 1 - i) as f32, end),
    };
    (0..n).map(at).collect()
}

fn running_product(factors: impl Iterator<Item = f32>) -> Vec<f32> {
    let products = factors.scan(1.0, |product, factor| {
        *product *= f64::from(factor);
        Some(*product as f32)
    });
    products.collect()
}

/// Shifts and scales the square roots so that the last timestep is pure noise and the first stays
/// as it is (arXiv 2305.08891, algorithm 1).
fn end_in_noise<T>(roots: &[T]) -> Vec<T>
where
    T: Copy + Sub<Output = T> + Mul<Output = T> + Div<Output = T>,
{
    let (Some(&first), Some(&last)) = (roots.first(), roots.last()) else {
        return Vec::new();
    };
    let by = first / (first - last);
    roots.iter().map(|root| (*root - last) * by).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::noise;
    use candle_core::Device;

    fn schedule(prediction_type: Prediction) -> NoiseSchedule {
        let keys = Keys {
            prediction_type,
            ..Keys::default()
        };
        NoiseSchedule::of(&keys).unwrap()
    }

    fn largest_difference(a: &Tensor, b: &Tensor) -> f32 {
        let d = (a - b).unwrap().abs().unwrap();
        d.flatten_all()
            .unwrap()
            .max(0)
            .unwrap()
            .to_scalar()
            .unwrap()
    }

    #[test]
    fn a_perfect_answer_gives_the_clean_latents_back() {
        let dev = Device::Cpu;
        let x0 = noise(1, 0, &[3, 2, 2, 4], &dev).unwrap();
        let n = noise(1, 1, &[3, 2, 2, 4], &dev).unwrap();
        let t = [0, 400, 900];
        let all = [
            Prediction::Epsilon,
            Prediction::VPrediction,
            Prediction::Sample,
        ];
        for prediction in all {
            let s = schedule(prediction);
            let noisy = s.add_noise(&x0, &n, &t).unwrap();
            let answer = s.target(&x0, &n, &t).unwrap();
            let back = s.predict_x0(&answer, &noisy, &t).unwrap();
            assert!(largest_difference(&back, &x0) < 1e-4);
        }
    }

    #[test]
    fn weights_of_both_predictions_bound_the_same_loss_on_the_clean_latents() {
        // An error e of the clean latents is e * snr as squared error of the noise and
        // e * (snr + 1) as that of the velocity; weighted, both must be e * min(snr, gamma).
        let (e, v) = (
            schedule(Prediction::Epsilon),
            schedule(Prediction::VPrediction),
        );
        for t in [0usize, 100, 500, 999] {
            let a = e.alpha_cumprod(t);
            let snr = a / (1.0 - a);
            let we = f64::from(e.min_snr_weights(&[t], 5.0)[0]) * snr;
            let wv = f64::from(v.min_snr_weights(&[t], 5.0)[0]) * (snr + 1.0);
            assert!((we - snr.min(5.0)).abs() < 1e-5 * we);
            assert!((wv - snr.min(5.0)).abs() < 1e-5 * wv);
        }
    }

    #[test]
    fn a_rescaled_schedule_ends_in_noise_and_begins_as_before() {
        let keys = Keys {
            rescale_betas_zero_snr: true,
            ..Keys::default()
        };
        let (plain, zero) = (
            schedule(Prediction::Epsilon),
            NoiseSchedule::of(&keys).unwrap(),
        );
        assert_eq!(zero.alpha_cumprod(999), 0.0);
        assert!((zero.alpha_cumprod(0) - plain.alpha_cumprod(0)).abs() < 1e-6);
        assert!(zero.alpha_cumprod(500) < plain.alpha_cumprod(500));
    }

    /// Recorded from `torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000)**2, 0)`.
    #[test]
    fn the_table_is_pytorch_s() {
        let keys = Keys {
            beta_start: 0.00085,
            beta_end: 0.012,
            beta_schedule: BetaSchedule::ScaledLinear,
            ..Keys::default()
        };
        let table = NoiseSchedule::of(&keys).unwrap();
        for (t, bits) in [
            (0, 0x3f7fc84b),
            (1, 0x3f7f9054),
            (250, 0x3f2c7da7),
            (499, 0x3e8e2ab0),
            (500, 0x3e8d7b73),
            (751, 0x3d643997),
            (998, 0x3b9a8e83),
            (999, 0x3b98b3b6),
        ] {
            assert_eq!((table.alpha_cumprod(t) as f32).to_bits(), bits, "{t}");
        }
    }

    #[test]
    fn trained_betas_stand_above_the_named_schedule() {
        let mut keys = Keys {
            num_train_timesteps: 2,
            trained_betas: Some(vec![0.5, 0.25]),
            ..Keys::default()
        };
        let s = NoiseSchedule::of(&keys).unwrap();
        assert_eq!((s.alpha_cumprod(0), s.alpha_cumprod(1)), (0.5, 0.375));
        keys.num_train_timesteps = 3;
        let why = NoiseSchedule::of(&keys).unwrap_err().to_string();
        assert!(why.contains("trained_betas"), "{why}");
    }
}
