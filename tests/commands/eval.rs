//! `vokenboard eval` on a tiny random model: the numbers mean nothing, but the report is whole.

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use candle_core::Device;
use predicates::prelude::PredicateBooleanExt;
use predicates::str::contains;
use vokenboard::eval::{Contrastive, ContrastiveConfig, Recogniser, RecogniserConfig};
use vokenboard::nn::Params;

/// The tiny model with a recogniser that has learnt nothing.
fn model(dir: &Path) -> PathBuf {
    crate::common::write_tiny_models(dir);
    let model = dir.join("tiny");
    let params = Params::init(8, &Device::Cpu);
    let config = RecogniserConfig::default();
    Recogniser::new(config.clone(), params.clone()).unwrap();
    let tensors = params.to_file_layout(None).unwrap();
    Recogniser::save(&model.join("recogniser"), &config, &tensors).unwrap();
    model
}

fn eval(model: &Path) -> Command {
    let mut command = Command::cargo_bin("vokenboard").unwrap();
    command.env(
        "VOKENBOARD_DATA",
        concat!(env!("CARGO_TARGET_TMPDIR"), "/data"),
    );
    command.args(["eval", "faithfulness", "--model"]).arg(model);
    command
}

#[test]
fn a_report_covers_every_source_and_number_of_subjects() {
    let dir = tempfile::tempdir().unwrap();
    let model = model(dir.path());
    let (json, grid) = (dir.path().join("report.json"), dir.path().join("grid.png"));
    let run = || {
        eval(&model)
            .args(["--samples", "6", "--steps", "2", "--force", "--json"])
            .arg(&json)
            .arg("--grid")
            .arg(&grid)
            .assert()
            .success()
            .stdout(contains("generated at 7.5"))
            .stdout(contains("autoencoder at 32 pixels"));
        let text = std::fs::read_to_string(&json).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()
    };
    let report = run();
    let rows = report["rows"].as_array().unwrap();
    let sources: Vec<_> = rows
        .iter()
        .map(|r| (r["source"].as_str().unwrap(), r["guidance"].as_f64()))
        .collect();
    let generated = |scale| ("generated", Some(scale));
    assert_eq!(sources[..2], [("real", None), ("round trip", None)]);
    assert_eq!(sources[2..], [1.0, 1.5, 2.5, 4.0, 7.5].map(generated));
    for row in rows {
        for (i, tally) in row["by_subjects"].as_array().unwrap().iter().enumerate() {
            assert_eq!(tally["subjects"], i + 1);
            assert_eq!(tally["pictures"], 2);
            // Two pictures with i + 1 subjects each, all of them named.
            assert_eq!(tally["recall"]["of"], 2 * (i + 1));
            assert_eq!(tally["all_correct"]["of"], 2);
        }
    }
    assert!(report["autoencoder_psnr"][0]["db"].as_f64().unwrap() > 0.0);
    let picture = image::open(&grid).unwrap();
    assert!(picture.width() > 6 * 32);
    assert_eq!(report, run(), "the same seed gives the same report");
}

#[test]
fn what_is_wrong_is_one_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let model = model(dir.path());
    eval(&model)
        .args(["--samples", "1"])
        .assert()
        .code(1)
        .stderr(contains("at least 3 with --samples"));
    let weights = model.join("recogniser/model.safetensors");
    std::fs::write(&weights, b"damaged").unwrap();
    eval(&model)
        .assert()
        .code(1)
        .stderr(contains("is not a usable recogniser"));
    Command::cargo_bin("vokenboard")
        .unwrap()
        .env(
            "VOKENBOARD_DATA",
            concat!(env!("CARGO_TARGET_TMPDIR"), "/data"),
        )
        .args(["eval", "beauty"])
        .assert()
        .code(2);
}

/// The tiny model as the built-in one, so that judges are found beside it.
fn models(dir: &Path) -> PathBuf {
    let models = dir.join("models");
    std::fs::create_dir_all(&models).unwrap();
    let tiny = model(&models);
    std::fs::rename(tiny, models.join("sprout")).unwrap();
    let manifest = models.join("sprout/manifest.json");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, text.replace("\"tiny\"", "\"sprout\"")).unwrap();
    let sizes = ContrastiveConfig::default();
    let params = Params::init(9, &Device::Cpu);
    let judge = Contrastive::new(&sizes, Contrastive::tokenizer(&sizes), &params).unwrap();
    let tensors = params.to_file_layout(None).unwrap();
    let folder = models.join("sprout/contrastive");
    judge.save(&folder, &sizes, &tensors).unwrap();
    models
}

fn stories(models: &Path) -> Command {
    let mut command = Command::cargo_bin("vokenboard").unwrap();
    command.env(
        "VOKENBOARD_DATA",
        concat!(env!("CARGO_TARGET_TMPDIR"), "/data"),
    );
    command.args(["eval", "stories", "--stories", "2", "--scenes", "40"]);
    command.args(["--steps", "2", "--models"]).arg(models);
    command
}

const ROWS: &str = r#"
[[row]]
name = "whole"
kind = "pipeline"
model = "sprout"
recipe = "caption"
context = ["texts"]

[[row]]
name = "sentence only"
kind = "pipeline"
model = "sprout"
context = []

[[row]]
name = "vokens"
kind = "pipeline"
model = "sprout"
recipe = "voken"

[[row]]
name = "retrieved"
kind = "gill"
model = "sprout"

[[row]]
name = "one by one"
kind = "unimodal"
model = "sprout"

[[row]]
name = "not trained"
kind = "pipeline"
model = "sprout"
voken = "runs/nowhere"

[[row]]
name = "nobody"
kind = "pipeline"
model = "nobody"

[[row]]
name = "real"
kind = "real"
"#;

#[test]
fn the_comparison_tells_every_row_and_says_what_it_leaves_out() {
    let dir = tempfile::tempdir().unwrap();
    let models = models(dir.path());
    let (rows, json) = (dir.path().join("rows.toml"), dir.path().join("out.json"));
    let (keep, scores) = (dir.path().join("kept"), dir.path().join("scores"));
    std::fs::write(&rows, ROWS).unwrap();
    stories(&models)
        .arg("--config")
        .arg(&rows)
        .arg("--json")
        .arg(&json)
        .arg("--keep")
        .arg(&keep)
        .arg("--scores")
        .arg(&scores)
        .assert()
        .success()
        .stdout(contains("| sentence only |"))
        .stdout(contains(
            "\"vokens\" is left out: model sprout can't be used with the voken pipeline; choose caption",
        ))
        .stdout(contains("\"nobody\" is left out"))
        .stdout(contains("\"not trained\" is left out").and(contains("runs/nowhere")))
        .stdout(contains("another data set"));
    let report: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    let row = |name: &str| {
        let rows = report["rows"].as_array().unwrap();
        rows.iter().find(|r| r["name"] == name).unwrap().clone()
    };
    for name in ["whole", "sentence only", "retrieved", "one by one", "real"] {
        let row = row(name);
        // Three to five panels a story.
        let pictures = row["pictures"].as_u64().unwrap();
        assert!((6..=10).contains(&pictures), "{name}: {pictures}");
        for metric in ["recall", "place", "all_correct", "similarity", "frechet"] {
            let cell = &row["metrics"][metric];
            let at = |key: &str| {
                cell[key]
                    .as_f64()
                    .unwrap_or_else(|| panic!("{name} {metric}"))
            };
            assert!(at("value").is_finite());
            assert!(at("low") <= at("high"), "{name} {metric}");
        }
    }
    let perplexity = |name: &str| row(name)["metrics"]["perplexity"]["value"].as_f64();
    for name in ["whole", "retrieved", "one by one"] {
        assert!(perplexity(name).unwrap() > 1.0, "{name}");
        assert!(row(name)["texts"].as_u64() > Some(0));
    }
    assert_eq!(perplexity("sentence only"), None);
    assert_eq!(perplexity("real"), None);
    assert_eq!(report["left_out"].as_array().unwrap().len(), 3);

    // A comparison that was stopped in the middle of a line goes on to the same end.
    let kept = scores.join("whole.jsonl");
    let mut half = std::fs::read(&kept).unwrap();
    half.truncate(half.len() - 40);
    std::fs::write(&kept, half).unwrap();
    let again = dir.path().join("again.json");
    stories(&models)
        .arg("--config")
        .arg(&rows)
        .arg("--json")
        .arg(&again)
        .arg("--scores")
        .arg(&scores)
        .assert()
        .success();
    // What is read from a file may differ in a number's last digit.
    let rounded = |report: &serde_json::Value| {
        let mut all: Vec<String> = Vec::new();
        for row in report["rows"].as_array().unwrap() {
            all.push(row["name"].to_string());
            let metrics = row["metrics"].as_object().unwrap().iter();
            for (key, cell) in metrics.filter(|(key, _)| *key != "seconds") {
                let at = |bound: &str| cell[bound].as_f64().map(|v| format!("{v:.9}"));
                let cell = (at("low"), at("value"), at("high"));
                all.push(format!("{key} {cell:?}"));
            }
        }
        all
    };
    let again = serde_json::from_str(&std::fs::read_to_string(&again).unwrap()).unwrap();
    assert_eq!(rounded(&again), rounded(&report));
    stories(&models)
        .arg("--config")
        .arg(&rows)
        .args(["--seed", "2", "--scores"])
        .arg(&scores)
        .assert()
        .code(1)
        .stderr(contains("whole.jsonl").and(contains("--scores")));

    // The stories kept can be voted on.
    let page = dir.path().join("vote.html");
    let vote = || {
        let mut command = Command::cargo_bin("vokenboard").unwrap();
        command.env(
            "VOKENBOARD_DATA",
            concat!(env!("CARGO_TARGET_TMPDIR"), "/data"),
        );
        command.args(["eval", "vote"]);
        command
    };
    let write = || {
        vote()
            .arg("--a")
            .arg(keep.join("real"))
            .arg("--b")
            .arg(keep.join("one-by-one"))
            .arg("--out")
            .arg(&page)
            .arg("--force")
            .assert()
            .success()
            .stdout(contains("2 pairs"));
        std::fs::read_to_string(&page).unwrap()
    };
    let html = write();
    assert!(html.contains("data:image/png;base64,iVBOR") && !html.contains("http"));
    assert!(!html.contains("one-by-one") && !html.contains("/*DATA*/"));
    assert_eq!(html, write(), "the same seed gives the same page");
    vote()
        .arg("--a")
        .arg(&models)
        .arg("--b")
        .arg(&keep)
        .arg("--out")
        .arg(&page)
        .arg("--force")
        .assert()
        .code(1)
        .stderr(contains("no story of the same name"));
    let ballot = dir.path().join("votes.json");
    let votes =
        r#"{"page": "x", "votes": [{"story": "story-001", "language": "a", "quality": "tie"}]}"#;
    std::fs::write(&ballot, votes).unwrap();
    vote()
        .arg("--tally")
        .arg(&ballot)
        .assert()
        .success()
        .stdout(contains("| language | 1 | 100.0 (100.0–100.0) |"));
}

#[test]
fn mistakes_of_the_comparison_are_one_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let models = models(dir.path());
    let rows = dir.path().join("rows.toml");
    stories(&models)
        .arg("--config")
        .arg(&rows)
        .assert()
        .code(1)
        .stderr(contains("rows.toml"));
    std::fs::write(&rows, "[[row]]\nname = \"x\"\nkind = \"magic\"\n").unwrap();
    stories(&models)
        .arg("--config")
        .arg(&rows)
        .assert()
        .code(1)
        .stderr(contains("magic"));
    stories(&models)
        .args(["--stories", "0"])
        .assert()
        .code(1)
        .stderr(contains("--stories"));
    Command::cargo_bin("vokenboard")
        .unwrap()
        .env(
            "VOKENBOARD_DATA",
            concat!(env!("CARGO_TARGET_TMPDIR"), "/data"),
        )
        .args(["eval", "vote"])
        .assert()
        .code(2);
}
