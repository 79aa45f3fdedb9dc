//! A folder of recorded values with the checkpoint that gave them.

use crate::report::Error;
use candle_core::{DType, Device, Tensor};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vokenboard::diffusion::{CaptionTokenizer, LatentDiffusion, ModelFolder, TextEncoder, Unet};
use vokenboard::llm::LlamaTokenizer;
use vokenboard::llm::float::{FloatConfig, FloatLlama};
use vokenboard::nn::gpu::Gpu;
use vokenboard::nn::{LayerNorm, Params};
use vokenboard::vision::{Eva, QFormer, TowerParams, VisionTower};
use vokenboard::voken::{BaseModel, ReferenceSizes, VokenModel};
use vokenboard::weights::{Checkpoint, TensorView};

pub type Vectors = HashMap<String, Tensor>;

pub struct Fixture {
    pub name: String,
    dir: PathBuf,
    pub sizes: ReferenceSizes,
    /// Where networks compute that a model of this program loads onto a GPU through wgpu.
    pub gpu: Option<Gpu>,
    manifest: serde_json::Value,
}

/// Which checkpoint of training is loaded, and what is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trained {
    First,
    Second,
}

/// A model with the parameters that its stage trains.
pub struct Loaded {
    pub model: VokenModel,
    /// The store of those parameters.
    pub params: Params,
}

/// A part of the checkpoint that the folder doesn't have.
#[derive(Debug)]
struct Absent(PathBuf);

impl std::fmt::Display for Absent {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{} is not there", self.0.display())
    }
}

impl std::error::Error for Absent {}

impl Fixture {
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let read = |name: &str| std::fs::read(dir.join(name));
        let manifest = match read("manifest.json") {
            Ok(bytes) => serde_json::from_slice(&bytes)?,
            Err(_) => serde_json::Value::Null,
        };
        // Without sizes of its own a folder has the real model's.
        let sizes = match read("checkpoint/tiny_config.json") {
            Ok(bytes) => serde_json::from_slice(&bytes)?,
            Err(_) => ReferenceSizes::default(),
        };
        let name = dir.file_name().unwrap_or(dir.as_os_str());
        Ok(Self {
            name: name.to_string_lossy().into_owned(),
            dir: dir.to_path_buf(),
            sizes,
            gpu: None,
            manifest,
        })
    }

    /// The same, whose networks compute on a GPU where they can.
    pub fn on(&self, gpu: &Gpu) -> Self {
        Self {
            name: format!("{} on {}", self.name, gpu.info().name),
            dir: self.dir.clone(),
            sizes: self.sizes.clone(),
            gpu: Some(gpu.clone()),
            manifest: self.manifest.clone(),
        }
    }

    pub fn has_vectors(&self, name: &str) -> bool {
        let vectors = self.dir.join("vectors");
        ["safetensors", "json"]
            .iter()
            .any(|kind| vectors.join(format!("{name}.{kind}")).exists())
    }

    /// What the folder lacks, where that is the error.
    pub fn absent(&self, error: Option<&Error>) -> Option<String> {
        error?.downcast_ref::<Absent>().map(ToString::to_string)
    }

    pub fn vectors(&self, name: &str) -> Result<Vectors, Error> {
        let path = self.dir.join(format!("vectors/{name}.safetensors"));
        Ok(candle_core::safetensors::load(path, &Device::Cpu)?)
    }

    pub fn json<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<T, Error> {
        let path = self.dir.join(format!("vectors/{name}.json"));
        Ok(serde_json::from_slice(&std::fs::read(path)?)?)
    }

    /// What the manifest says about a stage's vectors.
    pub fn description(&self, name: &str) -> &str {
        let file = &self.manifest["files"][format!("vectors/{name}.safetensors")];
        file["description"].as_str().unwrap_or_default()
    }

    /// The caption of a training run's sample.
    pub fn caption(&self, name: &str, sample: usize) -> Option<&str> {
        self.manifest["training_runs"][name]["texts"][sample]["caption"].as_str()
    }

    /// Which checkpoints a stage's vectors were made with.
    pub fn trained(&self, name: &str) -> Trained {
        let file = &self.manifest["files"][format!("vectors/{name}.safetensors")];
        // Those that are not named after their stage belong to the second.
        let second = [
            "llama_lora",
            "generate_playground",
            "generate_stop",
            "generate_eos",
        ];
        let used = file["weights_used"].as_str();
        let used = used.unwrap_or(if second.contains(&name) {
            "stage2"
        } else {
            name
        });
        match used.contains("stage2") {
            true => Trained::Second,
            false => Trained::First,
        }
    }

    pub fn path(&self, name: &str) -> Result<PathBuf, Error> {
        let path = self.dir.join(name);
        match path.exists() {
            true => Ok(path),
            false => Err(Box::new(Absent(path))),
        }
    }

    /// A file of weights, or a folder that holds at least one.
    pub fn weights(&self, name: &str) -> Result<PathBuf, Error> {
        let path = self.path(name)?;
        let held = |file: &Path| {
            let end = file.extension().and_then(|end| end.to_str());
            end.is_some_and(|end| ["safetensors", "bin"].contains(&end))
        };
        let mut inside = std::fs::read_dir(&path).into_iter().flatten().flatten();
        match path.is_file() || inside.any(|entry| held(&entry.path())) {
            true => Ok(path),
            false => Err(Box::new(Absent(path.join("weights")))),
        }
    }

    fn checkpoint(&self, name: &str) -> Result<Arc<Checkpoint>, Error> {
        let path = self.weights(&format!("checkpoint/{name}"))?;
        Ok(Arc::new(Checkpoint::open(&path)?))
    }

    fn params(&self, name: &str, trainable: bool) -> Result<Params, Error> {
        let view = TensorView::of(&self.checkpoint(name)?);
        Ok(Params::from_source(Arc::new(view), trainable, &Device::Cpu))
    }

    /// Those of a network that may compute on the GPU.
    fn placed(&self, name: &str) -> Result<Params, Error> {
        Ok(self.params(name, false)?.on(self.gpu.as_ref()))
    }

    /// What opens the networks of Stable Diffusion where they are to compute.
    fn open_placed(&self) -> impl Fn(TensorView) -> Params {
        let gpu = self.gpu.clone();
        move |view| Params::from_source(Arc::new(view), false, &Device::Cpu).on(gpu.as_ref())
    }

    pub fn unet(&self) -> Result<Unet, Error> {
        Ok(self.stable_diffusion()?.open_unet(&self.open_placed())?)
    }

    /// Moves what a loaded model speaks with to the GPU, where there is one.
    pub fn move_to_gpu(&self, model: &mut VokenModel) -> Result<(), Error> {
        let Some(gpu) = &self.gpu else {
            return Ok(());
        };
        if let Some(why) = model.llama.move_to(gpu)? {
            return Err(format!("the language model can't be moved: {why}").into());
        }
        Ok(model.mapper.move_to(gpu)?)
    }

    /// Stable Diffusion without its text encoder.
    pub fn painter(&self) -> Result<LatentDiffusion, Error> {
        for part in ["unet", "vae"] {
            self.path(&format!("checkpoint/sd/{part}/config.json"))?;
            self.weights(&format!("checkpoint/sd/{part}"))?;
        }
        self.path("checkpoint/sd/scheduler/scheduler_config.json")?;
        let dir = self.path("checkpoint/sd")?;
        let open = self.open_placed();
        Ok(LatentDiffusion::open(&dir, &Device::Cpu, &open)?)
    }

    /// Its text encoder and tokenizer.
    pub fn captioner(&self) -> Result<(TextEncoder, CaptionTokenizer), Error> {
        for part in ["tokenizer/vocab.json", "text_encoder/config.json"] {
            self.path(&format!("checkpoint/sd/{part}"))?;
        }
        self.weights("checkpoint/sd/text_encoder")?;
        let folder = self.stable_diffusion()?;
        Ok((
            folder.open_text_encoder(&self.open_placed())?,
            folder.read_tokenizer()?,
        ))
    }

    pub fn stable_diffusion(&self) -> Result<ModelFolder, Error> {
        Ok(ModelFolder::new(self.path("checkpoint/sd")?))
    }

    pub fn tokenizer(&self) -> Result<LlamaTokenizer, Error> {
        self.path("checkpoint/llama/tokenizer.model")?;
        let tokenizer = LlamaTokenizer::load(&self.path("checkpoint/llama")?)?;
        Ok(tokenizer.with_vokens(self.sizes.voken_count))
    }

    pub fn llama_config(&self) -> Result<FloatConfig, Error> {
        self.path("checkpoint/llama/config.json")?;
        Ok(FloatConfig::read(&self.path("checkpoint/llama")?)?)
    }

    /// The language model as it was before training.
    pub fn base(&self) -> Result<FloatLlama, Error> {
        let params = self.params("llama", false)?;
        Ok(FloatLlama::new(self.llama_config()?, &params)?)
    }

    pub fn loaded(&self, trained: Trained, training: bool) -> Result<Loaded, Error> {
        let base = self.params("llama", false)?;
        let first = trained == Trained::First;
        let one = self.params("stage1_cc3m.ckpt", training && first)?;
        let two = match trained {
            Trained::First => None,
            Trained::Second => Some(self.params("stage2_vist.ckpt", training)?),
        };
        let bos = match self.tokenizer() {
            // LLaMA's own, where the folder lacks its tokenizer.
            Err(error) if error.is::<Absent>() => 1,
            tokenizer => tokenizer?.bos(),
        };
        let config = self.llama_config()?;
        let model = VokenModel::read(
            BaseModel::Float(&config, &base),
            &self.sizes,
            bos,
            &one,
            two.as_ref(),
        )?;
        Ok(Loaded {
            model,
            params: two.unwrap_or(one),
        })
    }

    /// The vision transformer alone.
    pub fn vit(&self) -> Result<Eva, Error> {
        let vision = &self.sizes.vision;
        let params = self.params("eva_vit_g.pth", false)?;
        Ok(Eva::new(&vision.eva_vit, vision.image_size, &params)?)
    }

    /// The norm before the Q-Former, and it alone.
    pub fn qformer(&self) -> Result<(LayerNorm, QFormer), Error> {
        let vision = &self.sizes.vision;
        let params = self.params("blip2_pretrained_flant5xxl.pth", false)?;
        let norm = params.pp("ln_vision");
        Ok((
            norm.layer_norm(vision.eva_vit.embed_dim, vision.ln_vision_eps)?,
            QFormer::new(&vision.qformer, &params)?,
        ))
    }

    pub fn tower(&self) -> Result<VisionTower, Error> {
        let params = TowerParams {
            vit: self.placed("eva_vit_g.pth")?,
            qformer: self.placed("blip2_pretrained_flant5xxl.pth")?,
            projection: self.placed("minigpt4.pth")?,
        };
        let shape = params.projection.shape("llama_proj.weight");
        let width = shape.ok_or("minigpt4.pth has no llama_proj.weight")?[0];
        Ok(VisionTower::new(self.sizes.vision.clone(), width, &params)?)
    }

    /// Embeddings `[N,queries,width]` of pictures `[N,3,S,S]`.
    pub fn see(&self, pictures: &Tensor) -> Result<Tensor, Error> {
        Ok(self.tower()?.forward(&nhwc(pictures)?)?)
    }
}

/// What was computed or, where the folder lacks a part for that, what was recorded.
pub fn or_recorded(computed: Result<Tensor, Error>, recorded: &Tensor) -> Result<Tensor, Error> {
    match computed {
        Err(error) if error.is::<Absent>() => Ok(recorded.clone()),
        other => other,
    }
}

/// `[B,C,H,W]` -> `[B,H,W,C]`.
pub fn nhwc(t: &Tensor) -> candle_core::Result<Tensor> {
    t.permute((0, 2, 3, 1))?.contiguous()
}

/// The vectors' tensor of that name.
pub fn get<'a>(v: &'a Vectors, name: &str) -> Result<&'a Tensor, Error> {
    v.get(name)
        .ok_or_else(|| format!("{name} is not among the recorded values").into())
}

/// A tensor of integers.
pub fn ids(t: &Tensor) -> Result<Vec<u32>, Error> {
    let values = t.flatten_all()?.to_dtype(DType::I64)?.to_vec1::<i64>()?;
    Ok(values
        .into_iter()
        .map(u32::try_from)
        .collect::<Result<_, _>>()?)
}

/// Labels, in which -100 is none.
pub fn labels(t: &Tensor) -> Result<Vec<Option<u32>>, Error> {
    let values = t.flatten_all()?.to_dtype(DType::I64)?.to_vec1::<i64>()?;
    Ok(values.into_iter().map(|v| u32::try_from(v).ok()).collect())
}
