//! The tokens of a GGUF file: texts, kinds, and those with a meaning of their own.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::sync::LazyLock;

use super::bpe::letters;
pub(super) use crate::llm::sentencepiece::PieceKind;
use crate::llm::sentencepiece::SPACE;
use crate::weights::{GgufHeader, GgufValue};

/// Tokens that end an answer in whatever file they are (llama.cpp's list).
const ENDS: &str = "<|eot_id|> <|im_end|> <|end|> <|return|> <|call|> <|flush|> <|calls|> \
    <end_of_turn> <|endoftext|> </s> <|eom_id|> <EOT> _<EOT> [EOT] [EOS] <|end_of_text|> \
    <end_of_utterance> <eos> <turn|> <|tool_response> <｜end▁of▁sentence｜> [e~[";
/// Marks of code that is filled in, by the key that may name their id: the first of each list that
/// a file has is a control token.
const FILL_IN: [(&str, &str); 3] = [
    (
        "tokenizer.ggml.fim_pre_token_id",
        "<|fim_prefix|> <fim-prefix> <fim_prefix> <｜fim▁begin｜> <PRE> ▁<PRE> <|code_prefix|> <|prefix|>",
    ),
    (
        "tokenizer.ggml.fim_suf_token_id",
        "<|fim_suffix|> <fim-suffix> <fim_suffix> <｜fim▁hole｜> <SUF> ▁<SUF> <|code_suffix|> <|suffix|>",
    ),
    (
        "tokenizer.ggml.fim_mid_token_id",
        "<|fim_middle|> <fim-middle> <fim_middle> <｜fim▁end｜> <MID> ▁<MID> <|code_middle|> <|middle|>",
    ),
];
/// The same of those that end an answer too.
const FILL_IN_ENDS: [(&str, &str); 3] = [
    (
        "tokenizer.ggml.fim_pad_token_id",
        "<|fim_pad|> <fim-pad> <fim_pad> <PAD> [PAD]",
    ),
    (
        "tokenizer.ggml.fim_rep_token_id",
        "<|fim_repo|> <|repo_name|> <fim-repo> <REPO> <reponame>",
    ),
    ("tokenizer.ggml.fim_sep_token_id", "<|file_sep|>"),
];
/// Marks of gpt-oss's messages, which llama.cpp reads in plain text as well.
const HARMONY: [&str; 4] = ["<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"];

#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) text: String,
    pub(super) kind: PieceKind,
}

pub(super) struct TokenizerVocabulary {
    tokens: Vec<Token>,
    /// Whether a token's letters stand for bytes.
    byte_level: bool,
    pub(super) bos: Option<u32>,
    pub(super) eos: Option<u32>,
    /// Tokens that end an answer.
    pub(super) ends: BTreeSet<u32>,
}

impl TokenizerVocabulary {
    /// Reads texts and kinds, and settles which tokens are control tokens as llama.cpp does.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub(super) fn read(
        header: &GgufHeader,
        byte_level: bool,
    ) -> Result<TokenizerVocabulary, String> {
        const TOKENS: &str = "tokenizer.ggml.tokens";
        const KINDS: &str = "tokenizer.ggml.token_type";
        let Some(GgufValue::Strings(texts)) = header.metadata.get(TOKENS) else {
            return Err("it has no list of tokens".to_string());
        };
        let kinds: Vec<PieceKind> = match header.metadata.get(KINDS) {
            None => vec![PieceKind::Normal; texts.len()],
            Some(GgufValue::Wholes(kinds)) if kinds.len() >= texts.len() => {
                let kind =
                    |number: &i128| u64::try_from(*number).ok().and_then(PieceKind::from_number);
                // Kinds that are not known are llama.cpp's "undefined": never recognised in text.
                let kinds = kinds
                    .iter()
                    .map(|number| kind(number).unwrap_or(PieceKind::Unused));
                kinds.collect()
            }
            Some(_) => return Err(format!("{KINDS} is not a list of a kind for each token")),
        };
        let tokens = texts.iter().zip(kinds);
        let tokens = tokens.map(|(text, kind)| Token {
            text: text.clone(),
            kind,
        });
        let mut vocabulary = TokenizerVocabulary {
            tokens: tokens.collect(),
            byte_level,
            bos: None,
            eos: None,
            ends: BTreeSet::new(),
        };
        vocabulary.settle(header);
        Ok(vocabulary)
    }

    fn settle(&mut self, header: &GgufHeader) {
        let mut ids: HashMap<String, u32> = HashMap::new();
        for (id, token) in (0u32..).zip(&self.tokens) {
            ids.entry(token.text.clone()).or_insert(id);
        }
        let by_key = |key: &str| {
            let id = header.whole(key).and_then(|id| u32::try_from(id).ok());
            id.filter(|id| (*id as usize) < self.tokens.len())
        };
        let by_names = |names: &str| {
            names
                .split(' ')
                .filter_map(|name| ids.get(name))
                .min()
                .copied()
        };
        // Files of SentencePiece's kind may leave out what is the same in all of them.
        let usual = |id: u32| Some(id).filter(|_| !self.byte_level);
        let bos = by_key("tokenizer.ggml.bos_token_id").or(usual(1));
        let eos = by_key("tokenizer.ggml.eos_token_id").or(usual(2));
        let mut control = BTreeSet::new();
        for (key, names) in FILL_IN {
            control.extend(by_key(key).is_none().then(|| by_names(names)).flatten());
        }
        let mut ends = BTreeSet::new();
        for (key, names) in FILL_IN_ENDS {
            ends.extend(by_key(key).or_else(|| by_names(names)));
        }
        ends.extend(ENDS.split_whitespace().filter_map(|name| ids.get(name)));
        control.extend(ends.iter());
        for key in ["eot", "eom"] {
            ends.extend(by_key(&format!("tokenizer.ggml.{key}_token_id")));
        }
        ends.extend(eos);
        let has = |name: &str| ids.get(name).copied();
        let harmony = (has("<|return|>"), has("<|call|>").or(has("<|calls|>")));
        let end = has("<|end|>").filter(|_| matches!(harmony, (Some(_), Some(_))));
        let ends_message = end.filter(|end| ends.remove(end));
        let plain = HARMONY
            .iter()
            .filter_map(|name| has(name))
            .chain(ends_message);
        let plain: Vec<u32> = plain.collect();
        for id in control {
            self.tokens[id as usize].kind = PieceKind::Control;
        }
        for id in plain {
            self.tokens[id as usize].kind = PieceKind::UserDefined;
        }
        (self.bos, self.eos, self.ends) = (bos, eos, ends);
    }

    pub(super) fn tokens(&self) -> &[Token] {
        &self.tokens
    }

    pub(super) fn token(&self, id: u32) -> Option<&Token> {
        self.tokens.get(id as usize)
    }

    /// The first token with this text.
    pub(super) fn id(&self, text: &str) -> Option<u32> {
        let found = self.tokens.iter().position(|token| token.text == text);
        found.and_then(|id| u32::try_from(id).ok())
    }

    /// What a token stands for in a text; nothing where it is no text.
    pub(super) fn bytes(&self, id: u32) -> Cow<'_, [u8]> {
        let Some(token) = self.token(id) else {
            return Cow::Borrowed(&[]);
        };
        match token.kind {
            PieceKind::Control | PieceKind::Unknown => Cow::Borrowed(&[]),
            PieceKind::UserDefined => Cow::Borrowed(token.text.as_bytes()),
            PieceKind::Byte => Cow::Owned(byte(&token.text).into_iter().collect()),
            PieceKind::Normal | PieceKind::Unused if self.byte_level => {
                let bytes: Option<Vec<u8>> = token.text.chars().map(byte_of_letter).collect();
                bytes.map_or(Cow::Borrowed(token.text.as_bytes()), Cow::Owned)
            }
            PieceKind::Normal | PieceKind::Unused => {
                Cow::Owned(token.text.replace(SPACE, " ").into_bytes())
            }
        }
    }
}

/// The byte that a piece such as `<0x0A>` names.
fn byte(text: &str) -> Option<u8> {
    let hex = text.strip_prefix("<0x")?.strip_suffix('>')?;
    u8::from_str_radix(hex, 16).ok()
}

fn byte_of_letter(letter: char) -> Option<u8> {
    static BYTES: LazyLock<HashMap<char, u8>> =
        LazyLock::new(|| letters().into_iter().zip(0..=255).collect());
    BYTES.get(&letter).copied()
}
