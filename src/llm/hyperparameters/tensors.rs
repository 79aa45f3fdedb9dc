//! Which tensors of a file are read, and which are refused.

use super::Hyperparameters;
use crate::weights::{GgmlType, GgufHeader};

/// Ends of names of tensors that change what a network computes. One that the family does not
/// have is refused; what has other names does not take part.
const MEANT: &[&str] = &[
    ".bias",
    "attn_q_norm.weight",
    "attn_k_norm.weight",
    "attn_sub_norm.weight",
    "ffn_sub_norm.weight",
    "attn_norm_2.weight",
    "attn_sinks.weight",
    "post_attention_norm.weight",
    "post_ffw_norm.weight",
    "ffn_gate_inp.weight",
    "ffn_gate_exps.weight",
    "ffn_up_exps.weight",
    "ffn_down_exps.weight",
    "ffn_gate_shexp.weight",
    "ffn_up_shexp.weight",
    "ffn_down_shexp.weight",
    "layer_output_scale.weight",
    "rope_freqs.weight",
    "rope_factors_short.weight",
    "rope_factors_long.weight",
    "position_embd.weight",
    "token_embd_norm.weight",
    "ssm_in.weight",
];

/// Biases that are added wherever they are.
const BIASED: &[&str] = &[
    "attn_q",
    "attn_k",
    "attn_v",
    "attn_qkv",
    "attn_output",
    "ffn_gate",
    "ffn_up",
    "ffn_down",
];

impl Hyperparameters {
    /// Refuses tensors that would be passed over, and types that are not read.
    pub(super) fn refuse_tensors(&self, header: &GgufHeader) -> Result<(), String> {
        for (name, tensor) in &header.tensors {
            if tensor.kind.and_then(GgmlType::quant).is_none() {
                let kind = match tensor.kind {
                    Some(kind) => kind.name().to_string(),
                    None => format!("type {}", tensor.kind_number),
                };
                return Err(format!(
                    "{name} is stored as {kind}, which is not supported; take a Q4_K_M or Q8_0 of the same model"
                ));
            }
            // What sees pictures is no part of the language model.
            let of_eyes = name.starts_with("v.") || name.starts_with("mm.");
            if !of_eyes && MEANT.iter().any(|end| name.ends_with(end)) && !self.reads(name) {
                return Err(format!(
                    "its tensor {name} is not read with the architecture {}",
                    self.family.architecture
                ));
            }
        }
        Ok(())
    }

    /// Whether a tensor with a meaning is read.
    fn reads(&self, name: &str) -> bool {
        let family = self.family;
        let of_layer = name
            .strip_prefix("blk.")
            .and_then(|rest| rest.split_once('.'));
        let Some((layer, part)) = of_layer else {
            return match name {
                "rope_freqs.weight" => family.architecture == "llama",
                "rope_factors_short.weight" | "rope_factors_long.weight" => family.long_factors,
                _ => false,
            };
        };
        let (part, end) = part.rsplit_once('.').unwrap_or((part, ""));
        let known = layer.parse::<usize>().is_ok_and(|i| i < self.layers.len());
        known
            && match part {
                "attn_q_norm" | "attn_k_norm" => family.head_norms && end == "weight",
                "post_attention_norm" => {
                    end == "weight" && (family.post_norms || family.inner_norm == part)
                }
                "post_ffw_norm" => family.post_norms && end == "weight",
                "attn_sinks" => family.sinks,
                "ffn_gate_inp" | "ffn_gate_exps" | "ffn_up_exps" | "ffn_down_exps" => {
                    family.experts
                }
                part => end == "bias" && BIASED.contains(&part),
            }
    }
}
