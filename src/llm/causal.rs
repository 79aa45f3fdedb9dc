//! What is between a language model and whoever writes with it.

use std::ops::{ControlFlow, Range};
use std::path::Path;

use rand_chacha::ChaCha8Rng;

use super::LlmError;
use super::cache::CacheType;
use super::gguf::{Gguf, MappedFiles};
use super::hyperparameters::Hyperparameters;
use super::memory::LlmMemory;
use super::network::{DecodingState, LastState, LlmNetwork, NetworkInput};
use super::sampling::{TokenChoice, draw_candidates};
use super::slots::{NEARER, Slot, Slots, WORTH, shared};
use crate::nn::gpu::Gpu;

/// A causal language model: logits of the next token from those before.
pub trait CausalLm: Send {
    /// Rows of the output layer; a tokenizer may have fewer tokens.
    fn vocabulary(&self) -> usize;

    /// The most tokens that a text may have.
    fn context_length(&self) -> usize;

    /// How many of the first `ids` were read and stay, so that they are not read again.
    fn shared(&self, ids: &[u32]) -> usize;

    /// Takes the embeddings of a picture, `[tokens, width]`, and gives the ids, beyond the
    /// vocabulary, that stand for them in a text from now on, all of them in order.
    ///
    /// # Errors
    /// When they are not as wide as the model, or it takes none.
    fn take_picture(&mut self, embeddings: Vec<f32>) -> Result<Range<u32>, LlmError> {
        let found = embeddings.len();
        Err(LlmError::Embeddings { found, width: 0 })
    }

    /// Forgets the embeddings of a picture.
    fn drop_picture(&mut self, ids: &Range<u32>) {
        let _ = ids;
    }

    /// Says how long the text that is read next may become, prompt and answer together: some models
    /// read long texts otherwise from their first token on.
    fn expect(&mut self, tokens: usize) {
        let _ = tokens;
    }

    /// Reads a text, of which only what differs from those that are kept is new, and writes the
    /// logits after its last token, `[vocabulary]`. `None` when `go_on` broke, which is asked
    /// before each token that is written and several times in each 64 that are read.
    ///
    /// # Errors
    /// When there are no ids, too many of them, or one is not in the vocabulary.
    fn read(
        &mut self,
        ids: &[u32],
        logits: &mut Vec<f32>,
        go_on: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Option<()>, LlmError>;

    /// Reads a text as [`CausalLm::read`] does and draws the token that comes next.
    ///
    /// # Errors
    /// As [`CausalLm::read`].
    fn next_token(
        &mut self,
        ids: &[u32],
        choice: &TokenChoice<'_>,
        rng: &mut ChaCha8Rng,
        go_on: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Option<u32>, LlmError> {
        let mut logits = Vec::new();
        let read = self.read(ids, &mut logits, go_on)?;
        Ok(read.map(|()| choice.draw(&mut logits, rng)))
    }
}

/// How a language model is opened.
#[derive(Clone, Copy, Debug)]
pub struct LanguageModelOptions {
    /// The most tokens that a text may have; never more than the model was trained for.
    pub context: usize,
    /// How keys and values are stored.
    pub cache: CacheType,
}

/// A language model in a GGUF file, with the text it read last still in its cache, and a few that it
/// read before as far as the memory that is planned for one text of the whole context holds them.
pub struct GgufLm {
    network: LlmNetwork,
    state: DecodingState,
    /// The tokens in `state`.
    read: Vec<u32>,
    aside: Slots,
    cache: CacheType,
    /// Embeddings of pictures by the ids that stand for them.
    pictures: Vec<(Range<u32>, Vec<f32>)>,
    /// The first id that stands for nothing yet.
    free: u32,
    memory: LlmMemory,
    files: MappedFiles,
    /// Of the token that is drawn, where they are on the processor.
    logits: Vec<f32>,
}

impl GgufLm {
    /// Opens the file, the first of its parts, or the only or first GGUF file in a folder.
    ///
    /// # Errors
    /// When it can't be read, is no language model of a family in [`super::FAMILIES`], or needs
    /// something that is not read here, which is named.
    pub fn open(path: &Path, options: &LanguageModelOptions) -> Result<GgufLm, LlmError> {
        let gguf = match path.is_dir() {
            true => Gguf::find(path)?,
            false => Gguf::open(path.to_path_buf())?,
        };
        GgufLm::from_gguf(&gguf, options)
    }

    pub(super) fn from_gguf(
        gguf: &Gguf,
        options: &LanguageModelOptions,
    ) -> Result<GgufLm, LlmError> {
        let network = LlmNetwork::read(gguf)?;
        let (header, hyper) = (gguf.header(), network.hyperparameters());
        Ok(GgufLm {
            memory: LlmMemory::of(header, hyper, options.context, options.cache),
            state: network.state(options.context, options.cache),
            read: Vec::new(),
            aside: Slots::default(),
            cache: options.cache,
            pictures: Vec::new(),
            free: u32::try_from(network.hyperparameters().vocabulary).unwrap_or(u32::MAX),
            files: gguf.files(),
            logits: Vec::new(),
            network,
        })
    }

    /// The network itself.
    pub fn network(&self) -> &LlmNetwork {
        &self.network
    }

    /// Hyperparameters from the file's header.
    pub fn hyperparameters(&self) -> &Hyperparameters {
        self.network.hyperparameters()
    }

    /// What it takes of the machine's memory.
    pub fn memory(&self) -> LlmMemory {
        self.memory
    }

    /// Has the layers compute on a GPU; what for which there is no kernel comes back, and then they
    /// stay.
    ///
    /// # Errors
    /// A GPU that is lost or short of memory.
    pub fn move_to(&mut self, gpu: &Gpu) -> Result<Option<String>, LlmError> {
        self.forget();
        self.network.move_to(gpu)
    }

    /// Rounds no activations from now on, for comparing with reference values.
    pub fn make_exact(&mut self) {
        self.network.make_exact();
        self.forget();
    }

    /// Forgets what was read.
    pub fn forget(&mut self) {
        self.state.truncate(0);
        self.read.clear();
        self.aside.clear();
    }

    /// The hidden states of `ids` after the last layer and its norm, `[ids, width]`.
    ///
    /// # Errors
    /// When there are too many ids, or one is not in the vocabulary.
    pub fn hidden_states(&mut self, ids: &[u32]) -> Result<Vec<f32>, LlmError> {
        self.forget();
        let go_on = &mut || ControlFlow::Continue(());
        let states = self
            .network
            .extend(&mut self.state, NetworkInput::Ids(ids), go_on)?;
        self.read.extend_from_slice(ids);
        Ok(states.unwrap_or_default())
    }

    /// The logits after every one of `ids`, `[ids, vocabulary]`.
    ///
    /// # Errors
    /// As [`GgufLm::hidden_states`].
    pub fn all_logits(&mut self, ids: &[u32]) -> Result<Vec<f32>, LlmError> {
        let states = self.hidden_states(ids)?;
        let mut logits = Vec::new();
        self.network.logits(&states, &mut logits)?;
        Ok(logits)
    }
}

/// A part of a text.
enum Piece {
    Words(Range<usize>),
    /// Where it stands, and which it is.
    Picture(Range<usize>, usize),
}

impl GgufLm {
    /// Makes the text current that shares most of its beginning with `ids`. What has to go of it, or
    /// of the one before, is kept aside where it was long.
    fn take_up(&mut self, ids: &[u32]) {
        let here = shared(&self.read, &self.state, ids);
        let nearest = self.aside.nearest(ids, self.state.is_long());
        match nearest.filter(|(_, there)| *there >= here + NEARER) {
            Some((place, there)) => {
                let before = self.aside.take(place);
                self.set_current(before);
                self.fork(there);
            }
            None => self.fork(here),
        }
        if !self.aside.is_empty() {
            let context = self.state.context();
            self.aside
                .fit(self.network.hyperparameters(), ids.len(), context);
        }
    }

    /// Makes a text current and keeps the other one.
    fn set_current(&mut self, slot: Slot) {
        let last = Slot {
            state: std::mem::replace(&mut self.state, slot.state),
            read: std::mem::replace(&mut self.read, slot.read),
        };
        if !last.state.is_on_gpu() {
            self.aside.keep(last);
        }
    }

    /// Keeps the current text as it is, where much of it lies behind the first `known` tokens.
    fn fork(&mut self, known: usize) {
        if self.read.len() - known >= WORTH
            && let Some(state) = self.state.fork()
        {
            let read = self.read.clone();
            self.aside.keep(Slot { read, state });
        }
    }

    /// The words and pictures of a text.
    ///
    /// # Errors
    /// When an id beyond the vocabulary is not the first of a picture that stands there whole.
    fn pieces(&self, ids: &[u32]) -> Result<Vec<Piece>, LlmError> {
        let size = self.vocabulary();
        let beyond = |id: &u32| *id as usize >= size;
        let mut pieces = Vec::new();
        let mut at = 0;
        while at < ids.len() {
            let words = ids[at..].iter().take_while(|id| !beyond(id)).count();
            if words > 0 {
                pieces.push(Piece::Words(at..at + words));
                at += words;
                continue;
            }
            let id = ids[at];
            let found = self.pictures.iter().position(|(range, _)| {
                let there = ids[at..].iter().take(range.len());
                range.start == id && there.copied().eq(range.clone())
            });
            let index = found.ok_or(LlmError::UnknownToken { id, size })?;
            let end = at + self.pictures[index].0.len();
            pieces.push(Piece::Picture(at..end, index));
            at = end;
        }
        Ok(pieces)
    }
}

impl CausalLm for GgufLm {
    fn vocabulary(&self) -> usize {
        self.hyperparameters().vocabulary
    }

    fn context_length(&self) -> usize {
        self.state.context()
    }

    fn shared(&self, ids: &[u32]) -> usize {
        let there = self.aside.nearest(ids, self.state.is_long());
        let there = there.map_or(0, |(_, tokens)| tokens);
        shared(&self.read, &self.state, ids).max(there)
    }

    fn take_picture(&mut self, embeddings: Vec<f32>) -> Result<Range<u32>, LlmError> {
        let (found, width) = (embeddings.len(), self.hyperparameters().width);
        if found == 0 || !found.is_multiple_of(width) {
            return Err(LlmError::Embeddings { found, width });
        }
        let tokens = u32::try_from(found / width).unwrap_or(u32::MAX);
        let end = self.free.checked_add(tokens);
        let end = end.ok_or(LlmError::Embeddings { found, width })?;
        let ids = self.free..end;
        self.free = end;
        self.pictures.push((ids.clone(), embeddings));
        Ok(ids)
    }

    fn drop_picture(&mut self, ids: &Range<u32>) {
        self.pictures.retain(|(range, _)| range != ids);
    }

    fn expect(&mut self, tokens: usize) {
        if self.network.reads_as_long(tokens) != self.state.is_long() && !self.state.is_on_gpu() {
            let state = self.network.state(self.state.context(), self.cache);
            let read = Vec::new();
            self.set_current(Slot { read, state });
        }
        self.network.expect_length(&mut self.state, tokens);
        self.read.truncate(self.state.len());
    }

    fn read(
        &mut self,
        ids: &[u32],
        logits: &mut Vec<f32>,
        go_on: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Option<()>, LlmError> {
        let Some(last) = self.read_last(ids, go_on)? else {
            return Ok(None);
        };
        self.network.logits_after(&last, logits)?;
        Ok(Some(()))
    }

    fn next_token(
        &mut self,
        ids: &[u32],
        choice: &TokenChoice<'_>,
        rng: &mut ChaCha8Rng,
        go_on: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Option<u32>, LlmError> {
        let Some(last) = self.read_last(ids, go_on)? else {
            return Ok(None);
        };
        if let Some(found) = self.network.candidates(&last, choice)? {
            let drawn = draw_candidates(&found, self.vocabulary(), choice.sampling, rng);
            if let Some(id) = drawn {
                return Ok(Some(id));
            }
        }
        self.network.logits_after(&last, &mut self.logits)?;
        Ok(Some(choice.draw(&mut self.logits, rng)))
    }
}

impl GgufLm {
    /// Reads a text, and gives the hidden state of its last token.
    fn read_last(
        &mut self,
        ids: &[u32],
        go_on: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Option<LastState>, LlmError> {
        self.files.check()?;
        // The last token is always read, since its hidden state is needed.
        let last = ids.len().checked_sub(1).ok_or(LlmError::NoTokens)?;
        if !self.network.suits_length(&self.state, ids.len()) {
            self.expect(ids.len());
        }
        let pieces = self.pieces(ids)?;
        self.take_up(ids);
        let known = shared(&self.read, &self.state, ids).min(last);
        // A picture is read as a whole.
        let whole = pieces.iter().find_map(|piece| match piece {
            Piece::Picture(at, _) if at.contains(&known) => Some(at.start),
            _ => None,
        });
        let known = whole.unwrap_or(known);
        self.state.truncate(known);
        let known = self.state.len();
        self.read.truncate(known);
        let mut last = None;
        for piece in pieces {
            let (from, input) = match &piece {
                Piece::Words(words) if words.end <= known => continue,
                Piece::Picture(at, _) if at.end <= known => continue,
                Piece::Words(words) => {
                    let new = words.start.max(known)..words.end;
                    (new.clone(), NetworkInput::Ids(&ids[new]))
                }
                Piece::Picture(at, index) => {
                    (at.clone(), NetworkInput::Picture(&self.pictures[*index].1))
                }
            };
            let read = self.network.extend_last(&mut self.state, input, go_on)?;
            if read.is_none() {
                self.read.truncate(self.state.len());
                return Ok(None);
            }
            self.read.extend_from_slice(&ids[from]);
            last = read;
        }
        Ok(last)
    }
}
