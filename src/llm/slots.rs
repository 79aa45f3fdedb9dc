//! Texts whose keys and values stay beside those of the text that is read, as in the slots of
//! llama.cpp's server: an author goes back to an early panel, and the story is still there after it.

use super::hyperparameters::Hyperparameters;
use super::network::DecodingState;

/// Most texts that are kept aside.
const MOST: usize = 3;
/// Tokens for which a text is kept: fewer are read again before an author notices.
pub(super) const WORTH: usize = 192;
/// Tokens of which a text must have more in common with what is read than the current one.
pub(super) const NEARER: usize = 32;

/// A text and what was made of it.
pub(super) struct Slot {
    pub read: Vec<u32>,
    pub state: DecodingState,
}

/// How many of the first `ids` need not be read again where `state` holds `read`.
pub(super) fn shared(read: &[u32], state: &DecodingState, ids: &[u32]) -> usize {
    let same = read.iter().zip(ids);
    let same = same.take_while(|(a, b)| a == b).count();
    // Layers with a window may have dropped what comes before.
    if state.holds(same) { same } else { 0 }
}

/// The texts that are kept aside, the one that was used last at the end.
#[derive(Default)]
pub(super) struct Slots {
    all: Vec<Slot>,
}

impl Slots {
    /// The text that shares most of its beginning with `ids`, as place and tokens, among those that
    /// are read as `long` says.
    pub(super) fn nearest(&self, ids: &[u32], long: bool) -> Option<(usize, usize)> {
        let fitting = self.all.iter().enumerate();
        let fitting = fitting.filter(|(_, slot)| slot.state.is_long() == long);
        let shared = fitting.map(|(place, slot)| (place, shared(&slot.read, &slot.state, ids)));
        shared.max_by_key(|(_, shared)| *shared)
    }

    pub(super) fn take(&mut self, place: usize) -> Slot {
        self.all.remove(place)
    }

    /// Keeps a text that is worth it; the one that was not used for the longest time makes room.
    pub(super) fn keep(&mut self, slot: Slot) {
        if slot.read.len() < WORTH {
            return;
        }
        if self.all.len() == MOST {
            self.all.remove(0);
        }
        self.all.push(slot);
    }

    /// Drops texts until all that are left take no more memory beside a text of `tokens` than one of
    /// the whole context does.
    pub(super) fn fit(&mut self, hyper: &Hyperparameters, tokens: usize, context: usize) {
        let most = kept(hyper, context);
        let all = |slots: &[Slot]| -> usize {
            let lengths = slots.iter().map(|slot| slot.read.len());
            lengths.map(|length| kept(hyper, length)).sum()
        };
        while !self.all.is_empty() && all(&self.all) + kept(hyper, tokens) > most {
            self.all.remove(0);
        }
    }

    pub(super) fn clear(&mut self) {
        self.all.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

/// Keys that all layers hold of a text of `tokens`.
fn kept(hyper: &Hyperparameters, tokens: usize) -> usize {
    let layers = hyper.layers.iter().enumerate();
    layers
        .map(|(index, sizes)| hyper.cached_tokens(index, tokens) * sizes.kv_heads)
        .sum()
}
