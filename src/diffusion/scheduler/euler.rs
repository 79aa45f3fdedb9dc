//! Euler's method on noise levels (arXiv 2206.00364, algorithm 2 without churn).

use super::keys::{Keys, TimestepSpacing};
use super::model_calls::{ClipSample, ModelCalls, SampleSpace, combine, sigma};
use super::plan::StepPlan;
use super::{Method, Solver, Steps};
use crate::nn::Result;
use candle_core::Tensor;

pub(super) const METHOD: Method = Method {
    name: "euler",
    label: "Euler",
    class: "EulerDiscreteScheduler",
    karras: false,
    defaults,
    only: &[
        ("interpolation_type", r#"["linear"]"#),
        ("timestep_type", r#"["discrete"]"#),
        ("use_exponential_sigmas", "[false]"),
        ("use_beta_sigmas", "[false]"),
    ],
    begin,
};

pub(super) const KARRAS: Method = Method {
    name: "euler-karras",
    label: "Euler Karras",
    karras: true,
    ..METHOD
};

struct Euler;

pub(super) fn defaults(keys: &mut Keys) {
    keys.timestep_spacing = TimestepSpacing::Linspace;
}

fn begin(plan: &StepPlan) -> Result<Steps> {
    Ok((model_calls(plan), Box::new(Euler)))
}

/// The calls of Euler's method, which the ancestral one shares.
pub(super) fn model_calls(plan: &StepPlan) -> ModelCalls {
    let times = plan.spread(plan.steps);
    // Where models of our own are spread from end to end, it is over whole timesteps.
    let times: Vec<f64> = match plan.keys.next_listed {
        true => times.iter().map(|t| t.round_ties_even()).collect(),
        false => times,
    };
    let calls = plan.by_level(&times, false);
    let most = sigma(calls[0].at);
    ModelCalls {
        prediction: plan.keys.prediction_type,
        calls: plan.begin(calls),
        space: SampleSpace::Exploding,
        clip: ClipSample::None,
        init_noise_sigma: match plan.keys.timestep_spacing {
            TimestepSpacing::Leading => (most * most + 1.0).sqrt(),
            TimestepSpacing::Trailing | TimestepSpacing::Linspace => most,
        },
        by_level: true,
    }
}

impl Solver for Euler {
    fn step(
        &mut self,
        way: &ModelCalls,
        answer: &Tensor,
        i: usize,
        sample: &Tensor,
        _: Option<&Tensor>,
    ) -> Result<Tensor> {
        let noise = way.noise(answer, i, &way.scale_input(sample, i)?)?;
        let by = sigma(way.calls[i].to) - sigma(way.calls[i].from);
        combine(sample, &noise, (1.0, by))
    }
}
