//! What the files are that an author has: every recorded header of a real file is identified.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use serde_json::{Value, json};
use vokenboard::catalogue;

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

#[test]
fn every_header_of_a_real_file_is_what_it_is() {
    let temp = tempfile::tempdir().unwrap();
    let mut wrong = Vec::new();
    for folder in folders("headers/pictures", "headers") {
        let answers = json_of(&folder.join("answers.json"));
        for (file, answer) in answers.as_object().unwrap() {
            if answer.get("is").is_none() {
                continue;
            }
            // Its name is no help.
            let path = temp.path().join("a.bin");
            sparse(&json_of(&folder.join(file)), &path);
            let said = match catalogue::identify(&path) {
                Ok(identity) => serde_json::to_value(&identity).unwrap(),
                Err(error) => panic!("{file}: {error}"),
            };
            for key in [
                "is",
                "family",
                "prediction",
                "in_channels",
                "called",
                "tensors",
            ] {
                let Some(wanted) = answer.get(key) else {
                    continue;
                };
                let found = said.get(key).unwrap_or(&Value::Null);
                // The VAEs of SD1, SD2 and SDXL have one header: what is said must hold all.
                let same = match (key, answer["is"].as_str()) {
                    ("family", Some("vae")) => {
                        found.as_str().unwrap().contains(wanted.as_str().unwrap())
                    }
                    _ => found == wanted,
                };
                if !same {
                    wrong.push(format!("{file}: {key} is {found}, not {wanted}"));
                }
            }
            if said["is"] == "refused" {
                assert_eq!(said["supported"], false, "{file}");
                assert!(said["instead"].is_string(), "{file}");
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
