//! Writing the next page of a picture book, one or two short sentences at a time.

use std::collections::HashSet;
use std::ops::ControlFlow;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::sampling::{draw, penalise};
use super::{LanguageModel, LlmError, Sampling, Tokenizer};

/// Pages that have fewer words get a second sentence.
const FEW_WORDS: usize = 8;
/// From here on the end of the sentence is made likelier, word by word.
const MANY_WORDS: usize = 14;
/// A sentence that is longer has lost its way.
const TOO_MANY_WORDS: usize = 30;
/// Tokens in a row that are never written twice in a story.
const REPEATED: usize = 5;
/// Pages that are tried before giving up.
const ATTEMPTS: u64 = 8;
/// Tokens of the story that the prompt has room for; its first page and its last ones stay.
const STORY_TOKENS: usize = 1024;

/// Shows the model what pages are like; made for this program.
const EXAMPLES: &str = include_str!("examples.txt");

/// Words of talk about the text instead of the story; no page has them.
const META: [&str; 26] = [
    "story",
    "stories",
    "tale",
    "sentence",
    "sentences",
    "page",
    "pages",
    "chapter",
    "book",
    "books",
    "paragraph",
    "title",
    "reader",
    "readers",
    "author",
    "moral",
    "lesson",
    "scene",
    "panel",
    "illustration",
    "prompt",
    "assistant",
    "example",
    "answer",
    "question",
    "text",
];

/// Which tokens may be written where.
pub(super) struct Rules {
    /// Tokens of words, spaces and `, . ! ? ' -` only.
    clean: Vec<bool>,
    /// Of these, those that begin a sentence.
    opening: Vec<bool>,
    /// Of these, those that end a sentence: `.`, `!` or `?` and nothing else.
    closing: Vec<u32>,
}

impl Rules {
    pub(super) fn new(tokenizer: &Tokenizer) -> Rules {
        let texts = tokenizer.texts();
        let clean = |text: &Option<String>| text.as_ref().is_some_and(|text| is_clean(text));
        let opening = |text: &Option<String>| {
            text.as_ref().is_some_and(|text| {
                is_clean(text)
                    && text.starts_with(|c: char| c.is_ascii_uppercase())
                    && text.chars().skip(1).all(|c| c.is_ascii_lowercase())
            })
        };
        let closing = |text: &Option<String>| matches!(text.as_deref(), Some("." | "!" | "?"));
        Rules {
            clean: texts.iter().map(clean).collect(),
            opening: texts.iter().map(opening).collect(),
            closing: (0u32..)
                .zip(texts)
                .filter(|(_, text)| closing(text))
                .map(|(id, _)| id)
                .collect(),
        }
    }
}

fn is_clean(text: &str) -> bool {
    let word = text.trim_start();
    let letters = word.chars().all(|c| c.is_ascii_alphabetic());
    let spaces = text.len() - word.len();
    let mark = matches!(
        word,
        "," | "." | "!" | "?" | "'" | "-" | "'s" | "'t" | "'re" | "'ll" | "'d" | "'ve"
    );
    let shouting = letters && word.len() > 1 && word.chars().all(|c| c.is_ascii_uppercase());
    !word.is_empty()
        && ((letters && spaces <= 1 && !shouting) || (mark && spaces == 0))
        && !META.contains(&word.to_ascii_lowercase().as_str())
}

impl LanguageModel {
    /// Continues a picture-book story, whose pages so far are `context`, by one page: one or two
    /// short, whole sentences.
    ///
    /// `sink` gets the text piece by piece; when it breaks, the result is `None`, within one
    /// token. It is also called with empty pieces while the model reads, and when it starts the
    /// page anew because a sentence came out badly: the text returned is then not the pieces but
    /// replaces them. The same context and sampling give the same text, whatever was written
    /// before.
    ///
    /// # Errors
    /// When no attempt gave a clean page, or the story has a page too long to be read.
    pub fn continue_story(
        &mut self,
        context: &[String],
        sampling: &Sampling,
        sink: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Option<String>, LlmError> {
        let story = Story::new(&self.tokenizer, context);
        for attempt in 0..ATTEMPTS {
            let mut rng = ChaCha8Rng::seed_from_u64(sampling.seed);
            rng.set_stream(attempt);
            let mut quiet = |_: &str| sink("");
            let written = if attempt == 0 {
                self.write_page(&story, sampling, &mut rng, sink)?
            } else {
                self.write_page(&story, &warmer(sampling), &mut rng, &mut quiet)?
            };
            match written {
                Written::Page(text) => return Ok(Some(text)),
                Written::Stopped => return Ok(None),
                Written::Bad => {}
            }
        }
        Err(LlmError::Speechless)
    }

    fn write_page(
        &mut self,
        story: &Story,
        sampling: &Sampling,
        rng: &mut ChaCha8Rng,
        sink: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Written, LlmError> {
        let mut text = story.prompt.clone();
        let mut page = String::new();
        let mut sentence = String::new();
        let mut logits = Vec::new();
        loop {
            if self.read(&text, &mut logits, &mut || sink(""))?.is_none() {
                return Ok(Written::Stopped);
            }
            let pages = &text[story.start..];
            let recent = &pages[pages.len().saturating_sub(64)..];
            let used: HashSet<u32> = recent
                .iter()
                .copied()
                .filter(|id| self.writer.clean[*id as usize])
                .collect();
            penalise(&mut logits, used, sampling.repetition_penalty);
            self.restrict(&mut logits, pages, &page, &sentence);
            let id = draw(&logits, sampling, rng);
            // Everything is forbidden only when the rules contradict each other here.
            let Some(piece) = self.tokenizer.texts()[id as usize]
                .as_deref()
                .filter(|_| logits[id as usize] > f32::NEG_INFINITY)
            else {
                return Ok(Written::Bad);
            };
            text.push(id);
            page.push_str(piece);
            sentence.push_str(piece);
            if sink(piece).is_break() {
                return Ok(Written::Stopped);
            }
            if self.writer.closing.contains(&id) {
                if story.has(&sentence) {
                    return Ok(Written::Bad);
                }
                if words(&page) >= FEW_WORDS {
                    return Ok(Written::Page(page));
                }
                sentence.clear();
            } else if words(&sentence) > TOO_MANY_WORDS {
                return Ok(Written::Bad);
            }
        }
    }

    /// Forbids every token that must not come next.
    fn restrict(&self, logits: &mut [f32], pages: &[u32], page: &str, sentence: &str) {
        let rules = &self.writer;
        let texts = self.tokenizer.texts();
        let allowed = if page.is_empty() {
            &rules.opening
        } else {
            &rules.clean
        };
        for (logit, allowed) in logits.iter_mut().zip(allowed) {
            if !allowed {
                *logit = f32::NEG_INFINITY;
            }
        }
        let count = words(sentence);
        let mut forbid = |id: u32| logits[id as usize] = f32::NEG_INFINITY;
        if pages.len() >= REPEATED {
            let last = &pages[pages.len() + 1 - REPEATED..];
            for seen in pages.windows(REPEATED) {
                if seen[..REPEATED - 1] == *last {
                    forbid(seen[REPEATED - 1]);
                }
            }
        }
        if count < 3 {
            rules.closing.iter().copied().for_each(&mut forbid);
        }
        if sentence.is_empty() && !page.is_empty() {
            for (id, text) in (0u32..).zip(texts) {
                let opens = text.as_deref().is_some_and(|text| {
                    text.starts_with(' ') && text[1..].starts_with(|c: char| c.is_ascii_uppercase())
                });
                if !opens {
                    forbid(id);
                }
            }
        }
        if count > MANY_WORDS {
            for id in &rules.closing {
                logits[*id as usize] += 0.4 * (count - MANY_WORDS) as f32;
            }
        }
    }
}

enum Written {
    Page(String),
    Stopped,
    Bad,
}

/// A little freer, so that another attempt differs even when the model is sure.
fn warmer(sampling: &Sampling) -> Sampling {
    Sampling {
        temperature: sampling.temperature.max(0.5) + 0.1,
        ..*sampling
    }
}

/// The pages so far, as the model reads them.
struct Story {
    prompt: Vec<u32>,
    /// Where the story's own pages begin in `prompt`.
    start: usize,
    sentences: HashSet<String>,
}

impl Story {
    fn new(tokenizer: &Tokenizer, context: &[String]) -> Story {
        let pages: Vec<String> = context
            .iter()
            .map(|page| page.split_whitespace().collect::<Vec<_>>().join(" "))
            .filter(|page| !page.is_empty())
            .collect();
        let mut prompt = tokenizer.encode(EXAMPLES);
        let start = prompt.len();
        let line = |page: &String| tokenizer.encode(&format!("{page}\n"));
        let mut lines: Vec<Vec<u32>> = pages.iter().map(line).collect();
        while lines.len() > 2 && lines.iter().map(Vec::len).sum::<usize>() > STORY_TOKENS {
            lines.remove(1);
        }
        prompt.extend(lines.into_iter().flatten());
        let sentences = pages
            .iter()
            .flat_map(|page| page.split_inclusive(['.', '!', '?']))
            .map(plain)
            .collect();
        Story {
            prompt,
            start,
            sentences,
        }
    }

    fn has(&self, sentence: &str) -> bool {
        self.sentences.contains(&plain(sentence))
    }
}

/// A sentence's words, so that punctuation and case do not hide that it is the same.
fn plain(sentence: &str) -> String {
    let words = sentence.split(|c: char| !c.is_alphanumeric());
    let words: Vec<String> = words
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    words.join(" ")
}

fn words(text: &str) -> usize {
    text.split_whitespace().count()
}
