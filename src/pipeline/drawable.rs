//! Which words of a text a model can draw: those of its lists, or nouns with a drawing in the library.

use std::ops::Range;

use crate::story::{Member, name_mentions};
use crate::storyworld::is_drawn;
use crate::storyworld::library::{DrawnNoun, NounFit, SettingMentions, drawn_nouns};
use crate::words::{self, UnknownWord};

/// Where in `text` stand nouns that are not in the lists of what a model draws, nor in the
/// storyworld's captions; none for a model without lists, which knows far more than they could
/// say, and none in other languages, whose words no list here has.
pub fn unknown_words(lists: &[&[String]], text: &str) -> Vec<UnknownWord> {
    if lists.iter().all(|list| list.is_empty()) || words::other_language(text).is_some() {
        return Vec::new();
    }
    let listed = |word: &str| {
        lists
            .iter()
            .any(|list| list.iter().any(|known| known == word))
    };
    words::unknown(text, |word| listed(word) || is_drawn(word))
}

/// The nouns of a text with their drawings in the library, and those that have none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NounDrawings {
    /// Nouns that nobody in the cast is called by, and their drawings.
    pub drawn: Vec<DrawnNoun>,
    /// Nouns that nothing stands for.
    pub unknown: Vec<UnknownWord>,
}

/// What the library has for the nouns of an English `text`, but for the names of members of `cast`
/// and for places; nothing in other languages.
///
/// ```
/// use vokenboard::pipeline::noun_drawings;
///
/// let found = noun_drawings(&[], "My grandmother kept bees.");
/// assert_eq!(found.line().unwrap(), "grandmother: old woman; bees: bee");
/// ```
pub fn noun_drawings(cast: &[Member], text: &str) -> NounDrawings {
    if words::other_language(text).is_some() {
        return NounDrawings::default();
    }
    let mut taken: Vec<Range<usize>> = SettingMentions::of(text).places;
    let names = name_mentions(cast, text).into_iter();
    taken.extend(names.map(|name| name.start..name.end));
    let within = |taken: &[Range<usize>], start: usize, end: usize| {
        taken
            .iter()
            .any(|other| start < other.end && other.start < end)
    };
    let mut drawn: Vec<DrawnNoun> = Vec::new();
    for found in drawn_nouns(text) {
        if !within(&taken, found.at.start, found.at.end) {
            taken.push(found.at.clone());
            if !drawn.iter().any(|other| other.noun == found.noun) {
                drawn.push(found);
            }
        }
    }
    // "Rain falls" names no waterfall: words of captions are never nouns that are missing.
    let mut unknown = words::unknown(text, is_drawn);
    unknown.retain(|word| !within(&taken, word.start, word.end));
    NounDrawings { drawn, unknown }
}

impl NounDrawings {
    /// "bees: bee; lighthouse: tower, the nearest there is; cannot draw: justice"; none where there
    /// is nothing to say.
    pub fn line(&self) -> Option<String> {
        let mut parts: Vec<String> = Vec::new();
        for DrawnNoun {
            noun, drawing, fit, ..
        } in &self.drawn
        {
            let shown = drawing.get().noun();
            parts.push(match fit {
                NounFit::Near => format!("{noun}: {shown}, the nearest there is"),
                NounFit::Same | NounFit::Kind => format!("{noun}: {shown}"),
            });
        }
        let mut unknown: Vec<&str> = Vec::new();
        for UnknownWord { word, .. } in &self.unknown {
            if !unknown.contains(&word.as_str()) {
                unknown.push(word);
            }
        }
        if !unknown.is_empty() {
            parts.push(format!("cannot draw: {}", unknown.join(", ")));
        }
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::story::MemberId;

    #[test]
    fn what_is_drawn_for_each_noun_is_said() {
        let line = |cast: &[Member], text| noun_drawings(cast, text).line();
        let text = "My grandmother kept bees behind the lighthouse in the forest.";
        assert_eq!(
            line(&[], text).unwrap(),
            "grandmother: old woman; bees: bee; lighthouse: tower, the nearest there is"
        );
        let ann = Member {
            name: "Grandmother".into(),
            ..Member::new(MemberId(1))
        };
        assert!(line(&[ann], text).unwrap().starts_with("bees"));
        let unknown = line(&[], "The pontoon sank.").unwrap();
        assert!(unknown.contains("cannot draw: pontoon") || unknown.contains("pontoon: "));
        assert_eq!(
            line(&[], "Die Großmutter hielt Bienen hinter dem Haus."),
            None
        );
        assert_eq!(line(&[], "Rain falls."), None);
    }

    #[test]
    fn a_model_is_said_not_to_know_what_it_never_saw() {
        let draws = ["fox".to_owned(), "owl".to_owned()];
        let found = |text| -> Vec<String> {
            let found = unknown_words(&[&draws], text);
            found.into_iter().map(|found| found.word).collect()
        };
        let text = "My grandmother kept bees behind the lighthouse.";
        assert_eq!(found(text), ["grandmother", "bees", "lighthouse"]);
        assert_eq!(
            found("Two foxes and an owl meet on the path in the snowy forest."),
            [""; 0]
        );
        assert_eq!(unknown_words(&[&[]], text), []);
    }
}
