//! Attention of some tokens' queries over a layer's cache.

use crate::llm::cache::LayerCache;
use crate::nn::quant::vector;
use rayon::prelude::*;
use std::cell::RefCell;

thread_local! {
    /// Room for a page's rows as floats, and for scores.
    static ROOM: RefCell<(Vec<f32>, Vec<f32>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

/// Tokens whose queries go together, so that a page is widened to floats once for all of them.
const TOGETHER: usize = 16;
/// Multiplications that are worth handing out to threads.
const WORTH_SHARING: usize = 1 << 18;

/// What attention needs beside queries, keys and values.
pub(super) struct Attention<'a> {
    pub heads: usize,
    pub kv_heads: usize,
    pub width: usize,
    pub window: Option<usize>,
    pub scale: f32,
    pub cap: Option<f32>,
    /// One more logit for each head, whose weight is dropped.
    pub sinks: Option<&'a [f32]>,
}

impl Attention<'_> {
    /// Attention of `query`, `[tokens, heads, width]`, whose first token is at `first`, into `out`
    /// of the same shape.
    pub fn attend(&self, cache: &LayerCache, query: &[f32], first: usize, out: &mut [f32]) {
        let row = self.heads * self.width;
        let tokens = query.len() / row;
        let group = self.heads / self.kv_heads * self.width;
        if tokens == 1 && first * row < WORTH_SHARING {
            for (head, out) in out.chunks_exact_mut(group).enumerate() {
                self.one(cache, head, query, first, out, group, 0);
            }
        } else if tokens == 1 {
            out.par_chunks_mut(group)
                .enumerate()
                .for_each(|(head, out)| self.one(cache, head, query, first, out, group, 0));
        } else {
            out.par_chunks_mut(TOGETHER * row)
                .zip(query.par_chunks(TOGETHER * row))
                .enumerate()
                .for_each(|(index, (out, query))| {
                    let first = first + index * TOGETHER;
                    for head in 0..self.kv_heads {
                        self.one(cache, head, query, first, out, row, head * group);
                    }
                });
        }
    }

    /// The queries of `query` that share the keys and values of `head`; their results go to rows of
    /// `out_row` numbers, from `out_at` on in each.
    #[allow(clippy::too_many_arguments)]
    fn one(
        &self,
        cache: &LayerCache,
        head: usize,
        query: &[f32],
        first: usize,
        out: &mut [f32],
        out_row: usize,
        out_at: usize,
    ) {
        let (width, group) = (self.width, self.heads / self.kv_heads);
        let tokens = query.len() / (self.heads * width);
        let start = |token: usize| match self.window {
            Some(window) => (first + token + 1).saturating_sub(window),
            None => 0,
        };
        let (from, to) = (start(0), first + tokens);
        let span = to - from;
        // The positions of a piece of `rows` that a token sees, as indices.
        let seen = |token: usize, at: usize, count: usize| {
            let low = start(token).max(at);
            let high = (first + token + 1).min(at + count);
            (low < high).then_some((low, high))
        };
        ROOM.with_borrow_mut(|(room, scores)| {
            scores.resize(tokens * group * span, 0.0);
            cache.each(false, head, from, to, room, |at, keys| {
                for token in 0..tokens {
                    let Some((low, high)) = seen(token, at, keys.len() / width) else {
                        continue;
                    };
                    let keys = &keys[(low - at) * width..(high - at) * width];
                    for g in 0..group {
                        let query = &query[(token * self.heads + head * group + g) * width..];
                        let to = (token * group + g) * span + low - from;
                        let scores = &mut scores[to..to + high - low];
                        vector::scores(&query[..width], keys, self.scale, scores);
                    }
                }
            });
            for (index, scores) in scores.chunks_exact_mut(span).enumerate() {
                let (token, g) = (index / group, index % group);
                let seen = start(token) - from..first + token + 1 - from;
                let scores = &mut scores[seen];
                if let Some(cap) = self.cap {
                    vector::cap(scores, cap);
                }
                let sink = self.sinks.map(|sinks| sinks[head * group + g]);
                vector::softmax(scores, sink.unwrap_or(f32::NEG_INFINITY));
                let at = token * out_row + out_at + g * width;
                out[at..at + width].fill(0.0);
            }
            cache.each(true, head, from, to, room, |at, values| {
                for token in 0..tokens {
                    let Some((low, high)) = seen(token, at, values.len() / width) else {
                        continue;
                    };
                    let values = &values[(low - at) * width..(high - at) * width];
                    for g in 0..group {
                        let of = (token * group + g) * span + low - from;
                        let weights = &scores[of..of + high - low];
                        let at = token * out_row + out_at + g * width;
                        vector::mix(weights, values, &mut out[at..at + width]);
                    }
                }
            });
        });
    }
}
