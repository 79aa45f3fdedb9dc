//! The plots of stories: somebody wishes for something, something stands in the way, somebody
//! helps, and it ends well.
//!
//! In the texts `{h}` is the hero, `{f}` and `{g}` are friends, `{t}` and `{u}` things, spoken of
//! as known; `{f1}`, `{t1}` and so on introduce them. `{he}`, `{him}`, `{his}` stand for the hero,
//! `{at}` says where and when, `{place}` only where.

use super::place::{Time, Time::*, Weather, Weather::*};

pub(super) struct Plot {
    pub name: &'static str,
    /// Names of things that fit `{t}`; empty: any.
    pub things: &'static [&'static str],
    pub beats: &'static [Beat],
}

/// One panel.
pub(super) struct Beat {
    /// Roles on the stage from left to right, of `hfgtu`.
    pub cast: &'static str,
    /// Which of the story's places.
    pub place: usize,
    pub time: Time,
    /// Falls outdoors whatever the story's weather.
    pub weather: Option<Weather>,
    /// Ways to tell it.
    pub texts: &'static [&'static str],
}

const fn beat(
    cast: &'static str,
    place: usize,
    time: Time,
    texts: &'static [&'static str],
) -> Beat {
    Beat {
        cast,
        place,
        time,
        weather: None,
        texts,
    }
}

const fn under(
    weather: Weather,
    cast: &'static str,
    place: usize,
    time: Time,
    texts: &'static [&'static str],
) -> Beat {
    Beat {
        cast,
        place,
        time,
        weather: Some(weather),
        texts,
    }
}

const fn plot(name: &'static str, things: &'static [&'static str], beats: &'static [Beat]) -> Plot {
    Plot {
        name,
        things,
        beats,
    }
}

pub(super) static PLOTS: &[Plot] = &[
    plot(
        "finding a light",
        &["lantern"],
        &[
            beat(
                "h",
                0,
                Sunset,
                &[
                    "{h1} walks {at}. {he} is far from home.",
                    "{h1} has lost the way {at}.",
                ],
            ),
            beat(
                "ht",
                0,
                Night,
                &[
                    "{h} finds {t1} {at}.",
                    "In the dark, {h} sees {t1}. It shines for {him}.",
                ],
            ),
            beat(
                "hft",
                0,
                Night,
                &[
                    "{f1} asks {h} to share {t}.",
                    "{h} meets {f1}, and they share {t}.",
                ],
            ),
            beat(
                "ht",
                1,
                Night,
                &[
                    "{h} follows the shine of {t} {at}.",
                    "With {t}, {h} walks all the way {at}.",
                ],
            ),
            beat(
                "hf",
                1,
                Day,
                &["{h} and {f} are safe {at}. They are friends now."],
            ),
        ],
    ),
    plot(
        "the runaway balloon",
        &["balloon", "kite"],
        &[
            beat(
                "ht",
                0,
                Day,
                &[
                    "{h1} has {t1} {at}. {he} is very happy.",
                    "{h1} plays with {t1} {at}.",
                ],
            ),
            beat(
                "t",
                1,
                Day,
                &[
                    "The wind takes {t} away. It flies {at}.",
                    "{t} flies far away {at}.",
                ],
            ),
            beat(
                "hf",
                0,
                Day,
                &["{h} is sad. {f1} wants to help.", "{h} asks {f1} for help."],
            ),
            beat(
                "hft",
                1,
                Sunset,
                &[
                    "{h} and {f} find {t} {at}.",
                    "Together, {h} and {f} catch {t} {at}.",
                ],
            ),
            beat(
                "hf",
                0,
                Night,
                &["{h} thanks {f} {at}. It was a good adventure."],
            ),
        ],
    ),
    plot(
        "a birthday",
        &["cake", "gift"],
        &[
            beat(
                "h",
                0,
                Day,
                &[
                    "It is the birthday of {h1}, but {he} is alone {at}.",
                    "{h1} waits {at}. Nobody comes to the party.",
                ],
            ),
            beat(
                "ft",
                1,
                Day,
                &[
                    "{f1} hides {t1} {at}. It is a secret.",
                    "Far away, {f1} makes {t1} {at}.",
                ],
            ),
            beat("fg", 1, Sunset, &["{f} asks {g1} to come along {at}."]),
            beat(
                "hft",
                0,
                Sunset,
                &[
                    "What a surprise! {f} brings {t} to {h}.",
                    "{h} smiles: {f} is here with {t} {at}.",
                ],
            ),
            beat(
                "hfg",
                0,
                Night,
                &[
                    "{h}, {f} and {g} dance {at}. It is the best birthday.",
                    "{h}, {f} and {g} sing together {at}.",
                ],
            ),
        ],
    ),
    plot(
        "afraid of the dark",
        &["lantern", "campfire"],
        &[
            beat(
                "h",
                0,
                Night,
                &[
                    "{h1} cannot sleep {at}. {he} is afraid.",
                    "{h1} is scared {at}.",
                ],
            ),
            beat(
                "hf",
                0,
                Night,
                &[
                    "{f1} hears {h} and comes to help.",
                    "{f1} sits down next to {h} {at}.",
                ],
            ),
            beat(
                "hft",
                0,
                Night,
                &[
                    "{f} gives {h} {t1}. It is warm and bright.",
                    "{h} and {f} sit by {t1} {at}.",
                ],
            ),
            beat(
                "h",
                0,
                Day,
                &[
                    "{h} wakes up {at}. {he} is brave now.",
                    "In the morning, {h} is not afraid any more.",
                ],
            ),
        ],
    ),
    plot(
        "the journey by boat",
        &["boat"],
        &[
            beat(
                "h",
                0,
                Day,
                &[
                    "{h1} dreams of the big world {at}.",
                    "{h1} wants to see the world.",
                ],
            ),
            beat(
                "ht",
                0,
                Day,
                &["{h} finds {t1} {at}.", "{h} builds {t1} {at}."],
            ),
            under(
                Rain,
                "ht",
                1,
                Night,
                &[
                    "A storm comes. {h} holds on to {t} {at}.",
                    "Rain falls on {h} and {t} {at}.",
                ],
            ),
            beat("hft", 1, Day, &["{f1} helps {h} to fix {t} {at}."]),
            beat(
                "hf",
                2,
                Sunset,
                &[
                    "{h} and {f} see the world together {at}.",
                    "{h} and {f} have come far: they rest {at}.",
                ],
            ),
        ],
    ),
    plot(
        "a trip to the sky",
        &["rocket"],
        &[
            beat(
                "h",
                0,
                Night,
                &[
                    "{h1} looks up at the stars {at}. {he} wants to fly.",
                    "{h1} makes a wish {at}.",
                ],
            ),
            beat(
                "hf",
                0,
                Day,
                &[
                    "{h} tells {f1} about the wish {at}.",
                    "{f1} laughs, but then wants to help {h}.",
                ],
            ),
            beat(
                "hft",
                0,
                Sunset,
                &[
                    "{h} and {f} build {t1} {at}.",
                    "{h} and {f} are proud of {t1}.",
                ],
            ),
            beat(
                "t",
                1,
                Night,
                &[
                    "{t} flies up and away {at}.",
                    "{t} flies through the night {at}.",
                ],
            ),
            beat(
                "hf",
                1,
                Night,
                &[
                    "{h} and {f} have done it {at}!",
                    "{h} and {f} dance {at}. The wish came true.",
                ],
            ),
        ],
    ),
    plot(
        "the lost treasure",
        &["crown", "books", "guitar"],
        &[
            beat(
                "ht",
                0,
                Day,
                &[
                    "{h1} finds {t1} {at}. Whose is it?",
                    "{h1} discovers {t1} {at}.",
                ],
            ),
            beat(
                "hf",
                1,
                Day,
                &[
                    "{h} asks {f1}, but it is not the right one {at}.",
                    "{h} tells {f1} about it {at}.",
                ],
            ),
            beat(
                "hg",
                2,
                Sunset,
                &[
                    "{h} meets {g1} {at}. {g} looks very sad.",
                    "{g1} has lost something {at}, and {h} knows what.",
                ],
            ),
            beat(
                "hgt",
                2,
                Sunset,
                &[
                    "{h} gives {t} back to {g}.",
                    "{g} is happy to see {t}, and {h} is happy too.",
                ],
            ),
            beat("hg", 2, Night, &["{h} and {g} become best friends {at}."]),
        ],
    ),
    plot(
        "caught in the rain",
        &["umbrella", "tent"],
        &[
            beat(
                "h",
                0,
                Day,
                &["{h1} goes for a walk {at}.", "{h1} runs and plays {at}."],
            ),
            under(
                Rain,
                "h",
                0,
                Day,
                &[
                    "It begins to rain. {h} is cold and wet.",
                    "The rain falls and falls. {h} has nowhere to go.",
                ],
            ),
            under(
                Rain,
                "hft",
                0,
                Day,
                &[
                    "{f1} comes with {t1}. {h} can hide there too.",
                    "{h} and {f1} share {t1} in the rain.",
                ],
            ),
            under(
                Clear,
                "hf",
                0,
                Sunset,
                &[
                    "The rain stops. {h} and {f} smile {at}.",
                    "{h} and {f} walk on together {at}.",
                ],
            ),
        ],
    ),
    plot(
        "the snowman",
        &["snowman"],
        &[
            under(
                Snow,
                "h",
                0,
                Day,
                &[
                    "Snow falls {place}. {h1} wants to play.",
                    "{h1} looks at the snow {at}.",
                ],
            ),
            under(
                Snow,
                "ht",
                0,
                Day,
                &[
                    "{h} builds {t1} {at}.",
                    "All alone, {h} makes {t1} in the snow.",
                ],
            ),
            under(
                Snow,
                "hft",
                0,
                Day,
                &[
                    "{f1} comes to help {h} with {t}.",
                    "{h} and {f1} dance around {t}.",
                ],
            ),
            under(
                Clear,
                "t",
                0,
                Night,
                &[
                    "{t} stands alone {at}. It smiles.",
                    "At night, {t} keeps watch {place}.",
                ],
            ),
            under(
                Clear,
                "hft",
                0,
                Day,
                &["{h} and {f} say good morning to {t}."],
            ),
        ],
    ),
    plot(
        "the garden",
        &["sunflower", "apple", "mushroom"],
        &[
            beat(
                "h",
                0,
                Day,
                &[
                    "{h1} wants something to grow {at}.",
                    "{h1} puts a seed in the ground {at}.",
                ],
            ),
            under(
                Rain,
                "h",
                0,
                Day,
                &[
                    "Rain comes, and {h} waits {at}.",
                    "{h} waits in the rain. Nothing grows.",
                ],
            ),
            beat("hf", 0, Night, &["{f1} tells {h} not to give up {at}."]),
            under(
                Clear,
                "ht",
                0,
                Day,
                &[
                    "In the morning, {h} finds {t1}! It has grown.",
                    "{h} sees {t1} {at}. {he} is so proud.",
                ],
            ),
            beat(
                "hft",
                0,
                Sunset,
                &[
                    "{h} shares {t} with {f} {at}.",
                    "{h} and {f} look at {t} {at}.",
                ],
            ),
        ],
    ),
    plot(
        "music",
        &["drum", "guitar"],
        &[
            beat(
                "ht",
                0,
                Day,
                &[
                    "{h1} has {t1}, but {he} cannot play it.",
                    "{h1} finds {t1} {at}.",
                ],
            ),
            beat(
                "hf",
                1,
                Day,
                &[
                    "{h} asks {f1} to teach {him} {at}.",
                    "{f1} can help {h} {at}.",
                ],
            ),
            beat(
                "hft",
                1,
                Sunset,
                &[
                    "{h} and {f} play {t} all evening {place}.",
                    "{f} shows {h} {t} {at}. It is hard to learn.",
                ],
            ),
            beat(
                "hfg",
                0,
                Night,
                &[
                    "{g1} dances with {h} and {f} {at}.",
                    "{h} plays a song. {f} and {g1} sing along {at}.",
                ],
            ),
        ],
    ),
    plot(
        "the train to a friend",
        &["train", "car"],
        &[
            beat(
                "h",
                0,
                Day,
                &["{h1} misses an old friend {at}.", "{h1} is lonely {at}."],
            ),
            beat(
                "ht",
                0,
                Day,
                &[
                    "{h} takes {t1}. The way is long.",
                    "{h} waits for {t1} {at}.",
                ],
            ),
            under(
                Snow,
                "ht",
                1,
                Sunset,
                &[
                    "In the snow, {t} stops. {h} must wait {at}.",
                    "{t} cannot go on, so {h} gets out {at}.",
                ],
            ),
            beat(
                "hf",
                1,
                Night,
                &[
                    "{f1} finds {h} {at} and knows the way.",
                    "{h} meets {f1} {at}.",
                ],
            ),
            beat(
                "hfg",
                2,
                Day,
                &[
                    "At last {h} and {f} find {g1} {at}.",
                    "{h} shows {f} {his} old friend, {g1}, {at}.",
                ],
            ),
        ],
    ),
    plot(
        "the race",
        &[],
        &[
            beat(
                "hf",
                0,
                Day,
                &[
                    "{h1} and {f1} want to know who is faster {at}.",
                    "{h1} and {f1} run a race {at}.",
                ],
            ),
            beat(
                "f",
                1,
                Day,
                &[
                    "{f} runs ahead {at}.",
                    "{f} is first, and stops to sleep {at}.",
                ],
            ),
            beat(
                "h",
                1,
                Sunset,
                &[
                    "{h} never gives up {at}.",
                    "{h} walks on, slow but brave, {at}.",
                ],
            ),
            beat(
                "hf",
                2,
                Sunset,
                &[
                    "{h} and {f} come in together {at}.",
                    "{f} waits for {h} {at}, and they laugh.",
                ],
            ),
        ],
    ),
    plot(
        "the shy one",
        &["ball", "kite", "drum"],
        &[
            beat(
                "fg",
                0,
                Day,
                &[
                    "{f1} and {g1} play {at}.",
                    "{f1} and {g1} laugh together {at}.",
                ],
            ),
            beat(
                "h",
                1,
                Day,
                &[
                    "{h1} watches from far away {at}. {he} is too shy.",
                    "{h1} is all alone {at}.",
                ],
            ),
            beat(
                "ht",
                1,
                Day,
                &[
                    "{h} sees {t1} {at}. Now {he} has an idea.",
                    "{h} finds {t1} {at}.",
                ],
            ),
            beat(
                "hft",
                0,
                Day,
                &[
                    "{h} brings {t} to {f}. \"Can I play too?\"",
                    "{h} asks {f} to play with {t} {at}.",
                ],
            ),
            beat(
                "hfg",
                0,
                Sunset,
                &[
                    "{h}, {f} and {g} play {at} until they are tired.",
                    "{h}, {f} and {g} are friends {at}.",
                ],
            ),
        ],
    ),
    plot(
        "a place to sleep",
        &["tent", "house"],
        &[
            beat(
                "h",
                0,
                Sunset,
                &[
                    "{h1} is tired {at} and has no place to sleep.",
                    "{h1} has walked all day. Now it is evening {place}.",
                ],
            ),
            under(
                Rain,
                "h",
                1,
                Night,
                &[
                    "It rains {place} at night. {h} is wet.",
                    "{h} wanders in the rain {at}.",
                ],
            ),
            under(
                Rain,
                "hft",
                1,
                Night,
                &[
                    "{f1} opens the door of {t1} to {h}.",
                    "{h} sees {f1} next to {t1} {at}.",
                ],
            ),
            under(
                Clear,
                "hft",
                1,
                Day,
                &[
                    "{h} and {f} wake up by {t} {at}.",
                    "In the morning, {h} thanks {f} outside {t}.",
                ],
            ),
        ],
    ),
    plot(
        "the old castle",
        &["castle"],
        &[
            beat(
                "h",
                0,
                Day,
                &[
                    "{h1} has heard a strange story {at}.",
                    "{h1} wants to be brave {at}.",
                ],
            ),
            beat(
                "ht",
                1,
                Sunset,
                &[
                    "{h} comes to {t1} {at}.",
                    "{h} stands in front of {t1} {at}.",
                ],
            ),
            beat(
                "hft",
                1,
                Night,
                &[
                    "{h} hears a sound in {t}. It is only {f1}!",
                    "At night, {f1} comes out of {t} and scares {h}.",
                ],
            ),
            beat(
                "hf",
                1,
                Night,
                &[
                    "{f} is lonely and wants a friend. {h} stays {at}.",
                    "{h} and {f} tell stories {at}.",
                ],
            ),
            beat(
                "hft",
                1,
                Day,
                &[
                    "Now {h} and {f} live in {t} {at}.",
                    "{h} and {f} say goodbye at {t} {at}.",
                ],
            ),
        ],
    ),
    plot(
        "the campfire",
        &["campfire"],
        &[
            beat(
                "hf",
                0,
                Day,
                &[
                    "{h1} and {f1} go on an adventure {at}.",
                    "{h1} and {f1} walk and walk {at}.",
                ],
            ),
            beat(
                "hf",
                0,
                Sunset,
                &[
                    "It gets cold. {h} and {f} are lost {at}.",
                    "{h} and {f} look for the way {at}.",
                ],
            ),
            beat(
                "hft",
                0,
                Night,
                &[
                    "{h} and {f} sit by {t1} {at}.",
                    "{h} makes {t1}, and {f} is warm again.",
                ],
            ),
            beat(
                "hfg",
                0,
                Night,
                &[
                    "{g1} sees it from far away and finds {h} and {f}.",
                    "{g1} comes to help {h} and {f} {at}.",
                ],
            ),
            beat(
                "hfg",
                1,
                Day,
                &[
                    "{g} brings {h} and {f} back {place}. What an adventure it was!",
                    "{h}, {f} and {g} come back safe {at}.",
                ],
            ),
        ],
    ),
    plot(
        "the broken machine",
        &["car", "rocket", "train"],
        &[
            beat(
                "ht",
                0,
                Day,
                &[
                    "{h1} loves {t1}, but it does not go.",
                    "{h1} has {t1} {at}. It is broken.",
                ],
            ),
            beat(
                "h",
                1,
                Day,
                &[
                    "{h} looks for help {at}.",
                    "{h} asks everyone {at}, but nobody knows.",
                ],
            ),
            beat(
                "hf",
                1,
                Sunset,
                &[
                    "{h} finds {f1} {at}. {f} knows what to do.",
                    "{f1} wants to help {h} {at}.",
                ],
            ),
            beat(
                "hft",
                0,
                Night,
                &[
                    "{h} and {f} work on {t} {at}.",
                    "All night, {h} and {f} fix {t}.",
                ],
            ),
            beat(
                "ht",
                2,
                Day,
                &[
                    "{h} and {t} go out into the world {at}.",
                    "{h} takes {t} for a long trip {at}.",
                ],
            ),
        ],
    ),
    plot(
        "too many wishes",
        &["gift", "crown", "lantern"],
        &[
            beat(
                "ht",
                0,
                Day,
                &[
                    "{h1} opens {t1} {at}. It is magic!",
                    "{h1} finds {t1} {at}. It gives three wishes.",
                ],
            ),
            beat(
                "htu",
                0,
                Day,
                &[
                    "{h} wishes, and {u1} is there too, next to {t}.",
                    "First {h} gets {u1} from {t}.",
                ],
            ),
            beat(
                "h",
                0,
                Sunset,
                &[
                    "But {h} is still alone {at}.",
                    "{h} has everything, and yet {he} is sad {at}.",
                ],
            ),
            beat(
                "hf",
                0,
                Night,
                &[
                    "The last wish is for a friend. {h} meets {f1} {at}.",
                    "{f1} comes to {h} {at}.",
                ],
            ),
            beat(
                "hft",
                0,
                Day,
                &["{h} gives {t} to {f}. {he} needs no more wishes."],
            ),
        ],
    ),
    plot(
        "winter tree",
        &["christmas tree"],
        &[
            under(
                Snow,
                "h",
                0,
                Day,
                &["{h1} walks in the snow {at}.", "Snow falls on {h1} {at}."],
            ),
            under(
                Snow,
                "ht",
                0,
                Day,
                &["{h} finds {t1} {at}.", "{h} stops. There is {t1} {at}."],
            ),
            under(
                Snow,
                "hft",
                0,
                Sunset,
                &[
                    "{f1} helps {h} to make {t} beautiful.",
                    "{h} and {f1} put gold on {t}.",
                ],
            ),
            under(
                Clear,
                "hft",
                0,
                Night,
                &[
                    "{h} and {f} sing next to {t} {at}.",
                    "{h} and {f} sit by {t} {at}. All is quiet.",
                ],
            ),
            under(
                Clear,
                "fgt",
                0,
                Night,
                &["{g1} hears the song and stands with {f} by {t}."],
            ),
        ],
    ),
    plot(
        "a quarrel",
        &["ball", "cake", "apple"],
        &[
            beat(
                "hft",
                0,
                Day,
                &[
                    "{h1} and {f1} both want {t1} {at}.",
                    "{h1} and {f1} find {t1} {at}. Who may keep it?",
                ],
            ),
            beat(
                "h",
                1,
                Sunset,
                &["{h} goes away and is sad {at}.", "{h} walks off {at}."],
            ),
            beat(
                "ft",
                0,
                Sunset,
                &[
                    "{f} has {t} now, but nobody to share it with.",
                    "{f} looks at {t} and feels bad {at}.",
                ],
            ),
            beat("fg", 0, Night, &["{g1} tells {f} to say sorry {at}."]),
            beat(
                "hft",
                1,
                Day,
                &[
                    "{f} shares {t} with {h} {at}.",
                    "{h} and {f} are friends again, and {t} is for both.",
                ],
            ),
        ],
    ),
    plot(
        "learning to fly",
        &["kite", "balloon"],
        &[
            beat(
                "h",
                0,
                Day,
                &["{h1} wants to fly {at}.", "{h1} jumps up and down {at}."],
            ),
            beat(
                "hf",
                0,
                Day,
                &[
                    "{f1} says that it is not so easy {at}.",
                    "{h} asks {f1} how to fly.",
                ],
            ),
            beat(
                "ht",
                1,
                Day,
                &[
                    "{h} holds {t1} {at}, but {he} stays on the ground.",
                    "{h} tries it with {t1} {at}.",
                ],
            ),
            beat(
                "hft",
                1,
                Sunset,
                &[
                    "{f} helps {h} to hold {t} {at}.",
                    "{h} and {f} run with {t} {at}.",
                ],
            ),
            beat(
                "h",
                2,
                Night,
                &[
                    "In a dream, {h} flies {at}.",
                    "{h} falls asleep and dreams {at}.",
                ],
            ),
        ],
    ),
    plot(
        "a letter from far away",
        &["books", "gift"],
        &[
            beat(
                "ht",
                0,
                Day,
                &[
                    "{h1} gets {t1} {at}. Who can it be from?",
                    "Someone has left {t1} for {h1} {at}.",
                ],
            ),
            beat(
                "h",
                1,
                Day,
                &[
                    "{h} goes to find out {at}.",
                    "{h} begins a long journey {at}.",
                ],
            ),
            beat(
                "hf",
                1,
                Night,
                &[
                    "{f1} shows {h} the way {at}.",
                    "{h} asks {f1} {at}. \"It was not me,\" says {f}.",
                ],
            ),
            beat(
                "hg",
                2,
                Day,
                &[
                    "{h} finds {g1} {at}. It was {g}!",
                    "{g1} waits for {h} {at}.",
                ],
            ),
            beat(
                "hfg",
                2,
                Sunset,
                &[
                    "{h}, {f} and {g} celebrate {at}.",
                    "{h}, {f} and {g} are all together {at}.",
                ],
            ),
        ],
    ),
    plot(
        "the helper",
        &["umbrella", "lantern", "apple"],
        &[
            beat(
                "f",
                0,
                Day,
                &[
                    "{f1} is stuck and cannot get out {at}.",
                    "{f1} calls for help {at}.",
                ],
            ),
            beat(
                "hf",
                0,
                Day,
                &["{h1} hears {f} and runs to help.", "{h1} helps {f} {at}."],
            ),
            beat(
                "h",
                1,
                Night,
                &[
                    "Now {h} is lost {at}.",
                    "Later, {h} cannot find the way {at}.",
                ],
            ),
            beat(
                "hft",
                1,
                Night,
                &[
                    "{f} comes with {t1} to help {h}.",
                    "{f} finds {h} and brings {t1}.",
                ],
            ),
            beat("hf", 0, Day, &["{h} and {f} always help each other {at}."]),
        ],
    ),
    plot(
        "the picnic",
        &["cake", "apple"],
        &[
            beat(
                "ht",
                0,
                Day,
                &["{h1} carries {t1} {at}.", "{h1} makes {t1} {at}."],
            ),
            beat(
                "t",
                1,
                Day,
                &[
                    "{t} is left alone for a moment {at}.",
                    "{h} looks away, and {t} is all alone {at}.",
                ],
            ),
            beat(
                "ft",
                1,
                Day,
                &[
                    "{f1} comes and takes {t}.",
                    "{f1} is hungry and sees {t} {at}.",
                ],
            ),
            beat(
                "hf",
                1,
                Sunset,
                &[
                    "{f} is sorry, and {h} is kind.",
                    "{h} finds {f}, and they laugh about it {at}.",
                ],
            ),
            beat(
                "hfu",
                1,
                Sunset,
                &[
                    "{f} brings {h} {u1} to say thank you.",
                    "{h} and {f} share {u1} {at}.",
                ],
            ),
        ],
    ),
    plot(
        "the star watchers",
        &["tent", "campfire", "books"],
        &[
            beat(
                "hf",
                0,
                Day,
                &["{h1} wants to show {f1} a secret in the sky, but it is only morning."],
            ),
            beat(
                "hft",
                1,
                Sunset,
                &[
                    "{h} and {f} wait by {t1} {at}.",
                    "{h} and {f} bring {t1} {at}.",
                ],
            ),
            under(
                Rain,
                "hf",
                1,
                Sunset,
                &[
                    "Then it rains. {h} and {f} are sad.",
                    "The rain comes, and {h} looks at {f}.",
                ],
            ),
            under(
                Clear,
                "hf",
                1,
                Night,
                &[
                    "The sky clears, and {h} and {f} look up {at}.",
                    "{h} and {f} make a wish {at}.",
                ],
            ),
        ],
    ),
];
