//! The library: some 880 flat drawings of people, animals, plants, food, things, vehicles and
//! buildings, and scenes that any of them can stand in.
//!
//! Nothing here is told by heart: a model that draws from references sees each drawing as a
//! picture. One group of drawings in five is held out by its name, so that what a model makes of
//! drawings it never saw can be measured.

mod composition;
mod cut_out;
mod names;
mod plots;
mod prompt;
mod raster;
mod setting;
mod subject;
mod tale;
#[cfg(test)]
mod tests;

use std::io::Read;
use std::sync::{LazyLock, OnceLock};

use flate2::read::GzDecoder;
use resvg::usvg;

pub(crate) use composition::SCALES;
pub use composition::{CANVAS_CELLS, CELLS, Composition, CompositionOptions, Figure, MAX_FIGURES};
pub use cut_out::cut_out;
pub use names::{DrawnNoun, NounFit, drawings_called, drawn_nouns, given_name};
pub use prompt::{CompositionPrompt, PromptSubject};
pub use raster::{CompositionRenderer, DRAWING_SIDE, PAPER, drawing};
pub use setting::{Location, SceneSetting, SettingMentions, vocabulary};
pub use subject::{CompositionSubject, Side};
pub use tale::{LibraryTale, TaleMember, TalePanel, library_plot_count};

/// A line for each drawing: name, height relative to a person, whether it hangs in the sky, what it
/// shows, and the nouns that it is called by, the usual one first.
const TABLE: &str = include_str!("../../../assets/library/drawings.tsv");
/// The same drawings: name, view box, and the elements of its SVG, gzip-compressed.
const ART: &[u8] = include_bytes!("../../../assets/library/drawings.svg.gz");

/// A drawing of the library, by its place in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DrawingId(u16);

/// What a drawing shows, broadly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DrawingKind {
    /// A person, or what acts as one: a ghost, a robot.
    Person,
    /// An animal, dragons among them.
    Animal,
    /// A plant or a part of one.
    Plant,
    /// Food and drink.
    Food,
    /// What somebody goes in or on.
    Vehicle,
    /// A building.
    Building,
    /// Any other thing.
    Thing,
}

impl DrawingKind {
    const ALL: [(&'static str, Self); 7] = [
        ("person", Self::Person),
        ("animal", Self::Animal),
        ("plant", Self::Plant),
        ("food", Self::Food),
        ("vehicle", Self::Vehicle),
        ("building", Self::Building),
        ("thing", Self::Thing),
    ];

    /// The kind of that name, such as `person`.
    pub(super) fn of(name: &str) -> Option<Self> {
        let kind = Self::ALL.iter().find(|(word, _)| *word == name);
        kind.map(|(_, kind)| *kind)
    }

    /// Whether it can act in a story.
    pub fn is_character(self) -> bool {
        matches!(self, Self::Person | Self::Animal)
    }
}

/// What is known of a drawing.
#[derive(Debug)]
pub struct Drawing {
    /// Its name in the set it is from, such as `black-cat`.
    pub name: &'static str,
    /// Its height relative to a person.
    pub scale: f32,
    /// It hangs in the sky instead of standing on the ground.
    pub sky: bool,
    /// What it shows.
    pub kind: DrawingKind,
    /// What it is called, the usual noun first; `~` stands before those that are mostly verbs.
    pub nouns: Vec<&'static str>,
    /// Its view box and elements, as in the file.
    view: String,
    body: String,
    tree: OnceLock<usvg::Tree>,
}

static DRAWINGS: LazyLock<Vec<Drawing>> = LazyLock::new(|| {
    let mut art = String::new();
    // The files are ours, and a test reads and draws every line of them.
    GzDecoder::new(ART)
        .read_to_string(&mut art)
        .expect("the library's drawings are compressed text");
    let read = |(line, drawn): (&'static str, &str)| {
        let mut fields = line.split('\t');
        let mut next = || fields.next().unwrap_or_default();
        let (name, scale, place) = (next(), next(), next());
        let kind = DrawingKind::of(next());
        let nouns = next().split(", ").collect();
        let mut parts = drawn.splitn(3, '\t').skip(1);
        let (view, body) = (
            parts.next().unwrap_or_default(),
            parts.next().unwrap_or_default(),
        );
        Drawing {
            name,
            scale: scale.parse().unwrap_or(1.0),
            sky: place == "sky",
            kind: kind.unwrap_or(DrawingKind::Thing),
            nouns,
            view: view.to_owned(),
            body: body.to_owned(),
            tree: OnceLock::new(),
        }
    };
    TABLE.lines().zip(art.lines()).map(read).collect()
});

impl DrawingId {
    /// Every drawing of the library.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..DRAWINGS.len() as u16).map(Self)
    }

    /// The drawing of that name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::all().find(|id| id.get().name == name)
    }

    /// What is known of it.
    pub fn get(self) -> &'static Drawing {
        &DRAWINGS[usize::from(self.0)]
    }

    /// Whether no training scene shows it: one group of drawings in five, where the woman, the man
    /// and the person of a trade are one group, as are an animal and its face.
    pub fn held_out(self) -> bool {
        let name = self.get().name;
        let group = ["man-", "woman-", "person-", "oncoming-"]
            .iter()
            .find_map(|who| name.strip_prefix(who))
            .unwrap_or(name);
        let group = group.strip_suffix("-face").unwrap_or(group);
        let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
        for byte in group.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        ((hash ^ (hash >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 32).is_multiple_of(5)
    }
}

impl Drawing {
    fn tree(&self) -> &usvg::Tree {
        self.tree.get_or_init(|| {
            let svg = format!(
                "<svg xmlns=\"http://www.w3.org/2000/svg\" xmlns:xlink=\"http://www.w3.org/1999/xlink\" viewBox=\"{}\">{}</svg>",
                self.view, self.body
            );
            usvg::Tree::from_str(&svg, &usvg::Options::default())
                .expect("the library's SVG is well formed")
        })
    }

    /// The usual noun that it is called by.
    pub fn noun(&self) -> &'static str {
        let noun = self.nouns.first().copied().unwrap_or(self.name);
        noun.trim_start_matches('~')
    }

    /// An SVG cut to what is drawn on.
    pub(super) fn cut_out(&self) -> String {
        let [x, y, width, height] = self.bounds();
        format!(
            "<svg viewBox=\"{x} {y} {width} {height}\">{}</svg>",
            self.body
        )
    }

    /// The part of its view box that is drawn on: x, y, width, height.
    fn bounds(&self) -> [f32; 4] {
        let box_ = self.tree().root().abs_layer_bounding_box();
        [box_.x(), box_.y(), box_.width(), box_.height()]
    }

    /// Width divided by height.
    pub fn aspect(&self) -> f32 {
        let [_, _, width, height] = self.bounds();
        width / height
    }
}
