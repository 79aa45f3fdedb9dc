//! The parts of a model, found in a folder or in one file.

use super::part::{LoadablePart, Shapes, required_tensors};
use super::{StableDiffusion, StableDiffusionOptions, builtin, ldm};
use crate::diffusion::error::read_json;
use crate::diffusion::family::{self, Detected};
use crate::diffusion::{
    DiffusionError, Prediction, StableDiffusionFamily, TextConfig, TextEncoder, Unet, UnetConfig,
    Vae, VaeConfig,
};
use crate::weights::{Checkpoint, TensorSlice};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const TEXTS: [&str; 2] = ["text_encoder", "text_encoder_2"];
const TOKENIZERS: [&str; 2] = ["tokenizer", "tokenizer_2"];

pub(in crate::diffusion) fn checkpoint(path: &Path) -> Result<Arc<Checkpoint>, DiffusionError> {
    Checkpoint::open(path)
        .map(Arc::new)
        .map_err(DiffusionError::Checkpoint)
}

fn whole(names: impl IntoIterator<Item = String>) -> Vec<(String, TensorSlice)> {
    names
        .into_iter()
        .map(|name| (name, TensorSlice::Whole))
        .collect()
}

pub(in crate::diffusion) fn asked_text(
    path: &Path,
    config: &TextConfig,
    number: usize,
) -> Result<Shapes, DiffusionError> {
    let config = config.clone();
    required_tensors(path, |p| match number {
        0 => TextEncoder::new(config, p),
        _ => TextEncoder::with_projection(config, p),
    })
}

fn asked_unet(path: &Path, config: &UnetConfig) -> Result<Shapes, DiffusionError> {
    required_tensors(path, |p| Unet::new(config.clone(), p))
}

pub(in crate::diffusion) fn asked_vae(
    path: &Path,
    config: &VaeConfig,
) -> Result<Shapes, DiffusionError> {
    required_tensors(path, |p| Vae::new(config.clone(), p))
}

/// The names of a parameter of an autoencoder in diffusers' files, new and old.
fn vae_names(name: &str) -> Vec<(String, TensorSlice)> {
    let old = (ldm::old_vae(name), TensorSlice::Flattened);
    match old.0 != name && name.ends_with(".weight") {
        true => vec![(name.to_string(), TensorSlice::Flattened), old],
        false => whole([name.to_string(), old.0]),
    }
}

/// A folder in diffusers' layout.
pub(super) fn folder(
    dir: &Path,
    options: StableDiffusionOptions,
) -> Result<StableDiffusion, DiffusionError> {
    let unet = dir.join("unet");
    let (mut config, sized): (UnetConfig, _) = read_config(&unet.join("config.json"))?;
    if !sized && config.addition_embed_type.is_some() {
        config.sample_size = builtin::XL_SIDE;
    }
    let sdxl = config.addition_embed_type.is_some();
    let family = match (sdxl, config.use_linear_projection) {
        (true, _) => StableDiffusionFamily::Sdxl,
        (false, true) => StableDiffusionFamily::Sd2,
        (false, false) => StableDiffusionFamily::Sd1,
    };
    if sdxl && !dir.join(TEXTS[0]).is_dir() {
        return Err(refiner(dir));
    }
    let count = if sdxl { 2 } else { 1 };
    let texts = TEXTS[..count]
        .iter()
        .enumerate()
        .map(|(i, name)| {
            let part = dir.join(name);
            let config: TextConfig = read_json(&part.join("config.json"))?;
            let asked = asked_text(&part, &config, i)?;
            LoadablePart::new(
                &checkpoint(&part)?,
                config,
                asked,
                "the text encoder",
                |name| {
                    let bare = name.strip_prefix("text_model.").unwrap_or(name);
                    whole([name.to_string(), bare.to_string()])
                },
            )
        })
        .collect::<Result<_, _>>()?;
    let asked = asked_unet(&unet, &config)?;
    let unet = LoadablePart::new(&checkpoint(&unet)?, config, asked, "the UNet", |name| {
        whole([name.to_string()])
    })?;
    let vae = match &options.vae {
        Some(path) => other_vae(path, &vae_config(&dir.join("vae"), family)?)?,
        None => folder_vae(&dir.join("vae"), family)?,
    };
    let index: Map<String, Value> = match dir.join("model_index.json") {
        index if index.exists() => read_json(&index)?,
        _ => Map::new(),
    };
    let zeros = index.get("force_zeros_for_empty_prompt");
    let mut scheduler = read_json(&dir.join("scheduler/scheduler_config.json"))?;
    predict(&mut scheduler, options.prediction);
    Ok(StableDiffusion {
        path: dir.to_path_buf(),
        family,
        unet,
        vae,
        texts,
        scheduler,
        tokenizers: TOKENIZERS[..count]
            .iter()
            .map(|name| Some(dir.join(name)))
            .collect(),
        added: Vec::new(),
        zeros_for_empty: sdxl && zeros.and_then(Value::as_bool).unwrap_or(true),
        options,
    })
}

/// A network's configuration, and whether it says its `sample_size`: some files have null there,
/// which means no more than that it was left out.
pub(in crate::diffusion) fn read_config<T: DeserializeOwned>(
    path: &Path,
) -> Result<(T, bool), DiffusionError> {
    let mut json: Map<String, Value> = read_json(path)?;
    let sized = json.get("sample_size").is_some_and(|size| !size.is_null());
    if !sized {
        json.remove("sample_size");
    }
    let config = serde_json::from_value(json.into());
    Ok((config.map_err(|e| DiffusionError::config(path, e))?, sized))
}

fn refiner(path: &Path) -> DiffusionError {
    let why = "is the SDXL refiner, which draws nothing by itself";
    DiffusionError::unfit(path, why, "use an SDXL base model")
}

/// The configuration of an autoencoder's folder; where it does not say by what latents are
/// multiplied, that of the family.
fn vae_config(dir: &Path, family: StableDiffusionFamily) -> Result<VaeConfig, DiffusionError> {
    let path = dir.join("config.json");
    let json: Map<String, Value> = read_json(&path)?;
    let (mut config, _): (VaeConfig, _) = read_config(&path)?;
    if !json.contains_key("scaling_factor") {
        config.scaling_factor = builtin::scaling_factor(family);
    }
    Ok(config)
}

fn folder_vae(
    dir: &Path,
    family: StableDiffusionFamily,
) -> Result<LoadablePart<VaeConfig>, DiffusionError> {
    let config = vae_config(dir, family)?;
    let asked = asked_vae(dir, &config)?;
    LoadablePart::new(
        &checkpoint(dir)?,
        config,
        asked,
        "the autoencoder",
        vae_names,
    )
}

/// An autoencoder that comes by itself, for a model whose own has this configuration.
fn other_vae(path: &Path, own: &VaeConfig) -> Result<LoadablePart<VaeConfig>, DiffusionError> {
    let file = checkpoint(path)?;
    let mut config = own.clone();
    if path.is_dir() {
        let json: Map<String, Value> = read_json(&path.join("config.json"))?;
        (config, _) = read_config(&path.join("config.json"))?;
        if !json.contains_key("scaling_factor") {
            config.scaling_factor = own.scaling_factor;
        }
    }
    let first = [
        "decoder.conv_in.weight",
        "first_stage_model.decoder.conv_in.weight",
    ]
    .iter()
    .find_map(|name| file.info(name));
    if let Some(&channels) = first.and_then(|info| info.shape.get(1))
        && channels != own.latent_channels
    {
        let why = format!(
            "is a VAE of {channels} channels, and the model's latents have {}",
            own.latent_channels
        );
        let remedy = "use a VAE made for this kind of model";
        return Err(DiffusionError::unfit(path, why, remedy));
    }
    if !file
        .names()
        .any(|name| name.ends_with("decoder.conv_out.weight"))
    {
        let why = "is no VAE";
        return Err(DiffusionError::unfit(
            path,
            why,
            "use one of Stable Diffusion 1.x, 2.x or XL",
        ));
    }
    let asked = asked_vae(path, &config)?;
    vae_part(&file, config, asked, &["", "first_stage_model.", "vae."])
}

/// An autoencoder in a file, under LDM's names or diffusers', with one of these prefixes.
pub(in crate::diffusion) fn vae_part(
    file: &Arc<Checkpoint>,
    config: VaeConfig,
    asked: Shapes,
    prefixes: &[&str],
) -> Result<LoadablePart<VaeConfig>, DiffusionError> {
    let levels = config.decoder_channels().len();
    LoadablePart::new(file, config, asked, "the autoencoder", |name| {
        let ldm = ldm::vae(name, levels);
        let names: Vec<_> = ldm.into_iter().chain(vae_names(name)).collect();
        prefixes
            .iter()
            .flat_map(|prefix| {
                let with = |(name, taken): &(String, TensorSlice)| {
                    (format!("{prefix}{name}"), taken.clone())
                };
                names.iter().map(with).collect::<Vec<_>>()
            })
            .collect()
    })
}

/// What a single file is configured by.
struct Configs {
    unet: UnetConfig,
    vae: VaeConfig,
    texts: Vec<TextConfig>,
    scheduler: Map<String, Value>,
    tokenizers: Vec<Option<PathBuf>>,
}

/// A checkpoint in one file.
pub(super) fn file(
    path: &Path,
    options: StableDiffusionOptions,
) -> Result<StableDiffusion, DiffusionError> {
    let file = checkpoint(path)?;
    let shapes: Shapes = file
        .names()
        .filter_map(|name| Some((name.to_string(), file.info(name)?.shape.clone())))
        .collect();
    let Some(detected) = family::detect(&shapes) else {
        if shapes
            .keys()
            .any(|name| name.starts_with("conditioner.embedders.0.model."))
        {
            return Err(refiner(path));
        }
        let why = "is no checkpoint of Stable Diffusion 1.x, 2.x or XL";
        let remedy = "`vokenboard models identify` says what it is";
        return Err(DiffusionError::unfit(path, why, remedy));
    };
    let family = detected.family;
    let beside = path.parent().map(|dir| dir.join("config"));
    let configs = match beside.filter(|dir| dir.join("unet.json").is_file()) {
        Some(dir) => configs_in(&dir, family)?,
        None => published(&file, &detected)?,
    };

    let asked = asked_unet(path, &configs.unet)?;
    let config = configs.unet.clone();
    let unet = LoadablePart::new(&file, configs.unet, asked, "the UNet", |name| {
        let ldm = ldm::unet(name, &config).unwrap_or_else(|| name.to_string());
        whole([format!("{}{ldm}", family::UNET)])
    })?;
    let vae = match &options.vae {
        Some(path) => other_vae(path, &configs.vae)?,
        None => {
            let asked = asked_vae(path, &configs.vae)?;
            vae_part(&file, configs.vae, asked, &["first_stage_model."])?
        }
    };
    let texts = configs
        .texts
        .into_iter()
        .enumerate()
        .map(|(i, config)| {
            let asked = asked_text(path, &config, i)?;
            let width = config.hidden_size;
            let prefix = match (family, i) {
                (StableDiffusionFamily::Sd1, _) => "cond_stage_model.transformer.",
                (StableDiffusionFamily::Sd2, _) => "cond_stage_model.model.",
                (StableDiffusionFamily::Sdxl, 0) => "conditioner.embedders.0.transformer.",
                (StableDiffusionFamily::Sdxl, _) => "conditioner.embedders.1.model.",
            };
            let clip = prefix.ends_with("transformer.");
            LoadablePart::new(
                &file,
                config,
                asked,
                "the text encoder",
                |name| match clip {
                    true => {
                        let bare = name.strip_prefix("text_model.").unwrap_or(name);
                        whole([format!("{prefix}{name}"), format!("{prefix}{bare}")])
                    }
                    false => ldm::open_clip(name, width)
                        .map(|(stored, taken)| (format!("{prefix}{stored}"), taken))
                        .into_iter()
                        .collect(),
                },
            )
        })
        .collect::<Result<_, _>>()?;
    let mut scheduler = configs.scheduler;
    // Marker tensors stand above the configuration.
    if detected.v_prediction {
        scheduler.insert("prediction_type".into(), "v_prediction".into());
    }
    if detected.zero_snr {
        scheduler.insert("rescale_betas_zero_snr".into(), true.into());
    }
    predict(&mut scheduler, options.prediction);
    Ok(StableDiffusion {
        path: path.to_path_buf(),
        family,
        unet,
        vae,
        texts,
        scheduler,
        tokenizers: configs.tokenizers,
        added: Vec::new(),
        zeros_for_empty: family == StableDiffusionFamily::Sdxl,
        options,
    })
}

/// What the author says that the UNet predicts stands above the rest.
fn predict(scheduler: &mut Map<String, Value>, prediction: Option<Prediction>) {
    let Some(prediction) = prediction else { return };
    let prediction = match prediction {
        Prediction::Epsilon => "epsilon",
        Prediction::VPrediction => "v_prediction",
        Prediction::Sample => "sample",
    };
    scheduler.insert("prediction_type".into(), prediction.into());
}

/// Configurations in a folder beside the file.
fn configs_in(dir: &Path, family: StableDiffusionFamily) -> Result<Configs, DiffusionError> {
    let count = if family == StableDiffusionFamily::Sdxl {
        2
    } else {
        1
    };
    let json: Map<String, Value> = read_json(&dir.join("vae.json"))?;
    let mut vae: VaeConfig = read_json(&dir.join("vae.json"))?;
    if !json.contains_key("scaling_factor") {
        vae.scaling_factor = builtin::scaling_factor(family);
    }
    Ok(Configs {
        unet: read_json(&dir.join("unet.json"))?,
        vae,
        texts: TEXTS[..count]
            .iter()
            .map(|name| read_json(&dir.join(format!("{name}.json"))))
            .collect::<Result<_, _>>()?,
        scheduler: read_json(&dir.join("scheduler.json"))?,
        tokenizers: TOKENIZERS[..count]
            .iter()
            .map(|name| Some(dir.join(name)))
            .collect(),
    })
}

/// The configuration of the published models of this family.
fn published(file: &Checkpoint, detected: &Detected) -> Result<Configs, DiffusionError> {
    let family = detected.family;
    let mut unet = builtin::unet(family, detected.in_channels);
    let texts = builtin::texts(family);
    let mut scheduler = builtin::scheduler(family);
    if family == StableDiffusionFamily::Sd2
        && (detected.v_prediction || family::guess(file).0 == Prediction::VPrediction)
    {
        scheduler.insert("prediction_type".into(), "v_prediction".into());
        // It was trained with pictures of 768 pixels.
        unet.sample_size = 96;
    }
    Ok(Configs {
        unet,
        vae: builtin::vae(family),
        tokenizers: vec![None; texts.len()],
        texts,
        scheduler,
    })
}
