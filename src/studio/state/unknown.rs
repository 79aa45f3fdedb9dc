//! What the model cannot draw of what the author writes, said while they write it.

use std::time::Instant;

use super::State;
use crate::pipeline::painter::PromptStyle;
use crate::pipeline::{self, Casting};
use crate::story::{NameMention, named};
use crate::words::{self, UnknownWord};

impl State {
    /// Where in `text` stand words that the model has never seen; none for a model whose words are
    /// not listed, which knows far more than a list could say.
    pub fn unknown_in(&self, text: &str) -> Vec<UnknownWord> {
        if let Some(casting) = self.casting_of(text) {
            return casting.unknown;
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
        let names: Vec<NameMention> = named(&story.cast, text)
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

    /// What is drawn for the nouns of `text`, where that is from the library.
    fn casting_of(&self, text: &str) -> Option<Casting> {
        let takes = self.takes()?;
        let staged = takes.prompts == PromptStyle::Stage;
        staged.then(|| pipeline::casting(takes, &self.story().cast, text))
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
        let text = self.sentence();
        let casting = self.casting_of(text)?;
        let model = self.model_name();
        match words::other_language(text) {
            Some(language) if !self.is_instructed() => Some(format!(
                "{model} knows English only, and draws nothing of a text in {language}"
            )),
            _ => Some(format!("{model} draws {}", casting.line()?)),
        }
    }

    /// "Sprout does not know: grandmother, bees", of the sentence in the composer or, without
    /// one, of the selected panel.
    pub fn unknown_words(&self) -> Option<String> {
        let text = self.sentence();
        if self.casting_of(text).is_some() {
            return None;
        }
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
        let casting = pipeline::from_library(&self.story().cast, text);
        let drawn = |name: &String| casting.drawn.iter().any(|named| named.noun == *name);
        if let Some(other) = other.filter(|_| names.iter().all(drawn)) {
            let it = if names.len() == 1 { "it" } else { "them" };
            words.push_str(&format!("; {} draws {it}", other.manifest.name));
        }
        Some(words)
    }

    /// Says once a board that the model writes English where the author writes another language.
    pub(super) fn speak_of_language(&mut self, text: &str, now: Instant) {
        let listed = !self.words().characters.is_empty();
        if self.said_language || !listed {
            return;
        }
        if let Some(language) = words::other_language(text) {
            self.said_language = true;
            let model = self.model_name();
            let told = match self.is_instructed() {
                // Another writer keeps to the language of the story.
                true => "it will draw",
                false => "it will go on in English, and draw",
            };
            let words =
                format!("{model} knows English only: {told} little of a text in {language}.");
            self.toasts.note(words, now);
        }
    }
}
