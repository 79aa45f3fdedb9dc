//! What a GGUF file says about its network, read in one place, and refused by name where a part of
//! it is not read: passing it over would change every word that is written.

use super::families::{Family, Windows};
use super::gguf::quant_type;
use crate::weights::{GgufHeader, GgufValue};

/// How frequencies of rotations are changed for texts longer than those first trained on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    None,
    /// Positions are divided by it.
    Linear(f64),
    Yarn {
        factor: f64,
        original: usize,
        fast: f64,
        slow: f64,
    },
}

/// Experts of a mixture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Experts {
    pub count: usize,
    /// Those that a token passes through.
    pub used: usize,
    /// Width inside each.
    pub inner: usize,
}

/// The sizes of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerSizes {
    pub heads: usize,
    /// Heads of keys and values, each shared by `heads / kv_heads` queries.
    pub kv_heads: usize,
    /// Width inside the feed-forward part, where there are no experts.
    pub inner: usize,
    /// The tokens that each sees, itself among them; `None`: all before it.
    pub window: Option<usize>,
    /// Whether positions turn queries and keys.
    pub turns: bool,
}

/// Sizes and constants of a network.
#[derive(Clone, Debug, PartialEq)]
pub struct Hyperparameters {
    pub family: &'static Family,
    pub layers: Vec<LayerSizes>,
    /// Width of embeddings and hidden states.
    pub width: usize,
    pub head_width: usize,
    /// Rows of the embedding table.
    pub vocabulary: usize,
    /// The longest text that it was trained on, in tokens.
    pub trained: usize,
    pub norm_epsilon: f32,
    pub rope_base: f64,
    /// That of layers with a window.
    pub local_rope_base: f64,
    /// The part of a head that positions turn.
    pub rotated: usize,
    pub rope_scaling: RopeScaling,
    /// What cosines and sines are multiplied with.
    pub rope_magnitude: f32,
    /// From this length on the factors for long texts are taken, where there are such.
    pub short_context: Option<usize>,
    pub attention_scale: f32,
    pub score_cap: Option<f32>,
    pub logit_cap: Option<f32>,
    pub embedding_scale: Option<f32>,
    pub experts: Option<Experts>,
}

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

/// Reads keys of an architecture.
struct Keys<'a> {
    header: &'a GgufHeader,
    architecture: &'a str,
}

impl Keys<'_> {
    fn value(&self, key: &str) -> Option<&GgufValue> {
        let key = format!("{}.{key}", self.architecture);
        self.header.metadata.get(&key)
    }

    /// A number of any type.
    fn number(&self, key: &str) -> Result<Option<f64>, String> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        number(value)
            .filter(|number| number.is_finite())
            .map(Some)
            .ok_or_else(|| format!("its {}.{key} is not a number", self.architecture))
    }

    fn positive(&self, key: &str) -> Result<Option<f64>, String> {
        let number = self.number(key)?;
        match number {
            Some(n) if n <= 0.0 => Err(self.out_of_range(key)),
            number => Ok(number),
        }
    }

    fn count(&self, key: &str, limit: usize) -> Result<Option<usize>, String> {
        match self.number(key)? {
            Some(n) => self.whole(key, n, limit).map(Some),
            None => Ok(None),
        }
    }

    fn needed(&self, key: &str, limit: usize) -> Result<usize, String> {
        let missing = || format!("it does not say {}.{key}", self.architecture);
        self.count(key, limit)?.ok_or_else(missing)
    }

    fn whole(&self, key: &str, number: f64, limit: usize) -> Result<usize, String> {
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
    fn each(&self, key: &str, layers: usize, limit: usize) -> Result<Option<Vec<usize>>, String> {
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

impl Hyperparameters {
    /// What the header of a file says.
    ///
    /// # Errors
    /// What is missing or not read here, by name: an architecture, a key, a tensor or its type.
    pub fn from_gguf(header: &GgufHeader) -> Result<Hyperparameters, String> {
        let architecture = header.string("general.architecture");
        let architecture = architecture.ok_or("it does not say general.architecture")?;
        let family = Family::find(architecture).ok_or_else(|| {
            format!(
                "its architecture is {architecture}, which this program does not read (it reads {})",
                Family::names()
            )
        })?;
        let keys = Keys {
            header,
            architecture,
        };
        refuse_keys(&keys)?;
        let count = keys.needed("block_count", 1 << 10)?;
        let width = keys.needed("embedding_length", 1 << 16)?;
        let heads = keys.each("attention.head_count", count, 1 << 10)?;
        let heads =
            heads.ok_or_else(|| format!("it does not say {architecture}.attention.head_count"))?;
        let kv_heads = keys.each("attention.head_count_kv", count, 1 << 10)?;
        let kv_heads = kv_heads.unwrap_or_else(|| heads.clone());
        let head_width = match keys.count("attention.key_length", 1 << 12)? {
            Some(width) => width,
            None => width / heads[0],
        };
        let values = keys.count("attention.value_length", 1 << 12)?;
        if values.is_some_and(|values| values != head_width) {
            let name = format!("{architecture}.attention.value_length");
            return Err(format!(
                "its {name} differs from its keys' length, which is not read here"
            ));
        }
        let rotated = keys.count("rope.dimension_count", head_width)?;
        let rotated = rotated.unwrap_or(head_width);
        let grouped = heads
            .iter()
            .zip(&kv_heads)
            .all(|(h, kv)| h.is_multiple_of(*kv));
        if !grouped || !rotated.is_multiple_of(2) || !head_width.is_multiple_of(2) {
            return Err("its attention heads are of an unknown kind".to_string());
        }
        let experts = experts(&keys, family)?;
        let inner = keys.each("feed_forward_length", count, 1 << 20)?;
        let inner = match (inner, experts) {
            (Some(inner), _) => inner,
            (None, Some(experts)) => vec![experts.inner; count],
            (None, None) => {
                return Err(format!(
                    "it does not say {architecture}.feed_forward_length"
                ));
            }
        };
        let trained = keys.needed("context_length", 1 << 30)?;
        let windows = windows(&keys, family, count, trained)?;
        let layers = (0..count)
            .map(|i| LayerSizes {
                heads: heads[i],
                kv_heads: kv_heads[i],
                inner: inner[i],
                window: windows[i],
                turns: family.still_every.is_none_or(|n| (i + 1) % n != 0),
            })
            .collect();
        let epsilon = keys.positive("attention.layer_norm_rms_epsilon")?;
        let epsilon = epsilon.ok_or_else(|| {
            format!("it does not say {architecture}.attention.layer_norm_rms_epsilon")
        })?;
        let rope_base = keys.positive("rope.freq_base")?.unwrap_or(10_000.0);
        let local = keys.positive("rope.freq_base_swa")?;
        let (rope_scaling, magnitude) = rope_scaling(&keys, family)?;
        let scaled_by = match family.layers_scaled_by_width == Some(count) {
            true => width / heads[0],
            false => head_width,
        };
        let attention_scale = 1.0 / (scaled_by as f32).sqrt();
        let said = keys
            .number("attention.scale")?
            .filter(|scale| *scale != 0.0);
        if said.is_some_and(|scale| (scale as f32 / attention_scale - 1.0).abs() > 1e-4) {
            return Err(format!(
                "its {architecture}.attention.scale is not read here"
            ));
        }
        let cap = |key: &str| -> Result<Option<f32>, String> {
            match keys.number(key)?.filter(|cap| *cap != 0.0) {
                Some(_) if !family.caps => Err(format!(
                    "its {architecture}.{key} is not read with this architecture"
                )),
                cap => Ok(cap.map(|cap| cap as f32)),
            }
        };
        let long = family.long_factors && header.tensors.contains_key("rope_factors_long.weight");
        let short_context = match long {
            true => Some(keys.needed("rope.scaling.original_context_length", 1 << 30)?),
            false => None,
        };
        if header.tensors.is_empty() {
            return Err("it holds no weights, only a vocabulary".to_string());
        }
        let table = header.tensors.get("token_embd.weight");
        let tokens = match header.metadata.get("tokenizer.ggml.tokens") {
            Some(GgufValue::Strings(tokens)) => tokens.len(),
            _ => 0,
        };
        // Where the table is elsewhere, there is a row for each token.
        let vocabulary = table.and_then(|table| table.shape.first());
        let vocabulary = vocabulary.copied().unwrap_or(tokens);
        let read = Hyperparameters {
            family,
            layers,
            width,
            head_width,
            vocabulary,
            trained,
            norm_epsilon: epsilon as f32,
            rope_base,
            local_rope_base: local.or(family.local_rope_base).unwrap_or(rope_base),
            rotated,
            rope_scaling,
            rope_magnitude: magnitude,
            short_context,
            attention_scale,
            score_cap: cap("attn_logit_softcapping")?,
            logit_cap: cap("final_logit_softcapping")?,
            embedding_scale: family.scales_embeddings.then(|| (width as f32).sqrt()),
            experts,
        };
        read.refuse_tensors(header)?;
        Ok(read)
    }

    /// The most tokens that a layer's cache holds of a text of `context`.
    pub fn kept(&self, layer: usize, context: usize) -> usize {
        match self.layers[layer].window {
            Some(window) => context.min(window + super::cache::BEHIND_WINDOW),
            None => context,
        }
    }

    /// Refuses tensors that would be passed over, and types that are not read.
    fn refuse_tensors(&self, header: &GgufHeader) -> Result<(), String> {
        for (name, tensor) in &header.tensors {
            if quant_type(tensor.kind).is_none() {
                let kind = match tensor.kind {
                    Some(kind) => kind.name().to_string(),
                    None => format!("type {}", tensor.kind_number),
                };
                return Err(format!(
                    "{name} is stored as {kind}, which is not supported; take a Q4_K_M or Q8_0 of the same model"
                ));
            }
            if MEANT.iter().any(|end| name.ends_with(end)) && !self.reads(name) {
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

fn refuse_keys(keys: &Keys) -> Result<(), String> {
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

fn experts(keys: &Keys, family: &Family) -> Result<Option<Experts>, String> {
    let count = keys.number("expert_count")?.filter(|count| *count != 0.0);
    let Some(count) = count else {
        return match family.experts {
            true => Err(format!(
                "it does not say {}.expert_count",
                keys.architecture
            )),
            false => Ok(None),
        };
    };
    if !family.experts {
        let name = keys.architecture;
        return Err(format!(
            "its {name}.expert_count is {count}, and mixtures of experts are not read with this architecture"
        ));
    }
    // llama.cpp's 2 is a sigmoid; 1 and 3 are softmax before and after the choice.
    let gating = keys.number("expert_gating_func")?.unwrap_or(0.0);
    if ![0.0, 1.0, 3.0].contains(&gating) {
        let name = keys.architecture;
        return Err(format!(
            "its {name}.expert_gating_func is {gating}, which is not read here"
        ));
    }
    if keys.number("expert_weights_norm")? == Some(0.0) {
        let name = keys.architecture;
        return Err(format!(
            "its {name}.expert_weights_norm is false, which is not read here"
        ));
    }
    let count = keys.whole("expert_count", count, 1 << 12)?;
    Ok(Some(Experts {
        count,
        used: keys.needed("expert_used_count", count)?,
        inner: match keys.count("expert_feed_forward_length", 1 << 20)? {
            Some(inner) => inner,
            None => keys.needed("feed_forward_length", 1 << 20)?,
        },
    }))
}

/// The window of each layer.
fn windows(
    keys: &Keys,
    family: &Family,
    layers: usize,
    trained: usize,
) -> Result<Vec<Option<usize>>, String> {
    const KEY: &str = "attention.sliding_window";
    const PATTERN: &str = "attention.sliding_window_pattern";
    let window = keys.number(KEY)?.filter(|window| *window != 0.0);
    let Some(window) = window else {
        return match family.windows {
            Windows::AllButEvery(_) => Err(format!("it does not say {}.{KEY}", keys.architecture)),
            _ => Ok(vec![None; layers]),
        };
    };
    let window = keys.whole(KEY, window, 1 << 30)?;
    if window >= trained {
        return Ok(vec![None; layers]);
    }
    let every = match (keys.value(PATTERN), family.windows) {
        (Some(GgufValue::Bools(seen)), _) if seen.len() == layers => {
            return Ok(seen.iter().map(|local| local.then_some(window)).collect());
        }
        (Some(GgufValue::Wholes(seen)), _) if seen.len() == layers => {
            return Ok(seen
                .iter()
                .map(|local| (*local != 0).then_some(window))
                .collect());
        }
        (Some(_), _) => keys.needed(PATTERN, 1 << 10)?,
        (None, Windows::All) => usize::MAX,
        (None, Windows::AllButEvery(n)) => n,
        (None, Windows::Unknown) => {
            return Err(format!(
                "its {}.{KEY} is {window}, and windows are not read with this architecture",
                keys.architecture
            ));
        }
    };
    Ok((1..=layers)
        .map(|i| (i % every != 0).then_some(window))
        .collect())
}

/// How frequencies are scaled, and what cosines and sines are multiplied with.
fn rope_scaling(keys: &Keys, family: &Family) -> Result<(RopeScaling, f32), String> {
    const KEY: &str = "rope.scaling.type";
    let kind = match keys.value(KEY) {
        None => None,
        Some(GgufValue::String(kind)) => Some(kind.as_str()),
        Some(_) => return Err(format!("its {}.{KEY} is no name", keys.architecture)),
    };
    let factor = match keys.positive("rope.scaling.factor")? {
        Some(factor) => Some(factor),
        None => keys.number("rope.scale_linear")?.filter(|n| *n > 0.0),
    };
    let own = keys.positive("rope.scaling.attn_factor")?;
    if own.is_some_and(|own| own != 1.0) && !family.long_factors && kind != Some("yarn") {
        let name = keys.architecture;
        return Err(format!(
            "its {name}.rope.scaling.attn_factor is not read with this architecture"
        ));
    }
    let own = own.unwrap_or(1.0);
    let scaling = match kind {
        Some("none") => RopeScaling::None,
        None | Some("linear") => match factor {
            Some(factor) if factor != 1.0 => RopeScaling::Linear(factor),
            _ => RopeScaling::None,
        },
        Some("longrope") if family.long_factors => RopeScaling::None,
        Some("yarn") => {
            let missing = || format!("it does not say {}.rope.scaling.factor", keys.architecture);
            let factor = factor.ok_or_else(missing)?;
            let original = keys.needed("rope.scaling.original_context_length", 1 << 30)?;
            let beta = |key: &str, usual: f64| keys.positive(key).map(|beta| beta.unwrap_or(usual));
            let scaling = RopeScaling::Yarn {
                factor,
                original,
                fast: beta("rope.scaling.yarn_beta_fast", 32.0)?,
                slow: beta("rope.scaling.yarn_beta_slow", 1.0)?,
            };
            let magnitude = own * (0.1 * factor.ln() + 1.0);
            return Ok((scaling, magnitude as f32));
        }
        Some(kind) => {
            return Err(format!(
                "its {}.{KEY} is {kind}, a scaling of positions that is not read here",
                keys.architecture
            ));
        }
    };
    Ok((scaling, own as f32))
}

#[cfg(test)]
mod tests {
    use super::*;
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
        table.kind = Some(crate::weights::GgmlType::Iq2Xxs);
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
}
