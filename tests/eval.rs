//! `vokenboard eval` on a tiny random model: the numbers mean nothing, but the report is whole.

mod common;

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use candle_core::Device;
use predicates::str::contains;
use vokenboard::eval::{Recogniser, RecogniserConfig};
use vokenboard::nn::Params;

/// The tiny model with a recogniser that has learnt nothing.
fn model(dir: &Path) -> PathBuf {
    common::write_tiny_models(dir);
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
            .args(["--samples", "6", "--steps", "2", "--json"])
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
        .args(["eval", "beauty"])
        .assert()
        .code(2);
}
