//! What candle's networks call their parameters, and what files do.

use super::source::{Joined, one};
use crate::weights::TensorSlice;

/// The transformer of FLUX.1: candle has the names of Black Forest Labs' files, folders have
/// diffusers'. `hidden` is the width of its tokens.
pub(super) fn flux(name: &str, hidden: usize) -> Vec<Joined> {
    let bare = one(name);
    let wrapped = one(format!("model.diffusion_model.{name}"));
    let mut all = vec![bare, wrapped];
    all.extend(flux_of_diffusers(name, hidden));
    all
}

fn flux_of_diffusers(name: &str, hidden: usize) -> Option<Joined> {
    let (module, leaf) = name.rsplit_once('.')?;
    let whole = |old: String| Some(one(format!("{old}.{leaf}")));
    let fused = |of: &str, parts: &[&str]| {
        let part = |part: &&str| (format!("{of}.{part}.{leaf}"), TensorSlice::Whole);
        Some(parts.iter().map(part).collect::<Joined>())
    };
    for (new, old) in [
        ("img_in", "x_embedder"),
        ("txt_in", "context_embedder"),
        ("final_layer.linear", "proj_out"),
    ] {
        if module == new {
            return whole(old.to_owned());
        }
    }
    if module == "final_layer.adaLN_modulation.1" {
        // diffusers has the scale before the shift.
        let stored = format!("norm_out.linear.{leaf}");
        return Some(vec![
            (stored.clone(), TensorSlice::Rows(hidden..2 * hidden)),
            (stored, TensorSlice::Rows(0..hidden)),
        ]);
    }
    for (new, old) in [
        ("time_in", "timestep_embedder"),
        ("vector_in", "text_embedder"),
        ("guidance_in", "guidance_embedder"),
    ] {
        let Some(layer) = module.strip_prefix(new) else {
            continue;
        };
        let number = match layer {
            ".in_layer" => 1,
            _ => 2,
        };
        return whole(format!("time_text_embed.{old}.linear_{number}"));
    }
    if let Some(rest) = module.strip_prefix("double_blocks.") {
        let (i, part) = rest.split_once('.')?;
        let block = format!("transformer_blocks.{i}");
        return match part {
            "img_mod.lin" => whole(format!("{block}.norm1.linear")),
            "txt_mod.lin" => whole(format!("{block}.norm1_context.linear")),
            "img_attn.qkv" => fused(&format!("{block}.attn"), &["to_q", "to_k", "to_v"]),
            "txt_attn.qkv" => {
                let parts = ["add_q_proj", "add_k_proj", "add_v_proj"];
                fused(&format!("{block}.attn"), &parts)
            }
            "img_attn.proj" => whole(format!("{block}.attn.to_out.0")),
            "txt_attn.proj" => whole(format!("{block}.attn.to_add_out")),
            "img_mlp.0" => whole(format!("{block}.ff.net.0.proj")),
            "img_mlp.2" => whole(format!("{block}.ff.net.2")),
            "txt_mlp.0" => whole(format!("{block}.ff_context.net.0.proj")),
            "txt_mlp.2" => whole(format!("{block}.ff_context.net.2")),
            "img_attn.norm.query_norm" => Some(one(format!("{block}.attn.norm_q.weight"))),
            "img_attn.norm.key_norm" => Some(one(format!("{block}.attn.norm_k.weight"))),
            "txt_attn.norm.query_norm" => Some(one(format!("{block}.attn.norm_added_q.weight"))),
            "txt_attn.norm.key_norm" => Some(one(format!("{block}.attn.norm_added_k.weight"))),
            _ => None,
        };
    }
    let rest = module.strip_prefix("single_blocks.")?;
    let (i, part) = rest.split_once('.')?;
    let block = format!("single_transformer_blocks.{i}");
    match part {
        "modulation.lin" => whole(format!("{block}.norm.linear")),
        "linear2" => whole(format!("{block}.proj_out")),
        "linear1" => fused(&block, &["attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"]),
        "norm.query_norm" => Some(one(format!("{block}.attn.norm_q.weight"))),
        "norm.key_norm" => Some(one(format!("{block}.attn.norm_k.weight"))),
        _ => None,
    }
}

/// The transformer of Z-Image: candle has diffusers' names, single files those of the original, with
/// query, key and value in one. `width` is that of its tokens.
pub(super) fn z_image(name: &str, width: usize) -> Vec<Joined> {
    let mut all = vec![one(name)];
    let original = |prefix: &str| {
        let query = |part: &str, at: usize| {
            let (block, found) = name.split_once(part)?;
            let rows = TensorSlice::Rows(at * width..(at + 1) * width);
            Some(vec![(format!("{prefix}{block}.qkv.{found}"), rows)])
        };
        let split = query(".to_q.", 0).or_else(|| query(".to_k.", 1));
        split.or_else(|| query(".to_v.", 2)).unwrap_or_else(|| {
            let plain = name
                .replace(".to_out.0.", ".out.")
                .replace(".norm_q.", ".q_norm.")
                .replace(".norm_k.", ".k_norm.")
                .replace("all_x_embedder.2-1.", "x_embedder.")
                .replace("all_final_layer.2-1.", "final_layer.");
            one(format!("{prefix}{plain}"))
        })
    };
    all.push(original(""));
    all.push(original("model.diffusion_model."));
    all
}

/// T5's encoder, alone or in a whole checkpoint.
pub(super) fn t5(name: &str) -> Vec<Joined> {
    let names: &[&str] = match name {
        "shared.weight" => &["shared.weight", "encoder.embed_tokens.weight"],
        _ => &[name],
    };
    prefixed(names, &["", "text_encoders.t5xxl.transformer."])
}

/// Qwen3 as a text encoder, alone or in a whole checkpoint.
pub(super) fn qwen3(name: &str) -> Vec<Joined> {
    let bare = name.strip_prefix("model.").unwrap_or(name);
    let prefixes = ["", "text_encoders.qwen3_4b.transformer."];
    prefixed(&[name, bare], &prefixes)
}

fn prefixed(names: &[&str], prefixes: &[&str]) -> Vec<Joined> {
    let with = |prefix: &&str| {
        let of = |name: &&str| one(format!("{prefix}{name}"));
        names.iter().map(of).collect::<Vec<_>>()
    };
    prefixes.iter().flat_map(with).collect()
}
