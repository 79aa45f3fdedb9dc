//! Picture prompts of the library: who stands where, and where and when it plays.
//!
//! "grandmother on the left and bees on the right in the garden at night": what stands first is on
//! the left, unless it says otherwise.

use std::ops::Range;

use super::{DrawingId, DrawnNoun, MAX_FIGURES, SettingMentions, Side, drawn_nouns};

/// A subject that a picture prompt names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PromptSubject {
    /// The member of the cast with that number.
    Member(usize),
    /// A drawing of the library.
    Drawing(DrawingId),
}

/// A picture prompt of the library, read: subjects with their sides, and the setting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompositionPrompt {
    /// Who stands there, from left to right, and where that is said.
    pub figures: Vec<(PromptSubject, Option<Side>)>,
    /// Where and when it plays, as far as it is said.
    pub setting: SettingMentions,
}

/// Words that say a side.
const SIDES: [(&str, Side); 6] = [
    ("left", Side::Left),
    ("right", Side::Right),
    ("middle", Side::Middle),
    ("centre", Side::Middle),
    ("center", Side::Middle),
    ("between", Side::Middle),
];

impl CompositionPrompt {
    /// Reads a prompt in which members of the cast are named at `members`: of each the bytes and
    /// its number. Each subject counts once, and the first four.
    ///
    /// ```
    /// use vokenboard::storyworld::library::{Side, CompositionPrompt};
    ///
    /// let read = CompositionPrompt::read("owl on the right and fox on the left in the forest", &[]);
    /// assert_eq!(read.figures.len(), 2);
    /// assert_eq!(read.figures[0].1, Some(Side::Left));
    /// ```
    pub fn read(prompt: &str, members: &[(Range<usize>, usize)]) -> CompositionPrompt {
        let setting = SettingMentions::of(prompt);
        let within = |a: &Range<usize>, b: &Range<usize>| a.start < b.end && b.start < a.end;
        let mut all: Vec<(Range<usize>, PromptSubject)> = members
            .iter()
            .map(|(at, number)| (at.clone(), PromptSubject::Member(*number)))
            .collect();
        for DrawnNoun { at, drawing, .. } in drawn_nouns(prompt) {
            let taken = members.iter().any(|(other, _)| within(&at, other));
            if !taken && !setting.places.iter().any(|place| within(&at, place)) {
                all.push((at, PromptSubject::Drawing(drawing)));
            }
        }
        all.sort_by_key(|(at, _)| at.start);
        let mut figures: Vec<(PromptSubject, Option<Side>)> = Vec::new();
        for (i, (at, subject)) in all.iter().enumerate() {
            let next = all.get(i + 1).map_or(prompt.len(), |(next, _)| next.start);
            let behind = prompt.get(at.end..next).unwrap_or_default();
            let side = side(behind);
            match figures.iter_mut().find(|(other, _)| other == subject) {
                Some((_, known)) => *known = known.or(side),
                None => figures.push((subject.clone(), side)),
            }
        }
        figures.truncate(MAX_FIGURES);
        let last = figures.len().saturating_sub(1).max(1) as f32;
        let mut placed: Vec<(f32, (PromptSubject, Option<Side>))> = figures
            .into_iter()
            .enumerate()
            .map(|(i, (subject, side))| {
                let along = match side {
                    Some(Side::Left) => 0.0,
                    Some(Side::Middle) => 0.5,
                    Some(Side::Right) => 1.0,
                    None => i as f32 / last,
                };
                (along, (subject, side))
            })
            .collect();
        placed.sort_by(|a, b| a.0.total_cmp(&b.0));
        CompositionPrompt {
            figures: placed.into_iter().map(|(_, figure)| figure).collect(),
            setting,
        }
    }

    /// The prompt that shows those who are called `names` from left to right, in a setting that is
    /// described in `setting`.
    pub fn write(names: &[&str], setting: &str) -> String {
        let sides: &[&str] = match names.len() {
            2 => &[" on the left", " on the right"],
            3 => &[" on the left", " in the middle", " on the right"],
            _ => &[],
        };
        let mut prompt = String::new();
        for (i, name) in names.iter().enumerate() {
            prompt += match i {
                0 => "",
                _ if i + 1 == names.len() => " and ",
                _ => ", ",
            };
            prompt += name;
            prompt += sides.get(i).unwrap_or(&"");
        }
        if !prompt.is_empty() && !setting.is_empty() {
            prompt += " ";
        }
        prompt + setting
    }
}

/// The side that is said first in what stands behind a subject.
fn side(behind: &str) -> Option<Side> {
    let mut words = behind.split(|c: char| !c.is_alphabetic());
    words.find_map(|word| {
        let word = word.to_lowercase();
        SIDES
            .iter()
            .find(|(side, _)| *side == word)
            .map(|(_, side)| *side)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storyworld::library::{Location, SceneSetting};
    use crate::storyworld::{Time, Weather};

    fn read(prompt: &str) -> (Vec<(&'static str, Option<Side>)>, Option<&'static str>) {
        let read = CompositionPrompt::read(prompt, &[]);
        let name = |subject: &PromptSubject| match subject {
            PromptSubject::Drawing(drawing) => drawing.get().name,
            PromptSubject::Member(_) => "",
        };
        let figures = read
            .figures
            .iter()
            .map(|(subject, side)| (name(subject), *side));
        (
            figures.collect(),
            read.setting.location.map(|location| location.name()),
        )
    }

    /// "hammer in the park" shows a hammer, though "hammer" may be a verb elsewhere; what is a place as
    /// well, such as the moon, may be read as one.
    #[test]
    fn whoever_is_alone_is_read_as_it_was_written() {
        let locations: Vec<Location> = Location::all().collect();
        let read_as_written = |noun: &str, n: usize| {
            let setting = SceneSetting {
                location: locations[n % locations.len()],
                time: [Time::Day, Time::Night][n % 2],
                weather: Weather::Clear,
                layout: 0,
                fall: 0,
            };
            let prompt = CompositionPrompt::write(&[noun], &setting.description());
            let alone = drawn_nouns(noun);
            let wanted = alone
                .iter()
                .map(|noun| (PromptSubject::Drawing(noun.drawing), None));
            let wanted: Vec<(PromptSubject, Option<Side>)> = wanted.collect();
            !wanted.is_empty() && CompositionPrompt::read(&prompt, &[]).figures == wanted
        };
        for (n, noun) in ["hammer", "pepper", "human", "saw"].into_iter().enumerate() {
            assert!(read_as_written(noun, n), "{noun}");
        }
        let nouns: Vec<&str> = DrawingId::all().map(|id| id.get().noun()).collect();
        let all = nouns.iter().enumerate();
        let wrong: Vec<_> = all.filter(|(n, noun)| !read_as_written(noun, *n)).collect();
        assert!(wrong.len() * 20 < nouns.len(), "{wrong:?}");
    }

    #[test]
    fn what_is_written_is_read_again() {
        use Side::{Left, Middle, Right};
        let setting = "in the harbour at night";
        for (names, drawn) in [
            (&["bee"][..], &["honeybee"][..]),
            (&["grandmother", "bees"], &["old-woman", "honeybee"]),
            (&["fox", "key", "owl"], &["fox", "key", "owl"]),
            (
                &["fox", "key", "owl", "boat"],
                &["fox", "key", "owl", "sailboat"],
            ),
        ] {
            let prompt = CompositionPrompt::write(names, setting);
            let (figures, place) = read(&prompt);
            assert_eq!(
                figures.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
                drawn
            );
            assert_eq!(place, Some("harbour"), "{prompt}");
            let sides: Vec<_> = figures.iter().filter_map(|(_, side)| *side).collect();
            let all = [Left, Middle, Right];
            match names.len() {
                2 => assert_eq!(sides, [Left, Right]),
                3 => assert_eq!(sides, all),
                _ => assert_eq!(sides, []),
            }
        }
    }

    #[test]
    fn sides_are_obeyed_and_a_place_is_no_subject() {
        let (figures, place) = read("A wolf on the right side, a queen left of it, in the castle");
        assert_eq!(figures[0].1, Some(Side::Left));
        assert_eq!(figures[1].0, "wolf");
        assert_eq!((figures.len(), place), (2, Some("castle yard")));
        let (figures, place) = read("a castle and a knight");
        assert_eq!((figures.len(), place), (2, None));
    }

    #[test]
    fn members_of_the_cast_come_before_nouns() {
        let prompt = "Fox and an owl";
        let read = CompositionPrompt::read(prompt, &[(0..3, 7)]);
        assert_eq!(read.figures[0].0, PromptSubject::Member(7));
        assert_eq!(read.figures.len(), 2);
    }
}
