//! Texts that share what is before them, in one pass: the panels of a story each have several
//! things to be learnt behind the same beginning, which is then read only once.

use crate::nn::{Mask, Result, attention};
use candle_core::Tensor;
use std::ops::Range;

/// Tokens in a row, and what they see before themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Their places.
    pub tokens: Range<usize>,
    /// Places before them, in reading order.
    pub sees: Vec<Range<usize>>,
}

/// Where each token stands in the text that its part sees, for `count` tokens behind `before`.
pub(super) fn positions(parts: &[Part], before: usize, count: usize) -> Result<Vec<usize>> {
    let mut positions = Vec::with_capacity(count);
    let mut next = before;
    for part in parts {
        let behind = part.sees.iter().all(|seen| seen.end <= part.tokens.start);
        if part.tokens.start != next || part.tokens.is_empty() || !behind {
            candle_core::bail!("the packed part {part:?} does not follow place {next}");
        }
        let first: usize = part.sees.iter().map(Range::len).sum();
        positions.extend((0..part.tokens.len()).map(|i| first + i));
        next = part.tokens.end;
    }
    if next != before + count {
        candle_core::bail!("packed parts end at place {next} of {}", before + count);
    }
    Ok(positions)
}

/// Attention of `q [1,N,..]` over `k`, `v [1,before+N,..]`, part by part.
pub(super) fn attend(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    (heads, kv_heads): (usize, usize),
    parts: &[Part],
) -> Result<Tensor> {
    let before = k.dim(1)? - q.dim(1)?;
    let seen: Vec<Tensor> = parts
        .iter()
        .map(|part| {
            let own = &part.tokens;
            let ranges = joined(part);
            let gather = |t: &Tensor| match ranges.as_slice() {
                [one] => t.narrow(1, one.start, one.len()),
                many => {
                    let pieces = many.iter().map(|r| t.narrow(1, r.start, r.len()));
                    Tensor::cat(&pieces.collect::<Result<Vec<_>>>()?, 1)
                }
            };
            let q = q.narrow(1, own.start - before, own.len())?;
            attention(&q, &gather(k)?, &gather(v)?, heads, kv_heads, &Mask::Causal)
        })
        .collect::<Result<_>>()?;
    Tensor::cat(&seen, 1)
}

/// What a part sees and itself, neighbours joined.
fn joined(part: &Part) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::with_capacity(part.sees.len() + 1);
    for next in part.sees.iter().chain([&part.tokens]) {
        match ranges.last_mut() {
            Some(last) if last.end == next.start => last.end = next.end,
            _ => ranges.push(next.clone()),
        }
    }
    ranges
}
