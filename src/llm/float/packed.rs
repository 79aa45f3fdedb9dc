//! Texts that share what is before them, in one pass: the panels of a story each have several
//! things to be learnt behind the same beginning, which is then read only once.

use crate::nn::{Result, Segment};
use std::ops::Range;
use std::sync::Arc;

/// Tokens in a row, and what they see before themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedPart {
    /// Their places.
    pub tokens: Range<usize>,
    /// Places before them, in reading order.
    pub sees: Vec<Range<usize>>,
}

/// Where each token stands in the text that its part sees, for `count` tokens behind `before`.
pub(super) fn positions(parts: &[PackedPart], before: usize, count: usize) -> Result<Vec<usize>> {
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

/// What each part's queries see, the part itself last; neighbours are joined.
pub(super) fn segments(parts: &[PackedPart], before: usize) -> Arc<[Segment]> {
    let segment = |part: &PackedPart| {
        let mut keys: Vec<Range<usize>> = Vec::with_capacity(part.sees.len() + 1);
        for next in part.sees.iter().chain([&part.tokens]) {
            match keys.last_mut() {
                Some(last) if last.end == next.start => last.end = next.end,
                _ => keys.push(next.clone()),
            }
        }
        Segment {
            queries: part.tokens.start - before..part.tokens.end - before,
            keys,
        }
    };
    parts.iter().map(segment).collect()
}
