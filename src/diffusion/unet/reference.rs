//! References: pictures that a UNet draws from, read by the UNet itself.
//!
//! A reference's latents go through the same network, at timestep 0 and with a mark of their own
//! added to the time embedding. What enters each self-attention there joins the keys and values of
//! the same attention of the picture that is drawn (reference-only attention, as in
//! arXiv 2311.17117). Every token knows where in the picture it stands, those of a reference where
//! its subject is to stand: so a layout says who is where.

use super::transformer::ReferenceAttention;
use super::{Conditioning, Unet};
use crate::nn::{Array, Init, Mask, Params, Result, StoredArray, dims_of};
use candle_core::{Device, Tensor};
use std::cell::RefCell;

/// Channels of a position: sine and cosine of 8 wavelengths for x and as many for y.
const CHANNELS: usize = 32;
/// The shortest and the longest wavelength, in latents.
const WAVELENGTHS: [f32; 2] = [2.5, 64.0];
/// How loud a position is among what it is added to.
const LOUDNESS: f32 = 1.5;

/// Keys and values of references for each self-attention of a UNet, for a batch of pictures.
#[derive(Clone, Debug)]
pub struct References {
    /// By the number of the attention: `[B,R*T,C]`.
    tokens: Vec<StoredArray>,
    /// By level, `[B,R*T,32]`.
    positions: Vec<Tensor>,
    /// 1 where a picture sees that reference: `[B,R]`.
    seen: Vec<f32>,
    each: usize,
}

/// The latents of references, and where their subjects are to stand.
#[derive(Clone, Debug)]
pub struct ReferenceLatents {
    /// `[B*R,h,w,C]`: as many for each picture, its own side by side.
    pub latents: Tensor,
    /// Of each its top left corner in the latents of the picture: x, y.
    pub corners: Vec<[f32; 2]>,
    /// Which of them are left out, as guidance does.
    pub left_out: Vec<bool>,
}

/// Whether the self-attentions of a pass record references or attend to them.
#[derive(Clone, Copy)]
pub(super) enum ReferenceMode<'a> {
    /// Keep what would be seen of this picture.
    Keep(&'a RefCell<Vec<Option<StoredArray>>>),
    /// See these.
    See(&'a References),
}

/// Positions of the tokens of one pass, and its references where it has any.
#[derive(Clone, Copy)]
pub(super) struct TokenPositions<'a> {
    /// By level, `[1 or B,T,32]`.
    pub positions: &'a [Tensor],
    pub reading: Option<ReferenceMode<'a>>,
}

/// How self-attention takes positions and references in: loudness of a position in queries and
/// keys, and what marks the key of a reference.
#[derive(Clone, Debug)]
pub(super) struct Places {
    query: Tensor,
    key: Tensor,
    mark: Tensor,
    level: usize,
    /// The number of the attention in the network.
    number: usize,
}

/// Queries, keys and values of self-attention before their projections, and what is added behind.
pub(super) struct Joined<A> {
    /// `[B,T+R*T',C]`.
    pub tokens: A,
    pub query: A,
    pub key: A,
    pub mask: Mask,
}

impl Places {
    pub(super) fn new(p: &Params, channels: usize, level: usize, number: usize) -> Result<Self> {
        if !channels.is_multiple_of(CHANNELS) {
            candle_core::bail!("reference_attention needs channels that {CHANNELS} divides");
        }
        Ok(Self {
            query: p.tensor(&[channels], "position_query", Init::Ones)?,
            key: p.tensor(&[channels], "position_key", Init::Ones)?,
            mark: p.tensor(&[channels], "reference_key", Init::Zeros)?,
            level,
            number,
        })
    }

    /// `[1 or B,T,32]` -> `[1 or B,T,C]`: the same for every 32 channels, times `loudness [C]`.
    fn spread<A: Array>(&self, positions: &A, loudness: &Tensor) -> Result<A> {
        let times = loudness.dim(0)? / CHANNELS;
        let all = A::join(&vec![positions; times], 2)?;
        all.times(&positions.beside(loudness)?)
    }

    /// Joins what the picture's tokens `x [B,T,C]` see of themselves with the references.
    pub(super) fn join<A: Array>(&self, x: &A, placed: TokenPositions) -> Result<Joined<A>> {
        let missing = || candle_core::Error::Msg("a reference lacks an attention".into());
        let here = placed.positions.get(self.level).ok_or_else(missing)?;
        let here = &x.beside(here)?;
        let query = self.spread(here, &self.query)?;
        let key = self.spread(here, &self.key)?;
        match placed.reading {
            Some(ReferenceMode::See(references)) => {
                let [b, t, _] = dims_of(x)?;
                let there = references.positions.get(self.level).ok_or_else(missing)?;
                let tokens = references.tokens.get(self.number).ok_or_else(missing)?;
                let there = self.spread(&x.beside(there)?, &self.key)?;
                let there = there.plus(&x.beside(&self.mark)?)?;
                let tokens = x.beside_held(tokens)?;
                let ([_, _, c], [_, others, _]) = (dims_of(&key)?, dims_of(&tokens)?);
                let key = key.repeat_to(&[b, t, c])?;
                Ok(Joined {
                    tokens: A::join(&[x, &tokens], 1)?,
                    query,
                    key: A::join(&[&key, &there], 1)?,
                    mask: references.mask(t, others, &x.device())?,
                })
            }
            reading => {
                if let Some(ReferenceMode::Keep(kept)) = reading {
                    let mut kept = kept.borrow_mut();
                    if kept.len() <= self.number {
                        kept.resize(self.number + 1, None);
                    }
                    kept[self.number] = Some(x.clone().hold());
                }
                Ok(Joined {
                    tokens: x.clone(),
                    query,
                    key,
                    mask: Mask::None,
                })
            }
        }
    }
}

impl References {
    /// Which of `own` and `others` keys each picture sees.
    fn mask(&self, own: usize, others: usize, device: &Device) -> Result<Mask> {
        if self.seen.iter().all(|seen| *seen == 1.0) {
            return Ok(Mask::None);
        }
        let mut keys = Vec::new();
        for picture in self.seen.chunks(self.each) {
            keys.extend(std::iter::repeat_n(1f32, own));
            for seen in picture {
                keys.extend(std::iter::repeat_n(*seen, others / self.each));
            }
        }
        let batch = self.seen.len() / self.each;
        Ok(Mask::Keys(Tensor::from_vec(
            keys,
            (batch, own + others),
            device,
        )?))
    }
}

impl ReferenceLatents {
    /// How many there are for each of `batch` pictures.
    fn each(&self, batch: usize) -> Result<usize> {
        let n = self.latents.dim(0)?;
        if batch == 0
            || n == 0
            || n % batch != 0
            || self.corners.len() != n
            || self.left_out.len() != n
        {
            candle_core::bail!("{n} references can't be shared out to {batch} pictures");
        }
        Ok(n / batch)
    }
}

/// Sinusoids of places, in latents: `[n,t,32]` for `n` lists of `t` places.
fn sinusoids(places: &[Vec<[f32; 2]>], device: &Device) -> Result<Tensor> {
    let each = CHANNELS / 4;
    let [short, long] = WAVELENGTHS;
    let rate = |i: usize| {
        let wavelength = short * (long / short).powf(i as f32 / (each - 1) as f32);
        std::f32::consts::TAU / wavelength
    };
    let rates: Vec<f32> = (0..each).map(rate).collect();
    let mut values = Vec::new();
    for [x, y] in places.iter().flatten() {
        for at in [x, y] {
            values.extend(rates.iter().map(|r| LOUDNESS * (at * r).sin()));
            values.extend(rates.iter().map(|r| LOUDNESS * (at * r).cos()));
        }
    }
    let t = places.first().map_or(0, Vec::len);
    Tensor::from_vec(values, (places.len(), t, CHANNELS), device)
}

/// Positions of `h` x `w` latents with their corner at each of `corners`, level by level.
pub(super) fn positions(
    (h, w): (usize, usize),
    levels: usize,
    corners: &[[f32; 2]],
    device: &Device,
) -> Result<Vec<Tensor>> {
    (0..levels)
        .map(|level| {
            let stride = (1 << level) as f32;
            let (rows, columns) = (h.div_ceil(1 << level), w.div_ceil(1 << level));
            let middle = |i: usize| (i as f32 + 0.5) * stride;
            let places: Vec<Vec<[f32; 2]>> = corners
                .iter()
                .map(|[x, y]| {
                    (0..rows * columns)
                        .map(|i| [x + middle(i % columns), y + middle(i / columns)])
                        .collect()
                })
                .collect();
            sinusoids(&places, device)
        })
        .collect()
}

impl Unet {
    /// Reads references for a batch of pictures. `empty` is what the empty text is to this UNet,
    /// for a batch of one.
    ///
    /// # Errors
    /// A UNet without `reference_attention`, or shapes that don't fit.
    pub fn read_references(
        &self,
        references: &ReferenceLatents,
        batch: usize,
        empty: &Conditioning,
    ) -> Result<References> {
        let config = self.config();
        if !config.reference_attention {
            candle_core::bail!("this UNet can't draw from references");
        }
        let each = references.each(batch)?;
        let (n, h, w, _) = references.latents.dims4()?;
        let repeated = |t: &Tensor| {
            let mut shape = t.dims().to_vec();
            shape[0] = n;
            t.broadcast_as(shape)?.contiguous()
        };
        let conditioning = Conditioning {
            pooled: empty.pooled.as_ref().map(repeated).transpose()?,
            ..Conditioning::of_text(repeated(&empty.text)?)
        };
        let device = references.latents.device();
        let levels = config.block_out_channels.len();
        let places = positions((h, w), levels, &references.corners, device)?;
        let kept = RefCell::new(Vec::new());
        let placed = TokenPositions {
            positions: &places,
            reading: Some(ReferenceMode::Keep(&kept)),
        };
        let start = Tensor::zeros(n, candle_core::DType::F32, device)?;
        self.read(
            &references.latents,
            &start,
            &conditioning,
            ReferenceAttention::Nothing,
            Some(placed),
        )?;
        let together = |t: StoredArray| match t.dims() {
            &[_, t_each, c] => t.reshape(&[batch, each * t_each, c]),
            other => candle_core::bail!("an attention read {other:?}"),
        };
        let tokens = kept.into_inner().into_iter().map(|t| {
            let t = t.ok_or_else(|| candle_core::Error::Msg("an attention read nothing".into()))?;
            together(t)
        });
        let side_by_side = |t: &Tensor| {
            let (_, t_each, c) = t.dims3()?;
            t.reshape((batch, each * t_each, c))
        };
        let seen = |left_out: &bool| if *left_out { 0.0 } else { 1.0 };
        Ok(References {
            tokens: tokens.collect::<Result<_>>()?,
            positions: places.iter().map(side_by_side).collect::<Result<_>>()?,
            seen: references.left_out.iter().map(seen).collect(),
            each,
        })
    }
}
