//! What a processor can do: which kernels it runs.

#[cfg(target_arch = "x86_64")]
use std::sync::LazyLock;

use crate::nn::kernels::simd::{Isa, isa};

/// The instruction sets that there are kernels for, the lesser first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstructionSet {
    /// Plain Rust, on every processor.
    Portable,
    /// AVX2 with FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// NEON.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// NEON with the instruction for dot products of bytes.
    #[cfg(target_arch = "aarch64")]
    NeonDot,
}

impl InstructionSet {
    /// The fastest that this processor has and `VOKENBOARD_ISA` allows.
    pub fn best() -> InstructionSet {
        let best = match isa() {
            Isa::Portable => InstructionSet::Portable,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => InstructionSet::Avx2,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => InstructionSet::Avx512,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => match InstructionSet::NeonDot.is_available() {
                true => InstructionSet::NeonDot,
                false => InstructionSet::Neon,
            },
        };
        // A processor without F16C.
        match best.is_available() {
            true => best,
            false => InstructionSet::Portable,
        }
    }

    /// Whether this processor has it.
    pub fn is_available(self) -> bool {
        match self {
            InstructionSet::Portable => true,
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
            }
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512 => {
                InstructionSet::Avx2.is_available() && is_x86_feature_detected!("avx512f")
            }
            #[cfg(target_arch = "aarch64")]
            InstructionSet::Neon => true,
            #[cfg(target_arch = "aarch64")]
            InstructionSet::NeonDot => std::arch::is_aarch64_feature_detected!("dotprod"),
        }
    }
}

/// Whether the processor has AVX-512's instructions for bytes.
#[cfg(target_arch = "x86_64")]
pub(super) fn multiplies_bytes() -> bool {
    // Asked once for every few rows.
    static THERE: LazyLock<bool> = LazyLock::new(|| {
        is_x86_feature_detected!("avx512vnni")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
    });
    *THERE
}
