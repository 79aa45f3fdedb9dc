//! Tokens that are found in a text as a whole before it is split into words: control tokens,
//! unknown ones and those that a model's maker defined.

use std::ops::Range;

use aho_corasick::AhoCorasick;

use super::vocabulary::{PieceKind, TokenizerVocabulary};

/// A part of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fragment {
    Text(Range<usize>),
    Token(u32),
}

pub(super) struct ControlTokens {
    /// Longest first, as they are looked for.
    marks: Vec<ControlToken>,
    search: AhoCorasick,
}

struct ControlToken {
    id: u32,
    text: String,
    /// Whether plain text may hold it.
    in_plain: bool,
    /// Whether it swallows the white space behind it.
    strips: bool,
}

impl ControlTokens {
    /// `name` is the model's: Phi-3's tokens swallow white space.
    ///
    /// # Errors
    /// When there are too many to search for.
    pub(super) fn new(
        vocabulary: &TokenizerVocabulary,
        name: &str,
    ) -> Result<ControlTokens, String> {
        let name = name.to_ascii_lowercase();
        let phi3 = ["phi-3", "phi3"].iter().any(|part| name.contains(part));
        let mut marks: Vec<ControlToken> = Vec::new();
        for (id, token) in (0u32..).zip(vocabulary.tokens()) {
            let special = matches!(
                token.kind,
                PieceKind::Control | PieceKind::Unknown | PieceKind::UserDefined
            );
            // An empty token would be found everywhere.
            if special && !token.text.is_empty() {
                let keeps = ["<unk>", "<s>", "<|endoftext|>"].contains(&token.text.as_str());
                marks.push(ControlToken {
                    id,
                    text: token.text.clone(),
                    in_plain: token.kind == PieceKind::UserDefined,
                    strips: phi3 && !keeps,
                });
            }
        }
        marks.sort_by_key(|mark| std::cmp::Reverse(mark.text.len()));
        let search = AhoCorasick::new(marks.iter().map(|mark| &mark.text));
        Ok(ControlTokens {
            search: search.map_err(|error| format!("its special tokens: {error}"))?,
            marks,
        })
    }

    /// Splits `text` at its special tokens: the longest are looked for first, in the whole text, as
    /// llama.cpp does. Without `control` only user-defined tokens are found.
    pub(super) fn partition(&self, text: &str, control: bool) -> Vec<Fragment> {
        let mut fragments = vec![Fragment::Text(0..text.len())];
        for index in self.present(text) {
            let mark = &self.marks[index];
            if control || mark.in_plain {
                fragments = cut(text, fragments, mark);
            }
        }
        fragments.retain(|fragment| *fragment != Fragment::Text(0..0));
        fragments
    }

    /// The marks that occur in `text`, in the order in which they are looked for.
    fn present(&self, text: &str) -> Vec<usize> {
        let mut found = vec![false; self.marks.len()];
        for occurrence in self.search.find_overlapping_iter(text) {
            found[occurrence.pattern().as_usize()] = true;
        }
        let present = found.iter().enumerate().filter(|(_, found)| **found);
        present.map(|(index, _)| index).collect()
    }

    /// Where in `text` a mark begins for which `acts` holds.
    pub(super) fn starts(&self, text: &str, acts: &dyn Fn(u32) -> bool) -> Vec<usize> {
        let found = self.search.find_overlapping_iter(text);
        let acting = found.filter(|found| acts(self.marks[found.pattern().as_usize()].id));
        let mut starts: Vec<usize> = acting.map(|found| found.start()).collect();
        starts.sort_unstable();
        starts.dedup();
        starts
    }

    /// Ids and texts of all.
    pub(super) fn all(&self) -> impl Iterator<Item = (u32, &str)> {
        self.marks.iter().map(|mark| (mark.id, mark.text.as_str()))
    }
}

/// Cuts every fragment of text at each occurrence of `mark`.
fn cut(text: &str, fragments: Vec<Fragment>, mark: &ControlToken) -> Vec<Fragment> {
    let mut parts = Vec::with_capacity(fragments.len());
    for fragment in fragments {
        let Fragment::Text(Range { mut start, end }) = fragment else {
            parts.push(fragment);
            continue;
        };
        while let Some(at) = text[start..end].find(&mark.text) {
            if at > 0 {
                parts.push(Fragment::Text(start..start + at));
            }
            parts.push(Fragment::Token(mark.id));
            start += at + mark.text.len();
            if mark.strips {
                let is_space = |c: char| c.is_ascii_whitespace() || c == '\u{b}';
                start = end - text[start..end].trim_start_matches(is_space).len();
            }
        }
        if start < end {
            parts.push(Fragment::Text(start..end));
        }
    }
    parts
}
