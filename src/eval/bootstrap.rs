//! Intervals by resampling (Efron 1979). Whole stories are drawn, since the panels of one are
//! alike.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Lower and upper end.
pub(super) type Interval = (f64, f64);

/// The middle 95 % of what `metric` gives for `times` draws of `count` items with replacement; it
/// gets the indices drawn. `None` where it gave nothing.
pub(super) fn interval(
    count: usize,
    times: usize,
    seed: u64,
    mut metric: impl FnMut(&[usize]) -> Option<f64>,
) -> Option<Interval> {
    if count == 0 {
        return None;
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut drawn = vec![0; count];
    let mut values = Vec::with_capacity(times);
    for _ in 0..times {
        drawn.fill_with(|| rng.random_range(0..count));
        values.extend(metric(&drawn));
    }
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    let at = |share: f64| values[(share * last as f64).round() as usize];
    Some((at(0.025), at(0.975)))
}

/// The same for a metric that resampling itself makes larger, as it does the Fréchet distance: the
/// interval is moved so that its draws lie around `whole` on average.
pub(super) fn centred(
    whole: f64,
    count: usize,
    times: usize,
    seed: u64,
    mut metric: impl FnMut(&[usize]) -> Option<f64>,
) -> Option<Interval> {
    let (mut sum, mut n) = (0.0, 0.0);
    let (low, high) = interval(count, times, seed, |drawn| {
        let value = metric(drawn)?;
        sum += value;
        n += 1.0;
        Some(value)
    })?;
    let shift = whole - sum / n;
    Some((low + shift, high + shift))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_of_a_share_is_that_of_the_binomial() {
        // 400 of 1000: deviation sqrt(0.4 * 0.6 / 1000) = 0.0155, and 1.96 of them a side.
        let hit = |i: usize| f64::from(u8::from(i < 400));
        let mean = |drawn: &[usize]| Some(drawn.iter().map(|&i| hit(i)).sum::<f64>() / 1000.0);
        let (low, high) = interval(1000, 1000, 3, mean).unwrap();
        assert!(
            (low - 0.3696).abs() < 0.005 && (high - 0.4304).abs() < 0.005,
            "{low} {high}"
        );
        assert_eq!(interval(1000, 1000, 3, mean), Some((low, high)));
        let (low, high) = centred(0.5, 1000, 1000, 3, mean).unwrap();
        assert!((low - 0.4696).abs() < 0.005 && (high - 0.5304).abs() < 0.005);
        assert_eq!(interval(0, 10, 1, mean), None);
        assert_eq!(interval(5, 10, 1, |_| None), None);
    }
}
