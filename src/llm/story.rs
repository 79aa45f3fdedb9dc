//! Writing the next page of a picture book: one sentence that says who does what.

use std::collections::HashSet;
use std::ops::ControlFlow;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::sampling::{draw, log_probability, penalise};
use super::{CausalLm, LanguageModel, LlmError, Sampling, Tokenizer};

/// Fewest words of a page.
const FEW_WORDS: usize = 6;
/// From here on the end of the sentence is made likelier, word by word.
const MANY_WORDS: usize = 14;
/// A page that is longer has lost its way.
const TOO_MANY_WORDS: usize = 30;
/// With more commas a sentence is a list.
const MOST_COMMAS: usize = 2;
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

/// Tokens that are left for the page to be written.
const NEW_PAGE_TOKENS: usize = 256;

/// Stories that show the model what pages are like, a page a line; made for this program.
const EXAMPLES: &str = include_str!("examples.txt");
const SYSTEM: &str = "You write picture books for small children. Every page is one short sentence that says who does what, and where.";
const REQUEST: &str = "Write a picture book that begins: ";

/// Words that no page has: talk about the text instead of the story, and of a speaker, since a page
/// without quotation marks tells what is said and does not speak.
const UNWRITTEN: &str = "story stories tale tales sentence sentences page pages chapter paragraph \
    title reader readers author moral lesson scene panel illustration prompt assistant example \
    answer answers question questions text i me my mine myself we us our ours you your yours \
    say says said saying tell tells told ask asks asked explain explains reply replies replied \
    yes no oh hello sex sexy naked kill kills killed blood dead die died dies gun drunk love";

/// Words that end no sentence.
const LEADING: &str = "a an the and or but of in on at to with for from by into his her its their \
    is are was were that who as very when";

/// Words that begin no page, since a page names who it is about; its picture is drawn from it alone.
const NAMELESS: &str = "he she it they his her its their this that these those there here what who";

/// Which tokens may be written where.
pub(super) struct TokenRules {
    /// Tokens of words, spaces and `, . ! ' -` only.
    clean: Vec<bool>,
    /// Of these, those that begin a word after a space.
    begins_word: Vec<bool>,
    /// Of these, those that begin the page.
    opening: Vec<bool>,
    /// Of these, forms of *to be*.
    being: Vec<u32>,
    commas: Vec<u32>,
    /// Of these, those that end a sentence: `.` or `!` and nothing else.
    closing: Vec<u32>,
}

impl TokenRules {
    pub(super) fn new(tokenizer: &Tokenizer) -> TokenRules {
        let texts = tokenizer.texts();
        let clean = |text: &Option<String>| text.as_ref().is_some_and(|text| is_clean(text));
        let opening = |text: &Option<String>| {
            text.as_ref().is_some_and(|text| {
                is_clean(text)
                    && text.starts_with(|c: char| c.is_ascii_uppercase())
                    && text.chars().skip(1).all(|c| c.is_ascii_lowercase())
                    && is_written(text)
                    && !lists(NAMELESS, text)
            })
        };
        let begins_word = |text: &Option<String>| {
            clean(text) && text.as_ref().is_some_and(|text| text.starts_with(' '))
        };
        let ids = |wanted: &[&str]| -> Vec<u32> {
            (0u32..)
                .zip(texts)
                .filter(|(_, text)| text.as_deref().is_some_and(|text| wanted.contains(&text)))
                .map(|(id, _)| id)
                .collect()
        };
        TokenRules {
            clean: texts.iter().map(clean).collect(),
            begins_word: texts.iter().map(begins_word).collect(),
            opening: texts.iter().map(opening).collect(),
            being: ids(&[" is", " are", " was", " were"]),
            commas: ids(&[","]),
            closing: ids(&[".", "!"]),
        }
    }
}

/// Whether `word`, in any case, is one of `words`.
fn lists(words: &str, word: &str) -> bool {
    words
        .split_whitespace()
        .any(|listed| listed.eq_ignore_ascii_case(word))
}

/// Whether a word with its punctuation may stand on a page.
fn is_written(word: &str) -> bool {
    !lists(
        UNWRITTEN,
        word.trim_matches(|c: char| !c.is_ascii_alphabetic()),
    )
}

/// Whether a token may stand on a page.
fn is_clean(text: &str) -> bool {
    let word = text.trim_start();
    let spaces = text.len() - word.len();
    if !word.is_empty() && word.chars().all(|c| c.is_ascii_alphabetic()) {
        let shouted = word.len() > 1 && word.chars().all(|c| c.is_ascii_uppercase());
        // Without the space it may be a part of another word, such as the end of *piano*.
        return !shouted && spaces <= 1 && (spaces == 0 || is_written(word));
    }
    const MARKS: &str = ", . ! ' - 's 't 're 'll 'd 've";
    spaces == 0 && MARKS.split(' ').any(|mark| mark == word)
}

impl LanguageModel {
    /// Reads what comes before the story in every prompt, so that the first page does not wait
    /// for it.
    ///
    /// # Errors
    /// When the model's context is too short for it.
    pub fn prepare(&mut self) -> Result<(), LlmError> {
        let text = self.tokenizer.encode_prompt(&instructions());
        let go_on = &mut || ControlFlow::Continue(());
        self.lm.read(&text, &mut Vec::new(), go_on).map(|_| ())
    }

    /// Continues a picture-book story, whose pages so far are `context`, by one page: a short, whole
    /// sentence of 6 to 30 words.
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
        let limit = self.lm.context_length().saturating_sub(NEW_PAGE_TOKENS);
        let story = StoryPrompt::new(&self.tokenizer, context, limit);
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
                WrittenPage::Page(text) => return Ok(Some(text)),
                WrittenPage::Stopped => return Ok(None),
                WrittenPage::Bad => {}
            }
        }
        Err(LlmError::Speechless)
    }

    /// Natural log probabilities of the tokens of `page` when it comes next after `context`, as the
    /// model gives them, without the rules that pages keep.
    ///
    /// # Errors
    /// When the story is too long.
    pub fn log_probabilities(
        &mut self,
        context: &[String],
        page: &str,
    ) -> Result<Vec<f64>, LlmError> {
        let ids = self.tokenizer.encode(page.trim());
        let limit = self.lm.context_length().saturating_sub(ids.len());
        let mut text = StoryPrompt::new(&self.tokenizer, context, limit).prompt;
        let mut logits = Vec::new();
        let mut all = Vec::with_capacity(ids.len());
        for id in ids {
            let go_on = &mut || ControlFlow::Continue(());
            self.lm.read(&text, &mut logits, go_on)?;
            all.push(log_probability(&logits, id));
            text.push(id);
        }
        Ok(all)
    }

    fn write_page(
        &mut self,
        story: &StoryPrompt,
        sampling: &Sampling,
        rng: &mut ChaCha8Rng,
        sink: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<WrittenPage, LlmError> {
        let mut text = story.prompt.clone();
        let mut page = String::new();
        let mut logits = Vec::new();
        loop {
            if self
                .lm
                .read(&text, &mut logits, &mut || sink(""))?
                .is_none()
            {
                return Ok(WrittenPage::Stopped);
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
            self.restrict(&mut logits, pages, &page);
            let id = draw(&logits, sampling, rng);
            // Everything is forbidden only when the rules contradict each other here.
            let Some(piece) = self.tokenizer.texts()[id as usize]
                .as_deref()
                .filter(|_| logits[id as usize] > f32::NEG_INFINITY)
            else {
                return Ok(WrittenPage::Bad);
            };
            text.push(id);
            page.push_str(piece);
            if sink(piece).is_break() {
                return Ok(WrittenPage::Stopped);
            }
            if self.writer.closing.contains(&id) {
                let good = !story.has(&page) && page.split(' ').all(is_written);
                return Ok(if good {
                    WrittenPage::Page(page)
                } else {
                    WrittenPage::Bad
                });
            }
            if words(&page) > TOO_MANY_WORDS {
                return Ok(WrittenPage::Bad);
            }
        }
    }

    /// Forbids every token that must not come next.
    fn restrict(&self, logits: &mut [f32], pages: &[u32], page: &str) {
        let rules = &self.writer;
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
        let count = words(page);
        let mut forbid = |id: u32| logits[id as usize] = f32::NEG_INFINITY;
        if pages.len() >= REPEATED {
            let last = &pages[pages.len() + 1 - REPEATED..];
            for seen in pages.windows(REPEATED) {
                if seen[..REPEATED - 1] == *last && rules.begins_word[seen[REPEATED - 1] as usize] {
                    forbid(seen[REPEATED - 1]);
                }
            }
        }
        let last_word = page.rsplit(' ').next().unwrap_or_default();
        if count < FEW_WORDS || page.ends_with(',') || lists(LEADING, last_word) {
            rules.closing.iter().copied().for_each(&mut forbid);
        }
        if page.matches(',').count() >= MOST_COMMAS {
            rules.commas.iter().copied().for_each(&mut forbid);
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

enum WrittenPage {
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
struct StoryPrompt {
    prompt: Vec<u32>,
    /// Where the story's own pages begin in `prompt`.
    start: usize,
    sentences: HashSet<String>,
}

impl StoryPrompt {
    /// The pages in a prompt of at most `limit` tokens: of a long story fewer are read.
    fn new(tokenizer: &Tokenizer, context: &[String], limit: usize) -> StoryPrompt {
        let story = StoryPrompt::within(tokenizer, context, STORY_TOKENS);
        match story.prompt.len().saturating_sub(limit) {
            0 => story,
            over => {
                let room = (story.prompt.len() - story.start).saturating_sub(over);
                StoryPrompt::within(tokenizer, context, room)
            }
        }
    }

    /// With at most `room` tokens of pages, unless the first and the last alone are longer.
    fn within(tokenizer: &Tokenizer, context: &[String], room: usize) -> StoryPrompt {
        let pages: Vec<String> = context
            .iter()
            .map(|page| page.split_whitespace().collect::<Vec<_>>().join(" "))
            .filter(|page| !page.is_empty())
            .collect();
        // The opening is repeated by the model's own turn, as in the examples.
        let opening = pages.first().map_or("Once upon a time.", String::as_str);
        let mut prompt = tokenizer.encode_prompt(&instructions());
        prompt.extend(tokenizer.encode_prompt("<|im_start|>user\n"));
        // Encoded apart, so that nothing an author types is a control token.
        prompt.extend(tokenizer.encode(REQUEST.trim_end()));
        let opening = tokenizer.encode(&format!(" {opening}"));
        prompt.extend(opening.into_iter().take(PAGE_TOKENS));
        prompt.extend(tokenizer.encode_prompt("<|im_end|>\n<|im_start|>assistant\n"));
        let start = prompt.len();
        let line = |page: &String| {
            let mut ids = tokenizer.encode(&format!("{page}\n"));
            ids.split_off(ids.len().saturating_sub(PAGE_TOKENS))
        };
        let mut lines: Vec<Vec<u32>> = pages.iter().map(line).collect();
        while lines.len() > 2 && lines.iter().map(Vec::len).sum::<usize>() > room {
            lines.remove(1);
        }
        prompt.extend(lines.into_iter().flatten());
        let sentences = pages
            .iter()
            .flat_map(|page| page.split_inclusive(['.', '!', '?']))
            .map(plain)
            .collect();
        StoryPrompt {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_with_markup_digits_quotes_or_talk_about_the_text_are_not_written() {
        for token in [
            "\"", " \"", ".\"", "<", "*", " *", "#", "1", " 2", "\n", ":", " -", "(", " I",
            " story", " you", " THE", "!!", "?", "...", "", " ", "  the", "_",
        ] {
            assert!(!is_clean(token), "{token:?}");
        }
        for token in [
            " fox", "The", "ox", "no", ",", ".", "!", "'s", "-", " a", " A",
        ] {
            assert!(is_clean(token), "{token:?}");
        }
    }

    #[test]
    fn a_sentence_is_the_same_whatever_its_case_and_punctuation() {
        assert_eq!(
            plain("The fox, at last, sleeps."),
            plain("the fox at last sleeps!")
        );
        assert_ne!(plain("The fox sleeps."), plain("The owl sleeps."));
    }

    #[test]
    fn every_example_keeps_the_rules_it_shows() {
        let stories: Vec<&str> = EXAMPLES.trim().split("\n\n").collect();
        assert!(stories.len() >= 3);
        for page in stories.iter().flat_map(|story| story.lines().skip(1)) {
            assert!(
                (FEW_WORDS..=TOO_MANY_WORDS).contains(&words(page)),
                "{page}"
            );
            assert!(page.split(' ').all(is_written), "{page}");
            assert!(
                page.ends_with('.') && page.matches(',').count() <= MOST_COMMAS,
                "{page}"
            );
            let first = page.split(' ').next().unwrap();
            assert!(!lists(NAMELESS, first), "{page}");
        }
    }
}
