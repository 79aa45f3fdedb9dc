//! Whether the parts of a model have every tensor that the networks need, in the right shape,
//! before anything is loaded: each network is built without values and tells what it asks for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::find::read_gguf;
use super::{PartPaths, PublishedError};
use crate::diffusion::{
    CaptionTokenizer, ModelFolder, TextConfig, TextEncoder, Unet, UnetConfig, Vae, VaeConfig,
};
use crate::llm::float::{FloatConfig, FloatLlama};
use crate::nn::{Init, Params, Result as TensorResult};
use crate::vision::{Eva, QFormer};
use crate::voken::{FeatureMapper, MapperParams, ReferenceSizes};
use crate::weights::Checkpoint;

type TensorShapes = BTreeMap<String, Vec<usize>>;

/// How a file or folder of tensors compares with what its network needs.
#[derive(Clone, Debug, Default)]
pub struct PartReport {
    /// What it is, for people.
    pub name: String,
    /// File or folder that the part was read from.
    pub path: PathBuf,
    /// Tensors that are not there.
    pub missing: Vec<String>,
    /// Tensors that nothing reads.
    pub extra: Vec<String>,
    /// Name, shape in the file, shape that is needed.
    pub wrong: Vec<(String, Vec<usize>, Vec<usize>)>,
    /// Numbers in the tensors that are read.
    pub numbers: u64,
    /// Bytes of the tensors that are read, as they are stored.
    pub bytes: u64,
    /// Numbers in the largest of them.
    pub largest: u64,
}

impl PartReport {
    /// Whether nothing is missing and every shape fits; extra tensors do no harm.
    pub fn is_good(&self) -> bool {
        self.missing.is_empty() && self.wrong.is_empty()
    }
}

/// How all parts compare.
#[derive(Clone, Debug, Default)]
pub struct WeightsReport {
    /// One report for each part.
    pub parts: Vec<PartReport>,
    /// What does not fit between the parts, one sentence each.
    pub misfits: Vec<String>,
    /// What the plan of memory needs to know.
    pub facts: ModelSizes,
}

impl WeightsReport {
    /// Whether all parts are good and fit together.
    pub fn is_good(&self) -> bool {
        self.misfits.is_empty() && self.parts.iter().all(PartReport::is_good)
    }

    /// Numbers in the largest tensor of the parts with this name.
    pub fn largest(&self, name: &str) -> u64 {
        let parts = self.parts.iter().filter(|part| part.name == name);
        parts.map(|part| part.largest).max().unwrap_or(0)
    }

    /// The numbers and stored bytes of the parts with these names.
    pub fn size(&self, name: &str) -> (u64, u64) {
        let parts = self.parts.iter().filter(|part| part.name == name);
        parts.fold((0, 0), |(n, b), part| (n + part.numbers, b + part.bytes))
    }
}

/// Sizes that decide how much memory work takes.
#[derive(Clone, Debug, Default)]
pub struct ModelSizes {
    pub gguf: bool,
    pub layers: usize,
    /// Numbers in the language model's own embedding and output tables.
    pub base_tables: u64,
    /// Numbers in the trained tables that take their place.
    pub tables: u64,
    /// Numbers in the adapters.
    pub lora: u64,
    /// Numbers in the feature mapper.
    pub mapper: u64,
    /// Numbers at once while a picture is read, and while voken states are mapped.
    pub seeing: u64,
    pub mapping: u64,
    /// Width of keys or values in a layer.
    pub kv_width: usize,
    pub context: usize,
    pub unet_channels: Vec<usize>,
    /// Heads of the UNet's first level, which has the most tokens.
    pub unet_heads: usize,
    /// Latents a side.
    pub latents: usize,
    pub vae_channels: usize,
    /// Pixels a side of a latent.
    pub vae_scale: usize,
}

/// Names of the parts that lie in memory together.
pub(super) const LLAMA: &str = "language model";
pub(super) const EVA: &str = "vision transformer";
pub(super) const QFORMER: &str = "Q-Former";
pub(super) const PROJECTION: &str = "projection";
pub(super) const STAGE1: &str = "stage 1";
pub(super) const STAGE2: &str = "stage 2";
pub(super) const UNET: &str = "UNet";
pub(super) const VAE: &str = "VAE";
pub(super) const TEXT: &str = "text encoder";

/// Compares every part with what its network needs.
///
/// # Errors
/// When a file cannot be read or a configuration is not of a kind that is supported.
pub fn check(parts: &PartPaths) -> Result<WeightsReport, PublishedError> {
    let sizes = parts.read_sizes()?;
    let mut report = WeightsReport::default();
    let rows = parts.read_tokenizer()?.vocabulary();
    let llama = language_model(parts, &mut report)?;
    vision(parts, &sizes, llama.hidden_size, &mut report)?;
    stages(parts, &sizes, &llama, rows, &mut report)?;
    stable_diffusion(&parts.stable_diffusion, &sizes, &mut report)?;
    Ok(report)
}

fn language_model(
    parts: &PartPaths,
    report: &mut WeightsReport,
) -> Result<FloatConfig, PublishedError> {
    let path = &parts.llama;
    let config = if parts.is_gguf() {
        let header = read_gguf(path)?;
        let config =
            FloatConfig::from_gguf(&header).map_err(|reason| PublishedError::Unusable {
                path: path.clone(),
                reason: reason.into(),
            })?;
        let known = header
            .tensors
            .iter()
            .map(|(n, t)| (n.clone(), t.shape.clone()));
        let known: TensorShapes = known.collect();
        let mut part = compare(LLAMA, path, &known, &gguf_shapes(&config, &known));
        let read = header
            .tensors
            .iter()
            .filter(|(name, _)| !part.extra.contains(name));
        part.bytes = read.map(|(_, tensor)| tensor.bytes as u64).sum();
        report.parts.push(part);
        report.facts.gguf = true;
        config
    } else {
        let config = FloatConfig::read(path)?;
        probe(report, LLAMA, path, |p| {
            FloatLlama::new(config.clone(), p).map(drop)
        })?;
        config
    };
    let tables = 2 - usize::from(config.tie_word_embeddings);
    report.facts.base_tables = (tables * config.vocab_size * config.hidden_size) as u64;
    report.facts.layers = config.num_hidden_layers;
    report.facts.kv_width = config.kv_heads() * config.head_width();
    report.facts.context = config.max_position_embeddings;
    Ok(config)
}

/// The tensors of a LLaMA under llama.cpp's names.
fn gguf_shapes(config: &FloatConfig, known: &TensorShapes) -> TensorShapes {
    let (c, inner, rows) = (
        config.hidden_size,
        config.intermediate_size,
        config.vocab_size,
    );
    let wide = config.num_attention_heads * config.head_width();
    let narrow = config.kv_heads() * config.head_width();
    let mut shapes = TensorShapes::new();
    let mut need = |name: String, shape: &[usize]| {
        shapes.insert(name, shape.to_vec());
    };
    need("token_embd.weight".to_string(), &[rows, c]);
    need("output_norm.weight".to_string(), &[c]);
    if known.contains_key("output.weight") {
        need("output.weight".to_string(), &[rows, c]);
    }
    for i in 0..config.num_hidden_layers {
        for (name, shape) in [
            ("attn_norm", &[c][..]),
            ("attn_q", &[wide, c]),
            ("attn_k", &[narrow, c]),
            ("attn_v", &[narrow, c]),
            ("attn_output", &[c, wide]),
            ("ffn_norm", &[c]),
            ("ffn_gate", &[inner, c]),
            ("ffn_up", &[inner, c]),
            ("ffn_down", &[c, inner]),
        ] {
            need(format!("blk.{i}.{name}.weight"), shape);
        }
    }
    shapes
}

fn vision(
    parts: &PartPaths,
    sizes: &ReferenceSizes,
    width: usize,
    report: &mut WeightsReport,
) -> Result<(), PublishedError> {
    let v = &sizes.vision;
    if let Err(error) = v.check() {
        report.misfits.push(error.to_string());
        return Ok(());
    }
    let tokens = (v.image_size / v.eva_vit.patch_size).pow(2) + 1;
    let (hidden, embed) = (v.eva_vit.mlp_hidden, v.eva_vit.embed_dim);
    let scores = 3 * v.eva_vit.num_heads * tokens;
    report.facts.seeing = (tokens * (2 * hidden + 8 * embed + scores)) as u64;
    probe(report, EVA, &parts.eva_vit, |p| {
        Eva::new(&v.eva_vit, v.image_size, p).map(drop)
    })?;
    probe(report, QFORMER, &parts.qformer, |p| {
        p.pp("ln_vision")
            .layer_norm(v.eva_vit.embed_dim, v.ln_vision_eps)?;
        QFormer::new(&v.qformer, p).map(drop)
    })?;
    probe(report, PROJECTION, &parts.llama_proj, |p| {
        let projection = p.pp("llama_proj");
        projection
            .linear(v.qformer.hidden_size, width, true)
            .map(drop)
    })
}

fn stages(
    parts: &PartPaths,
    sizes: &ReferenceSizes,
    llama: &FloatConfig,
    rows: usize,
    report: &mut WeightsReport,
) -> Result<(), PublishedError> {
    let width = llama.hidden_size;
    let tables = |embedding: Params, head: Params| {
        embedding.tensor(&[rows, width], "weight", Init::Zeros)?;
        head.tensor(&[rows, width], "weight", Init::Zeros).map(drop)
    };
    let mut mapper = sizes.mapper.clone();
    probe(report, STAGE1, &parts.stage1, |p| {
        let prompt = p.shape("t2i_decoder_prompt");
        mapper = mapper.clone().for_prompt(prompt.as_deref());
        let base = p.pp("model.llama_model");
        tables(base.pp("model.embed_tokens"), base.pp("lm_head"))?;
        FeatureMapper::new(mapper.clone(), width, &MapperParams::all(p)).map(drop)
    })?;
    report.facts.tables = (2 * rows * width) as u64;
    report.facts.mapper = report.size(STAGE1).0.saturating_sub(report.facts.tables);
    let m = &mapper;
    let mapping = m
        .prompt_tokens
        .saturating_mul(m.dim_feedforward + 8 * m.d_model);
    report.facts.mapping = mapping as u64;
    let Some(stage2) = &parts.stage2 else {
        return Ok(());
    };
    let mut lora = 0u64;
    probe(report, STAGE2, stage2, |p| {
        let base = p.pp("model.llama_model.base_model.model");
        let saved = |name| base.pp(name).pp("modules_to_save.default");
        tables(saved("model.embed_tokens"), saved("lm_head"))?;
        let mut adapted = FloatLlama::new(llama.clone(), &Params::probe(TensorShapes::new()))?;
        let layers = base.pp("model");
        adapted.add_lora(&sizes.lora.clone().of_file(&layers), &layers)?;
        let adapters = p
            .required_tensors()
            .into_iter()
            .filter(|(name, _)| name.contains(".lora_"));
        lora = adapters
            .map(|(_, shape)| shape.iter().product::<usize>() as u64)
            .sum();
        let elsewhere = Params::probe(TensorShapes::new());
        let params = MapperParams {
            mapper: p.clone(),
            ..MapperParams::all(&elsewhere)
        };
        FeatureMapper::new(mapper.clone(), width, &params).map(drop)
    })?;
    report.facts.lora = lora;
    Ok(())
}

fn stable_diffusion(
    dir: &Path,
    sizes: &ReferenceSizes,
    report: &mut WeightsReport,
) -> Result<(), PublishedError> {
    let config = |part: &str| dir.join(part).join("config.json");
    let unet: UnetConfig = read_config(&config("unet"))?;
    let vae: VaeConfig = read_config(&config("vae"))?;
    let text: TextConfig = read_config(&config("text_encoder"))?;
    ModelFolder::new(dir).read_scheduler()?;
    CaptionTokenizer::load(&dir.join("tokenizer"))?;

    let needed = (unet.cross_attention_dim, sizes.mapper.d_model);
    if needed.0 != needed.1 {
        report.misfits.push(format!(
            "the UNet reads conditions of width {}, but the feature mapper makes {}; get the Stable Diffusion that the checkpoints were trained with",
            needed.0, needed.1
        ));
    }
    if unet.in_channels != vae.latent_channels {
        report.misfits.push(format!(
            "the UNet reads latents of {} channels, but the VAE makes {}; get the Stable Diffusion folder again",
            unet.in_channels, vae.latent_channels
        ));
    }
    let facts = &mut report.facts;
    facts.unet_channels = unet.block_out_channels.clone();
    facts.latents = unet.sample_size;
    facts.vae_channels = vae.block_out_channels.first().copied().unwrap_or(0);
    let halvings = vae.block_out_channels.len().saturating_sub(1);
    facts.vae_scale = 1usize
        .checked_shl(u32::try_from(halvings).unwrap_or(u32::MAX))
        .unwrap_or(1);
    facts.unet_heads = unet.heads(0).unwrap_or(1);
    probe(report, UNET, &dir.join("unet"), |p| {
        Unet::new(unet, p.clone()).map(drop)
    })?;
    probe(report, VAE, &dir.join("vae"), |p| {
        Vae::new(vae, p.clone()).map(drop)
    })?;
    probe(report, TEXT, &dir.join("text_encoder"), |p| {
        TextEncoder::new(text, p.clone()).map(drop)
    })
}

fn read_config<T: DeserializeOwned>(path: &Path) -> Result<T, PublishedError> {
    let text = crate::files::read_whole(path).map_err(|error| PublishedError::Read {
        path: path.to_path_buf(),
        reason: error.into(),
    })?;
    serde_json::from_slice(&text).map_err(|error| PublishedError::Unusable {
        path: path.to_path_buf(),
        reason: error.into(),
    })
}

/// Compares a file with what `build` asks for.
fn probe(
    report: &mut WeightsReport,
    name: &str,
    path: &Path,
    build: impl FnOnce(&Params) -> TensorResult<()>,
) -> Result<(), PublishedError> {
    let checkpoint = Checkpoint::open(path)?;
    let infos = checkpoint
        .names()
        .filter_map(|name| Some((name, checkpoint.info(name)?)));
    let known: TensorShapes = infos
        .map(|(n, info)| (n.to_string(), info.shape.clone()))
        .collect();
    let params = Params::probe(known.clone());
    let built = build(&params);
    let mut part = compare(name, path, &known, &params.required_tensors());
    part.bytes = known
        .keys()
        .filter(|name| !part.extra.contains(name))
        .filter_map(|name| Some(checkpoint.info(name)?.bytes()))
        .sum();
    report.parts.push(part);
    if let Err(error) = built {
        // What the network cannot be built for is no matter of one tensor.
        report.misfits.push(error.to_string());
    }
    Ok(())
}

fn compare(name: &str, path: &Path, known: &TensorShapes, asked: &TensorShapes) -> PartReport {
    let mut part = PartReport {
        name: name.to_string(),
        path: path.to_path_buf(),
        ..PartReport::default()
    };
    for (tensor, shape) in asked {
        match known.get(tensor) {
            None => part.missing.push(tensor.clone()),
            Some(found) if found != shape => {
                part.wrong
                    .push((tensor.clone(), found.clone(), shape.clone()));
            }
            Some(shape) => {
                let numbers = shape.iter().product::<usize>() as u64;
                part.numbers += numbers;
                part.largest = part.largest.max(numbers);
            }
        }
    }
    let unread = known.keys().filter(|tensor| !asked.contains_key(*tensor));
    part.extra = unread.cloned().collect();
    part
}
