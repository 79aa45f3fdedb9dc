//! Stories about any drawings of the library: pictures are judged by drawing what they could show, so
//! that whom nobody was trained on is judged like everybody else.

use std::collections::BTreeSet;
use std::rc::Rc;

use image::RgbImage;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::{HeldOutStory, StoryWorld};
use crate::eval::EvalError;
use crate::eval::illustrated::{IllustratedTale, SIZE};
use crate::eval::stories::StoryOptions;
use crate::eval::stories::score::{JudgedSubject, PanelScore};
use crate::judges::{CHOICE, CompositionRecogniser, Contrastive, DrawingChoice};
use crate::pipeline::ContextPanel;
use crate::story::{Images, Member};
use crate::storyworld::library::{
    Composition, CompositionRenderer, CompositionSubject, DrawingId, LibraryTale, Location,
    drawn_nouns,
};

/// The library with a judge that knows no drawing by heart.
pub(super) struct LibraryWorld {
    renderer: CompositionRenderer,
    recogniser: CompositionRecogniser,
}

impl LibraryWorld {
    pub(super) fn new() -> Self {
        Self {
            renderer: CompositionRenderer::new(SIZE),
            recogniser: CompositionRecogniser::new(),
        }
    }
}

impl StoryWorld for LibraryWorld {
    fn story(&self, seed: u64) -> Box<dyn HeldOutStory + '_> {
        let story = IllustratedTale::new(seed, &self.renderer);
        Box::new(LibraryStory {
            choice: DrawingChoice::new(&choice(&story.tale, seed)),
            story,
            recogniser: &self.recogniser,
        })
    }

    fn contrastive(&self) -> Option<Rc<Contrastive>> {
        None
    }

    fn real_features(&self, _scenes: usize) -> Result<Vec<Vec<f32>>, EvalError> {
        Ok(Vec::new())
    }

    fn notes(&self, _options: &StoryOptions) -> Vec<String> {
        vec![format!(
            "Nobody learnt to judge these pictures: which of {CHOICE} drawings, those of the story among \
             them, stand in a picture, and in which of {} places, at what time and in what weather, is \
             what it comes nearest to of all that could be drawn.",
            Location::all().count()
        )]
    }
}

/// The drawings that pictures of `tale` are taken for: all that its members can be drawn as, and
/// others of the library.
fn choice(tale: &LibraryTale, seed: u64) -> Vec<CompositionSubject> {
    let mut others: Vec<DrawingId> = DrawingId::all().collect();
    others.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    let members = tale.members.iter().flat_map(|member| member.drawings());
    let mut all: Vec<DrawingId> = Vec::with_capacity(CHOICE);
    for drawing in members.chain(others) {
        if all.len() < CHOICE && !all.contains(&drawing) {
            all.push(drawing);
        }
    }
    all.into_iter().map(CompositionSubject::Drawing).collect()
}

struct LibraryStory<'a> {
    story: IllustratedTale,
    choice: DrawingChoice,
    recogniser: &'a CompositionRecogniser,
}

/// Somebody whom a text names: a member of the story by number, or another drawing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Named {
    Member(usize),
    Other(DrawingId),
}

/// What `seen` shows of the panel at `at` of `tale`. Whoever is in the cast by then is there where
/// its own drawing is; who comes in with this panel may be drawn as whatever its noun is drawn as.
fn score(tale: &LibraryTale, at: usize, seen: &Composition) -> PanelScore {
    let panel = &tale.panels[at];
    let known = at
        .checked_sub(1)
        .map_or(0, |before| tale.panels[before].known);
    let is_seen = |drawing: &DrawingId| {
        let subject = CompositionSubject::Drawing(*drawing);
        seen.figures.iter().any(|figure| figure.subject == subject)
    };
    let subjects = panel.shown.iter().map(|&number| {
        let member = &tale.members[number];
        let seen = match number < known {
            true => is_seen(&member.drawing),
            false => member.drawings().iter().any(is_seen),
        };
        JudgedSubject {
            number,
            character: member.drawing.get().kind.is_character(),
            named: member.is_named_in(&panel.text),
            seen,
        }
    });
    let wanted = &panel.composition.setting;
    PanelScore {
        place: seen.setting.location == wanted.location,
        time: seen.setting.time == wanted.time,
        weather: seen.setting.weather == wanted.weather,
        ..PanelScore::of(subjects, seen.figures.len())
    }
}

/// The characters that `text` names.
fn characters(tale: &LibraryTale, text: &str) -> BTreeSet<Named> {
    let acts = |drawing: DrawingId| drawing.get().kind.is_character();
    let members = tale.members.iter().enumerate();
    let named = members.filter(|(_, member)| acts(member.drawing) && member.is_named_in(text));
    let mut all: BTreeSet<Named> = named.map(|(number, _)| Named::Member(number)).collect();
    for noun in drawn_nouns(text) {
        let mut members = tale.members.iter();
        let other = !members.any(|member| member.drawings().contains(&noun.drawing));
        if other && acts(noun.drawing) {
            all.insert(Named::Other(noun.drawing));
        }
    }
    all
}

impl HeldOutStory for LibraryStory<'_> {
    fn panels(&self) -> &[ContextPanel] {
        &self.story.context
    }

    fn cast(&self, at: usize) -> &[Member] {
        self.story.known(at)
    }

    fn images(&self) -> &Images {
        &self.story.images
    }

    fn judge(&self, at: usize, picture: &RgbImage) -> Result<PanelScore, EvalError> {
        let seen = self.recogniser.recognise(picture, &self.choice);
        Ok(score(&self.story.tale, at, &seen))
    }

    fn of_the_cast(&self, text: &str, panels: usize) -> (usize, usize) {
        let tale = &self.story.tale;
        let told = tale.panels.iter().take(panels);
        let told: BTreeSet<Named> = told
            .flat_map(|panel| characters(tale, &panel.text))
            .collect();
        let named = characters(tale, text);
        (named.len(), named.intersection(&told).count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storyworld::Split;
    use crate::storyworld::library::Figure;

    #[test]
    fn panels_are_judged_by_the_story_and_not_by_the_sentence() {
        let (mut panels, mut open) = (0, 0);
        for seed in 0..12 {
            let tale = LibraryTale::random(seed, Split::HeldOut);
            let subjects = choice(&tale, seed);
            assert_eq!(subjects.len(), CHOICE);
            assert_eq!(subjects, choice(&tale, seed));
            for at in 1..tale.panels.len() {
                let panel = &tale.panels[at];
                let right = score(&tale, at, &panel.composition);
                assert!(right.all_correct(), "{} {right:?}", panel.text);
                assert_eq!(right.open, right.open_found);
                (panels, open) = (panels + 1, open + right.open);
                // Somebody else in the first one's place, by night if it was day.
                let mut wrong = panel.composition.clone();
                let other = subjects.last().unwrap().clone();
                wrong.figures[0] = Figure::new(other, 1, 1.0, (3, 7));
                let judged = score(&tale, at, &wrong);
                assert!(judged.found < right.found && judged.seen == right.seen);
                // A second one of the same kind is one too many.
                let mut twins = panel.composition.clone();
                twins.figures.push(twins.figures[0].clone());
                let judged = score(&tale, at, &twins);
                assert!(judged.found == right.found && !judged.all_correct());
            }
        }
        assert!(panels > 30 && open > 10, "{panels} {open}");
    }

    #[test]
    fn characters_are_counted_by_name_and_by_noun() {
        let world = LibraryWorld::new();
        let story = world.story(4);
        let tale = LibraryTale::random(4, Split::HeldOut);
        let hero = &tale.members[0];
        assert!(hero.drawing.get().kind.is_character());
        let text = format!("Then {} came home.", hero.name);
        assert_eq!(story.of_the_cast(&text, 1), (1, 1));
        assert_eq!(story.of_the_cast(&text, 0), (1, 0));
        assert_eq!(story.of_the_cast("It rained.", 1), (0, 0));
    }
}
