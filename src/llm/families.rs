//! The families of language models that are read, one entry each: what a network does that its
//! file does not say. Names are llama.cpp's (`general.architecture`).

/// Which dimensions of a head rotary position embedding pairs: llama.cpp's `NORM` and `NEOX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeType {
    /// Neighbours; the converter orders weights so. llama.cpp's NORMAL.
    Neighbours,
    /// Those of the first and of the second half. llama.cpp's NEOX.
    Halves,
}

/// Which layers attend within the file's sliding window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlidingWindow {
    All,
    /// All but every n-th.
    AllButEvery(usize),
    /// It is not known, so that a window is refused.
    Unknown,
}

/// What the feed-forward part does between its products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedForwardActivation {
    /// `silu(gate) * up`
    Silu,
    /// `gelu(gate) * up`, by the tangent
    GeluTanh,
    /// gpt-oss: `gate * sigmoid(1.702 gate) * (up + 1)`, both clamped
    Clamped,
}

/// What the networks of an architecture have in common.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ModelFamily {
    /// `general.architecture` in its files, such as `llama`.
    pub architecture: &'static str,
    /// How rotary position embedding pairs the numbers of a head.
    pub pairs: RopeType,
    /// Every n-th layer has no position embedding.
    pub still_every: Option<usize>,
    /// Layers with sliding-window attention.
    pub windows: SlidingWindow,
    /// The base of rotations in layers with a window, where the file says none and it is not the
    /// other layers'; the file's scaling is then theirs alone.
    pub local_rope_base: Option<f64>,
    /// Whether queries and keys of each head are normed.
    pub head_norms: bool,
    /// Whether queries, keys and values, and gates and what they gate, are one matrix each.
    pub fused: bool,
    /// The name of the norm before the feed-forward part.
    pub inner_norm: &'static str,
    /// Whether what attention and the feed-forward part give is normed, too.
    pub post_norms: bool,
    /// Activation of the feed-forward part.
    pub activation: FeedForwardActivation,
    /// Whether embeddings are multiplied with the root of their width.
    pub scales_embeddings: bool,
    /// Whether the file's soft caps are read.
    pub caps: bool,
    /// With so many layers scores are divided by the root of width / heads.
    pub layers_scaled_by_width: Option<usize>,
    /// Whether heads have a sink: a further logit whose weight is dropped.
    pub sinks: bool,
    /// Whether the feed-forward part is a mixture of experts: each token goes through the best ones,
    /// weighed by the softmax of their logits. (Over all of them and divided by the sum of the best
    /// ones', as Qwen says it, or over these only, as gpt-oss does, is the same.)
    pub experts: bool,
    /// Whether YaRN's range is rounded to whole dimensions.
    pub yarn_rounds: bool,
    /// Whether there are factors of frequencies for short and for long texts.
    pub long_factors: bool,
    /// The tokens between which a picture stands, where the family reads pictures.
    pub picture_marks: Option<(&'static str, &'static str)>,
}

const PLAIN: ModelFamily = ModelFamily {
    architecture: "",
    pairs: RopeType::Halves,
    still_every: None,
    windows: SlidingWindow::Unknown,
    local_rope_base: None,
    head_norms: false,
    fused: false,
    inner_norm: "ffn_norm",
    post_norms: false,
    activation: FeedForwardActivation::Silu,
    scales_embeddings: false,
    caps: false,
    layers_scaled_by_width: None,
    sinks: false,
    experts: false,
    yarn_rounds: true,
    long_factors: false,
    picture_marks: None,
};

/// Every family.
pub const FAMILIES: &[ModelFamily] = &[
    // Llama 3, Mistral and Nemo, SmolLM2.
    ModelFamily {
        architecture: "llama",
        pairs: RopeType::Neighbours,
        windows: SlidingWindow::All,
        ..PLAIN
    },
    ModelFamily {
        architecture: "qwen2",
        ..PLAIN
    },
    ModelFamily {
        architecture: "qwen3",
        head_norms: true,
        ..PLAIN
    },
    ModelFamily {
        architecture: "qwen3moe",
        head_norms: true,
        experts: true,
        ..PLAIN
    },
    ModelFamily {
        architecture: "gemma2",
        windows: SlidingWindow::AllButEvery(2),
        post_norms: true,
        activation: FeedForwardActivation::GeluTanh,
        scales_embeddings: true,
        caps: true,
        layers_scaled_by_width: Some(46),
        ..PLAIN
    },
    ModelFamily {
        architecture: "gemma3",
        windows: SlidingWindow::AllButEvery(6),
        local_rope_base: Some(10_000.0),
        head_norms: true,
        post_norms: true,
        activation: FeedForwardActivation::GeluTanh,
        scales_embeddings: true,
        layers_scaled_by_width: Some(62),
        picture_marks: Some(("<start_of_image>", "<end_of_image>")),
        ..PLAIN
    },
    ModelFamily {
        architecture: "phi3",
        windows: SlidingWindow::All,
        fused: true,
        long_factors: true,
        ..PLAIN
    },
    ModelFamily {
        architecture: "smollm3",
        pairs: RopeType::Neighbours,
        still_every: Some(4),
        ..PLAIN
    },
    ModelFamily {
        architecture: "gpt-oss",
        windows: SlidingWindow::AllButEvery(2),
        inner_norm: "post_attention_norm",
        activation: FeedForwardActivation::Clamped,
        sinks: true,
        experts: true,
        yarn_rounds: false,
        ..PLAIN
    },
];

impl ModelFamily {
    /// The family of `general.architecture`.
    pub fn find(architecture: &str) -> Option<&'static ModelFamily> {
        FAMILIES.iter().find(|f| f.architecture == architecture)
    }

    /// The architectures that are read, for messages.
    pub fn names() -> String {
        let names: Vec<&str> = FAMILIES.iter().map(|f| f.architecture).collect();
        names.join(", ")
    }
}
