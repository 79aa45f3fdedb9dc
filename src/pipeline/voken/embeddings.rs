//! Embeddings of pictures on the board, which are kept with the project.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use image::RgbaImage;
use sha2::{Digest, Sha256};

use super::{VokenPipeline, VokenSink, loading};
use crate::pipeline::PipelineError;
use crate::story::Images;
use crate::vision::{Crop, Preprocess};

/// Least number of pictures whose embeddings are kept.
const SEEN: usize = 64;

impl VokenPipeline {
    /// Embeddings `[1,queries,width]` of a picture on the board; those that were made before are
    /// kept with the project in `images`.
    pub(super) fn see(
        &mut self,
        picture: &Arc<RgbaImage>,
        images: &Images,
        sink: &mut VokenSink,
    ) -> Result<Tensor, PipelineError> {
        let known = |(other, _): &&(Arc<RgbaImage>, Tensor)| {
            Arc::ptr_eq(other, picture) || other.as_ref() == picture.as_ref()
        };
        if let Some((_, embeddings)) = self.seen.iter().find(known) {
            return Ok(embeddings.clone());
        }
        let name = seen_name(&self.description.weights, picture);
        let embeddings = match images.kept(&name).and_then(|bytes| from_bytes(&bytes)) {
            Some(embeddings) => embeddings,
            None => {
                // Nothing of a picture is cut off, whatever its shape.
                let side = self.networks.vision().image_size;
                let how = Preprocess::seen(side, Crop::WhiteSquare);
                let (tower, device) = self.networks.vision_tower(&mut loading(sink))?;
                let made = tower.forward(&how.tensor_of_rgba(picture, device)?)?;
                // They outlive the tower, so they wait where memory is not short.
                let made = made.to_device(&Device::Cpu)?;
                if let Some(bytes) = to_bytes(&made) {
                    images.keep(&name, &bytes);
                }
                made
            }
        };
        // As many as fit into what is read of a story.
        let queries = self.networks.vision().qformer.num_query_tokens.max(1);
        if self.seen.len() >= SEEN.max(self.voice.limit / queries + 1) {
            self.seen.remove(0);
        }
        self.seen.push((picture.clone(), embeddings.clone()));
        Ok(embeddings)
    }
}

/// What embeddings of a picture are called: they are those of these weights alone.
fn seen_name(weights: &str, picture: &RgbaImage) -> String {
    let mut hash = Sha256::new();
    hash.update(weights.as_bytes());
    hash.update(picture.width().to_le_bytes());
    hash.update(picture.as_raw());
    hash.finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// `[1,queries,width]` as its two sizes and its values.
fn to_bytes(embeddings: &Tensor) -> Option<Vec<u8>> {
    let (_, queries, width) = embeddings.dims3().ok()?;
    let values: Vec<f32> = embeddings.flatten_all().ok()?.to_vec1().ok()?;
    let sizes = [queries as u32, width as u32].map(u32::to_le_bytes);
    let values = values.into_iter().map(f32::to_le_bytes);
    Some(sizes.into_iter().chain(values).flatten().collect())
}

/// Back from [`to_bytes`]; `None` for anything else.
fn from_bytes(bytes: &[u8]) -> Option<Tensor> {
    let mut words = bytes
        .chunks_exact(4)
        .map(|word| [word[0], word[1], word[2], word[3]]);
    let mut size = || words.next().map(|word| u32::from_le_bytes(word) as usize);
    let (queries, width) = (size()?, size()?);
    let values: Vec<f32> = words.map(f32::from_le_bytes).collect();
    let fits = queries.checked_mul(width)? == values.len() && bytes.len().is_multiple_of(4);
    let sound = fits && values.iter().all(|value| value.is_finite());
    sound
        .then(|| Tensor::from_vec(values, (1, queries, width), &Device::Cpu).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embeddings_are_kept_bit_for_bit() {
        let made = Tensor::new(&[[[1.5f32, -0.1], [3e-9, 7.0], [0.0, 2.0]]], &Device::Cpu).unwrap();
        let bytes = to_bytes(&made).unwrap();
        let back = from_bytes(&bytes).unwrap();
        assert_eq!(back.dims(), [1, 3, 2]);
        assert_eq!(to_bytes(&back), Some(bytes.clone()));
        assert!(from_bytes(&bytes[..bytes.len() - 4]).is_none());
        assert!(from_bytes(b"").is_none());
        let picture = |grey| RgbaImage::from_pixel(2, 2, image::Rgba([grey; 4]));
        let names = [("a", 1), ("a", 2), ("b", 1)].map(|(w, grey)| seen_name(w, &picture(grey)));
        assert!(names[0] != names[1] && names[0] != names[2]);
    }
}
