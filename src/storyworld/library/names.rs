//! Which drawing stands for a noun.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::LazyLock;

use super::{DRAWINGS, DrawingId};
use crate::words::forms;

/// Nouns that no drawing is called by, each with the drawing that stands for it: from WordNet, by
/// synonyms and by what a thing is a kind of. Each line is a drawing, how like it is, and the nouns.
const NEAREST: &str = include_str!("../../../assets/library/nearest.tsv");

/// How well a drawing fits a noun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NounFit {
    /// The noun is one that the drawing is called by, or a synonym.
    Same,
    /// The noun is a kind of what is drawn: a spaniel is drawn as a dog.
    Kind,
    /// The nearest that there is: a hut is drawn for a kennel.
    Near,
}

/// A noun of a text and its drawing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrawnNoun {
    /// The noun as it stands in the text, lower case; it may be several words.
    pub noun: String,
    /// Where it stands in the text, in bytes.
    pub at: Range<usize>,
    /// What stands for it.
    pub drawing: DrawingId,
    /// How well that fits.
    pub fit: NounFit,
}

/// Words of the longest noun.
static LONGEST: LazyLock<usize> = LazyLock::new(|| {
    let nouns = NOUNS.keys().map(|noun| noun.split(' ').count());
    nouns.max().unwrap_or(1)
});

/// Words one or two behind which stands a noun, where a word can be a verb as well: "the saw", "a
/// rusty saw", but not "the dragon saw".
const BEFORE_NOUNS: [&str; 28] = [
    "a", "an", "the", "my", "your", "his", "her", "its", "our", "their", "this", "that", "these",
    "those", "some", "any", "no", "one", "two", "three", "of", "with", "old", "little", "big",
    "red", "golden", "small",
];

/// Words behind which no noun stands, whatever is before them: "that she can see".
const SUBJECTS: [&str; 10] = [
    "i", "you", "he", "she", "it", "we", "they", "who", "which", "there",
];

/// Words before "one" that make it somebody: "the little one bows".
const BEFORE_ONE: [&str; 9] = [
    "little", "young", "brave", "other", "new", "first", "each", "every", "this",
];

/// Forms of nouns that are verbs in most sentences, doubted like the nouns with `~`.
const VERBS: [&str; 27] = [
    "does", "leaves", "steps", "stays", "rocks", "blinks", "picks", "can", "cans", "bow", "bows",
    "peaks", "wave", "waves", "watch", "watches", "rattles", "drops", "fly", "flies", "cooks",
    "ring", "rings", "roast", "safe", "home", "storm",
];

/// Words of a side, which stand behind nouns in picture prompts.
const SIDES: [&str; 3] = ["left", "middle", "right"];

/// What a noun is drawn as.
#[derive(Clone, Copy)]
struct Entry {
    drawing: DrawingId,
    fit: NounFit,
    /// It is more often a verb or an adjective.
    doubtful: bool,
}

static NOUNS: LazyLock<HashMap<&'static str, Entry>> = LazyLock::new(|| {
    let mut nouns = HashMap::new();
    let mut add = |noun: &'static str, drawing, fit| {
        let entry = Entry {
            drawing,
            fit,
            doubtful: noun.starts_with('~'),
        };
        nouns.entry(noun.trim_start_matches('~')).or_insert(entry);
    };
    // What a drawing is usually called before what it may be called.
    let longest = DRAWINGS.iter().map(|d| d.nouns.len()).max().unwrap_or(0);
    for rank in 0..longest {
        for id in DrawingId::all() {
            if let Some(noun) = id.get().nouns.get(rank) {
                add(noun, id, NounFit::Same);
            }
        }
    }
    let by_name: HashMap<&str, DrawingId> =
        DrawingId::all().map(|id| (id.get().name, id)).collect();
    for line in NEAREST.lines() {
        let mut fields = line.split('\t');
        let mut next = || fields.next().unwrap_or_default();
        let (drawing, fit, nouns) = (next(), next(), next());
        let fit = match fit {
            "same" => NounFit::Same,
            "kind" => NounFit::Kind,
            _ => NounFit::Near,
        };
        if let Some(&id) = by_name.get(drawing) {
            nouns.split(' ').for_each(|noun| add(noun, id, fit));
        }
    }
    nouns
});

/// The nouns of an English text that a drawing of the library stands for, in the order of the
/// text. Of nouns within one another the longest counts: "fire engine" is no fire.
///
/// ```
/// use vokenboard::storyworld::library::{NounFit, drawn_nouns};
///
/// let found = drawn_nouns("My grandmother kept bees");
/// let drawn: Vec<_> = found.iter().map(|n| n.drawing.get().name).collect();
/// assert_eq!(drawn, ["old-woman", "honeybee"]);
/// assert!(found.iter().all(|n| n.fit == NounFit::Same));
/// ```
pub fn drawn_nouns(text: &str) -> Vec<DrawnNoun> {
    let words = words(text);
    let mut found = Vec::new();
    let mut at = 0;
    while at < words.len() {
        let mut ends = (at + 1..=(at + *LONGEST).min(words.len())).rev();
        let hit = ends.find_map(|end| {
            let parts: Vec<&str> = words[at..end].iter().map(|(_, word)| &**word).collect();
            let noun = parts.join(" ");
            let entry = forms(&noun)
                .iter()
                .find_map(|form| NOUNS.get(form.as_str()));
            let verb = VERBS.contains(&noun.as_str());
            let sure =
                |entry: &&Entry| !(entry.doubtful || verb) || is_noun(text, &words, at, end, verb);
            let entry = entry.filter(sure);
            entry.map(|entry| (noun, *entry, end))
        });
        let Some((noun, entry, end)) = hit else {
            at += 1;
            continue;
        };
        let next = DrawnNoun {
            noun,
            at: words[at].0.start..words[end - 1].0.end,
            drawing: entry.drawing,
            fit: entry.fit,
        };
        match found.last_mut().filter(|last: &&mut DrawnNoun| {
            let between = text.get(last.at.end..next.at.start).unwrap_or_default();
            between.trim().is_empty() || between == "-"
        }) {
            // "the pirate captain" is one: a pirate; "an apple tree" is a tree.
            Some(last) if is_character(last) && is_character(&next) => last.at.end = next.at.end,
            Some(last) => *last = next,
            None => found.push(next),
        }
        at = end;
    }
    found
}

/// Words after which a name follows a noun.
const CALLED: [&str; 3] = [" called ", " named ", " whose name was "];

/// Words that begin sentences before "the" and are no names.
const OPENERS: [&str; 58] = [
    "about",
    "above",
    "across",
    "after",
    "again",
    "all",
    "along",
    "and",
    "around",
    "as",
    "at",
    "because",
    "before",
    "behind",
    "below",
    "beside",
    "between",
    "both",
    "but",
    "by",
    "down",
    "during",
    "even",
    "finally",
    "first",
    "for",
    "from",
    "here",
    "if",
    "in",
    "inside",
    "into",
    "just",
    "last",
    "later",
    "like",
    "meanwhile",
    "near",
    "next",
    "now",
    "of",
    "on",
    "once",
    "only",
    "or",
    "outside",
    "over",
    "since",
    "so",
    "soon",
    "suddenly",
    "then",
    "there",
    "through",
    "to",
    "until",
    "when",
    "while",
];

/// The name that a text gives whom it calls `noun`, if it gives one.
///
/// ```
/// use vokenboard::storyworld::library::{drawn_nouns, given_name};
///
/// let name = |text| given_name(text, &drawn_nouns(text)[0]);
/// assert_eq!(name("A brave doctor called Mia runs."), Some("Mia"));
/// assert_eq!(name("Otto the fox sleeps."), Some("Otto"));
/// assert_eq!(name("Then the fox sleeps."), None);
/// ```
pub fn given_name<'a>(text: &'a str, noun: &DrawnNoun) -> Option<&'a str> {
    let is_name = |word: &str| {
        word.chars().next().is_some_and(char::is_uppercase)
            && word.chars().count() > 1
            && word.chars().all(|c| c.is_alphabetic() || c == '-')
            && !OPENERS.contains(&word.to_lowercase().as_str())
    };
    let behind = text.get(noun.at.end..)?;
    let behind = CALLED
        .iter()
        .find_map(|called| behind.strip_prefix(called))
        .and_then(|rest| {
            let end = rest.find(|c: char| !c.is_alphabetic() && c != '-');
            rest.get(..end.unwrap_or(rest.len()))
        });
    let before = || {
        let before = text.get(..noun.at.start)?.strip_suffix(" the ")?;
        before
            .rsplit(|c: char| !c.is_alphabetic() && c != '-')
            .next()
    };
    behind.or_else(before).filter(|word| is_name(word))
}

fn is_character(noun: &DrawnNoun) -> bool {
    noun.drawing.get().kind.is_character()
}

/// Words with which descriptions of a setting begin.
const BEFORE_PLACES: [&str; 9] = [
    "in", "on", "at", "by", "under", "above", "among", "inside", "before",
];

/// Whether words that can be a verb as well are a noun at `at..end`; a `verb` in a list is none.
fn is_noun(
    text: &str,
    words: &[(Range<usize>, String)],
    at: usize,
    end: usize,
    verb: bool,
) -> bool {
    let word = |i: Option<usize>| i.and_then(|i| words.get(i)).map_or("", |(_, word)| &**word);
    let someone = word(at.checked_sub(1)) == "one" && BEFORE_ONE.contains(&word(at.checked_sub(2)));
    let before = |n: usize| BEFORE_NOUNS.contains(&word(at.checked_sub(n))) && !someone;
    // "the dragon saw": a noun stands between.
    let between = word(at.checked_sub(1));
    let adjective = !NOUNS.contains_key(between) && !SUBJECTS.contains(&between);
    let side = SIDES.contains(&word(Some(end + 2)));
    // Of a list.
    let listed = !verb && at > 0 && text[words[at - 1].0.end..words[at].0.start].contains(',');
    // "hammer in the park": a picture prompt begins with whom it shows alone.
    let first = at == 0 && BEFORE_PLACES.contains(&word(Some(end)));
    listed || before(1) || (before(2) && adjective) || side || first || words.len() == end - at
}

/// The drawings that are called by `words` or by nouns that begin with them or contain them, the
/// best fit first.
///
/// ```
/// use vokenboard::storyworld::library::drawings_called;
///
/// let names: Vec<&str> = drawings_called("cat").iter().map(|id| id.get().name).collect();
/// assert_eq!(names[0], "cat");
/// assert!(names.contains(&"black-cat"));
/// ```
pub fn drawings_called(words: &str) -> Vec<DrawingId> {
    let wanted = words.trim().to_lowercase();
    if wanted.is_empty() {
        return Vec::new();
    }
    let mut found: Vec<DrawingId> = drawn_nouns(&wanted)
        .iter()
        .map(|noun| noun.drawing)
        .collect();
    let mut more: Vec<(u8, DrawingId)> = DrawingId::all()
        .filter_map(|id| {
            let drawing = id.get();
            let nouns = drawing
                .nouns
                .iter()
                .map(|noun| noun.trim_start_matches('~'));
            let name = drawing.name.replace('-', " ");
            let fits = nouns.chain([name.as_str()]).filter_map(|noun| match noun {
                noun if noun == wanted => Some(0),
                noun if noun.starts_with(&wanted) => Some(1),
                noun if noun.contains(&wanted) => Some(2),
                _ => None,
            });
            Some((fits.min()?, id))
        })
        .collect();
    more.sort_unstable();
    for (_, id) in more {
        if !found.contains(&id) {
            found.push(id);
        }
    }
    found
}

/// The words of a text in lower case, without a possessive's ending, and where they stand in bytes.
pub(super) fn words(text: &str) -> Vec<(Range<usize>, String)> {
    const APOSTROPHES: [char; 2] = ['\'', '\u{2019}'];
    let inside = |c: char| c.is_alphanumeric() || c == '-' || APOSTROPHES.contains(&c);
    let mut found = Vec::new();
    let mut start = None;
    for (at, c) in text.char_indices().chain([(text.len(), ' ')]) {
        match (inside(c), start) {
            (true, None) => start = Some(at),
            (false, Some(from)) => {
                start = None;
                let all = &text[from..at];
                let word = all.trim_start_matches(|c| c == '-' || APOSTROPHES.contains(&c));
                let from = from + all.len() - word.len();
                let word = word.trim_end_matches(|c| c == '-' || APOSTROPHES.contains(&c));
                let word = APOSTROPHES
                    .iter()
                    .find_map(|mark| word.strip_suffix('s')?.strip_suffix(*mark))
                    .unwrap_or(word);
                if !word.is_empty() {
                    found.push((from..from + word.len(), word.to_lowercase()));
                }
            }
            _ => {}
        }
    }
    found
}
