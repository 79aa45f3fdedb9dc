//! From noise to latents in a few steps.
//!
//! Every scheduler is a file with a [`Method`] and a line in the list below. A method plans its
//! calls of the UNet from the model's `scheduler_config.json` and then takes the steps; what all
//! have in common is [`ModelCalls`].

mod config;
mod ddim;
mod dpm_solver;
mod euler;
mod euler_ancestral;
mod keys;
mod lcm;
mod model_calls;
mod plan;
mod pndm;
mod unipc;

#[cfg(test)]
mod tests;

pub use config::SchedulerConfig;
pub(in crate::diffusion) use keys::Keys;
pub use keys::TimestepSpacing;

use crate::nn::Result;
use candle_core::Tensor;
use model_calls::ModelCalls;
use plan::StepPlan;
use std::fmt;
use std::str::FromStr;

/// One way to take the steps, and the class of diffusers that it computes.
struct Method {
    /// As in settings and on the command line.
    name: &'static str,
    /// For people.
    label: &'static str,
    /// diffusers' class.
    class: &'static str,
    /// Whether its noise levels are those of Karras et al. whatever the file says.
    karras: bool,
    /// What the class takes where the file leaves a key out.
    defaults: fn(&mut Keys),
    /// Keys that change the picture and are only computed with the values of that JSON list.
    only: &'static [(&'static str, &'static str)],
    begin: fn(&StepPlan) -> Result<Steps>,
}

/// The calls of a picture, and what takes its steps.
type Steps = (ModelCalls, Box<dyn Solver>);

/// Takes the steps of one picture.
trait Solver: Send {
    /// The sample after call `i`, from the UNet's answer and the sample before; `noise` is unit
    /// noise where [`Solver::draws_noise`].
    fn step(
        &mut self,
        way: &ModelCalls,
        answer: &Tensor,
        i: usize,
        sample: &Tensor,
        noise: Option<&Tensor>,
    ) -> Result<Tensor>;

    /// Whether it adds fresh noise between steps.
    fn draws_noise(&self) -> bool {
        false
    }
}

macro_rules! schedulers {
    ($($(#[$doc:meta])* $kind:ident => $method:expr,)*) => {
        /// How denoising steps are taken.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum SchedulerKind { $($(#[$doc])* $kind),* }

        impl SchedulerKind {
            /// All of them, in the order in which they are offered.
            pub const ALL: &[SchedulerKind] = &[$(SchedulerKind::$kind),*];

            fn method(self) -> &'static Method {
                match self { $(SchedulerKind::$kind => &$method),* }
            }
        }
    };
}

schedulers! {
    /// DDIM without added noise (arXiv 2010.02502).
    Ddim => ddim::METHOD,
    /// PLMS, the linear multistep method of PNDM (arXiv 2202.09778).
    Pndm => pndm::METHOD,
    /// Euler's method (arXiv 2206.00364).
    Euler => euler::METHOD,
    /// Euler's method on Karras noise levels.
    EulerKarras => euler::KARRAS,
    /// Euler's method with fresh noise in each step.
    EulerAncestral => euler_ancestral::METHOD,
    /// Euler's method with fresh noise, on Karras noise levels.
    EulerAncestralKarras => euler_ancestral::KARRAS,
    /// DPM-Solver++, second order, multistep (arXiv 2211.01095).
    DpmSolverPp => dpm_solver::METHOD,
    /// DPM-Solver++ on Karras noise levels.
    DpmSolverPpKarras => dpm_solver::KARRAS,
    /// UniPC, a predictor with a corrector (arXiv 2302.04867).
    UniPc => unipc::METHOD,
    /// Sampling of latent consistency models (arXiv 2310.04378).
    Lcm => lcm::METHOD,
}

impl SchedulerKind {
    /// The name in settings, on the command line and in records.
    pub fn name(self) -> &'static str {
        self.method().name
    }

    /// The name for people, such as `DPM++ 2M Karras`.
    pub fn label(self) -> &'static str {
        self.method().label
    }
}

impl fmt::Display for SchedulerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for SchedulerKind {
    type Err = String;

    fn from_str(name: &str) -> std::result::Result<SchedulerKind, String> {
        let found = SchedulerKind::ALL
            .iter()
            .find(|kind| kind.name() == name.to_ascii_lowercase());
        found.copied().ok_or_else(|| {
            let names: Vec<&str> = SchedulerKind::ALL.iter().map(|k| k.name()).collect();
            let (last, first) = names.split_last().unwrap_or((&"", &[]));
            format!(
                "\"{name}\" is not a scheduler; choose {} or {last}",
                first.join(", ")
            )
        })
    }
}

/// Takes the steps of one picture; a new picture needs a new one.
///
/// Samples are the variance-preserving latents of training, but for Euler's, which are clean
/// latents plus noise of growing scale: start from noise times [`Scheduler::init_noise_sigma`]
/// and pass samples through [`Scheduler::scale_input`] before the UNet sees them.
pub struct Scheduler {
    way: ModelCalls,
    solver: Box<dyn Solver>,
}

impl Scheduler {
    /// # Errors
    /// When `steps` is 0 or more than the timesteps of training, or the configuration asks for
    /// something that is not computed; the message names it.
    pub fn new(kind: SchedulerKind, config: &SchedulerConfig, steps: usize) -> Result<Self> {
        Self::beginning_at(kind, config, steps, 0)
    }

    /// As [`Scheduler::new`], without the first `start` calls (image to image).
    ///
    /// # Errors
    /// As [`Scheduler::new`].
    pub fn beginning_at(
        kind: SchedulerKind,
        config: &SchedulerConfig,
        steps: usize,
        start: usize,
    ) -> Result<Self> {
        let plan = StepPlan::new(kind, config, steps, start)?;
        let (way, solver) = (kind.method().begin)(&plan)?;
        way.check()?;
        Ok(Self { way, solver })
    }

    /// The call of the UNet at which image to image begins, by diffusers' rule; all of `steps`
    /// are left out where the strength is too small for one.
    pub fn first_step(steps: usize, strength: f64) -> usize {
        steps - ((steps as f64 * strength) as usize).min(steps)
    }

    /// The timestep of each call of the UNet; it may be a fraction. PNDM makes one more call than
    /// it was given steps.
    pub fn timesteps(&self) -> Vec<f64> {
        self.way.calls.iter().map(|call| call.timestep).collect()
    }

    /// The noise levels of the calls and the last one's end, for schedulers that go by them.
    pub fn sigmas(&self) -> Option<Vec<f64>> {
        self.way.sigmas()
    }

    /// What unit noise is multiplied by to start from.
    pub fn init_noise_sigma(&self) -> f64 {
        self.way.init_noise_sigma
    }

    /// The sample before call `i` as the UNet is to see it.
    pub fn scale_input(&self, sample: &Tensor, i: usize) -> Result<Tensor> {
        self.way.scale_input(sample, i)
    }

    /// The clean latents that the UNet's answer to call `i` stands for.
    pub fn predict_x0(&self, answer: &Tensor, i: usize, sample: &Tensor) -> Result<Tensor> {
        self.way.predict_x0(answer, i, sample)
    }

    /// Whether [`Scheduler::step`] takes unit noise.
    pub fn draws_noise(&self) -> bool {
        self.solver.draws_noise()
    }

    /// The sample after call `i`, from the UNet's answer, the sample before, and unit noise where
    /// [`Scheduler::draws_noise`].
    pub fn step(
        &mut self,
        answer: &Tensor,
        i: usize,
        sample: &Tensor,
        noise: Option<&Tensor>,
    ) -> Result<Tensor> {
        self.solver.step(&self.way, answer, i, sample, noise)
    }

    /// Clean latents with unit noise as they are before call `i`.
    pub fn add_noise(&self, x0: &Tensor, noise: &Tensor, i: usize) -> Result<Tensor> {
        self.way.add_noise(x0, noise, i)
    }
}
