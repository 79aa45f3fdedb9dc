//! Plots of journeys.

use super::{Plot, beat, plot, under};
use crate::storyworld::place::{Time::*, Weather::*};

pub(super) const RUNAWAY_BALLOON: Plot = plot(
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
);

pub(super) const JOURNEY_BY_BOAT: Plot = plot(
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
);

pub(super) const TRIP_TO_THE_SKY: Plot = plot(
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
);

pub(super) const TRAIN_TO_A_FRIEND: Plot = plot(
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
);

pub(super) const OLD_CASTLE: Plot = plot(
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
);

pub(super) const LEARNING_TO_FLY: Plot = plot(
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
);

pub(super) const LETTER_FROM_FAR_AWAY: Plot = plot(
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
);
