//! What the judges say of one row's panels, and the metrics of many.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::eval::text::{TextScore, bleu, distinct_2, perplexity};
use crate::judges::Observation;
use crate::storyworld::{Scene, SubjectId, unnamed};

/// One drawn panel.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PanelScore {
    /// Subjects that the scene shows, those seen in the picture, and those of both; a second one
    /// of the same kind is wrong.
    pub shown: usize,
    /// Subjects seen in the picture.
    pub seen: usize,
    /// Subjects shown and seen.
    pub found: usize,
    /// Of those shown and found, the ones that the sentence does not name.
    pub open: usize,
    /// Of those, the ones seen.
    pub open_found: usize,
    /// Each character of the scene by its number, and whether it is seen.
    pub characters: Vec<(usize, bool)>,
    /// Whether the place seen is the scene's.
    pub place: bool,
    /// Whether the time of day seen is the scene's.
    pub time: bool,
    /// Whether the weather seen is the scene's.
    pub weather: bool,
    /// The recogniser's features of the picture, for the Fréchet distance.
    pub features: Vec<f32>,
    /// Cosine of the contrastive embeddings of picture and text; none without that judge.
    pub similarity: Option<f64>,
    /// Seconds that the panel took.
    pub seconds: f64,
}

impl PanelScore {
    /// Judges what is `seen` in the picture of `sentence`. Everything the scene shows counts: what
    /// the sentence leaves out is in the story before it.
    pub fn new(scene: &Scene, sentence: &str, seen: &Observation) -> Self {
        let open = unnamed(scene, sentence);
        let in_picture = |subject: SubjectId| seen.subjects.iter().any(|s| s.subject == subject);
        let shown = scene.subjects.iter().map(|placed| placed.subject);
        let subjects = shown.map(|subject| JudgedSubject {
            number: subject.index(),
            character: subject.is_character(),
            named: !open.contains(&subject),
            seen: in_picture(subject),
        });
        Self {
            place: seen.place == scene.place,
            time: seen.time == scene.time,
            weather: seen.weather == scene.weather,
            ..Self::of(subjects, seen.subjects.len())
        }
    }

    /// Counts the subjects that are shown, where `seen` are seen in the picture; the setting is left
    /// wrong.
    pub(super) fn of(subjects: impl Iterator<Item = JudgedSubject>, seen: usize) -> Self {
        let mut score = Self {
            seen,
            ..Self::default()
        };
        for subject in subjects {
            score.shown += 1;
            score.found += usize::from(subject.seen);
            score.open += usize::from(!subject.named);
            score.open_found += usize::from(!subject.named && subject.seen);
            if subject.character {
                score.characters.push((subject.number, subject.seen));
            }
        }
        score
    }

    /// The subjects of the scene and nobody else, in the right place, time and weather.
    pub fn all_correct(&self) -> bool {
        let subjects = self.found == self.shown && self.seen == self.shown;
        subjects && self.place && self.time && self.weather
    }
}

/// A subject that a picture should show.
pub(super) struct JudgedSubject {
    /// Its number in the world or in the story.
    pub number: usize,
    pub character: bool,
    /// Whether the sentence names it.
    pub named: bool,
    /// Whether it is seen.
    pub seen: bool,
}

/// One story of a row.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StoryScore {
    /// Scores of its pictures, panel by panel.
    pub panels: Vec<PanelScore>,
    /// Scores of its texts, where the row writes.
    pub texts: Vec<TextScore>,
    /// Sum of log probabilities of the sentences' tokens, and how many.
    pub likelihood: (f64, usize),
    /// Whether the model asked for the picture, for each time that it could.
    pub asked: Vec<bool>,
}

impl StoryScore {
    /// Pairs of pictures in which a character should be seen one after the other, and those in
    /// which it is seen both times.
    fn identity(&self) -> (usize, usize) {
        let mut last: BTreeMap<usize, bool> = BTreeMap::new();
        let (mut both, mut pairs) = (0, 0);
        for &(character, seen) in self.panels.iter().flat_map(|panel| &panel.characters) {
            if let Some(before) = last.insert(character, seen) {
                pairs += 1;
                both += usize::from(before && seen);
            }
        }
        (both, pairs)
    }
}

/// The unit that a metric is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// From 0 to 1, written in per cent.
    Share,
    /// A plain number.
    Number,
}

type Compute = fn(&[&StoryScore]) -> Option<f64>;

/// A column of the table.
#[derive(Clone, Copy)]
pub struct Metric {
    /// Its key in the JSON report.
    pub key: &'static str,
    /// Heading of its column.
    pub title: &'static str,
    /// Unit of its values.
    pub unit: Unit,
    /// Whether drawing stories again and again tells how sure it is: not where twins in the draw
    /// change it.
    pub resampled: bool,
    /// Computes it from the scores of many stories.
    pub compute: Compute,
}

const fn share(key: &'static str, title: &'static str, compute: Compute) -> Metric {
    Metric {
        key,
        title,
        unit: Unit::Share,
        resampled: true,
        compute,
    }
}

const fn number(key: &'static str, title: &'static str, compute: Compute) -> Metric {
    Metric {
        unit: Unit::Number,
        ..share(key, title, compute)
    }
}

fn panels<'a>(stories: &'a [&StoryScore]) -> impl Iterator<Item = &'a PanelScore> {
    stories.iter().flat_map(|story| &story.panels)
}

fn texts<'a>(stories: &'a [&StoryScore]) -> impl Iterator<Item = &'a TextScore> {
    stories.iter().flat_map(|story| &story.texts)
}

/// Sums of a part and of the whole.
fn ratio(parts: impl Iterator<Item = (usize, usize)>) -> Option<f64> {
    let (part, whole) = parts.fold((0, 0), |sum, p| (sum.0 + p.0, sum.1 + p.1));
    (whole > 0).then(|| part as f64 / whole as f64)
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, n) = values.fold((0.0, 0), |(sum, n), value| (sum + value, n + 1));
    (n > 0).then(|| sum / f64::from(n))
}

fn yes(of: impl Iterator<Item = bool>) -> Option<f64> {
    mean(of.map(|yes| f64::from(u8::from(yes))))
}

/// Metrics of pictures, in the order of the table. The Fréchet distance comes with them.
pub const OF_PICTURES: [Metric; 10] = [
    share("recall", "subject recall in context", |s| {
        ratio(panels(s).map(|p| (p.found, p.shown)))
    }),
    share("recall_unnamed", "recall of unnamed subjects", |s| {
        ratio(panels(s).map(|p| (p.open_found, p.open)))
    }),
    share("precision", "subject precision", |s| {
        ratio(panels(s).map(|p| (p.found, p.seen)))
    }),
    share("identity", "character identity", |s| {
        ratio(s.iter().map(|story| story.identity()))
    }),
    share("place", "place", |s| yes(panels(s).map(|p| p.place))),
    share("time", "time", |s| yes(panels(s).map(|p| p.time))),
    share("weather", "weather", |s| yes(panels(s).map(|p| p.weather))),
    share("all_correct", "all correct", |s| {
        yes(panels(s).map(PanelScore::all_correct))
    }),
    number("similarity", "text–picture similarity", |s| {
        mean(panels(s).filter_map(|p| p.similarity))
    }),
    number("seconds", "seconds a panel", |s| {
        mean(panels(s).map(|p| p.seconds))
    }),
];

/// Metrics of texts, in the order of the table.
pub const OF_TEXTS: [Metric; 9] = [
    number("perplexity", "perplexity", |s| {
        let (sum, tokens) = s.iter().fold((0.0, 0), |sum, story| {
            (sum.0 + story.likelihood.0, sum.1 + story.likelihood.1)
        });
        perplexity(sum, tokens)
    }),
    share("bleu_1", "BLEU-1", |s| bleu(texts(s), 1)),
    share("bleu_2", "BLEU-2", |s| bleu(texts(s), 2)),
    share("rouge_l", "ROUGE-L", |s| mean(texts(s).map(|t| t.rouge_l))),
    share("meteor", "METEOR", |s| mean(texts(s).map(|t| t.meteor))),
    Metric {
        resampled: false,
        ..share("distinct_2", "distinct-2", |s| distinct_2(texts(s)))
    },
    share("repetition", "repetition", |s| {
        yes(texts(s).map(|t| t.repeats))
    }),
    share("cast", "characters of the story", |s| {
        ratio(texts(s).map(|t| (t.of_the_cast, t.named)))
    }),
    share("asked", "picture emitted", |s| {
        yes(s.iter().flat_map(|story| story.asked.iter().copied()))
    }),
];

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::judges::Sighting;
    use crate::storyworld::{Place, Time, Weather};

    fn subject(name: &str) -> SubjectId {
        SubjectId::all().find(|s| s.name() == name).unwrap()
    }

    fn seen(names: &[&str], place: Place) -> Observation {
        let sighting = |name: &&str| Sighting {
            subject: subject(name),
            x: 0.5,
            y: 0.5,
            confidence: 1.0,
        };
        Observation {
            subjects: names.iter().map(sighting).collect(),
            place,
            time: Time::Night,
            weather: Weather::Clear,
        }
    }

    fn scene(names: &[&str]) -> Scene {
        let cast: Vec<_> = names.iter().map(|name| subject(name)).collect();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        Scene::compose(&mut rng, &cast, Place::Forest, Time::Night, Weather::Clear)
    }

    fn value(key: &str, stories: &[StoryScore]) -> Option<f64> {
        let all: Vec<&StoryScore> = stories.iter().collect();
        let metric = OF_PICTURES
            .iter()
            .chain(&OF_TEXTS)
            .find(|m| m.key == key)
            .unwrap();
        (metric.compute)(&all)
    }

    #[test]
    fn panels_are_judged_by_the_scene_and_not_by_the_sentence() {
        let right = PanelScore::new(
            &scene(&["fox", "lantern"]),
            "She finds a lantern.",
            &seen(&["lantern", "fox"], Place::Forest),
        );
        assert!(right.all_correct());
        assert_eq!((right.open, right.open_found), (1, 1));
        let twice = PanelScore::new(
            &scene(&["fox", "owl"]),
            "The two friends dance.",
            &seen(&["fox", "fox"], Place::Beach),
        );
        assert!(!twice.all_correct());
        let story = StoryScore {
            panels: vec![right, twice],
            ..StoryScore::default()
        };
        let stories = [story];
        // Found: fox and lantern of two, fox of two; seen: four.
        assert_eq!(value("recall", &stories), Some(3.0 / 4.0));
        assert_eq!(value("precision", &stories), Some(3.0 / 4.0));
        // Unnamed are the fox, then fox and owl; the owl is not there.
        assert_eq!(value("recall_unnamed", &stories), Some(2.0 / 3.0));
        assert_eq!(value("place", &stories), Some(0.5));
        assert_eq!(value("time", &stories), Some(1.0));
        assert_eq!(value("all_correct", &stories), Some(0.5));
        assert_eq!(value("similarity", &stories), None);
        assert_eq!(value("perplexity", &stories), None);
        // The fox comes twice and is seen both times.
        assert_eq!(value("identity", &stories), Some(1.0));
    }

    #[test]
    fn identity_is_lost_and_found_again() {
        let panel = |fox| PanelScore {
            characters: vec![(subject("fox").index(), fox)],
            ..PanelScore::default()
        };
        let story = StoryScore {
            panels: vec![panel(true), panel(true), panel(false), panel(true)],
            likelihood: (-2.0 * 4f64.ln(), 2),
            asked: vec![true, false],
            ..StoryScore::default()
        };
        let stories = [story];
        assert_eq!(value("identity", &stories), Some(1.0 / 3.0));
        assert_eq!(value("perplexity", &stories), Some(4.0));
        assert_eq!(value("asked", &stories), Some(0.5));
    }
}
