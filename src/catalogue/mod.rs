//! What an author has: what a file or folder of weights is, told from names and shapes of its
//! tensors and from settings beside it, never from names of files; finding all of it in a folder
//! tree; adding it where it lies; and how much memory it takes.
//!
//! One file a kind of file and one list (`KINDS`): a new kind is a function from tensors to an
//! [`Identity`] and a line there.

mod adapters;
mod add;
mod checkpoint;
mod control;
mod dit;
mod embedding;
mod encoders;
mod engines;
mod error;
mod files;
mod folders;
mod gguf;
mod header;
mod lora;
mod numbers;
mod ollama;
mod others;
mod plan;
mod projector;
mod scan;
mod tensors;
mod transformers;
mod unet;
mod vae;

#[cfg(test)]
mod tests;

use std::path::Path;

pub use add::{Added, add, add_with_parts, add_with_projector, file_of, find, line, remove};
pub use engines::{add_comfy, add_endpoint, kept};
pub use error::CatalogueError;
pub use files::{endings, may_be_weights};
pub use plan::{plan, plan_on_gpu};
pub use scan::{ScannedFile, scan};
pub use tensors::{HeaderTensor, HeaderTensors};

use crate::weights::{Identity, WeightsKind};

/// Says what tensors are, where they are of its kind.
type Identify = fn(&HeaderTensors) -> Option<Identity>;

/// Every kind of file, in the order in which they are asked: files that hold parts of other kinds
/// come before those.
const KINDS: [Identify; 12] = [
    adapters::identify,
    control::identify,
    others::motion_module,
    lora::identify,
    checkpoint::identify,
    transformers::identify,
    unet::alone,
    others::safety_checker,
    encoders::image,
    vae::identify,
    encoders::text,
    embedding::identify,
];

/// What tensors with these names and shapes are.
pub fn identify_tensors(tensors: &HeaderTensors) -> Identity {
    let known = KINDS.iter().find_map(|tell| tell(tensors));
    let known = known.or_else(|| others::identify(tensors));
    let mut identity = known.unwrap_or_else(|| unknown(tensors));
    measure(tensors, &mut identity);
    identity
}

/// Counts tensors, and says how they are stored.
fn measure(tensors: &HeaderTensors, identity: &mut Identity) {
    let (parameters, bytes) = tensors.size();
    identity.tensors = tensors.map.len();
    identity.parameters = parameters;
    identity.tensor_bytes = bytes;
    numbers::judge(tensors, identity);
}

fn unknown(tensors: &HeaderTensors) -> Identity {
    let named: Vec<&str> = tensors.names().take(3).collect();
    refused(
        "unknown",
        "a file of no known kind",
        match named.is_empty() {
            true => "it holds no tensors".to_string(),
            false => format!("its tensors begin with {}", named.join(", ")),
        },
        USE_STABLE_DIFFUSION,
    )
}

/// Whether this is an upscaler that can be used: it need not be added, and is no model by itself.
pub fn enlarges(identity: &Identity) -> bool {
    let said = identity.instead.as_deref();
    said.is_some_and(|said| said.starts_with(others::UPSCALE))
}

/// What the file or folder `path` is, without adding it.
///
/// # Errors
/// When it cannot be read, is damaged, or is no file of weights.
pub fn identify(path: &Path) -> Result<Identity, CatalogueError> {
    if path.is_dir() {
        return folders::identify_folder(path);
    }
    match header::read(path)? {
        header::FileHeader::Tensors(tensors) => Ok(identify_tensors(&tensors.unwrapped())),
        header::FileHeader::Gguf(header) => gguf::identify(path, &header),
    }
}

const USE_STABLE_DIFFUSION: &str = "use a checkpoint of Stable Diffusion 1.x, 2.x or XL";
const ELSEWHERE: &str =
    "use a checkpoint of Stable Diffusion 1.x, 2.x or XL here, or run this one in ComfyUI";

/// Something that can be used.
fn usable(is: WeightsKind, family: &str, called: &str, why: impl Into<String>) -> Identity {
    Identity {
        is,
        family: family.to_string(),
        called: called.to_string(),
        supported: true,
        why: why.into(),
        ..Identity::default()
    }
}

/// Something that is known for what it is, and cannot be used.
fn refused(family: &str, called: &str, why: impl Into<String>, instead: &str) -> Identity {
    Identity {
        is: WeightsKind::Refused,
        family: family.to_string(),
        called: called.to_string(),
        supported: false,
        why: why.into(),
        instead: Some(instead.to_string()),
        ..Identity::default()
    }
}
