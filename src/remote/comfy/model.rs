//! What is kept of a model on a ComfyUI.

use serde::{Deserialize, Serialize};

use super::Workflow;

/// The `pipeline` that the manifest of a model on a ComfyUI names.
pub const PIPELINE: &str = "comfyui";

/// A model on a ComfyUI: a checkpoint with a built-in graph, or the author's own workflow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum ComfyModel {
    /// A checkpoint, drawn by a built-in graph in pictures of this many pixels.
    Checkpoint {
        /// Name of the checkpoint, as the server lists it.
        name: String,
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
    },
    /// The author's own workflow.
    Workflow {
        /// Name of its file, for people.
        name: String,
        /// The graph, with what its inputs are.
        workflow: Workflow,
    },
}

impl ComfyModel {
    /// Whether an engine with `other` draws the same pictures, as far as names tell.
    pub fn is_same(&self, other: &ComfyModel) -> bool {
        match (self, other) {
            (ComfyModel::Checkpoint { name, .. }, ComfyModel::Checkpoint { name: theirs, .. }) => {
                name == theirs
            }
            (
                ComfyModel::Workflow { workflow, .. },
                ComfyModel::Workflow {
                    workflow: theirs, ..
                },
            ) => workflow == theirs,
            _ => false,
        }
    }

    /// Its name for people.
    pub fn label(&self) -> &str {
        match self {
            ComfyModel::Checkpoint { name, .. } | ComfyModel::Workflow { name, .. } => name,
        }
    }
}
