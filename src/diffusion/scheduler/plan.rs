//! What every scheduler plans its calls of the UNet from.

use super::keys::{FinalSigma, Keys, TimestepSpacing};
use super::model_calls::{ModelCall, sigma};
use super::{SchedulerConfig, SchedulerKind};
use crate::diffusion::NoiseSchedule;
use crate::nn::Result;

/// The least share of signal where a schedule ends in pure noise and noise levels must stay
/// finite: 2^-24, as diffusers has it.
const LEAST: f64 = 5.960_464_477_539_063e-8;

/// A model's schedule, and how many steps are to be taken.
pub(super) struct StepPlan {
    pub keys: Keys,
    pub schedule: NoiseSchedule,
    pub steps: usize,
    /// How many calls are left out at the beginning.
    pub start: usize,
}

impl StepPlan {
    pub(super) fn new(
        kind: SchedulerKind,
        config: &SchedulerConfig,
        steps: usize,
        start: usize,
    ) -> Result<Self> {
        let keys = config.keys(kind)?;
        let schedule = NoiseSchedule::of(&keys)?;
        let n = schedule.timesteps();
        if steps == 0 || steps > n {
            candle_core::bail!("{steps} steps can't be taken; choose from 1 to {n}");
        }
        Ok(Self {
            keys,
            schedule,
            steps,
            start,
        })
    }

    /// Timesteps of training.
    pub(super) fn trained(&self) -> usize {
        self.schedule.timesteps()
    }

    /// The timesteps at which the steps begin, noisiest first, before any are left out. `parts`
    /// are the parts that they are spread over: DPM-Solver++ and UniPC spread as if there were one
    /// step more.
    pub(super) fn spread(&self, parts: usize) -> Vec<f64> {
        let (n, steps) = (self.trained(), self.steps);
        let parts_used = parts - steps..parts;
        match self.keys.timestep_spacing {
            TimestepSpacing::Leading => parts_used
                .rev()
                .map(|i| (i * (n / parts) + self.keys.steps_offset).min(n - 1) as f64)
                .collect(),
            TimestepSpacing::Trailing => (0..steps)
                .map(|i| n as f64 - i as f64 * n as f64 / steps as f64)
                .map(|t| (t.round_ties_even() - 1.0).max(0.0))
                .collect(),
            TimestepSpacing::Linspace => parts_used
                .rev()
                .map(|i| (n - 1) as f64 * i as f64 / (parts - 1).max(1) as f64)
                .collect(),
        }
    }

    /// The signal's share at a whole timestep.
    pub(super) fn alpha(&self, timestep: f64) -> f64 {
        self.schedule.alpha_cumprod(timestep as usize)
    }

    /// The same; where the schedule ends in pure noise, never so small that its noise level is
    /// infinite. Others may come near it: a cosine schedule ends at a level of some 20,000.
    pub(super) fn finite_alpha(&self, timestep: f64) -> f64 {
        let alpha = self.alpha(timestep);
        match self.keys.rescale_betas_zero_snr || alpha <= 0.0 {
            true => alpha.max(LEAST),
            false => alpha,
        }
    }

    /// The signal's share where DDIM and PNDM end.
    pub(super) fn last_alpha(&self) -> f64 {
        match self.keys.set_alpha_to_one {
            true => 1.0,
            false => self.schedule.alpha_cumprod(0),
        }
    }

    /// The signal's share a whole step below `timestep`.
    pub(super) fn alpha_below(&self, timestep: f64) -> f64 {
        let below = timestep - (self.trained() / self.steps) as f64;
        match below < 0.0 {
            true => self.last_alpha(),
            false => self.alpha(below),
        }
    }

    /// The signal's share at a timestep that may be a fraction: noise levels are linear between.
    fn alpha_between(&self, timestep: f64) -> f64 {
        let low = timestep.floor();
        let by = timestep - low;
        if by == 0.0 {
            return self.finite_alpha(low);
        }
        let (a, b) = (self.finite_alpha(low), self.finite_alpha(low + 1.0));
        of_sigma(sigma(a) * (1.0 - by) + sigma(b) * by)
    }

    /// The timestep of a noise level, by interpolation of its logarithm.
    fn timestep_of(&self, level: f64) -> f64 {
        let n = self.trained();
        let log = |t: usize| sigma(self.finite_alpha(t as f64)).ln();
        // The last of all but the highest timesteps whose level is not above.
        let (mut low, mut above) = (0, n - 1);
        while above - low > 1 {
            let middle = (low + above) / 2;
            match log(middle) <= level.ln() {
                true => low = middle,
                false => above = middle,
            }
        }
        let by = (log(low) - level.ln()) / (log(low) - log(low + 1));
        low as f64 + by.clamp(0.0, 1.0)
    }

    /// Calls by noise level, for the timesteps `times`. Karras levels lie between those of the
    /// first and the last of `times`, or between the table's ends where `whole`.
    pub(super) fn by_level(&self, times: &[f64], whole: bool) -> Vec<ModelCall> {
        let mut steps: Vec<(f64, f64)> =
            times.iter().map(|&t| (t, self.alpha_between(t))).collect();
        if self.keys.use_karras_sigmas {
            let ends = match whole {
                true => ((self.trained() - 1) as f64, 0.0),
                false => (times[0], times[times.len() - 1]),
            };
            let most = sigma(self.alpha_between(ends.0));
            let least = sigma(self.alpha_between(ends.1));
            let most = self.keys.sigma_max.unwrap_or(most);
            let least = self.keys.sigma_min.unwrap_or(least);
            steps = karras(most, least, self.steps)
                .into_iter()
                .map(|level| (self.timestep_of(level), of_sigma(level)))
                .collect();
        }
        let end = match self.keys.final_sigmas_type {
            FinalSigma::Zero => 1.0,
            FinalSigma::SigmaMin => self.finite_alpha(0.0),
        };
        let ends = steps[1..].iter().map(|(_, a)| *a).chain([end]);
        let all = steps.iter().zip(ends);
        all.map(|(&(timestep, at), to)| ModelCall {
            timestep,
            at,
            from: at,
            to,
        })
        .collect()
    }

    /// Those of the calls that are not left out.
    pub(super) fn begin(&self, mut calls: Vec<ModelCall>) -> Vec<ModelCall> {
        calls.drain(..self.start.min(calls.len()));
        calls
    }
}

/// The signal's share at a noise level.
fn of_sigma(level: f64) -> f64 {
    1.0 / (level * level + 1.0)
}

/// Noise levels of Karras et al. (arXiv 2206.00364, equation 5) with rho 7.
fn karras(most: f64, least: f64, steps: usize) -> Vec<f64> {
    const RHO: f64 = 7.0;
    let (most, least) = (most.powf(1.0 / RHO), least.powf(1.0 / RHO));
    (0..steps)
        .map(|i| i as f64 / (steps - 1).max(1) as f64)
        .map(|by| (most + by * (least - most)).powf(RHO))
        .collect()
}
