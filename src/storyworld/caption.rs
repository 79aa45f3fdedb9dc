//! Sentences that say what a scene shows.

use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};

use super::cast::SubjectId;
use super::place::{Place, Time, Weather};
use super::scene::Scene;
use super::{shapes, words};

/// One shape in this many is never used for training captions.
const RESERVED: usize = 8;

/// A caption of `scene`: subjects are named from left to right; place, time and weather are
/// sometimes left out, daylight and clear weather mostly.
pub fn caption(scene: &Scene, rng: &mut impl Rng) -> String {
    write(scene, rng, |i| i % RESERVED != RESERVED - 1)
}

/// A caption in one of the sentence shapes that [`caption`] never uses, for evaluation.
pub fn caption_held_out(scene: &Scene, rng: &mut impl Rng) -> String {
    write(scene, rng, |i| i % RESERVED == RESERVED - 1)
}

/// A complete caption of `scene`, always the same one for the same scene and of the same build
/// for all: who and what from left to right, then place, weather and time; daylight and clear
/// weather go without saying.
pub fn description(scene: &Scene) -> String {
    let mut text = String::new();
    for (i, placed) in scene.subjects.iter().enumerate() {
        text += match i {
            0 => "",
            _ if i + 1 == scene.subjects.len() => " and ",
            _ => ", ",
        };
        text += &with_article(placed.subject.get().nouns[0]);
    }
    if scene.subjects.is_empty() {
        text += "nobody";
    }
    let first = |phrases: &[&'static str]| phrases.first().copied();
    let says_weather = scene.place.has_weather() && scene.weather != Weather::Clear;
    let weather = says_weather.then(|| first(scene.weather.phrases(scene.time)));
    let time = (scene.time != Time::Day).then(|| first(scene.time.phrases(scene.weather)));
    let parts = [
        first(scene.place.phrases()),
        weather.flatten(),
        time.flatten(),
    ];
    for part in parts.into_iter().flatten() {
        text += " ";
        text += part;
    }
    text
}

fn write(scene: &Scene, rng: &mut impl Rng, allowed: impl Fn(usize) -> bool) -> String {
    let subjects: Vec<SubjectId> = scene.subjects.iter().map(|p| p.subject).collect();
    let shapes = shapes::shapes(&subjects);
    let story = rng.random_bool(0.55);
    let list = if story { shapes.story } else { shapes.plain };
    let fitting: Vec<_> = (0..list.len()).filter(|&i| allowed(i)).collect();
    let shape = list[fitting.choose(rng).copied().unwrap_or(0)];

    let (lead, at) = setting(scene, rng);
    let style = ReferringStyle::random(rng, story);
    let mut text = shape.to_owned();
    for (i, &subject) in subjects.iter().enumerate() {
        let slot = ["{a}", "{b}", "{c}"][i.min(2)];
        text = text.replace(slot, &style.noun_phrase(subject, rng));
        if i == 0 {
            text = text.replace("{a0}", &bare(subject, rng));
        }
        if let Some(verb) = subject.get().verbs.choose(rng) {
            text = text.replace("{v}", verb);
        }
    }
    finish(&lead, &text.replace("{at}", &at), story)
}

/// Tidies spaces, puts the lead in front and, for sentences, a capital at the start.
pub(super) fn finish(lead: &str, text: &str, capital: bool) -> String {
    let joined = if lead.is_empty() {
        text.to_owned()
    } else {
        format!("{lead}, {}", uncapital(text))
    };
    let mut tidy = String::with_capacity(joined.len());
    for word in joined.split_whitespace() {
        let mark = word.starts_with(['.', ',', '!', ':', '?']);
        if !tidy.is_empty() && !mark {
            tidy.push(' ');
        }
        tidy.push_str(word);
    }
    if !capital {
        return tidy;
    }
    let mut letters = tidy.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}

/// Only words of the shapes are ever capital at the start, apart from characters' names, and
/// those keep theirs.
fn uncapital(text: &str) -> String {
    const OPENERS: [&str; 9] = [
        "Once", "We", "There", "Here", "Look", "Someone", "Nobody", "Together", "What",
    ];
    match OPENERS.iter().find(|o| text.starts_with(**o)) {
        Some(opener) => format!("{}{}", opener.to_lowercase(), &text[opener.len()..]),
        None => text.to_owned(),
    }
}

/// How subjects are spoken of within one sentence.
#[derive(Clone, Copy)]
pub(super) enum ReferringStyle {
    /// "a red fox"
    Indefinite,
    /// "the fox"; things may be new ("a lantern")
    Definite,
    /// "Fox"
    Name,
    /// "fox"
    Bare,
}

impl ReferringStyle {
    fn random(rng: &mut impl Rng, story: bool) -> Self {
        match (story, rng.random_range(0..20)) {
            (true, 0..7) => ReferringStyle::Indefinite,
            (true, 7..15) => ReferringStyle::Definite,
            (true, _) => ReferringStyle::Name,
            (false, 0..15) => ReferringStyle::Indefinite,
            (false, 15..18) => ReferringStyle::Definite,
            (false, _) => ReferringStyle::Bare,
        }
    }

    pub(super) fn noun_phrase(self, subject: SubjectId, rng: &mut impl Rng) -> String {
        let noun = bare(subject, rng);
        match self {
            ReferringStyle::Bare => noun,
            ReferringStyle::Definite if subject.is_character() || rng.random_bool(0.5) => {
                format!("the {noun}")
            }
            ReferringStyle::Name if subject.is_character() => title(subject.get().nouns[0]),
            _ => with_article(&noun),
        }
    }
}

pub(super) fn title(noun: &str) -> String {
    let mut letters = noun.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}

pub(super) fn with_article(noun: &str) -> String {
    let article = if noun.starts_with(['a', 'e', 'i', 'o', 'u']) {
        "an"
    } else {
        "a"
    };
    format!("{article} {noun}")
}

/// Adjectives that say nothing about looks, for characters.
pub(super) const MOODS: [&str; 8] = [
    "little", "happy", "brave", "curious", "sleepy", "kind", "lonely", "small",
];

/// A noun with or without an adjective.
fn bare(subject: SubjectId, rng: &mut impl Rng) -> String {
    let kind = subject.get();
    let noun = if rng.random_bool(0.7) {
        kind.nouns[0]
    } else {
        kind.nouns.choose(rng).copied().unwrap_or(kind.name)
    };
    let adjective = match rng.random_range(0..10) {
        0..3 => kind.adjectives.choose(rng).copied(),
        3 if subject.is_character() => MOODS.choose(rng).copied(),
        _ => None,
    };
    match adjective {
        Some(adjective) => format!("{adjective} {noun}"),
        None => noun.to_owned(),
    }
}

/// Where, when and in what weather `scene` plays, without its subjects: "at night in the forest".
/// What goes without saying is mostly left out.
pub(super) fn setting_caption(scene: &Scene, rng: &mut impl Rng) -> String {
    let (lead, rest) = setting(scene, rng);
    finish(&lead, &rest, false)
}

/// Where, when and in what weather: a part to open the sentence with (often empty) and the rest.
fn setting(scene: &Scene, rng: &mut impl Rng) -> (String, String) {
    let Scene {
        place,
        time,
        weather,
        ..
    } = *scene;
    let say_place = rng.random_bool(0.93);
    let mut say_time = rng.random_bool(if time == Time::Day { 0.25 } else { 0.93 });
    let mut say_weather = place.has_weather()
        && rng.random_bool(if weather == Weather::Clear {
            0.08
        } else {
            0.93
        });
    let mut parts: Vec<String> = Vec::new();
    if say_place {
        let mut adjective = None;
        if say_weather && place != Place::Snowfield && rng.random_bool(0.3) {
            adjective = weather.adjectives().choose(rng);
            say_weather &= adjective.is_none();
        } else if say_time
            && rng.random_bool(0.15)
            && place != Place::Moon
            && (time != Time::Day || weather == Weather::Clear)
        {
            adjective = time.adjectives().choose(rng);
            say_time &= adjective.is_none();
        }
        parts.extend(match (adjective, place.nouns().choose(rng)) {
            (Some(adjective), Some((preposition, noun))) => {
                Some(format!("{preposition} the {adjective} {noun}"))
            }
            _ => place.phrases().choose(rng).map(|p| (*p).to_owned()),
        });
    }
    if say_weather && let Some(phrase) = weather.phrases(time).choose(rng) {
        say_time &= !phrase.ends_with("day") && !phrase.ends_with("night");
        parts.push((*phrase).to_owned());
    }
    if say_time && let Some(phrase) = time.phrases(weather).choose(rng) {
        parts.push((*phrase).to_owned());
    }
    if rng.random_bool(0.3) {
        parts.shuffle(rng);
    }
    let lead = if !parts.is_empty() && rng.random_bool(0.25) {
        let i = rng.random_range(0..parts.len());
        parts.remove(i)
    } else {
        String::new()
    };
    (lead, parts.join(" "))
}

const PREPOSITIONS: [&str; 16] = [
    "in", "on", "at", "by", "among", "near", "beside", "below", "under", "as", "of", "to", "with",
    "while", "high", "deep",
];

/// A rougher wording of `text` that means the same, for training: words that say nothing about
/// the picture are put in, articles and the end mark dropped, so that a text encoder learns to
/// look past them.
pub fn roughen(text: &str, rng: &mut impl Rng) -> String {
    let filler = words::neutral();
    let drop_articles = rng.random_bool(0.4);
    let mut out: Vec<&str> = Vec::new();
    for word in text.split_whitespace() {
        // Never inside a phrase: only before prepositions, and before articles that follow none.
        let bound = out.last().is_some_and(|w| PREPOSITIONS.contains(w));
        let opening =
            !bound && (matches!(word, "a" | "an" | "the" | "and") || PREPOSITIONS.contains(&word));
        while opening && rng.random_bool(0.25) {
            out.extend(filler.choose(rng).map(String::as_str));
        }
        if !(drop_articles && matches!(word, "a" | "an" | "the" | "A" | "An" | "The")) {
            out.push(word);
        }
    }
    out.join(" ").trim_end_matches(['.', '!']).to_owned()
}
