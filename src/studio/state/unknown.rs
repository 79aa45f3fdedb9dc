//! What the model cannot draw of what the author writes, said while they write it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Instant;

use super::State;
use crate::pipeline::painter::PromptStyle;
use crate::pipeline::{self, NounDrawings};
use crate::story::{NameMention, name_mentions};
use crate::words::{self, UnknownWord};

/// What was found for texts in one revision of the story: each frame asks for the same ones.
#[derive(Default)]
pub(super) struct NounCache(RefCell<(u64, HashMap<String, Rc<NounDrawings>>)>);

impl NounCache {
    /// Texts that are kept: what is typed is another one with each key.
    const MOST: usize = 64;

    fn get(
        &self,
        revision: u64,
        text: &str,
        find: impl FnOnce() -> NounDrawings,
    ) -> Rc<NounDrawings> {
        let (of, kept) = &mut *self.0.borrow_mut();
        if *of != revision || kept.len() >= Self::MOST {
            *of = revision;
            kept.clear();
        }
        if let Some(found) = kept.get(text) {
            return Rc::clone(found);
        }
        let found = Rc::new(find());
        kept.insert(text.to_owned(), Rc::clone(&found));
        found
    }
}

impl State {
    /// Where in `text` stand words that the model has never seen; none for a model whose words are
    /// not listed, which knows far more than a list could say.
    pub fn unknown_in(&self, text: &str) -> Vec<UnknownWord> {
        if self.draws_from_library() {
            return self.noun_drawings(text).unknown.clone();
        }
        let known = self.words();
        let lists = [known.characters, known.things, known.places];
        let mut found = pipeline::unknown_words(&lists, text);
        if found.is_empty() {
            return found;
        }
        // The name of somebody in the cast who is described says how that one looks.
        let story = self.story();
        let described = |id| {
            let member = story.member(id);
            member.is_some_and(|member| !member.description.trim().is_empty())
        };
        let names: Vec<NameMention> = name_mentions(&story.cast, text)
            .into_iter()
            .filter(|name| described(name.member))
            .collect();
        let is_name = |word: &UnknownWord| {
            let mut names = names.iter();
            names.any(|name| name.start <= word.start && word.end <= name.end)
        };
        found.retain(|word| !is_name(word));
        found
    }

    /// Whether the painter draws what the library has for the nouns of a text.
    pub fn draws_from_library(&self) -> bool {
        let takes = self.takes();
        takes.is_some_and(|takes| takes.prompts == PromptStyle::Composition)
    }

    /// What the library has for the nouns of `text`.
    fn noun_drawings(&self, text: &str) -> Rc<NounDrawings> {
        let revision = self.board.document.revision();
        self.board.nouns.get(revision, text, || {
            pipeline::noun_drawings(&self.story().cast, text)
        })
    }

    /// The sentence in the composer or, without one, the text of the selected panel.
    fn sentence(&self) -> &str {
        let composer = self.view.composer.trim();
        match composer.is_empty() {
            true => self.view.selected.map_or("", |id| self.text_of(id)),
            false => composer,
        }
    }

    /// "Draws bees: bee; lighthouse: tower, the nearest there is", of the sentence in the composer
    /// or, without one, of the selected panel.
    pub fn drawn_from_library(&self) -> Option<String> {
        if !self.draws_from_library() {
            return None;
        }
        let text = self.sentence();
        let model = self.model_name();
        match words::other_language(text) {
            Some(language) if !self.is_instructed() => Some(format!(
                "{model} knows English only, and draws nothing of a text in {language}"
            )),
            _ => Some(format!(
                "{model} draws {}",
                self.noun_drawings(text).line()?
            )),
        }
    }

    /// "Sprout does not know: grandmother, bees", of the sentence in the composer or, without
    /// one, of the selected panel.
    pub fn unknown_words(&self) -> Option<String> {
        if self.draws_from_library() {
            return None;
        }
        let text = self.sentence();
        let mut names: Vec<String> = Vec::new();
        for UnknownWord { word, .. } in self.unknown_in(text) {
            if !names.contains(&word) {
                names.push(word);
            }
        }
        if names.is_empty() {
            return None;
        }
        let model = self.model_name();
        let mut words = format!("{model} does not know: {}", names.join(", "));
        // Another model that is there may draw them.
        let mut others = self.models.storytellers.iter();
        let other = others.find(|other| other.manifest.draws.library);
        let library = self.noun_drawings(text);
        let drawn = |name: &String| library.drawn.iter().any(|found| found.noun == *name);
        if let Some(other) = other.filter(|_| names.iter().all(drawn)) {
            let it = if names.len() == 1 { "it" } else { "them" };
            words.push_str(&format!("; {} draws {it}", other.manifest.name));
        }
        Some(words)
    }

    /// Says once a board that the model writes English where the author writes another language.
    pub(super) fn note_language(&mut self, text: &str, now: Instant) {
        let listed = !self.words().characters.is_empty();
        if self.board.language_noted || !listed {
            return;
        }
        if let Some(language) = words::other_language(text) {
            self.board.language_noted = true;
            let model = self.model_name();
            let clause = match self.is_instructed() {
                // Another writer keeps to the language of the story.
                true => "it will draw",
                false => "it will go on in English, and draw",
            };
            let words =
                format!("{model} knows English only: {clause} little of a text in {language}.");
            self.toasts.note(words, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_is_kept_until_the_story_changes() {
        let cache = NounCache::default();
        let mut looked = 0;
        let mut get = |revision: u64, text: &str| {
            cache.get(revision, text, || {
                looked += 1;
                NounDrawings::default()
            });
            looked
        };
        assert_eq!(get(1, "bees"), 1);
        assert_eq!(get(1, "bees"), 1);
        assert_eq!(get(1, "owls"), 2);
        assert_eq!(get(2, "bees"), 3);
        for i in 0..200 {
            get(2, &format!("bees {i}"));
        }
        assert!(cache.0.borrow().1.len() <= NounCache::MOST);
    }
}
