//! What words there are, and what a sentence's words name.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::LazyLock;

use super::caption::MOODS;
use super::cast::SubjectId;
use super::place::{Place, Time, Weather};
use super::{shapes, tale};

/// Words that authors and language models put between the others.
const FILLER: &str = "a an the and or but so then while when as of to for from with without by at on in into over under \
    up down out off near next behind before after around through across between inside outside away back here there \
    is are was were be been has had have do does did can could will would must may \
    he she it they his her its their him them we you i my your our this that these those who what where why how \
    one two three many some all every each no not never always again once now soon later today still very too much more \
    only just also together alone everyone someone something nothing everything everywhere nobody \
    go goes went gone come comes came run runs ran walk walks walked look looks looked see sees saw seen find finds found \
    take takes took give gives gave get gets got make makes made say says said ask asks asked tell tells told \
    know knows knew think thinks thought feel feels felt want wants wanted need needs needed love loves loved like likes \
    help helps helped play plays played sit sits sat stand stands stood sleep sleeps slept wake wakes woke \
    eat eats ate open opens opened close turn turns turned keep keeps kept bring brings brought carry carries carried \
    follow follows followed wait waits waited watch watches watched hear hears heard call calls called smile smiles \
    smiled laugh laughs laughed dance dances danced sing sings sang jump jumps fly flies flew fall falls fell \
    begin begins began start starts started stop stops stopped decide decides decided try tries tried hold holds held \
    meet meets met join joins share shares shared hide hides hidden lose lost shine shines shining glow glows glowing \
    happy sad brave kind little small big tiny huge old new young good bad great beautiful magic magical warm cold \
    bright dark soft quiet loud fast slow strange lonely tired hungry scared afraid curious excited proud gentle friendly \
    red blue green yellow orange purple pink white black brown grey gray golden silver colorful \
    friend friends family home way path door light shadow sky sun wind water ground air world dream dreams wish wishes \
    secret treasure adventure journey story song game party birthday surprise gold heart eyes hand sound voice smell \
    time day night morning evening end left right middle top side picture drawing illustration scene of \
    suddenly finally first last until because if yes oh hello goodbye thank thanks please";

/// Splits a sentence into the words that [`vocabulary`] lists: lower case, no punctuation.
///
/// ```
/// use vokenboard::storyworld::words;
///
/// assert_eq!(words("A fox, a Kite!").collect::<Vec<_>>(), ["a", "fox", "a", "kite"]);
/// ```
pub fn words(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|w| !w.is_empty())
        .map(str::to_lowercase)
}

/// Every word that a caption or a story can hold, and common fillers; sorted, lower case.
pub fn vocabulary() -> Vec<String> {
    let mut all = of_captions();
    tale::texts().for_each(|text| add(&mut all, text));
    all.into_iter().collect()
}

/// The words of a text, without its slots such as `{a}`.
fn add(all: &mut BTreeSet<String>, text: &str) {
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        all.extend(words(before));
        rest = after.split_once('}').map_or("", |(_, after)| after);
    }
    all.extend(words(rest));
}

/// Every word that a caption can hold, and common fillers: what pictures were drawn of.
fn of_captions() -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    let mut add = |text: &str| add(&mut all, text);
    for subject in SubjectId::all() {
        let kind = subject.get();
        for text in [kind.nouns, kind.adjectives, kind.verbs, also(subject)]
            .into_iter()
            .flatten()
        {
            add(text);
        }
        for noun in kind.nouns {
            add(&plural(noun));
        }
    }
    for place in Place::ALL {
        place
            .phrases()
            .iter()
            .chain(place.also())
            .for_each(|t| add(t));
        place.nouns().iter().for_each(|(_, noun)| add(noun));
    }
    for time in Time::ALL {
        time.adjectives()
            .iter()
            .chain(time.also())
            .for_each(|t| add(t));
        for weather in Weather::ALL {
            time.phrases(*weather)
                .iter()
                .chain(weather.phrases(*time))
                .for_each(|t| add(t));
            weather
                .adjectives()
                .iter()
                .chain(weather.also())
                .for_each(|t| add(t));
        }
    }
    shapes::all().chain(MOODS).for_each(&mut add);
    add(FILLER);
    all
}

/// Whether [`vocabulary`] holds the word, in lower case.
pub fn is_word(word: &str) -> bool {
    static ALL: LazyLock<HashSet<String>> = LazyLock::new(|| vocabulary().into_iter().collect());
    ALL.contains(word)
}

/// Whether a caption of a picture can hold the word, in lower case; stories speak of more.
pub fn is_drawn(word: &str) -> bool {
    static ALL: LazyLock<BTreeSet<String>> = LazyLock::new(of_captions);
    ALL.contains(word)
}

/// The fillers that change nothing in a picture: no subject, place, time, weather, colour, side or
/// number.
pub(super) fn neutral() -> &'static [String] {
    const TELLING: &str = "left right middle top side next behind between above under down up red blue green yellow \
        orange purple pink white black brown grey gray golden silver colorful small little big tiny huge two three many \
        sky sun wind water air shadow bright light a an the and not no never nobody nothing of with without or";
    static NEUTRAL: LazyLock<Vec<String>> = LazyLock::new(|| {
        let telling: BTreeSet<String> = words(TELLING).collect();
        let silent = |w: &String| !telling.contains(w) && mentions(w) == Mentions::default();
        words(FILLER).filter(silent).collect()
    });
    &NEUTRAL
}

/// Other words an author may use for a subject; read, not written.
fn also(subject: SubjectId) -> &'static [&'static str] {
    match subject.name() {
        "rabbit" => &["bunnies"],
        "mouse" => &["mice"],
        "dog" => &["pup", "puppies"],
        "wizard" => &["sorcerer"],
        "chick" => &["chicken", "duckling"],
        "lantern" => &["lamplight", "candle"],
        "rocket" => &["rocket ship", "spacecraft"],
        "boat" => &["ships"],
        "campfire" => &["flames", "fireplace"],
        "christmas tree" => &["xmas tree", "decorated tree"],
        "ball" => &["soccer ball"],
        "car" => &["automobile"],
        "books" => &["books", "notebook"],
        "tent" => &["campsite"],
        "house" => &["hut", "cabin"],
        "castle" => &["palace"],
        "train" => &["locomotive"],
        "monkey" => &["ape"],
        "robot" => &["robots"],
        "fox" => &["foxes"],
        _ => &[],
    }
}

fn plural(noun: &str) -> String {
    match noun {
        "mouse" => "mice".into(),
        "bunny" | "kitty" | "puppy" => format!("{}ies", &noun[..noun.len() - 1]),
        "fox" => "foxes".into(),
        _ => format!("{noun}s"),
    }
}

/// What a sentence names. Subjects are in the order they are named, each once; the rest is
/// `None` where the sentence does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mentions {
    /// Subjects named, in the order of the text.
    pub subjects: Vec<SubjectId>,
    /// Place named, if any.
    pub place: Option<Place>,
    /// Time of day named, if any.
    pub time: Option<Time>,
    /// Weather named, if any.
    pub weather: Option<Weather>,
}

#[derive(Clone, Copy, Default, PartialEq)]
struct Sense {
    subject: Option<SubjectId>,
    place: Option<Place>,
    time: Option<Time>,
    weather: Option<Weather>,
}

/// Longest phrase in the lexicon, in words.
const LONGEST: usize = 4;

static LEXICON: LazyLock<HashMap<String, Sense>> = LazyLock::new(|| {
    let mut lexicon: HashMap<String, Sense> = HashMap::new();
    for subject in SubjectId::all() {
        let kind = subject.get();
        for noun in kind.nouns.iter().chain(also(subject)) {
            for form in [(*noun).to_owned(), plural(noun)] {
                lexicon.entry(form).or_default().subject = Some(subject);
            }
        }
    }
    for &place in Place::ALL {
        for noun in place.also() {
            // "houses" is a village, not two houses.
            lexicon.insert(
                (*noun).to_owned(),
                Sense {
                    place: Some(place),
                    ..Sense::default()
                },
            );
        }
    }
    for &time in Time::ALL {
        for phrase in time.also() {
            lexicon.entry((*phrase).to_owned()).or_default().time = Some(time);
        }
    }
    for &weather in Weather::ALL {
        for phrase in weather.also() {
            lexicon.entry((*phrase).to_owned()).or_default().weather = Some(weather);
        }
    }
    for idiom in [
        "one day",
        "next day",
        "every day",
        "all day",
        "each day",
        "day by day",
        "ice cream",
        "fire truck",
        "over the moon",
    ] {
        lexicon.insert(idiom.to_owned(), Sense::default());
    }
    for clearing in [
        "rain stops",
        "rain stopped",
        "snow stops",
        "snow stopped",
        "storm passes",
        "storm passed",
        "rain is over",
        "sky clears",
        "sky cleared",
    ] {
        lexicon.insert(
            clearing.to_owned(),
            Sense {
                weather: Some(Weather::Clear),
                ..Sense::default()
            },
        );
    }
    lexicon
});

/// Whether two words, lower case, name the same subject, place, time or weather.
///
/// ```
/// use vokenboard::storyworld::synonyms;
///
/// assert!(!synonyms("fox", "owl"));
/// ```
pub fn synonyms(a: &str, b: &str) -> bool {
    let sense = |word| LEXICON.get(word).filter(|s| **s != Sense::default());
    sense(a).is_some_and(|a| sense(b) == Some(a))
}

/// What `text` names, synonyms and plurals included: "the snowy woods at dusk" is the forest in
/// snow at sunset. Articles, case and punctuation do not matter.
pub fn mentions(text: &str) -> Mentions {
    let words: Vec<String> = words(text).collect();
    let mut found = Mentions::default();
    let mut moon = false;
    let mut at = 0;
    while at < words.len() {
        let longest = (at + LONGEST).min(words.len());
        let hit = (at + 1..=longest)
            .rev()
            .find_map(|end| LEXICON.get(&words[at..end].join(" ")).map(|s| (*s, end)));
        let Some((sense, end)) = hit else {
            at += 1;
            continue;
        };
        if let Some(subject) = sense.subject
            && !found.subjects.contains(&subject)
        {
            found.subjects.push(subject);
        }
        match sense.place {
            // A moon in the sky of another place is only the night's.
            Some(Place::Moon) => moon = true,
            Some(place) if found.place.is_none() => found.place = Some(place),
            _ => {}
        }
        found.time = found.time.or(sense.time);
        found.weather = found.weather.or(sense.weather);
        at = end;
    }
    if moon {
        if found.place.is_some() {
            found.time = found.time.or(Some(Time::Night));
        } else {
            found.place = Some(Place::Moon);
        }
    }
    found
}
