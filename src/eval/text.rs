//! Metrics of told texts against the story's own next sentence. Words are those of
//! [`crate::storyworld::words`]: lower case, without punctuation.
//!
//! - Perplexity: e to the mean negative log probability of a token.
//! - BLEU-1 and BLEU-2 (Papineni et al. 2002): of a corpus, one reference each, clipped counts,
//!   brevity penalty, no smoothing.
//! - ROUGE-L (Lin 2004): F1 of the longest common subsequence, a mean over sentences.
//! - METEOR (Banerjee and Lavie 2005): exact matches, then Porter stems, then synonyms, which are
//!   the storyworld's own lists and not WordNet; recall weighs nine times as much as precision,
//!   and the penalty for fragments is half the cube of chunks per match; words are aligned as
//!   NLTK does, greedily from the end; a mean over sentences.
//! - Distinct-2 (Li et al. 2016): different pairs of neighbouring words per pair.
//! - Repetition: share of texts with a sentence that its story has already.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::stem::stem;
use crate::storyworld::{mentions, synonyms, words};

/// Characters that `text` names, and how many of them the texts of a story name.
pub(super) fn of_the_cast(text: &str, story: &[&str]) -> (usize, usize) {
    let characters = |text: &str| {
        let named = mentions(text).subjects;
        named.into_iter().filter(|s| s.is_character())
    };
    let cast: HashSet<_> = story.iter().flat_map(|text| characters(text)).collect();
    let known = characters(text).filter(|s| cast.contains(s)).count();
    (characters(text).count(), known)
}

/// What one generated text adds to the metrics of many.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TextScore {
    /// Words told and words of the reference.
    pub words: usize,
    /// Words of the reference.
    pub reference: usize,
    /// Words and pairs of the text that are in the reference, clipped, and how many there are.
    pub matches: [usize; 2],
    /// Words and pairs in the text.
    pub possible: [usize; 2],
    /// ROUGE-L's F-measure, 0 to 1.
    pub rouge_l: f64,
    /// METEOR, 0 to 1.
    pub meteor: f64,
    /// Pairs of neighbouring words.
    pub pairs: Vec<(String, String)>,
    /// A sentence of the story came again.
    pub repeats: bool,
    /// Characters named, and those of them that the story has.
    pub named: usize,
    /// Characters named that the story has.
    pub of_the_cast: usize,
}

impl TextScore {
    /// Judges `generated`, written after the texts `before` where the story goes on with `reference`;
    /// with how many characters it names, and how many of them the story has.
    pub fn new(
        generated: &str,
        reference: &str,
        before: &[&str],
        (named, of_the_cast): (usize, usize),
    ) -> Self {
        let (hypothesis, target): (Vec<String>, Vec<String>) =
            (words(generated).collect(), words(reference).collect());
        let (matches, possible): (Vec<_>, Vec<_>) =
            (1..=2).map(|n| clipped(&hypothesis, &target, n)).unzip();
        let known: HashSet<String> = before.iter().flat_map(|t| sentences(t)).collect();
        Self {
            words: hypothesis.len(),
            reference: target.len(),
            matches: [matches[0], matches[1]],
            possible: [possible[0], possible[1]],
            rouge_l: rouge_l(&hypothesis, &target),
            meteor: meteor(&hypothesis, &target),
            repeats: sentences(generated).any(|s| known.contains(&s)),
            named,
            of_the_cast,
            pairs: hypothesis
                .windows(2)
                .map(|w| (w[0].clone(), w[1].clone()))
                .collect(),
        }
    }
}

/// The words of each sentence, joined.
fn sentences(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(['.', '!', '?'])
        .map(|s| words(s).collect::<Vec<_>>().join(" "))
        .filter(|s| !s.is_empty())
}

/// n-grams of `text` that are in `reference`, each as often as there at most, and all of `text`.
fn clipped(text: &[String], reference: &[String], n: usize) -> (usize, usize) {
    let count = |words: &[String]| {
        let mut counts: HashMap<Vec<String>, usize> = HashMap::new();
        for gram in words.windows(n) {
            *counts.entry(gram.to_vec()).or_default() += 1;
        }
        counts
    };
    let known = count(reference);
    let own = count(text);
    let matches = own
        .iter()
        .map(|(gram, &times)| times.min(known.get(gram).copied().unwrap_or(0)))
        .sum();
    (matches, text.len().saturating_sub(n - 1))
}

/// BLEU of a corpus up to n-grams of `order`, 1 or 2; `None` without a text.
pub fn bleu<'a>(scores: impl Iterator<Item = &'a TextScore>, order: usize) -> Option<f64> {
    let (mut generated, mut reference) = (0, 0);
    let (mut matches, mut possible) = ([0; 2], [0; 2]);
    for score in scores {
        generated += score.words;
        reference += score.reference;
        let add = |sums: &mut [usize; 2], more: [usize; 2]| {
            sums.iter_mut().zip(more).for_each(|(sum, n)| *sum += n);
        };
        add(&mut matches, score.matches);
        add(&mut possible, score.possible);
    }
    if reference == 0 {
        return None;
    }
    if matches[..order].contains(&0) {
        return Some(0.0);
    }
    let logs: f64 = (0..order)
        .map(|n| (matches[n] as f64 / possible[n] as f64).ln())
        .sum();
    let penalty = (1.0 - reference as f64 / generated as f64).min(0.0);
    Some((penalty + logs / order as f64).exp())
}

/// Different pairs of neighbouring words per pair; `None` without a pair.
pub fn distinct_2<'a>(scores: impl Iterator<Item = &'a TextScore>) -> Option<f64> {
    let (mut seen, mut all) = (HashSet::new(), 0);
    for score in scores {
        all += score.pairs.len();
        seen.extend(&score.pairs);
    }
    (all > 0).then(|| seen.len() as f64 / all as f64)
}

/// From the log probabilities of tokens, natural; `None` without a token.
///
/// ```
/// use vokenboard::eval::perplexity;
///
/// // Four tokens, each as likely as one of eight.
/// let sum = 4.0 * (1.0f64 / 8.0).ln();
/// assert!((perplexity(sum, 4).unwrap() - 8.0).abs() < 1e-9);
/// ```
pub fn perplexity(sum: f64, tokens: usize) -> Option<f64> {
    (tokens > 0).then(|| (-sum / tokens as f64).exp())
}

fn rouge_l(text: &[String], reference: &[String]) -> f64 {
    let mut row = vec![0usize; reference.len() + 1];
    for word in text {
        let mut corner = 0;
        for (j, other) in reference.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = if word == other {
                corner + 1
            } else {
                above.max(row[j])
            };
            corner = above;
        }
    }
    let common = row[reference.len()] as f64;
    if common == 0.0 {
        return 0.0;
    }
    let (precision, recall) = (common / text.len() as f64, common / reference.len() as f64);
    2.0 * precision * recall / (precision + recall)
}

fn meteor(text: &[String], reference: &[String]) -> f64 {
    let matches = align(text, reference);
    let n = matches.len() as f64;
    if matches.is_empty() {
        return 0.0;
    }
    let chunks = 1 + matches
        .windows(2)
        .filter(|pair| pair[1] != (pair[0].0 + 1, pair[0].1 + 1))
        .count();
    let (precision, recall) = (n / text.len() as f64, n / reference.len() as f64);
    let mean = 10.0 * precision * recall / (recall + 9.0 * precision);
    mean * (1.0 - 0.5 * (chunks as f64 / n).powi(3))
}

/// Matching words as places in text and reference, in the order of the text.
fn align(text: &[String], reference: &[String]) -> Vec<(usize, usize)> {
    type Same = fn(&str, &str) -> bool;
    let stages: [Same; 3] = [|a, b| a == b, |a, b| stem(a) == stem(b), synonyms];
    let mut open: Vec<usize> = (0..text.len()).collect();
    let mut free: Vec<usize> = (0..reference.len()).collect();
    let mut matches = Vec::new();
    for same in stages {
        for at in (0..open.len()).rev() {
            let word = &text[open[at]];
            if let Some(to) = (0..free.len())
                .rev()
                .find(|&to| same(word, &reference[free[to]]))
            {
                matches.push((open.remove(at), free.remove(to)));
            }
        }
    }
    matches.sort_unstable();
    matches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(told: &str, reference: &str) -> TextScore {
        TextScore::new(told, reference, &[], (0, 0))
    }

    fn close(got: f64, want: f64) {
        assert!((got - want).abs() < 1e-9, "{got} is not {want}");
    }

    #[test]
    fn perplexity_of_even_odds_is_their_number() {
        close(perplexity(-4.0 * 8f64.ln(), 4).unwrap(), 8.0);
        assert_eq!(perplexity(0.0, 0), None);
    }

    #[test]
    fn bleu_clips_and_punishes_what_is_short() {
        // Papineni's example: "the" counts twice at most.
        let the = score("the the the the the the the", "the cat is on the mat");
        assert_eq!((the.matches, the.possible), ([2, 0], [7, 6]));
        close(bleu([&the].into_iter(), 1).unwrap(), 2.0 / 7.0);
        assert_eq!(bleu([&the].into_iter(), 2), Some(0.0));
        // Two of four pairs and four of five words; five words of six told: exp(1 - 6/5).
        let told = score("the cat sat on the", "the cat is on the mat");
        assert_eq!((told.matches, told.possible), ([4, 2], [5, 4]));
        close(bleu([&told].into_iter(), 1).unwrap(), 0.8 * (-0.2f64).exp());
        let two = (0.8f64 * 0.5).sqrt() * (-0.2f64).exp();
        close(bleu([&told].into_iter(), 2).unwrap(), two);
        // A corpus adds up: 6 of 12 words, 2 of 10 pairs, 12 words for 12.
        let both = [&the, &told];
        close(bleu(both.into_iter(), 1).unwrap(), 0.5);
        close(bleu(both.into_iter(), 2).unwrap(), (0.5f64 * 0.2).sqrt());
        assert_eq!(bleu([].into_iter(), 1), None);
    }

    #[test]
    fn rouge_follows_the_longest_common_subsequence() {
        // "police the gunman" of four and four words, as in Lin 2004: "police killed the gunman".
        close(
            score("police kill the gunman", "police killed the gunman").rouge_l,
            0.75,
        );
        close(
            score("the gunman kill police", "police killed the gunman").rouge_l,
            0.5,
        );
        assert_eq!(score("", "a fox").rouge_l, 0.0);
    }

    #[test]
    fn meteor_matches_words_stems_and_synonyms() {
        // All six match in one chunk: 1 - 0.5 / 6^3.
        close(
            score("the cat sat on the mat", "the cat sat on the mat").meteor,
            1.0 - 0.5 / 216.0,
        );
        // "bunny" is a rabbit and "walked" walks: three matches of three in one chunk.
        close(
            score("the bunny walked", "the rabbit walks").meteor,
            1.0 - 0.5 / 27.0,
        );
        // Two of three words match, in two chunks, of a reference of four.
        let (p, r) = (2.0 / 3.0, 2.0 / 4.0);
        close(
            score("fox and owl", "owl sees a fox").meteor,
            10.0 * p * r / (r + 9.0 * p) * 0.5,
        );
        assert_eq!(score("moon", "kite").meteor, 0.0);
    }

    #[test]
    fn distinct_pairs_and_repeated_sentences_are_counted() {
        let a = score("she runs and she runs", "x");
        close(distinct_2([&a].into_iter()).unwrap(), 3.0 / 4.0);
        close(distinct_2([&a, &a].into_iter()).unwrap(), 3.0 / 8.0);
        let before = ["A fox walks. She is lost!", "An owl comes."];
        let again = TextScore::new(
            "Now, she is here. She is lost.",
            "The bear runs.",
            &before,
            (0, 0),
        );
        assert!(again.repeats);
        let told = "The owl and a bear and a pig run.";
        let new = TextScore::new(told, "A bear runs.", &before, (3, 2));
        assert!(!new.repeats);
        assert_eq!((new.named, new.of_the_cast), (3, 2));
        let cast = [before[0], before[1], "A bear runs."];
        assert_eq!(of_the_cast(told, &cast), (3, 2));
        assert_eq!(of_the_cast("The owl meets a pig.", &before), (2, 1));
    }
}
