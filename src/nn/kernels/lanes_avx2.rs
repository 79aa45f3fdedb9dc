//! [`Lanes`] with AVX2: two registers of eight floats.

use std::arch::x86_64::*;

use super::lanes::{ERF, LANES, Lanes};

/// Lanes 0 to 7, and 8 to 15.
#[derive(Clone, Copy)]
pub(super) struct Pair(__m256, __m256);

/// All bits for the first `n` lanes, at most [`LANES`].
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
pub(super) unsafe fn mask(n: usize) -> [__m256i; 2] {
    static MASKS: [i32; 2 * LANES] = {
        let mut masks = [0; 2 * LANES];
        let mut i = 0;
        while i < LANES {
            masks[i] = -1;
            i += 1;
        }
        masks
    };
    // SAFETY: from LANES - n on there are at least LANES numbers; the rest is the caller's promise.
    unsafe {
        let at = MASKS.as_ptr().add(LANES - n);
        [
            _mm256_loadu_si256(at.cast()),
            _mm256_loadu_si256(at.add(8).cast()),
        ]
    }
}

/// Cody and Waite's reduction by powers of two, then Cephes' polynomial.
#[inline(always)]
unsafe fn exp(x: __m256) -> __m256 {
    // SAFETY: the trait's promise.
    unsafe {
        let all = |value: f32| _mm256_set1_ps(value);
        // Where one is NaN, these take the second.
        let x = _mm256_min_ps(all(89.0), _mm256_max_ps(all(-104.0), x));
        let n = _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(
            _mm256_mul_ps(x, all(std::f32::consts::LOG2_E)),
        );
        let r = _mm256_fmadd_ps(n, all(-0.693_359_4), x);
        let r = _mm256_fmadd_ps(n, all(2.121_944_4e-4), r);
        let p = all(1.987_569_1e-4);
        let p = _mm256_fmadd_ps(p, r, all(1.398_199_9e-3));
        let p = _mm256_fmadd_ps(p, r, all(8.333_452e-3));
        let p = _mm256_fmadd_ps(p, r, all(4.166_579_6e-2));
        let p = _mm256_fmadd_ps(p, r, all(1.666_666_5e-1));
        let p = _mm256_fmadd_ps(p, r, all(0.5));
        let p = _mm256_fmadd_ps(_mm256_mul_ps(r, r), p, r);
        let p = _mm256_add_ps(p, all(1.0));
        // 2^n as two factors, since neither 2^128 nor 2^-150 is a whole f32.
        let n = _mm256_cvtps_epi32(n);
        let half = _mm256_srai_epi32::<1>(n);
        let power = |n: __m256i| {
            let biased = _mm256_add_epi32(n, _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased))
        };
        let rest = _mm256_sub_epi32(n, half);
        _mm256_mul_ps(_mm256_mul_ps(p, power(half)), power(rest))
    }
}

/// `x` times a polynomial for erf(|x|)/|x| in each quarter of 0 to 4, looked up; 1 beyond.
#[inline(always)]
unsafe fn erf(x: __m256) -> __m256 {
    // SAFETY: the trait's promise; rows of the table hold LANES floats.
    unsafe {
        let sign = _mm256_set1_ps(-0.0);
        let four = _mm256_set1_ps(4.0);
        let a = _mm256_andnot_ps(sign, x);
        // Where one is NaN, this takes the second.
        let quarters = _mm256_mul_ps(_mm256_min_ps(four, a), four);
        let whole = _mm256_round_ps::<{ _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC }>(quarters);
        let rest = _mm256_sub_ps(quarters, whole);
        let piece = _mm256_cvttps_epi32(quarters);
        // The lookup takes three bits; the fourth, moved to the sign, says which half of a row.
        let upper = _mm256_castsi256_ps(_mm256_slli_epi32::<28>(piece));
        let mut p = _mm256_setzero_ps();
        for terms in ERF.iter().rev() {
            let low = _mm256_loadu_ps(terms.as_ptr());
            let high = _mm256_loadu_ps(terms.as_ptr().add(8));
            let term = _mm256_blendv_ps(
                _mm256_permutevar8x32_ps(low, piece),
                _mm256_permutevar8x32_ps(high, piece),
                upper,
            );
            p = _mm256_fmadd_ps(p, rest, term);
        }
        let one = _mm256_or_ps(_mm256_and_ps(x, sign), _mm256_set1_ps(1.0));
        let beyond = _mm256_cmp_ps::<_CMP_GE_OQ>(a, four);
        _mm256_blendv_ps(_mm256_mul_ps(x, p), one, beyond)
    }
}

/// `$op` of each half.
macro_rules! each {
    ($op:ident, $a:expr $(, $b:expr)*) => {
        // SAFETY: the trait's promise.
        unsafe { Pair($op($a.0 $(, $b.0)*), $op($a.1 $(, $b.1)*)) }
    };
}

// SAFETY: `run` hands these lanes out only where the processor has AVX2 and FMA.
unsafe impl Lanes for Pair {
    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the trait's promise.
        unsafe { Self::splat(0.0) }
    }

    #[inline(always)]
    unsafe fn load(at: *const f32, n: usize) -> Self {
        // SAFETY: lanes past `n` are masked and not read.
        unsafe {
            if n >= LANES {
                return Pair(_mm256_loadu_ps(at), _mm256_loadu_ps(at.add(8)));
            }
            let [low, high] = mask(n);
            Pair(
                _mm256_maskload_ps(at, low),
                _mm256_maskload_ps(at.wrapping_add(8), high),
            )
        }
    }

    #[inline(always)]
    unsafe fn store(self, at: *mut f32, n: usize) {
        // SAFETY: lanes past `n` are masked and not written.
        unsafe {
            if n >= LANES {
                _mm256_storeu_ps(at, self.0);
                _mm256_storeu_ps(at.add(8), self.1);
                return;
            }
            let [low, high] = mask(n);
            _mm256_maskstore_ps(at, low, self.0);
            _mm256_maskstore_ps(at.wrapping_add(8), high, self.1);
        }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        each!(_mm256_add_ps, self, other)
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        each!(_mm256_sub_ps, self, other)
    }

    #[inline(always)]
    unsafe fn times(self, k: f32, other: Self) -> Self {
        // SAFETY: the trait's promise.
        unsafe { self.fma(Self::splat(k), other) }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: the trait's promise.
        unsafe { Pair(_mm256_set1_ps(value), _mm256_set1_ps(value)) }
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        each!(_mm256_mul_ps, self, other)
    }

    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        each!(_mm256_div_ps, self, other)
    }

    #[inline(always)]
    unsafe fn fma(self, by: Self, other: Self) -> Self {
        each!(_mm256_fmadd_ps, self, by, other)
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        each!(_mm256_max_ps, self, other)
    }

    #[inline(always)]
    unsafe fn exp(self) -> Self {
        each!(exp, self)
    }

    #[inline(always)]
    unsafe fn erf(self) -> Self {
        each!(erf, self)
    }

    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        // SAFETY: the trait's promise.
        unsafe {
            let eight = _mm256_add_ps(self.0, self.1);
            let four = _mm_add_ps(
                _mm256_castps256_ps128(eight),
                _mm256_extractf128_ps::<1>(eight),
            );
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
    }

    #[inline(always)]
    unsafe fn highest(self) -> f32 {
        // SAFETY: the trait's promise.
        unsafe {
            let eight = _mm256_max_ps(self.0, self.1);
            let four = _mm_max_ps(
                _mm256_castps256_ps128(eight),
                _mm256_extractf128_ps::<1>(eight),
            );
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        }
    }
}
