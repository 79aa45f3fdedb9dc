//! Attention of some tokens' queries over a layer's cache.

use crate::llm::cache::{CacheRows, LayerCache};
use crate::nn::crew;
use crate::nn::quant::{halves, vector};
use rayon::prelude::*;
use std::cell::RefCell;
use std::ops::Range;

thread_local! {
    /// Room for a page's rows as floats, and for scores.
    static ROOM: RefCell<(Vec<f32>, Vec<f32>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

/// Tokens whose queries go together, so that a page is widened to floats once for all of them.
const TOGETHER: usize = 16;
/// Multiplications of a token that are worth handing out to threads.
const WORTH_SHARING: usize = 1 << 15;

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
        let group = self.heads / self.kv_heads;
        if tokens == 1 {
            // A piece is some of the heads that share their keys and values.
            let some = match first * row < WORTH_SHARING {
                true => group,
                false => self.heads_of_a_piece(group),
            };
            let pieces = group / some;
            let one = |piece: usize, out: &mut [f32]| {
                let heads = piece % pieces * some..(piece % pieces + 1) * some;
                let head = piece / pieces;
                self.one(cache, head, heads, query, first, out, some * self.width, 0);
            };
            match first * row < WORTH_SHARING {
                true => {
                    let all = out.chunks_exact_mut(some * self.width).enumerate();
                    all.for_each(|(piece, out)| one(piece, out));
                }
                false => crew::each_chunk(out, some * self.width, one),
            }
        } else {
            out.par_chunks_mut(TOGETHER * row)
                .zip(query.par_chunks(TOGETHER * row))
                .enumerate()
                .for_each(|(index, (out, query))| {
                    let first = first + index * TOGETHER;
                    for head in 0..self.kv_heads {
                        let at = head * group * self.width;
                        self.one(cache, head, 0..group, query, first, out, row, at);
                    }
                });
        }
    }

    /// How many heads of a group go together, so that all threads are done soonest: what they share is
    /// read once for all of them.
    fn heads_of_a_piece(&self, group: usize) -> usize {
        let threads = rayon::current_num_threads();
        let cost = |some: &usize| (self.heads / some).div_ceil(threads) * (some + 1);
        let divisors = (1..=group).filter(|some| group.is_multiple_of(*some));
        divisors.min_by_key(cost).unwrap_or(group)
    }

    /// The positions that a query at `at` sees.
    fn sees(&self, at: usize) -> Range<usize> {
        let from = self.window.map_or(0, |w| (at + 1).saturating_sub(w));
        // A window reaches back only, in a picture too.
        from..self.picture.unwrap_or(at + 1)
    }

    /// The queries of `query` that share the keys and values of `head`, of which `heads` are those
    /// that are wanted; their results go to rows of `out_row` numbers, from `out_at` on in each.
    #[allow(
        clippy::too_many_arguments,
        reason = "a piece of the cache and where its result goes"
    )]
    fn one(
        &self,
        cache: &LayerCache,
        head: usize,
        heads: Range<usize>,
        query: &[f32],
        first: usize,
        out: &mut [f32],
        out_row: usize,
        out_at: usize,
    ) {
        let (width, group) = (self.width, self.heads / self.kv_heads);
        let count = heads.len();
        let tokens = query.len() / (self.heads * width);
        let (from, to) = (self.sees(first).start, self.sees(first + tokens - 1).end);
        let (span, all) = (to - from, query);
        // The positions of a piece of `rows` that a token sees, as indices.
        let seen = |token: usize, at: usize, rows: usize| {
            let sees = self.sees(first + token);
            let (low, high) = (sees.start.max(at), sees.end.min(at + rows));
            (low < high).then_some((low, high))
        };
        ROOM.with_borrow_mut(|(room, scores)| {
            scores.resize(tokens * count * span, 0.0);
            cache.each(false, head, from, to, room, |at, keys| {
                for token in 0..tokens {
                    let Some((low, high)) = seen(token, at, keys.count(width)) else {
                        continue;
                    };
                    let rows = (low - at) * width..(high - at) * width;
                    let query = (token * self.heads + head * group + heads.start) * width;
                    let query = &all[query..][..count * width];
                    let to = token * count * span + low - from;
                    match &keys {
                        CacheRows::Halves(keys) => {
                            let scores = &mut scores[to..];
                            halves::scores(query, &keys[rows], width, self.scale, scores, span);
                        }
                        CacheRows::Floats(keys) => {
                            for (g, query) in query.chunks_exact(width).enumerate() {
                                let scores = &mut scores[to + g * span..][..high - low];
                                vector::scores(query, &keys[rows.clone()], self.scale, scores);
                            }
                        }
                    }
                }
            });
            for (index, scores) in scores.chunks_exact_mut(span).enumerate() {
                let (token, g) = (index / count, index % count);
                let sees = self.sees(first + token);
                let scores = &mut scores[sees.start - from..sees.end - from];
                if let Some(cap) = self.cap {
                    vector::cap(scores, cap);
                }
                let sink = self
                    .sinks
                    .map(|sinks| sinks[head * group + heads.start + g]);
                vector::softmax(scores, sink.unwrap_or(f32::NEG_INFINITY));
                let at = token * out_row + out_at + g * width;
                out[at..at + width].fill(0.0);
            }
            cache.each(true, head, from, to, room, |at, values| {
                for token in 0..tokens {
                    let Some((low, high)) = seen(token, at, values.count(width)) else {
                        continue;
                    };
                    let rows = (low - at) * width..(high - at) * width;
                    let of = token * count * span + low - from;
                    let out = &mut out[token * out_row + out_at..][..count * width];
                    match &values {
                        CacheRows::Halves(values) => {
                            halves::mix(&scores[of..], span, &values[rows], width, out);
                        }
                        CacheRows::Floats(values) => {
                            for (g, out) in out.chunks_exact_mut(width).enumerate() {
                                let weights = &scores[of + g * span..][..high - low];
                                vector::mix(weights, &values[rows.clone()], out);
                            }
                        }
                    }
                }
            });
        });
    }
}
