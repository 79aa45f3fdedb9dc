//! What a model that draws certain things only has never seen.

use crate::storyworld::is_drawn;
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

#[cfg(test)]
mod tests {
    use super::*;

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
