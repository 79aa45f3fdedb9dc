//! Folders of weights: diffusers' and Hugging Face's layouts, folders of one GGUF model, our own,
//! and the public weights of MiniGPT-5.

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::Device;
use serde_json::Value;

use super::{CatalogueError, ELSEWHERE, dit, header, identify, projector, refused, usable};
use crate::diffusion::{Dit, SchedulerConfig, StableDiffusion, StableDiffusionOptions};
use crate::published;
use crate::weights::{Checkpoint, Identity, MANIFEST, Manifest, WeightsKind};

/// The longest configuration that is read.
const LONGEST: u64 = 4 << 20;

/// What the folder `dir` is.
///
/// # Errors
/// When it cannot be read, or what it holds is damaged or is more than one thing.
pub(super) fn identify_folder(dir: &Path) -> Result<Identity, CatalogueError> {
    fs::read_dir(dir).map_err(|error| CatalogueError::read(dir, error))?;
    if dir.join(MANIFEST).is_file()
        && let Ok(manifest) = Manifest::read(dir)
    {
        return Ok(own(&manifest));
    }
    if dir.join("model_index.json").is_file() {
        return pipeline(dir);
    }
    if dir.join("config.json").is_file() {
        return configured(dir);
    }
    let weights = projector::models_in(dir);
    if let [only] = &weights[..] {
        return identify(only);
    }
    if published::is_published(dir) {
        return Ok(usable(
            WeightsKind::Storyteller,
            "minigpt-5",
            "the public weights of MiniGPT-5",
            "its parts are there, among them the stage-1 checkpoint (t2i_decoder_prompt)",
        ));
    }
    Err(CatalogueError::Trouble {
        path: dir.to_path_buf(),
        reason: match weights.len() {
            0 => "holds no weights that are known by themselves".to_string(),
            many => format!("holds {many} files of weights"),
        },
        remedy: "name one file or model folder, or list all of it with `vokenboard models scan`"
            .to_string(),
    })
}

/// A folder with a manifest of ours.
fn own(manifest: &Manifest) -> Identity {
    if let Some(identity) = &manifest.identity {
        return identity.clone();
    }
    let is = match manifest.pipeline.as_str() {
        "language-model" => WeightsKind::LanguageModel,
        _ => WeightsKind::Storyteller,
    };
    let mut identity = usable(
        is,
        &manifest.pipeline,
        &manifest.name,
        format!(
            "{MANIFEST} says that it is a model of this program ({})",
            manifest.pipeline
        ),
    );
    identity.tensor_bytes = manifest.files.iter().map(|file| file.size).sum();
    identity
}

/// The JSON file `path`.
///
/// # Errors
/// When it cannot be read or is none.
fn read_json(path: &Path) -> Result<Value, CatalogueError> {
    let about = fs::metadata(path).map_err(|error| CatalogueError::read(path, error))?;
    if !about.is_file() || about.len() > LONGEST {
        return Err(CatalogueError::damaged(path, "it is no configuration"));
    }
    let text = crate::files::read_whole(path).map_err(|error| CatalogueError::read(path, error))?;
    serde_json::from_slice(&text).map_err(|error| CatalogueError::damaged(path, error))
}

/// A folder in diffusers' layout.
fn pipeline(dir: &Path) -> Result<Identity, CatalogueError> {
    let index = read_json(&dir.join("model_index.json"))?;
    let class = index["_class_name"].as_str().unwrap_or_default();
    let why = format!("model_index.json says {class}");
    let unet = dir.join("unet/config.json");
    if !unet.is_file() {
        let (family, called) = other_pipeline(class);
        let identity = refused(family, called, why, ELSEWHERE);
        return match TRANSFORMERS.contains(&class) && dir.join("transformer").is_dir() {
            true => transformer(dir, identity),
            false => Ok(identity),
        };
    }
    let unet = read_json(&unet)?;
    if let Some((family, called)) = other_unet(class, &unet) {
        return Ok(refused(family, called, why, ELSEWHERE));
    }
    let opened = StableDiffusion::open(dir, StableDiffusionOptions::on(&Device::Cpu))?;
    let family = opened.family();
    let mut identity = usable(WeightsKind::Model, &family.to_string(), family.label(), why);
    let prediction = opened.scheduler_config().get("prediction_type");
    identity.prediction = Some(
        prediction
            .and_then(Value::as_str)
            .unwrap_or("epsilon")
            .to_string(),
    );
    let scheduler = SchedulerConfig::try_from(opened.scheduler_config().clone());
    identity
        .notes
        .extend(scheduler.map_or_else(Some, |scheduler| scheduler.trouble()));
    identity.in_channels = Some(opened.unet_config().in_channels);
    if identity.in_channels == Some(9) {
        identity.called.push_str(" inpainting");
    }
    identity.picture_size = Some(opened.picture_size().0);
    let tensors = tensors_of(dir, &["text_encoder", "text_encoder_2", "unet", "vae"])?;
    super::measure(&tensors, &mut identity);
    Ok(identity)
}

/// Pipelines of FLUX.1 and Z-Image that draw from words.
const TRANSFORMERS: [&str; 5] = [
    "FluxPipeline",
    "FluxImg2ImgPipeline",
    "FluxInpaintPipeline",
    "ZImagePipeline",
    "ZImageImg2ImgPipeline",
];

/// A folder of FLUX.1 or Z-Image.
fn transformer(dir: &Path, mut identity: Identity) -> Result<Identity, CatalogueError> {
    let opened = Dit::open(dir, &[], &Device::Cpu)?;
    dit::used(&mut identity);
    identity.called = opened.label().to_string();
    identity.picture_size = Some(opened.picture_size().0);
    let tensors = tensors_of(
        dir,
        &["text_encoder", "text_encoder_2", "transformer", "vae"],
    )?;
    super::measure(&tensors, &mut identity);
    Ok(identity)
}

/// The tensors of these parts of a folder, each behind its part's path.
fn tensors_of(dir: &Path, parts: &[&str]) -> Result<super::HeaderTensors, CatalogueError> {
    let mut tensors = super::HeaderTensors::default();
    for part in parts {
        let part = dir.join(part);
        if part.is_dir() {
            let read = header::of_checkpoint(&Checkpoint::open(&part)?);
            let name = |(name, info)| (format!("{}/{name}", part.display()), info);
            tensors.map.extend(read.map.into_iter().map(name));
        }
    }
    Ok(tensors)
}

/// Pipelines without a UNet.
fn other_pipeline(class: &str) -> (&'static str, &'static str) {
    const PIPELINES: [(&str, &str, &str); 22] = [
        ("Flux2", "flux2", "FLUX.2"),
        ("FluxKontext", "flux", "FLUX.1 Kontext"),
        ("FluxFill", "flux", "FLUX.1 Fill"),
        ("Flux", "flux", "FLUX.1"),
        ("Chroma", "chroma", "Chroma"),
        ("StableDiffusion3", "sd3", "Stable Diffusion 3"),
        ("ZImage", "z-image", "Z-Image"),
        ("Lumina", "lumina2", "Lumina-Image"),
        ("QwenImage", "qwen-image", "Qwen-Image"),
        ("HiDream", "hidream", "HiDream-I1"),
        ("AuraFlow", "auraflow", "AuraFlow"),
        ("PixArt", "pixart", "PixArt"),
        ("HunyuanDiT", "hunyuan-dit", "Hunyuan-DiT"),
        ("HunyuanVideo", "hunyuan-video", "HunyuanVideo"),
        ("Wan", "wan", "Wan"),
        ("LTX", "ltx-video", "LTX-Video"),
        ("Mochi", "mochi", "Mochi 1"),
        ("Cosmos", "cosmos", "Cosmos"),
        ("StableCascade", "stable-cascade", "Stable Cascade"),
        ("Wuerstchen", "stable-cascade", "Würstchen"),
        ("Sana", "sana", "Sana"),
        ("CogVideoX", "cogvideox", "CogVideoX"),
    ];
    let known = PIPELINES
        .iter()
        .find(|(begin, ..)| class.starts_with(begin));
    known.map_or(
        ("unknown", "a pipeline of another kind"),
        |(_, family, called)| (family, called),
    )
}

/// Pipelines whose UNet is of another kind.
fn other_unet(class: &str, unet: &Value) -> Option<(&'static str, &'static str)> {
    let reads = unet["in_channels"].as_u64().unwrap_or(4);
    let is_class = |begin: &str| class.starts_with(begin);
    Some(match class {
        _ if is_class("StableVideoDiffusion") => ("svd", "Stable Video Diffusion"),
        _ if is_class("Kolors") => ("kolors", "Kolors"),
        _ if is_class("Kandinsky") => ("kandinsky", "Kandinsky"),
        _ if is_class("IF") => ("deepfloyd-if", "DeepFloyd IF"),
        _ if is_class("AnimateDiff") => ("animatediff", "AnimateDiff"),
        _ if class.contains("InstructPix2Pix")
            || (reads == 8 && !is_class("StableDiffusionLatentUpscale")) =>
        {
            ("instruct-pix2pix", "InstructPix2Pix")
        }
        _ if class.contains("Upscale") || reads == 7 => {
            ("sd-x4-upscaler", "the Stable Diffusion x4 upscaler")
        }
        _ if class.contains("Depth2Img") || reads == 5 => ("sd2-depth", "SD2 depth"),
        _ if class.contains("UnCLIP") || class.contains("ImageVariation") => {
            ("sd2-unclip", "Stable unCLIP")
        }
        _ if class.contains("GLIGEN") => ("gligen", "GLIGEN"),
        _ => return None,
    })
}

/// A folder with one network and its `config.json`.
fn configured(dir: &Path) -> Result<Identity, CatalogueError> {
    let path = dir.join("config.json");
    let config = read_json(&path)?;
    if let Some(way) = quantised(&config) {
        let family = config["model_type"].as_str().unwrap_or("unknown");
        return Ok(refused(
            family,
            &format!("a model whose weights are packed with {way}"),
            format!("{}: quantization_config says {way}", path.display()),
            "use the same model as a GGUF file, or with f16 or bf16 weights",
        ));
    }
    if is_writer(&config) {
        return Ok(language_model(&config, &path));
    }
    let tensors = header::of_checkpoint(&Checkpoint::open(dir)?);
    Ok(super::identify_tensors(&tensors.unwrapped()))
}

/// The way in which a configuration says that weights are packed.
fn quantised(config: &Value) -> Option<String> {
    let quantisation = config
        .get("quantization_config")
        .or(config.get("compression_config"))?;
    let method = quantisation["quant_method"].as_str();
    let bits = |key: &str| quantisation[key].as_bool().unwrap_or(false);
    Some(match method {
        Some("gptq") => "GPTQ".to_string(),
        Some("awq") => "AWQ".to_string(),
        Some("bitsandbytes") => "bitsandbytes".to_string(),
        Some(other) => other.to_string(),
        None if bits("load_in_4bit") || bits("load_in_8bit") => "bitsandbytes".to_string(),
        None => "a quantisation that it does not name".to_string(),
    })
}

fn is_writer(config: &Value) -> bool {
    let classes = config["architectures"].as_array();
    let class = classes
        .and_then(|list| list.first())
        .and_then(Value::as_str);
    class.is_some_and(|class| {
        class.contains("CausalLM") || class.contains("ForConditionalGeneration")
    }) || (class.is_none()
        && config.get("num_hidden_layers").is_some()
        && config.get("rms_norm_eps").is_some())
}

/// A language model in Hugging Face's layout, which is read only as a part of MiniGPT-5.
fn language_model(config: &Value, path: &Path) -> Identity {
    let family = config["model_type"].as_str().unwrap_or("unknown");
    let mut identity = refused(
        family,
        "a language model in Hugging Face's layout",
        format!("{} says model_type {family}", path.display()),
        "use the same model as a GGUF file (Q4_K_M or Q8_0)",
    );
    identity.arch = Some(family.to_string());
    identity.context_length = config["max_position_embeddings"]
        .as_u64()
        .and_then(|n| usize::try_from(n).ok());
    identity
}

/// Pixels a side that the checkpoint or folder at `path` was trained for, opened as far as its
/// configuration, so that what does not fit is told.
///
/// # Errors
/// A setting or tensor that is not read, by its name.
pub(super) fn trained_size(path: &Path) -> Result<u32, CatalogueError> {
    let opened = StableDiffusion::open(path, StableDiffusionOptions::on(&Device::Cpu))?;
    Ok(opened.picture_size().0)
}

/// The files of a folder in diffusers' layout that belong to it, from there.
pub(super) fn parts_of(dir: &Path) -> Vec<PathBuf> {
    let parts = [
        "unet",
        "transformer",
        "vae",
        "text_encoder",
        "text_encoder_2",
        "tokenizer",
        "tokenizer_2",
        "scheduler",
    ];
    let mut files = vec![PathBuf::from("model_index.json")];
    for part in parts {
        let folder = dir.join(part);
        if let Ok(weights) = Checkpoint::open(&folder) {
            let inside = weights
                .files()
                .into_iter()
                .filter_map(|file| file.strip_prefix(dir).ok());
            files.extend(inside.map(Path::to_path_buf));
        }
        let listing = fs::read_dir(&folder).into_iter().flatten();
        let small = listing.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let small = small.filter(|name| {
            !name.starts_with('.') && (name.ends_with(".json") || name.ends_with(".txt"))
        });
        files.extend(small.map(|name| Path::new(part).join(name)));
    }
    files.retain(|file| dir.join(file).is_file());
    files.sort();
    files.dedup();
    files
}
