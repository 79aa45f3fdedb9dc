//! The readers of files from the internet without the rest of the program, so that a fuzzer is
//! built in minutes.

#[path = "../../src/weights/checkpoint/mod.rs"]
mod checkpoint;
#[path = "../../src/weights/ggml.rs"]
mod ggml;
#[path = "../../src/weights/gguf.rs"]
mod gguf;
#[path = "../../src/weights/trouble.rs"]
mod trouble;

pub use checkpoint::{Checkpoint, CheckpointError, StoredType, TensorInfo, View};
pub use ggml::GgmlType;
pub use gguf::{GgufHeader, GgufTensor, GgufValue};
pub use trouble::{Trouble, trouble};

pub mod nn {
    use candle_core::{Device, Result, Tensor};

    /// What the readers give the rest of the program.
    pub trait TensorSource: Send + Sync {
        fn contains(&self, name: &str) -> bool;
        fn shape(&self, name: &str) -> Option<Vec<usize>>;
        fn tensor(&self, name: &str, device: &Device) -> Result<Tensor>;
    }
}
