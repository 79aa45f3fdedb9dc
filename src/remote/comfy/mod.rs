//! ComfyUI: what it has, the graphs that it is given, and how a job there is followed.
//!
//! A job is posted to `/prompt`, followed on the WebSocket `/ws` (progress, previews) and by
//! `/history` and `/queue`, and its picture is taken from `/view`.

mod event;
mod graph;
mod job;
mod model;
mod server;
mod workflow;

pub use graph::{CheckpointGraph, InitImageNode, LoraNode, checkpoint_graph};
pub use job::{JobCallback, JobEvent, draw};
pub use model::{ComfyModel, PIPELINE};
pub use server::{ServerInfo, about, jobs, side, upload};
pub use workflow::{Binding, Workflow, WorkflowInput, WorkflowValues};
