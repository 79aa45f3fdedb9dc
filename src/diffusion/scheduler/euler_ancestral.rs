//! Euler's method with fresh noise after every step (k-diffusion's ancestral sampling).

use super::model_calls::{ModelCalls, combine, fresh, sigma};
use super::plan::StepPlan;
use super::{Method, Solver, Steps, euler};
use crate::nn::Result;
use candle_core::Tensor;

pub(super) const METHOD: Method = Method {
    name: "euler-a",
    label: "Euler a",
    class: "EulerAncestralDiscreteScheduler",
    karras: false,
    defaults: euler::defaults,
    only: &[],
    begin: |plan| begin(plan, false),
};

/// Not in diffusers: the noise levels of `euler-karras`, the steps of `euler-a`.
pub(super) const KARRAS: Method = Method {
    name: "euler-a-karras",
    label: "Euler a Karras",
    karras: true,
    begin: |plan| begin(plan, true),
    ..METHOD
};

struct EulerAncestral;

fn begin(plan: &StepPlan, karras: bool) -> Result<Steps> {
    let mut keys = plan.keys.clone();
    // The class of diffusers knows neither key.
    keys.use_karras_sigmas = karras;
    keys.final_sigmas_type = super::keys::FinalSigma::Zero;
    let plan = StepPlan {
        keys,
        schedule: plan.schedule.clone(),
        ..*plan
    };
    Ok((euler::model_calls(&plan), Box::new(EulerAncestral)))
}

impl Solver for EulerAncestral {
    fn step(
        &mut self,
        way: &ModelCalls,
        answer: &Tensor,
        i: usize,
        sample: &Tensor,
        noise: Option<&Tensor>,
    ) -> Result<Tensor> {
        let (from, to) = (sigma(way.calls[i].from), sigma(way.calls[i].to));
        let up = (to * to * (from * from - to * to) / (from * from)).sqrt();
        let down = (to * to - up * up).max(0.0).sqrt();
        let direction = way.noise(answer, i, &way.scale_input(sample, i)?)?;
        let x = combine(sample, &direction, (1.0, down - from))?;
        combine(&x, fresh(noise)?, (1.0, up))
    }

    fn draws_noise(&self) -> bool {
        true
    }
}
