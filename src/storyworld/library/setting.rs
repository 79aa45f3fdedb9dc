//! Where and when a composition plays: the places of the stories, and as many more again.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::LazyLock;

use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};

use crate::storyworld::backdrop::{Layer, layers};
use crate::storyworld::caption::{finish, setting_caption};
use crate::storyworld::place::{Place, Time, Weather};
use crate::storyworld::scene::Scene;
use crate::storyworld::words::{mentions, vocabulary as of_stories, words};

/// A line for each place beside those of the stories: its name, how sentences say that somebody is
/// there, and its layers.
const PLACES: &str = include_str!("../../../assets/library/places.txt");

/// A place beside those of the stories.
#[derive(Debug)]
pub(crate) struct MorePlace {
    name: &'static str,
    phrases: Vec<&'static str>,
    pub layers: Vec<Layer>,
}

static MORE: LazyLock<Vec<MorePlace>> = LazyLock::new(|| {
    let lines = PLACES.lines().filter(|line| !line.starts_with('#'));
    let read = |line: &'static str| {
        let mut fields = line.split('|').map(str::trim);
        let mut next = || fields.next().unwrap_or_default();
        MorePlace {
            name: next(),
            phrases: next().split("; ").collect(),
            layers: layers(next()),
        }
    };
    lines.map(read).collect()
});

impl MorePlace {
    /// One of the ways to say that somebody is there.
    pub(super) fn phrase(&self, rng: &mut impl Rng) -> &'static str {
        self.phrases.choose(rng).copied().unwrap_or(self.name)
    }
}

/// A place that a composition plays in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Location {
    /// A place of the stories.
    Story(Place),
    /// Another one, by its number.
    More(u8),
}

impl Location {
    /// Every place, those of the stories first.
    pub fn all() -> impl Iterator<Item = Self> {
        let stories = Place::ALL.iter().copied().map(Self::Story);
        stories.chain((0..MORE.len() as u8).map(Self::More))
    }

    /// Its number in [`Location::all`].
    pub fn index(self) -> usize {
        match self {
            Self::Story(place) => place.index(),
            Self::More(i) => Place::COUNT + usize::from(i),
        }
    }

    pub(crate) fn more(self) -> Option<&'static MorePlace> {
        match self {
            Self::Story(_) => None,
            Self::More(i) => MORE.get(usize::from(i)),
        }
    }

    /// Its name, lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Story(place) => place.name(),
            Self::More(_) => self.more().map_or("", |place| place.name),
        }
    }

    /// Whether rain and snow can fall there.
    pub fn has_weather(self) -> bool {
        match self {
            Self::Story(place) => place.has_weather(),
            Self::More(_) => self
                .more()
                .is_some_and(|place| place.layers.iter().any(Layer::is_sky)),
        }
    }
}

/// Where, when and in what weather a composition plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SceneSetting {
    /// Where it plays.
    pub location: Location,
    /// The time of day.
    pub time: Time,
    /// What the weather is like.
    pub weather: Weather,
    /// Which variant of the place.
    pub layout: u8,
    /// Which variant of rain or snow.
    pub fall: u8,
}

impl SceneSetting {
    /// Every place at every time in every weather that it has, in the first of its variants.
    pub fn all() -> impl Iterator<Item = Self> {
        let weathers = |location: Location| match location.has_weather() {
            true => Weather::ALL,
            false => &[Weather::Clear],
        };
        Location::all().flat_map(move |location| {
            let times = Time::ALL.iter();
            times.flat_map(move |&time| {
                weathers(location).iter().map(move |&weather| Self {
                    location,
                    time,
                    weather,
                    layout: 0,
                    fall: 0,
                })
            })
        })
    }

    /// The same as a scene without subjects; elsewhere than in a place of the stories its place
    /// says nothing.
    pub(super) fn scene(&self) -> Scene {
        Scene {
            place: match self.location {
                Location::Story(place) => place,
                Location::More(_) => Place::Forest,
            },
            time: self.time,
            weather: self.weather,
            layout: self.layout,
            fall: self.fall,
            subjects: Vec::new(),
        }
    }

    /// Says where, when and in what weather: "in the harbour at night". What goes without saying
    /// is mostly left out.
    pub fn caption(&self, rng: &mut impl Rng) -> String {
        let caption = self.silent_caption(rng);
        // Said often enough that rain and snow stay away when it is.
        let fair = self.fair().filter(|_| rng.random_bool(0.6));
        match fair.filter(|fair| !caption.contains(fair)) {
            Some(fair) => format!("{caption} {fair}").trim_start().to_owned(),
            None => caption,
        }
    }

    /// How it is said that it is day and the sky clear, where it is.
    fn fair(&self) -> Option<&'static str> {
        if self.time != Time::Day {
            return None;
        }
        match (self.location.has_weather(), self.weather) {
            (false, _) => Some("by day"),
            (true, Weather::Clear) => Some("on a sunny day"),
            (true, _) => None,
        }
    }

    fn silent_caption(&self, rng: &mut impl Rng) -> String {
        let Some(place) = self.location.more() else {
            return setting_caption(&self.scene(), rng);
        };
        let mut parts: Vec<&str> = Vec::new();
        if rng.random_bool(0.93) {
            parts.extend(place.phrases.choose(rng));
        }
        let clear = self.weather == Weather::Clear;
        let mut says_time = rng.random_bool(if self.time == Time::Day { 0.25 } else { 0.93 });
        if !clear
            && rng.random_bool(0.93)
            && let Some(phrase) = self.weather.phrases(self.time).choose(rng)
        {
            says_time &= !phrase.ends_with("day") && !phrase.ends_with("night");
            parts.push(phrase);
        }
        if says_time && let Some(phrase) = self.time.phrases(self.weather).choose(rng) {
            parts.push(phrase);
        }
        if rng.random_bool(0.3) {
            parts.shuffle(rng);
        }
        finish("", &parts.join(" "), false)
    }
}

impl SceneSetting {
    /// Says all of it in words of training captions, always the same: "in the harbour in the rain
    /// at night", "on the beach on a sunny day". Training captions leave daylight and clear weather
    /// out mostly, and then other times and weathers as well at times: so they are said.
    pub fn description(&self) -> String {
        let place = match self.location {
            Location::Story(place) => place.phrases().first(),
            Location::More(_) => self.location.more().and_then(|place| place.phrases.first()),
        };
        let wet = self.location.has_weather() && self.weather != Weather::Clear;
        let weather = self.weather.phrases(self.time).first().filter(|_| wet);
        // Some phrases of weather say the time, too.
        let says_night = weather.is_some_and(|phrase| phrase.ends_with("night"));
        let late = self.time != Time::Day && !says_night;
        let time = self.time.phrases(self.weather).first().filter(|_| late);
        let fair = self.fair();
        let fair = fair.as_ref();
        let parts = [place, weather, time, fair].into_iter().flatten().copied();
        parts.collect::<Vec<_>>().join(" ")
    }
}

/// Place, time and weather that a text names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SettingMentions {
    /// The first place that it names.
    pub location: Option<Location>,
    /// The time of day.
    pub time: Option<Time>,
    /// The weather.
    pub weather: Option<Weather>,
    /// Where places and phrases of times and weathers are, in bytes: what is drawn as a place is
    /// no subject, nor is the sun of "when the sun sets".
    pub places: Vec<Range<usize>>,
}

/// Words after which the name of a place says where something happens.
const PREPOSITIONS: [&str; 33] = [
    "in", "into", "on", "onto", "at", "to", "through", "from", "inside", "under", "near", "by",
    "along", "across", "over", "beside", "around", "outside", "above", "among", "between",
    "towards", "toward", "up", "down", "deep", "aboard", "past", "within", "reach", "reached",
    "leave", "entered",
];

/// Most words between such a word and the place: "in the old and dark forest".
const BETWEEN: usize = 4;

/// Words that no place is looked for behind.
const BREAKS: [&str; 12] = [
    "with", "of", "who", "that", "when", "then", "but", "for", "and", "left", "right", "middle",
];

/// Words before "of" that say where in a place something is.
const PARTS: [&str; 10] = [
    "top", "edge", "foot", "side", "end", "bottom", "heart", "out", "middle", "shore",
];

/// Nouns and phrases of places, in lower case words.
static NAMES: LazyLock<Vec<(Vec<&'static str>, Location, bool)>> = LazyLock::new(|| {
    let mut all: Vec<(Vec<&str>, Location, bool)> = Vec::new();
    let mut add = |text: &'static str, location, whole| {
        let words: Vec<&str> = text.split(' ').collect();
        if !all.iter().any(|(other, ..)| *other == words) {
            all.push((words, location, whole));
        }
    };
    for location in Location::all() {
        add(location.name(), location, false);
    }
    for location in Location::all() {
        let more = location
            .more()
            .map(|place| &place.phrases[..])
            .unwrap_or_default();
        for phrase in more {
            add(phrase, location, true);
            let noun = phrase.rsplit_once(" the ").or(phrase.rsplit_once(" a "));
            // "in the lab" says that "lab" is the place; "by the boats" does not.
            let inside = phrase.starts_with("in the ") || phrase.starts_with("at the ");
            if let Some((_, noun)) = noun.filter(|_| inside) {
                add(noun, location, false);
            }
        }
    }
    for &place in Place::ALL {
        for noun in place.also() {
            add(noun, Location::Story(place), false);
        }
    }
    all.sort_by_key(|(words, ..)| std::cmp::Reverse(words.len()));
    all
});

/// Phrases of times and weathers of more than one word.
static WHENS: LazyLock<Vec<Vec<&'static str>>> = LazyLock::new(|| {
    let mut all: Vec<Vec<&str>> = Vec::new();
    for time in Time::ALL {
        all.extend(time.also().iter().map(|phrase| phrase.split(' ').collect()));
        for weather in Weather::ALL {
            let phrases = time.phrases(*weather).iter().chain(weather.phrases(*time));
            all.extend(phrases.map(|phrase| phrase.split(' ').collect()));
        }
    }
    all.retain(|words: &Vec<&str>| words.len() > 1);
    all.sort_by_key(|words| std::cmp::Reverse(words.len()));
    all.dedup();
    all
});

impl SettingMentions {
    /// Reads an English text.
    ///
    /// ```
    /// use vokenboard::storyworld::library::SettingMentions;
    ///
    /// let said = SettingMentions::of("At night the boat lay in the old harbour.");
    /// assert_eq!(said.location.unwrap().name(), "harbour");
    /// assert_eq!(SettingMentions::of("She drew a castle.").location, None);
    /// ```
    pub fn of(text: &str) -> SettingMentions {
        let mentions = mentions(text);
        let mut all_mentions = SettingMentions {
            time: mentions.time,
            weather: mentions.weather,
            ..SettingMentions::default()
        };
        let words = super::names::words(text);
        let mut at = 0;
        while at < words.len() {
            let hit = NAMES.iter().find(|(name, _, whole)| {
                let there = words[at..].iter().map(|(_, word)| &**word);
                words.len() - at >= name.len()
                    && there.zip(name).all(|(a, b)| a == *b)
                    && (*whole || is_where(&words, at))
            });
            let Some((name, location, _)) = hit else {
                let when = WHENS.iter().find(|when| {
                    let there = words[at..].iter().map(|(_, word)| &**word);
                    words.len() - at >= when.len() && there.zip(*when).all(|(a, b)| a == *b)
                });
                let end = at + when.map_or(1, Vec::len);
                if when.is_some() {
                    all_mentions
                        .places
                        .push(words[at].0.start..words[end - 1].0.end);
                }
                at = end;
                continue;
            };
            let end = at + name.len();
            all_mentions.location = all_mentions.location.or(Some(*location));
            all_mentions
                .places
                .push(words[at].0.start..words[end - 1].0.end);
            at = end;
        }
        all_mentions
    }
}

/// Whether what stands at `at` is where something happens.
fn is_where(words: &[(Range<usize>, String)], at: usize) -> bool {
    let before: Vec<&str> = words[..at].iter().map(|(_, word)| &**word).collect();
    for (i, word) in before.iter().enumerate().rev().take(BETWEEN) {
        if *word == "of" && i > 0 && PARTS.contains(&before[i - 1]) {
            return true;
        }
        if PREPOSITIONS.contains(word) {
            return true;
        }
        if BREAKS.contains(word) {
            return false;
        }
    }
    false
}

/// The words of [`crate::storyworld::vocabulary`], and behind them those of the other places.
pub fn vocabulary() -> Vec<String> {
    let mut all = of_stories();
    let known: HashSet<String> = all.iter().cloned().collect();
    let mut more: Vec<String> = MORE
        .iter()
        .flat_map(|place| place.phrases.iter().flat_map(|phrase| words(phrase)))
        .filter(|word| !known.contains(word))
        .collect();
    more.sort_unstable();
    more.dedup();
    all.extend(more);
    all
}
