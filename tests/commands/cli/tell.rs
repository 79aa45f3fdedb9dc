//! `tell`: new stories, stories that go on, killed runs, reports for programs.

use super::*;

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
        command.args(["tell", text, "--panels", "1", "--steps", "2"]);
        command.args(["--model", "sprout", "--out"]);
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

/// The built-in model tells a story on any machine that has its files, about what its author brings.
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
            "tell",
            "My grandmother kept bees behind the lighthouse.",
            "--panels",
            "2",
            "--steps",
            "8",
            "--seed",
            "1",
            "--out",
        ])
        .arg(&out)
        .assert()
        .success()
        .stderr(contains(
            "grandmother: old woman; bees: bee; lighthouse: tower, the nearest there is",
        ));
    let texts = texts(&out);
    assert_eq!(texts.len(), 2);
    assert!(
        texts[1].ends_with(['.', '!', '?', '"', '\u{201d}']),
        "{}",
        texts[1]
    );
    let story = fs::read_to_string(out.join("story.json")).unwrap();
    let story: Value = serde_json::from_str(&story).unwrap();
    let cast = story["cast"].as_array().unwrap();
    assert!(cast.len() >= 3, "{cast:?}");
    for panel in story["panels"].as_array().unwrap() {
        let id = panel["pictures"]["items"][0]["image"].as_str().unwrap();
        assert!(out.join(format!("images/{id}.png")).is_file(), "{id}");
    }
}
