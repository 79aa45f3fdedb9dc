//! SentencePiece's byte-pair encoding (`bpe_model.cc`, `sentencepiece_processor.cc`), as LLaMA's
//! `tokenizer.model` and the lists in GGUF files configure it: no normalisation, unknown characters
//! as bytes, and mostly a space before the text.

mod proto;

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};

/// Stands for a space inside pieces.
pub(super) const SPACE: char = '\u{2581}';

/// What a piece is for; the numbers are those of `ModelProto.SentencePiece.Type` and of
/// `tokenizer.ggml.token_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PieceKind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

impl PieceKind {
    pub(super) fn from_number(number: u64) -> Option<PieceKind> {
        Some(match number {
            1 => PieceKind::Normal,
            2 => PieceKind::Unknown,
            3 => PieceKind::Control,
            4 => PieceKind::UserDefined,
            5 => PieceKind::Unused,
            6 => PieceKind::Byte,
            _ => return None,
        })
    }
}

#[derive(Clone, Debug)]
pub(super) struct VocabularyPiece {
    pub(super) text: String,
    /// Pairs with a higher score merge first.
    pub(super) score: f32,
    pub(super) kind: PieceKind,
}

/// Text to pieces and back.
pub(super) struct SentencePiece {
    pieces: Vec<VocabularyPiece>,
    /// Ids of the pieces that text is merged to.
    normal: HashMap<String, u32>,
    /// Ids of the pieces for single bytes.
    bytes: Vec<u32>,
    unknown_surface: String,
}

impl SentencePiece {
    /// Reads a `tokenizer.model`.
    ///
    /// # Errors
    /// What is wrong, in words: it is no such file, or it asks for another algorithm.
    pub(super) fn read(bytes: &[u8]) -> Result<SentencePiece, String> {
        let model = proto::read(bytes).ok_or("it is no SentencePiece model or is damaged")?;
        for (unlike, what) in [
            (model.model_type != 2, "it is not a byte-pair model"),
            (!model.byte_fallback, "it has no pieces for bytes"),
            (model.charsmap, "it rewrites characters"),
            (!model.dummy_prefix, "it puts no space before the text"),
            (model.remove_extra_whitespaces, "it removes spaces"),
            (!model.escape_whitespaces, "it keeps spaces as they are"),
        ] {
            if unlike {
                return Err(format!("{what}, unlike LLaMA's"));
            }
        }
        SentencePiece::new(model.pieces, model.unknown_surface)
    }

    /// From a list of pieces, in the order of their ids.
    ///
    /// # Errors
    /// When a byte has no piece, or a score is no number.
    pub(super) fn new(
        pieces: Vec<VocabularyPiece>,
        unknown_surface: String,
    ) -> Result<SentencePiece, String> {
        let (mut normal, mut bytes) = (HashMap::new(), vec![None; 256]);
        for (id, piece) in (0u32..).zip(&pieces) {
            if !piece.score.is_finite() {
                return Err(format!(
                    "the score of its piece {} is no number",
                    piece.text
                ));
            }
            match piece.kind {
                PieceKind::Normal | PieceKind::UserDefined | PieceKind::Unused => {
                    normal.insert(piece.text.clone(), id);
                }
                PieceKind::Byte => {
                    let byte = piece
                        .text
                        .strip_prefix("<0x")
                        .and_then(|t| t.strip_suffix('>'));
                    let byte = byte.and_then(|hex| u8::from_str_radix(hex, 16).ok());
                    let byte =
                        byte.ok_or_else(|| format!("its piece {} is no byte", piece.text))?;
                    bytes[usize::from(byte)] = Some(id);
                }
                PieceKind::Unknown | PieceKind::Control => {}
            }
        }
        let bytes = bytes.into_iter().collect::<Option<Vec<u32>>>();
        let bytes = bytes.ok_or("it lacks the piece of a byte, unlike LLaMA's")?;
        Ok(SentencePiece {
            pieces,
            normal,
            bytes,
            unknown_surface,
        })
    }

    /// # Errors
    /// When there is a kind of piece that LLaMA does not have.
    pub(super) fn check_kinds(&self) -> Result<(), String> {
        let strange = |piece: &&VocabularyPiece| {
            matches!(piece.kind, PieceKind::UserDefined | PieceKind::Unused)
        };
        match self.pieces.iter().find(strange) {
            Some(VocabularyPiece { text, .. }) => {
                Err(format!("its piece {text} is of no kind that LLaMA's has"))
            }
            None => Ok(()),
        }
    }

    /// Number of pieces.
    pub(super) fn len(&self) -> usize {
        self.pieces.len()
    }

    /// The id of the piece with this text, whatever its kind.
    pub(super) fn id(&self, text: &str) -> Option<u32> {
        let found = (0u32..).zip(&self.pieces).find(|(_, p)| p.text == text);
        self.normal.get(text).copied().or(found.map(|(id, _)| id))
    }

    /// The pieces of `text`, which gets a space before it unless it is empty.
    pub(super) fn encode(&self, text: &str) -> Vec<u32> {
        match text.is_empty() {
            true => Vec::new(),
            false => self.encode_after(text, true),
        }
    }

    /// The pieces of `text`, which gets a space before it where `space` says so.
    pub(super) fn encode_after(&self, text: &str, space: bool) -> Vec<u32> {
        let before = if space { " " } else { "" };
        let text = format!("{before}{text}").replace(' ', "\u{2581}");
        let mut ids = Vec::new();
        for piece in self.merge(&text) {
            match self.normal.get(piece) {
                Some(&id) => ids.push(id),
                None => ids.extend(piece.bytes().map(|byte| self.bytes[usize::from(byte)])),
            }
        }
        ids
    }

    /// Merges neighbours, the pair with the highest score first and the leftmost of those, until
    /// no pair is a piece.
    fn merge<'a>(&self, text: &'a str) -> Vec<&'a str> {
        let mut symbols: Vec<Symbol> = text
            .char_indices()
            .enumerate()
            .map(|(index, (start, letter))| Symbol {
                start,
                end: start + letter.len_utf8(),
                previous: index.checked_sub(1),
                next: Some(index + 1),
            })
            .collect();
        if let Some(last) = symbols.last_mut() {
            last.next = None;
        }
        let mut pairs = BinaryHeap::new();
        let pair = |symbols: &[Symbol], left: usize, right: usize| {
            let (start, end) = (symbols[left].start, symbols[right].end);
            let id = *self.normal.get(&text[start..end])?;
            let score = self.pieces.get(id as usize)?.score;
            Some(Pair {
                score,
                left,
                right,
                end,
            })
        };
        for left in 1..symbols.len() {
            pairs.extend(pair(&symbols, left - 1, left));
        }
        while let Some(Pair {
            left, right, end, ..
        }) = pairs.pop()
        {
            // One of the two may have been merged since.
            let (l, r) = (&symbols[left], &symbols[right]);
            if l.is_gone() || r.is_gone() || l.next != Some(right) || r.end != end {
                continue;
            }
            let next = r.next;
            symbols[left].end = end;
            symbols[left].next = next;
            symbols[right].end = symbols[right].start;
            if let Some(next) = next {
                symbols[next].previous = Some(left);
                pairs.extend(pair(&symbols, left, next));
            }
            if let Some(previous) = symbols[left].previous {
                pairs.extend(pair(&symbols, previous, left));
            }
        }
        let whole = symbols.iter().filter(|symbol| !symbol.is_gone());
        whole
            .map(|symbol| &text[symbol.start..symbol.end])
            .collect()
    }

    /// The text of `ids`, without the space that encoding put before it. Ids that are no piece
    /// are passed over.
    pub(super) fn decode(&self, ids: &[u32]) -> String {
        let (mut text, mut bytes) = (String::new(), Vec::new());
        let mut at_start = true;
        for &id in ids {
            let Some(piece) = self.pieces.get(id as usize) else {
                continue;
            };
            if piece.kind == PieceKind::Byte {
                let byte = self.bytes.iter().position(|&known| known == id);
                bytes.extend(byte.and_then(|byte| u8::try_from(byte).ok()));
                continue;
            }
            push_bytes(&mut text, &mut bytes);
            at_start &= text.is_empty();
            match piece.kind {
                PieceKind::Control => {}
                PieceKind::Unknown => text.push_str(&self.unknown_surface),
                _ => {
                    let (mut rest, first) = (piece.text.as_str(), at_start);
                    if let Some(stripped) = rest.strip_prefix(SPACE).filter(|_| first) {
                        rest = stripped;
                        at_start = false;
                    }
                    text.extend(rest.chars().map(|c| if c == SPACE { ' ' } else { c }));
                }
            }
        }
        push_bytes(&mut text, &mut bytes);
        text
    }
}

/// Appends UTF-8 bytes as text; each byte that is part of no character becomes U+FFFD.
fn push_bytes(text: &mut String, bytes: &mut Vec<u8>) {
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        match std::str::from_utf8(rest) {
            Ok(good) => {
                text.push_str(good);
                break;
            }
            Err(error) => {
                let (good, bad) = rest.split_at(error.valid_up_to());
                text.push_str(std::str::from_utf8(good).unwrap_or_default());
                text.push(char::REPLACEMENT_CHARACTER);
                rest = &bad[1..];
            }
        }
    }
    bytes.clear();
}

/// A stretch of the text, in a list that merging shortens; empty once merged into its left.
struct Symbol {
    start: usize,
    end: usize,
    previous: Option<usize>,
    next: Option<usize>,
}

impl Symbol {
    fn is_gone(&self) -> bool {
        self.start == self.end
    }
}

/// Two neighbours that make a piece.
struct Pair {
    score: f32,
    left: usize,
    right: usize,
    /// Where the right one ended when the pair was found.
    end: usize,
}

impl Ord for Pair {
    fn cmp(&self, other: &Pair) -> Ordering {
        // Scores are finite; 0 and -0 are the same.
        let by_score = self.score.partial_cmp(&other.score);
        let by_score = by_score.unwrap_or(Ordering::Equal);
        by_score.then(other.left.cmp(&self.left))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Pair) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Pair {
    fn eq(&self, other: &Pair) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Pair {}
