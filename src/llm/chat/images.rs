//! Pictures in a chat: looked at once, and read in place of tokens from then on.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use image::RgbaImage;
use sha2::{Digest, Sha256};

use crate::llm::{CausalLm, LlmError};

/// Pictures whose embeddings are held at most, beside those of the prompt at hand.
const HELD: usize = 48;

/// An image encoder for a language model: pictures to embeddings of its width.
pub trait ImageEncoder: Send {
    /// Embeddings of a picture.
    fn tokens(&self) -> usize;

    /// Width of the language model that they are for.
    fn width(&self) -> usize;

    /// What tells its weights from others.
    fn weights(&self) -> &str;

    /// The embeddings of `picture`, `[tokens, width]`; `None` when `go_on` broke.
    ///
    /// # Errors
    /// When its file cannot be read, or memory is short.
    fn see(
        &mut self,
        picture: &RgbaImage,
        go_on: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Option<Vec<f32>>, LlmError>;
}

/// Keeps embeddings, which take long to compute, from one run to the next, by name.
pub trait EmbeddingStore: Send + Sync {
    /// What was kept under this name, if anything.
    fn kept(&self, name: &str) -> Option<Vec<u8>>;
    /// Keeps bytes under a name; failing to do so is no error.
    fn keep(&self, name: &str, bytes: &[u8]);
}

/// An image encoder with the pictures that it encoded last.
pub(super) struct ImageReader {
    pub(super) eyes: Box<dyn ImageEncoder>,
    pub(super) shelf: Option<Arc<dyn EmbeddingStore>>,
    /// Pictures with the ids that stand for them.
    seen: Vec<(Arc<RgbaImage>, Range<u32>)>,
}

impl ImageReader {
    pub(super) fn new(eyes: Box<dyn ImageEncoder>) -> ImageReader {
        ImageReader {
            eyes,
            shelf: None,
            seen: Vec::new(),
        }
    }

    /// The placeholder token ids of each of `pictures`; `None` when `go_on` broke.
    ///
    /// # Errors
    /// When one cannot be looked at.
    pub(super) fn ids(
        &mut self,
        pictures: &[&Arc<RgbaImage>],
        network: &mut dyn CausalLm,
        go_on: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Option<Vec<Range<u32>>>, LlmError> {
        let is = |a: &Arc<RgbaImage>, b: &Arc<RgbaImage>| Arc::ptr_eq(a, b) || a == b;
        if self.seen.len() + pictures.len() > HELD {
            let (here, gone): (Vec<_>, Vec<_>) = std::mem::take(&mut self.seen)
                .into_iter()
                .partition(|(known, _)| pictures.iter().any(|picture| is(known, picture)));
            self.seen = here;
            gone.iter().for_each(|(_, ids)| network.drop_picture(ids));
        }
        let mut all = Vec::with_capacity(pictures.len());
        for picture in pictures {
            let known = self.seen.iter().find(|(known, _)| is(known, picture));
            if let Some((_, ids)) = known {
                all.push(ids.clone());
                continue;
            }
            let Some(embeddings) = self.embeddings(picture, go_on)? else {
                return Ok(None);
            };
            let ids = network.take_picture(embeddings)?;
            self.seen.push((Arc::clone(picture), ids.clone()));
            all.push(ids);
        }
        Ok(Some(all))
    }

    /// The embeddings of a picture: those that were kept, or new ones.
    fn embeddings(
        &mut self,
        picture: &RgbaImage,
        go_on: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Option<Vec<f32>>, LlmError> {
        let count = self.eyes.tokens() * self.eyes.width();
        let name = name(self.eyes.weights(), picture);
        let kept = self.shelf.as_ref().and_then(|shelf| shelf.kept(&name));
        if let Some(kept) = kept.and_then(|bytes| from_bytes(&bytes, count)) {
            return Ok(Some(kept));
        }
        let made = self.eyes.see(picture, go_on)?;
        if let (Some(shelf), Some(made)) = (&self.shelf, &made) {
            let bytes: Vec<u8> = made.iter().flat_map(|x| x.to_le_bytes()).collect();
            shelf.keep(&name, &bytes);
        }
        Ok(made)
    }
}

/// What embeddings of a picture are called: they are those of these weights alone.
fn name(weights: &str, picture: &RgbaImage) -> String {
    let mut hash = Sha256::new();
    hash.update(weights.as_bytes());
    hash.update(picture.width().to_le_bytes());
    hash.update(picture.as_raw());
    let hash = hash.finalize();
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `None` where that is not so many finite numbers.
fn from_bytes(bytes: &[u8], count: usize) -> Option<Vec<f32>> {
    let (words, rest) = bytes.as_chunks::<4>();
    let numbers: Vec<f32> = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
    let whole = rest.is_empty() && numbers.len() == count;
    (whole && numbers.iter().all(|number| number.is_finite())).then_some(numbers)
}
