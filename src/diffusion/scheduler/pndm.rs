//! PNDM (arXiv 2202.09778): pseudo linear multistep, Adams-Bashforth warmed up by three pseudo
//! Runge-Kutta steps, or by doing the first step twice, which is known as PLMS.

use super::ddim::transfer;
use super::model_calls::{ClipSample, ModelCall, ModelCalls, SampleSpace, combine, remember};
use super::plan::StepPlan;
use super::{Method, Solver, Steps};
use crate::diffusion::schedule::noise_in;
use crate::nn::Result;
use candle_core::Tensor;

pub(super) const METHOD: Method = Method {
    name: "pndm",
    label: "PNDM",
    class: "PNDMScheduler",
    karras: false,
    defaults: |keys| keys.set_alpha_to_one = false,
    only: &[("rescale_betas_zero_snr", "[false]")],
    begin,
};

/// Calls of three Runge-Kutta steps, four each.
const WARMING: usize = 12;

#[derive(Default)]
struct Pndm {
    /// How many calls are those of Runge-Kutta steps.
    warming: usize,
    /// What the calls of a Runge-Kutta step add up to.
    sum: Option<Tensor>,
    /// Whether noises are weighed, or answers as they are.
    noises: bool,
    /// What was answered before, latest last.
    history: Vec<Tensor>,
    /// The sample from which the calls of one step start again.
    first: Option<Tensor>,
}

fn begin(plan: &StepPlan) -> Result<Steps> {
    if !plan.keys.skip_prk_steps {
        return begin_warm(plan);
    }
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
        ModelCall {
            timestep,
            at,
            from,
            to,
        }
    });
    let solver = Pndm {
        noises: listed,
        ..Pndm::default()
    };
    Ok((way(plan, calls.collect()), Box::new(solver)))
}

/// With Runge-Kutta steps: each is four calls, at its begin, twice half way, and at its end.
fn begin_warm(plan: &StepPlan) -> Result<Steps> {
    let times = plan.spread(plan.steps);
    let times: Vec<f64> = times.iter().map(|t| t.round_ties_even()).collect();
    if times.len() < 4 || plan.start > 0 {
        candle_core::bail!(
            "the scheduler's skip_prk_steps is false, and pndm then takes at least 4 steps and begins from noise alone; take more steps or choose another scheduler"
        );
    }
    let half = (plan.trained() / plan.steps / 2) as f64;
    let warming = times[..3]
        .iter()
        .zip(&times[1..])
        .flat_map(|(&begin, &end)| {
            let from = plan.alpha(begin);
            [
                (begin, begin - half),
                (end + half, end + half),
                (end + half, end),
                (end, end),
            ]
            .map(|(timestep, to)| ModelCall {
                timestep,
                at: plan.alpha(timestep),
                from,
                to: plan.alpha(to.max(0.0)),
            })
        });
    let after = times[3..].iter().map(|&timestep| ModelCall {
        timestep,
        at: plan.alpha(timestep),
        from: plan.alpha(timestep),
        to: plan.alpha_below(timestep),
    });
    let solver = Pndm {
        warming: WARMING,
        ..Pndm::default()
    };
    Ok((way(plan, warming.chain(after).collect()), Box::new(solver)))
}

fn way(plan: &StepPlan, calls: Vec<ModelCall>) -> ModelCalls {
    ModelCalls {
        prediction: plan.keys.prediction_type,
        calls,
        space: SampleSpace::Preserving,
        clip: ClipSample::None,
        init_noise_sigma: 1.0,
        by_level: false,
    }
}

impl Pndm {
    /// Carries `sample` along what was weighed, which is noise or an answer.
    fn carry(
        &self,
        way: &ModelCalls,
        i: usize,
        sample: &Tensor,
        weighed: &Tensor,
    ) -> Result<Tensor> {
        let call = way.calls[i];
        if self.noises {
            return transfer(sample, weighed, call);
        }
        let noise = combine(sample, weighed, noise_in(way.prediction, call.from))?;
        transfer(sample, &noise, call)
    }
}

impl Pndm {
    /// A call of a Runge-Kutta step: the first three only lead to where the next one looks.
    fn warm(
        &mut self,
        way: &ModelCalls,
        i: usize,
        sample: &Tensor,
        answer: &Tensor,
    ) -> Result<Tensor> {
        let place = i % 4;
        if place == 0 {
            self.first = Some(sample.clone());
            remember(&mut self.history, answer.clone(), 4);
        }
        let share = if matches!(place, 0 | 3) { 6.0 } else { 3.0 };
        let part = (answer / share)?;
        let sum = match self.sum.take() {
            Some(sum) => (sum + part)?,
            None => part,
        };
        let first = self.first.clone().unwrap_or_else(|| sample.clone());
        if place == 3 {
            return self.carry(way, i, &first, &sum);
        }
        self.sum = Some(sum);
        self.carry(way, i, &first, answer)
    }
}

impl Solver for Pndm {
    fn step(
        &mut self,
        way: &ModelCalls,
        answer: &Tensor,
        i: usize,
        sample: &Tensor,
        _: Option<&Tensor>,
    ) -> Result<Tensor> {
        let answer = match self.noises {
            true => way.noise(answer, i, sample)?,
            false => answer.clone(),
        };
        if i < self.warming {
            return self.warm(way, i, sample, &answer);
        }
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
