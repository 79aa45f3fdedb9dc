//! Adding engines elsewhere: the models of an OpenAI-compatible server, the checkpoints of a
//! ComfyUI, or the author's own workflow for it.

use std::ops::ControlFlow;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::add::unique;
use super::{Added, CatalogueError};
use crate::remote::comfy::{self, ComfyModel, Workflow};
use crate::remote::openai::{self, Endpoint};
use crate::remote::{Address, ApiKey, Client, keys};
use crate::weights::{self, AddedModel, Manifest, Model, ModelSource};

/// Most bytes of a workflow's file.
const WORKFLOW: u64 = 16 << 20;
/// Pixels a side of the pictures of a checkpoint of which ComfyUI can't say for which size it was
/// made: all families draw at this one; the settings of a story choose another.
const SIDE: u32 = 768;

/// Adds every model that the server at `address` lists, each as a writer. A key that is given is
/// kept for the address.
///
/// # Errors
/// When the server does not answer as such servers do, or the list of models cannot be written.
pub fn add_endpoint(
    address: &str,
    key: Option<&ApiKey>,
    models: &Path,
) -> Result<Vec<Added>, CatalogueError> {
    let (address, client) = connect(address, key)?;
    let listed = openai::list(&client, &mut go_on)?.unwrap_or_default();
    keep(&address, key)?;
    let entries = listed.iter().map(|endpoint: &Endpoint| Found {
        name: name_of(&endpoint.model),
        summary: format!(
            "writes at {}: {}, {} tokens{}",
            address.host(),
            endpoint.server.label(),
            endpoint.context,
            if endpoint.sees { ", sees pictures" } else { "" }
        ),
        pipeline: openai::PIPELINE,
        engine: value(endpoint),
    });
    register(&address, entries, models)
}

/// Adds the checkpoints of the ComfyUI at `address`, each as a painter; or, where `workflow` names
/// its file and what is bound by hand, that workflow alone.
///
/// # Errors
/// When the engine does not answer as ComfyUI does, it has nothing to draw with, the workflow can't
/// be used, or the list of models cannot be written.
pub fn add_comfy(
    address: &str,
    key: Option<&ApiKey>,
    workflow: Option<(&Path, &[String])>,
    models: &Path,
) -> Result<Vec<Added>, CatalogueError> {
    let (address, client) = connect(address, key)?;
    let workflow = workflow
        .map(|(path, bindings)| read_workflow(path, bindings))
        .transpose()?;
    let about = comfy::about(&client, &mut go_on)?.unwrap_or_default();
    keep(&address, key)?;
    let found = |model: ComfyModel, more: &str| Found {
        name: stem(model.label()),
        summary: format!(
            "draws at {}: ComfyUI {}{more}",
            address.host(),
            about.version
        ),
        pipeline: comfy::PIPELINE,
        engine: value(&model),
    };
    let entries: Vec<Found> = match workflow {
        Some(workflow) => {
            let (bound, unbound) = match &workflow {
                ComfyModel::Workflow { workflow, .. } => (workflow.describe(), workflow.unbound()),
                ComfyModel::Checkpoint { .. } => (String::new(), Vec::new()),
            };
            let unbound: Vec<String> = unbound.iter().map(ToString::to_string).collect();
            let own = match unbound.is_empty() {
                true => String::new(),
                false => format!("; its own stay: {}", unbound.join(", ")),
            };
            vec![found(workflow, &format!("; bound: {bound}{own}"))]
        }
        None => about
            .checkpoints
            .iter()
            .map(|name| {
                let known = comfy::side(&client, name);
                let side = known.unwrap_or(SIDE);
                let model = ComfyModel::Checkpoint {
                    name: name.clone(),
                    width: side,
                    height: side,
                };
                let more = match known {
                    Some(side) => format!(", {side}x{side}"),
                    None => format!(
                        ", {side}x{side} unless you give a size, since the file does not say for which it was made"
                    ),
                };
                found(model, &more)
            })
            .collect(),
    };
    if entries.is_empty() {
        return Err(CatalogueError::Request(format!(
            "ComfyUI at {address} has no checkpoint; put one into its models/checkpoints, or add a workflow of yours with --workflow"
        )));
    }
    register(&address, entries, models)
}

fn connect(address: &str, key: Option<&ApiKey>) -> Result<(Address, Client), CatalogueError> {
    let address = Address::parse(address)?;
    let kept = keys::find(&address);
    let client = Client::new(address.clone(), key.or(kept.as_ref()))?;
    Ok((address, client))
}

fn keep(address: &Address, key: Option<&ApiKey>) -> Result<(), CatalogueError> {
    if let Some(key) = key {
        keys::keep(address, key)?;
    }
    Ok(())
}

fn go_on() -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn read_workflow(path: &Path, bindings: &[String]) -> Result<ComfyModel, CatalogueError> {
    let about = std::fs::metadata(path).map_err(|error| CatalogueError::read(path, error))?;
    if !about.is_file() || about.len() > WORKFLOW {
        return Err(CatalogueError::Trouble {
            path: path.to_path_buf(),
            reason: "is no workflow of ComfyUI".to_owned(),
            remedy: "export one there by \"Export (API)\"".to_owned(),
        });
    }
    let text = crate::files::read_whole(path).map_err(|error| CatalogueError::read(path, error))?;
    let workflow = Workflow::read(&String::from_utf8_lossy(&text), bindings)?;
    Ok(ComfyModel::Workflow {
        name: path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        workflow,
    })
}

/// What is entered in the list of models.
struct Found {
    name: String,
    summary: String,
    pipeline: &'static str,
    engine: serde_json::Value,
}

fn value(engine: &impl Serialize) -> serde_json::Value {
    serde_json::to_value(engine).unwrap_or_default()
}

/// What a server's model is called here: servers that run a file often name it by its path.
fn name_of(model: &str) -> String {
    let is_path = model.starts_with(['/', '\\']) || model.get(1..3) == Some(":\\");
    match model.to_ascii_lowercase().ends_with(".gguf") || is_path {
        true => stem(model),
        false => model.to_owned(),
    }
}

/// The address of the engine that `model` is on, and the settings that were kept for it.
///
/// # Errors
/// When what was kept can't be read.
pub fn kept<T: DeserializeOwned>(model: &Model) -> Result<(Address, T), CatalogueError> {
    let read = || {
        let ModelSource::Address(address) = &model.source else {
            return None;
        };
        let address = Address::parse(address.split('#').next()?).ok()?;
        let engine = serde_json::from_value(model.manifest.engine.clone()?).ok()?;
        Some((address, engine))
    };
    read().ok_or_else(|| {
        CatalogueError::Request(format!(
            "what was kept of the model {} can't be read; remove it and add its address again",
            model.manifest.id
        ))
    })
}

/// A file's name without its folder and ending.
fn stem(name: &str) -> String {
    let name = name.rsplit(['/', '\\']).next().unwrap_or(name);
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    stem.to_owned()
}

fn register(
    address: &Address,
    found: impl IntoIterator<Item = Found>,
    models: &Path,
) -> Result<Vec<Added>, CatalogueError> {
    let mut added = Vec::new();
    for found in found {
        // One address offers many models.
        let source = ModelSource::Address(format!("{address}#{}", found.name));
        let known = weights::installed(models)?.models;
        let before = known.iter().find(|model| model.source == source);
        let manifest = Manifest {
            id: match before {
                Some(model) => model.manifest.id.clone(),
                None => unique(&found.name, &known),
            },
            name: found.name,
            pipeline: found.pipeline.to_owned(),
            summary: found.summary,
            engine: Some(found.engine),
            ..Manifest::default()
        };
        let again = before.is_some();
        weights::register(
            models,
            &AddedModel::new(source.clone(), Some(manifest.clone())),
        )?;
        added.push(Added {
            model: Model::new(source, manifest),
            again,
        });
    }
    Ok(added)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_called_by_their_names_and_not_by_paths() {
        for (model, name) in [
            ("/srv/models/SmolLM2-135M.Q4_1.gguf", "SmolLM2-135M.Q4_1"),
            ("C:\\models\\a.gguf", "a"),
            ("qwen3:8b", "qwen3:8b"),
            ("Qwen/Qwen3-8B", "Qwen/Qwen3-8B"),
        ] {
            assert_eq!(name_of(model), name);
        }
    }
}
