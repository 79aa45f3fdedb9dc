//! Sizes of the part between the language model and the diffusion model. The defaults are the
//! reference implementation's, which has them in its code.

use crate::llm::float::LoraConfig;
use crate::nn::Result;
use crate::vision::VisionConfig;
use serde::{Deserialize, Serialize};

/// The feature mapper: an encoder-decoder transformer (PyTorch's `nn.Transformer`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MapperConfig {
    /// Width, which is that of the diffusion model's text states.
    pub d_model: usize,
    /// Attention heads.
    pub nhead: usize,
    /// Encoder layers.
    pub encoder_layers: usize,
    /// Decoder layers.
    pub decoder_layers: usize,
    /// Width of the feed-forward layers.
    pub dim_feedforward: usize,
    /// Activation of the feed-forward layers; `relu` is the only one.
    pub activation: String,
    /// Whether layer norm comes before attention and feed-forward (pre-norm).
    pub norm_first: bool,
    /// Epsilon of layer norm.
    pub layer_norm_eps: f64,
    /// Tokens of its output, each with a learned query.
    pub prompt_tokens: usize,
    /// Whether the last of them is the vector that stands for the whole, where the UNet has a
    /// class embedding for it.
    pub pooled: bool,
}

impl Default for MapperConfig {
    fn default() -> Self {
        Self {
            d_model: 1024,
            nhead: 8,
            encoder_layers: 4,
            decoder_layers: 4,
            dim_feedforward: 4096,
            activation: "relu".into(),
            norm_first: true,
            layer_norm_eps: 1e-5,
            prompt_tokens: 77,
            pooled: false,
        }
    }
}

impl MapperConfig {
    /// This configuration for a decoder sequence of `shape [1,tokens,width]`, where a file has one: it says
    /// both sizes itself.
    pub fn for_prompt(mut self, shape: Option<&[usize]>) -> Self {
        if let Some(&[_, tokens, width]) = shape {
            (self.prompt_tokens, self.d_model) = (tokens, width);
        }
        self
    }

    /// # Errors
    /// One sentence naming the first size that can't be.
    pub fn check(&self) -> Result<()> {
        let fits = [
            (self.d_model > 0, "d_model"),
            (
                self.nhead > 0 && self.d_model.is_multiple_of(self.nhead.max(1)),
                "nhead",
            ),
            (self.dim_feedforward > 0, "dim_feedforward"),
            (self.activation == "relu", "activation"),
            (self.norm_first, "norm_first"),
            (
                self.prompt_tokens > usize::from(self.pooled),
                "prompt_tokens",
            ),
        ];
        match fits.iter().find(|(ok, _)| !ok) {
            Some((_, name)) => candle_core::bail!(
                "the feature mapper's {name} has a value that isn't supported; correct its configuration"
            ),
            None => Ok(()),
        }
    }
}

/// All sizes that no file of the public weights has, because the reference has them in its code.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReferenceSizes {
    /// Image encoder, Q-Former and projection.
    #[serde(flatten)]
    pub vision: VisionConfig,
    /// Voken feature mapper.
    pub mapper: MapperConfig,
    /// LoRA adapters of the language model.
    pub lora: LoraConfig,
    /// Vokens that make a picture.
    pub voken_count: usize,
}

impl Default for ReferenceSizes {
    fn default() -> Self {
        Self {
            vision: VisionConfig::default(),
            mapper: MapperConfig::default(),
            lora: LoraConfig::default(),
            voken_count: 8,
        }
    }
}

/// The ids of the tokens that were added to a language model's vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VokenIds {
    /// The id of `[IMG0]`; the other vokens follow.
    pub first: u32,
    /// How many vokens make a picture.
    pub vokens: u32,
    /// The id that stands for a picture in a prompt, `<ImageHere>`.
    pub picture: u32,
    /// The id whose embedding begins every text.
    pub bos: u32,
}

impl VokenIds {
    /// Where the vokens and, behind them, `<ImageHere>` are the last of `rows` tokens.
    ///
    /// # Errors
    /// When there are fewer rows than that.
    pub fn at_the_end(rows: usize, vokens: usize, bos: u32) -> Result<Self> {
        let first = rows.checked_sub(vokens + 1).filter(|_| vokens > 0);
        let ids = first.and_then(|f| Some((u32::try_from(f).ok()?, u32::try_from(vokens).ok()?)));
        match ids {
            Some((first, vokens)) => Ok(Self {
                first,
                vokens,
                picture: first + vokens,
                bos,
            }),
            None => candle_core::bail!(
                "a vocabulary of {rows} tokens has no room for {vokens} vokens; use the weights that were trained with them"
            ),
        }
    }

    /// The vokens' ids in order.
    pub fn ids(&self) -> Vec<u32> {
        (self.first..self.first + self.vokens).collect()
    }

    /// How many tokens were added.
    pub fn added(&self) -> usize {
        self.vokens as usize + 1
    }
}
