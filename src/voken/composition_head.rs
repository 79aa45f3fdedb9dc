//! Who is in a picture and where: read from the states at its vokens for each name that the story
//! has, and from what the story's words say of that name. The names are any, since they are read by
//! the language model's own embeddings.

use crate::nn::{LayerNorm, Linear, Params, Result};
use crate::storyworld::MENTION_FEATURES;
use candle_core::{D, Device, Tensor};
use serde::{Deserialize, Serialize};

/// Epsilon of layer norm.
const EPS: f64 = 1e-5;

/// Sizes of a [`CompositionHead`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompositionHeadConfig {
    /// Width of queries and keys, and of the perceptron that reads what words say.
    pub width: usize,
}

/// Asks the states at the vokens of each name whether it is in the picture, and where.
///
/// Two bilinear forms: of each, queries are linear in the states at each voken and keys linear in
/// the mean embedding of the name's tokens; their products at the vokens are weighed and summed. To
/// both is added what a perceptron makes of [`crate::storyworld::mention_features`]: vokens know what
/// a story means, words who was named.
#[derive(Clone, Debug)]
pub struct CompositionHead {
    width: usize,
    states: LayerNorm,
    names: LayerNorm,
    /// To queries of both forms, `[H,2*width]`.
    query: Linear,
    /// To keys of both forms, `[H,2*width]`.
    key: Linear,
    /// Of the products at the vokens, `[vokens,1]`.
    present: Linear,
    /// The same for where it stands.
    place: Linear,
    /// Of the features of its mentions, to both forms.
    mentions: [Linear; 3],
}

/// A name as its tokens are read: as it stands within a sentence.
pub fn name_in_sentence(name: &str) -> String {
    format!(" {}", name.trim())
}

/// Mean embeddings of names, `[N,H]`, each given by the ids of its tokens, which `embed` makes
/// `[1,tokens,H]` of.
///
/// # Errors
/// No names, a name without tokens, or what `embed` fails with.
pub fn embed_names(
    names: &[impl AsRef<[u32]>],
    embed: impl Fn(&[u32]) -> Result<Tensor>,
) -> Result<Tensor> {
    let mean = |ids: &_| embed(AsRef::<[u32]>::as_ref(ids))?.squeeze(0)?.mean(0);
    Tensor::stack(&names.iter().map(mean).collect::<Result<Vec<_>>>()?, 0)
}

/// What the states at the vokens say of names.
#[derive(Clone, Debug)]
pub struct CompositionScores {
    /// Logits of its being in the picture, `[N]`.
    pub present: Tensor,
    /// Where it stands, from -1 (left) to 1 (right), `[N]`.
    pub place: Tensor,
}

impl CompositionHead {
    /// For states of `hidden` values at each of `vokens`.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub fn new(
        config: CompositionHeadConfig,
        hidden: usize,
        vokens: usize,
        p: &Params,
    ) -> Result<Self> {
        let p = p.pp("stage_head");
        let both = 2 * config.width;
        Ok(Self {
            width: config.width,
            states: p.pp("states_norm").layer_norm(hidden, EPS)?,
            names: p.pp("names_norm").layer_norm(hidden, EPS)?,
            query: p.pp("query").linear(hidden, both, true)?,
            key: p.pp("key").linear(hidden, both, true)?,
            present: p.pp("present").linear(vokens, 1, true)?,
            place: p.pp("place").linear(vokens, 1, true)?,
            mentions: [
                p.pp("mentions.0")
                    .linear(MENTION_FEATURES, config.width, true)?,
                p.pp("mentions.1")
                    .linear(config.width, config.width, true)?,
                p.pp("mentions.2").linear(config.width, 2, true)?,
            ],
        })
    }

    /// Both forms of what words say of names, `[N,2]`; `features` are [`MENTION_FEATURES`] of each.
    fn of_words(&self, features: &[f32], device: &Device) -> Result<Tensor> {
        let count = features.len() / MENTION_FEATURES;
        let features = Tensor::from_vec(features.to_vec(), (1, count, MENTION_FEATURES), device)?;
        let [first, second, last] = &self.mentions;
        let x = first.forward(&features)?.relu()?;
        let x = second.forward(&x)?.relu()?;
        last.forward(&x)?.squeeze(0)
    }

    /// Scores of names by what words say of them alone, with [`MENTION_FEATURES`] of each.
    ///
    /// # Errors
    /// When shapes don't fit.
    pub fn by_words(&self, features: &[f32], device: &Device) -> Result<CompositionScores> {
        let both = self.of_words(features, device)?;
        Ok(CompositionScores {
            present: both.narrow(1, 0, 1)?.flatten_all()?,
            place: both.narrow(1, 1, 1)?.flatten_all()?.tanh()?,
        })
    }

    /// Scores of names: `states [B,vokens,H]` are those at the vokens of pictures, `names [N,H]`
    /// mean embeddings, `pictures` says of each name in which picture it is looked for, and
    /// `features` are [`MENTION_FEATURES`] of each.
    ///
    /// # Errors
    /// When shapes don't fit.
    pub fn forward(
        &self,
        states: &Tensor,
        names: &Tensor,
        pictures: &[u32],
        features: &[f32],
    ) -> Result<CompositionScores> {
        let (count, vokens) = (pictures.len(), states.dim(1)?);
        let queries = self.query.forward(&self.states.forward(states)?)?;
        let which = Tensor::from_vec(pictures.to_vec(), count, states.device())?;
        let queries = queries
            .index_select(&which, 0)?
            .reshape((count, vokens, 2, self.width))?;
        let keys = self
            .key
            .forward(&self.names.forward(&names.unsqueeze(0)?)?)?;
        let keys = keys.reshape((count, 1, 2, self.width))?;
        let scale = (self.width as f64).sqrt().recip();
        let products = (queries.broadcast_mul(&keys)?.sum(D::Minus1)? * scale)?;
        let words = self.of_words(features, states.device())?;
        let form = |i: usize, weights: &Linear| -> Result<Tensor> {
            let at = products.narrow(2, i, 1)?.reshape((1, count, vokens))?;
            weights.forward(&at)?.flatten_all()? + words.narrow(1, i, 1)?.flatten_all()?
        };
        Ok(CompositionScores {
            present: form(0, &self.present)?,
            place: form(1, &self.place)?.tanh()?,
        })
    }
}
