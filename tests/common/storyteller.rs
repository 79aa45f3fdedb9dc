//! A tiny instruct model that answers with one of a few sentences: a Llama in a GGUF file whose
//! layers add nothing, so that each token follows from the one before it. After the end of a line a
//! sentence comes, each a token of its own, and after a sentence the end of the turn.

use std::fs;
use std::path::Path;

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use vokenboard::weights::{Identity, Manifest, WeightsKind};

const DIM: usize = 32;
const SPECIAL: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];

/// Writes the file `path`.
pub fn write_file(path: &Path, sentences: &[&str]) {
    let letters = letters();
    let spelt = |text: &str| -> String { text.bytes().map(|b| letters[usize::from(b)]).collect() };
    let mut tokens: Vec<String> = SPECIAL.map(str::to_string).to_vec();
    tokens.extend(letters.iter().map(char::to_string));
    let first = tokens.len();
    tokens.extend(sentences.iter().map(|sentence| spelt(sentence)));
    let first = first..tokens.len();
    // The one merge, since a list must have something to be a list of texts.
    tokens.push("he".to_string());
    let (line_end, turn_end) = (spelt("\n"), SPECIAL[2]);

    // What a token is: the end of a line, a sentence, or another.
    let feature = |at: usize| match &tokens[at] {
        token if *token == line_end => 0,
        _ if first.contains(&at) => 1,
        _ => 2,
    };
    let row = |feature: usize| {
        let mut row = vec![0f32; DIM];
        row[feature] = 4.0;
        row
    };
    let embeddings: Vec<Vec<f32>> = (0..tokens.len()).map(|at| row(feature(at))).collect();
    let output: Vec<Vec<f32>> = (0..tokens.len())
        .map(|at| match at {
            _ if first.contains(&at) => row(0),
            _ if tokens[at] == turn_end => row(1),
            _ => vec![0.0; DIM],
        })
        .collect();
    let stored = |tensor: Tensor| QTensor::quantize(&tensor, GgmlDType::F32).unwrap();
    let table = |rows: Vec<Vec<f32>>| stored(Tensor::new(rows, &Device::Cpu).unwrap());
    let filled =
        |value: f32, shape: &[usize]| stored(Tensor::full(value, shape, &Device::Cpu).unwrap());
    let mut tensors = vec![
        ("token_embd.weight".to_string(), table(embeddings)),
        ("output.weight".to_string(), table(output)),
        ("output_norm.weight".to_string(), filled(1.0, &[DIM])),
    ];
    for (name, shape) in [
        ("attn_q", [DIM, DIM]),
        ("attn_k", [DIM, DIM]),
        ("attn_v", [DIM, DIM]),
        ("attn_output", [DIM, DIM]),
        ("ffn_gate", [DIM, DIM]),
        ("ffn_up", [DIM, DIM]),
        ("ffn_down", [DIM, DIM]),
    ] {
        tensors.push((format!("blk.0.{name}.weight"), filled(0.0, &shape)));
    }
    for name in ["attn_norm", "ffn_norm"] {
        tensors.push((format!("blk.0.{name}.weight"), filled(1.0, &[DIM])));
    }
    let metadata = metadata(&tokens);
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(name, v)| (*name, v)).collect();
    let tensors: Vec<(&str, &QTensor)> =
        tensors.iter().map(|(name, t)| (name.as_str(), t)).collect();
    let mut file = fs::File::create(path).unwrap();
    gguf_file::write(&mut file, &metadata, &tensors).unwrap();
}

/// Writes the model folder `dir`, as an added one.
pub fn write(dir: &Path, sentences: &[&str]) {
    fs::create_dir_all(dir).unwrap();
    write_file(&dir.join("teller.gguf"), sentences);
    let id = dir.file_name().unwrap().to_string_lossy().into_owned();
    let manifest = Manifest {
        name: id.clone(),
        id,
        pipeline: "language-model".to_string(),
        licence: "MIT".to_string(),
        identity: Some(Identity {
            is: WeightsKind::LanguageModel,
            family: "llama".to_string(),
            supported: true,
            ..Identity::default()
        }),
        ..Manifest::default()
    };
    super::describe(dir, manifest);
}

/// The letters that stand for the 256 bytes.
fn letters() -> Vec<char> {
    let printable = |b: u32| matches!(b, 33..=126 | 161..=172 | 174..=255);
    let mut hidden = 255;
    let letters = (0..256).map(|byte| {
        if printable(byte) {
            return char::from_u32(byte).unwrap();
        }
        hidden += 1;
        char::from_u32(hidden).unwrap()
    });
    letters.collect()
}

fn metadata(tokens: &[String]) -> Vec<(&'static str, Value)> {
    let id = |token: &str| Value::U32(tokens.iter().position(|t| t == token).unwrap() as u32);
    let string = |text: &str| Value::String(text.to_string());
    let kinds = tokens.iter().map(|token| {
        let control = SPECIAL.contains(&token.as_str());
        Value::I32(if control { 3 } else { 1 })
    });
    vec![
        ("general.architecture", string("llama")),
        ("general.name", string("teller")),
        ("llama.block_count", Value::U32(1)),
        ("llama.context_length", Value::U32(4096)),
        ("llama.embedding_length", Value::U32(DIM as u32)),
        ("llama.feed_forward_length", Value::U32(DIM as u32)),
        ("llama.attention.head_count", Value::U32(2)),
        ("llama.attention.head_count_kv", Value::U32(2)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
        ("llama.rope.dimension_count", Value::U32(DIM as u32 / 2)),
        ("llama.rope.freq_base", Value::F32(10_000.0)),
        ("llama.vocab_size", Value::U32(tokens.len() as u32)),
        ("tokenizer.ggml.model", string("gpt2")),
        ("tokenizer.ggml.pre", string("smollm")),
        (
            "tokenizer.ggml.tokens",
            Value::Array(tokens.iter().map(|token| string(token)).collect()),
        ),
        ("tokenizer.ggml.token_type", Value::Array(kinds.collect())),
        ("tokenizer.ggml.merges", Value::Array(vec![string("h e")])),
        ("tokenizer.ggml.bos_token_id", id("<|im_start|>")),
        ("tokenizer.ggml.eos_token_id", id("<|im_end|>")),
    ]
}
