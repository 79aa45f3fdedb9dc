//! Conceptual Captions: single pictures with their captions, the first stage of training.

use super::{TrainingSample, answer};
use crate::voken::inert;

/// What an instruction begins with; the turn follows without a space.
const SYSTEM: &str = "You will be able to generate image according to command.";

/// Ways to ask for a picture.
const REQUESTS: [&str; 7] = [
    "generate image with caption:",
    "can you give me the image with caption:",
    "help me to generate this image:",
    "generate image with according to caption:",
    "according to caption, generate image:",
    "an image with caption:",
    "can you visualize this caption:",
];

/// One row in so many is learnt as an instruction, too.
const INSTRUCTION_EVERY: usize = 100;

/// A caption in lower case without most punctuation, as LAVIS's `BlipCaptionProcessor` cleans it.
pub fn clean_caption(caption: &str) -> String {
    let lower: String = caption
        .to_lowercase()
        .chars()
        .map(|c| if ".!\"()*#:;~".contains(c) { ' ' } else { c })
        .collect();
    let mut cleaned = String::with_capacity(lower.len());
    let mut spaces = String::new();
    // Only two and more become one space; a single tab stays.
    let flush = |spaces: &mut String, cleaned: &mut String| {
        match spaces.chars().count() {
            0 | 1 => cleaned.push_str(spaces),
            _ => cleaned.push(' '),
        }
        spaces.clear();
    };
    for c in lower.chars() {
        if c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c) {
            spaces.push(c);
        } else {
            flush(&mut spaces, &mut cleaned);
            cleaned.push(c);
        }
    }
    flush(&mut spaces, &mut cleaned);
    cleaned.trim_end_matches('\n').trim_matches(' ').to_string()
}

/// The samples of row `row`: its caption alone, and for one row in a hundred an instruction in
/// the wording `wording` (counted modulo how many there are). A picture is `vokens` vokens.
pub fn cc3m(
    row: usize,
    caption: &str,
    picture: &str,
    wording: usize,
    vokens: usize,
) -> Vec<TrainingSample> {
    let caption = clean_caption(caption);
    let asked = inert(&caption);
    let sample = |source: String| TrainingSample {
        source,
        target: answer("", vokens),
        caption: Some(caption.clone()),
        inputs: Vec::new(),
        output: Some(picture.to_string()),
    };
    let mut samples = vec![sample(asked.clone())];
    if row.is_multiple_of(INSTRUCTION_EVERY) {
        let request = REQUESTS[wording % REQUESTS.len()];
        let source = format!("{SYSTEM}###Human: {request} {asked} ###Assistant:");
        samples.push(sample(source));
    }
    samples
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captions_are_cleaned_as_the_reference_does() {
        for (raw, clean) in [
            ("A man, sitting.", "a man, sitting"),
            ("Black cat:  looking out!!\n", "black cat looking out"),
            (
                "\"(TWO) boats\"; on ~the~ #water*",
                "two boats on the water",
            ),
            ("one\ttab", "one\ttab"),
            ("two\t\ttabs", "two tabs"),
            (" . ", ""),
        ] {
            assert_eq!(clean_caption(raw), clean, "{raw:?}");
        }
    }

    #[test]
    fn the_recorded_samples_are_made() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/fixtures/public/vectors/cc3m_samples.json"
        );
        let recorded: Vec<serde_json::Value> =
            serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert_eq!(recorded.len(), 4);
        for sample in &recorded {
            let name = sample["task_name"].as_str().unwrap();
            let row = name.split('_').nth(1).unwrap().parse().unwrap();
            let caption = sample["caption"].as_str().unwrap();
            let kind = usize::from(name.ends_with("instruction"));
            let made = (0..REQUESTS.len()).map(|wording| {
                let mut samples = cc3m(row, &caption.to_uppercase(), "p", wording, 8);
                samples.swap_remove(kind)
            });
            let same = |made: TrainingSample| {
                sample["source"] == made.source
                    && sample["target"] == made.target
                    && made.caption.as_deref() == Some(caption)
            };
            assert!(made.into_iter().any(same), "{sample}");
        }
        assert_eq!(cc3m(1, "a", "p", 0, 8).len(), 1);
        assert_eq!(cc3m(200, "a", "p", 0, 8).len(), 2);
    }
}
