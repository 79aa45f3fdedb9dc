//! Answers that are no prose: the lines of a plan, and picture prompts.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use super::clean::{
    AnswerFlaw, TextConstraints, is_afterword, is_refusal, joined, lines, plain, regex, unlabelled,
    unquoted,
};
use super::language::TextLanguage;
use super::sentences::{SentenceKey, sentences, words};
use super::talk::is_talk;
use crate::pipeline::painter::PromptStyle;

/// Most words of a line in a plan.
const LINE: usize = 60;
/// Most words of a picture prompt: CLIP reads 77 tokens.
const PROMPT: usize = 60;
const TAGS: usize = 30;

/// Exactly so many lines of a plan.
///
/// # Errors
/// What is wrong with the answer.
pub(super) fn plan(
    answer: &str,
    panels: usize,
    language: Option<TextLanguage>,
    known: &[SentenceKey],
) -> Result<Vec<String>, AnswerFlaw> {
    let raw = texts_of_json(answer).unwrap_or_else(|| lines(answer));
    let mut raw: Vec<String> = raw.iter().flat_map(|line| items(line)).collect();
    if raw.len() < panels {
        // Told as prose: a sentence a panel.
        let known = raw.iter().flat_map(|line| sentences(line));
        raw = known.map(str::to_owned).collect();
    }
    let mut found: Vec<String> = Vec::new();
    let mut prints: Vec<SentenceKey> = Vec::new();
    let mut strayed = false;
    for line in raw.iter().map(|line| plain(line)) {
        // Neither what is said about a story, nor what was told, nor another language is what happens.
        // What is quoted as a whole is said by nobody.
        let line = plain(unquoted(&line));
        let parts = sentences(&line).into_iter().map(unlabelled);
        let parts = parts.take_while(|part| !is_afterword(part));
        let line = joined(&parts.filter(|part| !part.is_empty()).collect::<Vec<_>>());
        if is_afterword(&line) || is_talk(&line) {
            continue;
        }
        if language.is_some_and(|language| !language.allows(&line)) {
            strayed = true;
            continue;
        }
        // A number alone is left of a list that was begun twice.
        if !line.chars().any(char::is_alphabetic) {
            continue;
        }
        let Some(print) = SentenceKey::of(&line) else {
            continue;
        };
        if is_refusal(&line) {
            return Err(AnswerFlaw::Refusal);
        }
        if words(&line) > LINE {
            return Err(AnswerFlaw::TooLong);
        }
        if prints
            .iter()
            .chain(known)
            .any(|other| other.is_same(&print))
        {
            continue;
        }
        prints.push(print);
        found.push(line);
    }
    if found.len() < panels {
        return Err(match (strayed, found.is_empty()) {
            (true, _) => AnswerFlaw::Language,
            (false, true) => AnswerFlaw::Empty,
            (false, false) => AnswerFlaw::Lines,
        });
    }
    // With lines to spare the end is kept, so that the story has one.
    let last = found.pop();
    found.truncate(panels - 1);
    found.extend(last);
    match language {
        Some(language) if !language.allows(&found.join(" ")) => Err(AnswerFlaw::Language),
        _ => Ok(found),
    }
}

/// The numbered items of a line that holds several, or the line itself.
fn items(line: &str) -> Vec<String> {
    static NUMBER: LazyLock<Regex> = LazyLock::new(|| regex(r"(?:^|\s)\(?[0-9]{1,2}[.)、:]\s+"));
    let starts: Vec<usize> = NUMBER.find_iter(line).map(|found| found.start()).collect();
    if starts.len() < 2 {
        return vec![line.to_owned()];
    }
    let ends = starts[1..].iter().copied().chain([line.len()]);
    let items = starts.iter().zip(ends);
    items
        .map(|(start, end)| line[*start..end].trim().to_owned())
        .collect()
}

/// The texts in an answer that is JSON with a list, or an object with one text for each panel.
fn texts_of_json(answer: &str) -> Option<Vec<String>> {
    let body = answer.trim();
    let body = body
        .strip_prefix("```json")
        .or_else(|| body.strip_prefix("```"))
        .unwrap_or(body);
    let body = body.trim().trim_end_matches("```").trim();
    fn texts(value: &Value) -> Vec<String> {
        match value {
            Value::String(text) => vec![text.clone()],
            Value::Array(values) => values.iter().flat_map(texts).collect(),
            Value::Object(values) => values.values().flat_map(texts).collect(),
            _ => Vec::new(),
        }
    }
    let value: Value = serde_json::from_str(body).ok()?;
    (value.is_array() || value.is_object()).then(|| texts(&value))
}

/// A picture prompt in the painter's terms.
///
/// # Errors
/// What is wrong with the answer.
pub(super) fn picture(answer: &str, style: PromptStyle) -> Result<String, AnswerFlaw> {
    let is_negative = |line: &&String| line.to_lowercase().starts_with("negative");
    let lines: Vec<String> = lines(answer)
        .iter()
        .filter(|line| !is_negative(line))
        .map(|line| plain(line))
        .filter(|line| !line.is_empty())
        .collect();
    // What follows the description is talk.
    let whole = lines.join(match style {
        PromptStyle::Tags => ", ",
        _ => " ",
    });
    let parts = sentences(&whole).into_iter().map(unlabelled);
    let parts = parts.take_while(|part| !is_afterword(part));
    let parts: Vec<String> = parts.filter(|part| !is_talk(part)).collect();
    let text = match style {
        PromptStyle::Tags => tags(&parts.join(" ")),
        PromptStyle::Sentences | PromptStyle::Storyworld | PromptStyle::Composition => {
            sentence(&parts)
        }
    };
    let letters = text.chars().filter(|c| c.is_alphabetic());
    let (latin, all) = letters.fold((0, 0), |(latin, all), c| {
        (latin + usize::from(c.is_ascii()), all + 1)
    });
    if all == 0 {
        return Err(AnswerFlaw::Empty);
    }
    if is_refusal(&text) {
        return Err(AnswerFlaw::Refusal);
    }
    // Text encoders of picture models have read English.
    if latin * 10 < all * 8 {
        return Err(AnswerFlaw::Language);
    }
    Ok(text)
}

fn tags(text: &str) -> String {
    let mut tags: Vec<String> = Vec::new();
    for tag in text.split([',', ';', '.', '、', '，']) {
        let tag = tag.trim().trim_matches(['"', '“', '”']).to_lowercase();
        let fits = !tag.is_empty() && words(&tag) <= 8 && !tags.contains(&tag);
        if fits && tags.len() < TAGS {
            tags.push(tag);
        }
    }
    tags.join(", ")
}

fn sentence(parts: &[String]) -> String {
    let mut kept = String::new();
    let mut keys: Vec<SentenceKey> = Vec::new();
    for sentence in parts {
        let Some(key) = SentenceKey::of(sentence) else {
            continue;
        };
        if keys.iter().any(|other| other.is_same(&key)) {
            continue;
        }
        if !kept.is_empty() && words(&kept) + words(sentence) > PROMPT {
            break;
        }
        if !kept.is_empty() {
            kept.push(' ');
        }
        kept.push_str(sentence);
        keys.push(key);
    }
    if words(&kept) > PROMPT {
        let cut: Vec<&str> = kept.split_whitespace().take(PROMPT).collect();
        kept = cut.join(" ");
    }
    unquoted(&kept).to_string()
}

/// A summary, which is prose like a panel but longer.
pub(super) fn summary_wanted(language: Option<TextLanguage>) -> TextConstraints<'static> {
    TextConstraints {
        known: &[],
        language,
        any_language: false,
        sentences: 8,
        words: 200,
    }
}
