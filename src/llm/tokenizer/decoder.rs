//! Token ids become text one after the other, whole characters only.

use super::Tokenizer;

/// Text from ids that come one after the other. Never gives half a character: its bytes wait until
/// the rest has come.
#[derive(Clone, Debug)]
pub struct Decoder {
    /// Whether encoding put a space before the text and behind each special token.
    space_prefix: bool,
    after_special: bool,
    /// The beginning of a character.
    waiting: Vec<u8>,
}

impl Decoder {
    pub(super) fn new(space_prefix: bool) -> Decoder {
        Decoder {
            space_prefix,
            after_special: true,
            waiting: Vec::new(),
        }
    }

    /// The text that `id` completes.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> String {
        let bytes = tokenizer.vocabulary.bytes(id);
        let mut bytes: &[u8] = &bytes;
        if tokenizer.is_special(id) {
            self.after_special = true;
        } else {
            if self.space_prefix && self.after_special {
                bytes = bytes.strip_prefix(b" ").unwrap_or(bytes);
            }
            self.after_special = false;
        }
        self.waiting.extend_from_slice(bytes);
        self.take()
    }

    /// What waited in vain.
    pub fn finish(&mut self) -> String {
        let half = !self.waiting.is_empty();
        self.waiting.clear();
        if half {
            "\u{fffd}".to_string()
        } else {
            String::new()
        }
    }

    /// The whole characters at the start of what waits; bytes that begin none become U+FFFD.
    fn take(&mut self) -> String {
        let mut text = String::new();
        let mut rest = self.waiting.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(good) => {
                    text.push_str(good);
                    rest = &[];
                    break;
                }
                Err(error) => {
                    let (good, bad) = rest.split_at(error.valid_up_to());
                    text.push_str(std::str::from_utf8(good).unwrap_or_default());
                    let Some(length) = error.error_len() else {
                        rest = bad;
                        break;
                    };
                    text.push(char::REPLACEMENT_CHARACTER);
                    rest = &bad[length..];
                }
            }
        }
        self.waiting = rest.to_vec();
        text
    }
}
