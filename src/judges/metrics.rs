//! What a caption asks for, what was seen in its picture, and the rates that compare them.

use serde::Serialize;

use crate::storyworld::{Mentions, Place, Scene, SubjectId, Time, Weather, mentions};

/// What a picture should show. Only what its caption names is judged.
#[derive(Clone, Debug, PartialEq)]
pub struct Expected {
    /// From left to right, as captions name them.
    pub subjects: Vec<SubjectId>,
    /// The place, where the caption names one.
    pub place: Option<Place>,
    /// The time of day, where the caption names one.
    pub time: Option<Time>,
    /// The weather, where the caption names one.
    pub weather: Option<Weather>,
}

impl Expected {
    /// What `caption`, written for `scene`, asks for.
    pub fn new(scene: &Scene, caption: &str) -> Self {
        let Mentions {
            place,
            time,
            weather,
            ..
        } = mentions(caption);
        Self {
            subjects: scene.subjects.iter().map(|p| p.subject).collect(),
            place,
            time,
            weather,
        }
    }

    /// All that `scene` shows, whatever a caption would say of it.
    pub fn of_scene(scene: &Scene) -> Self {
        Self {
            subjects: scene.subjects.iter().map(|p| p.subject).collect(),
            place: Some(scene.place),
            time: Some(scene.time),
            weather: Some(scene.weather),
        }
    }
}

/// A subject seen in a picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sighting {
    /// Class of the subject.
    pub subject: SubjectId,
    /// Its centre, from 0 (left, top) to 1.
    pub x: f32,
    /// Its centre, from 0 (top) to 1.
    pub y: f32,
    /// From 0 to 1.
    pub confidence: f32,
}

/// Everything seen in a picture; a subject that appears twice is two sightings.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// Subjects that were seen.
    pub subjects: Vec<Sighting>,
    /// Likeliest place.
    pub place: Place,
    /// Likeliest time of day.
    pub time: Time,
    /// Likeliest weather.
    pub weather: Weather,
}

impl Observation {
    /// Where `subject` stands: its most confident sighting.
    fn position(&self, subject: SubjectId) -> Option<f32> {
        self.subjects
            .iter()
            .filter(|s| s.subject == subject)
            .max_by(|a, b| a.confidence.total_cmp(&b.confidence))
            .map(|s| s.x)
    }

    fn count(&self, subject: SubjectId) -> usize {
        self.subjects
            .iter()
            .filter(|s| s.subject == subject)
            .count()
    }
}

/// How many of those judged are right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Accuracy {
    /// Cases that were right.
    pub right: usize,
    /// All cases.
    pub of: usize,
}

impl Accuracy {
    pub(super) fn add(&mut self, right: usize, of: usize) {
        self.right += right;
        self.of += of;
    }

    /// From 0 to 1; `None` where nothing was judged.
    pub fn rate(self) -> Option<f64> {
        (self.of > 0).then(|| self.right as f64 / self.of as f64)
    }

    /// The rate, and how many it rests on.
    pub(super) fn json(self) -> serde_json::Value {
        serde_json::json!({ "rate": self.rate(), "right": self.right, "of": self.of })
    }
}

/// Counts over pictures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FaithfulnessCounts {
    /// Pictures that were judged.
    pub pictures: usize,
    /// Of the subjects named, those seen.
    pub recall: Accuracy,
    /// Of the subjects seen, those named; a second one of the same kind is wrong.
    pub precision: Accuracy,
    /// Of neighbours named and both seen, those in the order named from left to right.
    pub sides: Accuracy,
    /// Of the places named, those seen.
    pub place: Accuracy,
    /// Of the times of day named, those seen.
    pub time: Accuracy,
    /// Of the weathers named, those seen.
    pub weather: Accuracy,
    /// Pictures in which all that is named is right and no other subject is seen.
    pub all_correct: Accuracy,
}

impl FaithfulnessCounts {
    /// Counts one picture.
    pub fn add(&mut self, expected: &Expected, seen: &Observation) {
        let mut kinds = expected.subjects.clone();
        kinds.sort_unstable();
        kinds.dedup();
        let found = kinds
            .iter()
            .map(|&kind| {
                let named = expected.subjects.iter().filter(|&&s| s == kind).count();
                named.min(seen.count(kind))
            })
            .sum();
        self.pictures += 1;
        self.recall.add(found, expected.subjects.len());
        self.precision.add(found, seen.subjects.len());

        let mut in_order = true;
        for pair in expected.subjects.windows(2) {
            if pair[0] == pair[1] {
                continue;
            }
            if let (Some(left), Some(right)) = (seen.position(pair[0]), seen.position(pair[1])) {
                self.sides.add(usize::from(left < right), 1);
                in_order &= left < right;
            }
        }
        let place = judge(&mut self.place, expected.place, seen.place);
        let time = judge(&mut self.time, expected.time, seen.time);
        let weather = judge(&mut self.weather, expected.weather, seen.weather);
        let subjects = found == expected.subjects.len() && found == seen.subjects.len();
        let all = subjects && in_order && place && time && weather;
        self.all_correct.add(usize::from(all), 1);
    }
}

/// Counts what is named; what is not named is never wrong.
fn judge<T: PartialEq>(share: &mut Accuracy, expected: Option<T>, seen: T) -> bool {
    let right = expected.as_ref().is_none_or(|e| *e == seen);
    if expected.is_some() {
        share.add(usize::from(right), 1);
    }
    right
}

/// Peak signal-to-noise ratio in dB of values from 0 to 255, from their mean squared error.
/// Equal pictures have none.
///
/// ```
/// use vokenboard::judges::{mean_square_error, psnr};
///
/// let error = mean_square_error(&[0, 10], &[0, 0]).unwrap();
/// assert_eq!(error, 50.0);
/// assert!((psnr(error).unwrap() - 31.14).abs() < 0.01);
/// ```
pub fn psnr(mean_square_error: f64) -> Option<f64> {
    (mean_square_error > 0.0).then(|| 10.0 * (255.0f64.powi(2) / mean_square_error).log10())
}

/// Mean squared difference of two pictures' bytes; `None` where their lengths differ.
pub fn mean_square_error(a: &[u8], b: &[u8]) -> Option<f64> {
    if a.len() != b.len() || a.is_empty() {
        return None;
    }
    let sum: f64 = a
        .iter()
        .zip(b)
        .map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2))
        .sum();
    Some(sum / a.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(i: usize) -> SubjectId {
        SubjectId::all().nth(i).unwrap()
    }

    fn expected(subjects: &[usize]) -> Expected {
        Expected {
            subjects: subjects.iter().map(|&i| subject(i)).collect(),
            place: Some(Place::Forest),
            time: None,
            weather: Some(Weather::Snow),
        }
    }

    /// Sees subjects at (x, confidence) in a forest at night in the rain.
    fn seen(subjects: &[(usize, f32, f32)]) -> Observation {
        Observation {
            subjects: subjects
                .iter()
                .map(|&(i, x, confidence)| Sighting {
                    subject: subject(i),
                    x,
                    y: 0.7,
                    confidence,
                })
                .collect(),
            place: Place::Forest,
            time: Time::Night,
            weather: Weather::Rain,
        }
    }

    fn share(right: usize, of: usize) -> Accuracy {
        Accuracy { right, of }
    }

    #[test]
    fn counts_of_a_worked_example() {
        let mut tally = FaithfulnessCounts::default();
        // A duplicate: both named ones are there, one of three seen is too many.
        tally.add(
            &expected(&[0, 1]),
            &seen(&[(0, 0.2, 0.9), (1, 0.5, 0.9), (1, 0.8, 0.8)]),
        );
        // One missing, one not named.
        tally.add(
            &expected(&[2, 3, 4]),
            &seen(&[(2, 0.9, 0.9), (3, 0.5, 0.9), (9, 0.1, 0.9)]),
        );
        assert_eq!(
            tally,
            FaithfulnessCounts {
                pictures: 2,
                recall: share(4, 5),
                precision: share(4, 6),
                sides: share(1, 2),
                place: share(2, 2),
                time: share(0, 0),
                weather: share(0, 2),
                all_correct: share(0, 2),
            }
        );
        assert_eq!(tally.recall.rate(), Some(0.8));
        assert_eq!(tally.time.rate(), None);
    }

    #[test]
    fn all_correct_needs_subjects_order_and_all_that_is_named() {
        let correct = |expected: &Expected, seen: &Observation| {
            let mut tally = FaithfulnessCounts::default();
            tally.add(expected, seen);
            tally.all_correct.right == 1
        };
        let mut asked = expected(&[0, 1]);
        let both = seen(&[(0, 0.2, 0.9), (1, 0.8, 0.9)]);
        assert!(!correct(&asked, &both), "it should snow");
        asked.weather = None;
        assert!(correct(&asked, &both), "what is not named is not judged");
        assert!(!correct(&asked, &seen(&[(0, 0.8, 0.9), (1, 0.2, 0.9)])));
        assert!(!correct(&asked, &seen(&[(0, 0.2, 0.9)])));
        assert!(!correct(
            &asked,
            &seen(&[(0, 0.2, 0.9), (1, 0.8, 0.9), (1, 0.5, 0.9)])
        ));
        asked.time = Some(Time::Day);
        assert!(!correct(&asked, &both), "it should be day");
    }

    #[test]
    fn a_subject_asked_for_twice_must_be_there_twice() {
        let mut tally = FaithfulnessCounts::default();
        tally.add(&expected(&[5, 5]), &seen(&[(5, 0.2, 0.9)]));
        tally.add(&expected(&[5, 5]), &seen(&[(5, 0.2, 0.9), (5, 0.8, 0.9)]));
        assert_eq!(tally.recall, share(3, 4));
        assert_eq!(tally.precision, share(3, 3));
        assert_eq!(tally.sides, share(0, 0));
    }

    #[test]
    fn the_side_of_a_duplicate_is_that_of_the_surer_one() {
        let mut tally = FaithfulnessCounts::default();
        tally.add(
            &expected(&[0, 1]),
            &seen(&[(0, 0.9, 0.5), (0, 0.1, 0.9), (1, 0.5, 0.9)]),
        );
        assert_eq!(tally.sides, share(1, 1));
    }

    #[test]
    fn psnr_of_known_errors() {
        assert_eq!(mean_square_error(&[0, 10], &[3, 6]), Some(12.5));
        assert_eq!(mean_square_error(&[0], &[0, 1]), None);
        // 20 log10(255 / 1) and 20 log10(255 / 25.5).
        assert!((psnr(1.0).unwrap() - 48.1308).abs() < 1e-4);
        assert!((psnr(25.5 * 25.5).unwrap() - 20.0).abs() < 1e-9);
        assert_eq!(psnr(0.0), None);
    }
}
