//! Autoencoders between pictures and latents.

use super::{ELSEWHERE, HeaderTensors, refused, usable};
use crate::weights::{Identity, WeightsKind};

const FROM_MODEL: &str = "use the VAE of Stable Diffusion 1.x, 2.x or XL, or the model's own";

pub(super) fn identify(t: &HeaderTensors) -> Option<Identity> {
    let prefix = ["first_stage_model.", "vae.", ""]
        .into_iter()
        .find(|prefix| {
            t.has_prefix(&format!("{prefix}decoder."))
                || t.has_prefix(&format!("{prefix}encoder.conv"))
        });
    let t = &match prefix {
        Some(prefix) => t.without_prefix(prefix),
        None => t.clone(),
    };
    tiny(t)
        .or_else(|| video(t))
        .or_else(|| other(t))
        .or_else(|| plain(t))
}

/// TAESD: a small one for previews.
fn tiny(t: &HeaderTensors) -> Option<Identity> {
    let names = [
        "decoder.layers.0.weight",
        "taesd_decoder.1.weight",
        "encoder.layers.0.weight",
    ];
    // Halves by themselves have numbers for names: the decoder begins with what has no weights.
    let halves = [
        ("1.weight", "3.conv.0.weight"),
        ("0.weight", "1.conv.0.weight"),
    ];
    let half = halves
        .into_iter()
        .find(|(first, next)| t.has(first) && t.has(next));
    let name = match names.into_iter().find(|name| t.has(name)) {
        Some(name) => name,
        None => half?.1,
    };
    let small = t.shape(name).is_some_and(|shape| shape.len() == 4);
    small.then(|| {
        refused(
            "taesd",
            "TAESD, a small VAE for previews",
            t.describe(name),
            FROM_MODEL,
        )
    })
}

fn video(t: &HeaderTensors) -> Option<Identity> {
    if let Some(name) = t
        .first_with_prefix("decoder.middle.0.residual.")
        .or(t.first_with_prefix("decoder.mid_block.resnets.0.norm1.gamma"))
    {
        return Some(refused(
            "wan-vae",
            "the VAE of Wan or Qwen-Image",
            t.describe(name),
            FROM_MODEL,
        ));
    }
    let first = [
        "decoder.conv_in.conv.weight",
        "decoder.conv_in.weight",
        "decoder.conv1.weight",
    ];
    let first = first
        .into_iter()
        .find(|name| t.shape(name).is_some_and(|s| s.len() == 5));
    if let Some(name) = first {
        return Some(refused(
            "video-vae",
            "a VAE of a video model",
            t.describe(name),
            FROM_MODEL,
        ));
    }
    if t.has_prefix("decoder.time_mixer")
        || t.has_part("time_mixer")
        || t.has_part("temporal_res_block")
    {
        return Some(refused(
            "svd-vae",
            "the VAE of Stable Video Diffusion",
            "decoder has temporal blocks",
            FROM_MODEL,
        ));
    }
    None
}

fn other(t: &HeaderTensors) -> Option<Identity> {
    // It has a codebook, too.
    if t.has_prefix("fuse_convs_dict.") {
        return None;
    }
    let marks = [
        (
            "vquantizer.codebook.weight",
            "stable-cascade",
            "stage A of Stable Cascade",
        ),
        (
            "quantize.embedding.weight",
            "vq-vae",
            "a VAE with a codebook (VQ)",
        ),
        (
            "decoder.stages.0.0.conv.conv.weight",
            "dc-ae",
            "a deep-compression VAE (Sana)",
        ),
        (
            "pretransform.model.decoder.layers.0.bias",
            "stable-audio",
            "the VAE of Stable Audio",
        ),
    ];
    if let Some((name, _)) = t.find(|name| {
        name.contains(".attn.to_qkv_multiscale.") || name == "encoder.down_blocks.0.0.conv1.weight"
    }) {
        let called = "a deep-compression VAE (Sana)";
        return Some(refused("dc-ae", called, t.describe(name), FROM_MODEL));
    }
    let (name, family, called) = marks.into_iter().find(|(name, ..)| t.has(name))?;
    Some(refused(family, called, t.describe(name), FROM_MODEL))
}

fn plain(t: &HeaderTensors) -> Option<Identity> {
    let (decoder, encoder) = ("decoder.conv_in.weight", "encoder.conv_in.weight");
    let channels = t
        .shape(decoder)
        .filter(|shape| shape.len() == 4)
        .map(|shape| shape[1]);
    let attention = t
        .shape("decoder.up_blocks.0.resnets.0.conv1.weight")
        .is_some()
        || t.has_prefix("decoder.up.0.block.")
        || t.has_prefix("decoder.up_blocks.0.");
    match channels {
        None if t.has(encoder) => Some(refused(
            "vae-encoder",
            "a VAE's encoder alone",
            t.describe(encoder),
            FROM_MODEL,
        )),
        None => None,
        Some(_) if !attention => None,
        Some(4) if !t.has(encoder) => Some(refused(
            "vae-decoder",
            "a VAE's decoder alone",
            t.describe(decoder),
            FROM_MODEL,
        )),
        Some(4) if t.has_prefix("decoder.condition_encoder.") => Some(refused(
            "asymmetric-vae",
            "an asymmetric VAE",
            "decoder.condition_encoder.*",
            FROM_MODEL,
        )),
        Some(4) => {
            let mut why = format!(
                "{}; {}",
                t.describe(encoder),
                t.describe("quant_conv.weight")
            );
            let old = t.find(|name| name.ends_with("attentions.0.query.weight"));
            if let Some((name, _)) = old {
                why = format!("{why}; {} (old names)", t.describe(name));
            }
            let mut identity = usable(
                WeightsKind::Vae,
                "sd1/sd2/sdxl",
                "a VAE of Stable Diffusion",
                why,
            );
            identity.notes.push(
                "the VAEs of SD 1.x, 2.x and XL have the same tensors; the scaling factor is that of the model it is used with".to_string(),
            );
            Some(identity)
        }
        Some(16) => Some(refused(
            "flux-vae",
            "a 16-channel VAE (FLUX, SD3)",
            t.describe(decoder),
            FROM_MODEL,
        )),
        Some(32) => Some(refused(
            "flux2-vae",
            "a 32-channel VAE (FLUX.2)",
            t.describe(decoder),
            FROM_MODEL,
        )),
        Some(_) => Some(refused(
            "vae",
            "a VAE of an unknown model",
            t.describe(decoder),
            ELSEWHERE,
        )),
    }
}
