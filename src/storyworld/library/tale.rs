//! Stories about any drawings of the library, for training and for judging what was learnt.

use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::plots::{Beat, LIBRARY_PLOTS, Plot};
use super::{
    Composition, DrawingId, Location, MAX_FIGURES, SceneSetting, SettingMentions, drawn_nouns,
};
use crate::storyworld::caption::{MOODS, title, with_article};
use crate::storyworld::place::{Time, Weather};
use crate::storyworld::reference::{HE, Missing, Opening, PronounUse, SHE};
use crate::storyworld::scene::{FALLS, LAYOUTS, Split};
use crate::storyworld::tale::{
    ROLES, fill_role, fill_setting, place_words, sentences, without_place,
};
use crate::storyworld::words::words;

/// Share of the later panels that may leave out names, in stories that teach whom words mean.
const REFERRING: f64 = 0.85;
/// The same in stories that are read.
const NAMING: f64 = 0.35;
/// Adjectives that fit any thing.
const OF_THINGS: [&str; 6] = ["little", "old", "new", "strange", "beautiful", "big"];
/// Given names of whoever is called "she" or "he" in a story.
const NAMES: [[&str; 16]; 2] = [
    [
        "Mia", "Lena", "Ella", "Nora", "Zoe", "Rita", "Ada", "Clara", "Ivy", "Maya", "Rosa",
        "Tilly", "Hazel", "Luna", "Elsa", "Bella",
    ],
    [
        "Milo", "Tom", "Ben", "Leo", "Max", "Sam", "Oscar", "Felix", "Hugo", "Otto", "Emil",
        "Jack", "Noah", "Theo", "Bruno", "Pip",
    ],
];

/// A story: its cast, and panels with what they show.
#[derive(Clone, Debug)]
pub struct LibraryTale {
    /// What happens, in a few words.
    pub title: &'static str,
    /// Who plays, in the order in which they come into the story.
    pub members: Vec<TaleMember>,
    /// The panels in reading order.
    pub panels: Vec<TalePanel>,
}

/// Somebody or something in a story.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaleMember {
    /// How it looks.
    pub drawing: DrawingId,
    /// What it is called: "Milo", "old woman".
    pub name: String,
    /// The noun for it.
    pub noun: &'static str,
}

/// A panel of a story.
#[derive(Clone, Debug)]
pub struct TalePanel {
    /// Its sentences.
    pub text: String,
    /// Its picture.
    pub composition: Composition,
    /// Who the composition's figures are, by their numbers in [`LibraryTale::members`].
    pub shown: Vec<usize>,
    /// How many of the members have come into the story by now.
    pub known: usize,
}

/// How many plots there are.
pub fn library_plot_count() -> usize {
    LIBRARY_PLOTS.all.len()
}

/// A role of a story.
#[derive(Clone, Debug)]
struct Role {
    drawing: DrawingId,
    noun: &'static str,
    /// Its given name, where it has one.
    given: Option<&'static str>,
}

/// Who plays, where, and how they are spoken of.
struct Production {
    plot: &'static Plot,
    roles: [Option<Role>; 5],
    places: [Location; 3],
    layouts: [u8; 3],
    weather: Weather,
    voice: PronounUse,
}

impl LibraryTale {
    /// The story of a seed, spoken of as [`crate::storyworld::Tale::referring`] does it, but that its first text
    /// always says who plays. Stories of [`Split::Training`] show no drawing that is held out;
    /// the hero of [`Split::HeldOut`] is one.
    pub fn random(seed: u64, split: Split) -> Self {
        Self::draw(seed, split, REFERRING, |tale| {
            2 * tale.open() >= tale.later().len()
        })
    }

    /// The same, but that most panels call everybody by name: what a model reads of them it writes, and
    /// a reader would rather know who it is.
    pub fn naming(seed: u64, split: Split) -> Self {
        Self::draw(seed, split, NAMING, |_| true)
    }

    fn draw(seed: u64, split: Split, referring: f64, fits: impl Fn(&Self) -> bool) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        loop {
            let Some(production) = Production::random(split, &mut rng) else {
                continue;
            };
            let tale = production.into_tale(referring, &mut rng);
            if tale.is_clear() && fits(&tale) {
                return tale;
            }
        }
    }

    /// The panels behind the first.
    fn later(&self) -> &[TalePanel] {
        self.panels.get(1..).unwrap_or_default()
    }

    /// How many of the later panels name nobody who acts in them.
    fn open(&self) -> usize {
        let later = self.later().iter();
        later.filter(|panel| self.refers(panel)).count()
    }

    /// Whether what is said is what is shown, what changes is said, and no sentence comes twice.
    fn is_clear(&self) -> bool {
        let mut before: Option<&SceneSetting> = None;
        for panel in &self.panels {
            let (mentions, setting) =
                (SettingMentions::of(&panel.text), &panel.composition.setting);
            let weather = before.map_or(Weather::Clear, |b| b.weather);
            let right = mentions.location.or(before.map(|b| b.location)) == Some(setting.location)
                && mentions
                    .time
                    .or(before.map(|b| b.time))
                    .unwrap_or(Time::Day)
                    == setting.time
                && (!setting.location.has_weather()
                    || mentions.weather.unwrap_or(weather) == setting.weather);
            if !right {
                return false;
            }
            before = Some(setting);
        }
        let mut unique: Vec<&str> = self
            .panels
            .iter()
            .flat_map(|panel| panel.text.split_inclusive(['.', '!', '?']))
            .map(str::trim)
            .collect();
        let all = unique.len();
        unique.sort_unstable();
        unique.dedup();
        unique.len() == all
    }

    /// Whether the text of `panel` calls nobody who acts in it by name.
    pub fn refers(&self, panel: &TalePanel) -> bool {
        let acts = |i: &&usize| self.members[**i].drawing.get().kind.is_character();
        let mut shown = panel.shown.iter().filter(acts);
        shown.all(|i| !says(&panel.text, &self.members[*i].name))
    }
}

impl TaleMember {
    /// Whether `text` calls it by its name or its noun.
    pub fn is_named_in(&self, text: &str) -> bool {
        says(text, &self.name) || says(text, self.noun)
    }

    /// Its own drawing, and what its noun alone is drawn as.
    pub fn drawings(&self) -> Vec<DrawingId> {
        let of_noun = drawn_nouns(self.noun).into_iter().map(|noun| noun.drawing);
        std::iter::once(self.drawing).chain(of_noun).collect()
    }
}

/// Whether the words of `name` stand in `text`.
fn says(text: &str, name: &str) -> bool {
    let text: Vec<String> = words(text).collect();
    let name: Vec<String> = words(name).collect();
    text.windows(name.len().max(1)).any(|part| part == name)
}

impl Production {
    /// `None` where nobody fits a role, or the roles don't fit together.
    fn random(split: Split, rng: &mut ChaCha8Rng) -> Option<Self> {
        let plots = &*LIBRARY_PLOTS;
        let plot = plots.all.choose(rng)?;
        let mut roles: [Option<Role>; 5] = Default::default();
        for (i, letter) in ROLES.chars().enumerate() {
            if !plot.beats.iter().any(|beat| beat.cast.contains(letter)) {
                continue;
            }
            let hero = i == 0;
            let fits = |id: &&DrawingId| match split {
                Split::Training => !id.held_out(),
                Split::HeldOut => !hero || id.held_out(),
                Split::Any => true,
            };
            let free: Vec<&DrawingId> = plot.roles[i].iter().filter(fits).collect();
            let drawing = **free.choose(rng)?;
            let noun = noun(drawing, rng)?;
            // Neither is part of what another is called.
            let apart = roles.iter().flatten().all(|other| {
                other.drawing != drawing && !shares(other.noun, noun) && !shares(noun, other.noun)
            });
            if !apart {
                return None;
            }
            roles[i] = Some(Role {
                drawing,
                noun,
                given: None,
            });
        }
        let she = |role: &Option<Role>| {
            let id = role.as_ref()?.drawing;
            match (plots.she.contains(&id), plots.he.contains(&id)) {
                (true, _) => Some(true),
                (_, true) => Some(false),
                _ => None,
            }
        };
        let voice = PronounUse::of(she(&roles[0]), she(&roles[1]), rng)?;
        if rng.random_bool(0.4) {
            name(&mut roles, &voice, she, rng);
        }
        let mut places = [Location::More(0); 3];
        for (i, place) in places.iter_mut().enumerate() {
            let free: Vec<Location> = plot.places[i].clone();
            match free.choose(rng) {
                Some(location) => *place = *location,
                None if plot.beats.iter().any(|beat| beat.place == i) => return None,
                None => {}
            }
        }
        let weather = match rng.random_range(0..10) {
            0..7 => Weather::Clear,
            7 => Weather::Rain,
            _ => Weather::Snow,
        };
        Some(Self {
            plot,
            roles,
            places,
            layouts: std::array::from_fn(|_| rng.random_range(0..LAYOUTS)),
            weather,
            voice,
        })
    }

    /// Told so that a share `referring` of the later panels may leave out names.
    fn into_tale(mut self, referring: f64, rng: &mut ChaCha8Rng) -> LibraryTale {
        let mut members: Vec<TaleMember> = Vec::new();
        let mut numbers: [Option<usize>; 5] = [None; 5];
        let mut panels: Vec<TalePanel> = Vec::new();
        for beat in &self.plot.beats {
            let setting = self.setting(beat, rng);
            let before = panels.last().map(|panel| panel.composition.setting);
            let at = panels.len();
            let text = self.sentence(beat, (before.as_ref(), &setting), referring, at, rng);
            let mut shown = Vec::new();
            let mut drawings = Vec::new();
            for letter in beat.cast.chars().take(MAX_FIGURES) {
                let Some(i) = ROLES.find(letter) else {
                    continue;
                };
                let Some(role) = &self.roles[i] else {
                    continue;
                };
                let number = *numbers[i].get_or_insert_with(|| {
                    members.push(TaleMember {
                        drawing: role.drawing,
                        name: role.given.unwrap_or(role.noun).to_owned(),
                        noun: role.noun,
                    });
                    members.len() - 1
                });
                shown.push(number);
                drawings.push(role.drawing);
            }
            let SceneSetting {
                location,
                time,
                weather,
                ..
            } = setting;
            let mut composition = Composition::arranged(rng, &drawings, location, time, weather);
            composition.setting = setting;
            panels.push(TalePanel {
                text,
                composition,
                shown,
                known: members.len(),
            });
        }
        LibraryTale {
            title: self.plot.title,
            members,
            panels,
        }
    }

    fn setting(&self, beat: &Beat, rng: &mut ChaCha8Rng) -> SceneSetting {
        let location = self.places[beat.place];
        SceneSetting {
            location,
            time: beat.time,
            weather: match location.has_weather() {
                true => beat.weather.unwrap_or(self.weather),
                false => Weather::Clear,
            },
            layout: self.layouts[beat.place],
            fall: rng.random_range(0..FALLS),
        }
    }

    /// What a panel says, the `index`-th of the story; a share `referring` of the later ones may leave
    /// out names.
    fn sentence(
        &mut self,
        beat: &Beat,
        (before, now): (Option<&SceneSetting>, &SceneSetting),
        referring: f64,
        index: usize,
        rng: &mut ChaCha8Rng,
    ) -> String {
        let text = beat.texts.choose(rng).copied().unwrap_or_default();
        let opens = text.starts_with('{');
        self.voice.introduce(text);
        let mut text = match before {
            Some(_) if rng.random_bool(referring) => self.voice.refer(text, rng),
            _ => text.to_owned(),
        };
        // Where nothing has changed it is mostly left out.
        let same = |b: &SceneSetting| {
            (b.location, b.time, b.weather) == (now.location, now.time, now.weather)
        };
        if before.is_some_and(same) && rng.random_bool(0.7) {
            text = without_place(&text);
        }
        let filled = self.fill(&text, now, rng);
        let mentions = SettingMentions::of(&filled);
        let falls = now.location.has_weather() && before.is_none_or(|b| b.weather != now.weather);
        let missing = Missing {
            place: mentions.location.is_none() && before.is_none_or(|b| b.location != now.location),
            weather: mentions.weather.is_none()
                && falls
                && (before.is_some() || now.weather != Weather::Clear),
            time: mentions.time.is_none() && before.map_or(Time::Day, |b| b.time) != now.time,
        };
        let lead = missing.words(now.time, now.weather, |rng| where_words(now, rng), rng);
        let is_name = |word: &str| {
            let given = self.roles.iter().flatten().filter_map(|role| role.given);
            given.into_iter().any(|name| name == word)
        };
        let opening = Opening {
            lead,
            may_open: before.is_some() && opens,
            last: index + 1 == self.plot.beats.len(),
        };
        sentences(&opening.before(filled, is_name, rng))
    }

    fn fill(&self, text: &str, now: &SceneSetting, rng: &mut ChaCha8Rng) -> String {
        let mut text = text.to_owned();
        for (key, role) in ROLES.chars().zip(&self.roles) {
            let Some(role) = role else { continue };
            let introduce = |rng: &mut ChaCha8Rng| role.introduced(rng);
            text = fill_role(&text, key, &role.known(), introduce, rng);
        }
        let place = where_words(now, rng);
        fill_setting(&text, self.voice.hero, &place, (now.time, now.weather), rng)
    }
}

impl Role {
    fn known(&self) -> String {
        match self.given {
            Some(name) => name.to_owned(),
            None if self.is_proper() => capitals(self.noun),
            None => format!("the {}", self.noun),
        }
    }

    fn is_proper(&self) -> bool {
        LIBRARY_PLOTS.proper.contains(&self.drawing)
    }

    fn introduced(&self, rng: &mut impl Rng) -> String {
        let noun = self.noun;
        if self.is_proper() {
            return self.known();
        }
        let acts = self.drawing.get().kind.is_character();
        let adjectives: Vec<&str> = match acts {
            true => MOODS.to_vec(),
            false => OF_THINGS.to_vec(),
        };
        let adjective = adjectives.choose(rng).copied().unwrap_or("little");
        let with = match rng.random_bool(0.5) {
            _ if LIBRARY_PLOTS.mass.contains(&self.drawing) => format!("some {noun}"),
            true => with_article(noun),
            false => with_article(&format!("{adjective} {noun}")),
        };
        match self.given {
            Some(name) if rng.random_bool(0.5) => format!("{name} the {noun}"),
            Some(name) => format!("{with} called {name}"),
            None => with,
        }
    }
}

/// Gives those who act names of their own.
fn name(
    roles: &mut [Option<Role>; 5],
    voice: &PronounUse,
    she: impl Fn(&Option<Role>) -> Option<bool>,
    rng: &mut impl Rng,
) {
    let mut names = NAMES;
    names.iter_mut().for_each(|names| names.shuffle(rng));
    let known = [Some(voice.hero == SHE), Some(voice.friend != HE), None];
    for (i, known) in known.into_iter().enumerate() {
        let female = known
            .or(she(&roles[i]))
            .unwrap_or_else(|| rng.random_bool(0.5));
        if let Some(role) = roles[i].as_mut().filter(|role| !role.is_proper()) {
            role.given = names[usize::from(!female)].get(i).copied();
        }
    }
}

/// A noun that `drawing` is called by, in the singular: the usual one mostly.
fn noun(drawing: DrawingId, rng: &mut impl Rng) -> Option<&'static str> {
    let one = |noun: &&str| {
        let many = noun.ends_with('s') && !noun.ends_with("ss") && !noun.ends_with("us");
        !noun.starts_with('~') && !many
    };
    let nouns = drawing.get().nouns.iter().copied();
    let all: Vec<&str> = nouns.filter(one).collect();
    match rng.random_bool(0.7) {
        true => all.first().copied(),
        false => all.choose(rng).copied(),
    }
}

/// `noun` with a capital at each word.
fn capitals(noun: &str) -> String {
    noun.split(' ').map(title).collect::<Vec<_>>().join(" ")
}

/// Whether a word of `a` is one of `b`.
fn shares(a: &str, b: &str) -> bool {
    a.split(' ')
        .any(|word| b.split(' ').any(|other| other == word))
}

/// "in the harbour", "in the snowy forest".
fn where_words(setting: &SceneSetting, rng: &mut impl Rng) -> String {
    match setting.location.more() {
        None => place_words(&setting.scene(), rng),
        Some(place) => place.phrase(rng).to_owned(),
    }
}
