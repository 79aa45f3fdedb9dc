//! What a model answered becomes the text of a panel: plain prose, in the wanted length, that says
//! nothing twice. What can't be mended is a [`AnswerFlaw`], for which the model is asked again.

use std::fmt;
use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use super::language::TextLanguage;
use super::sentences::{SentenceKey, circles, is_spaceless, is_whole, sentences, words};
use super::talk::is_talk;
use crate::story::TextLength;

/// Why an answer is no text for the board.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AnswerFlaw {
    Empty,
    Repeats,
    Unfinished,
    Language,
    Refusal,
    TooLong,
    Lines,
}

impl fmt::Display for AnswerFlaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AnswerFlaw::Empty => "it said nothing that belongs into a story",
            AnswerFlaw::Repeats => "it repeated what was told before",
            AnswerFlaw::Unfinished => "it did not end its sentence",
            AnswerFlaw::Language => "it answered in another language",
            AnswerFlaw::Refusal => "it talked about itself instead",
            AnswerFlaw::TooLong => "it did not come to an end",
            AnswerFlaw::Lines => "it did not give a line for each panel",
        })
    }
}

/// Length, language and earlier texts that an answer is checked against.
pub(super) struct TextConstraints<'a> {
    /// Texts of which no sentence may come again.
    pub(super) known: &'a [SentenceKey],
    pub(super) language: Option<TextLanguage>,
    /// Whether the text may be in another language: the author may have asked for that.
    pub(super) any_language: bool,
    pub(super) sentences: usize,
    pub(super) words: usize,
}

/// Most sentences and words of a panel's text.
pub(super) fn limits(length: TextLength) -> (usize, usize) {
    match length {
        TextLength::Line => (1, 18),
        TextLength::Sentences => (2, 60),
        TextLength::Paragraph => (8, 180),
    }
}

/// The text of an answer. `ended` is whether the model ended it by itself.
///
/// # Errors
/// What is wrong with it.
pub(super) fn clean(
    answer: &str,
    ended: bool,
    wanted: &TextConstraints,
) -> Result<String, AnswerFlaw> {
    let text = prose(answer);
    if !text.chars().any(char::is_alphanumeric) {
        return Err(AnswerFlaw::Empty);
    }
    if is_refusal(&text) {
        return Err(AnswerFlaw::Refusal);
    }
    let mut kept: Vec<String> = Vec::new();
    let mut own: Vec<SentenceKey> = Vec::new();
    let (mut repeated, mut open, mut talked) = (false, false, false);
    for sentence in sentences(&text) {
        if kept.len() == wanted.sentences {
            break;
        }
        let Some(print) = SentenceKey::of(sentence) else {
            continue;
        };
        if is_talk(sentence) {
            talked = true;
            continue;
        }
        if circles(sentence)
            || wanted
                .known
                .iter()
                .chain(&own)
                .any(|known| known.is_same(&print))
        {
            repeated = true;
            continue;
        }
        if !is_whole(sentence) && !ended {
            open = true;
            continue;
        }
        let before: usize = kept.iter().map(|kept| words(kept)).sum();
        if before + words(sentence) > wanted.words {
            match shortened(sentence, wanted.words.saturating_sub(before)) {
                Some(short) if kept.is_empty() => kept.push(finished(short, wanted.language)),
                _ if kept.is_empty() => return Err(AnswerFlaw::TooLong),
                _ => {}
            }
            break;
        }
        own.push(print);
        kept.push(match is_whole(sentence) {
            true => sentence.to_string(),
            false => finished(sentence, wanted.language),
        });
    }
    if kept.is_empty() {
        return Err(match (repeated, open, talked) {
            (true, _, _) => AnswerFlaw::Repeats,
            (false, _, true) => AnswerFlaw::Refusal,
            (false, true, false) => AnswerFlaw::Unfinished,
            (false, false, false) => AnswerFlaw::Empty,
        });
    }
    let text = joined(&kept);
    match wanted.language {
        Some(language) if !wanted.any_language && !language.allows(&text) => {
            Err(AnswerFlaw::Language)
        }
        _ => Ok(text),
    }
}

/// A sentence that was left open, with its full stop.
fn finished(sentence: &str, language: Option<TextLanguage>) -> String {
    let stop = language.map_or('.', TextLanguage::full_stop);
    let sentence =
        sentence.trim_end_matches(|c: char| ",;:-–—、，；：".contains(c) || c.is_whitespace());
    format!("{sentence}{stop}")
}

/// The start of a long sentence up to a comma, in at most so many words; at least four.
fn shortened(sentence: &str, most: usize) -> Option<&str> {
    let commas = sentence
        .char_indices()
        .filter(|(_, c)| ",;:，；：、—–".contains(*c));
    let mut parts = commas.map(|(at, _)| &sentence[..at]);
    let fits = |part: &&str| (4..=most).contains(&words(part));
    parts.rfind(fits)
}

/// Sentences with a space between them where their script has such.
pub(super) fn joined(sentences: &[String]) -> String {
    let mut text = String::new();
    for sentence in sentences {
        let tight = text.chars().next_back().is_none_or(is_spaceless);
        if !tight {
            text.push(' ');
        }
        text.push_str(sentence);
    }
    text
}

pub(super) fn regex(pattern: &str) -> Regex {
    // Every pattern is written here and compiled in the tests.
    Regex::new(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"))
}

/// Marks of a chat or of a model's own from which on an answer is no text any more.
static MARKS: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"(?i)<\|[^|>\n]{0,40}\|>|<[|｜][^<>\n]{0,40}[|｜]>|</?s>|<(?:start|end)_of_turn>|\[/?INST\]|###|<</?SYS>>|\n(?:user|human|assistant|system)\s*:",
    )
});
/// Marks that are left out where they stand, also where an answer was cut within one.
static TAGS: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"(?i)</?[a-z][a-z0-9_-]{0,24}(?:\s[^<>\n]{0,80})?/?>|\[/?[A-Z_]{2,20}[0-9]{0,4}(?:\]|$)|<[|/]?[a-z_]{1,24}$|\[IMG[0-9]*\]|!?\[([^\]\n]{0,80})\]\([^)\n]{0,200}\)",
    )
});
static LABEL: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"(?i)^\W{0,4}(?:(?:the |our )?(?:next |new |first |second |third |fourth |fifth |sixth |seventh |eighth |last |final )?(?:panel|scene|page|picture|frame|image|prompt|tags|description|summary|story|text|continuation|continued|answer|output|response|result|narrator|assistant|caption|rewritten(?: text| panel)?|rewrite|version|take|option|viñeta|panel|escena|texto|szene|bild|text|geschichte|fortsetzung|case|scène|texte|vignetta|scena|testo|cena|quadro|场景|画面|面板|分镜|故事|正文|续写|コマ|シーン|本文|장면)(?:\s*(?:no\.?\s*)?[0-9一二三四五六七八九十]{0,4})?|第\s*[0-9一二三四五六七八九十]+\s*[格幕页场段])\W{0,4}?\s*[:：][\s*_]{0,4}",
    )
});
static PREAMBLE: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"(?i)^\W{0,3}(?:(?:sure(?: thing)?|certainly|of course|absolutely|okay|ok|alright|great|got it|understood|here(?:['’]s| is| are)|below is|claro|por supuesto|aquí (?:tienes|está)|natürlich|gerne|hier ist|bien sûr|voici|certo|ecco|claro que sim|好的|当然|以下是|这是|もちろん|はい、|以下は)[^\n:：]{0,120}[:：]|(?:sure(?: thing)?|certainly|absolutely|got it|understood|好的|当然可以?)[!.！。,，])\s*",
    )
});
static AFTERWORD: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"(?i)^\W{0,3}(?:note(?:s)?\s*:|let me know|would you like|do you want me|i hope (?:this|you)|feel free|if you(?:['’]d| would) like|word count|please (?:let|tell) me|is there anything|how can i|this (?:panel|text|continuation|version|rewrite) |the end\b|\[?end of|to be continued|注[:：]|希望|如果你|如果您|请告诉我|未完待续)",
    )
});
static REFUSAL: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"(?i)\bas an ai\b|\b(?:large )?language model\b|\bi(?:['’]m| am) (?:sorry|afraid|unable|not able)[^.]{0,30}\b(?:can(?:no|['’])t|cannot|unable|assist|help|continue|write|fulfill|create)|\bi (?:cannot|can['’]t) (?:assist|fulfill|comply|continue (?:this|the|that)|write (?:this|that)|generate|create (?:this|that|content))|\bi can['’]?(?:no)?t help with that|\bmy (?:guidelines|training data|programming)|作为(?:一个|一名)?\s*(?:ai|人工智能|语言模型)|我(?:无法|不能)(?:提供|继续|协助|满足)|lo siento, (?:pero )?no puedo|als (?:ki|künstliche intelligenz|sprachmodell)|en tant qu['’](?:ia|intelligence)|user wants|the user asked",
    )
});

/// A sentence without the label that stands before it, or what a model says as it begins anew.
pub(super) fn unlabelled(sentence: &str) -> String {
    let sentence = PREAMBLE.replace(sentence, "");
    LABEL.replace(&sentence, "").trim().to_owned()
}

pub(super) fn is_afterword(line: &str) -> bool {
    AFTERWORD.is_match(line)
}

pub(super) fn is_refusal(text: &str) -> bool {
    REFUSAL.is_match(text)
}

/// The prose in an answer: without thoughts, code, JSON, markup, labels, and what is said about the
/// text; one paragraph.
pub(super) fn prose(answer: &str) -> String {
    let mut parts: Vec<String> = Vec::new();
    for line in lines(answer) {
        let line = plain(&line);
        if line.is_empty() {
            continue;
        }
        if AFTERWORD.is_match(&line) {
            // What follows is talk too, unless the text has not begun.
            if parts.is_empty() {
                continue;
            }
            break;
        }
        // An afterword may follow in the same line.
        let kept: Vec<&str> = sentences(&line)
            .into_iter()
            .take_while(|sentence| !AFTERWORD.is_match(sentence))
            .collect();
        let kept = kept.into_iter().map(unlabelled);
        let kept: Vec<String> = kept.filter(|part| !part.is_empty()).collect();
        parts.push(joined(&kept));
    }
    unquoted(&tidy(&joined(&parts))).to_string()
}

/// The lines of an answer that may hold text: without a preamble, marks and headings.
pub(super) fn lines(answer: &str) -> Vec<String> {
    let answer = answer.replace("\r\n", "\n");
    let answer = from_json(&answer).unwrap_or(answer);
    let answer = match MARKS
        .find_iter(&answer)
        .find(|mark| !answer[..mark.start()].trim().is_empty() || mark.as_str() != "###")
    {
        Some(mark) => &answer[..mark.start()],
        None => &answer,
    };
    let mut lines: Vec<String> = Vec::new();
    for line in answer.trim().lines() {
        let line = line.trim();
        let rule = line.len() >= 3 && line.chars().all(|c| "-*_=~ ".contains(c));
        let fence = line.starts_with("```") || line.starts_with("~~~");
        let title = line.starts_with('#')
            || (line.len() > 4
                && line.starts_with("**")
                && line.ends_with("**")
                && !is_whole(line.trim_matches('*')));
        if rule || fence || title {
            continue;
        }
        let line = PREAMBLE.replace(line, "");
        let line = LABEL.replace(&line, "");
        if !line.trim().is_empty() {
            lines.push(line.trim().to_string());
        }
    }
    lines
}

/// A line without markup and characters that are none.
pub(super) fn plain(line: &str) -> String {
    static ITEM: LazyLock<Regex> =
        LazyLock::new(|| regex(r"^(?:[>•*+-]\s+|\(?[0-9]{1,3}[.)、:]\s+)+"));
    let line = ITEM.replace(line, "");
    let line = TAGS.replace_all(&line, "$1");
    let line = LABEL.replace(line.trim(), "");
    let is_markup = |c: &char| "*_#`|<>{}[]\\^~".contains(*c);
    let is_none = |c: &char| {
        let code = u32::from(*c);
        *c == char::REPLACEMENT_CHARACTER
            || (c.is_control() && !c.is_whitespace())
            || (0xfdd0..=0xfdef).contains(&code)
            || code & 0xfffe == 0xfffe
            || (0xe000..=0xf8ff).contains(&code)
            || matches!(code, 0x200b | 0x200e | 0x200f | 0x202a..=0x202e | 0x2060..=0x2069 | 0xfeff)
    };
    // What joins the parts of an emoji joins letters in other scripts.
    let mut pictured = false;
    let line: String = line
        .chars()
        .filter(|c| {
            pictured = is_pictograph(*c) || (pictured && *c == '\u{200d}');
            !pictured && !is_markup(c) && !is_none(c)
        })
        .collect();
    tidy(&line)
}

/// Whether a character is an emoji, a part of one, or another little picture.
fn is_pictograph(c: char) -> bool {
    matches!(u32::from(c), 0x2600..=0x27bf | 0x2b50..=0x2b55 | 0xfe0e..=0xfe0f | 0x1f000..=0x1faff | 0x20e3)
}

/// Single spaces, and none before a comma that lost its word.
fn tidy(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    text.replace(" ,", ",").replace(" .", ".")
}

/// A text without the quotation marks that are around the whole.
pub(super) fn unquoted(text: &str) -> &str {
    for (open, close) in [
        ('"', '"'),
        ('“', '”'),
        ('«', '»'),
        ('「', '」'),
        ('\'', '\''),
    ] {
        let inner = text
            .strip_prefix(open)
            .and_then(|rest| rest.strip_suffix(close));
        if let Some(inner) = inner
            && !inner.contains([open, close])
        {
            return inner.trim();
        }
    }
    // One alone was around something that is gone.
    match text.matches('"').count() {
        1 => text.trim_matches('"').trim(),
        _ => text,
    }
}

/// The text in an answer that is JSON, whole or cut off.
fn from_json(answer: &str) -> Option<String> {
    static FIELD: LazyLock<Regex> = LazyLock::new(|| {
        regex(
            r#""(?:text|story|panel|content|continuation|sentence|caption|answer|response|output|next)[a-z_]*"\s*:\s*"((?:[^"\\]|\\.)*)"#,
        )
    });
    let body = answer.trim();
    let body = body
        .strip_prefix("```json")
        .or_else(|| body.strip_prefix("```"))
        .unwrap_or(body);
    let body = body.trim().trim_end_matches("```").trim();
    if !body.starts_with(['{', '[']) {
        return None;
    }
    if let Ok(value) = serde_json::from_str::<Value>(body) {
        return Some(longest(&value).unwrap_or_default());
    }
    let found = FIELD.captures(body)?;
    let inner = found.get(1)?.as_str();
    // What was cut off may end in half an escape.
    let whole = serde_json::from_str(&format!("\"{inner}\""));
    Some(whole.unwrap_or_else(|_| inner.replace("\\n", "\n").replace('\\', "")))
}

/// The longest text in JSON.
fn longest(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(values) => values.iter().filter_map(longest).max_by_key(String::len),
        Value::Object(values) => values.values().filter_map(longest).max_by_key(String::len),
        _ => None,
    }
}

/// Whether so much of an answer is enough for a text.
pub(super) fn is_enough(answer: &str, wanted: &TextConstraints) -> bool {
    let text = prose(answer);
    // One sentence more shows that the last wanted one is whole; as many again may be talk. One that
    // has only repeated itself so far goes on to do so.
    let found = sentences(&text).len();
    found > 2 * wanted.sentences + 1
        || words(&text) > 2 * wanted.words
        || circles(&text)
        || answer.chars().count() > 40 * wanted.words
        || (found > wanted.sentences
            && matches!(
                clean(answer, false, wanted),
                Ok(_) | Err(AnswerFlaw::Repeats)
            ))
}

/// What of an unfinished answer can be shown: whole words of its text.
pub(super) fn preview(answer: &str, most: usize) -> String {
    static HEAD: LazyLock<Regex> = LazyLock::new(|| {
        regex(
            r"(?i)^\W{0,4}(?:sure|certainly|of course|absolutely|okay|ok|alright|great|got|here|below|panel|scene|story|text|next|the next|note|claro|por|aquí|natürlich|hier|bien|voici|certo|ecco|好|当|以下|这|第|もち|はい)|^\s*[{\[`#*<>]",
        )
    });
    // What may be talk before the text is waited for.
    if HEAD.is_match(answer) && sentences(answer).len() < 2 {
        return String::new();
    }
    let text = prose(answer);
    let all = sentences(&text);
    let shown = joined(
        &all.iter()
            .take(most)
            .map(std::string::ToString::to_string)
            .collect::<Vec<_>>(),
    );
    if all.len() > most {
        return shown;
    }
    let end = shown
        .char_indices()
        .rev()
        .find(|(_, c)| c.is_whitespace() || is_spaceless(*c));
    end.map_or_else(String::new, |(at, c)| {
        shown[..at + if c.is_whitespace() { 0 } else { c.len_utf8() }].to_string()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENGLISH: &str = "A fox found a glowing lantern in the snowy forest and carried it home to show it to her friend the owl.";

    fn cleaned(answer: &str) -> Result<String, AnswerFlaw> {
        let known: Vec<SentenceKey> = sentences(ENGLISH)
            .into_iter()
            .filter_map(SentenceKey::of)
            .collect();
        let wanted = TextConstraints {
            known: &known,
            language: TextLanguage::of(ENGLISH),
            any_language: false,
            sentences: 2,
            words: 60,
        };
        clean(answer, true, &wanted)
    }

    #[test]
    fn what_a_model_puts_around_a_text_is_taken_away() {
        let wanted = "The owl opened one eye.";
        for answer in [
            "The owl opened one eye.",
            "  The owl opened one eye",
            "Sure! Here is the next panel:\n\nThe owl opened one eye.",
            "Sure, here's the next panel: The owl opened one eye.",
            "**Panel 2:** The owl opened one eye.",
            "# The Owl\n\nThe *owl* opened **one** eye.",
            "Panel 3: \"The owl opened one eye.\"",
            "```json\n{\"panel\": 3, \"text\": \"The owl opened one eye.\"}\n```",
            "{\"text\": \"The owl opened one eye.\", \"mood",
            "- The owl opened one eye.\n\nLet me know if you would like another one!",
            "The owl opened one eye.\n\n(Note: I kept it short.)",
            "The owl opened one eye.<|im_end|>\n<|im_start|>user\nMore",
            "The owl opened one eye. ### Human: go on",
            "<p>The owl opened one eye.</p>",
            "The owl opened one eye.[IMG0][IMG1]",
            "The owl\u{fffd} opened one\u{200b} eye.",
            "> The owl opened one eye.\n---\n",
            "The owl opened one eye. The owl opened one eye!",
            "A fox found a glowing lantern in the snowy forest and carried it home to show it to her friend the owl. The owl opened one eye.",
            "The owl opened one eye.\nUser: and then?",
            "The story goes on. The owl opened one eye.",
            "The second panel: \"The owl opened one eye.\"",
            "The owl opened one eye. This is the end of the story.",
            "第3格：The owl opened one eye.",
            "The story goes on. The owl opened one eye.",
        ] {
            assert_eq!(cleaned(answer).as_deref(), Ok(wanted), "{answer}");
        }
    }

    #[test]
    fn what_is_no_text_is_a_flaw() {
        for (answer, flaw) in [
            ("", AnswerFlaw::Empty),
            ("###", AnswerFlaw::Empty),
            ("...", AnswerFlaw::Empty),
            ("The story continues in a chapter.", AnswerFlaw::Refusal),
            ("This is the last panel of the story.", AnswerFlaw::Refusal),
            ("I'll write the next panel for you.", AnswerFlaw::Refusal),
            (
                "The second sentence adds a twist to the story's tone.",
                AnswerFlaw::Refusal,
            ),
            (
                "As an AI language model, I cannot write that.",
                AnswerFlaw::Refusal,
            ),
            (
                "I'm sorry, but I can't help with that.",
                AnswerFlaw::Refusal,
            ),
            (ENGLISH, AnswerFlaw::Repeats),
            ("猫头鹰睁开了一只眼睛。", AnswerFlaw::Language),
            (
                "and then and then and then and then and then and then and then and then",
                AnswerFlaw::Repeats,
            ),
        ] {
            assert_eq!(cleaned(answer), Err(flaw), "{answer}");
        }
        let wanted = TextConstraints {
            known: &[],
            language: None,
            any_language: false,
            sentences: 1,
            words: 18,
        };
        assert_eq!(
            clean("The owl opened one", false, &wanted),
            Err(AnswerFlaw::Unfinished)
        );
        let long = "and it went on over hill and dale and moor and fen and field and ford and stream and stone and so on and on";
        assert_eq!(clean(long, true, &wanted), Err(AnswerFlaw::TooLong));
        let cut = "The owl opened one eye, looked at the fox that stood there in the snow with the lantern, and then it slept again.";
        assert_eq!(
            clean(cut, true, &wanted).as_deref(),
            Ok(
                "The owl opened one eye, looked at the fox that stood there in the snow with the lantern."
            )
        );
    }

    #[test]
    fn a_preview_grows_and_holds_no_talk() {
        let answer = "Sure, here is it: The owl opened one eye. It saw the fox. It slept.";
        let mut last = String::new();
        for (at, c) in answer.char_indices() {
            let now = preview(&answer[..at + c.len_utf8()], 2);
            assert!(
                now.starts_with(&last) || last.is_empty(),
                "{last:?} {now:?}"
            );
            assert!(!now.contains("here is it"), "{now}");
            last = now;
        }
        assert_eq!(last, "The owl opened one eye. It saw the fox.");
        assert_eq!(preview("{\"text\": \"The", 2), "");
    }
}
