//! Talking with a language model: messages, the template that a model's file has for them, and what
//! of an answer is shown.
//!
//! [`ChatModel`] is what whoever writes stories talks to. A GGUF file on this machine
//! is one ([`LocalChat`]); an engine elsewhere can be another.

mod local;
mod template;
mod visible;

#[cfg(test)]
mod tests;

pub use local::LocalChat;
pub use template::{ChatTemplate, Reasoning, TemplateError, TemplateOptions};
pub use visible::Visible;

use std::ops::ControlFlow;

use super::{LlmError, Sampling};

/// Begins a piece of an answer before which nothing counts: all that came was a thought after all.
pub const TAKEN_BACK: char = '\u{fdd1}';

/// Who says a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    System,
    User,
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

/// One message of a chat. Nothing in its content acts as a control token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub role: Role,
    pub content: String,
}

impl Message {
    pub fn system(content: impl Into<String>) -> Message {
        Message {
            role: Role::System,
            content: content.into(),
        }
    }

    pub fn user(content: impl Into<String>) -> Message {
        Message {
            role: Role::User,
            content: content.into(),
        }
    }

    pub fn assistant(content: impl Into<String>) -> Message {
        Message {
            role: Role::Assistant,
            content: content.into(),
        }
    }
}

/// How an answer is made. Thoughts before it are neither asked for nor given.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatOptions {
    pub sampling: Sampling,
    /// Most tokens of an answer, thoughts included.
    pub max_tokens: usize,
    /// Texts that end the answer where they begin; they are not part of it.
    pub stop: Vec<String>,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model ended it, or a stop sequence came.
    Stop,
    /// It reached [`ChatOptions::max_tokens`].
    Length,
}

/// An answer, without thoughts and control tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub text: String,
    pub finish: Finish,
}

/// A language model that answers messages.
pub trait ChatModel: Send {
    /// Most tokens that messages and answer may have together.
    fn context_length(&self) -> usize;

    /// Whether it knows messages; without, only [`ChatModel::complete`] can be asked.
    fn knows_messages(&self) -> bool;

    /// How many tokens `text` is, about.
    fn count(&self, text: &str) -> usize;

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
