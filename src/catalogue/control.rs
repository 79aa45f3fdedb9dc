//! Networks that make a picture follow another one: ControlNet and its kin.

use super::{ELSEWHERE, HeaderTensors, refused, unet, usable};
use crate::weights::{Identity, WeightsKind};

const USE_CONTROLNET: &str = "use a ControlNet of Stable Diffusion 1.x or XL";

pub(super) fn identify(t: &HeaderTensors) -> Option<Identity> {
    lite(t)
        .or_else(|| of_transformer(t))
        .or_else(|| union(t))
        .or_else(|| plain(t))
        .or_else(|| t2i_adapter(t))
}

fn lite(t: &HeaderTensors) -> Option<Identity> {
    if let Some(name) = t.first_with_prefix("lllite_unet") {
        let why = t.describe(name);
        return Some(refused(
            "controlnet-lllite",
            "ControlNet-LLLite",
            why,
            USE_CONTROLNET,
        ));
    }
    let lora = t.has("lora_controlnet") || t.has_prefix("input_hint_block.") && t.has_part(".down");
    lora.then(|| {
        let why = "lora_controlnet, input_hint_block.*: the differences from a UNet";
        refused("control-lora", "a ControlNet LoRA", why, USE_CONTROLNET)
    })
}

/// ControlNets of transformers: Flux, Stable Diffusion 3, Qwen-Image and others.
fn of_transformer(t: &HeaderTensors) -> Option<Identity> {
    let of_z_image = t.first_with_prefix("control_layers.");
    if let Some(name) = of_z_image.filter(|_| t.has_prefix("control_noise_refiner.")) {
        let why = t.describe(name);
        return Some(refused(
            "z-image",
            "a Z-Image ControlNet",
            why,
            USE_CONTROLNET,
        ));
    }
    let name = t.find(|name| {
        name.starts_with("controlnet_blocks.") || name.starts_with("controlnet_single_blocks.")
    });
    let (name, _) = name?;
    let why = t.describe(name);
    let (family, called) = if t.has_part("img_mod.") {
        ("qwen-image", "a Qwen-Image ControlNet")
    } else if t.has_prefix("double_blocks.")
        || t.has_prefix("single_transformer_blocks.")
        || t.has("controlnet_x_embedder.weight")
    {
        ("flux", "a FLUX ControlNet")
    } else if t.has_part(".add_k_proj.")
        || t.has_prefix("joint_blocks.")
        || t.has_prefix("pos_embed_input.")
    {
        ("sd3", "a Stable Diffusion 3 ControlNet")
    } else {
        ("controlnet", "a ControlNet of a diffusion transformer")
    };
    Some(refused(family, called, why, USE_CONTROLNET))
}

fn union(t: &HeaderTensors) -> Option<Identity> {
    let name = [
        "task_embedding",
        "control_type_proj.weight",
        "control_add_embedding.linear_1.weight",
    ];
    let name = name.into_iter().find(|name| t.has(name))?;
    Some(refused(
        "sdxl-controlnet-union",
        "ControlNet Union",
        t.describe(name),
        "use a ControlNet of one kind, such as canny or depth",
    ))
}

fn plain(t: &HeaderTensors) -> Option<Identity> {
    let (hint, blocks) = if t.has_prefix("control_model.") {
        (
            "control_model.input_hint_block.0.weight",
            t.without_prefix("control_model."),
        )
    } else if t.has_prefix("controlnet_cond_embedding.") {
        ("controlnet_cond_embedding.conv_in.weight", t.clone())
    } else if t.has_prefix("input_hint_block.") && t.has_prefix("zero_convs.") {
        ("input_hint_block.0.weight", t.clone())
    } else {
        return None;
    };
    if let Some(name) = blocks.first_with_prefix("control_to_base_for_conv_in.") {
        return Some(refused(
            "controlnet-xs",
            "ControlNet-XS",
            t.describe(name),
            USE_CONTROLNET,
        ));
    }
    let (unet, why) = unet::detect(&blocks)?;
    let why = format!("{}; {why}", t.describe(hint));
    // Some ControlNets of XL have fewer blocks than its UNet.
    let name = match unet.name {
        "ssd-1b" | "segmind-vega" | "sdxl-distilled" => "sdxl",
        name => name,
    };
    Some(match name {
        name @ ("sd1" | "sd2" | "sdxl") => {
            let called = match name {
                "sd1" => "a ControlNet of Stable Diffusion 1.x",
                "sd2" => "a ControlNet of Stable Diffusion 2.x",
                _ => "a ControlNet of Stable Diffusion XL",
            };
            let mut identity = usable(WeightsKind::Controlnet, name, called, why);
            if name == "sd2" {
                identity.supported = false;
                identity.instead = Some(USE_CONTROLNET.to_string());
            }
            identity
        }
        name => refused(name, "a ControlNet", why, USE_CONTROLNET),
    })
}

fn t2i_adapter(t: &HeaderTensors) -> Option<Identity> {
    if t.has("style_embedding") && t.has_prefix("ln_post.") {
        let why = t.describe("style_embedding");
        return Some(refused(
            "t2i-adapter",
            "a T2I-Adapter for styles",
            why,
            ELSEWHERE,
        ));
    }
    let t = match t.has_prefix("adapter.") {
        true => t.without_prefix("adapter."),
        false => t.clone(),
    };
    let body = t.first_with_prefix("body.0.resnets.0.block1.weight");
    let body = body.or_else(|| t.first_with_prefix("body.0.block1.weight"))?;
    let full = t.has("conv_in.weight");
    full.then(|| refused("t2i-adapter", "a T2I-Adapter", t.describe(body), ELSEWHERE))
}
