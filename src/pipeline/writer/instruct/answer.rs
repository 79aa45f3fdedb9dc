//! Asks until an answer is clean, a bounded number of times.

use std::ops::ControlFlow;

use super::clean::AnswerFlaw;
use super::prompts::{PromptPanel, one_line};
use super::sentences::{SentenceKey, sentences};
use crate::llm::chat::{
    ChatModel, ChatOptions, FinishReason, Message, MessagePart, Role, TAKEN_BACK,
};
use crate::llm::{LlmError, Sampling};
use crate::pipeline::writer::TextSink;

/// Times that a model is asked for one text.
const ATTEMPTS: u64 = 4;

/// The prompt: chat messages, or a plain text to be completed where the model has no chat template.
pub(super) enum AnswerPrompt {
    Chat(Vec<Message>),
    Text(String),
}

impl AnswerPrompt {
    /// All of it as people read it.
    pub(super) fn as_text(&self) -> String {
        match self {
            AnswerPrompt::Text(text) => text.clone(),
            AnswerPrompt::Chat(messages) => {
                let texts = messages
                    .iter()
                    .map(|m| format!("[{}] {}", m.role.name(), message_text(m)));
                texts.collect::<Vec<_>>().join("\n\n")
            }
        }
    }

    /// The sentences in which it is asked, which a small model says again: of the system and of the last
    /// message, but not what is planned, which may well be told in the words of the plan.
    pub(super) fn instruction_sentences(&self, panel: &PromptPanel) -> Vec<SentenceKey> {
        let AnswerPrompt::Chat(messages) = self else {
            return Vec::new();
        };
        let system = messages.iter().filter(|m| m.role == Role::System);
        let orders = system.chain(messages.last()).map(message_text);
        let planned = panel.plan.iter().chain(&panel.later);
        let planned = planned.chain([&panel.direction]).map(|line| one_line(line));
        let planned: Vec<String> = planned.filter(|line| !line.is_empty()).collect();
        // The order stands behind the story, which is compared by itself.
        let lines = orders.flat_map(|text| {
            let lines = text
                .lines()
                .rev()
                .take_while(|line| !line.trim().is_empty());
            lines.map(str::to_owned).collect::<Vec<_>>()
        });
        let lines = lines.filter(|line| !planned.iter().any(|plan| line.contains(plan.as_str())));
        lines
            .flat_map(|line| {
                sentences(&line)
                    .into_iter()
                    .filter_map(SentenceKey::of)
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    /// The same with a reminder at its end.
    fn reminding(&self, flaw: AnswerFlaw) -> AnswerPrompt {
        let AnswerPrompt::Chat(messages) = self else {
            return AnswerPrompt::Text(self.as_text());
        };
        let mut messages = messages.clone();
        let reminder = match flaw {
            AnswerFlaw::Language => "Keep to the language of the story.",
            AnswerFlaw::Repeats => "Say something that was not said before.",
            AnswerFlaw::TooLong | AnswerFlaw::Unfinished => "Be brief.",
            AnswerFlaw::Lines => "Give exactly as many numbered lines as asked for.",
            AnswerFlaw::Empty | AnswerFlaw::Refusal => "Answer with the text alone.",
        };
        if let Some(last) = messages.last_mut() {
            last.push_str(&format!("\n{reminder}"));
        }
        AnswerPrompt::Chat(messages)
    }
}

/// A message as people read it.
fn message_text(message: &Message) -> String {
    let parts = message.parts.iter().map(|part| match part {
        MessagePart::Text(text) => text.as_str(),
        MessagePart::Picture(_) => "[a picture]",
    });
    parts.collect()
}

/// A prompt with sampling, length, and how the answer is checked.
pub(super) struct AnswerRequest<'a, T> {
    pub(super) order: AnswerPrompt,
    pub(super) sampling: Sampling,
    pub(super) max_tokens: usize,
    /// The answer, and whether it ended by itself, become what was wished for.
    pub(super) check: &'a dyn Fn(&str, bool) -> Result<T, AnswerFlaw>,
    /// Whether so much of an answer is enough.
    pub(super) enough: &'a dyn Fn(&str) -> bool,
    /// What of an unfinished answer can be shown.
    pub(super) preview: &'a dyn Fn(&str) -> String,
}

/// A checked answer, or why there is none.
pub(super) enum AnswerOutcome<T> {
    Clean(T),
    Cancelled,
    /// No attempt was clean; why the last was not.
    Never(AnswerFlaw),
}

/// Asks `chat` until an answer is clean. `sink` gets what can be shown of the first attempt, whole
/// words as they come, and is asked at every token whether to go on.
///
/// # Errors
/// When the order is too long, or the model fails.
pub(super) fn answer<T>(
    chat: &mut dyn ChatModel,
    request: &AnswerRequest<T>,
    sink: &mut TextSink,
) -> Result<AnswerOutcome<T>, LlmError> {
    let mut flaw = AnswerFlaw::Empty;
    let mut shown = String::new();
    for attempt in 0..ATTEMPTS {
        let again;
        let order = match attempt {
            0 => &request.order,
            _ => {
                again = request.order.reminding(flaw);
                &again
            }
        };
        let options = ChatOptions {
            sampling: varied(&request.sampling, attempt, flaw),
            max_tokens: request.max_tokens,
            stop: Vec::new(),
        };
        let (mut so_far, mut cancelled, mut enough) = (String::new(), false, false);
        let mut hear = |piece: &str| {
            let piece = match piece.strip_prefix(TAKEN_BACK) {
                Some(whole) => {
                    so_far.clear();
                    whole
                }
                None => piece,
            };
            so_far.push_str(piece);
            let mut more = String::new();
            if attempt == 0 && !piece.is_empty() {
                let preview = (request.preview)(&so_far);
                if let Some(rest) = preview.strip_prefix(&shown).filter(|rest| !rest.is_empty()) {
                    more = rest.to_string();
                    shown.push_str(&more);
                }
            }
            cancelled = sink(&more).is_break();
            // A model that never stops is stopped.
            enough = !piece.is_empty() && (request.enough)(&so_far);
            match cancelled || enough {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        };
        let reply = match order {
            AnswerPrompt::Chat(messages) => chat.chat(messages, &options, &mut hear)?,
            AnswerPrompt::Text(text) => chat.complete(text, &options, &mut hear)?,
        };
        let (text, ended) = match reply {
            _ if cancelled => return Ok(AnswerOutcome::Cancelled),
            Some(reply) => (reply.text, reply.finish == FinishReason::Stop),
            None if enough => (so_far, false),
            None => return Ok(AnswerOutcome::Cancelled),
        };
        let checked = (request.check)(&text, ended);
        let verdict = checked
            .as_ref()
            .err()
            .map_or_else(|| "clean".to_string(), AnswerFlaw::to_string);
        tracing::info!(
            target: "vokenboard::writer",
            attempt = attempt + 1,
            asked = %order.as_text(),
            answered = %text,
            verdict,
        );
        match checked {
            Ok(clean) => return Ok(AnswerOutcome::Clean(clean)),
            Err(why) => flaw = why,
        }
    }
    Ok(AnswerOutcome::Never(flaw))
}

/// Another seed for each attempt: freer where the model repeats itself, stricter where it strays.
fn varied(sampling: &Sampling, attempt: u64, flaw: AnswerFlaw) -> Sampling {
    if attempt == 0 {
        return *sampling;
    }
    let temperature = match flaw {
        AnswerFlaw::Repeats | AnswerFlaw::Empty => {
            sampling.temperature.max(0.6) + 0.1 * attempt as f32
        }
        _ => sampling.temperature.clamp(0.3, 0.6),
    };
    Sampling {
        seed: sampling
            .seed
            .wrapping_add(attempt.wrapping_mul(0x9e37_79b9)),
        temperature,
        ..*sampling
    }
}
