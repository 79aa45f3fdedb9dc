//! Plots of weather and seasons.

use super::{Plot, beat, plot, under};
use crate::storyworld::place::{Time::*, Weather::*};

pub(super) const CAUGHT_IN_THE_RAIN: Plot = plot(
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
);

pub(super) const SNOWMAN: Plot = plot(
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
);

pub(super) const GARDEN: Plot = plot(
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
);

pub(super) const WINTER_TREE: Plot = plot(
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
);
