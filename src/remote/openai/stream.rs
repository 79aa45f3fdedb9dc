//! The pieces of a streamed answer.

use serde_json::Value;

use super::super::error::quoted;
use crate::llm::chat::FinishReason;

/// What one event of the stream says.
#[derive(Debug, PartialEq)]
pub(super) enum StreamEvent {
    /// More of the answer; empty where the model is thinking.
    Text(String),
    Finish(String, FinishReason),
    /// `[DONE]`.
    End,
    /// The server broke off, and says why.
    Failed(String),
}

/// Reads the data of one event. Thoughts (`reasoning_content`, `reasoning`) are not part of the
/// answer. `None` where it is not one of the stream's events.
pub(super) fn piece(data: &str) -> Option<StreamEvent> {
    if data.trim() == "[DONE]" {
        return Some(StreamEvent::End);
    }
    let event: Value = serde_json::from_str(data).ok()?;
    if let Some(error) = event.get("error").filter(|error| !error.is_null()) {
        let message = error.get("message").unwrap_or(error);
        let message = message
            .as_str()
            .map_or_else(|| message.to_string(), str::to_owned);
        return Some(StreamEvent::Failed(quoted(&message)));
    }
    let choices = event.get("choices")?.as_array()?;
    // The last event of some servers tells what was used and has no choice.
    let Some(choice) = choices.first() else {
        return Some(StreamEvent::Text(String::new()));
    };
    let text = choice.pointer("/delta/content").and_then(Value::as_str);
    let text = text.unwrap_or_default().to_owned();
    Some(match choice.get("finish_reason").and_then(Value::as_str) {
        Some("length") => StreamEvent::Finish(text, FinishReason::Length),
        Some(_) => StreamEvent::Finish(text, FinishReason::Stop),
        None => StreamEvent::Text(text),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_the_four_servers_are_read() {
        let text = |text: &str| Some(StreamEvent::Text(text.to_owned()));
        for (data, wanted) in [
            // llama-server begins with a role and no content.
            (
                r#"{"choices":[{"finish_reason":null,"index":0,"delta":{"role":"assistant","content":null}}]}"#,
                text(""),
            ),
            (
                r#"{"choices":[{"index":0,"delta":{"content":"Milo "}}]}"#,
                text("Milo "),
            ),
            (
                r#"{"choices":[{"index":0,"delta":{"reasoning_content":"Hm."}}]}"#,
                text(""),
            ),
            // Ollama.
            (
                r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":"","reasoning":"Hm."},"finish_reason":null}]}"#,
                text(""),
            ),
            (
                r#"{"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":"stop"}]}"#,
                Some(StreamEvent::Finish("x".into(), FinishReason::Stop)),
            ),
            (
                r#"{"choices":[{"index":0,"delta":{},"finish_reason":"length"}]}"#,
                Some(StreamEvent::Finish(String::new(), FinishReason::Length)),
            ),
            // vLLM with usage.
            (r#"{"choices":[],"usage":{"total_tokens":9}}"#, text("")),
            ("[DONE]", Some(StreamEvent::End)),
            // LM Studio.
            (
                r#"{"error":{"message":"The model has\ncrashed"}}"#,
                Some(StreamEvent::Failed("The model has crashed".into())),
            ),
            (
                r#"{"error":"no such model"}"#,
                Some(StreamEvent::Failed("no such model".into())),
            ),
            (r#"{"hello":1}"#, None),
            ("<html>", None),
        ] {
            assert_eq!(piece(data), wanted, "{data}");
        }
    }
}
