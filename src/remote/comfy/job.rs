//! One picture drawn by a ComfyUI: posted, followed, cancelled by itself, and fetched.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use image::RgbaImage;
use reqwest::header::AUTHORIZATION;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::super::error::quoted;
use super::super::{Client, RemoteError};
use super::event::{self, PICTURE_SIDE, SocketEvent};

/// Largest message on the WebSocket and largest picture, in bytes.
const MESSAGE: usize = 64 << 20;
/// Asking fails this often in a row before the job is given up.
const FAILURES: u32 = 2;
/// A job that is asked for so often and is nowhere was lost.
const NOWHERE: u32 = 4;

/// Progress of a job, as the callback gets it.
#[derive(Debug)]
pub enum JobEvent {
    /// Nothing new; asked so that the author can cancel.
    Quiet,
    /// Jobs before this one on the shared engine.
    Waiting(usize),
    /// `step` of `steps` of the node that counts now.
    Step {
        /// The step, from 1.
        step: u32,
        /// How many there are.
        steps: u32,
    },
    /// A small picture of what it will become.
    Preview(Box<RgbaImage>),
}

/// Callback for the events of a job; breaks to cancel.
pub type JobCallback<'a> = dyn FnMut(JobEvent) -> ControlFlow<()> + 'a;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Draws `graph` and returns the picture of the node `output`, or of the one that has one where
/// that is `None`. `None` when `follow` broke: then this job alone is taken from the queue or
/// interrupted.
///
/// # Errors
/// When the engine refuses the graph, fails, is stopped, or sends something else than a picture.
pub fn draw(
    client: &Client,
    graph: &Value,
    output: Option<&str>,
    follow: &mut JobCallback,
) -> Result<Option<RgbaImage>, RemoteError> {
    let job = Job {
        client,
        id: new_id(),
        socket_id: new_id(),
        output,
    };
    client.run(async {
        let done = job.draw(graph, follow).await;
        // Whatever happened, nobody waits for this picture any more. Where the engine is gone, there
        // is nothing left to cancel either.
        if !matches!(done, Ok(Some(_)) | Err(RemoteError::Unreachable { .. })) {
            let _ = tokio::time::timeout(Duration::from_secs(3), job.cancel()).await;
        }
        done
    })
}

/// A random id in the form of a UUID (version 4), as ComfyUI's own client makes them.
fn new_id() -> String {
    let mut bytes: [u8; 16] = rand::random();
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let parts = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ];
    parts.join("-")
}

struct Job<'a> {
    client: &'a Client,
    id: String,
    socket_id: String,
    output: Option<&'a str>,
}

/// Where a job stands.
enum JobStatus {
    Waiting(usize),
    Running,
    /// The outputs by node.
    Done(Value),
    Unknown,
}

impl Job<'_> {
    async fn draw(
        &self,
        graph: &Value,
        follow: &mut JobCallback<'_>,
    ) -> Result<Option<RgbaImage>, RemoteError> {
        let patience = self.client.patience();
        // Without it there are no previews, but the picture comes all the same.
        let mut socket = tokio::time::timeout(patience.connect, self.connect())
            .await
            .ok()
            .flatten();
        self.post(graph).await?;
        let mut asked = Instant::now();
        let (mut failures, mut nowhere) = (0, 0);
        let (mut ask_now, mut started) = (false, false);
        let (mut queued, mut node) = (None, String::new());
        let mut sent = None;
        let mut late: Option<Instant> = None;
        loop {
            let event = match &mut socket {
                Some(open) => match tokio::time::timeout(patience.look, open.next()).await {
                    Ok(Some(Ok(Message::Text(text)))) => event::of_text(text.as_str(), &self.id),
                    Ok(Some(Ok(Message::Binary(bytes)))) => {
                        event::of_bytes(&bytes, &self.id, &node, self.output)
                    }
                    Ok(Some(Ok(_))) | Err(_) => SocketEvent::Other,
                    Ok(Some(Err(_)) | None) => {
                        socket = None;
                        ask_now = true;
                        SocketEvent::Other
                    }
                },
                None => {
                    tokio::time::sleep(patience.look).await;
                    SocketEvent::Other
                }
            };
            let update = match event {
                SocketEvent::Started => {
                    started = true;
                    JobEvent::Waiting(0)
                }
                // How many are before this one is asked for, while it waits.
                SocketEvent::Queue(jobs) => {
                    ask_now |= !started && queued.replace(jobs) != Some(jobs);
                    JobEvent::Quiet
                }
                SocketEvent::Executing(now) => {
                    (started, node) = (true, now);
                    JobEvent::Quiet
                }
                SocketEvent::Progress { step, steps } => JobEvent::Step { step, steps },
                SocketEvent::Preview(picture) => JobEvent::Preview(picture),
                SocketEvent::Picture(picture) => {
                    sent = Some(*picture);
                    JobEvent::Quiet
                }
                SocketEvent::Done => {
                    ask_now = true;
                    JobEvent::Quiet
                }
                SocketEvent::Failed(reason) => return Err(self.refused("this picture", &reason)),
                SocketEvent::Interrupted => return Err(self.interrupted()),
                SocketEvent::Other => JobEvent::Quiet,
            };
            if follow(update).is_break() {
                return Ok(None);
            }
            let pause = match (&socket, failures + nowhere) {
                (Some(_), 0) if late.is_none() => patience.ask_seldom,
                _ => patience.ask_often,
            };
            if !ask_now && asked.elapsed() < pause {
                continue;
            }
            (asked, ask_now) = (Instant::now(), false);
            match self.stand().await {
                // A picture that comes over the WebSocket may still be on its way.
                Ok(JobStatus::Done(outputs))
                    if sent.is_none()
                        && socket.is_some()
                        && self.picture_in(&outputs).is_none() =>
                {
                    let late = late.get_or_insert_with(Instant::now);
                    if late.elapsed() > patience.ask_seldom {
                        return self.fetch(&outputs, sent).await.map(Some);
                    }
                }
                Ok(JobStatus::Done(outputs)) => return self.fetch(&outputs, sent).await.map(Some),
                Ok(JobStatus::Waiting(before)) => {
                    (failures, nowhere) = (0, 0);
                    if follow(JobEvent::Waiting(before)).is_break() {
                        return Ok(None);
                    }
                }
                Ok(JobStatus::Running) => (failures, nowhere) = (0, 0),
                // Between queue and history there is a moment in which a job is in neither.
                Ok(JobStatus::Unknown) => {
                    nowhere += 1;
                    if nowhere >= NOWHERE {
                        return Err(self.lost("it is neither in the queue nor among what is done"));
                    }
                }
                Err(error @ (RemoteError::Unreachable { .. } | RemoteError::TimedOut { .. })) => {
                    failures += 1;
                    if failures >= FAILURES {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Opens the WebSocket and asks for previews that say which job they are of.
    async fn connect(&self) -> Option<Socket> {
        let url = self
            .client
            .address()
            .socket(&format!("/ws?clientId={}", self.socket_id));
        let mut request = url.as_str().into_client_request().ok()?;
        if let Some(key) = self.client.authorization() {
            request.headers_mut().insert(AUTHORIZATION, key.clone());
        }
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE))
            .max_frame_size(Some(MESSAGE));
        let connected =
            tokio_tungstenite::connect_async_with_config(request, Some(config), false).await;
        let (mut socket, _) = connected.ok()?;
        let flags = json!({"type": "feature_flags", "data": {"supports_preview_metadata": true}});
        socket.send(Message::text(flags.to_string())).await.ok()?;
        Some(socket)
    }

    async fn post(&self, graph: &Value) -> Result<(), RemoteError> {
        let body = json!({
            "prompt": graph,
            "client_id": self.socket_id,
            "prompt_id": self.id,
            "extra_data": {"preview_method": "auto"},
        });
        let url = self.client.address().join("/prompt");
        let request = self
            .client
            .request(reqwest::Method::POST, url.clone())
            .json(&body);
        let answer = request
            .timeout(2 * self.client.patience().answer)
            .send()
            .await
            .map_err(|error| self.client.failure(error))?;
        if answer.status() == reqwest::StatusCode::BAD_REQUEST {
            let body = self.client.body(answer, url.path(), 1 << 20).await?;
            return Err(self.refused("the graph", &fault_of(&body)));
        }
        let answer = self.client.check(answer, url.path()).await?;
        let body = self.client.body(answer, url.path(), 1 << 20).await?;
        let answer = self.client.json(&body)?;
        match answer.get("prompt_id").and_then(Value::as_str) {
            Some(id) if id == self.id => Ok(()),
            _ => Err(self
                .client
                .unexpected("another job's id", "the id of the job")),
        }
    }

    async fn stand(&self) -> Result<JobStatus, RemoteError> {
        let address = self.client.address();
        let history = self
            .client
            .get(address.join(&format!("/history/{}", self.id)))
            .await?;
        if let Some(done) = history.get(&self.id) {
            if let Some(status) = done.get("status")
                && status.get("status_str").and_then(Value::as_str) == Some("error")
            {
                return Err(match error_in(status) {
                    Some(error) => self.refused("this picture", &error),
                    None => self.interrupted(),
                });
            }
            return Ok(JobStatus::Done(
                done.get("outputs").cloned().unwrap_or_default(),
            ));
        }
        let queue = self.client.get(address.join("/queue")).await?;
        let list = |name: &str| {
            queue
                .get(name)
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default()
        };
        let is_own = |job: &Value| job.get(1).and_then(Value::as_str) == Some(&self.id);
        let running = list("queue_running");
        if running.iter().any(is_own) {
            return Ok(JobStatus::Running);
        }
        let pending = list("queue_pending");
        let Some(own) = pending.iter().find(|job| is_own(job)) else {
            return Ok(JobStatus::Unknown);
        };
        let number = |job: &Value| job.get(0).and_then(Value::as_f64).unwrap_or(f64::MAX);
        let before = pending
            .iter()
            .filter(|job| number(job) < number(own))
            .count();
        Ok(JobStatus::Waiting(before + running.len()))
    }

    /// What the outputs say of the picture.
    fn picture_in(&self, outputs: &Value) -> Option<Value> {
        let first = |node: &Value| node.pointer("/images/0").cloned();
        match self.output {
            Some(node) => outputs.get(node).and_then(first),
            None => outputs.as_object()?.values().find_map(first),
        }
    }

    /// The picture among the outputs, or the one that was `sent` over the WebSocket.
    async fn fetch(
        &self,
        outputs: &Value,
        sent: Option<RgbaImage>,
    ) -> Result<RgbaImage, RemoteError> {
        let found = self.picture_in(outputs);
        let Some(found) = found else {
            if let Some(picture) = sent {
                return Ok(picture);
            }
            return Err(self
                .client
                .unexpected("no picture", "a picture of the workflow's output node"));
        };
        let field = |name: &str| found.get(name).and_then(Value::as_str).unwrap_or_default();
        let mut url = self.client.address().join("/view");
        url.query_pairs_mut()
            .append_pair("filename", field("filename"))
            .append_pair("subfolder", field("subfolder"))
            .append_pair("type", field("type"));
        let bytes = self.client.bytes(url, MESSAGE).await?;
        event::decode(&bytes, PICTURE_SIDE).ok_or_else(|| {
            let found = super::super::error::looks_like(&bytes);
            self.client.unexpected(&found, "a picture that can be read")
        })
    }

    /// Takes this job from the queue, or interrupts it where it runs; nobody else's.
    async fn cancel(&self) -> Result<(), RemoteError> {
        let address = self.client.address();
        let mut stand = self.stand().await?;
        if matches!(stand, JobStatus::Waiting(_)) {
            let body = json!({"delete": [self.id]});
            self.client.post(address.join("/queue"), &body).await?;
            // It may have begun meanwhile.
            stand = self.stand().await?;
        }
        if matches!(stand, JobStatus::Running) {
            let body = json!({"prompt_id": self.id});
            self.client.post(address.join("/interrupt"), &body).await?;
        }
        Ok(())
    }

    fn refused(&self, what: &str, message: &str) -> RemoteError {
        RemoteError::Refused {
            address: self.client.address().clone(),
            what: what.to_owned(),
            message: quoted(message),
        }
    }

    fn interrupted(&self) -> RemoteError {
        RemoteError::Interrupted {
            address: self.client.address().clone(),
        }
    }

    fn lost(&self, reason: &str) -> RemoteError {
        RemoteError::Lost {
            address: self.client.address().clone(),
            what: "this picture".to_owned(),
            reason: reason.to_owned(),
        }
    }
}

/// What ComfyUI says of a graph that it does not take: the first node's fault, which is more to the
/// point than "Prompt outputs failed validation".
fn fault_of(body: &[u8]) -> String {
    let Ok(answer) = serde_json::from_slice::<Value>(body) else {
        return super::super::error::looks_like(body);
    };
    let nodes = answer.get("node_errors").and_then(Value::as_object);
    let of_node = nodes.into_iter().flatten().find_map(|(id, node)| {
        let error = node.pointer("/errors/0")?;
        let text = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default();
        let class = node
            .get("class_type")
            .and_then(Value::as_str)
            .unwrap_or_default();
        Some(format!(
            "node {id}, {class}: {}: {}",
            text("message"),
            text("details")
        ))
    });
    let of_all = answer.pointer("/error/message").and_then(Value::as_str);
    of_node
        .or(of_all.map(str::to_owned))
        .unwrap_or_else(|| answer.to_string())
}

/// The message of `execution_error` among a finished job's messages; `None` where somebody stopped
/// it.
fn error_in(status: &Value) -> Option<String> {
    let messages = status.get("messages").and_then(Value::as_array);
    let messages = messages.into_iter().flatten();
    let mut entries =
        messages.filter_map(|message| Some((message.get(0)?.as_str()?, message.get(1)?)));
    let error =
        entries.find(|(kind, _)| matches!(*kind, "execution_error" | "execution_interrupted"));
    let Some((kind, data)) = error else {
        return Some("it failed there without a word".to_owned());
    };
    let text = |name: &str| data.get(name).and_then(Value::as_str).unwrap_or_default();
    (kind == "execution_error")
        .then(|| format!("{}: {}", text("node_type"), text("exception_message")))
}
