//! CLIP's byte-pair encoding as transformers 5 has it, with words of textual inversion.

use crate::diffusion::DiffusionError;
use crate::diffusion::tokenizer::{Normalizer, TokenizerFiles, clip_bpe, read_merges};
use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use tokenizers::Tokenizer;

/// The merges of the published vocabulary, one a line after the first.
const MERGES: &str = include_str!("../../../assets/clip/merges.txt");
const BEGIN: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";
/// Tokens of a text, begin and end among them.
const LENGTH: usize = 77;

/// The padding token of a published tokenizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PadToken {
    /// The end token: Stable Diffusion 1 and the first text encoder of SDXL.
    End,
    /// `!`, which then is a token by itself wherever it stands: Stable Diffusion 2 and the second
    /// text encoder of SDXL.
    Bang,
}

/// Texts to ids of CLIP's text encoders.
pub struct ClipTokenizer {
    bpe: Tokenizer,
    begin: u32,
    end: u32,
    pad: u32,
    length: usize,
    /// Words of textual inversion, and their ids.
    added: Vec<(String, Range<u32>)>,
}

impl ClipTokenizer {
    /// Reads a `tokenizer` folder: `vocab.json`, `merges.txt`, `tokenizer_config.json` and
    /// `special_tokens_map.json`; newer ones have vocabulary and merges in `tokenizer.json`.
    ///
    /// # Errors
    /// A file that is missing or isn't what its name says.
    pub fn load(dir: &Path) -> Result<Self, DiffusionError> {
        let files = TokenizerFiles::read(dir)?;
        let (path, merges) = read_merges(dir)?;
        Self::of(&files, &merges).map_err(|e| DiffusionError::config(&path, e))
    }

    /// The published vocabulary of 49408 tokens.
    ///
    /// # Errors
    /// None but a vocabulary that was built in damaged.
    pub fn published(pad: PadToken) -> Result<Self, DiffusionError> {
        let vocab = published_vocabulary();
        let id = |token: &str| vocab.get(token).copied().unwrap_or_default();
        let pad = match pad {
            PadToken::End => END,
            PadToken::Bang => "!",
        };
        let files = TokenizerFiles {
            begin: (BEGIN.into(), id(BEGIN)),
            end: (END.into(), id(END)),
            pad: (pad.into(), id(pad)),
            length: LENGTH,
            vocab,
        };
        Self::of(&files, MERGES).map_err(DiffusionError::Tensor)
    }

    fn of(files: &TokenizerFiles, merges: &str) -> tokenizers::Result<Self> {
        let specials = [&*files.begin.0, &*files.end.0, &*files.pad.0];
        Ok(Self {
            bpe: clip_bpe(&files.vocab, merges, &specials, Normalizer::Fast)?,
            begin: files.begin.1,
            end: files.end.1,
            pad: files.pad.1,
            length: files.length,
            added: Vec::new(),
        })
    }

    /// The tokenizer with textual-inversion words added: in a text, the ids of each stand in its
    /// place, whatever its case, and inside other words too.
    pub fn with_added(mut self, added: &[(String, Range<u32>)]) -> Self {
        self.added = added.to_vec();
        // Of words that begin alike, the longest is meant.
        self.added
            .sort_by_key(|(word, _)| std::cmp::Reverse(word.chars().count()));
        self
    }

    /// Tokens of a text with its begin and end.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Ids of the begin, end and padding tokens.
    pub fn special_ids(&self) -> (u32, u32, u32) {
        (self.begin, self.end, self.pad)
    }

    /// The ids of one token, or of an embedding, are one item; without begin, end and padding.
    pub fn items(&self, text: &str) -> Vec<Vec<u32>> {
        let mut items = Vec::new();
        let mut rest = text;
        while let Some((at, length, ids)) = self.first_added(rest) {
            self.plain(&rest[..at], &mut items);
            items.push(ids.collect());
            rest = &rest[at + length..];
        }
        self.plain(rest, &mut items);
        items
    }

    /// The text's ids as diffusers has them: cut or padded to [`ClipTokenizer::length`].
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let mut ids = vec![self.begin];
        ids.extend(self.items(text).into_iter().flatten());
        ids.truncate(self.length - 1);
        ids.push(self.end);
        ids.resize(self.length, self.pad);
        ids
    }

    fn plain(&self, text: &str, items: &mut Vec<Vec<u32>>) {
        // It can't fail but on a text beyond the regular expression engine's limits, of which
        // nothing is left.
        if let Ok(encoding) = self.bpe.encode(text, false) {
            items.extend(encoding.get_ids().iter().map(|id| vec![*id]));
        }
    }

    /// Where the first word of textual inversion stands, how long it is in bytes, and its ids.
    fn first_added(&self, text: &str) -> Option<(usize, usize, Range<u32>)> {
        if self.added.is_empty() {
            return None;
        }
        text.char_indices().find_map(|(at, _)| {
            self.added.iter().find_map(|(word, ids)| {
                let length = begins_with(&text[at..], word)?;
                Some((at, length, ids.clone()))
            })
        })
    }
}

/// How many bytes of `text` are `word`, whatever the case, where it begins so.
fn begins_with(text: &str, word: &str) -> Option<usize> {
    let mut wanted = word.chars().flat_map(char::to_lowercase).peekable();
    wanted.peek()?;
    for (at, c) in text.char_indices() {
        if wanted.peek().is_none() {
            return Some(at);
        }
        for lower in c.to_lowercase() {
            if wanted.next() != Some(lower) {
                return None;
            }
        }
    }
    wanted.peek().is_none().then_some(text.len())
}

/// Bytes as characters, bytes that end a word, merges, begin and end, in that order.
fn published_vocabulary() -> HashMap<String, u32> {
    let bytes = byte_characters();
    let ends: Vec<String> = bytes.iter().map(|byte| format!("{byte}</w>")).collect();
    let merged = MERGES.lines().skip(1).map(|merge| merge.replace(' ', ""));
    let all = bytes.into_iter().chain(ends).chain(merged);
    let specials = [BEGIN, END].into_iter().map(String::from);
    all.chain(specials).zip(0..).collect()
}

/// The characters that stand for the 256 bytes in byte-level vocabularies, in the order of their ids.
pub(in crate::diffusion) fn byte_characters() -> Vec<String> {
    let visible = (0u8..=255).filter(|b| matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff));
    let other = (0u8..=255).filter(|b| !matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff));
    let shifted = (0u32..).map(|i| 256 + i).zip(other).map(|(c, _)| c);
    visible
        .map(u32::from)
        .chain(shifted)
        .filter_map(char::from_u32)
        .map(String::from)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_vocabulary_has_clips_ids() {
        let t = ClipTokenizer::published(PadToken::End).unwrap();
        assert_eq!(t.special_ids(), (49406, 49407, 49407));
        // As in openai/CLIP and transformers.
        let ids = t.encode("a photo of a cat");
        assert_eq!(ids[..8], [49406, 320, 1125, 539, 320, 2368, 49407, 49407]);
        assert_eq!(ids.len(), 77);
        let bang = ClipTokenizer::published(PadToken::Bang).unwrap();
        assert_eq!(bang.special_ids(), (49406, 49407, 0));
        assert_eq!(bang.encode("cat!")[..5], [49406, 2368, 0, 49407, 0]);
        assert_eq!(t.encode("cat!")[..4], [49406, 2368, 256, 49407]);
    }

    #[test]
    fn embeddings_stand_for_their_names_in_any_case() {
        let t = ClipTokenizer::published(PadToken::End).unwrap();
        let added = [
            ("<Thing>".to_string(), 49408..49410),
            ("thi".to_string(), 49410..49411),
        ];
        let t = t.with_added(&added);
        let items = t.items("a <THING> thin cat");
        let n = t.items("n");
        assert_eq!(items[1], [49408, 49409]);
        assert_eq!(items[2], [49410]);
        assert_eq!(items[3], n[0]);
        assert_eq!(items.len(), 5);
        assert_eq!(t.items("THI"), [[49410]]);
        assert!(t.items("").is_empty());
    }

    #[test]
    fn a_long_text_is_cut_and_keeps_its_end() {
        let t = ClipTokenizer::published(PadToken::Bang).unwrap();
        let ids = t.encode(&"cat ".repeat(100));
        assert_eq!((ids.len(), ids[75], ids[76]), (77, 2368, 49407));
    }
}
