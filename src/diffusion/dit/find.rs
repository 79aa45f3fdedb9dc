//! Which part of such a model a file is, and where it lies.

use super::DitFamily;

/// What a file of its own can be to FLUX.1 or Z-Image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DitPart {
    /// CLIP's text encoder (ViT-L).
    Clip,
    /// T5's encoder.
    T5,
    /// Qwen3 as a text encoder.
    Qwen3,
    /// An autoencoder with latents of 16 channels.
    Vae,
}

impl DitPart {
    /// What it is called.
    pub fn label(self) -> &'static str {
        match self {
            DitPart::Clip => "its CLIP-L text encoder",
            DitPart::T5 => "its T5-XXL text encoder",
            DitPart::Qwen3 => "its Qwen3 text encoder",
            DitPart::Vae => "its VAE",
        }
    }

    /// Beginnings of its tensors' names in a whole checkpoint; none where it is a file of its own.
    fn prefixes(self) -> &'static [&'static str] {
        match self {
            DitPart::Clip => &["text_encoders.clip_l.transformer."],
            DitPart::T5 => &["text_encoders.t5xxl.transformer."],
            DitPart::Qwen3 => &["text_encoders.qwen3_4b.transformer."],
            DitPart::Vae => &["vae.", "first_stage_model."],
        }
    }

    fn marks(self) -> &'static [&'static str] {
        match self {
            DitPart::Clip => &[
                "text_model.embeddings.token_embedding.weight",
                "embeddings.token_embedding.weight",
            ],
            DitPart::T5 => &["encoder.block.0.layer.0.SelfAttention.q.weight"],
            DitPart::Qwen3 => &[
                "model.layers.0.self_attn.q_norm.weight",
                "layers.0.self_attn.q_norm.weight",
            ],
            DitPart::Vae => &["decoder.conv_in.weight"],
        }
    }

    /// Whether a checkpoint with tensors named so holds this part.
    pub fn is_in(self, has: &dyn Fn(&str) -> bool) -> bool {
        let prefixes = self.prefixes().iter().copied().chain([""]);
        let mut names = prefixes.flat_map(|prefix| {
            let marks = self.marks().iter();
            marks.map(move |mark| format!("{prefix}{mark}"))
        });
        names.any(|name| has(&name))
    }
}

impl DitFamily {
    /// The parts beside its transformer.
    pub fn parts(self) -> &'static [DitPart] {
        match self {
            DitFamily::Flux => &[DitPart::Clip, DitPart::T5, DitPart::Vae],
            DitFamily::ZImage => &[DitPart::Qwen3, DitPart::Vae],
        }
    }

    /// The family whose transformer a checkpoint with tensors named so holds.
    pub fn of(has: &dyn Fn(&str) -> bool) -> Option<DitFamily> {
        let marks = [
            (DitFamily::Flux, "double_blocks.0.img_attn.qkv.weight"),
            (
                DitFamily::Flux,
                "single_transformer_blocks.0.proj_mlp.weight",
            ),
            (DitFamily::ZImage, "cap_pad_token"),
        ];
        let found = marks
            .iter()
            .find(|(_, mark)| has(mark) || has(&format!("model.diffusion_model.{mark}")));
        found.map(|(family, _)| *family)
    }
}

/// The part that a file with tensors named so is, of those that `family` needs.
pub fn part_of(family: DitFamily, has: &dyn Fn(&str) -> bool) -> Option<DitPart> {
    let mut parts = family.parts().iter().copied();
    parts.find(|part| part.marks().iter().any(|mark| has(mark)))
}
