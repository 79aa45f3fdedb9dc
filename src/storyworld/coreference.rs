//! What the words and the pictures of a story say of whom a sentence could speak: features of
//! coreference, from which a model learns who "she", "her friend" or "the two of them" are.

mod shown;

use super::words::words;
use shown::StoryPictures;

/// Values of [`mention_features`] for each referent.
pub const MENTION_FEATURES: usize = OF_REFERENT + OF_TEXT + shown::OF_REFERENT + shown::OF_PICTURES;

/// What is said of the referent itself.
const OF_REFERENT: usize = 19;
/// What is said of the sentence and of those who came first, the same for all.
const OF_TEXT: usize =
    WORDS.len() + PHRASES.len() + COUNTS + 2 * GENDERS + 2 * (FIRST_CHARACTERS + FIRST_THINGS);
/// See [`counts`].
const COUNTS: usize = 15;
/// Values that tell "she" from "he": pronouns beside it and words of its name, of each kind.
const GENDERS: usize = 4;
/// The order of characters is told apart up to here.
const FIRST_CHARACTERS: usize = 4;
/// The same of things.
const FIRST_THINGS: usize = 2;

/// Words by which a sentence speaks of somebody without a name: pronouns, numbers, roles.
const WORDS: [&[&str]; 26] = [
    &["he"],
    &["him"],
    &["his"],
    &["she"],
    &["her"],
    &["they", "their", "them", "theirs"],
    &["both"],
    &["two"],
    &["three"],
    &["everyone", "everybody", "all"],
    &["it", "its"],
    &["friend"],
    &["friends"],
    &["other"],
    &["new"],
    &["first"],
    &["little"],
    &["young"],
    &["one"],
    &["together"],
    &["alone", "nobody"],
    &["someone", "somebody"],
    &["each"],
    &["and"],
    &["with"],
    &["who"],
];
/// The same in several words.
const PHRASES: [&str; 18] = [
    "the other one",
    "the new one",
    "the new friend",
    "the first friend",
    "the other friend",
    "the little one",
    "the brave little one",
    "the young one",
    "his friend",
    "her friend",
    "the two",
    "all three",
    "the three",
    "the two friends",
    "both of them",
    "them both",
    "the other thing",
    "them all",
];
const HE: [&str; 3] = ["he", "him", "his"];
const SHE: [&str; 2] = ["she", "her"];
/// Nouns and given names of whom English calls "she".
const WOMEN: [&str; 36] = [
    "woman",
    "girl",
    "mother",
    "mum",
    "mom",
    "lady",
    "queen",
    "princess",
    "witch",
    "grandma",
    "grandmother",
    "granny",
    "wife",
    "sister",
    "aunt",
    "daughter",
    "bride",
    "ballerina",
    "mermaid",
    "blonde",
    "brunette",
    "mrs",
    "cow",
    "hen",
    "ewe",
    "niece",
    "mia",
    "lena",
    "ella",
    "nora",
    "zoe",
    "rita",
    "ada",
    "clara",
    "anna",
    "maya",
];
/// The same of "he".
const MEN: [&str; 36] = [
    "man",
    "boy",
    "father",
    "dad",
    "king",
    "prince",
    "wizard",
    "grandpa",
    "grandfather",
    "husband",
    "brother",
    "uncle",
    "son",
    "santa",
    "rooster",
    "ram",
    "ox",
    "nephew",
    "knight",
    "monk",
    "milo",
    "tom",
    "ben",
    "leo",
    "max",
    "sam",
    "oscar",
    "felix",
    "hugo",
    "otto",
    "emil",
    "jack",
    "noah",
    "theo",
    "bruno",
    "peter",
];

/// Somebody or something that a story could speak of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Referent {
    /// What it is called: a given name, a noun.
    pub names: Vec<String>,
    /// Whether it acts; things do not.
    pub acts: bool,
}

/// What is known of a panel.
#[derive(Clone, Copy, Debug, Default)]
pub struct PanelMentions<'a> {
    /// Its words; none where it has none or they are not read.
    pub text: &'a str,
    /// Whom its picture shows, by their numbers among the referents; `None` where it has none or that
    /// is not seen.
    pub shown: Option<&'a [usize]>,
}

/// What `panels` say of each of `referents`: the words of all, the last of which is asked about, and
/// the pictures of those before. [`MENTION_FEATURES`] values of each, from -1 to 1, one after the other.
pub fn mention_features(panels: &[PanelMentions], referents: &[Referent]) -> Vec<f32> {
    let texts = panels.iter().map(|panel| words(panel.text).collect());
    let texts: Vec<Vec<String>> = texts.collect();
    let Some(story) = StoryMentions::new(&texts, referents) else {
        return vec![0.0; referents.len() * MENTION_FEATURES];
    };
    let genders: Vec<[f32; GENDERS]> = (0..referents.len()).map(|i| story.gender(i)).collect();
    let pictures = StoryPictures::new(panels, referents, &genders);
    let of_all = [story.of_text(), pictures.of_pictures()].concat();
    let of_one = |i| [story.of(i), pictures.of(i)].concat();
    let each = (0..referents.len()).flat_map(|i| [of_one(i), of_all.clone()].concat());
    let all: Vec<f32> = each.collect();
    debug_assert_eq!(all.len(), referents.len() * MENTION_FEATURES);
    all
}

/// Where a story mentions whom.
struct StoryMentions<'a> {
    texts: &'a [Vec<String>],
    now: &'a [String],
    referents: &'a [Referent],
    /// The word at which each referent is named in each text.
    at: Vec<Vec<Option<usize>>>,
    /// Characters and things in the order in which they were first named.
    characters: Vec<usize>,
    things: Vec<usize>,
    /// Whether "he" and "she" were said where nobody else was known.
    pronouns: Vec<[f32; 2]>,
}

impl<'a> StoryMentions<'a> {
    /// `None` without a text.
    fn new(texts: &'a [Vec<String>], referents: &'a [Referent]) -> Option<Self> {
        let now = texts.last()?;
        let at: Vec<Vec<Option<usize>>> = referents
            .iter()
            .map(|one| texts.iter().map(|text| named(text, one)).collect())
            .collect();
        let first = |i: &usize| {
            let named = (0..texts.len()).find_map(|text| Some((text, at[*i][text]?)));
            named.unwrap_or((usize::MAX, 0))
        };
        let ordered = |acts: bool| {
            let all = 0..referents.len();
            let mut all: Vec<usize> = all.filter(|i| referents[*i].acts == acts).collect();
            all.sort_by_key(first);
            all
        };
        let (characters, things) = (ordered(true), ordered(false));
        let alone = |i: usize, text: usize| {
            at[i][text].is_some() && characters.iter().all(|j| *j == i || first(j).0 > text)
        };
        let pronouns = (0..referents.len()).map(|i| {
            let said = |any: &[&str]| {
                let here = |text: &usize| referents[i].acts && alone(i, *text);
                f32::from(
                    (0..texts.len())
                        .filter(here)
                        .any(|text| has(&texts[text], any)),
                )
            };
            [said(&HE), said(&SHE)]
        });
        Some(Self {
            texts,
            now,
            referents,
            pronouns: pronouns.collect(),
            at,
            characters,
            things,
        })
    }

    /// Whether `i` is named, `back` texts before the last.
    fn named(&self, i: usize, back: usize) -> bool {
        let text = (self.texts.len() - 1).checked_sub(back);
        text.is_some_and(|text| self.at[i][text].is_some())
    }

    /// The text that names `i` first.
    fn first(&self, i: usize) -> Option<usize> {
        self.at[i].iter().position(Option::is_some)
    }

    /// How `i` is spoken of: see [`GENDERS`].
    fn gender(&self, i: usize) -> [f32; GENDERS] {
        // A policewoman is a woman, and no man.
        let is = |word: &str, any: &[&str], end: &str| any.contains(&word) || word.ends_with(end);
        let (mut man, mut woman) = (false, false);
        for word in self.referents[i].names.iter().flat_map(|name| words(name)) {
            let she = is(&word, &WOMEN, "woman");
            woman |= she;
            man |= !she && is(&word, &MEN, "man");
        }
        let [he, she] = self.pronouns[i];
        [he, she, f32::from(man), f32::from(woman)]
    }

    /// What is said of one.
    fn of(&self, i: usize) -> Vec<f32> {
        let last = self.texts.len() - 1;
        let before = (0..last).rev().find(|text| self.at[i][*text].is_some());
        let times = (0..last).filter(|text| self.at[i][*text].is_some()).count();
        let mut all = vec![
            f32::from(self.named(i, 0)),
            f32::from(self.named(i, 1)),
            f32::from(self.named(i, 2)),
            f32::from(self.first(i) == Some(last)),
            f32::from(self.first(i) == Some(0)),
            before.map_or(0.0, |text| 1.0 / (1 + last - text) as f32),
            times as f32 / last.max(1) as f32,
            match self.at[i][last] {
                Some(at) => at as f32 / self.now.len().max(1) as f32,
                None => -0.2,
            },
            f32::from(self.referents[i].acts),
        ];
        let order = |all: &[usize], most: usize| {
            let at = all.iter().position(|one| *one == i);
            (0..most).map(move |n| f32::from(at == Some(n)))
        };
        all.extend(order(&self.characters, FIRST_CHARACTERS));
        all.extend(order(&self.things, FIRST_THINGS));
        all.extend(self.gender(i));
        all
    }

    /// What is said of the last text and of those who came first.
    fn of_text(&self) -> Vec<f32> {
        let whole = format!(" {} ", self.now.join(" "));
        let mut all: Vec<f32> = WORDS
            .iter()
            .map(|any| f32::from(has(self.now, any)))
            .collect();
        let phrases = PHRASES.iter();
        all.extend(phrases.map(|phrase| f32::from(whole.contains(&format!(" {phrase} ")))));
        all.extend(self.counts());
        for n in 0..2 {
            let of = self.characters.get(n).map(|i| self.gender(*i));
            all.extend(of.unwrap_or_default());
        }
        for (those, most) in [
            (&self.characters, FIRST_CHARACTERS),
            (&self.things, FIRST_THINGS),
        ] {
            for n in 0..most {
                let named = |back| those.get(n).is_some_and(|i| self.named(*i, back));
                all.extend([f32::from(named(0)), f32::from(named(1))]);
            }
        }
        all
    }

    /// How many characters and things are named, known and new.
    fn counts(&self) -> Vec<f32> {
        let last = self.texts.len() - 1;
        let named = |those: &[usize]| those.iter().filter(|i| self.named(**i, 0)).count();
        let new = self.characters.iter();
        let new = new.filter(|i| self.first(**i) == Some(last)).count();
        let is = |count: usize, of: std::ops::Range<usize>| of.map(move |n| f32::from(count == n));
        let mut all: Vec<f32> = is(named(&self.characters), 0..4).collect();
        all.extend(is(named(&self.things), 0..3));
        all.extend(is(self.characters.len(), 1..5));
        all.push(f32::from(!self.things.is_empty()));
        all.extend(is(new, 0..3));
        all
    }
}

/// The first word of `text` at which one of the referent's names stands.
fn named(text: &[String], one: &Referent) -> Option<usize> {
    let at = |name: &String| {
        let name: Vec<String> = words(name).collect();
        match name.is_empty() {
            true => None,
            false => text.windows(name.len()).position(|part| part == name),
        }
    };
    one.names.iter().filter_map(at).min()
}

fn has(text: &[String], any: &[&str]) -> bool {
    text.iter().any(|word| any.contains(&word.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn referent(name: &str, acts: bool) -> Referent {
        Referent {
            names: vec![name.to_owned()],
            acts,
        }
    }

    #[test]
    fn what_a_story_says_of_everybody_is_counted() {
        let cast = [
            referent("old woman", true),
            referent("fox", true),
            referent("kite", false),
            referent("stranger", true),
        ];
        let texts = [
            "An old woman has lost her kite.",
            "A fox brings it to her.",
            "He flies the kite, and the old woman laughs.",
        ];
        let panels = texts.map(|text| PanelMentions { text, shown: None });
        let all = mention_features(&panels, &cast);
        assert_eq!(all.len(), cast.len() * MENTION_FEATURES);
        assert!(all.iter().all(|value| (-1.0..=1.0).contains(value)));
        let of = |i: usize| &all[i * MENTION_FEATURES..(i + 1) * MENTION_FEATURES];
        // Named now, in the text before, two before; new; in the first text.
        assert_eq!(of(0)[..5], [1.0, 0.0, 1.0, 0.0, 1.0]);
        assert_eq!(of(1)[..5], [0.0, 1.0, 0.0, 0.0, 0.0]);
        assert_eq!(of(3)[..8], [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.2]);
        // The order of coming in, and who is "she".
        assert_eq!(of(0)[8..15], [1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(of(1)[8..15], [1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(of(2)[8..15], [0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
        assert_eq!(of(0)[15..19], [0.0, 1.0, 0.0, 1.0]);
        assert_eq!(of(1)[15..19], [0.0; 4]);
        // "he", not "him"; the same for all.
        let of_all = OF_REFERENT + shown::OF_REFERENT;
        assert_eq!(of(0)[of_all..of_all + 2], [1.0, 0.0]);
        assert_eq!(of(0)[of_all..], of(2)[of_all..]);
    }

    #[test]
    fn what_pictures_show_is_told_apart_from_what_words_say() {
        let cast = [
            referent("old woman", true),
            referent("fox", true),
            referent("kite", false),
        ];
        let panel = |shown| PanelMentions { text: "", shown };
        let own = PanelMentions {
            text: "She laughs.",
            shown: None,
        };
        let all = mention_features(&[panel(Some(&[1, 2])), panel(Some(&[1, 0])), own], &cast);
        let of = |i: usize| {
            let of_one = &all[i * MENTION_FEATURES + OF_REFERENT..];
            &of_one[..shown::OF_REFERENT]
        };
        // One and two and three panels before; in the first; how long ago; in how many.
        assert_eq!(of(0)[..6], [1.0, 0.0, 0.0, 0.0, 1.0, 0.5]);
        assert_eq!(of(1)[..6], [1.0, 1.0, 0.0, 1.0, 1.0, 1.0]);
        assert_eq!(of(2)[..6], [0.0, 1.0, 0.0, 1.0, 0.5, 0.5]);
        // Who was shown first.
        assert_eq!(of(0)[6..10], [0.0, 1.0, 0.0, 0.0]);
        assert_eq!(of(1)[6..10], [1.0, 0.0, 0.0, 0.0]);
        assert_eq!(of(2)[10..], [1.0, 0.0]);
        // No picture is not a picture of nobody.
        let of_pictures = |panels: &[PanelMentions]| {
            let all = mention_features(panels, &cast);
            all[MENTION_FEATURES - shown::OF_PICTURES..MENTION_FEATURES].to_vec()
        };
        assert_eq!(
            of_pictures(&[panel(None), own]),
            vec![0.0; shown::OF_PICTURES]
        );
        assert_eq!(of_pictures(&[panel(Some(&[])), own])[..3], [1.0, 1.0, 1.0]);
    }

    #[test]
    fn without_a_text_nothing_is_said() {
        let cast = [referent("fox", true)];
        assert_eq!(mention_features(&[], &cast), vec![0.0; MENTION_FEATURES]);
        assert!(mention_features(&[PanelMentions::default()], &[]).is_empty());
    }
}
