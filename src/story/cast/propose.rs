//! Names that a story uses and its cast lacks, so that the author can be asked about them.

use std::collections::{HashMap, HashSet};

use unicode_segmentation::UnicodeSegmentation;

use super::mentioned_members;
use crate::story::{Member, PanelId, Story};

/// Somebody who may belong to the cast.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// Name, as the story spells it.
    pub name: String,
    /// The panel that names it first.
    pub panel: PanelId,
}

/// Most that are proposed at a time: more would be a list to work through.
const MOST: usize = 4;
/// Longest name, in words: `Captain Ann Bonny`.
const LONGEST: usize = 3;

/// English words that are written with a capital and are nobody, or that begin sentences.
const NOBODY: &str = " i a an the this that these those he she it we you they his her its our your their my me him us them \
    and but or nor so yet for then now here there once when while as if because although though after before until since \
    suddenly finally soon later meanwhile today tomorrow yesterday tonight again still even just only also never always \
    sometimes often maybe perhaps everyone everybody someone somebody nobody nothing something everything all some many \
    most both each every another other one two three four five six seven eight nine ten first second third last next \
    what who whom whose which where why how with without in on at by from to of into onto over under up down out off \
    through across near behind beside between above below around along inside outside far away back home yes no not oh \
    ah hello hi hey please thank thanks let look come go wait listen stop help run see is are was were be been am do does \
    did has have had will would can could shall should may might must slowly quickly quietly carefully gently happily \
    sadly luckily together instead however monday tuesday wednesday thursday friday saturday sunday january february \
    march april june july august september october november december english french german spanish chinese christmas \
    easter ";

/// Words after which a capital is that of a noun: any in German, "the Moon" in English.
const ARTICLES: &str = " the der die das den dem des ein eine einen einem einer eines kein keine keinen sein seine seinen ihr \
    ihre ihren mein meine meinen dein deine im am zum zur vom beim ins ans ";

/// A word of a text.
struct TextWord<'a> {
    text: &'a str,
    /// It begins a sentence, or what somebody says.
    first: bool,
    /// Only a space stands between it and the word before.
    joins: bool,
}

fn words(text: &str) -> Vec<TextWord<'_>> {
    let mut words: Vec<TextWord> = Vec::new();
    let mut between = String::new();
    let mut begins = true;
    for piece in text.split_word_bounds() {
        if piece.chars().next().is_some_and(char::is_alphabetic) {
            words.push(TextWord {
                text: piece,
                first: begins,
                joins: between == " ",
            });
            begins = false;
            between.clear();
            continue;
        }
        begins |=
            piece.contains(|c: char| ".!?…:;\"\u{201c}\u{201e}\u{ab}\u{bb}«—–\n¿¡(".contains(c));
        between.push_str(piece);
    }
    words
}

fn is_in(list: &str, word: &str) -> bool {
    list.contains(&format!(" {} ", word.to_lowercase()))
}

/// The bare word, without what makes it somebody's.
fn bare(word: &str) -> &str {
    let cut = ["'s", "\u{2019}s", "'", "\u{2019}"];
    let cut = cut.iter().find_map(|end| word.strip_suffix(end));
    cut.unwrap_or(word)
}

/// A capital and then small letters, of a script that has both.
fn is_capitalised(word: &str) -> bool {
    let mut letters = word.chars();
    let first = letters.next().is_some_and(char::is_uppercase);
    let mut rest = letters.filter(|c| c.is_alphabetic()).peekable();
    first && rest.peek().is_some() && rest.any(char::is_lowercase)
}

/// Names in the story's texts that are nobody's of the cast and that were not dismissed, in the
/// order in which they come. A name is a word with a capital in the midst of a sentence which the
/// story never writes small.
///
/// ```
/// use vokenboard::story::{Panel, PanelId, Story, proposals};
///
/// let panel = Panel::with_text(PanelId(1), "A boy called Milo finds a lamp.");
/// let story = Story { panels: vec![panel], ..Story::default() };
/// assert_eq!(proposals(&story)[0].name, "Milo");
/// ```
pub fn proposals(story: &Story) -> Vec<Proposal> {
    let texts: Vec<(PanelId, Vec<TextWord>)> = story
        .panels
        .iter()
        .map(|panel| (panel.id, words(&panel.text)))
        .collect();
    let all = || texts.iter().flat_map(|(_, words)| words);
    let small: HashSet<String> = all()
        .filter(|word| word.text.starts_with(char::is_lowercase))
        .map(|word| bare(word.text).to_lowercase())
        .collect();
    let could_be = |word: &str| {
        is_capitalised(word) && !is_in(NOBODY, word) && !small.contains(&word.to_lowercase())
    };
    // How often a word stands where only a name has a capital, and where every word has one.
    let mut counts: HashMap<&str, (usize, usize)> = HashMap::new();
    for (_, words) in &texts {
        for (at, word) in words.iter().enumerate() {
            let name = bare(word.text);
            if !could_be(name) {
                continue;
            }
            let before = at.checked_sub(1).map(|at| words[at].text);
            if !word.first && before.is_some_and(|before| word.joins && is_in(ARTICLES, before)) {
                // A noun, wherever else it stands.
                counts.insert(name, (0, 0));
                continue;
            }
            let (within, first) = counts.entry(name).or_insert((0, 0));
            match word.first {
                true => *first += 1,
                false => *within += 1,
            }
        }
    }
    let is_name = |word: &str| {
        let (within, first) = counts.get(word).copied().unwrap_or_default();
        could_be(word) && (within > 0 || first > 1)
    };
    let dismissed = |name: &str| {
        let same = |other: &String| other.to_lowercase() == name.to_lowercase();
        story.dismissed.iter().any(same)
    };
    let mut found: Vec<Proposal> = Vec::new();
    for (panel, words) in &texts {
        let mut at = 0;
        while at < words.len() {
            let start = at;
            at += 1;
            if !is_name(bare(words[start].text)) {
                continue;
            }
            while at < words.len()
                && at - start < LONGEST
                && words[at].joins
                && bare(words[at - 1].text) == words[at - 1].text
                && is_name(bare(words[at].text))
            {
                at += 1;
            }
            let name: Vec<&str> = words[start..at].iter().map(|w| bare(w.text)).collect();
            let name = name.join(" ");
            let known = found.iter().any(|proposal| {
                let of = Member {
                    name: proposal.name.clone(),
                    ..Member::default()
                };
                !mentioned_members(&[of], &name).is_empty() || proposal.name.starts_with(&name)
            });
            let member = !mentioned_members(&story.cast, &name).is_empty()
                || story
                    .cast
                    .iter()
                    .any(|m| m.names().any(|n| n.contains(&name)));
            if !known && !member && !dismissed(&name) {
                found.push(Proposal {
                    name,
                    panel: *panel,
                });
            }
            if found.len() == MOST {
                return found;
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::story::{MemberId, Panel};

    fn told(texts: &[&str]) -> Story {
        let panels = texts.iter().zip(1..);
        let panels = panels.map(|(text, id)| Panel::with_text(PanelId(id), *text));
        Story {
            panels: panels.collect(),
            ..Story::default()
        }
    }

    fn proposed(story: &Story) -> Vec<String> {
        proposals(story).into_iter().map(|p| p.name).collect()
    }

    #[test]
    fn names_are_proposed_and_words_that_begin_sentences_are_not() {
        let story = told(&[
            "Suddenly a boy called Milo ran. Then Captain Ann laughed.",
            "\"Lanterns!\" said Milo's sister. Lanterns are rare. Rain fell.",
            "She went to Paris with Captain Ann on Monday, and I waited. But the Rain went on.",
        ]);
        assert_eq!(
            proposed(&story),
            ["Milo", "Captain Ann", "Lanterns", "Paris"]
        );
        assert_eq!(proposals(&story)[3].panel, PanelId(3));
        let none = told(&["A fox finds a lantern. The lantern glows. Foxes sleep."]);
        assert_eq!(proposed(&none), [] as [&str; 0]);
        // Only names that open sentences, twice.
        let opening = told(&["Milo runs.", "Milo sleeps."]);
        assert_eq!(proposed(&opening), ["Milo"]);
    }

    #[test]
    fn german_nouns_behind_their_articles_and_scripts_without_capitals_propose_nobody() {
        let german = told(&["Der Fuchs findet eine Laterne und ruft Mila. Die Laterne leuchtet."]);
        assert_eq!(proposed(&german), ["Mila"]);
        assert_eq!(
            proposed(&told(&["一只狐狸发现了一盏灯。"])),
            [] as [&str; 0]
        );
        let russian = told(&["Однажды девочка Мила нашла фонарь."]);
        assert_eq!(proposed(&russian), ["Мила"]);
    }

    #[test]
    fn the_cast_and_what_was_dismissed_are_not_proposed_again() {
        let mut story = told(&["A boy called Milo met Ann and Captain Bob."]);
        story.cast.push(Member {
            name: "Captain Bob".into(),
            ..Member::new(MemberId(1))
        });
        story.dismissed.push("ann".into());
        assert_eq!(proposed(&story), ["Milo"]);
    }
}
