//! Language models that authors own: folders with a `case.json` that says what a tiny GGUF file was
//! made of and what was asked of it, and `vectors.safetensors` with the logits, recorded from
//! transformers (logits, greedy ids), llama.cpp (ids of texts) and jinja2 (rendered chats). Every
//! case has every stage; one that can't be run fails.
//!
//! Logits and greedy ids are compared twice: with weights and activations as f32 (limit 2e-3, all
//! greedy ids), and as they are computed for authors, with activations rounded, within what
//! llama.cpp's own rounding moves them; of mixtures of experts, where a rounding can send a token
//! to another expert, the latter only roughly.

use crate::report::{Error, Outcome, Stage};
use crate::writer_talk;
use candle_core::Device;
use serde::Deserialize;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use vokenboard::llm::{CacheType, CausalLm, GgufLm, LanguageModelOptions, likeliest};

/// Limit of the relative error where nothing is rounded.
const EXACT: f32 = 2e-3;

/// `case.json`, as far as the network is concerned.
#[derive(Deserialize)]
struct Told {
    arch: String,
    prompt_ids: Vec<u32>,
    greedy: Vec<u32>,
    greedy_margins: Vec<f32>,
    llamacpp: Differs,
}

/// How llama.cpp differs from the reference on the same file.
#[derive(Deserialize)]
struct Differs {
    logits_max_rel: f32,
    logits_rms_rel: f32,
}

/// A folder with a case.
pub struct Case {
    pub name: String,
    /// The model file.
    pub model: PathBuf,
    /// All of `case.json`.
    pub json: serde_json::Value,
    dir: PathBuf,
}

type Run = fn(&Case, &mut Stage) -> Outcome;

const STAGES: &[(&str, Run)] = &[
    ("ids", writer_talk::ids),
    ("prompt", writer_talk::prompt),
    ("logits", logits),
    ("greedy", greedy),
];

/// Every folder with such a case in `dir`, which may be one itself.
pub fn cases(dir: &Path) -> Vec<PathBuf> {
    let is_case = |dir: &Path| json(dir).is_some_and(|told| told.get("prompt_ids").is_some());
    if is_case(dir) {
        return vec![dir.to_path_buf()];
    }
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| is_case(path))
        .collect();
    found.sort();
    found
}

fn json(dir: &Path) -> Option<serde_json::Value> {
    let bytes = std::fs::read(dir.join("case.json")).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Runs the stages of the case in `dir` whose line contains `wanted`, a line each; whether all of
/// them passed.
pub fn run(dir: &Path, wanted: &str) -> bool {
    let name = dir.file_name().unwrap_or(dir.as_os_str());
    let case = Case {
        name: name.to_string_lossy().into_owned(),
        model: dir.join("model.gguf"),
        json: json(dir).unwrap_or_default(),
        dir: dir.to_path_buf(),
    };
    let mut good = true;
    for (stage, check) in STAGES {
        let line = format!("{} {stage}", case.name);
        if line.contains(wanted) {
            good &= crate::report::line(&line, |found| check(&case, found));
        }
    }
    good
}

impl Case {
    fn told(&self) -> Result<Told, Error> {
        Ok(serde_json::from_value(self.json.clone())?)
    }

    fn open(&self, told: &Told) -> Result<GgufLm, Error> {
        let options = LanguageModelOptions {
            context: 2048,
            cache: CacheType::F32,
        };
        let mut lm = GgufLm::open(&self.model, &options)?;
        lm.expect(told.prompt_ids.len() + told.greedy.len());
        Ok(lm)
    }
}

/// Whether tokens go through experts.
fn mixture(told: &Told) -> bool {
    ["qwen3moe", "gpt-oss"].contains(&told.arch.as_str())
}

fn logits(case: &Case, stage: &mut Stage) -> Outcome {
    let told = case.told()?;
    let path = case.dir.join("vectors.safetensors");
    let vectors = candle_core::safetensors::load(path, &Device::Cpu)?;
    let want = vectors.get("logits").ok_or("there are no logits")?;
    let want = want.flatten_all()?.to_vec1::<f32>()?;
    let mut lm = case.open(&told)?;
    let rounded = lm.all_logits(&told.prompt_ids)?;
    let (most, root) = match mixture(&told) {
        true => (0.6, 0.15),
        false => (
            EXACT.max(2.0 * told.llamacpp.logits_max_rel),
            1e-3f32.max(1.5 * told.llamacpp.logits_rms_rel),
        ),
    };
    let (largest, mean) = differ(&rounded, &want)?;
    // A share of what is allowed, so that a line's number is that of exact products.
    stage.same(
        "rounded logits are near enough",
        &(largest <= most && mean <= root),
        &true,
    );
    if largest > most || mean > root {
        return Err(
            format!("rounded: {largest:.1e} of {most:.1e}, {mean:.1e} of {root:.1e}").into(),
        );
    }
    lm.make_exact();
    let (largest, _) = differ(&lm.all_logits(&told.prompt_ids)?, &want)?;
    stage.error(EXACT, "logits", largest);
    Ok(())
}

/// The largest difference by the largest number, and the root mean squares' quotient.
fn differ(got: &[f32], want: &[f32]) -> Result<(f32, f32), Error> {
    if got.len() != want.len() {
        return Err(format!("{} logits, not {}", got.len(), want.len()).into());
    }
    let largest = want.iter().fold(0f32, |m, x| m.max(x.abs()));
    let pairs = || got.iter().zip(want).map(|(a, b)| f64::from(a - b));
    let squares = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    let off = pairs().fold(0f64, |m, d| if d.abs() <= m { m } else { d.abs() });
    let root = squares(&mut pairs()) / squares(&mut want.iter().map(|x| f64::from(*x)));
    Ok((off as f32 / largest, root as f32))
}

fn greedy(case: &Case, stage: &mut Stage) -> Outcome {
    let told = case.told()?;
    let mut lm = case.open(&told)?;
    if !mixture(&told) {
        let path = case.dir.join("vectors.safetensors");
        let vectors = candle_core::safetensors::load(path, &Device::Cpu)?;
        let want = vectors.get("logits").ok_or("there are no logits")?;
        let want = want.flatten_all()?.to_vec1::<f32>()?;
        let (off, _) = differ(&lm.all_logits(&told.prompt_ids)?, &want)?;
        let largest = want.iter().fold(0f32, |m, x| m.max(x.abs()));
        let sure = |margin: &&f32| **margin >= 2.0 * off * largest;
        let sure = told.greedy_margins.iter().take_while(sure).count();
        let found = write(&mut lm, &told, sure)?;
        stage.same("rounded ids", found.as_slice(), &told.greedy[..sure]);
    }
    lm.make_exact();
    let found = write(&mut lm, &told, told.greedy.len())?;
    stage.same("ids", &found, &told.greedy);
    Ok(())
}

/// The likeliest `count` ids after the prompt, one after the other.
fn write(lm: &mut GgufLm, told: &Told, count: usize) -> Result<Vec<u32>, Error> {
    let mut text = told.prompt_ids.clone();
    let mut logits = Vec::new();
    for _ in 0..count {
        lm.read(&text, &mut logits, &mut || ControlFlow::Continue(()))?;
        text.push(likeliest(&logits));
    }
    Ok(text.split_off(told.prompt_ids.len()))
}
