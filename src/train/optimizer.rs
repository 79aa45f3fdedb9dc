//! AdamW with gradient clipping and a moving average of the weights, in one pass over memory.

use candle_core::{
    CpuStorage, DType, Device, InplaceOp1, Layout, Storage, Tensor, Var, backprop::GradStore,
};
use rayon::prelude::*;

/// Settings of AdamW (Loshchilov & Hutter, arXiv 1711.05101).
#[derive(Clone, Copy, Debug)]
pub struct AdamSettings {
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Decoupled weight decay, a share of the learning rate.
    pub weight_decay: f32,
    /// Whether norms, biases and other vectors are decayed too.
    pub decay_vectors: bool,
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
            decay_vectors: false,
            clip: 1.0,
            ema: 0.999,
        }
    }
}

impl AdamSettings {
    /// PyTorch's defaults, with which MiniGPT-5 was trained: everything decays, nothing is
    /// clipped.
    pub fn pytorch() -> Self {
        Self {
            beta2: 0.999,
            decay_vectors: true,
            clip: f32::INFINITY,
            ..Self::default()
        }
    }
}

/// State of one parameter.
pub struct AdamMoments {
    /// Steps in which it got a gradient.
    pub steps: u64,
    /// First moment.
    pub m: Vec<f32>,
    /// Second moment.
    pub v: Vec<f32>,
    /// Moving average of the weights.
    pub ema: Vec<f32>,
}

/// AdamW (arXiv 1711.05101) over named variables.
pub struct AdamW {
    vars: Vec<(String, Var)>,
    pub(super) moments: Vec<AdamMoments>,
    settings: AdamSettings,
    pub(super) step: u64,
}

fn values(t: &Tensor) -> candle_core::Result<Vec<f32>> {
    t.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()
}

/// Calls `f` with the elements of tensors, without a copy of those that lie in f32 on the CPU.
fn with_values<R>(tensors: &[&Tensor], f: impl FnOnce(&[&[f32]]) -> R) -> candle_core::Result<R> {
    let held = tensors
        .iter()
        .map(|t| {
            t.to_device(&Device::Cpu)?
                .to_dtype(DType::F32)?
                .contiguous()
        })
        .collect::<candle_core::Result<Vec<_>>>()?;
    let guards: Vec<_> = held.iter().map(Tensor::storage_and_layout).collect();
    let mut slices = Vec::with_capacity(guards.len());
    for (t, (storage, layout)) in held.iter().zip(&guards) {
        match &**storage {
            Storage::Cpu(CpuStorage::F32(v)) => {
                slices.push(&v[layout.start_offset()..][..t.elem_count()]);
            }
            _ => candle_core::bail!("a gradient is not in f32 on the CPU"),
        }
    }
    Ok(f(&slices))
}

/// What a step does to one parameter's elements: weight, gradients of the parts, state.
struct Update<'a> {
    grads: &'a [&'a [f32]],
    state: std::cell::RefCell<&'a mut AdamMoments>,
    settings: AdamSettings,
    /// Of each part's gradient.
    scale: f32,
    lr: f32,
    decay: f32,
    /// Bias corrections of the two moments.
    correction: [f32; 2],
    ema: f32,
}

impl Update<'_> {
    fn run(&self, weights: &mut [f32]) {
        const N: usize = 1 << 13;
        // Out of `self`, whose cell can't be shared between threads.
        let (s, grads, scale) = (self.settings, self.grads, self.scale);
        let (lr, decay, ema, [c1, c2]) = (self.lr, self.decay, self.ema, self.correction);
        let mo = &mut *self.state.borrow_mut();
        weights
            .par_chunks_mut(N)
            .zip(
                mo.m.par_chunks_mut(N)
                    .zip(mo.v.par_chunks_mut(N))
                    .zip(mo.ema.par_chunks_mut(N)),
            )
            .enumerate()
            .for_each(|(chunk, (w, ((m, v), e)))| {
                let mut sum = [0f32; N];
                let g = &mut sum[..w.len()];
                for part in grads {
                    let part = &part[chunk * N..][..g.len()];
                    g.iter_mut().zip(part).for_each(|(s, p)| *s += p);
                }
                for i in 0..w.len() {
                    let g = g[i] * scale;
                    m[i] = s.beta1 * m[i] + (1.0 - s.beta1) * g;
                    v[i] = s.beta2 * v[i] + (1.0 - s.beta2) * g * g;
                    let update = (m[i] / c1) / ((v[i] / c2).sqrt() + s.eps);
                    w[i] -= lr * update + decay * w[i];
                    e[i] = ema * e[i] + (1.0 - ema) * w[i];
                }
            });
    }
}

impl InplaceOp1 for Update<'_> {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        match (storage, layout.contiguous_offsets()) {
            (CpuStorage::F32(w), Some((a, b))) => {
                self.run(&mut w[a..b]);
                Ok(())
            }
            _ => candle_core::bail!("a parameter is not contiguous in f32"),
        }
    }
}

impl AdamW {
    /// An optimizer of `vars`, whose moments begin at zero and whose moving average at their
    /// values.
    pub fn new(vars: Vec<(String, Var)>, settings: AdamSettings) -> candle_core::Result<Self> {
        let moments = vars
            .iter()
            .map(|(_, v)| {
                let ema = values(v)?;
                Ok(AdamMoments {
                    steps: 0,
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

    /// Variables that it changes, by name.
    pub fn vars(&self) -> &[(String, Var)] {
        &self.vars
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// One step with learning rate `lr`, on the mean of the gradients of a batch's parts (each
    /// already times its share of the batch, so that their sum is that mean); returns the
    /// gradient's L2 norm before clipping.
    ///
    /// # Errors
    /// A parameter that got no gradient: something on its path has no backward.
    pub fn step(&mut self, parts: &[GradStore], lr: f64) -> candle_core::Result<f64> {
        self.all_learn(parts)?;
        self.step_each(parts, |_| lr)
    }

    /// Whether every parameter has a gradient in every part.
    ///
    /// # Errors
    /// A parameter that has none: something on its path has no backward.
    pub fn all_learn(&self, parts: &[GradStore]) -> candle_core::Result<()> {
        let without = |name: &str, var: &Var| {
            let without = parts.iter().any(|g| g.get(var).is_none());
            without.then(|| name.to_owned())
        };
        if let Some(name) = self.vars.iter().find_map(|(n, v)| without(n, v)) {
            candle_core::bail!("parameter {name} got no gradient");
        }
        Ok(())
    }

    /// As [`AdamW::step`], with a learning rate for each parameter by its name. A parameter that
    /// no part has a gradient for stays as it is, its state too, as in PyTorch.
    ///
    /// # Errors
    /// When a gradient can't be read.
    pub fn step_each(
        &mut self,
        parts: &[GradStore],
        rate: impl Fn(&str) -> f64,
    ) -> candle_core::Result<f64> {
        let of_vars: Vec<Vec<&Tensor>> = self
            .vars
            .iter()
            .map(|(_, var)| parts.iter().filter_map(|g| g.get(var)).collect())
            .collect();
        let mut square = 0f64;
        for g in &of_vars {
            square += with_values(g, |parts| {
                const N: usize = 1 << 14;
                let chunks = parts.first().map_or(0, |p| p.len().div_ceil(N));
                (0..chunks)
                    .into_par_iter()
                    .map(|c| {
                        let range = c * N..((c + 1) * N).min(parts[0].len());
                        let sum = |i: usize| parts.iter().map(|p| p[i]).sum::<f32>();
                        f64::from(range.map(|i| sum(i) * sum(i)).sum::<f32>())
                    })
                    .collect::<Vec<f64>>()
                    .iter()
                    .sum::<f64>()
            })?;
        }
        let norm = square.sqrt();
        let s = self.settings;
        self.step += 1;
        let warm = self.step as f32;
        for (((name, var), g), state) in self.vars.iter().zip(of_vars).zip(&mut self.moments) {
            if g.is_empty() {
                continue;
            }
            state.steps += 1;
            let (t, lr) = (state.steps as i32, rate(name));
            with_values(&g, |grads| {
                let update = Update {
                    grads,
                    state: state.into(),
                    settings: s,
                    scale: if norm > f64::from(s.clip) {
                        (f64::from(s.clip) / norm) as f32
                    } else {
                        1.0
                    },
                    lr: lr as f32,
                    decay: if s.decay_vectors || var.rank() > 1 {
                        s.weight_decay * lr as f32
                    } else {
                        0.0
                    },
                    correction: [1.0 - s.beta1.powi(t), 1.0 - s.beta2.powi(t)],
                    ema: s.ema.min((1.0 + warm) / (10.0 + warm)),
                };
                if var.device().is_cpu() {
                    return var.inplace_op1(&update);
                }
                let mut new = values(var)?;
                update.run(&mut new);
                var.set(&Tensor::from_vec(new, var.shape(), var.device())?)
            })??;
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

/// Learning rate of step `step` (from 0): up from zero over `warmup` steps, then down to zero at
/// `total` (transformers' `get_linear_schedule_with_warmup`).
pub fn linear_rate(base: f64, step: u64, warmup: u64, total: u64) -> f64 {
    if step < warmup {
        return base * step as f64 / warmup as f64;
    }
    let left = total.saturating_sub(step) as f64;
    base * left / (total.saturating_sub(warmup).max(1)) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_and_falls_linearly() {
        let rates: Vec<f64> = (0..6).map(|step| linear_rate(1.0, step, 2, 6)).collect();
        assert_eq!(rates, [0.0, 0.5, 1.0, 0.75, 0.5, 0.25]);
        assert_eq!(linear_rate(1.0, 9, 2, 6), 0.0);
    }

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
                &[loss.backward().unwrap()],
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
        opt.step(&[loss.backward().unwrap()], 0.01).unwrap();
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
            opt.step(&[grads], 0.1)
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
