//! Attention of some tokens' queries over a layer's cache.

use crate::llm::cache::LayerCache;
use crate::nn::quant::vector;
use rayon::prelude::*;
use std::cell::RefCell;
use std::ops::Range;

thread_local! {
    /// Room for a page's rows as floats, and for scores.
    static ROOM: RefCell<(Vec<f32>, Vec<f32>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

/// Tokens whose queries go together, so that a page is widened to floats once for all of them.
const TOGETHER: usize = 16;
/// Multiplications that are worth handing out to threads.
const WORTH_SHARING: usize = 1 << 18;

/// What attention needs beside queries, keys and values.
pub(super) struct AttentionParameters<'a> {
    pub heads: usize,
    pub kv_heads: usize,
    pub width: usize,
    pub window: Option<usize>,
    pub scale: f32,
    pub cap: Option<f32>,
    /// One more logit for each head, whose weight is dropped.
    pub sinks: Option<&'a [f32]>,
    /// Where the picture ends that the queries are of: they see each other whatever their order.
    pub picture: Option<usize>,
}

impl AttentionParameters<'_> {
    /// Attention of `query`, `[tokens, heads, width]`, whose first token is at `first`, into `out`
    /// of the same shape.
    pub(super) fn attend(&self, cache: &LayerCache, query: &[f32], first: usize, out: &mut [f32]) {
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

    /// The positions that a query at `at` sees.
    fn sees(&self, at: usize) -> Range<usize> {
        let from = self.window.map_or(0, |w| (at + 1).saturating_sub(w));
        // A window reaches back only, in a picture too.
        from..self.picture.unwrap_or(at + 1)
    }

    /// The queries of `query` that share the keys and values of `head`; their results go to rows of
    /// `out_row` numbers, from `out_at` on in each.
    #[allow(
        clippy::too_many_arguments,
        reason = "a piece of the cache and where its result goes"
    )]
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
        let (from, to) = (self.sees(first).start, self.sees(first + tokens - 1).end);
        let span = to - from;
        // The positions of a piece of `rows` that a token sees, as indices.
        let seen = |token: usize, at: usize, count: usize| {
            let sees = self.sees(first + token);
            let (low, high) = (sees.start.max(at), sees.end.min(at + count));
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
                let sees = self.sees(first + token);
                let scores = &mut scores[sees.start - from..sees.end - from];
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
