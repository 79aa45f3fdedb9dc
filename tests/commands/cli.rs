//! What an author does at the command line, end to end, on a tiny random model.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};

use assert_cmd::Command;
use predicates::prelude::*;
use predicates::str::contains;
use serde_json::Value;

use crate::support::tiny_models;

const OPENING: &str = "A fox finds a glowing lantern in the snowy forest.";

/// The program, on the tiny models.
fn vokenboard() -> Command {
    crate::support::vokenboard(&tiny_models())
}

fn tell(out: &Path, more: &[&str]) -> Command {
    let mut command = vokenboard();
    command
        .args(["tell", OPENING, "--model", "tiny", "--steps", "2", "--out"])
        .arg(out)
        .args(more);
    command
}

/// A story of `panels` panels in a fresh folder.
fn told(panels: u32) -> (tempfile::TempDir, PathBuf) {
    let temp = tempfile::tempdir().unwrap();
    let out = temp.path().join("story");
    tell(&out, &["--panels", &panels.to_string(), "--seed", "7"])
        .assert()
        .success();
    (temp, out)
}

fn story(project: &Path) -> Value {
    serde_json::from_slice(&fs::read(project.join("story.json")).unwrap()).unwrap()
}

/// Every panel's text.
fn texts(project: &Path) -> Vec<String> {
    panels(project)
        .iter()
        .map(|panel| panel["text"].as_str().unwrap().to_string())
        .collect()
}

fn panels(project: &Path) -> Vec<Value> {
    let story = story(project);
    let panels = story.pointer("/story/panels").or(story.get("panels"));
    panels.unwrap().as_array().unwrap().clone()
}

/// Every file below `dir` with its bytes, but for `story.json`, which holds times.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![dir.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().unwrap() != "story.json" {
                found.insert(
                    path.strip_prefix(dir).unwrap().to_path_buf(),
                    fs::read(&path).unwrap(),
                );
            }
        }
    }
    found
}

fn images(project: &Path) -> usize {
    fs::read_dir(project.join("images")).unwrap().count()
}

/// One sentence on stderr and nothing else.
fn sentence() -> impl Predicate<str> {
    predicates::function::function(|text: &str| {
        text.starts_with("vokenboard: ") && text.trim_end().lines().count() == 1
    })
}

fn refused(mut command: Command, naming: &str) {
    command
        .assert()
        .code(1)
        .stderr(sentence().and(contains(naming)));
}

#[test]
fn tell_writes_a_project_a_sheet_and_markdown() {
    let (_temp, out) = told(3);
    let texts = texts(&out);
    assert_eq!(texts.len(), 3);
    assert_eq!(texts[0], OPENING);
    assert!(texts.iter().all(|text| !text.trim().is_empty()));
    assert!(images(&out) >= 2, "three panels are drawn");
    let markdown = fs::read_to_string(out.join("story.md")).unwrap();
    assert!(
        texts.iter().all(|text| markdown.contains(text.as_str())),
        "{markdown}"
    );
    let sheet = image::open(out.join("storyboard.png")).unwrap();
    assert!(sheet.width() > 300 && sheet.height() > 100);
    for path in files(&out).keys() {
        let extension = path.extension().and_then(|e| e.to_str());
        assert!(
            matches!(extension, Some("png" | "md")),
            "{} is left over",
            path.display()
        );
    }
}

#[test]
fn a_writer_that_is_named_writes_for_the_model_and_is_in_the_record() {
    let temp = tempfile::tempdir().unwrap();
    let [own, named] = ["own", "named"].map(|name| temp.path().join(name));
    let seeded = ["--panels", "2", "--seed", "7"];
    tell(&own, &seeded).assert().success();
    let writer = [seeded.as_slice(), &["--writer", "tiny-writer"]].concat();
    tell(&named, &writer).assert().success();
    assert_eq!(texts(&own), texts(&named));
    let record = panels(&named)[1]["texts"]["items"][0]["record"].clone();
    assert_eq!(record["pipeline"], "caption");
    let out = temp.path().join("not");
    refused(tell(&out, &["--writer", "tiny"]), "writes no stories");
    let mut drawn = vokenboard();
    drawn.args(["tell", OPENING, "--model", "tiny-writer", "--out"]);
    drawn.arg(&out);
    refused(drawn, "--writer");
    refused(tell(&out, &["--writer", "nobody"]), "nobody");
}

#[test]
fn the_same_arguments_and_seed_give_the_same_bytes() {
    let (_a, first) = told(3);
    let (_b, second) = told(3);
    assert_eq!(texts(&first), texts(&second));
    assert_eq!(files(&first), files(&second));

    let temp = tempfile::tempdir().unwrap();
    let other = temp.path().join("story");
    tell(&other, &["--panels", "3", "--seed", "8"])
        .assert()
        .success();
    assert_ne!(files(&first), files(&other));
}

#[test]
fn a_story_told_in_two_runs_is_the_one_told_in_one() {
    let (_a, whole) = told(3);
    let (_b, parts) = told(1);
    tell(&parts, &["--continue", "--panels", "2", "--seed", "7"])
        .assert()
        .success();
    assert_eq!(texts(&whole), texts(&parts));
    assert_eq!(files(&whole), files(&parts));
}

#[test]
fn json_is_one_object_per_event() {
    let temp = tempfile::tempdir().unwrap();
    let out = temp.path().join("story");
    let output = tell(&out, &["--panels", "2", "--seed", "1", "--json"])
        .assert()
        .success()
        .get_output()
        .stdout
        .clone();
    let events: Vec<Value> = String::from_utf8(output)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let count = |name: &str| events.iter().filter(|e| e["event"] == name).count();
    assert_eq!(count("ready"), 1);
    assert_eq!(count("panel_started"), 2);
    assert_eq!(count("step"), 4);
    assert_eq!(count("panel_done"), 2);
    assert!(count("text_piece") > 0);
    assert_eq!(events.last().unwrap()["event"], "done");
    let told: Vec<&str> = events
        .iter()
        .filter(|e| e["event"] == "panel_done")
        .map(|e| e["text"].as_str().unwrap())
        .collect();
    assert_eq!(told, texts(&out));
}

#[test]
fn a_killed_run_leaves_a_project_that_goes_on() {
    let temp = tempfile::tempdir().unwrap();
    let out = temp.path().join("story");
    let mut child = Process::new(assert_cmd::cargo::cargo_bin("vokenboard"))
        .env(
            "VOKENBOARD_DATA",
            concat!(env!("CARGO_TARGET_TMPDIR"), "/data"),
        )
        .env("VOKENBOARD_MODELS", tiny_models())
        .args([
            "tell", OPENING, "--model", "tiny", "--steps", "2", "--json", "--panels", "1000",
        ])
        .arg("--out")
        .arg(&out)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut done = 0;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        done += usize::from(line.unwrap().contains("\"panel_done\""));
        if done == 2 {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let left = texts(&out);
    assert!(left.len() >= 2);

    tell(&out, &["--continue", "--panels", "1"])
        .assert()
        .success();
    let after = texts(&out);
    assert_eq!(after.len(), left.len() + 1);
    assert_eq!(after[..left.len()], left[..]);
}

#[test]
fn another_opening_continues_a_story_as_its_next_sentence() {
    let (_temp, out) = told(1);
    vokenboard()
        .args(["tell", "An owl comes by.", "--continue", "--panels", "1"])
        .args(["--model", "tiny", "--steps", "2", "--out"])
        .arg(&out)
        .assert()
        .success();
    assert_eq!(texts(&out), [OPENING, "An owl comes by."]);
}

#[test]
fn folders_that_hold_something_else_are_refused() {
    let temp = tempfile::tempdir().unwrap();
    let full = temp.path().join("full");
    fs::create_dir(&full).unwrap();
    fs::write(full.join("diary.txt"), "mine").unwrap();
    refused(tell(&full, &[]), "not empty");
    refused(tell(&full, &["--continue"]), "not a Vokenboard project");
    assert_eq!(files(&full).len(), 1);
    refused(tell(&full.join("diary.txt"), &[]), "is a file");
    refused(
        tell(&temp.path().join("none"), &["--continue"]),
        "not a Vokenboard project",
    );
    assert!(!temp.path().join("none").exists());

    let (_temp, project) = told(1);
    refused(tell(&project, &[]), "--continue");
    assert_eq!(texts(&project).len(), 1);
}

#[test]
fn a_failed_start_leaves_no_folder() {
    let temp = tempfile::tempdir().unwrap();
    let out = temp.path().join("story");
    refused(tell(&out, &["--model", "missing"]), "tiny");
    assert!(!out.exists());
}

#[test]
fn an_empty_folder_is_used() {
    let temp = tempfile::tempdir().unwrap();
    tell(temp.path(), &["--panels", "1"]).assert().success();
    assert_eq!(texts(temp.path()), [OPENING]);
}

fn regenerate(project: &Path, more: &[&str]) -> Command {
    let mut command = vokenboard();
    command
        .arg("regenerate")
        .arg(project)
        .args(["--model", "tiny"])
        .args(more);
    command
}

#[test]
fn regenerate_adds_a_take_and_makes_it_active() {
    let (_temp, out) = told(2);
    let before = panels(&out);
    let pictures = images(&out);
    regenerate(
        &out,
        &["--panel", "2", "--image", "--seed", "99", "--guidance", "3"],
    )
    .assert()
    .success();
    let after = panels(&out);
    assert_eq!(before[0], after[0]);
    let takes = &after[1]["pictures"];
    assert_eq!(takes["items"].as_array().unwrap().len(), 2);
    assert_eq!(takes["active"], 1);
    assert_eq!(takes["items"][1]["record"]["settings"]["seed"], 99);
    assert_eq!(takes["items"][1]["record"]["settings"]["guidance"], 3.0);
    assert_eq!(takes["items"][1]["record"]["settings"]["steps"], 2);
    assert_eq!(images(&out), pictures + 1);
    assert_eq!(before[1]["text"], after[1]["text"]);

    regenerate(&out, &["--panel", "2", "--text", "--seed", "5"])
        .assert()
        .success();
    let rewritten = panels(&out);
    assert_eq!(rewritten[1]["texts"]["items"].as_array().unwrap().len(), 2);
    assert_eq!(rewritten[1]["pictures"], after[1]["pictures"]);
    assert_ne!(rewritten[1]["text"], after[1]["text"]);
}

#[test]
fn regenerating_with_the_same_seed_and_settings_gives_the_same_picture() {
    let (_temp, out) = told(1);
    let pictures = images(&out);
    let seed = panels(&out)[0]["pictures"]["items"][0]["record"]["settings"]["seed"].to_string();
    regenerate(&out, &["--panel", "1", "--seed", &seed])
        .assert()
        .success();
    assert_eq!(images(&out), pictures);
    regenerate(&out, &["--panel", "1"]).assert().success();
    assert_eq!(images(&out), pictures + 1);
}

#[test]
fn regenerate_names_what_is_wrong() {
    let (_temp, out) = told(1);
    refused(regenerate(&out, &["--panel", "2"]), "from 1 to 1");
    regenerate(&out, &["--panel", "0"]).assert().code(2);
    regenerate(&out, &["--panel", "1", "--text", "--image"])
        .assert()
        .code(2);
    let temp = tempfile::tempdir().unwrap();
    refused(
        regenerate(temp.path(), &["--panel", "1"]),
        "not a Vokenboard project",
    );
}

#[test]
fn export_writes_a_sheet_and_markdown_where_it_is_told() {
    let (temp, out) = told(2);
    let sheet = temp.path().join("sheet.png");
    let folder = temp.path().join("markdown");
    vokenboard()
        .arg("export")
        .arg(&out)
        .arg("--png")
        .arg(&sheet)
        .arg("--markdown")
        .arg(&folder)
        .assert()
        .success();
    assert!(image::open(&sheet).unwrap().width() > 300);
    let written = files(&folder);
    assert!(
        written
            .keys()
            .any(|path| path.extension().is_some_and(|e| e == "md"))
    );
    let pictures = written
        .keys()
        .filter(|path| path.starts_with("images"))
        .count();
    assert_eq!(pictures, images(&out));
}

#[test]
fn every_format_is_written_where_it_is_told_and_replaces_nothing_unless_forced() {
    let (temp, out) = told(2);
    let export = |format: &str, to: &Path, more: &[&str]| {
        let mut command = vokenboard();
        command
            .arg("export")
            .arg(&out)
            .args(["--format", format, "--out"]);
        command.arg(to).args(more);
        command
    };
    let at = |name: &str| temp.path().join(name);
    let formats: [(&str, &str, &str, &[&str]); 6] = [
        ("sheet", "a.png", "a.png", &[]),
        (
            "pdf",
            "a",
            "a.pdf",
            &[
                "--page",
                "letter",
                "--orientation",
                "portrait",
                "--per-page",
                "1",
            ],
        ),
        ("html", "a.html", "a.html", &[]),
        ("markdown", "md", "md/story.md", &[]),
        ("pictures", "pictures", "pictures/02.png", &[]),
        ("panel", "one.png", "one.png", &["--panel", "2"]),
    ];
    for (format, name, written, more) in formats {
        let to = at(name);
        export(format, &to, more)
            .assert()
            .success()
            .stdout(contains("wrote"));
        let before = fs::read(at(written)).unwrap();
        assert!(!before.is_empty(), "{format}");
        // Markdown knows what it wrote itself; all else stays.
        if format != "markdown" {
            fs::write(at(written), "mine").unwrap();
            refused(export(format, &to, more), "--force");
            assert_eq!(fs::read(at(written)).unwrap(), b"mine");
            let forced = [more, &["--force"]].concat();
            export(format, &to, &forced).assert().success();
            assert_eq!(fs::read(at(written)).unwrap(), before, "{format}");
        }
    }
    let record = vokenboard::story::read_record(&at("pictures/02.png")).unwrap();
    assert_eq!(record.unwrap().model, "tiny");
    assert!(fs::read(at("a.pdf")).unwrap().starts_with(b"%PDF-"));
    refused(export("panel", &at("x.png"), &[]), "--panel");
    refused(
        export("panel", &at("x.png"), &["--panel", "9"]),
        "no panel 9",
    );
    refused(
        export("html", &at("x.html"), &["--page", "a4"]),
        "no option --page",
    );
    refused(
        export("sheet", &out.join("images/x.png"), &["--force"]),
        "part of the story",
    );
    let mut wrong = export("napkin", &at("x"), &[]);
    wrong.assert().code(2).stderr(contains("pdf"));
}

#[test]
fn export_names_what_is_wrong() {
    let temp = tempfile::tempdir().unwrap();
    let mut command = vokenboard();
    command.arg("export").arg(temp.path().join("none"));
    refused(command, "none");

    let (_temp, out) = told(1);
    let mut command = vokenboard();
    command
        .arg("export")
        .arg(&out)
        .arg("--png")
        .arg(temp.path().join("no/such/folder/sheet.png"));
    refused(command, "no/such/folder");
}

#[test]
fn a_project_that_is_open_elsewhere_is_read_but_not_changed() {
    let (_temp, project) = told(1);
    let lock = fs::File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(project.join(".lock"))
        .unwrap();
    lock.try_lock().unwrap();
    let before = files(&project);
    refused(
        regenerate(&project, &["--panel", "1"]),
        "another Vokenboard",
    );
    refused(tell(&project, &["--continue"]), "another Vokenboard");
    assert!(files(&project) == before);
    vokenboard()
        .args(["export", "--png"])
        .arg(project.join("sheet.png"))
        .arg(&project)
        .assert()
        .success();
}

#[test]
fn a_broken_project_is_named() {
    let (_temp, out) = told(1);
    fs::write(out.join("story.json"), "{ not json").unwrap();
    let mut command = vokenboard();
    command.arg("export").arg(&out);
    refused(command, "story.json");
    refused(tell(&out, &["--continue"]), "story.json");
}

#[test]
fn models_are_listed_with_what_they_draw() {
    vokenboard().arg("models").assert().success().stdout(
        contains("tiny")
            .and(contains("caption"))
            .and(contains("fox"))
            .and(contains("MIT")),
    );
    vokenboard().args(["models", "--verify"]).assert().success();
    let temp = tempfile::tempdir().unwrap();
    let mut command = vokenboard();
    command.arg("models").arg("--models").arg(temp.path());
    refused(command, "holds no models");
    let mut command = vokenboard();
    command
        .arg("models")
        .env("VOKENBOARD_MODELS", temp.path().join("none"));
    refused(command, "VOKENBOARD_MODELS");
}

#[test]
fn a_model_with_a_broken_file_is_one_sentence() {
    let temp = tempfile::tempdir().unwrap();
    let models = temp.path().join("models");
    let out = temp.path().join("story");
    crate::common::write_tiny_models(&models);
    let on_these = |more: &[&str]| {
        let mut command = tell(&out, more);
        command.env("VOKENBOARD_MODELS", &models);
        command
    };
    let weights = models.join("tiny/unet/diffusion_pytorch_model.safetensors");
    let whole = fs::read(&weights).unwrap();
    fs::write(&weights, &whole[..whole.len() / 2]).unwrap();
    refused(on_these(&[]), "diffusion_pytorch_model.safetensors");
    // The size is right, the contents are not.
    fs::write(&weights, vec![0xff; whole.len()]).unwrap();
    refused(on_these(&[]), "diffusion_pytorch_model.safetensors");
    fs::remove_file(&weights).unwrap();
    refused(on_these(&[]), "diffusion_pytorch_model.safetensors");
    fs::write(&weights, &whole).unwrap();
    refused(on_these(&["--model", "tiny-writer"]), "tiny-writer");
    assert!(!out.exists());
}

#[test]
fn wrong_usage_exits_with_2() {
    let temp = tempfile::tempdir().unwrap();
    let out = temp.path().join("story");
    for wrong in [
        &["--guidance", "99"][..],
        &["--steps", "0"],
        &["--panels", "0"],
        &["--scheduler", "magic"],
        &["--device", "abacus"],
        &["--temperature", "-1"],
        &["--top-p", "2"],
        &["--seed", "x"],
        &["--colour"],
    ] {
        tell(&out, wrong)
            .assert()
            .code(2)
            .stderr(contains(wrong[0]));
    }
    vokenboard()
        .arg("tell")
        .arg("--out")
        .arg(&out)
        .assert()
        .code(2);
    vokenboard().args(["tell", OPENING]).assert().code(2);
    assert!(!out.exists());
    let mut command = vokenboard();
    command.args(["tell", "  ", "--out"]).arg(&out);
    refused(command, "opening is empty");
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_device_that_is_not_built_in_is_named_with_the_command_that_builds_it() {
    let temp = tempfile::tempdir().unwrap();
    let out = temp.path().join("story");
    refused(
        tell(&out, &["--device", "cuda"]),
        "cargo run --release --features cuda",
    );
}

#[cfg(target_os = "linux")]
#[test]
fn with_no_display_the_studio_names_the_command_line() {
    refused(vokenboard(), "vokenboard tell");
    let (_temp, out) = told(1);
    // The file in a story's folder names the story as well.
    for path in [out.clone(), out.join("story.json")] {
        let mut command = vokenboard();
        command.arg(path);
        refused(command, "vokenboard tell");
    }
}

#[test]
fn every_scheduler_tells_a_story() {
    let mut sheets = Vec::new();
    for scheduler in ["ddim", "euler", "pndm", "dpm++"] {
        let temp = tempfile::tempdir().unwrap();
        let out = temp.path().join("story");
        tell(
            &out,
            &[
                "--panels",
                "1",
                "--seed",
                "3",
                "--steps",
                "4",
                "--scheduler",
                scheduler,
            ],
        )
        .assert()
        .success();
        sheets.push(fs::read(out.join("storyboard.png")).unwrap());
    }
    sheets.dedup();
    assert_eq!(sheets.len(), 4, "schedulers differ");
}

#[test]
fn words_that_the_model_does_not_know_are_said_at_once() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    if !models.join("sprout/manifest.json").is_file() {
        eprintln!("skipped: the built-in model is not here");
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let tell = |out: &str, text: &str, more: &[&str]| {
        let mut command = vokenboard();
        command.env("VOKENBOARD_MODELS", &models);
        command.args(["tell", text, "--panels", "1", "--steps", "2", "--out"]);
        command.arg(temp.path().join(out)).args(more);
        command.assert().success().get_output().clone()
    };
    let text = "My grandmother kept bees behind the lighthouse.";
    let output = tell("plain", text, &[]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("does not know: grandmother, bees, lighthouse"),
        "{said}"
    );
    let output = tell("json", text, &["--json"]);
    let lines = String::from_utf8(output.stdout).unwrap();
    let mut events = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let unknown = events.find(|event| event["event"] == "unknown").unwrap();
    let words = ["grandmother", "bees", "lighthouse"];
    assert_eq!(unknown["words"], serde_json::json!(words));
    let output = tell("known", OPENING, &[]);
    assert!(
        !String::from_utf8(output.stderr)
            .unwrap()
            .contains("does not know")
    );
}

/// The built-in model tells a story on any machine that has its files.
#[test]
fn the_built_in_model_tells_a_story() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    if !models.join("sprout/manifest.json").is_file()
        || !models.join("smollm2/manifest.json").is_file()
    {
        eprintln!("skipped: the built-in model is not here");
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let out = temp.path().join("story");
    vokenboard()
        .env("VOKENBOARD_MODELS", &models)
        .args([
            "tell", OPENING, "--panels", "2", "--steps", "8", "--seed", "1", "--out",
        ])
        .arg(&out)
        .assert()
        .success();
    let texts = texts(&out);
    assert_eq!(texts.len(), 2);
    assert!(
        texts[1].ends_with(['.', '!', '?', '"', '\u{201d}']),
        "{}",
        texts[1]
    );
    assert_eq!(images(&out), 2);
}

#[test]
fn a_reader_that_goes_away_ends_the_program_without_a_panic() {
    let mut child = Process::new(env!("CARGO_BIN_EXE_vokenboard"))
        .env(
            "VOKENBOARD_DATA",
            concat!(env!("CARGO_TARGET_TMPDIR"), "/data"),
        )
        .args(["models", "--verify"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    assert!(!String::from_utf8_lossy(&ended.stderr).contains("panicked"));
}
