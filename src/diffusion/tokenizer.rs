//! Captions to token ids: CLIP's byte-pair encoding, or Sprout's list of words.

use super::error::{DiffusionError, read_json, read_text, write_json};
use serde::Deserialize;
use std::collections::HashMap;
use std::path::Path;
use tokenizers::Tokenizer;

/// Turns a caption into ids of a fixed number: begin token, words, end token, padding.
pub struct CaptionTokenizer {
    kind: TokenizerKind,
    begin: u32,
    end: u32,
    pad: u32,
    length: usize,
}

enum TokenizerKind {
    Words(HashMap<String, u32>),
    Bpe(Box<Tokenizer>),
}

const PAD: &str = "[pad]";
const END: &str = "[eos]";
const BEGIN: &str = "[bos]";

/// What we read of `tokenizer_config.json`.
#[derive(Deserialize)]
struct TokenizerConfig {
    model_max_length: usize,
    bos_token: Special,
    eos_token: Special,
    pad_token: Option<Special>,
}

/// What we read of `special_tokens_map.json`, which stands above the other: Stable Diffusion 2.1
/// pads with another token than its `tokenizer_config.json` says.
#[derive(Default, Deserialize)]
struct SpecialTokens {
    bos_token: Option<Special>,
    eos_token: Option<Special>,
    pad_token: Option<Special>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Special {
    Text(String),
    Token { content: String },
}

impl Special {
    fn text(&self) -> &str {
        match self {
            Self::Text(t) | Self::Token { content: t } => t,
        }
    }
}

/// What a `tokenizer` folder says, but for how words are split.
pub(super) struct TokenizerFiles {
    pub vocab: HashMap<String, u32>,
    /// The special tokens and their ids.
    pub begin: (String, u32),
    pub end: (String, u32),
    pub pad: (String, u32),
    /// How many ids every text becomes.
    pub length: usize,
}

/// Vocabulary and merges in one file, as newer versions of transformers write them.
const MERGED: &str = "tokenizer.json";

#[derive(Deserialize)]
struct Merged {
    model: MergedModel,
}

#[derive(Deserialize)]
struct MergedModel {
    vocab: HashMap<String, u32>,
    merges: Vec<Merge>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Line(String),
    Pair(String, String),
}

impl Merged {
    /// The file in `dir`, where vocabulary and merges have no files of their own.
    fn read(dir: &Path) -> Result<Option<Self>, DiffusionError> {
        let path = dir.join(MERGED);
        match dir.join("vocab.json").exists() || !path.exists() {
            true => Ok(None),
            false => read_json(&path).map(Some),
        }
    }
}

/// The file with a tokenizer's merges and its lines, the first of which says nothing.
///
/// # Errors
/// A file that is missing or isn't what its name says.
pub(super) fn read_merges(dir: &Path) -> Result<(std::path::PathBuf, String), DiffusionError> {
    let Some(merged) = Merged::read(dir)? else {
        let path = dir.join("merges.txt");
        let text = read_text(&path)?;
        return Ok((path, text));
    };
    let mut text = String::from("#version\n");
    for merge in merged.model.merges {
        match merge {
            Merge::Line(line) => text.push_str(&line),
            Merge::Pair(a, b) => text.extend([a.as_str(), " ", b.as_str()]),
        }
        text.push('\n');
    }
    Ok((dir.join(MERGED), text))
}

impl TokenizerFiles {
    /// # Errors
    /// A file that is missing or isn't what its name says.
    pub(super) fn read(dir: &Path) -> Result<Self, DiffusionError> {
        let (vocab_path, vocab) = match Merged::read(dir)? {
            Some(merged) => (dir.join(MERGED), merged.model.vocab),
            None => {
                let path = dir.join("vocab.json");
                let vocab: HashMap<String, u32> = read_json(&path)?;
                (path, vocab)
            }
        };
        let config_path = dir.join("tokenizer_config.json");
        let mut config: TokenizerConfig = read_json(&config_path)?;
        let map_path = dir.join("special_tokens_map.json");
        let map: SpecialTokens = match map_path.exists() {
            true => read_json(&map_path)?,
            false => SpecialTokens::default(),
        };
        config.bos_token = map.bos_token.unwrap_or(config.bos_token);
        config.eos_token = map.eos_token.unwrap_or(config.eos_token);
        config.pad_token = map.pad_token.or(config.pad_token);
        let id = |token: &str| {
            vocab.get(token).copied().ok_or_else(|| {
                let why = format!("it lacks the token {token:?} of tokenizer_config.json");
                DiffusionError::config(&vocab_path, why)
            })
        };
        if config.model_max_length < 2 {
            let why = "model_max_length has no room for the begin and end tokens";
            return Err(DiffusionError::config(&config_path, why));
        }
        let known = |token: &Special| -> Result<(String, u32), DiffusionError> {
            Ok((token.text().to_owned(), id(token.text())?))
        };
        let pad = config.pad_token.as_ref().unwrap_or(&config.eos_token);
        Ok(Self {
            begin: known(&config.bos_token)?,
            end: known(&config.eos_token)?,
            pad: known(pad)?,
            length: config.model_max_length,
            vocab,
        })
    }
}

impl CaptionTokenizer {
    /// A list of words, for captions of at most `length` tokens with their begin and end. Ids are
    /// given in the order of `words`, after those of padding (0), end (1) and begin (2).
    pub fn from_words(words: &[String], length: usize) -> Self {
        let mut ids: HashMap<String, u32> = [PAD, END, BEGIN]
            .iter()
            .zip(0..)
            .map(|(t, i)| (t.to_string(), i))
            .collect();
        for word in words.iter().flat_map(|w| split_words(w)) {
            let next = ids.len() as u32;
            ids.entry(word).or_insert(next);
        }
        Self {
            kind: TokenizerKind::Words(ids),
            begin: 2,
            end: 1,
            pad: 0,
            length,
        }
    }

    /// Reads a `tokenizer` folder: `vocab.json` and `tokenizer_config.json`, and `merges.txt`
    /// where it is CLIP's.
    ///
    /// # Errors
    /// A file that is missing or isn't what its name says.
    pub fn load(dir: &Path) -> Result<Self, DiffusionError> {
        let files = TokenizerFiles::read(dir)?;
        let merges_path = dir.join("merges.txt");
        let kind = if merges_path.exists() {
            let specials = [&*files.begin.0, &*files.end.0, &*files.pad.0];
            let merges = read_text(&merges_path)?;
            let bpe = clip_bpe(&files.vocab, &merges, &specials, Normalizer::Slow)
                .map_err(|e| DiffusionError::config(&merges_path, e))?;
            TokenizerKind::Bpe(Box::new(bpe))
        } else {
            TokenizerKind::Words(files.vocab)
        };
        Ok(Self {
            kind,
            begin: files.begin.1,
            end: files.end.1,
            pad: files.pad.1,
            length: files.length,
        })
    }

    /// Writes a list of words as a `tokenizer` folder. CLIP's files are not ours to write.
    ///
    /// # Errors
    /// When the folder can't be written, or the tokenizer isn't a list of words.
    pub fn save(&self, dir: &Path) -> Result<(), DiffusionError> {
        let TokenizerKind::Words(vocab) = &self.kind else {
            let why = "only a list of words can be written";
            return Err(DiffusionError::unwritable(dir, why));
        };
        let ordered: std::collections::BTreeMap<_, _> = vocab.iter().collect();
        write_json(&dir.join("vocab.json"), &ordered)?;
        let config = serde_json::json!({
            "tokenizer_class": "WordLevel",
            "model_max_length": self.length,
            "bos_token": BEGIN,
            "eos_token": END,
            "pad_token": PAD,
        });
        write_json(&dir.join("tokenizer_config.json"), &config)
    }

    /// How many ids every caption becomes.
    pub fn length(&self) -> usize {
        self.length
    }

    /// One more than the largest id.
    pub fn vocab_size(&self) -> usize {
        match &self.kind {
            TokenizerKind::Words(ids) => ids.values().max().map_or(0, |&m| m as usize + 1),
            TokenizerKind::Bpe(t) => t.get_vocab_size(true),
        }
    }

    /// Ids of the begin, end and padding tokens.
    pub fn special_ids(&self) -> (u32, u32, u32) {
        (self.begin, self.end, self.pad)
    }

    /// The caption's ids, padded or cut to [`CaptionTokenizer::length`].
    pub fn encode(&self, caption: &str) -> Vec<u32> {
        self.encode_with_length(caption).0
    }

    /// The ids and how many of them come before the padding.
    pub fn encode_with_length(&self, caption: &str) -> (Vec<u32>, usize) {
        let mut ids = vec![self.begin];
        match &self.kind {
            TokenizerKind::Words(vocab) => ids.extend(
                split_words(caption)
                    .iter()
                    .filter_map(|w| find_word(vocab, w)),
            ),
            // It can't fail but on a text beyond the regular expression engine's limits, of which
            // an empty caption is left.
            TokenizerKind::Bpe(t) => {
                if let Ok(encoding) = t.encode(caption, false) {
                    ids.extend(encoding.get_ids());
                }
            }
        }
        ids.truncate(self.length - 1);
        ids.push(self.end);
        let n = ids.len();
        ids.resize(self.length, self.pad);
        (ids, n)
    }

    /// The words of `caption` that the model doesn't know and therefore doesn't draw; none for
    /// CLIP, which can spell anything.
    pub fn unknown_words(&self, caption: &str) -> Vec<String> {
        match &self.kind {
            TokenizerKind::Words(vocab) => split_words(caption)
                .into_iter()
                .filter(|w| find_word(vocab, w).is_none())
                .collect(),
            TokenizerKind::Bpe(_) => Vec::new(),
        }
    }
}

/// Lower-case words without punctuation and possessive endings.
fn split_words(text: &str) -> Vec<String> {
    let text = text.to_lowercase().replace('’', "'");
    text.split(|c: char| !c.is_alphanumeric() && c != '\'')
        .map(|w| w.trim_matches('\''))
        .map(|w| w.strip_suffix("'s").unwrap_or(w).replace('\'', ""))
        .filter(|w| !w.is_empty())
        .collect()
}

/// The id of a word or of its singular. Unknown words are skipped: a token that training never
/// met would only disturb the others.
fn find_word(vocab: &HashMap<String, u32>, word: &str) -> Option<u32> {
    let endings = [
        ("", ""),
        ("s", ""),
        ("es", ""),
        ("ies", "y"),
        ("ves", "f"),
        ("ves", "fe"),
    ];
    endings
        .iter()
        .filter_map(|(plural, singular)| Some(format!("{}{singular}", word.strip_suffix(plural)?)))
        .find_map(|w| vocab.get(&w).copied())
}

/// How texts are made even before they are split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Normalizer {
    /// As in transformers before its version 5 where ftfy is not installed, with which MiniGPT-5
    /// was published: Chinese characters stand apart.
    Slow,
    /// As in transformers since.
    Fast,
}

/// transformers' `CLIPTokenizer` from its files; `specials` are begin, end and padding.
pub(super) fn clip_bpe(
    vocab: &HashMap<String, u32>,
    merges: &str,
    specials: &[&str],
    normal: Normalizer,
) -> tokenizers::Result<Tokenizer> {
    let merges: Vec<&str> = merges
        .lines()
        .filter(|l| !l.starts_with("#version") && !l.trim().is_empty())
        .collect();
    let mut added: Vec<_> = specials.iter().map(|s| (vocab[*s], *s)).collect();
    added.sort_unstable();
    added.dedup();
    let added: Vec<_> = added
        .iter()
        .map(|(id, content)| {
            serde_json::json!({"id": id, "content": content, "special": true, "normalized": false,
                "single_word": false, "lstrip": false, "rstrip": false})
        })
        .collect();
    let words = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";
    let mut normalizers = vec![
        serde_json::json!({"type": "NFC"}),
        serde_json::json!({"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "}),
        serde_json::json!({"type": "Lowercase"}),
    ];
    if normal == Normalizer::Slow {
        let apart = serde_json::json!({"type": "BertNormalizer", "clean_text": true,
            "handle_chinese_chars": true, "strip_accents": false, "lowercase": false});
        normalizers.insert(0, apart);
    }
    let json = serde_json::json!({
        "version": "1.0",
        "added_tokens": added,
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": words}, "behavior": "Removed", "invert": true},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        ]},
        "model": {"type": "BPE", "dropout": null, "unk_token": specials[1],
            "continuing_subword_prefix": "", "end_of_word_suffix": "</w>", "fuse_unk": false,
            "vocab": vocab, "merges": merges},
    });
    Tokenizer::from_bytes(json.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words() -> CaptionTokenizer {
        let list = ["a", "fox", "wolf", "berry", "on", "the", "left", "snow man"];
        let list: Vec<String> = list.iter().map(std::string::ToString::to_string).collect();
        CaptionTokenizer::from_words(&list, 8)
    }

    #[test]
    fn words_are_found_whatever_their_case_number_and_punctuation() {
        let t = words();
        let plain = t.encode("a fox on the left");
        assert_eq!(plain, [2, 3, 4, 7, 8, 9, 1, 0]);
        assert_eq!(t.encode("A FOX, (on) \"the\" left!"), plain);
        assert_eq!(t.encode("a fox's on the fox’s left")[..4], [2, 3, 4, 7]);
        assert_eq!(t.encode("foxes wolves berries"), t.encode("fox wolf berry"));
        assert_eq!(t.encode("snow-man"), t.encode("snow man"));
    }

    /// As the public folder of Stable Diffusion 2.1 has it.
    #[test]
    fn the_map_of_special_tokens_stands_above_the_configuration() {
        let temp = tempfile::tempdir().unwrap();
        let from = Path::new(env!("CARGO_MANIFEST_DIR"));
        let from = from.join("tests/fixtures/public/checkpoint/sd/tokenizer");
        for entry in std::fs::read_dir(&from).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, temp.path().join(path.file_name().unwrap())).unwrap();
        }
        let config = temp.path().join("tokenizer_config.json");
        let text = std::fs::read_to_string(&config).unwrap();
        let pad = "\"pad_token\": \"!\"";
        assert!(text.contains(pad));
        std::fs::write(
            &config,
            text.replace(pad, "\"pad_token\": \"<|endoftext|>\""),
        )
        .unwrap();
        let read = CaptionTokenizer::load(temp.path()).unwrap();
        assert_eq!(
            read.encode("a man"),
            CaptionTokenizer::load(&from).unwrap().encode("a man")
        );
        std::fs::remove_file(temp.path().join("special_tokens_map.json")).unwrap();
        let (_, eos, pad) = CaptionTokenizer::load(temp.path()).unwrap().special_ids();
        assert_eq!(eos, pad);
    }

    #[test]
    fn unknown_words_are_skipped_and_named() {
        let t = words();
        assert_eq!(t.encode("a quick fox"), t.encode("a fox"));
        assert_eq!(t.unknown_words("a quick fox jumps"), ["quick", "jumps"]);
    }

    #[test]
    fn a_long_caption_keeps_its_end_token() {
        let (ids, n) = words().encode_with_length(&"fox ".repeat(50));
        assert_eq!((ids.len(), n, ids[7]), (8, 8, 1));
    }

    #[test]
    fn a_saved_list_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let t = words();
        t.save(dir.path()).unwrap();
        let back = CaptionTokenizer::load(dir.path()).unwrap();
        assert_eq!(back.special_ids(), t.special_ids());
        assert_eq!(back.vocab_size(), t.vocab_size());
        let caption = "a wolf on the left";
        assert_eq!(back.encode(caption), t.encode(caption));
    }
}
