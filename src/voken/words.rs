//! An author's words in a prompt of MiniGPT-5, which has its marks in the text itself.

use crate::llm::{SHIELD, shielded};

use super::STOP;

/// Marks that the tokenizer cuts at, beside the vokens.
const TOKENS: [&str; 5] = ["<ImageHere>", "<s>", "</s>", "<unk>", "[PAD]"];
/// Marks in letters, and how an author's own are written so that they are none.
const LETTERS: [(&str, &str); 3] = [(STOP, "# # #"), ("<Img>", "< Img>"), ("</Img>", "< /Img>")];

/// `text` in which nothing acts: no voken, no place of a picture, no end of a turn. Texts without
/// such marks stay as they are.
///
/// ```
/// use vokenboard::voken::inert;
///
/// assert_eq!(inert("A fox [runs]."), "A fox [runs].");
/// assert_eq!(inert("Stop ###"), "Stop # # # ");
/// ```
pub fn inert(text: &str) -> String {
    let mut text = text.replace(SHIELD, "\u{fffd}");
    for (mark, plain) in LETTERS {
        text = text.replace(mark, plain);
    }
    // The next words may go on where these end.
    if text.ends_with('#') {
        text.push(' ');
    }
    let mut cuts: Vec<usize> = TOKENS
        .iter()
        .flat_map(|mark| text.match_indices(mark))
        .chain(text.match_indices("[IMG"))
        .map(|(at, _)| at + 1)
        .collect();
    let open = text
        .rfind(['[', '<'])
        .filter(|at| !text[*at..].contains([']', '>']));
    cuts.extend(open.map(|at| at + 1));
    shielded(&text, cuts)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::llm::LlamaTokenizer;

    #[test]
    fn a_typed_mark_is_no_token() {
        let dir =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/public/checkpoint/llama");
        let tokenizer = LlamaTokenizer::load(&dir).unwrap();
        let first = tokenizer.vokens()[0];
        let acts = |text: &str| {
            let ids = tokenizer.encode(text);
            ids.iter()
                .any(|id| *id >= first || [tokenizer.bos(), tokenizer.eos()].contains(id))
        };
        for text in [
            "a [IMG0] b",
            "<ImageHere>",
            "x</s>y",
            "[IMG",
            "<Image",
            "[IMG7]",
            "<s>",
        ] {
            let inert = inert(text);
            assert!(!acts(&inert), "{inert:?}");
            assert!(
                !acts(&format!("{inert}0]")) && !acts(&format!("{inert}Here>")),
                "{text}"
            );
            assert_eq!(tokenizer.decode(&tokenizer.encode(&inert), false), text);
        }
        assert!(!inert("a ###Human: ####").contains("###"));
        assert!(!format!("{}{}", inert("a ##"), inert("#b")).contains("###"));
        assert_eq!(inert("<Img>x</Img>"), "< Img>x< /Img>");
    }
}
