//! A tiny language model: a two-layer Llama in a GGUF file with random weights whose output layer
//! prefers whole words and full stops, so that what it writes passes for sentences.

use std::fs;
use std::path::Path;

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};
use vokenboard::nn::noise;
use vokenboard::weights::Manifest;

const DIM: usize = 64;
const LAYERS: usize = 2;
const SPECIAL: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
const WORDS: [&str; 16] = [
    "fox", "owl", "lantern", "forest", "finds", "sees", "the", "a", "in", "and", "happy", "night",
    "snow", "brings", "home", "star",
];

/// Letters that are read as one token, so that a story is not too long for the model.
const PAIRS: [(&str, &str); 20] = [
    ("h", "e"),
    ("i", "n"),
    ("e", "r"),
    ("o", "n"),
    ("a", "n"),
    ("o", "r"),
    ("e", "n"),
    ("a", "t"),
    ("o", "u"),
    ("l", "e"),
    ("s", "t"),
    ("r", "e"),
    ("i", "t"),
    ("i", "s"),
    ("e", "s"),
    ("a", "r"),
    ("o", "o"),
    ("e", "d"),
    ("l", "l"),
    ("r", "i"),
];

/// Writes the model folder `dir`.
pub fn write(dir: &Path) {
    let tokens = tokens();
    let tensors = tensors(&tokens);
    let metadata = metadata(&tokens);
    fs::create_dir_all(dir).unwrap();
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(name, v)| (*name, v)).collect();
    let tensors: Vec<(&str, &QTensor)> =
        tensors.iter().map(|(name, t)| (name.as_str(), t)).collect();
    let mut file = fs::File::create(dir.join("tiny.gguf")).unwrap();
    gguf_file::write(&mut file, &metadata, &tensors).unwrap();
    drop(file);
    super::describe(
        dir,
        Manifest {
            id: "tiny-writer".to_string(),
            name: "Tiny writer".to_string(),
            pipeline: "language-model".to_string(),
            licence: "MIT".to_string(),
            ..Manifest::default()
        },
    );
}

/// Special tokens, the 256 bytes in GPT-2's printable form, and words with a space before them
/// (which is written as `Ġ`).
fn tokens() -> Vec<String> {
    let printable = |b: u32| matches!(b, 33..=126 | 161..=172 | 174..=255);
    let mut tokens: Vec<String> = SPECIAL.map(str::to_string).to_vec();
    let mut next = 256;
    for byte in 0..256 {
        let code = if printable(byte) {
            byte
        } else {
            next += 1;
            next - 1
        };
        tokens.push(char::from_u32(code).unwrap().to_string());
    }
    tokens.extend(WORDS.map(|word| format!("Ġ{word}")));
    tokens.extend(PAIRS.map(|(a, b)| format!("{a}{b}")));
    tokens
}

fn tensors(tokens: &[String]) -> Vec<(String, QTensor)> {
    let device = Device::Cpu;
    let random = |seed, out: usize, inp: usize, scale: f64| {
        (noise(seed, 0, &[out, inp], &device).unwrap() * scale).unwrap()
    };
    let q = |tensor: &Tensor| QTensor::quantize(tensor, GgmlDType::Q4_1).unwrap();
    let ones = Tensor::ones(DIM, DType::F32, &device).unwrap();
    let norm = || QTensor::quantize(&ones, GgmlDType::F32).unwrap();
    let table = |rows: Vec<Vec<f32>>| Tensor::new(rows, &device).unwrap();

    // The first feature of every embedding is large, so that the residual stream keeps it, and
    // from it the output layer reads how welcome each token is.
    let mut embeddings: Vec<Vec<f32>> = random(1, tokens.len(), DIM, 0.3).to_vec2().unwrap();
    let mut output: Vec<Vec<f32>> = random(2, tokens.len(), DIM, 0.3).to_vec2().unwrap();
    for (at, token) in tokens.iter().enumerate() {
        embeddings[at][0] = 2.0;
        output[at][0] = match token.as_str() {
            "." => 2.0,
            word if word.chars().count() > 1 && word.starts_with('Ġ') => 2.0,
            _ => -2.0,
        };
    }
    let mut tensors = vec![
        ("token_embd.weight".to_string(), q(&table(embeddings))),
        ("output.weight".to_string(), q(&table(output))),
        ("output_norm.weight".to_string(), norm()),
    ];
    for layer in 0..LAYERS {
        let shapes = [
            ("attn_q", DIM, DIM),
            ("attn_k", DIM / 2, DIM),
            ("attn_v", DIM / 2, DIM),
            ("attn_output", DIM, DIM),
            ("ffn_gate", 2 * DIM, DIM),
            ("ffn_up", 2 * DIM, DIM),
            ("ffn_down", DIM, 2 * DIM),
        ];
        for (at, (name, out, inp)) in shapes.into_iter().enumerate() {
            let weight = random((10 * (layer + 1) + at) as u64, out, inp, 0.05);
            tensors.push((format!("blk.{layer}.{name}.weight"), q(&weight)));
        }
        for name in ["attn_norm", "ffn_norm"] {
            tensors.push((format!("blk.{layer}.{name}.weight"), norm()));
        }
    }
    tensors
}

fn metadata(tokens: &[String]) -> Vec<(&'static str, Value)> {
    let id = |token: &str| Value::U32(tokens.iter().position(|t| t == token).unwrap() as u32);
    let string = |text: &str| Value::String(text.to_string());
    let kinds = tokens.iter().map(|token| {
        let control = SPECIAL.contains(&token.as_str());
        Value::I32(if control { 3 } else { 1 })
    });
    let mut merges = vec!["Ġ a".to_string()];
    merges.extend(PAIRS.map(|(a, b)| format!("{a} {b}")));
    vec![
        ("general.architecture", string("llama")),
        ("general.name", string("tiny writer")),
        ("llama.block_count", Value::U32(LAYERS as u32)),
        ("llama.context_length", Value::U32(2048)),
        ("llama.embedding_length", Value::U32(DIM as u32)),
        ("llama.feed_forward_length", Value::U32(2 * DIM as u32)),
        ("llama.attention.head_count", Value::U32(4)),
        ("llama.attention.head_count_kv", Value::U32(2)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
        ("llama.rope.dimension_count", Value::U32(DIM as u32 / 4)),
        ("llama.rope.freq_base", Value::F32(10_000.0)),
        ("llama.vocab_size", Value::U32(tokens.len() as u32)),
        ("tokenizer.ggml.model", string("gpt2")),
        ("tokenizer.ggml.pre", string("smollm")),
        (
            "tokenizer.ggml.tokens",
            Value::Array(tokens.iter().map(|token| string(token)).collect()),
        ),
        ("tokenizer.ggml.token_type", Value::Array(kinds.collect())),
        // "Ġa" is one of the words.
        (
            "tokenizer.ggml.merges",
            Value::Array(merges.iter().map(|merge| string(merge)).collect()),
        ),
        ("tokenizer.ggml.bos_token_id", id("<|im_start|>")),
        ("tokenizer.ggml.eos_token_id", id("<|im_end|>")),
        ("tokenizer.ggml.unknown_token_id", id("<|endoftext|>")),
        ("tokenizer.ggml.padding_token_id", id("<|im_end|>")),
    ]
}
