//! From noise to latents in a few steps: DDIM, Euler, PNDM (PLMS) and DPM-Solver++(2M).

use super::schedule::{NoiseSchedule, Prediction, SchedulerConfig, Spacing, clean, noise_in};
use crate::nn::Result;
use candle_core::Tensor;
use std::fmt;
use std::str::FromStr;

/// How a denoising step is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SchedulerKind {
    #[default]
    Ddim,
    Euler,
    Pndm,
    DpmSolverPp,
}

impl SchedulerKind {
    pub const ALL: [SchedulerKind; 4] = [
        SchedulerKind::Ddim,
        SchedulerKind::Euler,
        SchedulerKind::Pndm,
        SchedulerKind::DpmSolverPp,
    ];

    /// The name in command lines and records.
    pub fn name(self) -> &'static str {
        match self {
            SchedulerKind::Ddim => "ddim",
            SchedulerKind::Euler => "euler",
            SchedulerKind::Pndm => "pndm",
            SchedulerKind::DpmSolverPp => "dpm++",
        }
    }
}

impl fmt::Display for SchedulerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for SchedulerKind {
    type Err = String;

    fn from_str(name: &str) -> std::result::Result<SchedulerKind, String> {
        SchedulerKind::ALL
            .into_iter()
            .find(|kind| kind.name() == name.to_ascii_lowercase())
            .ok_or_else(|| {
                format!("\"{name}\" is not a scheduler; choose ddim, euler, pndm or dpm++")
            })
    }
}

/// One call of the UNet.
#[derive(Clone, Copy, Debug)]
struct Call {
    /// The timestep that the UNet is told.
    timestep: usize,
    /// Signal shares (cumulative alphas): where the UNet looks, where the step begins and ends.
    at: f64,
    from: f64,
    to: f64,
}

/// Takes the steps of one picture; a new picture needs a new one.
///
/// Samples are the variance-preserving latents of training, but for Euler, whose samples are
/// clean latents plus noise of growing scale: start from noise times
/// [`Scheduler::init_noise_sigma`] and pass samples through [`Scheduler::scale_input`] before the
/// UNet sees them.
pub struct Scheduler {
    kind: SchedulerKind,
    prediction: Prediction,
    spacing: Spacing,
    calls: Vec<Call>,
    /// Earlier noises (PNDM) or clean latents (DPM-Solver++), latest last.
    history: Vec<Tensor>,
    /// PNDM's first sample, from which its second call starts again.
    first: Option<Tensor>,
}

impl Scheduler {
    /// # Errors
    /// When `steps` is 0 or more than the timesteps of training, or the configuration is not one.
    pub fn new(kind: SchedulerKind, config: &SchedulerConfig, steps: usize) -> Result<Self> {
        let schedule = NoiseSchedule::new(config)?;
        let n = schedule.timesteps();
        if steps == 0 || steps > n {
            candle_core::bail!("{steps} steps can't be taken; choose from 1 to {n}");
        }
        let times = spread(kind, config, steps);
        let last = match kind {
            // Sigma 0: these end without any noise.
            SchedulerKind::Euler | SchedulerKind::DpmSolverPp => 1.0,
            _ if config.set_alpha_to_one => 1.0,
            _ => schedule.alpha_cumprod(0),
        };
        let mut calls: Vec<Call> = (0..steps)
            .map(|i| {
                let at = schedule.alpha_cumprod(times[i]);
                Call {
                    timestep: times[i],
                    at,
                    from: at,
                    to: times
                        .get(i + 1)
                        .map_or(last, |&t| schedule.alpha_cumprod(t)),
                }
            })
            .collect();
        if kind == SchedulerKind::Pndm && steps > 1 {
            // The first step is taken twice, the second time with the noise at its end as well.
            let again = Call {
                timestep: calls[1].timestep,
                at: calls[1].at,
                ..calls[0]
            };
            calls.insert(1, again);
        }
        Ok(Self {
            kind,
            prediction: config.prediction_type,
            spacing: config.timestep_spacing,
            calls,
            history: Vec::new(),
            first: None,
        })
    }

    /// The timestep of each call of the UNet (PNDM makes one more than it was given steps).
    pub fn timesteps(&self) -> Vec<usize> {
        self.calls.iter().map(|c| c.timestep).collect()
    }

    /// What unit noise is multiplied by to start from.
    pub fn init_noise_sigma(&self) -> f64 {
        match self.kind {
            SchedulerKind::Euler => {
                let s = sigma(self.calls[0].at);
                match self.spacing {
                    Spacing::Leading => (s * s + 1.0).sqrt(),
                    Spacing::Trailing | Spacing::Linspace => s,
                }
            }
            _ => 1.0,
        }
    }

    /// The sample before call `i` as the UNet is to see it.
    pub fn scale_input(&self, sample: &Tensor, i: usize) -> Result<Tensor> {
        match self.kind {
            SchedulerKind::Euler => sample * self.calls[i].at.sqrt(),
            _ => Ok(sample.clone()),
        }
    }

    /// The clean latents that the UNet's answer to call `i` stands for.
    pub fn predict_x0(&self, answer: &Tensor, i: usize, sample: &Tensor) -> Result<Tensor> {
        let seen = self.scale_input(sample, i)?;
        combine(&seen, answer, clean(self.prediction, self.calls[i].at))
    }

    /// The sample after call `i`, from the UNet's answer and the sample before.
    pub fn step(&mut self, answer: &Tensor, i: usize, sample: &Tensor) -> Result<Tensor> {
        match self.kind {
            SchedulerKind::Ddim => {
                let noise = self.noise(answer, i, sample)?;
                self.transfer(sample, &noise, i)
            }
            SchedulerKind::Euler => {
                let noise = self.noise(answer, i, &self.scale_input(sample, i)?)?;
                let by = sigma(self.calls[i].to) - sigma(self.calls[i].from);
                combine(sample, &noise, (1.0, by))
            }
            SchedulerKind::Pndm => self.plms(answer, i, sample),
            SchedulerKind::DpmSolverPp => self.multistep(answer, i, sample),
        }
    }

    /// The noise in the variance-preserving `sample` that the answer stands for.
    fn noise(&self, answer: &Tensor, i: usize, sample: &Tensor) -> Result<Tensor> {
        combine(sample, answer, noise_in(self.prediction, self.calls[i].at))
    }

    /// Carries a sample from the beginning to the end of step `i` along `noise`: DDIM with eta 0
    /// (arXiv 2010.02502, equation 12) and, written otherwise, PNDM's transfer part (arXiv
    /// 2202.09778, equation 11).
    fn transfer(&self, sample: &Tensor, noise: &Tensor, i: usize) -> Result<Tensor> {
        let Call { from, to, .. } = self.calls[i];
        let scale = (to / from).sqrt();
        let by = (1.0 - to).sqrt() - scale * (1.0 - from).sqrt();
        combine(sample, noise, (scale, by))
    }

    /// Pseudo linear multistep: Adams-Bashforth on the noises, warmed up by doing the first step
    /// twice.
    fn plms(&mut self, answer: &Tensor, i: usize, sample: &Tensor) -> Result<Tensor> {
        let noise = self.noise(answer, i, sample)?;
        if i == 1 {
            let mean = ((&noise + &self.history[0])? * 0.5)?;
            let first = self.first.take().unwrap_or_else(|| sample.clone());
            return self.transfer(&first, &mean, i);
        }
        if i == 0 {
            self.first = Some(sample.clone());
        }
        self.remember(noise, 4);
        let weights: &[f64] = match self.history.len() {
            1 => &[1.0],
            2 => &[-1.0 / 2.0, 3.0 / 2.0],
            3 => &[5.0 / 12.0, -16.0 / 12.0, 23.0 / 12.0],
            _ => &[-9.0 / 24.0, 37.0 / 24.0, -59.0 / 24.0, 55.0 / 24.0],
        };
        let mut sum = self.history[0].affine(weights[0], 0.0)?;
        for (noise, weight) in self.history.iter().zip(weights).skip(1) {
            sum = (sum + noise.affine(*weight, 0.0)?)?;
        }
        self.transfer(sample, &sum, i)
    }

    /// DPM-Solver++(2M) (arXiv 2211.01095, algorithm 2): second order from the second step on,
    /// and first order into the noiseless end.
    fn multistep(&mut self, answer: &Tensor, i: usize, sample: &Tensor) -> Result<Tensor> {
        let x0 = self.predict_x0(answer, i, sample)?;
        self.remember(x0, 2);
        let Call { from, to, .. } = self.calls[i];
        let now = &self.history[self.history.len() - 1];
        if to >= 1.0 {
            return Ok(now.clone());
        }
        let h = half_log_snr(to) - half_log_snr(from);
        let grow = -to.sqrt() * (-h).exp_m1();
        let kept = combine(sample, now, (((1.0 - to) / (1.0 - from)).sqrt(), grow))?;
        if i == 0 {
            return Ok(kept);
        }
        let before = half_log_snr(from) - half_log_snr(self.calls[i - 1].from);
        let slope = ((now - &self.history[0])? * (h / before))?;
        combine(&kept, &slope, (1.0, 0.5 * grow))
    }

    fn remember(&mut self, t: Tensor, most: usize) {
        if self.history.len() == most {
            self.history.remove(0);
        }
        self.history.push(t);
    }
}

/// The timesteps of training at which the steps begin, noisiest first.
fn spread(kind: SchedulerKind, config: &SchedulerConfig, steps: usize) -> Vec<usize> {
    let n = config.num_train_timesteps;
    let cap = |t: usize| t.min(n - 1);
    // diffusers spreads DPM-Solver++'s steps as if there were one more.
    let parts = steps + usize::from(kind == SchedulerKind::DpmSolverPp);
    match config.timestep_spacing {
        Spacing::Leading => (parts - steps..parts)
            .rev()
            .map(|i| cap(i * (n / parts) + config.steps_offset))
            .collect(),
        Spacing::Trailing => (0..steps)
            .map(|i| n as f64 - i as f64 * n as f64 / steps as f64)
            .map(|t| (t.round_ties_even() as usize).saturating_sub(1))
            .collect(),
        Spacing::Linspace => (parts - steps..parts)
            .rev()
            .map(|i| (n - 1) as f64 * i as f64 / (parts - 1).max(1) as f64)
            .map(|t| t.round_ties_even() as usize)
            .collect(),
    }
}

/// `a x + b y`.
fn combine(x: &Tensor, y: &Tensor, (a, b): (f64, f64)) -> Result<Tensor> {
    x.affine(a, 0.0)? + y.affine(b, 0.0)?
}

/// The noise's scale where the signal's is 1.
fn sigma(alpha_cumprod: f64) -> f64 {
    ((1.0 - alpha_cumprod) / alpha_cumprod).sqrt()
}

fn half_log_snr(alpha_cumprod: f64) -> f64 {
    -sigma(alpha_cumprod).ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    const T: usize = 1000;

    /// Shares of signal by the definition, apart from the code under test.
    fn alphas() -> Vec<f64> {
        let mut product = 1.0;
        (0..T)
            .map(|i| {
                let r = 0.00085f64.sqrt()
                    + (0.012f64.sqrt() - 0.00085f64.sqrt()) * i as f64 / (T - 1) as f64;
                product *= 1.0 - r * r;
                product
            })
            .collect()
    }

    /// A stand-in for the UNet that depends on sample and time: a made-up smooth noise.
    fn epsilon(x: f64, t: usize) -> f64 {
        (0.3 * x + 0.001 * t as f64).sin()
    }

    fn config(spacing: Spacing, prediction: Prediction) -> SchedulerConfig {
        SchedulerConfig {
            timestep_spacing: spacing,
            prediction_type: prediction,
            steps_offset: 1,
            ..Default::default()
        }
    }

    /// Runs the scheduler on one number, answering as the prediction type asks.
    fn run(kind: SchedulerKind, c: &SchedulerConfig, steps: usize, start: f64) -> Vec<f64> {
        let a = alphas();
        let mut s = Scheduler::new(kind, c, steps).unwrap();
        let number = |t: &Tensor| f64::from(t.to_vec1::<f32>().unwrap()[0]);
        let tensor = |v: f64| Tensor::new(&[v as f32], &Device::Cpu).unwrap();
        let mut x = tensor(start * s.init_noise_sigma());
        let mut path = Vec::new();
        for (i, t) in s.timesteps().into_iter().enumerate() {
            let seen = number(&s.scale_input(&x, i).unwrap());
            let e = epsilon(seen, t);
            let answer = match c.prediction_type {
                Prediction::Epsilon => e,
                // From seen = sqrt(a) x0 + sqrt(1-a) e and v = sqrt(a) e - sqrt(1-a) x0.
                Prediction::VPrediction => {
                    let x0 = (seen - (1.0 - a[t]).sqrt() * e) / a[t].sqrt();
                    a[t].sqrt() * e - (1.0 - a[t]).sqrt() * x0
                }
            };
            x = s.step(&tensor(answer), i, &x).unwrap();
            path.push(number(&x));
        }
        path
    }

    fn assert_close(got: &[f64], want: &[f64]) {
        assert_eq!(got.len(), want.len());
        for (g, w) in got.iter().zip(want) {
            assert!((g - w).abs() < 1e-4 * (1.0 + w.abs()), "{got:?} {want:?}");
        }
    }

    #[test]
    fn euler_follows_its_plain_formula() {
        let a = alphas();
        // 5 steps, leading, offset 1.
        let times = [801, 601, 401, 201, 1];
        let sigma = |t: usize| ((1.0 - a[t]) / a[t]).sqrt();
        let mut x = 0.7 * (sigma(801).powi(2) + 1.0).sqrt();
        let mut want = Vec::new();
        for (i, &t) in times.iter().enumerate() {
            let next = times.get(i + 1).map_or(0.0, |&t| sigma(t));
            let derivative = epsilon(x / (sigma(t).powi(2) + 1.0).sqrt(), t);
            x += derivative * (next - sigma(t));
            want.push(x);
        }
        for prediction in [Prediction::Epsilon, Prediction::VPrediction] {
            let c = config(Spacing::Leading, prediction);
            assert_close(&run(SchedulerKind::Euler, &c, 5, 0.7), &want);
        }
    }

    #[test]
    fn dpm_solver_follows_its_plain_formula() {
        let a = alphas();
        // 5 steps, trailing.
        let times = [999, 799, 599, 399, 199];
        let lambda = |t: usize| (a[t].sqrt() / (1.0 - a[t]).sqrt()).ln();
        let mut x = 0.7;
        let mut want = Vec::new();
        let mut clean: Vec<f64> = Vec::new();
        for (i, &t) in times.iter().enumerate() {
            clean.push((x - (1.0 - a[t]).sqrt() * epsilon(x, t)) / a[t].sqrt());
            let Some(&next) = times.get(i + 1) else {
                want.push(clean[i]);
                break;
            };
            let h = lambda(next) - lambda(t);
            let mut d = clean[i];
            if i > 0 {
                let r = (lambda(t) - lambda(times[i - 1])) / h;
                d += 0.5 / r * (clean[i] - clean[i - 1]);
            }
            x = (1.0 - a[next]).sqrt() / (1.0 - a[t]).sqrt() * x
                - a[next].sqrt() * ((-h).exp() - 1.0) * d;
            want.push(x);
        }
        for prediction in [Prediction::Epsilon, Prediction::VPrediction] {
            let c = config(Spacing::Trailing, prediction);
            assert_close(&run(SchedulerKind::DpmSolverPp, &c, 5, 0.7), &want);
        }
    }

    #[test]
    fn predictions_of_noise_and_velocity_take_the_same_way() {
        for kind in SchedulerKind::ALL {
            let way = |p| run(kind, &config(Spacing::Leading, p), 8, 0.7);
            assert_close(&way(Prediction::VPrediction), &way(Prediction::Epsilon));
        }
    }

    #[test]
    fn every_kind_gives_the_clean_latents_of_a_knowing_model() {
        // A model that knows x0 = 0.5 answers the noise exactly; all solvers must arrive there.
        let a = alphas();
        for kind in SchedulerKind::ALL {
            for spacing in [Spacing::Leading, Spacing::Trailing, Spacing::Linspace] {
                let mut c = config(spacing, Prediction::Epsilon);
                c.set_alpha_to_one = true;
                let mut s = Scheduler::new(kind, &c, 10).unwrap();
                let mut x = Tensor::new(&[1f32], &Device::Cpu).unwrap();
                x = (x * s.init_noise_sigma()).unwrap();
                for (i, t) in s.timesteps().into_iter().enumerate() {
                    let seen = s.scale_input(&x, i).unwrap();
                    let e = ((&seen - 0.5 * a[t].sqrt()).unwrap() / (1.0 - a[t]).sqrt()).unwrap();
                    x = s.step(&e, i, &x).unwrap();
                }
                let end = x.to_vec1::<f32>().unwrap()[0];
                assert!((end - 0.5).abs() < 1e-3, "{kind} {spacing:?}: {end}");
            }
        }
    }

    #[test]
    fn any_number_of_steps_stays_within_training() {
        for kind in SchedulerKind::ALL {
            for spacing in [Spacing::Leading, Spacing::Trailing, Spacing::Linspace] {
                let c = config(spacing, Prediction::Epsilon);
                for steps in [1, 2, 3, 7, 30, 333, 1000] {
                    let s = Scheduler::new(kind, &c, steps).unwrap();
                    let times = s.timesteps();
                    let more = usize::from(kind == SchedulerKind::Pndm && steps > 1);
                    assert_eq!(times.len(), steps + more);
                    assert!(times.iter().all(|&t| t < T));
                    assert!(times.windows(2).all(|w| w[0] >= w[1]), "{kind} {steps}");
                }
                assert!(Scheduler::new(kind, &c, 0).is_err());
                assert!(Scheduler::new(kind, &c, 1001).is_err());
            }
        }
    }
}
