//! What an author has: models are identified, added, scanned and refused.

mod added;
mod headers;
mod refused;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use flate2::read::GzDecoder;
use predicates::prelude::*;
use serde_json::{Value, json};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// The folders with an `answers.json`: those that come with the source, and those named `name`
/// below each folder in `VOKENBOARD_PARITY_DIRS`.
fn folders(own: &str, name: &str) -> Vec<PathBuf> {
    let mut found = vec![fixtures().join(own)];
    let more = std::env::var_os("VOKENBOARD_PARITY_DIRS").unwrap_or_default();
    for dir in std::env::split_paths(&more) {
        found.extend([dir.join(name), dir.clone()]);
    }
    found.retain(|dir| dir.join("answers.json").is_file());
    found
}

fn json_of(path: &Path) -> Value {
    let mut text = Vec::new();
    match path.exists() {
        true => text = fs::read(path).unwrap(),
        false => {
            let packed = path.with_extension("json.gz");
            let file = File::open(&packed).unwrap_or_else(|e| panic!("{}: {e}", packed.display()));
            GzDecoder::new(file).read_to_end(&mut text).unwrap();
        }
    }
    serde_json::from_slice(&text).unwrap()
}

/// A file with a true header and a hole for its data, which takes no disk.
fn sparse(list: &Value, path: &Path) {
    let size = |dtype: &str| match dtype {
        "F64" | "I64" | "U64" => 8u64,
        "F32" | "I32" | "U32" => 4,
        "F16" | "BF16" | "I16" | "U16" => 2,
        _ => 1,
    };
    let mut header = serde_json::Map::new();
    let mut at = 0;
    for (name, tensor) in list.as_object().unwrap() {
        if name == "__metadata__" {
            header.insert(name.clone(), tensor.clone());
            continue;
        }
        let shape = tensor[1].as_array().unwrap();
        let count: u64 = shape.iter().map(|n| n.as_u64().unwrap()).product();
        let end = at + count * size(tensor[0].as_str().unwrap());
        let entry = json!({"dtype": tensor[0], "shape": shape, "data_offsets": [at, end]});
        header.insert(name.clone(), entry);
        at = end;
    }
    let mut text = serde_json::to_vec(&header).unwrap();
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut file = File::create(path).unwrap();
    file.write_all(&(text.len() as u64).to_le_bytes()).unwrap();
    file.write_all(&text).unwrap();
    file.set_len(8 + text.len() as u64 + at).unwrap();
}

fn vokenboard(models: &Path) -> Command {
    let mut command = Command::cargo_bin("vokenboard").unwrap();
    command.env(
        "VOKENBOARD_DATA",
        concat!(env!("CARGO_TARGET_TMPDIR"), "/data"),
    );
    command.env("VOKENBOARD_MODELS", models);
    command
}

fn run(models: &Path, arguments: &[&str]) -> assert_cmd::assert::Assert {
    vokenboard(models).args(arguments).assert()
}

/// One sentence on stderr and nothing else.
fn sentence() -> impl Predicate<str> {
    predicates::function::function(|text: &str| {
        text.starts_with("vokenboard: ") && text.trim_end().lines().count() == 1
    })
}

/// The installed models as JSON, by id.
fn listed(models: &Path) -> Vec<Value> {
    let output = run(models, &["models", "--json"])
        .get_output()
        .stdout
        .clone();
    let text = String::from_utf8(output).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// A folder of models that is empty, and one beside it.
fn empty() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let temp = tempfile::tempdir().unwrap();
    let (models, disk) = (temp.path().join("models"), temp.path().join("disk"));
    fs::create_dir(&models).unwrap();
    fs::create_dir(&disk).unwrap();
    (temp, models, disk)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
