//! UNets of Stable Diffusion and its relatives, under LDM's names or diffusers'.

use super::{ELSEWHERE, HeaderTensors, refused, usable};
use crate::weights::{Identity, WeightsKind};

/// Which UNet it is.
pub(super) struct UnetFamily {
    /// Name of the family, such as `sdxl`.
    pub name: &'static str,
    /// Its name in the field, for people.
    pub called: &'static str,
    /// The tensors and shapes that tell.
    pub why: String,
    /// Channels of its input; 9 for inpainting.
    pub in_channels: usize,
    /// Whether it can be run, given the rest.
    pub runs: bool,
}

/// Widths that a UNet reads.
struct Widths {
    in_channels: usize,
    /// The name of the first convolution.
    first: &'static str,
    /// Of the texts, with the tensor that tells.
    text: Option<(String, usize)>,
    /// Of the vector for the whole, with the tensor that tells.
    vector: Option<(&'static str, usize)>,
    /// Whether its projections around attention are linear.
    linear: bool,
    /// Transformer blocks at the deepest attention on the way down.
    depth: usize,
}

fn widths(t: &HeaderTensors) -> Option<Widths> {
    let first = ["input_blocks.0.0.weight", "conv_in.weight"];
    let first = first
        .into_iter()
        .find(|name| t.shape(name).is_some_and(|s| s.len() == 4))?;
    if !t.has_prefix("input_blocks.1.") && !t.has_prefix("down_blocks.0.") {
        return None;
    }
    let text = t.find(|name| name.ends_with("attn2.to_k.weight") && !name.contains("time_stack"));
    let vector = [
        "label_emb.0.0.weight",
        "label_emb.weight",
        "add_embedding.linear_1.weight",
        "class_embedding.linear_1.weight",
    ];
    let vector = vector
        .into_iter()
        .find_map(|name| Some((name, t.dim(name, 1)?)));
    let linear = t.find(|name| name.ends_with(".proj_in.weight"));
    let depth = |prefix: &str| -> usize {
        let numbers = t.after_prefix(prefix).filter_map(|(rest, _)| {
            let (_, after) = rest.split_once("transformer_blocks.")?;
            after.split('.').next()?.parse::<usize>().ok()
        });
        numbers.max().map_or(0, |last| last.saturating_add(1))
    };
    Some(Widths {
        in_channels: t.dim(first, 1)?,
        first,
        text: text.and_then(|(name, info)| Some((name.to_string(), *info.shape.get(1)?))),
        vector,
        linear: linear.is_some_and(|(_, info)| info.shape.len() == 2),
        depth: depth("input_blocks.").max(depth("down_blocks.")),
    })
}

/// Which UNet has these tensors, under its own names without a prefix.
pub(super) fn family(t: &HeaderTensors) -> Option<UnetFamily> {
    let w = widths(t)?;
    let mut why = t.describe(w.first);
    if let Some((name, _)) = &w.text {
        why = format!("{}; {why}", t.describe(name));
    }
    if let Some((name, _)) = w.vector {
        why = format!("{}; {why}", t.describe(name));
    }
    let (name, called, runs) = name(t, &w)?;
    Some(UnetFamily {
        name,
        called,
        why,
        in_channels: w.in_channels,
        runs,
    })
}

fn name(t: &HeaderTensors, w: &Widths) -> Option<(&'static str, &'static str, bool)> {
    let text = w.text.as_ref().map(|(_, width)| *width);
    let vector = w.vector.map(|(_, width)| width);
    let sized = w.vector.is_some_and(|(name, _)| name != "label_emb.weight");
    if t.has_part("time_stack")
        || t.has_part("temporal_transformer_blocks")
        || t.has_part("time_mixer")
    {
        return Some(("svd", "Stable Video Diffusion", false));
    }
    if t.has_part("motion_modules.") {
        return Some(("animatediff", "an AnimateDiff UNet", false));
    }
    if t.has_part(".fuser.") || t.has_prefix("position_net.") {
        return Some(("gligen", "GLIGEN", false));
    }
    if t.has_prefix("encoder_hid_proj.image_embeds") || t.has_prefix("add_embedding.image_") {
        return Some(("kandinsky", "Kandinsky", false));
    }
    if t.has("add_embedding.pool.positional_embedding") {
        return Some(("deepfloyd-if", "DeepFloyd IF", false));
    }
    if vector == Some(5632) || t.has("encoder_hid_proj.weight") {
        return Some(("kolors", "Kolors", false));
    }
    if vector == Some(2560) || text == Some(1280) {
        return Some(("sdxl-refiner", "SDXL refiner", false));
    }
    // Only XL's UNet reads a vector for the whole, its deepest attention has ten blocks, and its
    // finest level none.
    if sized && (vector == Some(2816) || text == Some(2048) || w.depth > 1) {
        let whole = match text {
            Some(2048) => w.depth == 10,
            _ => true,
        };
        return Some(match (w.in_channels, whole) {
            (4 | 9, true) => ("sdxl", "Stable Diffusion XL", true),
            (4 | 9, false) => distilled(w.depth),
            (8, _) => ("sdxl-instruct-pix2pix", "InstructPix2Pix of SDXL", false),
            _ => (
                "sdxl-variant",
                "a variant of SDXL that reads other latents",
                false,
            ),
        });
    }
    // ControlNets and LoRA-less parts of XL have no vector under these names.
    if text == Some(2048) {
        return Some(("sdxl", "Stable Diffusion XL", true));
    }
    if text == Some(1024) || (text != Some(768) && w.linear) {
        return Some(match (w.in_channels, vector) {
            (7, _) => ("sd-x4-upscaler", "the Stable Diffusion x4 upscaler", false),
            (5, _) => ("sd2-depth", "SD2 depth", false),
            (4, Some(_)) if sized => ("sd2-unclip", "Stable unCLIP", false),
            (4 | 9, _) => ("sd2", "Stable Diffusion 2.x", true),
            _ => (
                "sd2-variant",
                "a variant of SD2 that reads other latents",
                false,
            ),
        });
    }
    // Models of other kinds have a UNet, too.
    text?;
    Some(match w.in_channels {
        8 => ("instruct-pix2pix", "InstructPix2Pix", false),
        4 | 9 => ("sd1", "Stable Diffusion 1.x", true),
        _ => (
            "sd1-variant",
            "a variant of SD1 that reads other latents",
            false,
        ),
    })
}

/// XL with fewer blocks.
fn distilled(depth: usize) -> (&'static str, &'static str, bool) {
    match depth {
        4 => ("ssd-1b", "Segmind SSD-1B", false),
        2 => ("segmind-vega", "Segmind Vega", false),
        _ => (
            "sdxl-distilled",
            "a distilled SDXL with fewer blocks",
            false,
        ),
    }
}

/// A UNet without the rest.
pub(super) fn alone(t: &HeaderTensors) -> Option<Identity> {
    let inner;
    let t = match ["model.diffusion_model.", "diffusion_model.", "unet."]
        .into_iter()
        .find(|p| t.has_prefix(p))
    {
        Some(prefix) => {
            inner = t.without_prefix(prefix);
            &inner
        }
        None => t,
    };
    let family = family(t)?;
    if !family.runs {
        return Some(Identity {
            in_channels: Some(family.in_channels),
            ..refused(family.name, family.called, family.why, ELSEWHERE)
        });
    }
    let mut identity = usable(
        WeightsKind::Component,
        family.name,
        "a UNet alone",
        family.why,
    );
    identity.supported = false;
    identity.in_channels = Some(family.in_channels);
    identity.instead = Some(format!(
        "use a whole checkpoint or diffusers folder of {}, which has the VAE and text encoders as well",
        family.called
    ));
    if t.has_part("cond_proj.") {
        identity
            .notes
            .push("it is LCM-distilled: use the scheduler lcm".to_string());
    }
    Some(identity)
}
