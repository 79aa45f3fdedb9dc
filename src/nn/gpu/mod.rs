//! GPUs through wgpu (Vulkan, Metal, DirectX 12): networks that were loaded onto one compute there,
//! in the ordinary build.
//!
//! candle has no such device, and a custom operation of it would carry every tensor to the GPU and
//! back. So tensors there are our own ([`GpuTensor`]), and networks are written for either kind
//! ([`super::Array`]). Activations are f32; weights that are stored in half the width stay so and
//! are unpacked while they are multiplied, which needs no feature of the GPU and overflows nowhere.
//!
//! One kernel a file under `kernels/`, in WGSL. They keep to what WebGPU guarantees: 256
//! invocations and 16 KB a workgroup, 8 buffers.

mod adapters;
mod array;
mod attend;
mod attend_source;
mod bench;
mod cache;
mod candidates;
mod device;
mod driver;
mod elementwise;
mod epilogue;
mod error;
mod experts;
mod kept;
mod norm;
mod pace;
mod pool;
mod product;
mod product_source;
mod quant;
mod rotary;
mod strided;
mod tensor;
mod tile;
mod timer;
mod traffic;
mod tune;
mod work;

pub use adapters::{AdapterInfo, AdapterKind, adapter, adapters};
pub use attend::CausalAttention;
pub use bench::{Measured, kernels, measure};
pub use cache::GpuCache;
pub use candidates::TokenCandidates;
#[cfg(test)]
pub(crate) use device::opened_by_this_thread;
pub use device::{Gpu, GpuOptions};
pub use epilogue::Gate;
pub use error::GpuError;
pub use experts::{ChosenExperts, GpuExperts};
pub use quant::GpuQuantMatrix;
pub use tensor::GpuTensor;
pub use tile::Arithmetic;
pub use work::{Counts, KernelCounts};

#[cfg(test)]
mod tests;
