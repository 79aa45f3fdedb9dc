//! The parts of a transformer model, found in a folder, in one file or in several.

use super::find::{DitPart, part_of};
use super::flux::FluxConfig;
use super::source::WeightsFile;
use super::texts::{FluxTexts, Texts, ZImageTexts, find_qwen, find_t5};
use super::z_image::ZImageConfig;
use super::{Dit, DitFamily, FlowConfig, Transformer};
use crate::diffusion::error::read_json;
use crate::diffusion::stable::{
    LoadablePart, asked_text, asked_vae, builtin_texts, checkpoint, read_config, vae_part,
};
use crate::diffusion::{DiffusionError, StableDiffusionFamily, TextConfig, VaeConfig};
use crate::weights::{Checkpoint, TensorSlice};
use candle_core::Device;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A folder in diffusers' layout.
pub(super) fn folder(dir: &Path, device: &Device) -> Result<Dit, DiffusionError> {
    let config = dir.join("transformer/config.json");
    let config_json: Map<String, Value> = read_json(&config)?;
    let class = config_json.get("_class_name").and_then(Value::as_str);
    let file = checkpoint(&dir.join("transformer"))?;
    let family = match class {
        Some("FluxTransformer2DModel") => DitFamily::Flux,
        Some("ZImageTransformer2DModel") => DitFamily::ZImage,
        other => {
            let why = format!(
                "has a transformer {}, which is not supported",
                other.unwrap_or("of no name")
            );
            return Err(DiffusionError::unfit(
                dir,
                why,
                "use FLUX.1 schnell or dev, or Z-Image",
            ));
        }
    };
    let text = |name: &str| checkpoint(&dir.join(name));
    let plain = |name: &str| text(name).map(WeightsFile::Checkpoint);
    let settings = |name: &str| dir.join(name).join("config.json");
    let texts = match family {
        DitFamily::Flux => {
            let clip = text("text_encoder")?;
            let config = read_json(&settings("text_encoder"))?;
            let t5 = find_t5(&plain("text_encoder_2")?, Some(&settings("text_encoder_2")))?;
            flux_texts(
                &clip,
                config,
                t5,
                [Some(dir.join("tokenizer")), Some(dir.join("tokenizer_2"))],
            )?
        }
        DitFamily::ZImage => {
            let qwen = find_qwen(&plain("text_encoder")?, Some(&settings("text_encoder")))?;
            z_image_texts(qwen, Some(dir.join("tokenizer")))
        }
    };
    let (vae, _): (VaeConfig, _) = read_config(&settings("vae"))?;
    let parts = Parts {
        config: Some(&config),
        vae: (text("vae")?, vae),
        scheduler: read_json(&dir.join("scheduler/scheduler_config.json"))?,
        texts,
    };
    join(dir, family, &WeightsFile::Checkpoint(file), parts, device)
}

/// A file with the transformer, and where the rest lies.
pub(super) fn file(path: &Path, more: &[PathBuf], device: &Device) -> Result<Dit, DiffusionError> {
    let own = WeightsFile::open(path)?;
    let Some(family) = DitFamily::of(&|name| own.contains(name)) else {
        let why = "holds no transformer of FLUX.1 or Z-Image";
        let remedy = "`vokenboard models identify` says what it is";
        return Err(DiffusionError::unfit(path, why, remedy));
    };
    let mut found: Vec<(DitPart, Arc<Checkpoint>)> = Vec::new();
    for path in more {
        let file = checkpoint(path)?;
        let Some(part) = part_of(family, &|name| file.contains(name)) else {
            let why = format!("is no part that a model of the kind {family} needs");
            let remedy = "name its text encoders and its VAE";
            return Err(DiffusionError::unfit(path, why, remedy));
        };
        found.push((part, file));
    }
    let part = |wanted: DitPart| -> Result<Arc<Checkpoint>, DiffusionError> {
        if let Some((_, file)) = found.iter().find(|(part, _)| *part == wanted) {
            return Ok(file.clone());
        }
        let inside = match &own {
            WeightsFile::Checkpoint(own) => wanted
                .is_in(&|name| own.contains(name))
                .then(|| own.clone()),
            WeightsFile::Gguf(..) => None,
        };
        inside.ok_or_else(|| {
            let why = format!("holds the transformer without {}", wanted.label());
            let remedy = "name the file of that part with --with when you add it, or put it into the same folder";
            DiffusionError::unfit(path, why, remedy)
        })
    };
    let beside = path.parent().map(|dir| dir.join("config"));
    let beside = beside.filter(|dir| dir.join("transformer.json").is_file());
    let beside_it = |name: &str| beside.as_ref().map(|dir| dir.join(name));
    let texts = match family {
        DitFamily::Flux => {
            let config = match beside_it("text_encoder.json") {
                Some(path) => read_json(&path)?,
                None => published_clip(),
            };
            let t5 = WeightsFile::Checkpoint(part(DitPart::T5)?);
            let t5 = find_t5(&t5, beside_it("text_encoder_2.json").as_deref())?;
            let tokenizers = [beside_it("tokenizer"), beside_it("tokenizer_2")];
            flux_texts(&part(DitPart::Clip)?, config, t5, tokenizers)?
        }
        DitFamily::ZImage => {
            let config = beside_it("text_encoder.json");
            let qwen = WeightsFile::Checkpoint(part(DitPart::Qwen3)?);
            z_image_texts(find_qwen(&qwen, config.as_deref())?, beside_it("tokenizer"))
        }
    };
    let guided = is_guided(&own);
    let config = beside_it("transformer.json");
    let parts = Parts {
        config: config.as_deref(),
        vae: (
            part(DitPart::Vae)?,
            match beside_it("vae.json") {
                Some(path) => read_config(&path)?.0,
                None => published_vae(),
            },
        ),
        scheduler: match beside_it("scheduler.json") {
            Some(path) => read_json(&path)?,
            None => published_flow(family, guided),
        },
        texts,
    };
    join(path, family, &own, parts, device)
}

/// All but the transformer.
struct Parts<'a> {
    /// Of the transformer.
    config: Option<&'a Path>,
    vae: (Arc<Checkpoint>, VaeConfig),
    scheduler: Map<String, Value>,
    texts: Texts,
}

fn join(
    path: &Path,
    family: DitFamily,
    file: &WeightsFile,
    parts: Parts,
    device: &Device,
) -> Result<Dit, DiffusionError> {
    let mut texts = parts.texts;
    let transformer = match family {
        DitFamily::Flux => {
            let config = match parts.config {
                Some(path) => read_json(path)?,
                None => FluxConfig::published(is_guided(file)),
            };
            let about = parts.config.unwrap_or(path);
            config
                .check()
                .map_err(|e| DiffusionError::config(about, e))?;
            let weights = config.weights(file)?;
            if let Texts::Flux(texts) = &mut texts {
                texts.length = config.text_tokens();
            }
            Transformer::Flux(config, weights)
        }
        DitFamily::ZImage => {
            let config = match parts.config {
                Some(path) => {
                    let config = ZImageConfig::read(read_json(path)?);
                    config.map_err(|why| DiffusionError::config(path, why))?
                }
                None => ZImageConfig::published(),
            };
            let weights = config.weights(file)?;
            if let Texts::ZImage(texts) = &mut texts {
                texts.length = config.text_tokens();
                let width = texts.config.hidden_size;
                if width != config.text_width() {
                    let why = format!(
                        "reads texts of width {}, and its text encoder writes {width}",
                        config.text_width()
                    );
                    let remedy = "use the text encoder that belongs to it";
                    return Err(DiffusionError::unfit(path, why, remedy));
                }
            }
            Transformer::ZImage(config, weights)
        }
    };
    let (file, config) = parts.vae;
    if config.latent_channels != 16 {
        let why = format!(
            "has latents of {} channels where 16 are needed",
            config.latent_channels
        );
        return Err(DiffusionError::unfit(
            file.path(),
            why,
            "use the VAE that belongs to the model",
        ));
    }
    let asked = asked_vae(file.path(), &config)?;
    let flow = FlowConfig::new(parts.scheduler);
    Ok(Dit {
        path: path.to_path_buf(),
        transformer,
        texts,
        vae: vae_part(&file, config, asked, &["", "vae.", "first_stage_model."])?,
        flow: flow.map_err(|why| DiffusionError::Settings(why.into()))?,
        device: device.clone(),
    })
}

fn flux_texts(
    file: &Arc<Checkpoint>,
    config: TextConfig,
    (t5, t5_config): (super::Weights, candle_transformers::models::t5::Config),
    [clip_tokenizer, t5_tokenizer]: [Option<PathBuf>; 2],
) -> Result<Texts, DiffusionError> {
    let asked = asked_text(file.path(), &config, 0)?;
    let clip = LoadablePart::new(file, config, asked, "CLIP's text encoder", |name| {
        let bare = name.strip_prefix("text_model.").unwrap_or(name);
        let wrapped = format!("text_encoders.clip_l.transformer.{name}");
        let names = [name.to_owned(), bare.to_owned(), wrapped];
        names.map(|name| (name, TensorSlice::Whole)).to_vec()
    })?;
    Ok(Texts::Flux(Box::new(FluxTexts {
        clip,
        clip_tokenizer,
        t5,
        t5_config,
        t5_tokenizer,
        length: 0,
    })))
}

fn z_image_texts(
    (qwen, config): (
        super::Weights,
        candle_transformers::models::z_image::TextEncoderConfig,
    ),
    tokenizer: Option<PathBuf>,
) -> Texts {
    Texts::ZImage(Box::new(ZImageTexts {
        qwen,
        config,
        tokenizer,
        length: 0,
    }))
}

/// Whether a FLUX.1 takes guidance as an input.
fn is_guided(file: &WeightsFile) -> bool {
    let names = super::names::flux("guidance_in.in_layer.weight", 0);
    let mut firsts = names.iter().filter_map(|joined| joined.first());
    firsts.any(|(name, _)| file.contains(name))
}

fn published_clip() -> TextConfig {
    builtin_texts(StableDiffusionFamily::Sd1).remove(0)
}

fn published_vae() -> VaeConfig {
    VaeConfig {
        latent_channels: 16,
        block_out_channels: vec![128, 256, 512, 512],
        layers_per_block: 2,
        scaling_factor: 0.3611,
        shift_factor: Some(0.1159),
        use_quant_conv: false,
        use_post_quant_conv: false,
        sample_size: 1024,
        ..VaeConfig::default()
    }
}

/// `scheduler_config.json` of the published models.
fn published_flow(family: DitFamily, guided: bool) -> Map<String, Value> {
    let all = match (family, guided) {
        (DitFamily::Flux, true) => json!({"shift": 3.0, "use_dynamic_shifting": true}),
        (DitFamily::Flux, false) => json!({"shift": 1.0}),
        (DitFamily::ZImage, _) => json!({"shift": 3.0}),
    };
    match all {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
