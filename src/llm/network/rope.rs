//! Rotary position embedding.

use crate::llm::families::RopeType;
use crate::llm::hyperparameters::{Hyperparameters, RopeScaling};

/// How fast each pair of a head turns.
pub(super) struct Rope {
    /// Radians a position.
    frequencies: Vec<f64>,
    magnitude: f32,
    pairs: RopeType,
}

impl Rope {
    /// The rotations of layers that see all of a text; every frequency is divided by its factor.
    pub(super) fn global(hyper: &Hyperparameters, factors: Option<&[f32]>) -> Rope {
        Rope::new(hyper, hyper.rope_base, hyper.rope_scaling, factors)
    }

    /// Those of layers with a window.
    pub(super) fn local(hyper: &Hyperparameters, factors: Option<&[f32]>) -> Rope {
        // Where a family has a base of its own for them, they are not scaled.
        let scaling = match hyper.family.local_rope_base {
            Some(_) => RopeScaling::None,
            None => hyper.rope_scaling,
        };
        Rope::new(hyper, hyper.local_rope_base, scaling, factors)
    }

    fn new(
        hyper: &Hyperparameters,
        base: f64,
        scaling: RopeScaling,
        factors: Option<&[f32]>,
    ) -> Rope {
        let half = hyper.rotated / 2;
        let mut frequencies: Vec<f64> = (0..half)
            .map(|pair| base.powf(-(pair as f64) / half as f64))
            .collect();
        match scaling {
            RopeScaling::None => {}
            RopeScaling::Linear(factor) => frequencies.iter_mut().for_each(|f| *f /= factor),
            RopeScaling::Yarn {
                factor,
                original,
                fast,
                slow,
            } => {
                // Pairs that turn often keep their speed, those that turn seldom are slowed down
                // (`_compute_yarn_parameters` of transformers).
                let pair_that_turns = |times: f64| {
                    let turns = original as f64 / (times * std::f64::consts::TAU);
                    half as f64 * turns.ln() / base.ln()
                };
                let (mut low, mut high) = (pair_that_turns(fast), pair_that_turns(slow));
                if hyper.family.yarn_rounds {
                    (low, high) = (low.floor(), high.ceil());
                }
                let (low, high) = (low.max(0.0), high.min((hyper.rotated - 1) as f64));
                let span = if high == low { 0.001 } else { high - low };
                for (pair, frequency) in frequencies.iter_mut().enumerate() {
                    let slowed = ((pair as f64 - low) / span).clamp(0.0, 1.0);
                    *frequency *= 1.0 - slowed + slowed / factor;
                }
            }
        }
        for (frequency, factor) in frequencies.iter_mut().zip(factors.unwrap_or_default()) {
            *frequency /= f64::from(*factor);
        }
        Rope {
            frequencies,
            magnitude: hyper.rope_magnitude,
            pairs: hyper.family.pairs,
        }
    }

    /// Cosine and sine of every pair at positions from `first` on, `[tokens, pairs, 2]`.
    pub(super) fn turns(&self, first: usize, tokens: usize, to: &mut Vec<f32>) {
        to.clear();
        for position in first..first + tokens {
            for frequency in &self.frequencies {
                let (sin, cos) = (position as f64 * frequency).sin_cos();
                to.extend([cos as f32 * self.magnitude, sin as f32 * self.magnitude]);
            }
        }
    }

    /// Turns every head of `x`, `[tokens, row]`.
    pub(super) fn rotate(&self, x: &mut [f32], row: usize, head: usize, turns: &[f32]) {
        let pairs = self.frequencies.len();
        let turn = |a: &mut f32, b: &mut f32, turn: &[f32]| {
            let (x, y) = (*a, *b);
            *a = x * turn[0] - y * turn[1];
            *b = x * turn[1] + y * turn[0];
        };
        for (x, turns) in x.chunks_exact_mut(row).zip(turns.chunks_exact(2 * pairs)) {
            for head in x.chunks_exact_mut(head) {
                let turns = turns.chunks_exact(2);
                match self.pairs {
                    RopeType::Neighbours => {
                        for (pair, by) in head.chunks_exact_mut(2).zip(turns) {
                            let (a, b) = pair.split_at_mut(1);
                            turn(&mut a[0], &mut b[0], by);
                        }
                    }
                    RopeType::Halves => {
                        let (first, second) = head[..2 * pairs].split_at_mut(pairs);
                        for ((a, b), by) in first.iter_mut().zip(second).zip(turns) {
                            turn(a, b, by);
                        }
                    }
                }
            }
        }
    }
}
