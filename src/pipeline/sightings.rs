//! Whom the pictures of a story show, and where it plays: of everybody who could be meant there is a
//! picture, which is looked for in those of the story.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use image::RgbaImage;

use super::Request;
use super::composition::Candidate;
use crate::judges::{CompositionRecogniser, DrawingChoice};
use crate::pixels::shown_rgb;
use crate::story::MemberId;
use crate::storyworld::library::{Composition, CompositionSubject, Figure, SceneSetting};

/// Pictures back in the story that are looked at.
const PICTURES: usize = 8;
/// Looks that are kept.
const KEPT: usize = 64;

/// What the pictures of a story show.
#[derive(Debug, Default)]
pub(super) struct Sightings {
    /// Of each panel before, the numbers of the candidates that its picture shows, from left to right;
    /// `None` where it has no picture, or one of no place that is known.
    pub(super) shown: Vec<Option<Vec<usize>>>,
    /// Where and when the picture of the last panel plays: of an earlier one, later texts may say else.
    pub(super) setting: Option<SceneSetting>,
}

/// Looks at the pictures of stories, at each once.
pub(super) struct Sight {
    recogniser: CompositionRecogniser,
    /// Those who were last looked for, each drawn once, and their hash.
    choice: Option<(u64, DrawingChoice)>,
    kept: Vec<Look>,
}

/// What was seen of a picture.
struct Look {
    picture: Arc<RgbaImage>,
    /// Where it plays; `None` where that is no place that is known.
    setting: Option<SceneSetting>,
    /// Those for whom it was last searched, and who of them were found.
    found: Option<(u64, Vec<Figure>)>,
}

impl Sight {
    pub(super) fn new() -> Self {
        Self {
            recogniser: CompositionRecogniser::new(),
            choice: None,
            kept: Vec::new(),
        }
    }

    /// What the pictures before the panel of `request` show of those `candidates` who are in the cast:
    /// who was drawn before is.
    pub(super) fn of(&mut self, request: &Request, candidates: &[Candidate]) -> Sightings {
        let panels = &request.context;
        if panels.iter().all(|panel| panel.picture.is_none()) {
            return Sightings::default();
        }
        let members = (0..).zip(candidates).filter_map(|(i, one)| {
            let (member, pictures) = request.pictures_of(one)?;
            Some((member, i, pictures))
        });
        let mut members: Vec<(MemberId, usize, Vec<CompositionSubject>)> = members.collect();
        // In one order, whoever is named first: so the same members are looked for once.
        members.sort_by_key(|(member, ..)| *member);
        let (owners, subjects): (Vec<usize>, Vec<CompositionSubject>) = members
            .into_iter()
            .flat_map(|(_, i, pictures)| pictures.into_iter().map(move |subject| (i, subject)))
            .unzip();
        let mut hasher = DefaultHasher::new();
        subjects.hash(&mut hasher);
        let hash = hasher.finish();
        let choice = match self.choice.take() {
            Some((of, choice)) if of == hash => choice,
            _ => DrawingChoice::new(&subjects),
        };
        let first = panels.len().saturating_sub(PICTURES);
        let looks: Vec<Option<Composition>> = panels
            .iter()
            .enumerate()
            .map(|(at, panel)| {
                let picture = panel.picture.as_ref().filter(|_| at >= first)?;
                self.look(picture, hash, &choice)
            })
            .collect();
        self.choice = Some((hash, choice));
        let last = looks.last().and_then(Option::as_ref);
        let setting = last.map(|seen| seen.setting);
        let numbers = |seen: Composition| {
            let figures = seen.figures.iter();
            let owner = |subject| subjects.iter().position(|other| other == subject);
            let found = figures.filter_map(|figure| Some(owners[owner(&figure.subject)?]));
            let mut numbers: Vec<usize> = Vec::new();
            for number in found {
                if !numbers.contains(&number) {
                    numbers.push(number);
                }
            }
            numbers
        };
        Sightings {
            shown: looks.into_iter().map(|look| look.map(numbers)).collect(),
            setting,
        }
    }

    fn look(
        &mut self,
        picture: &Arc<RgbaImage>,
        subjects: u64,
        choice: &DrawingChoice,
    ) -> Option<Composition> {
        let mut known = self.kept.iter();
        let known = known.position(|look| Arc::ptr_eq(&look.picture, picture));
        let at = known.unwrap_or_else(|| {
            if self.kept.len() == KEPT {
                self.kept.remove(0);
            }
            self.kept.push(Look {
                picture: picture.clone(),
                setting: self.recogniser.setting(&shown_rgb(picture)),
                found: None,
            });
            self.kept.len() - 1
        });
        let look = &mut self.kept[at];
        let setting = look.setting?;
        let figures = match &look.found {
            Some((of, figures)) if *of == subjects => figures.clone(),
            _ => {
                let rgb = shown_rgb(picture);
                let figures = self.recogniser.figures_in(&rgb, setting, choice);
                look.found = Some((subjects, figures.clone()));
                figures
            }
        };
        Some(Composition { setting, figures })
    }
}

#[cfg(test)]
mod tests {
    use image::{DynamicImage, RgbImage, Rgba};

    use super::*;
    use crate::pipeline::ContextPanel;
    use crate::story::{Member, MemberKind, PanelId};
    use crate::storyworld::library::{
        CompositionRenderer, DRAWING_SIDE, Figure, Location, drawing, drawn_nouns,
    };
    use crate::storyworld::{Place, Time, Weather};

    const SIZE: u32 = 128;

    fn picture_of(nouns: &[&str]) -> RgbaImage {
        let figures = (0..).zip(nouns).map(|(i, noun)| {
            let subject = CompositionSubject::Drawing(drawn_nouns(noun)[0].drawing);
            Figure::new(subject, nouns.len(), 1.0, (7 * i, 7))
        });
        let shown = Composition {
            setting: SceneSetting {
                location: Location::Story(Place::Beach),
                time: Time::Night,
                weather: Weather::Rain,
                layout: 1,
                fall: 0,
            },
            figures: figures.collect(),
        };
        let rgb = CompositionRenderer::new(SIZE).draw(&shown);
        let picture = RgbImage::from_raw(SIZE, SIZE, rgb).unwrap();
        DynamicImage::ImageRgb8(picture).to_rgba8()
    }

    /// A story with these pictures, in whose cast are the fox, by a picture, and the owl, by its noun.
    fn story(pictures: Vec<Option<RgbaImage>>) -> Request {
        let mut request = Request::default();
        let fox = drawing(drawn_nouns("fox")[0].drawing, DRAWING_SIDE);
        let fox = request.images.put(fox);
        for (id, name, pictures) in [(1, "Milo", vec![fox]), (2, "owl", Vec::new())] {
            request.board.cast.push(Member {
                name: name.to_owned(),
                kind: MemberKind::Character,
                pictures,
                ..Member::new(MemberId(id))
            });
        }
        let panels = (1..).zip(pictures).map(|(id, picture)| ContextPanel {
            id: PanelId(id),
            text: String::new(),
            picture: picture.map(Arc::new),
        });
        request.context = panels.collect();
        request
    }

    #[test]
    fn whoever_has_a_picture_is_found_in_those_of_the_story() {
        let request = story(vec![
            Some(picture_of(&["owl", "fox"])),
            None,
            Some(RgbaImage::from_fn(64, 64, |x, y| {
                let value = ((x * 37 + y * 101) % 251) as u8;
                Rgba([value, 255 - value, value / 2, 255])
            })),
            Some(picture_of(&["fox"])),
        ]);
        let candidates = request.candidates_of("They look for a key.");
        let names: Vec<&str> = candidates.iter().map(Candidate::name).collect();
        assert_eq!(names, ["key", "Milo", "owl"]);
        let mut sight = Sight::new();
        let seen = sight.of(&request, &candidates);
        assert_eq!(seen.shown, [Some(vec![2, 1]), None, None, Some(vec![1])]);
        let setting = seen.setting.unwrap();
        assert_eq!(setting.location, Location::Story(Place::Beach));
        assert_eq!(
            (setting.time, setting.weather),
            (Time::Night, Weather::Rain)
        );
        // What was looked at is not looked at again.
        assert_eq!(sight.kept.len(), 3);
        assert_eq!(sight.of(&request, &candidates).shown, seen.shown);
        assert_eq!(sight.kept.len(), 3);
        let told = story(vec![Some(picture_of(&["fox"])), None]);
        let seen = sight.of(&told, &candidates);
        assert!(seen.shown[0].is_some() && seen.setting.is_none());
    }

    #[test]
    fn a_story_without_pictures_shows_nobody() {
        let request = story(vec![None]);
        let candidates = request.candidates_of("He runs.");
        let seen = Sight::new().of(&request, &candidates);
        assert!(seen.shown.is_empty() && seen.setting.is_none());
    }
}
