//! LoRAs and the other small files that change a model's weights.

use super::{HeaderTensors, refused, usable};
use crate::diffusion::LoraBase;
use crate::weights::{Identity, WeightsKind};

/// What is beside every module of the kinds that are no LoRA.
const OTHERS: [(&str, &str, &str); 11] = [
    (".hada_w1", "lycoris-loha", "LyCORIS LoHa"),
    (".lokr_w", "lycoris-lokr", "LyCORIS LoKr"),
    (".oft_diag", "lycoris-oft", "LyCORIS OFT"),
    (".oft_blocks", "lycoris-oft", "LyCORIS OFT"),
    (".oft_R", "lycoris-oft", "OFT"),
    (".boft_", "lycoris-boft", "BOFT"),
    (".dora_scale", "dora", "DoRA"),
    (".lora_magnitude_vector", "dora", "DoRA"),
    (".a1.weight", "lycoris-glora", "LyCORIS GLoRA"),
    (".on_input", "lycoris-ia3", "LyCORIS IA3"),
    (
        ".lora_mid.",
        "lora-tucker",
        "a LoRA in Tucker's form (LoCon with cp decomposition)",
    ),
];

const DOWN: [&str; 6] = [
    "lora_down.weight",
    "lora_A.weight",
    "lora_A.default.weight",
    "lora.down.weight",
    "lora_linear_layer.down.weight",
    "_lora1.down.weight",
];

/// What names of a text encoder's modules begin with.
const TEXTS: [&str; 7] = [
    "lora_te",
    "text_encoder",
    "lycoris_text",
    "clip_l.",
    "clip_g.",
    "lora_clip_",
    "text_encoders.clip_",
];

const USE_LORA: &str = "use a plain LoRA of Stable Diffusion 1.x, 2.x or XL";

pub(super) fn identify(t: &HeaderTensors) -> Option<Identity> {
    let (module, width) = modules(t)?;
    let base = base(t);
    let other = OTHERS.iter().find_map(|(mark, family, called)| {
        // A bare ".a1" would fit names of networks.
        let (name, _) = t.find(|name| name.contains(mark))?;
        Some((name, *family, *called))
    });
    if let Some((name, family, called)) = other {
        let of = base
            .as_ref()
            .map_or(String::new(), |base| format!(" for {}", base.1));
        return Some(refused(
            family,
            called,
            format!("{}{of}: it is no plain LoRA", t.describe(name)),
            USE_LORA,
        ));
    }
    let difference = t.find(|name| name.ends_with(".diff") || name.ends_with(".diff_b"));
    if let (Some((name, _)), true) = (difference, width.is_none()) {
        return Some(refused(
            "lycoris-full",
            "LyCORIS full differences",
            t.describe(name),
            USE_LORA,
        ));
    }
    let Some((family, called, why)) = base else {
        return Some(refused(
            "lora",
            "a LoRA of an unknown model",
            format!("{module} fits no model that is known"),
            USE_LORA,
        ));
    };
    if matches!(family, "sd1" | "sd2" | "sdxl") {
        let called = format!("a LoRA of {called}");
        let mut identity = usable(WeightsKind::Lora, family, &called, why);
        if let Some((name, _)) = difference {
            identity.supported = false;
            identity.notes.push(format!(
                "{name} is a full difference beside the LoRA, which is not supported"
            ));
            identity.instead = Some(USE_LORA.to_string());
        }
        return Some(identity);
    }
    Some(refused(family, &format!("{called} LoRA"), why, USE_LORA))
}

/// A module that is changed, and its width where the file is a LoRA; `None` where it is none.
fn modules(t: &HeaderTensors) -> Option<(String, Option<usize>)> {
    let down = t.find(|name| DOWN.iter().any(|end| name.ends_with(end)));
    if let Some((name, info)) = down {
        return Some((name.to_string(), info.shape.get(1).copied()));
    }
    let marks = [
        ".hada_w1",
        ".lokr_w",
        ".oft_",
        ".boft_",
        ".on_input",
        ".diff",
        ".dora_scale",
        ".a1.weight",
    ];
    let prefixed = |name: &str| {
        [
            "lora_",
            "lycoris_",
            "unet.",
            "text_encoder",
            "diffusion_model.",
            "transformer.",
            "base_model.",
            "clip_",
        ]
        .iter()
        .any(|prefix| name.starts_with(prefix))
    };
    let other = t.find(|name| prefixed(name) && marks.iter().any(|mark| name.contains(mark)));
    other.map(|(name, _)| (name.to_string(), None))
}

/// The model that it is for: family, name for people, the tensor that tells.
fn base(t: &HeaderTensors) -> Option<(&'static str, &'static str, String)> {
    let shapes = t.map.iter();
    let shapes = shapes.map(|(name, info)| (name.clone(), info.shape.clone()));
    if let Some(other) = LoraBase::detect(&shapes.collect()) {
        return Some((other.family, other.called, t.describe(&other.tensor)));
    }
    let unet = t.find(|name| {
        [
            "input_blocks",
            "output_blocks",
            "middle_block",
            "down_blocks",
            "up_blocks",
            "mid_block",
        ]
        .iter()
        .any(|part| name.contains(part))
    });
    let text = t.find(|name| TEXTS.iter().any(|part| name.starts_with(part)));
    if unet.is_none() && text.is_none() {
        return None;
    }
    of_unet(t)
}

/// The width of the texts that a module reads.
fn width_read(name: &str, shape: &[usize]) -> Option<usize> {
    let down = DOWN.iter().any(|end| name.ends_with(end)) || name.ends_with(".hada_w1_b");
    down.then(|| shape.get(1).copied()).flatten()
}

fn of_unet(t: &HeaderTensors) -> Option<(&'static str, &'static str, String)> {
    const SD1: &str = "Stable Diffusion 1.x";
    const SD2: &str = "Stable Diffusion 2.x";
    const SDXL: &str = "Stable Diffusion XL";
    let described = |name: &str| t.describe(name);
    // What only XL has: a second text encoder, more than one block at an attention.
    let two = t.find(|name| {
        name.starts_with("lora_te2_")
            || name.starts_with("lora_te1_")
            || name.starts_with("text_encoder_2.")
            || name.contains("clip_g.")
            || name.contains("transformer_blocks_1_")
            || name.contains("transformer_blocks.1.")
            || name.contains("add_embedding")
            || name.contains("label_emb")
    });
    let reads = t.map.iter().find_map(|(name, info)| {
        let reads = name.contains("attn2") && (name.contains("to_k") || name.contains("to_v"));
        let width = width_read(name, &info.shape).filter(|_| reads)?;
        Some((name.as_str(), width))
    });
    match reads {
        Some((name, 768)) => return Some(("sd1", SD1, described(name))),
        Some((name, 1024)) => return Some(("sd2", SD2, described(name))),
        Some((name, 2048)) => return Some(("sdxl", SDXL, described(name))),
        Some((name, 1280)) => return Some(("sdxl-refiner", "an SDXL refiner", described(name))),
        _ => {}
    }
    if let Some((name, _)) = two {
        return Some(("sdxl", SDXL, described(name)));
    }
    // XL has no attention at its finest level.
    let finest = t.find(|name| {
        [
            "down_blocks_0_attentions",
            "down_blocks.0.attentions",
            "input_blocks_1_1",
            "input_blocks.1.1",
            "up_blocks_3_attentions",
            "up_blocks.3.attentions",
        ]
        .iter()
        .any(|part| name.contains(part))
    });
    let deep = t.find(|name| {
        [
            "down_blocks_3_",
            "down_blocks.3.",
            "input_blocks_10_",
            "input_blocks_9_",
            "up_blocks_3_",
            "up_blocks.3.",
        ]
        .iter()
        .any(|part| name.contains(part))
    });
    // SD2's projections around attention are linear, and its text encoder is wider.
    let projection = t.map.iter().find(|(name, _)| {
        let read = DOWN.iter().any(|end| name.ends_with(end));
        read && name.contains("proj_in") && name.contains("down_blocks")
    });
    let text = t.map.iter().find_map(|(name, info)| {
        let encoder = name.starts_with("lora_te_")
            || name.starts_with("text_encoder.")
            || name.contains("clip_l.");
        let queries = ["q_proj", "k_proj", "v_proj", "to_q", "to_k", "fc1"]
            .iter()
            .any(|part| name.contains(part));
        let width = width_read(name, &info.shape).filter(|_| encoder && queries)?;
        Some((name.as_str(), width))
    });
    match (text, projection) {
        (Some((name, 1024)), _) => return Some(("sd2", SD2, described(name))),
        (Some((name, 768)), _) => return Some(("sd1", SD1, described(name))),
        (_, Some((name, info))) if finest.is_some() => {
            return Some(match info.shape.len() {
                2 => ("sd2", SD2, described(name)),
                _ => ("sd1", SD1, described(name)),
            });
        }
        _ => {}
    }
    if let Some((name, _)) = finest.or(deep) {
        return Some(("sd1", SD1, described(name)));
    }
    let other =
        t.find(|name| name.contains("attentions") || name.contains("_1_transformer_blocks"));
    other
        .map(|(name, _)| ("sdxl", SDXL, described(name)))
        .or_else(|| reads.map(|(name, _)| ("sd1", SD1, described(name))))
}
