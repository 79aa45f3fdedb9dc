//! Stories as people tell them: once somebody is known, sentences say "she", "her friend" or "the
//! two of them", and leave out where and when while nothing changes. Who, where and when are then
//! in the story so far, in its words or in its pictures, and not in the sentence.
//!
//! What a sentence leaves out can always be found: the hero and the friend have different
//! pronouns, other roles have a name of their own, and whatever changes from one picture to the
//! next is said.

use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};

use super::cast::SubjectId;
use super::place::{Time, Weather};
use super::scene::Scene;
use super::tale::place_words;
use super::words::mentions;

/// Subjects of `scene` that `text` does not name, from left to right.
pub fn unnamed(scene: &Scene, text: &str) -> Vec<SubjectId> {
    let named = mentions(text).subjects;
    let shown = scene.subjects.iter().map(|placed| placed.subject);
    shown.filter(|subject| !named.contains(subject)).collect()
}

/// Whether `text` speaks of who acts in `scene` only by pronoun or role, so that it alone does not
/// tell whom to draw: it names none of the characters shown, or, where only things are shown, none
/// of these.
pub fn refers(scene: &Scene, text: &str) -> bool {
    let open = unnamed(scene, text);
    let hidden = |characters: bool| {
        let mut shown = scene
            .subjects
            .iter()
            .map(|placed| placed.subject)
            .filter(|subject| subject.is_character() == characters)
            .peekable();
        shown.peek().is_some() && shown.all(|subject| open.contains(&subject))
    };
    let characters = scene.subjects.iter().any(|p| p.subject.is_character());
    hidden(characters)
}

/// "she", "her", "her": as subject, as object, and before what is hers.
pub(super) type Pronouns = [&'static str; 3];
pub(super) const SHE: Pronouns = ["she", "her", "her"];
pub(super) const HE: Pronouns = ["he", "him", "his"];

/// Words after which a role is the subject of what follows.
const BEFORE_SUBJECTS: [&str; 14] = [
    "and", "but", "now", "later", "that", "while", "yet", "because", "then", "soon", "first", "so",
    "suddenly", "finally",
];
/// They open a sentence whose subject is known; none of them says anything about a picture.
const OPENERS: [&str; 4] = ["Then", "Soon", "So", "After that,"];
/// The same for the last panel.
const LAST_OPENERS: [&str; 4] = ["At last", "Finally,", "In the end,", "And so"];
/// Groups of roles as the plots speak of them, with how many friends they are. Those of three come first,
/// since they hold those of two.
const GROUPS: [(&str, usize); 7] = [
    ("{h} and {t}", 0),
    ("{h}, {f} and {g}", 3),
    ("{h} and {f}", 2),
    ("{f} and {h}", 2),
    ("{h} and {g}", 2),
    ("{g} and {h}", 2),
    ("{f} and {g}", 2),
];

/// How one story speaks of those it does not name.
#[derive(Clone, Debug)]
pub(super) struct PronounUse {
    pub hero: Pronouns,
    pub friend: Pronouns,
    /// The hero by role.
    little: &'static str,
    /// The first panel only shows the hero: "Someone walks in the forest."
    pub shown_only: bool,
    /// Hero and friend came in one sentence, so that their pronouns do not tell them apart.
    together: bool,
    /// The friend came with another in one sentence, and only the name tells them apart.
    in_a_crowd: bool,
}

impl PronounUse {
    /// `None` where hero and friend would need the same pronouns.
    pub(super) fn random(hero: SubjectId, friend: SubjectId, rng: &mut impl Rng) -> Option<Self> {
        let she = |subject: SubjectId| match subject.name() {
            "girl" => Some(true),
            "boy" | "wizard" => Some(false),
            _ => None,
        };
        Self::of(she(hero), she(friend), rng)
    }

    /// The same where it is known of some of them whether one says "she".
    pub(super) fn of(hero: Option<bool>, friend: Option<bool>, rng: &mut impl Rng) -> Option<Self> {
        let hero = match (hero, friend) {
            (Some(a), Some(b)) if a == b => return None,
            (Some(a), _) => a,
            (None, Some(b)) => !b,
            (None, None) => rng.random_bool(0.5),
        };
        let (hero, friend) = if hero { (SHE, HE) } else { (HE, SHE) };
        Some(Self {
            hero,
            friend,
            little: ["the little one", "the brave little one", "the young one"]
                .choose(rng)
                .copied()
                .unwrap_or("the little one"),
            shown_only: rng.random_bool(0.35),
            together: false,
            in_a_crowd: false,
        })
    }

    /// Notes who comes into the story by `template`.
    pub(super) fn introduce(&mut self, template: &str) {
        let comes = |slot| template.contains(slot);
        self.together |= comes("{h1}") && comes("{f1}");
        self.in_a_crowd |= comes("{f1}") && comes("{g1}");
    }

    /// `text` with its known roles spoken of by pronoun or role; slots that introduce somebody
    /// stay.
    pub(super) fn refer(&self, text: &str, rng: &mut impl Rng) -> String {
        let mut text = text.to_owned();
        for (group, count) in GROUPS {
            while let Some(at) = text.find(group) {
                let subject = is_subject(&text[..at]);
                // "The friends are friends" says it twice.
                let names_friend = text.contains("friend");
                let words = match (count, subject) {
                    (0, true) => &["they"][..],
                    (0, false) => &["both"],
                    (3, true) if names_friend => &["they", "all three"],
                    (3, true) => &[
                        "they",
                        "all three",
                        "the three friends",
                        "all three of them",
                    ],
                    (3, false) => &["them all", "all three of them", "the three friends"],
                    (_, true) if names_friend => &["they", "the two", "both of them"],
                    (_, true) => &["they", "the two friends", "both of them", "the two of them"],
                    (_, false) => &["them", "them both", "the two friends"],
                };
                let word = words.choose(rng).copied().unwrap_or("they");
                text.replace_range(at..at + group.len(), word);
            }
        }
        for role in ['h', 'f', 'g', 't', 'u'] {
            let slot = format!("{{{role}}}");
            // In the sentence that introduces somebody the name is free to come again.
            let introduced = text.contains(&format!("{{{role}1}}"))
                || (self.in_a_crowd && matches!(role, 'f' | 'g'));
            while !introduced && let Some(at) = text.find(&slot) {
                let word = self.word(role, is_subject(&text[..at]), &text, rng);
                text.replace_range(at..at + slot.len(), &word);
            }
        }
        text.replace("the shine of it", "its shine")
            .replace(" at it ", " there ")
    }

    fn word(&self, role: char, subject: bool, text: &str, rng: &mut impl Rng) -> String {
        let case = usize::from(!subject);
        match role {
            'h' if self.together => "the first friend".to_owned(),
            'f' if self.together => "the other friend".to_owned(),
            'h' if rng.random_bool(0.75) => self.hero[case].to_owned(),
            'h' => self.little.to_owned(),
            'f' if text.contains("friend") || rng.random_bool(0.4) => self.friend[case].to_owned(),
            'f' => format!("{} friend", self.hero[2]),
            'g' if self.together => "the new one".to_owned(),
            'g' if text.contains("friend") => "the other one".to_owned(),
            'g' => ["the new friend", "the other one"]
                .choose(rng)
                .map_or_else(String::new, |words| (*words).to_owned()),
            't' => "it".to_owned(),
            _ => "the other thing".to_owned(),
        }
    }

    /// `text` of the first panel with the one that it introduces only shown in its picture; where
    /// there are two, words must tell them apart.
    pub(super) fn conceal(&self, text: &str) -> String {
        let slots = ["{h1}", "{f1}", "{g1}"];
        match slots.iter().filter(|slot| text.contains(**slot)).count() {
            1 => slots
                .iter()
                .fold(text.to_owned(), |text, slot| text.replace(slot, "someone")),
            _ => text.to_owned(),
        }
    }
}

/// Whether what follows `before` begins a clause.
fn is_subject(before: &str) -> bool {
    let before = before.trim_end();
    if before.is_empty() || before.ends_with(['.', ',', '!', '?', ':']) {
        return true;
    }
    let last = before.rsplit(' ').next().unwrap_or_default().to_lowercase();
    before.ends_with("At last") || BEFORE_SUBJECTS.contains(&last.as_str())
}

/// What may stand before a sentence.
pub(super) struct Opening {
    /// What it must say first; empty where nothing is missing.
    pub lead: String,
    /// Whether words may open it where nothing must.
    pub may_open: bool,
    /// Whether it is the story's last.
    pub last: bool,
}

impl Opening {
    /// `text` behind it; `is_name` says which words keep their capital.
    pub(super) fn before(
        &self,
        text: String,
        is_name: impl Fn(&str) -> bool,
        rng: &mut impl Rng,
    ) -> String {
        match self.lead.is_empty() {
            false => lead_in(&self.lead, &text, is_name),
            true if self.may_open && rng.random_bool(0.3) => open(&text, self.last, is_name, rng),
            true => text,
        }
    }
}

/// Puts words before a sentence whose subject is known, now and then.
fn open(text: &str, last: bool, is_name: impl Fn(&str) -> bool, rng: &mut impl Rng) -> String {
    let openers = if last { LAST_OPENERS } else { OPENERS };
    let opener = openers.choose(rng).copied().unwrap_or("Then");
    format!("{opener} {}", lower_first(text, is_name))
}

/// Puts `lead` before `text`, or after its first words where they are an exclamation.
fn lead_in(lead: &str, text: &str, is_name: impl Fn(&str) -> bool) -> String {
    match text.split_once("! ") {
        Some((cry, rest)) => format!("{cry}! {lead}, {}", lower_first(rest, is_name)),
        None => format!("{lead}, {}", lower_first(text, is_name)),
    }
}

/// Whether a word is a name in stories of the storyworld: names are nouns of the cast that no
/// article precedes.
pub(super) fn is_noun_of_the_cast(word: &str) -> bool {
    SubjectId::characters().any(|s| s.get().nouns[0].eq_ignore_ascii_case(word))
}

/// `text` with its first letter small, unless it is a name ("Fox").
fn lower_first(text: &str, is_name: impl Fn(&str) -> bool) -> String {
    let first = text.split([' ', ',', '.']).next().unwrap_or_default();
    let mut letters = text.chars();
    match letters.next() {
        Some(letter) if !is_name(first) => letter.to_lowercase().chain(letters).collect(),
        _ => text.to_owned(),
    }
}

/// What `text` must say in front, since the picture changes and its own words do not: where, in
/// what weather and when. Empty where nothing is missing.
pub(super) fn lead(
    before: Option<&Scene>,
    scene: &Scene,
    text: &str,
    rng: &mut impl Rng,
) -> String {
    let named = mentions(text);
    let falls = scene.place.has_weather() && before.is_none_or(|b| b.weather != scene.weather);
    let missing = Missing {
        place: named.place.is_none() && before.is_none_or(|b| b.place != scene.place),
        // A story may begin under a clear sky by day without saying so.
        weather: named.weather.is_none()
            && falls
            && (before.is_some() || scene.weather != Weather::Clear),
        time: named.time.is_none() && before.is_none_or(|b| b.time != scene.time),
    };
    missing.words(
        scene.time,
        scene.weather,
        |rng| place_words(scene, rng),
        rng,
    )
}

/// What a sentence must say in front of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Missing {
    pub place: bool,
    pub weather: bool,
    pub time: bool,
}

impl Missing {
    /// Says it, where `place` says where; empty where nothing is missing.
    pub(super) fn words<R: Rng>(
        mut self,
        time: Time,
        weather: Weather,
        place: impl FnOnce(&mut R) -> String,
        rng: &mut R,
    ) -> String {
        let mut parts: Vec<String> = Vec::new();
        if self.place {
            parts.push(place(rng));
            self.weather &= mentions(&parts[0]).weather.is_none();
        }
        if self.weather
            && let Some(phrase) = weather.phrases(time).choose(rng)
        {
            parts.push((*phrase).to_owned());
        }
        let timed = parts.iter().any(|part| mentions(part).time.is_some());
        if self.time
            && !timed
            && let Some(phrase) = time.phrases(weather).choose(rng)
        {
            parts.push((*phrase).to_owned());
        }
        if rng.random_bool(0.3) {
            parts.shuffle(rng);
        }
        parts.join(" ")
    }
}

/// Pairs of characters that never meet in a training story, whatever their roles: one in ten.
pub(super) fn pair_held_out(a: SubjectId, b: SubjectId) -> bool {
    let (low, high) = (a.index().min(b.index()), a.index().max(b.index()));
    let hash = (low as u64 * 64 + high as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((hash ^ (hash >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 32).is_multiple_of(10)
}
