//! Which UNet of Stable Diffusion and its relatives a file has, told by the names and shapes of its
//! tensors, under LDM's names or diffusers'.

use std::collections::BTreeMap;

use crate::diffusion::StableDiffusionFamily;

/// Which UNet it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnetKind {
    /// Its name in the field, such as `sdxl`.
    pub name: &'static str,
    /// The same for people.
    pub label: &'static str,
    /// Names of the tensors that tell, the one that tells most first.
    pub tensors: Vec<String>,
    /// Channels of its input; 9 for inpainting.
    pub in_channels: usize,
    /// The family of models that it can be run in, given the rest; `None` where it can't be run.
    pub family: Option<StableDiffusionFamily>,
}

impl UnetKind {
    /// Which UNet has tensors of these names and shapes, without a prefix before the names; `None`
    /// where they are no UNet's.
    ///
    /// ```
    /// use vokenboard::diffusion::{StableDiffusionFamily, UnetKind};
    ///
    /// let shapes = [
    ///     ("conv_in.weight", vec![320, 9, 3, 3]),
    ///     ("down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight", vec![320, 768]),
    /// ];
    /// let shapes = shapes.map(|(name, shape)| (name.to_owned(), shape)).into();
    /// let kind = UnetKind::detect(&shapes).unwrap();
    /// assert_eq!((kind.name, kind.in_channels), ("sd1", 9));
    /// assert_eq!(kind.family, Some(StableDiffusionFamily::Sd1));
    /// ```
    pub fn detect(shapes: &BTreeMap<String, Vec<usize>>) -> Option<UnetKind> {
        let shapes = Shapes(shapes);
        let w = widths(&shapes)?;
        let mut tensors = vec![w.first.to_owned()];
        tensors.extend(w.text.as_ref().map(|(name, _)| name.clone()));
        tensors.extend(w.vector.map(|(name, _)| name.to_owned()));
        tensors.reverse();
        let (name, label, family) = name(&shapes, &w)?;
        Some(UnetKind {
            name,
            label,
            tensors,
            in_channels: w.in_channels,
            family,
        })
    }
}

/// Shapes of tensors by name.
struct Shapes<'a>(&'a BTreeMap<String, Vec<usize>>);

impl Shapes<'_> {
    fn shape(&self, name: &str) -> Option<&[usize]> {
        self.0.get(name).map(|shape| &shape[..])
    }

    fn dim(&self, name: &str, axis: usize) -> Option<usize> {
        self.shape(name)?.get(axis).copied()
    }

    fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    fn after_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        let from = self.0.range(prefix.to_owned()..);
        from.map_while(move |(name, _)| name.strip_prefix(prefix))
    }

    fn has_prefix(&self, prefix: &str) -> bool {
        self.after_prefix(prefix).next().is_some()
    }

    fn has_part(&self, part: &str) -> bool {
        self.0.keys().any(|name| name.contains(part))
    }

    fn find(&self, fits: impl Fn(&str) -> bool) -> Option<(&str, &[usize])> {
        let found = self.0.iter().find(|(name, _)| fits(name));
        found.map(|(name, shape)| (name.as_str(), &shape[..]))
    }
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

fn widths(t: &Shapes) -> Option<Widths> {
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
        let numbers = t.after_prefix(prefix).filter_map(|rest| {
            let (_, after) = rest.split_once("transformer_blocks.")?;
            after.split('.').next()?.parse::<usize>().ok()
        });
        numbers.max().map_or(0, |last| last.saturating_add(1))
    };
    Some(Widths {
        in_channels: t.dim(first, 1)?,
        first,
        text: text.and_then(|(name, shape)| Some((name.to_string(), *shape.get(1)?))),
        vector,
        linear: linear.is_some_and(|(_, shape)| shape.len() == 2),
        depth: depth("input_blocks.").max(depth("down_blocks.")),
    })
}

/// Name, label and the family that it can be run in.
type Named = (&'static str, &'static str, Option<StableDiffusionFamily>);

fn name(t: &Shapes, w: &Widths) -> Option<Named> {
    use StableDiffusionFamily::{Sd1, Sd2, Sdxl};

    let text = w.text.as_ref().map(|(_, width)| *width);
    let vector = w.vector.map(|(_, width)| width);
    let sized = w.vector.is_some_and(|(name, _)| name != "label_emb.weight");
    if t.has_part("time_stack")
        || t.has_part("temporal_transformer_blocks")
        || t.has_part("time_mixer")
    {
        return Some(("svd", "Stable Video Diffusion", None));
    }
    if t.has_part("motion_modules.") {
        return Some(("animatediff", "an AnimateDiff UNet", None));
    }
    if t.has_part(".fuser.") || t.has_prefix("position_net.") {
        return Some(("gligen", "GLIGEN", None));
    }
    if t.has_prefix("encoder_hid_proj.image_embeds") || t.has_prefix("add_embedding.image_") {
        return Some(("kandinsky", "Kandinsky", None));
    }
    if t.has("add_embedding.pool.positional_embedding") {
        return Some(("deepfloyd-if", "DeepFloyd IF", None));
    }
    if vector == Some(5632) || t.has("encoder_hid_proj.weight") {
        return Some(("kolors", "Kolors", None));
    }
    if vector == Some(2560) || text == Some(1280) {
        return Some(("sdxl-refiner", "SDXL refiner", None));
    }
    // Only XL's UNet reads a vector for the whole, its deepest attention has ten blocks, and its
    // finest level none.
    if sized && (vector == Some(2816) || text == Some(2048) || w.depth > 1) {
        let whole = match text {
            Some(2048) => w.depth == 10,
            _ => true,
        };
        return Some(match (w.in_channels, whole) {
            (4 | 9, true) => ("sdxl", Sdxl.label(), Some(Sdxl)),
            (4 | 9, false) => distilled(w.depth),
            (8, _) => ("sdxl-instruct-pix2pix", "InstructPix2Pix of SDXL", None),
            _ => (
                "sdxl-variant",
                "a variant of SDXL that reads other latents",
                None,
            ),
        });
    }
    // ControlNets and LoRA-less parts of XL have no vector under these names.
    if text == Some(2048) {
        return Some(("sdxl", Sdxl.label(), Some(Sdxl)));
    }
    if text == Some(1024) || (text != Some(768) && w.linear) {
        return Some(match (w.in_channels, vector) {
            (7, _) => ("sd-x4-upscaler", "the Stable Diffusion x4 upscaler", None),
            (5, _) => ("sd2-depth", "SD2 depth", None),
            (4, Some(_)) if sized => ("sd2-unclip", "Stable unCLIP", None),
            (4 | 9, _) => ("sd2", Sd2.label(), Some(Sd2)),
            _ => (
                "sd2-variant",
                "a variant of SD2 that reads other latents",
                None,
            ),
        });
    }
    // Models of other kinds have a UNet, too.
    text?;
    Some(match w.in_channels {
        8 => ("instruct-pix2pix", "InstructPix2Pix", None),
        4 | 9 => ("sd1", Sd1.label(), Some(Sd1)),
        _ => (
            "sd1-variant",
            "a variant of SD1 that reads other latents",
            None,
        ),
    })
}

/// XL with fewer blocks.
fn distilled(depth: usize) -> Named {
    match depth {
        4 => ("ssd-1b", "Segmind SSD-1B", None),
        2 => ("segmind-vega", "Segmind Vega", None),
        _ => ("sdxl-distilled", "a distilled SDXL with fewer blocks", None),
    }
}
