//! Instruct models as writers: whatever answers messages continues the story, rewrites, plans and
//! says what pictures show. A model without a chat template goes on with the story as with a text.

mod answer;
mod brief;
mod cast;
mod clean;
mod language;
mod parse;
mod prompts;
mod sentences;
mod talk;
mod window;

#[cfg(test)]
mod tests;

use std::ops::ControlFlow;
use std::sync::Arc;

use super::{MOST_PLANNED, TextSink, Writer, WriterDescription, WrittenText};
use crate::llm::chat::{ChatModel, ChatPrompt};
use crate::llm::{LlmError, Sampling};
use crate::pipeline::painter::PromptStyle;
use crate::pipeline::{ContextPanel, PipelineError, Request};
use crate::story::{Member, PanelId, Settings, TextLength};
use answer::{AnswerOutcome, AnswerPrompt, AnswerRequest, answer};
use clean::{AnswerFlaw, TextConstraints, clean, is_enough, limits, preview};
use language::TextLanguage;
use prompts::{PromptPanel, PromptStory};
use sentences::{SentenceKey, sentences, words};
use window::Summaries;

/// A little, so that a model does not circle; more of it breaks names, which a story repeats.
const REPETITION_PENALTY: f32 = 1.05;
/// Tokens of the prompt beside the story; rounded up, so that a longer direction doesn't move the
/// window.
const ORDER_TOKENS: usize = 512;
/// Tokens of what the author says of the whole story that have room in these; more of them count in
/// steps of as many.
const ABOUT_TOKENS: usize = 256;
/// Tokens that are left free for the longest order, so that the window is the same for all of them.
const RESERVE: (usize, usize) = (1024, 4096);
/// Tokens that a small model reads at most: it makes nothing of more, and the first panel after a long
/// story was opened would wait for all of them.
const SMALL_WINDOW: usize = 2048;
/// Fewest tokens of the story that must fit.
const LEAST_ROOM: usize = 96;

/// Writes with any model that answers messages.
pub struct InstructWriter {
    chat: Box<dyn ChatModel>,
    description: WriterDescription,
    summaries: Summaries,
}

/// What of a request the model is asked with.
struct RequestContext {
    story: PromptStory,
    language: Option<TextLanguage>,
    /// Every sentence that was told.
    prints: Vec<SentenceKey>,
}

impl InstructWriter {
    /// `description` is completed with what the model can do: follow instructions where it knows
    /// messages, and see.
    pub fn new(chat: Box<dyn ChatModel>, description: WriterDescription) -> InstructWriter {
        InstructWriter {
            description: WriterDescription {
                instructs: chat.knows_messages(),
                sees: chat.knows_messages() && chat.picture_tokens().is_some(),
                ..description
            },
            chat,
            summaries: Summaries::default(),
        }
    }

    /// The story as far as it can be read beside an answer of `max_tokens`; `None` when cancelled.
    fn read_context(
        &mut self,
        request: &Request,
        max_tokens: usize,
        sink: &mut TextSink,
    ) -> Result<Option<RequestContext>, PipelineError> {
        let picture_tokens = self.chat.picture_tokens().filter(|_| self.description.sees);
        if picture_tokens.is_some() {
            self.chat.keep_seen(Arc::new(request.images.clone()));
        }
        let panels = request.context.iter().map(|panel| {
            let picture = panel.picture.clone().filter(|_| picture_tokens.is_some());
            (panel.text.clone(), picture)
        });
        let says =
            |(text, picture): &(String, Option<_>)| !text.trim().is_empty() || picture.is_some();
        let (texts, pictures): (Vec<String>, Vec<Option<_>>) = panels.filter(says).unzip();
        let language = match (
            &request.text,
            texts.iter().all(|text| text.trim().is_empty()),
        ) {
            (Some(text), true) => TextLanguage::of(text),
            _ => TextLanguage::of_story(&texts),
        };
        let prints = texts
            .iter()
            .flat_map(|text| sentences(text))
            .filter_map(SentenceKey::of)
            .collect();
        let board = &request.board;
        let members = board.cast.iter().map(|member| {
            let names: Vec<&str> = member.names().collect();
            format!("{}: {}", names.join(", also "), member.description)
        });
        let mut story = PromptStory {
            language: language.and_then(TextLanguage::name),
            directions: vec![board.direction.clone(), request.settings.tone.clone()],
            cast: members.collect(),
            ..PromptStory::default()
        };
        let limit = match self.chat.is_small() {
            true => self.chat.context_length().min(SMALL_WINDOW),
            false => self.chat.context_length(),
        };
        let own = picture_tokens.filter(|_| request.picture.is_some());
        let about = self.chat.count(&story.about());
        let about = about
            .saturating_sub(ABOUT_TOKENS)
            .next_multiple_of(ABOUT_TOKENS);
        let used = max_tokens + ORDER_TOKENS + about + own.unwrap_or(0);
        let reserve = (limit / 4).clamp(RESERVE.0, RESERVE.1).min(limit / 2);
        let used = used.max(reserve);
        let room = limit.saturating_sub(used);
        if room < LEAST_ROOM {
            return Err(LlmError::TooLong {
                tokens: used + LEAST_ROOM,
                limit,
            }
            .into());
        }
        // Pictures have a window of their own, so that they push no texts out of theirs.
        let each = picture_tokens.unwrap_or(0);
        let counts: Vec<usize> = pictures
            .iter()
            .map(|shown| shown.iter().len() * each)
            .collect();
        let fits = each <= room / 2 && room / 2 >= LEAST_ROOM;
        let (shown_from, for_pictures) = match counts.iter().any(|count| *count > 0) && fits {
            true => {
                let starts = window::starts(&counts, room / 2);
                (starts.last().copied().unwrap_or(0), room / 2)
            }
            false => (pictures.len(), 0),
        };
        let room = room - for_pictures;
        let counts: Vec<usize> = texts.iter().map(|text| self.chat.count(text) + 2).collect();
        let most = room / 2;
        let clipped = texts.iter().zip(&counts);
        let clipped = clipped.map(|(text, count)| window::tail(text, *count, most).to_string());
        let texts: Vec<String> = clipped.collect();
        let counts: Vec<usize> = counts.into_iter().map(|count| count.min(most)).collect();
        let starts = window::starts(&counts, room);
        if self.chat.knows_messages() {
            for (from, to) in window::stretches(&starts) {
                story.texts = texts[from..to].to_vec();
                let Some(summary) = self.summary(&story, language, sink)? else {
                    return Ok(None);
                };
                story.summary = summary;
            }
        }
        let start = starts.last().copied().unwrap_or(0);
        story.texts = texts[start..].to_vec();
        let shown = pictures.into_iter().enumerate().skip(shown_from.max(start));
        story.shown = shown
            .filter_map(|(place, picture)| Some((place - start, picture?)))
            .collect();
        Ok(Some(RequestContext {
            story,
            language,
            prints,
        }))
    }

    /// The story in short; sentences of it where the model can't say it or is small.
    fn summary(
        &mut self,
        story: &PromptStory,
        language: Option<TextLanguage>,
        sink: &mut TextSink,
    ) -> Result<Option<String>, PipelineError> {
        if let Some(known) = self.summaries.get(&story.summary, &story.texts) {
            return Ok(Some(known));
        }
        if self.chat.is_small() {
            // What it says in short is not the story.
            return Ok(Some(window::extract(&story.summary, &story.texts)));
        }
        let wanted = parse::summary_wanted(language);
        let answer_request = AnswerRequest {
            order: AnswerPrompt::Chat(story.summarise()),
            sampling: Sampling {
                temperature: 0.0,
                ..Sampling::default()
            },
            max_tokens: ORDER_TOKENS / 2,
            check: &|text, ended| clean(text, ended, &wanted),
            enough: &|text| is_enough(text, &wanted),
            preview: &|_| String::new(),
        };
        let summary = match answer(self.chat.as_mut(), &answer_request, sink)? {
            AnswerOutcome::Clean(summary) => summary,
            AnswerOutcome::Cancelled => return Ok(None),
            AnswerOutcome::Never(_) => window::extract(&story.summary, &story.texts),
        };
        self.summaries
            .keep(&story.summary, &story.texts, summary.clone());
        Ok(Some(summary))
    }

    /// A clean answer with what was asked for it.
    fn ask<T>(
        &mut self,
        answer_request: &AnswerRequest<T>,
        sink: &mut TextSink,
    ) -> Result<Option<(T, String)>, PipelineError> {
        match answer(self.chat.as_mut(), answer_request, sink)? {
            AnswerOutcome::Clean(clean) => Ok(Some((clean, answer_request.order.as_text()))),
            AnswerOutcome::Cancelled => Ok(None),
            AnswerOutcome::Never(flaw) => Err(self.speechless(flaw)),
        }
    }

    /// What is asked for the text of the next panel.
    fn next(&self, story: &PromptStory, request: &Request, length: TextLength) -> AnswerPrompt {
        if !self.chat.knows_messages() {
            return AnswerPrompt::Text(story.as_text());
        }
        let sees = self.description.sees;
        let panel = PromptPanel {
            picture: request.picture.clone().filter(|_| sees),
            ..planned(request)
        };
        AnswerPrompt::Chat(match self.chat.is_small() {
            true => story.next_briefly(&panel, length),
            false => story.next(&panel, length),
        })
    }

    fn speechless(&self, flaw: AnswerFlaw) -> PipelineError {
        PipelineError::Request(format!(
            "the writer {} gave no text that can be used ({flaw}); try another seed or a lower temperature, or choose a larger model with --writer (the log holds what it said)",
            self.description.model
        ))
    }
}

fn sampling(settings: &Settings) -> Sampling {
    Sampling {
        seed: settings.seed,
        temperature: settings.temperature,
        top_p: settings.top_p,
        top_k: settings.top_k.map_or(0, |most| most as usize),
        min_p: settings.min_p.unwrap_or(0.0),
        repetition_penalty: settings.repetition_penalty.unwrap_or(REPETITION_PENALTY),
    }
}

/// Most tokens of a text of `words` words: letters of a script without spaces are tokens each.
fn tokens(words: usize, language: Option<TextLanguage>) -> usize {
    match language.is_some_and(TextLanguage::is_dense) {
        true => 5 * words + 32,
        false => 2 * words + 32,
    }
}

impl Writer for InstructWriter {
    fn describe(&self) -> &WriterDescription {
        &self.description
    }

    fn continue_story(
        &mut self,
        request: &Request,
        sink: &mut TextSink,
    ) -> Result<Option<WrittenText>, PipelineError> {
        let length = request.settings.length.unwrap_or(TextLength::Sentences);
        let (most, longest) = limits(length);
        let max_tokens = tokens(longest, TextLanguage::of(&request.texts_before().join(" ")));
        let Some(context) = self.read_context(request, max_tokens, sink)? else {
            return Ok(None);
        };
        let order = self.next(&context.story, request, length);
        let mut context = context;
        context
            .prints
            .extend(order.instruction_sentences(&planned(request)));
        let wanted = TextConstraints {
            known: &context.prints,
            language: context.language,
            any_language: false,
            sentences: most,
            words: longest,
        };
        let answer_request = AnswerRequest {
            order,
            sampling: sampling(&request.settings),
            max_tokens,
            check: &|text, ended| clean(text, ended, &wanted),
            enough: &|text| is_enough(text, &wanted),
            preview: &|text| preview(text, most),
        };
        let written = self.ask(&answer_request, sink)?;
        Ok(written.map(|(text, prompt)| WrittenText { text, prompt }))
    }

    fn rewrite(
        &mut self,
        request: &Request,
        instruction: &str,
        sink: &mut TextSink,
    ) -> Result<Option<WrittenText>, PipelineError> {
        if !self.chat.knows_messages() {
            return Err(self.no_instructions("rewrite a text by an instruction"));
        }
        let text = request.text.as_deref().unwrap_or_default().trim();
        if text.is_empty() {
            return Err(PipelineError::Request(
                "a panel without text has nothing to rewrite; write its text first".to_string(),
            ));
        }
        // An author may ask for more than there was.
        let usual = request.settings.length.map_or((2, 60), limits);
        let most = usual.0.max(2 * sentences(text).len());
        let longest = usual.1.max(2 * words(text) + 20);
        let max_tokens = tokens(longest, TextLanguage::of(text));
        let Some(context) = self.read_context(request, max_tokens, sink)? else {
            return Ok(None);
        };
        let wanted = TextConstraints {
            known: &context.prints,
            language: context.language,
            any_language: true,
            sentences: most,
            words: longest,
        };
        let before = SentenceKey::of(text);
        let check = |answer: &str, ended: bool| {
            let clean = clean(answer, ended, &wanted)?;
            let same = before
                .as_ref()
                .zip(SentenceKey::of(&clean))
                .is_some_and(|(a, b)| a.is_equal(&b));
            if same {
                Err(AnswerFlaw::Repeats)
            } else {
                Ok(clean)
            }
        };
        let answer_request = AnswerRequest {
            order: AnswerPrompt::Chat(context.story.rewrite(text, instruction, &request.direction)),
            sampling: sampling(&request.settings),
            max_tokens,
            check: &check,
            enough: &|text| is_enough(text, &wanted),
            preview: &|text| preview(text, most),
        };
        let written = self.ask(&answer_request, sink)?;
        Ok(written.map(|(text, prompt)| WrittenText { text, prompt }))
    }

    fn plan(
        &mut self,
        request: &Request,
        panels: usize,
        sink: &mut TextSink,
    ) -> Result<Option<Vec<String>>, PipelineError> {
        if !self.chat.knows_messages() {
            return Err(self.no_instructions("plan a story"));
        }
        if !(1..=MOST_PLANNED as usize).contains(&panels) {
            return Err(PipelineError::Request(format!(
                "a plan has 1 to {MOST_PLANNED} panels, not {panels}; plan fewer at a time"
            )));
        }
        let language = TextLanguage::of(&request.texts_before().join(" "));
        let max_tokens = tokens(24 * panels, language);
        let Some(context) = self.read_context(request, max_tokens, sink)? else {
            return Ok(None);
        };
        let answer_request = AnswerRequest {
            order: AnswerPrompt::Chat(match self.chat.is_small() {
                true => context.story.plan_briefly(panels),
                false => context.story.plan(panels),
            }),
            sampling: sampling(&request.settings),
            max_tokens,
            check: &|text, _| parse::plan(text, panels, context.language, &context.prints),
            enough: &|text| clean::lines(text).len() > 2 * panels + 4,
            preview: &|_| String::new(),
        };
        Ok(self.ask(&answer_request, sink)?.map(|(plan, _)| plan))
    }

    fn cast(
        &mut self,
        request: &Request,
        sink: &mut TextSink,
    ) -> Result<Option<Vec<Member>>, PipelineError> {
        if !self.chat.knows_messages() {
            return Err(self.no_instructions("say who is in a story"));
        }
        let story_text = request.texts_before().join("\n");
        let max_tokens = tokens(32 * cast::MOST, TextLanguage::of(&story_text));
        let Some(read) = self.read_context(request, max_tokens, sink)? else {
            return Ok(None);
        };
        let known = &request.board.cast;
        let answer_request = AnswerRequest {
            order: AnswerPrompt::Chat(read.story.who_comes_back()),
            sampling: sampling(&request.settings),
            max_tokens,
            check: &|text, _| cast::cast(text, &story_text, known),
            enough: &|text| clean::lines(text).len() > 2 * cast::MOST,
            preview: &|_| String::new(),
        };
        Ok(self.ask(&answer_request, sink)?.map(|(cast, _)| cast))
    }

    fn picture_prompt(
        &mut self,
        request: &Request,
        text: &str,
        style: PromptStyle,
        sink: &mut TextSink,
    ) -> Result<Option<WrittenText>, PipelineError> {
        if !self.chat.knows_messages() {
            return Err(self.no_instructions("write a picture prompt"));
        }
        if self.chat.is_small() {
            // What it says of a picture is farther from the story than the text itself.
            return Ok(Some(WrittenText {
                text: text.trim().to_string(),
                prompt: String::new(),
            }));
        }
        let max_tokens = 160;
        // The panel itself is the last one of the story that is read.
        let panel = ContextPanel {
            id: PanelId(u64::MAX),
            text: text.to_string(),
            picture: None,
        };
        let context = request.context.iter().cloned().chain([panel]);
        let whole = Request {
            context: context.collect(),
            ..request.clone()
        };
        let Some(context) = self.read_context(&whole, max_tokens, sink)? else {
            return Ok(None);
        };
        let answer_request = AnswerRequest {
            order: AnswerPrompt::Chat(context.story.picture(&who(request), style)),
            sampling: sampling(&request.settings),
            max_tokens,
            check: &|text, _| parse::picture(text, style),
            enough: &|text| words(text) > 120,
            preview: &|_| String::new(),
        };
        let written = match answer(self.chat.as_mut(), &answer_request, sink)? {
            AnswerOutcome::Clean(prompt) => prompt,
            AnswerOutcome::Cancelled => return Ok(None),
            // A picture of the words as they are is better than none.
            AnswerOutcome::Never(_) => text.trim().to_string(),
        };
        Ok(Some(WrittenText {
            text: written,
            prompt: answer_request.order.as_text(),
        }))
    }

    fn log_probabilities(
        &mut self,
        context: &[ContextPanel],
        text: &str,
    ) -> Result<Vec<f64>, PipelineError> {
        let request = Request {
            context: context.to_vec(),
            ..Request::default()
        };
        let length = TextLength::Sentences;
        let text = text.trim();
        let room = tokens(limits(length).1, TextLanguage::of(text));
        let room = room.max(self.chat.count(text) + 1);
        let context = self.read_context(&request, room, &mut |_| ControlFlow::Continue(()))?;
        let story = context.map(|context| context.story).unwrap_or_default();
        let order = self.next(&story, &request, length);
        let asked = match &order {
            AnswerPrompt::Chat(messages) => ChatPrompt::Messages(messages),
            AnswerPrompt::Text(text) => ChatPrompt::Text(text),
        };
        let scores = self.chat.log_probabilities(asked, text)?;
        scores.ok_or_else(|| self.no_likelihoods())
    }
}

/// What the plan says of the panel that is asked for, and what the author wants of it.
fn planned(request: &Request) -> PromptPanel {
    let plan = &request.board.plan;
    let at = request.place;
    let line = |at: usize| plan.get(at).filter(|line| !line.trim().is_empty()).cloned();
    PromptPanel {
        plan: line(at),
        later: line(at + 1),
        last: !plan.is_empty() && at + 1 == plan.len(),
        direction: request.direction.clone(),
        picture: None,
        who: who(request),
    }
}

/// Who the author has said is in the panel.
fn who(request: &Request) -> Vec<String> {
    let ids = request.cast.as_deref().unwrap_or_default();
    let members = request.board.cast.iter();
    let members = members.filter(|member| ids.contains(&member.id));
    let names = members.map(|member| member.name.trim().to_owned());
    names.filter(|name| !name.is_empty()).collect()
}
