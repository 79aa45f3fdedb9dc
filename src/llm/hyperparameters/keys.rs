//! Reading the keys of an architecture, whatever type a file gives them.

use crate::weights::{GgufHeader, GgufValue};

/// Keys that change what a network computes and that no family here reads, with the value at which
/// they change nothing.
const UNREAD_KEYS: &[(&str, Option<f64>)] = &[
    ("attention.clamp_kqv", Some(0.0)),
    ("attention.max_alibi_bias", Some(0.0)),
    ("attention.causal", Some(1.0)),
    ("attention.q_lora_rank", Some(0.0)),
    ("attention.kv_lora_rank", Some(0.0)),
    ("attention.temperature_scale", None),
    ("attention.temperature_length", None),
    ("attention.output_scale", None),
    ("logit_scale", Some(1.0)),
    ("residual_scale", Some(1.0)),
    ("embedding_scale", Some(1.0)),
    ("use_parallel_residual", Some(0.0)),
    ("router_logit_softcapping", Some(0.0)),
    ("expert_shared_count", Some(0.0)),
    ("expert_shared_feed_forward_length", Some(0.0)),
    ("expert_weights_scale", Some(1.0)),
    ("expert_group_count", Some(0.0)),
    ("leading_dense_block_count", Some(0.0)),
    ("interleave_moe_layer_step", Some(1.0)),
    ("nextn_predict_layers", Some(0.0)),
    ("rescale_every_n_layers", Some(0.0)),
    ("rope.dimension_sections", None),
    ("rope.scaling.yarn_ext_factor", Some(1.0)),
    ("rope.scaling.yarn_attn_factor", Some(1.0)),
    ("rope.scaling.yarn_log_multiplier", None),
    ("ssm.state_size", Some(0.0)),
];

/// Reads keys of an architecture.
pub(super) struct Keys<'a> {
    pub(super) header: &'a GgufHeader,
    pub(super) architecture: &'a str,
}

impl Keys<'_> {
    pub(super) fn value(&self, key: &str) -> Option<&GgufValue> {
        let key = format!("{}.{key}", self.architecture);
        self.header.metadata.get(&key)
    }

    /// A number of any type.
    pub(super) fn number(&self, key: &str) -> Result<Option<f64>, String> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        number(value)
            .filter(|number| number.is_finite())
            .map(Some)
            .ok_or_else(|| format!("its {}.{key} is not a number", self.architecture))
    }

    pub(super) fn positive(&self, key: &str) -> Result<Option<f64>, String> {
        let number = self.number(key)?;
        match number {
            Some(n) if n <= 0.0 => Err(self.out_of_range(key)),
            number => Ok(number),
        }
    }

    pub(super) fn count(&self, key: &str, limit: usize) -> Result<Option<usize>, String> {
        match self.number(key)? {
            Some(n) => self.whole(key, n, limit).map(Some),
            None => Ok(None),
        }
    }

    pub(super) fn needed(&self, key: &str, limit: usize) -> Result<usize, String> {
        let missing = || format!("it does not say {}.{key}", self.architecture);
        self.count(key, limit)?.ok_or_else(missing)
    }

    pub(super) fn whole(&self, key: &str, number: f64, limit: usize) -> Result<usize, String> {
        let fits = number.fract() == 0.0 && number >= 1.0 && number <= limit as f64;
        if fits {
            Ok(number as usize)
        } else {
            Err(self.out_of_range(key))
        }
    }

    fn out_of_range(&self, key: &str) -> String {
        format!("its {}.{key} is out of range", self.architecture)
    }

    /// A number for every layer: one for all, or a list.
    pub(super) fn each(
        &self,
        key: &str,
        layers: usize,
        limit: usize,
    ) -> Result<Option<Vec<usize>>, String> {
        let list = match self.value(key) {
            None => return Ok(None),
            Some(GgufValue::Wholes(list)) => list.iter().map(|n| *n as f64).collect(),
            Some(GgufValue::Floats(list)) => list.clone(),
            Some(_) => vec![self.number(key)?.unwrap_or_default(); layers],
        };
        if list.len() != layers {
            return Err(self.out_of_range(key));
        }
        let whole = |n: &f64| self.whole(key, *n, limit);
        list.iter().map(whole).collect::<Result<_, _>>().map(Some)
    }
}

fn number(value: &GgufValue) -> Option<f64> {
    match value {
        GgufValue::Whole(number) => Some(*number as f64),
        GgufValue::Float(number) => Some(*number),
        GgufValue::Bool(yes) => Some(f64::from(u8::from(*yes))),
        _ => None,
    }
}

/// Refuses keys that would change what is written.
pub(super) fn refuse_keys(keys: &Keys) -> Result<(), String> {
    for (key, neutral) in UNREAD_KEYS {
        let Some(value) = keys.value(key) else {
            continue;
        };
        if neutral.is_none() || number(value) != *neutral {
            return Err(format!(
                "its {}.{key} is not read here, and would change what is written",
                keys.architecture
            ));
        }
    }
    Ok(())
}
