//! The forward pass of every family of language models with a key-value cache, on the CPU, straight
//! from the quantised file.
//!
//! Plain slices in buffers that are kept between tokens: at one token a step, a tensor library's
//! cost per operation would be most of the time.

mod attend;
mod experts;
mod gpu;
mod layer;
mod load;
mod rope;
mod state;
#[cfg(test)]
mod tests;

use std::ops::ControlFlow;

use super::LlmError;
use super::cache::{CacheType, KvCache};
use super::hyperparameters::Hyperparameters;
use super::sampling::TokenChoice;
use crate::nn::gpu::{GpuTensor, TokenCandidates};
use crate::nn::quant::{ActivationPrecision, Product, QuantMatrix, multiply_as, vector};
use crate::nn::{Array, crew};
use experts::MixtureOfExperts;
use gpu::GpuLayers;
use rope::Rope;
use state::Buffers;

pub use state::DecodingState;

/// Tokens that pass through the layers together; of a mixture of experts more, since each expert has
/// but a few of them.
pub(super) fn chunk(hyper: &Hyperparameters) -> usize {
    match hyper.experts {
        Some(_) => 256,
        None => 64,
    }
}

/// A matrix, and what is added to its products.
struct QuantLinear {
    weight: QuantMatrix,
    bias: Option<Vec<f32>>,
}

enum FeedForwardLayer {
    Dense {
        gate: QuantLinear,
        up: QuantLinear,
        down: QuantLinear,
    },
    Experts(MixtureOfExperts),
}

struct Layer {
    attention_norm: Vec<f32>,
    query: QuantLinear,
    key: QuantLinear,
    value: QuantLinear,
    output: QuantLinear,
    /// Norms of each head.
    query_norm: Option<Vec<f32>>,
    key_norm: Option<Vec<f32>>,
    sinks: Option<Vec<f32>>,
    post_attention_norm: Option<Vec<f32>>,
    inner_norm: Vec<f32>,
    feed: FeedForwardLayer,
    post_inner_norm: Option<Vec<f32>>,
}

/// A language model's weights, mapped from its GGUF file.
pub struct LlmNetwork {
    hyper: Hyperparameters,
    embedding: QuantMatrix,
    layers: Vec<Layer>,
    norm: Vec<f32>,
    /// `embedding` where the two are tied.
    head: QuantMatrix,
    /// Rotations in layers that see all of a text, in those with a window, and, where there are
    /// such, in all layers of long texts.
    global: Rope,
    local: Rope,
    long: Option<Rope>,
    activations: ActivationPrecision,
    /// Where the layers compute, if that is a GPU through wgpu.
    gpu: Option<GpuLayers>,
}

/// Token ids, or embeddings in their place.
#[derive(Clone, Copy, Debug)]
pub enum NetworkInput<'a> {
    /// Token ids.
    Ids(&'a [u32]),
    /// Embeddings in place of tokens, `[tokens, width]`.
    Embeddings(&'a [f32]),
    /// Those of a picture, which all see each other.
    Picture(&'a [f32]),
}

/// The hidden states of tokens that went through the layers together, after the last norm,
/// `[tokens, width]` or on a GPU `[1, tokens, width]`.
enum ChunkStates<'a> {
    Host(&'a [f32]),
    Gpu(GpuTensor),
}

/// The hidden state of the last token of a text, `[width]` or on a GPU `[1, 1, width]`.
pub(super) enum LastState {
    /// On the processor.
    Host(Vec<f32>),
    /// On a GPU.
    Gpu(GpuTensor),
}

fn numbers(there: &GpuTensor) -> crate::nn::Result<Vec<f32>> {
    there.download()?.flatten_all()?.to_vec1()
}

impl LlmNetwork {
    /// Hyperparameters from the file's header.
    pub fn hyperparameters(&self) -> &Hyperparameters {
        &self.hyper
    }

    /// Rounds no activations from now on: slow, and as near to the weights as f32 comes.
    pub fn make_exact(&mut self) {
        self.activations = ActivationPrecision::Exact;
    }

    /// An empty text of at most `context` tokens, or as many as the model was trained for.
    pub fn state(&self, context: usize, kind: CacheType) -> DecodingState {
        DecodingState {
            length: 0,
            context: context.min(self.hyper.trained),
            long: false,
            cache: KvCache::new(kind, &self.hyper),
            gpu: Vec::new(),
            buffers: Buffers::default(),
        }
    }

    /// Sets the length that the text will have: some models use other rotary frequencies for long
    /// texts from the first token on. What was read with others is forgotten.
    pub fn expect_length(&self, state: &mut DecodingState, tokens: usize) {
        let long = self.reads_as_long(tokens);
        if long != state.long {
            state.truncate(0);
            state.long = long;
        }
    }

    /// Whether a text of so many tokens is read with the factors for long ones.
    pub(super) fn reads_as_long(&self, tokens: usize) -> bool {
        self.hyper.short_context.is_some_and(|short| tokens > short)
    }

    /// Whether a text of so many tokens is read as `state` was begun. A text that was said to become
    /// long may be short still.
    pub(super) fn suits_length(&self, state: &DecodingState, tokens: usize) -> bool {
        state.long || !self.reads_as_long(tokens)
    }

    /// Reads `input` after what `state` holds, and returns the hidden states of its tokens after
    /// the last norm, `[tokens, width]`.
    ///
    /// `go_on` is asked before each token, or, where several go through the layers together, before
    /// each layer; when it breaks, the result is `None` and `state` is as it was. The states of a
    /// token do not depend on how a text is cut into calls but for what rounding does.
    ///
    /// # Errors
    /// When the text would be longer than [`DecodingState::context`], or `input` is not of this network.
    pub fn extend(
        &self,
        state: &mut DecodingState,
        input: NetworkInput<'_>,
        go_on: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Option<Vec<f32>>, LlmError> {
        let mut states = Vec::new();
        let read = self.extend_by_chunks(state, input, go_on, &mut |chunk| {
            match chunk {
                ChunkStates::Host(chunk) => states.extend_from_slice(chunk),
                ChunkStates::Gpu(chunk) => states.extend(numbers(&chunk)?),
            }
            Ok(())
        })?;
        Ok(read.map(|()| states))
    }

    /// As [`LlmNetwork::extend`], of which only the last token's hidden state is kept, where it is.
    ///
    /// # Errors
    /// The same.
    pub(super) fn extend_last(
        &self,
        state: &mut DecodingState,
        input: NetworkInput<'_>,
        go_on: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Option<LastState>, LlmError> {
        let mut last = None;
        let read = self.extend_by_chunks(state, input, go_on, &mut |chunk| {
            last = Some(match chunk {
                ChunkStates::Host(chunk) => {
                    LastState::Host(chunk[chunk.len() - self.hyper.width..].to_vec())
                }
                ChunkStates::Gpu(chunk) => {
                    let tokens = chunk.dims()[1];
                    LastState::Gpu(chunk.cut(1, tokens - 1, 1)?)
                }
            });
            Ok(())
        })?;
        Ok(read.and(last))
    }

    fn extend_by_chunks(
        &self,
        state: &mut DecodingState,
        input: NetworkInput<'_>,
        go_on: &mut dyn FnMut() -> ControlFlow<()>,
        keep: &mut dyn FnMut(ChunkStates<'_>) -> crate::nn::Result<()>,
    ) -> Result<Option<()>, LlmError> {
        let width = self.hyper.width;
        let embeddings = self.embed(input)?;
        let tokens = state.length + embeddings.len() / width;
        if tokens > state.context {
            let limit = state.context;
            return Err(LlmError::TooLong { tokens, limit });
        }
        let before = state.length;
        let picture = matches!(input, NetworkInput::Picture(_)).then_some(tokens);
        // What sees each other goes through the layers together.
        let chunk = match picture {
            Some(_) => embeddings.len().max(1),
            None => chunk(&self.hyper) * width,
        };
        for chunk in embeddings.chunks(chunk) {
            let stopped = match &self.gpu {
                Some(gpu) => match self.forward_on(gpu, state, chunk, picture, go_on)? {
                    Some(states) => {
                        keep(ChunkStates::Gpu(states))?;
                        false
                    }
                    None => true,
                },
                None => {
                    let stopped = self.forward(state, chunk, picture, go_on).is_break();
                    if !stopped {
                        keep(ChunkStates::Host(&state.buffers.normed))?;
                    }
                    stopped
                }
            };
            if stopped {
                state.truncate(before);
                return Ok(None);
            }
        }
        Ok(Some(()))
    }

    fn embed(&self, input: NetworkInput<'_>) -> Result<Vec<f32>, LlmError> {
        let width = self.hyper.width;
        match input {
            NetworkInput::Embeddings(numbers) | NetworkInput::Picture(numbers) => {
                match numbers.len().is_multiple_of(width) {
                    true => Ok(numbers.to_vec()),
                    false => Err(LlmError::Embeddings {
                        found: numbers.len(),
                        width,
                    }),
                }
            }
            NetworkInput::Ids(ids) => self.embeddings(ids),
        }
    }

    /// The embeddings of `ids`, `[ids, width]`.
    ///
    /// # Errors
    /// When an id is not in the vocabulary.
    pub fn embeddings(&self, ids: &[u32]) -> Result<Vec<f32>, LlmError> {
        let (width, size) = (self.hyper.width, self.hyper.vocabulary);
        let mut embeddings = vec![0.0; ids.len() * width];
        for (&id, out) in ids.iter().zip(embeddings.chunks_exact_mut(width)) {
            let row = usize::try_from(id).ok().filter(|row| *row < size);
            let row = row.ok_or(LlmError::UnknownToken { id, size })?;
            self.embedding.dequantise_row(row, out);
        }
        if let Some(scale) = self.hyper.embedding_scale {
            embeddings.iter_mut().for_each(|x| *x *= scale);
        }
        Ok(embeddings)
    }

    /// The logits after one hidden state, into `logits`, `[vocabulary]`.
    pub(super) fn logits_after(
        &self,
        last: &LastState,
        logits: &mut Vec<f32>,
    ) -> Result<(), LlmError> {
        match (last, &self.gpu) {
            (LastState::Host(hidden), _) => self.logits(hidden, logits)?,
            (LastState::Gpu(hidden), Some(gpu)) => {
                *logits = numbers(&gpu.logits(hidden)?)?;
                self.cap(logits);
            }
            (LastState::Gpu(hidden), None) => self.logits(&numbers(hidden)?, logits)?,
        }
        Ok(())
    }

    /// The likeliest tokens after a hidden state on a GPU; `None` for one on the processor.
    pub(super) fn candidates(
        &self,
        last: &LastState,
        choice: &TokenChoice<'_>,
    ) -> Result<Option<TokenCandidates>, LlmError> {
        let (LastState::Gpu(hidden), Some(gpu)) = (last, &self.gpu) else {
            return Ok(None);
        };
        Ok(Some(gpu.candidates(
            hidden,
            self.hyper.logit_cap,
            choice,
        )?))
    }

    /// The logits of every token of the vocabulary after each hidden state, `[tokens, width]`, into
    /// `logits`, `[tokens, vocabulary]`.
    ///
    /// # Errors
    /// A GPU that fails.
    pub fn logits(&self, hidden: &[f32], logits: &mut Vec<f32>) -> Result<(), LlmError> {
        let width = self.hyper.width;
        if let Some(gpu) = &self.gpu {
            *logits = numbers(&gpu.logits(&gpu.upload(hidden, width)?)?)?;
            self.cap(logits);
            return Ok(());
        }
        logits.resize(hidden.len() / width * self.hyper.vocabulary, 0.0);
        let (matrix, out) = (&self.head, logits.as_mut_slice());
        multiply_as(
            self.activations,
            &mut [Product { matrix, out }],
            hidden,
            width,
        );
        self.cap(logits);
        Ok(())
    }

    fn cap(&self, logits: &mut [f32]) {
        if let Some(cap) = self.hyper.logit_cap {
            vector::cap(logits, cap);
        }
    }

    /// As [`LlmNetwork::forward`], on a GPU, where the last hidden states stay.
    fn forward_on(
        &self,
        gpu: &GpuLayers,
        state: &mut DecodingState,
        embeddings: &[f32],
        picture: Option<usize>,
        go_on: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Option<GpuTensor>, LlmError> {
        let tokens = embeddings.len() / self.hyper.width;
        if go_on().is_break() {
            return Ok(None);
        }
        let rope = match &self.long {
            Some(long) if state.long => long,
            _ => &self.global,
        };
        let (mut global, mut local) = (Vec::new(), Vec::new());
        rope.turns(state.length, tokens, &mut global);
        self.local.turns(state.length, tokens, &mut local);
        let turns = (global.as_slice(), local.as_slice());
        let states = gpu.forward(&self.hyper, state, embeddings, turns, picture)?;
        state.length += tokens;
        Ok(Some(states))
    }

    /// Reads a few tokens' embeddings; leaves their last hidden states in `buffers.normed`.
    fn forward(
        &self,
        state: &mut DecodingState,
        embeddings: &[f32],
        picture: Option<usize>,
        go_on: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let tokens = embeddings.len() / self.hyper.width;
        let first = state.length;
        let b = &mut state.buffers;
        b.picture = picture;
        b.hidden.clear();
        b.hidden.extend_from_slice(embeddings);
        let rope = match &self.long {
            Some(long) if state.long => long,
            _ => &self.global,
        };
        rope.turns(first, tokens, &mut b.turns);
        self.local.turns(first, tokens, &mut b.local_turns);
        go_on()?;
        if tokens == 1 {
            let stretch = self.stretch();
            let layers = self.layers.chunks(stretch);
            let caches = state.cache.layers.chunks_mut(stretch);
            for (part, (layers, caches)) in layers.zip(caches).enumerate() {
                crew::together(|| {
                    for (at, (layer, cache)) in layers.iter().zip(caches).enumerate() {
                        self.layer(part * stretch + at, layer, cache, b, first, rope);
                    }
                });
            }
        } else {
            let layers = self.layers.iter().zip(&mut state.cache.layers);
            for (index, (layer, cache)) in layers.enumerate() {
                if index > 0 {
                    go_on()?;
                }
                rayon::scope(|_| self.layer(index, layer, cache, b, first, rope));
            }
        }
        b.normed.resize(b.hidden.len(), 0.0);
        self.rms_norm(&self.norm, &b.hidden, &mut b.normed);
        state.length += tokens;
        ControlFlow::Continue(())
    }
}
