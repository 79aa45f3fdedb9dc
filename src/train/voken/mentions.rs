//! What a story says of those who could be in a picture, as far as it is read.

use super::data::{CompositionTarget, TrainingPanel};
use super::pack::ContextParts;
use crate::storyworld::{PanelMentions, Referent, mention_features};
use rand::Rng;

/// Shares of those whom a picture shows, or does not show, of whom it is learnt with the contrary: a
/// picture that was drawn is not read without mistakes.
const OVERLOOKED: f64 = 0.03;
const MISTAKEN: f64 = 0.01;

/// What `panels` say of those who could be on the picture of the last one, where `context` is read of
/// the others: see [`mention_features`].
pub(super) fn mentions(
    panels: &[&TrainingPanel],
    context: ContextParts,
    rng: &mut impl Rng,
) -> Vec<f32> {
    let Some((last, before)) = panels.split_last() else {
        return Vec::new();
    };
    let known = last.stage.len();
    let seen: Vec<Vec<usize>> = before.iter().map(|panel| seen(panel, known, rng)).collect();
    let told = before.iter().zip(&seen).map(|(panel, seen)| PanelMentions {
        text: if context.texts { &panel.text } else { "" },
        shown: context.pictures.then_some(seen.as_slice()),
    });
    let own = PanelMentions {
        text: &last.text,
        shown: None,
    };
    let told: Vec<PanelMentions> = match context.texts || context.pictures {
        true => told.chain([own]).collect(),
        false => vec![own],
    };
    let referents: Vec<Referent> = last.stage.iter().map(|who| who.referent.clone()).collect();
    mention_features(&told, &referents)
}

/// Whom of the first `known` the picture of `panel` seems to show, from left to right.
fn seen(panel: &TrainingPanel, known: usize, rng: &mut impl Rng) -> Vec<usize> {
    let place = |i: usize| {
        panel
            .stage
            .get(i)
            .and_then(|who: &CompositionTarget| who.place)
    };
    let mut seen: Vec<usize> = (0..known)
        .filter(|i| {
            let shown = place(*i).is_some();
            shown != rng.random_bool(if shown { OVERLOOKED } else { MISTAKEN })
        })
        .collect();
    let left = |i: &usize| place(*i).unwrap_or_default();
    seen.sort_by(|a, b| left(a).total_cmp(&left(b)));
    seen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storyworld::library::LibraryTale;
    use crate::storyworld::{MENTION_FEATURES, Split};
    use crate::train::voken::data::told_of_library;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    fn parts(texts: bool, pictures: bool) -> ContextParts {
        ContextParts { texts, pictures }
    }

    #[test]
    fn what_is_not_read_of_a_story_says_nothing() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let tale = LibraryTale::random(3, Split::Training);
        let panels = told_of_library(&tale, &mut rng);
        let told: Vec<&TrainingPanel> = panels.iter().collect();
        let mut of = |panels: &[&TrainingPanel], context| mentions(panels, context, &mut rng);
        let all = of(&told, parts(true, true));
        assert_eq!(
            all.len(),
            told[told.len() - 1].stage.len() * MENTION_FEATURES
        );
        let alone = of(&told, parts(false, false));
        assert_eq!(alone, of(&told[told.len() - 1..], parts(true, true)));
        let by_words = of(&told, parts(true, false));
        let by_pictures = of(&told, parts(false, true));
        assert!(all != by_words && all != by_pictures && by_words != by_pictures);
        // Of words alone nothing is drawn by lot.
        assert_eq!(by_words, of(&told, parts(true, false)));
        assert!(mentions(&[], parts(true, true), &mut rng).is_empty());
    }

    #[test]
    fn pictures_are_read_with_few_mistakes() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let (mut right, mut of) = (0, 0);
        for seed in 0..40 {
            let tale = LibraryTale::random(seed, Split::Training);
            for panel in told_of_library(&tale, &mut rng) {
                let known = panel.stage.len();
                let seen = seen(&panel, known, &mut rng);
                for i in 0..known {
                    right += usize::from(seen.contains(&i) == panel.stage[i].place.is_some());
                    of += 1;
                }
            }
        }
        let share = right as f64 / of as f64;
        assert!((0.95..1.0).contains(&share), "{share}");
    }
}
