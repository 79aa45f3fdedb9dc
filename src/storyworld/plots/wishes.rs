//! Plots of things that are looked for, mended and wished for.

use super::{Plot, beat, plot};
use crate::storyworld::place::Time::*;

pub(super) const LOST_TREASURE: Plot = plot(
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
);

pub(super) const BROKEN_MACHINE: Plot = plot(
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
);

pub(super) const TOO_MANY_WISHES: Plot = plot(
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
);
