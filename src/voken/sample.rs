//! From logits to the next token, as the reference does it: transformers' processors in their
//! order, then its own rule that can force a picture.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// How tokens are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SamplingParams {
    /// 0 always takes the likeliest.
    pub temperature: f32,
    /// The logits of tokens generated before (not of the prompt's) are divided by this where they
    /// are positive and multiplied where not.
    pub repetition_penalty: f32,
    /// Only so many of the likeliest are drawn from.
    pub top_k: usize,
    /// Of those, the likeliest that together have this probability.
    pub top_p: f32,
}

impl Default for SamplingParams {
    /// The reference's settings.
    fn default() -> Self {
        Self {
            temperature: 1.0,
            repetition_penalty: 2.0,
            top_k: 50,
            top_p: 0.9,
        }
    }
}

/// Changes `scores` in place from logits to what is drawn from; tokens that are out of question
/// become minus infinity. `seen` are the tokens generated so far. `force` names a token that is
/// to come now: its score becomes ten times the largest, as in the reference.
pub fn process(scores: &mut [f32], seen: &[u32], how: &SamplingParams, force: Option<u32>) {
    // Each token once, however often it was seen.
    let mut once = seen.to_vec();
    once.sort_unstable();
    once.dedup();
    for id in once {
        if let Some(score) = scores.get_mut(id as usize) {
            *score = if *score < 0.0 {
                *score * how.repetition_penalty
            } else {
                *score / how.repetition_penalty
            };
        }
    }
    if how.temperature > 0.0 && how.temperature != 1.0 {
        scores.iter_mut().for_each(|s| *s /= how.temperature);
    }
    keep_likeliest(scores, how.top_k);
    keep_nucleus(scores, how.top_p);
    if let Some(score) = force.and_then(|id| scores.get(id as usize).map(|_| id as usize)) {
        let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        scores[score] = 10.0 * most;
    }
}

/// Drops all below the `k`-th largest; equals stay.
fn keep_likeliest(scores: &mut [f32], k: usize) {
    if k == 0 || k >= scores.len() {
        return;
    }
    let mut sorted = scores.to_vec();
    let (_, least, _) = sorted.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
    let least = *least;
    for score in scores {
        if *score < least {
            *score = f32::NEG_INFINITY;
        }
    }
}

/// Drops the least likely while what is dropped has no more than `1 - p` of the probability; the
/// likeliest stays.
fn keep_nucleus(scores: &mut [f32], p: f32) {
    if p >= 1.0 {
        return;
    }
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]));
    let Some(most) = order.last().map(|i| scores[*i]) else {
        return;
    };
    let total: f32 = scores.iter().map(|s| (s - most).exp()).sum();
    let mut dropped = 0.0;
    for &i in &order[..order.len() - 1] {
        dropped += (scores[i] - most).exp() / total;
        if dropped > 1.0 - p {
            break;
        }
        scores[i] = f32::NEG_INFINITY;
    }
}

/// The largest; the first of equals.
pub(super) fn likeliest(scores: &[f32]) -> u32 {
    let best = (0u32..)
        .zip(scores)
        .fold((0, f32::NEG_INFINITY), |best, (id, score)| {
            if *score > best.1 { (id, *score) } else { best }
        });
    best.0
}

/// Draws in proportion to the exponentials of processed scores.
pub(super) fn draw(scores: &[f32], rng: &mut ChaCha8Rng) -> u32 {
    let best = likeliest(scores);
    let Some(most) = scores.get(best as usize).filter(|m| m.is_finite()) else {
        return best;
    };
    let total: f64 = scores.iter().map(|s| f64::from((s - most).exp())).sum();
    let mut left = rng.random::<f64>() * total;
    for (id, score) in (0u32..).zip(scores) {
        left -= f64::from((score - most).exp());
        if left < 0.0 {
            return id;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn a_token_seen_twice_is_penalised_once() {
        let mut scores = [4.0, -1.0, 3.0];
        let how = SamplingParams {
            top_p: 1.0,
            ..SamplingParams::default()
        };
        process(&mut scores, &[0, 0, 1], &how, None);
        assert_eq!(scores, [2.0, -2.0, 3.0]);
    }

    #[test]
    fn what_is_unlikely_is_out_of_question() {
        let probabilities = [0.05f32, 0.5, 0.04, 0.41];
        let logits = probabilities.map(f32::ln);
        let how = SamplingParams {
            top_k: 3,
            ..SamplingParams::default()
        };
        let mut scores = logits;
        process(&mut scores, &[], &how, None);
        // Of the three likeliest, 0.05/0.96 is no more than the tenth that may go.
        assert_eq!(
            scores,
            [f32::NEG_INFINITY, logits[1], f32::NEG_INFINITY, logits[3]]
        );
    }

    #[test]
    fn a_forced_token_is_drawn() {
        let mut scores = [1.0, 2.0, 3.0];
        process(&mut scores, &[], &SamplingParams::default(), Some(0));
        assert_eq!(scores[0], 30.0);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        assert_eq!(draw(&scores, &mut rng), 0);
        assert_eq!(likeliest(&scores), 0);
    }

    #[test]
    fn tokens_are_drawn_as_often_as_they_are_likely() {
        let scores = [0.25f32.ln(), f32::NEG_INFINITY, 0.75f32.ln()];
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let mut counts = [0; 3];
        for _ in 0..4000 {
            counts[draw(&scores, &mut rng) as usize] += 1;
        }
        assert_eq!(counts[1], 0);
        assert!(counts[0] > 850 && counts[0] < 1150, "{counts:?}");
    }
}
