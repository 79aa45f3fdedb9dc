//! Picture models that authors own: folders with a `case.json` that says what was drawn with which
//! model, and `vectors.safetensors` with the values of every stage, recorded from diffusers. Each
//! stage says which vectors it compares; one that no stage compares fails.

#[path = "pictures/networks.rs"]
mod networks;
#[path = "pictures/sampling.rs"]
mod sampling;
#[path = "pictures/transformers.rs"]
mod transformers;

use crate::report::{Error, Outcome, Stage};
use candle_core::{DType, Device, Tensor};
use serde::Deserialize;
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use vokenboard::diffusion::{StableDiffusion, StableDiffusionOptions};
use vokenboard::weights::ComputeDevices;

/// `case.json`; the paths in it are relative to its folder.
#[derive(Deserialize)]
pub struct Told {
    pub family: String,
    pub model: PathBuf,
    pub prompt: String,
    pub negative: Option<String>,
    pub width: usize,
    pub height: usize,
    pub steps: usize,
    pub guidance: f64,
    pub scheduler: String,
    pub clip_skip: Option<usize>,
    #[serde(default)]
    pub loras: Vec<ToldLora>,
    /// Text encoders and VAE of a transformer, where they are files of their own.
    #[serde(default)]
    pub parts: Vec<PathBuf>,
    #[serde(default)]
    pub embeddings: Vec<ToldEmbedding>,
    pub vae: Option<PathBuf>,
    pub init: Option<PathBuf>,
    pub strength: Option<f64>,
    pub mask: Option<PathBuf>,
    pub ip_adapter: Option<ToldIpAdapter>,
    pub controlnet: Option<ToldControlNet>,
    #[serde(default)]
    pub scheduler_overrides: serde_json::Map<String, serde_json::Value>,
}

#[derive(Deserialize)]
pub struct ToldLora {
    pub file: PathBuf,
    pub weight: f64,
}

#[derive(Deserialize)]
pub struct ToldEmbedding {
    pub file: PathBuf,
    pub token: String,
}

#[derive(Deserialize)]
pub struct ToldIpAdapter {
    pub file: PathBuf,
    pub image: PathBuf,
    /// Pictures beside it.
    #[serde(default)]
    pub more: Vec<PathBuf>,
    pub scale: f64,
    pub image_encoder: PathBuf,
}

#[derive(Deserialize)]
pub struct ToldControlNet {
    pub dir: PathBuf,
    pub image: PathBuf,
    pub scale: f64,
}

/// A folder with a case.
pub struct Case {
    pub name: String,
    pub dir: PathBuf,
    pub told: Told,
    pub vectors: HashMap<String, Tensor>,
    pub model: StableDiffusion,
    /// What its line calls the device, if it is not the processor.
    device: String,
}

/// A stage: its name, whether it compares this vector, and how.
pub struct CaseStage {
    pub name: &'static str,
    pub covers: fn(&str) -> bool,
    pub run: fn(&Case, &mut Stage) -> Outcome,
}

/// How far values may be off that a GPU computed, whose sums come in another order.
const GPU_LIMIT: f32 = 2e-3;

/// What goes into the stages and is compared by none.
const INPUTS: [&str; 2] = ["noise", "unet.in"];

impl Case {
    fn open(dir: &Path, told: Told, place: &ComputeDevices) -> Result<Self, Error> {
        let vectors =
            candle_core::safetensors::load(dir.join("vectors.safetensors"), &Device::Cpu)?;
        let options = StableDiffusionOptions {
            held: Some(DType::F32),
            loras: told
                .loras
                .iter()
                .map(|lora| (dir.join(&lora.file), lora.weight))
                .collect(),
            embeddings: told
                .embeddings
                .iter()
                .map(|e| (dir.join(&e.file), e.token.clone()))
                .collect(),
            vae: told.vae.as_ref().map(|file| dir.join(file)),
            ..StableDiffusionOptions::at(place)
        };
        let model = StableDiffusion::open(&dir.join(&told.model), options)?;
        let name = dir.file_name().unwrap_or(dir.as_os_str());
        Ok(Self {
            name: name.to_string_lossy().into_owned(),
            dir: dir.to_path_buf(),
            told,
            vectors,
            model,
            device: match &place.gpu {
                Some(gpu) => format!(" on {}", gpu.info().name),
                None => String::new(),
            },
        })
    }

    pub fn path(&self, file: &Path) -> PathBuf {
        self.dir.join(file)
    }

    /// The pictures that the case's IP-Adapter reads.
    pub fn looked_at(&self) -> Result<Vec<image::RgbImage>, Error> {
        let ip = self.told.ip_adapter.iter();
        let files = ip.flat_map(|ip| std::iter::once(&ip.image).chain(&ip.more));
        files
            .map(|file| Ok(image::open(self.path(file))?.to_rgb8()))
            .collect()
    }

    pub fn get(&self, name: &str) -> Result<&Tensor, Error> {
        let found = self.vectors.get(name);
        found.ok_or_else(|| format!("{name} is not among the recorded values").into())
    }

    /// Whether both halves of a guided batch were recorded.
    pub fn guided(&self) -> bool {
        self.vectors
            .get("unet.in")
            .is_some_and(|x| x.dim(0).ok() == Some(2))
    }

    /// How far values may be off, relative to the largest of them or 1.
    pub fn limit(&self) -> f32 {
        if self.model.gpu().is_some() {
            return GPU_LIMIT;
        }
        let zero_snr = self.scheduler_says("rescale_betas_zero_snr");
        match self.told.family.as_str() {
            // A guidance embedding is only so good in f32, and so are steps from the sigma that
            // stands in for infinity.
            _ if self.vectors.contains_key("timestep_cond") => 3e-4,
            _ if zero_snr && self.vectors.contains_key("sigmas") => 3e-4,
            family => cases_limit(family),
        }
    }

    fn scheduler_says(&self, key: &str) -> bool {
        let over = self.told.scheduler_overrides.get(key);
        over.or_else(|| self.model.scheduler_config().get(key))
            .and_then(serde_json::Value::as_bool)
            .unwrap_or(false)
    }

    /// Compares with the case's tolerance.
    pub fn close(&self, stage: &mut Stage, what: &str, got: &Tensor, want: &Tensor) -> Outcome {
        stage.against(self.limit(), what, got, want)
    }
}

/// How far values of a family may be off, where nothing else is said.
fn cases_limit(family: &str) -> f32 {
    match family {
        // Small activations on purpose; guidance multiplies what f32 leaves uncertain in Z-Image.
        "sd2" | "z-image" => 1e-4,
        _ => 3e-5,
    }
}

/// Every folder with a `case.json` in `dir`, which may be one itself.
pub fn cases(dir: &Path) -> Vec<PathBuf> {
    let is_case = |dir: &Path| {
        let told = std::fs::read(dir.join("case.json")).unwrap_or_default();
        let told: serde_json::Value = serde_json::from_slice(&told).unwrap_or_default();
        told.get("scheduler").is_some() || told.get("sets").is_some()
    };
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

/// Runs the stages of the case in `dir` whose line contains `wanted` on `place`, a line each;
/// whether all of them passed.
pub fn run(dir: &Path, wanted: &str, place: &ComputeDevices) -> bool {
    let name = dir.file_name().unwrap_or(dir.as_os_str()).to_string_lossy();
    if !dir.join("vectors.safetensors").exists() {
        if place.gpu.is_some() {
            return true;
        }
        let line = format!("{name} tokens");
        return !line.contains(wanted)
            || crate::report::line(&line, |stage| sampling::tokens(dir, stage));
    }
    let told = || -> Result<Told, Error> {
        Ok(serde_json::from_slice(&std::fs::read(
            dir.join("case.json"),
        )?)?)
    };
    let told = match told() {
        Ok(told) if transformers::is_one(&told) => {
            // Those compute on candle's devices alone.
            return place.gpu.is_some() || transformers::run(&name, dir, &told, wanted);
        }
        told => told,
    };
    let case = match told.and_then(|told| Case::open(dir, told, place)) {
        Ok(case) => case,
        Err(error) => {
            println!("{name}: fail ({error})");
            return false;
        }
    };
    let mut good = true;
    let mut left: BTreeSet<&str> = case.vectors.keys().map(String::as_str).collect();
    left.retain(|vector| !INPUTS.contains(vector));
    for stage in networks::STAGES.iter().chain(sampling::STAGES) {
        let before = left.len();
        left.retain(|vector| !(stage.covers)(vector));
        let line = format!("{} {}{}", case.name, stage.name, case.device);
        if left.len() < before && line.contains(wanted) {
            good &= crate::report::line(&line, |found| (stage.run)(&case, found));
        }
    }
    if !left.is_empty() && wanted.is_empty() {
        println!("{name}: fail (no stage compares {left:?})");
        good = false;
    }
    good
}
