//! The way of one picture's latents, whatever predicts: from noise, from a picture (image to
//! image), or only where a mask says so (inpainting).

use super::error::DiffusionError;
use super::{Scheduler, SchedulerConfig, SchedulerKind};
use crate::nn::Result as TensorResult;
use candle_core::{DType, Tensor};
use std::ops::ControlFlow;

/// Latents to begin from, scaled as the UNet has them `[1,h,w,C]`.
struct InitLatents {
    latents: Tensor,
    strength: f64,
    /// `[1,h,w,1]`: 1 is drawn anew, 0 stays, where it stays by blending.
    keep: Option<Tensor>,
    /// Whether a mask says what is drawn anew; then strength 1 leaves nothing of the picture.
    masked: bool,
}

/// The denoising loop of one picture: its latents, and the scheduler's steps from the first to the
/// last.
pub struct Trajectory {
    scheduler: Scheduler,
    init: Option<InitLatents>,
}

/// One call of the UNet: its timestep and the latents that it gets.
pub struct UnetCall<'a> {
    /// From 0.
    pub index: usize,
    /// How many there are.
    pub count: usize,
    /// Timestep that the UNet is told; may lie between two of those it was trained on.
    pub timestep: f64,
    /// Latents as the UNet is to see them.
    pub seen: &'a Tensor,
    pub(super) scheduler: &'a Scheduler,
}

impl UnetCall<'_> {
    /// Clean latents with unit noise as the UNet would see them in this call.
    ///
    /// # Errors
    /// Shapes that don't fit.
    pub fn noised(&self, clean: &Tensor, noise: &Tensor) -> TensorResult<Tensor> {
        let noisy = self.scheduler.add_noise(clean, noise, self.index)?;
        self.scheduler.scale_input(&noisy, self.index)
    }
}

/// A denoising step that was taken.
pub struct StepResult<'a> {
    /// From 0.
    pub index: usize,
    /// How many there are.
    pub count: usize,
    /// Latents after the step, `[1,h,w,C]`.
    pub latents: &'a Tensor,
    /// The clean latents that they lead to.
    pub clean: Tensor,
}

impl Trajectory {
    /// From noise alone.
    ///
    /// # Errors
    /// Steps out of range, or a scheduler that does not compute what the model asks for.
    pub fn of_noise(
        kind: SchedulerKind,
        config: &SchedulerConfig,
        steps: usize,
    ) -> Result<Self, DiffusionError> {
        let scheduler = Scheduler::new(kind, config, steps).map_err(settings)?;
        Ok(Self {
            scheduler,
            init: None,
        })
    }

    /// From the latents of a picture: `strength` 0 gives it back, 1 leaves almost nothing of it.
    ///
    /// # Errors
    /// As [`Trajectory::of_noise`], or a strength out of range.
    pub fn of_picture(
        kind: SchedulerKind,
        config: &SchedulerConfig,
        steps: usize,
        latents: Tensor,
        strength: f64,
    ) -> Result<Self, DiffusionError> {
        if !(0.0..=1.0).contains(&strength) {
            return Err(DiffusionError::Settings(
                format!("the strength {strength} is not from 0 to 1; choose one such as 0.6")
                    .into(),
            ));
        }
        let start = Scheduler::first_step(steps, strength);
        let scheduler = Scheduler::beginning_at(kind, config, steps, start).map_err(settings)?;
        let init = InitLatents {
            latents,
            strength,
            keep: None,
            masked: false,
        };
        Ok(Self {
            scheduler,
            init: Some(init),
        })
    }

    /// Only where `mask [1,h,w,1]` is 1, by putting the noised picture around it after each step.
    /// A model that was made for inpainting sees the mask itself: for it, `mask` is none.
    pub fn masked(mut self, mask: Option<Tensor>) -> Self {
        if let Some(init) = &mut self.init {
            init.masked = true;
            init.keep = mask;
        }
        self
    }

    /// The timestep of each call that is made.
    pub fn timesteps(&self) -> Vec<f64> {
        self.scheduler.timesteps()
    }

    /// Clean latents from unit noise `[B,h,w,C]`. `fresh` gives the unit noise of a step where the
    /// scheduler draws any, `predict` the guided prediction of a call. `each` hears of every step
    /// and breaks to cancel, which is obeyed before the next; then it is `None`.
    ///
    /// # Errors
    /// What a callback says, or predictions that are no numbers.
    pub fn run(
        mut self,
        noise: &Tensor,
        fresh: &dyn Fn(usize) -> TensorResult<Tensor>,
        predict: &mut dyn FnMut(&UnetCall) -> Result<Tensor, DiffusionError>,
        each: &mut dyn FnMut(StepResult) -> Result<ControlFlow<()>, DiffusionError>,
    ) -> Result<Option<Tensor>, DiffusionError> {
        if let Some(init) = self.init.as_ref().filter(|init| init.strength <= 0.0) {
            // Some schedulers would call the UNet once more.
            return Ok(Some(init.latents.clone()));
        }
        let times = self.timesteps();
        let mut x = self.first(noise)?;
        for (index, &timestep) in times.iter().enumerate() {
            let seen = self.scheduler.scale_input(&x, index)?;
            let call = UnetCall {
                index,
                count: times.len(),
                timestep,
                seen: &seen,
                scheduler: &self.scheduler,
            };
            let answer = predict(&call)?;
            let clean = self.scheduler.predict_x0(&answer, index, &x)?;
            let noise_of_step = match self.scheduler.draws_noise() {
                true => Some(fresh(index)?),
                false => None,
            };
            x = self
                .scheduler
                .step(&answer, index, &x, noise_of_step.as_ref())?;
            x = self.keep(x, noise, index + 1)?;
            if !is_finite(&x)? {
                return Err(DiffusionError::NotNumbers {
                    stage: format!("the UNet in step {} of {}", index + 1, times.len()),
                    remedy: "lower the guidance or the weights of the LoRAs, or choose another scheduler".into(),
                });
            }
            let taken = StepResult {
                index,
                count: times.len(),
                latents: &x,
                clean,
            };
            if each(taken)?.is_break() {
                return Ok(None);
            }
        }
        Ok(Some(x))
    }

    /// The sample before the first call.
    fn first(&self, noise: &Tensor) -> TensorResult<Tensor> {
        match &self.init {
            Some(init) if self.timesteps().is_empty() => Ok(init.latents.clone()),
            Some(init) if !(init.masked && init.strength >= 1.0) => {
                self.scheduler.add_noise(&init.latents, noise, 0)
            }
            _ => noise * self.scheduler.init_noise_sigma(),
        }
    }

    /// The picture around the mask, as noisy as it is before call `next`.
    fn keep(&self, x: Tensor, noise: &Tensor, next: usize) -> TensorResult<Tensor> {
        let Some(InitLatents {
            latents,
            keep: Some(mask),
            ..
        }) = &self.init
        else {
            return Ok(x);
        };
        let around = match next < self.timesteps().len() {
            true => self.scheduler.add_noise(latents, noise, next)?,
            false => latents.clone(),
        };
        let stays = mask.affine(-1.0, 1.0)?;
        around.broadcast_mul(&stays)? + x.broadcast_mul(mask)?
    }
}

fn settings(error: candle_core::Error) -> DiffusionError {
    DiffusionError::Settings(error.into())
}

/// Whether all of a tensor's values are numbers.
pub(super) fn is_finite(x: &Tensor) -> TensorResult<bool> {
    // One that is not leaves none in the sum of zeros.
    let sum = (x.to_dtype(DType::F32)? * 0.0)?.sum_all()?;
    Ok(sum.to_scalar::<f32>()? == 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::noise;
    use candle_core::Device;

    const SHAPE: [usize; 4] = [1, 2, 3, 4];

    fn config() -> SchedulerConfig {
        let file = serde_json::json!({
            "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
            "skip_prk_steps": true, "clip_sample": false, "prediction_type": "sample",
        });
        serde_json::from_value(file).unwrap()
    }

    fn draw(stream: u64) -> Tensor {
        noise(7, stream, &SHAPE, &Device::Cpu).unwrap()
    }

    fn values(t: &Tensor) -> Vec<f32> {
        t.flatten_all().unwrap().to_vec1().unwrap()
    }

    /// Runs with a model that always means `goal`.
    fn run(trajectory: Trajectory, goal: &Tensor) -> Vec<f32> {
        let mut predict = |_: &UnetCall| Ok(goal.clone());
        let mut each = |_: StepResult| Ok(ControlFlow::Continue(()));
        let end = trajectory.run(
            &draw(0),
            &|i| Ok(draw(9 + i as u64)),
            &mut predict,
            &mut each,
        );
        values(&end.unwrap().unwrap())
    }

    #[test]
    fn outside_the_mask_the_picture_stays() {
        let (picture, goal) = (draw(1), draw(2));
        let mask: Vec<f32> = vec![1.0, 0.0, 1.0, 0.0, 0.0, 1.0];
        let mask_tensor = Tensor::from_vec(mask.clone(), (1, 2, 3, 1), &Device::Cpu).unwrap();
        for &kind in SchedulerKind::ALL {
            for strength in [0.5, 1.0] {
                let way = Trajectory::of_picture(kind, &config(), 6, picture.clone(), strength);
                let got = run(way.unwrap().masked(Some(mask_tensor.clone())), &goal);
                for (i, v) in got.iter().enumerate() {
                    if mask[i / 4] == 0.0 {
                        assert_eq!(*v, values(&picture)[i], "{kind} {strength}");
                    }
                }
                assert_ne!(got, values(&picture));
            }
        }
    }

    #[test]
    fn strength_nothing_gives_the_picture_back() {
        let (picture, goal) = (draw(1), draw(2));
        for &kind in SchedulerKind::ALL {
            let of =
                |strength| Trajectory::of_picture(kind, &config(), 8, picture.clone(), strength);
            assert_eq!(run(of(0.0).unwrap(), &goal), values(&picture), "{kind}");
            assert!(of(1.1).is_err() && of(f64::NAN).is_err());
            assert_eq!(
                of(0.5).unwrap().timesteps().len(),
                4 + usize::from(kind == SchedulerKind::Pndm)
            );
        }
    }

    #[test]
    fn predictions_that_are_no_numbers_are_told_with_their_step() {
        let way = Trajectory::of_noise(SchedulerKind::Euler, &config(), 4).unwrap();
        let mut predict = |call: &UnetCall| match call.index {
            2 => Ok((call.seen / 0.0)?),
            _ => Ok(call.seen.clone()),
        };
        let mut each = |_: StepResult| Ok(ControlFlow::Continue(()));
        let why = way.run(&draw(0), &|_| Ok(draw(1)), &mut predict, &mut each);
        let why = why.unwrap_err().to_string();
        assert!(why.contains("step 3 of 4"), "{why}");
    }

    #[test]
    fn a_picture_is_cancelled_before_the_next_step() {
        let way = Trajectory::of_noise(SchedulerKind::Ddim, &config(), 4).unwrap();
        let mut calls = 0;
        let mut predict = |call: &UnetCall| {
            calls += 1;
            Ok(call.seen.clone())
        };
        let mut each = |taken: StepResult| {
            Ok(match taken.index {
                1 => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            })
        };
        let end = way.run(&draw(0), &|_| Ok(draw(1)), &mut predict, &mut each);
        assert!(end.unwrap().is_none());
        assert_eq!(calls, 2);
    }
}
