//! The split of a text into words before byte-pair merges, which `tokenizer.ggml.pre` names.
//!
//! Each is a list of patterns, applied one after the other to the pieces so far; what lies between
//! two matches is a piece too. llama.cpp's spelling is followed where it differs from that of the
//! model's own tokenizer (tekken and gpt-4o: letters other than a-z and A-Z count as both cases).

use regex::Regex;

/// Contractions of English in any case.
macro_rules! contraction {
    () => {
        r"'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]"
    };
}

/// GPT-2's pattern. Its `\s+(?!\S)` is what [`Pattern::pieces`] makes of `\s+`.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+";
const LLAMA3: &str = concat!(
    contraction!(),
    r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"
);
const QWEN2: &str = concat!(
    contraction!(),
    r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"
);
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{L}--[a-z]]*[\p{L}--[A-Z]]+|[^\r\n\p{L}\p{N}]?[\p{L}--[a-z]]+[\p{L}--[A-Z]]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+";
const GPT4O: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{L}--[a-z]]*[\p{L}--[A-Z]]+(?:",
    contraction!(),
    r")?|[^\r\n\p{L}\p{N}]?[\p{L}--[a-z]]+[\p{L}--[A-Z]]*(?:",
    contraction!(),
    r")?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+"
);

/// A way to split, by the names that files have for it.
struct PreTokenizerRule {
    names: &'static [&'static str],
    patterns: &'static [&'static str],
    /// Whether a piece that is a token as a whole is taken without merging.
    whole_pieces: bool,
    /// Whether a prompt begins with BOS where the file does not say.
    add_bos: bool,
}

const KNOWN: [PreTokenizerRule; 7] = [
    PreTokenizerRule {
        names: &["llama-bpe", "llama3", "llama-v3"],
        patterns: &[LLAMA3],
        whole_pieces: true,
        add_bos: true,
    },
    PreTokenizerRule {
        names: &["smaug-bpe"],
        patterns: &[LLAMA3],
        whole_pieces: false,
        add_bos: false,
    },
    PreTokenizerRule {
        names: &["qwen2", "deepseek-r1-qwen"],
        patterns: &[QWEN2],
        whole_pieces: false,
        add_bos: false,
    },
    PreTokenizerRule {
        names: &["tekken"],
        patterns: &[TEKKEN],
        whole_pieces: true,
        add_bos: true,
    },
    PreTokenizerRule {
        names: &["gpt-4o"],
        patterns: &[GPT4O],
        whole_pieces: false,
        add_bos: false,
    },
    PreTokenizerRule {
        names: &["smollm"],
        patterns: &[r"\p{N}", GPT2],
        whole_pieces: false,
        add_bos: false,
    },
    PreTokenizerRule {
        names: &["default"],
        patterns: &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"],
        whole_pieces: false,
        add_bos: false,
    },
];

/// The split of one vocabulary.
pub(super) struct PreTokenizer {
    patterns: Vec<Pattern>,
    pub(super) whole_pieces: bool,
    pub(super) add_bos: bool,
}

impl PreTokenizer {
    /// The split that `tokenizer.ggml.pre` calls `name`.
    ///
    /// # Errors
    /// When there is none of that name, in words.
    pub(super) fn named(name: &str) -> Result<PreTokenizer, String> {
        let known = KNOWN.iter().find(|known| known.names.contains(&name));
        let known = known.ok_or_else(|| {
            let names: Vec<&str> = KNOWN.iter().map(|known| known.names[0]).collect();
            format!(
                "its tokenizer splits words as {name:?} does, which is not one of {}",
                names.join(", ")
            )
        })?;
        let patterns = known.patterns.iter().map(|text| Pattern::new(text));
        Ok(PreTokenizer {
            patterns: patterns.collect::<Result<_, String>>()?,
            whole_pieces: known.whole_pieces,
            add_bos: known.add_bos,
        })
    }

    /// The pieces of `text`, in order; together they are the text.
    pub(super) fn pieces<'a>(&self, text: &'a str) -> Vec<&'a str> {
        let mut pieces = vec![text];
        for pattern in &self.patterns {
            let parts = pieces.iter().map(|piece| pattern.pieces(piece));
            pieces = parts.flatten().collect();
        }
        pieces.retain(|piece| !piece.is_empty());
        pieces
    }
}

struct Pattern {
    regex: Regex,
    /// Whether it ends in `\s+`, which leaves the last of several spaces to the word behind them.
    spaces: bool,
    /// Whether a line end with the spaces before it is a piece of its own.
    lines: bool,
}

impl Pattern {
    fn new(text: &str) -> Result<Pattern, String> {
        Ok(Pattern {
            regex: Regex::new(text).map_err(|error| error.to_string())?,
            spaces: text.ends_with(r"|\s+"),
            lines: text.contains(r"|\s*[\r\n]+|"),
        })
    }

    fn pieces<'a>(&self, text: &'a str) -> Vec<&'a str> {
        let mut pieces = Vec::new();
        let mut at = 0;
        while let Some(found) = self.regex.find_at(text, at) {
            let (start, mut end) = (found.start(), found.end());
            if self.spaces && end < text.len() {
                end = start + self.before_word(found.as_str());
            }
            if start > at {
                pieces.push(&text[at..start]);
            }
            pieces.push(&text[start..end]);
            at = end;
        }
        pieces.push(&text[at..]);
        pieces
    }

    /// How much of a match is taken where text follows: of several spaces all but the last, which
    /// `\s+(?!\S)` says in a regular expression that looks ahead.
    fn before_word(&self, found: &str) -> usize {
        let last = found.chars().next_back().filter(|c| c.is_whitespace());
        match last {
            Some(last) if found.chars().all(char::is_whitespace) => {
                let shorter = found.len() - last.len_utf8();
                let is_line = self.lines && matches!(last, '\r' | '\n');
                if shorter == 0 || is_line {
                    found.len()
                } else {
                    shorter
                }
            }
            _ => found.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split<'a>(name: &str, text: &'a str) -> Vec<&'a str> {
        PreTokenizer::named(name).unwrap().pieces(text)
    }

    #[test]
    fn each_name_splits_in_its_own_way() {
        let text = "I'LL say: 12345   stars\n\n  ok";
        assert_eq!(
            split("llama-bpe", text),
            [
                "I", "'LL", " say", ":", " ", "123", "45", "  ", " stars", "\n\n", " ", " ok"
            ]
        );
        assert_eq!(split("qwen2", "a 12"), ["a", " ", "1", "2"]);
        assert_eq!(
            split("smollm", "I'LL 12   x"),
            ["I", "'", "LL", " ", "1", "2", "  ", " x"]
        );
        assert_eq!(
            split("tekken", "CamelCase HTTPServer's"),
            ["Camel", "Case", " HTTPServer", "'s"]
        );
        assert_eq!(split("gpt-4o", "The Server's"), ["The", " Server's"]);
        assert_eq!(
            split("default", "a->b 1234"),
            ["a", "->", "b", " ", "123", "4"]
        );
    }

    #[test]
    fn an_unknown_name_is_refused_by_name() {
        let said = PreTokenizer::named("falcon").err().unwrap();
        assert!(
            said.contains("\"falcon\"") && said.contains("tekken"),
            "{said}"
        );
    }

    #[test]
    fn whitespace_of_any_length_is_split_in_linear_time() {
        let text = format!("{}x", " ".repeat(300_000));
        for name in ["llama-bpe", "smollm", "default", "gpt-4o"] {
            assert_eq!(split(name, &text).concat(), text);
        }
    }
}
