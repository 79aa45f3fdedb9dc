//! What a text names that a model has never seen, and the language that it is written in.

use std::collections::HashSet;
use std::sync::LazyLock;

/// Nouns that name what can be drawn: animals, plants, food, people, things, places. Those after
/// `~` are verbs as well, and count where an article or the like stands before them.
const LIST: &str = include_str!("../../assets/words/nouns.txt");

static NOUNS: LazyLock<HashSet<&str>> =
    LazyLock::new(|| LIST.lines().filter(|word| !word.starts_with('~')).collect());
static ALSO_VERBS: LazyLock<HashSet<&str>> = LazyLock::new(|| {
    LIST.lines()
        .filter_map(|word| word.strip_prefix('~'))
        .collect()
});

/// Words that a noun follows.
const BEFORE: [&str; 26] = [
    "a", "an", "the", "my", "your", "his", "her", "its", "our", "their", "this", "that", "these",
    "those", "some", "any", "no", "one", "two", "three", "old", "little", "big", "red", "of",
    "with",
];

/// Plurals that no ending tells.
const PLURALS: [(&str, &str); 12] = [
    ("children", "child"),
    ("grandchildren", "grandchild"),
    ("men", "man"),
    ("women", "woman"),
    ("mice", "mouse"),
    ("geese", "goose"),
    ("oxen", "ox"),
    ("knives", "knife"),
    ("wolves", "wolf"),
    ("fishermen", "fisherman"),
    ("policemen", "policeman"),
    ("snowmen", "snowman"),
];

/// A word of a text, by where it stands in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownWord {
    /// First byte of the word in the text.
    pub start: usize,
    /// Byte behind the word in the text.
    pub end: usize,
    /// The word, lower case.
    pub word: String,
}

/// The nouns of an English text that are not among the words that `knows` names, in the order of
/// the text. A word counts as known in the singular and in the plural.
pub fn unknown(text: &str, knows: impl Fn(&str) -> bool) -> Vec<UnknownWord> {
    let mut found = Vec::new();
    let mut before = String::new();
    for (start, end) in spans(text) {
        let word = text[start..end].to_lowercase();
        let forms = forms(&word);
        let after = BEFORE.contains(&before.as_str());
        let noun = forms.iter().any(|form| {
            NOUNS.contains(form.as_str()) || (after && ALSO_VERBS.contains(form.as_str()))
        });
        if noun && !forms.iter().any(|form| knows(form)) {
            found.push(UnknownWord {
                start,
                end,
                word: word.clone(),
            });
        }
        before = word;
    }
    found
}

/// The words of [`unknown`], each once.
pub fn unknown_words(text: &str, knows: impl Fn(&str) -> bool) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for UnknownWord { word, .. } in unknown(text, knows) {
        if !words.contains(&word) {
            words.push(word);
        }
    }
    words
}

/// Where the words of a text begin and end.
fn spans(text: &str) -> Vec<(usize, usize)> {
    let mut spans = Vec::new();
    let mut start = None;
    for (at, c) in text.char_indices().chain([(text.len(), ' ')]) {
        match (c.is_alphabetic(), start) {
            (true, None) => start = Some(at),
            (false, Some(from)) => {
                spans.push((from, at));
                start = None;
            }
            _ => {}
        }
    }
    spans
}

/// A word as it stands, and what it may be the plural of.
pub fn forms(word: &str) -> Vec<String> {
    let mut forms = vec![word.to_owned()];
    if let Some((_, one)) = PLURALS.iter().find(|(many, _)| *many == word) {
        forms.push((*one).to_owned());
    }
    for (ending, singular) in [("ies", "y"), ("ves", "f"), ("es", ""), ("s", "")] {
        let Some(stem) = word.strip_suffix(ending).filter(|stem| stem.len() > 1) else {
            continue;
        };
        // "foxes" is more than one fox, "bees" are not more than one "be".
        let hisses = ["s", "x", "z", "ch", "sh", "o"]
            .iter()
            .any(|end| stem.ends_with(end));
        if !word.ends_with("ss") && (ending != "es" || hisses) {
            forms.push(format!("{stem}{singular}"));
        }
    }
    forms
}

/// The language of a text where it is plainly not English, by its English name; none for English
/// and for texts too short to tell.
pub fn other_language(text: &str) -> Option<&'static str> {
    const SHORTEST: usize = 18;
    let info = whatlang::detect(text)?;
    let script_tells = info.script() != whatlang::Script::Latin;
    let sure = script_tells || (info.is_reliable() && text.chars().count() >= SHORTEST);
    (sure && info.lang() != whatlang::Lang::Eng).then(|| info.lang().eng_name())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_a_fox(text: &str) -> Vec<String> {
        unknown_words(text, |word| {
            ["fox", "forest", "lantern", "mouse"].contains(&word)
        })
    }

    #[test]
    fn nouns_that_are_not_known_are_named_and_other_words_are_not() {
        assert_eq!(
            of_a_fox("My grandmother kept bees behind the lighthouse."),
            ["grandmother", "bees", "lighthouse"]
        );
        for plain in [
            "She kept it and never looked back, tired but happy, until the next morning.",
            "Nobody knew what it was, so the foxes followed it slowly down into the forest.",
            "Two foxes and three mice carry a lantern.",
            "He was afraid of the dark, but not today; something had changed.",
        ] {
            assert_eq!(of_a_fox(plain), [""; 0], "{plain}");
        }
        assert_eq!(
            unknown_words("Bees and boxes.", |word| ["be", "box"].contains(&word)),
            ["bees"]
        );
        assert_eq!(of_a_fox("They dress in a dress."), ["dress"]);
        assert_eq!(of_a_fox("Bees, bees and BEES!"), ["bees"]);
    }

    #[test]
    fn a_word_is_found_where_it_stands() {
        let text = "Füchse — a wombat!";
        let found = unknown(text, |_| false);
        assert_eq!(found.len(), 1);
        assert_eq!(&text[found[0].start..found[0].end], "wombat");
    }

    #[test]
    fn languages_that_are_not_english_are_named_and_short_texts_are_left_alone() {
        let german = "Der kleine Fuchs fand eine leuchtende Laterne im verschneiten Wald.";
        assert_eq!(other_language(german), Some("German"));
        assert_eq!(
            other_language("狐狸在雪林里发现了一盏灯。"),
            Some("Mandarin")
        );
        for english in [
            "A fox finds a glowing lantern in the snowy forest.",
            "An owl.",
            "Fuchs",
            "",
        ] {
            assert_eq!(other_language(english), None, "{english}");
        }
    }
}
