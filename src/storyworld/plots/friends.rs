//! Plots of friends, and of what they do together.

use super::{Plot, beat, plot};
use crate::storyworld::place::Time::*;

pub(super) const BIRTHDAY: Plot = plot(
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
);

pub(super) const MUSIC: Plot = plot(
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
);

pub(super) const RACE: Plot = plot(
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
);

pub(super) const SHY_ONE: Plot = plot(
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
);

pub(super) const QUARREL: Plot = plot(
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
);

pub(super) const HELPER: Plot = plot(
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
);

pub(super) const PICNIC: Plot = plot(
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
);
