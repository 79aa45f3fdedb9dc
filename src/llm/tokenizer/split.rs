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

/// Those of GPT-2's kind, one after the other, behind each digit alone.
const DIGITS_GPT2: &[&str] = &[r"\p{N}", GPT2];
/// Words of Finnish and other Nordic models.
const NORDIC: &str = r" ?[^(\s|.,!?…。，、।۔،)]+";
/// Letters of the Latin, Greek, Cyrillic, Armenian, Georgian and Cherokee scripts, and their kin, with
/// a space before them.
const LATIN_AND_KIN: &str = concat!(
    r"\s?[A-Za-z",
    r"\x{b5}\x{c0}-\x{d6}\x{d8}-\x{f6}\x{f8}-\x{1ba}\x{1bc}-\x{1bf}\x{1c4}-\x{293}",
    r"\x{295}-\x{2af}\x{370}-\x{373}\x{376}\x{377}\x{37b}-\x{37d}\x{37f}\x{386}\x{388}-\x{38a}",
    r"\x{38c}\x{38e}-\x{3a1}\x{3a3}-\x{3f5}\x{3f7}-\x{481}\x{48a}-\x{52f}\x{531}-\x{556}",
    r"\x{10a0}-\x{10c5}\x{13a0}-\x{13f5}\x{13f8}-\x{13fd}\x{1c90}-\x{1cba}\x{1cbd}-\x{1cbf}",
    r"\x{1d00}-\x{1d2b}\x{1d6b}-\x{1d77}\x{1d79}-\x{1d9a}\x{1e00}-\x{1f15}\x{1f18}-\x{1f1d}",
    r"\x{1f20}-\x{1f45}\x{1f48}-\x{1f4d}\x{1f50}-\x{1f57}\x{1f59}\x{1f5b}\x{1f5d}",
    r"\x{1f5f}-\x{1f7d}\x{1f80}-\x{1fb4}\x{1fb6}-\x{1fbc}\x{1fbe}\x{1fc2}-\x{1fc4}",
    r"\x{1fc6}-\x{1fcc}\x{1fd0}-\x{1fd3}\x{1fd6}-\x{1fdb}\x{1fe0}-\x{1fec}\x{1ff2}-\x{1ff4}",
    r"\x{1ff6}-\x{1ffc}\x{2102}\x{2107}\x{210a}-\x{2113}\x{2115}\x{2119}-\x{211d}\x{2124}",
    r"\x{2126}\x{2128}\x{212a}-\x{212d}\x{212f}-\x{2134}\x{2139}\x{213c}-\x{213f}",
    r"\x{2145}-\x{2149}\x{214e}\x{2183}\x{2184}\x{2c00}-\x{2c7b}\x{2c7e}-\x{2ce4}",
    r"\x{2ceb}-\x{2cee}\x{2cf2}\x{2cf3}\x{a640}-\x{a66d}\x{a680}-\x{a69b}\x{a722}-\x{a76f}",
    r"\x{a771}-\x{a787}\x{a78b}-\x{a78e}\x{ab70}-\x{abbf}\x{fb00}-\x{fb06}\x{fb13}-\x{fb17}",
    r"\x{ff21}-\x{ff3a}\x{ff41}-\x{ff5a}\x{10400}-\x{1044f}\x{104b0}-\x{104d3}",
    r"\x{104d8}-\x{104fb}\x{10c80}-\x{10cb2}\x{10cc0}-\x{10cf2}\x{118a0}-\x{118df}",
    r"\x{1e900}-\x{1e943}",
    r"]+"
);
const EAST_ASIAN: &str = r"[\x{4e00}-\x{9fa5}\x{800}-\x{4e00}\x{ac00}-\x{d7ff}]+";
const SEED: &str = concat!(
    contraction!(),
    r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+"
);
const MINICPM: &str = concat!(
    contraction!(),
    r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"
);

const PLAIN: PreTokenizerRule = PreTokenizerRule {
    names: &[],
    patterns: &[],
    whole_pieces: false,
    add_bos: false,
};

/// By llama.cpp's names, of which those that mean the same stand together, the usual one first: all that
/// files of the families that are read are known to have.
const KNOWN: [PreTokenizerRule; 14] = [
    PreTokenizerRule {
        names: &[
            "llama-bpe",
            "llama3",
            "llama-v3",
            "falcon3",
            "falcon-h1",
            "pixtral",
            "midm-2.0",
            "lfm2",
        ],
        patterns: &[LLAMA3],
        whole_pieces: true,
        add_bos: true,
    },
    PreTokenizerRule {
        // Phi 4 has DBRX's.
        names: &["smaug-bpe", "dbrx"],
        patterns: &[LLAMA3],
        ..PLAIN
    },
    PreTokenizerRule {
        names: &["qwen2", "deepseek-r1-qwen", "kormo", "megrez"],
        patterns: &[QWEN2],
        ..PLAIN
    },
    PreTokenizerRule {
        names: &["tekken"],
        patterns: &[TEKKEN],
        whole_pieces: true,
        add_bos: true,
    },
    PreTokenizerRule {
        names: &["gpt-4o", "llama4", "kanana2"],
        patterns: &[GPT4O],
        ..PLAIN
    },
    PreTokenizerRule {
        names: &[
            "smollm",
            "starcoder",
            "refact",
            "command-r",
            "codeshell",
            "exaone",
            "minerva-7b",
        ],
        patterns: DIGITS_GPT2,
        ..PLAIN
    },
    PreTokenizerRule {
        names: &[
            "gpt-2", "mpt", "olmo", "phi-2", "gigachat", "a.x-4.0", "mellum", "exaone4", "trillion",
        ],
        patterns: &[GPT2],
        ..PLAIN
    },
    PreTokenizerRule {
        names: &["deepseek-llm"],
        patterns: &[
            r"[\r\n]",
            LATIN_AND_KIN,
            r"\s?[!-/:-~\x{ff01}-\x{ff0f}\x{ff1a}-\x{ff5e}\x{2018}-\x{201f}\x{3000}-\x{3002}]+",
            r"\s+$",
            EAST_ASIAN,
            r"\p{N}+",
        ],
        ..PLAIN
    },
    PreTokenizerRule {
        names: &["deepseek-coder"],
        patterns: &[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", EAST_ASIAN, r"\p{N}"],
        ..PLAIN
    },
    PreTokenizerRule {
        names: &["viking"],
        patterns: &[NORDIC, r"\p{N}"],
        ..PLAIN
    },
    PreTokenizerRule {
        names: &["poro-chat"],
        patterns: &[NORDIC],
        ..PLAIN
    },
    PreTokenizerRule {
        names: &["seed-coder"],
        patterns: &[SEED],
        ..PLAIN
    },
    PreTokenizerRule {
        names: &["minicpm5"],
        patterns: &[r"\p{N}{1,3}", MINICPM],
        whole_pieces: true,
        ..PLAIN
    },
    PreTokenizerRule {
        names: &["default"],
        patterns: &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"],
        ..PLAIN
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
    fn all_that_is_known_splits_any_text_without_loss() {
        let text = "Don't!\r\n\r\n  12345 Wörter, ΣΊΣΥΦΟΣ και 狐狸走了。 \u{1f98a}x\u{301} \t y\n ";
        for known in &KNOWN {
            for name in known.names {
                assert_eq!(split(name, text).concat(), text, "{name}");
            }
        }
        assert_eq!(split("dbrx", "a 1234"), ["a", " ", "123", "4"]);
        assert_eq!(
            split("deepseek-coder", "int x1 = 12;"),
            ["int", " x", "1", " = ", "1", "2", ";"]
        );
        assert_eq!(
            split("deepseek-llm", "Der Fuchs, 123!"),
            ["Der", " Fuchs", ",", " ", "123", "!"]
        );
        assert_eq!(split("minicpm5", "a 12345"), ["a", " ", "123", "45"]);
        assert_eq!(split("seed-coder", "a;\n\nb"), ["a", ";", "\n\n", "b"]);
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
