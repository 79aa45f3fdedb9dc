//! What a file or folder of weights is, in plain data: told by `catalogue`, kept with added models.

use serde::{Deserialize, Serialize};

/// What a file or folder can be used as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WeightsKind {
    /// A whole picture model.
    Model,
    /// A network of one without the rest.
    Component,
    /// An autoencoder (VAE) of a latent diffusion model.
    Vae,
    /// Low-rank adapters of a picture model.
    Lora,
    /// A ControlNet.
    Controlnet,
    /// An IP-Adapter.
    IpAdapter,
    /// An image encoder, as IP-Adapters need one.
    ImageEncoder,
    /// A textual inversion embedding.
    Embedding,
    /// A language model.
    LanguageModel,
    /// With which a language model sees pictures (mmproj).
    Projector,
    /// Writer and painter in one, such as MiniGPT-5 or a model folder of our own.
    Storyteller,
    /// Nothing that can be used here.
    #[default]
    Refused,
}

impl WeightsKind {
    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            WeightsKind::Model => "model",
            WeightsKind::Component => "component",
            WeightsKind::Vae => "vae",
            WeightsKind::Lora => "lora",
            WeightsKind::Controlnet => "controlnet",
            WeightsKind::IpAdapter => "ip-adapter",
            WeightsKind::ImageEncoder => "image-encoder",
            WeightsKind::Embedding => "embedding",
            WeightsKind::LanguageModel => "language-model",
            WeightsKind::Projector => "projector",
            WeightsKind::Storyteller => "storyteller",
            WeightsKind::Refused => "refused",
        }
    }
}

/// What a file or folder of weights is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Identity {
    /// What it is used as.
    pub is: WeightsKind,
    /// `sd1`, `sd2`, `sdxl`; an architecture; a name of what is refused.
    pub family: String,
    /// `epsilon` or `v_prediction`; `None` where the file does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prediction: Option<String>,
    /// Of a UNet: 9 for inpainting.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_channels: Option<usize>,
    /// Its name in the field, for people.
    pub called: String,
    /// Whether this program can use it.
    pub supported: bool,
    /// The tensors and shapes, or the settings, that tell.
    pub why: String,
    /// What to do, where it is not supported or does not stand alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instead: Option<String>,
    /// How most of its numbers are stored, such as `f16`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precision: Option<String>,
    /// Pixels a side that a picture model was trained for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub picture_size: Option<u32>,
    /// Number of tensors.
    pub tensors: usize,
    /// Numbers in all tensors.
    pub parameters: u64,
    /// Bytes of all tensors.
    pub tensor_bytes: u64,
    /// Of a language model: its architecture, and the tokens that it was trained to read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arch: Option<String>,
    /// Of a language model: the longest text that it was trained on, in tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context_length: Option<usize>,
    /// What was taken where the file does not say.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}
