//! Sentences of any script: where they end, and whether two are the same.

use std::collections::HashSet;

/// Marks that end a sentence.
const ENDS: &str = ".!?…。！？｡؟۔।॥";
/// What may stand behind such a mark and still belong to the sentence.
const CLOSERS: &str = "\"'”’»)]』」》〉）】";
/// Words with a full stop that ends no sentence.
const SHORT: &str = "Mr Mrs Ms Dr St Sr Sra Prof Jr vs etc Hr Fr z.B M Mme Mlle No";
/// Share of pairs of letters from which on two sentences are the same.
const SAME: f64 = 0.88;

/// Letters of a sentence that is not said again as a part of another one.
const WITHIN: usize = 30;

/// Whether `c` ends a sentence.
pub(super) fn is_end(c: char) -> bool {
    ENDS.contains(c)
}

/// Whether a text ends as a sentence does.
pub(super) fn is_whole(text: &str) -> bool {
    let text = text.trim_end().trim_end_matches(|c| CLOSERS.contains(c));
    text.ends_with(is_end)
}

/// Whether words of this letter follow each other without spaces.
pub(super) fn is_spaceless(c: char) -> bool {
    matches!(u32::from(c), 0x2e80..=0x9fff | 0xac00..=0xd7af | 0xf900..=0xfaff | 0xff00..=0xffef | 0x20000..=0x3ffff | 0x0e00..=0x0eff)
        && !(0xac00..=0xd7af).contains(&u32::from(c))
}

/// The sentences of a text, each with its mark and what closes behind it; the last may be open.
pub(super) fn sentences(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut start = 0;
    let letters: Vec<(usize, char)> = text.char_indices().collect();
    let mut index = 0;
    while index < letters.len() {
        let (at, c) = letters[index];
        index += 1;
        if !is_end(c) {
            continue;
        }
        while letters
            .get(index)
            .is_some_and(|(_, c)| is_end(*c) || CLOSERS.contains(*c))
        {
            index += 1;
        }
        let end = letters.get(index).map_or(text.len(), |(at, _)| *at);
        let next = text[end..].chars().find(|c| !c.is_whitespace());
        let spaced = text[end..].starts_with(char::is_whitespace) || next.is_none();
        let before = text[start..at]
            .rsplit(char::is_whitespace)
            .next()
            .unwrap_or_default();
        let short = c == '.'
            && SHORT
                .split(' ')
                .any(|word| word == before.trim_start_matches(|c| CLOSERS.contains(c) || c == '“'));
        // "3.5" and "said he." in the middle of a sentence are none.
        let joined = c.is_ascii() && !spaced;
        let goes_on = next.is_some_and(char::is_lowercase) && matches!(c, '.' | '…' | '?' | '!');
        if short || joined || goes_on {
            continue;
        }
        push(&mut found, &text[start..end]);
        start = end;
    }
    push(&mut found, &text[start..]);
    found
}

fn push<'a>(found: &mut Vec<&'a str>, sentence: &'a str) {
    let sentence = sentence.trim();
    if !sentence.is_empty() {
        found.push(sentence);
    }
}

/// About how many words a text has: two letters of a script without spaces count as one.
pub(super) fn words(text: &str) -> usize {
    let dense = text
        .chars()
        .filter(|c| is_spaceless(*c) && c.is_alphanumeric())
        .count();
    let spaced = text.split(|c: char| c.is_whitespace() || is_spaceless(c));
    let spaced = spaced
        .filter(|word| word.chars().any(char::is_alphanumeric))
        .count();
    spaced + dense.div_ceil(2)
}

/// A sentence without case and punctuation, by which repeated ones are found.
#[derive(Clone, Debug)]
pub(super) struct SentenceKey {
    letters: String,
    pairs: HashSet<(char, char)>,
}

impl SentenceKey {
    /// `None` where there are no letters.
    pub(super) fn of(sentence: &str) -> Option<SentenceKey> {
        let letters: String = sentence
            .chars()
            .filter(|c| c.is_alphanumeric())
            .flat_map(char::to_lowercase)
            .collect();
        if letters.is_empty() {
            return None;
        }
        let pairs = letters.chars().zip(letters.chars().skip(1)).collect();
        Some(SentenceKey { letters, pairs })
    }

    /// Whether both have the same letters.
    pub(super) fn is_equal(&self, other: &SentenceKey) -> bool {
        self.letters == other.letters
    }

    /// Whether both say the same in nearly the same words.
    pub(super) fn is_same(&self, other: &SentenceKey) -> bool {
        if self.letters == other.letters {
            return true;
        }
        let (long, short) = match self.letters.len() > other.letters.len() {
            true => (self.letters.len(), other.letters.len()),
            false => (other.letters.len(), self.letters.len()),
        };
        // The same once more with something before or behind it.
        let (inner, outer) = match self.letters.len() > other.letters.len() {
            true => (&other.letters, &self.letters),
            false => (&self.letters, &other.letters),
        };
        if short >= WITHIN && 2 * short >= long && outer.contains(inner.as_str()) {
            return true;
        }
        // Lengths far apart are never the same, and told at once.
        if (short as f64 / long as f64) < SAME {
            return false;
        }
        let (a, b) = (self.pairs.len(), other.pairs.len());
        // Short sentences are alike by chance.
        if a.min(b) < 12 || 2 * a.min(b) < a.max(b) {
            return false;
        }
        let common = self.pairs.intersection(&other.pairs).count();
        2.0 * common as f64 / (a + b) as f64 >= SAME
    }
}

/// Where a text begins to go round in circles: a stretch that comes again and again.
pub(super) fn circles(text: &str) -> bool {
    let words: Vec<&str> = text.split_whitespace().collect();
    let letters: Vec<char> = text.chars().filter(|c| c.is_alphanumeric()).collect();
    repeats(&words, 8, 4, 8) || repeats(&letters, 12, 5, 24)
}

/// Whether a stretch of up to `longest` items stands `times` times in a row, `least` items in all.
fn repeats<T: PartialEq>(items: &[T], longest: usize, times: usize, least: usize) -> bool {
    (1..=longest).any(|length| {
        let wanted = (length * times).max(least);
        let mut run = 0;
        (length..items.len()).any(|at| {
            run = if items[at] == items[at - length] {
                run + 1
            } else {
                0
            };
            run + length >= wanted
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_end_in_every_script() {
        assert_eq!(
            sentences("Mr. Fox paid 3.50 coins. \"Run!\" said the owl. So they ran"),
            [
                "Mr. Fox paid 3.50 coins.",
                "\"Run!\" said the owl.",
                "So they ran"
            ]
        );
        assert_eq!(
            sentences("狐狸走了。“快跑！”他说。"),
            ["狐狸走了。", "“快跑！”", "他说。"]
        );
        assert_eq!(sentences("Wait... what? No!"), ["Wait... what?", "No!"]);
        assert_eq!(sentences("यह एक लोमड़ी है। वह भागी।").len(), 2);
        assert!(is_whole("He said \"no.\"") && !is_whole("He said"));
    }

    #[test]
    fn the_same_sentence_is_known_in_other_dress() {
        let same = |a: &str, b: &str| {
            SentenceKey::of(a)
                .unwrap()
                .is_same(&SentenceKey::of(b).unwrap())
        };
        assert!(same("The fox, at last, sleeps.", "the fox at last sleeps!"));
        assert!(same(
            "The little fox walked slowly through the deep snow.",
            "The little fox walked slowly through deep snow."
        ));
        assert!(!same("The fox sleeps.", "The owl sleeps."));
        assert!(!same(
            "The fox opened the red door of the house.",
            "The owl closed the window of the tower."
        ));
        assert!(same("狐狸走进了森林。", "狐狸走进了森林！"));
        assert!(same(
            "A snow fox drops his torch in the valley.",
            "Then it happens: a snow fox drops his torch in the valley, at last."
        ));
        assert!(!same("The fox sleeps.", "The fox sleeps in the snow."));
    }

    #[test]
    fn circles_are_seen_and_laughter_is_none() {
        assert!(circles(
            "and then he ran and then he ran and then he ran and then he ran"
        ));
        assert!(circles(&"他很高兴".repeat(8)));
        assert!(!circles(
            "Ha ha ha ha, laughed the owl, and the fox laughed too."
        ));
        assert!(!circles("No, no, no, no!"));
    }

    #[test]
    fn words_are_counted_in_scripts_without_spaces() {
        assert_eq!(words("The fox ran home."), 4);
        assert_eq!(words("狐狸跑回家了。"), 3);
    }
}
