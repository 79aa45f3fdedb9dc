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
/// Taken from the logits of *is* and *was* early in a sentence.
const STATIC_PENALTY: f32 = 2.0;
/// Tokens in a row that are never written twice in a story.
const REPEATED: usize = 5;
/// Pages that are tried before giving up.
const ATTEMPTS: u64 = 8;
/// Tokens of one page that the prompt has room for: of the opening the first, else the last.
const PAGE_TOKENS: usize = 160;
/// Tokens of the story that the prompt has room for; its first page and its last ones stay.
const STORY_TOKENS: usize = 1024;

/// Stories that show the model what pages are like, a page a line; made for this program.
const EXAMPLES: &str = include_str!("examples.txt");
const SYSTEM: &str = "You write picture books for small children. Every page is one short sentence that says who does what, and where.";
const REQUEST: &str = "Write a picture book that begins: ";

/// Words that no page has: talk about the text instead of the story, and of a speaker, since a page
/// without quotation marks tells what is said and does not speak.
const UNWRITTEN: [&str; 66] = [
    "story",
    "stories",
    "tale",
    "tales",
    "sentence",
    "sentences",
    "page",
    "pages",
    "chapter",
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
    "answers",
    "question",
    "text",
    "tell",
    "tells",
    "told",
    "explains",
    "i",
    "me",
    "my",
    "mine",
    "myself",
    "we",
    "us",
    "our",
    "ours",
    "you",
    "your",
    "yours",
    "say",
    "says",
    "said",
    "saying",
    "reply",
    "replies",
    "replied",
    "yes",
    "no",
    "oh",
    "hello",
    "sex",
    "sexy",
    "naked",
    "kill",
    "kills",
    "killed",
    "blood",
    "dead",
    "die",
    "died",
    "dies",
    "gun",
    "drunk",
];

/// Words that end no sentence.
const LEADING: [&str; 29] = [
    "a", "an", "the", "and", "or", "but", "of", "in", "on", "at", "to", "with", "for", "from",
    "by", "into", "his", "her", "its", "their", "is", "are", "was", "were", "that", "who", "as",
    "very", "when",
];

/// Words that begin no page, since a page names who it is about; its picture is drawn from it alone.
const NAMELESS: [&str; 16] = [
    "he", "she", "it", "they", "his", "her", "its", "their", "this", "that", "these", "those",
    "there", "here", "what", "who",
];

/// Which tokens may be written where.
pub(super) struct Rules {
    /// Tokens of words, spaces and `, . ! ? ' -` only.
    clean: Vec<bool>,
    /// Of these, those that begin a word after a space.
    begins_word: Vec<bool>,
    /// Of these, those that begin the page.
    opening: Vec<bool>,
    /// Of these, forms of *to be*.
    being: Vec<u32>,
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
                    && !NAMELESS.contains(&text.to_ascii_lowercase().as_str())
            })
        };
        let closing = |text: &Option<String>| matches!(text.as_deref(), Some("." | "!" | "?"));
        Rules {
            clean: texts.iter().map(clean).collect(),
            begins_word: texts
                .iter()
                .map(|text| clean(text) && text.as_ref().is_some_and(|text| text.starts_with(' ')))
                .collect(),
            opening: texts.iter().map(opening).collect(),
            being: (0u32..)
                .zip(texts)
                .filter(|(_, text)| {
                    matches!(text.as_deref(), Some(" is" | " are" | " was" | " were"))
                })
                .map(|(id, _)| id)
                .collect(),
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
        && !UNWRITTEN.contains(&word.to_ascii_lowercase().as_str())
}

impl LanguageModel {
    /// Reads what comes before the story in every prompt, so that the first page does not wait
    /// for it.
    ///
    /// # Errors
    /// When the model's context is too short for it.
    pub fn prepare(&mut self) -> Result<(), LlmError> {
        let text = self.tokenizer.encode_chat(&instructions());
        let go_on = &mut || ControlFlow::Continue(());
        self.read(&text, &mut Vec::new(), go_on).map(|_| ())
    }

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
    /// When no attempt gave a clean page.
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
                self.write_page(&story, &warmer(sampling, attempt), &mut rng, &mut quiet)?
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
            // Only tokens that begin a word: without one of its later parts a word is misspelt.
            let used: HashSet<u32> = recent
                .iter()
                .copied()
                .filter(|id| self.writer.begins_word[*id as usize])
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
        let unfinished = sentence
            .rsplit(' ')
            .next()
            .is_some_and(|word| LEADING.contains(&word.to_ascii_lowercase().as_str()));
        if count < 3 || unfinished || sentence.ends_with(',') {
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
        if count < FEW_WORDS {
            // A page that says what somebody does has a picture; one that says what is, seldom.
            for id in &rules.being {
                logits[*id as usize] -= STATIC_PENALTY;
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

/// Freer with each attempt, so that the next differs even when the model is sure.
fn warmer(sampling: &Sampling, attempt: u64) -> Sampling {
    Sampling {
        temperature: sampling.temperature.max(0.5) + 0.05 * attempt as f32,
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
        // The opening is repeated by the model's own turn, as in the examples.
        let opening = pages.first().map_or("Once upon a time.", String::as_str);
        let mut prompt = tokenizer.encode_chat(&instructions());
        prompt.extend(tokenizer.encode_chat("<|im_start|>user\n"));
        // Encoded apart, so that nothing an author types is a control token.
        prompt.extend(tokenizer.encode(REQUEST.trim_end()));
        let opening = tokenizer.encode(&format!(" {opening}"));
        prompt.extend(opening.into_iter().take(PAGE_TOKENS));
        prompt.extend(tokenizer.encode_chat("<|im_end|>\n<|im_start|>assistant\n"));
        let start = prompt.len();
        let line = |page: &String| {
            let mut ids = tokenizer.encode(&format!("{page}\n"));
            ids.split_off(ids.len().saturating_sub(PAGE_TOKENS))
        };
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

/// What comes before the story in every prompt.
fn instructions() -> String {
    let mut text = format!("<|im_start|>system\n{SYSTEM}<|im_end|>\n");
    for story in EXAMPLES.trim().split("\n\n") {
        let opening = story.lines().next().unwrap_or_default();
        text += &format!(
            "<|im_start|>user\n{REQUEST}{opening}<|im_end|>\n<|im_start|>assistant\n{story}<|im_end|>\n"
        );
    }
    text
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
