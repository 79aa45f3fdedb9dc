//! Whether characters stay themselves from panel to panel, with the cast and without it: stories of
//! characters with proper names, which no model knows, told by a pipeline twice.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use image::{RgbImage, buffer::ConvertBuffer};
use rand::SeedableRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::bootstrap::{Interval, interval};
use super::identity::{IdentityEncoder, identity};
use super::{Accuracy, EvalError};
use crate::judges::Recogniser;
use crate::pipeline::{Make, Pipeline, Request, panel_seed};
use crate::story::{
    Document, Edit, Images, Member, MemberId, Panel, PictureTake, Project, Settings, Story,
};
use crate::storyworld::{Place, Renderer, SubjectId};

/// Draws of stories for an interval.
const DRAWS: usize = 1000;
/// Pixels a side of the cast's pictures.
const PORTRAIT: u32 = 256;

const NAMES: [&str; 24] = [
    "Ada", "Basil", "Clio", "Dorian", "Elba", "Fergus", "Greta", "Hugo", "Ines", "Jasper", "Kaya",
    "Lorcan", "Mira", "Nils", "Odile", "Pavel", "Quirin", "Romy", "Silas", "Tova", "Ugo", "Vera",
    "Wanda", "Ziggy",
];

/// What happens in each of the five panels, in several wordings, to `{a}` and, from the second on,
/// sometimes to `{b}`.
const BEATS: [&[&str]; 5] = [
    &["{a} wakes up {at}.", "One morning {a} stands {at}."],
    &["{a} meets {b} {at}.", "{a} and {b} sit {at}."],
    &["{a} walks on alone {at}.", "{a} gets lost {at}."],
    &["{b} waits {at}.", "{b} sleeps {at}."],
    &["{a} and {b} rest {at}.", "{a} dances with {b} {at}."],
];
/// Who is in the picture of a beat, where a wording does not tell.
const SHOWN: [&[usize]; 5] = [&[0], &[0, 1], &[0], &[1], &[0, 1]];

/// What to tell.
#[derive(Clone, Debug)]
pub struct CastOptions {
    /// Five-panel stories, each told twice.
    pub stories: usize,
    /// The same seed tells the same stories.
    pub seed: u64,
    /// Settings of the pictures; seeds are replaced.
    pub settings: Settings,
    /// Where the told stories are kept as projects.
    pub keep: Option<PathBuf>,
}

/// A share with the middle 95 % of what draws of whole stories give.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Share {
    /// Cases that were right, and all.
    pub counted: Accuracy,
    /// Lower and upper end.
    pub interval: Option<Interval>,
}

/// Results of the stories with the cast or without it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CastRow {
    /// Whether they were told with the cast.
    pub with_cast: bool,
    /// Of the characters that are in the panels, those that the recogniser finds in the pictures.
    pub shown: Share,
    /// Of the pairs of panels with the same character, those in both of whose pictures it is found.
    pub kept: Share,
    /// Mean centred cosine of pictures of panels that share a character, and of those that share
    /// none, by an image encoder.
    pub alike: [Option<f64>; 2],
}

/// A story: its characters with their names, and for each panel the text and who is in it.
struct NamedStory {
    cast: Vec<(SubjectId, &'static str)>,
    panels: Vec<(String, Vec<usize>)>,
}

impl NamedStory {
    fn new(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut subjects: Vec<SubjectId> = SubjectId::characters().collect();
        subjects.shuffle(&mut rng);
        let mut names = NAMES.to_vec();
        names.shuffle(&mut rng);
        let cast: Vec<_> = subjects.into_iter().zip(names).take(2).collect();
        let mut places = Place::ALL.to_vec();
        places.shuffle(&mut rng);
        let mut tell = |(beat, place): (usize, Place)| {
            let wording = BEATS[beat].choose(&mut rng).copied().unwrap_or_default();
            let at = place.somewhere(&mut rng);
            let text = wording.replace("{at}", at);
            let text = text.replace("{a}", cast[0].1).replace("{b}", cast[1].1);
            let shown = SHOWN[beat].iter().copied();
            let shown = shown.filter(|&i| text.contains(cast[i].1));
            (text.clone(), shown.collect())
        };
        let panels = (0..BEATS.len()).zip(places).map(&mut tell).collect();
        Self { cast, panels }
    }

    fn members(&self, images: &Images) -> Vec<Member> {
        let members = self.cast.iter().zip(1..);
        members
            .map(|((subject, name), id)| Member {
                name: (*name).to_owned(),
                description: subject.with_article(),
                pictures: vec![images.put(Renderer::portrait(*subject, PORTRAIT))],
                ..Member::new(MemberId(id))
            })
            .collect()
    }
}

/// What the judge sees in a story that was told.
struct JudgedStory {
    /// For each panel and each who is in it: who, and whether it is found.
    found: Vec<Vec<(usize, bool)>>,
    /// Sums and counts of centred cosines, of panels that share somebody and of others.
    alike: [(f64, usize); 2],
}

impl JudgedStory {
    fn shown(&self) -> (usize, usize) {
        let all = self.found.iter().flatten();
        let right = all.clone().filter(|(_, found)| *found).count();
        (right, all.count())
    }

    fn kept(&self) -> (usize, usize) {
        let (mut right, mut of) = (0, 0);
        for (i, one) in self.found.iter().enumerate() {
            for other in &self.found[i + 1..] {
                for (who, found) in one {
                    let Some((_, again)) = other.iter().find(|(other, _)| other == who) else {
                        continue;
                    };
                    of += 1;
                    right += usize::from(*found && *again);
                }
            }
        }
        (right, of)
    }
}

/// Generates each story without the cast and with it, and counts what the recogniser finds in both; `eye`
/// compares the pictures.
///
/// # Errors
/// No stories, a model that fails, or stories that can't be kept.
pub fn judge_cast(
    pipeline: &mut dyn Pipeline,
    recogniser: &Recogniser,
    eye: &IdentityEncoder,
    options: &CastOptions,
    progress: &mut dyn FnMut(&str),
) -> Result<[CastRow; 2], EvalError> {
    if options.stories == 0 {
        return Err(EvalError::NoStories);
    }
    let mut rows = [false, true].map(|with_cast| (with_cast, Vec::new()));
    for i in 0..options.stories {
        progress(&format!("story {} of {}", i + 1, options.stories));
        let seed = options.seed.wrapping_add(i as u64);
        let story = NamedStory::new(seed);
        for (with_cast, judged) in &mut rows {
            let (document, images) = generate_story(pipeline, &story, *with_cast, seed, options)?;
            judged.push(look(&story, &document, &images, recogniser, eye)?);
            if let Some(dir) = &options.keep {
                let row = if *with_cast { "with" } else { "without" };
                let folder = dir.join(row).join(format!("story-{:03}", i + 1));
                Project::create(folder)?.save(&document, &images)?;
            }
        }
    }
    Ok(rows.map(|(with_cast, judged)| row(with_cast, &judged, options.seed)))
}

fn generate_story(
    pipeline: &mut dyn Pipeline,
    story: &NamedStory,
    with_cast: bool,
    seed: u64,
    options: &CastOptions,
) -> Result<(Document, Images), EvalError> {
    let images = Images::new();
    let cast = match with_cast {
        true => story.members(&images),
        false => Vec::new(),
    };
    let title = if with_cast {
        "With the cast"
    } else {
        "Without the cast"
    };
    let mut document = Document::new(Story {
        title: title.to_owned(),
        cast,
        ..Story::default()
    });
    for (at, (text, _)) in story.panels.iter().enumerate() {
        let panel = Panel::with_text(document.fresh_id(), text.clone());
        let id = panel.id;
        document.apply(Edit::InsertPanel { at, panel })?;
        let settings = Settings {
            seed: panel_seed(seed, at + 1),
            ..options.settings.clone()
        };
        let request = Request::of_panel(document.story(), &images, at, Make::Picture, settings);
        let made = pipeline.generate(&request, &mut |_| ControlFlow::Continue(()))?;
        let Some((picture, record)) = made.and_then(|made| made.picture) else {
            continue;
        };
        let (width, height) = picture.dimensions();
        let take = PictureTake::new(images.put(picture), width, height, Some(record));
        document.apply(Edit::AddPicture { panel: id, take })?;
    }
    Ok((document, images))
}

fn look(
    story: &NamedStory,
    document: &Document,
    images: &Images,
    recogniser: &Recogniser,
    eye: &IdentityEncoder,
) -> Result<JudgedStory, EvalError> {
    let (mut found, mut seen) = (Vec::new(), Vec::new());
    for (panel, (_, shown)) in document.story().panels.iter().zip(&story.panels) {
        let picture = panel.picture().and_then(|take| images.get(&take.image));
        let Some(picture) = picture else {
            found.push(Vec::new());
            seen.push(None);
            continue;
        };
        let white = crate::pixels::on_white(&picture);
        let rgb: RgbImage = ConvertBuffer::convert(&*white);
        let all = recogniser.recognise(std::slice::from_ref(&rgb))?.remove(0);
        let is_there = |&who: &usize| {
            let subject = story.cast[who].0;
            (who, all.subjects.iter().any(|s| s.subject == subject))
        };
        found.push(shown.iter().map(is_there).collect());
        seen.push(Some(Arc::new(eye.embed(&picture)?)));
    }
    // Who is in the panels is the same, whether the teller was told or not.
    let mut judged = document.story().clone();
    judged.cast = (1..)
        .zip(&story.cast)
        .map(|(id, (_, name))| Member {
            name: (*name).to_owned(),
            ..Member::new(MemberId(id))
        })
        .collect();
    let report = identity(&judged, &seen);
    let sum = |of: &super::Similarity| (of.centred.unwrap_or(0.0) * of.pairs as f64, of.pairs);
    Ok(JudgedStory {
        found,
        alike: [sum(&report.shared), sum(&report.apart)],
    })
}

fn row(with_cast: bool, judged: &[JudgedStory], seed: u64) -> CastRow {
    let share = |of: fn(&JudgedStory) -> (usize, usize)| {
        let counts: Vec<(usize, usize)> = judged.iter().map(of).collect();
        let sum = |counts: &mut dyn Iterator<Item = (usize, usize)>| {
            counts.fold((0, 0), |(r, n), (right, of)| (r + right, n + of))
        };
        let (right, all) = sum(&mut counts.iter().copied());
        let drawn = |indices: &[usize]| {
            let (right, of) = sum(&mut indices.iter().map(|&i| counts[i]));
            (of > 0).then(|| right as f64 / of as f64)
        };
        Share {
            counted: Accuracy { right, of: all },
            interval: interval(counts.len(), DRAWS, seed, drawn),
        }
    };
    let mean = |i: usize| {
        let sums = judged.iter().map(|judged| judged.alike[i]);
        let (sum, pairs) = sums.fold((0.0, 0), |(s, n), (sum, pairs)| (s + sum, n + pairs));
        (pairs > 0).then(|| sum / pairs as f64)
    };
    CastRow {
        with_cast,
        shown: share(JudgedStory::shown),
        kept: share(JudgedStory::kept),
        alike: [mean(0), mean(1)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stories_name_everybody_by_a_name_that_is_no_noun() {
        for seed in 0..20 {
            let story = NamedStory::new(seed);
            assert_eq!(story.panels.len(), 5);
            assert_ne!(story.cast[0], story.cast[1]);
            for (text, shown) in &story.panels {
                assert!(!text.contains('{') && !shown.is_empty(), "{text}");
                assert!(shown.iter().all(|&i| text.contains(story.cast[i].1)));
                let named = crate::storyworld::mentions(text);
                assert!(named.subjects.is_empty(), "{text}");
                assert!(named.place.is_some(), "{text}");
            }
        }
    }

    #[test]
    fn pairs_of_panels_count_where_both_show_somebody() {
        let story = JudgedStory {
            found: vec![
                vec![(0, true)],
                vec![(0, true), (1, false)],
                vec![(1, true)],
                vec![(0, false)],
            ],
            alike: [(1.0, 4), (0.5, 2)],
        };
        assert_eq!(story.shown(), (3, 5));
        // Panels 1 and 2 show 0; 1 and 4, 2 and 4 do not, nor do 2 and 3 show 1.
        assert_eq!(story.kept(), (1, 4));
        let row = row(true, &[story], 1);
        assert_eq!(row.kept.counted.rate(), Some(0.25));
        assert_eq!(row.alike, [Some(0.25), Some(0.25)]);
    }
}
