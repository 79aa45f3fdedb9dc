//! UNets of Stable Diffusion and its relatives.

use super::{ELSEWHERE, HeaderTensors, refused, usable};
use crate::diffusion::UnetKind;
use crate::weights::{Identity, WeightsKind};

/// Which UNet has these tensors, under its own names without a prefix, and the tensors and shapes
/// that tell.
pub(super) fn detect(t: &HeaderTensors) -> Option<(UnetKind, String)> {
    let shapes = t.map.iter();
    let shapes = shapes.map(|(name, info)| (name.clone(), info.shape.clone()));
    let kind = UnetKind::detect(&shapes.collect())?;
    let why: Vec<String> = kind.tensors.iter().map(|name| t.describe(name)).collect();
    Some((kind, why.join("; ")))
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
    let (unet, why) = detect(t)?;
    if unet.family.is_none() {
        return Some(Identity {
            in_channels: Some(unet.in_channels),
            ..refused(unet.name, unet.label, why, ELSEWHERE)
        });
    }
    let mut identity = usable(WeightsKind::Component, unet.name, "a UNet alone", why);
    identity.supported = false;
    identity.in_channels = Some(unet.in_channels);
    identity.instead = Some(format!(
        "use a whole checkpoint or diffusers folder of {}, which has the VAE and text encoders as well",
        unet.label
    ));
    if t.has_part("cond_proj.") {
        identity
            .notes
            .push("it is LCM-distilled: use the scheduler lcm".to_string());
    }
    Some(identity)
}
