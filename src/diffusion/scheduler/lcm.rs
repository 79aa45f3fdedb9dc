//! Latent consistency models (arXiv 2310.04378): each call goes to clean latents, and fresh noise
//! leads to the next.

use super::model_calls::{ClipSample, ModelCall, ModelCalls, SampleSpace, combine, fresh};
use super::plan::StepPlan;
use super::{Method, Solver, Steps};
use crate::diffusion::BetaSchedule;
use crate::nn::Result;
use candle_core::Tensor;

pub(super) const METHOD: Method = Method {
    name: "lcm",
    label: "LCM",
    class: "LCMScheduler",
    karras: false,
    defaults: |keys| {
        keys.beta_start = 0.00085;
        keys.beta_end = 0.012;
        keys.beta_schedule = BetaSchedule::ScaledLinear;
    },
    only: &[],
    begin,
};

struct Lcm {
    timestep_scaling: f64,
}

/// How far consistency holds: the standard deviation of the data.
const SIGMA_DATA: f64 = 0.5;

fn begin(plan: &StepPlan) -> Result<Steps> {
    let (keys, n) = (&plan.keys, plan.trained());
    let distilled = keys.original_inference_steps;
    if distilled == 0 || distilled > n {
        candle_core::bail!(
            "the scheduler's original_inference_steps is {distilled}; it must be from 1 to {n}"
        );
    }
    if plan.steps > distilled {
        candle_core::bail!(
            "lcm takes at most {distilled} steps, not {}; choose fewer",
            plan.steps
        );
    }
    let times: Vec<f64> = (0..plan.steps)
        .map(|i| distilled - i * distilled / plan.steps)
        .map(|k| (k * (n / distilled) - 1) as f64)
        .collect();
    let calls = (0..times.len()).map(|i| {
        let at = plan.alpha(times[i]);
        ModelCall {
            timestep: times[i],
            at,
            from: at,
            to: times.get(i + 1).map_or(1.0, |&t| plan.alpha(t)),
        }
    });
    let way = ModelCalls {
        prediction: keys.prediction_type,
        calls: plan.begin(calls.collect()),
        space: SampleSpace::Preserving,
        clip: ClipSample::of(keys, true),
        init_noise_sigma: 1.0,
        by_level: false,
    };
    let timestep_scaling = keys.timestep_scaling;
    Ok((way, Box::new(Lcm { timestep_scaling })))
}

impl Solver for Lcm {
    fn step(
        &mut self,
        way: &ModelCalls,
        answer: &Tensor,
        i: usize,
        sample: &Tensor,
        noise: Option<&Tensor>,
    ) -> Result<Tensor> {
        let x0 = way.predict_x0(answer, i, sample)?;
        let call = way.calls[i];
        let t = call.timestep * self.timestep_scaling;
        let size = t * t + SIGMA_DATA * SIGMA_DATA;
        let skip = SIGMA_DATA * SIGMA_DATA / size;
        let denoised = combine(&x0, sample, (t / size.sqrt(), skip))?;
        if i + 1 == way.calls.len() {
            return Ok(denoised);
        }
        let scales = (call.to.sqrt(), (1.0 - call.to).sqrt());
        combine(&denoised, fresh(noise)?, scales)
    }

    fn draws_noise(&self) -> bool {
        true
    }
}
