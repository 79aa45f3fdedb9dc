//! Words in which a tokenizer finds no mark of a prompt.

/// Put inside an author's words where they spell a token that acts, and taken out again when the
/// prompt is encoded. A code point that Unicode keeps for a program's own use and no text holds.
pub(crate) const SHIELD: char = '\u{fdd0}';

/// `text` with a shield at each of the byte positions `cuts`, in any order.
pub(crate) fn shielded(text: &str, mut cuts: Vec<usize>) -> String {
    cuts.sort_unstable();
    cuts.dedup();
    let mut whole = String::with_capacity(text.len() + cuts.len() * SHIELD.len_utf8());
    let mut at = 0;
    for cut in cuts {
        whole.push_str(&text[at..cut]);
        whole.push(SHIELD);
        at = cut;
    }
    whole.push_str(&text[at..]);
    whole
}

/// A prompt with shielded words as people read it.
pub(crate) fn unshielded(prompt: &str) -> String {
    prompt.replace(SHIELD, "")
}
