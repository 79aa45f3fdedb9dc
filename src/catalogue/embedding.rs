//! Textual inversion: a few rows for the table of a text encoder.

use super::{HeaderTensors, refused, usable};
use crate::weights::{Identity, WeightsKind};

/// More tensors than the file of an embedding has.
const MOST: usize = 8;
/// More rows than an embedding has.
const ROWS: usize = 256;

pub(super) fn identify(t: &HeaderTensors) -> Option<Identity> {
    let rows = |name: &str| -> Option<usize> {
        match t.shape(name)? {
            [width] => Some(*width),
            [rows, width] if (1..=ROWS).contains(rows) => Some(*width),
            _ => None,
        }
    };
    if t.map.is_empty() || t.map.len() > MOST {
        return None;
    }
    if let Some(name) = ["t5xxl", "t5"].into_iter().find(|name| t.has(name)) {
        return Some(refused(
            "embedding",
            "an embedding of a model with T5 (Stable Diffusion 3, FLUX)",
            t.describe(name),
            "use an embedding of Stable Diffusion 1.x, 2.x or XL",
        ));
    }
    if let (Some(_), Some(_)) = (rows("clip_l"), rows("clip_g")) {
        let why = format!("{}; {}", t.describe("clip_l"), t.describe("clip_g"));
        return Some(usable(
            WeightsKind::Embedding,
            "sdxl",
            "an embedding of Stable Diffusion XL",
            why,
        ));
    }
    // Those that were written with more beside them name it so.
    let name = ["emb_params", "*", "string_to_param.*"]
        .into_iter()
        .find(|name| t.has(name));
    let name = match name {
        Some(name) => name,
        None if t.map.len() == 1 => t.names().next()?,
        None => return None,
    };
    let width = rows(name)?;
    let (family, called) = match width {
        768 => ("sd1", "an embedding of Stable Diffusion 1.x"),
        1024 => ("sd2", "an embedding of Stable Diffusion 2.x"),
        1280 if name == "clip_g" => ("sdxl", "half of an embedding of Stable Diffusion XL"),
        // Networks made for tests are narrower.
        _ if width < 768 => ("unknown", "an embedding of an unknown model"),
        _ => {
            let instead = "use an embedding of Stable Diffusion 1.x, 2.x or XL";
            return Some(refused(
                "embedding",
                "an embedding of another model",
                t.describe(name),
                instead,
            ));
        }
    };
    Some(usable(
        WeightsKind::Embedding,
        family,
        called,
        t.describe(name),
    ))
}
