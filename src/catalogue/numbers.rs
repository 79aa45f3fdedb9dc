//! How the numbers of a file are stored, and which ways to store them are not read.

use std::collections::BTreeMap;

use super::HeaderTensors;
use crate::weights::{GgmlType, Identity, WeightsKind};

/// Types that weights are read from.
const READ: [&str; 6] = ["F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"];

/// Whether weights of a type, by safetensors' name or by llama.cpp's, can be read.
fn is_read(dtype: &str) -> bool {
    let mut ggml = GgmlType::ALL.iter();
    READ.contains(&dtype) || ggml.any(|kind| kind.name() == dtype && kind.quant().is_some())
}

/// Ways to pack weights that only their own libraries read, by what is beside every weight.
const PACKED: [(&str, &str); 10] = [
    (".quant_state.bitsandbytes__nf4", "bitsandbytes NF4"),
    (".quant_state.bitsandbytes__fp4", "bitsandbytes FP4"),
    (".quant_map", "bitsandbytes"),
    (".SCB", "bitsandbytes int8"),
    (".g_idx", "GPTQ"),
    (".qzeros", "AWQ"),
    (".smooth_factor", "SVDQuant (Nunchaku)"),
    (".wscales", "SVDQuant (Nunchaku)"),
    (".weight_scale_2", "NVFP4"),
    (".weight_packed", "compressed-tensors"),
];

/// Says how most numbers are stored, and refuses what is not read by its name.
pub(super) fn judge(t: &HeaderTensors, identity: &mut Identity) {
    let mut bytes: BTreeMap<&str, u64> = BTreeMap::new();
    for info in t.map.values() {
        *bytes.entry(&info.dtype).or_default() += info.bytes.max(1);
    }
    let most = bytes.iter().max_by_key(|(_, bytes)| **bytes);
    identity.precision = most.map(|(dtype, _)| name(dtype));
    let packed = PACKED.iter().find(|(mark, _)| t.has_part(mark));
    let way = packed.map(|(_, way)| (*way).to_string()).or_else(|| {
        // Counters and position ids are whole numbers in every file.
        let large = t
            .map
            .iter()
            .find(|(_, info)| info.shape.len() > 1 && info.count() > 4096 && !is_read(&info.dtype));
        let (name, info) = large.filter(|(name, _)| !name.ends_with("position_ids"))?;
        Some(format!("{} ({name})", info.dtype))
    });
    if let Some(way) = way {
        let note = format!("its weights are stored as {way}, which is not supported");
        identity.notes.push(note);
        identity.supported = false;
        if identity.is != WeightsKind::Refused {
            identity.instead =
                Some("use the same model with f16, bf16, f32 or fp8 weights".to_string());
        }
    }
}

/// A type as people write it.
fn name(dtype: &str) -> String {
    match dtype {
        "F8_E4M3" => "fp8 (e4m3)".to_string(),
        "F8_E5M2" => "fp8 (e5m2)".to_string(),
        other if other.starts_with('Q') || other.starts_with("IQ") || other.starts_with("MX") => {
            other.to_string()
        }
        other => other.to_lowercase(),
    }
}
