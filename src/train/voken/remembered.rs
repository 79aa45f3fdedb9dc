//! What the frozen language model makes of a story's context, which no step of the first stage
//! changes: read once, and kept while there is room.

use super::pack::{Context, ReadContext};
use crate::train::Result;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Bytes of keys, values and states that are kept.
const ROOM: usize = 4 << 30;

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
