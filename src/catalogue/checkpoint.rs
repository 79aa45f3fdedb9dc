//! Whole picture models in one file, under LDM's names.

use std::path::Path;

use super::{ELSEWHERE, HeaderTensors, refused, unet, usable};
use crate::diffusion::{
    Prediction, StableDiffusionFamily, UnetKind, guess_prediction, of_text_encoder,
};
use crate::weights::{Checkpoint, Identity, WeightsKind};

const UNET: &str = "model.diffusion_model.";

pub(super) fn identify(t: &HeaderTensors) -> Option<Identity> {
    if !t.has_prefix(UNET) {
        return None;
    }
    let inside = t.without_prefix(UNET);
    let (unet, why) = unet::detect(&inside)?;
    let mut identity = judge(t, &unet, &why);
    identity.prediction = identity
        .prediction
        .or_else(|| prediction(t, &identity.family));
    Some(identity)
}

fn judge(t: &HeaderTensors, unet: &UnetKind, why: &str) -> Identity {
    let (name, called) = (unet.name, unet.label);
    let why = why.replace("; ", &format!("; {UNET}"));
    let mut why = format!("{UNET}{why}");
    let refuse = |name: &str, called: &str, why: &str| {
        let mut identity = refused(name, called, why, ELSEWHERE);
        identity.in_channels = Some(unet.in_channels);
        identity
    };
    if t.has("cc_projection.weight") {
        return refuse(
            "zero123",
            "Zero-1-to-3",
            &t.describe("cc_projection.weight"),
        );
    }
    if t.has("edm_mean") || t.has("edm_std") {
        return refuse(
            "playground-v2.5",
            "Playground v2.5",
            "edm_mean and edm_std: it samples as EDM does",
        );
    }
    if t.has_part("edm_vpred.sigma") {
        return refuse(
            "cosxl",
            "CosXL",
            "edm_vpred.sigma_max: it samples as EDM does",
        );
    }
    if name == "sdxl-refiner"
        || (t.has_prefix("conditioner.embedders.0.model.")
            && !t.has_prefix("conditioner.embedders.1."))
    {
        let text = t.first_with_prefix("conditioner.embedders.0.model.");
        let text = text.map_or(String::new(), |name| {
            format!("{name} (one OpenCLIP encoder, no embedders.1); ")
        });
        let mut identity = refuse("sdxl-refiner", "SDXL refiner", &format!("{text}{why}"));
        identity.is = WeightsKind::Model;
        identity.instead = Some("use the SDXL base model, which draws whole pictures".to_string());
        return identity;
    }
    if unet.family.is_none() {
        return refuse(name, called, &why);
    }
    // What the text encoder is tells more than widths do.
    let encoder = of_text_encoder(|prefix| t.has_prefix(prefix));
    let vae = t.has_prefix("first_stage_model.decoder.");
    let Some((of_text, prefix)) = encoder.filter(|_| vae) else {
        let lacks = match (encoder, vae) {
            (None, true) => "its text encoder",
            (Some(_), false) => "its VAE",
            _ => "its VAE and text encoder",
        };
        let mut identity = usable(WeightsKind::Component, name, "a UNet alone", why);
        identity.supported = false;
        identity.in_channels = Some(unet.in_channels);
        identity.instead = Some(format!(
            "use a whole checkpoint of {called}; this file lacks {lacks}"
        ));
        return identity;
    };
    if let Some(text) = t.first_with_prefix(prefix) {
        why = format!("{text}; {why}");
    }
    let family_of_text = of_text.to_string();
    let called = of_text.label();
    let called = match unet.in_channels {
        9 => format!("{called} inpainting"),
        _ => called.to_string(),
    };
    let mut identity = usable(WeightsKind::Model, &family_of_text, &called, why);
    identity.in_channels = Some(unet.in_channels);
    identity.picture_size = Some(match of_text {
        StableDiffusionFamily::Sdxl => 1024,
        StableDiffusionFamily::Sd2 => 768,
        StableDiffusionFamily::Sd1 => 512,
    });
    if t.has_part("cond_proj.") {
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
fn prediction(t: &HeaderTensors, family: &str) -> Option<String> {
    if t.has("v_pred") {
        return Some("v_prediction".to_string());
    }
    let known = ["sd1", "sdxl", "sdxl-refiner", "instruct-pix2pix"].contains(&family);
    known.then(|| "epsilon".to_string())
}

/// What the UNet of an SD2 checkpoint predicts, and why that is thought: its header says it not.
pub(super) fn guess(path: &Path) -> (&'static str, &'static str) {
    let Ok(file) = Checkpoint::open(path) else {
        return ("v_prediction", "most SD 2.x models do");
    };
    match guess_prediction(&file) {
        (Prediction::Epsilon, why) => ("epsilon", why),
        (_, why) => ("v_prediction", why),
    }
}
