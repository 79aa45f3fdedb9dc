//! What a panel's picture is conditioned on.
//!
//! A picture shows one sentence, but a sentence in a story leaves out what the reader knows
//! already: "Then she carried it home." So who is in the scene, where, when and in what weather
//! is carried over from the panels before, and said in words that the model learned.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::carry::{CARRIED, by_opening, carry_over};
use crate::storyworld::{
    MAX_SUBJECTS, Mentions, Place, Scene, SubjectId, Time, Weather, caption, is_word, mentions,
    words,
};

/// The caption that a picture of `text` is conditioned on, where `context` holds the texts of the
/// panels before it, first to last.
///
/// A sentence that names who and where in words of the storyworld stands as it is. Otherwise the
/// scene it belongs to is described the way training captions are. A story that never names a
/// subject is conditioned on the sentence alone.
///
/// ```
/// use vokenboard::pipeline::picture_prompt;
///
/// let named = "A fox finds a lantern in the forest.";
/// assert_eq!(picture_prompt(&[], named), named);
/// let carried = picture_prompt(&[named.to_string()], "She was happy.");
/// assert_ne!(carried, "She was happy.");
/// ```
pub fn picture_prompt(context: &[String], text: &str) -> String {
    let named = mentions(text);
    if !named.subjects.is_empty() && named.place.is_some() && is_known(text) {
        return text.trim().to_string();
    }
    let scene = carried(context, text, named);
    if scene.subjects.is_empty() {
        return text.trim().to_string();
    }
    let place = scene
        .place
        .unwrap_or_else(|| by_opening(context.first().map_or(text, String::as_str), Place::ALL));
    describe(
        &scene.subjects,
        place,
        scene.time.unwrap_or(Time::Day),
        scene.weather.unwrap_or(Weather::Clear),
    )
}

/// The first training caption, by seed, that says all of a scene: captions leave parts out, and
/// the same scene must get the same words.
fn describe(subjects: &[SubjectId], place: Place, time: Time, weather: Weather) -> String {
    const TRIES: u64 = 100;
    let captions = (0..TRIES).map(|seed| {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let scene = Scene::compose(&mut rng, subjects, place, time, weather);
        (caption(&scene, &mut rng), scene.weather)
    });
    let says_all = |(text, weather): &(String, Weather)| {
        let named = mentions(text);
        named.subjects == subjects
            && named.place == Some(place)
            && named.time.unwrap_or(Time::Day) == time
            && named.weather.unwrap_or(Weather::Clear) == *weather
    };
    let mut last = String::new();
    for candidate in captions {
        if says_all(&candidate) {
            return candidate.0;
        }
        last = candidate.0;
    }
    last
}

/// What `text` names, completed by what the panels before it named last.
fn carried(context: &[String], text: &str, named: Mentions) -> Mentions {
    let before = context.iter().fold(Mentions::default(), |before, text| {
        let named = mentions(text);
        complete(&before, text, named)
    });
    complete(&before, text, named)
}

fn complete(before: &Mentions, text: &str, named: Mentions) -> Mentions {
    let moved = named.place.is_some() && named.place != before.place;
    Mentions {
        subjects: subjects(&before.subjects, text, named.subjects),
        place: named.place.or(before.place),
        time: named.time.or(before.time),
        // Elsewhere the sky may be another.
        weather: named.weather.or(if moved { None } else { before.weather }),
    }
}

/// The subjects that `text` names, with those of the panel before whom it leaves out.
fn subjects(before: &[SubjectId], text: &str, mut named: Vec<SubjectId>) -> Vec<SubjectId> {
    let room = CARRIED.saturating_sub(named.len());
    let is_character = |subject: &SubjectId| subject.is_character();
    carry_over(before, text, &mut named, room, is_character, SubjectId::eq);
    named.truncate(MAX_SUBJECTS);
    named
}

fn is_known(text: &str) -> bool {
    words(text).all(|word| is_word(&word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(
        context: &[&str],
        text: &str,
    ) -> (
        Vec<&'static str>,
        Option<Place>,
        Option<Time>,
        Option<Weather>,
    ) {
        let context: Vec<String> = context.iter().map(ToString::to_string).collect();
        let Mentions {
            subjects,
            place,
            time,
            weather,
            ..
        } = mentions(&picture_prompt(&context, text));
        let mut names: Vec<&str> = subjects.iter().map(|subject| subject.name()).collect();
        names.sort_unstable();
        (names, place, time, weather)
    }

    #[test]
    fn a_sentence_that_says_it_all_stands_as_it_is() {
        let text = "A fox finds a lantern in the forest.";
        assert_eq!(
            picture_prompt(&["An owl is on the beach.".to_string()], text),
            text
        );
    }

    #[test]
    fn who_where_and_when_are_carried_to_a_sentence_that_names_none() {
        let (names, place, time, _) = shown(
            &["A fox finds a lantern in the forest at night."],
            "It was the most beautiful one ever, she whispered quietly.",
        );
        assert_eq!(names, ["fox", "lantern"]);
        assert_eq!((place, time), (Some(Place::Forest), Some(Time::Night)));
    }

    #[test]
    fn what_a_sentence_names_takes_the_place_of_what_was() {
        let (names, place, _, _) = shown(
            &["A fox is in the forest.", "The fox goes to the beach."],
            "Wonderful! An owl had brought a boat.",
        );
        assert_eq!(names, ["boat", "owl"]);
        assert_eq!(place, Some(Place::Beach));
    }

    #[test]
    fn pronouns_bring_the_ones_they_stand_for() {
        let before = ["A fox is in the forest."];
        assert_eq!(
            shown(&before, "Suddenly an owl surprises her.").0,
            ["fox", "owl"]
        );
        assert_eq!(
            shown(&before, "Together with the owl they laughed.").0,
            ["fox", "owl"]
        );
        assert_eq!(shown(&before, "An owl laughed elsewhere.").0, ["owl"]);
        // A thing alone is still seen by somebody.
        assert_eq!(
            shown(&before, "The lantern flickered strangely.").0,
            ["fox", "lantern"]
        );
    }

    #[test]
    fn rain_stays_behind_when_the_story_moves_on() {
        let told = ["A fox walks in the rain in the forest."];
        assert_eq!(
            shown(&told, "Nothing discouraged her.").3,
            Some(Weather::Rain)
        );
        let moved = [told[0], "The fox goes to the beach."];
        assert_ne!(
            shown(&moved, "Nothing discouraged her.").3,
            Some(Weather::Rain)
        );
    }

    #[test]
    fn a_story_without_a_place_keeps_one() {
        let first = shown(&[], "Hooray, a fox!").1;
        assert!(first.is_some());
        assert_eq!(first, shown(&["Hooray, a fox!"], "Hooray, said she!").1);
    }

    #[test]
    fn a_story_without_a_subject_is_drawn_from_its_words() {
        assert_eq!(
            picture_prompt(&[], " Once upon a time. "),
            "Once upon a time."
        );
    }
}
