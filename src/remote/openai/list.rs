//! Which models a server has, how much each reads and whether it sees pictures.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::{Cancel, Client, RemoteError};

/// Tokens that a model reads where its server does not say: what Ollama gives a model by default.
const USUAL_CONTEXT: usize = 4096;

/// The `pipeline` that the manifest of a model on such a server names.
pub const PIPELINE: &str = "endpoint";

/// The servers that differ in more than their OpenAI interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServerKind {
    /// llama.cpp's `llama-server`.
    LlamaServer,
    /// Ollama.
    Ollama,
    /// LM Studio.
    LmStudio,
    /// vLLM.
    Vllm,
    /// Any other server with OpenAI's interface.
    Other,
}

impl ServerKind {
    /// Its name for people.
    pub fn label(self) -> &'static str {
        match self {
            ServerKind::LlamaServer => "llama-server",
            ServerKind::Ollama => "Ollama",
            ServerKind::LmStudio => "LM Studio",
            ServerKind::Vllm => "vLLM",
            ServerKind::Other => "OpenAI-compatible server",
        }
    }
}

/// A model that a server offers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The server's name of it.
    pub model: String,
    /// The server program.
    pub server: ServerKind,
    /// Tokens of prompt and answer together.
    pub context: usize,
    /// Reads pictures.
    pub sees: bool,
}

/// The models of the server that write; those that only embed are left out. `None` when
/// cancelled.
///
/// # Errors
/// When the server does not answer `GET models` as OpenAI's does, or has no model.
pub fn list(client: &Client, cancel: &mut Cancel) -> Result<Option<Vec<Endpoint>>, RemoteError> {
    client.wait(cancel, async {
        let answer = client.get(client.address().join("/models")).await?;
        let data = answer.get("data").and_then(Value::as_array);
        let Some(data) = data else {
            return Err(client.unexpected("JSON without \"data\"", "a list of models"));
        };
        let mut found = Vec::new();
        let server = server_of(client, data).await;
        for entry in data {
            let Some(id) = entry.get("id").and_then(Value::as_str) else {
                return Err(client.unexpected("a model without an id", "a list of models"));
            };
            if let Some(model) = look_at(client, server, id, entry).await {
                found.push(model);
            }
        }
        if found.is_empty() {
            return Err(client.unexpected("no model that writes", "a list of models"));
        }
        Ok(found)
    })
}

/// Checks that the server still offers `model`.
///
/// # Errors
/// When it does not, or does not answer.
pub fn check_offered(client: &Client, model: &str) -> Result<(), RemoteError> {
    let answer = client.run(client.get(client.address().join("/models")))?;
    let data = answer.get("data").and_then(Value::as_array);
    let mut names = data
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.get("id")?.as_str());
    if names.any(|name| name == model) {
        return Ok(());
    }
    Err(RemoteError::Lost {
        address: client.address().clone(),
        what: format!("the model {model}"),
        reason: "its list does not name it any more".to_owned(),
    })
}

/// Told by `owned_by` in the list, and by what only one of them answers.
async fn server_of(client: &Client, data: &[Value]) -> ServerKind {
    let owner = |name: &str| {
        let owned = |entry: &Value| entry.get("owned_by").and_then(Value::as_str) == Some(name);
        data.iter().any(owned)
    };
    if owner("llamacpp") {
        return ServerKind::LlamaServer;
    }
    if owner("vllm") {
        return ServerKind::Vllm;
    }
    let root = client.address().root();
    let has = |value: Result<Value, RemoteError>, field: &str| {
        value.is_ok_and(|value| value.get(field).is_some())
    };
    if has(client.get(root.join("/api/version")).await, "version") {
        return ServerKind::Ollama;
    }
    if has(client.get(root.join("/api/v0/models")).await, "data") {
        return ServerKind::LmStudio;
    }
    ServerKind::Other
}

/// What the server says of one model; `None` for one that does not write.
async fn look_at(client: &Client, server: ServerKind, id: &str, entry: &Value) -> Option<Endpoint> {
    let root = client.address().root();
    let number = |value: Option<&Value>| value.and_then(Value::as_u64).map(|n| n as usize);
    let mut model = Endpoint {
        model: id.to_owned(),
        server,
        context: USUAL_CONTEXT,
        sees: false,
    };
    match server {
        ServerKind::LlamaServer => {
            let props = client.get(root.join("/props")).await.unwrap_or_default();
            let context = number(props.pointer("/default_generation_settings/n_ctx"))
                .or_else(|| number(entry.pointer("/meta/n_ctx_train")));
            model.context = context.unwrap_or(model.context);
            model.sees = match props.pointer("/modalities/vision") {
                Some(sees) => sees == &Value::Bool(true),
                None => sees_images(entry),
            };
        }
        ServerKind::Vllm => {
            model.context = number(entry.get("max_model_len")).unwrap_or(model.context);
        }
        ServerKind::Ollama => {
            let show = client
                .post(root.join("/api/show"), &json!({"model": id}))
                .await
                .unwrap_or_default();
            let can = |what: &str| {
                let list = show.get("capabilities").and_then(Value::as_array);
                list.map(|list| list.iter().any(|can| can == what))
            };
            if can("completion") == Some(false) {
                return None;
            }
            model.sees = can("vision") == Some(true);
            // The interface can't ask for more than the model file sets.
            let parameters = show.get("parameters").and_then(Value::as_str);
            let set = parameters.unwrap_or_default().lines().find_map(|line| {
                let (name, value) = line.trim().split_once(char::is_whitespace)?;
                (name == "num_ctx").then(|| value.trim().parse().ok())?
            });
            model.context = set.unwrap_or(model.context);
        }
        ServerKind::LmStudio => {
            let all = client
                .get(root.join("/api/v0/models"))
                .await
                .unwrap_or_default();
            let data = all.get("data").and_then(Value::as_array);
            let own = data
                .into_iter()
                .flatten()
                .find(|own| own.get("id") == Some(&json!(id)));
            let own = own.unwrap_or(&Value::Null);
            match own.get("type").and_then(Value::as_str) {
                Some("embeddings") => return None,
                kind => model.sees = kind == Some("vlm"),
            }
            let context = number(own.get("loaded_context_length"))
                .or_else(|| number(own.get("max_context_length")));
            model.context = context.unwrap_or(model.context);
        }
        ServerKind::Other => {
            let context = ["max_model_len", "context_length", "context_window"];
            let context = context.iter().find_map(|name| number(entry.get(*name)));
            model.context = context.unwrap_or(model.context);
            model.sees = sees_images(entry);
        }
    }
    Some(model)
}

/// Whether an entry of the list names pictures among what the model reads.
fn sees_images(entry: &Value) -> bool {
    let reads = entry.pointer("/architecture/input_modalities");
    let reads = reads.and_then(Value::as_array);
    reads.is_some_and(|all| all.iter().any(|one| one == "image"))
}
