//! Which model a whole checkpoint in one file is, told by the names and shapes of its tensors.

use super::{Prediction, UnetKind};
use crate::weights::Checkpoint;
use candle_core::{DType, Device};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// The kinds of Stable Diffusion that differ in their networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StableDiffusionFamily {
    /// Stable Diffusion 1.x.
    Sd1,
    /// Stable Diffusion 2.x.
    Sd2,
    /// Stable Diffusion XL.
    Sdxl,
}

impl StableDiffusionFamily {
    /// The name for people.
    pub fn label(self) -> &'static str {
        match self {
            StableDiffusionFamily::Sd1 => "Stable Diffusion 1.x",
            StableDiffusionFamily::Sd2 => "Stable Diffusion 2.x",
            StableDiffusionFamily::Sdxl => "Stable Diffusion XL",
        }
    }

    /// The family whose published models attend to texts of this width.
    pub fn of_width(width: usize) -> Option<StableDiffusionFamily> {
        match width {
            768 => Some(StableDiffusionFamily::Sd1),
            1024 => Some(StableDiffusionFamily::Sd2),
            2048 => Some(StableDiffusionFamily::Sdxl),
            _ => None,
        }
    }
}

impl FromStr for StableDiffusionFamily {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [
            StableDiffusionFamily::Sd1,
            StableDiffusionFamily::Sd2,
            StableDiffusionFamily::Sdxl,
        ];
        let found = all.into_iter().find(|family| family.to_string() == text);
        found.ok_or_else(|| "name sd1, sd2 or sdxl".to_string())
    }
}

impl fmt::Display for StableDiffusionFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StableDiffusionFamily::Sd1 => "sd1",
            StableDiffusionFamily::Sd2 => "sd2",
            StableDiffusionFamily::Sdxl => "sdxl",
        })
    }
}

/// What the names and shapes of a checkpoint tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Detected {
    pub family: StableDiffusionFamily,
    /// Channels that the UNet reads: 4, or 9 for inpainting.
    pub in_channels: usize,
    /// A marker says that the UNet predicts the velocity.
    pub v_prediction: bool,
    /// A marker says that the last timestep has no signal at all.
    pub zero_snr: bool,
}

/// Where a checkpoint has the text encoder of its family, the one that tells first.
const TEXTS: [(StableDiffusionFamily, &str); 3] = [
    (
        StableDiffusionFamily::Sdxl,
        "conditioner.embedders.1.model.",
    ),
    (StableDiffusionFamily::Sd2, "cond_stage_model.model."),
    (StableDiffusionFamily::Sd1, "cond_stage_model.transformer."),
];

/// The family whose text encoder a checkpoint has, and the beginning of its names; `under` says
/// whether a name begins so.
pub fn of_text_encoder(
    under: impl Fn(&str) -> bool,
) -> Option<(StableDiffusionFamily, &'static str)> {
    TEXTS.into_iter().find(|(_, prefix)| under(prefix))
}

/// What the UNet of a checkpoint of Stable Diffusion 2.x predicts, of which nothing in its header
/// tells, and why that is thought. In those that were trained on for the velocity, one norm has a
/// bias that spreads wider (ComfyUI's rule); inpainting models predict the noise.
pub fn guess(file: &Checkpoint) -> (Prediction, &'static str) {
    const TELLS: &str = "output_blocks.11.1.transformer_blocks.0.norm1.bias";
    const SPREAD: f32 = 0.09;
    let first = file.info(&format!("{UNET}input_blocks.0.0.weight"));
    if first.is_some_and(|info| info.shape.get(1) == Some(&9)) {
        return (Prediction::Epsilon, "inpainting models of SD 2.x do");
    }
    let biases = file.tensor(&format!("{UNET}{TELLS}"), DType::F32, &Device::Cpu);
    let biases = biases.ok().and_then(|biases| biases.to_vec1::<f32>().ok());
    let Some(biases) = biases.filter(|biases| !biases.is_empty()) else {
        return (Prediction::VPrediction, "most SD 2.x models do");
    };
    let count = biases.len() as f32;
    let mean = biases.iter().sum::<f32>() / count;
    let variance = biases.iter().map(|bias| (bias - mean).powi(2)).sum::<f32>() / count;
    let spread = "its norms are spread as those of such models are";
    match variance.sqrt() > SPREAD {
        true => (Prediction::VPrediction, spread),
        false => (Prediction::Epsilon, spread),
    }
}

/// The prefix of the UNet's parameters in such a file.
pub(super) const UNET: &str = "model.diffusion_model.";

/// The family of a checkpoint with these tensors; `None` where it is no Stable Diffusion that can
/// be run, such as the refiner of XL, or one that reads a depth map.
pub(super) fn detect(shapes: &BTreeMap<String, Vec<usize>>) -> Option<Detected> {
    let unet = shapes
        .iter()
        .filter_map(|(name, shape)| Some((name.strip_prefix(UNET)?.to_owned(), shape.clone())));
    let unet: BTreeMap<String, Vec<usize>> = unet.collect();
    let kind = UnetKind::detect(&unet)?;
    let has = |prefix: &str| {
        shapes
            .range(prefix.to_string()..)
            .next()
            .is_some_and(|(name, _)| name.starts_with(prefix))
    };
    if !matches!(kind.in_channels, 4 | 9) {
        return None;
    }
    let family = if let Some((family, _)) = of_text_encoder(has) {
        family
    } else if has("conditioner.") {
        return None;
    } else {
        kind.family?
    };
    // SDXL is the only one that is told of sizes.
    if (family == StableDiffusionFamily::Sdxl) != unet.contains_key("label_emb.0.0.weight") {
        return None;
    }
    let marker = |name: &str| shapes.contains_key(name);
    Some(Detected {
        family,
        in_channels: kind.in_channels,
        v_prediction: marker("v_pred"),
        zero_snr: marker("ztsnr"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_encoder_decides_and_else_the_width_of_attention() {
        let of = |names: &[(&str, &[usize])]| {
            let shapes = names.iter().map(|(n, s)| ((*n).to_string(), s.to_vec()));
            detect(&shapes.collect())
        };
        let first = (
            "model.diffusion_model.input_blocks.0.0.weight",
            &[8, 9, 3, 3][..],
        );
        let attention = |width: &'static [usize]| {
            let name =
                "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight";
            (name, width)
        };
        let text = ("cond_stage_model.model.ln_final.weight", &[8][..]);
        let found = of(&[first, attention(&[8, 8]), text]).unwrap();
        assert_eq!(
            (found.family, found.in_channels),
            (StableDiffusionFamily::Sd2, 9)
        );
        assert_eq!(
            of(&[first, attention(&[8, 768])]).unwrap().family,
            StableDiffusionFamily::Sd1
        );
        assert_eq!(of(&[first]), None);
        let refiner = ("conditioner.embedders.0.model.ln_final.weight", &[8][..]);
        assert_eq!(of(&[first, attention(&[8, 768]), refiner]), None);
    }
}
