//! The sentence shapes of captions. `{a}`, `{b}`, `{c}` are the subjects from left to right,
//! `{v}` a verb that fits the thing in the sentence, `{at}` where, when and in what weather.

use super::cast::SubjectId;

/// Shapes for one make-up of the stage.
pub(super) struct Shapes {
    /// As someone describing a picture writes.
    pub plain: &'static [&'static str],
    /// As an author or a language model writes.
    pub story: &'static [&'static str],
}

/// The shapes that fit these subjects.
pub(super) fn shapes(subjects: &[SubjectId]) -> &'static Shapes {
    let cast: Vec<bool> = subjects.iter().map(|s| s.is_character()).collect();
    match cast.as_slice() {
        [] => &EMPTY,
        [true] => &CHARACTER,
        [false] => &THING,
        [true, true] => &TWO_CHARACTERS,
        [true, false] => &CHARACTER_THING,
        [false, true] => &THING_CHARACTER,
        [false, false] => &TWO_THINGS,
        [true, true, true] => &THREE_CHARACTERS,
        [true, true, false] => &PAIR_THING,
        _ => &THREE,
    }
}

/// Every shape there is, for counting and for the vocabulary.
pub(super) fn all() -> impl Iterator<Item = &'static str> {
    [
        &EMPTY,
        &CHARACTER,
        &THING,
        &TWO_CHARACTERS,
        &CHARACTER_THING,
        &THING_CHARACTER,
        &TWO_THINGS,
        &THREE_CHARACTERS,
        &PAIR_THING,
        &THREE,
    ]
    .into_iter()
    .flat_map(|s| s.plain.iter().chain(s.story).copied())
}

static EMPTY: Shapes = Shapes {
    plain: &["nobody {at}", "an empty scene {at}"],
    story: &["Everything is quiet {at}.", "Nobody is here {at}."],
};

static CHARACTER: Shapes = Shapes {
    plain: &[
        "{a} {at}",
        "a picture of {a} {at}",
        "{a} standing {at}",
        "an illustration of {a} {at}",
        "{a} alone {at}",
        "there is {a} {at}",
        "a drawing of {a} {at}",
        "one {a0} {at}",
    ],
    story: &[
        "{a} stands {at}.",
        "{a} is waiting {at}.",
        "{a} walks {at}.",
        "{a} looks around {at}.",
        "Once upon a time, {a} lived {at}.",
        "{a} is all alone {at}.",
        "{a} dreams of an adventure {at}.",
        "We see {a} {at}.",
        "{a} smiles {at}.",
        "{a} feels happy {at}.",
        "{a} is lost {at}.",
        "{a} wakes up {at}.",
        "There was {a} {at}.",
        "{a} wants to find a friend {at}.",
        "Here comes {a} {at}.",
        "{a} rests {at}.",
        "{a} sings a song {at}.",
        "{a} makes a wish {at}.",
        "{a} runs {at}.",
        "{a} goes for a walk {at}.",
        "{a} hears a strange sound {at}.",
        "Look, {a} is dancing {at}!",
        "{a} sits down {at}.",
        "{a} wanders {at}, looking for something.",
    ],
};

static THING: Shapes = Shapes {
    plain: &[
        "{a} {at}",
        "a picture of {a} {at}",
        "there is {a} {at}",
        "an illustration of {a} {at}",
        "{a} alone {at}",
        "only {a} {at}",
        "one {a0} {at}",
        "{a} seen {at}",
    ],
    story: &[
        "{a} waits {at}.",
        "There is {a} {at}.",
        "Someone left {a} {at}.",
        "Nobody knows who left {a} {at}.",
        "{a} can be seen {at}.",
        "Here is {a} {at}.",
        "{a} appears {at}.",
        "There it was: {a} {at}.",
    ],
};

static TWO_CHARACTERS: Shapes = Shapes {
    plain: &[
        "{a} and {b} {at}",
        "{a} on the left and {b} on the right {at}",
        "{a} with {b} {at}",
        "{a} next to {b} {at}",
        "a picture of {a} and {b} {at}",
        "{a} on the left, {b} on the right {at}",
        "{a} beside {b} {at}",
        "{a} stands to the left of {b} {at}",
    ],
    story: &[
        "{a} and {b} sit together {at}.",
        "{a} meets {b} {at}.",
        "{a} and {b} are friends {at}.",
        "{a} and {b} play {at}.",
        "{a} talks to {b} {at}.",
        "{a} asks {b} for help {at}.",
        "{a} and {b} walk together {at}.",
        "{a} follows {b} {at}.",
        "{a} and {b} dance {at}.",
        "{a} and {b} laugh together {at}.",
        "{a} waves to {b} {at}.",
        "{a} finds {b} {at}.",
        "{a} helps {b} {at}.",
        "{a} tells {b} a story {at}.",
        "{a} and {b} look for something {at}.",
        "{a} says hello to {b} {at}.",
        "{a} and {b} go on an adventure {at}.",
        "Together, {a} and {b} rest {at}.",
        "{a} waits for {b} {at}.",
        "{a} and {b} share a secret {at}.",
        "{a} visits {b} {at}.",
        "{a} thanks {b} {at}.",
        "{a} and {b} become best friends {at}.",
        "{a} hugs {b} {at}.",
    ],
};

static CHARACTER_THING: Shapes = Shapes {
    plain: &[
        "{a} and {b} {at}",
        "{a} on the left and {b} on the right {at}",
        "{a} with {b} {at}",
        "{a} next to {b} {at}",
        "a picture of {a} and {b} {at}",
        "{a} near {b} {at}",
        "{a} beside {b} {at}",
        "{a} on the left, {b} on the right {at}",
    ],
    story: &[
        "{a} finds {b} {at}.",
        "{a} {v} {b} {at}.",
        "{a} sees {b} {at}.",
        "{a} {v} {b} {at}.",
        "{a} looks at {b} {at}.",
        "{a} {v} {b} {at}.",
        "{a} discovers {b} {at}.",
        "{a} stands by {b} {at}.",
        "{a} wants {b} {at}.",
        "{a} {v} {b} {at}.",
        "{a} loves {b} {at}.",
        "{a} has {b} {at}.",
        "{a} walks up to {b} {at}.",
        "{a} is happy to see {b} {at}.",
        "{a} waits next to {b} {at}.",
        "{a} brings {b} {at}.",
        "{a} guards {b} {at}.",
        "{a} stares at {b} {at}.",
        "{a} dreams of {b} {at}.",
        "{a} is surprised by {b} {at}.",
        "What a surprise: {a} finds {b} {at}!",
        "{a} wonders about {b} {at}.",
        "{a} looks for {b} {at}.",
        "{a} shows us {b} {at}.",
    ],
};

static THING_CHARACTER: Shapes = Shapes {
    plain: &[
        "{a} and {b} {at}",
        "{a} on the left and {b} on the right {at}",
        "{a} next to {b} {at}",
        "a picture of {a} and {b} {at}",
        "{a} on the left, {b} on the right {at}",
        "{a} beside {b} {at}",
        "{a} with {b} {at}",
        "{a} near {b} {at}",
    ],
    story: &[
        "{a} waits for {b} {at}.",
        "{a} stands next to {b} {at}.",
        "{a} belongs to {b} {at}.",
        "There is {a} beside {b} {at}.",
        "{a} makes {b} happy {at}.",
        "Behind {a} stands {b} {at}.",
        "{a} surprises {b} {at}.",
        "Beside {a} sits {b} {at}.",
    ],
};

static TWO_THINGS: Shapes = Shapes {
    plain: &[
        "{a} and {b} {at}",
        "{a} on the left and {b} on the right {at}",
        "{a} next to {b} {at}",
        "there is {a} and {b} {at}",
        "a picture of {a} and {b} {at}",
        "{a} on the left, {b} on the right {at}",
        "{a} beside {b} {at}",
        "{a} with {b} {at}",
    ],
    story: &[
        "{a} stands beside {b} {at}.",
        "Someone left {a} and {b} {at}.",
        "There are {a} and {b} {at}.",
        "{a} and {b} wait {at}.",
        "{a} can be seen near {b} {at}.",
        "Nobody is here, only {a} and {b} {at}.",
        "Here are {a} and {b} {at}.",
        "Look, {a} and {b} {at}!",
    ],
};

static THREE_CHARACTERS: Shapes = Shapes {
    plain: &[
        "{a}, {b} and {c} {at}",
        "{a} on the left, {b} in the middle and {c} on the right {at}",
        "{a} with {b} and {c} {at}",
        "a picture of {a}, {b} and {c} {at}",
        "{a} and {b} with {c} {at}",
        "{a} next to {b} and {c} {at}",
        "three friends: {a}, {b} and {c} {at}",
        "{a} and {b} and {c} {at}",
    ],
    story: &[
        "{a}, {b} and {c} play together {at}.",
        "{a} and {b} meet {c} {at}.",
        "{a}, {b} and {c} are friends {at}.",
        "{a}, {b} and {c} dance {at}.",
        "{a} and {b} help {c} {at}.",
        "{a}, {b} and {c} go on an adventure {at}.",
        "{a} brings {b} to {c} {at}.",
        "{a}, {b} and {c} celebrate {at}.",
        "{a} and {b} visit {c} {at}.",
        "Together, {a}, {b} and {c} sing {at}.",
        "{a} tells {b} and {c} a story {at}.",
        "{a} waves to {b} and {c} {at}.",
        "{a}, {b} and {c} sit together {at}.",
        "{a} and {b} wait for {c} {at}.",
        "{a} asks {b} and {c} for help {at}.",
        "{a} laughs with {b} and {c} {at}.",
    ],
};

static PAIR_THING: Shapes = Shapes {
    plain: &[
        "{a}, {b} and {c} {at}",
        "{a} on the left, {b} in the middle and {c} on the right {at}",
        "{a} and {b} with {c} {at}",
        "{a} and {b} next to {c} {at}",
        "a picture of {a}, {b} and {c} {at}",
        "{a} and {b} beside {c} {at}",
        "{a} with {b} and {c} {at}",
        "{a} and {b} near {c} {at}",
    ],
    story: &[
        "{a} and {b} find {c} {at}.",
        "{a} and {b} sit by {c} {at}.",
        "{a} shows {b} {c} {at}.",
        "{a} and {b} share {c} {at}.",
        "{a} and {b} look at {c} {at}.",
        "{a} gives {b} {c} {at}.",
        "{a} and {b} play with {c} {at}.",
        "{a} and {b} discover {c} {at}.",
        "{a} and {b} dance around {c} {at}.",
        "{a} and {b} stand by {c} {at}.",
        "{a} brings {b} {c} {at}.",
        "{a} and {b} laugh about {c} {at}.",
        "{a} and {b} wait next to {c} {at}.",
        "{a} helps {b} with {c} {at}.",
        "Together, {a} and {b} look for {c} {at}.",
        "{a} and {b} are happy to see {c} {at}.",
    ],
};

static THREE: Shapes = Shapes {
    plain: &[
        "{a}, {b} and {c} {at}",
        "{a} on the left, {b} in the middle and {c} on the right {at}",
        "{a} with {b} and {c} {at}",
        "a picture of {a}, {b} and {c} {at}",
        "{a} next to {b} and {c} {at}",
        "{a} and {b} with {c} {at}",
        "{a} and {b} beside {c} {at}",
        "there is {a}, {b} and {c} {at}",
    ],
    story: &[
        "There is {a} with {b} and {c} {at}.",
        "{a}, {b} and {c} can be seen {at}.",
        "Here are {a}, {b} and {c} {at}.",
        "Look, {a}, {b} and {c} {at}!",
        "{a} and {b} stand next to {c} {at}.",
        "We see {a}, {b} and {c} {at}.",
        "{a}, {b} and {c} are together {at}.",
        "{a} stands beside {b} and {c} {at}.",
    ],
};
