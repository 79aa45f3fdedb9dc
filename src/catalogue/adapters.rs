//! IP-Adapters: pictures as prompts.

use super::{HeaderTensors, refused, usable};
use crate::weights::{Identity, WeightsKind};

/// Other networks that draw after pictures, by what their names begin with.
const OTHERS: [(&str, &str, &str); 6] = [
    ("redux_up.", "flux", "FLUX.1 Redux"),
    ("ip_adapter_proj_model.", "flux", "a FLUX IP-Adapter"),
    (
        "double_blocks.0.processor.ip_adapter_",
        "flux",
        "a FLUX IP-Adapter",
    ),
    ("pulid_ca.", "pulid", "PuLID"),
    ("pulid_encoder.", "pulid", "PuLID"),
    ("id_encoder.", "photomaker", "PhotoMaker"),
];

pub(super) fn identify(t: &HeaderTensors) -> Option<Identity> {
    let other = OTHERS
        .iter()
        .find_map(|(prefix, family, called)| Some((t.first_with_prefix(prefix)?, family, called)));
    if let Some((name, family, called)) = other {
        let instead = "use an IP-Adapter of Stable Diffusion 1.x or XL";
        return Some(refused(family, called, t.describe(name), instead));
    }
    let (name, keys) = t.find(|name| name.ends_with("to_k_ip.weight"))?;
    let why = t.describe(name);
    let width = keys.shape.get(1).copied();
    let family = match width {
        Some(768) => "sd1",
        Some(1024) => "sd2",
        Some(2048) => "sdxl",
        Some(4096) => "flux",
        _ => by_number(t),
    };
    let faces =
        t.has_part(".to_q_lora.") || t.has_part(".to_k_lora.") || t.has_part("perceiver_resampler");
    let faces = faces
        || t.has("image_proj.proj.2.weight") && t.dim("image_proj.proj.0.weight", 1) == Some(512);
    if faces {
        return Some(refused(
            "ip-adapter-faceid",
            "IP-Adapter FaceID",
            format!("{why}; it reads features of InsightFace, not of a picture"),
            "use an IP-Adapter of the base or plus kind",
        ));
    }
    if t.dim("image_proj.proj_in.weight", 1) == Some(512) {
        return Some(refused(
            "instantid",
            "InstantID",
            format!("{why}; image_proj.proj_in reads 512 features of InsightFace"),
            "use an IP-Adapter of the base or plus kind",
        ));
    }
    if family == "flux" {
        return Some(refused(
            "flux",
            "a FLUX IP-Adapter",
            why,
            "use an IP-Adapter of Stable Diffusion 1.x or XL",
        ));
    }
    let plus = t.has("image_proj.latents");
    let tells = match plus {
        true => t.describe("image_proj.latents"),
        false => t.describe("image_proj.proj.weight"),
    };
    if !plus && !t.has("image_proj.proj.weight") {
        return Some(refused(
            "ip-adapter-full-face",
            "IP-Adapter full face",
            format!("{why}; image_proj is neither one layer nor a resampler"),
            "use an IP-Adapter of the base or plus kind",
        ));
    }
    let called = match plus {
        true => "IP-Adapter plus",
        false => "IP-Adapter",
    };
    Some(usable(
        WeightsKind::IpAdapter,
        family,
        called,
        format!("{tells}; {why}"),
    ))
}

/// The family by the number of cross attentions, whose numbers are odd.
fn by_number(t: &HeaderTensors) -> &'static str {
    match t.blocks("ip_adapter.") {
        0..=64 => "sd1",
        _ => "sdxl",
    }
}
