//! Diffusion transformers and other picture and video models that are not of Stable Diffusion's
//! UNet, each known by tensors that only it has.

use super::{ELSEWHERE, HeaderTensors, dit, refused};
use crate::weights::Identity;

/// What the file of a model is wrapped in.
const PREFIXES: [&str; 6] = [
    "model.diffusion_model.",
    "diffusion_model.",
    "transformer.",
    "net.",
    "model.",
    "",
];

/// A family's name, what it is called, and the tensor that tells.
type Found = (&'static str, String, String);

/// Families in the order in which they are asked: a later one's mark may be in an earlier one.
const FAMILIES: [fn(&HeaderTensors) -> Option<Found>; 9] = [
    flux_like,
    sd3,
    lumina_like,
    marked,
    pixart_like,
    wan,
    cosmos,
    cascade,
    music,
];

pub(super) fn identify(t: &HeaderTensors) -> Option<Identity> {
    for prefix in PREFIXES {
        if !prefix.is_empty() && !t.has_prefix(prefix) {
            continue;
        }
        let inner = t.without_prefix(prefix);
        let Some((family, called, name)) = FAMILIES.iter().find_map(|tell| tell(&inner)) else {
            continue;
        };
        let why = format!("{prefix}{}", inner.describe(&name));
        return Some(dit::judged(t, refused(family, &called, why, ELSEWHERE)));
    }
    None
}

fn found(family: &'static str, called: &str, name: &str) -> Option<Found> {
    Some((family, called.to_string(), name.to_string()))
}

/// Blocks that see text and picture apart, then others that see both.
fn flux_like(t: &HeaderTensors) -> Option<Found> {
    let modulation = t.first_with_prefix("double_stream_modulation_img.");
    if let Some(name) = modulation {
        let guided = t.has_part("guidance_in.") || t.has_part("guidance_embedder.");
        let called = match guided {
            true => "FLUX.2 dev",
            false => "FLUX.2 klein",
        };
        return found("flux2", called, name);
    }
    if let Some(name) = t.first_with_prefix("txt_in.individual_token_refiner.") {
        let called = match t.has_prefix("byt5_in.") || t.has_prefix("vision_in.") {
            true => "HunyuanVideo 1.5 or HunyuanImage",
            false => "HunyuanVideo",
        };
        return found("hunyuan-video", called, name);
    }
    if let Some(name) = t.first_with_prefix("context_embedder.token_refiner.") {
        return found("hunyuan-video", "HunyuanVideo", name);
    }
    if let Some(name) = t.first_with_prefix("distilled_guidance_layer.") {
        let radiance = t.has_prefix("nerf_image_embedder.");
        return found(
            "chroma",
            if radiance {
                "Chroma Radiance"
            } else {
                "Chroma"
            },
            name,
        );
    }
    if let Some(name) = t
        .first_with_prefix("latent_in.")
        .filter(|_| t.has_prefix("cond_in."))
    {
        return found("hunyuan3d", "Hunyuan3D", name);
    }
    let original = t.first_with_prefix("double_blocks.0.img_attn.");
    if let Some(name) = original {
        let name = ["double_blocks.0.img_attn.norm.key_norm.scale", name]
            .into_iter()
            .find(|name| t.has(name))?;
        let guided = t.has_prefix("guidance_in.");
        return found("flux", flux(t.dim("img_in.weight", 1), guided), name);
    }
    if t.has_prefix("single_transformer_blocks.") && t.has_part(".norm_added_k.") {
        let guided = t.has_prefix("time_text_embed.guidance_embedder.");
        let name = t.first_with_prefix("single_transformer_blocks.")?;
        return found("flux", flux(t.dim("x_embedder.weight", 1), guided), name);
    }
    None
}

/// The kinds of FLUX.1 by what it reads: 16 channels of 2x2 latents, and for some other pictures.
fn flux(width: Option<usize>, guided: bool) -> &'static str {
    match (width, guided) {
        (Some(384), _) => "FLUX.1 Fill",
        (Some(128), _) => "FLUX.1 Canny or Depth",
        (_, true) => "FLUX.1 dev",
        (_, false) => "FLUX.1 schnell",
    }
}

fn sd3(t: &HeaderTensors) -> Option<Found> {
    let original = t.blocks("joint_blocks.");
    let diffusers = t.has_prefix("transformer_blocks.0.attn.add_k_proj.")
        && t.has("pos_embed.proj.weight")
        && t.has_prefix("context_embedder.");
    let (blocks, both) = match (original, diffusers) {
        (0, false) => return None,
        (0, true) => (t.blocks("transformer_blocks."), t.has_part(".attn2.")),
        (blocks, _) => (blocks, t.has_part(".x_block.attn2.")),
    };
    let name = match original {
        0 => "pos_embed.proj.weight".to_string(),
        _ => format!("joint_blocks.{}.x_block.mlp.fc1.weight", blocks - 1),
    };
    let (family, called) = match (blocks, both) {
        (38, _) => ("sd3.5-large", "Stable Diffusion 3.5 Large"),
        (_, true) => ("sd3.5-medium", "Stable Diffusion 3.5 Medium"),
        (24, _) => ("sd3-medium", "Stable Diffusion 3 Medium"),
        _ => ("sd3", "Stable Diffusion 3"),
    };
    found(family, called, &name)
}

fn lumina_like(t: &HeaderTensors) -> Option<Found> {
    if let Some(name) = t.first_with_prefix("time_caption_embed.") {
        return match t.has_prefix("ref_image_patch_embedder.") || t.has_prefix("ref_image_refiner.")
        {
            true => found("omnigen2", "OmniGen2", name),
            false => found("lumina2", "Lumina-Image 2.0", name),
        };
    }
    if t.has_prefix("all_x_embedder.") && t.has_prefix("noise_refiner.") {
        return found("z-image", "Z-Image", t.first_with_prefix("cap_embedder.")?);
    }
    if t.has_prefix("cap_embedder.") && t.has_prefix("noise_refiner.") {
        // Both read captions through `cap_embedder.0`; only one pads with tokens of its own.
        let z = t.has("cap_pad_token") || t.dim("cap_embedder.0.weight", 0) == Some(2560);
        return match z {
            true => found("z-image", "Z-Image", "cap_embedder.0.weight"),
            false => found("lumina2", "Lumina-Image 2.0", "cap_embedder.0.weight"),
        };
    }
    if let Some(name) = t.first_with_prefix("layers.0.attention.wk_y.") {
        return found("lumina-next", "Lumina-Next", name);
    }
    None
}

/// Families that one tensor tells.
fn marked(t: &HeaderTensors) -> Option<Found> {
    const MARKS: [(&str, &str, &str); 18] = [
        (
            "transformer_blocks.0.img_mod.1.",
            "qwen-image",
            "Qwen-Image",
        ),
        ("double_stream_blocks.0.block.", "hidream", "HiDream-I1"),
        ("double_layers.0.attn.w1q.", "auraflow", "AuraFlow"),
        ("joint_transformer_blocks.0.attn.", "auraflow", "AuraFlow"),
        ("mlp_t5.0.", "hunyuan-dit", "Hunyuan-DiT"),
        ("time_extra_emb.pooler.", "hunyuan-dit", "Hunyuan-DiT"),
        ("t5_yproj.", "mochi", "Mochi 1"),
        ("audio_patchify_proj.", "ltx2", "LTX-2"),
        ("patchify_proj.", "ltx-video", "LTX-Video"),
        ("prd_embedding", "kandinsky", "the prior of Kandinsky"),
        ("transformer_blocks.0.ff.conv_inverted.", "sana", "Sana"),
        ("blocks.0.mlp.inverted_conv.", "sana", "Sana"),
        ("patch_embed.text_proj.", "cogvideox", "CogVideoX"),
        ("visual_transformer_blocks.0.", "kandinsky5", "Kandinsky 5"),
        ("llm.layers.0.self_attn.", "omnigen", "OmniGen"),
        ("time_embed.pooler.to_kv.", "mochi", "Mochi 1"),
        ("text_time_embedding.", "deepfloyd-if", "DeepFloyd IF"),
        ("token_refiner.", "video-transformer", "a video transformer"),
    ];
    let mut marks = MARKS.iter();
    marks.find_map(|(mark, family, called)| found(family, called, t.first_with_prefix(mark)?))
}

fn pixart_like(t: &HeaderTensors) -> Option<Found> {
    if let Some(name) = t
        .first_with_prefix("time_embed.emb.timestep_embedder.")
        .filter(|_| t.has_prefix("caption_projection.") && t.has("scale_shift_table"))
    {
        return found("ltx-video", "LTX-Video", name);
    }
    let original = t.has("y_embedder.y_proj.fc1.weight") && t.has("t_block.1.weight");
    let diffusers = t.has_prefix("adaln_single.") && t.has_prefix("caption_projection.");
    if original || diffusers {
        // Alpha is told of sizes, and reads latents of 4 channels as Sigma does.
        let conditioned = t.has_prefix("csize_embedder.") || t.has_part(".resolution_embedder.");
        let called = if conditioned {
            "PixArt-Alpha"
        } else {
            "PixArt-Sigma"
        };
        let name = match original {
            true => "y_embedder.y_proj.fc1.weight",
            false => t.first_with_prefix("adaln_single.")?,
        };
        if t.shape("proj_in.weight")
            .is_some_and(|shape| shape.len() == 2)
            && diffusers
        {
            return found("ltx-video", "LTX-Video", name);
        }
        return found("pixart", called, name);
    }
    None
}

fn wan(t: &HeaderTensors) -> Option<Found> {
    let original = t.has("head.modulation") && t.has_prefix("blocks.0.cross_attn.");
    let diffusers =
        t.has_prefix("condition_embedder.text_embedder.") && t.has_prefix("blocks.0.attn2.");
    let name = match (original, diffusers) {
        (true, _) => "head.modulation",
        (_, true) => t.first_with_prefix("condition_embedder.text_embedder.")?,
        _ => return None,
    };
    let video = t.dim("patch_embedding.weight", 1).unwrap_or(16);
    let called = match (t.has_prefix("img_emb.") || video == 36, video) {
        (true, _) => "Wan (picture to video)",
        (_, 48) => "Wan 2.2 5B",
        _ => "Wan (text to video)",
    };
    found("wan", called, name)
}

fn cosmos(t: &HeaderTensors) -> Option<Found> {
    if let Some(name) = t.first_with_prefix("blocks.block0.") {
        return found("cosmos", "Cosmos", name);
    }
    if t.has("t_embedding_norm.weight") && t.has("x_embedder.proj.1.weight") {
        let called = match t.has_prefix("llm_adapter.") {
            true => "Anima",
            false => "Cosmos Predict2",
        };
        return found("cosmos", called, "x_embedder.proj.1.weight");
    }
    if t.has_prefix("patch_embed.proj.") && t.has("time_embed.norm.weight") {
        return found("cosmos", "Cosmos", "time_embed.norm.weight");
    }
    None
}

fn cascade(t: &HeaderTensors) -> Option<Found> {
    let marks = [
        "clip_txt_pooled_mapper.weight",
        "clip_mapper.weight",
        "effnet_mapper.0.weight",
        "clip_txt_mapper.weight",
    ];
    let name = marks.into_iter().find(|name| t.has(name))?;
    found("stable-cascade", "Stable Cascade", name)
}

fn music(t: &HeaderTensors) -> Option<Found> {
    if let Some(name) = t.first_with_prefix("genre_embedder.") {
        return found("ace-step", "ACE-Step (music)", name);
    }
    let name = t.first_with_prefix("conditioner.conditioners.seconds_total.")?;
    found("stable-audio", "Stable Audio (sound)", name)
}
