//! Requests to one engine: bounded, with time-outs, without redirects to other hosts, and given up
//! as soon as the author cancels.

use std::future::Future;
use std::ops::ControlFlow;
use std::sync::Once;
use std::time::Duration;

use futures_util::StreamExt;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url, redirect};
use serde_json::Value;

use super::error::{looks_like, quoted};
use super::{Address, ApiKey, RemoteError};

/// Timeouts of connections and answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// How often a waiting request looks whether the author has cancelled.
    pub look: Duration,
    /// Until a connection stands.
    pub connect: Duration,
    /// Silence after which a short answer is given up.
    pub answer: Duration,
    /// Silence after which a stream is given up; a large model may read for minutes first.
    pub silence: Duration,
    /// Pauses before a request without effects is sent once more.
    pub pauses: [Duration; 2],
    /// How often an engine is asked whether a job is done while its WebSocket tells.
    pub ask_seldom: Duration,
    /// The same without.
    pub ask_often: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        let ms = Duration::from_millis;
        Timeouts {
            look: ms(50),
            connect: ms(5_000),
            answer: ms(30_000),
            silence: ms(600_000),
            pauses: [ms(250), ms(1_000)],
            ask_seldom: ms(5_000),
            ask_often: ms(500),
        }
    }
}

/// Bytes of a short answer that are read at most.
pub(super) const SHORT: usize = 64 << 20;

/// Asked now and then while an answer is awaited; breaks to cancel.
pub type Cancel<'a> = dyn FnMut() -> ControlFlow<()> + 'a;

/// Speaks with the engine at one address, on the thread that calls it.
pub struct Client {
    address: Address,
    http: reqwest::Client,
    runtime: tokio::runtime::Runtime,
    key: Option<HeaderValue>,
    patience: Timeouts,
}

impl Client {
    /// A client with the usual patience; nothing is sent yet.
    ///
    /// # Errors
    /// As [`Client::with_patience`].
    pub fn new(address: Address, key: Option<&ApiKey>) -> Result<Client, RemoteError> {
        Client::with_patience(address, key, Timeouts::default())
    }

    /// Nothing is sent yet.
    ///
    /// # Errors
    /// When the system's certificates can't be read, or the key has characters that no header can
    /// carry.
    pub fn with_patience(
        address: Address,
        key: Option<&ApiKey>,
        patience: Timeouts,
    ) -> Result<Client, RemoteError> {
        use_ring();
        let origin = address.clone();
        let redirects = redirect::Policy::custom(move |attempt| {
            if origin.is_at(attempt.url()) && attempt.previous().len() < 5 {
                attempt.follow()
            } else {
                attempt.stop()
            }
        });
        let http = reqwest::Client::builder()
            .user_agent(concat!("vokenboard/", env!("CARGO_PKG_VERSION")))
            .redirect(redirects)
            .connect_timeout(patience.connect)
            // One that was kept open is dead where the engine was started anew meanwhile.
            .pool_max_idle_per_host(0)
            // A proxy is an address that the author did not add.
            .no_proxy()
            .build()
            .map_err(|error| RemoteError::Tls(error.into()))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| RemoteError::Tls(error.into()))?;
        let key = key
            .map(|key| {
                let mut value = HeaderValue::from_str(&format!("Bearer {}", key.expose()))
                    .map_err(|_| RemoteError::Unauthorised {
                        address: address.clone(),
                    })?;
                value.set_sensitive(true);
                Ok(value)
            })
            .transpose()?;
        Ok(Client {
            address,
            http,
            runtime,
            key,
            patience,
        })
    }

    /// Address of the engine.
    pub fn address(&self) -> &Address {
        &self.address
    }

    pub(super) fn patience(&self) -> &Timeouts {
        &self.patience
    }

    /// What the key is sent as.
    pub(super) fn authorization(&self) -> Option<&HeaderValue> {
        self.key.as_ref()
    }

    /// A request to `url`, which is at this client's address.
    pub(super) fn request(&self, method: Method, url: Url) -> RequestBuilder {
        let request = self.http.request(method, url);
        match &self.key {
            Some(key) => request.header(AUTHORIZATION, key.clone()),
            None => request,
        }
    }

    /// Waits for `work`, asking `cancel` several times a second. `None` when that broke; the
    /// connection is closed then.
    ///
    /// # Errors
    /// Those of `work`.
    pub(super) fn wait<T>(
        &self,
        cancel: &mut Cancel,
        work: impl Future<Output = Result<T, RemoteError>>,
    ) -> Result<Option<T>, RemoteError> {
        self.runtime.block_on(async {
            let mut work = std::pin::pin!(work);
            loop {
                match tokio::time::timeout(self.patience.look, &mut work).await {
                    Ok(done) => return done.map(Some),
                    Err(_) if cancel().is_break() => return Ok(None),
                    Err(_) => {}
                }
            }
        })
    }

    /// Runs `work`, which cancels by itself, to its end.
    pub(super) fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// The JSON at `url`; asked again twice where the engine does not answer.
    pub(super) async fn get(&self, url: Url) -> Result<Value, RemoteError> {
        self.json(&self.bytes(url, SHORT).await?)
    }

    /// The bytes at `url`, at most `limit`; asked again twice where the engine does not answer.
    pub(super) async fn bytes(&self, url: Url, limit: usize) -> Result<Vec<u8>, RemoteError> {
        let mut pauses = self.patience.pauses.into_iter();
        loop {
            let answer = self
                .send(
                    self.request(Method::GET, url.clone())
                        .timeout(self.patience.answer),
                    url.path(),
                )
                .await;
            let failure = match answer {
                Ok(answer) => match self.body(answer, url.path(), limit).await {
                    Ok(body) => return Ok(body),
                    Err(error) => error,
                },
                Err(error) => error,
            };
            match (pauses.next(), &failure) {
                (Some(pause), RemoteError::Unreachable { .. } | RemoteError::TimedOut { .. }) => {
                    tokio::time::sleep(pause).await;
                }
                _ => return Err(failure),
            }
        }
    }

    /// Posts `body` to `url` and reads the JSON that comes back (`null` where nothing does). Sent
    /// once: what has effects must not be had twice.
    pub(super) async fn post(&self, url: Url, body: &Value) -> Result<Value, RemoteError> {
        let request = self.request(Method::POST, url.clone()).json(body);
        let answer = self
            .send(request.timeout(self.patience.answer), url.path())
            .await?;
        let body = self.body(answer, url.path(), SHORT).await?;
        if body.iter().all(u8::is_ascii_whitespace) {
            return Ok(Value::Null);
        }
        self.json(&body)
    }

    /// Sends a request and looks at its status; `what` names it in errors.
    pub(super) async fn send(
        &self,
        request: RequestBuilder,
        what: &str,
    ) -> Result<Response, RemoteError> {
        let answer = request.send().await.map_err(|error| self.failure(error))?;
        self.check(answer, what).await
    }

    /// An answer whose status says that all is well.
    pub(super) async fn check(
        &self,
        answer: Response,
        what: &str,
    ) -> Result<Response, RemoteError> {
        let (status, address) = (answer.status(), self.address.clone());
        if status.is_success() {
            return Ok(answer);
        }
        if status.is_redirection() {
            let to = answer.headers().get(reqwest::header::LOCATION);
            let to = to.and_then(|to| to.to_str().ok()).unwrap_or("nowhere");
            return Err(RemoteError::Redirected {
                address,
                to: quoted(to),
            });
        }
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Err(RemoteError::Unauthorised { address });
        }
        let body = self.body(answer, what, 1 << 20).await.unwrap_or_default();
        if matches!(
            status,
            StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
        ) {
            return Err(RemoteError::Unreachable {
                address,
                reason: format!("{status}: {}", message(&body)),
                source: None,
            });
        }
        Err(RemoteError::Refused {
            address,
            what: what.to_owned(),
            message: format!("{status}: {}", message(&body)),
        })
    }

    /// Reads an answer whole, at most `limit` bytes of it.
    pub(super) async fn body(
        &self,
        answer: Response,
        what: &str,
        limit: usize,
    ) -> Result<Vec<u8>, RemoteError> {
        let too_large = || RemoteError::TooLarge {
            address: self.address.clone(),
            what: what.to_owned(),
            limit,
        };
        if answer
            .content_length()
            .is_some_and(|length| length > limit as u64)
        {
            return Err(too_large());
        }
        let mut stream = answer.bytes_stream();
        let mut body = Vec::new();
        while let Some(part) = stream.next().await {
            let part = part.map_err(|error| self.failure(error))?;
            if body.len() + part.len() > limit {
                return Err(too_large());
            }
            body.extend_from_slice(&part);
        }
        Ok(body)
    }

    pub(super) fn json(&self, body: &[u8]) -> Result<Value, RemoteError> {
        serde_json::from_slice(body).map_err(|_| self.unexpected(&looks_like(body), "JSON"))
    }

    pub(super) fn unexpected(&self, found: &str, wanted: &str) -> RemoteError {
        RemoteError::Unexpected {
            address: self.address.clone(),
            found: found.to_owned(),
            wanted: wanted.to_owned(),
        }
    }

    pub(super) fn failure(&self, error: reqwest::Error) -> RemoteError {
        let address = self.address.clone();
        if error.is_timeout() && !error.is_connect() {
            return RemoteError::TimedOut {
                address,
                seconds: self.patience.answer.as_secs(),
            };
        }
        // The innermost cause says what happened; those around it repeat the address.
        let mut cause: &dyn std::error::Error = &error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        RemoteError::Unreachable {
            address,
            reason: quoted(&cause.to_string()),
            source: Some(error),
        }
    }
}

/// What an error answer says: OpenAI's, FastAPI's and ComfyUI's forms, or its first words.
pub(super) fn message(body: &[u8]) -> String {
    let Ok(value) = serde_json::from_slice::<Value>(body) else {
        return looks_like(body);
    };
    let messages = [
        value.pointer("/error/message"),
        value.pointer("/error"),
        value.pointer("/detail"),
        value.pointer("/message"),
    ];
    match messages.into_iter().flatten().find_map(Value::as_str) {
        Some(messages) => quoted(messages),
        None => quoted(&value.to_string()),
    }
}

/// TLS computes with ring; nothing else in this program chooses a provider.
fn use_ring() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Fails only where one was installed before, which is then used.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}
