//! What a model that draws certain things only has never seen, and what stands for it.

use std::ops::Range;

use super::Capabilities;
use super::painter::PromptStyle;
use crate::story::{Member, named as names_of};
use crate::storyworld::is_drawn;
use crate::storyworld::library::{Likeness, Named, Said, named};
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

/// What a painter that draws from the library makes of a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Casting {
    /// Nouns that nobody in the cast is called by, and their drawings.
    pub drawn: Vec<Named>,
    /// Nouns that nothing stands for.
    pub unknown: Vec<UnknownWord>,
}

/// What is drawn for the nouns of an English `text`; none for a painter that does not draw from the
/// library, and none in other languages.
pub fn casting(takes: &Capabilities, cast: &[Member], text: &str) -> Casting {
    match takes.prompts {
        PromptStyle::Stage => from_library(cast, text),
        _ => Casting::default(),
    }
}

/// What the library has for the nouns of an English text.
pub fn from_library(cast: &[Member], text: &str) -> Casting {
    if words::other_language(text).is_some() {
        return Casting::default();
    }
    let mut taken: Vec<Range<usize>> = Said::of(text).places;
    let names = names_of(cast, text).into_iter();
    taken.extend(names.map(|name| name.start..name.end));
    let within = |taken: &[Range<usize>], start: usize, end: usize| {
        taken
            .iter()
            .any(|other| start < other.end && other.start < end)
    };
    let mut drawn: Vec<Named> = Vec::new();
    for found in named(text) {
        if !within(&taken, found.at.start, found.at.end) {
            taken.push(found.at.clone());
            if !drawn.iter().any(|other| other.noun == found.noun) {
                drawn.push(found);
            }
        }
    }
    let mut unknown = words::unknown(text, |_| false);
    unknown.retain(|word| !within(&taken, word.start, word.end));
    Casting { drawn, unknown }
}

impl Casting {
    /// "bees: bee; lighthouse: tower, the nearest there is; cannot draw: justice"; none where there
    /// is nothing to say.
    pub fn line(&self) -> Option<String> {
        let mut parts: Vec<String> = Vec::new();
        for Named {
            noun,
            drawing,
            likeness,
            ..
        } in &self.drawn
        {
            let shown = drawing.get().noun();
            parts.push(match likeness {
                Likeness::Near => format!("{noun}: {shown}, the nearest there is"),
                Likeness::Same | Likeness::Kind => format!("{noun}: {shown}"),
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
        let staged = Capabilities {
            prompts: PromptStyle::Stage,
            ..Capabilities::default()
        };
        let line = |cast: &[Member], text| casting(&staged, cast, text).line();
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
        assert_eq!(
            casting(&Capabilities::default(), &[], text),
            Casting::default()
        );
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
