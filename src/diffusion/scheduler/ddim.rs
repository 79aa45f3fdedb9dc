//! DDIM with eta 0 (arXiv 2010.02502).

use super::plan::Plan;
use super::way::{Call, Clip, Space, Way, combine};
use super::{Begun, Method, Solver};
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

fn begin(plan: &Plan) -> Result<Begun> {
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
        Call {
            timestep: times[i],
            at,
            from: at,
            to,
        }
    });
    let way = Way {
        prediction: plan.keys.prediction_type,
        calls: plan.begin(calls.collect()),
        space: Space::Preserving,
        clip: Clip::of(&plan.keys, true),
        init_noise_sigma: 1.0,
        by_level: false,
    };
    Ok((way, Box::new(Ddim)))
}

impl Solver for Ddim {
    fn step(
        &mut self,
        way: &Way,
        answer: &Tensor,
        i: usize,
        sample: &Tensor,
        _: Option<&Tensor>,
    ) -> Result<Tensor> {
        let call = way.calls[i];
        let noise = way.noise(answer, i, sample)?;
        if matches!(way.clip, Clip::None) && call.from > 0.0 {
            return transfer(sample, &noise, call);
        }
        let x0 = way.predict_x0(answer, i, sample)?;
        combine(&x0, &noise, (call.to.sqrt(), (1.0 - call.to).sqrt()))
    }
}

/// Carries a sample from the beginning to the end of a step along `noise`: DDIM with eta 0
/// (equation 12) and, written otherwise, PNDM's transfer part (arXiv 2202.09778, equation 11).
pub(super) fn transfer(sample: &Tensor, noise: &Tensor, call: Call) -> Result<Tensor> {
    let Call { from, to, .. } = call;
    let scale = (to / from).sqrt();
    let by = (1.0 - to).sqrt() - scale * (1.0 - from).sqrt();
    combine(sample, noise, (scale, by))
}
