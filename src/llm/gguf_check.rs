//! What a GGUF file is, told from its header: a language model that can be read, or something else
//! that is refused by its name.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::LlmError;
use crate::nn::quant::MappedFile;
use crate::weights::{GgufHeader, GgufValue, HEAD, trouble};

/// Architectures of picture and video models that are packed as GGUF.
const PICTURES: [&str; 19] = [
    "flux",
    "sd1",
    "sd2",
    "sdxl",
    "sd3",
    "aura",
    "hidream",
    "cosmos",
    "ltxv",
    "ltx",
    "hyvid",
    "wan",
    "lumina2",
    "qwen_image",
    "chroma",
    "z_image",
    "pig",
    "kontext",
    "hunyuan_image",
];

/// Architectures that compare texts and cannot write.
const EMBEDDINGS: [&str; 13] = [
    "bert",
    "nomic-bert",
    "nomic-bert-moe",
    "jina-bert-v2",
    "jina-bert-v3",
    "modern-bert",
    "neo-bert",
    "eurobert",
    "distilbert",
    "roberta",
    "xlm-roberta",
    "gemma-embedding",
    "llama-embed",
];

const OTHER_MODEL: &str = "use a language model that writes, such as Llama 3, Qwen 3 or Gemma 3";

/// A language model in a GGUF file, and what its header says.
#[derive(Debug)]
pub struct GgufFacts {
    pub arch: String,
    /// `general.name`.
    pub name: Option<String>,
    /// The tokens that it was trained to read.
    pub context_length: Option<usize>,
    pub tensors: usize,
    /// Numbers in all tensors.
    pub parameters: u64,
    /// Bytes of all tensors, each padded to the file's alignment.
    pub tensor_bytes: u64,
    /// The type in which most of its numbers are stored.
    pub precision: Option<&'static str>,
    /// Its files, in order; one but for a model that was split.
    pub files: Vec<PathBuf>,
}

/// Reads the headers of the GGUF file `path` and of those that it was split into.
///
/// # Errors
/// What is wrong with the file, or what it is where it is no language model that is read here.
pub fn check_gguf(path: &Path) -> Result<GgufFacts, LlmError> {
    let header = read_header(path)?;
    let refuse = |reason: String, remedy: &str| refused(path, reason, remedy);
    if let Some((reason, remedy)) = other_kind(&header) {
        return Err(refuse(reason, remedy));
    }
    let mut files = vec![path.to_path_buf()];
    let mut headers = vec![header];
    for (index, part) in parts(path, &headers[0])?.into_iter().enumerate() {
        let header = read_header(&part)?;
        if header.whole("split.no") != Some(index + 1) {
            let reason = format!("is not part {} of the model that it lies with", index + 2);
            return Err(refused(&part, reason, "get the parts again"));
        }
        headers.push(header);
        files.push(part);
    }
    let tensors = || headers.iter().flat_map(|header| &header.tensors);
    if tensors().next().is_none() {
        let reason = "holds no weights, only a vocabulary".to_string();
        return Err(refuse(reason, "use the model itself"));
    }
    let header = &headers[0];
    let Some(arch) = header.string("general.architecture") else {
        let reason = "does not say of which architecture it is".to_string();
        return Err(refuse(reason, OTHER_MODEL));
    };
    let mut bytes = std::collections::BTreeMap::new();
    for (name, tensor) in tensors() {
        let Some(kind) = tensor.kind else {
            let reason = format!("stores {name} as type {}", tensor.kind_number);
            return Err(refuse(
                format!("{reason}, which is not supported"),
                "take a Q4_K_M or Q8_0 of the same model",
            ));
        };
        *bytes.entry(kind.name()).or_insert(0u64) += tensor.bytes as u64;
    }
    let most = bytes.iter().max_by_key(|(_, bytes)| **bytes);
    Ok(GgufFacts {
        arch: arch.to_string(),
        name: header.string("general.name").map(str::to_owned),
        context_length: header.whole(&format!("{arch}.context_length")),
        tensors: tensors().count(),
        parameters: tensors().map(|(_, t)| count(&t.shape)).sum(),
        tensor_bytes: tensors()
            .map(|(_, t)| (t.bytes as u64).next_multiple_of(32))
            .sum(),
        precision: most.map(|(name, _)| *name),
        files,
    })
}

fn count(shape: &[usize]) -> u64 {
    let sizes = shape.iter().map(|&size| size as u64);
    sizes.fold(1, u64::saturating_mul)
}

fn refused(path: &Path, reason: String, remedy: &str) -> LlmError {
    LlmError::Refused {
        path: path.to_path_buf(),
        reason,
        remedy: remedy.to_string(),
    }
}

fn read_header(path: &Path) -> Result<GgufHeader, LlmError> {
    let unreadable = |error: std::io::Error| LlmError::Unreadable {
        path: path.to_path_buf(),
        reason: error.to_string(),
    };
    let about = fs::metadata(path).map_err(unreadable)?;
    if !about.is_file() {
        // Opening a pipe or a device could wait for ever.
        return Err(unreadable(std::io::Error::other("it is not a file")));
    }
    let mut head = Vec::new();
    let file = fs::File::open(path).map_err(unreadable)?;
    file.take(HEAD as u64)
        .read_to_end(&mut head)
        .map_err(unreadable)?;
    if let Some(trouble) = trouble(&head, about.len()) {
        return Err(refused(path, trouble.reason, trouble.remedy));
    }
    if !head.starts_with(b"GGUF") {
        let kind = match (head.get(8), head.starts_with(b"PK")) {
            (Some(b'{'), _) => "is a safetensors file",
            (_, true) => "is a file of PyTorch's, or another zip",
            _ => "is no GGUF file",
        };
        let remedy = "get the model as a GGUF file";
        return Err(refused(path, kind.to_string(), remedy));
    }
    let file = MappedFile::open(path).map_err(unreadable)?;
    GgufHeader::read(file.bytes()).map_err(|reason| LlmError::Unusable {
        path: path.to_path_buf(),
        reason,
    })
}

/// What a file is that is no language model, and what to do.
fn other_kind(header: &GgufHeader) -> Option<(String, &'static str)> {
    let arch = header.string("general.architecture").unwrap_or_default();
    let kind = header.string("general.type").unwrap_or_default();
    let told = |reason: &str, remedy| Some((reason.to_string(), remedy));
    if header.whole("split.count").is_some_and(|count| count > 1)
        && let Some(part) = header.whole("split.no").filter(|part| *part > 0)
    {
        let count = header.whole("split.count").unwrap_or_default();
        let reason = format!(
            "is part {} of {count} alone: all {count} parts are needed, side by side",
            part + 1
        );
        return Some((reason, "open part 1"));
    }
    if kind == "adapter" || header.metadata.contains_key("adapter.type") {
        return told(
            "is a LoRA adapter, which changes another model and is none itself",
            "use the model that it was made for",
        );
    }
    if kind == "mmproj" || arch == "clip" {
        return told(
            "is the eyes of a vision model (mmproj), which see a picture and cannot write",
            "choose the model file that it belongs to",
        );
    }
    if kind == "imatrix" || header.metadata.keys().any(|key| key.starts_with("imatrix.")) {
        return told(
            "is an importance matrix (imatrix) made for quantising, not a model",
            "use the model itself",
        );
    }
    if PICTURES.contains(&arch) {
        let reason = format!("is a picture model ({arch}), not one that writes");
        return Some((reason, "run it in ComfyUI, or use a checkpoint of Stable Diffusion"));
    }
    let pools = |header: &GgufHeader| {
        let pooling = header.metadata.get(&format!("{arch}.pooling_type"));
        matches!(pooling, Some(GgufValue::Whole(kind)) if *kind > 0)
    };
    if EMBEDDINGS.contains(&arch) || pools(header) {
        let reason = format!(
            "is an embedding model ({arch}), which compares texts and cannot write"
        );
        return Some((reason, OTHER_MODEL));
    }
    None
}

/// The other files of a model that was split, by the first one's name.
fn parts(path: &Path, first: &GgufHeader) -> Result<Vec<PathBuf>, LlmError> {
    let count = first.whole("split.count").unwrap_or(1);
    if count <= 1 {
        return Ok(Vec::new());
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let end = format!("-00001-of-{count:05}.gguf");
    // Whatever the case of the ending is.
    let cut = name.len().checked_sub(end.len());
    let stem = cut.and_then(|cut| {
        let (stem, found) = name.split_at_checked(cut)?;
        found.eq_ignore_ascii_case(&end).then_some((stem, &found[end.len() - 5..]))
    });
    let Some((stem, ending)) = stem.filter(|_| count <= 9999) else {
        let reason = format!("is part 1 of {count}, under another name than NAME{end}");
        return Err(refused(path, reason, "give all parts the names that they were published with"));
    };
    let files = (2..=count).map(|part| path.with_file_name(format!("{stem}-{part:05}-of-{count:05}{ending}")));
    let files: Vec<PathBuf> = files.collect();
    match files.iter().find(|file| !file.is_file()) {
        None => Ok(files),
        Some(missing) => {
            let missing = missing.file_name().unwrap_or_default().to_string_lossy();
            let reason = format!(
                "is part 1 of {count}, and {missing} is not beside it: all {count} parts are needed"
            );
            Err(refused(path, reason, "put the parts side by side"))
        }
    }
}
