//! A chat with a model of a server, streamed.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::time::Instant;

use base64::Engine as _;
use eventsource_stream::Eventsource;
use futures_util::StreamExt;
use image::{ImageFormat, RgbaImage};
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};

use super::super::error::looks_like;
use super::super::{Client, RemoteError};
use super::stream::{StreamEvent, piece};
use super::{Endpoint, ServerKind};
use crate::llm::Sampling;
use crate::llm::chat::{ChatOptions, FinishReason, Message, MessagePart, Reply};

/// Bytes of a stream that are read at most: some hundred times the longest text of a panel, since
/// every token comes in an envelope of JSON.
const STREAM: usize = 16 << 20;
/// The same of one event of a stream.
const EVENT: usize = 1 << 20;
/// Pixels of the longer side of a picture that is shown to a model.
const SEEN: u32 = 512;

/// Asks a model to go on after `messages`, telling `sink` of every piece. The sink is asked with an
/// empty piece while the server is silent; when it breaks, the connection is closed, by which the
/// server stops, and `None` is returned.
///
/// # Errors
/// When the server can't be reached, has no way to be asked for it like this, refuses the request,
/// sends something else than a stream of answers, or breaks it off.
pub fn chat(
    client: &Client,
    endpoint: &Endpoint,
    messages: &[Message],
    options: &ChatOptions,
    sink: &mut dyn FnMut(&str) -> ControlFlow<()>,
) -> Result<Option<Reply>, RemoteError> {
    let mut body = request(client, endpoint, messages, options)?;
    match stream(client, &body, sink) {
        // Servers that check every field refuse those that ask for no thoughts.
        Err(RemoteError::Refused { .. }) if remove_extras(&mut body) => stream(client, &body, sink),
        other => other,
    }
}

/// The request of OpenAI's interface, with the fields by which llama-server, vLLM
/// (`chat_template_kwargs`) and Ollama (`reasoning_effort`) are asked for no thoughts.
fn request(
    client: &Client,
    endpoint: &Endpoint,
    messages: &[Message],
    options: &ChatOptions,
) -> Result<Value, RemoteError> {
    let messages = messages
        .iter()
        .map(|message| Ok(json!({"role": message.role.name(), "content": content(message)?})))
        .collect::<Result<Vec<Value>, RemoteError>>()?;
    let sampling = &options.sampling;
    let mut body = json!({
        "model": endpoint.model,
        "messages": messages,
        "stream": true,
        // Servers read seeds as signed 32-bit numbers at least.
        "seed": sampling.seed & 0x7fff_ffff,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": options.max_tokens,
        "chat_template_kwargs": {"enable_thinking": false},
        "reasoning_effort": "none",
    });
    if !options.stop.is_empty() {
        body["stop"] = json!(options.stop);
    }
    for (name, value) in further(client, endpoint, sampling)? {
        body[name] = value;
    }
    Ok(body)
}

/// What of sampling OpenAI's interface does not know, by each server's own names. Those that have
/// one are always told, since their own defaults differ.
fn further(
    client: &Client,
    endpoint: &Endpoint,
    sampling: &Sampling,
) -> Result<Vec<(&'static str, Value)>, RemoteError> {
    let names = match endpoint.server {
        ServerKind::LlamaServer => [Some("top_k"), Some("min_p"), Some("repeat_penalty")],
        ServerKind::Vllm => [Some("top_k"), Some("min_p"), Some("repetition_penalty")],
        ServerKind::LmStudio => [Some("top_k"), None, Some("repeat_penalty")],
        ServerKind::Ollama | ServerKind::Other => [None; 3],
    };
    let top_k = match (endpoint.server, sampling.top_k) {
        // All of them; older versions of vLLM refuse 0.
        (ServerKind::Vllm, 0) => json!(-1),
        (_, most) => json!(most),
    };
    let values = [
        ("top-k", top_k, sampling.top_k == 0),
        ("min-p", json!(sampling.min_p), sampling.min_p == 0.0),
        // A little of it is only our own habit.
        (
            "repetition penalty",
            json!(sampling.repetition_penalty),
            true,
        ),
    ];
    let mut known = Vec::new();
    for (name, (what, value, is_usual)) in names.into_iter().zip(values) {
        match name {
            Some(name) => known.push((name, value)),
            None if is_usual => {}
            None => {
                return Err(RemoteError::Unable {
                    address: client.address().clone(),
                    server: endpoint.server.label(),
                    what: what.to_owned(),
                });
            }
        }
    }
    Ok(known)
}

/// A message's content: its text, or texts and pictures in their order.
fn content(message: &Message) -> Result<Value, RemoteError> {
    let sees = |part: &MessagePart| matches!(part, MessagePart::Picture(_));
    if !message.parts.iter().any(sees) {
        return Ok(json!(message.text()));
    }
    let parts = message.parts.iter().map(|part| {
        Ok(match part {
            MessagePart::Text(text) => json!({"type": "text", "text": text}),
            MessagePart::Picture(picture) => {
                json!({"type": "image_url", "image_url": {"url": data_url(picture)?}})
            }
        })
    });
    parts.collect()
}

/// Whether there was something to remove.
fn remove_extras(body: &mut Value) -> bool {
    let Some(fields) = body.as_object_mut() else {
        return false;
    };
    let extras = ["chat_template_kwargs", "reasoning_effort"];
    extras
        .iter()
        .filter(|name| fields.remove(**name).is_some())
        .count()
        > 0
}

/// A picture as the text of an address, no larger than [`SEEN`].
fn data_url(picture: &RgbaImage) -> Result<String, RemoteError> {
    let (width, height) = picture.dimensions();
    let small = match width.max(height) > SEEN {
        true => {
            let part = f64::from(SEEN) / f64::from(width.max(height));
            let side = |side: u32| ((f64::from(side) * part).round() as u32).max(1);
            let filter = image::imageops::FilterType::Triangle;
            &image::imageops::resize(picture, side(width), side(height), filter)
        }
        false => picture,
    };
    let mut png = std::io::Cursor::new(Vec::new());
    small
        .write_to(&mut png, ImageFormat::Png)
        .map_err(|error| RemoteError::Workflow(format!("a picture can't be sent ({error})")))?;
    let text = base64::engine::general_purpose::STANDARD.encode(png.into_inner());
    Ok(format!("data:image/png;base64,{text}"))
}

fn stream(
    client: &Client,
    body: &Value,
    sink: &mut dyn FnMut(&str) -> ControlFlow<()>,
) -> Result<Option<Reply>, RemoteError> {
    let url = client.address().join("/chat/completions");
    let request = client.request(Method::POST, url.clone()).json(body);
    let address = client.address().clone();
    let silence = client.patience().silence;
    let timed_out = || RemoteError::TimedOut {
        address: client.address().clone(),
        seconds: silence.as_secs(),
    };
    let begun = client.wait(&mut || sink(""), async {
        let sent = tokio::time::timeout(silence, client.send(request, url.path()));
        sent.await.unwrap_or_else(|_| Err(timed_out()))
    })?;
    let Some(answer) = begun else { return Ok(None) };
    let kind = answer.headers().get(CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !kind.starts_with("text/event-stream") {
        let body = client.wait(&mut || sink(""), async {
            let mut stream = answer.bytes_stream();
            let first = tokio::time::timeout(client.patience().answer, stream.next()).await;
            Ok(first
                .ok()
                .flatten()
                .and_then(Result::ok)
                .unwrap_or_default())
        })?;
        let Some(body) = body else { return Ok(None) };
        return Err(client.unexpected(&looks_like(&body), "a stream of answers"));
    }
    client.run(async {
        let (read, read_of_event) = (Cell::new(0), Cell::new(0));
        let bounded = answer.bytes_stream().map(|part| {
            let part = part.map_err(|error| client.failure(error))?;
            let too_large = |what: &str, limit| RemoteError::TooLarge {
                address: address.clone(),
                what: what.to_owned(),
                limit,
            };
            read.set(read.get() + part.len());
            read_of_event.set(read_of_event.get() + part.len());
            if read.get() > STREAM {
                return Err(too_large("one answer", STREAM));
            }
            if read_of_event.get() > EVENT {
                return Err(too_large("a piece of an answer", EVENT));
            }
            Ok(part)
        });
        let mut events = std::pin::pin!(bounded.eventsource());
        let mut text = String::new();
        let mut finish = None;
        let (mut last_event, mut last_bytes) = (Instant::now(), 0);
        loop {
            let event = match tokio::time::timeout(client.patience().look, events.next()).await {
                Ok(event) => event,
                Err(_) if sink("").is_break() => return Ok(None),
                // More of a long event, or a word that the server is still there.
                Err(_) if last_bytes != read.get() => {
                    (last_event, last_bytes) = (Instant::now(), read.get());
                    continue;
                }
                // All was said, though the server keeps the stream open.
                Err(_)
                    if finish.is_some() && last_event.elapsed() >= client.patience().ask_often =>
                {
                    None
                }
                Err(_) if last_event.elapsed() >= silence => return Err(timed_out()),
                Err(_) => continue,
            };
            last_event = Instant::now();
            read_of_event.set(0);
            let lost = |reason: &str| RemoteError::Lost {
                address: address.clone(),
                what: "the answer".to_owned(),
                reason: reason.to_owned(),
            };
            let parsed = match event {
                Some(Ok(event)) => piece(&event.data).ok_or_else(|| {
                    client.unexpected(&looks_like(event.data.as_bytes()), "a piece of an answer")
                })?,
                Some(Err(eventsource_stream::EventStreamError::Transport(error))) => {
                    return Err(match error {
                        RemoteError::Unreachable { reason, .. } => lost(&reason),
                        other => other,
                    });
                }
                Some(Err(error)) => return Err(client.unexpected(&error.to_string(), "text")),
                // A server that dies closes the stream as well, without a word of an end.
                None if finish.is_none() => return Err(lost("the stream ended in the middle")),
                None => StreamEvent::End,
            };
            let new = match parsed {
                StreamEvent::Text(new) => new,
                StreamEvent::Finish(new, why) => {
                    finish = Some(why);
                    new
                }
                StreamEvent::Failed(reason) => return Err(lost(&reason)),
                StreamEvent::End => {
                    let finish = finish.unwrap_or(FinishReason::Stop);
                    return Ok(Some(Reply { text, finish }));
                }
            };
            text.push_str(&new);
            if sink(&new).is_break() {
                return Ok(None);
            }
        }
    })
}
