//! Whole picture models in one file, under LDM's names.

use std::path::Path;

use candle_core::{DType, Device};

use super::{ELSEWHERE, Tensors, refused, unet, usable};
use crate::weights::{Checkpoint, Identity, Kind};

const UNET: &str = "model.diffusion_model.";

pub fn tell(t: &Tensors) -> Option<Identity> {
    if !t.under(UNET) {
        return None;
    }
    let inside = t.inside(UNET);
    let family = unet::family(&inside)?;
    let mut identity = judge(t, family);
    identity.prediction = identity
        .prediction
        .or_else(|| prediction(t, &identity.family));
    Some(identity)
}

fn judge(t: &Tensors, family: unet::Family) -> Identity {
    let (name, called) = (family.name, family.called);
    let why = family.why.replace("; ", &format!("; {UNET}"));
    let mut why = format!("{UNET}{why}");
    let refuse = |name: &str, called: &str, why: &str| {
        let mut identity = refused(name, called, why, ELSEWHERE);
        identity.in_channels = Some(family.in_channels);
        identity
    };
    if t.has("cc_projection.weight") {
        return refuse("zero123", "Zero-1-to-3", &t.tell("cc_projection.weight"));
    }
    if t.has("edm_mean") || t.has("edm_std") {
        return refuse(
            "playground-v2.5",
            "Playground v2.5",
            "edm_mean and edm_std: it samples as EDM does",
        );
    }
    if t.with("edm_vpred.sigma") {
        return refuse(
            "cosxl",
            "CosXL",
            "edm_vpred.sigma_max: it samples as EDM does",
        );
    }
    if name == "sdxl-refiner"
        || (t.under("conditioner.embedders.0.model.") && !t.under("conditioner.embedders.1."))
    {
        let text = t.first_under("conditioner.embedders.0.model.");
        let text = text.map_or(String::new(), |name| {
            format!("{name} (one OpenCLIP encoder, no embedders.1); ")
        });
        let mut identity = refuse("sdxl-refiner", "SDXL refiner", &format!("{text}{why}"));
        identity.is = Kind::Model;
        identity.instead = Some("use the SDXL base model, which draws whole pictures".to_string());
        return identity;
    }
    if !family.runs {
        return refuse(name, called, &why);
    }
    // What the text encoder is tells more than widths do.
    let texts = [
        ("sdxl", "conditioner.embedders.1.model."),
        ("sd2", "cond_stage_model.model."),
        ("sd1", "cond_stage_model.transformer."),
    ];
    let encoder = texts.into_iter().find(|(_, prefix)| t.under(prefix));
    let vae = t.under("first_stage_model.decoder.");
    let Some((family_of_text, prefix)) = encoder.filter(|_| vae) else {
        let lacks = match (encoder, vae) {
            (None, true) => "its text encoder",
            (Some(_), false) => "its VAE",
            _ => "its VAE and text encoder",
        };
        let mut identity = usable(Kind::Component, name, "a UNet alone", why);
        identity.supported = false;
        identity.in_channels = Some(family.in_channels);
        identity.instead = Some(format!(
            "use a whole checkpoint of {called}; this file lacks {lacks}"
        ));
        return identity;
    };
    if let Some(text) = t.first_under(prefix) {
        why = format!("{text}; {why}");
    }
    let called = match family_of_text {
        "sdxl" => "Stable Diffusion XL",
        "sd2" => "Stable Diffusion 2.x",
        _ => "Stable Diffusion 1.x",
    };
    let called = match family.in_channels {
        9 => format!("{called} inpainting"),
        _ => called.to_string(),
    };
    let mut identity = usable(Kind::Model, family_of_text, &called, why);
    identity.in_channels = Some(family.in_channels);
    identity.picture_size = Some(match family_of_text {
        "sdxl" => 1024,
        "sd2" => 768,
        _ => 512,
    });
    if t.with("cond_proj.") {
        identity
            .notes
            .push("it is LCM-distilled: use the scheduler lcm".to_string());
    }
    if t.has("v_pred") {
        let zero = match t.has("ztsnr") {
            true => "v_pred and ztsnr: v prediction with zero terminal SNR",
            false => "v_pred alone: v prediction without zero terminal SNR",
        };
        identity.why = format!("{zero}; {}", identity.why);
    }
    identity
}

/// What the header says about what the UNet predicts: markers of XL's; the others' is known but for
/// SD2, of which there are both.
fn prediction(t: &Tensors, family: &str) -> Option<String> {
    if t.has("v_pred") {
        return Some("v_prediction".to_string());
    }
    let known = ["sd1", "sdxl", "sdxl-refiner", "instruct-pix2pix"].contains(&family);
    known.then(|| "epsilon".to_string())
}

/// What the UNet of an SD2 checkpoint predicts, and why that is thought: its header says it not.
///
/// The norms of models that were trained on for v prediction have biases of another spread at one
/// place, by which ComfyUI tells them; inpainting models predict the noise.
pub fn guess(path: &Path) -> (&'static str, &'static str) {
    const TELLS: &str = "output_blocks.11.1.transformer_blocks.0.norm1.bias";
    const SPREAD: f32 = 0.09;
    let Ok(file) = Checkpoint::open(path) else {
        return ("v_prediction", "most SD 2.x models do");
    };
    let first = file.info(&format!("{UNET}input_blocks.0.0.weight"));
    if first.is_some_and(|info| info.shape.get(1) == Some(&9)) {
        return ("epsilon", "inpainting models of SD 2.x do");
    }
    let biases = file.tensor(&format!("{UNET}{TELLS}"), DType::F32, &Device::Cpu);
    let biases = biases.ok().and_then(|biases| biases.to_vec1::<f32>().ok());
    let Some(biases) = biases.filter(|biases| !biases.is_empty()) else {
        return ("v_prediction", "most SD 2.x models do");
    };
    let count = biases.len() as f32;
    let mean = biases.iter().sum::<f32>() / count;
    let variance = biases.iter().map(|bias| (bias - mean).powi(2)).sum::<f32>() / count;
    match variance.sqrt() > SPREAD {
        true => (
            "v_prediction",
            "its norms are spread as those of such models are",
        ),
        false => (
            "epsilon",
            "its norms are spread as those of such models are",
        ),
    }
}
