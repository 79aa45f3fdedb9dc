//! VIST: stories of five pictures with a sentence each.

use super::{TrainingSample, answer};
use crate::voken::{VistPanel, VistTask, vist_prompt};

/// The samples of step `at` of a story of `(text, picture)`: a picture of its text; from the
/// second step on, when training, also the text with its picture, and the text of its picture.
/// `wording` chooses among the ways to ask; a picture is `vokens` vokens. An author's steps may be
/// without a picture: such are history and no more.
pub fn vist(
    story: &[(&str, Option<&str>)],
    at: usize,
    training: bool,
    wording: usize,
    vokens: usize,
) -> Vec<TrainingSample> {
    let Some(&(text, Some(picture))) = story.get(at) else {
        return Vec::new();
    };
    let before = &story[..at];
    let history: Vec<VistPanel> = before
        .iter()
        .map(|&(text, picture)| VistPanel {
            text,
            picture: picture.is_some(),
        })
        .collect();
    let seen = before.iter().filter_map(|(_, picture)| *picture);
    let seen: Vec<String> = seen.map(str::to_string).collect();
    let sample = |task: VistTask, target: String, output: bool| TrainingSample {
        source: vist_prompt(&history, task, wording),
        target,
        caption: None,
        inputs: seen.clone(),
        output: output.then(|| picture.to_string()),
    };
    let mut samples = vec![sample(VistTask::Picture(text), answer("", vokens), true)];
    if training && !before.is_empty() {
        samples.push(sample(VistTask::Both, answer(text, vokens), true));
        let mut understanding = sample(VistTask::Text, answer(text, 0), false);
        understanding.inputs.push(picture.to_string());
        samples.push(understanding);
    }
    samples
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recorded_samples_are_made() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/fixtures/public/vectors/vist_samples.json"
        );
        let recorded: Vec<serde_json::Value> =
            serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let story = [
            (
                "my sister arrived early to help me with the family barbecue.",
                Some("images/img0.png"),
            ),
            (
                "every one else arrived soon after.",
                Some("images/img1.png"),
            ),
            (
                "the kids played with a ball in the garden.",
                Some("images/img2.png"),
            ),
            ("finally it was time to go home.", Some("images/img3.png")),
        ];
        let made: Vec<Vec<TrainingSample>> = (0..6)
            .map(|wording| {
                (0..4)
                    .flat_map(|at| vist(&story, at, true, wording, 8))
                    .collect()
            })
            .collect();
        assert_eq!(recorded.len(), 10);
        for (index, sample) in recorded.iter().enumerate() {
            let same = |made: &TrainingSample| {
                let inputs: Vec<_> = sample["input_images"].as_array().unwrap().iter().collect();
                // The reference writes a missing picture as one that is null.
                let inputs = inputs.iter().filter_map(|i| i.as_str());
                sample["source"] == made.source
                    && sample["target"] == made.target
                    && inputs.eq(made.inputs.iter().map(String::as_str))
                    && sample["output_image"].as_str() == made.output.as_deref()
            };
            assert!(made.iter().any(|all| same(&all[index])), "{sample}");
        }
        assert_eq!(vist(&story, 2, false, 0, 8).len(), 1);
    }
}
