//! What the frozen language model makes of a story's context, which no step of the first stage
//! changes: read once, and kept while there is room.

use super::pack::{Context, ReadContext};
use crate::train::Result;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Bytes of keys, values and states that are kept.
const ROOM: usize = 6 << 30;

/// A story and what of it is in context.
pub type Key = (usize, Context);

/// Contexts that were read. What has no room is read again, with the same result.
#[derive(Default)]
pub struct Remembered(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    read: HashMap<Key, Arc<ReadContext>>,
    bytes: usize,
}

impl Remembered {
    /// The contexts of stories, one after the other as a pack of all of them has them. Each is
    /// read by itself, so that what comes out does not depend on the company it is met in.
    ///
    /// # Errors
    /// When one can't be read.
    pub fn contexts<S>(
        &self,
        stories: &[(Key, S)],
        read: impl Fn(&S) -> Result<ReadContext>,
    ) -> Result<ReadContext> {
        let each = stories
            .iter()
            .map(|(key, story)| {
                if let Some(known) = self.kept().read.get(key) {
                    return Ok(known.clone());
                }
                let context = Arc::new(read(story)?);
                self.kept().add(*key, &context);
                Ok(context)
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(ReadContext::joined(&each)?)
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Kept {
    fn add(&mut self, key: Key, context: &Arc<ReadContext>) {
        let bytes = self.bytes + context.bytes();
        if bytes <= ROOM && self.read.insert(key, context.clone()).is_none() {
            self.bytes = bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::float::{FloatConfig, FloatLlama};
    use crate::nn::Params;
    use crate::train::voken::pack::{Pack, PanelIds, Plan, Task};
    use crate::voken::{Speaks, Vocabulary};
    use candle_core::Device;

    const PAIRS: [&[u32]; 3] = [&[20, 21, 22], &[30, 31], &[20, 33, 34, 35]];

    fn pack(stories: &[usize]) -> Pack {
        let mut pack = Pack::default();
        let plan = Plan {
            tasks: &[Task::Picture],
            context: ALONE,
            speaks: Speaks::Vokens,
            queries: 2,
            line_end: 9,
            vocabulary: Vocabulary {
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

    const ALONE: Context = Context {
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
        let remembered = Remembered::default();
        let mut reads = 0;
        // Met in other company and another order the second time.
        for stories in [&[0usize, 1][..], &[2, 1, 0]] {
            let whole = pack(stories);
            let anew = whole.read_context(&llama, None).unwrap();
            let anew = whole.read(&llama, anew).unwrap();
            let met: Vec<(Key, usize)> = stories.iter().map(|&i| ((i, ALONE), i)).collect();
            let count = std::cell::Cell::new(0);
            let recalled = remembered.contexts(&met, |&index| {
                count.set(count.get() + 1);
                Ok(pack(&[index]).read_context(&llama, None)?)
            });
            let recalled = whole.read(&llama, recalled.unwrap()).unwrap();
            let off = (anew - recalled).unwrap().abs().unwrap().flatten_all();
            let off: f32 = off.unwrap().max(0).unwrap().to_scalar().unwrap();
            assert!(off < 1e-5, "{stories:?}: {off}");
            reads += count.get();
        }
        assert_eq!(reads, 3, "each is read once");
    }
}
