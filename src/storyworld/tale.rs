//! Stories of four to six scenes in which characters keep their look and something happens.

use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::caption::{MOODS, finish, title, with_article};
use super::cast::SubjectId;
use super::place::{Place, Time, Weather};
use super::plots::{Beat, PLOTS, Plot};
use super::reference::{
    self, Opening, PronounUse, Pronouns, is_noun_of_the_cast, pair_held_out, refers,
};
use super::scene::{LAYOUTS, Scene, Split, held_out};
use super::words::mentions;

/// How many plots there are.
pub const PLOT_COUNT: usize = PLOTS.len();

/// A story: scenes with the sentences that tell them.
#[derive(Clone, Debug)]
pub struct Tale {
    /// Its plot, below [`PLOT_COUNT`].
    pub plot: usize,
    /// What happens, in a few words.
    pub title: &'static str,
    /// Each scene with its sentence, in reading order.
    pub panels: Vec<(Scene, String)>,
}

/// Who plays, where, and how they are spoken of.
struct Production {
    roles: [SubjectId; 5],
    places: [Place; 3],
    /// The spot in each place, so that one comes back to the same one.
    layouts: [u8; 3],
    weather: Weather,
    /// Characters are "Fox" instead of "the fox".
    names: bool,
    pronouns: [&'static str; 3],
}

/// The letters of the roles in a plot's texts: hero, two friends, two things.
pub(super) const ROLES: &str = "hfgtu";

impl Tale {
    /// The story of a seed, told so that what a sentence leaves out is in the story before it: of
    /// the panels after the first at least half name who acts only by pronoun or role
    /// ([`refers`]), places, times and weathers are said when they change and mostly not
    /// otherwise, and in every third story the first text leaves its hero to the picture. No
    /// sentence comes twice.
    ///
    /// Stories of [`Split::Training`] hold no scene that is [`held_out`], and no two characters of
    /// which one pair in ten is kept for [`Split::HeldOut`], in whose stories hero and friend are
    /// such a pair.
    pub fn referring(seed: u64, split: Split) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        // Stories of a seed differ from those of `random`.
        rng.set_stream(1);
        loop {
            let index = rng.random_range(0..PLOTS.len());
            let plot = &PLOTS[index];
            let mut production = Production::random(plot.things, &mut rng);
            if !production.fits(split) {
                continue;
            }
            let [hero, friend, ..] = production.roles;
            let Some(voice) = PronounUse::random(hero, friend, &mut rng) else {
                continue;
            };
            production.pronouns = voice.hero;
            let panels = production.refer(plot, voice, &mut rng);
            if is_good(&panels, split) {
                return Self {
                    plot: index,
                    title: plot.name,
                    panels,
                };
            }
        }
    }

    /// The story of a seed.
    pub fn random(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let index = rng.random_range(0..PLOTS.len());
        let plot = &PLOTS[index];
        let production = Production::random(plot.things, &mut rng);
        let panels = plot
            .beats
            .iter()
            .map(|beat| production.play(beat, &mut rng))
            .collect();
        Self {
            plot: index,
            title: plot.name,
            panels,
        }
    }
}

impl Production {
    fn random(fitting: &[&str], rng: &mut impl Rng) -> Self {
        let mut characters: Vec<_> = SubjectId::characters().collect();
        let mut things: Vec<_> = SubjectId::things().collect();
        characters.shuffle(rng);
        things.shuffle(rng);
        let main = things
            .iter()
            .position(|t| fitting.is_empty() || fitting.contains(&t.name()))
            .unwrap_or(0);
        things.swap(0, main);
        let hero = characters[0];
        let pronouns = match (hero.name(), rng.random_bool(0.5)) {
            ("robot", _) => ["it", "it", "its"],
            ("girl", _) => ["she", "her", "her"],
            ("boy" | "wizard" | "lion", _) | (_, true) => ["he", "him", "his"],
            _ => ["she", "her", "her"],
        };
        let mut places: Vec<_> = Place::ALL.to_vec();
        places.shuffle(rng);
        // Rain and snow matter in many plots, so stories play where they can fall; the last
        // place is free.
        let mut outdoors = places.iter().copied().filter(|p| p.has_weather());
        let first = outdoors.next().unwrap_or(Place::Forest);
        let second = outdoors.next().unwrap_or(Place::Beach);
        let third = places
            .iter()
            .copied()
            .find(|p| *p != first && *p != second)
            .unwrap_or(Place::City);
        let weather = if rng.random_bool(0.75) {
            Weather::Clear
        } else {
            Weather::Snow
        };
        Self {
            roles: [hero, characters[1], characters[2], things[0], things[1]],
            places: [first, second, third],
            layouts: std::array::from_fn(|_| rng.random_range(0..LAYOUTS)),
            weather,
            names: rng.random_bool(0.4),
            pronouns,
        }
    }

    fn play(&self, beat: &Beat, rng: &mut impl Rng) -> (Scene, String) {
        let place = self.places[beat.place.min(2)];
        let weather = beat.weather.unwrap_or(self.weather);
        let cast: Vec<_> = beat
            .cast
            .chars()
            .filter_map(|c| ROLES.find(c))
            .map(|i| self.roles[i])
            .collect();
        let mut scene = Scene::compose(rng, &cast, place, beat.time, weather);
        scene.layout = self.layouts[beat.place.min(2)];
        let text = beat.texts.choose(rng).copied().unwrap_or_default();
        let text = self.fill(text, &scene, rng);
        (scene, text)
    }

    /// Whether its cast may play in stories of `split`.
    fn fits(&self, split: Split) -> bool {
        let [h, f, g, ..] = self.roles;
        match split {
            Split::Any => true,
            Split::HeldOut => pair_held_out(h, f),
            Split::Training => ![(h, f), (h, g), (f, g)]
                .iter()
                .any(|&(a, b)| pair_held_out(a, b)),
        }
    }

    /// The panels of `plot`, spoken of as [`Tale::referring`] says.
    fn refer(
        &self,
        plot: &Plot,
        mut voice: PronounUse,
        rng: &mut impl Rng,
    ) -> Vec<(Scene, String)> {
        let mut panels: Vec<(Scene, String)> = Vec::new();
        for beat in plot.beats {
            let (scene, _) = self.play(beat, rng);
            let before = panels.last().map(|(scene, _)| scene);
            let text = beat.texts.choose(rng).copied().unwrap_or_default();
            let opens = text.starts_with('{');
            voice.introduce(text);
            let mut text = match before {
                None if voice.shown_only => voice.conceal(text),
                None => text.to_owned(),
                Some(_) if rng.random_bool(0.9) => voice.refer(text, rng),
                Some(_) => text.to_owned(),
            };
            // Where nothing has changed it is mostly left out.
            let same = |b: &Scene| {
                (b.place, b.time, b.weather) == (scene.place, scene.time, scene.weather)
            };
            if before.is_some_and(same) && rng.random_bool(0.7) {
                text = without_place(&text);
            }
            let filled = self.fill(&text, &scene, rng);
            let lead = reference::lead(before, &scene, &filled, rng);
            let opening = Opening {
                lead,
                may_open: before.is_some() && opens,
                last: panels.len() + 1 == plot.beats.len(),
            };
            let text = opening.before(filled, is_noun_of_the_cast, rng);
            panels.push((scene, sentences(&text)));
        }
        panels
    }

    fn fill<R: Rng>(&self, text: &str, scene: &Scene, rng: &mut R) -> String {
        let mut text = text.to_owned();
        for (key, subject) in ROLES.chars().zip(self.roles) {
            let introduce = |rng: &mut R| self.introduce(subject, rng);
            text = fill_role(&text, key, &self.known(subject), introduce, rng);
        }
        let place = place_words(scene, rng);
        let when = (scene.time, scene.weather);
        fill_setting(&text, self.pronouns, &place, when, rng)
    }

    fn known(&self, subject: SubjectId) -> String {
        let noun = subject.get().nouns[0];
        if subject.is_character() && self.names {
            title(noun)
        } else {
            format!("the {noun}")
        }
    }

    fn introduce(&self, subject: SubjectId, rng: &mut impl Rng) -> String {
        let kind = subject.get();
        let noun = kind.nouns[0];
        if subject.is_character() {
            if self.names {
                return title(noun);
            }
            return match rng.random_range(0..3) {
                0 => with_article(noun),
                1 => with_article(&format!(
                    "{} {noun}",
                    MOODS.choose(rng).copied().unwrap_or("little")
                )),
                _ => with_article(&format!(
                    "{} {noun}",
                    kind.adjectives.choose(rng).copied().unwrap_or("little")
                )),
            };
        }
        match kind.adjectives.choose(rng) {
            Some(adjective) if rng.random_bool(0.5) => with_article(&format!("{adjective} {noun}")),
            _ => with_article(noun),
        }
    }
}

/// `text` with a role's slots filled: `{h}` by who is `known`, `{h1}` by who is introduced.
pub(super) fn fill_role<R: Rng>(
    text: &str,
    role: char,
    known: &str,
    introduce: impl FnOnce(&mut R) -> String,
    rng: &mut R,
) -> String {
    let text = text.replace(&format!("{{{role}}}"), known);
    let first = format!("{{{role}1}}");
    match text.contains(&first) {
        true => text.replace(&first, &introduce(rng)),
        false => text,
    }
}

/// The sentences of `text` with the hero's pronouns, where it plays and, mostly, when.
pub(super) fn fill_setting(
    text: &str,
    pronouns: Pronouns,
    place: &str,
    (time, weather): (Time, Weather),
    rng: &mut impl Rng,
) -> String {
    let mut text = text.to_owned();
    for (key, word) in ["{he}", "{him}", "{his}"].into_iter().zip(pronouns) {
        text = text.replace(key, word);
    }
    text = text.replace("{place}", place);
    if text.contains("{at}") {
        let when = match time {
            Time::Day if rng.random_bool(0.7) => None,
            time if rng.random_bool(0.9) => time.phrases(weather).choose(rng),
            _ => None,
        };
        let at = when.map_or_else(|| place.to_owned(), |when| format!("{place} {when}"));
        text = text.replace("{at}", &at);
    }
    sentences(&finish("", &text, true))
}

/// `text` without its `{at}`: nothing has changed.
pub(super) fn without_place(text: &str) -> String {
    let text = text.replace(", {at},", ",").replace(" {at}", "");
    text.replace("{at}", "")
}

/// Whether a story may be told, see [`Tale::referring`].
fn is_good(panels: &[(Scene, String)], split: Split) -> bool {
    if split == Split::Training && panels.iter().any(|(scene, _)| held_out(scene)) {
        return false;
    }
    let later = panels.get(1..).unwrap_or_default();
    let open = later.iter().filter(|(scene, text)| refers(scene, text));
    let mut unique: Vec<&str> = panels
        .iter()
        .flat_map(|(_, text)| text.split_inclusive(['.', '!', '?']))
        .map(str::trim)
        .collect();
    let all = unique.len();
    unique.sort_unstable();
    unique.dedup();
    // What is said must be what is shown, and what changes must be said.
    let clear = panels.iter().enumerate().all(|(i, (scene, text))| {
        let named = mentions(text);
        let before = i.checked_sub(1).map(|b| &panels[b].0);
        named.place.or(before.map(|b| b.place)) == Some(scene.place)
            && named.time.or(before.map(|b| b.time)) == Some(scene.time)
            && (!scene.place.has_weather()
                || named
                    .weather
                    .unwrap_or(before.map_or(Weather::Clear, |b| b.weather))
                    == scene.weather)
    });
    clear && 2 * open.count() >= later.len() && unique.len() == all
}

/// "in the forest", or "in the snowy forest" when it snows.
pub(super) fn place_words(scene: &Scene, rng: &mut impl Rng) -> String {
    let place = scene.place;
    let adjective = if scene.weather == Weather::Clear || place == Place::Snowfield {
        None
    } else {
        scene.weather.adjectives().choose(rng)
    };
    match (adjective, place.nouns().choose(rng)) {
        (Some(adjective), Some((preposition, noun))) if rng.random_bool(0.5) => {
            format!("{preposition} the {adjective} {noun}")
        }
        _ => place
            .phrases()
            .choose(rng)
            .map_or_else(String::new, |p| (*p).to_owned()),
    }
}

/// Gives every sentence a capital at its start.
pub(super) fn sentences(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut start = true;
    for c in text.chars() {
        if start && c.is_alphabetic() {
            out.extend(c.to_uppercase());
            start = false;
        } else {
            start |= matches!(c, '.' | '!' | '?');
            out.push(c);
        }
    }
    out
}

/// Every text of every plot, for the vocabulary.
pub(super) fn texts() -> impl Iterator<Item = &'static str> {
    PLOTS
        .iter()
        .flat_map(|plot| plot.beats)
        .flat_map(|beat| beat.texts.iter().copied())
}
