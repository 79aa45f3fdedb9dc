//! Text, picture and caption losses.

use crate::diffusion::{LatentDistribution, NoiseSchedule, TextFeatures, Unet};
use crate::llm::float::FloatLlama;
use crate::nn::{NoiseSource, Result, mean_square};
use crate::voken::{CompositionScores, PaddedBatch, VokenModel, voken_states};
use candle_core::{D, Device, Tensor};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;

/// Weights of the losses, and their settings. The defaults are the reference's.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LossWeights {
    /// Weight of the text loss.
    pub text: f64,
    /// Weight of the image loss (noise prediction).
    pub image: f64,
    /// Weight of the caption loss (mapper's output against the text encoder's).
    pub caption: f64,
    /// Bound of min-SNR weighting (arXiv 2303.09556).
    pub min_snr: f64,
    /// Share of pictures that are learned from zero voken features, for guidance.
    pub drop: f64,
    /// Share of pictures whose noise is predicted. A caption's features are had almost for
    /// nothing, and say far more of a picture than one noise level of it: where time is short,
    /// more pictures with less noise teach more.
    pub denoised: f64,
    /// Weight of the stage loss (who is in a picture, and where).
    pub stage: f64,
}

impl Default for LossWeights {
    fn default() -> Self {
        Self {
            text: 0.01,
            image: 1.0,
            caption: 0.1,
            min_snr: 5.0,
            drop: 0.1,
            denoised: 1.0,
            stage: 1.0,
        }
    }
}

/// The frozen diffusion model of the image loss.
#[derive(Clone, Copy)]
pub struct Denoiser<'a> {
    /// The frozen UNet.
    pub unet: &'a Unet,
    /// Noise schedule that it was trained with.
    pub schedule: &'a NoiseSchedule,
    /// What the autoencoder's latents are multiplied by.
    pub scaling_factor: f64,
    /// The empty caption's states `[1,T,D]`, which stand beside dropped conditions.
    pub empty_caption: &'a Tensor,
}

/// What is random in a loss, one of each for every picture.
#[derive(Clone, Debug)]
pub struct LossNoise {
    /// Whether the condition is dropped.
    pub drop: Vec<bool>,
    /// For the draw from the autoencoder's distribution, `[S,h,w,c]`.
    pub posterior: Tensor,
    /// What is added to the latents, `[S,h,w,c]`.
    pub noise: Tensor,
    /// Timestep of each sample.
    pub timesteps: Vec<usize>,
    /// Whether the noise is predicted.
    pub denoised: Vec<bool>,
}

impl LossNoise {
    /// For `pictures` latents of `shape [h,w,c]`.
    ///
    /// # Errors
    /// When the device can't hold them.
    pub fn new(
        pictures: usize,
        shape: [usize; 3],
        weights: &LossWeights,
        timesteps: usize,
        rng: &mut ChaCha8Rng,
        device: &Device,
    ) -> Result<Self> {
        let drop = (0..pictures)
            .map(|_| rng.random::<f64>() < weights.drop)
            .collect();
        let [h, w, c] = shape;
        let mut source = NoiseSource::new(rng.random(), 0);
        Ok(Self {
            drop,
            posterior: source.tensor(&[pictures, h, w, c], device)?,
            noise: source.tensor(&[pictures, h, w, c], device)?,
            timesteps: (0..pictures)
                .map(|_| rng.random_range(0..timesteps))
                .collect(),
            denoised: (0..pictures)
                .map(|_| rng.random::<f64>() < weights.denoised)
                .collect(),
        })
    }
}

/// Scalars; `total` is what is minimised.
#[derive(Clone, Debug)]
pub struct Losses {
    /// Weighted sum of the losses.
    pub total: Tensor,
    /// Cross entropy of the texts.
    pub text: Tensor,
    /// Where the batch has pictures to learn.
    pub image: Option<Tensor>,
    /// Where all of them have captions.
    pub caption: Option<Tensor>,
}

/// The losses of a batch. `targets` are the autoencoder's distributions of the picture that each
/// sample is to draw (`[B,h,w,c]`; anything for samples without), `captions` the text encoder's
/// states of each sample's caption `[B,T,D]`, or none.
///
/// # Errors
/// Shapes that don't fit, or vokens that are cut off.
pub fn losses(
    model: &VokenModel,
    denoiser: &Denoiser,
    batch: &PaddedBatch,
    targets: &LatentDistribution,
    captions: Option<&Tensor>,
    draws: &LossNoise,
    weights: &LossWeights,
) -> Result<Losses> {
    let hidden = model.llama.forward(&batch.embeddings, None)?;
    let text = text_loss(&model.llama, &hidden, &batch.labels)?;
    let mut total = (&text * weights.text)?;
    let spans = batch.spans(&model.vocabulary);
    if spans.is_empty() {
        return Ok(Losses {
            total,
            text,
            image: None,
            caption: None,
        });
    }
    if spans.len() != draws.drop.len() || spans.len() != draws.timesteps.len() {
        candle_core::bail!(
            "{} pictures are learned with draws for {}",
            spans.len(),
            draws.drop.len()
        );
    }
    let states = voken_states(&hidden, &spans, &model.vocabulary)?;
    let condition = model.mapper.forward(&drop_rows(&states, &draws.drop)?)?;
    let samples: Vec<u32> = spans.iter().map(|(sample, _)| *sample as u32).collect();
    let samples = Tensor::from_vec(samples, spans.len(), hidden.device())?;
    let targets = LatentDistribution {
        mean: targets.mean.index_select(&samples, 0)?,
        logvar: targets.logvar.index_select(&samples, 0)?,
    };
    let image = image_loss(denoiser, &condition, &targets, draws, weights)?;
    total = (total + (&image * weights.image)?)?;
    let caption = match captions {
        None => None,
        Some(captions) => {
            let captions = captions.index_select(&samples, 0)?;
            let wanted = replace_rows(&captions, &draws.drop, denoiser.empty_caption)?;
            let caption = caption_loss(&condition, &wanted)?;
            total = (total + (&caption * weights.caption)?)?;
            Some(caption)
        }
    };
    Ok(Losses {
        total,
        text,
        image: Some(image),
        caption,
    })
}

/// Mean cross-entropy over all places of the batch that have a label, each predicted from the
/// state `[B,T,width]` before it.
///
/// # Errors
/// When no place has a label.
pub fn text_loss(
    llama: &FloatLlama,
    hidden: &Tensor,
    labels: &[Vec<Option<u32>>],
) -> Result<Tensor> {
    let (b, t, c) = hidden.dims3()?;
    let (mut places, mut wanted) = (Vec::new(), Vec::new());
    for (sample, labels) in labels.iter().enumerate() {
        for (at, label) in labels.iter().enumerate().skip(1) {
            if let Some(label) = label {
                places.push((sample * t + at - 1) as u32);
                wanted.push(*label);
            }
        }
    }
    let n = places.len();
    if n == 0 {
        candle_core::bail!("none of the batch's texts has a word to learn; check the data");
    }
    let places = Tensor::from_vec(places, n, hidden.device())?;
    let states = hidden.reshape((b * t, c))?.index_select(&places, 0)?;
    word_loss(llama, &states, wanted)
}

/// Mean cross-entropy of the words `wanted` after the states `[n,width]`.
///
/// # Errors
/// When shapes don't fit.
pub fn word_loss(llama: &FloatLlama, states: &Tensor, wanted: Vec<u32>) -> Result<Tensor> {
    if let Some(loss) = llama.frozen_cross_entropy(states, &wanted)? {
        return Ok(loss);
    }
    let n = wanted.len();
    let logits = llama.logits(states)?;
    // The largest logit only keeps the exponentials in range.
    let largest = logits.max_keepdim(D::Minus1)?.detach();
    let shifted = logits.broadcast_sub(&largest)?;
    let log_sum = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?;
    let wanted = Tensor::from_vec(wanted, (n, 1), states.device())?;
    (log_sum - shifted.gather(&wanted, D::Minus1)?)?.mean_all()
}

/// Latent diffusion loss of `condition [S,T,D]` on the pictures of `targets`: the squared error
/// of the predicted noise, weighted by min-SNR with bound `weights.min_snr` (infinity weighs all
/// alike). Of the share `weights.denoised` of the pictures, it is an unbiased estimate for all.
///
/// # Errors
/// When shapes don't fit.
pub fn image_loss(
    denoiser: &Denoiser,
    condition: &Tensor,
    targets: &LatentDistribution,
    draws: &LossNoise,
    weights: &LossWeights,
) -> Result<Tensor> {
    let condition = TextFeatures::of_states(condition.clone())?;
    denoising_loss(denoiser, &condition, targets, draws, weights)
}

/// As [`image_loss`], of conditions with their vector for the whole.
///
/// # Errors
/// When shapes don't fit.
pub fn denoising_loss(
    denoiser: &Denoiser,
    condition: &TextFeatures,
    targets: &LatentDistribution,
    draws: &LossNoise,
    weights: &LossWeights,
) -> Result<Tensor> {
    let device = draws.noise.device();
    let of: Vec<u32> = (0u32..)
        .zip(&draws.denoised)
        .filter_map(|(i, denoised)| denoised.then_some(i))
        .collect();
    if of.is_empty() {
        return Tensor::zeros((), draws.noise.dtype(), device);
    }
    let timesteps: Vec<usize> = of.iter().map(|i| draws.timesteps[*i as usize]).collect();
    let of = Tensor::new(of, device)?;
    let chosen = |all: &Tensor| all.index_select(&of, 0);
    let targets = LatentDistribution {
        mean: chosen(&targets.mean)?,
        logvar: chosen(&targets.logvar)?,
    };
    let latents = (targets.sample(&chosen(&draws.posterior)?)? * denoiser.scaling_factor)?;
    let noise = chosen(&draws.noise)?;
    let noisy = denoiser.schedule.add_noise(&latents, &noise, &timesteps)?;
    let times: Vec<f32> = timesteps.iter().map(|t| *t as f32).collect();
    let times = Tensor::new(times, device)?;
    let states = chosen(&condition.states)?;
    let pooled = chosen(&condition.pooled)?;
    let answer = denoiser
        .unet
        .forward(&noisy, &times, &states, Some(&pooled))?;
    let wanted = denoiser.schedule.target(&latents, &noise, &timesteps)?;
    let error = (answer - wanted)?.sqr()?.flatten_from(1)?.mean(1)?;
    let snr = denoiser
        .schedule
        .min_snr_weights(&timesteps, weights.min_snr);
    let expected = weights.denoised.min(1.0) * draws.denoised.len() as f64;
    (error * Tensor::new(snr, device)?)?.sum_all()? / expected
}

/// Mean squared error between conditions and the states of captions, both `[S,T,D]`.
///
/// # Errors
/// When their shapes differ.
pub fn caption_loss(condition: &Tensor, captions: &Tensor) -> Result<Tensor> {
    mean_square(&(condition - captions)?)
}

/// What the stage head misses: the mean over names of the cross entropy of their being shown, and
/// of the squared distance of those who are from their `places`; `None` is who is not shown.
///
/// # Errors
/// When there are not as many places as scores.
pub fn composition_loss(scores: &CompositionScores, places: &[Option<f32>]) -> Result<Tensor> {
    let (count, device) = (places.len(), scores.present.device());
    let of = |value: &dyn Fn(&Option<f32>) -> f32| {
        Tensor::from_vec(
            places.iter().map(value).collect::<Vec<f32>>(),
            count,
            device,
        )
    };
    let shown = of(&|place| f32::from(place.is_some()))?;
    let wanted = of(&|place| place.unwrap_or(0.0))?;
    // log(1 + exp(x)) - shown * x, as max(x, 0) + log(1 + exp(-|x|)) so that nothing overflows.
    let x = &scores.present;
    let softplus = (x.relu()? + (x.abs()?.neg()?.exp()? + 1.0)?.log()?)?;
    let entropy = (softplus - (x * &shown)?)?;
    let apart = ((&scores.place - wanted)?.sqr()? * shown)?;
    (entropy + apart)?.mean_all()
}

/// `x [S,..]` with zeros where a condition is dropped.
pub(super) fn drop_rows(x: &Tensor, drop: &[bool]) -> Result<Tensor> {
    let keep: Vec<f32> = drop.iter().map(|d| f32::from(!*d)).collect();
    x.broadcast_mul(&Tensor::from_vec(keep, (drop.len(), 1, 1), x.device())?)
}

/// `x [S,T,D]` with `other [1,T,D]` where a condition is dropped.
pub(super) fn replace_rows(x: &Tensor, drop: &[bool], other: &Tensor) -> Result<Tensor> {
    let rows: Vec<Tensor> = drop
        .iter()
        .enumerate()
        .map(|(i, drop)| match drop {
            true => Ok(other.clone()),
            false => x.narrow(0, i, 1),
        })
        .collect::<Result<_>>()?;
    Tensor::cat(&rows, 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn a_tenth_of_the_conditions_is_dropped_and_a_seed_draws_the_same_again() {
        let weights = LossWeights::default();
        let draw = || {
            let mut rng = ChaCha8Rng::seed_from_u64(3);
            LossNoise::new(2000, [1, 1, 2], &weights, 1000, &mut rng, &Device::Cpu).unwrap()
        };
        let one = draw();
        let dropped = one.drop.iter().filter(|d| **d).count();
        assert!((150..250).contains(&dropped), "{dropped}");
        assert!(one.timesteps.iter().all(|t| *t < 1000));
        let reaches = |from: usize, to: usize| one.timesteps.iter().any(|t| (from..to).contains(t));
        assert!(reaches(0, 100) && reaches(900, 1000));
        assert_eq!(one.noise.dims(), [2000, 1, 1, 2]);
        let again = draw();
        assert_eq!((one.drop, one.timesteps), (again.drop, again.timesteps));
        let same = (one.noise - again.noise)
            .unwrap()
            .abs()
            .unwrap()
            .max_all()
            .unwrap();
        assert_eq!(same.to_scalar::<f32>().unwrap(), 0.0);
    }

    #[test]
    fn dropped_conditions_are_zero_and_their_captions_empty() {
        let x = Tensor::ones((2, 1, 2), candle_core::DType::F32, &Device::Cpu).unwrap();
        let dropped = drop_rows(&x, &[true, false]).unwrap();
        assert_eq!(
            dropped.to_vec3::<f32>().unwrap(),
            [[[0.0, 0.0]], [[1.0, 1.0]]]
        );
        let empty = Tensor::new(&[[[7f32, 8.0]]], &Device::Cpu).unwrap();
        let replaced = replace_rows(&x, &[false, true], &empty).unwrap();
        assert_eq!(
            replaced.to_vec3::<f32>().unwrap(),
            [[[1.0, 1.0]], [[7.0, 8.0]]]
        );
    }
}
