//! How much noise a timestep holds, and what follows from it for training: noisy latents,
//! targets and loss weights. Coefficients are kept in f64; tensors are f32.

use super::SchedulerConfig;
use super::scheduler::Keys;
use crate::nn::Result;
use candle_core::{DType, Tensor};
use serde::{Deserialize, Serialize};

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
        let between = |a: f64, b: f64, i: usize| a + (b - a) * i as f64 / (n - 1) as f64;
        let cosine = |i: usize| {
            let t = (i as f64 / n as f64 + 0.008) / 1.008;
            (t * std::f64::consts::FRAC_PI_2).cos().powi(2)
        };
        let beta = |i: usize| match (given, keys.beta_schedule) {
            (Some(given), _) => given[i],
            (None, BetaSchedule::Linear) => between(start, end, i),
            (None, BetaSchedule::ScaledLinear) => between(start.sqrt(), end.sqrt(), i).powi(2),
            (None, BetaSchedule::SquaredCosCapV2) => (1.0 - cosine(i + 1) / cosine(i)).min(0.999),
        };
        let mut alphas_cumprod: Vec<f64> = (0..n)
            .scan(1.0, |product, i| {
                *product *= 1.0 - beta(i);
                Some(*product)
            })
            .collect();
        if keys.rescale_betas_zero_snr {
            end_in_noise(&mut alphas_cumprod);
        }
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

/// Shifts and scales the square roots so that the last timestep is pure noise and the first stays
/// as it is (arXiv 2305.08891, algorithm 1).
fn end_in_noise(alphas_cumprod: &mut [f64]) {
    let (Some(&first), Some(&last)) = (alphas_cumprod.first(), alphas_cumprod.last()) else {
        return;
    };
    let (first, last) = (first.sqrt(), last.sqrt());
    for a in alphas_cumprod {
        *a = ((a.sqrt() - last) * first / (first - last)).powi(2);
    }
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
        assert!((zero.alpha_cumprod(0) - plain.alpha_cumprod(0)).abs() < 1e-12);
        assert!(zero.alpha_cumprod(500) < plain.alpha_cumprod(500));
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
