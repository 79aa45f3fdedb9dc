//! Stage `see`: a vision tower of our own learns to tell the language model what a picture shows.
//!
//! First cheaply, without running the language model: each patch says whose it is, and each of the
//! first queries is projected onto the embedding of the word for what it is to see (subjects from
//! left to right, place, time, weather), as BLIP-2's first stage (arXiv 2301.12597) brings
//! pictures and texts together before a language model reads them. Then, as its second stage, the
//! frozen language model reads the queries and must write the caption; the transformer of patches
//! stays as it is, the Q-Former and the projection learn.

use super::loss::word_loss;
use super::telling::line_end;
use crate::llm::Tokenizer;
use crate::llm::float::{FloatLlama, GgufLlama, PackedPart};
use crate::nn::{Linear, Params};
use crate::storyworld::{
    Place, Renderer, SUBJECTS, Scene, SceneOptions, Split, SubjectId, Time, Weather, caption,
};
use crate::train::autoencoder::averages;
use crate::train::course::{self, Course, Decay, Phase, Stage, StepLosses};
use crate::train::optimizer::{AdamSettings, AdamW};
use crate::train::shards::Shards;
use crate::train::{Result, TrainError, read_config};
use crate::vision::{Crop, Preprocess, TowerParams, VisionConfig, VisionTower};
use crate::voken::{FolderConfig, ReferenceSizes, VokenFolder, tidy};
use candle_core::{D, DType, Device, Tensor, backprop::GradStore};
use image::RgbImage;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// Settings of the stage (TOML). Paths are relative to the file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeeSettings {
    /// Folder of the language model's GGUF.
    pub language_model: PathBuf,
    /// Seed of the initial weights and of everything drawn at random.
    pub seed: u64,
    /// Steps without the language model.
    pub steps: u64,
    /// Pictures a step.
    pub batch: usize,
    /// Learning rate after the warm-up.
    pub learning_rate: f64,
    /// Steps over which the learning rate rises to its value.
    pub warmup: u64,
    /// Share of the steps after which the learning rate falls.
    pub decay_from: f64,
    /// Steps through the language model, after the others.
    pub language_steps: u64,
    /// Pictures a step through the language model.
    pub language_batch: usize,
    /// Learning rate of those steps.
    pub language_rate: f64,
    /// Steps between checkpoints.
    pub checkpoint_every: u64,
    /// Sizes of the vision tower.
    pub vision: VisionConfig,
}

/// Subjects whose queries are told apart.
const SLOTS: usize = 3;
/// Queries with a word of their own: subjects, place, time, weather.
const WORDS: usize = SLOTS + 3;
/// Temperature of the comparison with the words.
const TEMPERATURE: f64 = 0.07;
/// How much a patch without a subject counts.
const BACKGROUND: f32 = 0.1;
/// Held-out scenes that the accuracy is reported on.
const HELD_OUT: usize = 240;

/// The words that a query may stand for, `[classes,width]`.
struct WordEmbeddings {
    table: Tensor,
    /// At unit length, `[width,classes]`.
    directions: Tensor,
}

impl WordEmbeddings {
    fn new(names: &[&str], llama: &FloatLlama, tokenizer: &Tokenizer) -> Result<Self> {
        let rows: Vec<Tensor> = names
            .iter()
            .map(|name| {
                llama
                    .embed_ids(&tokenizer.encode(&format!(" {name}")))?
                    .mean(1)
            })
            .collect::<candle_core::Result<_>>()?;
        let table = Tensor::cat(&rows, 0)?;
        Ok(Self {
            directions: unit(&table)?.t()?.contiguous()?,
            table,
        })
    }
}

fn unit(x: &Tensor) -> Result<Tensor> {
    let length = (x.sqr()?.sum_keepdim(D::Minus1)? + 1e-8)?.sqrt()?;
    Ok(x.broadcast_div(&length)?)
}

/// What learns, and the language model that it learns for.
struct SeeNetworks {
    tower: VisionTower,
    /// From a patch to the subject that it shows, or none.
    patches: Linear,
    subjects: WordEmbeddings,
    settings: [WordEmbeddings; 3],
    llama: FloatLlama,
    tokenizer: Tokenizer,
    line_end: u32,
    renderer: Renderer,
    device: Device,
}

/// Scenes with their pictures.
struct SceneBatch {
    /// `[B,S,S,3]`.
    pictures: Tensor,
    scenes: Vec<Scene>,
    captions: Vec<String>,
}

/// `size` scenes of step `step`.
fn draw(
    s: &SeeSettings,
    renderer: &Renderer,
    size: usize,
    step: u64,
    split: Split,
    device: &Device,
) -> Result<SceneBatch> {
    let batch = size as u64;
    let side = s.vision.image_size;
    let see = Preprocess::seen(side, Crop::WhiteSquare);
    let drawn: Vec<(Tensor, Scene, String)> = (0..batch)
        .into_par_iter()
        .map(|i| {
            let mut rng = ChaCha8Rng::seed_from_u64(s.seed ^ 0x5ee);
            rng.set_stream((step << 16) + i);
            let options = SceneOptions {
                split,
                ..SceneOptions::default()
            };
            let scene = Scene::random(&mut rng, &options);
            let caption = tidy(&caption(&scene, &mut rng));
            let mut picture = RgbImage::new(renderer.size(), renderer.size());
            renderer.draw(&scene, &mut picture);
            // Pictures that were drawn by the model itself are a little soft.
            if rng.random_bool(0.4) {
                picture = image::imageops::fast_blur(&picture, rng.random_range(0.3..1.2));
            }
            Ok((see.tensor(&picture, device)?, scene, caption))
        })
        .collect::<Result<_>>()?;
    let pictures: Vec<&Tensor> = drawn.iter().map(|(picture, ..)| picture).collect();
    let pictures = Tensor::cat(&pictures, 0)?;
    let (scenes, captions) = drawn.into_iter().map(|(_, s, c)| (s, c)).unzip();
    Ok(SceneBatch {
        pictures,
        scenes,
        captions,
    })
}

/// Mean cross-entropy of `logits [n,classes]`, each row times its weight; the weights sum to 1.
fn cross_entropy(logits: &Tensor, classes: Vec<u32>, weights: Vec<f32>) -> Result<Tensor> {
    let n = classes.len();
    let largest = logits.max_keepdim(D::Minus1)?.detach();
    let shifted = logits.broadcast_sub(&largest)?;
    let log_sum = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?;
    let classes = Tensor::from_vec(classes, (n, 1), logits.device())?;
    let each = (log_sum - shifted.gather(&classes, D::Minus1)?)?.squeeze(1)?;
    Ok((each * Tensor::from_vec(weights, n, logits.device())?)?.sum_all()?)
}

/// The class of each query's word: subjects from left to right (or none), place, time, weather.
fn classes(scene: &Scene) -> [usize; WORDS] {
    let subject = |i: usize| {
        scene
            .subjects
            .get(i)
            .map_or(SUBJECTS, |p| p.subject.index())
    };
    [
        subject(0),
        subject(1),
        subject(2),
        scene.place.index(),
        scene.time.index(),
        scene.weather.index(),
    ]
}

/// Whose each patch is; of subjects that overlap the later one's.
fn patch_classes(scene: &Scene, size: usize, patch: usize) -> Vec<u32> {
    let side = size / patch;
    let mut map = vec![SUBJECTS as u32; side * side];
    for (placed, b) in scene.subjects.iter().zip(scene.boxes(size as u32)) {
        let inside = |at: usize, from: u32, long: u32| {
            let middle = (at * patch + patch / 2) as u32;
            (from..from + long).contains(&middle)
        };
        for y in 0..side {
            for x in 0..side {
                if inside(x, b.x, b.width) && inside(y, b.y, b.height) {
                    map[y * side + x] = placed.subject.index() as u32;
                }
            }
        }
    }
    map
}

/// Gradients and losses of a part of a batch, both times the part's share: patches, words, text.
struct SeePass {
    grads: GradStore,
    losses: [f64; 3],
}

fn number(t: &Tensor) -> Result<f64> {
    Ok(f64::from(t.to_scalar::<f32>()?))
}

impl SeeNetworks {
    fn words(&self, query: usize) -> &WordEmbeddings {
        match query.checked_sub(SLOTS) {
            None => &self.subjects,
            Some(i) => &self.settings[i],
        }
    }

    /// Patches and words.
    fn look(&self, pictures: &Tensor, scenes: &[Scene], share: f64) -> Result<SeePass> {
        let config = self.tower.config();
        let tokens = self
            .tower
            .norm
            .forward(&self.tower.vit.forward(pictures)?)?;
        let count = tokens.dim(1)? - 1;
        let of_patches = tokens.narrow(1, 1, count)?.contiguous()?;
        let logits = self.patches.forward(&of_patches)?.flatten_to(1)?;
        let whose: Vec<u32> = scenes
            .iter()
            .flat_map(|s| patch_classes(s, config.image_size, config.eva_vit.patch_size))
            .collect();
        let counts = |class: &u32| match *class as usize == SUBJECTS {
            true => BACKGROUND,
            false => 1.0,
        };
        let sum: f32 = whose.iter().map(counts).sum();
        let weights = whose.iter().map(|class| counts(class) / sum).collect();
        let patches = cross_entropy(&logits, whose, weights)?;
        let seen = self
            .tower
            .projection
            .forward(&self.tower.qformer.forward(&tokens)?)?;
        let mut words = patches.zeros_like()?;
        let n = scenes.len();
        for query in 0..WORDS {
            let known = self.words(query);
            let embedding = seen.narrow(1, query, 1)?.squeeze(1)?;
            let wanted: Vec<u32> = scenes.iter().map(|s| classes(s)[query] as u32).collect();
            let logits = (unit(&embedding)?.matmul(&known.directions)? / TEMPERATURE)?;
            let rows = known
                .table
                .index_select(&Tensor::from_slice(&wanted, n, &self.device)?, 0)?;
            // As far from the word as words are from each other would be 1.
            let scale = number(&known.table.sqr()?.mean_all()?)?;
            let off = ((embedding - rows)?.sqr()?.mean_all()? / scale)?;
            let loss = cross_entropy(&logits, wanted, vec![1.0 / n as f32; n])?;
            words = ((words + loss)? + off)?;
        }
        let losses = [number(&patches)? * share, number(&words)? * share, 0.0];
        let total = ((patches + words)? * share)?;
        Ok(SeePass {
            grads: total.backward()?,
            losses,
        })
    }

    /// The caption that the language model writes behind the picture.
    fn describe(&self, pictures: &Tensor, captions: &[String], share: f64) -> Result<SeePass> {
        let tower = &self.tower;
        let tokens = tower.norm.forward(&tower.vit.forward(pictures)?)?.detach();
        let seen = tower.projection.forward(&tower.qformer.forward(&tokens)?)?;
        let queries = seen.dim(1)?;
        let bos = self.llama.config().bos().unwrap_or(0);
        let bos = self.llama.embed_ids(&[bos])?;
        let (mut pieces, mut parts) = (Vec::new(), Vec::new());
        let (mut places, mut wanted) = (Vec::new(), Vec::new());
        let mut at = 0;
        for (i, caption) in captions.iter().enumerate() {
            let ids = self.tokenizer.encode(caption);
            pieces.push(bos.clone());
            pieces.push(seen.narrow(0, i, 1)?);
            pieces.push(self.llama.embed_ids(&ids)?);
            let n = 1 + queries + ids.len();
            parts.push(PackedPart {
                tokens: at..at + n,
                sees: Vec::new(),
            });
            places.extend((at + queries..at + n).map(|place| place as u32));
            wanted.extend(ids);
            wanted.push(self.line_end);
            at += n;
        }
        let x = Tensor::cat(&pieces, 1)?;
        let hidden = self.llama.forward_packed(&x, &parts, None)?.squeeze(0)?;
        let places = Tensor::from_vec(places, wanted.len(), &self.device)?;
        let text = word_loss(&self.llama, &hidden.index_select(&places, 0)?, wanted)?;
        Ok(SeePass {
            losses: [0.0, 0.0, number(&text)? * share],
            grads: (text * share)?.backward()?,
        })
    }

    /// Share of held-out scenes whose queries are nearest to the right word: subjects, place,
    /// time, weather.
    fn accuracy(&self, s: &SeeSettings) -> Result<[f64; 4]> {
        let (mut right, mut all) = ([0usize; 4], [0usize; 4]);
        for step in 0..HELD_OUT / 24 {
            // Steps that training never comes to.
            let step = (1 << 40) + step as u64;
            let batch = draw(s, &self.renderer, 24, step, Split::HeldOut, &self.device)?;
            let seen = self.tower.forward(&batch.pictures)?;
            for query in 0..WORDS {
                let embedding = unit(&seen.narrow(1, query, 1)?.squeeze(1)?)?;
                let best = embedding.matmul(&self.words(query).directions)?;
                let best = best
                    .argmax(D::Minus1)?
                    .to_dtype(DType::U32)?
                    .to_vec1::<u32>()?;
                for (best, scene) in best.into_iter().zip(&batch.scenes) {
                    let kind = query.saturating_sub(SLOTS - 1);
                    // A place where nobody stands is not counted.
                    if query < SLOTS && query >= scene.subjects.len() {
                        continue;
                    }
                    all[kind] += 1;
                    right[kind] += usize::from(best as usize == classes(scene)[query]);
                }
            }
        }
        Ok(std::array::from_fn(|i| {
            right[i] as f64 / all[i].max(1) as f64
        }))
    }
}

/// Runs the stage to its last step.
///
/// # Errors
/// Settings or folders that can't be used, or a loss that is no longer a number.
pub fn train(config: &Path, run: &Path, resume: bool) -> Result<()> {
    let s: SeeSettings = read_config(config)?;
    let base = config.parent().unwrap_or(Path::new("."));
    if s.batch == 0
        || s.language_batch == 0
        || s.checkpoint_every == 0
        || s.vision.qformer.num_query_tokens < WORDS
    {
        return Err(TrainError::Config(
            config.to_owned(),
            format!(
                "batch, language_batch and checkpoint_every must be above 0, and num_query_tokens at least {WORDS}"
            )
            .into(),
        ));
    }
    let device = crate::train::device();
    let file = GgufLlama::find(&base.join(&s.language_model))?;
    let mut llama = file.dequantised(file.tables(&device)?, &device)?;
    llama.freeze()?;
    let tokenizer = file.tokenizer()?;
    let params = Params::init(s.seed, &device);
    let tower = params.pp("tower");
    let width = llama.config().hidden_size;
    let mut names: Vec<&str> = SubjectId::all().map(SubjectId::name).collect();
    names.push("nobody");
    let words = |names: Vec<&str>| WordEmbeddings::new(&names, &llama, &tokenizer);
    let nets = SeeNetworks {
        tower: VisionTower::new(s.vision.clone(), width, &TowerParams::all(&tower))?,
        patches: params
            .pp("patches")
            .linear(s.vision.eva_vit.embed_dim, SUBJECTS + 1, true)?,
        subjects: words(names)?,
        settings: [
            words(Place::ALL.iter().map(|p| p.name()).collect())?,
            words(Time::ALL.iter().map(|t| t.name()).collect())?,
            words(Weather::ALL.iter().map(|w| w.name()).collect())?,
        ],
        line_end: line_end(&tokenizer)?,
        renderer: Renderer::new(s.vision.image_size as u32),
        llama,
        tokenizer,
        device: device.clone(),
    };
    let mut opt = AdamW::new(
        params.vars(),
        AdamSettings {
            ema: 0.99,
            ..AdamSettings::default()
        },
    )?;
    let shards = [
        Shards::new(s.batch, &device)?,
        Shards::new(s.language_batch, &device)?,
    ];
    let mut stage = SeeTraining {
        out: VokenFolder::new(run.join("voken")),
        settings: &s,
        shards,
        tower,
        nets,
    };
    let decay = Decay::Cosine { from: s.decay_from };
    let of_pictures = Phase {
        peak: s.learning_rate,
        warmup: s.warmup,
        steps: s.steps,
        decay,
    };
    let of_language = Phase {
        peak: s.language_rate,
        warmup: 10,
        steps: s.language_steps,
        decay,
    };
    let course = Course {
        run,
        resume,
        phases: vec![of_pictures, of_language],
        checkpoint_every: s.checkpoint_every,
        sample_every: 0,
        losses: &["patches", "words", "text"],
    };
    course::run(&course, &mut opt, &mut stage)
}

/// What a run holds.
struct SeeTraining<'a> {
    settings: &'a SeeSettings,
    nets: SeeNetworks,
    tower: Params,
    /// Of the first steps and of those with language.
    shards: [Shards; 2],
    out: VokenFolder,
}

impl Stage for SeeTraining<'_> {
    const ALL_LEARN: bool = false;

    fn step(&mut self, step: u64) -> Result<StepLosses> {
        let (s, nets) = (self.settings, &self.nets);
        let with_language = step >= s.steps;
        let size = if with_language {
            s.language_batch
        } else {
            s.batch
        };
        let batch = draw(s, &nets.renderer, size, step, Split::Training, &nets.device)?;
        let passes = self.shards[usize::from(with_language)].run(|part| {
            let share = part.len() as f64 / size as f64;
            let pictures = batch.pictures.narrow(0, part.start, part.len())?;
            match with_language {
                false => nets.look(&pictures, &batch.scenes[part], share),
                true => nets.describe(&pictures, &batch.captions[part], share),
            }
        })?;
        let losses = (0..3).map(|i| passes.iter().map(|p| p.losses[i]).sum::<f64>());
        Ok(StepLosses {
            losses: losses.collect(),
            grads: passes.into_iter().map(|p| p.grads).collect(),
            samples: size,
        })
    }

    fn export(&mut self, opt: &AdamW) -> Result<()> {
        let s = self.settings;
        self.out.write_vision(&averages(&self.tower, opt)?)?;
        self.out.write_config(&FolderConfig {
            sizes: ReferenceSizes {
                vision: s.vision.clone(),
                ..ReferenceSizes::default()
            },
            ..FolderConfig::default()
        })?;
        let accuracy = opt.with_averages(|| self.nets.accuracy(s))??;
        let [subjects, place, time, weather] = accuracy;
        eprintln!(
            "step {}: held-out scenes: subjects {subjects:.3}, place {place:.3}, time {time:.3}, weather {weather:.3}",
            opt.steps()
        );
        Ok(())
    }
}
