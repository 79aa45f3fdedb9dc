//! Talking with a language model: messages, the template that a model's file has for them, and what
//! of an answer is shown.
//!
//! [`ChatModel`] is what whoever writes stories talks to. A GGUF file on this machine
//! is one ([`LocalChat`]); an engine elsewhere can be another.

mod images;
mod local;
mod template;
mod visible;

#[cfg(test)]
mod tests;

pub use images::{EmbeddingStore, ImageEncoder};
pub use local::LocalChat;
pub use template::{ChatTemplate, Reasoning, TemplateError, TemplateOptions};
pub use visible::VisibleText;

use std::ops::ControlFlow;
use std::sync::Arc;

use image::RgbaImage;

use super::{LlmError, Sampling};

/// Begins a piece of an answer before which nothing counts: all that came was a thought after all.
pub const TAKEN_BACK: char = '\u{fdd1}';

/// The role of a message: system, user or assistant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Instructions that hold for the whole conversation.
    System,
    /// Whoever asks.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// The name that chat templates and servers know it by.
    pub fn name(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        }
    }
}

/// A part of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessagePart {
    /// Words.
    Text(String),
    /// For models that see ([`ChatModel::picture_tokens`]).
    Picture(Arc<RgbaImage>),
}

/// One message of a chat: texts and pictures in the order in which they are read. Nothing in its
/// texts acts as a control token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// Texts and pictures, in reading order.
    pub parts: Vec<MessagePart>,
}

impl Message {
    /// A message of one text.
    pub fn new(role: Role, text: impl Into<String>) -> Message {
        Message {
            role,
            parts: vec![MessagePart::Text(text.into())],
        }
    }

    /// A message of one text by the system.
    pub fn system(text: impl Into<String>) -> Message {
        Message::new(Role::System, text)
    }

    /// A message of one text by the user.
    pub fn user(text: impl Into<String>) -> Message {
        Message::new(Role::User, text)
    }

    /// A message of one text by the model.
    pub fn assistant(text: impl Into<String>) -> Message {
        Message::new(Role::Assistant, text)
    }

    /// The texts, one after the other, without the pictures.
    pub fn text(&self) -> String {
        let texts = self.parts.iter().filter_map(|part| match part {
            MessagePart::Text(text) => Some(text.as_str()),
            MessagePart::Picture(_) => None,
        });
        texts.collect()
    }

    /// Writes on at the end of the message.
    pub fn push_str(&mut self, more: &str) {
        match self.parts.last_mut() {
            Some(MessagePart::Text(text)) => text.push_str(more),
            _ => self.parts.push(MessagePart::Text(more.to_owned())),
        }
    }

    /// The same message with each of its texts changed.
    pub fn map_texts(&self, change: impl Fn(&str) -> String) -> Message {
        let parts = self.parts.iter().map(|part| match part {
            MessagePart::Text(text) => MessagePart::Text(change(text)),
            MessagePart::Picture(picture) => MessagePart::Picture(Arc::clone(picture)),
        });
        Message {
            role: self.role,
            parts: parts.collect(),
        }
    }
}

/// The prompt: chat messages, or a plain text to be completed.
#[derive(Clone, Copy, Debug)]
pub enum ChatPrompt<'a> {
    /// Messages to be answered.
    Messages(&'a [Message]),
    /// A text to be gone on with.
    Text(&'a str),
}

/// How an answer is made. Thoughts before it are neither asked for nor given.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatOptions {
    /// Seed, temperature and the other sampling parameters.
    pub sampling: Sampling,
    /// Most tokens of an answer, thoughts included.
    pub max_tokens: usize,
    /// Texts that end the answer where they begin; they are not part of it.
    pub stop: Vec<String>,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model ended it, or a stop sequence came.
    Stop,
    /// It reached [`ChatOptions::max_tokens`].
    Length,
}

/// An answer, without thoughts and control tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The text that is shown.
    pub text: String,
    /// Why it ended.
    pub finish: FinishReason,
}

/// A language model that answers messages.
pub trait ChatModel: Send {
    /// Most tokens that messages and answer may have together.
    fn context_length(&self) -> usize;

    /// Whether it knows messages; without, only [`ChatModel::complete`] can be asked.
    fn knows_messages(&self) -> bool;

    /// Whether it is too small to follow long orders.
    fn is_small(&self) -> bool {
        false
    }

    /// How many tokens `text` is, about.
    fn count(&self, text: &str) -> usize;

    /// How many tokens a picture is, about; `None` where it sees none, and is given none.
    fn picture_tokens(&self) -> Option<usize> {
        None
    }

    /// Where what it makes of pictures is kept from now on.
    fn keep_seen(&mut self, shelf: Arc<dyn EmbeddingStore>) {
        let _ = shelf;
    }

    /// Natural log probabilities of the tokens of `answer` to what was asked, before any sampling;
    /// `None` where the model does not say.
    ///
    /// # Errors
    /// As [`ChatModel::chat`].
    fn log_probabilities(
        &mut self,
        asked: ChatPrompt<'_>,
        answer: &str,
    ) -> Result<Option<Vec<f64>>, LlmError> {
        let _ = (asked, answer);
        Ok(None)
    }

    /// Answers `messages`. `sink` gets the answer piece by piece, whole characters only (a piece that
    /// begins with [`TAKEN_BACK`] replaces those before), and empty pieces while the model reads or
    /// thinks; when it breaks, the result is `None`, within one
    /// token. The text of the reply replaces the pieces.
    ///
    /// # Errors
    /// When the messages are too long, or the model cannot answer; one sentence.
    fn chat(
        &mut self,
        messages: &[Message],
        options: &ChatOptions,
        sink: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Option<Reply>, LlmError>;

    /// Writes on after `text`, as [`ChatModel::chat`] answers.
    ///
    /// # Errors
    /// As [`ChatModel::chat`].
    fn complete(
        &mut self,
        text: &str,
        options: &ChatOptions,
        sink: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Option<Reply>, LlmError>;
}
