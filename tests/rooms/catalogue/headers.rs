//! Every recorded header of a real file is identified.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use serde_json::Value;
use vokenboard::catalogue;
use vokenboard::weights::GgmlType;

use super::{folders, json_of, sparse};

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

/// A GGUF file with a true header, but for the tokenizer's lists, and a hole for its data.
fn sparse_gguf(about: &Value, path: &Path) {
    fn string(out: &mut Vec<u8>, text: &str) {
        out.extend((text.len() as u64).to_le_bytes());
        out.extend(text.as_bytes());
    }
    let metadata = about["metadata"].as_object().unwrap();
    let list = |value: &Value| {
        value
            .as_str()
            .is_some_and(|text| text.starts_with('[') && text.ends_with(']'))
    };
    let metadata: Vec<_> = metadata
        .iter()
        .filter(|(_, value)| !list(value) && !value.is_array())
        .collect();
    let tensors = about["tensors"].as_array().unwrap();
    let mut out = b"GGUF\x03\0\0\0".to_vec();
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        string(&mut out, key);
        match value {
            Value::Bool(yes) => {
                out.extend(7u32.to_le_bytes());
                out.push(u8::from(*yes));
            }
            Value::String(text) => {
                out.extend(8u32.to_le_bytes());
                string(&mut out, text);
            }
            Value::Number(number) if number.is_u64() => {
                out.extend(4u32.to_le_bytes());
                out.extend((number.as_u64().unwrap() as u32).to_le_bytes());
            }
            number => {
                out.extend(6u32.to_le_bytes());
                out.extend((number.as_f64().unwrap() as f32).to_le_bytes());
            }
        }
    }
    let mut at = 0u64;
    for tensor in tensors {
        string(&mut out, tensor["name"].as_str().unwrap());
        let shape: Vec<u64> = tensor["shape"]
            .as_array()
            .unwrap()
            .iter()
            .map(|n| n.as_u64().unwrap())
            .collect();
        out.extend((shape.len() as u32).to_le_bytes());
        for size in &shape {
            out.extend(size.to_le_bytes());
        }
        let kind = GgmlType::ALL
            .iter()
            .position(|kind| kind.name() == tensor["type"]);
        let kind = GgmlType::ALL[kind.unwrap()];
        let number = (0..256).find(|number| GgmlType::from_number(*number) == Some(kind));
        out.extend(number.unwrap().to_le_bytes());
        out.extend(at.to_le_bytes());
        let blocks = shape.iter().product::<u64>() / kind.block_weights() as u64;
        at += (blocks * kind.block_bytes() as u64).next_multiple_of(32);
    }
    let start = out.len().next_multiple_of(32);
    out.resize(start, 0);
    let mut file = File::create(path).unwrap();
    file.write_all(&out).unwrap();
    file.set_len(start as u64 + at).unwrap();
}

#[test]
fn every_header_of_a_real_language_model_is_what_it_is() {
    let temp = tempfile::tempdir().unwrap();
    let mut wrong = Vec::new();
    for folder in folders("headers/writers", "headers") {
        let answers = json_of(&folder.join("answers.json"));
        for (file, answer) in answers.as_object().unwrap() {
            if answer.get("arch").is_none() {
                continue;
            }
            let path = temp.path().join("a.bin");
            sparse_gguf(&json_of(&folder.join(format!("{file}.json"))), &path);
            let identity =
                catalogue::identify(&path).unwrap_or_else(|error| panic!("{file}: {error}"));
            let said = serde_json::to_value(&identity).unwrap();
            for key in [
                "supported",
                "arch",
                "tensors",
                "parameters",
                "tensor_bytes",
                "context_length",
            ] {
                if let Some(wanted) = answer.get(key).filter(|wanted| **wanted != said[key]) {
                    wrong.push(format!(
                        "{file}: {key} is {}, not {wanted} ({})",
                        said[key], identity.called
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
