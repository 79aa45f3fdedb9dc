//! Scenes by number, and what they and their references are in latents.

use super::ReferenceSettings;
use crate::diffusion::{ReferenceLatents, Vae};
use crate::storyworld::Split;
use crate::storyworld::library::{
    CANVAS_CELLS, CELLS, Composition, CompositionOptions, CompositionRenderer, Figure, MAX_FIGURES,
};
use crate::train::Result;
use crate::train::autoencoder::to_signed;
use candle_core::{Device, Tensor};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use std::collections::HashMap;

/// A scene: how many figures it shows, and its number among those of as many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key {
    pub count: usize,
    pub number: u64,
    pub held_out: bool,
}

impl Key {
    /// Whether nobody stands where the scene's only figure would, and its reference is empty: how
    /// places without anybody are learnt.
    fn is_empty(&self) -> bool {
        self.count == 1 && !self.held_out && self.number % 8 == 7
    }
}

/// A scene met before.
pub(super) struct Seen {
    /// With the figure of an empty scene, too.
    pub composition: Composition,
    latents: Vec<f32>,
    /// Of each figure, from left to right.
    references: Vec<Vec<f32>>,
}

/// Draws scenes by number and keeps their latents.
pub(super) struct Scenes {
    pub renderer: CompositionRenderer,
    pub vae: Vae,
    seen: HashMap<Key, Seen>,
    seed: u64,
    scenes: u64,
    shares: [f64; MAX_FIGURES],
    recoloured: f64,
    pub channels: usize,
    device: Device,
}

/// Pictures encoded at once.
const TOGETHER: usize = 16;

impl Scenes {
    pub(super) fn new(s: &ReferenceSettings, vae: Vae, device: &Device) -> Self {
        let total: f64 = s.figures.iter().sum();
        Self {
            renderer: CompositionRenderer::new(s.size as u32),
            seen: HashMap::new(),
            seed: s.seed,
            scenes: s.scenes,
            shares: s.figures.map(|share| share / total),
            recoloured: s.recoloured,
            channels: vae.config().latent_channels,
            device: device.clone(),
            vae,
        }
    }

    /// How many figures the scenes of a step show, `at` being anywhere in 0..1.
    pub(super) fn count(&self, mut at: f64) -> usize {
        let place = self.shares.iter().position(|share| {
            at -= share;
            at < 0.0
        });
        place.map_or(1, |i| i + 1)
    }

    /// How many training scenes show `count` figures.
    pub(super) fn many(&self, count: usize) -> u64 {
        (self.scenes as f64 * self.shares[count - 1]).ceil() as u64
    }

    /// One of the scenes with `count` figures, `at` being anywhere in 0..1.
    pub(super) fn key(&self, count: usize, at: f64) -> Key {
        let many = self.many(count) as f64;
        Key {
            count,
            number: (at * many) as u64,
            held_out: false,
        }
    }

    fn composition(&self, key: &Key) -> Composition {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let kind = 2 * key.count as u64 + u64::from(key.held_out);
        rng.set_stream((kind << 40) + key.number);
        let options = CompositionOptions {
            figures: key.count..=key.count,
            split: match key.held_out {
                true => Split::HeldOut,
                false => Split::Training,
            },
            recoloured: match key.held_out {
                true => 0.0,
                false => self.recoloured,
            },
        };
        let mut made = Composition::random(&mut rng, &options);
        if key.held_out {
            // As large and as turned as authors' pictures are shown.
            for figure in &mut made.figures {
                let corner = (figure.x, figure.y);
                *figure = Figure::new(figure.subject.clone(), key.count, 1.0, corner);
            }
        }
        made
    }

    /// Encodes those scenes that are new.
    pub(super) fn encode_new(&mut self, keys: &[Key]) -> Result<()> {
        let mut new: Vec<Key> = keys
            .iter()
            .copied()
            .filter(|key| !self.seen.contains_key(key))
            .collect();
        new.sort_unstable();
        new.dedup();
        for keys in new.chunks(TOGETHER) {
            let drawn: Vec<_> = keys
                .par_iter()
                .map(|key| {
                    let composition = self.composition(key);
                    let mut shown = composition.clone();
                    if key.is_empty() {
                        shown.figures.clear();
                    }
                    let picture = to_signed(&self.renderer.draw(&shown));
                    let reference = |figure| match key.is_empty() {
                        true => to_signed(&self.renderer.empty_reference()),
                        false => to_signed(&self.renderer.reference(figure)),
                    };
                    let references: Vec<_> = composition.figures.iter().map(reference).collect();
                    (composition, picture, references)
                })
                .collect();
            let pictures: Vec<&[f32]> = drawn.iter().map(|(_, p, _)| &p[..]).collect();
            let mut latents = self.encode(&pictures)?.into_iter();
            let alone: Vec<&[f32]> = drawn
                .iter()
                .flat_map(|(_, _, references)| references.iter().map(|r| &r[..]))
                .collect();
            let mut alone = self.encode(&alone)?.into_iter();
            for (key, (composition, _, references)) in keys.iter().zip(drawn) {
                let seen = Seen {
                    latents: latents.next().unwrap_or_default(),
                    references: alone.by_ref().take(references.len()).collect(),
                    composition,
                };
                self.seen.insert(*key, seen);
            }
        }
        Ok(())
    }

    /// Square pictures of one size in latents.
    fn encode(&self, pictures: &[&[f32]]) -> Result<Vec<Vec<f32>>> {
        let all: Vec<f32> = pictures.concat();
        let side = (all.len() / pictures.len().max(1) / 3).isqrt();
        let pixels = Tensor::from_vec(all, (pictures.len(), side, side, 3), &self.device)?;
        let latents = (self.vae.encode(&pixels)?.mean * self.vae.config().scaling_factor)?;
        let rows = (0..pictures.len()).map(|i| Ok(latents.get(i)?.flatten_all()?.to_vec1()?));
        rows.collect()
    }

    /// A scene that was met.
    pub(super) fn seen(&self, key: &Key) -> &Seen {
        &self.seen[key]
    }

    /// `[B,16,16,C]`.
    pub(super) fn latents(&self, keys: &[Key]) -> Result<Tensor> {
        let all: Vec<f32> = keys
            .iter()
            .flat_map(|key| self.seen[key].latents.iter().copied())
            .collect();
        let side = CELLS as usize;
        let shape = (keys.len(), side, side, self.channels);
        Ok(Tensor::from_vec(all, shape, &self.device)?)
    }

    /// The references of scenes with as many figures each; of some scenes all are left out.
    pub(super) fn references(&self, keys: &[Key], left_out: &[bool]) -> Result<ReferenceLatents> {
        let (mut all, mut corners, mut out) = (Vec::new(), Vec::new(), Vec::new());
        for (key, left_out) in keys.iter().zip(left_out) {
            let seen = &self.seen[key];
            for (figure, latents) in seen.composition.figures.iter().zip(&seen.references) {
                all.extend_from_slice(latents);
                corners.push([figure.x as f32, figure.y as f32]);
                out.push(*left_out);
            }
        }
        let side = CANVAS_CELLS as usize;
        let shape = (corners.len(), side, side, self.channels);
        Ok(ReferenceLatents {
            latents: Tensor::from_vec(all, shape, &self.device)?,
            corners,
            left_out: out,
        })
    }

    /// `[B,16,16,C]`: each sample's min-SNR weight, times more inside the boxes, the boxes' extra
    /// weight evened out over the batch.
    pub(super) fn weights(&self, keys: &[Key], snr: &[f32], inside: f32) -> Result<Tensor> {
        let n = CELLS as usize;
        let mut maps = Vec::with_capacity(keys.len());
        for key in keys {
            let mut map = vec![1f32; n * n];
            for b in self.seen[key].composition.boxes(n as u32 * 16) {
                for y in (b.y / 16) as usize..((b.y + b.height).div_ceil(16) as usize).min(n) {
                    for x in (b.x / 16) as usize..((b.x + b.width).div_ceil(16) as usize).min(n) {
                        map[y * n + x] = inside;
                    }
                }
            }
            maps.push(map);
        }
        let mean = maps.iter().flatten().sum::<f32>() / (keys.len() * n * n) as f32;
        let all: Vec<f32> = maps
            .iter()
            .zip(snr)
            .flat_map(|(map, snr)| map.iter().map(move |w| w * snr / mean))
            .flat_map(|w| std::iter::repeat_n(w, self.channels))
            .collect();
        let shape = (keys.len(), n, n, self.channels);
        Ok(Tensor::from_vec(all, shape, &self.device)?)
    }
}
