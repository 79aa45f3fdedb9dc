//! The keys and values of the tokens that were read, in pages: a page is made when a text reaches
//! it, and of layers with a window those are dropped that no token to come will see.

use std::sync::Arc;

use super::hyperparameters::Hyperparameters;
use crate::nn::quant::halves;
use half::f16;
use half::slice::HalfFloatSliceExt;

/// Positions of a page.
pub(super) const PAGE: usize = 256;
/// Positions that are kept behind a window, so that a text can be taken back by as many.
pub(super) const BEHIND_WINDOW: usize = 4 * PAGE;
/// Numbers that share a scale in a cache of 8 bits.
const BLOCK: usize = 32;

/// How keys and values are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheType {
    /// 32-bit floating point, without loss.
    F32,
    /// Half the memory; what is lost is far below what quantised weights lose.
    #[default]
    F16,
    /// 8 bits each, and a scale for 32 of them: a quarter of the memory.
    Q8,
}

impl CacheType {
    /// Bytes of `width` numbers.
    pub fn bytes(self, width: usize) -> usize {
        match self {
            CacheType::F32 => 4 * width,
            CacheType::F16 => 2 * width,
            CacheType::Q8 => width + 4 * width.div_ceil(BLOCK),
        }
    }
}

/// Rows of numbers, `[heads, PAGE, width]`.
#[derive(Clone)]
enum Store {
    F32(Vec<f32>),
    F16(Vec<f16>),
    Q8 { numbers: Vec<i8>, scales: Vec<f32> },
}

impl Store {
    fn new(kind: CacheType, rows: usize, width: usize) -> Store {
        match kind {
            CacheType::F32 => Store::F32(vec![0.0; rows * width]),
            CacheType::F16 => Store::F16(vec![f16::ZERO; rows * width]),
            CacheType::Q8 => Store::Q8 {
                numbers: vec![0; rows * width],
                scales: vec![0.0; rows * width.div_ceil(BLOCK)],
            },
        }
    }

    fn write(&mut self, row: usize, from: &[f32]) {
        let width = from.len();
        match self {
            Store::F32(to) => to[row * width..][..width].copy_from_slice(from),
            Store::F16(to) => to[row * width..][..width].convert_from_f32_slice(from),
            Store::Q8 { numbers, scales } => {
                let blocks = width.div_ceil(BLOCK);
                let numbers = &mut numbers[row * width..][..width];
                let scales = &mut scales[row * blocks..][..blocks];
                let parts = from.chunks(BLOCK).zip(numbers.chunks_mut(BLOCK));
                for ((from, to), scale) in parts.zip(scales) {
                    let largest = from.iter().fold(0.0f32, |m, x| m.max(x.abs()));
                    *scale = largest / 127.0;
                    let inverse = if *scale > 0.0 { 1.0 / *scale } else { 0.0 };
                    for (to, from) in to.iter_mut().zip(from) {
                        *to = (from * inverse).round() as i8;
                    }
                }
            }
        }
    }

    /// `count` rows from `first` on as floats: those that are kept, or in `room`.
    fn rows<'a>(
        &'a self,
        first: usize,
        count: usize,
        width: usize,
        room: &'a mut Vec<f32>,
    ) -> &'a [f32] {
        match self {
            Store::F32(from) => &from[first * width..][..count * width],
            Store::F16(from) => {
                room.resize(PAGE * width, 0.0);
                let to = &mut room[..count * width];
                from[first * width..][..count * width].convert_to_f32_slice(to);
                to
            }
            Store::Q8 { numbers, scales } => {
                room.resize(PAGE * width, 0.0);
                let blocks = width.div_ceil(BLOCK);
                let rows = room.chunks_exact_mut(width).take(count);
                for (i, to) in rows.enumerate() {
                    let numbers = &numbers[(first + i) * width..][..width];
                    let scales = &scales[(first + i) * blocks..][..blocks];
                    let parts = numbers.chunks(BLOCK).zip(to.chunks_mut(BLOCK));
                    for ((from, to), scale) in parts.zip(scales) {
                        for (to, from) in to.iter_mut().zip(from) {
                            *to = scale * f32::from(*from);
                        }
                    }
                }
                &room[..count * width]
            }
        }
    }
}

/// Keys or values of positions that follow each other, as attention reads them.
pub(super) enum CacheRows<'a> {
    Floats(&'a [f32]),
    /// Where there is a kernel that reads them.
    Halves(&'a [f16]),
}

impl CacheRows<'_> {
    /// How many positions there are, of heads so wide.
    pub(super) fn count(&self, width: usize) -> usize {
        match self {
            CacheRows::Floats(rows) => rows.len() / width,
            CacheRows::Halves(rows) => rows.len() / width,
        }
    }
}

#[derive(Clone)]
struct Page {
    keys: Store,
    values: Store,
}

/// The keys and values of a layer. Clones share their pages until one of them writes.
#[derive(Clone)]
pub(super) struct LayerCache {
    kind: CacheType,
    heads: usize,
    width: usize,
    window: Option<usize>,
    /// `None` where a page was dropped.
    pages: Vec<Option<Arc<Page>>>,
}

/// What is kept of a text in all layers.
#[derive(Clone)]
pub(super) struct KvCache {
    pub layers: Vec<LayerCache>,
}

impl KvCache {
    pub(super) fn new(kind: CacheType, hyper: &Hyperparameters) -> KvCache {
        let layer = |sizes: &super::hyperparameters::LayerSizes| LayerCache {
            kind,
            heads: sizes.kv_heads,
            width: hyper.head_width,
            window: sizes.window,
            pages: Vec::new(),
        };
        KvCache {
            layers: hyper.layers.iter().map(layer).collect(),
        }
    }

    /// Whether a text cut to `length` can be gone on with.
    pub(super) fn holds(&self, length: usize) -> bool {
        self.layers.iter().all(|layer| {
            let first = layer.window.map_or(0, |w| (length + 1).saturating_sub(w));
            let mut pages = first / PAGE..length.div_ceil(PAGE);
            pages.all(|page| matches!(layer.pages.get(page), Some(Some(_))))
        })
    }

    /// Drops the pages behind what a text of `length` holds.
    pub(super) fn truncate(&mut self, length: usize) {
        for layer in &mut self.layers {
            layer.pages.truncate(length.div_ceil(PAGE));
        }
    }
}

impl LayerCache {
    /// Writes the keys and values of the tokens from `first` on, each `[tokens, heads, width]`.
    pub(super) fn write(&mut self, first: usize, keys: &[f32], values: &[f32]) {
        let row = self.heads * self.width;
        let tokens = keys.len() / row;
        while self.pages.len() < (first + tokens).div_ceil(PAGE) {
            let store = || Store::new(self.kind, self.heads * PAGE, self.width);
            self.pages.push(Some(Arc::new(Page {
                keys: store(),
                values: store(),
            })));
        }
        for (token, (keys, values)) in keys
            .chunks_exact(row)
            .zip(values.chunks_exact(row))
            .enumerate()
        {
            let position = first + token;
            let Some(page) = &mut self.pages[position / PAGE] else {
                continue;
            };
            let page = Arc::make_mut(page);
            let heads = keys
                .chunks_exact(self.width)
                .zip(values.chunks_exact(self.width));
            for (head, (key, value)) in heads.enumerate() {
                let at = head * PAGE + position % PAGE;
                page.keys.write(at, key);
                page.values.write(at, value);
            }
        }
        if let Some(window) = self.window {
            let seen = first.saturating_sub(window + BEHIND_WINDOW) / PAGE;
            self.pages
                .iter_mut()
                .take(seen)
                .for_each(|page| *page = None);
        }
    }

    /// Calls `f` with pieces of a head's keys, or values, at positions `from..to`, in order: the
    /// first position of the piece, and its rows.
    pub(super) fn each(
        &self,
        values: bool,
        head: usize,
        from: usize,
        to: usize,
        room: &mut Vec<f32>,
        mut f: impl FnMut(usize, CacheRows),
    ) {
        let halves = halves::suits(self.width);
        let mut at = from;
        while at < to {
            let count = (PAGE - at % PAGE).min(to - at);
            if let Some(page) = &self.pages[at / PAGE] {
                let store = if values { &page.values } else { &page.keys };
                let first = head * PAGE + at % PAGE;
                f(
                    at,
                    match store {
                        Store::F16(rows) if halves => {
                            let rows = &rows[first * self.width..];
                            CacheRows::Halves(&rows[..count * self.width])
                        }
                        _ => CacheRows::Floats(store.rows(first, count, self.width, room)),
                    },
                );
            }
            at += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(kind: CacheType, window: Option<usize>) -> LayerCache {
        LayerCache {
            kind,
            heads: 2,
            width: 48,
            window,
            pages: Vec::new(),
        }
    }

    fn numbers(tokens: usize) -> Vec<f32> {
        (0..tokens * 96)
            .map(|i| (i * 7919 % 2003) as f32 / 1000.0 - 1.0)
            .collect()
    }

    #[test]
    fn what_is_written_is_read_again() {
        for (kind, error) in [
            (CacheType::F32, 0.0),
            (CacheType::F16, 5e-4),
            (CacheType::Q8, 5e-3),
        ] {
            let mut layer = layer(kind, None);
            let (keys, values) = (
                numbers(600),
                numbers(600).iter().map(|x| -x).collect::<Vec<_>>(),
            );
            let half = 300 * 96;
            layer.write(0, &keys[..half], &values[..half]);
            layer.write(300, &keys[half..], &values[half..]);
            let mut seen = 0;
            layer.each(true, 1, 10, 590, &mut Vec::new(), |first, rows| {
                let rows: Vec<f32> = match rows {
                    CacheRows::Floats(rows) => rows.to_vec(),
                    CacheRows::Halves(rows) => rows.iter().map(|x| x.to_f32()).collect(),
                };
                for (i, row) in rows.chunks_exact(48).enumerate() {
                    let want = &values[(first + i) * 96 + 48..][..48];
                    let close = row.iter().zip(want).all(|(a, b)| (a - b).abs() <= error);
                    assert!(close, "{kind:?} {}", first + i);
                    seen += 1;
                }
            });
            assert_eq!(seen, 580);
        }
    }

    #[test]
    fn pages_behind_the_window_are_dropped_and_what_they_held_is_not_gone_on_with() {
        let mut cache = KvCache {
            layers: vec![
                layer(CacheType::F16, Some(100)),
                layer(CacheType::F16, None),
            ],
        };
        let one = numbers(64);
        for first in (0..4096).step_by(64) {
            for layer in &mut cache.layers {
                layer.write(first, &one, &one);
            }
        }
        let there = |layer: &LayerCache| layer.pages.iter().flatten().count();
        assert!(there(&cache.layers[0]) <= (100 + BEHIND_WINDOW) / PAGE + 2);
        assert_eq!(there(&cache.layers[1]), 16);
        assert!(cache.holds(4096) && cache.holds(4096 - BEHIND_WINDOW));
        assert!(!cache.holds(1000) && cache.holds(0));
        cache.truncate(1000);
        assert_eq!(cache.layers[1].pages.len(), 4);
    }
}
