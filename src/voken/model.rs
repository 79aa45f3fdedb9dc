//! A language model that speaks vokens, with what its pictures are made from.

use super::{
    CompositionHead, FeatureMapper, FolderConfig, InterleavedEmbeddings, InterleavedText,
    MapperParams, PaddedBatch, ReferenceSizes, VokenIds, batch, interleave,
};
use crate::llm::LlmError;
use crate::llm::float::{EmbeddingTables, FloatConfig, FloatLlama, GgufLlama};
use crate::nn::{Params, Result};
use candle_core::Tensor;

/// Where stage 2 of training puts adapters: peft's names around those of the language model.
const ADAPTED: &str = "model.llama_model.base_model.model";

/// The base language model, before training.
#[derive(Clone, Copy)]
pub enum BaseModel<'a> {
    /// Under Hugging Face's names.
    Float(&'a FloatConfig, &'a Params),
    /// Quantised; it can be used but not trained.
    Gguf(&'a GgufLlama),
}

impl BaseModel<'_> {
    fn config(&self) -> &FloatConfig {
        match self {
            BaseModel::Float(config, _) => config,
            BaseModel::Gguf(file) => file.config(),
        }
    }

    fn with_tables(self, tables: EmbeddingTables) -> std::result::Result<FloatLlama, LlmError> {
        match self {
            BaseModel::Float(config, p) => Ok(FloatLlama::with_tables(config.clone(), p, tables)?),
            BaseModel::Gguf(file) => {
                let device = tables.embedding.table().device().clone();
                file.with_tables(tables, &device)
            }
        }
    }
}

/// The networks that the two stages of training change, and the ids of the vokens.
#[derive(Clone, Debug)]
pub struct VokenModel {
    /// The language model.
    pub llama: FloatLlama,
    /// The voken feature mapper.
    pub mapper: FeatureMapper,
    /// Says who is in a picture and where, of a model that draws from references.
    pub composition_head: Option<CompositionHead>,
    /// The vokens and what else was added to the tokenizer.
    pub vocabulary: VokenIds,
}

impl VokenModel {
    /// Reads the language model `base` with what training changed:
    /// `first` holds stage 1's state, `second` stage 2's where it has been through that, both
    /// under the names of the reference's checkpoints. Stage 2 keeps neither `fc` nor the decoder
    /// sequence; these stay stage 1's. What `first` and `second` make trainable is what their
    /// stage trains.
    ///
    /// `bos` is the tokenizer's id, whose embedding begins every text.
    ///
    /// # Errors
    /// A tensor that is missing, or of another shape than the sizes say.
    pub fn read(
        base: BaseModel,
        sizes: &ReferenceSizes,
        bos: u32,
        first: &Params,
        second: Option<&Params>,
    ) -> std::result::Result<Self, LlmError> {
        let config = base.config();
        let width = config.hidden_size;
        let tables = match second {
            None => {
                let p = first.pp("model.llama_model");
                (p.pp("model.embed_tokens"), p.pp("lm_head"))
            }
            Some(second) => {
                let p = second.pp(ADAPTED);
                let saved = |name| p.pp(name).pp("modules_to_save.default");
                (saved("model.embed_tokens"), saved("lm_head"))
            }
        };
        // The tables say how many tokens there are: tokenizer and `config.json` may differ.
        let rows = tables.0.shape("weight").map(|shape| shape[0]);
        let rows = rows.unwrap_or(config.vocab_size + sizes.voken_count + 1);
        let vocabulary = VokenIds::at_the_end(rows, sizes.voken_count, bos)?;
        let tables = EmbeddingTables::read(&tables.0, &tables.1, rows, width)?;
        let mut llama = base.with_tables(tables)?;
        if let Some(second) = second {
            let p = second.pp(ADAPTED).pp("model");
            llama.add_lora(&sizes.lora.clone().of_file(&p), &p)?;
        }
        let prompt = first.shape("t2i_decoder_prompt");
        let mapper = sizes.mapper.clone().for_prompt(prompt.as_deref());
        let params = MapperParams {
            mapper: second.unwrap_or(first).clone(),
            ..MapperParams::all(first)
        };
        Ok(Self {
            llama,
            mapper: FeatureMapper::new(mapper, width, &params)?,
            composition_head: None,
            vocabulary,
        })
    }

    /// A model of our own on `llama`, whose tables stay as they are: the vokens' rows
    /// (`embed_tokens`, `lm_head`), the mapper and, where `config` says so, the adapters and the
    /// stage head are all below `p`.
    ///
    /// # Errors
    /// A tensor that is missing, or of another shape than the sizes say.
    pub fn own(mut llama: FloatLlama, config: &FolderConfig, p: &Params) -> Result<Self> {
        let sizes = &config.sizes;
        let (first, vokens) = (llama.rows()? as u32, sizes.voken_count as u32);
        llama.add_rows(sizes.voken_count, p)?;
        if config.adapted {
            llama.add_own_lora(&sizes.lora, p)?;
        }
        let width = llama.config().hidden_size;
        let vocabulary = VokenIds {
            first,
            vokens,
            picture: first + vokens,
            bos: llama.config().bos().unwrap_or(0),
        };
        Ok(Self {
            mapper: FeatureMapper::new(sizes.mapper.clone(), width, &MapperParams::all(p))?,
            composition_head: match config.composition_head {
                Some(head) => Some(CompositionHead::new(head, width, sizes.voken_count, p)?),
                None => None,
            },
            llama,
            vocabulary,
        })
    }

    /// A text with its pictures (`[N,queries,width]`, from the vision tower) as embeddings.
    ///
    /// # Errors
    /// An id that is not in the vocabulary.
    pub fn interleave(
        &self,
        text: &InterleavedText,
        pictures: Option<&Tensor>,
    ) -> Result<InterleavedEmbeddings> {
        interleave(text, pictures, &self.vocabulary, &|ids| {
            self.llama.embed_ids(ids)
        })
    }

    /// Several of them, padded.
    ///
    /// # Errors
    /// As [`VokenModel::interleave`].
    pub fn batch(&self, items: &[(&InterleavedText, Option<&Tensor>)]) -> Result<PaddedBatch> {
        let items: Vec<InterleavedEmbeddings> = items
            .iter()
            .map(|(text, pictures)| self.interleave(text, *pictures))
            .collect::<Result<_>>()?;
        batch(&items)
    }
}
