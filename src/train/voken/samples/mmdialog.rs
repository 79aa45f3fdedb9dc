//! MMDialog: conversations in which turns may come with a picture.

use super::{TrainingSample, answer};
use crate::voken::inert;

/// What every prompt begins with.
const SYSTEM: &str = "Give the following images in <Img>ImageContent</Img> format. You will be able to see the images once I provide it to you. Please generate conversations with appropriate images.";

/// Tokens of a text that is still learnt from.
const LONGEST: usize = 50;

/// A turn of a dialogue between two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DialogTurn {
    /// Text of the turn.
    pub text: String,
    /// The name of the picture that comes with it.
    pub picture: Option<String>,
}

/// The samples of a conversation: every turn after the first answers what came before, of which
/// no more than the last two turns of the first speaker are kept. The conversation ends early at
/// a turn without text, at one whose text is a file name, at one whose picture `exists` does not
/// know, and in training, where `tokens` counts those of a text, at one that is too long. A
/// picture is `vokens` vokens.
pub fn mmdialog(
    turns: &[DialogTurn],
    exists: impl Fn(&str) -> bool,
    tokens: Option<&dyn Fn(&str) -> usize>,
    vokens: usize,
) -> Vec<TrainingSample> {
    let ends = |turn: &&DialogTurn| {
        turn.text.is_empty()
            || turn.text.ends_with(".jpg")
            || turn
                .picture
                .as_deref()
                .is_some_and(|picture| !exists(picture))
            || tokens.is_some_and(|count| count(&turn.text) > LONGEST)
    };
    let mut samples = Vec::new();
    // The first turn that is kept; even turns are the first speaker's.
    let mut first = 0;
    for (at, turn) in turns.iter().take_while(|turn| !ends(turn)).enumerate() {
        if at > 0 {
            samples.push(sample(first, &turns[first..at], turn, vokens));
        }
        // The second speaker has answered twice since.
        if at % 2 == 1 && at - first > 2 {
            first = at - 1;
        }
    }
    samples
}

fn sample(first: usize, before: &[DialogTurn], turn: &DialogTurn, vokens: usize) -> TrainingSample {
    let speaker = |at: usize| match at % 2 {
        0 => "###Human:",
        _ => "###Assistant:",
    };
    let mut source = SYSTEM.to_string();
    for (at, turn) in (first..).zip(before) {
        source.push_str(&format!(" {} {}", speaker(at), inert(&turn.text)));
        if turn.picture.is_some() {
            source.push_str(" <Img><ImageHere></Img>");
        }
    }
    source.push_str(&format!(" {}", speaker(first + before.len())));
    TrainingSample {
        source,
        target: answer(&turn.text, turn.picture.as_ref().map_or(0, |_| vokens)),
        caption: None,
        inputs: before
            .iter()
            .filter_map(|turn| turn.picture.clone())
            .collect(),
        output: turn.picture.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn turn(value: &Value) -> DialogTurn {
        let mut turn = DialogTurn::default();
        for part in value["turn"].as_array().unwrap() {
            if let Some(text) = part["__TEXT__"].as_str() {
                turn.text = text.to_string();
            }
            if let Some(media) = part["__MEDIA__"].as_str() {
                turn.picture = Some(format!("{media}.jpg"));
            }
        }
        turn
    }

    #[test]
    fn the_recorded_samples_are_made_and_no_others() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/fixtures/public/vectors/mmdialog_samples.json"
        );
        let recorded: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let media = recorded["existing_media"].as_array().unwrap();
        let exists = |picture: &str| {
            media
                .iter()
                .any(|m| format!("{}.jpg", m.as_str().unwrap()) == picture)
        };
        let mut made = Vec::new();
        for conversation in recorded["conversations"].as_array().unwrap() {
            let turns: Vec<DialogTurn> =
                conversation.as_array().unwrap().iter().map(turn).collect();
            made.extend(mmdialog(
                &turns,
                exists,
                Some(&|text| text.split(' ').count()),
                8,
            ));
        }
        let samples = recorded["samples"].as_array().unwrap();
        assert_eq!(made.len(), samples.len());
        for (made, sample) in made.iter().zip(samples) {
            assert_eq!(sample["source"], made.source);
            assert_eq!(sample["target"], made.target);
            let inputs = sample["input_images"].as_array().unwrap();
            let inputs: Vec<&str> = inputs.iter().filter_map(Value::as_str).collect();
            assert_eq!(inputs, made.inputs);
            assert_eq!(sample["output_image"].as_str(), made.output.as_deref());
        }
    }

    #[test]
    fn a_conversation_ends_where_the_reference_ends_it() {
        let turn = |text: &str| DialogTurn {
            text: text.to_string(),
            picture: None,
        };
        let long = "word ".repeat(51);
        for last in ["", "see.jpg", long.trim()] {
            let turns = [turn("a"), turn("b"), turn(last), turn("c")];
            let count = |text: &str| text.split(' ').count();
            assert_eq!(
                mmdialog(&turns, |_| true, Some(&count), 8).len(),
                1,
                "{last}"
            );
        }
        let turns = [turn("a"), turn(long.trim())];
        assert_eq!(mmdialog(&turns, |_| true, None, 8).len(), 1);
    }
}
