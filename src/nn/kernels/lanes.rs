//! Sixteen floats worked on at once, for kernels that the compiler does not vectorise by itself.

use super::simd::{FUSED, Isa, fused, isa};

/// Floats in a [`Lanes`].
pub const LANES: usize = 16;

/// Sixteen floats.
///
/// # Safety
/// An implementation may use instructions that not every processor has: its methods are only
/// called from [`Work::run`] as [`run`] calls it.
pub unsafe trait Lanes: Copy {
    /// # Safety
    /// As the trait says.
    unsafe fn zero() -> Self;
    /// The first `n` lanes from memory, the others zero.
    ///
    /// # Safety
    /// As the trait says; `at` is readable for `n` floats.
    unsafe fn load(at: *const f32, n: usize) -> Self;
    /// The first `n` lanes to memory.
    ///
    /// # Safety
    /// As the trait says; `at` is writable for `n` floats.
    unsafe fn store(self, at: *mut f32, n: usize);
    /// # Safety
    /// As the trait says.
    unsafe fn add(self, other: Self) -> Self;
    /// # Safety
    /// As the trait says.
    unsafe fn sub(self, other: Self) -> Self;
    /// `self * k + other`.
    ///
    /// # Safety
    /// As the trait says.
    unsafe fn times(self, k: f32, other: Self) -> Self;
}

/// A piece of work on lanes of any kind.
pub trait Work {
    /// To be marked `#[inline(always)]`, so that it is compiled for the lanes' instruction set.
    ///
    /// # Safety
    /// The processor has the instructions of `L`, and what the piece of work asks for.
    unsafe fn run<L: Lanes>(self);
}

/// Does the work with the widest lanes of this machine.
///
/// # Safety
/// What the piece of work asks for.
pub unsafe fn run<W: Work>(work: W) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")]
        unsafe fn avx512<W: Work>(work: W) {
            // SAFETY: the caller's promise.
            unsafe { work.run::<std::arch::x86_64::__m512>() }
        }
        #[target_feature(enable = "avx2,fma")]
        unsafe fn avx2<W: Work>(work: W) {
            // SAFETY: the caller's promise.
            unsafe { work.run::<Plain<true>>() }
        }
        match isa() {
            // SAFETY (both): `isa` names only what the processor has; the rest is the caller's.
            Isa::Avx512 => return unsafe { avx512(work) },
            Isa::Avx2 => return unsafe { avx2(work) },
            Isa::Portable => {}
        }
    }
    // SAFETY: plain lanes need no instruction in particular; the rest is the caller's promise.
    unsafe { work.run::<Plain<FUSED>>() }
}

/// Lanes in plain Rust, vectorised by the compiler for the build's target.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub struct Plain<const FMA: bool>([f32; LANES]);

// SAFETY: no special instructions are used.
unsafe impl<const FMA: bool> Lanes for Plain<FMA> {
    #[inline(always)]
    unsafe fn zero() -> Self {
        Plain([0.0; LANES])
    }

    #[inline(always)]
    unsafe fn load(at: *const f32, n: usize) -> Self {
        let mut lanes = [0.0; LANES];
        // SAFETY: the caller's promise.
        unsafe {
            if n >= LANES {
                lanes = at.cast::<[f32; LANES]>().read_unaligned();
            } else {
                std::ptr::copy_nonoverlapping(at, lanes.as_mut_ptr(), n);
            }
        }
        Plain(lanes)
    }

    #[inline(always)]
    unsafe fn store(self, at: *mut f32, n: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            if n >= LANES {
                at.cast::<[f32; LANES]>().write_unaligned(self.0);
            } else {
                std::ptr::copy_nonoverlapping(self.0.as_ptr(), at, n);
            }
        }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        let mut lanes = self.0;
        for i in 0..LANES {
            lanes[i] += other.0[i];
        }
        Plain(lanes)
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        let mut lanes = self.0;
        for i in 0..LANES {
            lanes[i] -= other.0[i];
        }
        Plain(lanes)
    }

    #[inline(always)]
    unsafe fn times(self, k: f32, other: Self) -> Self {
        let mut lanes = self.0;
        for i in 0..LANES {
            lanes[i] = fused::<FMA>(lanes[i], k, other.0[i]);
        }
        Plain(lanes)
    }
}

#[cfg(target_arch = "x86_64")]
mod wide {
    use super::Lanes;
    use std::arch::x86_64::*;

    #[inline(always)]
    fn mask(n: usize) -> __mmask16 {
        if n >= 16 { 0xffff } else { (1 << n) - 1 }
    }

    // SAFETY: `run` hands these lanes out only where the processor has AVX-512.
    unsafe impl Lanes for __m512 {
        #[inline(always)]
        unsafe fn zero() -> Self {
            // SAFETY: the trait's promise.
            unsafe { _mm512_setzero_ps() }
        }

        #[inline(always)]
        unsafe fn load(at: *const f32, n: usize) -> Self {
            // SAFETY: lanes past `n` are masked and not read.
            unsafe { _mm512_maskz_loadu_ps(mask(n), at) }
        }

        #[inline(always)]
        unsafe fn store(self, at: *mut f32, n: usize) {
            // SAFETY: lanes past `n` are masked and not written.
            unsafe { _mm512_mask_storeu_ps(at, mask(n), self) }
        }

        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            // SAFETY: the trait's promise.
            unsafe { _mm512_add_ps(self, other) }
        }

        #[inline(always)]
        unsafe fn sub(self, other: Self) -> Self {
            // SAFETY: the trait's promise.
            unsafe { _mm512_sub_ps(self, other) }
        }

        #[inline(always)]
        unsafe fn times(self, k: f32, other: Self) -> Self {
            // SAFETY: the trait's promise.
            unsafe { _mm512_fmadd_ps(self, _mm512_set1_ps(k), other) }
        }
    }
}
