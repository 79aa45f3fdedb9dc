//! What a `scheduler_config.json` can say, with every key at its value.

use crate::diffusion::{BetaSchedule, Prediction};
use serde::{Deserialize, Serialize};

/// How the steps of sampling are spread over the timesteps of training (arXiv 2305.08891, table 2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimestepSpacing {
    /// Multiples of a whole stride, from the least timestep up.
    #[default]
    Leading,
    /// Multiples of a stride that need not be whole, from the greatest timestep down.
    Trailing,
    /// Evenly from the first timestep to the last, both included.
    Linspace,
}

/// The noise level at which the last step ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FinalSigma {
    Zero,
    /// That of timestep 0.
    SigmaMin,
}

/// The keys that we compute, under diffusers' names.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Keys {
    pub num_train_timesteps: usize,
    pub beta_start: f64,
    pub beta_end: f64,
    pub beta_schedule: BetaSchedule,
    pub trained_betas: Option<Vec<f64>>,
    pub rescale_betas_zero_snr: bool,
    pub prediction_type: Prediction,
    pub timestep_spacing: TimestepSpacing,
    pub steps_offset: usize,
    /// Whether the last step of DDIM and PNDM ends without any noise, or at timestep 0.
    pub set_alpha_to_one: bool,
    /// Whether PNDM begins without Runge-Kutta steps.
    pub skip_prk_steps: bool,
    pub clip_sample: bool,
    pub clip_sample_range: f64,
    pub thresholding: bool,
    pub dynamic_thresholding_ratio: f64,
    pub sample_max_value: f64,
    pub use_karras_sigmas: bool,
    pub sigma_min: Option<f64>,
    pub sigma_max: Option<f64>,
    pub final_sigmas_type: FinalSigma,
    pub solver_order: usize,
    pub solver_type: String,
    pub lower_order_final: bool,
    pub euler_at_final: bool,
    pub original_inference_steps: usize,
    pub timestep_scaling: f64,
    /// Not a key of diffusers: steps of DDIM and PNDM lead to the next of their timesteps, and
    /// PNDM weighs noises, not velocities. Takes of Sprout were drawn so.
    #[serde(skip)]
    pub next_listed: bool,
}

impl Default for Keys {
    /// What most classes of diffusers have in common.
    fn default() -> Self {
        Self {
            num_train_timesteps: 1000,
            beta_start: 0.0001,
            beta_end: 0.02,
            beta_schedule: BetaSchedule::Linear,
            trained_betas: None,
            rescale_betas_zero_snr: false,
            prediction_type: Prediction::Epsilon,
            timestep_spacing: TimestepSpacing::Leading,
            steps_offset: 0,
            set_alpha_to_one: true,
            skip_prk_steps: false,
            clip_sample: false,
            clip_sample_range: 1.0,
            thresholding: false,
            dynamic_thresholding_ratio: 0.995,
            sample_max_value: 1.0,
            use_karras_sigmas: false,
            sigma_min: None,
            sigma_max: None,
            final_sigmas_type: FinalSigma::Zero,
            solver_order: 2,
            solver_type: String::new(),
            lower_order_final: true,
            euler_at_final: false,
            original_inference_steps: 50,
            timestep_scaling: 10.0,
            next_listed: false,
        }
    }
}
