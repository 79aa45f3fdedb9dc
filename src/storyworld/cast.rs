//! Who and what can appear: 24 characters and 24 things, each with its clip art, its size on
//! the stage and the words a sentence may call it by.
//!
//! They were chosen to be told apart at 64 pixels: no two share both outline and colour.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

/// A character or a thing: `0..24` are [`CHARACTERS`], `24..48` are [`THINGS`]. The number is
/// the subject's class in the recogniser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SubjectId(u8);

/// How many subjects there are, characters and things together.
pub const SUBJECTS: usize = CHARACTERS.len() + THINGS.len();

/// What a subject looks like and is called.
#[derive(Debug)]
pub struct Subject {
    /// Its name in lists, lower case.
    pub name: &'static str,
    /// Nouns it is called by in captions; the first is the usual one.
    pub nouns: &'static [&'static str],
    /// Adjectives that fit its look.
    pub adjectives: &'static [&'static str],
    /// What a character does with this thing, third person ("flies"); empty for characters.
    pub verbs: &'static [&'static str],
    /// Its height relative to a usual character.
    pub scale: f32,
    /// It hangs in the sky instead of standing on the ground.
    pub sky: bool,
    /// It shines, the more so at night.
    pub glows: bool,
    pub(crate) svg: &'static str,
}

impl SubjectId {
    /// The subject with class `index`, if there is one.
    pub fn from_index(index: usize) -> Option<Self> {
        (index < SUBJECTS).then_some(Self(index as u8))
    }

    /// Its class, below [`SUBJECTS`].
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// Every subject, characters first.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..SUBJECTS as u8).map(Self)
    }

    /// Every character.
    pub fn characters() -> impl Iterator<Item = Self> {
        (0..CHARACTERS.len() as u8).map(Self)
    }

    /// Every thing.
    pub fn things() -> impl Iterator<Item = Self> {
        (CHARACTERS.len() as u8..SUBJECTS as u8).map(Self)
    }

    /// Whether it is a character, not a thing.
    pub fn is_character(self) -> bool {
        self.index() < CHARACTERS.len()
    }

    /// The subject's drawing and names.
    pub fn get(self) -> &'static Subject {
        let i = self.index();
        match CHARACTERS.get(i) {
            Some(subject) => subject,
            None => &THINGS[i - CHARACTERS.len()],
        }
    }

    /// Its name, lower case.
    pub fn name(self) -> &'static str {
        self.get().name
    }

    /// Its usual noun with the article, such as `an owl`.
    pub fn with_article(self) -> String {
        super::caption::with_article(self.get().nouns[0])
    }

    /// Width of its clip art divided by the height.
    pub(crate) fn aspect(self) -> f32 {
        static ASPECTS: LazyLock<Vec<f32>> = LazyLock::new(|| {
            SubjectId::all()
                .map(|s| {
                    let [_, _, w, h] = view_box(s.get().svg);
                    w / h
                })
                .collect()
        });
        ASPECTS[self.index()]
    }
}

/// The `viewBox` of one of our own SVG files: x, y, width, height.
pub(crate) fn view_box(svg: &str) -> [f32; 4] {
    let mut numbers = svg
        .split_once("viewBox=\"")
        .and_then(|(_, rest)| rest.split_once('"'))
        .map(|(value, _)| value)
        .unwrap_or_default()
        .split_ascii_whitespace()
        .filter_map(|n| n.parse().ok());
    let mut next = || numbers.next().unwrap_or(1.0);
    [next(), next(), next(), next()]
}

macro_rules! cast {
    ($folder:literal: $($file:literal, $name:literal, $nouns:expr, $adjectives:expr, $verbs:expr, $scale:literal $(, $flag:ident)*;)*) => {
        [$(Subject {
            name: $name,
            nouns: &$nouns,
            adjectives: &$adjectives,
            verbs: &$verbs,
            scale: $scale,
            svg: include_str!(concat!("../../assets/clipart/", $folder, "/", $file, ".svg")),
            $($flag: true,)*
            ..BASE
        }),*]
    };
}

const BASE: Subject = Subject {
    name: "",
    nouns: &[],
    adjectives: &[],
    verbs: &[],
    scale: 1.0,
    sky: false,
    glows: false,
    svg: "",
};

/// The characters; a character persists through a story.
pub static CHARACTERS: [Subject; 24] = cast!("characters":
    "fox", "fox", ["fox"], ["red", "orange", "clever"], [], 1.0;
    "bear", "bear", ["bear"], ["brown", "gentle"], [], 1.06;
    "panda", "panda", ["panda"], ["fluffy", "gentle"], [], 1.04;
    "rabbit", "rabbit", ["rabbit", "bunny", "hare"], ["white", "quick"], [], 0.9;
    "owl", "owl", ["owl"], ["wise", "brown"], [], 0.94;
    "penguin", "penguin", ["penguin"], ["small", "cheerful"], [], 0.94;
    "cat", "cat", ["cat", "kitten", "kitty"], ["purple", "playful"], [], 0.92;
    "dog", "dog", ["dog", "puppy"], ["loyal", "playful"], [], 0.92;
    "frog", "frog", ["frog", "toad"], ["green", "cheerful"], [], 0.96;
    "robot", "robot", ["robot"], ["shiny", "grey"], [], 1.02;
    "turtle", "turtle", ["turtle", "tortoise"], ["green", "slow"], [], 0.86;
    "pig", "pig", ["pig", "piglet"], ["pink", "cheerful"], [], 0.86;
    "elephant", "elephant", ["elephant"], ["grey", "gentle"], [], 1.08;
    "giraffe", "giraffe", ["giraffe"], ["tall", "yellow"], [], 1.16;
    "mouse", "mouse", ["mouse"], ["tiny", "grey"], [], 0.84;
    "lion", "lion", ["lion"], ["golden", "proud"], [], 1.06;
    "hedgehog", "hedgehog", ["hedgehog"], ["brown", "shy"], [], 0.84;
    "dragon", "dragon", ["dragon"], ["red", "friendly"], [], 1.06;
    "wizard", "wizard", ["wizard", "magician"], ["wise", "old"], [], 1.08;
    "ghost", "ghost", ["ghost"], ["white", "friendly"], [], 0.96;
    "chick", "chick", ["chick", "bird"], ["yellow", "tiny"], [], 0.84;
    "girl", "girl", ["girl"], ["young", "clever"], [], 1.0;
    "boy", "boy", ["boy"], ["young", "cheerful"], [], 1.0;
    "monkey", "monkey", ["monkey"], ["brown", "playful"], [], 0.98;
);

/// The things characters find, want, share and lose.
pub static THINGS: [Subject; 24] = cast!("things":
    "lantern", "lantern", ["lantern", "lamp"], ["glowing", "golden", "bright"], ["lights", "finds", "carries", "follows"], 0.84, glows;
    "balloon", "balloon", ["balloon"], ["red", "big"], ["holds", "chases", "lets go of", "watches"], 0.86, sky;
    "kite", "kite", ["kite"], ["colorful", "bright"], ["flies", "chases", "watches"], 0.88, sky;
    "rocket", "rocket", ["rocket", "spaceship"], ["fast", "shiny"], ["watches", "builds", "waves at"], 0.92, sky;
    "campfire", "campfire", ["campfire", "fire", "bonfire"], ["warm", "bright"], ["sits by", "warms up by", "lights", "tends"], 0.86, glows;
    "gift", "gift", ["gift", "present"], ["yellow", "big"], ["opens", "wraps", "brings", "finds"], 0.84;
    "cake", "cake", ["cake", "birthday cake"], ["sweet", "big"], ["bakes", "eats", "shares", "brings"], 0.82;
    "boat", "boat", ["boat", "sailboat", "ship"], ["little", "wooden"], ["sails", "builds", "finds", "waits for"], 0.96;
    "umbrella", "umbrella", ["umbrella"], ["purple", "big"], ["opens", "holds", "hides under", "finds"], 0.94;
    "tent", "tent", ["tent"], ["green", "small"], ["sleeps in", "camps by", "sets up", "hides in"], 0.92;
    "house", "house", ["house", "cottage"], ["little", "cozy"], ["visits", "builds", "walks to", "lives in"], 1.1;
    "castle", "castle", ["castle"], ["old", "grey"], ["visits", "guards", "walks to", "finds"], 1.16;
    "car", "car", ["car"], ["red", "shiny"], ["drives", "washes", "fixes", "waits for"], 0.86;
    "train", "train", ["train", "steam train"], ["old", "fast"], ["rides", "waits for", "drives", "hears"], 1.0;
    "apple", "apple", ["apple"], ["red", "sweet"], ["eats", "picks", "finds", "shares"], 0.78;
    "mushroom", "mushroom", ["mushroom", "toadstool"], ["red", "magic"], ["picks", "finds", "sits by", "hides behind"], 0.84;
    "sunflower", "sunflower", ["sunflower", "flower"], ["yellow", "tall"], ["waters", "smells", "plants", "picks"], 0.92;
    "snowman", "snowman", ["snowman"], ["cold", "jolly"], ["builds", "hugs", "waves at", "makes"], 1.0;
    "christmas-tree", "christmas tree", ["christmas tree", "pine tree", "fir tree"], ["green", "tall"], ["decorates", "dances around", "plants", "finds"], 1.1;
    "ball", "ball", ["ball", "football"], ["blue", "round"], ["kicks", "throws", "plays with", "chases"], 0.76;
    "books", "books", ["stack of books", "pile of books", "book"], ["old", "big"], ["reads", "opens", "finds", "studies"], 0.8;
    "drum", "drum", ["drum"], ["red", "loud"], ["plays", "beats", "hears", "finds"], 0.82;
    "guitar", "guitar", ["guitar"], ["red", "old"], ["plays", "tunes", "finds", "practices"], 0.86;
    "crown", "crown", ["crown"], ["golden", "shiny"], ["wears", "finds", "guards", "polishes"], 0.78;
);
