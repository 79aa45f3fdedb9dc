//! CPU kernels in f32 on plain slices. Instruction sets are chosen at run time.
//!
//! Everything that multiplies goes through two micro-kernels ([`gemm`]): one reads its left
//! operand through a pointer a row (so a convolution reads its padded input in place), the other
//! through a pointer a step of the sum (so a weight gradient does). The right operand is packed
//! into strips of [`gemm::NR`] columns. Linear layers take the `gemm` crate where it is quicker
//! ([`linear`]).

#![allow(
    clippy::too_many_arguments,
    clippy::needless_range_loop,
    reason = "a matrix comes with its strides, and sums are kept in registers by index: grouping the one or iterating the other hides what a kernel does"
)]

pub(super) mod attention;
pub(super) mod bf16;
pub(super) mod conv;
pub(super) mod cross_entropy;
pub(super) mod elementwise;
pub(super) mod gemm;
#[cfg(target_arch = "x86_64")]
mod gemm_avx2;
mod geometry;
mod lanes;
#[cfg(target_arch = "x86_64")]
mod lanes_avx2;
#[cfg(target_arch = "aarch64")]
mod lanes_neon;
mod linear;
pub(super) mod norm;
mod pack;
pub(super) mod simd;
mod winograd;
