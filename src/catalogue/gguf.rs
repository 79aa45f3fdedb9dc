//! Language models in GGUF files.

use std::path::Path;

use super::{CatalogueError, dit, refused, transformers};
use crate::llm::{GgufFacts, LlmError, check_gguf};
use crate::weights::{GgufHeader, Identity, WeightsKind};

const ANOTHER: &str = "use a Q4_K_M or Q8_0 of a language model such as Llama 3, Qwen 3 or Gemma 3";

/// What the GGUF file `path` with this header is.
///
/// # Errors
/// When one of its parts cannot be read or is damaged.
pub(super) fn identify(path: &Path, header: &GgufHeader) -> Result<Identity, CatalogueError> {
    let arch = header.string("general.architecture");
    let kind = header.string("general.type");
    let family = arch.or(kind).unwrap_or("unknown");
    if super::projector::is_one(header) {
        return super::projector::identify(path, header);
    }
    let tensors = dit::of_gguf(header);
    if let Some(mut identity) = transformers::identify(&tensors)
        && dit::family(&identity).is_some()
    {
        super::measure(&tensors, &mut identity);
        return Ok(identity);
    }
    match check_gguf(path) {
        Ok(facts) => Ok(identity_of(&facts)),
        // A part that is at fault, not what the file is.
        Err(LlmError::Refused {
            path: at,
            reason,
            remedy,
        }) if at == path => {
            let called = reason.strip_prefix("is ").unwrap_or(&reason);
            let mut identity = refused(
                family,
                called,
                format!("general.architecture is {family}"),
                &remedy,
            );
            identity.tensors = header.tensors.len();
            Ok(identity)
        }
        Err(LlmError::Unusable { path: at, reason }) if at == path => {
            let called = format!("a language model that is not read: {reason}");
            let mut identity = refused(family, &called, reason.to_string(), ANOTHER);
            identity.arch = arch.map(str::to_owned);
            identity.tensors = header.tensors.len();
            Ok(identity)
        }
        Err(error) => Err(error.into()),
    }
}

fn identity_of(facts: &GgufFacts) -> Identity {
    let name = facts.name.as_deref();
    Identity {
        is: WeightsKind::LanguageModel,
        family: facts.arch.clone(),
        called: name.unwrap_or("a language model").to_string(),
        supported: true,
        why: format!("general.architecture is {}", facts.arch),
        precision: facts.precision.map(str::to_owned),
        tensors: facts.tensors,
        parameters: facts.parameters,
        tensor_bytes: facts.tensor_bytes,
        arch: Some(facts.arch.clone()),
        context_length: facts.context_length,
        ..Identity::default()
    }
}
