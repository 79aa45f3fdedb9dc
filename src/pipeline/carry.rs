//! What a sentence leaves out because the reader knows it from the panels before.

use crate::storyworld::words;

/// Most that stand in a picture when some of them are carried over from the panel before: pictures
/// of two come out best.
pub(super) const CARRIED: usize = 2;

const PLURAL: [&str; 5] = ["they", "them", "together", "both", "friends"];
const SINGULAR: [&str; 4] = ["he", "she", "him", "her"];

/// Puts those of the panel `before` whom `text` leaves out before those that it has `named`: all
/// where it names nobody, those that a pronoun stands for, and the first character where it names
/// things only; at most `most`.
pub(super) fn carry_over<T: Clone>(
    before: &[T],
    text: &str,
    named: &mut Vec<T>,
    most: usize,
    is_character: impl Fn(&T) -> bool,
    is_same: impl Fn(&T, &T) -> bool,
) {
    let characters = before.iter().filter(|one| is_character(one));
    let carried: Vec<&T> = if named.is_empty() {
        before.iter().collect()
    } else if has_plural_pronoun(text) {
        characters.collect()
    } else if has(text, &SINGULAR) || !named.iter().any(&is_character) {
        characters.take(1).collect()
    } else {
        Vec::new()
    };
    let carried: Vec<T> = carried
        .into_iter()
        .filter(|one| !named.iter().any(|other| is_same(one, other)))
        .take(most)
        .cloned()
        .collect();
    named.splice(0..0, carried);
}

/// Whether `text` speaks of two or more by a pronoun or the like.
pub(super) fn has_plural_pronoun(text: &str) -> bool {
    has(text, &PLURAL)
}

fn has(text: &str, any: &[&str]) -> bool {
    words(text).any(|word| any.contains(&word.as_str()))
}

/// One of `choice` for a story that names none, the same in all its panels.
pub(super) fn by_opening<T: Copy>(opening: &str, choice: &[T]) -> T {
    let hash = opening
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
    choice[(hash % choice.len() as u64) as usize]
}
