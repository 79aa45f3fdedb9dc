//! AdamW with gradient clipping and a moving average of the weights, in one pass over memory.

use candle_core::{CpuStorage, DType, Device, Storage, Tensor, Var, backprop::GradStore};
use rayon::prelude::*;

/// Settings of AdamW (Loshchilov & Hutter, arXiv 1711.05101).
#[derive(Clone, Copy, Debug)]
pub struct AdamSettings {
    pub beta1: f32,
    pub beta2: f32,
    pub eps: f32,
    pub weight_decay: f32,
    /// Gradients are scaled down to this global L2 norm.
    pub clip: f32,
    /// Decay of the moving average, reached after a warm-up of `(1 + step) / (10 + step)`.
    pub ema: f32,
}

impl Default for AdamSettings {
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.99,
            eps: 1e-8,
            weight_decay: 0.01,
            clip: 1.0,
            ema: 0.999,
        }
    }
}

/// State of one parameter.
pub struct Moments {
    pub m: Vec<f32>,
    pub v: Vec<f32>,
    pub ema: Vec<f32>,
}

pub struct AdamW {
    vars: Vec<(String, Var)>,
    pub(super) moments: Vec<Moments>,
    settings: AdamSettings,
    pub(super) step: u64,
}

fn values(t: &Tensor) -> candle_core::Result<Vec<f32>> {
    t.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()
}

/// The elements of a tensor on the CPU without a copy, where it allows that.
fn with_values<R>(t: &Tensor, f: impl FnOnce(&[f32]) -> R) -> candle_core::Result<R> {
    if t.device().is_cpu() && t.is_contiguous() && t.dtype() == DType::F32 {
        let (storage, layout) = t.storage_and_layout();
        if let Storage::Cpu(CpuStorage::F32(v)) = &*storage {
            let start = layout.start_offset();
            return Ok(f(&v[start..start + t.elem_count()]));
        }
    }
    Ok(f(&values(t)?))
}

impl AdamW {
    pub fn new(vars: Vec<(String, Var)>, settings: AdamSettings) -> candle_core::Result<Self> {
        let moments = vars
            .iter()
            .map(|(_, v)| {
                let ema = values(v)?;
                Ok(Moments {
                    m: vec![0.0; ema.len()],
                    v: vec![0.0; ema.len()],
                    ema,
                })
            })
            .collect::<candle_core::Result<_>>()?;
        Ok(Self {
            vars,
            moments,
            settings,
            step: 0,
        })
    }

    pub fn vars(&self) -> &[(String, Var)] {
        &self.vars
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// One step with learning rate `lr`; returns the gradients' L2 norm before clipping.
    ///
    /// # Errors
    /// A parameter that got no gradient: something on its path has no backward.
    pub fn step(&mut self, grads: &GradStore, lr: f64) -> candle_core::Result<f64> {
        let mut of_vars = Vec::with_capacity(self.vars.len());
        for (name, var) in &self.vars {
            match grads.get(var) {
                Some(g) => of_vars.push(g),
                None => candle_core::bail!("parameter {name} got no gradient"),
            }
        }
        let mut square = 0f64;
        for g in &of_vars {
            square += with_values(g, |g| {
                g.par_chunks(1 << 14)
                    .map(|c| f64::from(c.iter().map(|v| v * v).sum::<f32>()))
                    .sum::<f64>()
            })?;
        }
        let norm = square.sqrt();
        let s = self.settings;
        let scale = if norm > f64::from(s.clip) {
            (f64::from(s.clip) / norm) as f32
        } else {
            1.0
        };
        self.step += 1;
        let t = self.step as i32;
        let (c1, c2) = (1.0 - s.beta1.powi(t), 1.0 - s.beta2.powi(t));
        let ema = s.ema.min((1.0 + t as f32) / (10.0 + t as f32));
        let lr = lr as f32;
        for (((_, var), g), mo) in self.vars.iter().zip(of_vars).zip(&mut self.moments) {
            let mut new = values(var)?;
            // Norms, biases and other vectors are not decayed.
            let decay = if var.rank() > 1 {
                s.weight_decay * lr
            } else {
                0.0
            };
            with_values(g, |g| {
                const N: usize = 1 << 13;
                new.par_chunks_mut(N)
                    .zip(g.par_chunks(N))
                    .zip(
                        mo.m.par_chunks_mut(N)
                            .zip(mo.v.par_chunks_mut(N))
                            .zip(mo.ema.par_chunks_mut(N)),
                    )
                    .for_each(|((w, g), ((m, v), e))| {
                        for i in 0..w.len() {
                            let g = g[i] * scale;
                            m[i] = s.beta1 * m[i] + (1.0 - s.beta1) * g;
                            v[i] = s.beta2 * v[i] + (1.0 - s.beta2) * g * g;
                            let update = (m[i] / c1) / ((v[i] / c2).sqrt() + s.eps);
                            w[i] -= lr * update + decay * w[i];
                            e[i] = ema * e[i] + (1.0 - ema) * w[i];
                        }
                    });
            })?;
            var.set(&Tensor::from_vec(new, var.shape(), &Device::Cpu)?.to_device(var.device())?)?;
        }
        Ok(norm)
    }

    /// The moving average, in the order of [`AdamW::vars`].
    pub fn averages(&self) -> candle_core::Result<Vec<Tensor>> {
        self.vars
            .iter()
            .zip(&self.moments)
            .map(|((_, v), m)| Tensor::from_slice(&m.ema, v.shape(), &Device::Cpu))
            .collect()
    }

    /// Runs `f` with the moving average in the variables, and puts the trained values back.
    pub fn with_averages<R>(&self, f: impl FnOnce() -> R) -> candle_core::Result<R> {
        let held: Vec<Tensor> = self
            .vars
            .iter()
            .map(|(_, v)| v.copy())
            .collect::<candle_core::Result<_>>()?;
        for ((_, v), e) in self.vars.iter().zip(self.averages()?) {
            v.set(&e.to_device(v.device())?)?;
        }
        let r = f();
        for ((_, v), t) in self.vars.iter().zip(held) {
            v.set(&t)?;
        }
        Ok(r)
    }
}

/// Learning rate at `step` of `total`: linear warm-up, constant, cosine to zero over the last part.
pub fn learning_rate(base: f64, step: u64, warmup: u64, total: u64, decay_from: f64) -> f64 {
    if step < warmup {
        return base * (step + 1) as f64 / warmup as f64;
    }
    let start = decay_from * total as f64;
    let at = (step as f64 - start) / (total as f64 - start).max(1.0);
    base * 0.5 * (1.0 + (std::f64::consts::PI * at.clamp(0.0, 1.0)).cos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_minimum_of_a_parabola() {
        let x = Var::new(&[3f32, -2.0], &Device::Cpu).unwrap();
        let mut opt = AdamW::new(
            vec![("x".into(), x.clone())],
            AdamSettings {
                ema: 0.9,
                ..Default::default()
            },
        )
        .unwrap();
        for i in 0..400 {
            let loss = x.as_tensor().sqr().unwrap().sum_all().unwrap();
            opt.step(
                &loss.backward().unwrap(),
                learning_rate(0.1, i, 10, 400, 0.5),
            )
            .unwrap();
        }
        assert!(x.to_vec1::<f32>().unwrap().iter().all(|v| v.abs() < 1e-2));
        let average = opt.averages().unwrap();
        assert!(
            average[0]
                .to_vec1::<f32>()
                .unwrap()
                .iter()
                .all(|v| v.abs() < 1e-2)
        );
    }

    #[test]
    fn the_first_step_is_adams() {
        // With bias correction the first update is lr * sign(g), whatever the gradient's size.
        let x = Var::new(&[1f32, 1.0], &Device::Cpu).unwrap();
        let mut opt = AdamW::new(vec![("x".into(), x.clone())], AdamSettings::default()).unwrap();
        let w = Tensor::new(&[1e-3f32, -0.5], &Device::Cpu).unwrap();
        let loss = (x.as_tensor() * w).unwrap().sum_all().unwrap();
        opt.step(&loss.backward().unwrap(), 0.01).unwrap();
        let got = x.to_vec1::<f32>().unwrap();
        assert!(
            (got[0] - 0.99).abs() < 1e-5 && (got[1] - 1.01).abs() < 1e-5,
            "{got:?}"
        );
    }

    #[test]
    fn a_parameter_without_gradient_is_an_error() {
        let (x, y) = (
            Var::new(1f32, &Device::Cpu).unwrap(),
            Var::new(1f32, &Device::Cpu).unwrap(),
        );
        let mut opt = AdamW::new(
            vec![("x".into(), x.clone()), ("y".into(), y)],
            AdamSettings::default(),
        )
        .unwrap();
        let grads = x.as_tensor().sqr().unwrap().backward().unwrap();
        assert!(
            opt.step(&grads, 0.1)
                .unwrap_err()
                .to_string()
                .contains("parameter y got no gradient")
        );
    }

    #[test]
    fn schedule_warms_up_holds_and_ends_at_zero() {
        assert!(learning_rate(1.0, 0, 10, 100, 0.5) < 0.11);
        assert_eq!(learning_rate(1.0, 30, 10, 100, 0.5), 1.0);
        assert!(learning_rate(1.0, 100, 10, 100, 0.5) < 1e-9);
    }
}
