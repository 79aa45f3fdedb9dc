//! Servers that speak OpenAI's chat interface: llama-server, Ollama, LM Studio, vLLM and others.

mod chat;
mod list;
mod stream;

pub use chat::chat;
pub use list::{Endpoint, PIPELINE, ServerKind, check_offered, list};
