//! SmolLM2's tokenizer, built from the lists in the GGUF file: every digit alone, then GPT-2's
//! split into words, then byte-level pair merges.

use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::{AddedToken, Tokenizer as Inner};

use super::LlmError;
use super::gguf::Gguf;

/// `tokenizer.ggml.token_type` of a control token.
const CONTROL: usize = 3;

/// Text to token ids and back.
pub struct Tokenizer {
    inner: Inner,
    /// Each token's text where that is printable ASCII.
    texts: Vec<Option<String>>,
    pub(super) start_of_turn: u32,
    pub(super) end_of_turn: u32,
    end_of_text: u32,
}

impl Tokenizer {
    pub(super) fn read(gguf: &Gguf) -> Result<Tokenizer, LlmError> {
        let kind = (
            gguf.string("tokenizer.ggml.model")?,
            gguf.string("tokenizer.ggml.pre")?,
        );
        if kind != ("gpt2", "smollm") {
            let (model, pre) = kind;
            return Err(gguf.unusable(format!("its tokenizer is {model}/{pre}, not gpt2/smollm")));
        }
        let tokens = gguf.strings("tokenizer.ggml.tokens")?;
        let types = gguf.numbers("tokenizer.ggml.token_type")?;
        let merges = gguf
            .strings("tokenizer.ggml.merges")?
            .into_iter()
            .map(|merge| merge.split_once(' ').map(|(a, b)| (a.into(), b.into())))
            .collect::<Option<Vec<(String, String)>>>()
            .ok_or_else(|| gguf.unusable("its tokenizer's merges are not pairs"))?;
        let ids = (0u32..).zip(&tokens);
        let vocabulary: Vocab = ids.map(|(id, token)| (token.to_string(), id)).collect();
        let damaged = |_| gguf.unusable("its tokenizer's merges do not fit its tokens");
        let model = BPE::builder()
            .vocab_and_merges(vocabulary, merges)
            .build()
            .map_err(damaged)?;
        let id = |token: &str| {
            (0u32..)
                .zip(&tokens)
                .find(|(_, known)| **known == token)
                .map(|(id, _)| id)
                .ok_or_else(|| gguf.unusable(format!("its tokenizer has no {token}")))
        };
        let (start_of_turn, end_of_turn) = (id("<|im_start|>")?, id("<|im_end|>")?);
        let end_of_text = id("<|endoftext|>")?;
        let control: Vec<AddedToken> = tokens
            .iter()
            .zip(types)
            .filter(|(_, kind)| *kind == Some(CONTROL))
            .map(|(token, _)| AddedToken::from(*token, true))
            .collect();
        let mut inner = Inner::new(model);
        inner
            .with_pre_tokenizer(Some(Sequence::new(vec![
                Digits::new(true).into(),
                ByteLevel::new(false, true, true).into(),
            ])))
            .with_decoder(Some(ByteLevel::default()));
        inner.add_special_tokens(&control);
        // What an author types never becomes a control token.
        inner.set_encode_special_tokens(true);
        Ok(Tokenizer {
            inner,
            texts: tokens.iter().map(|token| ascii(token)).collect(),
            start_of_turn,
            end_of_turn,
            end_of_text,
        })
    }

    /// The tokens of `text`, in which nothing is a control token.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        // Byte-level merges can encode every text, so there is no error to tell.
        self.inner
            .encode_fast(text, false)
            .map_or_else(|_| Vec::new(), |encoding| encoding.get_ids().to_vec())
    }

    /// The tokens of a chat template's `text`, in which `<|im_start|>` and `<|im_end|>` are the
    /// control tokens.
    pub fn encode_chat(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        for (index, turn) in text.split("<|im_start|>").enumerate() {
            if index > 0 {
                ids.push(self.start_of_turn);
            }
            for (index, part) in turn.split("<|im_end|>").enumerate() {
                if index > 0 {
                    ids.push(self.end_of_turn);
                }
                ids.extend(self.encode(part));
            }
        }
        ids
    }

    /// The text of `ids`, without control tokens.
    pub fn decode(&self, ids: &[u32]) -> String {
        self.inner.decode(ids, true).unwrap_or_default()
    }

    /// Whether `id` ends what the model has to say.
    pub fn is_end(&self, id: u32) -> bool {
        id == self.end_of_turn || id == self.end_of_text
    }

    /// Every token's text, where that is printable ASCII.
    pub(super) fn texts(&self) -> &[Option<String>] {
        &self.texts
    }
}

/// The text of a byte-level token that is printable ASCII, which all but the space stand for
/// themselves.
fn ascii(token: &str) -> Option<String> {
    token
        .chars()
        .map(|c| match c {
            'Ġ' => Some(' '),
            '!'..='~' => Some(c),
            _ => None,
        })
        .collect()
}
