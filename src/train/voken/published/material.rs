//! An author's files as the samples that the reference learns from.

use crate::llm::LlamaTokenizer;
use crate::train::voken::data::TrainingStory;
use crate::train::voken::{DialogTurn, TrainingSample, VokenStage, cc3m, mmdialog, vist};
use crate::voken::{InterleavedText, VokenIds};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Steps of a story that come before the one that is learnt: VIST's stories have five.
const HISTORY: usize = 4;
/// Wordings are drawn from so many, which every task's number of them divides or comes near.
const WORDINGS: usize = 42;

/// A picture, by its strip and panel.
pub(super) type PictureIndex = (usize, usize);

/// A sample with its words as tokens.
#[derive(Clone, Debug)]
pub(super) struct TokenisedSample {
    pub text: InterleavedText,
    pub inputs: Vec<PictureIndex>,
    pub output: Option<PictureIndex>,
    pub caption: Option<String>,
}

/// What there is to learn in `stage`, and how many samples are longer than `room` tokens and are
/// left out. A picture that is read takes `queries` of them.
pub(super) fn items(
    strips: &[TrainingStory],
    stage: VokenStage,
    tokenizer: &LlamaTokenizer,
    vocabulary: &VokenIds,
    (room, queries): (usize, usize),
    seed: u64,
) -> (Vec<TokenisedSample>, usize) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let samples = samples(
        strips,
        stage,
        tokenizer,
        vocabulary.vokens as usize,
        &mut rng,
    );
    let all = samples.len();
    let read = |sample: TrainingSample| TokenisedSample {
        text: InterleavedText::training(
            &tokenizer.encode(&sample.source),
            &tokenizer.encode(&sample.target),
            vocabulary,
        ),
        inputs: sample.inputs.iter().filter_map(|p| place(p)).collect(),
        output: sample.output.as_deref().and_then(place),
        caption: sample.caption,
    };
    let fits =
        |item: &TokenisedSample| 1 + item.text.ids.len() + item.inputs.len() * queries <= room;
    let items: Vec<TokenisedSample> = samples.into_iter().map(read).filter(fits).collect();
    let left_out = all - items.len();
    (items, left_out)
}

fn place(name: &str) -> Option<PictureIndex> {
    let (strip, panel) = name.split_once('/')?;
    Some((strip.parse().ok()?, panel.parse().ok()?))
}

fn samples(
    strips: &[TrainingStory],
    stage: VokenStage,
    tokenizer: &LlamaTokenizer,
    vokens: usize,
    rng: &mut ChaCha8Rng,
) -> Vec<TrainingSample> {
    let mut samples = Vec::new();
    let mut row = 0;
    for (number, strip) in strips.iter().enumerate() {
        let described: Vec<(&str, Option<String>)> = strip
            .panels
            .iter()
            .enumerate()
            .map(|(at, panel)| {
                let picture = panel.picture.as_ref().map(|_| format!("{number}/{at}"));
                (panel.text.trim(), picture)
            })
            .collect();
        match stage {
            VokenStage::Align => {
                for (text, picture) in &described {
                    let Some(picture) = picture.as_ref().filter(|_| !text.is_empty()) else {
                        continue;
                    };
                    let wording = rng.random_range(0..WORDINGS);
                    samples.extend(cc3m(row, text, picture, wording, vokens));
                    row += 1;
                }
            }
            VokenStage::Story if strip.spoken => {
                let turn = |(text, picture): (&str, Option<String>)| DialogTurn {
                    text: text.to_string(),
                    picture,
                };
                let turns: Vec<DialogTurn> = described.into_iter().map(turn).collect();
                let count = |text: &str| tokenizer.encode(text).len();
                samples.extend(mmdialog(&turns, |_| true, Some(&count), vokens));
            }
            VokenStage::Story => {
                let described: Vec<(&str, Option<&str>)> = described
                    .iter()
                    .map(|(text, picture)| (*text, picture.as_deref()))
                    .filter(|(text, _)| !text.is_empty())
                    .collect();
                for at in 0..described.len() {
                    let first = at.saturating_sub(HISTORY);
                    let wording = rng.random_range(0..WORDINGS);
                    samples.extend(vist(
                        &described[first..=at],
                        at - first,
                        true,
                        wording,
                        vokens,
                    ));
                }
            }
        }
    }
    // A caption of nothing but punctuation says nothing.
    samples.retain(|sample| !sample.source.is_empty());
    samples
}

/// The samples of step `step`: all of them, then all of them anew in another order.
pub(super) fn pick(count: usize, batch: usize, step: u64, seed: u64) -> Vec<usize> {
    let mut order: Option<(u64, Vec<usize>)> = None;
    let n = count as u64;
    (0..batch as u64)
        .map(|i| {
            let at = step * batch as u64 + i;
            let epoch = at / n;
            if order.as_ref().is_none_or(|(known, _)| *known != epoch) {
                order = Some((epoch, shuffled(count, epoch, seed)));
            }
            order.as_ref().map_or(0, |(_, all)| all[(at % n) as usize])
        })
        .collect()
}

fn shuffled(count: usize, epoch: u64, seed: u64) -> Vec<usize> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(1 + epoch);
    let mut all: Vec<usize> = (0..count).collect();
    for i in (1..count).rev() {
        all.swap(i, rng.random_range(0..=i));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::voken::data::{TrainingPanel, TrainingPicture};
    use crate::train::voken::left_out::PictureFile;
    use std::path::Path;
    use std::sync::Arc;

    fn strip(texts: &[(&str, bool)], spoken: bool) -> TrainingStory {
        let panel = |(text, pictured): &(&str, bool)| TrainingPanel {
            text: text.to_string(),
            picture: pictured.then(|| {
                TrainingPicture::File(Arc::new(PictureFile {
                    path: "a.png".into(),
                    named_in: "a.tsv".into(),
                    line: None,
                }))
            }),
            description: text.to_string(),
            stage: Vec::new(),
        };
        TrainingStory {
            panels: texts.iter().map(panel).collect(),
            spoken,
        }
    }

    fn made(
        strips: &[TrainingStory],
        stage: VokenStage,
        room: usize,
    ) -> (Vec<TokenisedSample>, usize) {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR"));
        let dir = dir.join("tests/fixtures/public/checkpoint/llama");
        let tokenizer = LlamaTokenizer::load(&dir).unwrap().with_vokens(8);
        let vocabulary = VokenIds::at_the_end(tokenizer.vocabulary(), 8, 1).unwrap();
        items(strips, stage, &tokenizer, &vocabulary, (room, 8), 1)
    }

    #[test]
    fn pairs_are_the_first_stage_and_stories_the_second() {
        let tale = strip(&[("one", true), ("two", false), ("three", true)], false);
        let (pairs, _) = made(std::slice::from_ref(&tale), VokenStage::Align, 2048);
        // The first row is an instruction, too; a panel without a picture is none.
        assert_eq!(pairs.len(), 3);
        assert_eq!(pairs[2].output, Some((0, 2)));
        assert_eq!(pairs[2].caption.as_deref(), Some("three"));
        let (told, _) = made(std::slice::from_ref(&tale), VokenStage::Story, 2048);
        let outputs: Vec<Option<PictureIndex>> = told.iter().map(|item| item.output).collect();
        assert_eq!(outputs, [Some((0, 0)), Some((0, 2)), Some((0, 2)), None]);
        assert_eq!(told[3].inputs, [(0, 0), (0, 2)]);
        assert!(told.iter().all(|item| item.caption.is_none()));
        let (short, left_out) = made(std::slice::from_ref(&tale), VokenStage::Story, 60);
        assert_eq!((short.len(), left_out), (0, 4));
    }

    #[test]
    fn a_long_story_is_learnt_five_panels_at_a_time_and_a_talk_turn_by_turn() {
        let long = strip(&[("word", true); 9], false);
        let (told, _) = made(&[long], VokenStage::Story, 2048);
        assert_eq!(told.iter().map(|item| item.inputs.len()).max(), Some(5));
        let talk = strip(&[("hello", false), ("see", true), ("nice", false)], true);
        let (told, _) = made(&[talk], VokenStage::Story, 2048);
        assert_eq!(told.len(), 2);
        assert_eq!(
            (told[0].output, told[1].inputs.as_slice()),
            (Some((0, 1)), &[(0, 1)][..])
        );
    }

    #[test]
    fn every_sample_comes_once_before_any_comes_again() {
        let mut all: Vec<usize> = (0..5).flat_map(|step| pick(10, 4, step, 3)).collect();
        let again = all.split_off(10);
        assert_ne!(all, again);
        all.sort_unstable();
        assert_eq!(all, (0..10).collect::<Vec<_>>());
        assert_eq!(pick(3, 2, 7, 3), pick(3, 2, 7, 3));
    }
}
