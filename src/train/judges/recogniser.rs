//! Stage `recogniser`: the judge learns from real storyworld scenes only. They are softened and
//! made noisy at random, as decoded pictures are, so that it judges the content of generated
//! pictures and not their crispness; its own accuracy is reported on clean held-out scenes.

use std::path::Path;

use candle_core::{Device, Tensor};
use candle_nn::loss::cross_entropy;
use image::RgbImage;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;
use serde::Deserialize;
use serde_json::json;

use super::write_accuracy;
use crate::judges::recogniser::{CELL, CELLS, Scores, centre_probability};
use crate::judges::{
    Expected, FaithfulnessCounts, FaithfulnessReport, FaithfulnessRow, Recogniser,
    RecogniserConfig, SIZE,
};
use crate::nn::Params;
use crate::storyworld::{MAX_SUBJECTS, Renderer, SUBJECTS, Scene, SceneOptions, Split, SubjectId};
use crate::train::course::{Course, Phase, Stage, StepLosses};
use crate::train::{Result, TrainError, read_config};

/// Settings of the stage (TOML).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecogniserSettings {
    /// Seed of the initial weights and of everything drawn at random.
    pub seed: u64,
    /// Steps in all.
    pub steps: u64,
    /// Scenes a step.
    pub batch: usize,
    /// Learning rate after the warm-up.
    pub learning_rate: f64,
    /// Steps over which the learning rate rises to its value.
    pub warmup: u64,
    /// Share of the steps after which the learning rate falls.
    pub decay_from: f64,
    /// Steps between checkpoints.
    pub checkpoint_every: u64,
    /// Clean held-out scenes that its accuracy is reported on.
    pub test_scenes: usize,
}

/// Stream of the scenes it is tested on; training draws from stream 0.
const TEST_STREAM: u64 = 1;
/// Spread, in cells, within which a map's cell near a centre is not wrong to be sure.
const SPREAD: f32 = 0.7;

struct RecogniserBatch {
    x: Tensor,
    /// 1 where a centre is, less around it.
    near: Tensor,
    /// 1 only in the cell that holds a centre.
    centre: Tensor,
    place: Tensor,
    time: Tensor,
    weather: Tensor,
}

/// A training scene. Some hold a subject twice or nobody, so that these too can be told.
fn scene(rng: &mut ChaCha8Rng) -> Scene {
    let mut scene = Scene::random(rng, &SceneOptions::default());
    match rng.random_range(0..20) {
        0 => scene.subjects.clear(),
        1 | 2 => scene = twins(rng, &scene),
        _ => {}
    }
    scene
}

/// The same place with one subject twice.
fn twins(rng: &mut ChaCha8Rng, like: &Scene) -> Scene {
    let mut subjects: Vec<SubjectId> = like.subjects.iter().map(|p| p.subject).collect();
    subjects.truncate(MAX_SUBJECTS - 1);
    if let Some(&again) = subjects.first() {
        let at = rng.random_range(0..=subjects.len());
        subjects.insert(at, again);
    }
    Scene::compose(rng, &subjects, like.place, like.time, like.weather)
}

/// Blur and noise of random strength, none on a quarter of the pictures.
pub(super) fn soften(rgb: &[u8], rng: &mut ChaCha8Rng) -> Vec<f32> {
    let mut x: Vec<f32> = rgb.iter().map(|&v| f32::from(v) / 127.5 - 1.0).collect();
    if rng.random_bool(0.25) {
        return x;
    }
    for _ in 0..rng.random_range(0..=2) {
        let strength = rng.random_range(0.2..1.0);
        x = blur(&x, 3, strength);
        x = blur(&x, SIZE * 3, strength);
    }
    let noise = rng.random_range(0.0..0.06f32);
    let gain = rng.random_range(0.92..1.08f32);
    for v in &mut x {
        let n: f32 = StandardNormal.sample(rng);
        *v = (*v * gain + noise * n).clamp(-1.0, 1.0);
    }
    x
}

/// Mixes every value with its two neighbours `stride` away: (1 2 1)/4 at full strength. The ends
/// of rows take from the next one; half a pixel there is too little to matter.
fn blur(x: &[f32], stride: usize, strength: f32) -> Vec<f32> {
    let side = 0.25 * strength;
    (0..x.len())
        .map(|i| {
            let before = x[i.checked_sub(stride).unwrap_or(i)];
            let after = x.get(i + stride).copied().unwrap_or(x[i]);
            x[i] * (1.0 - 2.0 * side) + (before + after) * side
        })
        .collect()
}

/// The two target maps `[8,8,subjects]` of a scene.
fn maps(scene: &Scene) -> (Vec<f32>, Vec<f32>) {
    let mut near = vec![0f32; CELLS * CELLS * SUBJECTS];
    let mut centre = near.clone();
    for (placed, b) in scene.subjects.iter().zip(scene.boxes(SIZE as u32)) {
        let cells = |from: u32, long: u32| (from as f32 + long as f32 / 2.0) / CELL as f32;
        let (cx, cy) = (cells(b.x, b.width), cells(b.y, b.height));
        let last = CELLS - 1;
        let own = ((cx as usize).min(last), (cy as usize).min(last));
        let class = placed.subject.index();
        for y in 0..CELLS {
            for x in 0..CELLS {
                let (dx, dy) = (x as f32 + 0.5 - cx, y as f32 + 0.5 - cy);
                let value = (-(dx * dx + dy * dy) / (2.0 * SPREAD * SPREAD)).exp();
                let at = (y * CELLS + x) * SUBJECTS + class;
                near[at] = near[at].max(value);
                if (x, y) == own {
                    centre[at] = 1.0;
                }
            }
        }
    }
    (near, centre)
}

/// A softened picture, where its subjects are (near and centre), and its scene.
type DegradedPicture = (Vec<f32>, (Vec<f32>, Vec<f32>), Scene);

fn batch(renderer: &Renderer, s: &RecogniserSettings, step: u64) -> Result<RecogniserBatch> {
    let drawn: Vec<DegradedPicture> = (0..s.batch)
        .into_par_iter()
        .map(|i| {
            let mut rng = ChaCha8Rng::seed_from_u64(s.seed);
            // Every picture has its own part of the stream, so that a resumed run draws the same.
            rng.set_word_pos(u128::from(step * s.batch as u64 + i as u64) << 24);
            let scene = scene(&mut rng);
            let mut rgb = vec![0; SIZE * SIZE * 3];
            renderer.draw(&scene, &mut rgb);
            let x = soften(&rgb, &mut rng);
            (x, maps(&scene), scene)
        })
        .collect();
    let n = s.batch;
    let join = |f: &dyn Fn(&DegradedPicture) -> &[f32], shape| {
        let values: Vec<f32> = drawn.iter().flat_map(|d| f(d).iter().copied()).collect();
        Tensor::from_vec(values, shape, &Device::Cpu)
    };
    let class = |f: &dyn Fn(&Scene) -> usize| {
        let values: Vec<u32> = drawn.iter().map(|d| f(&d.2) as u32).collect();
        Tensor::from_vec(values, n, &Device::Cpu)
    };
    Ok(RecogniserBatch {
        x: join(&|d| &d.0, (n, SIZE, SIZE, 3))?,
        near: join(&|d| &d.1.0, (n, CELLS, CELLS, SUBJECTS))?,
        centre: join(&|d| &d.1.1, (n, CELLS, CELLS, SUBJECTS))?,
        place: class(&|s| s.place.index())?,
        time: class(&|s| s.time.index())?,
        weather: class(&|s| s.weather.index())?,
    })
}

/// The focal loss of CenterNet (arXiv 1904.07850, equation 1), a mean over pictures.
fn centre_loss(scores: &Tensor, b: &RecogniserBatch) -> candle_core::Result<Tensor> {
    let p = (centre_probability(scores)? * 0.9998)?.affine(1.0, 1e-4)?;
    let not = p.affine(-1.0, 1.0)?;
    let hit = ((not.sqr()? * p.log()?)? * &b.centre)?;
    let far = b.near.affine(-1.0, 1.0)?.sqr()?.sqr()?;
    let elsewhere = b.centre.affine(-1.0, 1.0)?;
    let miss = (((p.sqr()? * not.log()?)? * far)? * elsewhere)?;
    (hit + miss)?.sum_all()? * (-1.0 / scores.dim(0)? as f64)
}

fn losses(scores: &Scores, b: &RecogniserBatch) -> candle_core::Result<(Tensor, [f64; 2])> {
    let centres = centre_loss(&scores.centres, b)?;
    let setting = ((cross_entropy(&scores.place, &b.place)?
        + cross_entropy(&scores.time, &b.time)?)?
        + cross_entropy(&scores.weather, &b.weather)?)?;
    let parts = [
        f64::from(centres.to_scalar::<f32>()?),
        f64::from(setting.to_scalar::<f32>()?),
    ];
    Ok(((centres + setting)?, parts))
}

/// What the recogniser sees in clean held-out scenes, and in the same with a subject twice.
fn test(net: &Recogniser, seed: u64, count: usize) -> Result<FaithfulnessReport> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(TEST_STREAM);
    let renderer = Renderer::new(SIZE as u32);
    let mut rows = ["real", "real, one twice"].map(|source| FaithfulnessRow {
        source: source.into(),
        ..FaithfulnessRow::default()
    });
    for i in 0..count {
        let n = 1 + i % MAX_SUBJECTS;
        let options = SceneOptions {
            subjects: n..=n,
            split: Split::HeldOut,
            ..SceneOptions::default()
        };
        let single = Scene::random(&mut rng, &options);
        let double = twins(&mut rng, &single);
        for (row, scene) in rows.iter_mut().zip([single, double]) {
            let mut picture = RgbImage::new(SIZE as u32, SIZE as u32);
            renderer.draw(&scene, &mut picture);
            let seen = net
                .recognise(&[picture])
                .map_err(|e| candle_core::Error::Msg(e.to_string()))?;
            let tally: &mut FaithfulnessCounts =
                &mut row.by_subjects[scene.subjects.len().max(1) - 1];
            tally.add(&Expected::of_scene(&scene), &seen[0]);
        }
    }
    Ok(FaithfulnessReport {
        rows: rows.into(),
        psnr: Vec::new(),
    })
}

/// Runs the stage to its last step and writes `recogniser/` and `accuracy.json` into `run`.
///
/// # Errors
/// Settings or a folder that can't be used, or a loss that is no longer a number.
pub fn train(config: &Path, run: &Path, resume: bool) -> Result<()> {
    let s: RecogniserSettings = read_config(config)?;
    if s.batch == 0 || s.checkpoint_every == 0 || s.test_scenes == 0 {
        return Err(TrainError::Config(
            config.to_owned(),
            "batch, checkpoint_every and test_scenes must be at least 1".into(),
        ));
    }
    let params = Params::init(s.seed, &Device::Cpu);
    let net_config = RecogniserConfig::default();
    let net = Recogniser::new(net_config.clone(), params.clone())?;
    let mut stage = RecogniserTraining {
        renderer: Renderer::new(SIZE as u32),
        settings: &s,
        net: &net,
    };
    let phase = Phase::cosine(s.learning_rate, s.warmup, s.steps, s.decay_from);
    let course = Course::new(
        run,
        resume,
        phase,
        s.checkpoint_every,
        &["subjects", "setting"],
    );
    let (opt, tensors) = super::train(&course, &params, &mut stage)?;
    Recogniser::save(&run.join("recogniser"), &net_config, &tensors)?;
    let report = opt.with_averages(|| test(&net, s.seed, s.test_scenes))??;
    eprint!("{}", report.table());
    let accuracy = json!({ "scenes": s.test_scenes, "clean_held_out": report.json() });
    write_accuracy(run, &accuracy)
}

/// What a run holds.
struct RecogniserTraining<'a> {
    settings: &'a RecogniserSettings,
    net: &'a Recogniser,
    renderer: Renderer,
}

impl Stage for RecogniserTraining<'_> {
    fn step(&mut self, step: u64) -> Result<StepLosses> {
        let b = batch(&self.renderer, self.settings, step)?;
        let (loss, parts) = losses(&self.net.forward(&b.x)?, &b)?;
        Ok(StepLosses {
            grads: vec![loss.backward()?],
            losses: parts.to_vec(),
            samples: self.settings.batch,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::check_gradients;

    #[test]
    fn every_subject_has_its_own_cell() {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        for _ in 0..200 {
            let scene = scene(&mut rng);
            let (near, centre) = maps(&scene);
            let cells = centre.iter().filter(|&&v| v == 1.0).count();
            assert_eq!(cells, scene.subjects.len(), "{scene:?}");
            assert!(near.iter().zip(&centre).all(|(&n, &c)| c == 0.0 || n > 0.5));
        }
    }

    #[test]
    fn blur_keeps_flat_colours_and_spreads_a_dot() {
        assert_eq!(blur(&[0.5; 12], 3, 1.0), [0.5; 12]);
        assert_eq!(blur(&[0.0, 4.0, 0.0, 0.0], 1, 1.0), [1.0, 2.0, 1.0, 0.0]);
    }

    #[test]
    fn gradients_are_the_slope_of_the_loss() {
        let params = Params::init(2, &Device::Cpu);
        let config = RecogniserConfig {
            channels: [8, 8, 8, 8],
            norm_groups: 2,
            ..RecogniserConfig::default()
        };
        let net = Recogniser::new(config, params.clone()).unwrap();
        let settings = RecogniserSettings {
            seed: 1,
            steps: 1,
            batch: 2,
            learning_rate: 0.0,
            warmup: 0,
            decay_from: 1.0,
            checkpoint_every: 1,
            test_scenes: 1,
        };
        let b = batch(&Renderer::new(SIZE as u32), &settings, 0).unwrap();
        let loss = || losses(&net.forward(&b.x).unwrap(), &b).unwrap().0;
        // The loss is about 10: f32 rounds it by 1e-6, and that is divided by the step.
        check_gradients(&params, (1e-2, 1e-2), |_| 2e-3, loss);
    }

    #[test]
    fn the_first_steps_learn() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("config.toml");
        let text = "seed = 1\nsteps = 50\nbatch = 4\nlearning_rate = 2e-3\nwarmup = 2\ndecay_from = 0.9\ncheckpoint_every = 25\ntest_scenes = 3\n";
        std::fs::write(&config, text).unwrap();
        let run = dir.path().join("run");
        train(&config, &run, false).unwrap();
        let error = train(&config, &run, false).unwrap_err().to_string();
        assert!(error.contains("--resume"), "{error}");
        train(&config, &run, true).unwrap();
        assert!(Recogniser::load(&run.join("recogniser"), &Device::Cpu).is_ok());
        let report = std::fs::read_to_string(run.join("accuracy.json")).unwrap();
        assert!(report.contains("one twice"));
    }
}
