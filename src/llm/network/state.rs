//! What is kept of a text between its tokens.

use crate::llm::cache::KvCache;
use crate::nn::gpu::GpuCache;

/// Decoding state of one text: its key-value cache, and buffers to compute in.
pub struct DecodingState {
    pub(super) length: usize,
    /// The most tokens that it may have.
    pub(super) context: usize,
    /// Whether it is read with the factors for long texts.
    pub(super) long: bool,
    pub(super) cache: KvCache,
    /// Keys and values of each layer where the layers compute on a GPU.
    pub(super) gpu: Vec<GpuCache>,
    pub(super) buffers: Buffers,
}

impl DecodingState {
    /// Tokens that have been read.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether no token was read yet.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Whether it is read with the factors for long texts.
    pub(in crate::llm) fn is_long(&self) -> bool {
        self.long
    }

    /// Whether its keys and values lie on a GPU.
    pub(in crate::llm) fn is_on_gpu(&self) -> bool {
        !self.gpu.is_empty()
    }

    /// The same text once more, which shares what is kept of it until one of the two goes on; `None`
    /// on a GPU.
    pub(in crate::llm) fn fork(&self) -> Option<DecodingState> {
        (!self.is_on_gpu()).then(|| DecodingState {
            length: self.length,
            context: self.context,
            long: self.long,
            cache: self.cache.clone(),
            gpu: Vec::new(),
            buffers: Buffers::default(),
        })
    }

    /// The most tokens that the text may have.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Whether enough is kept to go on after the first `length` tokens.
    pub(in crate::llm) fn holds(&self, length: usize) -> bool {
        self.is_on_gpu() || self.cache.holds(length)
    }

    /// Forgets all tokens after the first `length`; all of them where too little is kept of those
    /// before to go on.
    pub fn truncate(&mut self, length: usize) {
        if length < self.length {
            self.length = if self.holds(length) { length } else { 0 };
            self.cache.truncate(self.length);
        }
    }
}

/// What the layers compute in.
#[derive(Default)]
pub(super) struct Buffers {
    pub(super) hidden: Vec<f32>,
    pub(super) normed: Vec<f32>,
    pub(super) query: Vec<f32>,
    pub(super) key: Vec<f32>,
    pub(super) value: Vec<f32>,
    pub(super) mixed: Vec<f32>,
    pub(super) gate: Vec<f32>,
    pub(super) up: Vec<f32>,
    /// What is added to the hidden states.
    pub(super) more: Vec<f32>,
    pub(super) turns: Vec<f32>,
    pub(super) local_turns: Vec<f32>,
    /// Where the picture ends whose embeddings pass through.
    pub(super) picture: Option<usize>,
}
