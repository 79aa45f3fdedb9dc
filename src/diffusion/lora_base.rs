//! Which model a LoRA was made for, where that is none of Stable Diffusion's: told by the names of the
//! modules that it changes and, where two models share those, by their widths and numbers.

use std::collections::BTreeMap;

/// A model that is none of Stable Diffusion's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoraBase {
    /// Its family, as `models identify` calls it.
    pub family: &'static str,
    /// For people, with its article.
    pub called: &'static str,
    /// The tensor that tells.
    pub tensor: String,
}

/// Parts of names, the first that is there tells: a later one may be in a model of an earlier one.
const NAMES: [(&str, &str, &str); 37] = [
    ("lora_prior_", "stable-cascade", "a Stable Cascade"),
    ("double_stream_modulation", "flux2", "a FLUX.2"),
    (
        "txt_in_individual_token_refiner",
        "hunyuan-video",
        "a HunyuanVideo",
    ),
    (
        "individual_token_refiner",
        "hunyuan-video",
        "a HunyuanVideo",
    ),
    (".img_attn_qkv.", "hunyuan-video", "a HunyuanVideo"),
    ("distilled_guidance_layer", "chroma", "a Chroma"),
    ("joint_transformer_blocks", "auraflow", "an AuraFlow"),
    ("double_layers", "auraflow", "an AuraFlow"),
    ("double_stream_blocks", "hidream", "a HiDream"),
    ("double_blocks", "flux", "a FLUX"),
    ("single_transformer_blocks", "flux", "a FLUX"),
    ("single_blocks", "flux", "a FLUX"),
    ("img_mlp", "qwen-image", "a Qwen-Image"),
    ("img_mod", "qwen-image", "a Qwen-Image"),
    ("joint_blocks", "sd3", "a Stable Diffusion 3"),
    ("context_refiner", "z-image", "a Z-Image"),
    ("layers.0.attention.", "z-image", "a Z-Image"),
    ("layers_0_attention_", "z-image", "a Z-Image"),
    ("layers.0.feed_forward.", "z-image", "a Z-Image"),
    ("layers_0_feed_forward_", "z-image", "a Z-Image"),
    ("adaln_modulation_", "cosmos", "a Cosmos"),
    ("cross_attn.q_proj", "cosmos", "a Cosmos"),
    ("cross_attn_q_proj", "cosmos", "a Cosmos"),
    ("attn1_Wqkv", "hunyuan-dit", "a Hunyuan-DiT"),
    ("attn1.Wqkv", "hunyuan-dit", "a Hunyuan-DiT"),
    ("cross_attn", "wan", "a Wan"),
    ("self_attn.q.", "wan", "a Wan"),
    ("self_attn_q.", "wan", "a Wan"),
    ("blocks.0.attn2.", "wan", "a Wan"),
    ("patchify_proj", "ltx-video", "an LTX-Video"),
    ("motion_modules", "animatediff", "an AnimateDiff"),
    ("temporal_transformer", "animatediff", "an AnimateDiff"),
    ("effnet_mapper", "stable-cascade", "a Stable Cascade"),
    ("adaln_single", "pixart", "a PixArt"),
    (
        "base_model.model.model.layers",
        "language-model",
        "a language model's",
    ),
    ("add_k_proj", "sd3", "a Stable Diffusion 3"),
    ("llm.layers.", "omnigen", "an OmniGen"),
];

/// Parts of the names of a UNet's modules, inside of which a transformer's names are, too.
const UNET: [&str; 6] = [
    "input_blocks",
    "output_blocks",
    "middle_block",
    "down_blocks",
    "up_blocks",
    "mid_block",
];

/// Blocks of FLUX that see text and picture apart; Qwen-Image has more.
const FLUX_DOUBLE: usize = 19;

impl LoraBase {
    /// The model that a LoRA with tensors of these shapes was made for; none where it is one of Stable
    /// Diffusion's, or none that is known.
    ///
    /// ```
    /// use vokenboard::diffusion::LoraBase;
    ///
    /// let shapes = [("transformer.single_transformer_blocks.3.attn.to_q.lora_A.weight".to_string(), vec![16, 3072])];
    /// assert_eq!(LoraBase::detect(&shapes.into()).unwrap().family, "flux");
    /// ```
    pub fn detect(shapes: &BTreeMap<String, Vec<usize>>) -> Option<LoraBase> {
        let names = || shapes.keys().map(String::as_str);
        let unet = names().any(|name| {
            UNET.iter().any(|part| name.contains(part)) && !name.contains("motion_modules")
        });
        let named = NAMES.iter().find_map(|(part, family, called)| {
            let name = names().find(|name| name.contains(part))?;
            Some((*family, *called, name))
        });
        let (family, called, name) = match (unet, named) {
            (true, Some(named)) if ["animatediff", "stable-cascade"].contains(&named.0) => named,
            (true, _) => return None,
            (false, Some(named)) => told_apart(shapes, named),
            (false, None) => of_width(shapes)?,
        };
        Some(LoraBase {
            family,
            called,
            tensor: name.to_string(),
        })
    }
}

type Named<'a> = (&'static str, &'static str, &'a str);

/// What shares its names with another model, by width and number of blocks.
fn told_apart<'a>(shapes: &'a BTreeMap<String, Vec<usize>>, named: Named<'a>) -> Named<'a> {
    let (family, _, name) = named;
    let width = |part: &str| reads(shapes, part).map(|(_, width)| width);
    match family {
        "z-image" if width("attention") == Some(2304) => ("lumina2", "a Lumina-Image 2.0", name),
        // Both have joint attention; FLUX is wider.
        "sd3" if width("add_k_proj") == Some(3072) => of_blocks(shapes, name),
        // kohya's names have no dots; HunyuanVideo has a block more of each kind.
        "flux" if blocks(shapes, "double_blocks") > FLUX_DOUBLE => {
            ("hunyuan-video", "a HunyuanVideo", name)
        }
        _ => named,
    }
}

/// Transformers of one kind of blocks, whose modules have the names of a UNet's.
fn of_width(shapes: &BTreeMap<String, Vec<usize>>) -> Option<Named<'_>> {
    let (name, width) = reads(shapes, "transformer_blocks")?;
    Some(match width {
        3072 => of_blocks(shapes, name),
        2048 => ("ltx-video", "an LTX-Video", name),
        1152 => ("pixart", "a PixArt", name),
        1920 => ("cogvideox", "a CogVideoX", name),
        2240 => ("sana", "a Sana", name),
        1536 | 2432 => ("sd3", "a Stable Diffusion 3", name),
        _ => return None,
    })
}

fn of_blocks<'a>(shapes: &BTreeMap<String, Vec<usize>>, name: &'a str) -> Named<'a> {
    match blocks(shapes, "transformer_blocks") > FLUX_DOUBLE {
        true => ("qwen-image", "a Qwen-Image", name),
        false => ("flux", "a FLUX", name),
    }
}

/// A module with `part` in its name, and what its first matrix reads.
fn reads<'a>(shapes: &'a BTreeMap<String, Vec<usize>>, part: &str) -> Option<(&'a str, usize)> {
    shapes.iter().find_map(|(name, shape)| {
        let down = ["lora_A.", "lora_down.", "lora.down."];
        let first = name.contains(part) && down.iter().any(|end| name.contains(end));
        Some((name.as_str(), *shape.get(1).filter(|_| first)?))
    })
}

/// One more than the highest number behind `part`.
fn blocks(shapes: &BTreeMap<String, Vec<usize>>, part: &str) -> usize {
    let numbers = shapes.keys().filter_map(|name| {
        let (_, rest) = name.split_once(part)?;
        let rest = rest.strip_prefix(['.', '_'])?;
        rest.split(['.', '_']).next()?.parse::<usize>().ok()
    });
    numbers.max().map_or(0, |last| last + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_that_share_names_are_told_apart() {
        for (name, width, wanted) in [
            (
                "transformer.transformer_blocks.3.attn.add_k_proj.lora_A.weight",
                3072,
                "flux",
            ),
            (
                "transformer.transformer_blocks.59.attn.add_k_proj.lora_A.weight",
                3072,
                "qwen-image",
            ),
            (
                "transformer.transformer_blocks.3.attn.add_k_proj.lora_A.weight",
                1536,
                "sd3",
            ),
            (
                "transformer.transformer_blocks.3.attn.to_q.lora_A.weight",
                3072,
                "flux",
            ),
            (
                "lora_transformer_transformer_blocks_3_attn_to_q.lora_down.weight",
                2432,
                "sd3",
            ),
            (
                "lora_transformer_transformer_blocks_3_attn1_to_q.lora_down.weight",
                1152,
                "pixart",
            ),
            (
                "diffusion_model.transformer_blocks.3.attn1.to_q.lora_A.weight",
                2048,
                "ltx-video",
            ),
            (
                "lora_unet_double_blocks_19_img_attn_qkv.lora_down.weight",
                3072,
                "hunyuan-video",
            ),
            (
                "lora_unet_double_blocks_18_img_attn_qkv.lora_down.weight",
                3072,
                "flux",
            ),
            (
                "diffusion_model.layers.0.attention.qkv.lora_A.weight",
                2304,
                "lumina2",
            ),
            (
                "diffusion_model.layers.0.attention.qkv.lora_A.weight",
                3840,
                "z-image",
            ),
            (
                "diffusion_model.blocks.0.cross_attn.q_proj.lora_A.weight",
                2048,
                "cosmos",
            ),
            (
                "lora_prior_unet_down_blocks_0_5_attention_to_q.lora_down.weight",
                2048,
                "stable-cascade",
            ),
        ] {
            let shapes = [(name.to_string(), vec![16, width])].into();
            let told = LoraBase::detect(&shapes).map(|base| base.family);
            assert_eq!(told, Some(wanted), "{name}");
        }
        let ours =
            "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q.lora_down.weight";
        assert_eq!(
            LoraBase::detect(&[(ours.to_string(), vec![16, 320])].into()),
            None
        );
    }
}
