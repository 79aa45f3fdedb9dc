use super::*;
use crate::nn::noise;
use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use std::collections::HashMap;
use std::path::Path;

fn largest_difference(a: &Tensor, b: &Tensor) -> f32 {
    let d = (a - b).unwrap().abs().unwrap().flatten_all().unwrap();
    d.max(0).unwrap().to_scalar().unwrap()
}

#[test]
fn a_text_read_in_pieces_has_the_states_of_the_whole() {
    let llama = FloatLlama::new(FloatConfig::tiny(), &Params::init(1, &Device::Cpu)).unwrap();
    let x = noise(2, 0, &[1, 11, 24], &Device::Cpu).unwrap();
    let whole = llama.forward(&x, None).unwrap();
    let mut cache = llama.cache();
    let mut pieces = Vec::new();
    for (at, n) in [(0, 4), (4, 1), (5, 6)] {
        let piece = x.narrow(1, at, n).unwrap();
        pieces.push(llama.forward(&piece, Some(&mut cache)).unwrap());
    }
    assert_eq!(cache.len(), 11);
    let pieces = Tensor::cat(&pieces, 1).unwrap();
    assert!(largest_difference(&pieces, &whole) < 1e-5);
    let states = llama.states(&x).unwrap();
    assert_eq!(states.len(), 3);
    assert_eq!(largest_difference(&states[2], &whole), 0.0);
}

#[test]
fn padding_behind_a_text_changes_nothing() {
    let llama = FloatLlama::new(FloatConfig::tiny(), &Params::init(3, &Device::Cpu)).unwrap();
    let x = noise(4, 0, &[2, 9, 24], &Device::Cpu).unwrap();
    let whole = llama.forward(&x, None).unwrap();
    let short = x.narrow(0, 1, 1).unwrap().narrow(1, 0, 5).unwrap();
    let short = llama.forward(&short, None).unwrap();
    let same = whole.narrow(0, 1, 1).unwrap().narrow(1, 0, 5).unwrap();
    assert!(largest_difference(&short, &same) < 1e-5);
}

#[test]
fn a_merged_adapter_gives_what_it_gave_beside_the_weights() {
    let mut llama = FloatLlama::new(FloatConfig::tiny(), &Params::init(5, &Device::Cpu)).unwrap();
    let x = noise(6, 0, &[1, 7, 24], &Device::Cpu).unwrap();
    let plain = llama.forward(&x, None).unwrap();
    let (mut tensors, lora) = (HashMap::new(), LoraConfig::default());
    for (i, (name, out)) in [("q_proj", 24), ("v_proj", 8)].into_iter().enumerate() {
        for layer in 0..2 {
            let at = format!("layers.{layer}.self_attn.{name}");
            let a = noise(7, i as u64, &[8, 24], &Device::Cpu).unwrap();
            let b = noise(8, i as u64, &[out, 8], &Device::Cpu).unwrap();
            tensors.insert(format!("{at}.lora_A.default.weight"), (a * 0.1).unwrap());
            tensors.insert(format!("{at}.lora_B.default.weight"), (b * 0.1).unwrap());
        }
    }
    let p = Params::from_tensors(tensors, false, &Device::Cpu);
    llama.add_lora(&lora, &p).unwrap();
    let beside = llama.forward(&x, None).unwrap();
    llama.merge_lora().unwrap();
    let merged = llama.forward(&x, None).unwrap();
    assert!(largest_difference(&merged, &beside) < 1e-4);
    assert!(largest_difference(&plain, &beside) > 1e-3);
}

#[test]
fn new_rows_begin_as_the_mean() {
    let table = Tensor::new(&[[1f32, 2.0], [3.0, 6.0]], &Device::Cpu).unwrap();
    let more = resize_rows(&table, 2).unwrap().to_vec2::<f32>().unwrap();
    assert_eq!(more, [[1.0, 2.0], [3.0, 6.0], [2.0, 4.0], [2.0, 4.0]]);
}

#[test]
fn configurations_that_are_not_llama_are_told() {
    for (json, name) in [
        (r#"{"hidden_act":"gelu"}"#, "hidden_act"),
        (r#"{"rope_scaling":{"type":"linear"}}"#, "rope_scaling"),
        (r#"{"rope_scaling":{"factor":2.0}}"#, "rope_scaling"),
        (
            r#"{"rope_parameters":{"rope_type":"llama3","factor":8.0}}"#,
            "rope_parameters",
        ),
        (
            r#"{"rope_parameters":{"rope_type":"default","factor":4.0}}"#,
            "rope_parameters",
        ),
        (
            r#"{"rope_parameters":{"full_attention":{"rope_type":"yarn"}}}"#,
            "rope_parameters",
        ),
        (r#"{"attention_bias":true}"#, "attention_bias"),
        (r#"{"mlp_bias":true}"#, "mlp_bias"),
        (r#"{"sliding_window":512}"#, "sliding_window"),
        (r#"{"partial_rotary_factor":0.5}"#, "partial_rotary_factor"),
        (
            r#"{"quantization_config":{"quant_method":"gptq","bits":4}}"#,
            "quantization_config",
        ),
        (r#"{"model_type":"granite"}"#, "model_type"),
        (r#"{"num_attention_heads":0}"#, "num_attention_heads"),
        (r#"{"num_key_value_heads":5}"#, "num_key_value_heads"),
    ] {
        let config: FloatConfig = serde_json::from_str(json).unwrap();
        let why = config.check().unwrap_err().to_string();
        assert!(why.contains(name), "{why}");
    }
    // What newer files say as they do is read.
    let temp = tempfile::tempdir().unwrap();
    let said = r#"{"rope_parameters":{"rope_type":"default","rope_theta":500000.0}}"#;
    std::fs::write(temp.path().join("config.json"), said).unwrap();
    assert_eq!(FloatConfig::read(temp.path()).unwrap().rope_theta, 5e5);
    let ids: FloatConfig =
        serde_json::from_str(r#"{"bos_token_id":0,"eos_token_id":[7,8]}"#).unwrap();
    assert_eq!((ids.bos(), ids.eos()), (Some(0), Some(7)));
}

/// Sizes that are whole blocks.
fn blocky() -> FloatConfig {
    FloatConfig {
        hidden_size: 64,
        intermediate_size: 96,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: Some(2),
        vocab_size: 30,
        ..FloatConfig::default()
    }
}

/// The tensors of a network under Hugging Face's names.
fn tensors(config: &FloatConfig) -> HashMap<String, Tensor> {
    let params = Params::init(11, &Device::Cpu);
    FloatLlama::new(config.clone(), &params).unwrap();
    params.to_file_layout(None).unwrap()
}

/// Writes the network as llama.cpp converts it: rows of queries and keys reordered so that the
/// numbers that are turned together are neighbours.
fn write_gguf(
    path: &Path,
    config: &FloatConfig,
    weights: &HashMap<String, Tensor>,
    kind: GgmlDType,
) {
    let neighbours = |t: &Tensor, heads: usize| {
        let (out, inp) = t.dims2().unwrap();
        t.reshape((heads, 2, out / heads / 2, inp))
            .unwrap()
            .transpose(1, 2)
            .unwrap()
            .contiguous()
            .unwrap()
            .reshape((out, inp))
            .unwrap()
    };
    let mut named = Vec::new();
    for (name, tensor) in weights {
        let (tensor, name) = match name.strip_prefix("model.layers.") {
            None if name == "model.norm.weight" => (tensor.clone(), "output_norm.weight".into()),
            None => continue,
            Some(rest) => {
                let (layer, part) = rest.split_once('.').unwrap();
                let (to, heads) = match part.trim_end_matches(".weight") {
                    "input_layernorm" => ("attn_norm", 0),
                    "self_attn.q_proj" => ("attn_q", config.num_attention_heads),
                    "self_attn.k_proj" => ("attn_k", config.kv_heads()),
                    "self_attn.v_proj" => ("attn_v", 0),
                    "self_attn.o_proj" => ("attn_output", 0),
                    "post_attention_layernorm" => ("ffn_norm", 0),
                    "mlp.gate_proj" => ("ffn_gate", 0),
                    "mlp.up_proj" => ("ffn_up", 0),
                    _ => ("ffn_down", 0),
                };
                let tensor = match heads {
                    0 => tensor.clone(),
                    heads => neighbours(tensor, heads),
                };
                (tensor, format!("blk.{layer}.{to}.weight"))
            }
        };
        let kind = if tensor.rank() == 1 {
            GgmlDType::F32
        } else {
            kind
        };
        named.push((name, QTensor::quantize(&tensor, kind).unwrap()));
    }
    let count = |n: usize| Value::U32(n as u32);
    let tokens = (0..config.vocab_size).map(|i| Value::String(i.to_string()));
    let said: Vec<(&str, Value)> = vec![
        ("general.architecture", Value::String("llama".into())),
        ("llama.embedding_length", count(config.hidden_size)),
        ("llama.feed_forward_length", count(config.intermediate_size)),
        ("llama.block_count", count(config.num_hidden_layers)),
        (
            "llama.attention.head_count",
            count(config.num_attention_heads),
        ),
        ("llama.attention.head_count_kv", count(config.kv_heads())),
        ("llama.context_length", count(512)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-6)),
        ("tokenizer.ggml.tokens", Value::Array(tokens.collect())),
        ("tokenizer.ggml.bos_token_id", count(1)),
        ("tokenizer.ggml.eos_token_id", count(2)),
    ];
    let said: Vec<(&str, &Value)> = said.iter().map(|(key, value)| (*key, value)).collect();
    let named: Vec<(&str, &QTensor)> = named.iter().map(|(n, t)| (n.as_str(), t)).collect();
    let mut file = std::fs::File::create(path).unwrap();
    gguf_file::write(&mut file, &said, &named).unwrap();
}

#[test]
fn a_gguf_file_with_adapters_beside_it_computes_what_the_float_weights_do() {
    let (config, temp) = (blocky(), tempfile::tempdir().unwrap());
    let weights = tensors(&config);
    let mut lora = HashMap::new();
    for (i, (name, out)) in [("q_proj", 64), ("v_proj", 32)].into_iter().enumerate() {
        for layer in 0..2 {
            let at = format!("layers.{layer}.self_attn.{name}");
            let a = noise(7, i as u64, &[8, 64], &Device::Cpu).unwrap();
            let b = noise(8, i as u64, &[out, 8], &Device::Cpu).unwrap();
            lora.insert(format!("{at}.lora_A.default.weight"), (a * 0.1).unwrap());
            lora.insert(format!("{at}.lora_B.default.weight"), (b * 0.1).unwrap());
        }
    }
    let lora = Params::from_tensors(lora, false, &Device::Cpu);
    let params = Params::from_tensors(weights.clone(), false, &Device::Cpu);
    let mut float = FloatLlama::new(config.clone(), &params).unwrap();
    float.add_lora(&LoraConfig::default(), &lora).unwrap();
    let x = noise(6, 0, &[1, 9, 64], &Device::Cpu).unwrap();
    let want = float.forward(&x, None).unwrap();
    for (kind, limit) in [
        (GgmlDType::F32, 1e-5),
        (GgmlDType::F16, 1e-2),
        (GgmlDType::Q8_0, 0.1),
    ] {
        let path = temp.path().join(format!("{kind:?}.gguf"));
        write_gguf(&path, &config, &weights, kind);
        let file = GgufLlama::open(&path).unwrap();
        assert_eq!(
            (file.config().bos(), file.config().eos()),
            (Some(1), Some(2))
        );
        let mut own = file.with_tables(float.tables(), &Device::Cpu).unwrap();
        own.add_lora(&LoraConfig::default(), &lora).unwrap();
        own.merge_lora().unwrap();
        let mut cache = own.cache();
        let first = own
            .forward(&x.narrow(1, 0, 4).unwrap(), Some(&mut cache))
            .unwrap();
        let rest = own
            .forward(&x.narrow(1, 4, 5).unwrap(), Some(&mut cache))
            .unwrap();
        let got = Tensor::cat(&[first, rest], 1).unwrap();
        let off = largest_difference(&got, &want);
        assert!(off < limit, "{kind:?} {off}");
    }
}

#[test]
fn the_built_in_model_has_the_states_that_its_own_reader_gives_it() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/smollm2");
    let mut own = crate::llm::LanguageModel::load(&dir, &Device::Cpu).unwrap();
    let ids = own.tokenizer().encode("A fox finds a lantern in the snow.");
    let width = own.lm().hyperparameters().width;
    let want = own.lm().hidden_states(&ids).unwrap();
    let want = Tensor::from_vec(want, (1, ids.len(), width), &Device::Cpu).unwrap();
    let largest = want
        .abs()
        .unwrap()
        .max_all()
        .unwrap()
        .to_scalar::<f32>()
        .unwrap();

    let path = dir.join("SmolLM2-135M-Instruct.Q4_1.gguf");
    let file = GgufLlama::open(&path).unwrap();
    let tables = file.tables(&Device::Cpu).unwrap();
    let float = file.dequantised(tables.clone(), &Device::Cpu).unwrap();
    let x = float.embed_ids(&ids).unwrap();
    let got = float.forward(&x, None).unwrap();
    assert!(largest_difference(&got, &want) < 1e-4 * largest);
    // ggml's products round activations to 8 bits.
    let quantised = file.with_tables(tables, &Device::Cpu).unwrap();
    let got = quantised.forward(&x, None).unwrap();
    let off = largest_difference(&got, &want) / largest;
    assert!(off < 0.1, "{off}");
    let logits = float.logits(&want).unwrap();
    assert_eq!(logits.dims(), [1, ids.len(), float.rows().unwrap()]);
    // The output layer as it lies in the file, and all matrices as training holds them, where the
    // processor has a quicker way than f32.
    let own = file.with_own_tables(&Device::Cpu).unwrap();
    let highest = logits.abs().unwrap().max_all().unwrap();
    let highest = highest.to_scalar::<f32>().unwrap();
    let off = largest_difference(&own.logits(&want).unwrap(), &logits) / highest;
    assert!(off < 0.01, "{off}");
    let mut frozen = float.clone();
    frozen.freeze().unwrap();
    let off = largest_difference(&frozen.forward(&x, None).unwrap(), &want) / largest;
    assert!(off < 0.1, "{off}");
    let off = largest_difference(&frozen.logits(&want).unwrap(), &logits) / highest;
    assert!(off < 0.01, "{off}");
}

#[test]
fn parts_that_share_a_beginning_have_the_states_of_texts_of_their_own() {
    let llama = FloatLlama::new(FloatConfig::tiny(), &Params::init(21, &Device::Cpu)).unwrap();
    let x = noise(22, 0, &[1, 12, 24], &Device::Cpu).unwrap();
    let own = |ranges: &[std::ops::Range<usize>]| {
        let pieces: Vec<Tensor> = ranges
            .iter()
            .map(|r| x.narrow(1, r.start, r.len()).unwrap())
            .collect();
        let all = llama.forward(&Tensor::cat(&pieces, 1).unwrap(), None);
        let n = ranges[ranges.len() - 1].len();
        let all = all.unwrap();
        all.narrow(1, all.dim(1).unwrap() - n, n).unwrap()
    };
    let start_of = |n: usize| Vec::from_iter(Some(0..n));
    let part = |tokens: std::ops::Range<usize>, sees: &[std::ops::Range<usize>]| PackedPart {
        tokens,
        sees: sees.to_vec(),
    };
    // Places 0..4 come first; then a branch, and a text that goes on without it.
    let parts = [part(4..7, &start_of(4)), part(7..12, &[0..2, 4..5])];
    let mut cache = llama.cache();
    let start = [part(0..4, &[])];
    let first = x.narrow(1, 0, 4).unwrap();
    llama
        .forward_packed(&first, &start, Some(&mut cache))
        .unwrap();
    let rest = x.narrow(1, 4, 8).unwrap();
    let got = llama
        .forward_packed(&rest, &parts, Some(&mut cache))
        .unwrap();
    let branch = got.narrow(1, 0, 3).unwrap();
    assert!(largest_difference(&branch, &own(&[0..4, 4..7])) < 1e-5);
    // Keys of place 4 were computed in the branch, at position 4: only its position differs from
    // a text of its own, so it is compared with the branch in one pass.
    let whole = [start[0].clone(), parts[0].clone(), parts[1].clone()];
    let again = llama.forward_packed(&x, &whole, None).unwrap();
    let again = again.narrow(1, 4, 8).unwrap();
    assert!(largest_difference(&again, &got) < 1e-5);
    // What comes later can't be seen.
    let bad = [part(0..4, &start_of(6)), part(4..12, &[])];
    assert!(llama.forward_packed(&x, &bad, None).is_err());
}

#[test]
fn added_tokens_have_rows_of_their_own_and_the_tables_stay() {
    let mut llama = FloatLlama::new(FloatConfig::tiny(), &Params::init(23, &Device::Cpu)).unwrap();
    let before = llama.embed_ids(&[4, 29]).unwrap();
    let added = Params::init(24, &Device::Cpu);
    llama.add_rows(3, &added).unwrap();
    assert_eq!(llama.rows().unwrap(), 33);
    let x = llama.embed_ids(&[4, 30, 32, 29]).unwrap();
    let old = Tensor::cat(&[x.narrow(1, 0, 1).unwrap(), x.narrow(1, 3, 1).unwrap()], 1).unwrap();
    assert_eq!(largest_difference(&old, &before), 0.0);
    assert_eq!(llama.logits(&x).unwrap().dims(), [1, 4, 33]);
    assert!(llama.embed_ids(&[33]).is_err());
    let names: Vec<String> = added.vars().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["embed_tokens.weight", "lm_head.weight"]);
}

#[test]
fn dropped_inputs_of_adapters_average_out_and_a_seed_draws_them_again() {
    let config = FloatConfig::tiny();
    let mut llama = FloatLlama::new(config.clone(), &Params::init(3, &Device::Cpu)).unwrap();
    let lora = LoraConfig {
        r: 2,
        ..LoraConfig::default()
    };
    // As drawn by `init` an adapter's second half is zero; both halves must count here.
    let (c, q) = (
        config.hidden_size,
        config.num_attention_heads * config.head_width(),
    );
    let v = config.kv_heads() * config.head_width();
    let mut adapters = HashMap::new();
    for layer in 0..config.num_hidden_layers {
        for (name, out) in [("q", q), ("v", v)] {
            for (half, shape) in [("A", [2, c]), ("B", [out, 2])] {
                let name =
                    format!("layers.{layer}.self_attn.{name}_proj.lora_{half}.default.weight");
                adapters.insert(name, noise(layer as u64, 1, &shape, &Device::Cpu).unwrap());
            }
        }
    }
    let adapters = Params::from_tensors(adapters, false, &Device::Cpu);
    llama.add_lora(&lora, &adapters).unwrap();
    let x = noise(5, 0, &[1, 4, config.hidden_size], &Device::Cpu).unwrap();
    let whole = llama.forward(&x, None).unwrap();
    let draw = |llama: &mut FloatLlama| {
        llama.drop_adapter_inputs(0.3, 9).unwrap();
        let first = llama.forward(&x, None).unwrap();
        (first, llama.forward(&x, None).unwrap())
    };
    let (one, two) = draw(&mut llama);
    assert!(largest_difference(&one, &whole) > 1e-3);
    assert!(largest_difference(&one, &two) > 1e-3);
    let (again, _) = draw(&mut llama);
    assert_eq!(largest_difference(&one, &again), 0.0);
    llama.drop_adapter_inputs(0.0, 9).unwrap();
    assert_eq!(
        largest_difference(&llama.forward(&x, None).unwrap(), &whole),
        0.0
    );
    assert!(llama.drop_adapter_inputs(1.0, 9).is_err());

    // Kept numbers are scaled up, so that the mean stays: of 1 it stays 1.
    let ones = Tensor::ones((1, 100_000), candle_core::DType::F32, &Device::Cpu).unwrap();
    let dropped = lora::Dropout::new(0.05, 4).forward(&ones).unwrap();
    let mean = dropped.mean_all().unwrap().to_scalar::<f32>().unwrap();
    assert!((mean - 1.0).abs() < 0.01, "{mean}");
}
