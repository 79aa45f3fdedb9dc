//! The plots of stories about any drawings of the library: those of the storyworld, with a wider
//! cast, and plots of their own for kinds of people, animals and things, so that what a sentence
//! says fits whom it is about.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::{DrawingId, DrawingKind, Location, drawings_called};
use crate::storyworld::place::{Time, Weather};
use crate::storyworld::plots::{Beat as StoryBeat, PLOTS, Plot as StoryPlot};
use crate::storyworld::tale::ROLES;

/// Classes of drawings, and plots whose roles are played by classes or kinds; the format is
/// described in the file.
const TEXT: &str = include_str!("../../../assets/library/plots.txt");

/// A plot: beats in order, each told in one of several ways.
pub(super) struct Plot {
    pub title: &'static str,
    /// Who can play each of the [`ROLES`].
    pub roles: [Vec<DrawingId>; 5],
    /// Where each of its three places can be.
    pub places: [Vec<Location>; 3],
    pub beats: Vec<Beat>,
}

/// One panel of a plot.
pub(super) struct Beat {
    /// Roles on the stage from left to right.
    pub cast: &'static str,
    /// Which of the plot's places.
    pub place: usize,
    pub time: Time,
    /// Falls outdoors whatever the story's weather.
    pub weather: Option<Weather>,
    /// Ways to tell it.
    pub texts: Vec<&'static str>,
}

/// What the file holds.
pub(super) struct Plots {
    pub all: Vec<Plot>,
    /// Those of whom one says "she" and "he".
    pub she: Vec<DrawingId>,
    pub he: Vec<DrawingId>,
    /// Those whose nouns take no "a": "some bread".
    pub mass: Vec<DrawingId>,
    /// Those whose nouns are names: "Santa Claus".
    pub proper: Vec<DrawingId>,
}

pub(super) static LIBRARY_PLOTS: LazyLock<Plots> = LazyLock::new(|| {
    // The file is ours, and a test reads every line of it.
    read(TEXT).unwrap_or_else(|line| panic!("assets/library/plots.txt is damaged: {line}"))
});

/// Reads the file.
///
/// # Errors
/// The first line that can't be read.
fn read(text: &'static str) -> Result<Plots, String> {
    let mut classes: HashMap<&str, Vec<DrawingId>> = HashMap::new();
    let mut all: Vec<Plot> = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let bad = || line.to_owned();
        if let Some(title) = line.strip_prefix("= ") {
            all.push(Plot {
                title,
                roles: Default::default(),
                places: Default::default(),
                beats: Vec::new(),
            });
            continue;
        }
        let (head, rest) = line.split_once(": ").ok_or_else(bad)?;
        let words: Vec<&str> = head.split_whitespace().collect();
        match (words.as_slice(), all.last_mut()) {
            (["class", name], _) => {
                classes.insert(name, drawings(rest, &classes).ok_or_else(bad)?);
            }
            (["role", role], Some(plot)) => {
                let role = ROLES.find(role).ok_or_else(bad)?;
                plot.roles[role] = drawings(rest, &classes).ok_or_else(bad)?;
            }
            (["places"], Some(plot)) => {
                for (place, names) in plot.places.iter_mut().zip(rest.split('|')) {
                    *place = locations(names).ok_or_else(bad)?;
                }
            }
            (["beat", cast, place, time, weather @ ..], Some(plot)) => {
                plot.beats.push(Beat {
                    cast,
                    place: place.parse().ok().filter(|i| *i < 3).ok_or_else(bad)?,
                    time: named(Time::ALL, |t| t.name(), time).ok_or_else(bad)?,
                    weather: match weather {
                        [] => None,
                        [weather] => {
                            Some(named(Weather::ALL, |w| w.name(), weather).ok_or_else(bad)?)
                        }
                        _ => return Err(bad()),
                    },
                    texts: rest.split('|').map(str::trim).collect(),
                });
            }
            _ => return Err(bad()),
        }
    }
    let class = |name: &str| classes.get(name).cloned().unwrap_or_default();
    let carried = class("carried");
    let characters = drawings("person, animal", &classes).unwrap_or_default();
    all.extend(
        PLOTS
            .iter()
            .map(|plot| widened(plot, &characters, &carried)),
    );
    Ok(Plots {
        all,
        she: class("she"),
        he: class("he"),
        mass: class("mass"),
        proper: class("proper"),
    })
}

fn named<T: Copy>(all: &[T], name: impl Fn(T) -> &'static str, wanted: &str) -> Option<T> {
    all.iter().copied().find(|one| name(*one) == wanted)
}

/// The drawings of a list of kinds, classes and names; none where one of them is unknown. What is
/// called by a plural, or is odd as one of its kind, is played only where it is named.
fn drawings(list: &str, classes: &HashMap<&str, Vec<DrawingId>>) -> Option<Vec<DrawingId>> {
    let mut all = Vec::new();
    for word in list.split(',').map(str::trim).filter(|w| !w.is_empty()) {
        let usual = |id: &DrawingId| {
            let odd = ["plural", "odd"]
                .iter()
                .filter_map(|class| classes.get(class));
            !odd.flatten().any(|other| other == id)
        };
        let of_kind = |kind: DrawingKind| {
            let all = DrawingId::all().filter(move |id| id.get().kind == kind);
            all.filter(usual)
        };
        match (DrawingKind::of(word), classes.get(word)) {
            (Some(kind), _) => all.extend(of_kind(kind)),
            (None, Some(class)) => all.extend(class),
            (None, None) => all.push(DrawingId::by_name(word)?),
        }
    }
    all.sort_unstable();
    all.dedup();
    Some(all)
}

/// The places of a list of names, `any` and `outdoors`; none where one of them is unknown.
fn locations(list: &str) -> Option<Vec<Location>> {
    let mut all = Vec::new();
    for word in list.split(',').map(str::trim).filter(|w| !w.is_empty()) {
        match word {
            "any" => all.extend(Location::all()),
            "outdoors" => all.extend(Location::all().filter(|location| location.has_weather())),
            name => all.push(Location::all().find(|location| location.name() == name)?),
        }
    }
    Some(all)
}

/// A plot of the storyworld whose roles anybody can play.
fn widened(plot: &StoryPlot, characters: &[DrawingId], carried: &[DrawingId]) -> Plot {
    let fitting: Vec<DrawingId> = plot
        .things
        .iter()
        .filter_map(|noun| drawings_called(noun).into_iter().next())
        .collect();
    let outdoors: Vec<Location> = Location::all().filter(|g| g.has_weather()).collect();
    let beat = |beat: &StoryBeat| Beat {
        cast: beat.cast,
        place: beat.place.min(2),
        time: beat.time,
        weather: beat.weather,
        texts: beat.texts.to_vec(),
    };
    Plot {
        title: plot.name,
        roles: [
            characters.to_vec(),
            characters.to_vec(),
            characters.to_vec(),
            match fitting.is_empty() {
                true => carried.to_vec(),
                false => fitting,
            },
            carried.to_vec(),
        ],
        places: [outdoors.clone(), outdoors, Location::all().collect()],
        beats: plot.beats.iter().map(beat).collect(),
    }
}
