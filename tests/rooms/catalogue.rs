//! What the files are that an author has: every recorded header of a real file is identified.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use candle_core::quantized::{QTensor, ggml_file, gguf_file};
use flate2::read::GzDecoder;
use predicates::prelude::*;
use predicates::str::contains;
use serde_json::{Value, json};
use vokenboard::catalogue;
use vokenboard::weights::GgmlType;

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

#[test]
fn what_is_no_language_model_is_refused_by_its_name() {
    let (_temp, models, _) = empty();
    let mut wrong = Vec::new();
    for folder in folders("refuse", "refuse") {
        let answers = json_of(&folder.join("answers.json"));
        for (file, answer) in answers.as_object().unwrap() {
            let Some(says) = answer["says"].as_array() else {
                continue;
            };
            let path = folder.join(file);
            let adding = run(&models, &["models", "add", text(&path)])
                .code(1)
                .stderr(sentence());
            let said = String::from_utf8_lossy(&adding.get_output().stderr).to_string();
            let loading = vokenboard::llm::check_gguf(&path).unwrap_err().to_string();
            for (way, said) in [("adding", said), ("loading", loading)] {
                // What the name of the file holds is not said.
                let said = said.replace(file, "").to_lowercase();
                for word in says
                    .iter()
                    .map(|word| word.as_str().unwrap().to_lowercase())
                {
                    if !said.contains(&word) {
                        wrong.push(format!("{way} {file}: no \"{word}\" in {said}"));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(listed(&models).is_empty());
}

#[test]
fn weights_that_only_their_own_libraries_unpack_are_refused_by_name() {
    let (temp, models, _) = empty();
    let file = temp.path().join("packed.safetensors");
    let layer = "model.layers.0.self_attn.q_proj";
    let with = |mark: &str, dtype: &str| {
        sparse(
            &json!({
                format!("{layer}.{mark}"): [dtype, [4096]],
                format!("{layer}.weight"): ["U8", [512, 512]],
            }),
            &file,
        );
    };
    for (mark, way) in [
        ("weight.quant_state.bitsandbytes__nf4", "NF4"),
        ("SCB", "int8"),
        ("g_idx", "GPTQ"),
        ("qzeros", "AWQ"),
        ("weight_packed", "compressed-tensors"),
        ("something", "U8"),
    ] {
        with(mark, "I32");
        let adding = run(&models, &["models", "add", text(&file)]).code(1);
        let said = String::from_utf8_lossy(&adding.get_output().stderr).to_string();
        assert!(said.contains(way), "{mark}: {said}");
    }
    let folder = temp.path().join("model");
    fs::create_dir(&folder).unwrap();
    for (method, way) in [
        ("gptq", "GPTQ"),
        ("awq", "AWQ"),
        ("mxfp4", "mxfp4"),
        ("fp8", "fp8"),
    ] {
        let config = json!({
            "model_type": "llama", "architectures": ["LlamaForCausalLM"],
            "quantization_config": {"quant_method": method, "bits": 4},
        });
        fs::write(folder.join("config.json"), config.to_string()).unwrap();
        let adding = run(&models, &["models", "add", text(&folder)]).code(1);
        let said = String::from_utf8_lossy(&adding.get_output().stderr).to_string();
        assert!(said.contains(way), "{method}: {said}");
    }
    assert!(listed(&models).is_empty());
}

#[test]
fn a_checkpoint_is_added_where_it_lies_listed_when_it_is_away_and_forgotten() {
    let (_temp, models, disk) = empty();
    let pictures = fixtures().join("headers/pictures");
    let sdxl = disk.join("Some Model (v1.0).SAFETENSORS");
    sparse(&json_of(&pictures.join("sdxl-vpred-only.json")), &sdxl);
    run(&models, &["models", "add", text(&sdxl)])
        .success()
        .stdout(
            contains(
                "added some-model-v1.0: Stable Diffusion XL, v prediction, f16, 1024x1024, 6.9 GB",
            )
            .and(contains("--model some-model-v1.0")),
        );
    // Again it has the same id; another file of the same name has another one.
    run(&models, &["models", "add", text(&sdxl)])
        .success()
        .stdout(contains("added some-model-v1.0 ("));
    let other = disk.join("b/Some Model (v1.0).safetensors");
    fs::create_dir(disk.join("b")).unwrap();
    sparse(&json_of(&pictures.join("sd2.1-base.json")), &other);
    run(&models, &["models", "add", text(&other)])
        .success()
        .stdout(contains("added some-model-v1.0-2").and(contains("--prediction decides")));
    run(
        &models,
        &["models", "add", text(&other), "--prediction", "v"],
    )
    .success()
    .stdout(contains("v prediction"));
    let all = listed(&models);
    assert_eq!(all.len(), 2);
    assert_eq!(all[0]["identity"]["family"], "sdxl");
    assert_eq!(all[1]["identity"]["prediction"], "v_prediction");
    assert_eq!(all[1]["there"], true);

    fs::rename(&disk, disk.with_file_name("unplugged")).unwrap();
    run(&models, &["models"])
        .success()
        .stdout(contains("away: was at").and(contains("Some Model")));
    assert_eq!(listed(&models)[0]["there"], false);
    run(
        &models,
        &["tell", "Once.", "--model", "some-model-v1.0", "--out", "x"],
    )
    .code(1)
    .stderr(sentence().and(contains("not there at the moment")));
    fs::rename(disk.with_file_name("unplugged"), &disk).unwrap();
    run(&models, &["models", "remove", "some-model-v1.0"])
        .success()
        .stdout(contains("stays at"));
    assert!(sdxl.exists());
    assert_eq!(listed(&models).len(), 1);
    run(&models, &["models", "remove", "nothing"])
        .code(1)
        .stderr(sentence().and(contains("some-model-v1.0-2")));
}

#[test]
fn what_cannot_be_used_is_not_added_and_says_what_to_use_instead() {
    let (_temp, models, disk) = empty();
    for (header, said) in [
        ("sdxl-refiner-1.0", "SDXL refiner"),
        ("sd3.5-large", "Stable Diffusion 3.5 Large"),
        ("lora-sd1-loha", "LyCORIS LoHa"),
        ("sd1.5-diffusers-unet-alone", "a UNet alone"),
        ("t5xxl-fp16", "T5-XXL"),
    ] {
        let path = disk.join("a.safetensors");
        sparse(
            &json_of(&fixtures().join(format!("headers/pictures/{header}.json"))),
            &path,
        );
        run(&models, &["models", "add", text(&path)])
            .code(1)
            .stderr(sentence().and(contains(said)).and(contains("use ")));
        run(&models, &["models", "identify", text(&path)])
            .success()
            .stdout(contains(said).and(contains("cannot be used")));
    }
    assert!(listed(&models).is_empty());
}

/// The tensors of a file with their names.
type NamedTensors = Vec<(String, QTensor)>;

/// A copy of a recorded language model whose tensors were changed.
fn changed_model(to: &Path, change: &dyn Fn(&mut NamedTensors)) {
    let path = fixtures().join("writers/llama32-tied/model.gguf");
    let mut file = fs::File::open(path).unwrap();
    let content = gguf_file::Content::read(&mut file).unwrap();
    let mut names: Vec<&String> = content.tensor_infos.keys().collect();
    names.sort();
    let mut tensors = NamedTensors::new();
    for name in names {
        let tensor = content.tensor(&mut file, name, &candle_core::Device::Cpu);
        tensors.push((name.clone(), tensor.unwrap()));
    }
    change(&mut tensors);
    let tensors: Vec<_> = tensors.iter().map(|(n, t)| (n.as_str(), t)).collect();
    let said: Vec<_> = content
        .metadata
        .iter()
        .map(|(k, v)| (k.as_str(), v))
        .collect();
    gguf_file::write(&mut fs::File::create(to).unwrap(), &said, &tensors).unwrap();
}

#[test]
fn a_tensor_that_is_missing_or_of_another_shape_is_named_before_anything_is_added() {
    let (_temp, models, disk) = empty();
    let path = disk.join("model.gguf");
    changed_model(&path, &|_| {});
    run(&models, &["models", "identify", text(&path)])
        .success()
        .stdout(contains("cannot be used").not());
    let needed = [
        "token_embd.weight",
        "output_norm.weight",
        "blk.0.attn_norm.weight",
        "blk.1.attn_k.weight",
        "blk.1.attn_output.weight",
        "blk.0.ffn_down.weight",
    ];
    for name in needed {
        changed_model(&path, &|tensors| tensors.retain(|(other, _)| other != name));
        run(&models, &["models", "add", text(&path)])
            .code(1)
            .stderr(sentence().and(contains(format!("no tensor {name}"))));
    }
    for (name, like) in [
        ("blk.0.ffn_gate.weight", "blk.0.attn_q.weight"),
        ("blk.1.attn_norm.weight", "rope_freqs.weight"),
    ] {
        changed_model(&path, &|tensors| {
            let at = |name: &str| tensors.iter().position(|(other, _)| other == name).unwrap();
            let (at, like) = (at(name), at(like));
            let data = tensors[like].1.data().unwrap().into_owned();
            let shape = tensors[like].1.shape().dims().to_vec();
            let kind = tensors[like].1.dtype();
            tensors[at].1 =
                ggml_file::qtensor_from_ggml(kind, &data, shape, &candle_core::Device::Cpu)
                    .unwrap();
        });
        run(&models, &["models", "identify", text(&path)])
            .success()
            .stdout(
                contains("cannot be used")
                    .and(contains(name))
                    .and(contains("shape")),
            );
    }
    assert!(listed(&models).is_empty());
}

#[test]
fn a_tree_of_models_is_listed_and_added() {
    let (_temp, models, disk) = empty();
    let pictures = fixtures().join("headers/pictures");
    let put = |header: &str, path: &str| {
        let path = disk.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        sparse(&json_of(&pictures.join(format!("{header}.json"))), &path);
    };
    put("sd1.5", "checkpoints/old.CKPT");
    put("sdxl-base-1.0", "checkpoints/sub/new.safetensors");
    put("lora-sdxl-kohya", "loras/style.safetensors");
    put("flux1-dev", "unet/flux.safetensors");
    fs::write(disk.join("checkpoints/._old.ckpt"), b"mac").unwrap();
    fs::write(
        disk.join("checkpoints/page.safetensors"),
        b"<!doctype html>",
    )
    .unwrap();
    fs::write(
        disk.join("checkpoints/half.safetensors"),
        &b"\xff\0\0\0\0\0\0\0{\"a"[..],
    )
    .unwrap();
    let refuse = fixtures().join("refuse");
    // Ollama names its files by hashes alone, and Hugging Face's cache links to such.
    let hash = "b".repeat(64);
    let library = disk.join("ollama/manifests/registry.ollama.ai/library/tiny");
    fs::create_dir_all(&library).unwrap();
    fs::create_dir(disk.join("ollama/blobs")).unwrap();
    let manifest = format!(
        r#"{{"layers": [{{"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:{hash}"}}]}}"#
    );
    fs::write(library.join("latest"), manifest).unwrap();
    fs::copy(
        refuse.join("state-space.gguf"),
        disk.join(format!("ollama/blobs/sha256-{hash}")),
    )
    .unwrap();
    #[cfg(unix)]
    {
        let snapshot = disk.join("hub/models--someone--Painter/snapshots/abc");
        put("vae-ft-mse-840000", "hub/models--someone--Painter/blobs/0f");
        fs::create_dir_all(&snapshot).unwrap();
        std::os::unix::fs::symlink("../../blobs/0f", snapshot.join("vae.safetensors")).unwrap();
        std::os::unix::fs::symlink("../../blobs/gone", snapshot.join("gone.safetensors")).unwrap();
        std::os::unix::fs::symlink(&disk, disk.join("loras/again")).unwrap();
    }
    let scanned = run(&models, &["models", "scan", text(&disk), "--add", "--json"]).success();
    let output = String::from_utf8(scanned.get_output().stdout.clone()).unwrap();
    let found: Vec<Value> = output
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let about = |end: &str| {
        let all = found
            .iter()
            .filter(|found| found["path"].as_str().unwrap().ends_with(end));
        let all: Vec<&Value> = all.collect();
        assert_eq!(all.len(), 1, "{end}: {found:#?}");
        all[0].clone()
    };
    assert_eq!(about("old.CKPT")["family"], "sd1");
    assert_eq!(about("new.safetensors")["family"], "sdxl");
    assert_eq!(about("style.safetensors")["is"], "lora");
    assert_eq!(about("flux.safetensors")["called"], "FLUX.1 dev");
    assert!(
        about("page.safetensors")["error"]
            .as_str()
            .unwrap()
            .contains("web page")
    );
    assert!(
        about("half.safetensors")["error"]
            .as_str()
            .unwrap()
            .contains("incomplete")
    );
    let stored = about(&hash);
    assert_eq!(
        (&stored["name"], &stored["family"]),
        (&json!("tiny:latest"), &json!("mamba"))
    );
    let mut ids: Vec<String> = listed(&models)
        .iter()
        .map(|model| model["id"].as_str().unwrap().to_string())
        .collect();
    ids.sort();
    #[cfg(unix)]
    {
        assert_eq!(about("vae.safetensors")["is"], "vae");
        assert!(about("gone.safetensors")["error"].is_string());
        assert_eq!(ids, ["new", "old", "someone-painter-vae", "style"]);
        assert_eq!(found.len(), 9);
    }
}

#[test]
fn a_header_that_lies_is_told_at_once() {
    let (_temp, models, disk) = empty();
    let header = |length: u64, text: &str| {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend(text.as_bytes());
        bytes
    };
    let deep = format!("{{\"a\": {}", "[".repeat(100_000));
    let lies = [
        header(1 << 60, "{\"a\":1}"),
        header(deep.len() as u64, &deep),
        header(
            60,
            "{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}",
        ),
        header(
            61,
            "{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[9,25]}}    ",
        ),
    ];
    for (index, bytes) in lies.iter().enumerate() {
        let path = disk.join(format!("{index}.safetensors"));
        fs::write(&path, bytes).unwrap();
        run(&models, &["models", "identify", text(&path)])
            .code(1)
            .stderr(sentence());
    }
    let names = disk.join("no such file");
    run(&models, &["models", "add", text(&names)])
        .code(1)
        .stderr(sentence().and(contains("no such file")));
}
