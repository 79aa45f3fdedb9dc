//! Where the second stage begins: what the first one left, with fresh adapters.

use crate::llm::float::{FloatConfig, LoraConfig};
use crate::nn::{NoiseSource, Result, TensorSource};
use crate::weights::TensorView;
use candle_core::{DType, Device, Tensor};
use std::collections::HashMap;

/// The tables, which both stages keep whole, by their names in the first and the second stage.
const TABLES: [(&str, &str); 2] = [
    (
        "model.llama_model.model.embed_tokens.weight",
        "model.llama_model.base_model.model.model.embed_tokens.modules_to_save.default.weight",
    ),
    (
        "model.llama_model.lm_head.weight",
        "model.llama_model.base_model.model.lm_head.modules_to_save.default.weight",
    ),
];

/// The state of stage 2 before its first step, under the reference's names: tables and mapper of
/// the stage-1 checkpoint `first`, and adapters that change nothing yet (peft's own beginning: the
/// first half uniform as Kaiming has it, the second zero).
///
/// # Errors
/// When `first` lacks a table, or cannot be read.
pub fn begin_second_stage(
    first: &TensorView,
    llama: &FloatConfig,
    lora: &LoraConfig,
    seed: u64,
    device: &Device,
) -> Result<HashMap<String, Tensor>> {
    let read = |name: &str| first.tensor(name, device)?.to_dtype(DType::F32);
    let mut state = HashMap::new();
    for (old, new) in TABLES {
        state.insert(new.to_string(), read(old)?);
    }
    for name in first
        .names()
        .filter(|n| n.starts_with("llm_to_t2i_mapping."))
    {
        state.insert(name.to_string(), read(name)?);
    }
    let mut source = NoiseSource::new(seed, 0);
    let wide = llama.num_attention_heads * llama.head_width();
    let narrow = llama.kv_heads() * llama.head_width();
    for layer in 0..llama.num_hidden_layers {
        for (matrix, out) in [("q", wide), ("v", narrow)] {
            let name = format!(
                "model.llama_model.base_model.model.model.layers.{layer}.self_attn.{matrix}_proj"
            );
            // Kaiming's uniform with a = sqrt(5) reaches to 1 / sqrt(inputs).
            let reach = 1.0 / (llama.hidden_size as f64).sqrt();
            let unit = uniform(&mut source, &[lora.r, llama.hidden_size], device)?;
            state.insert(format!("{name}.lora_A.default.weight"), (unit * reach)?);
            let zeros = Tensor::zeros((out, lora.r), DType::F32, device)?;
            state.insert(format!("{name}.lora_B.default.weight"), zeros);
        }
    }
    Ok(state)
}

/// Uniform from -1 to 1: the distribution function of normal draws, `erf(x / sqrt 2)`.
fn uniform(source: &mut NoiseSource, shape: &[usize], device: &Device) -> Result<Tensor> {
    (source.tensor(shape, device)? * std::f64::consts::FRAC_1_SQRT_2)?.erf()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::float::FloatConfig;
    use crate::nn::Params;
    use crate::voken::{BaseModel, ReferenceSizes, VokenModel};
    use crate::weights::Checkpoint;
    use std::path::Path;
    use std::sync::Arc;

    fn view(name: &str) -> TensorView {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/public/checkpoint");
        TensorView::of(&Arc::new(Checkpoint::open(&dir.join(name)).unwrap()))
    }

    /// It has the parameters that the reference's own stage 2 saves, and at first computes what
    /// stage 1 does.
    #[test]
    fn the_second_stage_begins_as_the_first_ended() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/public/checkpoint");
        let cpu = Device::Cpu;
        let config = FloatConfig::read(&dir.join("llama")).unwrap();
        let sizes: ReferenceSizes =
            serde_json::from_slice(&std::fs::read(dir.join("tiny_config.json")).unwrap()).unwrap();
        assert_eq!(sizes.lora.dropout, 0.05);
        let first = view("stage1_cc3m.ckpt");
        let begin = || begin_second_stage(&first, &config, &sizes.lora, 3, &cpu).unwrap();
        let state = begin();
        let recorded = view("stage2_vist.ckpt");
        let mut names: Vec<&str> = state.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, recorded.names().collect::<Vec<_>>());
        for (name, tensor) in &state {
            assert_eq!(
                Some(tensor.dims()),
                recorded.shape(name).as_deref(),
                "{name}"
            );
        }
        let a = &state["model.llama_model.base_model.model.model.layers.1.self_attn.v_proj.lora_A.default.weight"];
        let values = a.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let reach = 1.0 / (config.hidden_size as f32).sqrt();
        assert!(values.iter().all(|v| v.abs() <= reach));
        let square = values.iter().map(|v| v * v).sum::<f32>() / values.len() as f32;
        assert!(
            (square / (reach * reach) - 1.0 / 3.0).abs() < 0.05,
            "{square}"
        );

        let source = |name| Params::from_source(Arc::new(view(name)), false, &cpu);
        let (base, one) = (source("llama"), source("stage1_cc3m.ckpt"));
        let two = Params::from_tensors(state, true, &cpu);
        let read = |second: Option<&Params>| {
            VokenModel::read(BaseModel::Float(&config, &base), &sizes, 1, &one, second).unwrap()
        };
        let (before, after) = (read(None), read(Some(&two)));
        assert_eq!(two.vars().len(), recorded.names().count());
        let ids = [5, 9, 600, 3];
        let states = |model: &VokenModel| {
            let hidden = model
                .llama
                .forward(&model.llama.embed_ids(&ids).unwrap(), None);
            model.mapper.forward(&hidden.unwrap()).unwrap()
        };
        let off = (states(&before) - states(&after)).unwrap().abs().unwrap();
        assert_eq!(off.max_all().unwrap().to_scalar::<f32>().unwrap(), 0.0);
    }
}
