//! LLaMA's tokenizer as MiniGPT-5 uses it: the slow `LlamaTokenizer` of transformers 4.31 with
//! `legacy=True`, and the tokens that MiniGPT-5 adds: its vokens and `<ImageHere>`.
//!
//! Text is cut at added and special tokens, and each stretch between them is encoded by itself,
//! with a space of its own before it. Tokens that were added as plain strings, as the vokens are,
//! swallow the whitespace on both sides.

use crate::cause::Cause;
use std::path::Path;

use serde_json::Value;

use super::LlmError;
use super::gguf::Gguf;
use super::sentencepiece::{PieceKind, SentencePiece, VocabularyPiece};
use super::shield::{SHIELD, unshielded};

/// Vokens that stand for one picture in the published model.
pub const VOKENS: usize = 8;

/// A token that text is cut at.
#[derive(Clone, Debug)]
struct Cut {
    text: String,
    id: u32,
    /// Whether it swallows the whitespace before and after it.
    strips: (bool, bool),
    /// Whether decoding without special tokens leaves it out.
    special: bool,
    /// Whether it comes on top of the SentencePiece model.
    added: bool,
}

/// Text to token ids and back.
pub struct LlamaTokenizer {
    pieces: SentencePiece,
    cuts: Vec<Cut>,
    /// Number of tokens, those of MiniGPT-5 included.
    len: u32,
    bos: u32,
    eos: u32,
    vokens: u32,
}

impl LlamaTokenizer {
    /// Reads `tokenizer.model` in `dir`, and what `special_tokens_map.json`,
    /// `tokenizer_config.json` and `added_tokens.json` beside it add, where they are there.
    ///
    /// # Errors
    /// When a file is missing or damaged, or the tokenizer is not of LLaMA's kind.
    pub fn load(dir: &Path) -> Result<LlamaTokenizer, LlmError> {
        let path = dir.join("tokenizer.model");
        let bytes = crate::files::read_whole(&path).map_err(|error| LlmError::Unreadable {
            path: path.clone(),
            reason: error.into(),
        })?;
        let unusable = |reason: Cause| LlmError::Tokenizer {
            path: path.clone(),
            reason,
        };
        let pieces = SentencePiece::read(&bytes).map_err(|e| unusable(e.into()))?;
        let map = read_json(&dir.join("special_tokens_map.json"))?;
        let config = read_json(&dir.join("tokenizer_config.json"))?;
        let mut added: Vec<(u32, String)> = Vec::new();
        for (token, id) in read_json(&dir.join("added_tokens.json"))?
            .as_object()
            .into_iter()
            .flatten()
        {
            let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
            let id =
                id.ok_or_else(|| unusable(format!("the id of {token} is no number").into()))?;
            added.push((id, token.clone()));
        }
        added.sort();
        let special = ["bos_token", "eos_token", "unk_token"].map(|name| {
            let value = [&map, &config].into_iter().find_map(|file| file.get(name));
            value.map_or((None, (false, false)), special_token)
        });
        LlamaTokenizer::new(pieces, special, added).map_err(|e| unusable(e.into()))
    }

    /// Takes the tokenizer from the lists in the GGUF file `path`.
    ///
    /// # Errors
    /// When the file cannot be read, or its tokenizer is not of LLaMA's kind.
    pub fn from_gguf(path: &Path) -> Result<LlamaTokenizer, LlmError> {
        let gguf = &Gguf::open(path.to_path_buf())?;
        let kind = gguf.string("tokenizer.ggml.model")?;
        if kind != "llama" {
            return Err(gguf.unusable(format!("its tokenizer is {kind}, not llama")));
        }
        let tokens = gguf.strings("tokenizer.ggml.tokens")?;
        let scores = gguf.floats("tokenizer.ggml.scores")?;
        let kinds = gguf.numbers("tokenizer.ggml.token_type")?;
        if tokens.len() != scores.len() || tokens.len() != kinds.len() {
            return Err(gguf.unusable("its tokenizer's lists are not of one length"));
        }
        let mut pieces = Vec::with_capacity(tokens.len());
        for ((text, score), kind) in tokens.iter().zip(scores).zip(kinds) {
            let kind = kind.and_then(|kind| PieceKind::from_number(kind as u64));
            pieces.push(VocabularyPiece {
                text: text.to_string(),
                score,
                kind: kind.ok_or_else(|| gguf.unusable("its tokenizer has an unknown type"))?,
            });
        }
        // What came on top of the SentencePiece model is written as user-defined at the end.
        let is_added = |piece: &VocabularyPiece| piece.kind == PieceKind::UserDefined;
        let model = pieces.len() - pieces.iter().rev().take_while(|p| is_added(p)).count();
        let added = pieces.split_off(model);
        let added = (0u32..).skip(model).zip(added);
        let added = added.map(|(id, piece)| (id, piece.text)).collect();
        SentencePiece::new(pieces, String::new())
            .and_then(|pieces| LlamaTokenizer::new(pieces, Default::default(), added))
            .map_err(|reason| gguf.unusable(reason))
    }

    /// `special` is text and stripping of bos, eos and unk; `added` comes after the pieces.
    fn new(
        pieces: SentencePiece,
        special: [(Option<String>, (bool, bool)); 3],
        added: Vec<(u32, String)>,
    ) -> Result<LlamaTokenizer, String> {
        pieces.check_kinds()?;
        let mut cuts = Vec::new();
        for ((text, strips), usual) in special.into_iter().zip(["<s>", "</s>", "<unk>"]) {
            // Some folders have empty texts here (decapoda's).
            let text = text.filter(|text| !text.is_empty());
            let text = text.unwrap_or_else(|| usual.to_string());
            let id = pieces
                .id(&text)
                .ok_or_else(|| format!("it has no {text}"))?;
            cuts.push(Cut {
                text,
                id,
                strips,
                special: true,
                added: false,
            });
        }
        let (bos, eos) = (cuts[0].id, cuts[1].id);
        let mut len = u32::try_from(pieces.len()).map_err(|_| "it is too large")?;
        for (id, text) in added {
            // Folders name tokens of the model itself among the added ones, too.
            if pieces.id(&text) == Some(id) {
                continue;
            }
            // An alias for a token that is there, such as a padding token that is `<unk>`.
            let alias = id < len;
            if !alias && id != len {
                return Err(format!("the id of the added token {text} is not {len}"));
            }
            cuts.push(added_token(text, id, false));
            len += u32::from(!alias);
        }
        let tokenizer = LlamaTokenizer {
            pieces,
            cuts,
            len,
            bos,
            eos,
            vokens: 0,
        };
        Ok(tokenizer.append(VOKENS))
    }

    /// The tokenizer with `vokens` vokens for a picture in place of [`VOKENS`].
    #[must_use]
    pub fn with_vokens(mut self, vokens: usize) -> Self {
        let ours = self.vokens + 1;
        self.cuts.truncate(self.cuts.len() - ours as usize);
        self.len -= ours;
        self.append(vokens)
    }

    /// Adds `[IMG0]` and the rest, then `<ImageHere>`, behind all other tokens.
    fn append(mut self, vokens: usize) -> Self {
        let names = (0..vokens).map(|i| format!("[IMG{i}]"));
        self.vokens = 0;
        for text in names.chain(["<ImageHere>".to_string()]) {
            self.cuts.push(added_token(text, self.len, true));
            self.len += 1;
            self.vokens += 1;
        }
        self.vokens -= 1;
        self
    }

    /// Number of tokens, those that MiniGPT-5 adds included.
    pub fn vocabulary(&self) -> usize {
        self.len as usize
    }

    /// Begins every text.
    pub fn bos(&self) -> u32 {
        self.bos
    }

    /// Ends a text, and fills up batches.
    pub fn eos(&self) -> u32 {
        self.eos
    }

    /// `[IMG0]` and those that follow it.
    pub fn vokens(&self) -> Vec<u32> {
        let end = self.len - 1;
        (end - self.vokens..end).collect()
    }

    /// `<ImageHere>`, where the embeddings of a picture go.
    pub fn image_here(&self) -> u32 {
        self.len - 1
    }

    /// The tokens of `text`, without one that begins or ends it; shields in it keep words from
    /// being a token and are left out.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        let mut strip_start = false;
        let mut rest = text;
        loop {
            let (stretch, cut, after) = match self.next_cut(rest) {
                Some((at, cut)) => (&rest[..at], Some(cut), &rest[at + cut.text.len()..]),
                None => (rest, None, ""),
            };
            let mut stretch = stretch;
            if strip_start {
                stretch = stretch.trim_start_matches(is_python_space);
            }
            if cut.is_some_and(|cut| cut.strips.0) {
                stretch = stretch.trim_end_matches(is_python_space);
            }
            match stretch.contains(SHIELD) {
                true => ids.extend(self.pieces.encode(&unshielded(stretch))),
                false => ids.extend(self.pieces.encode(stretch)),
            }
            let Some(cut) = cut else {
                return ids;
            };
            ids.push(cut.id);
            strip_start = cut.strips.1;
            rest = after;
        }
    }

    /// The first place in `text` where a token begins, and the longest one that does.
    fn next_cut(&self, text: &str) -> Option<(usize, &Cut)> {
        text.char_indices().find_map(|(at, _)| {
            let here = self
                .cuts
                .iter()
                .filter(|cut| !cut.text.is_empty() && text[at..].starts_with(&cut.text));
            here.max_by_key(|cut| cut.text.len()).map(|cut| (at, cut))
        })
    }

    /// The text of `ids`, with single spaces around added tokens. Ids that are no token are
    /// passed over.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        let mut parts: Vec<String> = Vec::new();
        let mut plain: Vec<u32> = Vec::new();
        for &id in ids {
            let cut = self.cuts.iter().find(|cut| cut.id == id);
            match cut {
                Some(cut) if skip_special && cut.special => {}
                Some(cut) if cut.added => {
                    if !plain.is_empty() {
                        parts.push(self.decode_plain(&plain));
                        plain.clear();
                    }
                    parts.push(cut.text.clone());
                }
                _ => plain.push(id),
            }
        }
        if !plain.is_empty() {
            parts.push(self.decode_plain(&plain));
        }
        parts.join(" ")
    }

    /// Pieces with bos, eos and unk among them (`LlamaTokenizer.convert_tokens_to_string`).
    fn decode_plain(&self, ids: &[u32]) -> String {
        let mut text = String::new();
        let mut from = 0;
        let mut after_special = false;
        for (at, &id) in ids.iter().enumerate() {
            let Some(cut) = self.cuts.iter().find(|cut| cut.id == id) else {
                after_special = false;
                continue;
            };
            if !after_special && at != 0 {
                text.push(' ');
            }
            text.push_str(&self.pieces.decode(&ids[from..at]));
            text.push_str(&cut.text);
            after_special = true;
            from = at + 1;
        }
        text.push_str(&self.pieces.decode(&ids[from..]));
        text
    }
}

/// A token that was added as a plain string.
fn added_token(text: String, id: u32, special: bool) -> Cut {
    Cut {
        text,
        id,
        strips: (true, true),
        special,
        added: true,
    }
}

/// Text and stripping of a special token: an object says them, a plain string strips.
fn special_token(value: &Value) -> (Option<String>, (bool, bool)) {
    match value {
        Value::String(text) => (Some(text.clone()), (true, true)),
        value => {
            let flag = |name| value.get(name).and_then(Value::as_bool).unwrap_or(false);
            let text = value.get("content").and_then(Value::as_str);
            (text.map(str::to_owned), (flag("lstrip"), flag("rstrip")))
        }
    }
}

/// The JSON in `path`; null when there is no such file.
fn read_json(path: &Path) -> Result<Value, LlmError> {
    let bytes = match crate::files::read_whole(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Value::Null),
        Err(error) => {
            return Err(LlmError::Unreadable {
                path: path.to_path_buf(),
                reason: error.into(),
            });
        }
    };
    serde_json::from_slice(&bytes).map_err(|error| LlmError::Tokenizer {
        path: path.to_path_buf(),
        reason: error.into(),
    })
}

/// What Python's `str.strip` takes away: Unicode's white space and four separators.
fn is_python_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn fixtures() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/public")
    }

    fn ids(value: &Value) -> Vec<u32> {
        serde_json::from_value(value.clone()).unwrap()
    }

    #[test]
    fn every_recorded_text_is_encoded_and_decoded_as_the_reference_does() {
        let tokenizer = LlamaTokenizer::load(&fixtures().join("checkpoint/llama")).unwrap();
        let recorded = fixtures().join("vectors/tokenizer_llama.json");
        let recorded: Value = serde_json::from_slice(&std::fs::read(recorded).unwrap()).unwrap();
        assert_eq!(
            tokenizer.vocabulary() as u64,
            recorded["len"].as_u64().unwrap()
        );
        assert_eq!(tokenizer.vokens(), ids(&recorded["voken_ids"]));
        assert_eq!(tokenizer.image_here(), recorded["image_here_id"]);
        assert_eq!(tokenizer.bos(), recorded["bos"]);
        assert_eq!(tokenizer.eos(), recorded["eos"]);
        let cases = recorded["cases"].as_array().unwrap();
        assert!(cases.len() >= 36);
        for case in cases {
            let text = case["text"].as_str().unwrap();
            let expected = ids(&case["ids"]);
            assert_eq!(tokenizer.encode(text), expected, "{text:?}");
            assert_eq!(
                tokenizer.decode(&expected, false),
                case["decoded"],
                "{text:?}"
            );
            let skipped = tokenizer.decode(&expected, true);
            assert_eq!(skipped, case["decoded_skip_special"], "{text:?}");
        }
    }

    #[test]
    fn a_picture_may_have_fewer_or_more_vokens() {
        let load = || LlamaTokenizer::load(&fixtures().join("checkpoint/llama")).unwrap();
        let usual = load();
        let first = usual.vokens()[0];
        for vokens in [0, 1, 5, 12] {
            let tokenizer = load().with_vokens(vokens);
            let end = first + vokens as u32;
            assert_eq!(tokenizer.vokens(), (first..end).collect::<Vec<u32>>());
            assert_eq!(tokenizer.image_here(), end);
            assert_eq!(tokenizer.vocabulary() as u32, end + 1);
            assert_eq!(tokenizer.encode("<ImageHere>"), [end]);
        }
        let five = load().with_vokens(5);
        assert_eq!(five.encode("[IMG4]"), [first + 4]);
        // What is no voken there is text.
        assert!(five.encode("[IMG5]").len() > 1);
        assert_eq!(
            load().with_vokens(5).with_vokens(8).vokens(),
            usual.vokens()
        );
    }

    #[test]
    fn a_damaged_tokenizer_is_one_sentence() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("tokenizer.model");
        let load = || match LlamaTokenizer::load(temp.path()) {
            Ok(_) => panic!("was loaded"),
            Err(error) => error.to_string(),
        };
        assert!(load().contains("tokenizer.model cannot be read"));
        let whole = std::fs::read(fixtures().join("checkpoint/llama/tokenizer.model")).unwrap();
        std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        assert!(load().contains("is no SentencePiece model"));
        // Every other length must be told as well, or be a model that merely knows less.
        for length in (0..whole.len()).step_by(97) {
            std::fs::write(&path, &whole[..length]).unwrap();
            let _ = LlamaTokenizer::load(temp.path());
        }
        std::fs::write(&path, &whole).unwrap();
        std::fs::write(temp.path().join("added_tokens.json"), "{\"[PAD]\": 900}").unwrap();
        assert!(load().contains("[PAD] is not 600"));
    }

    #[test]
    fn usual_folders_are_read() {
        let temp = tempfile::tempdir().unwrap();
        let model = fixtures().join("checkpoint/llama/tokenizer.model");
        std::fs::copy(model, temp.path().join("tokenizer.model")).unwrap();
        let write = |name: &str, text: &str| std::fs::write(temp.path().join(name), text).unwrap();
        let load = || LlamaTokenizer::load(temp.path()).unwrap();
        let plain = load();
        write(
            "special_tokens_map.json",
            r#"{"bos_token": "", "eos_token": "", "unk_token": ""}"#,
        );
        write(
            "added_tokens.json",
            r#"{"<unk>": 0, "<s>": 1, "</s>": 2, "[PAD]": 600}"#,
        );
        let padded = load();
        assert_eq!((padded.bos(), padded.eos()), (plain.bos(), plain.eos()));
        assert_eq!(padded.vocabulary(), plain.vocabulary() + 1);
        assert_eq!(padded.encode("[PAD]"), [600]);
        // An empty token is found nowhere, and does not stop anything.
        write("added_tokens.json", r#"{"": 600, "<pad>": 0}"#);
        let odd = load();
        assert_eq!(odd.encode("they went"), plain.encode("they went"));
        assert_eq!(odd.vocabulary(), plain.vocabulary() + 1);
    }
}
