//! Names of parameters in single-file checkpoints: those of the code that Stable Diffusion was
//! trained with (LDM, OpenCLIP), found from diffusers' and transformers' names, which our networks
//! ask for.

use crate::diffusion::{UnetConfig, UpBlockKind};
use crate::weights::TensorSlice;

/// Where a number of `name` begins: `"blocks.3.x"` with `"blocks."` gives `(3, "x")`.
fn numbered<'a>(name: &'a str, prefix: &str) -> Option<(usize, &'a str)> {
    let (number, rest) = name.strip_prefix(prefix)?.split_once('.')?;
    Some((number.parse().ok()?, rest))
}

/// `name` with the first part that stands in `pairs` in place of it replaced.
fn replaced(name: &str, pairs: &[(&str, &str)]) -> String {
    for (from, to) in pairs {
        if let Some(rest) = name.strip_prefix(from) {
            return format!("{to}{rest}");
        }
    }
    name.to_string()
}

const RESNET: [(&str, &str); 6] = [
    ("norm1.", "in_layers.0."),
    ("conv1.", "in_layers.2."),
    ("time_emb_proj.", "emb_layers.1."),
    ("norm2.", "out_layers.0."),
    ("conv2.", "out_layers.3."),
    ("conv_shortcut.", "skip_connection."),
];

/// The names of a UNet's parameters, without the prefix `model.diffusion_model.`.
pub(super) fn unet(name: &str, config: &UnetConfig) -> Option<String> {
    const OUTER: [(&str, &str); 8] = [
        ("conv_in.", "input_blocks.0.0."),
        ("time_embedding.linear_1.", "time_embed.0."),
        ("time_embedding.linear_2.", "time_embed.2."),
        ("time_embedding.cond_proj.", "time_embed.cond_proj."),
        ("add_embedding.linear_1.", "label_emb.0.0."),
        ("add_embedding.linear_2.", "label_emb.0.2."),
        ("conv_norm_out.", "out.0."),
        ("conv_out.", "out.2."),
    ];
    let layers = config.layers_per_block;
    if let Some((block, rest)) = numbered(name, "down_blocks.") {
        // After the first convolution, each block has its layers and a downsampling.
        let at = |j: usize| 1 + block * (layers + 1) + j;
        if let Some((j, rest)) = numbered(rest, "resnets.") {
            return Some(format!(
                "input_blocks.{}.0.{}",
                at(j),
                replaced(rest, &RESNET)
            ));
        }
        if let Some((j, rest)) = numbered(rest, "attentions.") {
            return Some(format!("input_blocks.{}.1.{rest}", at(j)));
        }
        let rest = rest.strip_prefix("downsamplers.0.conv.")?;
        return Some(format!("input_blocks.{}.0.op.{rest}", at(layers)));
    }
    if let Some((block, rest)) = numbered(name, "up_blocks.") {
        let at = |j: usize| block * (layers + 1) + j;
        if let Some((j, rest)) = numbered(rest, "resnets.") {
            return Some(format!(
                "output_blocks.{}.0.{}",
                at(j),
                replaced(rest, &RESNET)
            ));
        }
        if let Some((j, rest)) = numbered(rest, "attentions.") {
            return Some(format!("output_blocks.{}.1.{rest}", at(j)));
        }
        let rest = rest.strip_prefix("upsamplers.0.conv.")?;
        // The upsampling is the last of its layer's parts.
        let attends = config.up_block_types.get(block) == Some(&UpBlockKind::CrossAttnUpBlock2D);
        let part = 1 + usize::from(attends);
        return Some(format!("output_blocks.{}.{part}.conv.{rest}", at(layers)));
    }
    if let Some(rest) = name.strip_prefix("mid_block.") {
        if let Some(rest) = rest.strip_prefix("attentions.0.") {
            return Some(format!("middle_block.1.{rest}"));
        }
        let (j, rest) = numbered(rest, "resnets.")?;
        return Some(format!(
            "middle_block.{}.{}",
            2 * j,
            replaced(rest, &RESNET)
        ));
    }
    let new = replaced(name, &OUTER);
    (new != name).then_some(new)
}

/// The names of a ControlNet's parameters, without the prefix `control_model.`; `blocks` is how many
/// convolutions its reader of pictures has between the first and the last.
pub(super) fn control(name: &str, config: &UnetConfig, blocks: usize) -> Option<String> {
    let hint = |i: usize, rest: &str| Some(format!("input_hint_block.{}.{rest}", 2 * i));
    if let Some(rest) = name.strip_prefix("controlnet_cond_embedding.") {
        if let Some(rest) = rest.strip_prefix("conv_in.") {
            return hint(0, rest);
        }
        if let Some(rest) = rest.strip_prefix("conv_out.") {
            return hint(blocks + 1, rest);
        }
        let (i, rest) = numbered(rest, "blocks.")?;
        return hint(i + 1, rest);
    }
    if let Some((i, rest)) = numbered(name, "controlnet_down_blocks.") {
        return Some(format!("zero_convs.{i}.0.{rest}"));
    }
    if let Some(rest) = name.strip_prefix("controlnet_mid_block.") {
        return Some(format!("middle_block_out.0.{rest}"));
    }
    unet(name, config)
}

/// The names of an autoencoder's parameters, without a prefix; `levels` is how many the decoder
/// has, which counts them from the other end.
pub(super) fn vae(name: &str, levels: usize) -> Option<(String, TensorSlice)> {
    const ATTENTION: [(&str, &str); 5] = [
        ("group_norm.", "norm."),
        ("to_q.", "q."),
        ("to_k.", "k."),
        ("to_v.", "v."),
        ("to_out.0.", "proj_out."),
    ];
    let whole = |name: String| Some((name, TensorSlice::Whole));
    if name.starts_with("quant_conv.") || name.starts_with("post_quant_conv.") {
        return whole(name.to_string());
    }
    let (half, rest) = name.split_once('.')?;
    if let Some(rest) = rest.strip_prefix("mid_block.") {
        if let Some(rest) = rest.strip_prefix("attentions.0.") {
            let new = format!("{half}.mid.attn_1.{}", replaced(rest, &ATTENTION));
            // A linear layer is stored as a convolution there.
            let taken = match rest.starts_with("to_") && rest.ends_with(".weight") {
                true => TensorSlice::Flattened,
                false => TensorSlice::Whole,
            };
            return Some((new, taken));
        }
        let (j, rest) = numbered(rest, "resnets.")?;
        let rest = replaced(rest, &[("conv_shortcut.", "nin_shortcut.")]);
        return whole(format!("{half}.mid.block_{}.{rest}", j + 1));
    }
    for (blocks, stack, resample) in [
        ("down_blocks.", "down", ("downsamplers.0.", "downsample.")),
        ("up_blocks.", "up", ("upsamplers.0.", "upsample.")),
    ] {
        let Some((block, rest)) = numbered(rest, blocks) else {
            continue;
        };
        let block = match stack {
            "up" => levels.checked_sub(block + 1)?,
            _ => block,
        };
        let rest = match numbered(rest, "resnets.") {
            Some((j, rest)) => {
                let rest = replaced(rest, &[("conv_shortcut.", "nin_shortcut.")]);
                format!("block.{j}.{rest}")
            }
            None => replaced(rest, &[resample]),
        };
        return whole(format!("{half}.{stack}.{block}.{rest}"));
    }
    let rest = replaced(rest, &[("conv_norm_out.", "norm_out.")]);
    whole(format!("{half}.{rest}"))
}

/// diffusers' old names of the autoencoder's attention.
pub(super) fn old_vae(name: &str) -> String {
    [
        (".to_q.", ".query."),
        (".to_k.", ".key."),
        (".to_v.", ".value."),
        (".to_out.0.", ".proj_attn."),
    ]
    .iter()
    .fold(name.to_string(), |name, (new, old)| name.replace(new, old))
}

/// The names of a text encoder's parameters in OpenCLIP, without a prefix; `width` is its
/// `hidden_size`, by which the packed queries, keys and values are told apart.
pub(super) fn open_clip(name: &str, width: usize) -> Option<(String, TensorSlice)> {
    const LAYER: [(&str, &str); 5] = [
        ("layer_norm1.", "ln_1."),
        ("layer_norm2.", "ln_2."),
        ("self_attn.out_proj.", "attn.out_proj."),
        ("mlp.fc1.", "mlp.c_fc."),
        ("mlp.fc2.", "mlp.c_proj."),
    ];
    if name == "text_projection.weight" {
        return Some(("text_projection".into(), TensorSlice::Transposed));
    }
    let name = name.strip_prefix("text_model.")?;
    if let Some((i, rest)) = numbered(name, "encoder.layers.") {
        for (part, j) in [("q_proj.", 0), ("k_proj.", 1), ("v_proj.", 2)] {
            let own = rest.strip_prefix("self_attn.");
            if let Some(kind) = own.and_then(|rest| rest.strip_prefix(part)) {
                let new = format!("transformer.resblocks.{i}.attn.in_proj_{kind}");
                return Some((new, TensorSlice::Rows(j * width..(j + 1) * width)));
            }
        }
        let new = format!("transformer.resblocks.{i}.{}", replaced(rest, &LAYER));
        return Some((new, TensorSlice::Whole));
    }
    let new = match name {
        "embeddings.position_embedding.weight" => "positional_embedding".to_string(),
        "embeddings.token_embedding.weight" => "token_embedding.weight".to_string(),
        other => replaced(other, &[("final_layer_norm.", "ln_final.")]),
    };
    Some((new, TensorSlice::Whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_names_are_found() {
        let sd1 = UnetConfig::default();
        let unet = |name: &str| unet(name, &sd1).unwrap();
        assert_eq!(
            unet("down_blocks.1.attentions.0.proj_in.weight"),
            "input_blocks.4.1.proj_in.weight"
        );
        assert_eq!(
            unet("down_blocks.0.downsamplers.0.conv.bias"),
            "input_blocks.3.0.op.bias"
        );
        assert_eq!(
            unet("up_blocks.0.upsamplers.0.conv.weight"),
            "output_blocks.2.1.conv.weight"
        );
        assert_eq!(
            unet("up_blocks.1.upsamplers.0.conv.weight"),
            "output_blocks.5.2.conv.weight"
        );
        assert_eq!(
            unet("mid_block.resnets.1.time_emb_proj.weight"),
            "middle_block.2.emb_layers.1.weight"
        );
        assert_eq!(
            vae("decoder.up_blocks.0.resnets.2.conv_shortcut.bias", 4)
                .unwrap()
                .0,
            "decoder.up.3.block.2.nin_shortcut.bias"
        );
        assert_eq!(
            open_clip("text_model.encoder.layers.9.self_attn.k_proj.bias", 4).unwrap(),
            (
                "transformer.resblocks.9.attn.in_proj_bias".into(),
                TensorSlice::Rows(4..8)
            )
        );
        assert_eq!(
            control("controlnet_cond_embedding.conv_out.bias", &sd1, 6).unwrap(),
            "input_hint_block.14.bias"
        );
    }
}
