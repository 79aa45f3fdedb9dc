//! DPM-Solver++(2M) (arXiv 2211.01095, algorithm 2).

use super::keys::TimestepSpacing;
use super::model_calls::{
    ClipSample, ModelCall, ModelCalls, SampleSpace, combine, half_log_snr, remember,
};
use super::plan::StepPlan;
use super::{Method, Solver, Steps};
use crate::nn::Result;
use candle_core::Tensor;

pub(super) const METHOD: Method = Method {
    name: "dpm++",
    label: "DPM++ 2M",
    class: "DPMSolverMultistepScheduler",
    karras: false,
    defaults: |keys| keys.timestep_spacing = TimestepSpacing::Linspace,
    only: &[
        ("algorithm_type", r#"["dpmsolver++","deis"]"#),
        ("solver_order", "[1,2]"),
        ("use_lu_lambdas", "[false]"),
        ("use_exponential_sigmas", "[false]"),
        ("use_beta_sigmas", "[false]"),
        ("use_flow_sigmas", "[false]"),
        ("variance_type", "[]"),
        ("lambda_min_clipped", r#"["-Infinity"]"#),
    ],
    begin,
};

pub(super) const KARRAS: Method = Method {
    name: "dpm++-karras",
    label: "DPM++ 2M Karras",
    karras: true,
    ..METHOD
};

/// With fewer steps, the last is of first order.
const FEW: usize = 15;

struct DpmSolver {
    /// Clean latents, latest last.
    history: Vec<Tensor>,
    first_order: bool,
    heun: bool,
    /// Whether the last step is of first order.
    plain_end: bool,
}

/// Timesteps spread as if there were one more, as whole numbers.
pub(super) fn calls(plan: &StepPlan) -> Vec<ModelCall> {
    let times = plan.spread(plan.steps + 1);
    let times: Vec<f64> = times.iter().map(|t| t.round_ties_even()).collect();
    let mut calls = plan.by_level(&times, true);
    for call in &mut calls {
        call.timestep = call.timestep.round_ties_even();
    }
    plan.begin(calls)
}

fn begin(plan: &StepPlan) -> Result<Steps> {
    let keys = &plan.keys;
    let calls = calls(plan);
    let noiseless = calls.last().is_some_and(|call| call.to >= 1.0);
    let solver = DpmSolver {
        history: Vec::new(),
        first_order: keys.solver_order == 1,
        heun: keys.solver_type == "heun",
        plain_end: noiseless || keys.euler_at_final || (keys.lower_order_final && plan.steps < FEW),
    };
    let way = ModelCalls {
        prediction: keys.prediction_type,
        calls,
        space: SampleSpace::Preserving,
        clip: ClipSample::of(keys, false),
        init_noise_sigma: 1.0,
        by_level: true,
    };
    Ok((way, Box::new(solver)))
}

impl Solver for DpmSolver {
    fn step(
        &mut self,
        way: &ModelCalls,
        answer: &Tensor,
        i: usize,
        sample: &Tensor,
        _: Option<&Tensor>,
    ) -> Result<Tensor> {
        let x0 = way.predict_x0(answer, i, sample)?;
        remember(&mut self.history, x0, 2);
        let ModelCall { from, to, .. } = way.calls[i];
        let now = &self.history[self.history.len() - 1];
        if to >= 1.0 {
            return Ok(now.clone());
        }
        let h = half_log_snr(to) - half_log_snr(from);
        let grow = -to.sqrt() * (-h).exp_m1();
        let kept = combine(sample, now, (((1.0 - to) / (1.0 - from)).sqrt(), grow))?;
        let last = i + 1 == way.calls.len();
        if i == 0 || self.first_order || (last && self.plain_end) {
            return Ok(kept);
        }
        let before = half_log_snr(from) - half_log_snr(way.calls[i - 1].from);
        let slope = ((now - &self.history[0])? * (h / before))?;
        let by = match self.heun {
            true => to.sqrt() * ((-h).exp_m1() / h + 1.0),
            false => 0.5 * grow,
        };
        combine(&kept, &slope, (1.0, by))
    }
}
