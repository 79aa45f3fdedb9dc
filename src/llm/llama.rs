//! The Llama forward pass with a key-value cache, on the CPU, straight from the quantised file.
//!
//! Plain slices in buffers that are kept between tokens: at one token a step, a tensor library's
//! cost per operation would be most of the time.

use std::ops::ControlFlow;

use rayon::prelude::*;

use super::LlmError;
use super::gguf::Gguf;
use crate::nn::quant::{Product, QuantMatrix, multiply, vector};

/// Most tokens that are kept; stories are far shorter than what the model was trained for.
const MAX_CONTEXT: usize = 2048;
/// Tokens that pass through the layers together; between them it can be stopped.
const CHUNK: usize = 64;

/// Sizes and constants of the network.
#[derive(Clone, Debug, PartialEq)]
pub struct LlamaConfig {
    pub layers: usize,
    /// Width of embeddings and hidden states.
    pub width: usize,
    pub heads: usize,
    /// Heads of keys and values, each shared by `heads / kv_heads` queries.
    pub kv_heads: usize,
    pub head_width: usize,
    /// Width inside the feed-forward part.
    pub inner_width: usize,
    pub vocabulary: usize,
    /// Most tokens that can be kept.
    pub context: usize,
    pub rope_base: f32,
    pub norm_epsilon: f32,
}

impl LlamaConfig {
    fn read(gguf: &Gguf) -> Result<LlamaConfig, LlmError> {
        let architecture = gguf.string("general.architecture")?;
        if architecture != "llama" {
            return Err(gguf.unusable(format!("its architecture is {architecture}, not llama")));
        }
        let width = gguf.count("llama.embedding_length", 1 << 16)?;
        let heads = gguf.count("llama.attention.head_count", 1 << 10)?;
        let config = LlamaConfig {
            layers: gguf.count("llama.block_count", 1 << 10)?,
            width,
            heads,
            kv_heads: gguf.count("llama.attention.head_count_kv", heads)?,
            head_width: width / heads,
            inner_width: gguf.count("llama.feed_forward_length", 1 << 20)?,
            vocabulary: gguf.strings("tokenizer.ggml.tokens")?.len(),
            context: gguf
                .count("llama.context_length", 1 << 30)?
                .min(MAX_CONTEXT),
            rope_base: gguf.float("llama.rope.freq_base")?,
            norm_epsilon: gguf.float("llama.attention.layer_norm_rms_epsilon")?,
        };
        let whole = config.head_width * heads == width
            && heads.is_multiple_of(config.kv_heads)
            && config.head_width.is_multiple_of(16);
        let rotated = gguf.count("llama.rope.dimension_count", width)?;
        if !whole
            || rotated != config.head_width
            || config.rope_base.is_nan()
            || config.rope_base <= 1.0
        {
            return Err(gguf.unusable("its attention heads are of an unknown kind"));
        }
        Ok(config)
    }
}

struct Layer {
    attention_norm: Vec<f32>,
    query: QuantMatrix,
    key: QuantMatrix,
    value: QuantMatrix,
    output: QuantMatrix,
    inner_norm: Vec<f32>,
    gate: QuantMatrix,
    up: QuantMatrix,
    down: QuantMatrix,
}

/// The network's weights.
pub struct Llama {
    config: LlamaConfig,
    embedding: QuantMatrix,
    layers: Vec<Layer>,
    norm: Vec<f32>,
    /// `embedding` where the two are tied.
    head: QuantMatrix,
    /// Cosine and sine for each position and pair, `[context, head_width / 2, 2]`.
    rotations: Vec<f32>,
}

/// What goes into the network.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    Ids(&'a [u32]),
    /// Embeddings in place of tokens, `[tokens, width]`.
    Embeddings(&'a [f32]),
}

/// A text in progress: the keys and values of its tokens, and room to work in.
pub struct State {
    length: usize,
    /// For each layer `[kv_heads, context, head_width]`.
    keys: Vec<Vec<f32>>,
    values: Vec<Vec<f32>>,
    buffers: Buffers,
}

impl State {
    /// Tokens that have been read.
    pub fn len(&self) -> usize {
        self.length
    }

    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Forgets all tokens after the first `length`.
    pub fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }
}

#[derive(Default)]
struct Buffers {
    hidden: Vec<f32>,
    normed: Vec<f32>,
    query: Vec<f32>,
    key: Vec<f32>,
    value: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    scores: Vec<f32>,
}

impl Llama {
    pub(super) fn read(gguf: &Gguf) -> Result<Llama, LlmError> {
        let config = LlamaConfig::read(gguf)?;
        let (width, inner) = (config.width, config.inner_width);
        let kv_width = config.kv_heads * config.head_width;
        let embedding = gguf.matrix("token_embd.weight", config.vocabulary, width)?;
        let head = if gguf.has("output.weight") {
            gguf.matrix("output.weight", config.vocabulary, width)?
        } else {
            embedding.clone()
        };
        let layers = (0..config.layers)
            .map(|index| {
                let name = |part: &str| format!("blk.{index}.{part}.weight");
                Ok(Layer {
                    attention_norm: gguf.vector(&name("attn_norm"), width)?,
                    query: gguf.matrix(&name("attn_q"), width, width)?,
                    key: gguf.matrix(&name("attn_k"), kv_width, width)?,
                    value: gguf.matrix(&name("attn_v"), kv_width, width)?,
                    output: gguf.matrix(&name("attn_output"), width, width)?,
                    inner_norm: gguf.vector(&name("ffn_norm"), width)?,
                    gate: gguf.matrix(&name("ffn_gate"), inner, width)?,
                    up: gguf.matrix(&name("ffn_up"), inner, width)?,
                    down: gguf.matrix(&name("ffn_down"), width, inner)?,
                })
            })
            .collect::<Result<_, LlmError>>()?;
        Ok(Llama {
            embedding,
            layers,
            norm: gguf.vector("output_norm.weight", width)?,
            head,
            rotations: rotations(&config),
            config,
        })
    }

    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// An empty text.
    pub fn state(&self) -> State {
        let config = &self.config;
        let size = config.kv_heads * config.context * config.head_width;
        State {
            length: 0,
            keys: vec![vec![0.0; size]; config.layers],
            values: vec![vec![0.0; size]; config.layers],
            buffers: Buffers::default(),
        }
    }

    /// Reads `input` after what `state` holds, and returns the hidden states of its tokens after
    /// the last norm, `[tokens, width]`.
    ///
    /// Before each 64 tokens `go_on` is asked; when it breaks, the result is `None` and
    /// `state` is as it was. The states of a token do not depend on how a text is cut into calls.
    ///
    /// # Errors
    /// When the text would be longer than [`LlamaConfig::context`], or `input` is not of this
    /// network.
    pub fn extend(
        &self,
        state: &mut State,
        input: Input<'_>,
        go_on: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Option<Vec<f32>>, LlmError> {
        let width = self.config.width;
        let embeddings = self.embed(input)?;
        let tokens = state.length + embeddings.len() / width;
        if tokens > self.config.context {
            let limit = self.config.context;
            return Err(LlmError::TooLong { tokens, limit });
        }
        let before = state.length;
        let mut states = Vec::with_capacity(embeddings.len());
        for chunk in embeddings.chunks(CHUNK * width) {
            if go_on().is_break() {
                state.length = before;
                return Ok(None);
            }
            // On a thread of the pool, so that handing out work does not wait for one to wake.
            rayon::scope(|_| self.forward(state, chunk));
            states.extend_from_slice(&state.buffers.normed);
        }
        Ok(Some(states))
    }

    fn embed(&self, input: Input<'_>) -> Result<Vec<f32>, LlmError> {
        let width = self.config.width;
        match input {
            Input::Embeddings(numbers) if numbers.len().is_multiple_of(width) => {
                Ok(numbers.to_vec())
            }
            Input::Embeddings(numbers) => Err(LlmError::Embeddings {
                found: numbers.len(),
                width,
            }),
            Input::Ids(ids) => self.embeddings(ids),
        }
    }

    /// The embeddings of `ids`, `[ids, width]`.
    ///
    /// # Errors
    /// When an id is not in the vocabulary.
    pub fn embeddings(&self, ids: &[u32]) -> Result<Vec<f32>, LlmError> {
        let (width, size) = (self.config.width, self.config.vocabulary);
        let mut embeddings = vec![0.0; ids.len() * width];
        for (&id, out) in ids.iter().zip(embeddings.chunks_exact_mut(width)) {
            let row = usize::try_from(id).ok().filter(|row| *row < size);
            let row = row.ok_or(LlmError::UnknownToken { id, size })?;
            self.embedding.dequantise_row(row, out);
        }
        Ok(embeddings)
    }

    /// The logits of every token of the vocabulary after a hidden state `[width]`, into `logits`.
    pub fn logits(&self, hidden: &[f32], logits: &mut Vec<f32>) {
        logits.resize(self.config.vocabulary, 0.0);
        multiply(
            &mut [product(&self.head, logits)],
            hidden,
            self.config.width,
        );
    }

    /// Reads a few tokens' embeddings; leaves their last hidden states in `buffers.normed`.
    fn forward(&self, state: &mut State, embeddings: &[f32]) {
        let config = &self.config;
        let width = config.width;
        let tokens = embeddings.len() / width;
        let first = state.length;
        let b = &mut state.buffers;
        b.hidden.clear();
        b.hidden.extend_from_slice(embeddings);
        b.normed.resize(tokens * width, 0.0);
        b.query.resize(tokens * width, 0.0);
        let kv_width = config.kv_heads * config.head_width;
        b.key.resize(tokens * kv_width, 0.0);
        b.value.resize(tokens * kv_width, 0.0);
        b.gate.resize(tokens * config.inner_width, 0.0);
        b.up.resize(tokens * config.inner_width, 0.0);
        b.scores.resize(tokens * (first + tokens), 0.0);
        for (index, layer) in self.layers.iter().enumerate() {
            self.norm(&layer.attention_norm, &b.hidden, &mut b.normed);
            multiply(
                &mut [
                    product(&layer.query, &mut b.query),
                    product(&layer.key, &mut b.key),
                    product(&layer.value, &mut b.value),
                ],
                &b.normed,
                width,
            );
            self.rotate(&mut b.query, width, first);
            self.rotate(&mut b.key, kv_width, first);
            self.remember(&b.key, &mut state.keys[index], first);
            self.remember(&b.value, &mut state.values[index], first);
            let (keys, values) = (&state.keys[index], &state.values[index]);
            self.attend(b, keys, values, first);
            // The queries are done with; their room takes what is added to the hidden states.
            multiply(
                &mut [product(&layer.output, &mut b.query)],
                &b.normed,
                width,
            );
            add(&mut b.hidden, &b.query);

            self.norm(&layer.inner_norm, &b.hidden, &mut b.normed);
            multiply(
                &mut [
                    product(&layer.gate, &mut b.gate),
                    product(&layer.up, &mut b.up),
                ],
                &b.normed,
                width,
            );
            if tokens == 1 {
                vector::swiglu(&mut b.gate, &b.up);
            } else {
                b.gate
                    .par_chunks_mut(config.inner_width)
                    .zip(b.up.par_chunks(config.inner_width))
                    .for_each(|(gate, up)| vector::swiglu(gate, up));
            }
            multiply(
                &mut [product(&layer.down, &mut b.query)],
                &b.gate,
                config.inner_width,
            );
            add(&mut b.hidden, &b.query);
        }
        self.norm(&self.norm, &b.hidden, &mut b.normed);
        state.length += tokens;
    }

    /// RMS norm of every row of `x`, `[tokens, width]`.
    fn norm(&self, weight: &[f32], x: &[f32], out: &mut [f32]) {
        let width = weight.len();
        for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
            let squares: f64 = x.iter().map(|x| f64::from(x * x)).sum();
            let mean = (squares / width as f64) as f32;
            let scale = 1.0 / (mean + self.config.norm_epsilon).sqrt();
            for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
                *out = x * scale * weight;
            }
        }
    }

    /// Rotary position embedding of `x`, `[tokens, heads, head_width]`; GGUF orders the weights
    /// so that neighbours are a pair.
    fn rotate(&self, x: &mut [f32], row: usize, first: usize) {
        let width = self.config.head_width;
        for (position, row) in x.chunks_exact_mut(row).enumerate() {
            let rotations = &self.rotations[(first + position) * width..][..width];
            for head in row.chunks_exact_mut(width) {
                for (pair, turn) in head.chunks_exact_mut(2).zip(rotations.chunks_exact(2)) {
                    let (a, b) = (pair[0], pair[1]);
                    pair[0] = a * turn[0] - b * turn[1];
                    pair[1] = a * turn[1] + b * turn[0];
                }
            }
        }
    }

    /// Copies `new`, `[tokens, kv_heads, head_width]`, into a layer's cache.
    fn remember(&self, new: &[f32], cache: &mut [f32], first: usize) {
        let width = self.config.head_width;
        for (token, row) in new.chunks_exact(self.config.kv_heads * width).enumerate() {
            for (head, numbers) in row.chunks_exact(width).enumerate() {
                let at = (head * self.config.context + first + token) * width;
                cache[at..at + width].copy_from_slice(numbers);
            }
        }
    }

    /// Attention of the queries in `b.query` over the cache, into `b.normed`.
    fn attend(&self, b: &mut Buffers, keys: &[f32], values: &[f32], first: usize) {
        let config = &self.config;
        let (width, group) = (config.head_width, config.heads / config.kv_heads);
        let scale = 1.0 / (width as f32).sqrt();
        let tokens = b.query.len() / config.width;
        let one = |token: usize, query: &[f32], scores: &mut [f32], out: &mut [f32]| {
            let seen = (first + token + 1) * width;
            let heads = query.chunks_exact(width).zip(out.chunks_exact_mut(width));
            for (head, (query, out)) in heads.enumerate() {
                let at = head / group * config.context * width;
                let (keys, values) = (&keys[at..at + seen], &values[at..at + seen]);
                vector::attend(query, keys, values, scale, scores, out);
            }
        };
        if tokens == 1 {
            one(0, &b.query, &mut b.scores, &mut b.normed);
        } else {
            b.normed
                .par_chunks_mut(config.width)
                .zip(b.query.par_chunks(config.width))
                .zip(b.scores.par_chunks_mut(first + tokens))
                .enumerate()
                .for_each(|(token, ((out, query), scores))| one(token, query, scores, out));
        }
    }
}

fn product<'a>(matrix: &'a QuantMatrix, out: &'a mut [f32]) -> Product<'a> {
    Product { matrix, out }
}

fn add(sum: &mut [f32], more: &[f32]) {
    for (sum, more) in sum.iter_mut().zip(more) {
        *sum += more;
    }
}

fn rotations(config: &LlamaConfig) -> Vec<f32> {
    let half = config.head_width / 2;
    let mut table = Vec::with_capacity(config.context * config.head_width);
    for position in 0..config.context {
        for pair in 0..half {
            let speed = f64::from(config.rope_base).powf(-(pair as f64) / half as f64);
            let (sin, cos) = (position as f64 * speed).sin_cos();
            table.extend([cos as f32, sin as f32]);
        }
    }
    table
}
