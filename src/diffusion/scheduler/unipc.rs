//! UniPC (arXiv 2302.04867): a predictor, and a corrector that uses each answer twice, both of
//! order 2 on clean latents.

use super::dpm_solver::calls;
use super::keys::TimestepSpacing;
use super::model_calls::{ClipSample, ModelCalls, SampleSpace, combine, half_log_snr, remember};
use super::plan::StepPlan;
use super::{Method, Solver, Steps};
use crate::nn::Result;
use candle_core::Tensor;

pub(super) const METHOD: Method = Method {
    name: "unipc",
    label: "UniPC",
    class: "UniPCMultistepScheduler",
    karras: false,
    defaults: |keys| keys.timestep_spacing = TimestepSpacing::Linspace,
    only: &[
        ("predict_x0", "[true]"),
        ("solver_order", "[1,2]"),
        ("disable_corrector", "[[]]"),
        ("use_exponential_sigmas", "[false]"),
        ("use_beta_sigmas", "[false]"),
        ("use_flow_sigmas", "[false]"),
    ],
    begin,
};

struct UniPc {
    /// Clean latents, latest last.
    history: Vec<Tensor>,
    /// The last step's sample after its correction, and the order of that step.
    before: Option<(Tensor, usize)>,
    order: usize,
    lower_order_final: bool,
    /// B(h) = h in place of B(h) = exp(h) - 1.
    bh1: bool,
}

fn begin(plan: &StepPlan) -> Result<Steps> {
    let keys = &plan.keys;
    let solver = UniPc {
        history: Vec::new(),
        before: None,
        order: keys.solver_order,
        lower_order_final: keys.lower_order_final,
        bh1: keys.solver_type == "bh1",
    };
    let way = ModelCalls {
        prediction: keys.prediction_type,
        calls: calls(plan),
        space: SampleSpace::Preserving,
        clip: ClipSample::of(keys, false),
        init_noise_sigma: 1.0,
        by_level: true,
    };
    Ok((way, Box::new(solver)))
}

/// From signal share `from` to `to`: what the sample and the clean latents weigh, and B(h) times
/// the signal's scale, and the step in half log SNR.
struct Step {
    kept: f64,
    grow: f64,
    by: f64,
    h: f64,
}

impl UniPc {
    fn between(&self, from: f64, to: f64) -> Step {
        let h = match to >= 1.0 {
            true => f64::INFINITY,
            false => half_log_snr(to) - half_log_snr(from),
        };
        let grow = (-h).exp_m1();
        Step {
            kept: ((1.0 - to) / (1.0 - from)).sqrt(),
            grow: -to.sqrt() * grow,
            by: -to.sqrt() * if self.bh1 { -h } else { grow },
            h,
        }
    }

    /// The sample at call `i`, corrected by the answer there, whose clean latents are `now`.
    fn correct(&self, way: &ModelCalls, i: usize, now: &Tensor, sample: &Tensor) -> Result<Tensor> {
        let Some((before, order)) = &self.before else {
            return Ok(sample.clone());
        };
        let step = self.between(way.calls[i - 1].from, way.calls[i].from);
        let last = &self.history[self.history.len() - 1];
        let base = combine(before, last, (step.kept, step.grow))?;
        let fresh = (now - last)?;
        if *order == 1 {
            return combine(&base, &fresh, (1.0, 0.5 * step.by));
        }
        let hh = -step.h;
        let b = if self.bh1 { hh } else { hh.exp_m1() };
        let p = hh.exp_m1() / hh - 1.0;
        let q = p / hh - 0.5;
        let r =
            (half_log_snr(way.calls[i - 2].from) - half_log_snr(way.calls[i - 1].from)) / step.h;
        // [[1, 1], [r, 1]] (rho1, rho2) = (p, 2 q) / B
        let (b1, b2) = (p / b, 2.0 * q / b);
        let rho1 = (b1 - b2) / (1.0 - r);
        let rho2 = b1 - rho1;
        let slope = ((&self.history[0] - last)? / r)?;
        let x = combine(&base, &slope, (1.0, rho1 * step.by))?;
        combine(&x, &fresh, (1.0, rho2 * step.by))
    }
}

impl Solver for UniPc {
    fn step(
        &mut self,
        way: &ModelCalls,
        answer: &Tensor,
        i: usize,
        sample: &Tensor,
        _: Option<&Tensor>,
    ) -> Result<Tensor> {
        let now = way.predict_x0(answer, i, sample)?;
        let sample = self.correct(way, i, &now, sample)?;
        remember(&mut self.history, now, 2);
        let left = way.calls.len() - i;
        let noiseless = way.calls[i].to >= 1.0;
        let most = if self.lower_order_final || noiseless {
            left
        } else {
            self.order
        };
        let order = self.order.min(most).min(i + 1);
        let step = self.between(way.calls[i].from, way.calls[i].to);
        let now = &self.history[self.history.len() - 1];
        let mut x = combine(&sample, now, (step.kept, step.grow))?;
        if order == 2 {
            let before = half_log_snr(way.calls[i - 1].from) - half_log_snr(way.calls[i].from);
            let slope = ((&self.history[0] - now)? * (0.5 * step.h / before))?;
            x = combine(&x, &slope, (1.0, step.by))?;
        }
        self.before = Some((sample, order));
        Ok(x)
    }
}
