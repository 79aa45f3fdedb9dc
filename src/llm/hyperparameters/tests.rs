use super::*;
use crate::weights::GgmlType;
use std::path::Path;

/// The header of one of the recorded cases.
fn header(case: &str) -> GgufHeader {
    let path = format!("tests/fixtures/writers/{case}/model.gguf");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    GgufHeader::read(&std::fs::read(path).unwrap()).unwrap()
}

fn refused(header: &GgufHeader) -> String {
    Hyperparameters::from_gguf(header).expect_err("it was read")
}

#[test]
fn what_would_change_the_words_is_refused_by_name() {
    let text = |text: &str| GgufValue::String(text.to_string());
    for (case, key, value) in [
        ("llama32-tied", "general.architecture", text("qwen3next")),
        ("llama32-tied", "llama.rope.scaling.type", text("dynamic")),
        ("llama32-tied", "llama.rope.scaling.type", text("longrope")),
        (
            "llama32-tied",
            "llama.rope.scaling.attn_factor",
            GgufValue::Float(1.2),
        ),
        (
            "llama32-tied",
            "llama.attention.scale",
            GgufValue::Float(0.3),
        ),
        ("llama32-tied", "llama.logit_scale", GgufValue::Float(0.5)),
        ("llama32-tied", "llama.expert_count", GgufValue::Whole(8)),
        (
            "llama32-tied",
            "llama.attention.value_length",
            GgufValue::Whole(8),
        ),
        (
            "llama32-tied",
            "llama.attention.causal",
            GgufValue::Bool(false),
        ),
        (
            "llama32-tied",
            "llama.attn_logit_softcapping",
            GgufValue::Float(30.0),
        ),
        (
            "qwen2",
            "qwen2.attention.sliding_window",
            GgufValue::Whole(64),
        ),
        (
            "qwen2",
            "qwen2.rope.dimension_sections",
            GgufValue::Wholes(vec![16, 24]),
        ),
        (
            "qwen3moe",
            "qwen3moe.expert_gating_func",
            GgufValue::Whole(2),
        ),
        (
            "qwen3moe",
            "qwen3moe.expert_shared_count",
            GgufValue::Whole(1),
        ),
    ] {
        let mut header = header(case);
        assert!(Hyperparameters::from_gguf(&header).is_ok());
        let name = match &value {
            GgufValue::String(text) => text.clone(),
            _ => key.to_string(),
        };
        header.metadata.insert(key.to_string(), value);
        let message = refused(&header);
        assert!(message.contains(&name), "{key}: {message}");
    }
    for (case, tensor) in [
        ("llama32-tied", "blk.0.attn_norm.bias"),
        ("llama32-tied", "blk.1.attn_q_norm.weight"),
        ("qwen2", "blk.0.post_ffw_norm.weight"),
        ("qwen2", "rope_freqs.weight"),
        ("gemma2", "blk.3.attn_sinks.weight"),
    ] {
        let mut header = header(case);
        let more = header.tensors["output_norm.weight"].clone();
        header.tensors.insert(tensor.to_string(), more);
        assert!(refused(&header).contains(tensor));
    }
    let mut header = header("qwen2");
    let table = header.tensors.get_mut("token_embd.weight").unwrap();
    table.kind = Some(GgmlType::Iq2Xxs);
    assert!(refused(&header).contains("IQ2_XXS"));
}

#[test]
fn numbers_of_any_type_and_lists_are_read_and_unknown_tensors_are_not_in_the_way() {
    let mut header = header("mistral-nemo");
    let before = Hyperparameters::from_gguf(&header).unwrap();
    for (key, value) in [
        ("llama.block_count", GgufValue::Float(2.0)),
        ("llama.rope.freq_base", GgufValue::Whole(1_000_000)),
        ("llama.attention.head_count", GgufValue::Wholes(vec![4, 4])),
        (
            "llama.attention.head_count_kv",
            GgufValue::Wholes(vec![2, 2]),
        ),
        (
            "llama.rope.scaling.type",
            GgufValue::String("none".to_string()),
        ),
        ("llama.rope.scaling.finetuned", GgufValue::Bool(true)),
    ] {
        header.metadata.insert(key.to_string(), value);
    }
    let more = header.tensors["output_norm.weight"].clone();
    header.tensors.insert("something.new".to_string(), more);
    assert_eq!(Hyperparameters::from_gguf(&header).unwrap(), before);
    for length in ["llama.attention.head_count", "llama.context_length"] {
        let mut header = header.clone();
        header
            .metadata
            .insert(length.to_string(), GgufValue::Wholes(vec![4]));
        assert!(refused(&header).contains(length));
    }
}

#[test]
fn a_window_is_that_of_the_files_layers() {
    let windows = |header: &GgufHeader| -> Vec<bool> {
        let read = Hyperparameters::from_gguf(header).unwrap();
        read.layers.iter().map(|l| l.window.is_some()).collect()
    };
    assert_eq!(windows(&header("gemma2")), [true, false, true, false]);
    let mut mistral = header("mistral-nemo");
    let key = "llama.attention.sliding_window".to_string();
    mistral.metadata.insert(key, GgufValue::Whole(4096));
    assert_eq!(windows(&mistral), [true, true]);
    let key = "llama.attention.sliding_window_pattern".to_string();
    mistral
        .metadata
        .insert(key.clone(), GgufValue::Bools(vec![false, true]));
    assert_eq!(windows(&mistral), [false, true]);
    mistral.metadata.insert(key, GgufValue::Whole(2));
    assert_eq!(windows(&mistral), [true, false]);
}
