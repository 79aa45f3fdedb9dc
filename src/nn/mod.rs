//! Layers that `llm`, `vision`, `voken` and `diffusion` are built from: one interface on every
//! device, an exact backward for everything.
//!
//! Layouts: pictures are `[B,H,W,C]` (channels last), tokens are `[B,T,C]`. Channels last lets a
//! convolution read its input in place (no im2col copy) and makes a 1x1 convolution, a linear
//! layer and the step between pictures and tokens the same memory. Weights are kept as
//! `[in,out]` and `[kh,kw,in,out]`; [`Params`] converts from and to PyTorch's file layout.
//!
//! On the CPU in f32 the functions run our own kernels; elsewhere they are composed from candle's
//! operations that have a backward (candle's fused `softmax_last_dim`, `layer_norm`, `rms_norm`,
//! `rope` and `sdpa` have none).

mod array;
pub mod bench;
pub(crate) mod crew;
mod cut;
mod driver;
mod frozen;
pub mod gpu;
#[cfg(test)]
mod gradcheck;
mod kernels;
mod layers;
mod memory;
mod ops;
mod params;
pub(crate) mod plain;
pub mod quant;
mod random;
mod relayout;
mod threads;
mod weight;
mod widen;

pub use array::{ActivationFunction, Array, StoredArray, dims_of};
pub use cut::report_cut_files;
pub use driver::cuda_driver_is_present;
pub use frozen::{FrozenLinear, frozen_cross_entropy};
#[cfg(test)]
pub(crate) use gradcheck::check_gradients;
pub use layers::{Conv2d, Embedding, GroupNorm, LayerNorm, Linear, RmsNorm};
pub use memory::{keep_memory, read_bandwidth};
pub use ops::{
    Activation, ConvOptions, Mask, Padding, Segment, add_channels, attention, conv2d, embedding,
    embedding_masked, geglu, gelu, gelu_tanh, group_norm, layer_norm, linear, mean_square,
    packed_attention, quick_gelu, rms_norm, rotary, rotations, silu, softmax, swiglu,
    upsample_nearest,
};
pub use params::{Init, ParamError, Params, TensorSource};
pub use random::{NoiseSource, noise};
pub use threads::{ask_no_session, share_cores};

/// Whether this processor multiplies matrices in bf16, see [`Params::in_bf16`].
pub fn multiplies_bf16() -> bool {
    kernels::bf16::available()
}

/// Result of a tensor operation.
pub type Result<T> = candle_core::Result<T>;
