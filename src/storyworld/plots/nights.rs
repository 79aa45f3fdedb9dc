//! Plots of the dark and of lights.

use super::{Plot, beat, plot, under};
use crate::storyworld::place::{Time::*, Weather::*};

pub(super) const FINDING_A_LIGHT: Plot = plot(
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
);

pub(super) const AFRAID_OF_THE_DARK: Plot = plot(
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
);

pub(super) const PLACE_TO_SLEEP: Plot = plot(
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
);

pub(super) const CAMPFIRE: Plot = plot(
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
);

pub(super) const STAR_WATCHERS: Plot = plot(
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
);
