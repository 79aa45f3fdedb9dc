//! The loop that every stage of training runs in: steps, divergence, log, checkpoints, samples and
//! resume. What a stage learns from, and what it writes, is its own.

use super::optimizer::{AdamW, learning_rate, linear_rate};
use super::{Result, TrainError, checkpoint, log};
use candle_core::backprop::GradStore;
use std::path::Path;

/// How often the means of the losses are written.
const LOG_EVERY: u64 = 25;

/// How long a run is, and how often it writes what.
#[derive(Clone, Debug)]
pub(crate) struct Course<'a> {
    /// Folder of the run.
    pub run: &'a Path,
    pub resume: bool,
    /// The parts of the run, one after the other.
    pub phases: Vec<Phase>,
    pub checkpoint_every: u64,
    /// 0 where there are no samples to make.
    pub sample_every: u64,
    /// What the losses of a step are called; the gradient's norm comes behind them.
    pub losses: &'static [&'static str],
}

/// Steps of a run and the learning rate over them: up to `peak` in `warmup` steps, and down to zero
/// at the last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Phase {
    pub peak: f64,
    pub warmup: u64,
    pub steps: u64,
    pub decay: Decay,
}

/// How the learning rate falls.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Decay {
    /// Constant up to this share of the steps, then half a cosine.
    Cosine { from: f64 },
    /// transformers' `get_linear_schedule_with_warmup`.
    Linear,
}

impl Phase {
    /// A constant rate from the warm-up to a share `from` of the steps, then half a cosine.
    pub(crate) fn cosine(peak: f64, warmup: u64, steps: u64, from: f64) -> Phase {
        Phase {
            peak,
            warmup,
            steps,
            decay: Decay::Cosine { from },
        }
    }

    fn rate(&self, step: u64) -> f64 {
        match self.decay {
            Decay::Cosine { from } => learning_rate(self.peak, step, self.warmup, self.steps, from),
            Decay::Linear => linear_rate(self.peak, step, self.warmup, self.steps),
        }
    }
}

impl<'a> Course<'a> {
    /// A run of one part, without samples.
    pub(crate) fn new(
        run: &'a Path,
        resume: bool,
        phase: Phase,
        checkpoint_every: u64,
        losses: &'static [&'static str],
    ) -> Course<'a> {
        Course {
            run,
            resume,
            phases: vec![phase],
            checkpoint_every,
            sample_every: 0,
            losses,
        }
    }

    fn steps(&self) -> u64 {
        self.phases.iter().map(|phase| phase.steps).sum()
    }

    /// The learning rate of a step, counted from 0.
    fn rate(&self, mut step: u64) -> f64 {
        for phase in &self.phases {
            if step < phase.steps {
                return phase.rate(step);
            }
            step -= phase.steps;
        }
        0.0
    }
}

/// What one step has found.
pub(crate) struct StepLosses {
    /// Of each part of the batch, already times its share.
    pub grads: Vec<GradStore>,
    pub losses: Vec<f64>,
    pub samples: usize,
}

/// A stage as the loop sees it. All that is random in a step follows from its number, so that a run
/// can be taken up again.
pub(crate) trait Stage {
    /// Whether a parameter without a gradient is an error, or may rest in a step.
    const ALL_LEARN: bool = true;

    /// Writes what does not change during the run.
    ///
    /// # Errors
    /// Files that can't be written; so for the others.
    fn begin(&mut self) -> Result<()> {
        Ok(())
    }

    /// Gradients and losses of step `step`, counted from 0.
    fn step(&mut self, step: u64) -> Result<StepLosses>;

    /// What the learning rate is multiplied by for the parameter of this name.
    fn rate_factor(&self, _name: &str) -> f64 {
        1.0
    }

    /// Writes what has been learnt, beside each checkpoint; some stages do at the end only.
    fn export(&mut self, _opt: &AdamW) -> Result<()> {
        Ok(())
    }

    /// Makes samples to look at; `last` at the end of the run.
    fn sample(&mut self, _opt: &AdamW, _last: bool) -> Result<()> {
        Ok(())
    }
}

/// Runs a stage from where its folder stands to its last step.
///
/// # Errors
/// A folder that can't be used, a loss that is no longer a number, and whatever the stage meets.
pub(crate) fn run<S: Stage>(course: &Course, opt: &mut AdamW, stage: &mut S) -> Result<()> {
    let (run, steps) = (course.run, course.steps());
    checkpoint::open(run, course.resume, opt)?;
    let mut losses = log::LossLog::open(run, course.losses)?;
    stage.begin()?;
    let bar = log::progress(opt.steps(), steps);
    while opt.steps() < steps {
        let step = opt.steps();
        let found = stage.step(step)?;
        if !found.losses.iter().all(|loss| loss.is_finite()) {
            return Err(TrainError::Diverged(step));
        }
        if S::ALL_LEARN {
            opt.all_learn(&found.grads)?;
        }
        let rate = course.rate(step);
        let norm = opt.step_each(&found.grads, |name| rate * stage.rate_factor(name))?;
        losses.add(&[&found.losses[..], &[norm]].concat());
        bar.inc(1);
        let step = opt.steps();
        let last = step == steps;
        let due = |every: u64| last || (every > 0 && step.is_multiple_of(every));
        if due(LOG_EVERY) {
            bar.suspend(|| losses.flush(step, steps, found.samples))?;
        }
        if due(course.checkpoint_every) {
            checkpoint::save(run, opt)?;
            bar.suspend(|| stage.export(opt))?;
            log::write_curves(run)?;
        }
        if course.sample_every > 0 && due(course.sample_every) {
            bar.suspend(|| stage.sample(opt, last))?;
        }
    }
    bar.finish();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_of_a_run_has_its_own_warm_up_and_decay() {
        let phase = |peak, decay| Phase {
            peak,
            warmup: 2,
            steps: 4,
            decay,
        };
        let course = Course {
            run: Path::new(""),
            resume: false,
            phases: vec![
                phase(1.0, Decay::Linear),
                phase(8.0, Decay::Cosine { from: 0.5 }),
            ],
            checkpoint_every: 1,
            sample_every: 0,
            losses: &[],
        };
        let rates: Vec<f64> = (0..course.steps()).map(|step| course.rate(step)).collect();
        assert_eq!(rates[..4], [0.0, 0.5, 1.0, 0.5]);
        assert_eq!(rates[4..7], [4.0, 8.0, 8.0]);
        assert!(rates[7] < 8.0 && course.rate(8) == 0.0);
    }
}
