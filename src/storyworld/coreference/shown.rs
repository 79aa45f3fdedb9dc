//! What the pictures of a story say of whom a sentence could speak.

use super::{FIRST_CHARACTERS, FIRST_THINGS, GENDERS, PanelMentions, Referent};

/// What is said of the referent itself.
pub(super) const OF_REFERENT: usize = BACK + 3 + FIRST_CHARACTERS + FIRST_THINGS;
/// What is said of the pictures and of those who were shown first, the same for all.
pub(super) const OF_PICTURES: usize =
    2 + CHARACTERS + THINGS + EVER + 2 * GENDERS + 2 * (FIRST_CHARACTERS + FIRST_THINGS);
/// Pictures before the last panel that are told apart.
const BACK: usize = 3;
/// Counts below this are told apart: of characters and of things in the picture before, and of
/// characters in all pictures.
const CHARACTERS: usize = 5;
const THINGS: usize = 3;
const EVER: usize = 5;

/// Whom the pictures before the last panel of a story show.
pub(super) struct StoryPictures<'a> {
    /// A picture for each panel before the last.
    pictures: Vec<Option<&'a [usize]>>,
    genders: &'a [[f32; GENDERS]],
    /// Characters and things in the order in which they were first shown; whom none shows is not
    /// among them.
    characters: Vec<usize>,
    things: Vec<usize>,
}

impl<'a> StoryPictures<'a> {
    /// `genders` are those of `referents`.
    pub(super) fn new(
        panels: &[PanelMentions<'a>],
        referents: &[Referent],
        genders: &'a [[f32; GENDERS]],
    ) -> Self {
        let before = panels.len().saturating_sub(1);
        let pictures: Vec<Option<&[usize]>> = panels[..before].iter().map(|p| p.shown).collect();
        let (mut characters, mut things) = (Vec::new(), Vec::new());
        for &i in pictures.iter().copied().flatten().flatten() {
            let of_its_kind = match referents[i].acts {
                true => &mut characters,
                false => &mut things,
            };
            if !of_its_kind.contains(&i) {
                of_its_kind.push(i);
            }
        }
        Self {
            pictures,
            genders,
            characters,
            things,
        }
    }

    /// The picture `back` panels before the last.
    fn picture(&self, back: usize) -> Option<&[usize]> {
        let at = self.pictures.len().checked_sub(back)?;
        self.pictures.get(at).copied().flatten()
    }

    fn shows(&self, i: usize, back: usize) -> bool {
        self.picture(back).is_some_and(|shown| shown.contains(&i))
    }

    /// What is said of one.
    pub(super) fn of(&self, i: usize) -> Vec<f32> {
        let mut all: Vec<f32> = (1..=BACK)
            .map(|back| f32::from(self.shows(i, back)))
            .collect();
        let of_all = 1..=self.pictures.len();
        let last = of_all.clone().find(|back| self.shows(i, *back));
        let times = of_all.filter(|back| self.shows(i, *back)).count();
        let pictures = self.pictures.iter().flatten().count();
        all.extend([
            f32::from(self.shows(i, self.pictures.len())),
            last.map_or(0.0, |back| 1.0 / back as f32),
            times as f32 / pictures.max(1) as f32,
        ]);
        for (those, most) in [
            (&self.characters, FIRST_CHARACTERS),
            (&self.things, FIRST_THINGS),
        ] {
            all.extend((0..most).map(|n| f32::from(those.get(n) == Some(&i))));
        }
        all
    }

    /// What is said of the pictures and of those who were shown first.
    pub(super) fn of_pictures(&self) -> Vec<f32> {
        let is = |count: usize, of: usize| (0..of).map(move |n| f32::from(count == n));
        let last = self.picture(1);
        let any = self.pictures.iter().any(Option::is_some);
        let mut all = vec![f32::from(last.is_some()), f32::from(any)];
        let in_last = |those: &[usize]| those.iter().filter(|i| self.shows(**i, 1)).count();
        // Where no picture is seen, nobody is counted: that is not a picture of nobody.
        let seen = |yes: bool, count: usize| if yes { count } else { usize::MAX };
        all.extend(is(
            seen(last.is_some(), in_last(&self.characters)),
            CHARACTERS,
        ));
        all.extend(is(seen(last.is_some(), in_last(&self.things)), THINGS));
        all.extend(is(seen(any, self.characters.len()), EVER));
        for n in 0..2 {
            let of = self.characters.get(n).map(|i| self.genders[*i]);
            all.extend(of.unwrap_or_default());
        }
        for (those, most) in [
            (&self.characters, FIRST_CHARACTERS),
            (&self.things, FIRST_THINGS),
        ] {
            for n in 0..most {
                let shown = |back| those.get(n).is_some_and(|i| self.shows(*i, back));
                all.extend([f32::from(shown(1)), f32::from(shown(2))]);
            }
        }
        all
    }
}
