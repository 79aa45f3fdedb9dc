//! Tiny models with random weights: the real code on real files, small enough to be made anew by
//! every test.

mod storyteller;
mod writer;

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use serde_json::json;
use vokenboard::diffusion::{
    CaptionTokenizer, ModelFolder, SchedulerConfig, TextConfig, TextEncoder, Unet, UnetConfig, Vae,
    VaeConfig,
};
use vokenboard::nn::{Params, noise};
use vokenboard::storyworld::library::vocabulary;
use vokenboard::weights::{DrawableWords, Manifest};

/// Writes the tiny models below `models`.
pub fn write_tiny_models(models: &Path) {
    let words = [
        "fox", "owl", "lantern", "forest", "a", "in", "the", "finds", "snow",
    ];
    let unet = json!({
        "sample_size": 8, "in_channels": 4, "out_channels": 4, "block_out_channels": [8, 16],
        "layers_per_block": 1, "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"], "attention_head_dim": 2,
        "cross_attention_dim": 16, "norm_num_groups": 4,
    });
    let draws = DrawableWords {
        characters: vec!["fox".to_string(), "owl".to_string()],
        things: vec!["lantern".to_string()],
        places: vec!["forest".to_string()],
        ..DrawableWords::default()
    };
    let words = words.map(str::to_string);
    write_painter(&models.join("tiny"), "tiny", &words, (unet, 3), draws);
    writer::write(&models.join("tiny-writer"));
}

/// Writes a tiny instruct model into the folder `dir`, as an added one: it answers with one of
/// `sentences`.
#[allow(dead_code, reason = "not every test program tells with one")]
pub fn write_storyteller(dir: &Path, sentences: &[&str]) {
    storyteller::write(dir, sentences);
}

/// Writes a tiny model that draws from references below `models`, with the stage of the library.
#[allow(dead_code, reason = "not every test program draws from the library")]
pub fn write_tiny_stage(models: &Path) {
    let unet = json!({
        "sample_size": 16, "in_channels": 4, "out_channels": 4, "block_out_channels": [32],
        "layers_per_block": 1, "down_block_types": ["CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D"], "attention_head_dim": 2,
        "cross_attention_dim": 16, "norm_num_groups": 4, "reference_attention": true,
    });
    let words = vocabulary();
    let dir = models.join("tiny-stage");
    write_painter(
        &dir,
        "tiny-stage",
        &words,
        (unet, 4),
        DrawableWords {
            library: true,
            ..DrawableWords::default()
        },
    );
}

/// A painter whose autoencoder has `levels` levels.
fn write_painter(
    dir: &Path,
    id: &str,
    words: &[String],
    (unet, levels): (serde_json::Value, usize),
    draws: DrawableWords,
) {
    let tokenizer = CaptionTokenizer::from_words(words, 24);
    let (begin, end, pad) = tokenizer.special_ids();
    let text: TextConfig = config(json!({
        "vocab_size": tokenizer.vocab_size(), "hidden_size": 16, "intermediate_size": 32,
        "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 24,
        "bos_token_id": begin, "eos_token_id": end, "pad_token_id": pad,
    }));
    let unet: UnetConfig = config(unet);
    let vae: VaeConfig = config(json!({
        "latent_channels": 4, "block_out_channels": vec![8; levels], "layers_per_block": 1,
        "norm_num_groups": 4, "scaling_factor": 0.5,
        "sample_size": unet.sample_size << (levels - 1),
    }));
    let scheduler: SchedulerConfig = config(json!({
        "prediction_type": "v_prediction", "timestep_spacing": "trailing",
    }));
    let folder = ModelFolder::new(dir);
    let store = |seed| Params::init(seed, &Device::Cpu);

    let parameters = store(1);
    TextEncoder::new(text.clone(), parameters.clone()).unwrap();
    folder
        .write_text_encoder(&text, &tensors(&parameters), DType::F32)
        .unwrap();
    let parameters = store(2);
    Unet::new(unet.clone(), parameters.clone()).unwrap();
    folder
        .write_unet(&unet, &tensors(&parameters), DType::F16)
        .unwrap();
    let parameters = store(3);
    Vae::new(vae.clone(), parameters.clone()).unwrap();
    folder
        .write_vae(&vae, &tensors(&parameters), DType::F16)
        .unwrap();
    folder.write_scheduler(&scheduler).unwrap();
    folder.write_tokenizer(&tokenizer).unwrap();
    folder.write_index(&scheduler).unwrap();
    describe(
        dir,
        Manifest {
            id: id.to_string(),
            name: match id {
                "tiny" => "Tiny".to_string(),
                other => other.to_string(),
            },
            pipeline: "caption".to_string(),
            licence: "MIT".to_string(),
            language_model: Some("tiny-writer".to_string()),
            draws,
            ..Manifest::default()
        },
    );
}

fn config<T: serde::de::DeserializeOwned>(json: serde_json::Value) -> T {
    serde_json::from_value(json).unwrap()
}

/// A new model's tensors; those that begin at zero, which would hide the layers behind them, are
/// shaken.
fn tensors(parameters: &Params) -> HashMap<String, Tensor> {
    let shake = |(name, tensor): (String, Tensor)| {
        let stream = name
            .bytes()
            .fold(7, |hash: u64, byte| hash.wrapping_mul(31) ^ u64::from(byte));
        let shift = noise(1, stream, tensor.dims(), tensor.device()).unwrap();
        let tensor = (tensor + (shift * 0.05).unwrap()).unwrap();
        (name, tensor)
    };
    let tensors = parameters.to_file_layout(None).unwrap();
    tensors.into_iter().map(shake).collect()
}

/// Writes the manifest `manifest` for every file below `dir`.
fn describe(dir: &Path, manifest: Manifest) {
    let mut paths = Vec::new();
    let mut folders = vec![dir.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let inside = path.strip_prefix(dir).unwrap();
                paths.push(inside.to_str().unwrap().replace('\\', "/"));
            }
        }
    }
    paths.sort();
    let manifest = manifest.describe(dir, &paths).unwrap();
    manifest.write(dir).unwrap();
}
