//! Where and when a composition plays: the places of the stories, and as many more again.

use std::collections::HashSet;
use std::sync::LazyLock;

use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};

use crate::storyworld::backdrop::{Layer, layers};
use crate::storyworld::caption::{finish, setting_caption};
use crate::storyworld::place::{Place, Time, Weather};
use crate::storyworld::scene::Scene;
use crate::storyworld::words::{vocabulary as of_stories, words};

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

/// Where a composition plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ground {
    /// A place of the stories.
    Story(Place),
    /// Another one, by its number.
    More(u8),
}

impl Ground {
    /// Every place, those of the stories first.
    pub fn all() -> impl Iterator<Item = Self> {
        let stories = Place::ALL.iter().copied().map(Self::Story);
        stories.chain((0..MORE.len() as u8).map(Self::More))
    }

    /// Its number in [`Ground::all`].
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
    pub ground: Ground,
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
    /// The same as a scene without subjects; elsewhere than in a place of the stories its place
    /// says nothing.
    pub(super) fn scene(&self) -> Scene {
        Scene {
            place: match self.ground {
                Ground::Story(place) => place,
                Ground::More(_) => Place::Forest,
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
        let Some(place) = self.ground.more() else {
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
