//! A vision projector beside a language model (`mmproj`): a GGUF file of the architecture `clip`,
//! with which Gemma 3 reads pictures; or its tensors within the model's own file, as Ollama puts
//! them there.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device};
use image::{Rgb, RgbImage, RgbaImage};

use super::{Crop, Preprocess, Siglip, SiglipConfig};
use crate::nn::Params;
use crate::nn::gpu::Gpu;
use crate::pixels::on_white;
use crate::resample::{Filter, resize_rows_first};
use crate::weights::{GgmlType, GgufHeader, GgufTensors, GgufValue, WeightsError};

/// The kind of projector that is read, as `clip.projector_type` names it.
const GEMMA3: &str = "gemma3";

/// Why a projector cannot be used; each message is one sentence.
#[derive(Debug, thiserror::Error)]
pub enum ProjectorError {
    /// The file cannot be read.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The file is of another kind, or misses what a projector needs.
    #[error("{} is no vision projector that this program reads: {}; use the mmproj file of a Gemma 3", path.display(), crate::cause::first_line(.reason))]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        reason: crate::cause::Cause,
    },
    /// A tensor operation failed.
    #[error("the vision projector cannot look at a picture: {}", crate::cause::first_line(.0))]
    Tensor(#[source] crate::cause::Cause),
}

/// Facts of a projector by its header.
#[derive(Clone, Debug, PartialEq)]
pub struct ProjectorFacts {
    /// Sizes of the vision tower.
    pub config: SiglipConfig,
    mean: [f32; 3],
    std: [f32; 3],
    /// The type in which its matrices are held.
    held: DType,
    /// Numbers in all tensors.
    pub parameters: u64,
}

impl ProjectorFacts {
    /// Reads the header of a projector.
    ///
    /// # Errors
    /// What is missing or not read here, in words.
    pub fn of(tensors: &GgufTensors) -> Result<ProjectorFacts, String> {
        let header = tensors.header();
        let facts = ProjectorFacts {
            config: config(header)?,
            mean: colours(header, "image_mean")?,
            std: colours(header, "image_std")?,
            held: held(header),
            parameters: header.parameters(),
        };
        if facts.std.contains(&0.0) {
            return Err("its clip.vision.image_std is zero".to_string());
        }
        for (name, tensor) in &header.tensors {
            if tensor.kind.and_then(GgmlType::quant).is_none() {
                let kind = tensor.kind.map_or("an unknown type", GgmlType::name);
                return Err(format!("{name} is stored as {kind}, which is not read"));
            }
        }
        let shapes = tensors.shapes();
        let probe = Params::probe(shapes.clone());
        Siglip::new(facts.config.clone(), &probe, &probe).map_err(|error| first_line(&error))?;
        let asked = probe.required_tensors();
        for (name, shape) in &asked {
            match shapes.get(name) {
                None => return Err(format!("it has no tensor {name}")),
                Some(found) if found != shape => {
                    return Err(format!("{name} has shape {found:?}, not {shape:?}"));
                }
                Some(_) => {}
            }
        }
        match shapes.keys().find(|name| !asked.contains_key(*name)) {
            Some(name) => Err(format!("its tensor {name} is not read")),
            None => Ok(facts),
        }
    }

    /// The facts of the file `path`.
    ///
    /// # Errors
    /// When it cannot be read, or is no projector that is read here.
    pub fn read(path: &Path) -> Result<ProjectorFacts, ProjectorError> {
        let tensors = opened(path)?;
        ProjectorFacts::of(&tensors).map_err(|reason| unusable(path, reason))
    }

    /// Bytes of its weights in memory.
    pub fn weight_bytes(&self) -> u64 {
        self.parameters * self.held.size_in_bytes() as u64
    }

    /// Bytes that it works in while it looks at a picture, about.
    pub fn work_bytes(&self) -> u64 {
        let config = &self.config;
        let patches = config.grid() * config.grid();
        let pixels = 3 * config.image_size * config.image_size;
        let wide = 2 * config.inner + 8 * config.hidden;
        // A layer's weights are widened while it works.
        (4 * (patches * wide + pixels + config.hidden * config.inner)) as u64
    }
}

/// A projector with its weights in memory.
pub struct Projector {
    tower: Siglip,
    facts: ProjectorFacts,
}

impl Projector {
    /// Opens it, for a GPU where one is given.
    ///
    /// # Errors
    /// When the file cannot be read, or is no projector that is read here.
    pub fn open(path: &Path, gpu: Option<&Gpu>) -> Result<Projector, ProjectorError> {
        let tensors = opened(path)?;
        let facts = ProjectorFacts::of(&tensors).map_err(|reason| unusable(path, reason))?;
        let source = Arc::new(tensors);
        let params = Params::from_source(source.clone(), false, &Device::Cpu).on(gpu);
        let blocks = Params::held_as(source, facts.held, &Device::Cpu).on(gpu);
        let tower = Siglip::new(facts.config.clone(), &params, &blocks)
            .map_err(|error| unusable(path, error))?;
        Ok(Projector { tower, facts })
    }

    /// Facts by its header.
    pub fn facts(&self) -> &ProjectorFacts {
        &self.facts
    }

    /// The embeddings of a picture, `[tokens, projection]`; `None` when `go_on` broke. What is
    /// transparent is seen on white; the whole picture is stretched to the tower's square, as
    /// transformers and llama.cpp do.
    ///
    /// # Errors
    /// When memory is short.
    pub fn see(
        &self,
        picture: &RgbaImage,
        go_on: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Option<Vec<f32>>, ProjectorError> {
        let failed = |error: candle_core::Error| ProjectorError::Tensor(error.into());
        let white = on_white(picture);
        let rgb = RgbImage::from_fn(white.width(), white.height(), |x, y| {
            let [r, g, b, _] = white.get_pixel(x, y).0;
            Rgb([r, g, b])
        });
        let side = self.facts.config.image_size;
        let square = resize_rows_first(&rgb, side as u32, side as u32, Filter::Bilinear);
        let how = Preprocess {
            size: side,
            crop: Crop::Centre,
            mean: self.facts.mean,
            std: self.facts.std,
        };
        let pixels = how.tensor(&square, &Device::Cpu).map_err(failed)?;
        let Some(seen) = self.tower.forward(&pixels, go_on).map_err(failed)? else {
            return Ok(None);
        };
        let numbers = seen.flatten_all().and_then(|seen| seen.to_vec1::<f32>());
        numbers.map(Some).map_err(failed)
    }
}

/// Whether a language model's own file holds a projector.
pub fn has_projector(header: &GgufHeader) -> bool {
    is_merged(header) && header.tensors.keys().any(|name| name.starts_with("mm."))
}

/// Whether the header is that of a language model which may hold a projector.
fn is_merged(header: &GgufHeader) -> bool {
    header.string("general.architecture") == Some(GEMMA3)
}

/// What Ollama calls tensors within a model's own file, and llama.cpp in a file of their own.
const MERGED: [(&str, &str); 10] = [
    ("v.patch_embedding.", "v.patch_embd."),
    ("v.position_embedding.", "v.position_embd."),
    ("v.post_layernorm.", "v.post_ln."),
    (".layer_norm1.", ".ln1."),
    (".layer_norm2.", ".ln2."),
    (".attn_output.", ".attn_out."),
    (".mlp.fc1.", ".ffn_up."),
    (".mlp.fc2.", ".ffn_down."),
    ("mm.mm_input_projection.", "mm.input_projection."),
    ("mm.mm_soft_emb_norm.", "mm.soft_emb_norm."),
];

/// The tensors of a projector, wherever they lie.
fn opened(path: &Path) -> Result<GgufTensors, WeightsError> {
    let tensors = GgufTensors::open(path)?;
    if !is_merged(tensors.header()) {
        return Ok(tensors);
    }
    Ok(tensors.select(|name| {
        let of_vision = name.starts_with("v.") || name.starts_with("mm.");
        of_vision.then(|| {
            let names = MERGED.iter();
            names.fold(name.to_owned(), |name, (from, to)| name.replace(from, to))
        })
    }))
}

fn unusable(path: &Path, reason: impl Into<crate::cause::Cause>) -> ProjectorError {
    ProjectorError::Unusable {
        path: path.to_path_buf(),
        reason: reason.into(),
    }
}

/// Without the backtrace that candle appends when one is asked for.
fn first_line(error: &candle_core::Error) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().to_owned()
}

/// Half precision where the matrices of the file's blocks have no more.
fn held(header: &GgufHeader) -> DType {
    let whole = header.tensors.iter().any(|(name, tensor)| {
        let wide = [Some(GgmlType::F32), Some(GgmlType::Bf16)].contains(&tensor.kind);
        name.starts_with("v.blk.") && tensor.shape.len() > 1 && wide
    });
    match whole {
        true => DType::F32,
        false => DType::F16,
    }
}

/// The sizes in a projector's header, where all that it says is read here.
fn config(header: &GgufHeader) -> Result<SiglipConfig, String> {
    let merged = is_merged(header);
    if merged && header.tensors.is_empty() {
        return Err("it is a language model without one".to_string());
    }
    if !merged {
        check_kind(header)?;
    }
    let of = if merged {
        "gemma3.vision"
    } else {
        "clip.vision"
    };
    let missing = |key: &str| format!("it does not say {key}");
    let size_of = |key: &str| -> Result<usize, String> {
        let number = header.number(key).ok_or_else(|| missing(key))?;
        let whole = number.fract() == 0.0 && (1.0..=f64::from(1 << 20)).contains(&number);
        match whole {
            true => Ok(number as usize),
            false => Err(format!("its {key} is out of range")),
        }
    };
    let size = |key: &str| size_of(&format!("{of}.{key}"));
    let number = |key: &str| header.number(&format!("{of}.{key}"));
    let (image_size, patch_size) = (size("image_size")?, size("patch_size")?);
    let pool = match (merged, number("projector.scale_factor")) {
        (false, Some(_)) => size("projector.scale_factor")?,
        (false, None) => 4,
        (true, _) => {
            let key = "gemma3.mm.tokens_per_image";
            let tokens = match header.number(key) {
                Some(_) => size_of(key)?,
                None => 256,
            };
            let side = tokens.isqrt();
            if side * side != tokens {
                return Err(format!("its {key} is no square"));
            }
            image_size / patch_size / side
        }
    };
    let config = SiglipConfig {
        image_size,
        patch_size,
        hidden: size("embedding_length")?,
        inner: size("feed_forward_length")?,
        depth: size("block_count")?,
        heads: size("attention.head_count")?,
        epsilon: number("attention.layer_norm_epsilon")
            .ok_or_else(|| missing(&format!("{of}.attention.layer_norm_epsilon")))?,
        pool,
        projection: match merged {
            true => size_of("gemma3.embedding_length")?,
            false => size("projection_dim")?,
        },
    };
    config.check()?;
    Ok(config)
}

/// # Errors
/// What of a file of its own says that it is another projector.
fn check_kind(header: &GgufHeader) -> Result<(), String> {
    let arch = header.string("general.architecture").unwrap_or_default();
    if arch != "clip" {
        return Err(format!("its general.architecture is {arch:?}, not clip"));
    }
    let yes = |key: &str| matches!(header.metadata.get(key), Some(GgufValue::Bool(true)));
    if !yes("clip.has_vision_encoder") {
        return Err("it has no vision encoder (clip.has_vision_encoder)".to_string());
    }
    let kind = header
        .string("clip.vision.projector_type")
        .or_else(|| header.string("clip.projector_type"));
    match kind {
        Some(GEMMA3) => {}
        Some(other) => return Err(format!("its clip.projector_type is {other}, not {GEMMA3}")),
        None => return Err("it does not say clip.projector_type".to_string()),
    }
    if !yes("clip.use_gelu") || yes("clip.use_silu") {
        return Err("its activation is not GELU (clip.use_gelu)".to_string());
    }
    Ok(())
}

/// Three numbers, one a colour.
fn colours(header: &GgufHeader, key: &str) -> Result<[f32; 3], String> {
    let key = format!("clip.vision.{key}");
    let colours = match header.metadata.get(&key) {
        Some(GgufValue::Floats(numbers)) => match numbers.as_slice() {
            &[r, g, b] => Some([r, g, b].map(|number| number as f32)),
            _ => None,
        },
        None => Some([0.5; 3]),
        Some(_) => None,
    };
    let finite = colours.filter(|colours| colours.iter().all(|number| number.is_finite()));
    finite.ok_or_else(|| format!("its {key} is not three numbers"))
}
