use super::*;
use crate::nn::noise;

/// Grouped-query attention, sizes that differ from each other.
fn tiny() -> FloatConfig {
    FloatConfig {
        hidden_size: 24,
        intermediate_size: 40,
        num_hidden_layers: 2,
        num_attention_heads: 6,
        num_key_value_heads: Some(2),
        vocab_size: 30,
        ..FloatConfig::default()
    }
}

fn largest_difference(a: &Tensor, b: &Tensor) -> f32 {
    let d = (a - b).unwrap().abs().unwrap().flatten_all().unwrap();
    d.max(0).unwrap().to_scalar().unwrap()
}

#[test]
fn a_text_read_in_pieces_has_the_states_of_the_whole() {
    let llama = FloatLlama::new(tiny(), &Params::init(1, &Device::Cpu)).unwrap();
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
    let llama = FloatLlama::new(tiny(), &Params::init(3, &Device::Cpu)).unwrap();
    let x = noise(4, 0, &[2, 9, 24], &Device::Cpu).unwrap();
    let whole = llama.forward(&x, None).unwrap();
    let short = x.narrow(0, 1, 1).unwrap().narrow(1, 0, 5).unwrap();
    let short = llama.forward(&short, None).unwrap();
    let same = whole.narrow(0, 1, 1).unwrap().narrow(1, 0, 5).unwrap();
    assert!(largest_difference(&short, &same) < 1e-5);
}

#[test]
fn a_merged_adapter_gives_what_it_gave_beside_the_weights() {
    let mut llama = FloatLlama::new(tiny(), &Params::init(5, &Device::Cpu)).unwrap();
    let x = noise(6, 0, &[1, 7, 24], &Device::Cpu).unwrap();
    let plain = llama.forward(&x, None).unwrap();
    let (mut tensors, lora) = (std::collections::HashMap::new(), LoraConfig::default());
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
        (r#"{"num_attention_heads":0}"#, "num_attention_heads"),
        (r#"{"num_key_value_heads":5}"#, "num_key_value_heads"),
    ] {
        let config: FloatConfig = serde_json::from_str(json).unwrap();
        let why = config.check().unwrap_err().to_string();
        assert!(why.contains(name), "{why}");
    }
    let ids: FloatConfig =
        serde_json::from_str(r#"{"bos_token_id":0,"eos_token_id":[7,8]}"#).unwrap();
    assert_eq!((ids.bos(), ids.eos()), (Some(0), Some(7)));
}
