//! OpenAI-compatible servers.

use std::io::Write;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::json;
use vokenboard::llm::Sampling;
use vokenboard::llm::chat::{ChatOptions, FinishReason, Message, MessagePart, Reply as Answer};
use vokenboard::remote::openai::{Endpoint, ServerKind as Kind, chat, list};
use vokenboard::remote::{Address, ApiKey, Client, RemoteError};

use super::server::{Asked, Reply, Server, events, json};
use super::{client, go_on};

fn delta(text: &str) -> String {
    json!({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]})
        .to_string()
}

fn end() -> Vec<String> {
    let last = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
    vec![last.to_string(), "[DONE]".to_owned()]
}

fn question() -> Vec<Message> {
    vec![Message::user("Go on.")]
}

fn options() -> ChatOptions {
    ChatOptions {
        sampling: Sampling {
            seed: 7,
            temperature: 0.8,
            top_p: 0.9,
            ..Sampling::default()
        },
        max_tokens: 60,
        stop: vec!["\n".to_owned()],
    }
}

/// A model of a server of this kind that sees.
fn model(server: Kind) -> Endpoint {
    Endpoint {
        model: "story".to_owned(),
        server,
        context: 4096,
        sees: true,
    }
}

fn ask(server: &Server) -> Result<Option<Answer>, RemoteError> {
    let client = client(&format!("{}/v1", server.address));
    chat(
        &client,
        &model(Kind::Other),
        &question(),
        &options(),
        &mut |_| go_on(),
    )
}

/// The error of a server that answers a chat like this; one sentence that names the address.
fn fault(route: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> String {
    let server = Server::start(Box::new(route));
    let error = ask(&server).unwrap_err().to_string();
    assert!(error.contains("http://127.0.0.1"), "{error}");
    assert!(!error.contains('\n'), "{error}");
    error
}

#[test]
fn an_answer_is_streamed_without_thoughts() {
    let server = Server::start(Box::new(|_| {
        let thought = json!({"choices": [{"delta": {"reasoning_content": "Hm."}}]}).to_string();
        let mut all = vec![
            thought,
            delta("Milo "),
            delta("sprang über "),
            delta("鹿。"),
        ];
        all.extend(end());
        events(all, Duration::from_millis(1))
    }));
    let client = client(&format!("{}/v1", server.address));
    let mut pieces = Vec::new();
    let answer = chat(
        &client,
        &model(Kind::Other),
        &question(),
        &options(),
        &mut |piece| {
            if !piece.is_empty() {
                pieces.push(piece.to_owned());
            }
            go_on()
        },
    );
    let answer = answer.unwrap().unwrap();
    assert_eq!(
        (answer.text.as_str(), answer.finish),
        ("Milo sprang über 鹿。", FinishReason::Stop)
    );
    assert_eq!(pieces, ["Milo ", "sprang über ", "鹿。"]);
    let asked = server.requests("/v1/chat/completions")[0].json();
    assert_eq!(asked["model"], "story");
    assert_eq!(asked["seed"], 7);
    assert_eq!(asked["stop"], json!(["\n"]));
    assert_eq!(
        asked["messages"][0],
        json!({"role": "user", "content": "Go on."})
    );
}

#[test]
fn pictures_go_as_data_urls_and_the_key_in_its_header() {
    let server = Server::start(Box::new(|_| events(end(), Duration::ZERO)));
    let key = ApiKey::new("s3cret").unwrap();
    let client = Client::new(Address::parse(&server.address).unwrap(), Some(&key)).unwrap();
    let mut messages = question();
    messages[0]
        .parts
        .push(MessagePart::Picture(Arc::new(image::RgbaImage::new(
            1024, 2,
        ))));
    messages[0].push_str("And on.");
    chat(
        &client,
        &model(Kind::Other),
        &messages,
        &options(),
        &mut |_| go_on(),
    )
    .unwrap();
    let asked = &server.requests("/chat/completions")[0];
    assert_eq!(asked.header("authorization"), Some("Bearer s3cret"));
    let content = asked.json()["messages"][0]["content"].clone();
    assert_eq!(content[0], json!({"type": "text", "text": "Go on."}));
    assert_eq!(content[2], json!({"type": "text", "text": "And on."}));
    let url = content[1]["image_url"]["url"].as_str().unwrap();
    let data = url.strip_prefix("data:image/png;base64,").unwrap();
    let data = base64::engine::general_purpose::STANDARD.decode(data);
    let seen = image::load_from_memory(&data.unwrap()).unwrap();
    assert_eq!((seen.width(), seen.height()), (512, 1));
}

#[test]
fn a_server_that_refuses_the_extra_fields_is_asked_without_them() {
    let server = Server::start(Box::new(|asked| {
        if asked.json().get("reasoning_effort").is_some() {
            let body = json!({"error": {"message": "unknown field reasoning_effort"}});
            return Reply::Whole(400, "application/json", body.to_string().into_bytes());
        }
        let mut all = vec![delta("Yes.")];
        all.extend(end());
        events(all, Duration::ZERO)
    }));
    assert_eq!(ask(&server).unwrap().unwrap().text, "Yes.");
    assert_eq!(server.requests("/").len(), 2);
}

#[test]
fn what_openai_s_interface_does_not_know_goes_by_each_server_s_own_name() {
    let server = Server::start(Box::new(|_| events(end(), Duration::ZERO)));
    let client = client(&server.address);
    let mut options = options();
    let sent = |kind, options: &ChatOptions| {
        let answer = chat(&client, &model(kind), &question(), options, &mut |_| {
            go_on()
        });
        let asked = server.requests("/").pop().map(|asked| asked.json());
        answer.map(|_| asked.unwrap_or_default())
    };
    let llama = sent(Kind::LlamaServer, &options).unwrap();
    assert_eq!((&llama["top_k"], &llama["min_p"]), (&json!(0), &json!(0.0)));
    assert!(llama.get("repeat_penalty").is_some());
    let vllm = sent(Kind::Vllm, &options).unwrap();
    assert_eq!(vllm["top_k"], -1);
    assert!(vllm.get("repetition_penalty").is_some());
    let ollama = sent(Kind::Ollama, &options).unwrap();
    assert!(ollama.get("top_k").is_none());
    options.sampling.top_k = 40;
    assert_eq!(sent(Kind::LmStudio, &options).unwrap()["top_k"], 40);
    // What would be passed over is refused.
    let error = sent(Kind::Ollama, &options).unwrap_err().to_string();
    assert!(
        error.contains("Ollama") && error.contains("top-k"),
        "{error}"
    );
}

#[test]
fn cancelling_closes_the_stream_at_once() {
    let closed = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&closed);
    let server = Server::start(Box::new(move |_| {
        let seen = Arc::clone(&seen);
        Reply::Raw(Box::new(move |stream| {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
            let _ = stream.write_all(head.as_bytes());
            for _ in 0..2000 {
                let event = format!("data: {}\n\n", delta("on "));
                if stream.write_all(event.as_bytes()).is_err() {
                    seen.store(true, Ordering::Relaxed);
                    return;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }))
    }));
    let client = client(&server.address);
    let mut pieces = 0;
    let begun = Instant::now();
    let answer = chat(
        &client,
        &model(Kind::Other),
        &question(),
        &options(),
        &mut |piece| {
            pieces += usize::from(!piece.is_empty());
            if pieces < 3 {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        },
    );
    assert_eq!(answer.unwrap(), None);
    assert!(begun.elapsed() < Duration::from_secs(5));
    // What is left of the connection goes when the client's thread runs again or the client does.
    drop(client);
    let wait = Instant::now();
    while !closed.load(Ordering::Relaxed) && wait.elapsed() < Duration::from_secs(8) {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(closed.load(Ordering::Relaxed), "the server wrote on");
}

#[test]
fn a_stream_that_is_not_closed_after_the_last_piece_is_an_answer() {
    let server = Server::start(Box::new(|_| {
        Reply::Raw(Box::new(|stream| {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
            let last = &end()[0];
            let all = format!(
                "{head}: a comment\n\ndata: {}\n\ndata: {last}\n\n",
                delta("Yes.")
            );
            let _ = stream.write_all(all.as_bytes());
            std::thread::sleep(Duration::from_secs(3));
        }))
    }));
    let begun = Instant::now();
    assert_eq!(ask(&server).unwrap().unwrap().text, "Yes.");
    assert!(begun.elapsed() < Duration::from_secs(2));
}

#[test]
fn cancelling_works_while_the_server_is_silent() {
    let server = Server::start(Box::new(|_| {
        Reply::Raw(Box::new(|_| std::thread::sleep(Duration::from_secs(4))))
    }));
    let client = client(&server.address);
    let begun = Instant::now();
    let answer = chat(
        &client,
        &model(Kind::Other),
        &question(),
        &options(),
        &mut |_| {
            if begun.elapsed() > Duration::from_millis(100) {
                return ControlFlow::Break(());
            }
            go_on()
        },
    );
    assert_eq!(answer.unwrap(), None);
    assert!(begun.elapsed() < Duration::from_secs(3));
}

#[test]
fn lying_servers_give_one_sentence() {
    let whole = |status, kind, body: &str| Reply::Whole(status, kind, body.as_bytes().to_vec());
    let page = "<!DOCTYPE html><html><body>Login</body></html>";
    assert!(fault(move |_| whole(200, "text/html", page)).contains("a web page"));
    assert!(fault(move |_| whole(404, "text/html", page)).contains("404"));
    assert!(fault(move |_| whole(401, "application/json", "{}")).contains("--key-file"));
    assert!(
        fault(move |_| whole(
            500,
            "application/json",
            r#"{"error":{"message":"out of memory"}}"#
        ))
        .contains("out of memory")
    );
    assert!(fault(move |_| whole(503, "text/plain", "loading model")).contains("503"));
    assert!(
        fault(|_| events(vec!["{\"choices\": [{\"del".into()], Duration::ZERO))
            .contains("broken JSON")
    );
    assert!(fault(|_| events(vec![delta("Half a")], Duration::ZERO)).contains("in the middle"));
    assert!(
        fault(|_| events(
            vec![delta("a"), r#"{"error":{"message":"slot lost"}}"#.into()],
            Duration::ZERO
        ))
        .contains("slot lost")
    );
    // A line that never ends.
    let endless = fault(|_| {
        Reply::Raw(Box::new(|stream| {
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: ");
            while stream.write_all(&[b'x'; 65536]).is_ok() {}
        }))
    });
    assert!(endless.contains("more than"), "{endless}");
    // A server that goes on thinking, says nothing, or answers as a whole instead of in pieces.
    let thought = json!({"choices": [{"delta": {"reasoning_content": "x".repeat(65536)}}]});
    let thought = format!("data: {thought}\n\n");
    let thinking = fault(move |_| {
        let thought = thought.clone();
        Reply::Raw(Box::new(move |stream| {
            let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
            let _ = stream.write_all(head);
            while stream.write_all(thought.as_bytes()).is_ok() {}
        }))
    });
    assert!(thinking.contains("more than"), "{thinking}");
    let silent = fault(|_| {
        Reply::Raw(Box::new(|stream| {
            let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
            let _ = stream.write_all(head);
            std::thread::sleep(Duration::from_secs(2));
        }))
    });
    assert!(silent.contains("said nothing"), "{silent}");
    assert!(fault(|_| json(&json!({"choices": []}))).contains("a stream of answers"));
    // Bytes that are no text, and a connection that dies in the head.
    fault(|_| events(vec!["\u{0}\u{1}".into()], Duration::ZERO));
    fault(|_| Reply::Raw(Box::new(|stream| drop(stream.write_all(b"HTTP/1.1 20")))));
}

#[test]
fn nothing_follows_a_redirect_to_another_host() {
    let other = Server::start(Box::new(|_| json(&json!({"data": []}))));
    let to = other.address.clone();
    let error = fault(move |_| {
        let to = to.clone();
        Reply::Raw(Box::new(move |stream| {
            let head = format!(
                "HTTP/1.1 307 X\r\nLocation: {to}/v1/chat/completions\r\nContent-Length: 0\r\n\r\n"
            );
            let _ = stream.write_all(head.as_bytes());
        }))
    });
    assert!(error.contains(&other.address), "{error}");
    assert!(other.requests("/").is_empty());
}

#[test]
fn an_engine_that_is_not_there_is_named() {
    let gone = client("http://127.0.0.1:9/v1");
    let error = list(&gone, &mut go_on).unwrap_err().to_string();
    assert!(
        error.contains("http://127.0.0.1:9/v1 can't be reached"),
        "{error}"
    );
}

#[test]
fn models_are_listed_with_what_each_server_says_of_them() {
    let models = |owner: &'static str| json!({"object": "list", "data": [{"id": "a", "object": "model", "owned_by": owner, "max_model_len": 9000}]});
    fn not_found() -> Reply {
        Reply::Whole(404, "text/plain", b"404".to_vec())
    }
    let found = |route: Box<super::server::Route>| {
        let server = Server::start(route);
        let client = client(&format!("{}/v1", server.address));
        list(&client, &mut go_on).unwrap().unwrap()
    };
    let llama = found(Box::new(move |asked| match asked.path.as_str() {
        "/v1/models" => json(&models("llamacpp")),
        "/props" => json(
            &json!({"default_generation_settings": {"n_ctx": 8192}, "modalities": {"vision": true}}),
        ),
        _ => not_found(),
    }));
    assert_eq!(
        (llama[0].server, llama[0].context, llama[0].sees),
        (Kind::LlamaServer, 8192, true)
    );
    let vllm = found(Box::new(move |_| json(&models("vllm"))));
    assert_eq!((vllm[0].server, vllm[0].context), (Kind::Vllm, 9000));
    let ollama = found(Box::new(|asked| match asked.path.as_str() {
        "/v1/models" => json(
            &json!({"data": [{"id": "qwen", "owned_by": "library"}, {"id": "embed", "owned_by": "library"}]}),
        ),
        "/api/version" => json(&json!({"version": "0.12"})),
        "/api/show" if asked.json()["model"] == "embed" => {
            json(&json!({"capabilities": ["embedding"]}))
        }
        "/api/show" => json(
            &json!({"capabilities": ["completion", "vision"], "parameters": "stop \"x\"\nnum_ctx    16384"}),
        ),
        _ => not_found(),
    }));
    assert_eq!(ollama.len(), 1);
    assert_eq!(
        (ollama[0].server, ollama[0].context, ollama[0].sees),
        (Kind::Ollama, 16384, true)
    );
    let studio = found(Box::new(move |asked| match asked.path.as_str() {
        "/v1/models" => json(&models("organization_owner")),
        "/api/v0/models" => {
            json(&json!({"data": [{"id": "a", "type": "vlm", "max_context_length": 32768}]}))
        }
        _ => not_found(),
    }));
    assert_eq!(
        (studio[0].server, studio[0].context, studio[0].sees),
        (Kind::LmStudio, 32768, true)
    );
    let none = Server::start(Box::new(|_| json(&json!({"data": []}))));
    let error = list(&client(&none.address), &mut go_on)
        .unwrap_err()
        .to_string();
    assert!(error.contains("no model"), "{error}");
}
