//! A language model that speaks vokens, with what it sees and what its pictures are made from.

use super::{Batch, FeatureMapper, Interleaved, Text, Vocabulary, batch, interleave};
use crate::llm::float::FloatLlama;
use crate::nn::Result;
use candle_core::Tensor;

/// The networks that the two stages of training change, and the ids that join them.
#[derive(Clone, Debug)]
pub struct VokenModel {
    pub llama: FloatLlama,
    pub mapper: FeatureMapper,
    pub vocabulary: Vocabulary,
}

impl VokenModel {
    /// A text with its pictures (`[N,queries,width]`, from the vision tower) as embeddings.
    ///
    /// # Errors
    /// An id that is not in the vocabulary.
    pub fn interleave(&self, text: &Text, pictures: Option<&Tensor>) -> Result<Interleaved> {
        interleave(text, pictures, &self.vocabulary, &|ids| {
            let ids = Tensor::from_slice(ids, (1, ids.len()), self.llama.device())?;
            self.llama.embed(&ids)
        })
    }

    /// Several of them, padded.
    ///
    /// # Errors
    /// As [`VokenModel::interleave`].
    pub fn batch(&self, items: &[(&Text, Option<&Tensor>)]) -> Result<Batch> {
        let items: Vec<Interleaved> = items
            .iter()
            .map(|(text, pictures)| self.interleave(text, *pictures))
            .collect::<Result<_>>()?;
        batch(&items)
    }
}
