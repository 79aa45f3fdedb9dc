//! The loop that every stage of training runs in: steps, divergence, log, checkpoints, samples and
//! resume. What a stage learns from, and what it writes, is its own.

use super::optimizer::AdamW;
use super::{Result, TrainError, checkpoint, log};
use candle_core::backprop::GradStore;
use std::path::Path;

/// How often the means of the losses are written.
const LOG_EVERY: u64 = 25;

/// How long a run is, and how often it writes what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Course<'a> {
    /// Folder of the run.
    pub run: &'a Path,
    pub resume: bool,
    pub steps: u64,
    pub checkpoint_every: u64,
    /// 0 where there are no samples to make.
    pub sample_every: u64,
    /// What the losses of a step are called; the gradient's norm comes behind them.
    pub losses: &'static [&'static str],
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

    /// The learning rate of a parameter at a step.
    fn rate(&self, step: u64, name: &str) -> f64;

    /// Writes what has been learnt, beside each checkpoint.
    fn export(&mut self, opt: &AdamW) -> Result<()>;

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
    let Course { run, steps, .. } = *course;
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
        let norm = opt.step_each(&found.grads, |name| stage.rate(step, name))?;
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
