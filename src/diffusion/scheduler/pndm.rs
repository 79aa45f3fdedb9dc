//! PNDM without Runge-Kutta steps, known as PLMS: pseudo linear multistep (arXiv 2202.09778),
//! Adams-Bashforth warmed up by doing the first step twice.

use super::ddim::transfer;
use super::plan::Plan;
use super::way::{Call, Clip, Space, Way, combine, remember};
use super::{Begun, Method, Solver};
use crate::diffusion::schedule::noise_in;
use crate::nn::Result;
use candle_core::Tensor;

pub(super) const METHOD: Method = Method {
    name: "pndm",
    label: "PNDM",
    class: "PNDMScheduler",
    karras: false,
    defaults: |keys| keys.set_alpha_to_one = false,
    only: &[
        ("skip_prk_steps", "[true]"),
        ("rescale_betas_zero_snr", "[false]"),
    ],
    begin,
};

#[derive(Default)]
struct Pndm {
    /// Whether noises are weighed, or answers as they are.
    noises: bool,
    /// What was answered before, latest last.
    history: Vec<Tensor>,
    /// The first sample, from which the second call starts again.
    first: Option<Tensor>,
}

fn begin(plan: &Plan) -> Result<Begun> {
    let mut times: Vec<f64> = plan
        .spread(plan.steps)
        .iter()
        .map(|t| t.round_ties_even())
        .collect();
    if times.len() > 1 {
        times.insert(1, times[1]);
    }
    times.drain(..plan.start.min(times.len()));
    let stride = (plan.trained() / plan.steps) as f64;
    let listed = plan.keys.next_listed;
    let calls = (0..times.len()).map(|i| {
        let (timestep, at) = (times[i], plan.alpha(times[i]));
        let (from, to) = match i {
            // The first step is taken twice, the second time with what is at its end as well.
            1 if listed => (plan.alpha(times[0]), at),
            1 => (plan.alpha(timestep + stride), at),
            _ if listed => {
                let next = times.get(i + 1);
                (at, next.map_or(plan.last_alpha(), |&t| plan.alpha(t)))
            }
            _ => (at, plan.alpha_below(timestep)),
        };
        Call {
            timestep,
            at,
            from,
            to,
        }
    });
    let way = Way {
        prediction: plan.keys.prediction_type,
        calls: calls.collect(),
        space: Space::Preserving,
        clip: Clip::None,
        init_noise_sigma: 1.0,
        by_level: false,
    };
    let solver = Pndm {
        noises: listed,
        ..Pndm::default()
    };
    Ok((way, Box::new(solver)))
}

impl Pndm {
    /// Carries `sample` along what was weighed, which is noise or an answer.
    fn carry(&self, way: &Way, i: usize, sample: &Tensor, weighed: &Tensor) -> Result<Tensor> {
        let call = way.calls[i];
        if self.noises {
            return transfer(sample, weighed, call);
        }
        let noise = combine(sample, weighed, noise_in(way.prediction, call.from))?;
        transfer(sample, &noise, call)
    }
}

impl Solver for Pndm {
    fn step(
        &mut self,
        way: &Way,
        answer: &Tensor,
        i: usize,
        sample: &Tensor,
        _: Option<&Tensor>,
    ) -> Result<Tensor> {
        let answer = match self.noises {
            true => way.noise(answer, i, sample)?,
            false => answer.clone(),
        };
        if i == 1 {
            let mean = ((&answer + &self.history[0])? * 0.5)?;
            let first = self.first.take().unwrap_or_else(|| sample.clone());
            return self.carry(way, i, &first, &mean);
        }
        if i == 0 {
            self.first = Some(sample.clone());
        }
        remember(&mut self.history, answer, 4);
        let weights: &[f64] = match self.history.len() {
            1 => &[1.0],
            2 => &[-1.0 / 2.0, 3.0 / 2.0],
            3 => &[5.0 / 12.0, -16.0 / 12.0, 23.0 / 12.0],
            _ => &[-9.0 / 24.0, 37.0 / 24.0, -59.0 / 24.0, 55.0 / 24.0],
        };
        let mut sum = self.history[0].affine(weights[0], 0.0)?;
        for (answer, weight) in self.history.iter().zip(weights).skip(1) {
            sum = (sum + answer.affine(*weight, 0.0)?)?;
        }
        self.carry(way, i, sample, &sum)
    }
}
