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
    for id in once(seen) {
        if let Some(score) = scores.get_mut(id as usize) {
            *score = if *score < 0.0 {
                *score * how.repetition_penalty
            } else {
                *score / how.repetition_penalty
            };
        }
    }
    keep(scores, how);
    if let Some(score) = force.and_then(|id| scores.get(id as usize).map(|_| id as usize)) {
        scores[score] = forced(scores);
    }
}

/// The same for the likeliest tokens of a vocabulary of so many alone, with their logits from the
/// largest on, in which tokens seen and suppressed are taken into account already: those that are
/// drawn from, in the order of their numbers. `None` where others might be among them.
pub(super) fn process_candidates(
    likeliest: &[(u32, f32)],
    vocabulary: usize,
    how: &SamplingParams,
    force: Option<u32>,
) -> Option<Vec<(u32, f32)>> {
    let least = how.top_k.checked_sub(1).and_then(|k| likeliest.get(k));
    // Equals of the last that is kept are kept too, so one that is less must be here.
    let decided = least
        .zip(likeliest.last())
        .is_some_and(|(least, last)| last.1 / how.divisor() < least.1 / how.divisor());
    if likeliest.len() < vocabulary && !decided {
        return None;
    }
    let mut tokens = likeliest.to_vec();
    tokens.sort_unstable_by_key(|(id, _)| *id);
    let mut scores: Vec<f32> = tokens.iter().map(|(_, logit)| *logit).collect();
    keep(&mut scores, how);
    let most = forced(&scores);
    let mut kept: Vec<(u32, f32)> = tokens.into_iter().map(|(id, _)| id).zip(scores).collect();
    kept.retain(|(id, score)| *score > f32::NEG_INFINITY && Some(*id) != force);
    if let Some(id) = force.filter(|id| (*id as usize) < vocabulary) {
        kept.push((id, most));
        kept.sort_unstable_by_key(|(id, _)| *id);
    }
    Some(kept)
}

/// Each token once, however often it was seen.
pub(super) fn once(seen: &[u32]) -> Vec<u32> {
    let mut once = seen.to_vec();
    once.sort_unstable();
    once.dedup();
    once
}

impl SamplingParams {
    /// What logits are divided by.
    fn divisor(&self) -> f32 {
        match self.temperature > 0.0 {
            true => self.temperature,
            false => 1.0,
        }
    }
}

/// Temperature, top-k and top-p.
fn keep(scores: &mut [f32], how: &SamplingParams) {
    if how.divisor() != 1.0 {
        scores.iter_mut().for_each(|s| *s /= how.divisor());
    }
    keep_likeliest(scores, how.top_k);
    keep_nucleus(scores, how.top_p);
}

/// The score of a token that is to come.
fn forced(scores: &[f32]) -> f32 {
    10.0 * scores.iter().copied().fold(f32::NEG_INFINITY, f32::max)
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

/// Each score with the number of its token.
pub(super) fn numbered(scores: &[f32]) -> impl Iterator<Item = (u32, f32)> + Clone {
    (0u32..).zip(scores.iter().copied())
}

/// The largest; the first of equals.
pub(super) fn likeliest(scores: impl Iterator<Item = (u32, f32)>) -> u32 {
    largest(scores).0
}

fn largest(scores: impl Iterator<Item = (u32, f32)>) -> (u32, f32) {
    let none = (0, f32::NEG_INFINITY);
    scores.fold(none, |best, one| if one.1 > best.1 { one } else { best })
}

/// Draws in proportion to the exponentials of processed scores, in the order of their tokens'
/// numbers.
pub(super) fn draw(scores: impl Iterator<Item = (u32, f32)> + Clone, rng: &mut ChaCha8Rng) -> u32 {
    let (best, most) = largest(scores.clone());
    if !most.is_finite() {
        return best;
    }
    let total: f64 = scores
        .clone()
        .map(|(_, s)| f64::from((s - most).exp()))
        .sum();
    let mut left = rng.random::<f64>() * total;
    for (id, score) in scores {
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
        assert_eq!(draw(numbered(&scores), &mut rng), 0);
        assert_eq!(likeliest(numbered(&scores)), 0);
    }

    #[test]
    fn what_is_drawn_from_the_likeliest_is_what_is_drawn_from_all() {
        let logits: Vec<f32> = (0..600u32)
            .map(|i| ((i * 7919) % 613) as f32 / 40.0 - 3.0)
            .collect();
        let equal = vec![1.0f32; 600];
        for (temperature, top_k, top_p) in [
            (1.0, 50, 0.9),
            (0.7, 5, 1.0),
            (0.0, 50, 0.9),
            (1.3, 0, 0.9),
            (1.0, 128, 1.0),
        ] {
            let how = SamplingParams {
                temperature,
                top_k,
                top_p,
                repetition_penalty: 1.0,
            };
            for (all, force) in [
                (&logits, None),
                (&logits, Some(7)),
                (&logits, Some(599)),
                (&equal, None),
            ] {
                let mut found: Vec<(u32, f32)> = numbered(all).collect();
                found.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
                found.truncate(128);
                let kept = process_candidates(&found, all.len(), &how, force);
                let can = (1..128).contains(&top_k) && all[0] != all[1];
                assert_eq!(kept.is_some(), can, "{how:?}");
                let Some(kept) = kept else { continue };
                let mut scores = all.clone();
                process(&mut scores, &[], &how, force);
                let mut rngs = [0; 2].map(|_| ChaCha8Rng::seed_from_u64(5));
                for _ in 0..50 {
                    let own = draw(kept.iter().copied(), &mut rngs[0]);
                    assert_eq!(own, draw(numbered(&scores), &mut rngs[1]), "{how:?}");
                }
                assert_eq!(
                    likeliest(kept.iter().copied()),
                    likeliest(numbered(&scores))
                );
            }
        }
    }

    #[test]
    fn tokens_are_drawn_as_often_as_they_are_likely() {
        let scores = [0.25f32.ln(), f32::NEG_INFINITY, 0.75f32.ln()];
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let mut counts = [0; 3];
        for _ in 0..4000 {
            counts[draw(numbered(&scores), &mut rng) as usize] += 1;
        }
        assert_eq!(counts[1], 0);
        assert!(counts[0] > 850 && counts[0] < 1150, "{counts:?}");
    }
}
