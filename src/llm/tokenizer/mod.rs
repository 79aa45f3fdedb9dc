//! Text to token ids and back, as the lists in a GGUF file say: byte-level pair merges or
//! SentencePiece's pieces, with llama.cpp's ids for every text.
//!
//! Plain text never holds a control token. In a prompt, which a chat template wrote, control tokens
//! are recognised, but not in the words of an author: those are shielded before the template sees
//! them ([`Tokenizer::shield`]).

mod bpe;
mod decoder;
mod special_tokens;
mod split;
mod vocabulary;

#[cfg(test)]
mod tests;

pub use decoder::Decoder;

use std::borrow::Cow;

use bpe::Bpe;
use special_tokens::{ControlTokens, Fragment};
use split::PreTokenizer;
use vocabulary::{PieceKind, TokenizerVocabulary};

use super::LlmError;
use super::gguf::Gguf;
use super::sentencepiece::{SentencePiece, VocabularyPiece};
use super::shield::{SHIELD, shielded, unshielded};
use crate::weights::{GgufHeader, GgufValue};

/// Text to token ids and back.
pub struct Tokenizer {
    vocabulary: TokenizerVocabulary,
    marks: ControlTokens,
    model: TokenizerModel,
    add_bos: bool,
    /// Each token's text where that is printable ASCII.
    texts: Vec<Option<String>>,
    /// By id: tokens that mean something to the model where a prompt holds them.
    acts: Vec<bool>,
}

enum TokenizerModel {
    Bpe(Box<Bpe>),
    SentencePiece {
        pieces: SentencePiece,
        /// Whether a space is put before the text and behind every special token.
        space_prefix: bool,
    },
}

impl Tokenizer {
    /// Reads the lists of an open file.
    ///
    /// # Errors
    /// When they are not there, do not fit each other, or name a kind that is not known.
    pub(super) fn read(gguf: &Gguf) -> Result<Tokenizer, LlmError> {
        Tokenizer::from_header(gguf.header()).map_err(|reason| gguf.unusable(reason))
    }

    /// Whether the kind of tokenizer that a file's header names, and its way to split words, are
    /// read; told before the lists are.
    ///
    /// # Errors
    /// What is not known, in words.
    pub fn check_kind(header: &GgufHeader) -> Result<(), String> {
        match header.string("tokenizer.ggml.model") {
            Some("gpt2") => {
                let split = header.string("tokenizer.ggml.pre").unwrap_or("default");
                PreTokenizer::named(split).map(|_| ())
            }
            Some("llama") | None => Ok(()),
            Some(other) => Err(unknown_kind(other)),
        }
    }

    /// Reads the lists in a file's header.
    ///
    /// # Errors
    /// What is wrong, in words: they are not there, do not fit each other, or name a kind that is
    /// not known.
    pub fn from_header(header: &GgufHeader) -> Result<Tokenizer, String> {
        let flag = |key: &str| match header.metadata.get(key) {
            Some(GgufValue::Bool(value)) => Some(*value),
            _ => None,
        };
        let kind = header.string("tokenizer.ggml.model");
        let kind = kind.ok_or("it does not say tokenizer.ggml.model")?;
        let vocabulary = TokenizerVocabulary::read(header, kind == "gpt2")?;
        let (model, add_bos) = match kind {
            "gpt2" => {
                let split = header.string("tokenizer.ggml.pre").unwrap_or("default");
                let split = PreTokenizer::named(split)?;
                let Some(GgufValue::Strings(merges)) = header.metadata.get("tokenizer.ggml.merges")
                else {
                    return Err("its tokenizer has no merges".to_string());
                };
                let add_bos = split.add_bos;
                let bpe = Bpe::new(&vocabulary, merges, split)?;
                (TokenizerModel::Bpe(Box::new(bpe)), add_bos)
            }
            "llama" => {
                let pieces = SentencePiece::new(pieces(header, &vocabulary)?, String::new())?;
                let space_prefix = flag("tokenizer.ggml.add_space_prefix").unwrap_or(true);
                (
                    TokenizerModel::SentencePiece {
                        pieces,
                        space_prefix,
                    },
                    true,
                )
            }
            other => {
                return Err(unknown_kind(other));
            }
        };
        let name = header.string("general.name").unwrap_or_default();
        let marks = ControlTokens::new(&vocabulary, name)?;
        let template = header.string("tokenizer.chat_template").unwrap_or_default();
        let mut acts = vec![false; vocabulary.tokens().len()];
        for (id, text) in marks.all() {
            let defined = vocabulary
                .token(id)
                .is_some_and(|t| t.kind == PieceKind::UserDefined);
            // Runs of spaces and the like are no more than text, wherever a template has them.
            acts[id as usize] = !defined
                || text.starts_with("<|")
                || text.contains("think>")
                || (template.contains(text) && !text.trim().is_empty());
        }
        let add_bos = flag("tokenizer.ggml.add_bos_token").unwrap_or(add_bos);
        Ok(Tokenizer {
            texts: (0u32..)
                .zip(vocabulary.tokens())
                .map(|(id, _)| printable(&vocabulary.bytes(id)))
                .collect(),
            add_bos: add_bos && vocabulary.bos.is_some(),
            vocabulary,
            marks,
            model,
            acts,
        })
    }

    /// The tokens of plain `text`: nothing in it is a control token, and none begins or ends it.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        self.encode_fragments(text, false)
    }

    /// The tokens of a prompt that a chat template wrote: control tokens are recognised where they
    /// are not shielded, and the one that begins a text comes first, once, where the model wants it.
    pub fn encode_prompt(&self, prompt: &str) -> Vec<u32> {
        let mut ids = self.encode_fragments(prompt, true);
        if let Some(bos) = self.bos().filter(|_| self.add_bos)
            && ids.first() != Some(&bos)
        {
            ids.insert(0, bos);
        }
        ids
    }

    /// The tokens of a further part of a prompt.
    pub fn encode_within(&self, prompt: &str) -> Vec<u32> {
        self.encode_fragments(prompt, true)
    }

    /// `words` as they go into a chat template so that nothing in them acts as a control token.
    pub fn shield(&self, words: &str) -> String {
        let words = words.replace(SHIELD, "\u{fffd}");
        let acts = |id: u32| self.acts.get(id as usize).is_some_and(|acts| *acts);
        let mut cuts: Vec<usize> = Vec::new();
        for start in self.marks.starts(&words, &acts) {
            let first = words[start..].chars().next().map_or(0, char::len_utf8);
            cuts.push(start + first);
        }
        // Together with what a template puts before or after them they must be no token either.
        let body = words.trim();
        if !body.is_empty() {
            let start = words.len() - words.trim_start().len();
            cuts.extend([start, start + body.len()]);
        }
        shielded(&words, cuts)
    }

    /// A prompt with shielded words as people read it.
    pub fn unshield(prompt: &str) -> String {
        unshielded(prompt)
    }

    fn encode_fragments(&self, text: &str, prompt: bool) -> Vec<u32> {
        let mut ids = Vec::new();
        let mut after_special = true;
        for fragment in self.marks.partition(text, prompt) {
            let stretch = match fragment {
                Fragment::Token(id) => {
                    ids.push(id);
                    after_special = true;
                    continue;
                }
                Fragment::Text(range) if prompt => Cow::Owned(Self::unshield(&text[range])),
                Fragment::Text(range) => Cow::Borrowed(&text[range]),
            };
            if stretch.is_empty() {
                continue;
            }
            match &self.model {
                TokenizerModel::Bpe(bpe) => bpe.encode(&stretch, &mut ids),
                TokenizerModel::SentencePiece {
                    pieces,
                    space_prefix,
                } => {
                    ids.extend(pieces.encode_after(&stretch, *space_prefix && after_special));
                }
            }
            after_special = false;
        }
        ids
    }

    /// The text of `ids`, without control tokens; bytes that are no character become U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> String {
        let mut decoder = self.decoder();
        let mut text: String = ids.iter().map(|id| decoder.push(self, *id)).collect();
        text.push_str(&decoder.finish());
        text
    }

    /// Decodes ids one after the other.
    pub fn decoder(&self) -> Decoder {
        Decoder::new(matches!(
            self.model,
            TokenizerModel::SentencePiece {
                space_prefix: true,
                ..
            }
        ))
    }

    /// The token that begins a text.
    pub fn bos(&self) -> Option<u32> {
        self.vocabulary.bos
    }

    /// The token that ends a text.
    pub fn eos(&self) -> Option<u32> {
        self.vocabulary.eos
    }

    /// Whether prompts begin with [`Tokenizer::bos`] though the template does not write it.
    pub fn adds_bos(&self) -> bool {
        self.add_bos
    }

    /// A token's text as it stands in the file.
    pub fn token_text(&self, id: u32) -> Option<&str> {
        self.vocabulary.token(id).map(|token| token.text.as_str())
    }

    /// The token with this text, as it stands in the file.
    pub fn token_id(&self, text: &str) -> Option<u32> {
        self.vocabulary.id(text)
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.vocabulary.tokens().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether `id` ends what the model has to say.
    pub fn is_end_token(&self, id: u32) -> bool {
        self.vocabulary.ends.contains(&id)
    }

    /// All tokens that end what the model has to say, in order.
    pub fn end_tokens(&self) -> Vec<u32> {
        self.vocabulary.ends.iter().copied().collect()
    }

    /// Whether `id` is a control token.
    pub fn is_control(&self, id: u32) -> bool {
        let token = self.vocabulary.token(id);
        token.is_some_and(|token| token.kind == PieceKind::Control)
    }

    /// Whether `id` is a control token or one that was defined for the model's own marks.
    pub fn is_special_token(&self, id: u32) -> bool {
        self.acts.get(id as usize).is_some_and(|acts| *acts)
    }

    /// Whether text was cut at `id` before it was split into words.
    fn is_special(&self, id: u32) -> bool {
        let token = self.vocabulary.token(id);
        let kind = token.map(|token| token.kind);
        matches!(
            kind,
            Some(PieceKind::Control | PieceKind::Unknown | PieceKind::UserDefined)
        )
    }

    /// Whether `id` stands for nothing: a row that only fills up the vocabulary.
    pub fn is_unused(&self, id: u32) -> bool {
        let token = self.vocabulary.token(id);
        token.is_none_or(|token| matches!(token.kind, PieceKind::Unused | PieceKind::Unknown))
    }

    /// Every token's text, where that is printable ASCII.
    pub(super) fn texts(&self) -> &[Option<String>] {
        &self.texts
    }
}

fn unknown_kind(kind: &str) -> String {
    format!("its tokenizer is of the kind {kind:?}, not gpt2 (byte pairs) or llama (SentencePiece)")
}

/// The pieces of a SentencePiece model.
fn pieces(
    header: &GgufHeader,
    vocabulary: &TokenizerVocabulary,
) -> Result<Vec<VocabularyPiece>, String> {
    const SCORES: &str = "tokenizer.ggml.scores";
    let tokens = vocabulary.tokens();
    let scores: Vec<f32> = match header.metadata.get(SCORES) {
        Some(GgufValue::Floats(scores)) => scores.iter().map(|score| *score as f32).collect(),
        Some(GgufValue::Wholes(scores)) => scores.iter().map(|score| *score as f32).collect(),
        _ => return Err(format!("it has no list {SCORES}")),
    };
    if scores.len() < tokens.len() {
        return Err(format!("{SCORES} has not a score for each token"));
    }
    let pieces = tokens
        .iter()
        .zip(scores)
        .map(|(token, score)| VocabularyPiece {
            text: token.text.clone(),
            score,
            kind: token.kind,
        });
    Ok(pieces.collect())
}

/// A token's text where that is printable ASCII.
fn printable(bytes: &[u8]) -> Option<String> {
    let printable = bytes.iter().all(|byte| matches!(byte, b' '..=b'~'));
    let text = printable.then(|| String::from_utf8(bytes.to_vec()).ok());
    text.flatten().filter(|text| !text.is_empty())
}
