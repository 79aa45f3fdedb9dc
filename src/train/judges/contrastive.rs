//! Stage `contrastive`: pictures and texts of the same scene are drawn together, others apart
//! (CLIP, arXiv 2103.00020, figure 3). Scenes, captions and their softening are as in stage
//! `recogniser`; held-out combinations are never drawn.

use std::path::Path;

use candle_core::{Device, Tensor};
use candle_nn::loss::cross_entropy;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::Deserialize;
use serde_json::json;

use super::recogniser::soften;
use super::write_accuracy;
use crate::judges::{Contrastive, ContrastiveConfig, SIZE};
use crate::nn::Params;
use crate::storyworld::{
    Renderer, Scene, SceneOptions, Split, caption, caption_held_out, description, roughen,
};
use crate::train::course::{Course, Phase, Stage, StepLosses};
use crate::train::{Result, TrainError, read_config};

/// Settings of the stage (TOML).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContrastiveSettings {
    /// Seed of the initial weights and of everything drawn at random.
    pub seed: u64,
    /// Steps in all.
    pub steps: u64,
    /// Pairs that are told apart from each other.
    pub batch: usize,
    /// Learning rate after the warm-up.
    pub learning_rate: f64,
    /// Steps over which the learning rate rises to its value.
    pub warmup: u64,
    /// Share of the steps after which the learning rate falls.
    pub decay_from: f64,
    /// Steps between checkpoints.
    pub checkpoint_every: u64,
    /// Held-out pairs among which each other's are looked for.
    pub test_pairs: usize,
}

/// Stream of the pairs it is tested on; training draws from stream 0.
const TEST_STREAM: u64 = 1;

/// A third each: any caption, one that says all, one that is roughened.
fn text(scene: &Scene, rng: &mut ChaCha8Rng) -> String {
    match rng.random_range(0..3) {
        0 => description(scene),
        1 => caption(scene, rng),
        _ => {
            let text = caption(scene, rng);
            roughen(&text, rng)
        }
    }
}

fn batch(renderer: &Renderer, s: &ContrastiveSettings, step: u64) -> Result<(Tensor, Vec<String>)> {
    let drawn: Vec<(Vec<f32>, String)> = (0..s.batch)
        .into_par_iter()
        .map(|i| {
            let mut rng = ChaCha8Rng::seed_from_u64(s.seed);
            // Every pair has its own part of the stream, so that a resumed run draws the same.
            rng.set_word_pos(u128::from(step * s.batch as u64 + i as u64) << 24);
            let scene = Scene::random(&mut rng, &SceneOptions::default());
            let text = text(&scene, &mut rng);
            let mut rgb = vec![0; SIZE * SIZE * 3];
            renderer.draw(&scene, &mut rgb);
            (soften(&rgb, &mut rng), text)
        })
        .collect();
    let (pictures, texts): (Vec<_>, Vec<_>) = drawn.into_iter().unzip();
    let values: Vec<f32> = pictures.into_iter().flatten().collect();
    let x = Tensor::from_vec(values, (s.batch, SIZE, SIZE, 3), &Device::Cpu)?;
    Ok((x, texts))
}

/// The symmetric cross entropy of CLIP: every picture finds its text, every text its picture.
fn loss(net: &Contrastive, x: &Tensor, texts: &[String]) -> candle_core::Result<Tensor> {
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let (pictures, words) = (net.pictures(x)?, net.texts(&texts)?);
    let scores = pictures.matmul(&words.t()?)?.broadcast_mul(&net.scale()?)?;
    let own = Tensor::arange(0, texts.len() as u32, &Device::Cpu)?;
    let both = (cross_entropy(&scores, &own)? + cross_entropy(&scores.t()?.contiguous()?, &own)?)?;
    both * 0.5
}

/// Shares of held-out pictures whose nearest text is their own, and of texts whose nearest picture
/// is.
fn test(net: &Contrastive, seed: u64, pairs: usize) -> candle_core::Result<[f64; 2]> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(TEST_STREAM);
    let renderer = Renderer::new(SIZE as u32);
    let options = SceneOptions {
        split: Split::HeldOut,
        ..SceneOptions::default()
    };
    let (mut pictures, mut texts) = (Vec::new(), Vec::new());
    for _ in 0..pairs {
        let scene = Scene::random(&mut rng, &options);
        let mut rgb = vec![0; SIZE * SIZE * 3];
        renderer.draw(&scene, &mut rgb);
        let values: Vec<f32> = rgb.iter().map(|&v| f32::from(v) / 127.5 - 1.0).collect();
        let x = Tensor::from_vec(values, (1, SIZE, SIZE, 3), &Device::Cpu)?;
        pictures.push(net.pictures(&x)?);
        texts.push(net.texts(&[&caption_held_out(&scene, &mut rng)])?);
    }
    let scores = Tensor::cat(&pictures, 0)?.matmul(&Tensor::cat(&texts, 0)?.t()?)?;
    let found = |scores: &Tensor| -> candle_core::Result<f64> {
        let best = scores.argmax(1)?.to_vec1::<u32>()?;
        let right = best.iter().enumerate().filter(|(i, b)| *i == **b as usize);
        Ok(right.count() as f64 / pairs as f64)
    };
    Ok([found(&scores)?, found(&scores.t()?.contiguous()?)?])
}

/// Runs the stage to its last step and writes `contrastive/` and `accuracy.json` into `run`.
///
/// # Errors
/// Settings or a folder that can't be used, or a loss that is no longer a number.
pub fn train(config: &Path, run: &Path, resume: bool) -> Result<()> {
    let s: ContrastiveSettings = read_config(config)?;
    if s.batch < 2 || s.checkpoint_every == 0 || s.test_pairs == 0 {
        return Err(TrainError::Config(
            config.to_owned(),
            "batch must be at least 2, checkpoint_every and test_pairs at least 1".into(),
        ));
    }
    let params = Params::init(s.seed, &Device::Cpu);
    let sizes = ContrastiveConfig::default();
    let net = Contrastive::new(&sizes, Contrastive::tokenizer(&sizes), &params)?;
    let mut stage = ContrastiveTraining {
        renderer: Renderer::new(SIZE as u32),
        settings: &s,
        net: &net,
    };
    let phase = Phase::cosine(s.learning_rate, s.warmup, s.steps, s.decay_from);
    let course = Course::new(run, resume, phase, s.checkpoint_every, &["contrast"]);
    let (opt, tensors) = super::train(&course, &params, &mut stage)?;
    net.save(&run.join("contrastive"), &sizes, &tensors)?;
    let [pictures, texts] = opt.with_averages(|| test(&net, s.seed, s.test_pairs))??;
    eprintln!(
        "of {} held-out pairs, {:.1} % of pictures find their text and {:.1} % of texts their picture",
        s.test_pairs,
        100.0 * pictures,
        100.0 * texts
    );
    let accuracy = json!({
        "pairs": s.test_pairs, "pictures_find_text": pictures, "texts_find_picture": texts,
    });
    write_accuracy(run, &accuracy)
}

/// What a run holds.
struct ContrastiveTraining<'a> {
    settings: &'a ContrastiveSettings,
    net: &'a Contrastive,
    renderer: Renderer,
}

impl Stage for ContrastiveTraining<'_> {
    fn step(&mut self, step: u64) -> Result<StepLosses> {
        let (x, texts) = batch(&self.renderer, self.settings, step)?;
        let loss = loss(self.net, &x, &texts)?;
        Ok(StepLosses {
            losses: vec![f64::from(loss.to_scalar::<f32>()?)],
            grads: vec![loss.backward()?],
            samples: self.settings.batch,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::check_gradients;
    use crate::train::optimizer::{AdamSettings, AdamW};

    fn settings() -> ContrastiveSettings {
        ContrastiveSettings {
            seed: 1,
            steps: 1,
            batch: 3,
            learning_rate: 0.0,
            warmup: 0,
            decay_from: 1.0,
            checkpoint_every: 1,
            test_pairs: 1,
        }
    }

    #[test]
    fn gradients_are_the_slope_of_the_loss() {
        let params = Params::init(2, &Device::Cpu);
        let config = ContrastiveConfig {
            channels: [8, 8, 8, 8],
            norm_groups: 2,
            width: 6,
            hidden: 8,
            layers: 1,
            heads: 2,
            tokens: 40,
        };
        let net = Contrastive::new(&config, Contrastive::tokenizer(&config), &params).unwrap();
        let (x, texts) = batch(&Renderer::new(SIZE as u32), &settings(), 0).unwrap();
        let value = || loss(&net, &x, &texts).unwrap();
        // The first embeddings are small, and the norm behind them steep.
        let step = |gradient: f64| 2e-3f64.min(0.05 / gradient.abs().max(1.0));
        check_gradients(&params, (1e-2, 5e-3), step, value);
    }

    #[test]
    fn a_stage_learns_and_goes_on_after_a_kill_to_the_same_weights() {
        let dir = tempfile::tempdir().unwrap();
        let config = |steps: u64| {
            let path = dir.path().join(format!("{steps}.toml"));
            let text = format!(
                "seed = 1\nsteps = {steps}\nbatch = 8\nlearning_rate = 2e-3\nwarmup = 2\ndecay_from = 1.0\ncheckpoint_every = 2\ntest_pairs = 3\n"
            );
            std::fs::write(&path, text).unwrap();
            path
        };
        let run = |name: &str| dir.path().join(name);
        train(&config(4), &run("whole"), false).unwrap();
        train(&config(2), &run("cut"), false).unwrap();
        let error = train(&config(4), &run("cut"), false).unwrap_err();
        assert!(error.to_string().contains("--resume"), "{error}");
        train(&config(4), &run("cut"), true).unwrap();
        let weights =
            |name: &str| std::fs::read(run(name).join("contrastive/model.safetensors")).unwrap();
        assert!(weights("whole") == weights("cut"));
        assert!(Contrastive::load(&run("cut").join("contrastive"), &Device::Cpu).is_ok());
        assert!(run("cut").join("accuracy.json").exists());

        // The same batch over and over is learnt.
        let params = Params::init(4, &Device::Cpu);
        let sizes = ContrastiveConfig::default();
        let net = Contrastive::new(&sizes, Contrastive::tokenizer(&sizes), &params).unwrap();
        let mut opt = AdamW::new(params.vars(), AdamSettings::default()).unwrap();
        let s = ContrastiveSettings {
            batch: 8,
            ..settings()
        };
        let (x, texts) = batch(&Renderer::new(SIZE as u32), &s, 0).unwrap();
        let value = || loss(&net, &x, &texts).unwrap();
        let number = |t: &Tensor| t.to_scalar::<f32>().unwrap();
        let first = number(&value());
        for _ in 0..20 {
            opt.step(&[value().backward().unwrap()], 2e-3).unwrap();
        }
        let last = number(&value());
        assert!(last < 0.7 * first, "{first} -> {last}");
    }
}
