//! Words with weights, as A1111's prompts have them.
//!
//! `(words)` weigh 1.1, `[words]` 1/1.1, `(words:1.3)` 1.3; brackets may be nested, and `\(` is a
//! bracket that is text. `BREAK` begins a new chunk. Brackets that are never closed weigh what
//! follows them. ComfyUI reads `(words)` and `(words:1.3)` alike but has neither `[words]` nor
//! `BREAK`, and weighs differently: it scales what a word changes against an empty prompt, where
//! A1111 scales the states and then restores their mean.

/// A part of a prompt: words of one weight, or a break.
#[derive(Clone, Debug, PartialEq)]
pub enum WeightedText {
    /// Words of one weight.
    Text {
        /// The words, without the brackets.
        text: String,
        /// What their embeddings are multiplied by; 1 for words without brackets.
        weight: f32,
    },
    /// What follows stands in the next chunk.
    Break,
}

const MORE: f32 = 1.1;
const LESS: f32 = 1.0 / 1.1;

/// The parts of `prompt`, with equal neighbours joined.
pub fn parse_weights(prompt: &str) -> Vec<WeightedText> {
    let mut found: Vec<WeightedText> = Vec::new();
    let (mut round, mut square) = (Vec::new(), Vec::new());
    let mut rest = prompt;
    while let Some(c) = rest.chars().next() {
        let mut taken = c.len_utf8();
        match c {
            '\\' => {
                let next = rest[1..].chars().next();
                // A backslash before anything else is not part of the text.
                if let Some(c) = next.filter(|c| matches!(c, '(' | ')' | '[' | ']' | '\\')) {
                    text(&mut found, &c.to_string());
                    taken += 1;
                }
            }
            '(' => round.push(found.len()),
            '[' => square.push(found.len()),
            ':' => match weight(rest).filter(|_| !round.is_empty()) {
                Some((weight, length)) => {
                    multiply(&mut found, round.pop(), weight);
                    taken = length;
                }
                None => text(&mut found, ":"),
            },
            ')' if !round.is_empty() => multiply(&mut found, round.pop(), MORE),
            ']' if !square.is_empty() => multiply(&mut found, square.pop(), LESS),
            ')' | ']' => text(&mut found, &rest[..taken]),
            _ => {
                let special = |c: char| matches!(c, '\\' | '(' | ')' | '[' | ']' | ':');
                taken = rest.find(special).unwrap_or(rest.len());
                words(&mut found, &rest[..taken]);
            }
        }
        rest = &rest[taken..];
    }
    for from in round {
        multiply(&mut found, Some(from), MORE);
    }
    for from in square {
        multiply(&mut found, Some(from), LESS);
    }
    join(found)
}

/// The number of `:1.2)` and how many bytes that is.
fn weight(rest: &str) -> Option<(f32, usize)> {
    let close = rest.find(')')?;
    let number = rest[1..close].trim();
    let digits = number.strip_prefix(['+', '-']).unwrap_or(number);
    let plain = !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit() || c == '.');
    let weight: f32 = plain.then(|| number.parse().ok()).flatten()?;
    Some((weight, close + 1))
}

/// The first `(words:1.2)` of a prompt, for a model that weighs no words. A larger number is no
/// weight but part of the text, as in `(at 3:30)`.
pub fn weighted_words(prompt: &str) -> Option<&str> {
    const LARGEST: f32 = 10.0;
    let mut open = None;
    for (at, c) in prompt.char_indices() {
        match c {
            '(' if !prompt[..at].ends_with('\\') => open = Some(at),
            ')' => open = None,
            ':' => {
                if let (Some(from), Some((by, length))) = (open, weight(&prompt[at..]))
                    && by < LARGEST
                {
                    return Some(&prompt[from..at + length]);
                }
            }
            _ => {}
        }
    }
    None
}

fn text(found: &mut Vec<WeightedText>, text: &str) {
    found.push(WeightedText::Text {
        text: text.to_owned(),
        weight: 1.0,
    });
}

/// Text in which `BREAK` may stand as a word.
fn words(found: &mut Vec<WeightedText>, all: &str) {
    let mut rest = all;
    let mut from = 0;
    while let Some(at) = rest[from..].find("BREAK").map(|at| at + from) {
        let (before, after) = (&rest[..at], &rest[at + 5..]);
        let inside = |c: char| c.is_alphanumeric() || c == '_';
        if before.ends_with(inside) || after.starts_with(inside) {
            from = at + 5;
            continue;
        }
        text(found, before.trim_end());
        found.push(WeightedText::Break);
        rest = after.trim_start();
        from = 0;
    }
    text(found, rest);
}

fn multiply(found: &mut [WeightedText], from: Option<usize>, by: f32) {
    for piece in &mut found[from.unwrap_or_default()..] {
        if let WeightedText::Text { weight, .. } = piece {
            *weight *= by;
        }
    }
}

fn join(found: Vec<WeightedText>) -> Vec<WeightedText> {
    let mut joined: Vec<WeightedText> = Vec::new();
    for piece in found {
        match (joined.last_mut(), &piece) {
            (_, WeightedText::Text { text, .. }) if text.is_empty() => {}
            (
                Some(WeightedText::Text { text, weight }),
                WeightedText::Text {
                    text: more,
                    weight: same,
                },
            ) if weight == same => text.push_str(more),
            _ => joined.push(piece),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_with_a_number_are_found() {
        let found = weighted_words("a (boy), (red scarf:1.3) at sea");
        assert_eq!(found, Some("(red scarf:1.3)"));
        for plain in ["a (boy)", "\\(x:1.2\\)", "ratio 3:2", "(at 3:30)", "(a: b)"] {
            assert_eq!(weighted_words(plain), None, "{plain}");
        }
    }

    fn told(prompt: &str) -> Vec<(String, f32)> {
        let rounded = |w: f32| (w * 1e4).round() / 1e4;
        parse_weights(prompt)
            .into_iter()
            .map(|piece| match piece {
                WeightedText::Text { text, weight } => (text, rounded(weight)),
                WeightedText::Break => ("BREAK".to_string(), -1.0),
            })
            .collect()
    }

    fn want(all: &[(&str, f32)]) -> Vec<(String, f32)> {
        all.iter().map(|(t, w)| (t.to_string(), *w)).collect()
    }

    /// The examples in A1111's own source.
    #[test]
    fn a1111s_examples_are_read_as_there() {
        assert_eq!(told("normal text"), want(&[("normal text", 1.0)]));
        assert_eq!(
            told("an (important) word"),
            want(&[("an ", 1.0), ("important", 1.1), (" word", 1.0)])
        );
        assert_eq!(told("(unbalanced"), want(&[("unbalanced", 1.1)]));
        assert_eq!(told("\\(literal\\]"), want(&[("(literal]", 1.0)]));
        assert_eq!(
            told("(unnecessary)(parens)"),
            want(&[("unnecessaryparens", 1.1)])
        );
        assert_eq!(
            told("a (((house:1.3)) [on] a (hill:0.5), sun, (((sky)))."),
            want(&[
                ("a ", 1.0),
                ("house", 1.573),
                (" ", 1.1),
                ("on", 1.0),
                (" a ", 1.1),
                ("hill", 0.55),
                (", sun, ", 1.1),
                ("sky", 1.4641),
                (".", 1.1),
            ])
        );
    }

    #[test]
    fn colons_and_brackets_that_weigh_nothing_are_text() {
        assert_eq!(told("time 10:30"), want(&[("time 10:30", 1.0)]));
        assert_eq!(told("a) b] c"), want(&[("a) b] c", 1.0)]));
        assert_eq!(told("(ratio:wide)"), want(&[("ratio:wide", 1.1)]));
        assert_eq!(told("[faint]"), want(&[("faint", 0.9091)]));
        assert_eq!(told("(x:-1)"), want(&[("x", -1.0)]));
        assert_eq!(told(""), want(&[]));
        assert_eq!(told("a\\b"), want(&[("ab", 1.0)]));
    }

    #[test]
    fn break_is_a_word_of_its_own() {
        assert_eq!(
            told("a fox BREAK an owl"),
            want(&[("a fox", 1.0), ("BREAK", -1.0), ("an owl", 1.0)])
        );
        assert_eq!(told("BREAKFAST"), want(&[("BREAKFAST", 1.0)]));
    }
}
