//! How much of a long story is read: its last panels, and the oldest in short.
//!
//! What is left out grows in large steps, so that the prompts of panels that follow each other
//! begin alike and the cache holds; where it is cut depends on the story alone.

use std::collections::HashMap;

use super::sentences::{sentences, words};

/// Steps back for which a summary is made of the one before; what is older is in it no more.
const CHAIN: usize = 3;

/// Where the part of a story that is read begins, after each step: indices of panels. `tokens` are
/// those of each panel; `room` is how many are read at most.
pub(super) fn starts(tokens: &[usize], room: usize) -> Vec<usize> {
    let (mut start, mut sum) = (0, 0);
    let mut starts = Vec::new();
    for (at, count) in tokens.iter().enumerate() {
        sum += count;
        if sum <= room {
            continue;
        }
        while sum > room / 2 && start < at {
            sum -= tokens[start];
            start += 1;
        }
        starts.push(start);
    }
    starts.dedup();
    starts.retain(|start| *start > 0);
    starts
}

/// The end of `text` that is about `most` of its `tokens` tokens.
pub(super) fn tail(text: &str, tokens: usize, most: usize) -> &str {
    if tokens <= most {
        return text;
    }
    let letters = text.chars().count();
    let skipped = letters - letters * most / tokens.max(1);
    let at = text.char_indices().nth(skipped).map_or(0, |(at, _)| at);
    &text[at..]
}

/// Stretches of panels whose summaries build on each other, oldest first.
pub(super) fn stretches(starts: &[usize]) -> Vec<(usize, usize)> {
    let from = starts.len().saturating_sub(CHAIN);
    let before = starts[..from].last().copied().unwrap_or(0);
    let firsts = std::iter::once(before).chain(starts[from..].iter().copied());
    firsts.zip(starts[from..].iter().copied()).collect()
}

/// Words that an extract has at most.
const EXTRACT: usize = 120;

/// The first sentences of some panels, from the first to the last, behind what was told of those
/// before: in place of a summary.
pub(super) fn extract(before: &str, texts: &[String]) -> String {
    let firsts: Vec<&str> = texts
        .iter()
        .filter_map(|text| sentences(text).first().copied())
        .collect();
    let mut all = before.trim().to_owned();
    let mut left = EXTRACT.saturating_sub(words(before) / 2);
    // As far apart as leaves room for about twelve words each.
    let step = firsts.len().div_ceil(EXTRACT / 12).max(1);
    for sentence in firsts.iter().step_by(step) {
        let count = words(sentence);
        if count > left {
            break;
        }
        left -= count;
        if !all.is_empty() {
            all.push(' ');
        }
        all.push_str(sentence);
    }
    all
}

/// Summaries by what they are of. Each is a function of the panels alone, so that keeping it
/// changes nothing but the time.
#[derive(Default)]
pub(super) struct Summaries {
    known: HashMap<(String, Vec<String>), String>,
}

impl Summaries {
    /// Most that are kept.
    const MOST: usize = 64;

    pub(super) fn get(&self, before: &str, texts: &[String]) -> Option<String> {
        let key = (before.to_string(), texts.to_vec());
        self.known.get(&key).cloned()
    }

    pub(super) fn keep(&mut self, before: &str, texts: &[String], summary: String) {
        if self.known.len() >= Self::MOST {
            self.known.clear();
        }
        self.known
            .insert((before.to_string(), texts.to_vec()), summary);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_grows_in_large_steps() {
        let tokens = vec![10; 100];
        let mut last = Vec::new();
        let mut steps = 0;
        for texts in 0..=tokens.len() {
            let now = starts(&tokens[..texts], 200);
            assert!(now.starts_with(&last), "{now:?} {last:?}");
            steps += usize::from(now.len() > last.len());
            let read: usize = tokens[now.last().copied().unwrap_or(0)..texts].iter().sum();
            assert!(read <= 200);
            last = now;
        }
        assert!((5..=10).contains(&steps), "{steps}");
        assert!(stretches(&[]).is_empty());
        assert_eq!(stretches(&[4]), [(0, 4)]);
        assert_eq!(stretches(&[4, 8, 12, 16]), [(4, 8), (8, 12), (12, 16)]);
    }

    #[test]
    fn an_extract_has_sentences_from_the_first_panel_to_the_last() {
        let texts: Vec<String> = (0..40)
            .map(|day| format!("On day {day} the fox came to another hill. It slept there."))
            .collect();
        let extract = extract("The fox left home.", &texts);
        assert!(
            extract.starts_with("The fox left home. On day 0 "),
            "{extract}"
        );
        assert!(
            extract.contains("On day 36 ") && !extract.contains("slept"),
            "{extract}"
        );
        assert!(words(&extract) <= EXTRACT + 4);
    }

    #[test]
    fn a_panel_that_is_too_long_alone_is_read_from_its_end() {
        assert!(starts(&[500], 200).is_empty());
        assert_eq!(starts(&[10, 500, 10], 200), [1, 2]);
        assert_eq!(tail("abcdefghij", 10, 4), "ghij");
        assert_eq!(tail("狐狸走了", 4, 4), "狐狸走了");
    }
}
