//! What lies among an author's models and is none that draws or writes: upscalers, detectors,
//! motion modules, safety checkers.

use super::{ELSEWHERE, HeaderTensors, refused};
use crate::weights::Identity;

const NOT_NEEDED: &str = "it is not needed here";
/// Beginning of what is said of an upscaler that can be used.
pub(super) const UPSCALE: &str = "it makes pictures larger where it lies";

/// What to do with an upscaler.
fn upscale(t: &HeaderTensors) -> String {
    let shapes = t.map.iter();
    let shapes = shapes.map(|(name, info)| (name.clone(), info.shape.clone()));
    match crate::upscale::describe(&shapes.collect()) {
        Some((_, scale)) => {
            format!("{UPSCALE}: `regenerate --upscale {scale} --upscaler` with its file")
        }
        None => NOT_NEEDED.to_owned(),
    }
}

pub(super) fn motion_module(t: &HeaderTensors) -> Option<Identity> {
    let (name, _) =
        t.find(|name| name.contains("motion_modules.") || name.contains("temporal_transformer."))?;
    let whole = t.has_part("resnets.")
        || t.has_part("lora")
        || t.has_prefix("controlnet_cond_embedding.")
        || t.has_prefix("model.diffusion_model.");
    (!whole).then(|| {
        refused(
            "animatediff",
            "an AnimateDiff motion module",
            t.describe(name),
            ELSEWHERE,
        )
    })
}

pub(super) fn safety_checker(t: &HeaderTensors) -> Option<Identity> {
    let name = ["concept_embeds", "special_care_embeds"]
        .into_iter()
        .find(|name| t.has(name))?;
    Some(refused(
        "safety-checker",
        "a safety checker",
        t.describe(name),
        NOT_NEEDED,
    ))
}

/// Everything else that is known.
pub(super) fn identify(t: &HeaderTensors) -> Option<Identity> {
    let first = |names: &[&'static str]| names.iter().copied().find(|name| t.has(name));
    let esrgan = first(&[
        "body.0.rdb1.conv1.weight",
        "RRDB_trunk.0.RDB1.conv1.weight",
        "model.1.sub.0.RDB1.conv1.0.weight",
    ]);
    if let Some(name) = esrgan {
        let why = format!("{}, {}", t.describe("conv_first.weight"), t.describe(name));
        return Some(refused(
            "upscaler-esrgan",
            "an ESRGAN upscaler",
            why,
            &upscale(t),
        ));
    }
    let marks: [(&[&'static str], &str, &str); 23] = [
        (
            &["block_1.c1_r.sk.weight", "block_1.c1_r.eval_conv.weight"],
            "upscaler-span",
            "a SPAN upscaler",
        ),
        (
            &["residual_layer.0.residual_layer.0.layer.0.fn.0.weight"],
            "upscaler-omnisr",
            "an OmniSR upscaler",
        ),
        (
            &["feats.0.weight"],
            "upscaler-realplksr",
            "a RealPLKSR upscaler",
        ),
        (
            &[
                "model.1.ffc.convl2l.weight",
                "generator.model.1.ffc.convl2l.weight",
            ],
            "lama",
            "LaMa, which fills holes in pictures",
        ),
        (
            &["vision_tower.convs.0.proj.weight"],
            "florence2",
            "Florence-2, which describes pictures",
        ),
        (
            &["output_layer.3.weight"],
            "insightface",
            "a network that recognises faces",
        ),
        (
            &["layers.7.weight"],
            "aesthetic",
            "a network that scores how pleasing pictures are",
        ),
        (
            &[
                "768.0.linear.0.weight",
                "320.0.linear.0.weight",
                "1024.0.linear.0.weight",
            ],
            "hypernetwork",
            "a hypernetwork",
        ),
        (
            &[
                "layers.0.residual_group.blocks.0.attn.relative_position_bias_table",
                "layers.0.residual_group.blocks.0.norm1.weight",
            ],
            "upscaler-swinir",
            "a SwinIR upscaler",
        ),
        (
            &["layers.0.residual_group.overlap_attn.relative_position_bias_table"],
            "upscaler-hat",
            "a HAT upscaler",
        ),
        (
            &["layers.0.blocks.0.attn.attns.0.pos.pos_proj.weight"],
            "upscaler-dat",
            "a DAT upscaler",
        ),
        (
            &[
                "stylegan_decoder.constant_input.weight",
                "stylegan_decoder.style_mlp.1.weight",
            ],
            "gfpgan",
            "GFPGAN, which restores faces",
        ),
        (
            &[
                "fuse_convs_dict.32.scale.0.weight",
                "fuse_convs_dict.16.scale.0.weight",
            ],
            "codeformer",
            "CodeFormer, which restores faces",
        ),
        (
            &[
                "model.22.dfl.conv.weight",
                "model.model.22.dfl.conv.weight",
                "model.0.conv.weight",
                "model.model.0.conv.weight",
            ],
            "yolo",
            "a YOLO detector",
        ),
        (
            &[
                "mask_decoder.iou_token.weight",
                "sam_mask_decoder.iou_token.weight",
            ],
            "sam",
            "Segment Anything",
        ),
        (
            &[
                "depth_head.scratch.layer1_rn.weight",
                "pretrained.cls_token",
                "scratch.layer1_rn.weight",
            ],
            "depth-anything",
            "a depth estimator",
        ),
        (
            &["bert.embeddings.word_embeddings.weight"],
            "bert",
            "a BERT model",
        ),
        (
            &[
                "text_decoder.bert.embeddings.word_embeddings.weight",
                "visual_encoder.cls_token",
            ],
            "blip",
            "BLIP, which describes pictures",
        ),
        (
            &[
                "embeddings.patch_embeddings.projection.weight",
                "patch_embed.proj.weight",
            ],
            "vit",
            "a vision transformer",
        ),
        (
            &["effnet.features.0.0.weight", "backbone.1.0.weight"],
            "effnet",
            "an EfficientNet encoder",
        ),
        (
            &["block0.conv0.0.0.weight", "flownet.block0.conv0.0.0.weight"],
            "rife",
            "RIFE, which makes frames between frames",
        ),
        (
            &["features.0.weight", "net.slice1.0.weight"],
            "vgg",
            "a VGG network",
        ),
        (&["conv1.weight"], "classifier", "an image classifier"),
    ];
    if let Some((name, family, called)) = marks
        .iter()
        .find_map(|(names, family, called)| Some((first(names)?, family, called)))
    {
        return Some(refused(family, called, t.describe(name), NOT_NEEDED));
    }
    // Compact networks of Real-ESRGAN: convolutions one after the other.
    let plain = t
        .shape("body.0.weight")
        .is_some_and(|shape| shape.len() == 4 && shape[1] == 3);
    if plain && t.has("body.1.weight") {
        return Some(refused(
            "upscaler-compact",
            "a compact ESRGAN upscaler",
            t.describe("body.0.weight"),
            &upscale(t),
        ));
    }
    let upscaler = t.has("conv_first.weight");
    upscaler.then(|| {
        refused(
            "upscaler",
            "an upscaler",
            t.describe("conv_first.weight"),
            NOT_NEEDED,
        )
    })
}
