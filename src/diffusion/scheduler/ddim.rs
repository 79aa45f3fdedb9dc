//! DDIM with eta 0 (arXiv 2010.02502).

use super::model_calls::{ClipSample, ModelCall, ModelCalls, SampleSpace, combine};
use super::plan::StepPlan;
use super::{Method, Solver, Steps};
use crate::nn::Result;
use candle_core::Tensor;

pub(super) const METHOD: Method = Method {
    name: "ddim",
    label: "DDIM",
    class: "DDIMScheduler",
    karras: false,
    defaults: |keys| keys.clip_sample = true,
    only: &[],
    begin,
};

struct Ddim;

fn begin(plan: &StepPlan) -> Result<Steps> {
    let times: Vec<f64> = plan
        .spread(plan.steps)
        .iter()
        .map(|t| t.round_ties_even())
        .collect();
    let calls = (0..times.len()).map(|i| {
        let at = plan.alpha(times[i]);
        let to = match plan.keys.next_listed {
            true => times
                .get(i + 1)
                .map_or(plan.last_alpha(), |&t| plan.alpha(t)),
            false => plan.alpha_below(times[i]),
        };
        ModelCall {
            timestep: times[i],
            at,
            from: at,
            to,
        }
    });
    let way = ModelCalls {
        prediction: plan.keys.prediction_type,
        calls: plan.begin(calls.collect()),
        space: SampleSpace::Preserving,
        clip: ClipSample::of(&plan.keys, true),
        init_noise_sigma: 1.0,
        by_level: false,
    };
    Ok((way, Box::new(Ddim)))
}

impl Solver for Ddim {
    fn step(
        &mut self,
        way: &ModelCalls,
        answer: &Tensor,
        i: usize,
        sample: &Tensor,
        _: Option<&Tensor>,
    ) -> Result<Tensor> {
        let call = way.calls[i];
        let noise = way.noise(answer, i, sample)?;
        if matches!(way.clip, ClipSample::None) && call.from > 0.0 {
            return transfer(sample, &noise, call);
        }
        let x0 = way.predict_x0(answer, i, sample)?;
        combine(&x0, &noise, (call.to.sqrt(), (1.0 - call.to).sqrt()))
    }
}

/// Carries a sample from the beginning to the end of a step along `noise`: DDIM with eta 0
/// (equation 12) and, written otherwise, PNDM's transfer part (arXiv 2202.09778, equation 11).
pub(super) fn transfer(sample: &Tensor, noise: &Tensor, call: ModelCall) -> Result<Tensor> {
    let ModelCall { from, to, .. } = call;
    let scale = (to / from).sqrt();
    let by = (1.0 - to).sqrt() - scale * (1.0 - from).sqrt();
    combine(sample, noise, (scale, by))
}
