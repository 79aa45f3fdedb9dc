//! What a GGUF file is, told from its header: a language model that can be read, or something else
//! that is refused by its name.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::chat::{ChatTemplate, TemplateError};
use super::gguf::Gguf;
use super::{Hyperparameters, LanguageModelOptions, LlmError, LlmMemory, LlmNetwork, Tokenizer};
use crate::weights::{GgmlType, GgufHeader, GgufValue, HEAD, trouble};

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

/// A language model in a GGUF file, by its header.
#[derive(Debug)]
pub struct GgufFacts {
    /// `general.architecture`.
    pub arch: String,
    /// `general.name`.
    pub name: Option<String>,
    /// The width of the embeddings in which it reads pictures, where it knows their marks.
    pub picture_width: Option<usize>,
    /// The tokens that it was trained to read.
    pub context_length: Option<usize>,
    /// Number of tensors.
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
    let gguf = Gguf::open(path.to_path_buf())?;
    let header = gguf.header();
    let hyper = Hyperparameters::from_gguf(header).map_err(|reason| gguf.unusable(reason))?;
    Tokenizer::check_kind(header).map_err(|reason| gguf.unusable(reason))?;
    check_lists(&gguf, &hyper)?;
    // Looks for every tensor that the architecture needs; of the weights nothing is read yet.
    LlmNetwork::read(&gguf)?;
    let arch = gguf.string("general.architecture")?;
    let mut bytes = BTreeMap::new();
    for tensor in header.tensors.values() {
        *bytes.entry(tensor.kind).or_insert(0u64) += tensor.bytes as u64;
    }
    let most = bytes.iter().max_by_key(|(_, bytes)| **bytes);
    let most = most.and_then(|(kind, _)| *kind);
    let tensors = header.tensors.values();
    Ok(GgufFacts {
        arch: arch.to_string(),
        name: header.string("general.name").map(str::to_owned),
        picture_width: hyper.image_tokens(header).map(|_| hyper.width),
        context_length: header.whole(&format!("{arch}.context_length")),
        tensors: tensors.len(),
        parameters: header.parameters(),
        tensor_bytes: tensors
            .map(|tensor| (tensor.bytes as u64).next_multiple_of(32))
            .sum(),
        precision: most.map(GgmlType::name),
        files: gguf.paths()?,
    })
}

/// Looks at the number of tokens and at the chat template.
fn check_lists(gguf: &Gguf, hyper: &Hyperparameters) -> Result<(), LlmError> {
    let header = gguf.header();
    if let Some(GgufValue::Strings(tokens)) = header.metadata.get("tokenizer.ggml.tokens")
        && tokens.len() > hyper.vocabulary
    {
        return Err(gguf.unusable(format!(
            "it has {} tokens, but a table of embeddings for {}",
            tokens.len(),
            hyper.vocabulary
        )));
    }
    if let Some(template) = header.string("tokenizer.chat_template") {
        ChatTemplate::new(template, None, None).map_err(|error| {
            let (TemplateError::Raised(reason)
            | TemplateError::Unbounded(reason)
            | TemplateError::Unusable(reason)) = error;
            gguf.unusable(format!("its chat template cannot be used ({reason})"))
        })?;
    }
    Ok(())
}

/// How the language model in the GGUF file `path` is opened to write with, and what it takes of
/// memory then.
///
/// # Errors
/// As [`check_gguf`].
pub fn memory_of_gguf(path: &Path) -> Result<(LanguageModelOptions, LlmMemory), LlmError> {
    let gguf = match path.is_dir() {
        true => Gguf::find(path)?,
        false => Gguf::open(path.to_path_buf())?,
    };
    let read = Hyperparameters::from_gguf(gguf.header());
    let read = read.map_err(|reason| gguf.unusable(reason))?;
    let options = LanguageModelOptions::usual(gguf.header(), &read);
    let memory = LlmMemory::of(gguf.header(), &read, options.context, options.cache);
    Ok((options, memory))
}

fn refused(path: &Path, reason: String, remedy: &str) -> LlmError {
    LlmError::Refused {
        path: path.to_path_buf(),
        reason,
        remedy: remedy.to_string(),
    }
}

/// Looks at the beginning of a file, so that what is no GGUF file is told for what it is.
pub(super) fn refuse_other_format(path: &Path) -> Result<(), LlmError> {
    let unreadable = |error: std::io::Error| LlmError::Unreadable {
        path: path.to_path_buf(),
        reason: error.into(),
    };
    let about = fs::metadata(path).map_err(unreadable)?;
    if !about.is_file() {
        // Opening a pipe or a device could wait for ever.
        return Err(unreadable(std::io::Error::other("it is not a file")));
    }
    let mut head = Vec::new();
    let file = crate::files::open_file(path).map_err(unreadable)?;
    file.take(HEAD as u64)
        .read_to_end(&mut head)
        .map_err(unreadable)?;
    if let Some(trouble) = trouble(&head, about.len()) {
        return Err(refused(path, trouble.reason, trouble.remedy));
    }
    if head.starts_with(b"GGUF") {
        return Ok(());
    }
    let kind = match (head.get(8), head.starts_with(b"PK")) {
        (Some(b'{'), _) => "is a safetensors file",
        (_, true) => "is a file of PyTorch's, or another zip",
        _ => "is no GGUF file",
    };
    Err(refused(
        path,
        kind.to_string(),
        "get the model as a GGUF file",
    ))
}

/// Refuses a file that is no language model, or one of its further parts.
pub(super) fn refuse_other_kind(path: &Path, header: &GgufHeader) -> Result<(), LlmError> {
    match other_kind(header) {
        Some((reason, remedy)) => Err(refused(path, reason, remedy)),
        None => Ok(()),
    }
}

/// What a file is that is no language model, and what to do.
fn other_kind(header: &GgufHeader) -> Option<(String, &'static str)> {
    let arch = header.string("general.architecture").unwrap_or_default();
    let kind = header.string("general.type").unwrap_or_default();
    let trouble = |reason: &str, remedy| Some((reason.to_string(), remedy));
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
        return trouble(
            "is a LoRA adapter, which changes another model and is none itself",
            "use the model that it was made for",
        );
    }
    if kind == "mmproj" || arch == "clip" {
        return trouble(
            "is the eyes of a vision model (mmproj), which see a picture and cannot write",
            "choose the model file that it belongs to",
        );
    }
    if kind == "imatrix"
        || header
            .metadata
            .keys()
            .any(|key| key.starts_with("imatrix."))
    {
        return trouble(
            "is an importance matrix (imatrix) made for quantising, not a model",
            "use the model itself",
        );
    }
    // The first part of a model that was split may hold none.
    if header.tensors.is_empty() && !header.metadata.contains_key("split.count") {
        return trouble(
            "holds no weights, only a vocabulary",
            "use the model itself",
        );
    }
    if PICTURES.contains(&arch) {
        let reason = format!("is a picture model ({arch}), not one that writes");
        return Some((
            reason,
            "run it in ComfyUI, or use a checkpoint of Stable Diffusion",
        ));
    }
    let pooling = header.metadata.get(&format!("{arch}.pooling_type"));
    let pools = matches!(pooling, Some(GgufValue::Whole(kind)) if *kind > 0);
    if EMBEDDINGS.contains(&arch) || pools {
        let reason =
            format!("is an embedding model ({arch}), which compares texts and cannot write");
        return Some((reason, OTHER_MODEL));
    }
    None
}
