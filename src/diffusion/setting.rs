//! Which of the settings that a model knows its conditioning says: where, when and in what weather.

use candle_core::{Device, Tensor};

use super::{CaptionTokenizer, TextEncoder};
use crate::nn::Result;
use crate::storyworld::library::SceneSetting;

/// Descriptions that are encoded at a time.
const AT_ONCE: usize = 64;

/// Every setting of the library with what the text encoder makes of its description.
#[derive(Clone, Debug)]
pub struct SettingFeatures {
    settings: Vec<SceneSetting>,
    /// `[N,(T+1)*D]`, the vector for the whole included.
    features: Tensor,
    /// Half the square of each one's length, `[1,N]`.
    lengths: Tensor,
}

impl SettingFeatures {
    /// Encodes all descriptions with `encoder`, which reads the ids of `tokenizer`.
    ///
    /// # Errors
    /// When the text encoder fails.
    pub fn of(
        encoder: &TextEncoder,
        tokenizer: &CaptionTokenizer,
        device: &Device,
    ) -> Result<Self> {
        let settings: Vec<SceneSetting> = SceneSetting::all().collect();
        let described: Vec<String> = settings.iter().map(SceneSetting::description).collect();
        let mut features = Vec::new();
        for part in described.chunks(AT_ONCE) {
            let ids: Vec<u32> = part
                .iter()
                .flat_map(|text| tokenizer.encode(text))
                .collect();
            let ids = Tensor::from_vec(ids, (part.len(), tokenizer.length()), device)?;
            features.push(encoder.forward(&ids)?.joined()?.flatten_from(1)?);
        }
        let features = Tensor::cat(&features, 0)?;
        let lengths = (features.sqr()?.sum(1)? * 0.5)?.unsqueeze(0)?;
        Ok(Self {
            settings,
            features,
            lengths,
        })
    }

    /// The setting whose features are nearest to each of `conditions [B,T+1,D]`; `nearer` is by how much
    /// half the squared distance of one counts less, since something else speaks for it.
    ///
    /// # Errors
    /// When shapes don't fit.
    pub fn nearest(
        &self,
        conditions: &Tensor,
        nearer: impl Fn(&SceneSetting) -> f32,
    ) -> Result<Vec<SceneSetting>> {
        let nearer: Vec<f32> = self.settings.iter().map(nearer).collect();
        let nearer = Tensor::from_vec(nearer, (1, self.settings.len()), conditions.device())?;
        let conditions = conditions.flatten_from(1)?;
        // |a - b|^2 / 2 without what is the same for all b.
        let far = self
            .lengths
            .sub(&nearer)?
            .broadcast_sub(&conditions.matmul(&self.features.t()?)?)?;
        let rows: Vec<u32> = far.argmin(1)?.to_vec1()?;
        Ok(rows.iter().map(|i| self.settings[*i as usize]).collect())
    }
}
