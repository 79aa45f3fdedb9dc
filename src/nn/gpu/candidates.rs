//! Sampling of a token: of the logits of a vocabulary only those come back that are drawn from.

use super::device::Run;
use super::elementwise::{Spread, each};
use super::tensor::GpuTensor;
use crate::nn::Result;

/// Candidates that come back.
const KEEP: usize = 128;
/// Tokens that a workgroup sorts, and that one weighs.
const SORTED: usize = 1024;
const WEIGHED: usize = 4096;

/// The likeliest tokens of a vocabulary.
#[derive(Clone, Debug)]
pub struct TokenCandidates {
    /// Tokens and their logits, the likeliest first, of equals the first; 128, or as many as there
    /// are.
    pub tokens: Vec<(u32, f32)>,
    /// Sum of `exp((logit - largest) / temperature)` over the whole vocabulary, of tokens for which
    /// that is at least the least weight asked for and more than `exp(-16)`.
    pub total: f32,
}

impl GpuTensor {
    /// Keeps logits below `cap`, smoothly.
    ///
    /// # Errors
    /// A GPU that fails; so for all that follow.
    pub fn capped(&self, cap: f32) -> Result<Self> {
        each(self, "s.by * tanh(x[i] / s.by)", f64::from(cap))
    }

    /// Divides the logits (if positive, else multiplies them) of `tokens`, whole numbers held in
    /// f32, by `penalty`, or without one forbids these tokens. This tensor is changed in place.
    pub fn penalise(&self, tokens: &Self, penalty: Option<f32>) -> Result<()> {
        if tokens.count() == 0 {
            return Ok(());
        }
        let spread = Spread::of(self.gpu(), tokens.count());
        self.gpu()
            .run(&Run {
                kernel: &format!("penalties of tokens{}", spread.name),
                source: &|| spread.source(include_str!("kernels/penalise.wgsl")),
                sizes: &[
                    tokens.count() as u32,
                    self.count() as u32,
                    penalty.map_or(f32::NEG_INFINITY.to_bits(), |_| 0),
                    penalty.unwrap_or(1.0).to_bits(),
                ],
                steps: 1,
                reads: &[tokens.buffer()],
                writes: self.buffer(),
                groups: spread.groups,
                flops: tokens.count() as u64,
                bytes: 3 * tokens.bytes(),
                moved: 3 * tokens.bytes(),
            })
            .map_err(Into::into)
    }

    /// The likeliest tokens of one row of logits, and what all weigh at `temperature` where they
    /// weigh at least `least` (the likeliest weighs 1).
    pub fn candidates(&self, temperature: f32, least: f32) -> Result<TokenCandidates> {
        let gpu = self.gpu();
        let vocabulary = self.count();
        let mut sorted: Option<Self> = None;
        let mut count = vocabulary;
        loop {
            let groups = count.div_ceil(SORTED).max(1);
            let of = sorted.as_ref().unwrap_or(self);
            let kept = Self::new(gpu, vec![groups, KEEP, 2])?;
            let (name, item, pair) = match &sorted {
                None => ("candidates of logits", "f32", "vec2<u32>(i, rank(x[i]))"),
                Some(_) => ("candidates of candidates", "vec2<u32>", "x[i]"),
            };
            gpu.run(&Run {
                kernel: name,
                source: &|| {
                    include_str!("kernels/candidates.wgsl")
                        .replace("ITEM", item)
                        .replace("PAIR", pair)
                        .replace("KEEP_VALUE", &KEEP.to_string())
                },
                sizes: &[count as u32, 0, 0, 0],
                steps: 1,
                reads: &[of.buffer()],
                writes: kept.buffer(),
                groups: [groups as u32, 1, 1],
                flops: 55 * (groups * SORTED) as u64,
                bytes: of.bytes() + kept.bytes(),
                moved: of.bytes() + kept.bytes(),
            })?;
            count = groups * KEEP;
            sorted = Some(kept);
            if groups == 1 {
                break;
            }
        }
        let Some(sorted) = sorted else {
            candle_core::bail!("no tokens to draw from");
        };
        let groups = vocabulary.div_ceil(WEIGHED).max(1);
        let found = Self::new(gpu, vec![2 * KEEP + groups])?;
        gpu.run(&Run {
            kernel: "weights of tokens",
            source: &|| {
                include_str!("kernels/weigh_tokens.wgsl").replace("KEEP_VALUE", &KEEP.to_string())
            },
            sizes: &[vocabulary as u32, temperature.to_bits(), least.to_bits(), 0],
            steps: 1,
            reads: &[self.buffer(), sorted.buffer()],
            writes: found.buffer(),
            groups: [groups as u32, 1, 1],
            flops: 4 * vocabulary as u64,
            bytes: self.bytes() + sorted.bytes() + found.bytes(),
            moved: self.bytes() + sorted.bytes() + found.bytes(),
        })?;
        let words = found.words()?;
        let (pairs, parts) = words.split_at(2 * KEEP);
        let tokens = pairs
            .chunks_exact(2)
            .map(|pair| (pair[0], f32::from_bits(pair[1])));
        let total: f64 = parts
            .iter()
            .map(|part| f64::from(f32::from_bits(*part)))
            .sum();
        Ok(TokenCandidates {
            tokens: tokens.take(vocabulary).collect(),
            total: total as f32,
        })
    }
}
