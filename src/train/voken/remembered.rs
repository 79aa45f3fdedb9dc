//! What a frozen language model makes of a story, which no step changes: read once, and kept while
//! there is room.

use super::pack::{ContextParts, ReadContext};
use crate::train::Result;
use candle_core::Tensor;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Bytes that are kept.
const ROOM: usize = 4 << 30;

/// A story and what of it is in context.
pub(super) type CacheKey = (usize, ContextParts);

/// Bytes that a value takes in memory.
pub(super) trait ByteSize {
    fn bytes(&self) -> usize;
}

impl ByteSize for ReadContext {
    fn bytes(&self) -> usize {
        ReadContext::bytes(self)
    }
}

impl ByteSize for Option<Tensor> {
    fn bytes(&self) -> usize {
        let bytes = |t: &Tensor| t.elem_count() * t.dtype().size_in_bytes();
        self.as_ref().map_or(0, bytes)
    }
}

/// A cache of what was computed of stories, bounded in bytes. What has no room is computed again,
/// with the same result.
pub(super) struct BoundedCache<T>(Mutex<CacheEntries<T>>);

struct CacheEntries<T> {
    read: HashMap<CacheKey, Arc<T>>,
    bytes: usize,
}

impl<T> Default for BoundedCache<T> {
    fn default() -> Self {
        Self(Mutex::new(CacheEntries {
            read: HashMap::new(),
            bytes: 0,
        }))
    }
}

impl<T: ByteSize> BoundedCache<T> {
    /// What was read of each of `stories`, which have `key`s. Each is read by itself, so that what
    /// comes out does not depend on the company it is met in.
    ///
    /// # Errors
    /// When one can't be read.
    pub(super) fn each<S>(
        &self,
        stories: &[S],
        key: impl Fn(&S) -> CacheKey,
        read: impl Fn(&S) -> Result<T>,
    ) -> Result<Vec<Arc<T>>> {
        let one = |story| {
            let key = key(story);
            if let Some(known) = self.kept().read.get(&key) {
                return Ok(known.clone());
            }
            let made = Arc::new(read(story)?);
            self.kept().add(key, &made);
            Ok(made)
        };
        stories.iter().map(one).collect()
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, CacheEntries<T>> {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl<T: ByteSize> CacheEntries<T> {
    fn add(&mut self, key: CacheKey, made: &Arc<T>) {
        let bytes = self.bytes + made.bytes();
        if bytes <= ROOM && self.read.insert(key, made.clone()).is_none() {
            self.bytes = bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::float::{FloatConfig, FloatLlama};
    use crate::nn::Params;
    use crate::train::voken::pack::{Objective, ObjectivePlan, Pack, PanelIds};
    use crate::voken::{PictureConditioning, VokenIds};
    use candle_core::Device;

    const PAIRS: [&[u32]; 3] = [&[20, 21, 22], &[30, 31], &[20, 33, 34, 35]];

    fn pack(stories: &[usize]) -> Pack {
        let mut pack = Pack::default();
        let plan = ObjectivePlan {
            tasks: &[Objective::Picture],
            context: ALONE,
            speaks: PictureConditioning::Vokens,
            queries: 2,
            line_end: 9,
            vocabulary: VokenIds {
                first: 50,
                vokens: 3,
                picture: 53,
                bos: 1,
            },
        };
        for &index in stories {
            let panel = PanelIds {
                text: PAIRS[index],
                pictured: true,
                description: &[40],
            };
            pack.story(&[panel], &plan);
        }
        pack.finish();
        pack
    }

    const ALONE: ContextParts = ContextParts {
        texts: false,
        pictures: false,
    };

    #[test]
    fn what_is_remembered_reads_as_what_is_read_anew() {
        let config = FloatConfig {
            vocab_size: 60,
            ..FloatConfig::tiny()
        };
        let llama = FloatLlama::new(config, &Params::init(1, &Device::Cpu)).unwrap();
        let remembered = BoundedCache::default();
        let mut reads = 0;
        // Met in other company and another order the second time.
        for stories in [&[0usize, 1][..], &[2, 1, 0]] {
            let whole = pack(stories);
            let anew = whole.read_context(&llama, None).unwrap();
            let anew = whole.read(&llama, anew).unwrap();
            let count = std::cell::Cell::new(0);
            let recalled = remembered.each(
                stories,
                |&i| (i, ALONE),
                |&index| {
                    count.set(count.get() + 1);
                    Ok(pack(&[index]).read_context(&llama, None)?)
                },
            );
            let recalled = ReadContext::joined(&recalled.unwrap()).unwrap();
            let recalled = whole.read(&llama, recalled).unwrap();
            let off = (anew - recalled).unwrap().abs().unwrap().flatten_all();
            let off: f32 = off.unwrap().max(0).unwrap().to_scalar().unwrap();
            assert!(off < 1e-5, "{stories:?}: {off}");
            reads += count.get();
        }
        assert_eq!(reads, 3, "each is read once");
    }
}
