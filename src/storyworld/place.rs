//! Where, when and in what weather a scene plays, and the words for it.

/// A fieldless enum with a fixed order: its index is its class in the recogniser.
macro_rules! classes {
    ($(#[$doc:meta])* $name:ident: $($variant:ident $word:literal),*) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name {
            $(
                #[doc = concat!("`", $word, "`.")]
                $variant,
            )*
        }

        impl $name {
            /// Every one, in the order of their classes.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// Its class.
            pub fn index(self) -> usize {
                self as usize
            }

            /// Its name, lower case.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }
    };
}

classes!(
    /// Where a scene plays.
    Place: Forest "forest", Beach "beach", Kitchen "kitchen", City "city", Mountain "mountain",
    Desert "desert", Moon "moon", Snowfield "snowfield", Garden "garden", River "river",
    Village "village", Bedroom "bedroom"
);
classes!(
    /// The time of day.
    Time: Day "day", Sunset "sunset", Night "night"
);
classes!(
    /// The weather; always [`Weather::Clear`] indoors and on the moon.
    Weather: Clear "clear", Rain "rain", Snow "snow"
);

impl Place {
    /// Inside a house.
    pub fn indoors(self) -> bool {
        matches!(self, Place::Kitchen | Place::Bedroom)
    }

    /// Rain and snow can fall here.
    pub fn has_weather(self) -> bool {
        !self.indoors() && self != Place::Moon
    }

    /// One of the phrases for being here, as they follow a verb: `on the beach`.
    pub fn somewhere(self, rng: &mut impl rand::Rng) -> &'static str {
        use rand::seq::IndexedRandom;
        self.phrases().choose(rng).copied().unwrap_or_default()
    }

    /// Whole phrases for being here, as they follow a verb.
    pub(super) fn phrases(self) -> &'static [&'static str] {
        match self {
            Place::Forest => &[
                "in the forest",
                "in the woods",
                "in a forest",
                "among the trees",
                "deep in the forest",
                "in the deep woods",
            ],
            Place::Beach => &[
                "on the beach",
                "at the beach",
                "by the sea",
                "on a beach",
                "by the ocean",
                "at the seaside",
                "on the sand",
                "on the shore",
            ],
            Place::Kitchen => &[
                "in the kitchen",
                "in a kitchen",
                "in the warm kitchen",
                "in the cozy kitchen",
            ],
            Place::City => &[
                "in the city",
                "in a city",
                "in the big city",
                "on a city street",
                "downtown",
                "in town",
            ],
            Place::Mountain => &[
                "in the mountains",
                "on the mountain",
                "near the mountains",
                "high in the mountains",
                "below the mountain peaks",
            ],
            Place::Desert => &[
                "in the desert",
                "in a desert",
                "among the dunes",
                "in the hot desert",
                "on the desert sand",
            ],
            Place::Moon => &[
                "on the moon",
                "up on the moon",
                "in space",
                "in outer space",
                "far away on the moon",
            ],
            Place::Snowfield => &[
                "in a snowfield",
                "in the snowfield",
                "on a snowy field",
                "on the snowy plain",
                "in a field of snow",
                "in the frozen north",
                "on the ice",
            ],
            Place::Garden => &[
                "in the garden",
                "in a garden",
                "among the flowers",
                "in a flower garden",
                "in the backyard",
                "by the garden fence",
            ],
            Place::River => &[
                "by the river",
                "by a river",
                "at the river",
                "near the stream",
                "on the river bank",
                "beside the river",
            ],
            Place::Village => &[
                "in the village",
                "in a village",
                "on a village street",
                "in a small village",
                "on the village square",
                "among the houses",
            ],
            Place::Bedroom => &[
                "in the bedroom",
                "in a bedroom",
                "in the cozy bedroom",
                "by the bed",
                "in bed",
            ],
        }
    }

    /// Preposition and noun, to put an adjective between ("in the snowy woods").
    pub(super) fn nouns(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Place::Forest => &[("in", "forest"), ("in", "woods")],
            Place::Beach => &[("on", "beach"), ("at", "beach")],
            Place::Kitchen => &[("in", "kitchen")],
            Place::City => &[("in", "city"), ("on", "city street")],
            Place::Mountain => &[("in", "mountains"), ("on", "mountain")],
            Place::Desert => &[("in", "desert")],
            Place::Moon => &[("on", "moon")],
            Place::Snowfield => &[("in", "snowfield")],
            Place::Garden => &[("in", "garden")],
            Place::River => &[("by", "river")],
            Place::Village => &[("in", "village"), ("on", "village street")],
            Place::Bedroom => &[("in", "bedroom")],
        }
    }

    /// Further ways an author may name it; read, not written.
    pub(super) fn also(self) -> &'static [&'static str] {
        match self {
            Place::Forest => &["forest", "woods", "wood", "trees", "woodland", "jungle"],
            Place::Beach => &[
                "beach", "sea", "ocean", "seaside", "shore", "coast", "island", "seashore",
            ],
            Place::Kitchen => &["kitchen", "stove", "oven"],
            Place::City => &[
                "city",
                "town",
                "downtown",
                "skyscrapers",
                "city street",
                "street",
            ],
            Place::Mountain => &[
                "mountain",
                "mountains",
                "hill",
                "hills",
                "peak",
                "peaks",
                "mountain top",
                "valley",
            ],
            Place::Desert => &["desert", "dunes", "dune", "desert sand"],
            Place::Moon => &["moon", "space", "outer space", "planet"],
            Place::Snowfield => &[
                "snowfield",
                "snow field",
                "snowy field",
                "snowy fields",
                "snowy plain",
                "field of snow",
                "frozen north",
                "ice",
                "arctic",
                "tundra",
            ],
            Place::Garden => &[
                "garden",
                "backyard",
                "yard",
                "meadow",
                "park",
                "flower garden",
                "flower bed",
                "among the flowers",
                "among flowers",
                "garden fence",
            ],
            Place::River => &[
                "river",
                "stream",
                "river bank",
                "riverbank",
                "lake",
                "pond",
                "creek",
            ],
            Place::Village => &[
                "village",
                "village street",
                "village square",
                "houses",
                "farm",
            ],
            Place::Bedroom => &["bedroom", "bed", "room"],
        }
    }
}

impl Time {
    pub(super) fn phrases(self, weather: Weather) -> &'static [&'static str] {
        match (self, weather) {
            (Time::Day, Weather::Clear) => &[
                "by day",
                "during the day",
                "in the morning",
                "in the afternoon",
                "on a sunny day",
                "on a sunny morning",
                "at noon",
                "in the sunshine",
                "in daylight",
            ],
            (Time::Day, Weather::Rain) => &[
                "by day",
                "during the day",
                "in the morning",
                "in the afternoon",
            ],
            (Time::Day, Weather::Snow) => &[
                "by day",
                "during the day",
                "in the morning",
                "in the afternoon",
            ],
            (Time::Sunset, _) => &[
                "at sunset",
                "at dusk",
                "in the evening",
                "as the sun sets",
                "as the sun goes down",
                "at sundown",
                "in the evening light",
                "at twilight",
            ],
            (Time::Night, _) => &[
                "at night",
                "in the night",
                "late at night",
                "under the stars",
                "at midnight",
                "in the moonlight",
                "in the dark",
                "after dark",
            ],
        }
    }

    pub(super) fn adjectives(self) -> &'static [&'static str] {
        match self {
            Time::Day => &["sunny"],
            Time::Sunset => &["evening"],
            Time::Night => &["dark", "moonlit"],
        }
    }

    pub(super) fn also(self) -> &'static [&'static str] {
        match self {
            Time::Day => &[
                "day",
                "daytime",
                "daylight",
                "morning",
                "afternoon",
                "noon",
                "sunny",
                "sunshine",
                "sunlight",
                "bright day",
            ],
            Time::Sunset => &[
                "sunset",
                "dusk",
                "evening",
                "sundown",
                "twilight",
                "sun sets",
                "sun goes down",
                "sun was setting",
                "setting sun",
                "sunrise",
                "dawn",
            ],
            Time::Night => &[
                "night",
                "midnight",
                "tonight",
                "dark",
                "darkness",
                "stars",
                "starry",
                "starlight",
                "moonlight",
                "moonlit",
                "nighttime",
                "under the moon",
                "moon shines",
                "moon rises",
                "moon glows",
                "full moon",
                "light of the moon",
                "bright moon",
            ],
        }
    }
}

impl Weather {
    pub(super) fn phrases(self, time: Time) -> &'static [&'static str] {
        match (self, time) {
            (Weather::Clear, Time::Day) => &["under a clear sky", "under a blue sky"],
            (Weather::Clear, _) => &["under a clear sky"],
            (Weather::Rain, Time::Day) => &[
                "in the rain",
                "while it rains",
                "on a rainy day",
                "as the rain falls",
                "in rainy weather",
                "while it is raining",
            ],
            (Weather::Rain, Time::Night) => &[
                "in the rain",
                "while it rains",
                "on a rainy night",
                "as the rain falls",
                "while it is raining",
            ],
            (Weather::Rain, _) => &[
                "in the rain",
                "while it rains",
                "as the rain falls",
                "in rainy weather",
                "while it is raining",
            ],
            (Weather::Snow, Time::Day) => &[
                "in the snow",
                "while it snows",
                "on a snowy day",
                "as the snow falls",
                "in falling snow",
                "while it is snowing",
            ],
            (Weather::Snow, Time::Night) => &[
                "in the snow",
                "while it snows",
                "on a snowy night",
                "as the snow falls",
                "while it is snowing",
            ],
            (Weather::Snow, _) => &[
                "in the snow",
                "while it snows",
                "as the snow falls",
                "in falling snow",
                "while it is snowing",
            ],
        }
    }

    pub(super) fn adjectives(self) -> &'static [&'static str] {
        match self {
            Weather::Clear => &[],
            Weather::Rain => &["rainy", "wet"],
            Weather::Snow => &["snowy"],
        }
    }

    pub(super) fn also(self) -> &'static [&'static str] {
        match self {
            Weather::Clear => &["clear sky", "blue sky", "sunny"],
            Weather::Rain => &[
                "rain",
                "rains",
                "rainy",
                "raining",
                "raindrops",
                "storm",
                "wet",
                "drizzle",
                "thunder",
            ],
            Weather::Snow => &[
                "snow",
                "snows",
                "snowy",
                "snowing",
                "snowflakes",
                "snowflake",
                "snowstorm",
                "blizzard",
            ],
        }
    }
}
