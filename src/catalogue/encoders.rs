//! Encoders of texts and of pictures without the model that reads them.

use super::{HeaderTensors, refused, usable};
use crate::weights::{Identity, WeightsKind};

const WITH_MODEL: &str = "use a whole checkpoint, which has its text encoders inside";

/// CLIP's eyes and their kin.
pub(super) fn image(t: &HeaderTensors) -> Option<Identity> {
    let names = [
        "vision_model.embeddings.patch_embedding.weight",
        "visual.conv1.weight",
        "visual.patch_embed.proj.weight",
    ];
    let name = names.into_iter().find(|name| t.has(name))?;
    let mut why = t.describe(name);
    if t.has("visual_projection.weight") {
        why = format!("{why}, {}", t.describe("visual_projection.weight"));
    }
    if t.has_prefix("vision_model.head.") {
        return Some(refused(
            "siglip",
            "a SigLIP image encoder",
            why,
            "use a CLIP image encoder",
        ));
    }
    if name == "visual.patch_embed.proj.weight" {
        return Some(refused(
            "eva-clip",
            "an EVA-CLIP image encoder",
            why,
            "use a CLIP image encoder",
        ));
    }
    let family = match t.dim(name, 0) {
        Some(1280) => "clip-vit-h",
        Some(1664) => "clip-vit-bigg",
        Some(1024) => "clip-vit-l",
        Some(768) => "clip-vit-b",
        _ => "clip-vit",
    };
    // OpenCLIP's own names are not read.
    let hugging = name == names[0];
    if t.has_prefix("text_model.") || t.has("token_embedding.weight") {
        return Some(refused(
            family,
            "a whole CLIP, for texts and pictures",
            why,
            "use its image encoder alone",
        ));
    }
    let mut identity = usable(
        WeightsKind::ImageEncoder,
        family,
        "a CLIP image encoder",
        why,
    );
    if !hugging {
        identity.supported = false;
        identity.notes.push("it has OpenCLIP's names".to_string());
        identity.instead = Some("use the encoder in Hugging Face's form".to_string());
    }
    Some(identity)
}

/// CLIP's and T5's text encoders, and language models without their configuration.
pub(super) fn text(t: &HeaderTensors) -> Option<Identity> {
    clip(t)
        .or_else(|| t5(t))
        .or_else(|| bert(t))
        .or_else(|| language(t))
}

fn clip(t: &HeaderTensors) -> Option<Identity> {
    let prefixes = [
        "",
        "text_encoders.clip_l.transformer.",
        "clip_l.transformer.",
        "clip_g.transformer.",
        "text_encoder.",
        "cond_stage_model.transformer.",
        "cond_stage_model.model.",
        "conditioner.embedders.0.transformer.",
        "conditioner.embedders.1.model.",
        "model.",
    ];
    let tables = [
        "text_model.embeddings.token_embedding.weight",
        "embeddings.token_embedding.weight",
        "token_embedding.weight",
    ];
    let names = prefixes
        .iter()
        .flat_map(|prefix| tables.iter().map(move |table| format!("{prefix}{table}")));
    let mut names = names.filter(|name| t.has(name));
    let name = names.next()?;
    let (family, called) = match t.dim(&name, 1) {
        Some(768) => ("clip-l", "a CLIP-L text encoder alone"),
        Some(1024) => ("clip-h", "a CLIP-H text encoder alone"),
        Some(1280) => ("clip-g", "a CLIP-G text encoder alone"),
        _ => ("clip", "a CLIP text encoder alone"),
    };
    Some(refused(
        family,
        called,
        format!("{}, nothing else", t.describe(&name)),
        WITH_MODEL,
    ))
}

fn t5(t: &HeaderTensors) -> Option<Identity> {
    let query = "encoder.block.0.layer.0.SelfAttention.q.weight";
    let (name, info) = t.find(|name| name.ends_with(query))?;
    let width = info.shape.get(1).copied();
    // Every layer of UMT5 has a bias of its own.
    let own = t.has_part("encoder.block.1.layer.0.SelfAttention.relative_attention_bias");
    let size = match width {
        Some(4096) => "xxl",
        Some(2048) => "xl",
        Some(1024) => "large",
        Some(768) => "base",
        Some(512) => "small",
        _ => "",
    };
    let kind = if own { "umt5" } else { "t5" };
    let family = [kind, size].join("-").trim_end_matches('-').to_string();
    let called = format!("a {} text encoder alone", family.to_uppercase());
    Some(refused(&family, &called, t.describe(name), WITH_MODEL))
}

fn bert(t: &HeaderTensors) -> Option<Identity> {
    let (name, _) = t.find(|name| {
        name.ends_with("embeddings.word_embeddings.weight") && !name.starts_with("text_decoder.")
    })?;
    let chat = t.find(|name| {
        name.contains("transformer.encoder.layers.") || name.contains("embedding.word_embeddings")
    });
    let (family, called) = match (
        chat,
        name.contains("embeddings.word_embeddings.weight") && t.has_part("attention.self.query"),
    ) {
        (_, true) => ("bert", "a BERT text encoder"),
        _ => ("chatglm", "ChatGLM, the text encoder of Kolors"),
    };
    Some(refused(family, called, t.describe(name), WITH_MODEL))
}

fn language(t: &HeaderTensors) -> Option<Identity> {
    let (name, _) = t.find(|name| {
        name.ends_with("embed_tokens.weight")
            || name.ends_with("tok_embeddings.weight")
            || name == "transformer.wte.weight"
    })?;
    let sees =
        t.has_prefix("visual.") || t.has_prefix("vision_tower.") || t.has_prefix("model.visual.");
    let called = match sees {
        true => "a vision-language model in safetensors or PyTorch form, without its configuration",
        false => "a language model in safetensors or PyTorch form, without its configuration",
    };
    Some(refused(
        "language-model",
        called,
        t.describe(name),
        "use the model as a GGUF file",
    ))
}
