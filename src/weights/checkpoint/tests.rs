use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device};

use super::pickle::{self, PickleError};
use super::*;
use crate::nn::{Params, TensorSource};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/public/checkpoint")
        .join(name)
}

fn open(name: &str) -> Checkpoint {
    Checkpoint::open(&fixture(name)).unwrap()
}

fn values(checkpoint: &Checkpoint, name: &str) -> Vec<f32> {
    let tensor = checkpoint.tensor(name, DType::F32, &Device::Cpu).unwrap();
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// One stored (not compressed) zip file.
fn zip(files: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut body, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in files {
        let offset = body.len() as u32;
        let size = (bytes.len() as u32).to_le_bytes();
        let common = |out: &mut Vec<u8>| {
            out.extend([0; 12]);
            out.extend(size);
            out.extend(size);
            out.extend((name.len() as u16).to_le_bytes());
            out.extend([0; 2]);
        };
        body.extend(b"PK\x03\x04\0\0");
        common(&mut body);
        body.extend(name.as_bytes());
        body.extend(*bytes);
        directory.extend(b"PK\x01\x02\0\0\0\0");
        common(&mut directory);
        directory.extend([0; 10]);
        directory.extend(offset.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let count = (files.len() as u16).to_le_bytes();
    let start = body.len() as u32;
    let length = directory.len() as u32;
    body.extend(directory);
    body.extend(b"PK\x05\x06\0\0\0\0");
    body.extend(count);
    body.extend(count);
    body.extend(length.to_le_bytes());
    body.extend(start.to_le_bytes());
    body.extend([0; 2]);
    body
}

/// The opcodes of a tensor in storage `key`.
fn tensor_ops(kind: &str, key: &str, offset: u8, shape: &[u8], strides: &[u8]) -> Vec<u8> {
    let text = |out: &mut Vec<u8>, text: &str| {
        out.push(b'X');
        out.extend((text.len() as u32).to_le_bytes());
        out.extend(text.as_bytes());
    };
    let numbers = |out: &mut Vec<u8>, numbers: &[u8]| {
        out.push(b'(');
        numbers.iter().for_each(|n| out.extend([b'K', *n]));
        out.push(b't');
    };
    let mut out = b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec();
    text(&mut out, "storage");
    out.extend(format!("ctorch\n{kind}\n").bytes());
    text(&mut out, key);
    text(&mut out, "cuda:0");
    out.extend(b"K\x06tQ");
    out.extend([b'K', offset]);
    numbers(&mut out, shape);
    numbers(&mut out, strides);
    out.extend(b"\x89ccollections\nOrderedDict\n)RtR");
    out
}

fn dict(tensors: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut out = b"\x80\x02}(".to_vec();
    for (name, ops) in tensors {
        out.extend([b'X', name.len() as u8, 0, 0, 0]);
        out.extend(name.as_bytes());
        out.extend(ops);
    }
    out.extend(b"u.");
    out
}

fn refusal(pickle: &[u8]) -> String {
    match pickle::read(pickle) {
        Err(PickleError::Forbidden(what)) => what,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_public_file_is_read() {
    let eva = open("eva_vit_g.pth");
    assert_eq!(eva.info("cls_token").unwrap().dtype, StoredType::F16);
    assert!(eva.contains("blocks.0.attn.q_bias"));
    let qformer = open("blip2_pretrained_flant5xxl.pth");
    assert_eq!(qformer.info("query_tokens").unwrap().shape, [1, 8, 48]);
    let position = qformer.info("Qformer.bert.embeddings.position_ids");
    assert_eq!(position.unwrap().dtype, StoredType::I64);
    let projection: Vec<String> = open("minigpt4.pth").names().map(String::from).collect();
    assert_eq!(projection, ["llama_proj.bias", "llama_proj.weight"]);
    for stage in ["stage1_cc3m.ckpt", "stage2_vist.ckpt"] {
        let keys = fixture("..").join(format!("{stage}.keys.json"));
        let keys: serde_json::Value =
            serde_json::from_slice(&std::fs::read(keys).unwrap()).unwrap();
        let mut expected: Vec<&str> = match &keys {
            serde_json::Value::Array(keys) => keys.iter().map(|k| k.as_str().unwrap()).collect(),
            keys => keys
                .as_object()
                .unwrap()
                .keys()
                .map(String::as_str)
                .collect(),
        };
        expected.sort_unstable();
        let checkpoint = open(stage);
        assert_eq!(checkpoint.names().collect::<Vec<_>>(), expected);
    }
    for part in ["text_encoder", "unet", "vae"] {
        assert!(open(&format!("sd/{part}")).names().count() > 20);
    }
}

#[test]
fn shards_and_the_single_file_hold_the_same_numbers() {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(fixture("llama")).unwrap() {
        let path = entry.unwrap().path();
        if path.to_str().unwrap().contains("pytorch_model") {
            std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    let shards = Checkpoint::open(folder.path()).unwrap();
    assert_eq!(shards.files().len(), 4);
    let single = open("llama");
    assert_eq!(single.files().len(), 1);
    let weights: Vec<&str> = single.names().collect();
    assert!(weights.len() > 10);
    for name in weights {
        assert_eq!(shards.info(name), single.info(name), "{name}");
        assert_eq!(values(&shards, name), values(&single, name), "{name}");
    }

    std::fs::remove_file(folder.path().join("pytorch_model-00002-of-00004.bin")).unwrap();
    let message = Checkpoint::open(folder.path()).unwrap_err().to_string();
    assert!(
        message.contains("00002-of-00004.bin cannot be read"),
        "{message}"
    );
}

#[test]
fn strides_offsets_and_shared_storages_are_followed() {
    let numbers: Vec<u8> = (0..6).flat_map(|n| (n as f32).to_le_bytes()).collect();
    let pickle = dict(&[
        ("all", tensor_ops("FloatStorage", "0", 0, &[2, 3], &[3, 1])),
        (
            "turned",
            tensor_ops("FloatStorage", "0", 0, &[3, 2], &[1, 3]),
        ),
        ("last", tensor_ops("FloatStorage", "0", 4, &[2], &[1])),
        ("one", tensor_ops("FloatStorage", "0", 5, &[], &[])),
    ]);
    let bytes = zip(&[("archive/data.pkl", &pickle), ("archive/data/0", &numbers)]);
    let checkpoint = Checkpoint::from_bytes(Path::new("a.pth"), bytes).unwrap();
    assert_eq!(values(&checkpoint, "all"), [0., 1., 2., 3., 4., 5.]);
    assert_eq!(values(&checkpoint, "turned"), [0., 3., 1., 4., 2., 5.]);
    assert_eq!(values(&checkpoint, "last"), [4., 5.]);
    assert_eq!(values(&checkpoint, "one"), [5.]);
}

#[test]
fn a_tensor_that_reaches_beyond_its_storage_is_refused() {
    let numbers = [0u8; 24];
    for (offset, shape, strides) in [
        (0, vec![7], vec![1]),
        (1, vec![6], vec![1]),
        (0, vec![2, 3], vec![4, 1]),
        (0, vec![200, 200, 200], vec![0, 0, 0]),
    ] {
        let ops = tensor_ops("FloatStorage", "0", offset, &shape, &strides);
        let pickle = dict(&[("w", ops)]);
        let bytes = zip(&[("a/data.pkl", &pickle), ("a/data/0", &numbers)]);
        let error = Checkpoint::from_bytes(Path::new("a.pth"), bytes).unwrap_err();
        assert!(error.to_string().contains("w reaches beyond"), "{error}");
    }
    let pickle = dict(&[("w", tensor_ops("FloatStorage", "1", 0, &[6], &[1]))]);
    let bytes = zip(&[("a/data.pkl", &pickle), ("a/data/0", &numbers)]);
    let error = Checkpoint::from_bytes(Path::new("a.pth"), bytes).unwrap_err();
    assert!(
        error.to_string().contains("storage 1, which is not"),
        "{error}"
    );
}

#[test]
fn what_is_no_part_of_a_tensor_file_is_named() {
    // pickle.dumps of an object whose __reduce__ is (os.system, ("true",)), in protocols 0, 2, 4.
    for calls in [
        &b"cposix\nsystem\np0\n(Vtrue\np1\ntp2\nRp3\n."[..],
        b"\x80\x02cposix\nsystem\nq\x00X\x04\x00\x00\x00trueq\x01\x85q\x02Rq\x03.",
        b"\x80\x04\x95\x1e\0\0\0\0\0\0\0\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x04true\x94\x85\x94R\x94.",
    ] {
        assert_eq!(refusal(calls), "the Python object posix.system");
    }
    let instance = refusal(b"\x80\x02(iposix\nsystem\n.");
    assert_eq!(instance, "the pickle opcode INST (0x69)");
    assert_eq!(
        refusal(b"cbuiltins\neval\n."),
        "the Python object builtins.eval"
    );
    assert_eq!(refusal(b"ctorch\nload\n."), "the Python object torch.load");
    assert!(refusal(b"\xff.").contains("0xff"));
}

#[test]
fn objects_of_unknown_classes_are_passed_over() {
    // {"callbacks": {pl.Checkpoint: None, "x": pl.Other().__setstate__({})}, "state_dict": {...}}
    let tensor = tensor_ops("FloatStorage", "0", 0, &[6], &[1]);
    let mut pickle = b"\x80\x02}(X\x09\x00\x00\x00callbacks}(cpl.callbacks\nCheckpoint\nN".to_vec();
    pickle.extend(b"X\x01\x00\x00\x00xcpl.callbacks\nOther\n)\x81}buX\x0a\x00\x00\x00state_dict}");
    pickle.extend(b"X\x01\x00\x00\x00w");
    pickle.extend(tensor);
    pickle.extend(b"su.");
    let numbers: Vec<u8> = (0..6u8).flat_map(|n| f32::from(n).to_le_bytes()).collect();
    let bytes = zip(&[("a/data.pkl", &pickle), ("a/data/0", &numbers)]);
    let checkpoint = Checkpoint::from_bytes(Path::new("a.ckpt"), bytes).unwrap();
    assert_eq!(values(&checkpoint, "w"), [0., 1., 2., 3., 4., 5.]);
}

#[test]
fn floats_of_eight_bits_are_what_their_bits_say() {
    for bits in 0..=255u8 {
        let sign = if bits & 0x80 == 0 { 1.0 } else { -1.0f32 };
        let (exponent, fraction) = (i32::from(bits >> 3) & 0xf, f32::from(bits & 7) / 8.0);
        let e4m3 = match exponent {
            0 => sign * fraction * 2f32.powi(-6),
            _ => sign * (1.0 + fraction) * 2f32.powi(exponent - 7),
        };
        let read = |kind| {
            let bytes = super::widened(kind, &[bits]);
            half::f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
        };
        if bits & 0x7f != 0x7f {
            assert_eq!(
                read(StoredType::F8E4M3).to_bits(),
                e4m3.to_bits(),
                "{bits:#x}"
            );
        }
        let e5m2 = half::f16::from_bits(u16::from(bits) << 8).to_f32();
        assert!(read(StoredType::F8E5M2).to_bits() == e5m2.to_bits());
    }
}

/// Recorded from PyTorch: all codes of both kinds, with a scale for all, for each row as a vector and
/// as a column, and without one, beside ComfyUI's marker and its scale of activations.
#[test]
fn scaled_floats_of_eight_bits_are_what_pytorch_makes_of_them() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/fp8/fp8.safetensors");
    let file = Checkpoint::open(&file).unwrap();
    for name in ["all", "two", "three", "plain"] {
        let read = file.tensor(&format!("{name}.weight"), DType::F32, &Device::Cpu);
        let read: Vec<Vec<f32>> = read.unwrap().to_vec2().unwrap();
        let want = file.tensor(&format!("want.{name}"), DType::F32, &Device::Cpu);
        assert_eq!(read, want.unwrap().to_vec2::<f32>().unwrap(), "{name}");
    }
}

#[test]
fn scales_of_another_kind_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.safetensors");
    let header = r#"{"a.weight":{"dtype":"F8_E4M3","shape":[2,2],"data_offsets":[0,4]},
        "a.weight_scale_inv":{"dtype":"F32","shape":[1,1],"data_offsets":[4,8]}}"#;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(&[0; 8]);
    std::fs::write(&path, bytes).unwrap();
    let file = Checkpoint::open(&path).unwrap();
    let why = file
        .tensor("a.weight", DType::F32, &Device::Cpu)
        .unwrap_err();
    assert!(why.to_string().contains("a.weight_scale_inv"), "{why}");
}

#[test]
fn deep_and_circular_pickles_do_no_harm() {
    let mut deep = vec![b']'; 1_000_000];
    deep.extend(vec![b'a'; 999_999]);
    deep.push(b'.');
    assert!(matches!(pickle::read(&deep), Err(PickleError::Damaged(_))));
    // d = {}; d["model"] = d
    let circle = b"\x80\x02}q\x00X\x05\x00\x00\x00modelh\x00s.";
    assert!(pickle::read(circle).unwrap().tensors.is_empty());
    for broken in [
        &b"."[..],
        b"",
        b"t.",
        b"(h\x07.",
        b"}u.",
        b")R.",
        b"Q",
        b"}b.",
    ] {
        assert!(matches!(pickle::read(broken), Err(PickleError::Damaged(_))));
    }
}

#[test]
fn nan_and_infinity_are_found_in_every_type_of_float() {
    for (kind, bad) in [
        ("FloatStorage", f32::NAN.to_le_bytes().to_vec()),
        ("FloatStorage", f32::INFINITY.to_le_bytes().to_vec()),
        ("HalfStorage", half::f16::NAN.to_le_bytes().to_vec()),
        ("BFloat16Storage", half::bf16::NAN.to_le_bytes().to_vec()),
        ("DoubleStorage", f64::NEG_INFINITY.to_le_bytes().to_vec()),
    ] {
        let mut numbers = vec![0u8; 3 * bad.len()];
        numbers.extend(&bad);
        let pickle = dict(&[("w", tensor_ops(kind, "0", 0, &[4], &[1]))]);
        let bytes = zip(&[("a/data.pkl", &pickle), ("a/data/0", &numbers)]);
        let checkpoint = Checkpoint::from_bytes(Path::new("a.pth"), bytes).unwrap();
        let error = checkpoint
            .tensor("w", DType::F32, &Device::Cpu)
            .unwrap_err();
        assert!(
            error.to_string().contains("NaN or infinity in w"),
            "{error}"
        );
    }
}

#[test]
fn a_view_renames_and_layers_and_feeds_parameters() {
    let base = Arc::new(open("llama"));
    let stage1 = Arc::new(open("stage1_cc3m.ckpt"));
    let view = TensorView::of(&base).and(&stage1, |name| {
        name.strip_prefix("model.llama_model.").map(String::from)
    });
    let table = "model.embed_tokens.weight";
    let (old, new) = (base.info(table).unwrap(), view.info(table).unwrap());
    assert_eq!(new.shape[0], old.shape[0] + 9);
    assert!(!TensorSource::contains(&view, "fc.0.weight"));

    let params = Params::from_source(Arc::new(view), false, &Device::Cpu);
    let embedding = params.pp("model.embed_tokens");
    let [rows, width] = new_shape(&stage1);
    let table = embedding
        .tensor(&[rows, width], "weight", crate::nn::Init::Zeros)
        .unwrap();
    let name = "model.llama_model.model.embed_tokens.weight";
    assert_eq!(
        table.flatten_all().unwrap().to_vec1::<f32>().unwrap(),
        values(&stage1, name)
    );
    let message = params.linear(1, 1, false).unwrap_err().to_string();
    assert!(message.contains("weight is missing"), "{message}");
}

fn new_shape(checkpoint: &Checkpoint) -> [usize; 2] {
    let info = checkpoint.info("model.llama_model.model.embed_tokens.weight");
    info.unwrap().shape.clone().try_into().unwrap()
}

/// Changes that any reader of files from the internet must live through.
#[test]
fn damaged_bytes_never_panic() {
    for name in ["minigpt4.pth", "sd/text_encoder/model.safetensors"] {
        let whole = std::fs::read(fixture(name)).unwrap();
        let mut seed = 0x9e37_79b9_u64;
        let mut random = |below: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed % below as u64) as usize
        };
        for round in 0..400 {
            let mut bytes = whole.clone();
            // Where the structure is: the head, and for zip files the tail as well.
            let span = 4000.min(bytes.len());
            for _ in 0..=random(8) {
                let at = match round % 2 {
                    0 => random(span),
                    _ => bytes.len() - 1 - random(span),
                };
                bytes[at] = match random(3) {
                    0 => 0xff,
                    1 => bytes[at] ^ (1 << random(8)),
                    _ => random(256) as u8,
                };
            }
            if random(4) == 0 {
                bytes.truncate(random(whole.len()));
            }
            if let Ok(checkpoint) = Checkpoint::from_bytes(Path::new(name), bytes) {
                for tensor in checkpoint.names() {
                    let _ = checkpoint.stored_tensor(tensor, &Device::Cpu);
                }
            }
        }
    }
}

/// What coverage-guided fuzzing kept (`fuzz/seeds`): inputs that reach different parts of the
/// readers, none of which may panic.
#[test]
fn inputs_that_fuzzing_kept_are_read_or_refused() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    let inputs = |reader: &str| -> Vec<Vec<u8>> {
        let entries = std::fs::read_dir(seeds.join(reader)).unwrap();
        let inputs: Vec<_> = entries
            .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
            .collect();
        assert!(inputs.len() > 9, "{reader}");
        inputs
    };
    let read = |name: &str, bytes: Vec<u8>| {
        if let Ok(checkpoint) = Checkpoint::from_bytes(Path::new(name), bytes) {
            for tensor in checkpoint.names() {
                let _ = checkpoint.stored_tensor(tensor, &Device::Cpu);
            }
        }
    };
    for bytes in inputs("gguf") {
        let _ = crate::weights::GgufHeader::read(&bytes);
    }
    for bytes in inputs("safetensors") {
        read("a.safetensors", bytes);
    }
    for pickle in inputs("pickle") {
        let file = zip(&[("a/data.pkl", &pickle), ("a/data/0", &[0; 256])]);
        read("a.pth", file);
    }
}

/// A safetensors file of one tensor with this name.
fn named(path: &Path, tensor: &str) {
    let header = format!(r#"{{"{tensor}":{{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}}}"#);
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.push(7);
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn the_right_file_of_a_folder_is_taken() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let found = || {
        let checkpoint = Checkpoint::open(dir)?;
        let names: Vec<String> = checkpoint.names().map(str::to_owned).collect();
        Ok::<_, CheckpointError>(names.join(" "))
    };
    // Neither an adapter, nor what macOS or training leave.
    named(&dir.join("adapter_model.safetensors"), "adapter");
    named(&dir.join("Weights.SAFETENSORS"), "module.upper");
    std::fs::write(dir.join("._model.safetensors"), b"mac").unwrap();
    std::fs::write(dir.join("optimizer.bin"), b"x").unwrap();
    assert_eq!(found().unwrap(), "upper");
    // A whole set of torch files stands before a stray safetensors file.
    for part in 1..=2 {
        let name = format!("pytorch_model-0000{part}-of-00002.bin");
        named(&dir.join(name), &format!("part{part}"));
    }
    assert_eq!(found().unwrap(), "part1 part2");
    // An index whose shards are gone is passed over, and told of where there is nothing else.
    let index = r#"{"weight_map": {"a": "model-00001-of-00001.safetensors"}}"#;
    std::fs::write(dir.join("model.safetensors.index.json"), index).unwrap();
    assert_eq!(found().unwrap(), "part1 part2");
    std::fs::remove_file(dir.join("pytorch_model-00002-of-00002.bin")).unwrap();
    let message = found().unwrap_err().to_string();
    assert!(
        message.contains("model-00001-of-00001.safetensors"),
        "{message}"
    );
    named(&dir.join("model.safetensors"), "usual");
    assert_eq!(found().unwrap(), "usual");
}

#[test]
fn what_is_no_weights_is_told_and_how_much_is_missing() {
    let told = |bytes: &[u8]| {
        let read = Checkpoint::from_bytes(Path::new("a.safetensors"), bytes.to_vec());
        read.unwrap_err().to_string()
    };
    assert!(told(b"").contains("is empty"));
    assert!(told(b"<html><body>").contains("web page"));
    assert!(told(b"version https://git-lfs.github.com/spec/v1\n").contains("pointer"));
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("a");
    named(&path, "tensor");
    let whole = std::fs::read(&path).unwrap();
    let message = told(&whole[..whole.len() - 1]);
    assert!(
        message.contains("1 of its") && message.contains("missing"),
        "{message}"
    );
    assert!(told(&whole[..20]).contains("before its header does"));
}

/// A file that its owner cuts or writes to while it is mapped is an error, not a crash; one that
/// another file takes the place of is read on as it was.
#[cfg(unix)]
#[test]
fn a_mapped_file_that_changes_is_told() {
    use std::collections::HashMap;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.safetensors");
    let tensor = Tensor::ones((64, 64), DType::F32, &Device::Cpu).unwrap();
    let all = HashMap::from([("w".to_string(), tensor)]);
    candle_core::safetensors::save(&all, &path).unwrap();
    let read = |checkpoint: &Checkpoint| checkpoint.tensor("w", DType::F32, &Device::Cpu);
    let said = |checkpoint: &Checkpoint| read(checkpoint).unwrap_err().to_string();

    let mapped = Checkpoint::open(&path).unwrap();
    let beside = dir.path().join("b.safetensors");
    std::fs::write(&beside, "another").unwrap();
    std::fs::rename(&beside, &path).unwrap();
    assert!(read(&mapped).is_ok(), "replaced");

    candle_core::safetensors::save(&all, &path).unwrap();
    let mapped = Checkpoint::open(&path).unwrap();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_len(100).unwrap();
    assert!(
        said(&mapped).contains("was cut while it was used"),
        "{}",
        said(&mapped)
    );

    candle_core::safetensors::save(&all, &path).unwrap();
    let mapped = Checkpoint::open(&path).unwrap();
    let file = std::fs::File::options().append(true).open(&path).unwrap();
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(5);
    file.set_modified(later).unwrap();
    assert!(said(&mapped).contains("was written to while it was used"));
}
