//! From logits to the next token.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::nn::gpu::TokenCandidates;

/// Sampling parameters of the next token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Seed of the draws.
    pub seed: u64,
    /// 0 always takes the likeliest token.
    pub temperature: f32,
    /// The likeliest tokens that together have this probability are drawn from.
    pub top_p: f32,
    /// So many of the likeliest tokens are drawn from; 0 for all.
    pub top_k: usize,
    /// Tokens of less than this share of the likeliest one's probability are not drawn; 0 for none.
    pub min_p: f32,
    /// The logits of tokens that were used before are divided (if positive) or multiplied by this;
    /// 1 changes nothing.
    pub repetition_penalty: f32,
}

impl Default for Sampling {
    fn default() -> Sampling {
        Sampling {
            seed: 0,
            temperature: 0.6,
            top_p: 0.9,
            top_k: 0,
            min_p: 0.0,
            repetition_penalty: 1.1,
        }
    }
}

/// The natural logarithm of the probability that `logits` give to token `id`.
pub fn log_probability(logits: &[f32], id: u32) -> f64 {
    let most = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits.iter().map(|&l| (f64::from(l) - most).exp()).sum();
    let own = logits.get(id as usize).copied();
    own.map_or(f64::NEG_INFINITY, |l| f64::from(l) - most - sum.ln())
}

/// Greedy choice: the likeliest token; the first of those that are equally likely.
pub fn likeliest(logits: &[f32]) -> u32 {
    let start = (0, f32::NEG_INFINITY);
    let (best, _) =
        (0u32..).zip(logits).fold(
            start,
            |best, (id, &logit)| if logit > best.1 { (id, logit) } else { best },
        );
    best
}

/// Makes `used` tokens less likely.
pub(super) fn penalise(logits: &mut [f32], used: impl IntoIterator<Item = u32>, penalty: f32) {
    for id in used {
        let logit = &mut logits[id as usize];
        *logit = if *logit > 0.0 {
            *logit / penalty
        } else {
            *logit * penalty
        };
    }
}

impl Sampling {
    /// Whether the likeliest token is always taken.
    pub(super) fn is_greedy(&self) -> bool {
        // Not greater, so that a temperature that is no number is greedy too.
        self.temperature.is_nan() || self.temperature <= 0.0
    }

    /// The least weight of a token that is drawn; the likeliest has weight 1.
    pub(super) fn least_weight(&self) -> f32 {
        self.min_p.min(1.0)
    }
}

/// What decides which token comes next, beside the logits.
#[derive(Clone, Copy, Debug)]
pub struct TokenChoice<'a> {
    /// How it is drawn.
    pub sampling: &'a Sampling,
    /// Tokens that the repetition penalty makes less likely, each once.
    pub used: &'a [u32],
    /// Tokens that are never drawn.
    pub never: &'a [u32],
}

impl TokenChoice<'_> {
    /// Draws from the logits of a whole vocabulary, which are changed.
    pub(super) fn draw(&self, logits: &mut [f32], rng: &mut ChaCha8Rng) -> u32 {
        let used = self.used.iter().copied();
        penalise(logits, used, self.sampling.repetition_penalty);
        for id in self.never {
            logits[*id as usize] = f32::NEG_INFINITY;
        }
        draw(logits, self.sampling, rng)
    }
}

/// Draws a token; those with a logit of minus infinity are never drawn.
pub(super) fn draw(logits: &[f32], sampling: &Sampling, rng: &mut ChaCha8Rng) -> u32 {
    let best = likeliest(logits);
    if sampling.is_greedy() {
        return best;
    }
    let all = (0u32..).zip(logits.iter().copied());
    let mut likely = weighed(all, logits[best as usize], sampling);
    if sampling.top_k > 0 {
        likely.truncate(sampling.top_k);
    }
    let total = likely.iter().map(|(_, weight)| weight).sum();
    draw_weighed(likely, total, best, sampling, rng)
}

/// As [`draw`], from the likeliest tokens of a vocabulary of so many; `None`, with nothing drawn,
/// where one that is not among them might be drawn.
pub(super) fn draw_candidates(
    found: &TokenCandidates,
    vocabulary: usize,
    sampling: &Sampling,
    rng: &mut ChaCha8Rng,
) -> Option<u32> {
    let &(best, largest) = found.tokens.first()?;
    if sampling.is_greedy() {
        return Some(best);
    }
    let mut likely = weighed(found.tokens.iter().copied(), largest, sampling);
    // One that is too unlikely says that all are that are not here.
    let complete = likely.len() < found.tokens.len() || found.tokens.len() == vocabulary;
    let first = sampling.top_k > 0 && sampling.top_k <= likely.len();
    if sampling.top_k > 0 {
        likely.truncate(sampling.top_k);
    }
    let here: f32 = likely.iter().map(|(_, weight)| weight).sum();
    let total = match complete || first {
        true => here,
        false if sampling.top_k > 0 => return None,
        false => found.total,
    };
    if here < total * sampling.top_p {
        return None;
    }
    Some(draw_weighed(likely, total, best, sampling, rng))
}

/// The weights of tokens that may be drawn, the largest first.
fn weighed(
    tokens: impl Iterator<Item = (u32, f32)>,
    largest: f32,
    sampling: &Sampling,
) -> Vec<(u32, f32)> {
    // Tokens with less than e^-16 of the best one's probability change nothing that top-p keeps.
    let mut likely: Vec<(u32, f32)> = tokens
        .map(|(id, logit)| (id, (logit - largest) / sampling.temperature))
        .filter(|(_, exponent)| *exponent > -16.0)
        .map(|(id, exponent)| (id, exponent.exp()))
        .collect();
    likely.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    likely.retain(|(_, weight)| *weight >= sampling.least_weight());
    likely
}

/// Draws from the first of `likely` that together have their part of `total`.
fn draw_weighed(
    mut likely: Vec<(u32, f32)>,
    total: f32,
    best: u32,
    sampling: &Sampling,
    rng: &mut ChaCha8Rng,
) -> u32 {
    let wanted = total * sampling.top_p;
    let mut kept = 0.0;
    let count = likely
        .iter()
        .take_while(|(_, weight)| {
            let before = kept;
            kept += weight;
            before < wanted
        })
        .count();
    likely.truncate(count.max(1));
    let kept: f32 = likely.iter().map(|(_, weight)| weight).sum();
    let mut left = rng.random::<f32>() * kept;
    for (id, weight) in &likely {
        left -= weight;
        if left < 0.0 {
            return *id;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn log_probabilities_are_those_of_the_softmax() {
        let logits = [2f32.ln(), 5f32.ln(), 3f32.ln()];
        for (id, share) in [(0, 0.2f64), (1, 0.5), (2, 0.3)] {
            assert!((log_probability(&logits, id) - share.ln()).abs() < 1e-6);
        }
        assert_eq!(log_probability(&logits, 9), f64::NEG_INFINITY);
    }

    fn counts(logits: &[f32], sampling: &Sampling) -> Vec<usize> {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let mut counts = vec![0; logits.len()];
        for _ in 0..10_000 {
            counts[draw(logits, sampling, &mut rng) as usize] += 1;
        }
        counts
    }

    #[test]
    fn tokens_are_drawn_as_often_as_they_are_likely() {
        let logits = [0.5f32.ln(), 0.3f32.ln(), 0.2f32.ln(), f32::NEG_INFINITY];
        let sampling = Sampling {
            temperature: 1.0,
            top_p: 1.0,
            ..Sampling::default()
        };
        let counts = counts(&logits, &sampling);
        for (count, expected) in counts.iter().zip([5000, 3000, 2000, 0]) {
            assert!(count.abs_diff(expected) < 200, "{counts:?}");
        }
    }

    #[test]
    fn top_p_leaves_out_the_unlikely() {
        let logits = [0.5f32.ln(), 0.3f32.ln(), 0.2f32.ln()];
        let sampling = Sampling {
            temperature: 1.0,
            top_p: 0.7,
            ..Sampling::default()
        };
        let counts = counts(&logits, &sampling);
        assert_eq!(counts[2], 0);
        assert!(counts[0].abs_diff(6250) < 200, "{counts:?}");
    }

    #[test]
    fn top_k_and_min_p_leave_out_the_unlikely() {
        let logits = [0.5f32.ln(), 0.3f32.ln(), 0.2f32.ln()];
        let all = Sampling {
            temperature: 1.0,
            top_p: 1.0,
            ..Sampling::default()
        };
        for sampling in [Sampling { top_k: 2, ..all }, Sampling { min_p: 0.5, ..all }] {
            let counts = counts(&logits, &sampling);
            assert_eq!(counts[2], 0);
            assert!(counts[0].abs_diff(6250) < 200, "{counts:?}");
        }
    }

    /// The likeliest, as a GPU gives them.
    fn candidates(logits: &[f32], keep: usize, sampling: &Sampling) -> TokenCandidates {
        let mut tokens: Vec<(u32, f32)> = (0u32..).zip(logits.iter().copied()).collect();
        tokens.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let largest = tokens[0].1;
        let weights = weighed(tokens.iter().copied(), largest, sampling);
        tokens.truncate(keep);
        TokenCandidates {
            tokens,
            total: weights.iter().map(|(_, weight)| weight).sum(),
        }
    }

    #[test]
    fn what_is_drawn_from_the_likeliest_is_what_is_drawn_from_all() {
        let logits: Vec<f32> = (0..500u32)
            .map(|i| ((i * 7919) % 613) as f32 / 40.0)
            .collect();
        let flat = vec![1.0; 500];
        let of = |temperature, top_k, top_p, min_p| Sampling {
            temperature,
            top_k,
            top_p,
            min_p,
            ..Sampling::default()
        };
        // Which of the two can be drawn from the likeliest 64.
        for (sampling, peaked, even) in [
            (of(0.0, 0, 0.9, 0.0), true, true),
            (of(0.6, 40, 0.9, 0.0), true, true),
            (of(0.6, 40, 1.0, 0.0), true, true),
            (of(0.6, 0, 0.9, 0.0), true, false),
            (of(0.6, 0, 1.0, 0.0), false, false),
            (of(0.6, 0, 1.0, 0.2), true, false),
            (of(0.05, 0, 1.0, 0.0), true, false),
            (of(0.6, 65, 0.9, 0.0), false, false),
            (of(9.0, 0, 0.9, 0.0), false, false),
        ] {
            for (logits, can) in [(&logits, peaked), (&flat, even)] {
                let found = candidates(logits, 64, &sampling);
                let mut rngs = [0; 2].map(|_| ChaCha8Rng::seed_from_u64(3));
                for _ in 0..50 {
                    let own = draw_candidates(&found, logits.len(), &sampling, &mut rngs[0]);
                    let want = draw(logits, &sampling, &mut rngs[1]);
                    assert_eq!(own, can.then_some(want), "{sampling:?}");
                }
            }
        }
    }

    #[test]
    fn without_temperature_the_likeliest_is_taken() {
        let sampling = Sampling {
            temperature: 0.0,
            ..Sampling::default()
        };
        assert_eq!(counts(&[0.1, 0.4, 0.4], &sampling), [0, 10_000, 0]);
    }

    #[test]
    fn a_penalty_makes_used_tokens_less_likely_whatever_their_sign() {
        let mut logits = [2.0, -2.0, 2.0];
        penalise(&mut logits, [0, 1], 2.0);
        assert_eq!(logits, [1.0, -4.0, 2.0]);
    }
}
