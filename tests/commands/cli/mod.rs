//! What an author does at the command line, end to end, on a tiny random model.

mod errors;
mod export;
mod regenerate;
mod tell;

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

fn regenerate(project: &Path, more: &[&str]) -> Command {
    let mut command = vokenboard();
    command
        .arg("regenerate")
        .arg(project)
        .args(["--model", "tiny"])
        .args(more);
    command
}
