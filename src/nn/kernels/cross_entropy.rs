//! Cross-entropy of rows of logits, and its gradient in their place.

use super::simd::{FUSED, dispatch, exp};

/// Sums side by side, so that rows of tens of thousands keep their precision and vectorise.
const LANES: usize = 16;

dispatch! {
    fn largest(row: &[f32]) -> f32 {
        let (whole, rest) = row.as_chunks::<LANES>();
        let mut lanes = [f32::NEG_INFINITY; LANES];
        for chunk in whole {
            for (lane, x) in lanes.iter_mut().zip(chunk) {
                *lane = if *x > *lane { *x } else { *lane };
            }
        }
        lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |a, b| if *b > a { *b } else { a })
    }
}

dispatch! {
    /// `e^(x - shift)` in place; returns their sum.
    fn exponentials(row: &mut [f32], shift: f32) -> f32 {
        let (whole, rest) = row.as_chunks_mut::<LANES>();
        let mut lanes = [0f32; LANES];
        for chunk in whole {
            for (lane, x) in lanes.iter_mut().zip(chunk) {
                *x = exp::<FUSED>(*x - shift);
                *lane += *x;
            }
        }
        let mut sum: f32 = lanes.iter().sum();
        for x in rest {
            *x = exp::<FUSED>(*x - shift);
            sum += *x;
        }
        sum
    }
}

dispatch! {
    fn scale(row: &mut [f32], by: f32) {
        row.iter_mut().for_each(|x| *x *= by);
    }
}

/// The cross-entropy of token `wanted` by the logits `row` and, behind them, `more`; both become
/// the gradient of the loss times `share`. NaN among the logits gives NaN.
pub(crate) fn row(row: &mut [f32], more: &mut [f32], wanted: usize, share: f32) -> f32 {
    let shift = largest(row).max(largest(more));
    let own = row.len();
    let logit = if wanted < own {
        row[wanted]
    } else {
        more[wanted - own]
    };
    let sum = exponentials(row, shift) + exponentials(more, shift);
    scale(row, share / sum);
    scale(more, share / sum);
    match wanted < own {
        true => row[wanted] -= share,
        false => more[wanted - own] -= share,
    }
    sum.ln() + shift - logit
}
