//! Byte-level byte-pair encoding: the bytes of a piece of text are merged pair by pair, in the order
//! of the merges in the file.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use super::split::PreTokenizer;
use super::vocabulary::{PieceKind, TokenizerVocabulary};

/// Stands for a byte that has no token of its own.
const NONE: u32 = u32::MAX;

pub(super) struct Bpe {
    split: PreTokenizer,
    /// Ids of the tokens of single bytes.
    bytes: [u32; 256],
    /// Rank and result of each pair of tokens that may be merged.
    merges: HashMap<(u32, u32), (u32, u32)>,
    /// Tokens by their bytes; filled where a whole piece may be one.
    whole: HashMap<Vec<u8>, u32>,
}

impl Bpe {
    /// From the list of merges, each two tokens with a space between.
    ///
    /// # Errors
    /// When a merge is no pair, in words.
    pub(super) fn new(
        vocabulary: &TokenizerVocabulary,
        merges: &[String],
        split: PreTokenizer,
    ) -> Result<Bpe, String> {
        let mut ids: HashMap<&str, u32> = HashMap::new();
        for (id, token) in (0u32..).zip(vocabulary.tokens()) {
            if !matches!(token.kind, PieceKind::Control | PieceKind::Unknown) {
                ids.insert(&token.text, id);
            }
        }
        let mut bytes = [NONE; 256];
        for (byte, letter) in (0u8..=255).zip(letters()) {
            if let Some(id) = ids.get(letter.encode_utf8(&mut [0; 4]) as &str) {
                bytes[usize::from(byte)] = *id;
            }
        }
        let mut known = HashMap::with_capacity(merges.len());
        for (rank, merge) in (0u32..).zip(merges) {
            // A token may begin with the letter that stands for a space, but holds no space.
            let pair = merge
                .split_once(' ')
                .filter(|(a, b)| !a.is_empty() && !b.is_empty());
            let (left, right) =
                pair.ok_or_else(|| format!("the merge {merge:?} of its tokenizer is no pair"))?;
            let joined = format!("{left}{right}");
            let found = [left, right, &joined].map(|text| ids.get(text).copied());
            let [Some(left), Some(right), Some(joined)] = found else {
                return Err(format!(
                    "the merge {merge:?} of its tokenizer is not of tokens that it has"
                ));
            };
            known.entry((left, right)).or_insert((rank, joined));
        }
        let whole = match split.whole_pieces {
            true => ids
                .values()
                .filter(|id| {
                    vocabulary
                        .token(**id)
                        .is_some_and(|t| t.kind != PieceKind::UserDefined)
                })
                .map(|&id| (vocabulary.bytes(id).into_owned(), id))
                .collect(),
            false => HashMap::new(),
        };
        Ok(Bpe {
            split,
            bytes,
            merges: known,
            whole,
        })
    }

    /// Appends the tokens of `text` to `ids`; bytes that have none are left out.
    pub(super) fn encode(&self, text: &str, ids: &mut Vec<u32>) {
        for piece in self.split.pieces(text) {
            match self.whole.get(piece.as_bytes()) {
                Some(id) => ids.push(*id),
                None => self.merge(piece.as_bytes(), ids),
            }
        }
    }

    fn merge(&self, piece: &[u8], ids: &mut Vec<u32>) {
        let mut symbols: Vec<Symbol> = piece
            .iter()
            .enumerate()
            .map(|(at, byte)| Symbol {
                id: self.bytes[usize::from(*byte)],
                previous: at.checked_sub(1),
                next: Some(at + 1).filter(|next| *next < piece.len()),
                gone: false,
            })
            .collect();
        // The lowest rank first, then the leftmost.
        let mut queue = BinaryHeap::new();
        let pair = |symbols: &[Symbol], left: usize, right: usize| {
            let both = (symbols[left].id, symbols[right].id);
            let (rank, joined) = *self.merges.get(&both)?;
            Some(Reverse((rank, left, right, both, joined)))
        };
        for left in 1..symbols.len() {
            queue.extend(pair(&symbols, left - 1, left));
        }
        while let Some(Reverse((_, left, right, both, joined))) = queue.pop() {
            // One of the two may have been merged since.
            let (l, r) = (&symbols[left], &symbols[right]);
            if l.gone || r.gone || l.next != Some(right) || (l.id, r.id) != both {
                continue;
            }
            let next = r.next;
            symbols[right].gone = true;
            symbols[left].id = joined;
            symbols[left].next = next;
            if let Some(next) = next {
                symbols[next].previous = Some(left);
                queue.extend(pair(&symbols, left, next));
            }
            if let Some(previous) = symbols[left].previous {
                queue.extend(pair(&symbols, previous, left));
            }
        }
        let whole = symbols.iter().filter(|symbol| !symbol.gone);
        ids.extend(whole.map(|symbol| symbol.id).filter(|id| *id != NONE));
    }
}

/// A token in a list that merging shortens.
struct Symbol {
    id: u32,
    previous: Option<usize>,
    next: Option<usize>,
    gone: bool,
}

/// The letters that stand for the 256 bytes in byte-level tokens (GPT-2's `bytes_to_unicode`).
pub(super) fn letters() -> [char; 256] {
    let mut letters = ['\0'; 256];
    let mut hidden = 0x100;
    for byte in 0..=255u8 {
        letters[usize::from(byte)] = match byte {
            0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => char::from(byte),
            _ => {
                hidden += 1;
                char::from_u32(hidden - 1).unwrap_or_default()
            }
        };
    }
    letters
}
