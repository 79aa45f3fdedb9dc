//! What a language model takes of the machine's memory.

use super::cache::CacheType;
use super::causal::LanguageModelOptions;
use super::hyperparameters::Hyperparameters;
use super::network::chunk;
use crate::weights::GgufHeader;

/// Bytes that a language model takes while it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LlmMemory {
    /// Weights, mapped from the file: they leave memory when it is short, and come back from disk.
    pub weights: u64,
    /// Of these, what is read for every token that is written: without the embedding table where the
    /// output layer has one of its own, and of experts those that are used.
    pub read_for_a_token: u64,
    /// Keys and values of a text of the whole context.
    pub cache: u64,
    /// Room to work in.
    pub buffers: u64,
}

impl LlmMemory {
    /// Bytes of weights, cache and buffers together.
    pub fn total(&self) -> u64 {
        self.weights + self.cache + self.buffers
    }

    /// That of the model with this header for texts of `context` tokens.
    pub fn of(
        header: &GgufHeader,
        hyper: &Hyperparameters,
        context: usize,
        cache: CacheType,
    ) -> LlmMemory {
        let own_head = header.tensors.contains_key("output.weight");
        let (mut weights, mut read) = (0, 0);
        for (name, tensor) in &header.tensors {
            let bytes = tensor.bytes.next_multiple_of(32) as u64;
            weights += bytes;
            read += match hyper.experts {
                Some(experts) if name.contains("_exps.") => {
                    bytes * experts.used as u64 / experts.count as u64
                }
                _ if own_head && name == "token_embd.weight" => 0,
                _ => bytes,
            };
        }
        let layers = hyper.layers.iter().enumerate().map(|(index, sizes)| {
            let positions = hyper.cached_tokens(index, context.min(hyper.trained));
            let row = cache.bytes(hyper.head_width);
            2 * (positions * sizes.kv_heads * row) as u64
        });
        let widest = hyper.layers.iter().map(|sizes| {
            let inner = hyper.experts.map_or(sizes.inner, |experts| experts.inner);
            let heads = (2 * sizes.heads + 2 * sizes.kv_heads) * hyper.head_width;
            4 * hyper.width + heads + 2 * inner
        });
        let buffers = chunk(hyper) * widest.max().unwrap_or(0) + hyper.vocabulary;
        LlmMemory {
            weights,
            read_for_a_token: read,
            cache: layers.sum(),
            buffers: 4 * buffers as u64,
        }
    }
}

/// The longest text that is planned for: a long story with all that is said about it.
const LONGEST: usize = 32_768;
/// The shortest that a story can be written in.
const SHORTEST: usize = 2_048;

/// The most memory that the cache of a text may take.
const MAX_CACHE: u64 = 1 << 30;

impl LanguageModelOptions {
    /// How a model is opened to write with: for texts as long as a cache of one gigabyte holds, as
    /// [`LanguageModelOptions::within`] says.
    pub fn usual(header: &GgufHeader, hyper: &Hyperparameters) -> LanguageModelOptions {
        let without = LlmMemory::of(header, hyper, 0, CacheType::F16);
        LanguageModelOptions::within(header, hyper, without.total() + MAX_CACHE)
    }

    /// How a model is opened so that it takes no more than `budget` bytes: for texts of 32,768
    /// tokens, or as many as it was trained for, with a cache of 16 or, where those are too many, 8
    /// bits, and for shorter ones where that is too much still, though not below 2,048.
    pub fn within(
        header: &GgufHeader,
        hyper: &Hyperparameters,
        budget: u64,
    ) -> LanguageModelOptions {
        let mut context = LONGEST.min(hyper.trained);
        loop {
            for cache in [CacheType::F16, CacheType::Q8] {
                if LlmMemory::of(header, hyper, context, cache).total() <= budget {
                    return LanguageModelOptions { context, cache };
                }
            }
            if context / 2 < SHORTEST {
                let cache = CacheType::Q8;
                return LanguageModelOptions { context, cache };
            }
            context /= 2;
        }
    }
}
