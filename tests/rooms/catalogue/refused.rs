//! What cannot be used is refused by its name, and nothing is added.

use std::fs;
use std::path::Path;

use candle_core::quantized::{QTensor, ggml_file, gguf_file};
use predicates::prelude::*;
use predicates::str::contains;
use serde_json::json;

use super::{empty, fixtures, folders, json_of, listed, run, sentence, sparse, text};

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
