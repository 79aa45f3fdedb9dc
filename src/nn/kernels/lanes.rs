//! Sixteen floats worked on at once, for kernels that the compiler does not vectorise by itself.

use super::simd::{FUSED, erf, exp, fused};
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use super::simd::{Isa, isa};

/// Floats in a [`Lanes`].
pub(super) const LANES: usize = 16;

/// Sixteen floats.
///
/// # Safety
/// An implementation may use instructions that not every processor has: its methods are only
/// called from [`Work::run`] as [`run`] calls it.
pub(super) unsafe trait Lanes: Copy {
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
    /// # Safety
    /// As the trait says.
    unsafe fn splat(value: f32) -> Self;
    /// # Safety
    /// As the trait says.
    unsafe fn mul(self, other: Self) -> Self;
    /// # Safety
    /// As the trait says.
    unsafe fn div(self, other: Self) -> Self;
    /// `self * by + other`.
    ///
    /// # Safety
    /// As the trait says.
    unsafe fn fma(self, by: Self, other: Self) -> Self;
    /// The greater of each two; which one where one is NaN is not said.
    ///
    /// # Safety
    /// As the trait says.
    unsafe fn max(self, other: Self) -> Self;
    /// e^x within 3e-7 of it, NaN and infinities as they should be.
    ///
    /// # Safety
    /// As the trait says.
    unsafe fn exp(self) -> Self;
    /// The error function within 5e-7, NaN and infinities as they should be.
    ///
    /// # Safety
    /// As the trait says.
    unsafe fn erf(self) -> Self;
    /// # Safety
    /// As the trait says.
    unsafe fn sum(self) -> f32;
    /// The greatest; NaN may be passed over.
    ///
    /// # Safety
    /// As the trait says.
    unsafe fn highest(self) -> f32;

    /// 1 / (1 + e^-x).
    ///
    /// # Safety
    /// As the trait says.
    #[inline(always)]
    unsafe fn sigmoid(self) -> Self {
        // SAFETY: as the trait says.
        unsafe {
            let one = Self::splat(1.0);
            one.div(one.add(Self::zero().sub(self).exp()))
        }
    }
}

/// A piece of work on lanes of any kind.
pub(super) trait Work {
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
pub(super) unsafe fn run<W: Work>(work: W) {
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
            unsafe { work.run::<super::lanes_avx2::Pair>() }
        }
        match isa() {
            Isa::Avx512 => {
                // SAFETY: `isa` names only what the processor has; the rest is the caller's promise.
                return unsafe { avx512(work) };
            }
            Isa::Avx2 => {
                // SAFETY: `isa` names only what the processor has; the rest is the caller's promise.
                return unsafe { avx2(work) };
            }
            Isa::Portable => {}
        }
    }
    #[cfg(target_arch = "aarch64")]
    if isa() == Isa::Neon {
        // SAFETY: `isa` names only what the processor has; the rest is the caller's promise.
        return unsafe { work.run::<super::lanes_neon::Quad>() };
    }
    // SAFETY: plain lanes need no instruction in particular; the rest is the caller's promise.
    unsafe { work.run::<Plain>() }
}

/// Lanes in plain Rust, vectorised by the compiler for the build's target.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Plain([f32; LANES]);

// SAFETY: no special instructions are used.
unsafe impl Lanes for Plain {
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
            lanes[i] = fused::<FUSED>(lanes[i], k, other.0[i]);
        }
        Plain(lanes)
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Plain([value; LANES])
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        let mut lanes = self.0;
        for i in 0..LANES {
            lanes[i] *= other.0[i];
        }
        Plain(lanes)
    }

    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        let mut lanes = self.0;
        for i in 0..LANES {
            lanes[i] /= other.0[i];
        }
        Plain(lanes)
    }

    #[inline(always)]
    unsafe fn fma(self, by: Self, other: Self) -> Self {
        let mut lanes = self.0;
        for i in 0..LANES {
            lanes[i] = fused::<FUSED>(lanes[i], by.0[i], other.0[i]);
        }
        Plain(lanes)
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        let mut lanes = self.0;
        for i in 0..LANES {
            lanes[i] = if lanes[i] > other.0[i] {
                lanes[i]
            } else {
                other.0[i]
            };
        }
        Plain(lanes)
    }

    #[inline(always)]
    unsafe fn exp(self) -> Self {
        let mut lanes = self.0;
        for i in 0..LANES {
            lanes[i] = exp::<FUSED>(lanes[i]);
        }
        Plain(lanes)
    }

    #[inline(always)]
    unsafe fn erf(self) -> Self {
        let mut lanes = self.0;
        for i in 0..LANES {
            lanes[i] = erf::<FUSED>(lanes[i]);
        }
        Plain(lanes)
    }

    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        self.0.iter().sum()
    }

    #[inline(always)]
    unsafe fn highest(self) -> f32 {
        self.0.iter().copied().fold(f32::NEG_INFINITY, f32::max)
    }
}

#[cfg(target_arch = "x86_64")]
mod wide {
    use super::{ERF, LANES, Lanes};
    use std::arch::x86_64::*;

    #[inline(always)]
    fn mask(n: usize) -> __mmask16 {
        (1 << n) - 1
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
            unsafe {
                match n >= LANES {
                    true => _mm512_loadu_ps(at),
                    false => _mm512_maskz_loadu_ps(mask(n), at),
                }
            }
        }

        #[inline(always)]
        unsafe fn store(self, at: *mut f32, n: usize) {
            // SAFETY: lanes past `n` are masked and not written.
            unsafe {
                match n >= LANES {
                    true => _mm512_storeu_ps(at, self),
                    false => _mm512_mask_storeu_ps(at, mask(n), self),
                }
            }
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

        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            // SAFETY: the trait's promise.
            unsafe { _mm512_set1_ps(value) }
        }

        #[inline(always)]
        unsafe fn mul(self, other: Self) -> Self {
            // SAFETY: the trait's promise.
            unsafe { _mm512_mul_ps(self, other) }
        }

        #[inline(always)]
        unsafe fn div(self, other: Self) -> Self {
            // SAFETY: the trait's promise.
            unsafe { _mm512_div_ps(self, other) }
        }

        #[inline(always)]
        unsafe fn fma(self, by: Self, other: Self) -> Self {
            // SAFETY: the trait's promise.
            unsafe { _mm512_fmadd_ps(self, by, other) }
        }

        #[inline(always)]
        unsafe fn max(self, other: Self) -> Self {
            // SAFETY: the trait's promise.
            unsafe { _mm512_max_ps(self, other) }
        }

        /// Cody and Waite's reduction by powers of two, then Cephes' polynomial. The instruction
        /// that scales by 2^n overflows to infinity and underflows through the smallest numbers
        /// to zero by itself.
        #[inline(always)]
        unsafe fn exp(self) -> Self {
            // SAFETY: the trait's promise.
            unsafe {
                // Where one is NaN, these take the second.
                let x = _mm512_min_ps(Self::splat(89.0), _mm512_max_ps(Self::splat(-104.0), self));
                let n = _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(
                    _mm512_mul_ps(x, Self::splat(std::f32::consts::LOG2_E)),
                );
                let r = _mm512_fmadd_ps(n, Self::splat(-0.693_359_4), x);
                let r = _mm512_fmadd_ps(n, Self::splat(2.121_944_4e-4), r);
                let p = Self::splat(1.987_569_1e-4);
                let p = _mm512_fmadd_ps(p, r, Self::splat(1.398_199_9e-3));
                let p = _mm512_fmadd_ps(p, r, Self::splat(8.333_452e-3));
                let p = _mm512_fmadd_ps(p, r, Self::splat(4.166_579_6e-2));
                let p = _mm512_fmadd_ps(p, r, Self::splat(1.666_666_5e-1));
                let p = _mm512_fmadd_ps(p, r, Self::splat(0.5));
                let p = _mm512_fmadd_ps(_mm512_mul_ps(r, r), p, r);
                _mm512_scalef_ps(_mm512_add_ps(p, Self::splat(1.0)), n)
            }
        }

        /// `x` times a polynomial for erf(|x|)/|x| in each quarter of 0 to 4, looked up; 1 beyond.
        #[inline(always)]
        unsafe fn erf(self) -> Self {
            // SAFETY: the trait's promise.
            unsafe {
                let a = _mm512_abs_ps(self);
                // Where one is NaN, this takes the second.
                let quarters =
                    _mm512_mul_ps(_mm512_min_ps(_mm512_set1_ps(4.0), a), _mm512_set1_ps(4.0));
                let piece = _mm512_cvttps_epi32(quarters);
                let rest = _mm512_reduce_ps::<{ _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC }>(quarters);
                let mut p = _mm512_setzero_ps();
                for terms in ERF.iter().rev() {
                    let term = _mm512_permutexvar_ps(piece, _mm512_loadu_ps(terms.as_ptr()));
                    p = _mm512_fmadd_ps(p, rest, term);
                }
                let beyond = _mm512_cmp_ps_mask::<_CMP_GE_OQ>(a, _mm512_set1_ps(4.0));
                let one = _mm512_or_ps(
                    _mm512_and_ps(self, _mm512_set1_ps(-0.0)),
                    _mm512_set1_ps(1.0),
                );
                _mm512_mask_mov_ps(_mm512_mul_ps(self, p), beyond, one)
            }
        }

        #[inline(always)]
        unsafe fn sum(self) -> f32 {
            // SAFETY: the trait's promise.
            unsafe { _mm512_reduce_add_ps(self) }
        }

        #[inline(always)]
        unsafe fn highest(self) -> f32 {
            // SAFETY: the trait's promise.
            unsafe { _mm512_reduce_max_ps(self) }
        }
    }
}

/// Polynomials of degree 5 for erf(x)/x in each quarter of 0 to 4, by how far into the quarter x
/// lies (0 to 1): the coefficients of each power side by side. They pass through the function at
/// Chebyshev's points, which keeps them within 1e-8 of it.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(super) static ERF: [[f32; LANES]; 6] = {
    // 1/2 - cos((2 k + 1) pi / 12) / 2
    const POINTS: [f64; 6] = [
        0.017_037_086_855_465_855,
        0.146_446_609_406_726_24,
        0.370_590_477_448_739_6,
        0.629_409_522_551_260_4,
        0.853_553_390_593_273_8,
        0.982_962_913_144_534_1,
    ];
    let mut table = [[0.0; LANES]; 6];
    let mut piece = 0;
    while piece < LANES {
        // Newton's divided differences, then multiplied out.
        let mut newton = [0.0; 6];
        let mut i = 0;
        while i < 6 {
            newton[i] = erf_over((piece as f64 + POINTS[i]) / 4.0);
            i += 1;
        }
        let mut order = 1;
        while order < 6 {
            let mut i = 5;
            while i >= order {
                newton[i] = (newton[i] - newton[i - 1]) / (POINTS[i] - POINTS[i - order]);
                i -= 1;
            }
            order += 1;
        }
        let mut powers = [0.0; 6];
        let mut i = 6;
        while i > 0 {
            i -= 1;
            // powers = powers * (x - POINTS[i]) + newton[i]
            let mut j = 5;
            while j > 0 {
                powers[j] = powers[j - 1] - powers[j] * POINTS[i];
                j -= 1;
            }
            powers[0] = newton[i] - powers[0] * POINTS[i];
        }
        let mut i = 0;
        while i < 6 {
            table[i][piece] = powers[i] as f32;
            i += 1;
        }
        piece += 1;
    }
    table
};

/// erf(x)/x by its Maclaurin series, for 0 to 4.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64", test))]
const fn erf_over(x: f64) -> f64 {
    let mut term = std::f64::consts::FRAC_2_SQRT_PI;
    let mut sum = 0.0;
    let mut n = 0;
    while n < 100 {
        sum += term / (2 * n + 1) as f64;
        n += 1;
        term *= -x * x / n as f64;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::kernels::simd::on_every_isa;

    struct Both<'a> {
        x: &'a [f32; LANES],
        exp: &'a mut [f32; LANES],
        erf: &'a mut [f32; LANES],
    }

    impl Work for Both<'_> {
        #[inline(always)]
        unsafe fn run<L: Lanes>(self) {
            // SAFETY: all three hold LANES floats.
            unsafe {
                let x = L::load(self.x.as_ptr(), LANES);
                x.exp().store(self.exp.as_mut_ptr(), LANES);
                x.erf().store(self.erf.as_mut_ptr(), LANES);
            }
        }
    }

    fn both(x: [f32; LANES]) -> ([f32; LANES], [f32; LANES]) {
        let (mut exp, mut erf) = ([0.0; LANES], [0.0; LANES]);
        let work = Both {
            x: &x,
            exp: &mut exp,
            erf: &mut erf,
        };
        // SAFETY: nothing is asked for.
        unsafe { run(work) };
        (exp, erf)
    }

    #[test]
    fn exp_and_erf_match_f64() {
        on_every_isa(|| {
            for i in -8700..8860 {
                let x = i as f32 / 100.0;
                let (exp, erf) = both([x; LANES]);
                let wide = f64::from(x);
                let error = (f64::from(exp[3]) / wide.exp() - 1.0).abs();
                assert!(error < 3e-7, "exp({x}) = {}", exp[3]);
                let exact = match wide.abs() {
                    a if a < 4.0 => a * erf_over(a) * wide.signum(),
                    _ => wide.signum(),
                };
                let error = (f64::from(erf[3]) - exact).abs();
                assert!(error < 5e-7, "erf({x}) = {}, not {exact}", erf[3]);
            }
            for i in -16_000..16_000 {
                // Between the hundredths, where the pieces meet, and close to zero.
                let x = i as f32 / 4000.0 + 1e-5;
                let exact = f64::from(x) * erf_over(f64::from(x.abs()));
                let found = f64::from(both([x; LANES]).1[0]);
                assert!((found - exact).abs() < 1e-6 * exact.abs(), "erf({x})");
            }
        });
    }

    #[test]
    fn what_is_not_finite_stays_so() {
        on_every_isa(|| {
            let mut x = [0.0; LANES];
            x[..5].copy_from_slice(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 100.0]);
            let (exp, erf) = both(x);
            assert!(exp[0].is_nan() && erf[0].is_nan());
            assert_eq!(exp[1..6], [f32::INFINITY, 0.0, 1.0, f32::INFINITY, 1.0]);
            assert_eq!(erf[1..6], [1.0, -1.0, 0.0, 1.0, 0.0]);
            // A lane does not touch its neighbours.
            assert!(exp[6..].iter().all(|v| *v == 1.0) && erf[6..].iter().all(|v| *v == 0.0));
        });
    }
}
