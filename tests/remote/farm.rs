//! Engines that share the pictures of a story, one of which goes away.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::Message;

use super::comfy::{object_info, png};
use super::server::{Asked, Reply, Server, json as reply};
use super::stories::{run, said, story, writer};

/// A ComfyUI that draws job after job, each in `pace`, and falls silent for good after `lives` of
/// them, in the middle of the next.
#[derive(Clone)]
struct Machine {
    pace: Duration,
    lives: usize,
    /// Ids of jobs by the client that waits for them.
    jobs: Arc<Mutex<BTreeMap<String, String>>>,
    done: Arc<Mutex<Vec<String>>>,
    begun: Arc<AtomicUsize>,
}

impl Machine {
    fn start(pace: Duration, lives: usize) -> Server {
        let machine = Machine {
            pace,
            lives,
            jobs: Arc::default(),
            done: Arc::default(),
            begun: Arc::default(),
        };
        Server::start(Box::new(move |asked| machine.answer(asked)))
    }

    fn is_dead(&self) -> bool {
        self.begun.load(Ordering::Relaxed) > self.lives
    }

    fn answer(&self, asked: &Asked) -> Reply {
        if self.is_dead() {
            return Reply::Raw(Box::new(|_| {}));
        }
        let (path, query) = asked.path.split_once('?').unwrap_or((&asked.path, ""));
        let done = || self.done.lock().unwrap().clone();
        match path {
            "/ws" => self.socket(query.trim_start_matches("clientId=").to_owned()),
            "/prompt" if asked.method == "GET" => {
                let left = self.begun.load(Ordering::Relaxed) - done().len();
                reply(&json!({"exec_info": {"queue_remaining": left}}))
            }
            "/prompt" => {
                self.begun.fetch_add(1, Ordering::Relaxed);
                if self.is_dead() {
                    return Reply::Raw(Box::new(|_| {}));
                }
                let body = asked.json();
                let text = |name: &str| body[name].as_str().unwrap().to_owned();
                let id = text("prompt_id");
                self.jobs
                    .lock()
                    .unwrap()
                    .insert(text("client_id"), id.clone());
                reply(&json!({"prompt_id": id, "number": 1, "node_errors": {}}))
            }
            "/view" => Reply::Whole(200, "image/png", png(8)),
            "/system_stats" => reply(
                &json!({"system": {"comfyui_version": "0.3.64"}, "devices": [{"name": "cpu"}]}),
            ),
            "/models/checkpoints" => reply(&json!(["sd15.safetensors"])),
            "/object_info/KSampler" => reply(&object_info()),
            path => match path.strip_prefix("/history/") {
                Some(id) if done().iter().any(|known| known == id) => reply(&json!({id: {
                    "outputs": {"7": {"images": [{"filename": "a.png", "subfolder": "", "type": "temp"}]}},
                    "status": {"status_str": "success", "completed": true, "messages": []}}})),
                Some(_) => reply(&json!({})),
                None if path == "/queue" => {
                    let running = self.jobs.lock().unwrap();
                    let running = running.values().filter(|id| !done().contains(id));
                    let running: Vec<Value> = running.map(|id| json!([1, id])).collect();
                    reply(&json!({"queue_running": running, "queue_pending": []}))
                }
                None => Reply::Whole(404, "text/plain", Vec::new()),
            },
        }
    }

    fn socket(&self, client: String) -> Reply {
        let machine = self.clone();
        Reply::Socket(Box::new(move |mut socket| {
            let begun = Instant::now();
            let id = loop {
                if let Some(id) = machine.jobs.lock().unwrap().get(&client) {
                    break id.clone();
                }
                if begun.elapsed() > Duration::from_secs(5) || machine.is_dead() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(2));
            };
            std::thread::sleep(machine.pace);
            machine.done.lock().unwrap().push(id.clone());
            for (kind, data) in [
                (
                    "execution_success",
                    json!({"prompt_id": id, "timestamp": 1}),
                ),
                ("executing", json!({"node": null, "prompt_id": id})),
            ] {
                let message = json!({"type": kind, "data": data}).to_string();
                let _ = socket.send(Message::text(message));
            }
            std::thread::sleep(Duration::from_millis(100));
        }))
    }
}

fn add(home: &Path, server: &Server) {
    let added = run(home, &["models", "add", "comfyui", &server.address]);
    assert!(added.status.success(), "{}", said(&added));
}

/// Who drew each panel's active picture, by port.
fn devices(dir: &Path) -> Vec<String> {
    let story = story(dir);
    let panels = story["panels"].as_array().unwrap().clone();
    let device = |panel: &Value| {
        let takes = panel["pictures"]["items"].as_array().unwrap();
        takes.last().unwrap()["record"]["device"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    panels.iter().map(device).collect()
}

#[test]
fn machines_share_a_story_s_pictures_and_when_one_dies_the_other_draws_on() {
    let home = tempfile::tempdir().unwrap();
    let pace = Duration::from_millis(300);
    let (lasting, dying) = (Machine::start(pace, usize::MAX), Machine::start(pace, 2));
    let words = writer();
    add(home.path(), &lasting);
    add(home.path(), &dying);
    let added = run(
        home.path(),
        &["models", "add", &format!("{}/v1", words.address)],
    );
    assert!(added.status.success(), "{}", said(&added));
    let out = home.path().join("story");
    let told = run(
        home.path(),
        &[
            "tell",
            "Milo found a lantern.",
            "--model",
            "sd15",
            "--writer",
            "story-7b",
            "--panels",
            "7",
            "--no-plan",
            "--seed",
            "4",
            "--json",
            "--out",
            out.to_str().unwrap(),
        ],
    );
    let output = said(&told);
    assert!(told.status.success(), "{output}");
    let host = |server: &Server| server.address.trim_start_matches("http://").to_owned();
    // Two by the one that died, five by the other, whatever the order in which they came.
    let all = devices(&out);
    let by = |server: &Server| {
        all.iter()
            .filter(|device| device.contains(&host(server)))
            .count()
    };
    assert_eq!((all.len(), by(&dying), by(&lasting)), (7, 2, 5), "{all:?}");
    assert!(output.contains("another engine draws on"), "{output}");
    let events: Vec<Value> = output
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let done = events.iter().filter(|event| event["event"] == "panel_done");
    let panels: Vec<u64> = done
        .clone()
        .map(|event| event["panel"].as_u64().unwrap())
        .collect();
    let mut sorted = panels.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, [1, 2, 3, 4, 5, 6, 7]);
    for event in done {
        let at = event["panel"].as_u64().unwrap() as usize - 1;
        assert_eq!(event["device"], all[at]);
    }
    // The story is told in its order: each text was asked for with those before.
    let story = story(&out);
    let texts: Vec<&str> = story["panels"]
        .as_array()
        .unwrap()
        .iter()
        .map(|panel| panel["text"].as_str().unwrap())
        .collect();
    assert_eq!(texts[0], "Milo found a lantern.");
    assert!(texts.windows(2).all(|pair| pair[0] != pair[1]), "{texts:?}");

    // All are drawn again by what is left.
    let again = run(home.path(), &["regenerate", out.to_str().unwrap(), "--all"]);
    assert!(again.status.success(), "{}", said(&again));
    assert!(
        said(&again).contains("added 7 pictures"),
        "{}",
        said(&again)
    );
    let all = devices(&out);
    assert!(
        all.iter().all(|device| device.contains(&host(&lasting))),
        "{all:?}"
    );
}

#[test]
fn when_all_machines_are_gone_the_texts_are_kept_and_the_remedy_is_told() {
    let home = tempfile::tempdir().unwrap();
    let dying = Machine::start(Duration::from_millis(20), 1);
    add(home.path(), &dying);
    let out = home.path().join("story");
    let told = run(
        home.path(),
        &[
            "tell",
            "Milo found a lantern.",
            "--model",
            "sd15",
            "--panels",
            "3",
            "--seed",
            "4",
            "--out",
            out.to_str().unwrap(),
        ],
    );
    let output = said(&told);
    assert!(!told.status.success());
    assert!(
        output.contains("can't be reached") && output.contains("regenerate"),
        "{output}"
    );
    let story = story(&out);
    let panels = story["panels"].as_array().unwrap();
    assert_eq!(panels.len(), 2);
    assert!(!panels[1]["text"].as_str().unwrap().is_empty());
    assert_eq!(panels[0]["pictures"]["items"].as_array().unwrap().len(), 1);
}
