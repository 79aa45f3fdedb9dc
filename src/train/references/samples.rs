//! Pictures of drawings that were never trained on, to look at.

use super::scenes::{Key, Scenes};
use crate::diffusion::{Conditioning, Scheduler, SchedulerConfig, SchedulerKind};
use crate::judges::{CHOICE, DrawingJudge};
use crate::nn::NoiseSource;
use crate::storyworld::library::{CELLS, Composition, PAPER};
use crate::train::autoencoder::{psnr, to_pictures, to_signed};
use crate::train::diffusion::DiffusionNetworks;
use crate::train::{Result, log};
use candle_core::Tensor;
use image::{Rgb, RgbImage, imageops};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::path::Path;

/// How many scenes of one, two, three and four figures are drawn at the end; a quarter of them on
/// the way.
const EACH: [u64; 4] = [32, 16, 12, 4];
/// Pictures drawn at once.
const TOGETHER: usize = 16;
const STEPS: usize = 20;
const GUIDANCE: f64 = 2.0;

/// Scenes of held-out drawings, what is said of them, and what was drawn.
pub(super) struct Samples {
    keys: Vec<Key>,
    captions: Vec<String>,
    drawn: Vec<RgbImage>,
}

impl Samples {
    /// Draws with guidance 2 in 20 DDIM steps.
    pub(super) fn draw(
        nets: &DiffusionNetworks,
        scenes: &mut Scenes,
        config: &SchedulerConfig,
        seed: u64,
        last: bool,
    ) -> Result<Self> {
        let part = if last { 1 } else { 4 };
        let keys: Vec<Key> = (1..)
            .zip(EACH)
            .filter(|(count, _)| scenes.many(*count) > 0)
            .flat_map(|(count, n)| {
                let n = (n / part).min(scenes.many(count));
                (0..n).map(move |number| Key {
                    count,
                    number,
                    held_out: true,
                })
            })
            .collect();
        scenes.encode_new(&keys)?;
        let mut rng = ChaCha8Rng::seed_from_u64(0x9e37);
        let captions = keys
            .iter()
            .map(|key| scenes.seen(key).composition.setting.caption(&mut rng))
            .collect();
        let mut samples = Self {
            keys,
            captions,
            drawn: Vec::new(),
        };
        samples.drawn = samples.pictures(nets, scenes, config, seed)?;
        Ok(samples)
    }

    /// Says how many figures come nearest to what they should show, drawn and as the autoencoder
    /// alone draws the real scenes.
    pub(super) fn report(&self, scenes: &Scenes, step: u64) -> Result<()> {
        let mut alone = Vec::new();
        let mut decibels = 0.0;
        for keys in self.keys.chunks(TOGETHER) {
            let drawn = decode(scenes, &scenes.latents(keys)?)?;
            let pictures = to_pictures(&drawn)?;
            if pictures[0].width() == scenes.renderer.size() {
                let real: Vec<f32> = keys
                    .iter()
                    .flat_map(|key| to_signed(&scenes.renderer.draw(&scenes.seen(key).composition)))
                    .collect();
                let real = Tensor::from_vec(real, drawn.dims(), drawn.device())?;
                decibels += psnr(&drawn, &real)? * keys.len() as f64;
            }
            alone.extend(pictures);
        }
        let judge = DrawingJudge::of_held_out();
        let real: Vec<&Composition> = self
            .keys
            .iter()
            .map(|key| &scenes.seen(key).composition)
            .collect();
        let with = |pictures: &[RgbImage]| {
            let shown: Vec<_> = pictures.iter().zip(real.iter().copied()).collect();
            judge.judge(&shown).say()
        };
        eprintln!(
            "step {step}: held-out drawings, nearest of {CHOICE} is the right one: {}; by the autoencoder alone ({:.1} dB): {}",
            with(&self.drawn),
            decibels / self.keys.len().max(1) as f64,
            with(&alone)
        );
        Ok(())
    }

    fn pictures(
        &self,
        nets: &DiffusionNetworks,
        scenes: &Scenes,
        config: &SchedulerConfig,
        seed: u64,
    ) -> Result<Vec<RgbImage>> {
        let mut pictures = Vec::new();
        let mut at = 0;
        while let Some(first) = self.keys.get(at) {
            let same = self.keys[at..]
                .iter()
                .take_while(|k| k.count == first.count);
            let end = at + same.count().min(TOGETHER);
            let captions = &self.captions[at..end];
            let latents = denoise(
                nets,
                scenes,
                config,
                &self.keys[at..end],
                captions,
                seed + at as u64,
            )?;
            pictures.extend(to_pictures(&decode(scenes, &latents)?)?);
            at = end;
        }
        Ok(pictures)
    }

    /// Writes them as a sheet: of each scene its references, the real one, and what was drawn.
    pub(super) fn write(&self, scenes: &Scenes, path: &Path) -> Result<()> {
        const SIDE: u32 = 128;
        let small = |picture: &RgbImage, side: u32| {
            imageops::resize(picture, side, side, imageops::FilterType::Triangle)
        };
        let of_bytes = |rgb: Vec<u8>, side: u32| {
            RgbImage::from_raw(side, side, rgb).unwrap_or_else(|| RgbImage::new(side, side))
        };
        let cells = self.keys.iter().zip(&self.drawn).map(|(key, drawn)| {
            let composition = &scenes.seen(key).composition;
            let mut cell = RgbImage::from_pixel(3 * SIDE, SIDE, Rgb(PAPER));
            let many = composition.figures.len() as u32;
            let (columns, side) = match many {
                1 => (1, SIDE),
                _ => (2, SIDE / 2),
            };
            for (i, figure) in (0..).zip(&composition.figures) {
                let reference = scenes.renderer.reference(figure);
                let reference = of_bytes(reference, scenes.renderer.reference_size());
                let (x, y) = (i % columns * side, i / columns * side);
                imageops::replace(&mut cell, &small(&reference, side), x.into(), y.into());
            }
            let real = of_bytes(scenes.renderer.draw(composition), scenes.renderer.size());
            imageops::replace(&mut cell, &small(&real, SIDE), SIDE.into(), 0);
            imageops::replace(&mut cell, &small(drawn, SIDE), (2 * SIDE).into(), 0);
            cell
        });
        log::write_grid(path, &cells.collect::<Vec<_>>(), 4)
    }
}

/// Scaled latents to pictures in -1..1.
fn decode(scenes: &Scenes, latents: &Tensor) -> Result<Tensor> {
    let scaled = (latents / scenes.vae.config().scaling_factor)?;
    Ok(scenes.vae.decode(&scaled)?.detach())
}

/// Scaled latents of scenes with as many figures each.
fn denoise(
    nets: &DiffusionNetworks,
    scenes: &Scenes,
    config: &SchedulerConfig,
    keys: &[Key],
    captions: &[String],
    seed: u64,
) -> Result<Tensor> {
    let mut scheduler = Scheduler::new(SchedulerKind::Ddim, config, STEPS)
        .map_err(|e| candle_core::Error::Msg(e.to_string()))?;
    let side = CELLS as usize;
    let shape = [keys.len(), side, side, scenes.channels];
    let mut x =
        (NoiseSource::new(seed, 3).tensor(&shape, &nets.device)? * scheduler.init_noise_sigma())?;
    let empty = nets.conditioning(&[String::new()])?;
    let references = scenes.references(keys, &vec![false; keys.len()])?;
    let seen = nets.unet.read_references(&references, keys.len(), &empty)?;
    let towards = Conditioning {
        references: Some(seen),
        ..nets.conditioning(captions)?
    };
    // Without references the picture is its place alone; words and references lead together.
    let away = nets.conditioning(&vec![String::new(); keys.len()])?;
    for (i, t) in scheduler.timesteps().into_iter().enumerate() {
        let input = scheduler.scale_input(&x, i)?;
        let times = Tensor::full(t as f32, keys.len(), &nets.device)?;
        let conditional = nets.unet.predict(&input, &times, &towards)?.detach();
        let unconditional = nets.unet.predict(&input, &times, &away)?.detach();
        let guided = (&unconditional + ((conditional - &unconditional)? * GUIDANCE)?)?;
        x = scheduler.step(&guided, i, &x, None)?.detach();
    }
    Ok(x)
}
