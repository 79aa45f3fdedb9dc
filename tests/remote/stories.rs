//! What an author does with engines elsewhere, by the command line.

use std::path::Path;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use assert_cmd::Command;
use serde_json::{Value, json};

use super::comfy::Comfy;
use super::server::{Reply, Server, events, json as reply};

/// What it says, to whatever it is asked: texts and picture prompts.
const SENTENCES: [&str; 8] = [
    "Milo carried the lantern over the frozen brook.",
    "An old owl asked him where he had found it.",
    "They followed the light to a door in the hill.",
    "Behind it the whole village was waiting with soup.",
    "A goose in a red scarf played the fiddle by the fire.",
    "Grandmother counted the spoons and found one too many.",
    "Outside the snow had begun to glow like a lamp.",
    "In the morning the brook sang under its roof of ice.",
];

/// A server that writes another sentence each time, and thinks aloud before.
pub fn writer() -> Server {
    let told = Arc::new(AtomicUsize::new(0));
    Server::start(Box::new(move |asked| match asked.path.as_str() {
        "/v1/models" => {
            reply(&json!({"data": [{"id": "story:7b", "owned_by": "vllm", "max_model_len": 8192}]}))
        }
        "/v1/chat/completions" => {
            let next = told.fetch_add(1, Ordering::Relaxed) % SENTENCES.len();
            let mut all: Vec<String> = ["<think>Hm, an owl?</think>", SENTENCES[next]]
                .iter()
                .map(|text| json!({"choices": [{"delta": {"content": text}}]}).to_string())
                .collect();
            all.push(json!({"choices": [{"delta": {}, "finish_reason": "stop"}]}).to_string());
            all.push("[DONE]".to_owned());
            events(all, Duration::ZERO)
        }
        _ => Reply::Whole(404, "text/plain", Vec::new()),
    }))
}

/// The program with models of its own list, so that nothing is added to the repository's.
pub fn run(home: &Path, arguments: &[&str]) -> Output {
    let models = home.join("models");
    if !models.exists() {
        std::fs::create_dir(&models).unwrap();
        for model in ["sprout", "smollm2"] {
            let from = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("models")
                .join(model);
            std::os::unix::fs::symlink(from, models.join(model)).unwrap();
        }
    }
    Command::cargo_bin("vokenboard")
        .unwrap()
        .env("VOKENBOARD_MODELS", &models)
        .env("VOKENBOARD_KEYS", home.join("keys.json"))
        .env("HOME", home)
        .env("VOKENBOARD_DATA", home.join("data"))
        .env("RUST_LOG", "vokenboard=debug")
        .args(arguments)
        .output()
        .unwrap()
}

pub fn said(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&text).into_owned()
}

pub fn story(dir: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(dir.join("story.json")).unwrap()).unwrap()
}

/// The files below `dir` that hold `words`; links are not followed.
fn holding(dir: &Path, words: &[u8]) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(holding(&entry.path(), words));
        } else if kind.is_file() {
            let bytes = std::fs::read(entry.path()).unwrap();
            if bytes.windows(words.len()).any(|part| part == words) {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    found
}

#[test]
fn a_story_is_written_by_one_engine_and_drawn_by_another() {
    let home = tempfile::tempdir().unwrap();
    let (words, pictures) = (writer(), Comfy::start(""));
    let key = home.path().join("key.txt");
    std::fs::write(&key, "s3cret\n").unwrap();
    let added = run(
        home.path(),
        &[
            "models",
            "add",
            &format!("{}/v1", words.address),
            "--key-file",
            key.to_str().unwrap(),
        ],
    );
    assert!(added.status.success(), "{}", said(&added));
    assert!(
        said(&added).contains("--writer story-7b"),
        "{}",
        said(&added)
    );
    let added = run(
        home.path(),
        &["models", "add", "comfyui", &pictures.address],
    );
    assert!(added.status.success(), "{}", said(&added));
    assert!(said(&added).contains("--model sd15"), "{}", said(&added));

    let out = home.path().join("story");
    let told = run(
        home.path(),
        &[
            "tell",
            "Milo found a lantern.",
            "--writer",
            "story-7b",
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
    assert!(told.status.success(), "{}", said(&told));
    let story = story(&out);
    let panels = story["panels"].as_array().unwrap();
    assert_eq!(panels.len(), 3);
    let text = |at: usize| panels[at]["text"].as_str().unwrap();
    assert_eq!(text(0), "Milo found a lantern.");
    assert!(
        SENTENCES.contains(&text(1)) && SENTENCES.contains(&text(2)),
        "{story}"
    );
    let whole = story.to_string();
    assert!(
        !whole.contains("s3cret") && !whole.contains("think"),
        "{whole}"
    );
    // The graph with all values is kept, so that the picture can be made again.
    let record = &panels[0]["pictures"]["items"][0]["record"];
    assert!(
        record["graph"]
            .to_string()
            .contains(record["prompt"].as_str().unwrap()),
        "{record}"
    );
    assert!(
        record["device"].as_str().unwrap().contains("127.0.0.1"),
        "{record}"
    );
    for format in ["html", "pdf", "markdown"] {
        let to = home.path().join(format!("export-{format}"));
        let exported = run(
            home.path(),
            &[
                "export",
                out.to_str().unwrap(),
                "--format",
                format,
                "--out",
                to.to_str().unwrap(),
            ],
        );
        assert!(exported.status.success(), "{}", said(&exported));
    }
    // The key is in its own file and nowhere else: no story, log, list of models or export.
    let holders = holding(home.path(), b"s3cret");
    assert_eq!(
        holders,
        [home.path().join("key.txt"), home.path().join("keys.json")]
    );
    assert!(
        !holding(home.path(), b"drawn from").is_empty(),
        "there is no log"
    );
    let authorised = words.requests("/v1/chat/completions");
    assert!(
        authorised
            .iter()
            .all(|asked| asked.header("authorization") == Some("Bearer s3cret"))
    );
}

/// Adds a workflow by its name, and what was said of it.
fn add_workflow(home: &Path, server: &Server, name: &str, graph: &Value) -> Output {
    let workflow = home.join(format!("{name}.json"));
    std::fs::write(&workflow, graph.to_string()).unwrap();
    let workflow = workflow.to_str().unwrap();
    let address = server.address.as_str();
    let added = run(
        home,
        &["models", "add", "comfyui", address, "--workflow", workflow],
    );
    assert!(added.status.success(), "{}", said(&added));
    added
}

#[test]
fn the_cast_s_pictures_go_into_the_reference_inputs_of_a_workflow() {
    let home = tempfile::tempdir().unwrap();
    let server = Comfy::start("");
    // Two inputs for references, known by their titles; a third loads what the author chose there.
    let load = |title: &str| {
        json!({"class_type": "LoadImage", "inputs": {"image": format!("{title}.png")},
            "_meta": {"title": title}})
    };
    let graph = json!({
        "1": load("Reference"),
        "2": load("reference 2"),
        "3": load("backdrop"),
        "4": {"class_type": "CLIPTextEncode", "inputs": {"text": "x"}, "_meta": {"title": "Prompt"}},
        "7": {"class_type": "SaveImage", "inputs": {"images": ["4", 0]}},
    });
    add_workflow(home.path(), &server, "edit", &graph);
    let mut cast = Vec::new();
    for (name, colour) in [("Milo", [250, 0, 0]), ("the owl", [0, 0, 250])] {
        let file = format!("{}.png", name.replace(' ', "-"));
        let picture = image::RgbImage::from_pixel(16, 16, image::Rgb(colour));
        picture.save(home.path().join(&file)).unwrap();
        cast.push(json!({"name": name, "description": "", "pictures": [file]}));
    }
    let file = home.path().join("cast.json");
    std::fs::write(&file, json!({"cast": cast}).to_string()).unwrap();

    // The names of the pictures that a panel's graph loads, and the colours that were sent for it.
    let mut seen = (0, 0);
    let mut drawn = |opening: &str, out: &str| {
        let told = run(
            home.path(),
            &[
                "tell",
                opening,
                "--model",
                "edit",
                "--cast",
                file.to_str().unwrap(),
                "--panels",
                "1",
                "--seed",
                "4",
                "--out",
                home.path().join(out).to_str().unwrap(),
            ],
        );
        assert!(told.status.success(), "{}", said(&told));
        let (graphs, sent) = (server.requests("/prompt"), server.requests("/upload/image"));
        assert_eq!(graphs.len(), seen.0 + 1);
        let graph = graphs.last().unwrap().json()["prompt"].clone();
        let names = ["1", "2", "3"].map(|node| graph[node]["inputs"]["image"].clone());
        let colours: Vec<[u8; 3]> = sent[seen.1..]
            .iter()
            .map(|asked| colour(&asked.body))
            .collect();
        seen = (graphs.len(), sent.len());
        (names, colours)
    };
    let sent = || json!("vokenboard/a.png");
    let (names, colours) = drawn("Milo meets the owl.", "both");
    assert_eq!(names, [sent(), sent(), json!("backdrop.png")]);
    assert_eq!(colours, [[250, 0, 0], [0, 0, 250]]);
    // One alone is in both: the picture of the author's example is nobody of this story.
    let (names, colours) = drawn("An old tree stood where the owl slept.", "one");
    assert_eq!(names, [sent(), sent(), json!("backdrop.png")]);
    assert_eq!(colours, [[0, 0, 250]]);
    // Without anybody the workflow is as it was.
    let (names, colours) = drawn("It snowed all night.", "none");
    assert_eq!(
        names,
        ["Reference.png", "reference 2.png", "backdrop.png"].map(|name| json!(name))
    );
    assert!(colours.is_empty());
}

#[test]
fn what_a_workflow_has_no_input_for_is_told_and_never_passed_over() {
    let home = tempfile::tempdir().unwrap();
    let server = Comfy::start("");
    let graph = json!({
        "1": {"class_type": "Sampler", "inputs": {"cfg": 3.5}, "_meta": {"title": "Guidance"}},
        "3": {"class_type": "LoadImage", "inputs": {"image": "a.png"}, "_meta": {"title": "Init"}},
        "4": {"class_type": "CLIPTextEncode", "inputs": {"text": "x"}, "_meta": {"title": "Prompt"}},
        "7": {"class_type": "SaveImage", "inputs": {"images": ["4", 0]}},
    });
    let added = add_workflow(home.path(), &server, "own", &graph);
    let own = "its own stay: negative, seed, steps, width, height";
    assert!(said(&added).contains(own), "{}", said(&added));
    let out = home.path().join("story");
    let tell = |more: &[&str]| {
        let plain = [
            "tell",
            "It snowed.",
            "--model",
            "own",
            "--panels",
            "1",
            "--seed",
            "4",
        ];
        let out = ["--out", out.to_str().unwrap()];
        run(home.path(), &[&plain[..], more, &out].concat())
    };
    for (more, wanted) in [
        (&["--steps", "9"][..], "no input for the steps"),
        (&["--negative", "rain"], "no input for the negative"),
        (&["--scheduler", "euler"], "keeps its own scheduler"),
    ] {
        let told = tell(more);
        assert!(!told.status.success(), "{more:?}: {}", said(&told));
        assert!(said(&told).contains(wanted), "{more:?}: {}", said(&told));
        assert!(!out.exists(), "{more:?}");
    }
    // Its own guidance is the usual one, and that its seed stays is said.
    let told = tell(&[]);
    assert!(told.status.success(), "{}", said(&told));
    assert!(
        said(&told).contains("no input for the seed, so its own stays"),
        "{}",
        said(&told)
    );
    let sent = server.requests("/prompt").last().unwrap().json()["prompt"].clone();
    assert_eq!(sent["1"]["inputs"]["cfg"], 3.5);
    // Another picture is begun from, and the strength has no input.
    let again = run(
        home.path(),
        &[
            "regenerate",
            out.to_str().unwrap(),
            "--panel",
            "1",
            "--from",
            "current",
            "--guidance",
            "5",
        ],
    );
    assert!(again.status.success(), "{}", said(&again));
    assert!(
        said(&again).contains("no input for the strength"),
        "{}",
        said(&again)
    );
    let sent = server.requests("/prompt").last().unwrap().json()["prompt"].clone();
    assert_eq!(sent["1"]["inputs"]["cfg"], 5.0);
}

/// The colour of the picture in a form that was sent.
fn colour(form: &[u8]) -> [u8; 3] {
    let magic = b"\x89PNG";
    let at = form.windows(4).position(|bytes| bytes == magic).unwrap();
    let picture = image::load_from_memory_with_format(&form[at..], image::ImageFormat::Png);
    picture.unwrap().to_rgb8().get_pixel(8, 8).0
}

#[test]
fn an_engine_that_went_away_is_named_and_nothing_is_left_behind() {
    let home = tempfile::tempdir().unwrap();
    let pictures = Comfy::start("");
    let added = run(
        home.path(),
        &["models", "add", "comfyui", &pictures.address],
    );
    assert!(added.status.success(), "{}", said(&added));
    drop(pictures);
    let out = home.path().join("story");
    let told = run(
        home.path(),
        &[
            "tell",
            "Milo found a lantern.",
            "--model",
            "sd15",
            "--out",
            out.to_str().unwrap(),
        ],
    );
    assert!(!told.status.success());
    assert!(said(&told).contains("can't be reached"), "{}", said(&told));
    assert!(!out.exists());
}

#[test]
fn what_is_no_engine_is_refused_in_one_sentence() {
    let home = tempfile::tempdir().unwrap();
    let page = Server::start(Box::new(|_| {
        Reply::Whole(200, "text/html", b"<html>hello".to_vec())
    }));
    for (arguments, wanted) in [
        (vec!["models", "add", page.address.as_str()], "a web page"),
        (
            vec!["models", "add", "comfyui", page.address.as_str()],
            "a web page",
        ),
        (vec!["models", "add", "comfyui"], "needs its address"),
        (
            vec!["models", "add", "http://me:pw@127.0.0.1:1/v1"],
            "--key-file",
        ),
        (
            vec!["models", "add", "http://127.0.0.1:9/v1"],
            "can't be reached",
        ),
        (
            vec![
                "models",
                "add",
                "comfyui",
                page.address.as_str(),
                "--workflow",
                "/nowhere.json",
            ],
            "cannot be read",
        ),
    ] {
        let output = run(home.path(), &arguments);
        assert!(!output.status.success(), "{arguments:?}");
        let said = said(&output);
        assert!(said.contains(wanted), "{arguments:?}: {said}");
        assert!(!said.contains("pw@"), "{said}");
    }
    assert!(!home.path().join("models/added.json").exists());
}
